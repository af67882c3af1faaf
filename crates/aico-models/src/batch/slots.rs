//! The sequences of a context, and whose prompt each still holds.
//!
//! What a slot holds is reused only for the same person and cache key. A new prompt takes the
//! slot of its own that shares most with it, else an empty one, else the one that was used
//! longest ago.

use aico_contracts::ids::PersonId;

use crate::engine::{Engine, Token};

/// Who may reuse what a slot holds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) person: Option<PersonId>,
    pub(super) key: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    owner: Option<Owner>,
    tokens: Vec<Token>,
    used: u64,
    busy: bool,
}

/// All slots of one context.
pub(super) struct Slots {
    slots: Vec<Slot>,
    clock: u64,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            clock: 0,
        }
    }

    pub(super) fn any_free(&self) -> bool {
        self.slots.iter().any(|slot| !slot.busy)
    }

    /// Takes a slot for a prompt. Tells which, and how many of its first tokens it holds; at
    /// least one is always left to compute.
    pub(super) fn take<E: Engine>(
        &mut self,
        engine: &mut E,
        owner: &Owner,
        prompt: &[Token],
    ) -> Option<(usize, usize)> {
        let shared = |slot: &Slot| {
            if owner.key.is_empty() || slot.owner.as_ref() != Some(owner) {
                return 0;
            }
            let same = slot
                .tokens
                .iter()
                .zip(prompt)
                .take_while(|(a, b)| a == b)
                .count();
            same.min(prompt.len().saturating_sub(1))
        };
        let index = (0..self.slots.len())
            .filter(|&i| !self.slots[i].busy)
            .max_by_key(|&i| {
                let slot = &self.slots[i];
                // Between equals: empty before used, then the longest unused.
                (
                    shared(slot),
                    slot.tokens.is_empty(),
                    std::cmp::Reverse(slot.used),
                )
            })?;
        let slot = &mut self.slots[index];
        let held = engine.keep(index, shared(slot));
        slot.tokens.clear();
        slot.owner = Some(owner.clone());
        slot.busy = true;
        Some((index, held))
    }

    /// Gives a slot back with what it holds now.
    pub(super) fn give<E: Engine>(&mut self, engine: &mut E, index: usize, tokens: &[Token]) {
        self.clock += 1;
        let slot = &mut self.slots[index];
        slot.busy = false;
        slot.used = self.clock;
        if slot
            .owner
            .as_ref()
            .is_some_and(|owner| !owner.key.is_empty())
        {
            slot.tokens = tokens.to_vec();
        } else {
            self.empty(engine, index);
        }
    }

    /// Gives a slot back whose contents are not known.
    pub(super) fn give_empty<E: Engine>(&mut self, engine: &mut E, index: usize) {
        self.slots[index].busy = false;
        self.empty(engine, index);
    }

    /// Empties what is held of a person, or of everybody.
    pub(super) fn forget<E: Engine>(&mut self, engine: &mut E, person: Option<PersonId>) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let theirs = |owner: &Owner| person.is_none() || owner.person == person;
            if !slot.owner.as_ref().is_some_and(theirs) {
                continue;
            }
            if slot.busy {
                // Its answer goes on; nothing of it stays afterwards.
                slot.owner = None;
            } else {
                self.empty(engine, index);
            }
        }
    }

    fn empty<E: Engine>(&mut self, engine: &mut E, index: usize) {
        let slot = &mut self.slots[index];
        slot.tokens.clear();
        slot.owner = None;
        engine.keep(index, 0);
    }
}

//! The sequences of a context, and whose prompt each still holds.
//!
//! What a slot holds is reused only for the same person and cache key. A new prompt takes the
//! slot of its own that shares most with it, else an empty one, else the one that was used
//! longest ago.

use aico_contracts::ids::PersonId;

use super::kept::{Held, Saved};
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

    /// Empties what is held of these.
    pub(super) fn forget<E: Engine>(&mut self, engine: &mut E, which: impl Fn(&Owner) -> bool) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if !slot.owner.as_ref().is_some_and(&which) {
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

    /// What is held under a key of a person's. An answer that is being written counts: nobody else
    /// need bring its prompt.
    pub(super) fn held<E: Engine>(&self, engine: &E) -> Vec<Held> {
        let theirs = self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let owner = slot.owner.as_ref().filter(|owner| !owner.key.is_empty())?;
            let person = owner.person?;
            if !slot.busy && slot.tokens.is_empty() {
                return None;
            }
            let bytes = match slot.busy {
                true => 0,
                false => engine.state_size(index),
            };
            Some(Held {
                person,
                key: owner.key.clone(),
                tokens: slot.tokens.len(),
                bytes,
                revision: slot.used,
                prefill: None,
                busy: slot.busy,
            })
        });
        theirs.collect()
    }

    /// The state of what was used last of an owner's.
    pub(super) fn save<E: Engine>(&self, engine: &E, owner: &Owner, most: usize) -> Option<Saved> {
        let theirs = |slot: &Slot| {
            !slot.busy && !slot.tokens.is_empty() && slot.owner.as_ref() == Some(owner)
        };
        let (index, slot) = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| theirs(slot))
            .max_by_key(|(_, slot)| slot.used)?;
        // Asked before memory is taken for it.
        if owner.key.is_empty() || engine.state_size(index) > most {
            return None;
        }
        Some(Saved {
            tokens: slot.tokens.clone(),
            state: engine.save(index)?,
            revision: slot.used,
        })
    }

    /// Puts what was saved of an owner's into a slot. `None`: there is none free, the engine
    /// refuses it, or more is there already. Otherwise its revision.
    pub(super) fn restore<E: Engine>(
        &mut self,
        engine: &mut E,
        owner: Owner,
        saved: Saved,
    ) -> Option<u64> {
        let known = |slot: &Slot| {
            (slot.busy || !slot.tokens.is_empty()) && slot.owner.as_ref() == Some(&owner)
        };
        if owner.key.is_empty() || saved.tokens.is_empty() || self.slots.iter().any(known) {
            return None;
        }
        let index = (0..self.slots.len())
            .filter(|&index| !self.slots[index].busy)
            .max_by_key(|&index| {
                let slot = &self.slots[index];
                (slot.tokens.is_empty(), std::cmp::Reverse(slot.used))
            })?;
        self.empty(engine, index);
        if !engine.restore(index, &saved.state, saved.tokens.len()) {
            return None;
        }
        self.clock += 1;
        self.slots[index] = Slot {
            owner: Some(owner),
            tokens: saved.tokens,
            used: self.clock,
            busy: false,
        };
        Some(self.clock)
    }

    fn empty<E: Engine>(&mut self, engine: &mut E, index: usize) {
        let slot = &mut self.slots[index];
        slot.tokens.clear();
        slot.owner = None;
        engine.keep(index, 0);
    }
}

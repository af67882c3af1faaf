//! The sequences of a context, and whose prompt each still holds.
//!
//! What a slot holds is reused only for the same person and cache key. A new prompt takes the
//! slot of its own that shares most with it, else an empty one, else the one that was used
//! longest ago.

use aico_contracts::ids::PersonId;

use super::kept::{Held, Larger, Saved};
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

    /// The state of what was used last of an owner's, at most so many bytes. What is cut is cut here
    /// as well: an engine hands out a sequence as it is, or not at all.
    pub(super) fn save<E: Engine>(
        &mut self,
        engine: &mut E,
        owner: &Owner,
        most: usize,
        larger: Larger,
    ) -> Option<Saved> {
        let theirs = |slot: &Slot| {
            !slot.busy && !slot.tokens.is_empty() && slot.owner.as_ref() == Some(owner)
        };
        let (index, _) = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| theirs(slot))
            .max_by_key(|(_, slot)| slot.used)?;
        // Asked before memory is taken for it.
        let fits = match larger {
            Larger::Refuse => engine.state_size(index) <= most,
            Larger::Cut => self.cut(engine, index, most),
        };
        if owner.key.is_empty() || !fits {
            return None;
        }
        let slot = &self.slots[index];
        Some(Saved {
            tokens: slot.tokens.clone(),
            state: engine.save(index)?,
            revision: slot.used,
        })
    }

    /// Cuts what a slot holds until its state has at most so many bytes. False: nothing of it fits.
    fn cut<E: Engine>(&mut self, engine: &mut E, index: usize, most: usize) -> bool {
        loop {
            let (size, held) = (engine.state_size(index), self.slots[index].tokens.len());
            if size <= most {
                return true;
            }
            // Nearly all of a state is the same for each token: this is close, and one less at least.
            let length = held as u128 * most as u128 / size as u128;
            let length = usize::try_from(length).unwrap_or(0);
            if length == 0 {
                return false;
            }
            if engine.keep(index, length) < length {
                // It can keep all or nothing.
                self.empty(engine, index);
                return false;
            }
            self.slots[index].tokens.truncate(length);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EngineError, Entry, SamplingPlan};

    /// Tokens of one sequence, each of which takes so many bytes.
    struct Fixed {
        held: usize,
        each: usize,
        /// It can forget the end of a sequence.
        cuts: bool,
    }

    impl Engine for Fixed {
        type Sampler = ();

        fn sequences(&self) -> usize {
            1
        }
        fn context_length(&self) -> usize {
            4096
        }
        fn batch_limit(&self) -> usize {
            512
        }
        fn sampler(&self, _: &SamplingPlan) {}
        fn decode(&mut self, _: &[Entry]) -> Result<(), EngineError> {
            Ok(())
        }
        fn sample(&mut self, _: &mut (), _: usize) -> Token {
            Token(0)
        }
        fn sample_among(
            &mut self,
            _: &mut (),
            _: usize,
            _: &dyn Fn(Token) -> bool,
        ) -> Option<Token> {
            None
        }
        fn keep(&mut self, _: usize, length: usize) -> usize {
            self.held = if self.cuts { length } else { 0 };
            self.held
        }
        fn state_size(&self, _: usize) -> usize {
            300 + self.held * (self.each + 8)
        }
        fn save(&self, _: usize) -> Option<Vec<u8>> {
            Some(Vec::new())
        }
        fn restore(&mut self, _: usize, _: &[u8], _: usize) -> bool {
            false
        }
    }

    /// A whole conversation of a model with 36 layers, 8 heads for keys and 128 numbers each, at 16
    /// bits, as those have that are recommended: 576 MiB.
    fn whole(cuts: bool) -> (Slots, Fixed, Owner) {
        let owner = Owner {
            person: Some(PersonId::new()),
            key: b"c".to_vec(),
        };
        let engine = Fixed {
            held: 4096,
            each: 4 * 36 * 8 * 128,
            cuts,
        };
        let mut slots = Slots::new(1);
        slots.slots[0] = Slot {
            owner: Some(owner.clone()),
            tokens: (0..4096).map(Token).collect(),
            used: 7,
            busy: false,
        };
        (slots, engine, owner)
    }

    #[test]
    fn of_a_long_conversation_the_beginning_is_handed_out_that_fits() {
        let (mut slots, mut engine, owner) = whole(true);
        let most = 256 << 20;
        let saved = slots.save(&mut engine, &owner, most, Larger::Cut).unwrap();
        let first: Vec<_> = (0..1820).map(Token).collect();
        assert_eq!(saved.tokens, first);
        // What is left in the slot is that as well, and no more would have fitted.
        assert_eq!((slots.slots[0].tokens.len(), engine.held), (1820, 1820));
        let size = engine.state_size(0);
        assert!(size <= most && size + engine.each + 8 > most);
        let again = slots.save(&mut engine, &owner, size, Larger::Cut).unwrap();
        assert_eq!((again.tokens.len(), engine.state_size(0)), (1820, size));
        assert!(slots.save(&mut engine, &owner, 99, Larger::Cut).is_none());
        assert_eq!(
            slots.slots[0].tokens.len(),
            1820,
            "nothing would have fitted"
        );
    }

    #[test]
    fn what_an_engine_can_not_cut_is_not_handed_out() {
        let (mut slots, mut engine, owner) = whole(false);
        assert!(
            slots
                .save(&mut engine, &owner, 256 << 20, Larger::Refuse)
                .is_none()
        );
        assert_eq!(engine.held, 4096, "it is left as it is");
        assert!(
            slots
                .save(&mut engine, &owner, 256 << 20, Larger::Cut)
                .is_none()
        );
        assert_eq!((slots.slots[0].tokens.len(), engine.held), (0, 0));
        assert!(slots.slots[0].owner.is_none());
    }
}

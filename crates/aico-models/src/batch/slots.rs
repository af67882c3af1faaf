//! The sequences of a context, and whose prompt each still holds.
//!
//! What a slot holds is reused only for the same person. A new prompt takes the slot of its own
//! cache key that shares most with it, else an empty one, else the one that was used longest ago.
//! Where that holds little of it, its beginning comes from another conversation of the person's, if
//! both may share theirs, or from what everybody who talks to the same character has in common
//! ([`Openings`]).

use std::time::Instant;

use aico_contracts::ids::PersonId;

use super::kept::{Held, Larger, Saved};
use super::pace::Copies;
use super::shared::{LEAST, MOST_BYTES, Openings};
use crate::engine::{Engine, Token};

/// A beginning is copied from a conversation that is at most so many times as long: an engine hands
/// out all of a sequence or nothing of it.
const COPY_TIMES: usize = 4;

/// Who may reuse what a slot holds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) person: Option<PersonId>,
    pub(super) key: Vec<u8>,
}

/// A prompt that is to have a slot.
pub(super) struct Wanted<'a> {
    pub(super) owner: &'a Owner,
    pub(super) prompt: &'a [Token],
    /// How many of its first tokens are its character's.
    pub(super) own: usize,
    /// Whether it may have its beginning from others of the person's that may so too.
    pub(super) shares: bool,
    /// Whether others wait until it has it.
    pub(super) others: bool,
}

/// The slot that it has.
pub(super) struct Taken {
    pub(super) slot: usize,
    /// How many of its first tokens are there; at least one is always left to compute.
    pub(super) held: usize,
    /// A state was copied for it.
    pub(super) copied: bool,
}

#[derive(Default)]
struct Slot {
    owner: Option<Owner>,
    /// Whether others of the person's may begin with what it holds. `None`: it came back from the
    /// disk, and who had it read is not known.
    shares: Option<bool>,
    tokens: Vec<Token>,
    used: u64,
    busy: bool,
}

impl Slot {
    /// How many of a prompt's first tokens it holds; at least one is always left to compute.
    fn common(&self, prompt: &[Token]) -> usize {
        let held = self.tokens.iter().zip(prompt);
        let same = held.take_while(|(a, b)| a == b).count();
        same.min(prompt.len().saturating_sub(1))
    }
}

/// All slots of one context.
pub(super) struct Slots {
    slots: Vec<Slot>,
    clock: u64,
    openings: Openings,
    copies: Copies,
    /// The engine refused a copy that it said could be cut: the next ones are not tried.
    uncut: bool,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self {
            slots: (0..count).map(|_| Slot::default()).collect(),
            clock: 0,
            openings: Openings::default(),
            copies: Copies::default(),
            uncut: false,
        }
    }

    pub(super) fn any_free(&self) -> bool {
        self.slots.iter().any(|slot| !slot.busy)
    }

    /// Takes a slot for a prompt. `None`: there is none free.
    pub(super) fn take<E: Engine>(&mut self, engine: &mut E, wanted: &Wanted<'_>) -> Option<Taken> {
        let &Wanted { owner, prompt, .. } = wanted;
        let shared = |slot: &Slot| {
            if owner.key.is_empty() || slot.owner.as_ref() != Some(owner) {
                return 0;
            }
            // A key is no proof: a module may have heard that of a conversation.
            match slot.shares.is_none_or(|shares| shares == wanted.shares) {
                true => slot.common(prompt),
                false => 0,
            }
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
        let here = shared(&self.slots[index]);
        let (held, copied) = if owner.key.is_empty() {
            (engine.keep(index, 0), false)
        } else {
            self.begin(engine, index, here, wanted)
        };
        let slot = &mut self.slots[index];
        slot.tokens.clear();
        slot.owner = Some(owner.clone());
        slot.shares = Some(wanted.shares);
        slot.busy = true;
        Some(Taken {
            slot: index,
            held,
            copied,
        })
    }

    /// Leaves the longest beginning of a prompt in a slot that is to be had without reading it: of
    /// what is there already, where `here` tokens are of the same conversation, of the person's other
    /// conversations, of the character's own. Tells its length, and whether a state was copied.
    fn begin<E: Engine>(
        &mut self,
        engine: &mut E,
        index: usize,
        here: usize,
        wanted: &Wanted<'_>,
    ) -> (usize, bool) {
        let &Wanted {
            owner,
            prompt,
            own,
            others,
            ..
        } = wanted;
        let person = owner.person.as_ref();
        let theirs = |slot: &Slot| {
            let of = slot.owner.as_ref().and_then(|owner| owner.person.as_ref());
            let both = wanted.shares && slot.shares == Some(true);
            match both && person.is_some() && of == person {
                true => slot.common(prompt),
                false => 0,
            }
        };
        // A conversation that gives its slot up leaves what it begins with like this one.
        let mut here = here.max(theirs(&self.slots[index]));
        let mut copied = false;
        let own = &prompt[..own.min(prompt.len())];
        let (opening, bytes) = match self.openings.found(own) {
            (_, bytes) if !self.copies.may(bytes, others) => (0, 0),
            found => found,
        };
        let other = (0..self.slots.len())
            .filter(|&i| i != index && !self.slots[i].busy && !self.uncut)
            .map(|i| (theirs(&self.slots[i]), i))
            .filter(|&(length, i)| length * COPY_TIMES >= self.slots[i].tokens.len())
            .max();
        if let Some((length, from)) = other
            && length >= here.max(opening) + LEAST
            && self.may_copy(engine, from, length, others)
        {
            let began = Instant::now();
            if let Some(state) = engine.save(from) {
                let whole = self.slots[from].tokens.len();
                let held = match engine.restore(index, &state, whole) {
                    true => engine.keep(index, length),
                    false => 0,
                };
                self.copies.measured(2 * state.len(), began.elapsed());
                copied = true;
                if held > 0 {
                    return (held, copied);
                }
                self.uncut = true;
                here = 0;
            }
        }
        let held = match opening >= here + LEAST {
            true => 0,
            false => engine.keep(index, here),
        };
        // Not each engine keeps each beginning.
        if held > 0 || opening == 0 {
            return (held, copied);
        }
        let began = Instant::now();
        let held = self.openings.put(engine, index, own);
        self.copies.measured(bytes, began.elapsed());
        (held, true)
    }

    /// Whether what a slot holds may be copied now, to serve with its first `length` tokens: out of
    /// the engine and into it again.
    fn may_copy<E: Engine>(&self, engine: &E, from: usize, length: usize, others: bool) -> bool {
        let bytes = engine.state_size(from);
        self.openings.leaves(bytes)
            && self.copies.may(2 * bytes, others)
            && engine.copies(from, length)
    }

    /// Whether what was read of a character's prompt is to be noted once a slot holds just that.
    pub(super) fn lacks(&self, own: &[Token]) -> bool {
        self.openings.lacks(own)
    }

    /// Notes it, for whoever talks to the same character, where it is lacking and may be copied now.
    /// Tells whether a state was copied.
    pub(super) fn note<E: Engine>(
        &mut self,
        engine: &E,
        index: usize,
        own: &[Token],
        others: bool,
    ) -> bool {
        if !self.openings.lacks(own) {
            return false;
        }
        let bytes = engine.state_size(index);
        if bytes <= MOST_BYTES && !self.copies.may(bytes, others) {
            return false;
        }
        let began = Instant::now();
        let noted = self.openings.note(engine, index, own, bytes);
        if noted {
            self.copies.measured(bytes, began.elapsed());
        }
        noted
    }

    /// Empties what is held of characters' own prompts.
    pub(super) fn forget_openings(&mut self) {
        self.openings.forget();
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
            shares: None,
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
    use super::super::fixed::Fixed;
    use super::*;

    /// A whole conversation of a model with 36 layers, 8 heads for keys and 128 numbers each, at 16
    /// bits, as those have that are recommended: 576 MiB.
    fn whole(cuts: bool) -> (Slots, Fixed, Owner) {
        let owner = Owner {
            person: Some(PersonId::new()),
            key: b"c".to_vec(),
        };
        let engine = Fixed {
            held: 4096,
            each: 4 * 36 * 8 * 128 + 8,
            cuts,
            ..Fixed::of(300)
        };
        let mut slots = Slots::new(1);
        slots.slots[0] = Slot {
            owner: Some(owner.clone()),
            shares: Some(true),
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
        assert!(size <= most && size + engine.each > most);
        let again = slots.save(&mut engine, &owner, size, Larger::Cut).unwrap();
        assert_eq!((again.tokens.len(), engine.state_size(0)), (1820, size));
        assert!(slots.save(&mut engine, &owner, 99, Larger::Cut).is_none());
        assert_eq!(
            slots.slots[0].tokens.len(),
            1820,
            "nothing would have fitted"
        );
    }

    /// Another conversation of the same person with the same words, and what it finds of them in the
    /// second slot.
    fn other(
        slots: &mut Slots,
        engine: &mut Fixed,
        owner: &Owner,
        change: impl FnOnce(&mut Wanted<'_>),
    ) -> (usize, bool) {
        slots.slots.push(Slot::default());
        let prompt = slots.slots[0].tokens.clone();
        let owner = Owner {
            key: b"d".to_vec(),
            ..owner.clone()
        };
        let mut wanted = Wanted {
            owner: &owner,
            prompt: &prompt,
            own: 0,
            shares: true,
            others: false,
        };
        change(&mut wanted);
        let taken = slots.take(engine, &wanted).unwrap();
        assert_eq!(taken.slot, 1);
        assert_eq!(slots.slots[0].tokens, prompt, "it is left as it is");
        (taken.held, taken.copied)
    }

    /// So little that a copy is worth it.
    fn small() -> (Slots, Fixed, Owner) {
        let (slots, mut engine, owner) = whole(true);
        engine.each = 8;
        (slots, engine, owner)
    }

    #[test]
    fn a_copy_that_the_engine_refuses_is_no_beginning_and_is_tried_once() {
        let (mut slots, mut engine, owner) = small();
        engine.takes = false;
        let taken = other(&mut slots, &mut engine, &owner, |_| {});
        assert!(taken == (0, true) && slots.uncut);
        assert_eq!(engine.made, 1);
    }

    #[test]
    fn a_copy_that_could_not_be_cut_is_not_tried_and_costs_nothing() {
        let (mut slots, mut engine, owner) = small();
        engine.copies = false;
        // What the slot has of the same conversation stays.
        slots.slots.push(Slot {
            owner: Some(Owner {
                key: b"d".to_vec(),
                ..owner.clone()
            }),
            tokens: (0..40).map(Token).collect(),
            ..Slot::default()
        });
        let taken = other(&mut slots, &mut engine, &owner, |_| {});
        assert_eq!((taken, engine.made), ((40, false), 0));
        assert!(!slots.uncut);
    }

    #[test]
    fn only_those_that_may_share_have_their_beginning_from_one_another() {
        let copied = |of: bool, to: bool| {
            let (mut slots, mut engine, owner) = small();
            slots.slots[0].shares = Some(of);
            let taken = other(&mut slots, &mut engine, &owner, |wanted| wanted.shares = to);
            assert_eq!(taken.1, engine.made == 1);
            assert_eq!(slots.slots[1].shares, Some(to));
            taken.0
        };
        assert_eq!(copied(true, true), 4095);
        assert_eq!(
            [
                copied(true, false),
                copied(false, true),
                copied(false, false)
            ],
            [0; 3]
        );
        // Nor what is left in a slot that another one gives up, nor under the same key.
        for key in [b"d", b"c"] {
            let (mut slots, mut engine, owner) = small();
            let prompt = slots.slots[0].tokens.clone();
            let owner = Owner {
                key: key.to_vec(),
                ..owner
            };
            let wanted = Wanted {
                owner: &owner,
                prompt: &prompt,
                own: 0,
                shares: false,
                others: false,
            };
            assert_eq!(slots.take(&mut engine, &wanted).unwrap().held, 0);
            slots.give(&mut engine, 0, &prompt);
            let again = slots.take(&mut engine, &wanted).unwrap();
            assert_eq!(again.held, 4095, "its own");
        }
    }

    #[test]
    fn while_others_wait_for_it_nothing_large_is_copied() {
        let copied = |each: usize, others: bool| {
            let (mut slots, mut engine, owner) = small();
            engine.each = each + 8;
            other(&mut slots, &mut engine, &owner, |wanted| {
                wanted.others = others
            })
        };
        // Twice 40 MB, out and in: nobody knows yet how long that takes.
        assert_eq!(copied(10_000, true), (0, false));
        assert_eq!(copied(10_000, false), (4095, true));
        assert_eq!(copied(1000, true), (4095, true));
        assert_eq!(
            copied(100_000, false),
            (0, false),
            "more than it may ever be"
        );
    }

    #[test]
    fn a_copy_has_room_beside_what_is_kept_of_characters() {
        let (mut slots, mut engine, owner) = small();
        let own: Vec<_> = (9000..9040).map(Token).collect();
        engine.each = (MOST_BYTES - (1 << 20)) / 4096 - 8;
        assert!(slots.note(&engine, 0, &own, false));
        engine.each = 1008;
        let taken = other(&mut slots, &mut engine, &owner, |_| {});
        assert_eq!(taken, (0, false));
        slots.forget_openings();
        slots.slots.pop();
        engine.held = 4096;
        assert!(other(&mut slots, &mut engine, &owner, |_| {}).1);
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

//! What was read of characters' own prompts, kept for whoever talks to them: nothing else is shared
//! between persons. A prompt may use it only as far as its asker says that it is a character's own,
//! so that nobody finds out by what is fast what somebody else has said.

use crate::engine::{Engine, Token};

/// Fewest tokens for which a state is moved: fewer are read as fast.
pub(super) const LEAST: usize = 32;
/// Most bytes of all that is kept here, together with a state that is just copied between sequences:
/// two characters of 800 tokens each with a model of eight billion parameters.
pub(crate) const MOST_BYTES: usize = 256 << 20;
/// Most prompts that are kept here.
const MOST: usize = 4;

/// One character's prompt, as it stood in a sequence that held nothing else.
struct Opening {
    tokens: Vec<Token>,
    state: Vec<u8>,
    used: u64,
}

/// The prompts of characters that one context has read. Those that were used longest ago go first.
#[derive(Default)]
pub(super) struct Openings {
    all: Vec<Opening>,
    clock: u64,
    /// Those that can't be kept, the last few: they are not asked about each time.
    refused: Vec<Vec<Token>>,
}

impl Openings {
    /// Whether a character's prompt is to be kept once it is read.
    pub(super) fn lacks(&self, own: &[Token]) -> bool {
        let mut known = self.all.iter().map(|one| &one.tokens).chain(&self.refused);
        own.len() >= LEAST && !known.any(|tokens| tokens == own)
    }

    /// How many of a prompt's first tokens can be had of what its character's own begins with, and
    /// the bytes of their state.
    pub(super) fn found(&self, own: &[Token]) -> (usize, usize) {
        self.best(own).map_or((0, 0), |at| {
            (self.all[at].tokens.len(), self.all[at].state.len())
        })
    }

    /// Whether there is room for so many bytes more, as long as a copy is made.
    pub(super) fn leaves(&self, bytes: usize) -> bool {
        self.bytes().saturating_add(bytes) <= MOST_BYTES
    }

    /// Puts them into a sequence in place of what it holds. Tells how many it holds then: none where
    /// the engine refuses them, and then they are kept no longer.
    pub(super) fn put<E: Engine>(
        &mut self,
        engine: &mut E,
        sequence: usize,
        own: &[Token],
    ) -> usize {
        let Some(at) = self.best(own) else { return 0 };
        self.clock += 1;
        let opening = &mut self.all[at];
        opening.used = self.clock;
        let length = opening.tokens.len();
        if engine.restore(sequence, &opening.state, length) {
            return length;
        }
        self.all.swap_remove(at);
        0
    }

    /// Keeps what a sequence holds, a state of `bytes` bytes: a character's prompt and nothing behind
    /// it. False where it can't.
    pub(super) fn note<E: Engine>(
        &mut self,
        engine: &E,
        sequence: usize,
        own: &[Token],
        bytes: usize,
    ) -> bool {
        if bytes > MOST_BYTES {
            self.refuse(own);
            return false;
        }
        // Before memory is taken for it.
        while self.all.len() >= MOST || !self.leaves(bytes) {
            let oldest = (0..self.all.len()).min_by_key(|&at| self.all[at].used);
            let Some(at) = oldest else { break };
            self.all.swap_remove(at);
        }
        let Some(state) = engine.save(sequence) else {
            self.refuse(own);
            return false;
        };
        self.clock += 1;
        self.all.push(Opening {
            tokens: own.to_vec(),
            state,
            used: self.clock,
        });
        true
    }

    fn refuse(&mut self, own: &[Token]) {
        if self.refused.len() >= MOST {
            self.refused.remove(0);
        }
        self.refused.push(own.to_vec());
    }

    /// Keeps none of them any longer.
    pub(super) fn forget(&mut self) {
        self.all.clear();
        self.refused.clear();
    }

    fn best(&self, own: &[Token]) -> Option<usize> {
        (0..self.all.len())
            .filter(|&at| own.starts_with(&self.all[at].tokens))
            .max_by_key(|&at| self.all[at].tokens.len())
    }

    fn bytes(&self) -> usize {
        self.all.iter().map(|one| one.state.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixed::Fixed;
    use super::*;

    /// What the character of this number is told first.
    fn own(number: i32) -> Vec<Token> {
        (0..40).map(|at| Token(number * 100 + at)).collect()
    }

    #[test]
    fn the_character_that_was_talked_to_longest_ago_makes_room() {
        let mut engine = Fixed::of(8);
        let mut all = Openings::default();
        for number in 0..4 {
            assert!(all.note(&engine, 0, &own(number), 8));
        }
        assert_eq!(all.put(&mut engine, 0, &own(0)), 40);
        all.note(&engine, 0, &own(4), 8);
        assert_eq!(all.all.len(), MOST);
        assert_eq!(all.found(&own(1)), (0, 0));
        assert!([0, 2, 3, 4].iter().all(|&n| all.found(&own(n)) == (40, 8)));
        all.forget();
        assert_eq!((all.found(&own(0)).0, all.bytes()), (0, 0));
    }

    #[test]
    fn all_of_them_take_no_more_than_they_may() {
        let mut engine = Fixed::of(MOST_BYTES / 2);
        let mut all = Openings::default();
        for number in 0..3 {
            all.note(&engine, 0, &own(number), engine.base);
            assert!(all.bytes() <= MOST_BYTES);
        }
        assert_eq!((all.found(&own(0)).0, all.found(&own(2)).0), (0, 40));
        assert!(all.leaves(0) && !all.leaves(1), "nor with a copy");
        // One that is too large by itself pushes nothing out, and is not asked about again.
        assert!(all.lacks(&own(3)));
        assert!(!all.note(&engine, 0, &own(3), MOST_BYTES + 1));
        assert!(all.all.len() == 2 && !all.lacks(&own(3)));
        // Room is made before memory is taken.
        engine.saves = false;
        assert!(!all.note(&engine, 0, &own(4), engine.base));
        assert!(all.all.len() == 1 && !all.lacks(&own(4)));
        all.forget();
        assert!(all.lacks(&own(3)) && all.lacks(&own(4)));
    }

    #[test]
    fn only_the_whole_of_what_is_a_characters_serves() {
        let mut engine = Fixed::of(8);
        let mut all = Openings::default();
        assert!(!all.lacks(&own(1)[..LEAST - 1]), "it is read as fast");
        all.note(&engine, 0, &own(1), 8);
        assert!(!all.lacks(&own(1)));
        assert_eq!(
            all.found(&own(1)[..39]).0,
            0,
            "less of it is the character's"
        );
        let mut longer = own(1);
        longer.push(Token(7));
        assert!(all.found(&longer).0 == 40 && all.lacks(&longer));
        // What an engine refuses once it is not offered again.
        engine.takes = false;
        assert_eq!(all.put(&mut engine, 0, &own(1)), 0);
        assert!(all.lacks(&own(1)));
    }
}

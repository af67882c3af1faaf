//! An engine for the tests of what is held: it computes nothing, and its states have the sizes that are
//! asked for.

use crate::engine::{Engine, EngineError, Entry, SamplingPlan, Token};

/// One sequence, each token of which takes so many bytes.
pub(super) struct Fixed {
    pub(super) held: usize,
    /// Bytes of a state without a token.
    pub(super) base: usize,
    pub(super) each: usize,
    /// It can forget the end of a sequence.
    pub(super) cuts: bool,
    /// And of a copy, as it says.
    pub(super) copies: bool,
    /// It hands states out.
    pub(super) saves: bool,
    /// And takes them back, as it turns out.
    pub(super) takes: bool,
    /// Copies that were made.
    pub(super) made: usize,
}

impl Fixed {
    /// Whatever it holds has so many bytes, and it can do everything.
    pub(super) fn of(bytes: usize) -> Self {
        Self {
            held: 0,
            base: bytes,
            each: 0,
            cuts: true,
            copies: true,
            saves: true,
            takes: true,
            made: 0,
        }
    }
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
    fn sample_among(&mut self, _: &mut (), _: usize, _: &dyn Fn(Token) -> bool) -> Option<Token> {
        None
    }
    fn keep(&mut self, _: usize, length: usize) -> usize {
        self.held = if self.cuts { length } else { 0 };
        self.held
    }
    fn copies(&self, _: usize, _: usize) -> bool {
        self.copies
    }
    fn state_size(&self, _: usize) -> usize {
        self.base + self.held * self.each
    }
    fn save(&self, sequence: usize) -> Option<Vec<u8>> {
        self.saves.then(|| vec![0; self.state_size(sequence)])
    }
    fn restore(&mut self, _: usize, _: &[u8], _: usize) -> bool {
        self.made += 1;
        self.takes
    }
}

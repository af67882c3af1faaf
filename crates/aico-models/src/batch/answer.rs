//! One answer in the making, and the choice of its next token.

use std::time::{Duration, Instant};

use aico_contracts::ids::PersonId;
use aico_contracts::v1::Priority;
use tokio::sync::mpsc as channel;
use uuid::Uuid;

use super::Event;
use super::queue::Waiting;
use super::slots::Owner;
use crate::engine::{Engine, Token, Vocabulary};
use crate::structured::{FormatError, Structure};
use crate::text::{AnswerText, Piece, Thinking};

/// An answer in the making, with or without a slot.
pub(super) struct Answer<S> {
    pub(super) id: Uuid,
    pub(super) owner: Owner,
    pub(super) priority: Priority,
    pub(super) arrival: u64,
    pub(super) events: channel::UnboundedSender<Event>,
    pub(super) sampler: S,
    pub(super) text: AnswerText,
    pub(super) structure: Option<Structure>,
    /// Prompt and answer so far.
    pub(super) tokens: Vec<Token>,
    pub(super) prompt: usize,
    /// How many of its first tokens are a character's own.
    pub(super) own: usize,
    /// Whether it has its beginning from others of the person's.
    pub(super) shares: bool,
    pub(super) answer_limit: usize,
    /// Tokens that its slot holds.
    pub(super) held: usize,
    pub(super) cached: usize,
    pub(super) slot: Option<usize>,
    pub(super) told: Option<u32>,
    pub(super) asked: Instant,
    pub(super) first_token: Option<Duration>,
}

impl<S> Waiting for Answer<S> {
    fn priority(&self) -> Priority {
        self.priority
    }
    fn person(&self) -> Option<PersonId> {
        self.owner.person
    }
    fn arrival(&self) -> u64 {
        self.arrival
    }
    fn position(&mut self, before: u32) {
        // Whoever has shown text already is not told that it waits again.
        if self.told != Some(before) && self.first_token.is_none() {
            self.told = Some(before);
            let _gone = self.events.send(Event::Queued(before));
        }
    }
    fn may_go(&self) -> bool {
        // What was begun is brought to its end.
        self.first_token.is_none()
    }
}

impl<S> Answer<S> {
    /// Tokens that were written.
    pub(super) fn answered(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// What of the prompt is a character's own.
    pub(super) fn opening(&self) -> &[Token] {
        &self.tokens[..self.own]
    }

    pub(super) fn send(&self, pieces: Vec<Piece>) {
        for piece in pieces {
            let _gone = self.events.send(match piece {
                Piece::Text(text) => Event::Text(text),
                Piece::Thinking(text) => Event::Thinking(text),
                Piece::Call(call) => Event::Call(call),
            });
        }
    }
}

/// The next token of an answer, and whether with it the form that it is bound to is fulfilled.
pub(super) fn choose<E: Engine, V: Vocabulary>(
    engine: &mut E,
    vocabulary: &V,
    answer: &mut Answer<E::Sampler>,
    output: usize,
) -> Result<(Token, bool), FormatError> {
    let thinks = answer.text.thinks();
    let Some(structure) = answer.structure.as_mut() else {
        return Ok((engine.sample(&mut answer.sampler, output), false));
    };
    if thinks == Thinking::Begun {
        // It has thought for long enough: what ends a thought comes next.
        if let Some(token) = structure.end_of_thought() {
            return Ok((token, false));
        }
        // The answer is still to come: the turn does not end before it.
        let token = engine
            .sample_among(&mut answer.sampler, output, &|token| {
                !vocabulary.ends(token)
            })
            .ok_or(FormatError::TooComplex)?;
        return Ok((token, false));
    }
    let may_think = thinks == Thinking::MayBegin && answer.tokens.len() == answer.prompt;
    let allowed = structure.allowed(may_think)?;
    let token = engine
        .sample_among(&mut answer.sampler, output, &|token| allowed.has(token))
        .ok_or(FormatError::TooComplex)?;
    Ok((token, structure.accept(token)?))
}

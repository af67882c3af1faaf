//! Handing prompts of the cache to the daemon, and taking them back: `models.slot.*`.
//!
//! The daemon asks and this process answers; it can ask for nothing itself. What comes is bounded
//! by what the daemon said at the launch, and goes to the engine only when all of it is there.

use std::sync::{Arc, Mutex, PoisonError};

use aico_bus::Request;
use aico_contracts::Payload;
use aico_contracts::ids::PersonId;
use aico_contracts::v1::restored_prompt::Outcome;
use aico_contracts::v1::{self, Fault, prompt_piece};

use crate::batch::{Batcher, Larger, Saved};
use crate::engine::Token;

/// Bytes of a piece on the bus: of an exchange's 64 on the way, a link bears a quarter of its limit.
pub(crate) const PIECE: usize = 256 << 10;

/// The purpose of a `ListPrompts` that looks whether this process still answers.
pub(crate) const PULSE: &str = "pulse";

/// The purpose of a `SavePrompt` that wants the beginning of a state that is too large: the rest is
/// given up, for the process is about to end.
pub(crate) const CUT: &str = "prompt-cache-cut";

/// The prompts of this process.
#[derive(Clone)]
pub(super) struct Prompts {
    batcher: Batcher,
    /// Most bytes of a state; 0: nothing is handed out or taken.
    most: usize,
    /// What is on its way here: one at a time.
    coming: Arc<Mutex<Option<Coming>>>,
}

struct Coming {
    person: PersonId,
    key: Vec<u8>,
    transfer: Vec<u8>,
    tokens: Vec<Token>,
    state: Vec<u8>,
    /// Bytes of the whole state.
    bytes: usize,
}

impl Prompts {
    pub(super) fn new(batcher: Batcher, most: u64) -> Self {
        Self {
            batcher,
            most: usize::try_from(most).unwrap_or(usize::MAX),
            coming: Arc::default(),
        }
    }

    pub(super) async fn list(self, request: Request) {
        if let Err(fault) = request.decode::<v1::ListPrompts>() {
            return request.fault(fault);
        }
        let held = self.batcher.held().await.into_iter();
        let items = held.map(|held| v1::CachedPrompt {
            person: held.person.to_vec(),
            cache_key: held.key,
            tokens: u32::try_from(held.tokens).unwrap_or(u32::MAX),
            bytes: held.bytes as u64,
            revision: held.revision,
            prefill_us: held.prefill.map_or(0, |time| {
                u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
            }),
            busy: held.busy,
        });
        request.reply(v1::PromptList {
            items: items.collect(),
        });
    }

    pub(super) async fn save(self, request: Request) {
        use prompt_piece::Piece;
        let of = |piece| v1::PromptPiece { piece: Some(piece) };
        let (person, question) = match asked::<v1::SavePrompt>(&request) {
            Ok(asked) => asked,
            Err(fault) => return request.fault(fault),
        };
        let wanted = usize::try_from(question.most_bytes).unwrap_or(usize::MAX);
        let most = self.most.min(wanted);
        let larger = match &*request.envelope.purpose == CUT {
            true => Larger::Cut,
            false => Larger::Refuse,
        };
        let saved = self.batcher.save(person, question.cache_key, most, larger);
        let Some(saved) = saved.await else {
            return request.fault(Fault::not_found("Nothing of it is in the cache"));
        };
        let tokens = saved.tokens.iter();
        let head = v1::PromptHead {
            tokens: tokens.flat_map(|token| token.0.to_be_bytes()).collect(),
            bytes: saved.state.len() as u64,
            revision: saved.revision,
        };
        let mut stream = request.stream();
        if stream.send(of(Piece::Head(head))).await.is_err() {
            return;
        }
        for piece in saved.state.chunks(PIECE) {
            if stream.send(of(Piece::State(piece.to_vec()))).await.is_err() {
                return;
            }
        }
        stream.end(of(Piece::State(Vec::new())));
    }

    pub(super) async fn restore(self, request: Request) {
        let taken = match asked::<v1::RestorePrompt>(&request) {
            Ok((person, piece)) => self.take(person, piece),
            Err(fault) => return request.fault(fault),
        };
        let (outcome, revision) = match taken {
            None => (Outcome::Refused, None),
            Some(None) => (Outcome::More, None),
            Some(Some(whole)) => {
                let saved = Saved {
                    tokens: whole.tokens,
                    state: whole.state,
                    revision: 0,
                };
                let restored = self.batcher.restore(whole.person, whole.key, saved).await;
                match restored {
                    Some(revision) => (Outcome::Taken, Some(revision)),
                    None => (Outcome::Refused, None),
                }
            }
        };
        request.reply(v1::RestoredPrompt {
            outcome: outcome.into(),
            revision: revision.unwrap_or_default(),
        });
    }

    /// One piece. `None`: it is not to be had; otherwise all of it, once it is there.
    fn take(&self, person: PersonId, piece: v1::RestorePrompt) -> Option<Option<Coming>> {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(head) = &piece.head {
            *coming = Some(self.begin(person, &piece, head)?);
        }
        let mut now = coming.take().filter(|coming| {
            coming.transfer == piece.transfer
                && coming.person == person
                && coming.key == piece.cache_key
                && piece.state.len() <= coming.bytes - coming.state.len()
        })?;
        now.state.extend_from_slice(&piece.state);
        if now.state.len() == now.bytes {
            return Some(Some(now));
        }
        // A piece with nothing in it would come for ever.
        if piece.state.is_empty() {
            return None;
        }
        *coming = Some(now);
        Some(None)
    }

    fn begin(
        &self,
        person: PersonId,
        piece: &v1::RestorePrompt,
        head: &v1::PromptHead,
    ) -> Option<Coming> {
        let bytes = usize::try_from(head.bytes).ok()?;
        let (tokens, rest) = head.tokens.as_chunks::<4>();
        let fits = bytes > 0
            && bytes <= self.most
            && rest.is_empty()
            && !tokens.is_empty()
            && tokens.len() <= self.batcher.context_length();
        if !fits {
            return None;
        }
        let mut state = Vec::new();
        state.try_reserve_exact(bytes).ok()?;
        Some(Coming {
            person,
            key: piece.cache_key.clone(),
            transfer: piece.transfer.clone(),
            tokens: tokens
                .iter()
                .map(|token| Token(i32::from_be_bytes(*token)))
                .collect(),
            state,
            bytes,
        })
    }
}

/// Whose it is, and the message.
fn asked<M: Payload>(request: &Request) -> Result<(PersonId, M), Fault> {
    let person = PersonId::from_slice(&request.envelope.person)
        .map_err(|_| Fault::invalid("The person's id has not 16 bytes"))?;
    Ok((person, request.decode()?))
}

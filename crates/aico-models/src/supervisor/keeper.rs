//! Keeps the prompts of one model process: takes them from it when a conversation has gone quiet
//! or the process is about to end, and hands them to it when the conversation goes on.
//!
//! All of it saves time and nothing else: whatever fails is logged and left.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aico_bus::{Client, Meta, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{self, slot_verb as verb};
use aico_contracts::v1::prompt_piece::Piece;
use aico_contracts::v1::restored_prompt::Outcome;
use aico_contracts::v1::{self, Priority};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::batch::Larger;
use crate::process::prompts::{CUT, PIECE};
use crate::prompt_cache::{Fingerprint, KeepError, PromptCache, fitting};

/// How long a process may take for one answer about its prompts.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a conversation that goes on waits for others to be kept.
const SOON: Duration = Duration::from_millis(250);

/// How often it is looked whether the process has forgotten what it was told to, and how long
/// after one another.
const FORGETS: u32 = 100;
const FORGETTING: Duration = Duration::from_millis(20);

/// Conversation of a person.
type Of = (PersonId, Vec<u8>);

/// The prompts of one run of the model process. Clones are the same.
#[derive(Clone)]
pub(super) struct Keeper {
    parts: Arc<Parts>,
}

struct Parts {
    cache: PromptCache,
    bus: Client,
    /// Where the process serves.
    slot: u32,
    fingerprint: Fingerprint,
    /// One transfer at a time; what is known of the process's prompts.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// In this revision it was kept, or was not worth it (`false`).
    settled: HashMap<Of, (u64, bool)>,
    /// In this revision it was seen the last time somebody looked.
    seen: HashMap<Of, u64>,
}

/// Why a prompt was not transferred.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the model process does not answer as it should")]
    Process(#[from] RequestError),
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("the model process said something that makes no sense")]
    Malformed,
    #[error("the kept prompt can't be read")]
    Read(#[from] std::io::Error),
    #[error("the work was cut off")]
    CutOff,
}

impl Keeper {
    /// For a process that computes what this fingerprint names.
    pub(super) fn new(
        cache: PromptCache,
        bus: Client,
        slot: u32,
        fingerprint: Fingerprint,
    ) -> Self {
        Self {
            parts: Arc::new(Parts {
                cache,
                bus,
                slot,
                fingerprint,
                known: Mutex::default(),
            }),
        }
    }

    /// A conversation is about to go on: what was kept of it is handed to the process, unless it
    /// has it.
    pub(super) async fn recall(&self, person: PersonId, key: Vec<u8>) {
        let Ok(mut known) = tokio::time::timeout(SOON, self.parts.known.lock()).await else {
            return;
        };
        match self.restore(person, &key).await {
            Ok(Some(revision)) => {
                // What came from the disk is there.
                known.settled.insert((person, key), (revision, true));
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "A kept prompt was not brought back."),
        }
    }

    /// Keeps what has not changed since the last call: those conversations have gone quiet.
    pub(super) async fn keep_quiet(&self) {
        let mut known = self.parts.known.lock().await;
        let listed = match self.list().await {
            Ok(listed) => listed,
            Err(error) => return tracing::debug!(%error, "The prompts were not listed."),
        };
        let listed = latest(listed);
        let seen = listed.iter();
        let seen = seen.map(|prompt| (prompt.of.clone(), prompt.revision));
        let before = std::mem::replace(&mut known.seen, seen.collect());
        let quiet =
            |prompt: &Prompt| !prompt.busy && before.get(&prompt.of) == Some(&prompt.revision);
        // A larger one is left whole as long as its process lives: there it saves more than on the
        // disk. What was kept of it when it was shorter still serves.
        self.keep(&mut known, listed, quiet, Larger::Refuse).await;
        let cache = self.parts.cache.clone();
        let _tidied = tokio::task::spawn_blocking(move || cache.tidy()).await;
    }

    /// Keeps what there is, the latest first: the process is about to end. Of a prompt that is too
    /// large it is the beginning.
    pub(super) async fn keep_all(&self) {
        let mut known = self.parts.known.lock().await;
        match self.list().await {
            Ok(listed) => {
                let all = |prompt: &Prompt| !prompt.busy;
                self.keep(&mut known, latest(listed), all, Larger::Cut)
                    .await;
            }
            Err(error) => tracing::debug!(%error, "The prompts were not listed."),
        }
    }

    /// A conversation is gone, and the process was told to forget it.
    pub(super) async fn discard(&self, person: PersonId, key: Vec<u8>) {
        // After whatever is being kept now, and before anything else is.
        let mut known = self.parts.known.lock().await;
        let of = (person, key.clone());
        known.seen.remove(&of);
        // It hears of it on another way than this question comes.
        for _ in 0..FORGETS {
            match self.list().await {
                Ok(listed) if listed.iter().any(|prompt| prompt.of == of) => {
                    tokio::time::sleep(FORGETTING).await;
                }
                Ok(_) | Err(_) => break,
            }
        }
        let cache = self.parts.cache.clone();
        let _removed = tokio::task::spawn_blocking(move || cache.discard(person, &key)).await;
    }

    fn topic(&self, verb: &str) -> String {
        topics::slot(self.parts.slot, verb)
    }

    async fn list(&self) -> Result<Vec<Prompt>, Trouble> {
        let meta = Meta::default().deadline_in(PATIENCE);
        let list: v1::PromptList = self
            .parts
            .bus
            .request(&self.topic(verb::LIST_PROMPTS), &v1::ListPrompts {}, meta)
            .await?;
        let prompts = list.items.into_iter().map(|item| {
            let person = PersonId::from_slice(&item.person).map_err(|_| Trouble::Malformed)?;
            Ok(Prompt {
                of: (person, item.cache_key),
                bytes: item.bytes,
                revision: item.revision,
                prefill: (item.prefill_us > 0).then(|| Duration::from_micros(item.prefill_us)),
                busy: item.busy,
            })
        });
        prompts.collect()
    }

    /// Keeps those that are due: the latest first, and the older ones in what all later ones have
    /// there or leave, for they would push them out.
    async fn keep(
        &self,
        known: &mut Known,
        prompts: Vec<Prompt>,
        due: impl Fn(&Prompt) -> bool,
        larger: Larger,
    ) {
        let limits = self.parts.cache.limits();
        let mut left_of: HashMap<PersonId, u64> = HashMap::new();
        let mut left = limits.all;
        let mut there = Vec::new();
        for prompt in prompts {
            let theirs = left_of.entry(prompt.of.0).or_insert(limits.person);
            let most = fitting(left.min(*theirs));
            let mut bytes = self.size(&prompt.of).await;
            let settled = known.settled.get(&prompt.of);
            let is_new = match settled.filter(|(revision, _)| *revision == prompt.revision) {
                None => true,
                Some((_, false)) => false,
                // Pushed out since. As long as the process lives that is left so: two that do not
                // fit together would push each other out for ever.
                Some((_, true)) => bytes.is_none() && larger == Larger::Cut,
            };
            // For the same time there may be room for it later.
            let fits = prompt.bytes <= most || (larger == Larger::Cut && most > 0);
            let fast = prompt.prefill.is_some_and(|time| time < limits.least);
            if due(&prompt) && is_new && (fits || fast) {
                self.arrange(there.clone()).await;
                let kept = match !fast && prompt.bytes > 0 {
                    true => self
                        .save(&prompt, most, larger)
                        .await
                        .map(|kept| (kept, true)),
                    false => Ok((prompt.revision, false)),
                };
                let kept = kept.unwrap_or_else(|error| {
                    tracing::debug!(%error, "A prompt was not kept.");
                    // Not again until it changes; a full disk would be tried for ever.
                    (prompt.revision, false)
                });
                known.settled.insert(prompt.of.clone(), kept);
                if kept.1 {
                    bytes = self.size(&prompt.of).await;
                    there.push(prompt.of.clone());
                    self.arrange(there.clone()).await;
                }
            }
            if let Some(bytes) = bytes {
                if there.last() != Some(&prompt.of) {
                    there.push(prompt.of);
                }
                *theirs = theirs.saturating_sub(bytes);
                left = left.saturating_sub(bytes);
            }
        }
    }

    /// Bytes of what is kept of it.
    async fn size(&self, of: &Of) -> Option<u64> {
        let (cache, (person, key)) = (self.parts.cache.clone(), of.clone());
        let looked = tokio::task::spawn_blocking(move || cache.size(person, &key));
        looked.await.ok().flatten()
    }

    /// What was written last would count as used last, and that is the oldest.
    async fn arrange(&self, latest_first: Vec<Of>) {
        let (cache, now) = (self.parts.cache.clone(), SystemTime::now());
        let arranged = tokio::task::spawn_blocking(move || {
            for ((person, key), before) in latest_first.iter().zip(0..) {
                let when = now - Duration::from_millis(before);
                cache.used(*person, key, when);
            }
        });
        let _only_the_order = arranged.await;
    }

    /// From the process to the disk, at most so many bytes of its state. Tells the revision that is
    /// there now.
    async fn save(&self, prompt: &Prompt, most: u64, larger: Larger) -> Result<u64, Trouble> {
        let (person, key) = prompt.of.clone();
        let question = v1::SavePrompt {
            cache_key: key.clone(),
            most_bytes: most,
        };
        let asking = match larger {
            Larger::Cut => meta(person).purpose(CUT),
            Larger::Refuse => meta(person),
        };
        let mut pieces: aico_bus::ReplyStream<v1::PromptPiece> = self
            .parts
            .bus
            .open_stream(&self.topic(verb::SAVE_PROMPT), &question, asking)
            .await?;
        let Some(Piece::Head(head)) = pieces.next().await.ok_or(Trouble::Malformed)??.piece else {
            return Err(Trouble::Malformed);
        };
        let (cache, fingerprint) = (self.parts.cache.clone(), self.parts.fingerprint);
        let revision = head.revision;
        let mut writer = blocking(move || {
            Ok(cache.begin(person, &key, &fingerprint, head.tokens, head.bytes)?)
        })
        .await?;
        while let Some(piece) = pieces.next().await {
            let Some(Piece::State(state)) = piece?.piece else {
                return Err(Trouble::Malformed);
            };
            writer = blocking(move || {
                writer.write(&state)?;
                Ok(writer)
            })
            .await?;
        }
        blocking(move || Ok(writer.finish()?)).await?;
        Ok(revision)
    }

    /// From the disk to the process, if something was kept that it has not. Tells the revision
    /// there.
    async fn restore(&self, person: PersonId, key: &[u8]) -> Result<Option<u64>, Trouble> {
        let (cache, fingerprint) = (self.parts.cache.clone(), self.parts.fingerprint);
        let name = key.to_vec();
        let opened = blocking(move || Ok(cache.open(person, &name, &fingerprint))).await?;
        let Some(mut kept) = opened else {
            return Ok(None);
        };
        let held = self.list().await?;
        if held
            .iter()
            .any(|prompt| prompt.of == (person, key.to_vec()))
        {
            return Ok(None);
        }
        let transfer = Uuid::new_v4().as_bytes().to_vec();
        let mut head = Some(v1::PromptHead {
            tokens: kept.tokens().to_vec(),
            bytes: kept.bytes(),
            revision: 0,
        });
        loop {
            let state;
            (kept, state) = blocking(move || {
                let state = kept.piece(PIECE)?;
                Ok((kept, state))
            })
            .await?;
            let piece = v1::RestorePrompt {
                cache_key: key.to_vec(),
                transfer: transfer.clone(),
                head: head.take(),
                state,
            };
            let answer: v1::RestoredPrompt = self
                .parts
                .bus
                .request(&self.topic(verb::RESTORE_PROMPT), &piece, meta(person))
                .await?;
            match answer.outcome() {
                Outcome::More if !piece.state.is_empty() => {}
                Outcome::Taken => {
                    tracing::debug!(bytes = kept.bytes(), "A kept prompt was brought back.");
                    return Ok(Some(answer.revision));
                }
                Outcome::Refused => return Ok(None),
                Outcome::More | Outcome::Unspecified => return Err(Trouble::Malformed),
            }
        }
    }
}

/// A prompt of the process, as it tells.
#[derive(Clone)]
struct Prompt {
    of: Of,
    bytes: u64,
    revision: u64,
    prefill: Option<Duration>,
    busy: bool,
}

/// Each conversation once, the latest first. One that is asked twice at once stands in two places of
/// the process: what is handed out is the latest that nobody writes in.
fn latest(mut listed: Vec<Prompt>) -> Vec<Prompt> {
    let mut seen = HashSet::new();
    listed.sort_by_key(|prompt| (prompt.busy, Reverse(prompt.revision)));
    listed.retain(|prompt| seen.insert(prompt.of.clone()));
    listed.sort_by_key(|prompt| Reverse((prompt.busy, prompt.revision)));
    listed
}

fn meta(person: PersonId) -> Meta {
    Meta::for_person(person)
        .purpose("prompt-cache")
        .priority(Priority::Background)
        .deadline_in(PATIENCE)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Trouble::CutOff)?
}

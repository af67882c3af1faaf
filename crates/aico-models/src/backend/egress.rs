//! What leaves this machine: only with a person's consent, and never without a note of it.

use std::sync::Arc;
use std::time::SystemTime;

use aico_contracts::ids::PersonId;
use aico_contracts::v1;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::shelf::Shelf;
use super::{About, Asker, Backend, BackendError, Embedded, InMemory, Item, Offered, Reach};

/// What is asked for with what goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An answer.
    Chat,
    /// Vectors.
    Embeddings,
}

/// Words that are about to leave; how many, and nothing of themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The backend's name.
    pub engine: String,
    /// Host and port.
    pub address: String,
    /// By the backend's name for it.
    pub model: String,
    /// What for.
    pub what: What,
    /// Bytes of text and pictures.
    pub bytes: u64,
}

/// Where consents stand, and what went out.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Whether this person agreed that their words go to this engine at this address.
    ///
    /// # Errors
    /// [`BackendError::NotNoted`] when that can't be found out.
    async fn allows(
        &self,
        person: PersonId,
        engine: &str,
        address: &str,
    ) -> Result<bool, BackendError>;

    /// Notes what is about to go out; on the disk when it returns.
    ///
    /// # Errors
    /// [`BackendError::NotAllowed`] without consent, [`BackendError::NotNoted`] when it can't be
    /// noted. Nothing is sent then.
    async fn begin(&self, person: PersonId, out: &Outgoing) -> Result<i64, BackendError>;

    /// Adds how many tokens the other side counted of it.
    async fn end(&self, person: PersonId, note: i64, tokens: u32);
}

/// What was last heard of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: SystemTime,
    /// What it ended with.
    pub outcome: Result<(), BackendError>,
}

/// A backend that is asked only with consent where it is another machine's.
pub struct Guarded {
    inner: Arc<dyn Backend>,
    ledger: Arc<dyn Ledger>,
    seen: Mutex<Option<Seen>>,
}

impl Guarded {
    /// Puts the guard before `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, ledger: Arc<dyn Ledger>) -> Self {
        Self {
            inner,
            ledger,
            seen: Mutex::default(),
        }
    }

    /// What was last heard of it; `None`: it was not asked yet.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        self.seen.lock().clone()
    }

    /// Notes how an exchange ended. What was decided here says nothing of the other side.
    fn heard<T>(&self, outcome: Result<T, BackendError>) -> Result<T, BackendError> {
        let told = match &outcome {
            Ok(_) => Ok(()),
            Err(BackendError::NotAllowed | BackendError::NotNoted) => return outcome,
            Err(error) => Err(error.clone()),
        };
        *self.seen.lock() = Some(Seen {
            at: SystemTime::now(),
            outcome: told,
        });
        outcome
    }

    /// The person whose words go out, once that is noted; `None`: they stay on this machine.
    async fn let_out(
        &self,
        asker: &Asker,
        model: &str,
        what: What,
        bytes: u64,
    ) -> Result<Option<(PersonId, i64)>, BackendError> {
        if self.inner.reach() == Reach::Machine {
            return Ok(None);
        }
        // Words without a person are nobody's to give away.
        let person = asker.person.ok_or(BackendError::NotAllowed)?;
        let out = Outgoing {
            engine: self.inner.name().to_owned(),
            address: self.inner.about().address,
            model: model.to_owned(),
            what,
            bytes,
        };
        let note = self.ledger.begin(person, &out).await?;
        Ok(Some((person, note)))
    }

    async fn settle(&self, noted: Option<(PersonId, i64)>, tokens: u32) {
        if let (Some((person, note)), 1..) = (noted, tokens) {
            self.ledger.end(person, note, tokens).await;
        }
    }
}

#[async_trait]
impl Backend for Guarded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn reach(&self) -> Reach {
        self.inner.reach()
    }

    /// Nobody's words: what is downloaded or made there needs no consent, but the owner's wish.
    fn shelf(&self) -> Option<&dyn Shelf> {
        self.inner.shelf()
    }

    fn at_once(&self) -> usize {
        self.inner.at_once()
    }

    fn changes(&self) -> u64 {
        self.inner.changes()
    }

    fn was_installed(&self) {
        self.inner.was_installed();
    }

    fn about(&self) -> About {
        self.inner.about()
    }

    async fn permits(&self, asker: &Asker) -> Result<(), BackendError> {
        if self.inner.reach() == Reach::Machine {
            return Ok(());
        }
        let person = asker.person.ok_or(BackendError::NotAllowed)?;
        let address = self.inner.about().address;
        match self.ledger.allows(person, self.name(), &address).await? {
            true => Ok(()),
            false => Err(BackendError::NotAllowed),
        }
    }

    /// Nobody's words: it needs no consent.
    async fn models(&self) -> Result<Vec<Offered>, BackendError> {
        let offered = self.inner.models().await;
        self.heard(offered)
    }

    async fn in_memory(&self) -> Vec<InMemory> {
        self.inner.in_memory().await
    }

    async fn generate(
        &self,
        asker: &Asker,
        model: &str,
        question: &v1::Generate,
        items: mpsc::Sender<Item>,
    ) -> Result<v1::GeneratedEnd, BackendError> {
        let bytes = size_of_question(question);
        let noted = self.let_out(asker, model, What::Chat, bytes).await?;
        let answered = self.inner.generate(asker, model, question, items).await;
        let end = self.heard(answered)?;
        self.settle(noted, end.prompt_tokens).await;
        Ok(end)
    }

    async fn embed(
        &self,
        asker: &Asker,
        model: &str,
        texts: &[String],
    ) -> Result<Embedded, BackendError> {
        let bytes = texts.iter().map(|text| text.len() as u64).sum();
        let noted = self.let_out(asker, model, What::Embeddings, bytes).await?;
        let answered = self.inner.embed(asker, model, texts).await;
        let embedded = self.heard(answered)?;
        self.settle(noted, embedded.tokens).await;
        Ok(embedded)
    }

    async fn unload(&self, model: &str) -> Result<(), BackendError> {
        let unloaded = self.inner.unload(model).await;
        self.heard(unloaded)
    }
}

/// Bytes of everything in a question that is a person's: texts, pictures, calls and tools.
fn size_of_question(question: &v1::Generate) -> u64 {
    let turns = question.turns.iter().map(|turn| {
        let calls = turn.tool_calls.iter();
        let calls: usize = calls
            .map(|call| call.name.len() + call.arguments.len())
            .sum();
        turn.text.len() + calls + turn.images.iter().map(Vec::len).sum::<usize>()
    });
    let tools = question
        .tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.len());
    let all = turns.chain(tools).sum::<usize>() + question.format.len();
    all as u64
}

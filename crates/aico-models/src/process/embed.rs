//! Vectors of texts: `models.slot.<n>.embed`.

use std::sync::Arc;
use std::time::Duration;

use aico_bus::Request;
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1::{self, Fault, Priority};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::engine::EngineError;
use crate::engine::embed::{EmbedError, Embedder, Progress};
use crate::engine::llama::Gguf;

use super::launch::Outcome;

/// Texts of one question.
const TEXTS_LIMIT: usize = 256;
/// Bytes of all its texts.
const BYTES_LIMIT: usize = 1 << 20;
/// How often one that stands still is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The model of this process, as one that embeds.
#[derive(Clone)]
pub struct Embeds {
    id: ModelId,
    model: Arc<Gguf>,
    threads: u32,
    /// Its context takes memory: made when it is first needed.
    embedder: Arc<Mutex<Option<Embedder>>>,
    /// How its thread gets on.
    progress: Arc<Progress>,
    /// For how long nothing may come of what it computes.
    limit: Duration,
}

impl Embeds {
    /// `None`: its vectors stand for no text. It is taken for one that hangs when nothing comes of
    /// what it computes for as long as `limit`.
    #[must_use]
    pub fn of(model: &Arc<Gguf>, id: ModelId, threads: u32, limit: Duration) -> Option<Self> {
        model.pooling()?;
        Some(Self {
            id,
            model: Arc::clone(model),
            threads,
            embedder: Arc::default(),
            progress: Arc::default(),
            limit,
        })
    }

    /// Makes its context now.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn open(&self) -> Result<(), EngineError> {
        self.embedder().map(drop)
    }

    /// A failure is not kept: there may be more memory at the next question.
    fn embedder(&self) -> Result<Embedder, EngineError> {
        let mut embedder = self.embedder.lock();
        if let Some(made) = &*embedder {
            return Ok(made.clone());
        }
        let (model, progress) = (Arc::clone(&self.model), Arc::clone(&self.progress));
        let made = Embedder::start_seen(model, self.threads, progress)?;
        Ok(embedder.insert(made).clone())
    }

    /// Returns when its thread gets on, or has nothing to do; not while it hangs. A question of many
    /// texts takes long, but something comes of it with each batch.
    pub(super) async fn gets_on(&self) {
        while self.progress.stands_still(self.limit) {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn answer(self, request: Request) -> Outcome {
        let refuse = |request: Request, fault| {
            request.fault(fault);
            Outcome::Failed
        };
        let question = match request.decode() {
            Ok(question) => question,
            Err(fault) => return refuse(request, fault),
        };
        let person = match &request.envelope.person[..] {
            [] => None,
            bytes => match PersonId::from_slice(bytes) {
                Ok(person) => Some(person),
                Err(_) => {
                    let fault = Fault::invalid("The person's id has not 16 bytes");
                    return refuse(request, fault);
                }
            },
        };
        let priority = request.envelope.priority();
        let mut back = request.stream();
        let (begun, has_begun) = oneshot::channel();
        let done = self.embed(question, (person, priority), begun);
        tokio::pin!(done);
        let told = tokio::select! {
            // What nobody waits for any more is not computed.
            () = back.cancelled() => return Outcome::Cancelled,
            done = &mut done => Some(done),
            Ok(()) = has_begun => None,
        };
        let done = if let Some(done) = told {
            done
        } else {
            // An answer without vectors, before that with them, tells that it waits no more.
            if back.send(v1::Embedded::default()).await.is_err() {
                return Outcome::Cancelled;
            }
            tokio::select! {
                () = back.cancelled() => return Outcome::Cancelled,
                done = &mut done => done,
            }
        };
        match done {
            Ok(done) => {
                back.end(done);
                Outcome::Stop
            }
            Err(fault) => {
                back.fault(fault);
                Outcome::Failed
            }
        }
    }

    async fn embed(
        &self,
        question: v1::Embed,
        (person, priority): (Option<PersonId>, Priority),
        begun: oneshot::Sender<()>,
    ) -> Result<v1::Embedded, Fault> {
        let id = self.id.to_string();
        if !question.model.is_empty() && question.model != id {
            return Err(Fault::new("model-changed", "Another model answers now"));
        }
        let bytes: usize = question.texts.iter().map(String::len).sum();
        if question.texts.len() > TEXTS_LIMIT || bytes > BYTES_LIMIT {
            return Err(Fault::too_long("These are too many texts for one question")
                .with_detail("At most 256 texts are taken at once, of 1 MiB together.")
                .with_what_to_do("Ask for them in smaller parts."));
        }
        let this = self.clone();
        let embedder = tokio::task::spawn_blocking(move || this.embedder()).await;
        let embedder = embedder.ok().and_then(Result::ok).ok_or_else(|| {
            Fault::new(
                "model-too-large",
                "The memory does not suffice for the model",
            )
            .with_what_to_do("Choose a smaller model.")
        })?;
        let vectors = embedder.embed(question.texts, person, priority, begun);
        let vectors = vectors.await;
        let items = vectors.map_err(|error| fault(&error))?.into_iter();
        Ok(v1::Embedded {
            model: id,
            items: items
                .map(|embedding| v1::EmbeddedText {
                    vector: embedding.vector,
                    tokens: embedding.tokens,
                    truncated: embedding.truncated,
                })
                .collect(),
        })
    }
}

fn fault(error: &EmbedError) -> Fault {
    match error {
        EmbedError::NotCapable => {
            Fault::new("model-not-capable", "This model has nothing for embeddings")
                .with_what_to_do("Choose another model for this.")
        }
        EmbedError::Busy => Fault::busy("Too many texts wait for the model"),
        EmbedError::Failed => Fault::model_failed("The model could not go on")
            .with_what_to_do("Ask again. If it stays so, choose another model."),
    }
}

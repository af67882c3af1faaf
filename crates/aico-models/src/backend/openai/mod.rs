//! Servers that speak the `/v1` which OpenAI made common: vLLM, llama.cpp's, SGLang, LM Studio,
//! another AICO.
//!
//! They differ at the edges: in what they take beside the standard, in how they tell errors, in
//! what they say of their models. [`request`] says everything once and, to a server that refuses
//! what it does not know, only the standard; [`answer`] and [`refusal`] read all of their shapes.

mod answer;
mod link;
mod refusal;
mod request;
mod sse;
mod told;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aico_contracts::v1;
use aico_contracts::v1::generated_end::Reason;
use async_trait::async_trait;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::budget::{Budget, context_limit};
use super::{About, Asker, Backend, BackendError, Embedded, Item, Offered, Reach, Wait};
use crate::pull::url::{Url, UrlError};
use crate::pull::{Resolve, SystemResolver, Tls};
use answer::Answer;
use link::{Answered, Link};
use request::Words;
use sse::{Event, Events};
use told::{Listed, Vectors, of_length_one};

pub use link::Limits;

/// Longest body of an error.
const ERROR: usize = 64 << 10;
/// Longest list of models.
const LIST: usize = 8 << 20;
/// Longest body with vectors, or with an answer in one piece.
const WHOLE: usize = 64 << 20;
/// Most models of a list that are taken.
const MODELS: usize = 1000;
/// Longest name of a model.
const NAME: usize = 256;
/// Texts that are sent at once to be embedded; some servers take no more.
const BATCH: usize = 32;

/// Gives the secret by which a server lets us in.
#[async_trait]
pub trait Keys: Send + Sync + 'static {
    /// The secret of this name; `None`: it is not set, or AICO is locked.
    async fn key(&self, name: &str) -> Option<Zeroizing<String>>;
}

/// A server, as it is configured.
#[derive(Clone)]
pub struct ServerConfig {
    /// What it is called here.
    pub name: String,
    /// Its address; without a path `/v1` is meant.
    pub url: String,
    /// The name of the secret that is its key.
    pub key: Option<String>,
    /// Words may go to the home network without encryption.
    pub unencrypted: bool,
    /// Limits of time.
    pub limits: Limits,
    /// What finds its address.
    pub resolver: Arc<dyn Resolve>,
}

impl ServerConfig {
    /// With everything else as usual.
    #[must_use]
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            key: None,
            unencrypted: false,
            limits: Limits::default(),
            resolver: Arc::new(SystemResolver),
        }
    }
}

/// A server that speaks `/v1`.
pub struct Server {
    name: String,
    link: Link,
    key: Option<String>,
    keys: Arc<dyn Keys>,
    /// What it takes, as far as it was found out.
    words: Mutex<Words>,
    /// What it said that it is.
    kind: Mutex<String>,
    /// Tokens that its models attend to, as far as it tells.
    contexts: Mutex<HashMap<String, u32>>,
    budget: Budget,
}

impl Server {
    /// Talks to nobody yet.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(config: ServerConfig, keys: Arc<dyn Keys>) -> Result<Self, UrlError> {
        Ok(Self {
            link: Link {
                url: Url::parse(&config.url)?,
                unencrypted: config.unencrypted,
                limits: config.limits,
                resolver: config.resolver,
                tls: Arc::new(Tls::default()),
            },
            name: config.name,
            key: config.key,
            keys,
            words: Mutex::new(Words::All),
            kind: Mutex::default(),
            contexts: Mutex::default(),
            budget: Budget::default(),
        })
    }

    async fn key(&self) -> Result<Option<Zeroizing<String>>, BackendError> {
        let Some(name) = &self.key else {
            return Ok(None);
        };
        let found = self.keys.key(name).await;
        let missing = || BackendError::KeyMissing { name: name.clone() };
        found.map(Some).ok_or_else(missing)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Answered, BackendError> {
        let key = self.key().await?;
        let body = serde_json::to_vec(body).map_err(|_| BackendError::Unreadable)?;
        self.link.ask(Method::POST, path, key.as_ref(), body).await
    }

    /// What an answer that is no success means.
    async fn refused(&self, answered: Answered) -> BackendError {
        let (status, headers) = (
            answered.response.status(),
            answered.response.headers().clone(),
        );
        let body = link::whole(answered.response, ERROR).await;
        let body = body.ok().flatten().unwrap_or_default();
        refusal::of(status, &headers, &body, &self.link.address())
    }

    /// Opens the stream of an answer, saying less to a server that did not take everything.
    async fn ask_chat(
        &self,
        model: &str,
        question: &v1::Generate,
        turns: &[&v1::Turn],
    ) -> Result<Answered, BackendError> {
        let mut words = *self.words.lock();
        loop {
            let body = request::chat(model, question, turns, words)?;
            let answered = self.post("/chat/completions", &body).await?;
            if answered.response.status() == StatusCode::OK {
                let mut known = self.words.lock();
                *known = words.max(*known);
                return Ok(answered);
            }
            let error = self.refused(answered).await;
            words = match (words.fewer(), &error) {
                (Some(fewer), BackendError::Refused { status: 400 | 422 }) => fewer,
                _ => return Err(error),
            };
        }
    }

    /// Hands over what comes; `first`: when that began.
    async fn stream(
        &self,
        answered: Answered,
        begun: Instant,
        first: &mut Option<Duration>,
        items: &mpsc::Sender<Item>,
    ) -> Result<v1::GeneratedEnd, BackendError> {
        let mut answer = Answer::default();
        let kind = kind(&answered);
        if kind == Kind::Other {
            return Err(self.link.other_program());
        }
        let mut body = Body {
            answered,
            waited_for: Wait::FirstToken,
            limit: self.link.limits.first_token,
            until: begun + self.link.limits.first_token,
        };
        let mut ready = Vec::new();
        if kind == Kind::Json {
            // In one piece, though a stream was asked for.
            let mut whole = Vec::new();
            while let Some(data) = body.next().await? {
                if whole.len() + data.len() > WHOLE {
                    return Err(BackendError::Unreadable);
                }
                whole.extend_from_slice(&data);
            }
            answer.take(&whole, &mut ready)?;
            if !answer.has_ended() {
                return Err(self.link.other_program());
            }
        } else {
            let (mut events, mut came) = (Events::default(), Vec::new());
            let mut done = false;
            'stream: while let Some(data) = body.next().await? {
                let whole = events.push(&data, &mut came);
                whole.map_err(|sse::TooLong| BackendError::Unreadable)?;
                for event in came.drain(..) {
                    match event {
                        Event::Data(data) if data.trim_ascii() == b"[DONE]" => {
                            done = true;
                            break 'stream;
                        }
                        Event::Data(data) => answer.take(&data, &mut ready)?,
                        Event::Error(text) => {
                            let error = serde_json::from_slice(&text).unwrap_or(Value::Null);
                            return Err(refusal::amid(&error));
                        }
                    }
                    if ready.is_empty() {
                        // A call is handed on when it is whole: until then its pieces, or what
                        // comes in their place, show that the model goes on.
                        if first.is_some() || answer.is_calling() {
                            body.came(&self.link.limits);
                        }
                        continue;
                    }
                    first.get_or_insert_with(|| begun.elapsed());
                    if !hand_on(&mut ready, items).await {
                        return Ok(cancelled(answer.end()));
                    }
                    body.came(&self.link.limits);
                }
            }
            // Some end without the mark, some without a reason: one of both there has to be.
            if !done && (!answer.has_ended() || events.is_amid()) {
                return Err(BackendError::CutOff);
            }
        }
        ready.extend(answer.calls());
        if !ready.is_empty() {
            first.get_or_insert_with(|| begun.elapsed());
        }
        let end = answer.end();
        if !hand_on(&mut ready, items).await {
            return Ok(cancelled(end));
        }
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Ok(v1::GeneratedEnd {
            first_token_us: first.map(micros).unwrap_or_default(),
            total_us: micros(begun.elapsed()),
            ..end
        })
    }

    async fn embed_batch(
        &self,
        model: &str,
        texts: &[String],
    ) -> Result<(Vec<Vec<f32>>, u32), BackendError> {
        let body = json!({ "model": model, "input": texts, "encoding_format": "float" });
        let answered = self.post("/embeddings", &body).await?;
        if answered.response.status() != StatusCode::OK {
            return Err(self.refused(answered).await);
        }
        if kind(&answered) == Kind::Other {
            return Err(self.link.other_program());
        }
        let told = link::whole(answered.response, WHOLE).await?;
        let told = told.ok_or(BackendError::Unreadable)?;
        let told: Vectors = serde_json::from_slice(&told).map_err(|_| BackendError::Unreadable)?;
        let tokens = told.usage.and_then(|usage| usage.prompt_tokens);
        let mut vectors = vec![Vec::new(); texts.len()];
        if told.data.len() != texts.len() {
            return Err(BackendError::Unreadable);
        }
        for (at, vector) in told.data.into_iter().enumerate() {
            let place = vector.index.unwrap_or(at);
            let slot = vectors.get_mut(place).filter(|slot| slot.is_empty());
            *slot.ok_or(BackendError::Unreadable)? = of_length_one(vector.embedding)?;
        }
        Ok((vectors, tokens.unwrap_or_default()))
    }
}

#[async_trait]
impl Backend for Server {
    fn name(&self) -> &str {
        &self.name
    }

    fn reach(&self) -> Reach {
        self.link.reach()
    }

    fn about(&self) -> About {
        About {
            kind: "openai",
            address: self.link.address(),
            version: self.kind.lock().clone(),
        }
    }

    async fn models(&self) -> Result<Vec<Offered>, BackendError> {
        let limit = self.link.limits.look;
        let look = async {
            let key = self.key().await?;
            let path = "/models";
            let answered = self
                .link
                .ask(Method::GET, path, key.as_ref(), Vec::new())
                .await?;
            if answered.response.status() != StatusCode::OK {
                return Err(match self.refused(answered).await {
                    // No model was named: this address is none of `/v1`.
                    BackendError::ModelMissing => self.link.other_program(),
                    error => error,
                });
            }
            link::whole(answered.response, LIST).await
        };
        let told = timeout(limit, look)
            .await
            .map_err(|_| BackendError::TimedOut {
                waited_for: Wait::FirstToken,
                limit,
            })??;
        let told = told.ok_or(BackendError::Unreadable)?;
        let list: Listed = serde_json::from_slice(&told).map_err(|_| self.link.other_program())?;
        let mut kind = None;
        let offered = list.data.into_iter().take(MODELS).filter_map(|model| {
            if model.id.is_empty() || model.id.len() > NAME || model.id.contains(char::is_control) {
                return None;
            }
            if let (None, Some(owner)) = (&kind, &model.owned_by) {
                kind = Some(
                    owner
                        .chars()
                        .filter(|c| c.is_ascii_graphic())
                        .take(40)
                        .collect(),
                );
            }
            Some(model.offered())
        });
        let offered: Vec<Offered> = offered.collect();
        *self.kind.lock() = kind.unwrap_or_default();
        let told = offered.iter().filter(|model| model.context_length > 0);
        let contexts = told.map(|model| (model.name.clone(), model.context_length));
        *self.contexts.lock() = contexts.collect();
        Ok(offered)
    }

    async fn generate(
        &self,
        _asker: &Asker,
        model: &str,
        question: &v1::Generate,
        items: mpsc::Sender<Item>,
    ) -> Result<v1::GeneratedEnd, BackendError> {
        let begun = Instant::now();
        let limit = self.link.limits.first_token;
        let known = self.contexts.lock().get(model).copied();
        let context = context_limit(question, known.unwrap_or(u32::MAX));
        let fixed = request::fixed(question);
        let choose = |context, leave_out| {
            self.budget
                .choose(model, question, fixed, context, leave_out)
        };
        let mut leave_out = 0;
        loop {
            // What must not be left out is the server's to judge: it counts, here it is reckoned.
            let chosen = choose(context, leave_out)
                .or_else(|| choose(u32::MAX, u32::MAX))
                .unwrap_or_default();
            let mut first = None;
            let told = async {
                let asked = self.ask_chat(model, question, &chosen.turns);
                let answered = timeout_at(begun + limit, asked).await;
                let answered = answered.map_err(|_| BackendError::TimedOut {
                    waited_for: Wait::FirstToken,
                    limit,
                })??;
                self.stream(answered, begun, &mut first, &items).await
            };
            let told = told.await;
            match (told, chosen.fewer) {
                (Err(BackendError::TooLong), Some(fewer)) if first.is_none() => leave_out = fewer,
                (Err(error), _) => return Err(error),
                (Ok(end), _) => {
                    self.budget.learn(model, chosen.bytes, end.prompt_tokens);
                    return Ok(v1::GeneratedEnd {
                        dropped_turns: chosen.dropped,
                        ..end
                    });
                }
            }
        }
    }

    async fn embed(
        &self,
        _asker: &Asker,
        model: &str,
        texts: &[String],
    ) -> Result<Embedded, BackendError> {
        let limit = self.link.limits.first_token;
        let mut embedded = Embedded::default();
        for batch in texts.chunks(BATCH) {
            let got = timeout(limit, self.embed_batch(model, batch)).await;
            let (vectors, tokens) = got.map_err(|_| BackendError::TimedOut {
                waited_for: Wait::FirstToken,
                limit,
            })??;
            embedded.vectors.extend(vectors);
            embedded.tokens = embedded.tokens.saturating_add(tokens);
        }
        let mut lengths = embedded.vectors.iter().map(Vec::len);
        let first = lengths.next();
        match lengths.all(|length| Some(length) == first) {
            true => Ok(embedded),
            false => Err(BackendError::Unreadable),
        }
    }

    /// The server holds its models by itself.
    async fn unload(&self, _model: &str) -> Result<(), BackendError> {
        Ok(())
    }
}

/// The body of an answer, with the limits of time on what comes of it.
struct Body {
    answered: Answered,
    waited_for: Wait,
    limit: Duration,
    until: Instant,
}

impl Body {
    /// Something of the answer came; comments that keep a connection alive do not count.
    fn came(&mut self, limits: &Limits) {
        self.waited_for = Wait::NextToken;
        self.limit = limits.next_token;
        self.until = Instant::now() + self.limit;
    }

    async fn next(&mut self) -> Result<Option<hyper::body::Bytes>, BackendError> {
        loop {
            let frame = timeout_at(self.until, self.answered.response.body_mut().frame()).await;
            let frame = frame.map_err(|_| BackendError::TimedOut {
                waited_for: self.waited_for,
                limit: self.limit,
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(BackendError::CutOff),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Kind {
    Stream,
    Json,
    Other,
}

fn kind(answered: &Answered) -> Kind {
    let named = answered.response.headers().get(header::CONTENT_TYPE);
    let named = named.and_then(|value| value.to_str().ok()).unwrap_or("");
    match named.split(';').next().unwrap_or("").trim() {
        "text/event-stream" => Kind::Stream,
        "application/json" => Kind::Json,
        _ => Kind::Other,
    }
}

/// `false`: nobody takes them any more.
async fn hand_on(ready: &mut Vec<Item>, items: &mpsc::Sender<Item>) -> bool {
    for item in ready.drain(..) {
        if items.send(item).await.is_err() {
            return false;
        }
    }
    true
}

fn cancelled(end: v1::GeneratedEnd) -> v1::GeneratedEnd {
    v1::GeneratedEnd {
        reason: Reason::Cancelled.into(),
        ..end
    }
}

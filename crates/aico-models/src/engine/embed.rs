//! Vectors of texts, from GGUF files that say how: the vectors of a text's tokens become one.
//!
//! One thread owns the context. Several texts are computed at once, as many as fit into a batch;
//! what is longer than the model reads is cut, and that is told.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use tokio::sync::oneshot;

use super::llama::{Gguf, backend};
use super::{EngineError, at_exit};

/// Tokens of a text that are read at most, whatever the model could.
const TEXT_LIMIT: u32 = 2048;
/// Tokens that are computed at once where a text need not be read in one step. For each of them
/// such a model has a number for each word that it knows, twice: gigabytes for a whole text.
const STEP_LIMIT: u32 = 256;
/// Texts in one batch.
const SEQUENCES: u32 = 32;
/// Questions that may wait.
const WAITING: usize = 16;

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first token's.
    First,
    /// The last token's.
    Last,
}

impl Pooling {
    /// As a file's metadata says. `None`: its vectors stand for no text.
    #[must_use]
    pub fn of_metadata(kind: Option<u32>, architecture: &str) -> Option<Self> {
        match kind {
            Some(1) => Some(Self::Mean),
            Some(2) => Some(Self::First),
            Some(3) => Some(Self::Last),
            // Encoders that do not say are pooled as sentence-transformers does by default.
            None | Some(0) if ENCODERS.contains(&architecture) => Some(Self::Mean),
            _ => None,
        }
    }
}

/// Architectures whose tokens see the whole text.
const ENCODERS: &[&str] = &[
    "bert",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
];

/// The vector of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Of length 1.
    pub vector: Vec<f32>,
    /// Tokens that were read.
    pub tokens: u32,
    /// Whether the text had more.
    pub truncated: bool,
}

/// Why there are no vectors.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The model makes none.
    #[error("the model makes no embeddings")]
    NotCapable,
    /// Too many questions wait.
    #[error("too many texts wait")]
    Busy,
    /// The engine failed.
    #[error("the texts can't be computed")]
    Failed,
}

struct Job {
    texts: Vec<String>,
    answer: oneshot::Sender<Result<Vec<Embedding>, EngineError>>,
}

/// The handle of the thread that computes. It ends when all handles are gone.
#[derive(Clone)]
pub struct Embedder {
    jobs: mpsc::SyncSender<Job>,
}

impl Embedder {
    /// Starts the thread and makes its context. `threads` 0: as the machine suggests.
    ///
    /// # Errors
    /// When the model makes no embeddings, or there is no memory for a context.
    pub fn start(model: Arc<Gguf>, threads: u32) -> Result<Self, EngineError> {
        let (jobs, inbox) = mpsc::sync_channel::<Job>(WAITING);
        let (opened, opening) = mpsc::channel();
        std::thread::Builder::new()
            .name("aico-embed".into())
            .spawn(move || match Context::open(&model, threads) {
                Ok(mut context) => {
                    let _starter_gone = opened.send(Ok(()));
                    while let Ok(job) = inbox.recv() {
                        let done = context.embed(&job.texts, || job.answer.is_closed());
                        let _asker_gone = job.answer.send(done);
                    }
                }
                Err(error) => {
                    let _starter_gone = opened.send(Err(error));
                }
            })
            .map_err(EngineError::Thread)?;
        opening.recv().map_err(|_| EngineError::Backend)??;
        Ok(Self { jobs })
    }

    /// The vectors of `texts`, in their order. Dropping the future ends the work after the batch
    /// that is running.
    ///
    /// # Errors
    /// When too many wait, or the engine fails.
    pub async fn embed(&self, texts: Vec<String>) -> Result<Vec<Embedding>, EmbedError> {
        let (answer, answered) = oneshot::channel();
        let job = Job { texts, answer };
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => EmbedError::Busy,
            mpsc::TrySendError::Disconnected(_) => EmbedError::Failed,
        })?;
        match answered.await {
            Ok(Ok(vectors)) => Ok(vectors),
            Ok(Err(_)) | Err(_) => Err(EmbedError::Failed),
        }
    }
}

/// A text, as tokens that fit.
struct Read {
    tokens: Vec<LlamaToken>,
    truncated: bool,
}

struct Context<'m> {
    model: &'m Gguf,
    inner: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    /// Tokens of a text, and of all texts that are computed together.
    limit: usize,
    /// Tokens that are computed at once.
    step: usize,
    /// What the tokenizer puts after every text.
    end: Option<LlamaToken>,
}

impl<'m> Context<'m> {
    fn open(model: &'m Gguf, threads: u32) -> Result<Self, EngineError> {
        let pooling = model.pooling().ok_or(EngineError::NoEmbeddings)?;
        let limit = model.trained_context().clamp(2, TEXT_LIMIT);
        // A token that sees what follows needs all of its text in one step, and so does a mean.
        // Where the last token sees all before it, the others are done with once they are read.
        let step = match pooling {
            Pooling::Last if model.is_causal() => limit.min(STEP_LIMIT),
            Pooling::Last | Pooling::Mean | Pooling::First => limit,
        };
        let pooling = match pooling {
            Pooling::Mean => LlamaPoolingType::Mean,
            Pooling::First => LlamaPoolingType::Cls,
            Pooling::Last => LlamaPoolingType::Last,
        };
        let threads = i32::try_from(model.threads(threads)).unwrap_or(1);
        let parameters = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(limit))
            .with_n_batch(step)
            .with_n_ubatch(step)
            .with_n_seq_max(SEQUENCES)
            .with_kv_unified(true)
            .with_embeddings(true)
            .with_pooling_type(pooling)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_no_perf(true);
        let inner = model
            .inner()
            .new_context(backend()?, parameters)
            .map_err(|_| EngineError::Context {
                context: limit,
                sequences: SEQUENCES,
            })?;
        let around = model.inner().vocab().tokenize(b"", true, false);
        Ok(Self {
            model,
            inner,
            batch: LlamaBatch::new(step as usize, 1),
            limit: limit as usize,
            step: step as usize,
            // One token alone stands before the text.
            end: around.get(1..).and_then(|rest| rest.last().copied()),
        })
    }

    fn read(&self, text: &str) -> Read {
        let vocab = self.model.inner().vocab();
        // A text that is far too long need not be read whole to know that it is cut.
        let longest = self.model.longest_piece().saturating_mul(self.limit + 1);
        let (text, cut) = match text.len() > longest {
            true => (&text[..text.floor_char_boundary(longest)], true),
            false => (text, false),
        };
        // What a person wrote stands for no control token.
        let mut tokens = vocab.tokenize(text.as_bytes(), true, false);
        let truncated = cut || tokens.len() > self.limit;
        if tokens.len() > self.limit {
            tokens.truncate(self.limit);
            if let (Some(end), Some(last)) = (self.end, tokens.last_mut()) {
                *last = end;
            }
        }
        if tokens.is_empty() {
            // Nothing at all: the vector of a space, rather than none.
            tokens = vocab.tokenize(b" ", true, false);
        }
        Read { tokens, truncated }
    }

    fn embed(
        &mut self,
        texts: &[String],
        given_up: impl Fn() -> bool,
    ) -> Result<Vec<Embedding>, EngineError> {
        let mut done = Vec::with_capacity(texts.len());
        let mut waiting: Vec<Read> = Vec::new();
        for text in texts {
            if given_up() {
                return Ok(Vec::new());
            }
            let read = self.read(text);
            let held: usize = waiting.iter().map(|read| read.tokens.len()).sum();
            let full = waiting.len() >= SEQUENCES as usize || held + read.tokens.len() > self.limit;
            if full {
                self.compute(&mut waiting, &mut done)?;
            }
            waiting.push(read);
        }
        self.compute(&mut waiting, &mut done)?;
        Ok(done)
    }

    fn compute(
        &mut self,
        waiting: &mut Vec<Read>,
        done: &mut Vec<Embedding>,
    ) -> Result<(), EngineError> {
        let count: usize = waiting.iter().map(|read| read.tokens.len()).sum();
        let failed = |code| EngineError::Decode {
            tokens: count,
            code,
        };
        if waiting.is_empty() {
            return Ok(());
        }
        if waiting.iter().any(|read| read.tokens.is_empty()) {
            return Err(failed(i32::MIN));
        }
        if self.model.speaks() {
            self.inner.clear_kv_cache();
        }
        self.batch.clear();
        // Those whose last token is in the step that is being put together.
        let mut ended = Vec::new();
        let (mut added, mut end) = (0, 0);
        for (sequence, read) in (0..).zip(waiting.iter()) {
            end += read.tokens.len();
            for (position, token) in (0..).zip(&read.tokens) {
                self.batch
                    .add(*token, position, &[sequence], true)
                    .map_err(|_| failed(i32::MIN))?;
                added += 1;
                if added == end {
                    ended.push((sequence, read));
                }
                if added < count && added % self.step > 0 {
                    continue;
                }
                at_exit::compute(|| self.inner.decode(&mut self.batch))
                    .map_err(|_| failed(i32::MIN))?;
                self.batch.clear();
                for (sequence, read) in ended.drain(..) {
                    let vector = self.inner.embeddings_seq_ith(sequence);
                    let vector = vector.map_err(|_| failed(i32::MIN))?;
                    done.push(Embedding {
                        vector: unit(vector),
                        tokens: u32::try_from(read.tokens.len()).unwrap_or(u32::MAX),
                        truncated: read.truncated,
                    });
                }
            }
        }
        waiting.clear();
        Ok(())
    }
}

/// The same direction, of length 1.
fn unit(vector: &[f32]) -> Vec<f32> {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let length = square.sqrt();
    if length == 0.0 || !length.is_finite() {
        return vec![0.0; vector.len()];
    }
    vector
        .iter()
        .map(|x| (f64::from(*x) / length) as f32)
        .collect()
}

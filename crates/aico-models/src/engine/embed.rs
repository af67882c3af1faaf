//! Vectors of texts, from GGUF files that say how: the vectors of a text's tokens become one.
//!
//! One thread owns the context. Several texts are computed at once, as many as fit into a batch;
//! what is longer than the model reads is cut, and that is told. Between two batches of a question
//! the others have their turn, the more urgent first.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aico_contracts::ids::PersonId;
use aico_contracts::v1::Priority;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::llama::{Gguf, backend};
use super::{EngineError, at_exit};
use crate::batch::queue::{Queue, Waiting};

/// Tokens of a text that are read at most, whatever the model could.
const TEXT_LIMIT: u32 = 2048;
/// Tokens that are computed at once where a text need not be read in one step. For each of them
/// such a model has a number for each word that it knows, twice: gigabytes for a whole text.
const STEP_LIMIT: u32 = 256;
/// Texts in one batch.
const SEQUENCES: u32 = 32;
/// Questions that may wait.
pub(crate) const WAITING: usize = 128;

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

/// How the thread gets on, seen from outside: one that hangs could not be asked.
#[derive(Default)]
pub(crate) struct Progress(Mutex<Work>);

#[derive(Default)]
struct Work {
    /// What was given to the thread, and is not done yet.
    open: usize,
    /// When it last came on, or got something to do.
    moved: Option<Instant>,
}

impl Progress {
    /// Counts as something that the thread has to do until it is dropped: also where nobody waits
    /// for it any more.
    pub(crate) fn open(this: &Arc<Self>) -> Open {
        let mut work = this.0.lock();
        if work.open == 0 {
            work.moved = Some(Instant::now());
        }
        work.open += 1;
        Open(Arc::clone(this))
    }

    /// Whether there is something to do, and for so long nothing came of it.
    pub(crate) fn stands_still(&self, limit: Duration) -> bool {
        let work = self.0.lock();
        work.open > 0 && work.moved.is_some_and(|at| at.elapsed() >= limit)
    }

    fn moved(&self) {
        self.0.lock().moved = Some(Instant::now());
    }
}

/// See [`Progress::open`].
pub(crate) struct Open(Arc<Progress>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.lock().open -= 1;
    }
}

struct Job {
    texts: std::vec::IntoIter<String>,
    /// The next text, which did not fit into the batch before.
    next: Option<Read>,
    done: Vec<Embedding>,
    person: Option<PersonId>,
    priority: Priority,
    arrival: u64,
    /// Told when the first batch begins.
    begun: Option<oneshot::Sender<()>>,
    answer: oneshot::Sender<Result<Vec<Embedding>, EmbedError>>,
    open: Open,
}

impl Job {
    fn is_done(&self) -> bool {
        self.next.is_none() && self.texts.as_slice().is_empty()
    }
}

impl Waiting for Job {
    fn priority(&self) -> Priority {
        self.priority
    }
    fn person(&self) -> Option<PersonId> {
        self.person
    }
    fn arrival(&self) -> u64 {
        self.arrival
    }
    fn position(&mut self, _before: u32) {}
    /// What was computed of it would be lost.
    fn may_go(&self) -> bool {
        self.done.is_empty()
    }
}

/// The handle of the thread that computes. It ends when all handles are gone.
#[derive(Clone)]
pub struct Embedder {
    jobs: mpsc::SyncSender<Job>,
    progress: Arc<Progress>,
}

impl Embedder {
    /// Starts the thread and makes its context. `threads` 0: as the machine suggests.
    ///
    /// # Errors
    /// When the model makes no embeddings, or there is no memory for a context.
    pub fn start(model: Arc<Gguf>, threads: u32) -> Result<Self, EngineError> {
        Self::start_seen(model, threads, Arc::default())
    }

    /// Does so, and `progress` tells how the thread gets on: from making its context on.
    pub(crate) fn start_seen(
        model: Arc<Gguf>,
        threads: u32,
        progress: Arc<Progress>,
    ) -> Result<Self, EngineError> {
        let unopened = Progress::open(&progress);
        let seen = Arc::clone(&progress);
        let (jobs, inbox) = mpsc::sync_channel::<Job>(WAITING);
        let (opened, opening) = mpsc::channel();
        std::thread::Builder::new()
            .name("aico-embed".into())
            .spawn(move || match Context::open(&model, threads, seen) {
                Ok(mut context) => {
                    drop(unopened);
                    let _starter_gone = opened.send(Ok(()));
                    work(&inbox, |job| context.step(job));
                }
                Err(error) => {
                    let _starter_gone = opened.send(Err(error));
                }
            })
            .map_err(EngineError::Thread)?;
        opening.recv().map_err(|_| EngineError::Backend)??;
        Ok(Self { jobs, progress })
    }

    /// The vectors of `texts`, in their order, for this person, or for nobody. `begun` is told when
    /// they have waited long enough. Dropping the future ends the work after the batch that is
    /// running.
    ///
    /// # Errors
    /// When too many wait that come before it, or the engine fails.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        person: Option<PersonId>,
        priority: Priority,
        begun: oneshot::Sender<()>,
    ) -> Result<Vec<Embedding>, EmbedError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            texts: texts.into_iter(),
            next: None,
            done: Vec::new(),
            person,
            priority,
            arrival: 0,
            begun: Some(begun),
            answer,
            open: Progress::open(&self.progress),
        };
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => EmbedError::Busy,
            mpsc::TrySendError::Disconnected(_) => EmbedError::Failed,
        })?;
        answered.await.unwrap_or(Err(EmbedError::Failed))
    }
}

/// Answers until all handles are gone. `step` computes the next batch of a question.
fn work(inbox: &mpsc::Receiver<Job>, mut step: impl FnMut(&mut Job) -> Result<(), EngineError>) {
    let mut queue = Queue::new();
    // One batch is computed at a time: nobody has more running than others.
    let running = HashMap::new();
    let mut arrivals = 0;
    let mut arrive = move |mut job: Job| {
        arrivals += 1;
        job.arrival = arrivals;
        job
    };
    loop {
        if queue.len() == 0 {
            let Ok(job) = inbox.recv() else { return };
            queue.push(arrive(job));
        }
        // What nobody waits for any more leaves before others are refused for it.
        queue.remove(|job| job.answer.is_closed());
        while let Ok(job) = inbox.try_recv() {
            if let Some(refused) = queue.admit(arrive(job), WAITING, &running) {
                let _asker_gone = refused.answer.send(Err(EmbedError::Busy));
            }
        }
        let Some(mut job) = queue.pop(&running) else {
            continue;
        };
        if job.answer.is_closed() {
            continue;
        }
        job.open.0.moved();
        if let Some(begun) = job.begun.take() {
            let _nobody_minds = begun.send(());
        }
        match step(&mut job) {
            Ok(()) if job.is_done() => {
                let _asker_gone = job.answer.send(Ok(job.done));
            }
            // Behind the others.
            Ok(()) => queue.push(arrive(job)),
            Err(_) => {
                let _asker_gone = job.answer.send(Err(EmbedError::Failed));
            }
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
    progress: Arc<Progress>,
}

impl<'m> Context<'m> {
    fn open(model: &'m Gguf, threads: u32, progress: Arc<Progress>) -> Result<Self, EngineError> {
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
        let mut inner = model
            .inner()
            .new_context(backend()?, parameters)
            .map_err(|_| EngineError::Context {
                context: limit,
                sequences: SEQUENCES,
            })?;
        model.put_on(&mut inner)?;
        let around = model.inner().vocab().tokenize(b"", true, false);
        Ok(Self {
            model,
            inner,
            batch: LlamaBatch::new(step as usize, 1),
            limit: limit as usize,
            step: step as usize,
            // One token alone stands before the text.
            end: around.get(1..).and_then(|rest| rest.last().copied()),
            progress,
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

    /// Computes the next batch of a question: as many of its texts as fit.
    fn step(&mut self, job: &mut Job) -> Result<(), EngineError> {
        let mut batch: Vec<Read> = Vec::new();
        let mut held = 0;
        while batch.len() < SEQUENCES as usize {
            let next = job.next.take();
            let next = next.or_else(|| job.texts.next().map(|text| self.read(&text)));
            let Some(read) = next else { break };
            if !batch.is_empty() && held + read.tokens.len() > self.limit {
                job.next = Some(read);
                break;
            }
            held += read.tokens.len();
            batch.push(read);
        }
        self.compute(&batch, &mut job.done)
    }

    fn compute(&mut self, waiting: &[Read], done: &mut Vec<Embedding>) -> Result<(), EngineError> {
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
                self.progress.moved();
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

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<Vec<Embedding>, EmbedError>>;

    fn job(texts: &[&str], priority: Priority) -> (Job, Answer) {
        let (answer, answered) = oneshot::channel();
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let job = Job {
            texts: texts.into_iter(),
            next: None,
            done: Vec::new(),
            person: None,
            priority,
            arrival: 0,
            begun: None,
            answer,
            open: Progress::open(&Arc::default()),
        };
        (job, answered)
    }

    /// Computes one text, and notes it.
    fn note(job: &mut Job, seen: &mut Vec<String>) {
        if let Some(text) = job.texts.next() {
            seen.push(text);
            job.done.push(Embedding {
                vector: vec![1.0],
                tokens: 1,
                truncated: false,
            });
        }
    }

    #[test]
    fn between_two_batches_the_more_urgent_goes_first() {
        let (jobs, inbox) = mpsc::sync_channel(WAITING);
        let (background, mut slow) = job(&["a1", "a2", "a3"], Priority::Background);
        let (other, mut beside) = job(&["b1", "b2"], Priority::Background);
        let (urgent, mut quick) = job(&["u1", "u2"], Priority::Interactive);
        let (cancelled, gone) = job(&["c1"], Priority::Interactive);
        jobs.send(background).unwrap();
        // They come while the first batch is computed.
        let mut later = Some((jobs, [other, urgent, cancelled]));
        let mut gone = Some(gone);
        let mut seen = Vec::new();
        work(&inbox, |job| {
            note(job, &mut seen);
            gone.take();
            if let Some((jobs, all)) = later.take() {
                for job in all {
                    jobs.send(job).unwrap();
                }
            }
            Ok(())
        });
        assert_eq!(seen, ["a1", "u1", "u2", "a2", "b1", "a3", "b2"]);
        for (answer, count) in [(&mut slow, 3), (&mut beside, 2), (&mut quick, 2)] {
            assert_eq!(answer.try_recv().unwrap().unwrap().len(), count);
        }
    }

    #[test]
    fn what_is_with_the_thread_counts_until_it_is_done_and_each_batch_is_progress() {
        let progress = Arc::<Progress>::default();
        let (none, long) = (Duration::ZERO, Duration::from_secs(30));
        assert!(!progress.stands_still(none), "nothing is asked of it");
        let (jobs, inbox) = mpsc::sync_channel(WAITING);
        let (mut first, gone) = job(&["a1", "a2"], Priority::Normal);
        first.open = Progress::open(&progress);
        jobs.send(first).unwrap();
        drop(gone);
        assert!(progress.stands_still(none), "the thread still has it");
        assert!(!progress.stands_still(long));
        // One that was begun long ago, in batches that each came on.
        let (mut second, _answered) = job(&["b1", "b2", "b3"], Priority::Normal);
        second.open = Progress::open(&progress);
        jobs.send(second).unwrap();
        drop(jobs);
        work(&inbox, |job| {
            assert!(!progress.stands_still(long), "it has just come on");
            note(job, &mut Vec::new());
            progress.0.lock().moved = Instant::now().checked_sub(2 * long);
            assert!(progress.stands_still(long));
            Ok(())
        });
        assert!(!progress.stands_still(none));
    }

    #[test]
    fn in_a_full_queue_the_urgent_takes_the_place_of_who_came_last() {
        let (jobs, inbox) = mpsc::sync_channel(2 * WAITING);
        let mut answers: Vec<Answer> = Vec::new();
        for _ in 0..WAITING {
            let (job, answered) = job(&["x"], Priority::Background);
            jobs.send(job).unwrap();
            answers.push(answered);
        }
        let (job, mut urgent) = job(&["u"], Priority::Interactive);
        jobs.send(job).unwrap();
        drop(jobs);
        let mut seen = Vec::new();
        work(&inbox, |job| {
            note(job, &mut seen);
            Ok(())
        });
        assert_eq!((seen.len(), seen[0].as_str()), (WAITING, "u"));
        assert!(urgent.try_recv().unwrap().is_ok());
        let last = answers.pop().unwrap().try_recv().unwrap();
        assert!(matches!(last, Err(EmbedError::Busy)));
        let mut answered = answers.iter_mut().map(|answer| answer.try_recv().unwrap());
        assert!(answered.all(|answer| answer.is_ok()));
    }
}

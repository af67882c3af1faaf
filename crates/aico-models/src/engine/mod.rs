//! What runs a model: the seam between our batching loop and a native library.
//!
//! A [`Model`] is the loaded file: immutable, shared between threads, able to turn text into
//! tokens and back. An [`Engine`] is one context over it, owned by one thread, with a fixed
//! number of sequences. [`crate::batch`] drives any engine through these traits; the
//! implementation on llama.cpp is [`llama`].

mod at_exit;
pub mod embed;
pub mod llama;
mod native_log;

use std::path::PathBuf;

/// Whether this is one of the known reasons of [`EngineError::Load`], told by a process that may
/// say anything.
#[must_use]
pub fn known_reason(reason: &str) -> Option<&'static str> {
    native_log::known(reason)
}

/// Sets the native library up, once.
pub(crate) fn ready() -> Result<(), EngineError> {
    llama::backend().map(|_| ())
}

/// A token's number in the model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub i32);

/// Why an engine could not do its work. Holds no text of a conversation.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The native library could not be set up.
    #[error("the inference library can't be initialised")]
    Backend,
    /// The path can't be handed to the native library.
    #[error("the path {0:?} can't be used: it is not valid Unicode")]
    Path(PathBuf),
    /// The library refused the file.
    #[error("the model can't be loaded: {0}")]
    Load(&'static str),
    /// Whoever wanted it wants it no longer.
    #[error("the load was given up")]
    Unwanted,
    /// No memory for the context, or parameters that the model does not allow.
    #[error("no context of {context} tokens for {sequences} sequences can be made")]
    Context {
        /// Tokens per sequence.
        context: u32,
        /// Sequences at once.
        sequences: u32,
    },
    /// The library refused the adapter for a context.
    #[error("the adapter can't be put on the model")]
    Adapter,
    /// The model's vectors stand for no text.
    #[error("the model makes no embeddings")]
    NoEmbeddings,
    /// The thread of the engine can't be started.
    #[error("the engine's thread can't be started")]
    Thread(#[source] std::io::Error),
    /// One batch could not be computed.
    #[error("a batch of {tokens} tokens can't be computed (code {code})")]
    Decode {
        /// Tokens in the batch.
        tokens: usize,
        /// The library's own number.
        code: i32,
    },
}

/// How an engine is set up. Zero means "as the model and the machine suggest".
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// Threads that compute.
    pub threads: u32,
    /// Tokens of context for each sequence; never more than the model was trained for.
    pub context: u32,
    /// Sequences at once.
    pub sequences: u32,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            context: 0,
            sequences: DEFAULT_SEQUENCES,
        }
    }
}

/// Sequences that one context carries unless configured otherwise.
pub const DEFAULT_SEQUENCES: u32 = 4;
/// Tokens of context for each sequence where neither configuration nor model ask for less.
pub const DEFAULT_CONTEXT: u32 = 4096;

/// What a loaded model says of itself.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The template of its chat format, if the file has one.
    pub template: Option<String>,
    /// The text of its begin-of-sequence token, or nothing.
    pub begin_text: String,
    /// The text of its end-of-sequence token, or nothing.
    pub end_text: String,
    /// Tokens it was trained to attend to.
    pub trained_context: u32,
    /// Bytes of its longest token: `n` bytes of text are at least `n / longest_piece` tokens.
    pub longest_piece: usize,
}

/// Text to tokens and back. Shared between threads.
pub trait Vocabulary: Send + Sync + 'static {
    /// What the model says of itself.
    fn info(&self) -> &ModelInfo;
    /// The tokens of `text`, with the texts of control tokens read as those tokens. Adds
    /// nothing at either end.
    fn tokenize(&self, text: &str) -> Vec<Token>;
    /// Appends the bytes that `token` stands for; they need not be whole characters. Control
    /// tokens stand for nothing, but those around a model's thinking for `<think>`, `</think>`.
    fn piece(&self, token: Token, out: &mut Vec<u8>);
    /// Whether the model ends its turn with `token`.
    fn ends(&self, token: Token) -> bool;
    /// The token that every prompt begins with, if the model wants one.
    fn begin(&self) -> Option<Token>;
    /// The texts that [`Vocabulary::tokenize`] would read as control tokens.
    fn marks(&self) -> &[String];
    /// How many tokens there are: their numbers begin with 0.
    fn size(&self) -> usize;
    /// Whether `token` is a control token.
    fn is_control(&self, token: Token) -> bool;
    /// The one token that begins thinking, if there is such a one.
    fn opens_thinking(&self) -> Option<Token>;
    /// What a control token that belongs to the call of a tool stands for: [`Self::piece`] gives
    /// nothing for it.
    fn call_mark(&self, token: Token) -> Option<&'static str>;
}

/// A loaded model file.
pub trait Model: Vocabulary {
    /// A context over this model.
    type Engine<'m>: Engine
    where
        Self: 'm;

    /// Makes a context; called on the thread that will own it.
    ///
    /// # Errors
    /// When memory does not suffice or the library refuses the parameters.
    fn open(&self, config: &EngineConfig) -> Result<Self::Engine<'_>, EngineError>;
}

/// One token of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What is to be computed.
    pub token: Token,
    /// Its position in its sequence.
    pub position: usize,
    /// The sequence, below [`Engine::sequences`].
    pub sequence: usize,
    /// Whether a token will be sampled after this one.
    pub output: bool,
}

/// Computes batches over several sequences. Owned by one thread.
pub trait Engine {
    /// State of the choice of tokens for one answer.
    type Sampler;

    /// Sequences at once.
    fn sequences(&self) -> usize;
    /// Tokens that fit into one sequence.
    fn context_length(&self) -> usize;
    /// Most tokens in one batch.
    fn batch_limit(&self) -> usize;
    /// A sampler for one answer.
    fn sampler(&self, plan: &SamplingPlan) -> Self::Sampler;
    /// Computes a batch: the entries of one sequence stand in order and continue what the
    /// sequence holds. Sequences stand in ascending order: llama.cpp computes together only what
    /// follows one another, and each break costs a pass over all weights.
    ///
    /// # Errors
    /// When the library fails; what the sequences of the batch hold is then undefined.
    fn decode(&mut self, batch: &[Entry]) -> Result<(), EngineError>;
    /// Chooses a token after entry `index` of the last batch, which had `output` set.
    fn sample(&mut self, sampler: &mut Self::Sampler, index: usize) -> Token;
    /// Chooses as [`Engine::sample`] does, among the tokens that are `allowed`. `None`: there is
    /// none.
    fn sample_among(
        &mut self,
        sampler: &mut Self::Sampler,
        index: usize,
        allowed: &dyn Fn(Token) -> bool,
    ) -> Option<Token>;
    /// Keeps the first `length` tokens of a sequence and forgets the rest. Tells how many are
    /// really kept: some architectures can keep all or nothing, others not each beginning of what
    /// was [restored](Self::restore).
    fn keep(&mut self, sequence: usize, length: usize) -> usize;
    /// Whether what [`Engine::save`] gives of a sequence now can be [kept](Self::keep) to its first
    /// `length` tokens once it is restored.
    fn copies(&self, sequence: usize, length: usize) -> bool;
    /// Bytes that [`Engine::save`] would give now.
    fn state_size(&self, sequence: usize) -> usize;
    /// What the engine knows of a sequence, for [`Engine::restore`] of the same model, program and
    /// configuration. `None`: it can't tell, or there is no memory for it.
    fn save(&self, sequence: usize) -> Option<Vec<u8>>;
    /// Replaces a sequence by what was saved of one of `tokens` tokens. False: the state is none
    /// for this engine, and the sequence is empty.
    fn restore(&mut self, sequence: usize, state: &[u8], tokens: usize) -> bool;
}

/// How tokens are chosen, cleaned of values that make no sense.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingPlan {
    /// 0: always the likeliest.
    pub temperature: f32,
    /// 1: off.
    pub top_p: f32,
    /// 0: off.
    pub top_k: i32,
    /// 0: off.
    pub min_p: f32,
    /// 1: off. Looks at the answer only: a penalty on the prompt's words would punish
    /// remembering them.
    pub repeat_penalty: f32,
    /// Of the random choice.
    pub seed: u32,
}

impl SamplingPlan {
    /// From a request. Absent and senseless values switch a step off; seed 0 is drawn.
    #[must_use]
    pub fn from_request(sampling: &aico_contracts::v1::Sampling) -> Self {
        let within = |value: f32, low: f32, high: f32, off: f32| {
            if value.is_finite() && value > low && value <= high {
                value
            } else {
                off
            }
        };
        let seed = match sampling.seed {
            0 => uuid::Uuid::new_v4().as_fields().0,
            seed => seed,
        };
        Self {
            temperature: within(sampling.temperature, 0.0, 10.0, 0.0),
            top_p: within(sampling.top_p, 0.0, 1.0, 1.0),
            top_k: i32::try_from(sampling.top_k).unwrap_or(0),
            min_p: within(sampling.min_p, 0.0, 1.0, 0.0),
            repeat_penalty: within(sampling.repeat_penalty, 0.0, 10.0, 1.0),
            seed,
        }
    }
}

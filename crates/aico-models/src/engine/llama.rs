//! The embedded engine: GGUF files on llama.cpp, through `llama-cpp-2`.
//!
//! Each sequence has a cache of its own (not a unified one): attention then looks at its own
//! conversation only, which is both faster with several at once and the plainest way to keep
//! one person's tokens from another's.

use std::cell::Cell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::context::session::LlamaStateSeqFlags;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use parking_lot::Mutex;

use super::embed::Pooling;
use super::{
    DEFAULT_CONTEXT, Engine, EngineConfig, EngineError, Entry, Model, ModelInfo, SamplingPlan,
    Token, Vocabulary, at_exit, native_log,
};
use crate::calls;
use crate::text::{THINK_CLOSE, THINK_OPEN};

/// Most tokens in one batch; the loop chooses less when the machine is slow.
const BATCH: u32 = 512;
/// Weights in bytes below which one thread is faster than several that wait for each other after
/// each of a token's hundreds of small steps.
const ONE_THREAD: u64 = 16 << 20;
/// The library that computes: what another version saved of a sequence may mean something else. A
/// test holds it to the version that is built in.
pub const LIBRARY: &str = "llama-cpp-2 0.1.160";

/// How far back the repeat penalty looks.
const PENALTY_WINDOW: i32 = 64;

pub(super) fn backend() -> Result<&'static LlamaBackend, EngineError> {
    static BACKEND: OnceLock<Option<LlamaBackend>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            let backend = LlamaBackend::init().ok();
            native_log::install();
            backend
        })
        .as_ref()
        .ok_or(EngineError::Backend)
}

/// What of a model a graphics device computes.
#[derive(Debug, Clone, Copy)]
pub struct Layers {
    /// Its number in the library's list.
    pub device: usize,
    /// How many layers; more than there are: all.
    pub count: u32,
}

/// A GGUF file, loaded.
pub struct Gguf {
    model: LlamaModel,
    /// On every context. The library frees it with the model, and changes nothing of it when it puts
    /// it on, but wants it for itself then.
    adapter: Option<Mutex<LlamaLoraAdapter>>,
    info: ModelInfo,
    marks: Vec<String>,
    begin: Option<Token>,
    think: [Option<Token>; 2],
    /// Control tokens of tool calls, with what they stand for.
    calls: HashMap<i32, &'static str>,
}

impl Gguf {
    /// Maps the file and reads its vocabulary. It is computed on the processor.
    ///
    /// # Errors
    /// When the library can't be set up or refuses the file.
    pub fn load(path: &Path) -> Result<Self, EngineError> {
        Self::load_while(path, None, |_| true)
    }

    /// Does so while `wanted`, which is told how much of it is done: from 0 to 1. These layers a
    /// graphics device computes.
    ///
    /// # Errors
    /// As [`Gguf::load`], and [`EngineError::Unwanted`] once it said no.
    pub fn load_while(
        path: &Path,
        layers: Option<Layers>,
        mut wanted: impl FnMut(f32) -> bool + 'static,
    ) -> Result<Self, EngineError> {
        let backend = backend()?;
        if path.to_str().is_none() {
            return Err(EngineError::Path(path.to_owned()));
        }
        native_log::clear();
        let given_up = Rc::new(Cell::new(false));
        let noted = Rc::clone(&given_up);
        // One device, or none: left to itself the library takes all that it finds.
        let device = layers.map(|layers| layers.device);
        let parameters = LlamaModelParams::default()
            .with_n_gpu_layers(layers.map_or(0, |layers| layers.count))
            .with_devices(device.as_slice())
            .map_err(|_| EngineError::Backend)?
            .with_progress_callback(move |done| {
                let go_on = wanted(done);
                noted.set(!go_on);
                go_on
            });
        let model = LlamaModel::load_from_file(backend, path, &parameters).map_err(|_| {
            match given_up.get() {
                true => EngineError::Unwanted,
                false => EngineError::Load(native_log::reason()),
            }
        })?;
        let vocab = model.vocab();
        // The library aborts on a token that there is not; absent ones are negative.
        let text_of = |token: LlamaToken| {
            if token.0 < 0 {
                return String::new();
            }
            vocab
                .text(token)
                .map_or_else(String::new, |text| text.to_string_lossy().into_owned())
        };
        let mut marks = Vec::new();
        let mut calls = HashMap::new();
        let mut longest_piece = 1;
        let mut piece = Vec::new();
        for token in vocab.tokens() {
            piece.clear();
            vocab.token_to_piece_into(token, &mut piece, true, None);
            longest_piece = longest_piece.max(piece.len());
            if vocab.is_control(token) {
                let text = text_of(token);
                if let Some(mark) = calls::MARKS.iter().find(|mark| **mark == text) {
                    calls.insert(token.0, *mark);
                }
                if !text.is_empty() {
                    marks.push(text);
                }
            }
        }
        // Many files have these as words of their own, which the library finds in any text as well.
        for mark in calls::MARKS {
            let alone = vocab.tokenize(mark.as_bytes(), false, true);
            let known = marks.iter().any(|known| known == mark);
            if !known && matches!(alone.as_slice(), [only] if text_of(*only) == *mark) {
                marks.push((*mark).to_owned());
            }
        }
        // Longest first, so that a mark inside another one is met after it.
        marks.sort_by_key(|mark| std::cmp::Reverse(mark.len()));
        let think = [THINK_OPEN, THINK_CLOSE].map(|mark| {
            match vocab.tokenize(mark.as_bytes(), false, true).as_slice() {
                [only] if text_of(*only) == mark => Some(Token(only.0)),
                _ => None,
            }
        });
        let info = ModelInfo {
            template: model
                .chat_template(None)
                .ok()
                .and_then(|t| t.to_string().ok()),
            begin_text: text_of(vocab.bos()),
            end_text: text_of(vocab.eos()),
            trained_context: model.n_ctx_train(),
            longest_piece,
        };
        let bos = vocab.bos();
        let begin = (vocab.should_add_bos() && bos.0 >= 0).then_some(Token(bos.0));
        Ok(Self {
            info,
            marks,
            begin,
            think,
            calls,
            model,
            adapter: None,
        })
    }

    /// Puts an adapter (LoRA) on: each context that is made from now on computes with it, in all its
    /// sequences. What the library does not look at was checked before ([`crate::gguf::lora`]).
    ///
    /// # Errors
    /// When the library refuses the file.
    pub fn adapt(&mut self, path: &Path) -> Result<(), EngineError> {
        if path.to_str().is_none() {
            return Err(EngineError::Path(path.to_owned()));
        }
        native_log::clear();
        let adapter = self.model.lora_adapter_init(path);
        let adapter = adapter.map_err(|_| EngineError::Load(native_log::reason()))?;
        self.adapter = Some(Mutex::new(adapter));
        Ok(())
    }

    /// Puts the adapter on a new context, where there is one.
    pub(super) fn put_on(&self, context: &mut LlamaContext<'_>) -> Result<(), EngineError> {
        let Some(adapter) = &self.adapter else {
            return Ok(());
        };
        // Its own scale is in its file.
        context
            .lora_adapter_set(&mut adapter.lock(), 1.0)
            .map_err(|_| EngineError::Adapter)
    }

    /// Tokens of context that a sequence will have under `config`.
    #[must_use]
    pub fn context_for(&self, config: &EngineConfig) -> u32 {
        let wanted = if config.context == 0 {
            DEFAULT_CONTEXT
        } else {
            config.context
        };
        wanted.min(self.info.trained_context).max(16)
    }

    /// How its vectors become one of a text; `None`: they stand for none.
    #[must_use]
    pub fn pooling(&self) -> Option<Pooling> {
        let architecture = self.architecture();
        let key = format!("{architecture}.pooling_type");
        let kind = self.model.meta_val_str(&key).ok();
        Pooling::of_metadata(kind.and_then(|kind| kind.parse().ok()), &architecture)
    }

    /// Whether it goes on with a text; others only read.
    #[must_use]
    pub fn speaks(&self) -> bool {
        !crate::gguf::SPEECHLESS.contains(&self.architecture().as_str())
    }

    /// Whether its tokens see what stands before them alone.
    pub(super) fn is_causal(&self) -> bool {
        let key = format!("{}.attention.causal", self.architecture());
        let told = self.model.meta_val_str(&key);
        self.speaks() && !told.is_ok_and(|told| told == "false")
    }

    /// How many tokens those layers look back that do not look at all of them, where the file says so.
    fn window(&self) -> Option<usize> {
        let key = format!("{}.attention.sliding_window", self.architecture());
        let told = self.model.meta_val_str(&key).ok()?;
        told.parse().ok().filter(|window| *window > 0)
    }

    fn architecture(&self) -> String {
        self.model
            .meta_val_str("general.architecture")
            .unwrap_or_default()
    }

    pub(super) fn inner(&self) -> &LlamaModel {
        &self.model
    }

    pub(super) fn trained_context(&self) -> u32 {
        self.info.trained_context
    }

    pub(super) fn longest_piece(&self) -> usize {
        self.info.longest_piece
    }

    /// Threads that compute, where `wanted` are asked for; 0: as the machine suggests.
    pub(super) fn threads(&self, wanted: u32) -> u32 {
        let threads = match wanted {
            0 if self.model.size() < ONE_THREAD => 1,
            0 => crate::threads::physical(),
            wanted => wanted,
        };
        threads.clamp(1, 512)
    }
}

impl Vocabulary for Gguf {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenize(&self, text: &str) -> Vec<Token> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), false, true);
        tokens.into_iter().map(|token| Token(token.0)).collect()
    }

    fn piece(&self, token: Token, out: &mut Vec<u8>) {
        match self.think.iter().position(|think| *think == Some(token)) {
            Some(0) => out.extend_from_slice(THINK_OPEN.as_bytes()),
            Some(_) => out.extend_from_slice(THINK_CLOSE.as_bytes()),
            None => {
                self.model
                    .vocab()
                    .token_to_piece_into(LlamaToken(token.0), out, false, None);
            }
        }
    }

    fn ends(&self, token: Token) -> bool {
        self.model.vocab().is_eog(LlamaToken(token.0))
    }

    fn begin(&self) -> Option<Token> {
        self.begin
    }

    fn marks(&self) -> &[String] {
        &self.marks
    }

    fn size(&self) -> usize {
        usize::try_from(self.model.n_vocab()).unwrap_or(0)
    }

    fn is_control(&self, token: Token) -> bool {
        self.model.vocab().is_control(LlamaToken(token.0))
    }

    fn opens_thinking(&self) -> Option<Token> {
        self.think[0]
    }

    fn call_mark(&self, token: Token) -> Option<&'static str> {
        self.calls.get(&token.0).copied()
    }
}

impl Model for Gguf {
    type Engine<'m> = GgufEngine<'m>;

    fn open(&self, config: &EngineConfig) -> Result<GgufEngine<'_>, EngineError> {
        let context = self.context_for(config);
        let sequences = config.sequences.clamp(1, 64);
        let threads = i32::try_from(self.threads(config.threads)).unwrap_or(1);
        let parameters = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(context.saturating_mul(sequences)))
            .with_n_batch(BATCH)
            .with_n_ubatch(BATCH)
            .with_n_seq_max(sequences)
            .with_kv_unified(false)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_no_perf(true);
        let mut inner = self
            .model
            .new_context(backend()?, parameters)
            .map_err(|_| EngineError::Context { context, sequences })?;
        self.put_on(&mut inner)?;
        Ok(GgufEngine {
            inner,
            batch: LlamaBatch::new(BATCH as usize, 1),
            vocabulary: self.model.n_vocab(),
            context: context as usize,
            sequences: sequences as usize,
            window: self.window(),
        })
    }
}

/// A context of llama.cpp.
pub struct GgufEngine<'m> {
    inner: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    vocabulary: i32,
    context: usize,
    sequences: usize,
    window: Option<usize>,
}

/// Whether a sequence with the tokens from `first` to `last` can go on at `length`: with all that a
/// token there looks back at. The library saves of layers with a window only what the last token sees
/// through it, and does not notice when more is needed.
fn goes_on(first: usize, last: usize, window: Option<usize>, length: usize) -> bool {
    // It sees itself too.
    let seen = |window: usize| first.saturating_add(window) <= length + 1;
    first == 0 || length > last || window.is_some_and(seen)
}

/// The first token of a sequence from `first` to `last` that is there once it was saved and restored.
fn restored(first: usize, last: usize, window: Option<usize>) -> usize {
    window.map_or(first, |window| first.max((last + 1).saturating_sub(window)))
}

impl Engine for GgufEngine<'_> {
    type Sampler = LlamaSampler;

    fn sequences(&self) -> usize {
        self.sequences
    }

    fn context_length(&self) -> usize {
        self.context
    }

    fn batch_limit(&self) -> usize {
        BATCH as usize
    }

    fn sampler(&self, plan: &SamplingPlan) -> LlamaSampler {
        let mut steps = Vec::new();
        if plan.repeat_penalty != 1.0 {
            steps.push(LlamaSampler::penalties(
                self.vocabulary,
                PENALTY_WINDOW,
                plan.repeat_penalty,
                0.0,
                0.0,
            ));
        }
        if plan.temperature > 0.0 {
            if plan.top_k > 0 {
                steps.push(LlamaSampler::top_k(plan.top_k));
            }
            if plan.top_p < 1.0 {
                steps.push(LlamaSampler::top_p(plan.top_p, 1));
            }
            if plan.min_p > 0.0 {
                steps.push(LlamaSampler::min_p(plan.min_p, 1));
            }
            steps.push(LlamaSampler::temp(plan.temperature));
            steps.push(LlamaSampler::dist(plan.seed));
        } else {
            steps.push(LlamaSampler::greedy());
        }
        LlamaSampler::chain(steps, true)
    }

    fn decode(&mut self, batch: &[Entry]) -> Result<(), EngineError> {
        let failed = |code| EngineError::Decode {
            tokens: batch.len(),
            code,
        };
        self.batch.clear();
        for entry in batch {
            let position = i32::try_from(entry.position).map_err(|_| failed(i32::MIN))?;
            let sequence = i32::try_from(entry.sequence).map_err(|_| failed(i32::MIN))?;
            self.batch
                .add(
                    LlamaToken(entry.token.0),
                    position,
                    &[sequence],
                    entry.output,
                )
                .map_err(|_| failed(i32::MIN))?;
        }
        at_exit::compute(|| self.inner.decode(&mut self.batch)).map_err(|error| {
            failed(match error {
                DecodeError::NoKvCacheSlot => 1,
                DecodeError::NTokensZero => -1,
                DecodeError::Unknown(code) => code,
            })
        })
    }

    fn sample(&mut self, sampler: &mut LlamaSampler, index: usize) -> Token {
        Token(
            sampler
                .sample(&self.inner, i32::try_from(index).unwrap_or(-1))
                .0,
        )
    }

    fn sample_among(
        &mut self,
        sampler: &mut LlamaSampler,
        index: usize,
        allowed: &dyn Fn(Token) -> bool,
    ) -> Option<Token> {
        let index = i32::try_from(index).ok()?;
        let mut candidates = self.inner.token_data_array_ith(index);
        candidates.data.retain(|data| allowed(Token(data.id().0)));
        if candidates.data.is_empty() {
            return None;
        }
        candidates.apply_sampler(sampler);
        let chosen = candidates.selected_token()?;
        sampler.accept(chosen);
        Some(Token(chosen.0))
    }

    fn keep(&mut self, sequence: usize, length: usize) -> usize {
        let (Ok(id), Ok(from)) = (i32::try_from(sequence), u32::try_from(length)) else {
            return 0;
        };
        let at = |position: i32| usize::try_from(position).unwrap_or(0);
        let first = at(self.inner.kv_cache_seq_pos_min(id));
        let last = at(self.inner.kv_cache_seq_pos_max(id));
        if length > 0
            && goes_on(first, last, self.window, length)
            && self.inner.kv_cache_seq_rm(id, Some(from), None).is_ok()
        {
            return length;
        }
        // Removing a whole sequence never fails.
        let _whole = self.inner.kv_cache_seq_rm(id, None, None);
        0
    }

    fn copies(&self, sequence: usize, length: usize) -> bool {
        let Ok(id) = i32::try_from(sequence) else {
            return false;
        };
        let at = |position: i32| usize::try_from(position).unwrap_or(0);
        let last = at(self.inner.kv_cache_seq_pos_max(id));
        let first = restored(at(self.inner.kv_cache_seq_pos_min(id)), last, self.window);
        goes_on(first, last, self.window, length)
    }

    fn state_size(&self, sequence: usize) -> usize {
        let Ok(id) = i32::try_from(sequence) else {
            return 0;
        };
        self.inner
            .state_seq_get_size_ext(id, LlamaStateSeqFlags::empty())
    }

    fn save(&self, sequence: usize) -> Option<Vec<u8>> {
        let id = i32::try_from(sequence).ok()?;
        let size = self.state_size(sequence);
        let mut state = Vec::new();
        state.try_reserve_exact(size).ok()?;
        state.resize(size, 0_u8);
        // SAFETY: the buffer has the size that the library has just told, on the only thread that
        // changes the context.
        let written = unsafe {
            self.inner
                .state_seq_get_data_ext(state.as_mut_ptr(), id, LlamaStateSeqFlags::empty())
        };
        (written > 0 && written == size).then_some(state)
    }

    fn restore(&mut self, sequence: usize, state: &[u8], tokens: usize) -> bool {
        let (Ok(id), Ok(tokens)) = (i32::try_from(sequence), i32::try_from(tokens)) else {
            return false;
        };
        self.keep(sequence, 0);
        // SAFETY: the library reads within the slice and checks what it reads: the number of
        // cells, their type and their size have to be those of this context. What it can't use it
        // refuses. Only bytes that an equal engine of ours saved come here: straight from memory, or
        // from a file and authenticated since.
        let taken = unsafe {
            self.inner
                .state_seq_set_data_ext(state, id, LlamaStateSeqFlags::empty())
        };
        let whole = taken && self.inner.kv_cache_seq_pos_max(id) == tokens - 1;
        if !whole {
            self.keep(sequence, 0);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_whose_beginning_was_not_saved_is_cut_only_where_it_is_not_missed() {
        // All of it is there.
        assert!(goes_on(0, 999, Some(512), 10) && goes_on(0, 999, None, 10));
        // What was restored of a thousand tokens with a window of 512: from 488 on.
        assert!(goes_on(488, 999, Some(512), 1000) && goes_on(488, 999, Some(512), 999));
        assert!(!goes_on(488, 999, Some(512), 998) && !goes_on(488, 999, Some(512), 100));
        assert!(goes_on(488, 999, None, 1000), "nothing is cut");
        // It has gone on since.
        assert!(goes_on(488, 1999, Some(512), 1500) && !goes_on(488, 1999, None, 1500));
    }

    #[test]
    fn a_copy_is_cut_where_what_is_saved_of_the_sequence_suffices() {
        let copies =
            |last, window, length| goes_on(restored(0, last, window), last, window, length);
        assert!(copies(999, None, 10), "all of it is saved");
        assert!(copies(511, Some(512), 10), "it sees all of it");
        assert!(copies(999, Some(512), 1000) && copies(999, Some(512), 999));
        assert!(!copies(999, Some(512), 998) && !copies(999, Some(512), 100));
        assert_eq!(restored(700, 999, Some(512)), 700);
    }

    #[test]
    fn the_library_is_named_with_the_version_that_is_built_in() {
        let lock = include_str!("../../../../Cargo.lock");
        let (name, version) = LIBRARY.split_once(' ').unwrap();
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "{LIBRARY} is not in Cargo.lock");
    }
}

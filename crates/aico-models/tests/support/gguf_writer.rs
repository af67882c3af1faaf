//! Writes GGUF files with random weights: small ones for tests, large ones for benchmarks.
//!
//! Included by path from tests, benches and examples; each uses a part of it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// How the matrices are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    F32,
    F16,
    Q4_0,
}

/// A llama-architecture model.
#[derive(Clone)]
pub struct Shape {
    pub vocabulary: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub feed_forward: usize,
    pub context: usize,
    pub weights: Weights,
    pub template: Option<String>,
    /// Texts of the first tokens after the bytes, where they are wanted.
    pub words: &'static [&'static str],
    /// Whether it says nothing but these words.
    pub words_alone: bool,
    /// How its vectors become one, where the file says so.
    pub pooling: Option<u32>,
    pub seed: u64,
}

impl Shape {
    /// Loads in milliseconds.
    pub fn tiny() -> Self {
        Self {
            vocabulary: 300,
            width: 64,
            layers: 2,
            heads: 4,
            feed_forward: 128,
            context: 1024,
            weights: Weights::F32,
            template: None,
            words: &[],
            words_alone: false,
            pooling: None,
            seed: 1,
        }
    }

    /// 24 million parameters, for answers that can be stopped: they end only at their limit and
    /// take seconds until then, even on a fast machine. Few enough that one thread computes them,
    /// so that a busy machine is not many times slower.
    pub fn endless() -> Self {
        Self {
            vocabulary: 2000,
            width: 512,
            layers: 7,
            heads: 8,
            feed_forward: 1408,
            context: 4096,
            weights: Weights::Q4_0,
            template: None,
            words: &[],
            words_alone: false,
            pooling: None,
            seed: 11,
        }
    }

    /// Says nothing but calls of the tool `clock` when it is asked for the likeliest; `STOP` follows
    /// each, for a stop string.
    pub fn caller() -> Self {
        Self {
            vocabulary: CONTROLS + 256 + CALLS.len(),
            words: CALLS,
            words_alone: true,
            template: Some(CALLERS_TEMPLATE.to_owned()),
            ..Self::tiny()
        }
    }

    /// 2 billion parameters: 1.2 GB.
    pub fn huge() -> Self {
        Self {
            width: 2560,
            layers: 24,
            heads: 20,
            feed_forward: 6912,
            ..Self::large(Weights::Q4_0)
        }
    }

    /// 134 million parameters.
    pub fn large(weights: Weights) -> Self {
        Self {
            vocabulary: 32_000,
            width: 768,
            layers: 12,
            heads: 12,
            feed_forward: 2048,
            context: 2048,
            weights,
            template: None,
            words: &[],
            words_alone: false,
            pooling: None,
            seed: 7,
        }
    }
}

/// Chance chooses among ways to write one call.
const CALLS: &[&str] = &[
    "<tool_call>{\"name\": \"clock\", \"arguments\": {\"zone\": \"UTC\"}}</tool_call>STOP",
    "<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"zone\": \"UTC\"}}\n</tool_call>STOP",
    "<tool_call>{\"name\":\"clock\",\"arguments\":{\"zone\":\"UTC\"}}</tool_call>STOP",
    "<tool_call> {\"name\": \"clock\", \"arguments\": {\"zone\": \"UTC\"}} </tool_call>STOP",
    "<tool_call>{\"arguments\": {\"zone\": \"UTC\"}, \"name\": \"clock\"}</tool_call>STOP",
    "<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"zone\":\"UTC\"}}\n</tool_call>STOP",
    "<tool_call>{\"name\": \"clock\",\n\"arguments\": {\"zone\": \"UTC\"}}</tool_call>STOP",
    "\n<tool_call>{\"name\": \"clock\", \"arguments\": {\"zone\": \"UTC\"}}</tool_call>STOP",
];

const CALLERS_TEMPLATE: &str = "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}\
    {% endfor %}</tools>{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>\
    {{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}\
    <|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}\
    <think>\n\n</think>\n\n{% endif %}";

/// Tokens of every model: the control tokens, then 256 bytes, then fillers.
pub const IM_START: i32 = 0;
pub const IM_END: i32 = 1;
pub const CONTROLS: usize = 2;

/// Entries and tensors' heads, as bytes. Also used to forge broken ones.
#[derive(Default, Clone)]
pub struct Head {
    pub entries: Vec<u8>,
    pub entry_count: u64,
    pub tensors: Vec<u8>,
    pub tensor_count: u64,
    pub offset: u64,
}

impl Head {
    pub fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        push_text(&mut self.entries, value.as_bytes());
    }

    pub fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.entries.extend(value.to_le_bytes());
    }

    pub fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.entries.extend(value.to_le_bytes());
    }

    pub fn flag(&mut self, key: &str, value: bool) {
        self.key(key, 7);
        self.entries.push(u8::from(value));
    }

    pub fn texts(&mut self, key: &str, values: &[String]) {
        self.key(key, 9);
        self.entries.extend(8_u32.to_le_bytes());
        self.entries.extend((values.len() as u64).to_le_bytes());
        for value in values {
            push_text(&mut self.entries, value.as_bytes());
        }
    }

    pub fn numbers(&mut self, key: &str, values: &[i32]) {
        self.key(key, 9);
        self.entries.extend(5_u32.to_le_bytes());
        self.entries.extend((values.len() as u64).to_le_bytes());
        for value in values {
            self.entries.extend(value.to_le_bytes());
        }
    }

    pub fn key(&mut self, key: &str, kind: u32) {
        push_text(&mut self.entries, key.as_bytes());
        self.entries.extend(kind.to_le_bytes());
        self.entry_count += 1;
    }

    pub fn tensor(&mut self, name: &str, shape: &[u64], kind: u32, bytes: u64) {
        let offset = self.offset;
        self.tensor_at(name, shape, kind, offset);
        self.offset += bytes.next_multiple_of(32);
    }

    pub fn tensor_at(&mut self, name: &str, shape: &[u64], kind: u32, offset: u64) {
        push_text(&mut self.tensors, name.as_bytes());
        self.tensors.extend((shape.len() as u32).to_le_bytes());
        for size in shape {
            self.tensors.extend(size.to_le_bytes());
        }
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
    }

    /// Everything before the data, padded.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.entry_count.to_le_bytes());
        bytes.extend(&self.entries);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text);
}

/// GPT-2's printable stand-ins for bytes.
fn byte_characters() -> Vec<char> {
    let plain = |byte: u32| {
        (33..=126).contains(&byte) || (161..=172).contains(&byte) || (174..=255).contains(&byte)
    };
    let mut next = 256;
    (0..256_u32)
        .map(|byte| {
            let code = if plain(byte) {
                byte
            } else {
                next += 1;
                next - 1
            };
            char::from_u32(code).unwrap()
        })
        .collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From -1 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}

/// Half precision of a small normal number.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    if exponent <= 0 {
        return sign as u16;
    }
    (sign | ((exponent as u32) << 10) | ((bits >> 13) & 0x3ff)) as u16
}

struct Tensor {
    name: String,
    shape: Vec<u64>,
    kind: u32,
    bytes: u64,
    /// Rows that are all zero, from the first.
    zero_rows: u64,
    scale: f32,
}

/// As ggml numbers the type, and what a row takes.
fn stored(weights: Weights) -> (u32, fn(u64) -> u64) {
    match weights {
        Weights::F32 => (0, |n| n * 4),
        Weights::F16 => (1, |n| n * 2),
        Weights::Q4_0 => (2, |n| n / 32 * 18),
    }
}

/// An adapter (LoRA) of random weights.
#[derive(Clone)]
pub struct Lora {
    pub rank: usize,
    pub alpha: f32,
    /// How far it reaches; 0: it changes nothing.
    pub scale: f32,
    pub weights: Weights,
    pub seed: u64,
}

impl Lora {
    /// Changes what a model says beyond recognition.
    pub fn strong() -> Self {
        Self {
            rank: 4,
            alpha: 8.0,
            scale: 1.0,
            weights: Weights::F32,
            seed: 5,
        }
    }
}

fn lora_tensors(shape: &Shape, lora: &Lora) -> Vec<Tensor> {
    let (kind, per_row) = stored(lora.weights);
    let (width, forward) = (shape.width, shape.feed_forward);
    let mut all = Vec::new();
    for layer in 0..shape.layers {
        for (part, columns, rows) in [
            ("attn_q", width, width),
            ("attn_v", width, width),
            ("ffn_down", forward, width),
        ] {
            let mut half = |name: &str, columns: usize, rows: usize, scale: f32| {
                let (columns, rows) = (columns as u64, rows as u64);
                all.push(Tensor {
                    name: format!("blk.{layer}.{part}.weight.{name}"),
                    shape: vec![columns, rows],
                    kind,
                    bytes: per_row(columns) * rows,
                    zero_rows: 0,
                    scale,
                });
            };
            half("lora_a", columns, lora.rank, 2.0 / (columns as f32).sqrt());
            half("lora_b", lora.rank, rows, lora.scale);
        }
    }
    all
}

/// The entries of an adapter, without tensors.
pub fn lora_entries() -> Head {
    let mut head = Head::default();
    head.text("general.type", "adapter");
    head.text("adapter.type", "lora");
    head.text("general.architecture", "llama");
    head
}

/// Writes a whole adapter for a model of this shape.
pub fn write_lora(path: &Path, shape: &Shape, lora: &Lora) {
    let mut head = lora_entries();
    head.float("adapter.lora.alpha", lora.alpha);
    let tensors = lora_tensors(shape, lora);
    for tensor in &tensors {
        head.tensor(&tensor.name, &tensor.shape, tensor.kind, tensor.bytes);
    }
    write_all(path, &head, &tensors, lora.seed);
}

fn tensors(shape: &Shape) -> Vec<Tensor> {
    let (kind, per_row) = stored(shape.weights);
    let mut all = Vec::new();
    let mut matrix = |name: String, columns: usize, rows: usize, zero_rows: u64, scale: f32| {
        let (columns, rows) = (columns as u64, rows as u64);
        let bytes = per_row(columns) * rows;
        all.push(Tensor {
            name,
            shape: vec![columns, rows],
            kind,
            bytes,
            zero_rows,
            scale,
        });
    };
    let (width, forward) = (shape.width, shape.feed_forward);
    let (by_width, by_forward) = (2.0 / (width as f32).sqrt(), 2.0 / (forward as f32).sqrt());
    matrix("token_embd.weight".into(), width, shape.vocabulary, 0, 1.0);
    // Zero logits for the control tokens: other ones win, and no answer ends by itself.
    matrix(
        "output.weight".into(),
        width,
        shape.vocabulary,
        match shape.words_alone {
            true => CONTROLS as u64 + 256,
            false => CONTROLS as u64,
        },
        3.0 * by_width,
    );
    for layer in 0..shape.layers {
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            matrix(
                format!("blk.{layer}.{part}.weight"),
                width,
                width,
                0,
                by_width,
            );
        }
        matrix(
            format!("blk.{layer}.ffn_gate.weight"),
            width,
            forward,
            0,
            by_width,
        );
        matrix(
            format!("blk.{layer}.ffn_up.weight"),
            width,
            forward,
            0,
            by_width,
        );
        matrix(
            format!("blk.{layer}.ffn_down.weight"),
            forward,
            width,
            0,
            by_forward,
        );
    }
    let norms = (0..shape.layers)
        .flat_map(|layer| {
            [
                format!("blk.{layer}.attn_norm.weight"),
                format!("blk.{layer}.ffn_norm.weight"),
            ]
        })
        .chain(["output_norm.weight".to_owned()]);
    for name in norms {
        let bytes = width as u64 * 4;
        all.push(Tensor {
            name,
            shape: vec![width as u64],
            kind: 0,
            bytes,
            zero_rows: 0,
            scale: 0.0,
        });
    }
    all
}

/// The head of a model of this shape.
pub fn head(shape: &Shape) -> Head {
    let mut head = Head::default();
    head.text("general.architecture", "llama");
    head.text("general.name", "Random");
    head.text("general.license", "CC0-1.0");
    head.number(
        "general.file_type",
        match shape.weights {
            Weights::F32 => 0,
            Weights::F16 => 1,
            Weights::Q4_0 => 2,
        },
    );
    head.number("llama.context_length", shape.context as u32);
    head.number("llama.embedding_length", shape.width as u32);
    head.number("llama.block_count", shape.layers as u32);
    head.number("llama.feed_forward_length", shape.feed_forward as u32);
    head.number("llama.attention.head_count", shape.heads as u32);
    head.number("llama.attention.head_count_kv", shape.heads as u32);
    head.number(
        "llama.rope.dimension_count",
        (shape.width / shape.heads) as u32,
    );
    head.float("llama.attention.layer_norm_rms_epsilon", 1e-5);
    head.number("llama.vocab_size", shape.vocabulary as u32);
    let mut tokens = vec!["<|im_start|>".to_owned(), "<|im_end|>".to_owned()];
    tokens.extend(byte_characters().into_iter().map(String::from));
    let mut kinds = vec![1; shape.vocabulary];
    kinds[..CONTROLS].fill(3);
    for (index, word) in shape.words.iter().enumerate() {
        // Defined by the user: read as one token, and text all the same.
        kinds[tokens.len() + index] = 4;
        assert!(!word.is_empty());
    }
    tokens.extend(shape.words.iter().map(ToString::to_string));
    let fillers = (tokens.len()..shape.vocabulary).map(|index| format!("w{index:05}"));
    tokens.extend(fillers);
    tokens.truncate(shape.vocabulary);
    head.text("tokenizer.ggml.model", "gpt2");
    head.text("tokenizer.ggml.pre", "default");
    head.texts("tokenizer.ggml.tokens", &tokens);
    head.numbers("tokenizer.ggml.token_type", &kinds);
    head.texts("tokenizer.ggml.merges", &["h e".to_owned()]);
    head.number("tokenizer.ggml.bos_token_id", IM_START as u32);
    head.number("tokenizer.ggml.eos_token_id", IM_END as u32);
    head.flag("tokenizer.ggml.add_bos_token", false);
    if let Some(pooling) = shape.pooling {
        head.number("llama.pooling_type", pooling);
    }
    if let Some(template) = &shape.template {
        head.text("tokenizer.chat_template", template);
    }
    for tensor in tensors(shape) {
        head.tensor(&tensor.name, &tensor.shape, tensor.kind, tensor.bytes);
    }
    head
}

/// Writes a whole model.
pub fn write(path: &Path, shape: &Shape) {
    write_all(path, &head(shape), &tensors(shape), shape.seed);
}

fn write_all(path: &Path, head: &Head, tensors: &[Tensor], seed: u64) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    out.write_all(&head.bytes()).unwrap();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for tensor in tensors {
        let columns = tensor.shape[0];
        let rows = tensor.shape.get(1).copied().unwrap_or(1);
        for row in 0..rows {
            let scale = if row < tensor.zero_rows {
                0.0
            } else {
                tensor.scale
            };
            write_row(&mut out, &mut random, tensor, columns, scale);
        }
        let padding = tensor.bytes.next_multiple_of(32) - tensor.bytes;
        out.write_all(&vec![0; padding as usize]).unwrap();
    }
    out.flush().unwrap();
}

fn write_row(out: &mut impl Write, random: &mut Random, tensor: &Tensor, columns: u64, scale: f32) {
    // Vectors are norms: all ones.
    let norm = tensor.shape.len() == 1;
    match tensor.kind {
        2 => {
            for _ in 0..columns / 32 {
                out.write_all(&half(scale / 8.0).to_le_bytes()).unwrap();
                out.write_all(&random.next().to_le_bytes()).unwrap();
                out.write_all(&random.next().to_le_bytes()).unwrap();
            }
        }
        1 => {
            for _ in 0..columns {
                out.write_all(&half(random.unit() * scale).to_le_bytes())
                    .unwrap();
            }
        }
        _ => {
            for _ in 0..columns {
                let value = if norm { 1.0 } else { random.unit() * scale };
                out.write_all(&value.to_le_bytes()).unwrap();
            }
        }
    }
}

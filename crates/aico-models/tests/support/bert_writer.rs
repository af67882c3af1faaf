//! Writes a tiny BERT with random weights, and computes what it says of a text by itself: the
//! reference that the engine is compared with.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use std::path::Path;

use super::gguf_writer::Head;

pub const WIDTH: usize = 32;
pub const HEADS: usize = 4;
pub const FORWARD: usize = 64;
pub const LAYERS: usize = 2;
pub const CONTEXT: usize = 64;
const CLS: usize = 2;
const SEP: usize = 3;
const EPSILON: f32 = 1e-12;

fn words() -> Vec<String> {
    let mut words: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(str::to_owned)
        .to_vec();
    words.extend(('a'..='z').map(|letter| format!("\u{2581}{letter}")));
    words.extend(('a'..='z').map(String::from));
    words
}

/// A matrix of so many columns, row after row; a vector has one row.
pub struct Matrix {
    name: String,
    columns: usize,
    values: Vec<f32>,
}

pub struct Bert {
    matrices: Vec<Matrix>,
    pooling: Option<u32>,
}

impl Bert {
    pub fn new(pooling: Option<u32>) -> Self {
        let mut seed = 0x1234_5678_9abc_def1_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        };
        let mut matrices = Vec::new();
        let mut add = |name: String, columns: usize, rows: usize, about: f32, scale: f32| {
            matrices.push(Matrix {
                name,
                columns,
                values: (0..columns * rows)
                    .map(|_| about + scale * random())
                    .collect(),
            });
        };
        add("token_embd.weight".into(), WIDTH, words().len(), 0.0, 1.0);
        add("token_types.weight".into(), WIDTH, 2, 0.0, 0.2);
        add("position_embd.weight".into(), WIDTH, CONTEXT, 0.0, 0.3);
        add("token_embd_norm.weight".into(), WIDTH, 1, 1.0, 0.2);
        add("token_embd_norm.bias".into(), WIDTH, 1, 0.0, 0.2);
        for layer in 0..LAYERS {
            for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                add(format!("blk.{layer}.{part}.weight"), WIDTH, WIDTH, 0.0, 0.3);
                add(format!("blk.{layer}.{part}.bias"), WIDTH, 1, 0.0, 0.1);
            }
            add(
                format!("blk.{layer}.ffn_up.weight"),
                WIDTH,
                FORWARD,
                0.0,
                0.3,
            );
            add(format!("blk.{layer}.ffn_up.bias"), FORWARD, 1, 0.0, 0.1);
            add(
                format!("blk.{layer}.ffn_down.weight"),
                FORWARD,
                WIDTH,
                0.0,
                0.3,
            );
            add(format!("blk.{layer}.ffn_down.bias"), WIDTH, 1, 0.0, 0.1);
            for part in ["attn_output_norm", "layer_output_norm"] {
                add(format!("blk.{layer}.{part}.weight"), WIDTH, 1, 1.0, 0.2);
                add(format!("blk.{layer}.{part}.bias"), WIDTH, 1, 0.0, 0.2);
            }
        }
        Self { matrices, pooling }
    }

    pub fn write(&self, path: &Path) {
        let mut head = Head::default();
        head.text("general.architecture", "bert");
        head.text("general.name", "Random BERT");
        head.number("general.file_type", 0);
        head.number("bert.context_length", CONTEXT as u32);
        head.number("bert.embedding_length", WIDTH as u32);
        head.number("bert.block_count", LAYERS as u32);
        head.number("bert.feed_forward_length", FORWARD as u32);
        head.number("bert.attention.head_count", HEADS as u32);
        head.float("bert.attention.layer_norm_epsilon", EPSILON);
        head.flag("bert.attention.causal", false);
        if let Some(pooling) = self.pooling {
            head.number("bert.pooling_type", pooling);
        }
        let words = words();
        head.text("tokenizer.ggml.model", "bert");
        head.text("tokenizer.ggml.pre", "default");
        let kinds: Vec<i32> = (0..words.len())
            .map(|id| if id < 5 { 3 } else { 1 })
            .collect();
        head.texts("tokenizer.ggml.tokens", &words);
        head.numbers("tokenizer.ggml.token_type", &kinds);
        head.number("tokenizer.ggml.token_type_count", 2);
        head.number("tokenizer.ggml.padding_token_id", 0);
        head.number("tokenizer.ggml.unknown_token_id", 1);
        head.number("tokenizer.ggml.bos_token_id", CLS as u32);
        head.number("tokenizer.ggml.cls_token_id", CLS as u32);
        head.number("tokenizer.ggml.seperator_token_id", SEP as u32);
        head.number("tokenizer.ggml.mask_token_id", 4);
        let mut data = Vec::new();
        for matrix in &self.matrices {
            let rows = matrix.values.len() / matrix.columns;
            let shape = match matrix.name.ends_with(".bias") || rows == 1 {
                true => vec![matrix.columns as u64],
                false => vec![matrix.columns as u64, rows as u64],
            };
            head.tensor(&matrix.name, &shape, 0, matrix.values.len() as u64 * 4);
            data.extend(matrix.values.iter().flat_map(|value| value.to_le_bytes()));
            data.resize(data.len().next_multiple_of(32), 0);
        }
        let mut bytes = head.bytes();
        bytes.extend(data);
        std::fs::write(path, bytes).unwrap();
    }

    fn matrix(&self, name: &str) -> &Matrix {
        self.matrices
            .iter()
            .find(|matrix| matrix.name == name)
            .unwrap()
    }

    fn row(&self, name: &str, row: usize) -> &[f32] {
        let matrix = self.matrix(name);
        &matrix.values[row * matrix.columns..(row + 1) * matrix.columns]
    }

    /// The vector of a text of small letters and spaces, of length 1.
    pub fn reference(&self, text: &str) -> Vec<f32> {
        let all = words();
        let id = |word: &str| all.iter().position(|known| known == word).unwrap();
        let mut tokens = vec![CLS];
        for word in text.split_whitespace() {
            let mut letters = word.chars();
            let first = letters.next().unwrap();
            tokens.push(id(&format!("\u{2581}{first}")));
            tokens.extend(letters.map(|letter| id(&letter.to_string())));
        }
        tokens.push(SEP);
        if tokens.len() > CONTEXT {
            tokens.truncate(CONTEXT - 1);
            tokens.push(SEP);
        }
        let mut state: Vec<Vec<f32>> = tokens
            .iter()
            .enumerate()
            .map(|(position, token)| {
                let parts = [
                    self.row("token_embd.weight", *token),
                    self.row("token_types.weight", 0),
                    self.row("position_embd.weight", position),
                ];
                let sum: Vec<f32> = (0..WIDTH)
                    .map(|i| parts.iter().map(|part| part[i]).sum())
                    .collect();
                self.norm(&sum, "token_embd_norm")
            })
            .collect();
        for layer in 0..LAYERS {
            state = self.layer(layer, &state);
        }
        let pooled: Vec<f32> = match self.pooling {
            Some(2) => state[0].clone(),
            Some(3) => state[state.len() - 1].clone(),
            _ => (0..WIDTH)
                .map(|i| state.iter().map(|row| row[i]).sum::<f32>() / state.len() as f32)
                .collect(),
        };
        let length = pooled.iter().map(|x| x * x).sum::<f32>().sqrt();
        pooled.iter().map(|x| x / length).collect()
    }

    fn layer(&self, layer: usize, state: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let of = |part: &str| format!("blk.{layer}.{part}");
        let each = |part: &str| -> Vec<Vec<f32>> {
            state
                .iter()
                .map(|row| self.linear(row, &of(part)))
                .collect()
        };
        let (queries, keys, values) = (each("attn_q"), each("attn_k"), each("attn_v"));
        let size = WIDTH / HEADS;
        let attended = queries.iter().map(|query| {
            let mut out = vec![0.0; WIDTH];
            for head in 0..HEADS {
                let range = head * size..(head + 1) * size;
                let scores: Vec<f32> = keys
                    .iter()
                    .map(|key| {
                        dot(&query[range.clone()], &key[range.clone()]) / (size as f32).sqrt()
                    })
                    .collect();
                let most = scores.iter().copied().fold(f32::MIN, f32::max);
                let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
                let all: f32 = weights.iter().sum();
                for (weight, value) in weights.iter().zip(&values) {
                    for i in range.clone() {
                        out[i] += weight / all * value[i];
                    }
                }
            }
            out
        });
        attended
            .zip(state)
            .map(|(attended, before)| {
                let out = self.linear(&attended, &of("attn_output"));
                let first = self.norm(&sum(&out, before), &of("attn_output_norm"));
                let up: Vec<f32> = self
                    .linear(&first, &of("ffn_up"))
                    .into_iter()
                    .map(gelu)
                    .collect();
                let down = self.linear(&up, &of("ffn_down"));
                self.norm(&sum(&down, &first), &of("layer_output_norm"))
            })
            .collect()
    }

    fn linear(&self, input: &[f32], name: &str) -> Vec<f32> {
        let weight = self.matrix(&format!("{name}.weight"));
        let bias = &self.matrix(&format!("{name}.bias")).values;
        let rows = weight.values.chunks(weight.columns);
        rows.zip(bias)
            .map(|(row, bias)| dot(row, input) + bias)
            .collect()
    }

    fn norm(&self, input: &[f32], name: &str) -> Vec<f32> {
        let count = input.len() as f32;
        let mean = input.iter().sum::<f32>() / count;
        let variance = input.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
        let weight = &self.matrix(&format!("{name}.weight")).values;
        let bias = &self.matrix(&format!("{name}.bias")).values;
        input
            .iter()
            .zip(weight.iter().zip(bias))
            .map(|(x, (weight, bias))| (x - mean) / (variance + EPSILON).sqrt() * weight + bias)
            .collect()
    }
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

fn sum(one: &[f32], other: &[f32]) -> Vec<f32> {
    one.iter().zip(other).map(|(a, b)| a + b).collect()
}

fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh())
}

//! What a GGUF file says of itself, read without the native library.
//!
//! The file is hostile input, so the daemon has it read by a confined process. Every count, length
//! and offset in it is checked against a limit and against the size of the file before it is used,
//! nothing is allocated by a number that it states, and its numbers are added with overflow in mind.
//! The checks follow llama.cpp's own reader, so that what passes here is not refused there for its
//! frame.
//!
//! Layout (little endian): `GGUF`, version u32 (2 or 3), number of tensors u64, number of
//! entries u64; entries of key, type u32, value; tensors of name, dimensions u32, sizes u64
//! each, type u32, offset u64; padding to `general.alignment`; data. Strings are a length u64
//! and bytes; arrays a type u32, a count u64 and values. Arrays of arrays do not occur.

pub mod lora;
mod reader;
mod tensor;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use reader::Reader;
pub use tensor::quantization;

/// Most entries and tensors; real files have a few hundred.
const ENTRIES_LIMIT: u64 = 8192;
const TENSORS_LIMIT: u64 = 1 << 17;
/// Longest key and name.
const NAME_LIMIT: u64 = 1024;
const TENSOR_NAME_LIMIT: u64 = 63;
/// Longest string value that is kept.
const KEPT_LIMIT: u64 = 512;
/// Longest chat template that is looked into.
const TEMPLATE_LIMIT: u64 = 1 << 20;
const TEMPLATE: &str = "tokenizer.chat_template";
/// Most bytes before the data: large vocabularies take some 20 MB.
const HEADER_LIMIT: u64 = 512 << 20;
const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_LIMIT: u64 = 1 << 16;

/// Why a file is not a usable model.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// It can't be read.
    #[error("the file can't be read")]
    Io(#[source] io::Error),
    /// It does not begin as a GGUF file does.
    #[error("the file is no GGUF file")]
    Magic,
    /// A version that llama.cpp does not read.
    #[error("GGUF version {0} is not supported")]
    Version(u32),
    /// It ends before what it announces.
    #[error("the file is cut short: {0} ends at byte {1}, beyond its end")]
    Cut(&'static str, u64),
    /// A number beyond any real model's.
    #[error("{0} is {1}, more than {2}")]
    Limit(&'static str, u64, u64),
    /// A value that can't be.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// One of several files of a model.
    #[error("the model is split into {0} files")]
    Split(u64),
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// `llama`, `qwen3`, ….
    pub architecture: String,
    /// Empty when it has none.
    pub name: String,
    /// Empty when it has none.
    pub license: String,
    /// Sum of all tensors' elements.
    pub parameters: u64,
    /// `Q4_0`, `F16`, …; empty when it does not say.
    pub quantization: String,
    /// Tokens that it was trained to attend to.
    pub context_length: u32,
    /// Whether it has a chat template.
    pub chat_template: bool,
    /// Whether that template speaks of tools.
    pub tools: bool,
    /// Whether that template speaks of thinking.
    pub thinking: bool,
    /// Whether it says how the vectors of its tokens become one of the text.
    pub pooling: bool,
    /// Bytes of the file.
    pub size: u64,
    /// Bytes that the keys and values of one token of context take at 16 bits each; 0: it
    /// does not say enough to know.
    pub bytes_per_token: u64,
}

/// Architectures that llama.cpp loads but that hold no conversation.
pub(crate) const SPEECHLESS: &[&str] = &[
    "bert",
    "clip",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "t5encoder",
    "wavtokenizer-dec",
];

impl Description {
    /// Reads the file's head.
    ///
    /// # Errors
    /// When it can't be read or is not a whole GGUF file.
    pub fn of_file(path: &Path) -> Result<Self, GgufError> {
        let (file, size) = opened(path)?;
        Self::read(file, size)
    }

    /// Reads the head of a file of `size` bytes.
    ///
    /// # Errors
    /// As [`Description::of_file`].
    pub fn read(input: impl Read, size: u64) -> Result<Self, GgufError> {
        let head = Head::read(input, size)?;
        describe(&head.entries, head.parameters, size)
    }

    /// Whether it can hold a conversation; others embed or classify.
    #[must_use]
    pub fn speaks(&self) -> bool {
        !SPEECHLESS.contains(&self.architecture.as_str())
    }
}

fn opened(path: &Path) -> Result<(BufReader<File>, u64), GgufError> {
    let file = File::open(path).map_err(GgufError::Io)?;
    let size = file.metadata().map_err(GgufError::Io)?.len();
    Ok((BufReader::with_capacity(1 << 16, file), size))
}

/// What stands before the data.
struct Head {
    entries: BTreeMap<String, Entry>,
    /// By their names.
    tensors: BTreeMap<String, Tensor>,
    /// Sum of all tensors' elements.
    parameters: u64,
}

/// What a file says of a tensor.
struct Tensor {
    /// How many along each dimension; 1 where there is none.
    sizes: [u64; 4],
    /// As ggml numbers them.
    kind: u32,
}

impl Head {
    fn read(input: impl Read, size: u64) -> Result<Self, GgufError> {
        let mut reader = Reader::new(input, size, HEADER_LIMIT);
        if reader
            .array::<4>("its beginning")
            .map_err(|error| match error {
                GgufError::Cut(..) => GgufError::Magic,
                other => other,
            })?
            != *b"GGUF"
        {
            return Err(GgufError::Magic);
        }
        let version = reader.u32("its version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensors = reader.u64("the number of tensors")?;
        let entries = reader.u64("the number of entries")?;
        limit("the number of tensors", tensors, TENSORS_LIMIT)?;
        limit("the number of entries", entries, ENTRIES_LIMIT)?;

        let entries = read_entries(&mut reader, entries)?;
        if let Some(Entry::Number(files)) = entries.get("split.count")
            && *files > 1
        {
            return Err(GgufError::Split(*files));
        }
        let alignment = match entries.get("general.alignment") {
            None => ALIGNMENT_DEFAULT,
            Some(Entry::Number(n)) if n.is_power_of_two() && *n <= ALIGNMENT_LIMIT => *n,
            Some(_) => return Err(GgufError::Invalid("the alignment")),
        };
        let (tensors, parameters, data) = read_tensors(&mut reader, tensors, alignment)?;
        let end = reader
            .position()
            .checked_next_multiple_of(alignment)
            .and_then(|begin| begin.checked_add(data))
            .ok_or(GgufError::Invalid("the size of the data"))?;
        if end > size {
            return Err(GgufError::Cut("the data", end));
        }
        Ok(Self {
            entries,
            tensors,
            parameters,
        })
    }
}

fn limit(what: &'static str, value: u64, most: u64) -> Result<(), GgufError> {
    if value > most {
        Err(GgufError::Limit(what, value, most))
    } else {
        Ok(())
    }
}

/// A value, as far as it is kept.
enum Entry {
    Number(u64),
    /// Of 32 bits.
    Real(f32),
    Text(String),
    /// Present; long or of a kind that is not needed.
    Other,
}

fn read_entries<R: Read>(
    reader: &mut Reader<R>,
    count: u64,
) -> Result<BTreeMap<String, Entry>, GgufError> {
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let key = reader
            .text("a key", NAME_LIMIT)?
            .ok_or(GgufError::Invalid("a key"))?;
        if key.is_empty() {
            return Err(GgufError::Invalid("a key"));
        }
        let kind = reader.u32("the type of an entry")?;
        let entry = match kind {
            ARRAY => read_array(reader)?,
            STRING => {
                let most = if key == TEMPLATE {
                    TEMPLATE_LIMIT
                } else {
                    KEPT_LIMIT
                };
                reader
                    .text_or_skip("a value", most)?
                    .map_or(Entry::Other, Entry::Text)
            }
            scalar => read_scalar(reader, scalar)?,
        };
        if entries.insert(key, entry).is_some() {
            return Err(GgufError::Invalid("a key that occurs twice"));
        }
    }
    Ok(entries)
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a scalar type.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn read_scalar<R: Read>(reader: &mut Reader<R>, kind: u32) -> Result<Entry, GgufError> {
    let width = width(kind).ok_or(GgufError::Invalid("the type of an entry"))?;
    let value = reader.number("a value", width)?;
    Ok(match kind {
        // Unsigned, and signed ones that are not negative.
        0 | 2 | 4 | 10 => Entry::Number(value),
        6 => u32::try_from(value).map_or(Entry::Other, |bits| Entry::Real(f32::from_bits(bits))),
        1 | 3 | 5 | 11 if value >> (width * 8 - 1) == 0 => Entry::Number(value),
        _ => Entry::Other,
    })
}

/// Of an array of numbers the largest is kept: some models state a count for each layer.
fn read_array<R: Read>(reader: &mut Reader<R>) -> Result<Entry, GgufError> {
    let kind = reader.u32("the type of an array")?;
    let count = reader.u64("the length of an array")?;
    if kind == STRING {
        // Each takes at least its length's 8 bytes.
        reader.within("an array", count.saturating_mul(8))?;
        for _ in 0..count {
            let length = reader.u64("a string of an array")?;
            reader.skip("a string of an array", length)?;
        }
        return Ok(Entry::Other);
    }
    let width = width(kind).ok_or(GgufError::Invalid("the type of an array"))?;
    let bytes = count.saturating_mul(width);
    if matches!(kind, 4 | 5) && count <= 1024 {
        reader.within("an array", bytes)?;
        let mut most = 0;
        for _ in 0..count {
            let value = reader.number("an array", width)?;
            if kind == 4 || value >> 31 == 0 {
                most = most.max(value);
            }
        }
        return Ok(Entry::Number(most));
    }
    reader.skip("an array", bytes)?;
    Ok(Entry::Other)
}

/// Reads all tensors' heads; tells the number of parameters and the bytes of the data too.
fn read_tensors<R: Read>(
    reader: &mut Reader<R>,
    count: u64,
    alignment: u64,
) -> Result<(BTreeMap<String, Tensor>, u64, u64), GgufError> {
    const SHAPE: GgufError = GgufError::Invalid("the shape of a tensor");
    // Name's length, dimensions, type and offset of each.
    reader.within("the tensors", count.saturating_mul(24))?;
    let mut tensors = BTreeMap::new();
    let (mut parameters, mut end, mut data) = (0_u64, 0_u64, 0_u64);
    for _ in 0..count {
        let name = reader
            .text("the name of a tensor", TENSOR_NAME_LIMIT)?
            .ok_or(GgufError::Invalid("the name of a tensor"))?;
        let dimensions = reader.u32("the dimensions of a tensor")?;
        if dimensions > 4 {
            return Err(GgufError::Limit(
                "a tensor's dimensions",
                dimensions.into(),
                4,
            ));
        }
        let (mut elements, mut sizes) = (1_u64, [1_u64; 4]);
        for (_, size) in (0..dimensions).zip(&mut sizes) {
            let length = reader.u64("the size of a tensor")?;
            *size = length;
            elements = elements
                .checked_mul(length)
                .filter(|&n| n >> 63 == 0)
                .ok_or(SHAPE)?;
        }
        let kind = reader.u32("the type of a tensor")?;
        let offset = reader.u64("the offset of a tensor")?;
        let (block, bytes) =
            tensor::block(kind).ok_or(GgufError::Invalid("the type of a tensor"))?;
        if sizes[0] % block != 0 {
            return Err(SHAPE);
        }
        // They follow each other without gaps, as llama.cpp demands.
        if offset != end {
            return Err(GgufError::Invalid("the offset of a tensor"));
        }
        let size = (elements / block).checked_mul(bytes).ok_or(SHAPE)?;
        // The last one's padding does not count: some writers leave it out.
        data = end.checked_add(size).ok_or(SHAPE)?;
        if data > reader.size() {
            return Err(GgufError::Cut("a tensor", data));
        }
        end = data.checked_next_multiple_of(alignment).ok_or(SHAPE)?;
        parameters = parameters.checked_add(elements).ok_or(SHAPE)?;
        if tensors.insert(name, Tensor { sizes, kind }).is_some() {
            return Err(GgufError::Invalid("a tensor that occurs twice"));
        }
    }
    Ok((tensors, parameters, data))
}

fn describe(
    entries: &BTreeMap<String, Entry>,
    parameters: u64,
    size: u64,
) -> Result<Description, GgufError> {
    let text = |key: &str| match entries.get(key) {
        Some(Entry::Text(text)) => presentable(text),
        _ => String::new(),
    };
    let architecture = text("general.architecture");
    if architecture.is_empty() {
        return Err(GgufError::Invalid("the architecture"));
    }
    let number = |key: &str| match entries.get(&format!("{architecture}.{key}")) {
        Some(Entry::Number(number)) => Some(*number),
        _ => None,
    };
    let quantization = match entries.get("general.file_type") {
        Some(Entry::Number(kind)) => tensor::quantization(*kind).to_owned(),
        _ => String::new(),
    };
    let layers = number("block_count");
    let heads = number("attention.head_count").filter(|&heads| heads > 0);
    let kv_heads = number("attention.head_count_kv").or(heads);
    let head = match (number("embedding_length"), heads) {
        (Some(embedding), Some(heads)) => Some(embedding / heads),
        _ => None,
    };
    let key = number("attention.key_length").or(head);
    let value = number("attention.value_length").or(head);
    let bytes_per_token = match (layers, kv_heads, key, value) {
        (Some(layers), Some(heads), Some(key), Some(value)) => layers
            .saturating_mul(heads)
            .saturating_mul(key.saturating_add(value))
            .saturating_mul(2),
        _ => 0,
    };
    let template = match entries.get(TEMPLATE) {
        Some(Entry::Text(template)) => template.as_str(),
        _ => "",
    };
    Ok(Description {
        tools: template.contains("tools"),
        // As the templates tell it; what fuzzes this file knows no others.
        thinking: ["<think>", "<|channel|>", "<|channel>"]
            .iter()
            .any(|mark| template.contains(mark)),
        pooling: number("pooling_type").is_some_and(|kind| (1..=3).contains(&kind)),
        name: text("general.name"),
        license: text("general.license"),
        parameters,
        quantization,
        context_length: number("context_length")
            .map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX)),
        chat_template: entries.contains_key(TEMPLATE),
        size,
        bytes_per_token,
        architecture,
    })
}

/// Characters that have a text shown otherwise than it stands: of control, and of direction.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// A text of the file as it may be shown: one line, bounded, without hidden characters.
pub(crate) fn presentable(text: &str) -> String {
    text.chars()
        .filter(|&c| !is_hidden(c))
        .take(128)
        .collect::<String>()
        .trim()
        .to_owned()
}

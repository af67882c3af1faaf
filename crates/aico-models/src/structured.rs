//! Answers that are bound to a form: any JSON object, or what a JSON schema describes.
//!
//! Before each token the grammar of the form tells which ones may follow, and the engine chooses
//! among these. So whatever the model is, what comes is the beginning of a valid answer, and a
//! whole one when the model ends it. The grammar is `llguidance`'s: it counts what it spends on
//! building and on each token, which llama.cpp's own does not, and a schema is hostile input.

use std::collections::VecDeque;
use std::sync::OnceLock;

use aico_contracts::v1::Fault;
use llguidance::api::TopLevelGrammar;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use serde_json::{Value, json};
use toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};

use crate::engine::{Token, Vocabulary};
use crate::text::THINK_CLOSE;

/// Largest schema, in bytes.
pub const SCHEMA_LIMIT: usize = 256 << 10;
/// Stack of the thread that builds a grammar: building follows the schema's nesting.
const STACK: usize = 16 << 20;

/// What a grammar may cost. Some real schemas of thousands of lines stay below a half of it.
const BUILD_FUEL: u64 = 1_000_000;
const GRAMMAR_SIZE: usize = 200_000;
/// Of one token: some 20 ms at most.
const STEP_FUEL: u64 = 200_000;
const STEP_ITEMS: usize = 50_000;
/// Over a whole answer; each takes one or two kilobytes.
const STATES: usize = 20_000;

/// Longest token that an answer bound to a form may hold.
const WORD_LIMIT: usize = 4096;

/// White space between the parts of JSON: enough to indent, not enough to be lost in.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,32}";

/// Words of JSON Schema that may be told in an error: nothing else of a schema is quoted.
const WORDS: &[&str] = &[
    "additionalItems",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "format",
    "if",
    "maxContains",
    "maxProperties",
    "minContains",
    "minProperties",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "$anchor",
    "$dynamicRef",
    "$id",
    "$ref",
];

/// Why an answer can't be bound to a form. Quotes nothing of the schema but JSON Schema's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Larger than is read.
    #[error("the schema has {0} bytes, at most {SCHEMA_LIMIT} are read")]
    TooLarge(usize),
    /// It is not JSON, or nested deeper than 128 levels.
    #[error("the format is neither `json` nor a JSON schema")]
    NotJson,
    /// A part of JSON Schema that can't be held to, or a schema that nothing fulfils.
    #[error("the schema can't be held to{0}")]
    Refused(String),
    /// Building or following it costs more than is spent.
    #[error("the schema is too complex")]
    TooComplex,
    /// The model has no token that ends an answer.
    #[error("the model can't end an answer by itself")]
    NoEnd,
}

impl FormatError {
    /// For the asker.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        match self {
            Self::TooLarge(_) | Self::TooComplex => Fault::new(
                "format-too-complex",
                "The JSON schema is too large or too complex",
            )
            .with_detail(format!("{self}."))
            .with_what_to_do(
                "Make it smaller: fewer alternatives, smaller bounds, plainer patterns.",
            ),
            Self::NotJson | Self::Refused(_) => Fault::new(
                "format-unusable",
                "The answer can't be bound to this format",
            )
            .with_detail(format!("{self}."))
            .with_what_to_do(
                "Write a JSON schema without it; docs/models.md tells what is understood.",
            ),
            Self::NoEnd => Fault::new("model-not-capable", "This model can't be bound to a format")
                .with_detail(format!("{self}."))
                .with_what_to_do("Choose another model for this."),
        }
    }
}

/// Builds grammars over one model's vocabulary. Reading that takes a moment: it is done when it is
/// first needed.
#[derive(Default)]
pub struct Formats {
    factory: OnceLock<Result<ParserFactory, FormatError>>,
}

impl Formats {
    /// What binds an answer to `format`: `json`, or a JSON schema. Takes a moment: not for
    /// asynchronous code.
    ///
    /// # Errors
    /// As [`FormatError`] tells.
    pub fn bind(
        &self,
        vocabulary: &dyn Vocabulary,
        format: &str,
    ) -> Result<Structure, FormatError> {
        if format.len() > SCHEMA_LIMIT {
            return Err(FormatError::TooLarge(format.len()));
        }
        let schema = match format {
            "json" => json!({ "type": "object" }),
            text => serde_json::from_str(text).map_err(|_| FormatError::NotJson)?,
        };
        let factory = self.factory.get_or_init(|| factory(vocabulary));
        let factory = factory.as_ref().map_err(Clone::clone)?;
        let schema = bounded(schema)?;
        let matcher = std::thread::scope(|scope| {
            let build =
                || Matcher::new(factory.create_parser(TopLevelGrammar::from_json_schema(schema)));
            std::thread::Builder::new()
                .name("aico-schema".into())
                .stack_size(STACK)
                .spawn_scoped(scope, build)
                .map_err(|_| FormatError::TooComplex)?
                .join()
                .map_err(|_| FormatError::TooComplex)
        })?;
        if let Some(error) = matcher.get_error() {
            return Err(reason(&error));
        }
        let mut structure = Structure {
            matcher,
            opens_thinking: vocabulary.opens_thinking(),
            thought_left: usize::MAX,
            thought_end: vocabulary.tokenize(THINK_CLOSE).into(),
        };
        // A schema that nothing fulfils shows itself at the first token.
        match structure.allowed(false) {
            Ok(_) => Ok(structure),
            Err(FormatError::TooComplex) => Err(FormatError::TooComplex),
            Err(_) => Err(FormatError::Refused(String::new())),
        }
    }
}

/// The schema with our white space; what it says itself of how JSON is written does not count.
fn bounded(schema: Value) -> Result<Value, FormatError> {
    let mut schema = match schema {
        Value::Object(schema) => Value::Object(schema),
        // Anything at all.
        Value::Bool(true) => json!({}),
        _ => return Err(FormatError::NotJson),
    };
    let options = JsonCompileOptions {
        whitespace_pattern: Some(WHITE_SPACE.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(schema)
}

fn reason(error: &str) -> FormatError {
    let error = error.lines().next().unwrap_or_default();
    let low = error.to_ascii_lowercase();
    let costs = [
        "fuel",
        "complex",
        "too large",
        "too many",
        "limit",
        "stack",
        "exhaust",
        "panic",
    ];
    if costs.iter().any(|word| low.contains(word)) {
        return FormatError::TooComplex;
    }
    let is_in = |word: &&&str| {
        error
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '$')
            .any(|part| part == **word)
    };
    let words: Vec<_> = WORDS.iter().filter(is_in).copied().collect();
    FormatError::Refused(match words.is_empty() {
        true => String::new(),
        false => format!(" because of `{}`", words.join("`, `")),
    })
}

fn factory(vocabulary: &dyn Vocabulary) -> Result<ParserFactory, FormatError> {
    let size = i32::try_from(vocabulary.size()).unwrap_or(i32::MAX);
    let ends: Vec<u32> = (0..size)
        .filter(|id| vocabulary.ends(Token(*id)))
        .filter_map(|id| u32::try_from(id).ok())
        .collect();
    let first = *ends.first().ok_or(FormatError::NoEnd)?;
    let opens = vocabulary.opens_thinking();
    let words: Vec<Vec<u8>> = (0..size)
        .map(|id| {
            let mut word = Vec::new();
            if Some(Token(id)) == opens || vocabulary.is_control(Token(id)) {
                // A byte that begins no text: such a token fits into no string.
                word.push(TokTrie::SPECIAL_TOKEN_MARKER);
                word.extend_from_slice(format!("<|{id}|>").as_bytes());
            } else {
                vocabulary.piece(Token(id), &mut word);
            }
            // The trie counts in 16 bits. An empty word is never chosen.
            if word.len() > WORD_LIMIT {
                word.clear();
            }
            word
        })
        .collect();
    let info = TokRxInfo::new(size.unsigned_abs(), first);
    let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
    let environment: TokEnv = std::sync::Arc::new(ApproximateTokEnv::new(trie));
    let slices = llguidance::earley::SlicedBiasComputer::general_slices();
    let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
        .map_err(|_| FormatError::TooComplex)?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.initial_lexer_fuel = BUILD_FUEL;
    limits.max_grammar_size = GRAMMAR_SIZE;
    limits.step_lexer_fuel = STEP_FUEL;
    limits.step_max_items = STEP_ITEMS;
    limits.max_lexer_states = STATES;
    // Errors would hold what the model has said.
    limits.verbose_errors = false;
    Ok(factory)
}

/// The form of one answer, and how far it is fulfilled.
pub struct Structure {
    matcher: Matcher,
    opens_thinking: Option<Token>,
    /// Tokens that may still be thought.
    thought_left: usize,
    /// What ends a thought, as far as it is still to come.
    thought_end: VecDeque<Token>,
}

/// What may come next.
pub struct Allowed(SimpleVob);

impl Allowed {
    /// Whether it may.
    #[must_use]
    pub fn has(&self, token: Token) -> bool {
        u32::try_from(token.0).is_ok_and(|id| (id as usize) < self.0.len() && self.0.is_allowed(id))
    }
}

impl Structure {
    /// Bounds the thought before the answer: one without end would never come to the form.
    #[must_use]
    pub fn think_at_most(mut self, tokens: usize) -> Self {
        self.thought_left = tokens;
        self
    }

    /// Counts a token of the thought; where it has had its share, what ends it.
    pub fn end_of_thought(&mut self) -> Option<Token> {
        match self.thought_left.checked_sub(1) {
            Some(left) => {
                self.thought_left = left;
                None
            }
            None => self.thought_end.pop_front(),
        }
    }

    /// What may come next; also the mark that begins thinking, where `may_think`.
    ///
    /// # Errors
    /// When telling it costs more than is spent on a token.
    pub fn allowed(&mut self, may_think: bool) -> Result<Allowed, FormatError> {
        let mask = self.matcher.compute_mask_or_eos();
        let mut mask = mask.map_err(|error| reason(&error.to_string()))?;
        if let Some(Token(id)) = self.opens_thinking.filter(|_| may_think)
            && let Ok(id) = u32::try_from(id)
        {
            mask.allow_token(id);
        }
        if mask.is_zero() {
            return Err(FormatError::TooComplex);
        }
        Ok(Allowed(mask))
    }

    /// Takes note of a token of the answer. True: the form is fulfilled, and nothing can follow.
    ///
    /// # Errors
    /// When following it costs too much.
    pub fn accept(&mut self, token: Token) -> Result<bool, FormatError> {
        // Thinking is no part of the form.
        if Some(token) == self.opens_thinking {
            return Ok(false);
        }
        let id = u32::try_from(token.0).map_err(|_| FormatError::TooComplex)?;
        self.matcher
            .consume_token(id)
            .map_err(|error| reason(&error.to_string()))?;
        Ok(self.matcher.is_stopped())
    }
}

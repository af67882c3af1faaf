//! Text to tokens.

use std::path::Path;

use tokenizers::{EncodeInput, Encoding, InputSequence, Tokenizer, TruncationParams};

/// Why a tokeniser can't be used. Holds nothing of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// Its file is no tokeniser, or has parts that are not known.
    #[error("the tokeniser can't be read")]
    Unreadable,
    /// It failed at a text.
    #[error("the text can't be split into tokens")]
    Failed,
}

/// What became of a text.
pub struct Tokens {
    /// Those that the model reads, with the marks at both ends.
    pub ids: Vec<i32>,
    /// Not all of the text is among them.
    pub truncated: bool,
    /// Of each token, where the text came in words: which.
    pub words: Vec<Option<u32>>,
}

/// A tokeniser with the length of a model.
pub struct Tokeniser {
    inner: Tokenizer,
    /// Fills the rows of a batch.
    pub padding: i32,
}

/// Names that the token for filling goes by.
const PADDING: &[&str] = &["[PAD]", "<pad>"];

impl Tokeniser {
    /// Reads the file of a tokeniser.
    ///
    /// # Errors
    /// When it is none.
    pub fn load(path: &Path, max_tokens: u32) -> Result<Self, TokensError> {
        let mut inner = Tokenizer::from_file(path).map_err(|_| TokensError::Unreadable)?;
        inner.with_padding(None);
        let truncation = TruncationParams {
            max_length: max_tokens as usize,
            ..TruncationParams::default()
        };
        inner
            .with_truncation(Some(truncation))
            .map_err(|_| TokensError::Unreadable)?;
        let padding = PADDING.iter().find_map(|name| inner.token_to_id(name));
        Ok(Self {
            padding: padding
                .and_then(|id| i32::try_from(id).ok())
                .unwrap_or_default(),
            inner,
        })
    }

    /// Whether this is one token.
    #[must_use]
    pub fn knows(&self, token: &str) -> bool {
        self.inner.token_to_id(token).is_some()
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// When the tokeniser fails at it.
    pub fn text(&self, text: &str) -> Result<Tokens, TokensError> {
        let encoding = self.inner.encode_fast(text, true);
        Ok(tokens(&encoding.map_err(|_| TokensError::Failed)?))
    }

    /// The tokens of a text that is split into words already.
    ///
    /// # Errors
    /// When the tokeniser fails at it.
    pub fn words(&self, words: &[&str]) -> Result<Tokens, TokensError> {
        let input = EncodeInput::Single(InputSequence::PreTokenized(words.into()));
        let encoding = self.inner.encode(input, true);
        Ok(tokens(&encoding.map_err(|_| TokensError::Failed)?))
    }
}

fn tokens(encoding: &Encoding) -> Tokens {
    let id = |id: &u32| i32::try_from(*id).unwrap_or_default();
    Tokens {
        ids: encoding.get_ids().iter().map(id).collect(),
        truncated: !encoding.get_overflowing().is_empty(),
        words: encoding.get_word_ids().to_vec(),
    }
}

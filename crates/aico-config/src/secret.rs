//! References to secrets: what stands in a configuration in place of one.

use std::fmt;
use std::str::FromStr;

/// `secret:NAME`. The secret itself is kept sealed, and found by its name while AICO is unlocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    name: String,
}

/// Something else than a reference. It may be the secret itself, so nothing of it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is referred to as secret:NAME")]
pub struct NoSecretRef;

const PREFIX: &str = "secret:";

impl SecretRef {
    /// Under what it is kept.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for SecretRef {
    type Err = NoSecretRef;

    fn from_str(text: &str) -> Result<Self, NoSecretRef> {
        let name = text.trim().strip_prefix(PREFIX).ok_or(NoSecretRef)?;
        let allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        let first = name.bytes().next();
        let right = name.len() <= 64
            && name.bytes().all(allowed)
            && first.is_some_and(|byte| byte.is_ascii_lowercase());
        match right {
            true => Ok(Self {
                name: name.to_owned(),
            }),
            false => Err(NoSecretRef),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Kind, Value};

    #[test]
    fn a_reference_is_taken_and_a_secret_in_its_place_refused_without_repeating_it() {
        let reference: SecretRef = " secret:openai ".parse().unwrap();
        assert_eq!(reference.name(), "openai");
        let value = Kind::Secret.parse("secret:gpu-server.key_2");
        assert_eq!(value, Some(Value::Text("secret:gpu-server.key_2".into())));
        for text in ["sk-zebra", "secret:", "secret:Open AI", "secret:9", ""] {
            assert_eq!(Kind::Secret.parse(text), None);
            let error = text.parse::<SecretRef>().unwrap_err().to_string();
            assert!(!error.contains("zebra"));
        }
        assert!(Kind::Secret.expects().contains("aico config secret set"));
    }
}

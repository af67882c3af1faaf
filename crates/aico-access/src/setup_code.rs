//! The one-time code without which a first visitor can't become the owner.

use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

/// How long a code can be used.
pub(crate) const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// 128 random bits, shown in the fragment of the address that `serve` prints: 22 characters
/// that need no escaping in a URL.
#[derive(Clone)]
pub struct SetupCode {
    code: String,
    made: Instant,
}

impl SetupCode {
    pub(crate) fn new() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0u8; 16];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self {
            code: URL_SAFE_NO_PAD.encode(bytes),
            made: Instant::now(),
        })
    }

    pub(crate) fn matches(&self, given: &str) -> bool {
        self.code.as_bytes().ct_eq(given.trim().as_bytes()).into()
    }

    pub(crate) fn expired(&self, now: Instant) -> bool {
        now.duration_since(self.made) > LIFETIME
    }

    /// For the address that is printed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.code
    }
}

impl fmt::Debug for SetupCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetupCode(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_opens_for_fifteen_minutes_and_only_itself() {
        let code = SetupCode::new().unwrap();
        assert_eq!(code.as_str().len(), 22);
        assert!(code.matches(code.as_str()));
        assert!(!code.matches(SetupCode::new().unwrap().as_str()));
        assert!(!code.matches(""));
        assert!(!code.expired(code.made + LIFETIME));
        assert!(code.expired(code.made + LIFETIME + Duration::from_secs(1)));
    }
}

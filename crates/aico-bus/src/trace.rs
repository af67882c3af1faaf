//! Which question a message, and a line of the log, belongs to.
//!
//! Whoever takes a question in from outside begins a trace, or goes on with the one it came with,
//! and does its work in its [scope](Trace::scope). There every message that a
//! [`Client`](crate::Client) sends carries the trace, unless its [`Meta`](crate::Meta) names
//! another, and every record of the log as well. Whoever answers takes it out of the envelope and
//! does the same.

use std::fmt;

use aico_contracts::v1::Envelope;
use tracing::Instrument as _;

tokio::task_local! {
    static CURRENT: Trace;
}

/// A W3C trace id: 16 bytes, not all of them 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trace([u8; 16]);

impl Trace {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each is another")]
    #[must_use]
    pub fn new() -> Self {
        Self(uuid::Uuid::new_v4().into_bytes())
    }

    /// The one in a `traceparent` header of W3C Trace Context; `None` when it is not well-formed.
    #[must_use]
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let mut part = |length: usize| {
            let part = parts.next()?;
            let is_hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            (part.len() == length && part.as_bytes().iter().all(is_hex)).then_some(part)
        };
        let (version, trace, parent, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        // A later version may say more; the first says no more than this.
        let more = parts.next().is_some();
        if version == "ff" || (version == "00" && more) || parent.bytes().all(|b| b == b'0') {
            return None;
        }
        trace.parse().ok()
    }

    /// The one that a message carries.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Option<Self> {
        Self::from_bytes(envelope.trace.as_ref().try_into().ok()?)
    }

    /// The one of these bytes, if they are one.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The one in whose scope this runs.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|trace| *trace).ok()
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Does some work in its scope. A task that the work spawns has to be given a scope of its own.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        // As grave as there is, so that no level of the log takes it away from a record.
        let span = tracing::error_span!("trace", trace = %self);
        CURRENT.scope(self, work.instrument(span)).await
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// No trace id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace id is 32 hexadecimal digits, not all of them 0")]
pub struct NoTrace;

impl std::str::FromStr for Trace {
    type Err = NoTrace;

    fn from_str(text: &str) -> Result<Self, NoTrace> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NoTrace);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| NoTrace)?;
        Self::from_bytes(number.to_be_bytes()).ok_or(NoTrace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_traceparent_is_taken_when_it_is_well_formed_and_never_otherwise() {
        for good in [
            format!("00-{HEX}-b7ad6b7169203331-01"),
            format!("00-{HEX}-b7ad6b7169203331-00"),
            // Of a later version, with more.
            format!("01-{HEX}-b7ad6b7169203331-01"),
            format!("cc-{HEX}-b7ad6b7169203331-01-what-it-likes"),
        ] {
            let trace = Trace::from_traceparent(&good).unwrap();
            assert_eq!(trace.to_string(), HEX, "{good}");
        }
        for bad in [
            String::new(),
            HEX.to_owned(),
            format!("00-{HEX}"),
            format!("00-{HEX}-b7ad6b7169203331"),
            format!("00-{HEX}-b7ad6b7169203331-1"),
            format!("00-{HEX}-b7ad6b7169203331-01-more"),
            format!("00-{HEX}-b7ad6b7169203331-01-"),
            format!("ff-{HEX}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", HEX.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{HEX}-{}-01", "0".repeat(16)),
            format!("00-{}-b7ad6b7169203331-01", "é".repeat(16)),
            format!(" 00-{HEX}-b7ad6b7169203331-01"),
            format!("00-{HEX}-b7ad6b716920333+-01"),
        ] {
            assert_eq!(Trace::from_traceparent(&bad), None, "{bad}");
        }
        assert_eq!(
            "+af7651916cd43dd8448eb211c80319c".parse::<Trace>(),
            Err(NoTrace)
        );
    }

    #[tokio::test]
    async fn a_scope_is_where_its_work_is_and_nowhere_else() {
        assert_eq!(Trace::current(), None);
        let (outer, inner) = (Trace::new(), Trace::new());
        let seen = outer.scope(async {
            let before = Trace::current();
            let within = inner.scope(async { Trace::current() }).await;
            let spawned = tokio::spawn(async { Trace::current() }).await.unwrap();
            (before, within, spawned, Trace::current())
        });
        assert_eq!(seen.await, (Some(outer), Some(inner), None, Some(outer)));
        assert_eq!(Trace::current(), None);
    }
}

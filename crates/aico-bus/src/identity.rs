//! Who speaks on the bus, and the one place that decides what they may do.

use std::fmt;

use aico_contracts::ByteString;
use aico_contracts::ids::PersonId;

/// The name under which a module joined: `companion`, `gateway`, `model-process`.
///
/// Names come from the code that composes the daemon, or from the table of verified keys; never
/// from a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(ByteString);

impl Identity {
    /// An identity of this name.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(ByteString::from(name.as_ref()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as envelopes carry it.
    pub(crate) fn name(&self) -> &ByteString {
        &self.0
    }
}

impl From<&str> for Identity {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody wants to do on a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Publish to a topic.
    Publish,
    /// Receive what is published on a pattern.
    Subscribe,
    /// Ask whoever serves a topic.
    Request,
    /// Answer what is asked on a pattern.
    Serve,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Request => "request",
            Self::Serve => "serve",
        })
    }
}

/// Why something was not allowed. The reason is for logs and holds no personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// A sentence.
    pub reason: String,
}

impl Refusal {
    /// A refusal with this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// Decides who may do what on which topic. Denies by default.
pub trait Policy: Send + Sync {
    /// Whether `who` may do `direction` on `topic` (for `Subscribe` and `Serve`: the pattern),
    /// with data of `person`, when it names one.
    ///
    /// Called on the path of every message: no blocking, no waiting.
    ///
    /// # Errors
    /// The refusal, which reaches the log and the caller.
    fn allow(
        &self,
        who: &Identity,
        direction: Direction,
        topic: &str,
        person: Option<PersonId>,
    ) -> Result<(), Refusal>;

    /// Whether what belongs to `person` may be delivered to `who`, on whose subscription or
    /// service it fits: a pattern may stand for many persons, a grant for some of them.
    ///
    /// Called on the path of every message: no blocking, no waiting.
    fn sees(&self, who: &Identity, person: PersonId) -> bool;

    /// Whether there can be a topic that begins with these characters and that `who` may
    /// subscribe to. This lets nobody hear anything, [`allow`](Self::allow) is asked for each
    /// topic: it tells a prefix that narrows a grant from one that is of no use.
    fn reaches(&self, who: &Identity, prefix: &str) -> bool {
        let _ = (who, prefix);
        false
    }
}

/// Allows everything, for tests.
#[cfg(any(test, feature = "test-util"))]
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

#[cfg(any(test, feature = "test-util"))]
impl Policy for AllowAll {
    fn allow(
        &self,
        _who: &Identity,
        _direction: Direction,
        _topic: &str,
        _person: Option<PersonId>,
    ) -> Result<(), Refusal> {
        Ok(())
    }

    fn sees(&self, _who: &Identity, _person: PersonId) -> bool {
        true
    }

    fn reaches(&self, _who: &Identity, _prefix: &str) -> bool {
        true
    }
}

//! What can go wrong on the bus.

use aico_contracts::v1::Fault;

use crate::identity::{Direction, Identity, Refusal};
use crate::journal::JournalFault;
use crate::pattern::TopicError;

/// A publish, a subscription or a service that did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The policy does not allow it.
    #[error("{who} may not {direction} on {topic}")]
    Refused {
        /// Who wanted it.
        who: Identity,
        /// What they wanted.
        direction: Direction,
        /// Where.
        topic: String,
        /// Why not.
        #[source]
        refusal: Refusal,
    },
    /// The daemon at the other end of a link does not allow it.
    #[error("the daemon refused {topic}: {reason}")]
    RefusedByPeer {
        /// Where.
        topic: String,
        /// Why not.
        reason: String,
    },
    /// The topic or pattern is not one.
    #[error("this is no topic: {topic:?}")]
    Topic {
        /// What was given.
        topic: String,
        /// What is wrong with it.
        #[source]
        source: TopicError,
    },
    /// A personal topic without its person, or with another one than the envelope names.
    #[error("the envelope's person is not the person of the topic {topic}")]
    WrongPerson {
        /// The topic.
        topic: String,
    },
    /// The payload is larger than [`MAX_PAYLOAD`](crate::MAX_PAYLOAD).
    #[error("a payload of {bytes} bytes is too large for the bus")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The journal of durable messages did not take it, or can't be followed.
    #[error("the message is not in the journal, or it can't be followed")]
    Journal(#[source] JournalFault),
    /// The asker no longer wants the answer.
    #[error("the asker went away")]
    Cancelled,
    /// The link to the daemon can't take more at present; the message was not sent.
    #[error("the link is saturated")]
    Busy,
    /// There is no link to the daemon at present; it is being made again. The message was not
    /// sent.
    #[error("the link to the daemon is lost at present")]
    LinkLost,
    /// The bus, or the link to it, is closed.
    #[error("the bus is closed")]
    Closed,
}

/// A request that was not answered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// Nobody serves the topic at present.
    #[error("nobody serves {topic}")]
    NobodyServes {
        /// The topic.
        topic: String,
    },
    /// The server answered with a failure.
    #[error("the request failed")]
    Fault(#[source] Fault),
    /// The deadline passed before the answer came.
    #[error("the deadline passed")]
    DeadlinePassed,
    /// The server ended, or dropped the request without an answer.
    #[error("the server went away")]
    ServerGone,
    /// The link to the daemon was lost, or there is none at present: whether the server got the
    /// request, and what it did, nobody here can know.
    #[error("the link to the daemon was lost")]
    LinkLost,
    /// The request itself was not accepted by the bus.
    #[error("the request was refused")]
    Refused(#[source] BusError),
    /// The answer is not of the type that was expected, or a part of it is missing.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
}

impl RequestError {
    /// The failure that the server told, when it told one.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            _ => None,
        }
    }

    /// The failure as a [`Fault`], for a module that passes it on.
    #[must_use]
    pub fn into_fault(self) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::NobodyServes { .. } => Fault::new("nobody-serves", "This part is not running"),
            Self::DeadlinePassed => Fault::new("deadline-passed", "It took too long"),
            Self::ServerGone => Fault::new("server-died", "The part that answers ended"),
            Self::LinkLost => Fault::new("link-lost", "The link to the daemon was lost"),
            Self::Refused(_) => Fault::refused("This is not allowed"),
            Self::Malformed(_) => Fault::internal("An answer could not be read"),
        }
    }
}

//! Why a connection is closed, as the client is told.

use axum::extract::ws::{CloseFrame, Utf8Bytes};

use crate::watch::Over;

/// A close code of `docs/websocket.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The client said goodbye.
    Done,
    /// The daemon stops.
    Stopping,
    /// A binary frame.
    Binary,
    /// Too many frames, bytes or connections.
    TooMany,
    /// A frame over the limit.
    TooLarge,
    /// A frame that is not of this protocol.
    Protocol,
    /// No valid authentication in time, or the session ended.
    Session,
    /// Too slow: events that wait would have no end.
    Slow,
    /// The vault is locked.
    Locked,
    /// The peer is silent or gone; there is nobody to tell.
    Gone,
}

impl Close {
    /// What is sent; `None` when there is nobody to send it to.
    pub(crate) fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Done => (1000, "done"),
            Self::Stopping => (1001, "AICO stops"),
            Self::Binary => (1003, "binary frames are reserved"),
            Self::TooMany => (1008, "too many frames"),
            Self::TooLarge => (1009, "the frame is too large"),
            Self::Protocol => (4000, "not a frame of this protocol"),
            Self::Session => (4001, "sign in"),
            Self::Slow => (4008, "too slow: reconnect and resume"),
            Self::Locked => (4023, "locked"),
            Self::Gone => return None,
        };
        Some(CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        })
    }

    /// Whether the events that wait are still sent before.
    pub(crate) fn sends_rest(self) -> bool {
        matches!(self, Self::Stopping)
    }
}

impl From<Over> for Close {
    fn from(over: Over) -> Self {
        match over {
            Over::Session => Self::Session,
            Over::Locked => Self::Locked,
            Over::Stopping => Self::Stopping,
        }
    }
}

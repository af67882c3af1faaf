//! What daemon and process say to each other: the launch as a line of JSON, then frames, one
//! byte for the kind, four for the length (big-endian), and a message of the contracts.
//!
//! The daemon reads as from a stranger: bounded, one answer for each question, of the kind that
//! was asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::process::confine::Confinement;

/// Of this protocol.
pub const VERSION: u32 = 2;
/// Most bytes of a question.
pub const QUESTION_LIMIT: usize = 8 << 20;
/// Most bytes of an answer.
pub const ANSWER_LIMIT: usize = 32 << 20;

/// All that the process needs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// [`VERSION`].
    pub transformers: u32,
    /// The package.
    pub folder: PathBuf,
    /// Its description, as the daemon read it: what it says of the files decides.
    pub description: String,
    /// Most bytes of memory; 0: as many as there are.
    pub memory: u64,
    /// Threads that compute; the process itself can't look at the machine.
    pub threads: u32,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Embed`, and `Embedded` the other way.
    Embed,
    /// `FindEntities`, and `FoundEntities`.
    Entities,
    /// `Classify`, and `Classified`.
    Classify,
    /// A `Fault` in place of an answer.
    Fault,
    /// A [`Report`] as JSON.
    Report,
}

impl Kind {
    /// As its byte.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Embed => 1,
            Self::Entities => 2,
            Self::Classify => 3,
            Self::Fault => 4,
            Self::Report => 5,
        }
    }

    /// Of its byte.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        let all = [
            Self::Embed,
            Self::Entities,
            Self::Classify,
            Self::Fault,
            Self::Report,
        ];
        all.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// The head of a frame.
#[must_use]
pub fn head(kind: Kind, length: usize) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind.byte(), a, b, c, d]
}

/// Kind and length from the head of a frame, the length at most `limit`.
#[must_use]
pub fn read_head(head: [u8; 5], limit: usize) -> Option<(Kind, usize)> {
    let [kind, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    Some((Kind::of(kind)?, length)).filter(|(_, length)| *length <= limit)
}

/// What the process says of itself, before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// It is confined.
    Hello(Confinement),
    /// It answers.
    Ready,
    /// It can't, and ends.
    Failed(Failure),
}

/// Why a package can't be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The launch line could not be read, or is of another version.
    Launch,
    /// The confinement could not be set up.
    Confinement,
    /// A file is not there.
    Missing,
    /// A file is not what it was when the package was added.
    Damaged,
    /// The disk failed at reading a file.
    Unreadable,
    /// The tokeniser can't be used.
    Tokeniser,
    /// The graph can't be used.
    Graph,
    /// Tokeniser, graph and description do not fit together.
    Unfit,
    /// What reads and computes the files gave up at them.
    Crashed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_a_strange_one_is_not() {
        let made = head(Kind::Classify, 70_000);
        assert_eq!(
            read_head(made, ANSWER_LIMIT),
            Some((Kind::Classify, 70_000))
        );
        assert_eq!(read_head(made, 69_999), None);
        assert_eq!(read_head([9, 0, 0, 0, 1], ANSWER_LIMIT), None);
        assert_eq!(read_head([1, 255, 255, 255, 255], ANSWER_LIMIT), None);
    }
}

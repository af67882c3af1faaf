//! The sealed append format: encrypted files that grow, such as logs and journals.
//!
//! The bytes are in `docs/formats/sealed-append.md`; what they have to withstand:
//!
//! * **No nonce twice.** A counter never resumes. Each opening for writing begins a *segment*
//!   whose key comes from 32 fresh random bytes, whatever happened before: a crash, a torn
//!   record that was cut off, a copy restored from a backup and appended to. Within a segment
//!   the nonce is the record's number.
//! * **Order and place.** A segment's header (purpose, owner, file id, number, first sequence)
//!   goes into its key, so a segment of another file does not open. Each header carries a MAC
//!   over its predecessor's header and last tag: segments can't be dropped, swapped or cut.
//!   A record's sequence number is authenticated with it.
//! * **A crash is not damage.** What was not synced may be lost, torn or reordered. The valid
//!   prefix is kept and the rest counted ([`Tail::Torn`]). But a record that was once durable is
//!   not "torn": records say whether all before them had been synced, and a failed record with
//!   such a one after it is an error, as is one in a segment that was closed or succeeded.
//! * **A cut** at a record's boundary looks like a crash. It is noticed below the
//!   [`HighWater`] mark, which the caller keeps in the [`crate::Registry`].
//!
//! ```
//! use aico_vault::append::{HighWater, SealedLogReader, SealedLogWriter};
//! # use aico_vault::{KdfCost, Owner, Password, Purpose, Vault};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let password = Password::new("velvet harbour moss lantern")?;
//! # let (vault, _) = Vault::create_with(&folder.path().join("d"), &password, KdfCost::minimum())?;
//! let path = folder.path().join("example.log");
//! let key = vault.log_key(Purpose::Log, Owner::System, [7; 16]);
//!
//! let (mut log, found) = SealedLogWriter::open(&key, &path, HighWater::default())?;
//! assert_eq!(found.records, 0);
//! log.append(b"started")?;
//! let durable = log.sync()?;
//! vault.registry().note_sequence("log:example", durable)?;
//! log.close()?;
//!
//! let mark = vault.registry().mark("log:example");
//! let mut reader = SealedLogReader::open(&key, &path, mark)?;
//! let record = reader.next_record()?.ok_or("empty")?;
//! assert_eq!((record.sequence, &record.data[..]), (1, &b"started"[..]));
//! assert!(reader.next_record()?.is_none());
//! # Ok(())
//! # }
//! ```

mod body;
mod format;
mod reader;
mod rewrite;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

pub use body::{BodyForged, BodyKey};
pub use format::{LogKey, MAX_RECORD};
pub use reader::{Record, SealedLogReader, Tail};
pub use rewrite::{Rewritten, next_id, rewrite, rewrite_as_is, rewrite_to, rewrite_to_as_is};
pub use writer::{Found, SealedLogWriter, Synced, Syncing};

pub(crate) use format::{IDENTITY, MAGIC};
pub(crate) use reader::{Place, Scanner};

use crate::fs::FileError;

/// How far a file is known to have got, kept outside of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HighWater {
    /// The highest sequence that was durable; 0 when nothing was.
    pub sequence: u64,
    /// The highest sequence after which the file was closed; 0 when it never was.
    pub closed: u64,
}

/// A sealed append file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A part that had been durable fails authentication, or is missing between others.
    #[error("{} is damaged at byte {offset} (segment {segment}, record {sequence}): {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The segment's number, from 0.
        segment: u32,
        /// The sequence that the record at this place would have.
        sequence: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file ends before a record that had been durable.
    #[error("{} ends at record {found}, but had {mark}", path.display())]
    Cut {
        /// Which file.
        path: PathBuf,
        /// The last record there.
        found: u64,
        /// The last record that was durable.
        mark: u64,
    },
    /// The file had been closed, and its end is missing.
    #[error("{} was closed after record {mark}, and its end is missing", path.display())]
    CloseMissing {
        /// Which file.
        path: PathBuf,
        /// The record after which it was closed.
        mark: u64,
    },
    /// The file belongs to another purpose, owner or id, or to another vault.
    #[error("{} is the file of another purpose, owner or vault", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The file was written by a newer program.
    #[error("{} has format {found}; this program knows up to {known}", path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest version that this program reads.
        known: u16,
    },
    /// The file to be read is not there.
    #[error("{} is missing", path.display())]
    Absent {
        /// Which file.
        path: PathBuf,
    },
    /// A record is longer than [`MAX_RECORD`].
    #[error("a record of {len} bytes is too long for {}", path.display())]
    TooLong {
        /// For which file.
        path: PathBuf,
        /// Its length in bytes.
        len: usize,
    },
    /// A sync failed before: what is on disk is not known any more. Open the file again.
    #[error("{} has to be opened again after a failed write", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
    },
    /// The file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
}

//! What can go wrong with the log.

use std::io;
use std::path::PathBuf;

/// Why the log could not be started, written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A process has one log.
    #[error("this process logs already")]
    Started(#[source] tracing::subscriber::SetGlobalDefaultError),
    /// The vault is locked: there is no key for the log.
    #[error("the log can't be read while the vault is locked")]
    Locked,
    /// The folder can't be made or listed.
    #[error("the log folder {} can't be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file can't be made or written.
    #[error("the log file {} can't be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: aico_vault::append::AppendError,
    },
    /// The thread that writes could not be started.
    #[error("the thread that writes the log could not be started")]
    Thread(#[source] io::Error),
}

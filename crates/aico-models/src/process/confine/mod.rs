//! Confinement of the model process: a model file is hostile input to a large native library.
//!
//! On Linux, in this order:
//! 1. [`first`]: no core dumps and no tracing by others, before anything secret is read; the
//!    process dies with its parent.
//! 2. [`files`], before any thread starts: no new privileges, and Landlock: the model file (with
//!    its adapter) and what tells of the processor may be read, one scratch folder written, nothing else opened.
//! 3. [`calls`], once the link to the bus stands: seccomp on all threads. What computing needs
//!    is allowed; sockets, other processes and all the rest answer EPERM; starting a program,
//!    tracing and the like kill the process.
//!
//! A process that computes on a graphics device is under the same, and may besides (`gpu`) read what
//! the system has of drivers and open their devices, and say to them what they understand. It is
//! still no way to a file of a person's, to a network or to another program.
//!
//! Elsewhere the process isolates crashes only, and [`Confinement`] says so.

#[cfg(target_os = "linux")]
mod gpu;
#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "other.rs")]
mod platform;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::gpu::Kind;

/// What confines the process, as it tells the daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Files: only the model and the scratch folder.
    pub files: bool,
    /// System calls: no connections, no programs.
    pub calls: bool,
}

/// Why the confinement failed where the system offers it.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A property of the process could not be set.
    #[error("{what} can't be set for the process")]
    Process {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The rules for files could not be applied.
    #[error("access to files can't be restricted: {0}")]
    Files(String),
    /// The filter of system calls could not be applied.
    #[error("system calls can't be restricted: {0}")]
    Calls(String),
}

/// What the process may open.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// May be read.
    pub model: &'a Path,
    /// May be read too.
    pub adapter: Option<&'a Path>,
    /// May be written.
    pub scratch: &'a Path,
    /// The graphics devices of this kind, and their drivers.
    pub gpu: Option<Kind>,
}

/// First of all: no dumps, and no life after the parent's.
///
/// # Errors
/// When the system refuses.
pub fn first() -> Result<(), ConfineError> {
    platform::first()
}

/// Restricts files for this thread and those it starts. Tells whether the system can do it.
///
/// # Errors
/// When the system can, yet refuses.
pub fn files(places: Places<'_>) -> Result<bool, ConfineError> {
    platform::files(places)
}

/// Restricts system calls for all threads, to what computing needs, or computing on a graphics
/// device of this kind. Tells whether the system can do it.
///
/// # Errors
/// When the system can, yet refuses.
pub fn calls(gpu: Option<Kind>) -> Result<bool, ConfineError> {
    platform::calls(gpu)
}

/// Lets the process have at most so many bytes of memory, where the system can: 0 is any number.
/// An allocation beyond ends the process, not the machine.
///
/// # Errors
/// When the system can, yet refuses.
pub fn memory(most: u64) -> Result<(), ConfineError> {
    match most {
        0 => Ok(()),
        most => platform::memory(most),
    }
}

/// Ends the process at once: no destructors, for other threads may be computing.
pub fn leave(code: u8) -> ! {
    platform::leave(code)
}

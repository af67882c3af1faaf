//! Whether a model fits into memory, before it is loaded.

#[cfg_attr(target_os = "linux", path = "memory/linux.rs")]
#[cfg_attr(target_os = "macos", path = "memory/macos.rs")]
#[cfg_attr(windows, path = "memory/windows.rs")]
mod system;

use std::time::Duration;

use super::registry::ModelRecord;
use crate::batch::SHARED_BYTES;
use crate::engine::DEFAULT_CONTEXT;

/// What the process needs beside weights and context.
const OVERHEAD: u64 = 128 << 20;
/// Tokens of characters' prompts that it keeps beside its context, where they are not too large.
const SHARED_TOKENS: u64 = 2048;

/// Bytes that running this model takes, as far as the file tells.
#[must_use]
pub fn need(record: &ModelRecord, context: u32, sequences: u32) -> u64 {
    let adapter = record.adapter.as_ref().map_or(0, |adapter| adapter.size);
    need_of(
        record.size.saturating_add(adapter),
        record.context_length,
        record.bytes_per_token,
        context,
        sequences,
    )
}

/// The same from the figures: bytes of the file, tokens it was trained for (0: unknown), bytes
/// that one token of context takes.
#[must_use]
pub fn need_of(
    size: u64,
    context_length: u32,
    bytes_per_token: u64,
    context: u32,
    sequences: u32,
) -> u64 {
    let context = if context == 0 {
        DEFAULT_CONTEXT
    } else {
        context
    };
    let trained = if context_length == 0 {
        context
    } else {
        context_length
    };
    let tokens = u64::from(context.min(trained)) * u64::from(sequences);
    let cache = tokens.saturating_mul(bytes_per_token);
    let shared = bytes_per_token.saturating_mul(SHARED_TOKENS);
    size.saturating_add(cache)
        .saturating_add(shared.min(SHARED_BYTES as u64))
        .saturating_add(OVERHEAD)
}

/// Where the figures come from. Tests make them up.
pub trait MemoryProbe: Send + Sync {
    /// Bytes that can be had without swapping; `None` where the system does not tell.
    fn available(&self) -> Option<u64>;
    /// Bytes of memory that the machine has.
    fn total(&self) -> Option<u64>;
    /// What a process uses.
    fn process(&self, process_id: u32) -> Option<Usage>;
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes that it has in memory, of files too.
    pub resident: u64,
    /// Bytes of them that the system counts as taken: those that are the process's alone. A file's
    /// pages count as free; on Windows not while a process has them.
    pub anonymous: u64,
    /// Processor time since it began.
    pub cpu: Duration,
}

/// The system's own figures.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemMemory;

impl MemoryProbe for SystemMemory {
    fn available(&self) -> Option<u64> {
        available()
    }

    fn total(&self) -> Option<u64> {
        total()
    }

    fn process(&self, process_id: u32) -> Option<Usage> {
        system::process(process_id)
    }
}

/// Bytes that can be had without swapping, by the machine and by the limits of a container or a
/// service; `None` where the system does not tell.
#[must_use]
pub fn available() -> Option<u64> {
    system::available()
}

/// Bytes of memory that there are, by the machine and by such limits; `None` where the system does
/// not tell.
#[must_use]
pub fn total() -> Option<u64> {
    system::total()
}

/// As people read it.
pub(super) fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_characters_counts_as_well() {
        let beside = |bytes_per_token: u64| {
            let all = need_of(1 << 30, 8192, bytes_per_token, 4096, 2);
            (all - (1 << 30) - OVERHEAD - 2 * 4096 * bytes_per_token) >> 20
        };
        // Of a small one, and of one of eight billion parameters.
        assert_eq!((beside(0), beside(5120), beside(147_456)), (0, 10, 256));
    }

    #[test]
    fn a_process_is_told_with_its_memory_and_its_time() {
        let me = SystemMemory.process(std::process::id()).unwrap();
        assert!(me.resident >= me.anonymous && me.anonymous > 0);
        let ballast = vec![1_u8; 64 << 20];
        let more = SystemMemory.process(std::process::id()).unwrap();
        assert!(
            more.anonymous > me.anonymous + (32 << 20),
            "{ballast:?}",
            ballast = ballast.len()
        );
        assert_eq!(SystemMemory.process(u32::MAX), None);
        assert!(SystemMemory.available().unwrap() < SystemMemory.total().unwrap());
    }
}

//! Whether a model fits into memory, before it is loaded.

use std::time::Duration;

use super::registry::ModelRecord;
use crate::engine::DEFAULT_CONTEXT;

/// What the process needs beside weights and context.
const OVERHEAD: u64 = 128 << 20;

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
    size.saturating_add(cache).saturating_add(OVERHEAD)
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
    /// Bytes of them that are its alone: they count as taken. A file's pages count as free.
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
        usage(process_id)
    }
}

#[cfg(target_os = "linux")]
fn usage(process_id: u32) -> Option<Usage> {
    /// Of the clock by which Linux tells processor time, everywhere.
    const TICKS: u64 = 100;
    let folder = std::path::PathBuf::from(format!("/proc/{process_id}"));
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Usage {
        resident: field(&status, "VmRSS:")?,
        anonymous: field(&status, "RssAnon:")?,
        cpu: Duration::from_millis(ticks.saturating_mul(1000 / TICKS)),
    })
}

#[cfg(not(target_os = "linux"))]
fn usage(_process_id: u32) -> Option<Usage> {
    None
}

/// Bytes that can be had without swapping, by the machine and by the limits of a container or a
/// service; `None` where the system does not tell.
#[must_use]
pub fn available() -> Option<u64> {
    let machine = told("MemAvailable:")?;
    #[cfg(target_os = "linux")]
    let machine = super::group::limit().map_or(machine, |limit| machine.min(limit.available));
    Some(machine)
}

/// Bytes of memory that there are, by the machine and by such limits; `None` where the system does
/// not tell.
#[must_use]
pub fn total() -> Option<u64> {
    let machine = told("MemTotal:")?;
    #[cfg(target_os = "linux")]
    let machine = super::group::limit().map_or(machine, |limit| machine.min(limit.total));
    Some(machine)
}

fn told(what: &str) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        field(&text, what)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _not_told = what;
        None
    }
}

#[cfg(target_os = "linux")]
fn field(text: &str, what: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(what))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// As people read it.
pub(super) fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
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

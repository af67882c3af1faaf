//! The figures of Linux.

use std::path::Path;
use std::time::Duration;

use super::Usage;
use crate::supervisor::group;

pub(super) fn available() -> Option<u64> {
    let machine = told("MemAvailable:")?;
    Some(group::limit().map_or(machine, |limit| machine.min(limit.available)))
}

pub(super) fn total() -> Option<u64> {
    let machine = told("MemTotal:")?;
    Some(group::limit().map_or(machine, |limit| machine.min(limit.total)))
}

pub(super) fn process(process_id: u32) -> Option<Usage> {
    /// Of the clock by which Linux tells processor time, everywhere.
    const TICKS: u64 = 100;
    let folder = Path::new("/proc").join(process_id.to_string());
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

fn told(what: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    field(&text, what)
}

fn field(text: &str, what: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(what))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

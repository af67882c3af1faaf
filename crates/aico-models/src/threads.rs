//! How many threads compute: the physical cores, within what this process may use.
//!
//! Two threads on one core's two hardware threads wait for each other at every layer.

use std::collections::BTreeSet;

/// Physical cores, at most what the system lets this process use; at least 1.
#[must_use]
pub fn physical() -> u32 {
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = cores().unwrap_or(usable);
    u32::try_from(cores.clamp(1, usable)).unwrap_or(1)
}

/// Cores as Linux tells them: CPUs with one and the same list of siblings are one core.
#[cfg(target_os = "linux")]
fn cores() -> Option<usize> {
    let mut siblings = BTreeSet::new();
    for entry in std::fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        let list = entry.path().join("topology/thread_siblings_list");
        if let Ok(list) = std::fs::read_to_string(list) {
            siblings.insert(list);
        }
    }
    (!siblings.is_empty()).then_some(siblings.len())
}

#[cfg(not(target_os = "linux"))]
fn cores() -> Option<usize> {
    let _no_siblings: BTreeSet<String> = BTreeSet::new();
    None
}

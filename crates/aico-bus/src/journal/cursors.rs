//! Durable cursors: places that the daemon keeps for those who follow, as marks in the registry.

use super::error::JournalFault;
use super::shared::Shared;

/// How the names of cursors in the registry begin.
const PREFIX: &str = "bus-cursor/";
/// Most cursors of one identity, and of all together.
const MOST: usize = 16;
const MOST_IN_ALL: usize = 512;
/// Longest name.
const LONGEST: usize = 64;
/// Longest name of a mark in the registry.
const LONGEST_MARK: usize = 200;

/// A cursor's name in the registry and where it stands; a new one is made at `now`, durably.
pub(crate) fn find(
    shared: &Shared,
    identity: &str,
    name: &str,
    now: u64,
) -> Result<(String, u64), JournalFault> {
    let fits = (1..=LONGEST).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let mark = format!("{PREFIX}{identity}/{name}");
    if !fits || mark.len() > LONGEST_MARK {
        return Err(JournalFault::CursorName);
    }
    let registry = shared.folder.keys.registry();
    let marks = registry.marks();
    if let Some(at) = marks.get(&mark) {
        let moved = shared.moved_cursor(&mark).unwrap_or(0);
        return Ok((mark, at.sequence.max(moved)));
    }
    let own = format!("{PREFIX}{identity}/");
    let with = |prefix: &str| marks.keys().filter(|name| name.starts_with(prefix)).count();
    if with(&own) >= MOST || with(PREFIX) >= MOST_IN_ALL {
        return Err(JournalFault::TooManyCursors);
    }
    registry
        .note_sequence(&mark, now)
        .map_err(|error| JournalFault::of_registry(&error))?;
    Ok((mark, now))
}

/// Forgets all cursors of an identity.
pub(crate) fn forget(shared: &Shared, identity: &str) -> Result<usize, JournalFault> {
    let registry = shared.folder.keys.registry();
    let own = format!("{PREFIX}{identity}/");
    let mut gone = 0;
    for name in registry.marks().into_keys() {
        if name.starts_with(&own) {
            registry
                .remove(&name)
                .map_err(|error| JournalFault::of_registry(&error))?;
            gone += 1;
        }
    }
    Ok(gone)
}

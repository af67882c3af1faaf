//! Memory that other programs need: a model or a package that nobody asks goes before the machine
//! begins to swap, however long it might still have stayed.

use std::sync::Arc;
use std::time::Duration;

use aico_contracts::v1::Priority;
use tokio::time::Instant;

use super::manager::Manager;
use super::memory::{MemoryProbe, gib};
use crate::clock;

/// How often it is looked, while a model is in memory that could go.
const LOOK: Duration = Duration::from_secs(5);
/// One that was asked so recently stays: the same person will ask again.
const RECENT: Duration = Duration::from_secs(30);
/// Most bytes that are to be left free; on a small machine it is a twentieth of its memory.
const MOST: u64 = 1 << 30;

/// What is free, where that is too little.
fn shortage(probe: &dyn MemoryProbe) -> Option<u64> {
    let available = probe.available()?;
    let least = (probe.total()? / 20).min(MOST);
    (available < least).then_some(available)
}

impl Manager {
    /// When it is to be looked again; never while no model could go.
    pub(super) fn memory_at(&self) -> Option<Instant> {
        let could_go = self
            .slots
            .iter()
            .any(|slot| slot.is_inside() && !slot.model.pinned)
            || !self.entrance.places.is_empty();
        could_go.then_some(self.memory_looked + LOOK)
    }

    /// Unloads the one that was used longest ago where memory is short. One at a time: what one
    /// gives back is seen at the next look.
    pub(super) async fn relieve(&mut self) {
        self.memory_looked = clock::now();
        let waited_for = !self.wishes.is_empty() || !self.entrance.waiting.is_empty();
        if waited_for || self.is_anyone_going() {
            return;
        }
        let probe = Arc::clone(&self.parts.config.memory);
        let looked = tokio::task::spawn_blocking(move || shortage(&*probe)).await;
        let Ok(Some(free)) = looked else {
            return;
        };
        let idle = self.inside().into_iter().filter(|(_, one)| {
            let recent = clock::now().saturating_duration_since(one.used) < RECENT;
            !one.pinned && !one.busy && !recent
        });
        let Some((_, longest)) = idle.min_by_key(|(_, one)| one.used) else {
            return;
        };
        if self.unload_one(&longest.who, Priority::Background) {
            tracing::info!(
                who = ?longest.who,
                free = gib(free),
                "Memory is short, and nobody asked for a while; it was unloaded."
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Usage;
    use super::*;

    struct Machine(Option<u64>, Option<u64>);

    impl MemoryProbe for Machine {
        fn available(&self) -> Option<u64> {
            self.0
        }
        fn total(&self) -> Option<u64> {
            self.1
        }
        fn process(&self, _process_id: u32) -> Option<Usage> {
            None
        }
    }

    #[test]
    fn a_twentieth_is_left_free_and_no_more_than_one_gib() {
        const MIB: u64 = 1 << 20;
        let short = |free, total| shortage(&Machine(free, total));
        let small = Some(2048 * MIB);
        assert_eq!(short(Some(102 * MIB), small), Some(102 * MIB));
        assert_eq!(short(Some(103 * MIB), small), None);
        let large = Some(256 << 30);
        assert_eq!(short(Some(1023 * MIB), large), Some(1023 * MIB));
        assert_eq!(short(Some(1024 * MIB), large), None);
        // Where the system does not tell, nobody goes.
        assert_eq!(short(None, large), None);
        assert_eq!(short(Some(0), None), None);
    }
}

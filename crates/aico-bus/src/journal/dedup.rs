//! Which messages are in the journal already, by their ids: the newest [`WINDOW`] of them.

use std::collections::{HashMap, VecDeque};

/// How many ids are remembered: about 4 MiB.
pub(crate) const WINDOW: usize = 65_536;

/// Ids and the sequences that they got. A repetition that comes later than [`WINDOW`] other
/// messages is kept a second time.
#[derive(Default)]
pub(crate) struct Dedup {
    sequences: HashMap<[u8; 16], u64>,
    order: VecDeque<[u8; 16]>,
}

impl Dedup {
    pub(crate) fn get(&self, id: &[u8; 16]) -> Option<u64> {
        self.sequences.get(id).copied()
    }

    pub(crate) fn insert(&mut self, id: [u8; 16], sequence: u64) {
        if self.sequences.insert(id, sequence).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > WINDOW
            && let Some(oldest) = self.order.pop_front()
        {
            self.sequences.remove(&oldest);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

/// Which stretch of sequences has which epoch. Each opening for writing begins a new one.
#[derive(Default, Clone)]
pub(crate) struct Epochs(Vec<(u64, [u8; 16])>);

/// Most stretches that are remembered; what is older is found in the files.
const MOST: usize = 1024;

impl Epochs {
    /// From this sequence on the epoch is this one.
    pub(crate) fn begin(&mut self, first: u64, epoch: [u8; 16]) {
        // A stretch in which nothing was kept leaves no trace.
        while self.0.last().is_some_and(|(last, _)| *last >= first) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|(_, known)| *known != epoch) {
            self.0.push((first, epoch));
        }
        if self.0.len() > MOST {
            self.0.remove(0);
        }
    }

    pub(crate) fn of(&self, sequence: u64) -> Option<[u8; 16]> {
        let after = self.0.partition_point(|(first, _)| *first <= sequence);
        Some(self.0.get(after.checked_sub(1)?)?.1)
    }

    pub(crate) fn latest(&self) -> [u8; 16] {
        self.0.last().map_or([0; 16], |(_, epoch)| *epoch)
    }
}

/// The epoch that a segment's random bytes stand for.
pub(crate) fn epoch_of(segment: &[u8; 32]) -> [u8; 16] {
    let mut epoch = [0; 16];
    epoch.copy_from_slice(&segment[..16]);
    epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_id_is_forgotten_first_and_a_repetition_keeps_its_sequence() {
        let mut dedup = Dedup::default();
        let id = |n: u64| std::array::from_fn(|i| n.to_be_bytes()[i % 8]);
        for n in 1..=WINDOW as u64 {
            dedup.insert(id(n), n);
        }
        assert_eq!(dedup.get(&id(1)), Some(1));
        dedup.insert(id(WINDOW as u64 + 1), WINDOW as u64 + 1);
        assert_eq!((dedup.get(&id(1)), dedup.get(&id(2))), (None, Some(2)));
        assert_eq!(dedup.len(), WINDOW);
    }

    #[test]
    fn a_sequence_has_the_epoch_of_its_stretch() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.of(1), None);
        epochs.begin(1, [1; 16]);
        epochs.begin(10, [2; 16]);
        // Nothing was kept in the second: the third takes its place.
        epochs.begin(10, [3; 16]);
        assert_eq!(epochs.of(0), None);
        assert_eq!((epochs.of(1), epochs.of(9)), (Some([1; 16]), Some([1; 16])));
        assert_eq!(epochs.of(10), Some([3; 16]));
        assert_eq!(epochs.latest(), [3; 16]);
    }
}

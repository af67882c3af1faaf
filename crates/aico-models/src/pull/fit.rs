//! What this machine can carry, and which model suits it.

use super::catalogue::{Catalogue, Entry, Purpose};
use crate::supervisor::memory;

/// Bytes of a model's file that one core reads in a second while it computes, as a careful
/// guess: a token is computed by reading the whole file once.
const BYTES_PER_CORE: u64 = 5_000_000_000;
/// What all cores together get from the memory of a common computer.
const BYTES_TOGETHER: u64 = 40_000_000_000;
/// Tokens in a second that read fluently.
const TOKENS: u64 = 5;
/// Of the memory, for a model that is recommended, in hundredths: the rest is the person's.
const SHARE: u64 = 60;
/// And at most, for one that may be loaded when other programs are closed.
const MOST: u64 = 90;

/// The machine, as far as it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes that can be had now without swapping.
    pub available: Option<u64>,
    /// Cores that compute.
    pub cores: u32,
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn look() -> Self {
        Self {
            memory: memory::total(),
            available: memory::available(),
            cores: crate::threads::physical(),
        }
    }
}

/// Whether a model can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The machine does not tell.
    Unknown,
    /// Now.
    Fits,
    /// When other programs give memory back.
    Tight,
    /// Never.
    TooLarge,
}

/// Bytes that running this model takes.
#[must_use]
pub fn memory(entry: &Entry, context: u32, sequences: u32) -> u64 {
    if let Some(package) = &entry.package {
        return package.about.memory();
    }
    memory::need_of(
        entry.size,
        entry.context_length,
        entry.bytes_per_token,
        context,
        sequences,
    )
}

/// Whether a model that needs this much can be loaded. `held` is what the model in use has,
/// which the new one takes over.
#[must_use]
pub fn fit(need: u64, held: u64, machine: &Machine) -> Fit {
    let (Some(total), Some(available)) = (machine.memory, machine.available) else {
        return Fit::Unknown;
    };
    if need <= available.saturating_add(held) {
        Fit::Fits
    } else if need <= total / 100 * MOST {
        Fit::Tight
    } else {
        Fit::TooLarge
    }
}

/// The model that suits this machine best: the largest that leaves the person enough memory and
/// answers fluently on its cores. `None` where the machine does not tell, or none does.
#[must_use]
pub fn recommended<'a>(
    catalogue: &'a Catalogue,
    machine: &Machine,
    context: u32,
    sequences: u32,
) -> Option<&'a Entry> {
    let room = machine.memory? / 100 * SHARE;
    let rate = (u64::from(machine.cores) * BYTES_PER_CORE).min(BYTES_TOGETHER);
    let suits = |entry: &&Entry| {
        entry.purpose == Purpose::Chat
            && entry.recommend
            && memory(entry, context, sequences) <= room
            && entry.size <= rate / TOKENS
    };
    let mut best: Option<&Entry> = None;
    for entry in catalogue.items.iter().filter(suits) {
        // Of equals the first.
        if best.is_none_or(|best| entry.parameters > best.parameters) {
            best = Some(entry);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn ours() -> Catalogue {
        let text = include_str!("../../../../models/catalogue.json");
        Catalogue::parse(text, None).unwrap()
    }

    fn machine(gib: u64, cores: u32) -> Machine {
        Machine {
            memory: Some(gib * GIB),
            available: Some(gib * GIB / 2),
            cores,
        }
    }

    #[test]
    fn memory_and_cores_decide_what_is_recommended() {
        let catalogue = ours();
        let name = |machine: &Machine| {
            recommended(&catalogue, machine, 4096, 4).map(|entry| entry.name.as_str())
        };
        for (gib, cores, expected) in [
            (1, 2, None),
            (8, 1, Some("qwen3-0.6b")),
            (8, 2, Some("qwen3-1.7b")),
            (16, 4, Some("qwen3-4b")),
            (16, 8, Some("qwen3-8b")),
            // Plenty of memory does not make a few cores faster.
            (256, 2, Some("qwen3-1.7b")),
            // Nor many cores a little memory larger.
            (5, 32, Some("qwen3-0.6b")),
        ] {
            assert_eq!(name(&machine(gib, cores)), expected, "{gib} GiB, {cores}");
        }
        let silent = Machine {
            memory: None,
            available: None,
            cores: 8,
        };
        assert_eq!(name(&silent), None);
    }

    #[test]
    fn what_fits_is_told_by_what_is_free() {
        let small = machine(8, 4);
        assert_eq!(fit(3 * GIB, 0, &small), Fit::Fits);
        assert_eq!(fit(5 * GIB, 0, &small), Fit::Tight);
        assert_eq!(fit(5 * GIB, GIB, &small), Fit::Fits, "in the other's place");
        assert_eq!(fit(8 * GIB, 0, &small), Fit::TooLarge);
        let silent = Machine {
            memory: None,
            available: None,
            cores: 1,
        };
        assert_eq!(fit(u64::MAX, 0, &silent), Fit::Unknown);
    }
}

//! Which cuts are looked at: after which record the power goes, and what becomes of what was not
//! synced by then.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use aico_vault::fs::faulty::Dice;

use super::medium::{Fate, Medium, Pending, Tree};
use super::recording::Record;

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    AllDropped,
    /// As after SIGKILL.
    AllKept,
    /// The newest write arrived in part: its first sector of this size, or all but that.
    Torn {
        size: usize,
        first: bool,
    },
    NamesOnly,
    ContentsOnly,
    /// All names, and files as long as they were made, with nothing in what was added.
    LengthsOnly,
    NewestOnly,
    AllButOldest,
    /// Each change on its own, by these dice.
    Any(u64),
}

const HOWS: [How; 13] = [
    How::AllDropped,
    How::AllKept,
    How::Torn {
        size: 512,
        first: true,
    },
    How::Torn {
        size: 512,
        first: false,
    },
    How::Torn {
        size: 4096,
        first: true,
    },
    How::Torn {
        size: 4096,
        first: false,
    },
    How::NamesOnly,
    How::ContentsOnly,
    How::LengthsOnly,
    How::NewestOnly,
    How::AllButOldest,
    How::Any(1),
    How::Any(2),
];

impl How {
    /// `None` where there is nothing that it could be done to.
    fn fates(self, pending: &[Pending], record: usize) -> Option<BTreeMap<usize, Fate>> {
        let newest = pending.iter().map(|pending| pending.record).max();
        let oldest = pending.iter().map(|pending| pending.record).min();
        if let Self::Torn { size, .. } = self {
            let (at, length) = pending.iter().rfind(|it| it.write.is_some())?.write?;
            // Within one sector there is nothing to tear.
            if length == 0 || at / size == (at + length - 1) / size {
                return None;
            }
        }
        let torn = pending.iter().rfind(|it| it.write.is_some());
        let mut dice = match self {
            Self::Any(seed) => Dice((record as u64) << 8 | seed),
            _ => Dice(0),
        };
        let kept = |kept: bool| if kept { Fate::Kept } else { Fate::Dropped };
        let fate = |it: &Pending| match self {
            Self::AllDropped => Fate::Dropped,
            Self::AllKept => Fate::Kept,
            Self::Torn { size, first } => match torn {
                Some(torn) if torn.record == it.record => {
                    Fate::Sectors(size, if first { 1 } else { !1 })
                }
                _ => Fate::Kept,
            },
            Self::NamesOnly => kept(it.is_name),
            Self::ContentsOnly => kept(!it.is_name),
            Self::LengthsOnly => match it.write {
                Some(_) => Fate::LengthOnly,
                None => Fate::Kept,
            },
            Self::NewestOnly => kept(Some(it.record) == newest),
            Self::AllButOldest => kept(Some(it.record) != oldest),
            Self::Any(_) => match (dice.roll(5), it.write) {
                (0 | 1, _) => Fate::Dropped,
                (2, Some(_)) => Fate::LengthOnly,
                (3, Some(_)) => Fate::Sectors(512, dice.0),
                _ => Fate::Kept,
            },
        };
        let mut fate = fate;
        Some(pending.iter().map(|it| (it.record, fate(it))).collect())
    }
}

/// A disk after a cut.
pub(super) struct Cut {
    /// Records that had happened.
    pub(super) after: usize,
    pub(super) how: How,
    pub(super) tree: Tree,
}

/// Whether every cut is to be looked at.
pub(super) fn every() -> bool {
    std::env::var_os("AICO_TEST_EVERY_CUT").is_some()
}

pub(super) fn seed() -> u64 {
    let given = std::env::var("AICO_TEST_SEED").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Cuts between two records, each disk once: about so many, or all of them.
pub(super) fn between(
    medium: &mut Medium,
    records: &[Record],
    range: RangeInclusive<usize>,
    about: usize,
    mut each: impl FnMut(Cut),
) -> usize {
    let (mut seen, mut dice, mut count) = (HashSet::new(), Dice(seed()), 0);
    let places = range.end() - range.start() + 1;
    // Two of three of all variants leave a disk that another one leaves too.
    let all = places * HOWS.len() / 3;
    for after in range.clone() {
        while medium.records() < after {
            medium.apply(&records[medium.records()]);
        }
        let pending = medium.pending();
        for how in HOWS {
            let wanted = every() || after == *range.end() || dice.roll(all.max(1)) < about;
            let Some(fates) = how.fates(&pending, after).filter(|_| wanted) else {
                continue;
            };
            if !seen.insert(medium.signature(&fates)) {
                continue;
            }
            count += 1;
            let tree = medium.after_cut(&fates);
            each(Cut { after, how, tree });
        }
    }
    count
}

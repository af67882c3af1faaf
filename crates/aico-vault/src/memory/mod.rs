//! Locked memory for secrets: never swapped, left out of dumps, wiped when freed.
//!
//! Secrets of up to [`SLOT`] bytes share pages, because locking counts whole pages, does not
//! nest, and the limit can be as low as 8 MiB for the process. Longer ones get pages of their
//! own. The pages are not inherited by a forked child: one that touched a key would crash
//! rather than read zeros and encrypt under them.
//!
//! Locking is a best effort. Where the system refuses it, the secret is held all the same and
//! one warning is logged.

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroize;

/// Size of a slot in a shared page, in bytes.
const SLOT: usize = 64;
/// Size of a shared page, in bytes: one bit of a `u64` for each slot.
const PAGE: usize = SLOT * 64;

/// The shared pages. They stay mapped until the process ends.
static PAGES: Mutex<Vec<Page>> = Mutex::new(Vec::new());

struct Page {
    base: NonNull<u8>,
    used: u64,
}

// SAFETY: `base` is only handed out in disjoint slots, under the mutex.
unsafe impl Send for Page {}

enum Place {
    Slot { page: usize, index: u32 },
    Own { mapped: usize },
}

/// A block of locked memory, zeroed when it is made and when it is dropped.
pub(crate) struct Locked {
    start: NonNull<u8>,
    len: usize,
    place: Place,
}

// SAFETY: the block belongs to this value alone; access follows the borrow of `self`.
unsafe impl Send for Locked {}
// SAFETY: as above; a shared reference gives reads only.
unsafe impl Sync for Locked {}

impl Locked {
    /// A block of `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        if len <= SLOT {
            Self::slot(len)
        } else {
            let mapped = len.next_multiple_of(PAGE);
            Self {
                start: sys::map(mapped),
                len,
                place: Place::Own { mapped },
            }
        }
    }

    fn slot(len: usize) -> Self {
        let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let page = match pages.iter().position(|page| page.used != u64::MAX) {
            Some(page) => page,
            None => {
                pages.push(Page {
                    base: sys::map(PAGE),
                    used: 0,
                });
                pages.len() - 1
            }
        };
        let entry = &mut pages[page];
        let index = entry.used.trailing_ones();
        entry.used |= 1 << index;
        // SAFETY: `index` is below 64, so the slot lies inside the page of 64 slots.
        let start = unsafe { entry.base.add(index as usize * SLOT) };
        Self {
            start,
            len,
            place: Place::Slot { page, index },
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `start` points to `len` initialised bytes that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` excludes every other access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        match self.place {
            Place::Slot { page, index } => {
                let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
                pages[page].used &= !(1 << index);
            }
            // SAFETY: the mapping was made by `sys::map(mapped)` and nothing borrows it any more.
            Place::Own { mapped } => unsafe { sys::unmap(self.start, mapped) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_disjoint_and_wiped_between_users() {
        let mut blocks: Vec<Locked> = (0..200).map(|_| Locked::zeroed(32)).collect();
        for (number, block) in blocks.iter_mut().enumerate() {
            block.bytes_mut().fill(number as u8);
        }
        for (number, block) in blocks.iter().enumerate() {
            assert!(block.bytes().iter().all(|byte| *byte == number as u8));
        }
        drop(blocks);
        for _ in 0..200 {
            assert_eq!(Locked::zeroed(32).bytes(), [0; 32]);
        }
    }

    #[test]
    fn a_long_secret_gets_pages_of_its_own() {
        let mut block = Locked::zeroed(5000);
        assert!(block.bytes().iter().all(|byte| *byte == 0));
        block.bytes_mut().fill(7);
        assert_eq!(block.bytes().len(), 5000);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_pages_are_locked_and_left_out_of_dumps_and_forks() {
        let block = Locked::zeroed(5000);
        let address = block.start.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let flags = maps
            .lines()
            .find(|line| {
                let range = line
                    .split(' ')
                    .next()
                    .and_then(|range| range.split_once('-'));
                let bound = |text: &str| usize::from_str_radix(text, 16).ok();
                if let Some((from, to)) = range.and_then(|(a, b)| Some((bound(a)?, bound(b)?))) {
                    inside = (from..to).contains(&address);
                }
                inside && line.starts_with("VmFlags:")
            })
            .unwrap();
        for flag in [" dd", " dc"] {
            assert!(flags.contains(flag), "{flags}");
        }
        // `None`: unlimited. The process as a whole may lock this much.
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let limit = limits.lines().find_map(|line| {
            let limit = line.strip_prefix("Max locked memory")?;
            limit.split_whitespace().next()?.parse::<usize>().ok()
        });
        if limit.is_some_and(|limit| limit < block.len.next_multiple_of(PAGE)) {
            eprintln!("skipped whether the pages are locked: the limit is {limit:?} bytes");
        } else {
            assert!(flags.contains(" lo"), "{flags}");
        }
    }
}

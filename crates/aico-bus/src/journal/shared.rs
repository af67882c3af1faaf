//! What the thread that writes and those who follow have in common.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use aico_contracts::ids::PersonId;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::dedup::Epochs;
use super::files::Folder;
use super::format::FileName;
use super::message::{Kept, Place};
use super::store::Store;

/// Most messages and bytes that are kept in memory for those who follow closely. Who is further
/// behind reads the disk.
const RECENT: usize = 8192;
const RECENT_BYTES: usize = 8 * 1024 * 1024;

/// The journal as a reader sees it.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// All files, oldest first; the last one is being written.
    pub(crate) files: Vec<FileName>,
    pub(crate) epochs: Epochs,
    pub(crate) bytes: u64,
}

impl View {
    pub(crate) fn of(store: &Store) -> Self {
        let closed = store.closed.iter().map(|(file, _)| *file);
        Self {
            files: closed.chain([store.current.name]).collect(),
            epochs: store.epochs.clone(),
            bytes: store.bytes(),
        }
    }

    /// The first sequence that is still there.
    pub(crate) fn first(&self) -> u64 {
        self.files.first().map_or(1, |file| file.first)
    }
}

/// The newest messages, with no gap between them.
#[derive(Default)]
struct Recent {
    items: VecDeque<Option<Kept>>,
    first: u64,
    bytes: usize,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) commits: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) erased: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) folder: Folder,
    view: RwLock<View>,
    recent: Mutex<Recent>,
    /// The last sequence that is durable.
    pub(crate) last: watch::Sender<u64>,
    /// How many follow: without any nothing is kept in memory.
    pub(crate) followers: AtomicUsize,
    erased: RwLock<HashSet<PersonId>>,
    /// Cursors that moved and are not noted yet: name in the registry, sequence.
    cursors: Mutex<HashMap<String, u64>>,
    pub(crate) counts: Counts,
    pub(crate) closed: CancellationToken,
}

impl Shared {
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            folder: store.folder.clone(),
            view: RwLock::new(View::of(store)),
            recent: Mutex::default(),
            last: watch::Sender::new(store.last),
            followers: AtomicUsize::new(0),
            erased: RwLock::default(),
            cursors: Mutex::default(),
            counts: Counts::default(),
            closed: CancellationToken::new(),
        }
    }

    pub(crate) fn view(&self) -> View {
        self.view.read().clone()
    }

    pub(crate) fn set_view(&self, view: View) {
        *self.view.write() = view;
    }

    /// The place of a sequence, as far as its epoch is known without looking into files.
    pub(crate) fn place(&self, sequence: u64) -> Place {
        let view = self.view.read();
        let epoch = view.epochs.of(sequence);
        Place {
            epoch: epoch.unwrap_or_else(|| view.epochs.latest()),
            sequence,
        }
    }

    /// New messages are durable: those who follow may see them.
    pub(crate) fn publish(&self, kept: Vec<Kept>, last: u64) {
        {
            let mut recent = self.recent.lock();
            let expected = recent.first + recent.items.len() as u64;
            let whole = kept
                .first()
                .is_some_and(|one| one.place.sequence == expected)
                && kept.last().is_some_and(|one| one.place.sequence == last);
            if !whole {
                *recent = Recent {
                    first: kept.first().map_or(last + 1, |one| one.place.sequence),
                    ..Recent::default()
                };
            }
            for one in kept {
                recent.bytes += one.parcel.size();
                recent.items.push_back(Some(one));
            }
            // What the stamp of the last one says has to be the end, or nothing is remembered.
            if recent.first + recent.items.len() as u64 != last + 1 {
                *recent = Recent {
                    first: last + 1,
                    ..Recent::default()
                };
            }
            while recent.items.len() > RECENT || recent.bytes > RECENT_BYTES {
                if let Some(oldest) = recent.items.pop_front() {
                    recent.bytes -= oldest.map_or(0, |one| one.parcel.size());
                    recent.first += 1;
                }
            }
        }
        self.last.send_replace(last);
    }

    /// Messages from `from` on that `wanted` picks, out of memory: at most `most` and about
    /// `bytes`. Says where to go on; `None` when it has to be read from the disk.
    pub(crate) fn recent(
        &self,
        from: u64,
        most: usize,
        bytes: usize,
        wanted: impl Fn(&Kept) -> bool,
    ) -> Option<(Vec<Kept>, u64)> {
        let recent = self.recent.lock();
        let skip = usize::try_from(from.checked_sub(recent.first)?).ok()?;
        if skip >= recent.items.len() {
            return None;
        }
        let (mut found, mut size, mut next) = (Vec::new(), 0, from);
        for one in recent.items.iter().skip(skip) {
            if found.len() >= most || size >= bytes {
                break;
            }
            next += 1;
            if let Some(one) = one
                && wanted(one)
            {
                size += one.parcel.size();
                found.push(one.clone());
            }
        }
        Some((found, next))
    }

    pub(crate) fn is_erased(&self, person: PersonId) -> bool {
        self.erased.read().contains(&person)
    }

    /// Whatever a person said is forgotten here, and not shown to anybody from now on.
    pub(crate) fn forget(&self, person: PersonId) {
        self.erased.write().insert(person);
        self.drop_recent(person);
    }

    /// Nothing of this person's stays in memory.
    pub(crate) fn drop_recent(&self, person: PersonId) {
        let mut recent = self.recent.lock();
        let mut freed = 0;
        for place in &mut recent.items {
            if place.as_ref().is_some_and(|one| one.person == Some(person)) {
                freed += place.take().map_or(0, |one| one.parcel.size());
            }
        }
        recent.bytes -= freed;
    }

    /// A cursor moved. It is noted within a second or so.
    pub(crate) fn move_cursor(&self, name: &str, sequence: u64) {
        let mut cursors = self.cursors.lock();
        let at = cursors.entry(name.to_owned()).or_default();
        *at = (*at).max(sequence);
    }

    /// Where a cursor stands that has not been noted yet.
    pub(crate) fn moved_cursor(&self, name: &str) -> Option<u64> {
        self.cursors.lock().get(name).copied()
    }

    /// The cursors that are to be noted; once they are, give them to [`Self::noted`].
    pub(crate) fn cursors(&self) -> Vec<(String, u64)> {
        let cursors = self.cursors.lock();
        cursors
            .iter()
            .map(|(name, at)| (name.clone(), *at))
            .collect()
    }

    pub(crate) fn noted(&self, noted: &[(String, u64)]) {
        let mut cursors = self.cursors.lock();
        for (name, at) in noted {
            if cursors.get(name) == Some(at) {
                cursors.remove(name);
            }
        }
    }

    pub(crate) fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

//! The durable journal: messages on durable topics, for other processes to follow.
//!
//! The bytes are in `docs/formats/bus-journal.md`. How it works:
//!
//! * **The stores are the truth.** Modules in the daemon read them; the journal exists so that
//!   another process that was away, or slow, gets what it missed.
//! * **Who publishes hands over.** One thread takes all that waits, appends it, and makes it
//!   durable with one sync; then everyone is answered. Nobody holds a lock meanwhile.
//! * **Acknowledged means durable, refused means absent.** After a failed write the file is cut
//!   back to what had been durable and opened anew, so a message that was refused is not there.
//!   (One that nobody answered for, because the daemon was killed, may be.)
//! * **Followers pull.** Each has a position. What is recent comes out of memory, the rest from
//!   the files; no queue grows for one that stops.
//! * **Sequences count on** over restarts; each opening is a stretch with an epoch of its own
//!   (the beginning of the segment's fresh random bytes). A place is both, so that a copy that
//!   was put back and went on is told apart from what a peer had seen.
//! * **A repetition is dropped** when its id is among the last [`DEDUPLICATION_WINDOW`].
//! * **What a person's message says** lies under the person's key, inside a record of the
//!   system's: see [`aico_vault::append::BodyKey`].

mod check;
mod cursors;
mod dedup;
mod disk;
mod error;
mod files;
mod format;
mod keys;
mod message;
mod open;
mod rekey;
mod shared;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod upkeep;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aico_contracts::ids::PersonId;

pub use check::{CheckedJournal, check};
pub(crate) use disk::Item;
pub use disk::{Skipped, Why};
pub use error::{JournalError, JournalFault};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use format::{FileName, Head};
pub use keys::{JournalKeys, NoBodyKey};
pub(crate) use message::{Kept, Message};
pub use message::{Place, Receipt};
pub use rekey::{Anew, Rekeyed, rekey};
pub use tail::Start;
pub(crate) use tail::{Cursor, Tail, Wanted};
pub use upkeep::Retention;
pub(crate) use writer::Done;

use files::Folder;
use shared::Shared;
use store::Store;
use writer::Intake;

/// How many of the newest messages a repetition is recognised among.
pub const DEDUPLICATION_WINDOW: usize = dedup::WINDOW;

/// Figures of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalStats {
    /// The last place that is durable.
    pub last: Place,
    /// The first sequence that is still there.
    pub first: u64,
    /// Files.
    pub files: usize,
    /// Bytes of all files.
    pub bytes: u64,
    /// Messages that wait to be written.
    pub waiting: usize,
    /// Syncs that made messages durable, since it was opened.
    pub commits: u64,
    /// Messages that were made durable.
    pub kept: u64,
    /// Repetitions that were dropped.
    pub repeated: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// Messages that followers did not get because their person was erased.
    pub erased: u64,
    /// Who follows now.
    pub followers: usize,
}

/// A journal that is open. Dropping it ends it as a crash would; [`Journal::close`] does it well.
pub struct Journal {
    shared: Arc<Shared>,
    intake: Arc<Intake>,
    thread: Option<std::thread::JoinHandle<Result<(), JournalError>>>,
}

impl Journal {
    /// Opens the journal in a folder, or begins one. Waits for the disk.
    ///
    /// # Errors
    /// When the folder or a file can't be used now. A damaged file is no error: it is set aside,
    /// which is logged, and followers are told what they miss.
    pub fn open(
        keys: Arc<dyn JournalKeys>,
        folder: &Path,
        retention: Retention,
    ) -> Result<Self, JournalError> {
        let store = Store::open(Folder::open(keys, folder)?, writer::now_s())?;
        let shared = Arc::new(Shared::new(&store));
        let intake = Arc::new(Intake::default());
        let run = {
            let (shared, intake) = (shared.clone(), intake.clone());
            move || writer::run(store, &shared, &intake, retention)
        };
        let thread = std::thread::Builder::new()
            .name("aico-journal".to_owned())
            .spawn(run)
            .map_err(JournalError::Thread)?;
        Ok(Self {
            shared,
            intake,
            thread: Some(thread),
        })
    }

    /// Writes what waits, ends who follows, closes the files. Waits for the disk.
    ///
    /// # Errors
    /// When it could not be closed well; nothing that was acknowledged is lost.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.intake.close();
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Ok(ended)) => ended,
            _ => Err(JournalError::Thread(std::io::Error::other(
                "it ended early",
            ))),
        }
    }

    /// A handle for those who publish and follow.
    pub(crate) fn handle(&self) -> Handle {
        Handle {
            shared: self.shared.clone(),
            intake: self.intake.clone(),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.intake.close();
    }
}

/// What the bus holds of an open journal.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    intake: Arc<Intake>,
}

impl Handle {
    /// Hands a message over; `done` is told what became of it. Never waits.
    pub(crate) fn keep(&self, message: Message, done: Option<Done>) {
        self.intake.hand_over(message, done);
    }

    /// Begins to follow. Waits for the disk.
    pub(crate) fn follow(
        &self,
        identity: &str,
        wanted: Wanted,
        start: Start,
        resume: Option<Place>,
    ) -> Result<Tail, JournalFault> {
        if self.shared.closed.is_cancelled() {
            return Err(JournalFault::Locked);
        }
        Tail::begin(self.shared.clone(), identity, wanted, start, resume)
    }

    /// A person was erased: nothing of theirs is kept in memory, taken or given out any more.
    pub(crate) fn forget_person(&self, person: PersonId) {
        self.shared.forget(person);
        self.intake.forget(person);
    }

    /// A sealed person is locked: no key and no message of theirs stays in memory, and none is
    /// taken until they sign in.
    pub(crate) fn lock_person(&self, person: PersonId) {
        self.shared.drop_recent(person);
        self.intake.lock(person);
    }

    /// An identity was revoked: its cursors go.
    pub(crate) fn forget_cursors(&self, identity: &str) -> Result<usize, JournalFault> {
        cursors::forget(&self.shared, identity)
    }

    pub(crate) fn stats(&self) -> JournalStats {
        let view = self.shared.view();
        let counts = &self.shared.counts;
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let last = *self.shared.last.borrow();
        JournalStats {
            last: self.shared.place(last),
            first: view.first(),
            files: view.files.len(),
            bytes: view.bytes,
            waiting: self.intake.waiting(),
            commits: of(&counts.commits),
            kept: of(&counts.kept),
            repeated: of(&counts.repeated),
            refused: of(&counts.refused),
            erased: of(&counts.erased),
            followers: self.shared.followers.load(Ordering::Relaxed),
        }
    }
}

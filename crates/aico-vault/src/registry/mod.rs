//! The sealed registry: what each store was like when it was last written, kept outside of the
//! stores, so that one that was swapped, put back, cut or emptied is noticed.
//!
//! It is a file in the [`crate::append`] format. Its first record is a snapshot of everything;
//! after it come notes of sequences. [`Registry::put`] and [`Registry::remove`] replace the whole
//! file, so a cut inside the snapshot is always noticed; [`Registry::note_sequence`] appends and
//! syncs. A note that was torn by a crash had not been acknowledged. The bytes are in
//! `docs/formats/registry.md`.
//!
//! What it can't notice: that it was put back itself, together with every store.

mod format;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::append::{AppendError, HighWater, LogKey, Scanner, SealedLogWriter};
use crate::derive::{Owner, Purpose};
use crate::fs::{self, Context, FileError, Filesystem, Kind};
use crate::vault::Roots;

use format::{Content, Note};

/// Length at which notes are folded into a new snapshot, in bytes.
const COMPACT_AT: u64 = 1024 * 1024;
/// Longest name of a store or log, in bytes.
const MAX_NAME: usize = 200;

/// What the registry knows of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreRecord {
    /// The salt in the database file.
    pub salt: [u8; 16],
    /// Rises with each rotation or restore.
    pub generation: u64,
    /// The last sequence that was acknowledged.
    pub last_sequence: u64,
    /// SHA-256 of the checkpointed file after a clean stop; `None` while it is open.
    pub closed_hash: Option<[u8; 32]>,
    /// Which key it is under: [`KeyId::number`](crate::KeyId::number). 0 where no key was ever changed.
    pub key: u64,
}

/// The registry could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It is not there, but encrypted data is.
    #[error(
        "{} is missing although there is encrypted data: without it nobody can tell whether the \
         data is complete", path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is cut off before the end of its snapshot.
    #[error("{} is cut off", path.display())]
    Cut {
        /// Where it is.
        path: PathBuf,
    },
    /// It is authentic but makes no sense to this program.
    #[error("{} has a record that this program does not understand", path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
    },
    /// It opens, and is not what this process wrote last.
    #[error("{} is not what was written last", path.display())]
    Behind {
        /// Where it is.
        path: PathBuf,
    },
    /// A name is empty, or longer than 200 bytes.
    #[error("the name of a store has 1 to 200 bytes")]
    Name,
    /// A write that this note shared with others failed; the one who wrote has the cause.
    #[error("the registry could not be written")]
    Refused(Refusal),
    /// Its file is damaged, foreign, of a newer program, or could not be used.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why a write was refused, as far as those who shared it are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The disk or the quota is full.
    StorageFull,
    /// The disk can only be read.
    ReadOnly,
    /// The disk failed at writing or reading.
    DiskFailed,
    /// Anything else.
    Other,
}

impl RegistryError {
    /// Why the disk refused the write, if it was the disk.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Refused(why) => *why,
            Self::Append(AppendError::File(FileError::StorageFull { .. })) => Refusal::StorageFull,
            Self::Append(AppendError::File(FileError::ReadOnly { .. })) => Refusal::ReadOnly,
            other if fs::disk_failed(other) => Refusal::DiskFailed,
            _ => Refusal::Other,
        }
    }
}

impl From<FileError> for RegistryError {
    fn from(error: FileError) -> Self {
        Self::Append(error.into())
    }
}

/// The registry, open. All methods can be called from any thread.
pub struct Registry {
    fs: Arc<dyn Filesystem>,
    path: PathBuf,
    /// Replaced by a rotation of the root key.
    key: Mutex<LogKey>,
    state: Mutex<State>,
    /// Wakes those who wait for the thread that writes notes.
    written: Condvar,
}

struct State {
    content: Content,
    /// Notes that wait to be written, in order.
    waiting: Vec<Note>,
    /// How many notes were ever queued, and how many of those are durable.
    queued: u64,
    durable: u64,
    /// Notes that were refused, by number: after the first of each pair, up to the second.
    refused: Vec<(u64, u64, Refusal)>,
    /// Whether a thread is writing, and has taken the writer out.
    busy: bool,
    writer: Option<SealedLogWriter>,
    /// A write failed, and what is on disk is not known. The next one writes everything anew.
    broken: bool,
}

impl Registry {
    /// Makes an empty registry where there is none.
    pub(crate) fn create(
        fs: Arc<dyn Filesystem>,
        path: &Path,
        roots: &Roots,
        vault: [u8; 16],
    ) -> Result<Self, RegistryError> {
        let key = registry_key(roots, vault);
        let registry = Self::new(fs, path, key.share(), Content::default());
        let writer = registry.write_snapshot(&Content::default(), &key)?;
        registry.lock().writer = Some(writer);
        Ok(registry)
    }

    /// Reads the registry. Nothing is written before the first change.
    pub(crate) fn open(
        fs: Arc<dyn Filesystem>,
        path: &Path,
        roots: &Roots,
        vault: [u8; 16],
    ) -> Result<Self, RegistryError> {
        if fs::probe_private(&*fs, path, Kind::File)?.is_none() {
            return Err(RegistryError::Missing {
                path: path.to_path_buf(),
            });
        }
        let key = registry_key(roots, vault);
        let content = read(&*fs, path, &key)?;
        Ok(Self::new(fs, path, key, content))
    }

    fn new(fs: Arc<dyn Filesystem>, path: &Path, key: LogKey, content: Content) -> Self {
        let state = State {
            content,
            waiting: Vec::new(),
            queued: 0,
            durable: 0,
            refused: Vec::new(),
            busy: false,
            writer: None,
            broken: false,
        };
        let (state, written) = (Mutex::new(state), Condvar::new());
        Self {
            fs,
            path: path.to_path_buf(),
            key: Mutex::new(key),
            state,
            written,
        }
    }

    /// Reads the file again, every record of it, and compares it with what is known. Writers wait
    /// meanwhile, for as long as reading a megabyte takes.
    ///
    /// # Errors
    /// What is wrong with the file; [`RegistryError::Behind`] when it says less or something else
    /// than what was acknowledged.
    pub fn check(&self) -> Result<(), RegistryError> {
        let mut state = self.lock();
        while state.busy {
            state = self
                .written
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let found = read(&*self.fs, &self.path, &self.key())?;
        // What a refused write left may go further.
        match found.covers(&state.content) {
            true => Ok(()),
            false => Err(RegistryError::Behind {
                path: self.path.clone(),
            }),
        }
    }

    /// What is known of a store.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<StoreRecord> {
        self.lock().content.stores.get(id).copied()
    }

    /// All stores, by name.
    #[must_use]
    pub fn stores(&self) -> BTreeMap<String, StoreRecord> {
        self.lock().content.stores.clone()
    }

    /// The high-water mark of a sealed append file; zeros when there is none.
    #[must_use]
    pub fn mark(&self, id: &str) -> HighWater {
        self.lock()
            .content
            .marks
            .get(id)
            .copied()
            .unwrap_or_default()
    }

    /// All high-water marks, by name.
    #[must_use]
    pub fn marks(&self) -> BTreeMap<String, HighWater> {
        self.lock().content.marks.clone()
    }

    /// Records a store. Durable when this returns.
    ///
    /// # Errors
    /// When it could not be written; then the registry knows what it knew before.
    pub fn put(&self, id: &str, record: StoreRecord) -> Result<(), RegistryError> {
        check_name(id)?;
        self.replace(|content| {
            content.stores.insert(id.to_owned(), record);
        })
    }

    /// Forgets a store or a file. Durable when this returns.
    ///
    /// # Errors
    /// As [`Registry::put`].
    pub fn remove(&self, id: &str) -> Result<(), RegistryError> {
        self.replace(|content| {
            content.stores.remove(id);
            content.marks.remove(id);
        })
    }

    /// Records that a store or a sealed append file got as far as `sequence`. Call it after that
    /// is durable there, never before: the mark may lag behind, it may not be ahead. Durable when
    /// this returns; threads that call it at the same time share one sync.
    ///
    /// For a name that [`Registry::put`] knows it raises `last_sequence`, for any other the
    /// high-water mark. A lower sequence than the known one changes nothing.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn note_sequence(&self, id: &str, sequence: u64) -> Result<(), RegistryError> {
        self.note_sequences(&[(id, sequence)])
    }

    /// As [`Registry::note_sequence`], for several at once.
    ///
    /// # Errors
    /// As [`Registry::note_sequence`].
    pub fn note_sequences(&self, notes: &[(&str, u64)]) -> Result<(), RegistryError> {
        let note = |(id, sequence): &(&str, u64)| {
            check_name(id)?;
            Ok(Note {
                id: (*id).to_owned(),
                sequence: *sequence,
                closed: false,
            })
        };
        self.append(
            notes
                .iter()
                .map(note)
                .collect::<Result<_, RegistryError>>()?,
        )
    }

    /// Records that a sealed append file was closed after `sequence`: its end may not go missing.
    ///
    /// # Errors
    /// As [`Registry::note_sequence`].
    pub fn note_closed(&self, id: &str, sequence: u64) -> Result<(), RegistryError> {
        check_name(id)?;
        self.append(vec![Note {
            id: id.to_owned(),
            sequence,
            closed: true,
        }])
    }

    /// Queues notes and waits until they are durable. One of the waiting threads writes for all.
    fn append(&self, notes: Vec<Note>) -> Result<(), RegistryError> {
        let mut state = self.lock();
        state.queued += notes.len() as u64;
        let mine = state.queued;
        state.waiting.extend(notes);
        loop {
            let mut refused = state.refused.iter();
            if let Some((.., why)) = refused.find(|(after, upto, _)| mine > *after && mine <= *upto)
            {
                return Err(RegistryError::Refused(*why));
            }
            if state.durable >= mine {
                return Ok(());
            }
            if !state.busy {
                break;
            }
            state = self
                .written
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.busy = true;
        let batch = std::mem::take(&mut state.waiting);
        let upto = state.queued;
        let after = upto - batch.len() as u64;
        // Everything that was acknowledged is in memory: written anew as a whole, it is on disk
        // again, whatever a failed write left there.
        let mended = match state.broken {
            true => self.replace_locked(&mut state, |_| {}),
            false => Ok(()),
        };
        let mut writer = state.writer.take();
        drop(state);
        let result = mended.and_then(|()| self.write_notes(&mut writer, &batch));
        let mut state = self.lock();
        state.busy = false;
        match &result {
            Ok(()) => {
                for note in &batch {
                    state.content.apply(note);
                }
                state.durable = upto;
                let full = writer
                    .as_ref()
                    .is_some_and(|writer| writer.len() > COMPACT_AT);
                state.writer = writer;
                if full {
                    // The notes are durable already; that folding them failed is told by the
                    // next write.
                    let _ = self.replace_locked(&mut state, |_| {});
                }
            }
            Err(error) => {
                // Refused by a disk that is full or can only be read, the file is as good as
                // before once its torn end is cut off, which opening it again does. After anything
                // else nobody knows what is there.
                let why = error.refusal();
                state.broken |= matches!(why, Refusal::DiskFailed | Refusal::Other)
                    || writer.is_some_and(|writer| writer.is_broken());
                match state.refused.last_mut() {
                    Some((_, last, known)) if *last == after && *known == why => *last = upto,
                    _ => state.refused.push((after, upto, why)),
                }
            }
        }
        drop(state);
        self.written.notify_all();
        result
    }

    fn write_notes(
        &self,
        writer: &mut Option<SealedLogWriter>,
        notes: &[Note],
    ) -> Result<(), RegistryError> {
        let writer = match writer {
            Some(writer) => writer,
            None => {
                let (fs, mark) = (Arc::clone(&self.fs), HighWater::default());
                writer.insert(SealedLogWriter::open_existing(
                    fs,
                    &self.key(),
                    &self.path,
                    mark,
                )?)
            }
        };
        for notes in notes.chunks(1000) {
            writer.append(&Note::encode_all(notes))?;
        }
        writer.sync()?;
        Ok(())
    }

    /// Changes the content and replaces the file by a snapshot of it.
    fn replace(&self, change: impl FnOnce(&mut Content)) -> Result<(), RegistryError> {
        let mut state = self.lock();
        while state.busy {
            state = self
                .written
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.replace_locked(&mut state, change)
    }

    fn replace_locked(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut Content),
    ) -> Result<(), RegistryError> {
        let mut content = state.content.clone();
        change(&mut content);
        self.put_in_place(state, content, &self.key())
    }

    fn put_in_place(
        &self,
        state: &mut State,
        content: Content,
        key: &LogKey,
    ) -> Result<(), RegistryError> {
        match self.write_snapshot(&content, key) {
            Ok(writer) => {
                state.content = content;
                state.writer = Some(writer);
                state.broken = false;
                Ok(())
            }
            Err(error) => {
                // The old file may be in place, or the new one: appending to the one that is
                // open could be appending to nothing.
                state.writer = None;
                state.broken |= !self.still_old(&error);
                Err(error)
            }
        }
    }

    /// Whether a failed replacement failed before anything was in place.
    fn still_old(&self, error: &RegistryError) -> bool {
        let RegistryError::Append(AppendError::File(error)) = error else {
            return false;
        };
        let beside = fs::temporary(&self.path);
        match error {
            FileError::StorageFull { path, .. }
            | FileError::ReadOnly { path, .. }
            | FileError::NotWritable { path, .. }
            | FileError::Io { path, .. }
            | FileError::Insecure { path, .. } => *path == beside,
        }
    }

    fn write_snapshot(
        &self,
        content: &Content,
        key: &LogKey,
    ) -> Result<SealedLogWriter, RegistryError> {
        let fs = &*self.fs;
        fs::remove_leftover(fs, &self.path)?;
        let beside = fs::temporary(&self.path);
        let file = fs.create(&beside).on("create", &beside)?;
        let mut writer = SealedLogWriter::fresh(file, &beside, key);
        let written = writer.append(&content.encode()).and_then(|_| writer.sync());
        if let Err(error) = written {
            let _ = fs.remove_file(&beside);
            return Err(error.into());
        }
        fs.rename(&beside, &self.path).on("replace", &self.path)?;
        fs::sync_parent(fs, &self.path)?;
        writer.moved(&self.path);
        Ok(writer)
    }

    /// Writes everything anew under another key, and goes on under it. Durable when this returns.
    ///
    /// # Errors
    /// When it could not be written; the file is under the old key or the new one.
    pub(crate) fn rekey(&self, roots: &Roots, vault: [u8; 16]) -> Result<(), RegistryError> {
        let mut state = self.lock();
        while state.busy {
            state = self
                .written
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let key = registry_key(roots, vault);
        let content = state.content.clone();
        self.put_in_place(&mut state, content, &key)?;
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    /// The same key, without what it could read of before.
    pub(crate) fn forget_earlier(&self, roots: &Roots, vault: [u8; 16]) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = registry_key(roots, vault);
    }

    fn key(&self) -> LogKey {
        let key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        key.share()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that the file says.
fn read(fs: &dyn Filesystem, path: &Path, key: &LogKey) -> Result<Content, RegistryError> {
    let file = fs.open(path, false).on("open", path)?;
    let mut scanner = Scanner::new(file, path, key.share(), HighWater::default());
    let unreadable = || RegistryError::Unreadable {
        path: path.to_path_buf(),
    };
    let first = scanner.next()?.ok_or_else(|| RegistryError::Cut {
        path: path.to_path_buf(),
    })?;
    let mut content = Content::decode(&first.data).ok_or_else(unreadable)?;
    while let Some(record) = scanner.next()? {
        for note in Note::decode_all(&record.data).ok_or_else(unreadable)? {
            content.apply(&note);
        }
    }
    Ok(content)
}

fn registry_key(roots: &Roots, vault: [u8; 16]) -> LogKey {
    roots.log_key(Purpose::Registry, Owner::System, vault)
}

fn check_name(id: &str) -> Result<(), RegistryError> {
    if id.is_empty() || id.len() > MAX_NAME {
        Err(RegistryError::Name)
    } else {
        Ok(())
    }
}

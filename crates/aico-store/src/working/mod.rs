//! Working memory: what a person's parts remember for a while and what can be lost at any moment.
//!
//! One environment for each person, in a folder beside their database: a table of sealed values
//! under keyed names, each with a time to live. Its keys come from the person's key and a salt that
//! is drawn anew with each environment. Nothing of it is in a backup or an export.
//!
//! - **It answers or it does not.** No call fails: what can't be read is not there, what can't be
//!   written is not remembered. Who asks has the durable truth elsewhere and reads it then.
//! - **It begins anew** after an unclean stop, another key, damage, a full table or an engine that
//!   fails or panics: the folder is removed, a new salt drawn. A record in the log says so, without
//!   content, and nobody else hears of it.
//! - **A closed one holds no key.** Handles outlive it; they answer nothing from then on.
//!
//! The layout on disk is described in `docs/formats/working-memory.md`.

mod cells;
mod engine;
mod note;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use aico_vault::PersonKeys;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::schema::now_ms;
use cells::{Cells, Entry, LONGEST_NAME, Name, SALT};
use engine::{Engine, EngineError, MakeEngine};

/// What an environment may hold.
#[derive(Clone, Copy, Debug)]
pub struct WorkingLimits {
    /// Bytes of one value; a longer one is not remembered.
    pub value: usize,
    /// Entries; beyond them the oldest make room.
    pub entries: usize,
    /// Bytes of all sealed values; beyond them the oldest make room.
    pub bytes: usize,
    /// Bytes of the file, which grows by itself up to here.
    pub file: u64,
}

impl Default for WorkingLimits {
    fn default() -> Self {
        Self {
            value: 1 << 20,
            entries: 4096,
            bytes: 16 << 20,
            file: 64 << 20,
        }
    }
}

/// What an environment holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkingStats {
    /// Whether it is open.
    pub open: bool,
    /// Entries, those that are over and not cleaned yet included.
    pub entries: usize,
    /// Bytes of their sealed values.
    pub bytes: usize,
    /// How often it began anew since it was opened, the first time included when nothing was
    /// there that could be used.
    pub begun: u64,
}

/// Longest time to live.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// An entry from further in the future was written before the clock was put back.
const SKEW: u64 = 60_000;
/// One that could not be made (a full disk) is tried again after so long.
const AGAIN: Duration = Duration::from_secs(30);

type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// One person's working memory. Clones are handles of the same one.
#[derive(Clone)]
pub struct WorkingMemory {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    limits: WorkingLimits,
    make: MakeEngine,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    /// `None` once it is closed.
    keys: Option<PersonKeys>,
    /// `None` while it could not be made.
    open: Option<Open>,
    again: Option<Instant>,
    begun: u64,
}

struct Open {
    engine: Box<dyn Engine>,
    /// The engine's file, to take its hash at the end.
    file: File,
    cells: Cells,
    salt: [u8; SALT],
    index: HashMap<Name, Kept>,
    bytes: usize,
}

/// What is known of an entry without opening it.
#[derive(Clone, Copy)]
struct Kept {
    space: Name,
    written: u64,
    expires: u64,
    bytes: usize,
}

impl Kept {
    fn lives(&self, now: u64) -> bool {
        now < self.expires && self.written <= now.saturating_add(SKEW)
    }
}

impl WorkingMemory {
    /// Opens what a clean stop left in this folder, or begins anew. Blocks for reading the file.
    /// The folder above must exist; one environment is open at a time.
    #[must_use]
    pub fn open(folder: &Path, keys: PersonKeys) -> Self {
        let now = || u64::try_from(now_ms()).unwrap_or(0);
        let limits = WorkingLimits::default();
        Self::open_with(folder, keys, limits, engine::redb, Arc::new(now))
    }

    /// [`Self::open`] with other limits.
    #[must_use]
    pub fn open_limited(folder: &Path, keys: PersonKeys, limits: WorkingLimits) -> Self {
        let now = || u64::try_from(now_ms()).unwrap_or(0);
        Self::open_with(folder, keys, limits, engine::redb, Arc::new(now))
    }

    fn open_with(
        folder: &Path,
        keys: PersonKeys,
        limits: WorkingLimits,
        make: MakeEngine,
        clock: Clock,
    ) -> Self {
        let inner = Inner {
            folder: folder.to_owned(),
            limits,
            make,
            clock,
            state: Mutex::new(State {
                keys: None,
                open: None,
                again: None,
                begun: 0,
            }),
        };
        let mut state = inner.state.lock();
        match inner.reopen(&keys) {
            Ok(Some(open)) => state.open = Some(open),
            Ok(None) => inner.begin(&mut state, &keys),
            Err(why) => {
                tracing::info!(why, "a working memory begins anew");
                inner.begin(&mut state, &keys);
            }
        }
        state.keys = Some(keys);
        drop(state);
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Removes what lies in a folder, for a person who is erased or restored. It must not be open.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(folder: &Path) -> std::io::Result<()> {
        note::remove(folder)
    }

    /// Remembers a value under a name within a space, for so long.
    pub async fn put(&self, space: &'static str, name: &[u8], value: Vec<u8>, ttl: Duration) {
        let name = name.to_vec();
        let value = Zeroizing::new(value);
        self.on(move |inner| inner.put(space, &name, &value, ttl))
            .await;
    }

    /// What is remembered under a name.
    pub async fn get(&self, space: &'static str, name: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let name = name.to_vec();
        self.on(move |inner| inner.get(space, &name))
            .await
            .flatten()
    }

    /// Everything in a space, with its names.
    pub async fn all(&self, space: &'static str) -> Vec<(Vec<u8>, Zeroizing<Vec<u8>>)> {
        let all = self.on(move |inner| inner.all(space)).await;
        all.unwrap_or_default()
    }

    /// Forgets what is under a name.
    pub async fn forget(&self, space: &'static str, name: &[u8]) {
        let name = name.to_vec();
        self.on(move |inner| inner.forget(space, &name)).await;
    }

    /// Removes what is over; called now and then. Answers how much.
    pub async fn clean(&self) -> usize {
        self.on(Inner::clean).await.unwrap_or(0)
    }

    /// Closes it, so that the next opening goes on with it. No key of it stays in memory.
    pub async fn close(&self) {
        self.on(|inner| inner.close(true)).await;
    }

    /// Closes it and removes what is there.
    pub async fn discard(&self) {
        self.on(|inner| inner.close(false)).await;
    }

    /// What it holds now.
    #[must_use]
    pub fn stats(&self) -> WorkingStats {
        let state = self.inner.state.lock();
        let open = state.open.as_ref();
        WorkingStats {
            open: state.keys.is_some(),
            entries: open.map_or(0, |open| open.index.len()),
            bytes: open.map_or(0, |open| open.bytes),
            begun: state.begun,
        }
    }

    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> T + Send + 'static,
    ) -> Option<T> {
        let inner = Arc::clone(&self.inner);
        // A panic of ours is no reason for the caller's work to fail.
        tokio::task::spawn_blocking(move || work(&inner)).await.ok()
    }
}

impl Inner {
    fn now(&self) -> u64 {
        (self.clock)()
    }

    /// What a clean stop left, with everything in it looked at once.
    fn reopen(&self, keys: &PersonKeys) -> Result<Option<Open>, &'static str> {
        let Some(note::Closed { file, salt }) = note::take(&self.folder, keys, self.limits.file)?
        else {
            return Ok(None);
        };
        let cells = Cells::new(keys, &salt);
        let mut index = HashMap::new();
        let (mut bytes, mut strange) = (0, false);
        let made = guarded(|| {
            let own = file.try_clone().map_err(|_| EngineError::Failed("open"))?;
            let mut engine = (self.make)(own, self.limits.file)?;
            engine.each(&mut |name, sealed| {
                let name: Option<Name> = name.try_into().ok();
                let opened = name.and_then(|name| Some((name, cells.open(&name, sealed)?)));
                let Some((name, entry)) = opened else {
                    strange = true;
                    return;
                };
                bytes += sealed.len();
                let kept = Kept {
                    space: cells.space(&entry.space),
                    written: entry.written,
                    expires: entry.expires,
                    bytes: sealed.len(),
                };
                index.insert(name, kept);
            })?;
            Ok(engine)
        });
        match made {
            Ok(engine) if !strange => Ok(Some(Open {
                engine,
                file,
                cells,
                salt,
                index,
                bytes,
            })),
            Ok(engine) => {
                let_go(engine);
                Err("an entry can't be opened")
            }
            Err(_) => Err("its table can't be opened"),
        }
    }

    /// Begins anew, under another salt. What could not be made is tried again later.
    fn begin(&self, state: &mut State, keys: &PersonKeys) {
        if let Some(open) = state.open.take() {
            let_go(open.engine);
        }
        let made = (|| {
            let salt = cells::new_salt().map_err(|_| "no random numbers")?;
            let file = note::begin(&self.folder).map_err(|_| "its file can't be made")?;
            let own = file.try_clone().map_err(|_| "its file can't be made")?;
            let engine = guarded(|| (self.make)(own, self.limits.file))
                .map_err(|_| "its table can't be made")?;
            Ok::<_, &str>(Open {
                engine,
                file,
                cells: Cells::new(keys, &salt),
                salt,
                index: HashMap::new(),
                bytes: 0,
            })
        })();
        state.begun += 1;
        match made {
            Ok(open) => {
                state.open = Some(open);
                state.again = None;
            }
            Err(why) => {
                // A file that is half there helps nobody, and the disk may be full.
                let _ = note::remove(&self.folder);
                state.again = Some(Instant::now() + AGAIN);
                tracing::warn!(why, "there is no working memory for now; nothing is lost");
            }
        }
    }

    /// Runs what needs the table. When the engine fails, the memory begins anew and nothing is
    /// answered.
    fn with<T>(&self, work: impl FnOnce(&mut Open, u64) -> Result<T, EngineError>) -> Option<T> {
        let now = self.now();
        let mut state = self.state.lock();
        let keys = state.keys.clone()?;
        if state.open.is_none() {
            if state.again.is_some_and(|again| Instant::now() < again) {
                return None;
            }
            self.begin(&mut state, &keys);
        }
        let open = state.open.as_mut()?;
        match guarded(|| work(open, now)) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::warn!(?error, "a working memory failed and begins anew");
                self.begin(&mut state, &keys);
                None
            }
        }
    }

    fn put(&self, space: &str, name: &[u8], value: &[u8], ttl: Duration) {
        let ttl = u64::try_from(ttl.min(LONGEST).as_millis()).unwrap_or(u64::MAX);
        self.with(|open, now| {
            let key = open.cells.name(space, name);
            if value.len() > self.limits.value || name.len() > LONGEST_NAME {
                // What was there before is not what was to be remembered.
                return open.remove(&[key]);
            }
            let entry = Entry {
                written: now,
                expires: now.saturating_add(ttl),
                space: space.to_owned(),
                name: name.to_vec(),
                value: Zeroizing::new(value.to_vec()),
            };
            let sealed = open
                .cells
                .seal(&key, &entry)
                .map_err(|_| EngineError::Failed("seal"))?;
            let kept = Kept {
                space: open.cells.space(space),
                written: entry.written,
                expires: entry.expires,
                bytes: sealed.len(),
            };
            let room = open.room_for(&key, sealed.len(), &self.limits, now);
            open.engine.change(&room, &[(key, sealed)])?;
            for gone in &room {
                open.left(gone);
            }
            open.left(&key);
            open.bytes += kept.bytes;
            open.index.insert(key, kept);
            Ok(())
        });
    }

    fn get(&self, space: &str, name: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.with(|open, now| {
            let key = open.cells.name(space, name);
            open.read(&key, now)
        })
        .flatten()
        .map(|entry| entry.value)
    }

    fn all(&self, space: &str) -> Vec<(Vec<u8>, Zeroizing<Vec<u8>>)> {
        let found = self.with(|open, now| {
            let space = open.cells.space(space);
            let names: Vec<Name> = open
                .index
                .iter()
                .filter(|(_, kept)| kept.space == space)
                .map(|(name, _)| *name)
                .collect();
            let mut all = Vec::with_capacity(names.len());
            for name in names {
                if let Some(entry) = open.read(&name, now)? {
                    all.push((entry.name, entry.value));
                }
            }
            Ok(all)
        });
        found.unwrap_or_default()
    }

    fn forget(&self, space: &str, name: &[u8]) {
        self.with(|open, _| {
            let key = open.cells.name(space, name);
            match open.index.contains_key(&key) {
                true => open.remove(&[key]),
                false => Ok(()),
            }
        });
    }

    fn clean(&self) -> usize {
        let cleaned = self.with(|open, now| {
            let over: Vec<Name> = open
                .index
                .iter()
                .filter(|(_, kept)| !kept.lives(now))
                .map(|(name, _)| *name)
                .collect();
            if !over.is_empty() {
                open.remove(&over)?;
            }
            Ok(over.len())
        });
        cleaned.unwrap_or(0)
    }

    fn close(&self, keep: bool) {
        if keep {
            self.clean();
        }
        let mut state = self.state.lock();
        let Some(keys) = state.keys.take() else {
            return;
        };
        let left = state.open.take().and_then(|open| {
            let Open {
                engine,
                mut file,
                salt,
                index,
                ..
            } = open;
            let closed = guarded(|| engine.close());
            if !keep || index.is_empty() || closed.is_err() {
                return None;
            }
            note::leave(&self.folder, &keys, &salt, &mut file).ok()
        });
        if left.is_none() && note::remove(&self.folder).is_err() {
            tracing::warn!("a working memory that is closed could not be removed");
        }
    }
}

impl Open {
    fn read(&mut self, name: &Name, now: u64) -> Result<Option<Entry>, EngineError> {
        let Some(kept) = self.index.get(name) else {
            return Ok(None);
        };
        if !kept.lives(now) {
            return Ok(None);
        }
        let sealed = self.engine.get(name)?;
        let entry = sealed.and_then(|sealed| self.cells.open(name, &sealed));
        match entry {
            // An older value of the same name opens as well.
            Some(entry) if (entry.written, entry.expires) == (kept.written, kept.expires) => {
                Ok(Some(entry))
            }
            _ => Err(EngineError::Failed("an entry can't be opened")),
        }
    }

    fn remove(&mut self, names: &[Name]) -> Result<(), EngineError> {
        self.engine.change(names, &[])?;
        for name in names {
            self.left(name);
        }
        Ok(())
    }

    fn left(&mut self, name: &Name) {
        if let Some(kept) = self.index.remove(name) {
            self.bytes -= kept.bytes;
        }
    }

    /// What has to go so that a value of this size fits under this name: what is over, and then
    /// the oldest.
    fn room_for(&self, name: &Name, bytes: usize, limits: &WorkingLimits, now: u64) -> Vec<Name> {
        let others = || self.index.iter().filter(|(other, _)| *other != name);
        let mut all = others().map(|(_, kept)| kept.bytes).sum::<usize>() + bytes;
        let mut count = others().count() + 1;
        if all <= limits.bytes && count <= limits.entries {
            return Vec::new();
        }
        let mut oldest: Vec<_> = others().collect();
        oldest.sort_by_key(|(_, kept)| (kept.lives(now), kept.written));
        let mut gone = Vec::new();
        for (other, kept) in oldest {
            if all <= limits.bytes && count <= limits.entries {
                break;
            }
            all -= kept.bytes;
            count -= 1;
            gone.push(*other);
        }
        gone
    }
}

/// Runs an engine's code; a panic is a failure like others.
fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(EngineError::Failed("panicked")))
}

/// Drops an engine that failed, which may fail once more.
fn let_go(engine: Box<dyn Engine>) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(engine))));
}

//! The table under the working memory, behind a trait of our own.
//!
//! An engine sees keyed names and sealed values and nothing else: no key, no text, no times. It may
//! fail or panic at any call; the memory then begins anew. Why this one is `redb` and not LMDB is
//! told in ARCHITECTURE.md.

use std::{
    fmt,
    fs::File,
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, StorageBackend, TableDefinition};

use super::cells::Name;

/// Pages that the engine keeps in memory, in bytes. They hold sealed values.
const CACHE: usize = 512 * 1024;
const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("cells");

/// Why an engine can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineError {
    /// No room, on the disk or within the bound.
    Full,
    /// Anything else; what it is names no content.
    Failed(&'static str),
}

/// A table of opaque bytes in one file. Dropped without [`Self::close`], what it left is of no use.
pub(crate) trait Engine: Send {
    /// Removes and puts, all or nothing.
    fn change(&mut self, remove: &[Name], put: &[(Name, Vec<u8>)]) -> Result<(), EngineError>;
    /// What lies under a name.
    fn get(&mut self, name: &Name) -> Result<Option<Vec<u8>>, EngineError>;
    /// Each name with what lies under it.
    fn each(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError>;
    /// Everything is in the file afterwards, and the file can be opened again.
    fn close(self: Box<Self>) -> Result<(), EngineError>;
}

/// Makes an engine of a file that is empty or was closed well, and is nobody else's.
pub(crate) type MakeEngine = fn(File, u64) -> Result<Box<dyn Engine>, EngineError>;

/// The engine that is used.
pub(crate) fn redb(file: File, most: u64) -> Result<Box<dyn Engine>, EngineError> {
    let full = std::sync::Arc::new(AtomicBool::new(false));
    let backend = Bounded {
        file,
        most,
        full: std::sync::Arc::clone(&full),
    };
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    // It was closed well or is empty; a repair would mean that something is wrong with it.
    builder.set_repair_callback(|session| session.abort());
    let database = builder
        .create_with_backend(backend)
        .map_err(|_| failure(&full, "open"))?;
    let engine = Redb { database, full };
    engine.make_table()?;
    Ok(Box::new(engine))
}

struct Redb {
    database: Database,
    /// Set when a write failed for want of room.
    full: std::sync::Arc<AtomicBool>,
}

fn failure(full: &AtomicBool, step: &'static str) -> EngineError {
    match full.load(Ordering::Relaxed) {
        true => EngineError::Full,
        false => EngineError::Failed(step),
    }
}

impl Redb {
    fn make_table(&self) -> Result<(), EngineError> {
        let failed = || failure(&self.full, "begin");
        let tx = self.database.begin_write().map_err(|_| failed())?;
        tx.open_table(TABLE).map(drop).map_err(|_| failed())?;
        tx.commit().map_err(|_| failed())
    }
}

impl Engine for Redb {
    fn change(&mut self, remove: &[Name], put: &[(Name, Vec<u8>)]) -> Result<(), EngineError> {
        let failed = || failure(&self.full, "write");
        let tx = self.database.begin_write().map_err(|_| failed())?;
        {
            let mut table = tx.open_table(TABLE).map_err(|_| failed())?;
            for name in remove {
                table.remove(name.as_slice()).map_err(|_| failed())?;
            }
            for (name, sealed) in put {
                table
                    .insert(name.as_slice(), sealed.as_slice())
                    .map_err(|_| failed())?;
            }
        }
        tx.commit().map_err(|_| failed())
    }

    fn get(&mut self, name: &Name) -> Result<Option<Vec<u8>>, EngineError> {
        let failed = || EngineError::Failed("read");
        let tx = self.database.begin_read().map_err(|_| failed())?;
        let table = tx.open_table(TABLE).map_err(|_| failed())?;
        let found = table.get(name.as_slice()).map_err(|_| failed())?;
        Ok(found.map(|found| found.value().to_vec()))
    }

    fn each(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
        let failed = || EngineError::Failed("read");
        let tx = self.database.begin_read().map_err(|_| failed())?;
        let table = tx.open_table(TABLE).map_err(|_| failed())?;
        for row in table.iter().map_err(|_| failed())? {
            let (name, sealed) = row.map_err(|_| failed())?;
            visit(name.value(), sealed.value());
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), EngineError> {
        let full = self.full;
        // Writes what the next opening needs; what of it fails is told by the file alone.
        drop(self.database);
        match full.load(Ordering::Relaxed) {
            true => Err(EngineError::Full),
            false => Ok(()),
        }
    }
}

/// The file, no longer than its bound. It is never synced: what an unclean stop leaves is removed
/// unopened, whatever of it reached the disk.
struct Bounded {
    file: File,
    most: u64,
    full: std::sync::Arc<AtomicBool>,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").finish_non_exhaustive()
    }
}

impl Bounded {
    fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(is_full) {
            self.full.store(true, Ordering::Relaxed);
        }
        result
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
        || error.raw_os_error().is_some_and(crate::platform::is_full)
}

impl StorageBackend for Bounded {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        crate::platform::read_exact_at(&self.file, out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let result = match length > self.most {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => self.file.set_len(length),
        };
        self.told(result)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.told(crate::platform::write_all_at(&self.file, data, offset))
    }
}

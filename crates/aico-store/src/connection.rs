//! Connections: keyed, with every setting that the security and durability of a store rest on.

use std::{
    cell::Cell,
    ffi::c_int,
    io,
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, ffi, limits::Limit};
use zeroize::Zeroizing;

use crate::{
    error::{OpenError, StoreError},
    memory, place, platform, threads,
};

/// How a connection is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The one that writes.
    Write,
    /// One that reads beside the writer.
    Read,
    /// One that reads a file at rest and leaves no trace beside it; a write-ahead log that may be
    /// there is not read.
    AtRest,
}

/// How long to wait for a lock before `Busy`.
const PATIENCE: Duration = Duration::from_secs(5);

/// Statements kept prepared on each connection.
const STATEMENTS: usize = 128;

/// The same for every connection. Why each is there:
/// - `cipher_*`: SQLCipher 4's own format, nothing readable in the file;
/// - `temp_store`: sorting and statement journals never touch the disk in clear;
/// - `secure_delete`: deleted rows are overwritten, so that an erased line is not in free pages;
/// - `trusted_schema`, `cell_size_check`: a crafted database gets no functions and no bad cells;
/// - `fullfsync`: on macOS `fsync` alone does not reach the medium.
const SETTINGS: &str = "
    PRAGMA cipher_compatibility = 4;
    PRAGMA cipher_plaintext_header_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA foreign_keys = ON;
    PRAGMA secure_delete = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA cell_size_check = ON;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -4096;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
";

/// Opens the file, which must exist, and keys it. Whether the key fits shows at the first read.
pub(crate) fn open(path: &Path, key: &[u8; 32], mode: Mode) -> Result<Connection, StoreError> {
    let access = match mode {
        Mode::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Mode::Read | Mode::AtRest => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = match mode {
        Mode::AtRest => {
            Connection::open_with_flags(at_rest_address(path), flags | OpenFlags::SQLITE_OPEN_URI)?
        }
        _ => Connection::open_with_flags(path, flags)?,
    };
    if mode == Mode::Write && connection.is_readonly(rusqlite::MAIN_DB).unwrap_or(false) {
        // The engine opens what it may not write for reading, and would never write again.
        return Err(match on_read_only_disk(&connection) {
            true => StoreError::StorageReadOnly,
            false => StoreError::ReadOnly,
        });
    }
    apply_key(&connection, key)?;
    connection.execute_batch(SETTINGS)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    harden(&connection)?;
    if mode == Mode::Write {
        connection.execute_batch("PRAGMA synchronous = FULL;")?;
    } else {
        connection.execute_batch("PRAGMA query_only = ON;")?;
    }
    Ok(connection)
}

/// Turns the write-ahead log on: for the writer, after the key is known to fit. (Reading it is
/// the first thing that touches the file.)
pub(crate) fn use_log(connection: &Connection) -> Result<(), StoreError> {
    // A log that a long reader let grow is cut back at the next reset.
    const LIMITS: &str = "PRAGMA journal_size_limit = 16777216; PRAGMA wal_autocheckpoint = 1000;";
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| refine(connection, error.into()))?;
    if mode != "wal" {
        return Err(StoreError::Io {
            code: ffi::SQLITE_CANTOPEN,
        });
    }
    Ok(connection.execute_batch(LIMITS)?)
}

/// Moves the whole log into the database, and cuts it.
pub(crate) fn fold_log(connection: &Connection) -> Result<(), StoreError> {
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(|error| refine(connection, error.into()))?;
    if busy == 0 {
        Ok(())
    } else {
        Err(StoreError::Busy)
    }
}

/// A file address that tells SQLite the file does not change: no lock, no log, no shared memory.
fn at_rest_address(path: &Path) -> String {
    let mut address = String::from("file:");
    for byte in platform::address_bytes(path) {
        match byte {
            b'/' | b':' | b'.' | b'-' | b'_' | b'~' => address.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => address.push(char::from(byte)),
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address.push_str("?immutable=1");
    address
}

/// Hands over 64 hex digits: a raw key without a salt (with one, the salt in the file would not
/// be read, and a flipped byte there go unseen). Not as SQL text, which errors and logs quote.
fn apply_key(connection: &Connection, key: &[u8; 32]) -> Result<(), StoreError> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new([0_u8; 67]);
    text[..2].copy_from_slice(b"x'");
    for (index, byte) in key.iter().enumerate() {
        text[2 + 2 * index] = DIGITS[usize::from(byte >> 4)];
        text[3 + 2 * index] = DIGITS[usize::from(byte & 15)];
    }
    text[66] = b'\'';
    // SAFETY: the handle belongs to `connection`, which outlives the call and is used by this
    // thread alone; the buffer holds 67 bytes and SQLCipher copies them.
    let code = unsafe { ffi::sqlite3_key(connection.handle(), text.as_ptr().cast(), 67) };
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(StoreError::Io { code })
    }
}

fn harden(connection: &Connection) -> Result<(), StoreError> {
    let set = |option, on| connection.set_db_config(option, on).map(drop);
    set(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    set(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    set(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    set(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, 128 << 20),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 32),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    Ok(())
}

/// Once in the process: gives the engine memory that is wiped, sends its log to ours, silences
/// SQLCipher's own (it would write to standard error), and makes sure that the linked engine
/// encrypts at all. Ends of the process wait for it from here on.
pub(crate) fn prepare_engine() -> Result<(), OpenError> {
    static ENCRYPTS: OnceLock<bool> = OnceLock::new();
    let encrypts = *ENCRYPTS.get_or_init(|| {
        if !memory::install() {
            tracing::debug!("the engine was started before its memory could be replaced");
        }
        // SAFETY: this runs once, before the first connection of this crate, and the callback
        // makes no call into SQLite. If other code has started the engine earlier, SQLite answers
        // an error and nothing is set.
        let set = unsafe { rusqlite::trace::config_log(Some(log_line)) };
        if set.is_err() {
            tracing::debug!("the engine was started before its log could be taken over");
        }
        let version = || -> rusqlite::Result<String> {
            let connection = Connection::open_in_memory()?;
            connection.execute_batch("PRAGMA cipher_log_level = NONE; PRAGMA cipher_log = off;")?;
            connection.query_row("PRAGMA cipher_version", [], |row| row.get(0))
        };
        let encrypts = version().is_ok_and(|version| version.starts_with("4."));
        threads::wait_at_exit();
        encrypts
    });
    if encrypts {
        Ok(())
    } else {
        Err(OpenError::NotEncrypting)
    }
}

thread_local! {
    /// When the system last told the engine, on this thread, that a disk is full.
    static FULL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long that may be ago to be what an error comes from.
const JUST_NOW: Duration = Duration::from_secs(1);

/// Whether a full disk is what an error of the engine comes from that has no code for it: a log or
/// its index that could not be made. Asked once for each error.
pub(crate) fn was_full() -> bool {
    FULL.take().is_some_and(|at| at.elapsed() < JUST_NOW)
}

/// The engine's message quotes statements and names files; the code alone is let through. It is
/// called where the system's call failed, whose error number is gone when the engine answers.
fn log_line(code: c_int, _message: &str) {
    let system = io::Error::last_os_error().raw_os_error();
    if system.is_some_and(platform::is_full) {
        FULL.set(Some(Instant::now()));
    }
    match code & 0xff {
        ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => {
            tracing::warn!(code, "the database engine met damage");
        }
        ffi::SQLITE_IOERR | ffi::SQLITE_FULL | ffi::SQLITE_CANTOPEN => {
            tracing::warn!(code, "the database engine met an input/output error");
        }
        _ => tracing::debug!(code, "the database engine has logged a code"),
    }
}

/// An error after which the system's own error number says that the disk is full, or can only be
/// read, becomes [`StoreError::StorageFull`] or [`StoreError::StorageReadOnly`].
pub(crate) fn refine(connection: &Connection, error: StoreError) -> StoreError {
    if let StoreError::Io { code } = error {
        // SAFETY: the handle belongs to `connection`, used by this thread alone.
        let errno = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
        // The engine has lost the system's word when it can't make a file.
        let cannot_open = code & 0xff == ffi::SQLITE_CANTOPEN;
        if platform::is_full(errno) || cannot_open && on_full_disk(connection) {
            return StoreError::StorageFull;
        }
        if platform::is_read_only(errno) || on_read_only_disk(connection) {
            return StoreError::StorageReadOnly;
        }
        let failed = aico_vault::fs::disk_failed(&io::Error::from_raw_os_error(errno));
        if cannot_open && failed {
            return StoreError::Io {
                code: ffi::SQLITE_IOERR,
            };
        }
    }
    error
}

/// Whether no file can be made beside the connection's for want of space.
fn on_full_disk(connection: &Connection) -> bool {
    let path = connection.path().filter(|path| !path.is_empty());
    path.is_some_and(|path| place::is_full_beside(Path::new(path)))
}

/// Whether the file's disk says of itself that it can only be read. The error number above may be
/// another's by the time it is asked for.
fn on_read_only_disk(connection: &Connection) -> bool {
    let Some(path) = connection.path().filter(|path| !path.is_empty()) else {
        return false;
    };
    platform::writable(Path::new(path))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `docs/formats/stores.md` and the security design say of every connection.
    #[test]
    fn every_connection_has_the_binding_settings() {
        prepare_engine().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        drop(platform::create_private(&path).unwrap());
        let writer = open(&path, &[1; 32], Mode::Write).unwrap();
        use_log(&writer).unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        let reader = open(&path, &[1; 32], Mode::Read).unwrap();
        for (name, value) in [
            ("temp_store", "2"),
            ("foreign_keys", "1"),
            ("secure_delete", "1"),
            ("trusted_schema", "0"),
            ("cell_size_check", "1"),
            ("journal_mode", "wal"),
            ("cipher_page_size", "4096"),
            ("cipher_plaintext_header_size", "0"),
            ("cipher_use_hmac", "1"),
            ("cipher_hmac_algorithm", "HMAC_SHA512"),
            ("cipher_provider", "openssl"),
            ("cipher_log_level", "NONE"),
        ] {
            for connection in [&writer, &reader] {
                let found: String = connection
                    .query_row(&format!("PRAGMA {name}"), [], |row| {
                        Ok(match row.get_ref(0)? {
                            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                            other => other.as_str()?.to_owned(),
                        })
                    })
                    .unwrap();
                assert_eq!(found, value, "{name}");
            }
        }
        let synchronous: i64 = writer
            .query_row("PRAGMA synchronous", [], |row| row.get(0))
            .unwrap();
        assert_eq!(synchronous, 2);
        assert!(reader.execute("INSERT INTO t VALUES (1)", []).is_err());
    }
}

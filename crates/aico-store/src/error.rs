//! Errors. None of them holds SQL text, a value or an engine's message: those quote what people
//! wrote.

use std::{error::Error, io, path::PathBuf};

use rusqlite::ffi;

use crate::{connection, identity::Identity, registry::RegistryError};

/// Why a read or a write did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The store was opened read-only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// No space is left on the disk. Reads go on; writes work again when space returns.
    #[error("no space is left on the disk")]
    StorageFull,
    /// The disk can only be read: remounted, or given up on by the system after errors. Reads go
    /// on; writes work again when it can be written.
    #[error("the disk can only be read")]
    StorageReadOnly,
    /// Something held the database for longer than the time limit: another change, a disk that
    /// does not answer. Nothing was done.
    #[error("the database is busy")]
    Busy,
    /// A page failed its authentication, or the structure is broken.
    #[error("the database is damaged (code {code})")]
    Damaged {
        /// SQLite's extended result code.
        code: i32,
    },
    /// A constraint of the schema was violated.
    #[error("a constraint of the schema was violated ({0:?})")]
    Constraint(ConstraintKind),
    /// A query that must find a row found none.
    #[error("no such row")]
    NoRow,
    /// A value does not have the type or range that the code expects.
    #[error("a value in the database has an unexpected type or range")]
    Conversion,
    /// A value or statement is over the limits set on the connection.
    #[error("a value is larger than the store accepts")]
    TooBig,
    /// Reading or writing the file failed.
    #[error("the database file cannot be read or written (code {code})")]
    Io {
        /// SQLite's extended result code.
        code: i32,
    },
    /// The statement is wrong or not allowed: a mistake in the program.
    #[error("a statement was refused (code {code}, offset {offset:?})")]
    Sql {
        /// SQLite's extended result code.
        code: i32,
        /// Byte offset in the statement's text, where the engine tells one.
        offset: Option<i32>,
    },
    /// Whoever asked for it wants it no longer.
    #[error("the operation was cancelled")]
    Cancelled,
    /// The closure panicked. Nothing of it was kept.
    #[error("the operation panicked and was undone")]
    Panicked,
    /// Another operation in the same commit ended the transaction. Nothing was kept; try again.
    #[error("the transaction was ended by another operation")]
    Aborted,
    /// The change is in the database, but its acknowledgement could not be recorded. Look before
    /// trying again.
    #[error("the change was made but could not be acknowledged")]
    Unacknowledged(#[source] RegistryError),
    /// The registry cannot be used, so nothing was written.
    #[error("the registry of stores cannot be used; nothing was written")]
    Registry(#[source] RegistryError),
    /// The caller's own error, handed through.
    #[error(transparent)]
    Caller(Box<dyn Error + Send + Sync>),
}

/// Which kind of constraint was violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConstraintKind {
    /// `UNIQUE` or `PRIMARY KEY`.
    Unique,
    /// `FOREIGN KEY`.
    ForeignKey,
    /// `NOT NULL`.
    NotNull,
    /// `CHECK`, or a column's type in a `STRICT` table.
    Check,
    /// Any other, such as one raised by a trigger.
    Other,
}

impl StoreError {
    /// Wraps a caller's own error, so that it passes through a transaction (which is undone).
    pub fn caller(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Caller(Box::new(error))
    }

    /// Whether the disk failed: what was read or written did not come through.
    #[must_use]
    pub fn is_disk_failure(&self) -> bool {
        match self {
            Self::Io { code } => {
                code & 0xff == ffi::SQLITE_IOERR && *code != ffi::SQLITE_IOERR_NOMEM
            }
            Self::Registry(RegistryError::StorageFailing)
            | Self::Unacknowledged(RegistryError::StorageFailing) => true,
            _ => false,
        }
    }

    /// The caller's own error, or this one when it is another.
    pub fn downcast<E: Error + 'static>(self) -> Result<E, Self> {
        match self {
            Self::Caller(error) => error
                .downcast::<E>()
                .map(|error| *error)
                .map_err(Self::Caller),
            other => Err(other),
        }
    }

    fn from_code(code: i32, message: Option<&str>) -> Self {
        match code & 0xff {
            ffi::SQLITE_FULL => Self::StorageFull,
            ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => Self::Busy,
            ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB => Self::Damaged { code },
            ffi::SQLITE_CONSTRAINT => Self::Constraint(match code {
                ffi::SQLITE_CONSTRAINT_UNIQUE
                | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
                | ffi::SQLITE_CONSTRAINT_ROWID => ConstraintKind::Unique,
                ffi::SQLITE_CONSTRAINT_FOREIGNKEY => ConstraintKind::ForeignKey,
                ffi::SQLITE_CONSTRAINT_NOTNULL => ConstraintKind::NotNull,
                ffi::SQLITE_CONSTRAINT_CHECK | ffi::SQLITE_CONSTRAINT_DATATYPE => {
                    ConstraintKind::Check
                }
                _ => ConstraintKind::Other,
            }),
            ffi::SQLITE_READONLY => Self::ReadOnly,
            // The log's index could not grow, for which there is one reason.
            _ if code == ffi::SQLITE_IOERR_SHMSIZE => Self::StorageFull,
            ffi::SQLITE_TOOBIG => Self::TooBig,
            ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN if connection::was_full() => Self::StorageFull,
            ffi::SQLITE_IOERR | ffi::SQLITE_CANTOPEN => Self::Io { code },
            // SQLCipher answers a page that fails its authentication with the plain error code
            // and no message of its own; a mistake in a statement always has one.
            ffi::SQLITE_ERROR if message.is_none_or(|text| text == "SQL logic error") => {
                Self::Damaged { code }
            }
            _ => Self::Sql { code, offset: None },
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match error {
            E::SqliteFailure(failure, message) => {
                Self::from_code(failure.extended_code, message.as_deref())
            }
            E::SqlInputError { error, offset, .. } => Self::Sql {
                code: error.extended_code,
                offset: Some(offset),
            },
            E::QueryReturnedNoRows => Self::NoRow,
            E::FromSqlConversionFailure(..)
            | E::ToSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::Utf8Error(..)
            | E::NulError(..) => Self::Conversion,
            E::UnwindingPanic => Self::Panicked,
            _ => Self::Sql {
                code: ffi::SQLITE_MISUSE,
                offset: None,
            },
        }
    }
}

impl OpenError {
    pub(crate) fn read_only(path: PathBuf) -> Self {
        let folder = path.parent().unwrap_or(&path).display().to_string();
        let mend = format!("mount -o remount,rw '{}'", folder.replace('\'', r"'\''"));
        Self::StorageReadOnly { path, mend }
    }
}

/// Why a database was not opened or made. Nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Kind and person of the asked-for identity do not fit together.
    #[error("a person's database needs a person's id, and the system's has none")]
    IncoherentIdentity,
    /// The engine that was linked does not encrypt.
    #[error("the linked database engine does not encrypt")]
    NotEncrypting,
    /// There is no file.
    #[error("the database {} is missing", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file is there, with no byte in it.
    #[error("the database {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A new database was asked for where a file is.
    #[error("{} is already there", path.display())]
    AlreadyThere {
        /// The file.
        path: PathBuf,
    },
    /// A new database was asked for whose record is in the registry.
    #[error("the registry already knows the database {store_id}")]
    AlreadyRegistered {
        /// The record's name.
        store_id: String,
    },
    /// The registry has no record of this database.
    #[error("the registry does not know the database {store_id}")]
    NotRegistered {
        /// The record's name.
        store_id: String,
    },
    /// This process has the file open already.
    #[error("{} is already open", path.display())]
    AlreadyOpen {
        /// The file.
        path: PathBuf,
    },
    /// The path is a symbolic link, a folder or a device.
    #[error("{} is not a plain file", path.display())]
    NotAPlainFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is open to others, or belongs to another user.
    #[error("{} is not private; mend it with: {mend}", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// The command that mends it.
        mend: String,
    },
    /// The file or its folder cannot be written.
    #[error("{} or its folder cannot be written", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
    },
    /// The end is missing: of the file, or of the acknowledged commits.
    #[error("{} was cut short: it ends at commit {found:?}, commit {expected} was acknowledged", path.display())]
    Shortened {
        /// The file.
        path: PathBuf,
        /// The last commit in it, where it can be read at all.
        found: Option<u64>,
        /// The last commit that was acknowledged.
        expected: u64,
    },
    /// The first page does not open with this key, or a page fails its authentication.
    #[error("{} does not open with its key, or is damaged", path.display())]
    WrongKeyOrDamaged {
        /// The file.
        path: PathBuf,
    },
    /// It opens, but it is another's database.
    #[error("{} is the database of {found}, not of {expected}", path.display())]
    OfAnother {
        /// The file.
        path: PathBuf,
        /// Whose it should be.
        expected: Identity,
        /// Whose it is.
        found: Identity,
    },
    /// It opens, but holds no identity row: no database of ours.
    #[error("{} is not a store", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The salt is not the recorded one: another database or copy in its place, or damage.
    #[error("{} is another file than the one that was here, or its head is damaged", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
    },
    /// An older copy was put back.
    #[error("{} is an older copy: generation {found_generation}, commit {found}; expected generation {expected_generation}, commit {expected}", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its generation.
        found_generation: u64,
        /// The registry's generation.
        expected_generation: u64,
        /// Its last commit.
        found: u64,
        /// The last acknowledged commit.
        expected: u64,
    },
    /// The registry is older than the database.
    #[error("the registry is older than {}: it knows generation {expected_generation}, the database has {found_generation}", path.display())]
    RegistryOlder {
        /// The file.
        path: PathBuf,
        /// The database's generation.
        found_generation: u64,
        /// The registry's generation.
        expected_generation: u64,
    },
    /// The file is not the one that was closed, though nothing else gives it away.
    #[error("{} was changed since it was closed", path.display())]
    ChangedSinceStop {
        /// The file.
        path: PathBuf,
    },
    /// A newer program has written it.
    #[error("{} has version {found} of {module}, this program knows {known}", path.display())]
    SchemaNewer {
        /// The file.
        path: PathBuf,
        /// The module whose tables are newer.
        module: String,
        /// The version in the database.
        found: u32,
        /// The newest version that this program knows; 0 when it does not know the module.
        known: u32,
    },
    /// A migration that has run is not the one that this program holds under its number.
    #[error("{}: migration {version} of {module} has changed since it ran", path.display())]
    MigrationChanged {
        /// The file.
        path: PathBuf,
        /// The module.
        module: String,
        /// The step.
        version: u32,
    },
    /// The modules' lists are wrong: a mistake in the program.
    #[error("the migrations of {module} are not numbered 1, 2, 3 …, or the module is named twice")]
    MigrationList {
        /// The module.
        module: String,
    },
    /// A step failed. The database is as it was before when `restored` is true; otherwise the
    /// snapshot is still beside it and the next start continues.
    #[error("migration {version} ({name}) of {module} failed; {}", restored_text(*restored))]
    MigrationFailed {
        /// The module.
        module: &'static str,
        /// The step.
        version: u32,
        /// The step's name.
        name: &'static str,
        /// Whether the snapshot was put back.
        restored: bool,
        /// What failed.
        #[source]
        source: StoreError,
    },
    /// The disk can only be read.
    #[error("the disk of {} can only be read; mend it with: {mend}", path.display())]
    StorageReadOnly {
        /// The file.
        path: PathBuf,
        /// The command that mends it, where nothing else is wrong with the disk.
        mend: String,
    },
    /// No space is left to open it.
    #[error("no space is left on the disk to open {}", path.display())]
    StorageFull {
        /// The file.
        path: PathBuf,
    },
    /// A step with files failed.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// The registry cannot be used.
    #[error("the registry of stores cannot be used")]
    Registry(#[from] RegistryError),
    /// The engine refused.
    #[error("{} cannot be opened", path.display())]
    Engine {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: StoreError,
    },
    /// A named fault point was set to fail (tests only).
    #[error("interrupted at a fault point")]
    Interrupted,
}

fn restored_text(restored: bool) -> &'static str {
    if restored {
        "the database is as it was before; mend the cause and start again, or use the older program"
    } else {
        "its snapshot is kept; mend the cause and start again"
    }
}

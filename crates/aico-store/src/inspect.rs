//! Reading what a database says of itself, and telling what is wrong with a file that is not the
//! expected one.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, ffi};

use crate::{
    connection::{self, Mode},
    error::{OpenError, StoreError},
    identity::{Identity, StoreKind},
    place::{self, PAGE, Place},
    registry::StoreRecord,
    schema::{self, Applied},
};

/// What stands in the store's own tables.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) ledger: Vec<Applied>,
}

/// Opens the file for reading and reads its [`Facts`].
pub(crate) fn inspect(place: &Place, key: &[u8; 32], mode: Mode) -> Result<Facts, OpenError> {
    let path = place.path();
    let connection = connection::open(path, key, mode).map_err(engine(path))?;
    facts(&connection)
        .map_err(|error| engine(path)(connection::refine(&connection, error)))?
        .ok_or_else(|| OpenError::NotAStore {
            path: path.to_path_buf(),
        })
}

/// Reads the facts; `None` when the store's tables are not there.
pub(crate) fn facts(connection: &Connection) -> Result<Option<Facts>, StoreError> {
    let tables: i64 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema
         WHERE name IN ('store_identity', 'store_sequence', 'store_ledger')",
        [],
        |row| row.get(0),
    )?;
    if tables != 3 {
        return Ok(None);
    }
    let row = connection
        .query_row(
            "SELECT i.kind, i.person, i.generation, s.value
             FROM store_identity AS i JOIN store_sequence AS s ON s.id = i.id WHERE i.id = 1",
            [],
            |row| {
                let (kind, person) = (row.get::<_, i64>(0)?, row.get::<_, Option<[u8; 16]>>(1)?);
                Ok((kind, person, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
            },
        )
        .optional()?;
    let Some((kind, person, generation, sequence)) = row else {
        return Ok(None);
    };
    let Some(store) = StoreKind::from_code(kind) else {
        return Ok(None);
    };
    let generation = u64::try_from(generation).map_err(|_| StoreError::Conversion)?;
    let sequence = u64::try_from(sequence).map_err(|_| StoreError::Conversion)?;
    let ledger = schema::ledger(connection)?;
    Ok(Some(Facts {
        identity: Identity { store, person },
        generation,
        sequence,
        ledger,
    }))
}

/// Compares what the database says with what is expected of it.
pub(crate) fn check_facts(
    path: &Path,
    facts: &Facts,
    identity: &Identity,
    record: &StoreRecord,
) -> Result<(), OpenError> {
    let path = || path.to_path_buf();
    if facts.identity != *identity {
        return Err(OpenError::OfAnother {
            path: path(),
            expected: *identity,
            found: facts.identity,
        });
    }
    if facts.generation < record.generation {
        return Err(older(path(), facts, record));
    }
    if facts.generation > record.generation {
        return Err(OpenError::RegistryOlder {
            path: path(),
            found_generation: facts.generation,
            expected_generation: record.generation,
        });
    }
    if facts.sequence < record.last_sequence {
        return Err(OpenError::Shortened {
            path: path(),
            found: Some(facts.sequence),
            expected: record.last_sequence,
        });
    }
    Ok(())
}

/// Whether the salt is the recorded one; if not, what the file is.
pub(crate) fn check_salt(
    place: &Place,
    key: &[u8; 32],
    identity: &Identity,
    record: &StoreRecord,
) -> Result<(), OpenError> {
    let path = place.path();
    match place::salt(path)? {
        Some(salt) if salt == record.salt => return Ok(()),
        Some(_) => {}
        None => return Err(shortened(path, record)),
    }
    if let Ok(facts) = inspect(place, key, Mode::AtRest) {
        check_facts(path, &facts, identity, record).map_err(|error| match error {
            OpenError::Shortened { path, .. } => older(path, &facts, record),
            other => other,
        })?;
    }
    Err(OpenError::OtherFile {
        path: path.to_path_buf(),
    })
}

/// What became of a file that is not the one that was closed.
pub(crate) fn diagnose_changed(
    place: &Place,
    length: u64,
    key: &[u8; 32],
    identity: &Identity,
    record: &StoreRecord,
) -> OpenError {
    let path = place.path();
    if length < PAGE || !length.is_multiple_of(PAGE) {
        return shortened(path, record);
    }
    match inspect(place, key, Mode::AtRest) {
        Ok(facts) => match check_facts(path, &facts, identity, record) {
            Err(OpenError::Shortened { path, .. }) => older(path, &facts, record),
            Err(error) => error,
            Ok(()) => OpenError::ChangedSinceStop {
                path: path.to_path_buf(),
            },
        },
        Err(error) => tell_damage(place, key, Mode::AtRest, record, error),
    }
}

/// Tells a cut file from a damaged one, when reading it met damage. Asking for the number of pages
/// reads the first page only, and fails when that names more pages than there are.
pub(crate) fn tell_damage(
    place: &Place,
    key: &[u8; 32],
    mode: Mode,
    record: &StoreRecord,
    error: OpenError,
) -> OpenError {
    let OpenError::Engine {
        path,
        source: StoreError::Damaged { .. },
    } = error
    else {
        return error;
    };
    let pages = connection::open(&path, key, mode).and_then(|connection| {
        Ok(connection.query_row("PRAGMA page_count", [], |row| row.get::<_, u32>(0))?)
    });
    match pages {
        Err(StoreError::Damaged { code }) if code & 0xff == ffi::SQLITE_CORRUPT => {
            shortened(place.path(), record)
        }
        _ => OpenError::WrongKeyOrDamaged { path },
    }
}

/// After an unclean stop, with the log folded in: every page is there and authentic.
pub(crate) fn verify_pages(
    place: &Place,
    connection: &Connection,
    record: &StoreRecord,
) -> Result<(), OpenError> {
    /// Above this size, in bytes, the structure is not walked: authenticating goes at hundreds of
    /// megabytes a second, walking at tens, and a daemon must be back in seconds.
    const WALK: u64 = 64 << 20;
    let path = place.path();
    let failed = engine(path);
    let pages: u32 = connection
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .map_err(|e| failed(e.into()))?;
    let length = place::length(path);
    if u64::from(pages) * PAGE > length {
        return Err(shortened(path, record));
    }
    let bad_page = connection
        .query_row("PRAGMA cipher_integrity_check", [], |_| Ok(()))
        .optional()
        .map_err(|e| failed(e.into()))?;
    if bad_page.is_some() {
        return Err(OpenError::WrongKeyOrDamaged {
            path: path.to_path_buf(),
        });
    }
    if length <= WALK {
        let sound: bool = connection
            .query_row("PRAGMA quick_check(1)", [], |row| {
                Ok(row.get::<_, String>(0)? == "ok")
            })
            .map_err(|e| failed(e.into()))?;
        if !sound {
            return Err(OpenError::WrongKeyOrDamaged {
                path: path.to_path_buf(),
            });
        }
    }
    Ok(())
}

/// Maps an engine's error to the variant that tells a person what is wrong.
pub(crate) fn engine(path: &Path) -> impl Fn(StoreError) -> OpenError + use<> {
    let path = path.to_path_buf();
    move |source| {
        let path = path.clone();
        match source {
            StoreError::StorageFull => OpenError::StorageFull { path },
            StoreError::StorageReadOnly => OpenError::read_only(path),
            StoreError::ReadOnly => OpenError::NotWritable { path },
            // The engine has lost the system's own word when it can't make a file.
            StoreError::Io { code }
                if code & 0xff == ffi::SQLITE_CANTOPEN && place::is_full_beside(&path) =>
            {
                OpenError::StorageFull { path }
            }
            StoreError::Damaged { code } if code & 0xff == ffi::SQLITE_NOTADB => {
                OpenError::WrongKeyOrDamaged { path }
            }
            source => OpenError::Engine { path, source },
        }
    }
}

fn shortened(path: &Path, record: &StoreRecord) -> OpenError {
    OpenError::Shortened {
        path: path.to_path_buf(),
        found: None,
        expected: record.last_sequence,
    }
}

fn older(path: std::path::PathBuf, facts: &Facts, record: &StoreRecord) -> OpenError {
    OpenError::Older {
        path,
        found_generation: facts.generation,
        expected_generation: record.generation,
        found: facts.sequence,
        expected: record.last_sequence,
    }
}

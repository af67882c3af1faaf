//! Looking whether a database is sound: while it is used, and while it lies.
//!
//! A check has a connection of its own that only reads, on the thread that calls it. Nobody waits
//! for it: not the writer, not those who read. What it holds is a view, so that the write-ahead
//! log grows while it lasts.

use std::{collections::BTreeSet, fmt, path::Path};

use rusqlite::{Connection, ffi};

use crate::{
    connection::{self, Mode},
    error::{OpenError, StoreError},
    identity::Identity,
    inspect,
    place::{self, PAGE, Place},
    registry::{StoreRecord, StoreRegistry},
    rekey::Steady,
    store::Store,
};

/// How often a page that fails its authentication is read again: it may have been on its way from
/// the log into the file just then.
const AGAIN: usize = 3;

/// What a check of one database found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedFile {
    /// Pages of the file.
    pub pages: u64,
    /// What is wrong with it; nothing when it is sound.
    pub findings: Vec<Finding>,
}

/// Something that is wrong with a database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Pages fail their authentication.
    Pages {
        /// How many.
        count: u64,
        /// The first of them, counted from 1.
        first: u64,
    },
    /// Its parts don't fit together, in so many places.
    Structure {
        /// How many, up to a hundred.
        count: u64,
    },
    /// The row that says whose it is, is missing or names another.
    Identity,
    /// It is not the file that the registry knows, or ends before what was acknowledged.
    Registry,
    /// It was closed, and is not as it was then.
    Changed,
    /// Reading it failed.
    Unreadable {
        /// The engine's code.
        code: i32,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pages { count: 1, first } => write!(f, "page {first} is damaged"),
            Self::Pages { count, first } => {
                write!(f, "{count} pages are damaged, the first is page {first}")
            }
            Self::Structure { count } => {
                write!(f, "its parts don't fit together in {count} place(s)")
            }
            Self::Identity => f.write_str("it does not say whose it is"),
            Self::Registry => f.write_str("it is not what the registry knows of it"),
            Self::Changed => f.write_str("it was changed since it was closed"),
            Self::Unreadable { code } => write!(f, "it can't be read (code {code})"),
        }
    }
}

impl Store {
    /// Looks whether the open database is sound. Quick: its structure, and that it is whose and
    /// what it should be. Full: every page is authenticated, every index compared with its table.
    /// What is found is told by [`Store::health`] from then on. Blocks; `go_on` stops it.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`]; [`StoreError::Closed`]; [`StoreError::Busy`] while its file is
    /// being replaced; a disk that can't be read now.
    pub fn check(
        &self,
        key: &[u8; 32],
        full: bool,
        go_on: impl Fn() -> bool + Send + 'static,
    ) -> Result<CheckedFile, StoreError> {
        self.steady_under_a_key()?.check(key, full, go_on)
    }

    /// Looks at a database that nobody has open, as far as that goes: without the key whether it
    /// is the file that was closed, byte for byte; with the key, in full, how many pages are lost.
    /// Changes nothing. Blocks.
    ///
    /// # Errors
    /// What is wrong with the file as a whole: missing, empty, another one.
    pub fn check_at_rest(
        path: &Path,
        key: Option<&[u8; 32]>,
        identity: &Identity,
        registry: &dyn StoreRegistry,
        full: bool,
    ) -> Result<CheckedFile, OpenError> {
        connection::prepare_engine()?;
        let place = Place::claim(path)?;
        let length = place.check_file()?;
        let mut found = CheckedFile {
            pages: length.div_ceil(PAGE),
            findings: Vec::new(),
        };
        if full
            && let Some(key) = key
            && let Ok(connection) = connection::open(place.path(), key, Mode::AtRest)
            && let Ok(bad) = bad_pages(&connection)
        {
            found.findings.extend(as_pages(&bad));
        }
        let id = identity.store_id();
        let record = registry
            .get(&id)?
            .ok_or(OpenError::NotRegistered { store_id: id })?;
        if place::salt(place.path())? != Some(record.salt) {
            return Err(OpenError::OtherFile {
                path: place.to_path(),
            });
        }
        // After an unclean stop a part of it is in the log, and only the key opens that.
        if full
            && let Some(expected) = record.closed_hash
            && place::hash(place.path())? != expected
        {
            found.findings.push(Finding::Changed);
        }
        Ok(found)
    }
}

impl Steady<'_> {
    /// [`Store::check`] with the key that it is under now. Lets go of it before it takes long.
    ///
    /// # Errors
    /// Those of [`Store::check`].
    pub fn check(
        self,
        key: &[u8; 32],
        full: bool,
        go_on: impl Fn() -> bool + Send + 'static,
    ) -> Result<CheckedFile, StoreError> {
        let store = self.store;
        // Before the view: a commit comes before its note.
        let (id, registry) = store.registered();
        let record = match registry.get(id) {
            Ok(record) => record.ok_or(StoreError::Closed)?,
            Err(error) => return Err(StoreError::Registry(error)),
        };
        let mut connection = self.open(store.path(), key)?;
        drop(self);
        connection.progress_handler(10_000, Some(move || !go_on()))?;
        let mut found = CheckedFile::default();
        let looked = look(&connection, &record, store.identity(), full, &mut found);
        if let Err(error) = looked {
            found
                .findings
                .push(as_finding(connection::refine(&connection, error))?);
        }
        if !found.findings.is_empty() {
            store.met_damage();
        }
        Ok(found)
    }
}

fn look(
    connection: &Connection,
    record: &StoreRecord,
    identity: Identity,
    full: bool,
    found: &mut CheckedFile,
) -> Result<(), StoreError> {
    if full {
        let mut bad = bad_pages(connection)?;
        for _ in 1..AGAIN {
            if bad.is_empty() {
                break;
            }
            let again = bad_pages(connection)?;
            bad.retain(|page| again.contains(page));
        }
        found.findings.extend(as_pages(&bad));
    }
    // One view of it all.
    connection.execute_batch("BEGIN")?;
    let pages: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    found.pages = u64::from(pages);
    let salt: String = connection.query_row("PRAGMA cipher_salt", [], |row| row.get(0))?;
    let expected: String = record
        .salt
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    match inspect::facts(connection)? {
        Some(facts) if facts.identity == identity => {
            let known = facts.generation == record.generation
                && facts.sequence >= record.last_sequence
                && salt.eq_ignore_ascii_case(&expected);
            if !known {
                found.findings.push(Finding::Registry);
            }
        }
        _ => found.findings.push(Finding::Identity),
    }
    let sql = match full {
        true => "PRAGMA integrity_check(100)",
        false => "PRAGMA quick_check(100)",
    };
    // What it says names tables, and is not told.
    let mut query = connection.prepare(sql)?;
    let mut rows = query.query([])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += u64::from(row.get_ref(0)?.as_str().unwrap_or_default() != "ok");
    }
    if count > 0 {
        found.findings.push(Finding::Structure { count });
    }
    Ok(())
}

/// The pages of the file that fail their authentication, counted from 1.
fn bad_pages(connection: &Connection) -> Result<BTreeSet<u64>, StoreError> {
    let mut query = connection.prepare("PRAGMA cipher_integrity_check")?;
    let mut rows = query.query([])?;
    let mut bad = BTreeSet::new();
    while let Some(row) = rows.next()? {
        // "… page 7", or "page 7 has an invalid size …".
        let text: String = row.get(0)?;
        let number = text
            .split("page ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok());
        bad.insert(number.unwrap_or(0));
    }
    Ok(bad)
}

fn as_pages(bad: &BTreeSet<u64>) -> Option<Finding> {
    let first = *bad.first()?;
    Some(Finding::Pages {
        count: bad.len() as u64,
        first,
    })
}

/// Damage is what a check looks for; anything else keeps it from looking.
fn as_finding(error: StoreError) -> Result<Finding, StoreError> {
    match error {
        StoreError::Damaged { code } => Ok(Finding::Unreadable { code }),
        StoreError::Sql { code, .. } if code & 0xff == ffi::SQLITE_INTERRUPT => {
            Err(StoreError::Cancelled)
        }
        StoreError::Conversion => Ok(Finding::Identity),
        other => Err(other),
    }
}

//! Modules' migrations, the ledger of those that ran, and the store's own tables.

use std::{
    collections::HashMap,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, Transaction, params};
use sha2::{Digest, Sha256};

use crate::{
    error::{OpenError, StoreError},
    ranges,
};

/// One step of a module's schema. Once released it never changes: its text is checksummed.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// 1, 2, 3 … within the module.
    pub version: u32,
    /// What it does, in a few words.
    pub name: &'static str,
    /// One or more statements; they run in one transaction, which they must not end. One that
    /// changes or copies the rows of a table names a range of its keys, `WHERE id BETWEEN
    /// :first_TABLE AND :last_TABLE`: it is run for one range after the other, and its memory does
    /// not grow with the table. It leaves the keys of that table as they are.
    pub sql: &'static str,
}

/// A module's steps in order.
#[derive(Clone, Copy, Debug)]
pub struct ModuleMigrations {
    /// The module's name in the ledger.
    pub module: &'static str,
    /// The steps.
    pub migrations: &'static [Migration],
}

/// The store's own tables, first in every database.
pub(crate) const STORE: ModuleMigrations = ModuleMigrations {
    module: "store",
    migrations: &[Migration {
        version: 1,
        name: "identity, sequence, ledger, outbox",
        sql: "
CREATE TABLE store_identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    kind INTEGER NOT NULL,
    person BLOB CHECK (person IS NULL OR length(person) = 16),
    generation INTEGER NOT NULL CHECK (generation > 0),
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE store_sequence (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL CHECK (value >= 0)
) STRICT;
INSERT INTO store_sequence (id, value) VALUES (1, 0);
CREATE TABLE store_ledger (
    module TEXT NOT NULL,
    version INTEGER NOT NULL,
    name TEXT NOT NULL,
    checksum BLOB NOT NULL CHECK (length(checksum) = 32),
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (module, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    topic TEXT NOT NULL,
    payload_type TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
",
    }],
};

/// Marks the file as ours in SQLite's header ("AICO").
pub(crate) const APPLICATION_ID: i64 = 0x4149_434f;

/// One row of the ledger.
#[derive(Debug)]
pub(crate) struct Applied {
    module: String,
    version: u32,
    checksum: [u8; 32],
}

/// A step that has not run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    /// Whose it is.
    pub(crate) module: &'static str,
    /// The step.
    pub(crate) migration: &'static Migration,
}

/// The store's own steps and the modules', in the order in which they run. Refuses lists that are
/// not numbered 1, 2, 3 …
pub(crate) fn plan(modules: &[ModuleMigrations]) -> Result<Vec<Pending>, OpenError> {
    let mut seen = Vec::new();
    let mut steps = Vec::new();
    for module in std::iter::once(&STORE).chain(modules) {
        let numbered = module
            .migrations
            .iter()
            .zip(1..)
            .all(|(step, number)| step.version == number);
        if !numbered || seen.contains(&module.module) {
            return Err(OpenError::MigrationList {
                module: module.module.to_owned(),
            });
        }
        seen.push(module.module);
        steps.extend(module.migrations.iter().map(|migration| Pending {
            module: module.module,
            migration,
        }));
    }
    Ok(steps)
}

/// The ledger.
pub(crate) fn ledger(connection: &Connection) -> Result<Vec<Applied>, StoreError> {
    let mut statement = connection
        .prepare("SELECT module, version, checksum FROM store_ledger ORDER BY module, version")?;
    let rows = statement.query_map([], |row| {
        Ok(Applied {
            module: row.get(0)?,
            version: row.get(1)?,
            checksum: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Compares plan and ledger: what has to run, or why this program must not touch the database.
pub(crate) fn pending(
    path: &Path,
    plan: &[Pending],
    ledger: &[Applied],
) -> Result<Vec<Pending>, OpenError> {
    let known = |module: &str| {
        plan.iter()
            .filter(|step| step.module == module)
            .map(|step| step.migration.version)
            .max()
    };
    // Newer first: a newer program may also have good reason for another text.
    for applied in ledger.iter().rev() {
        let newest = known(&applied.module).unwrap_or(0);
        if applied.version > newest {
            return Err(OpenError::SchemaNewer {
                path: path.to_path_buf(),
                module: applied.module.clone(),
                found: applied.version,
                known: newest,
            });
        }
    }
    let applied: HashMap<(&str, u32), &Applied> = ledger
        .iter()
        .map(|row| ((row.module.as_str(), row.version), row))
        .collect();
    let mut pending = Vec::new();
    for step in plan {
        match applied.get(&(step.module, step.migration.version)) {
            Some(row) if row.checksum == checksum(step.migration.sql) => {}
            Some(_) => {
                return Err(OpenError::MigrationChanged {
                    path: path.to_path_buf(),
                    module: step.module.to_owned(),
                    version: step.migration.version,
                });
            }
            None => pending.push(*step),
        }
    }
    Ok(pending)
}

/// Runs one step and enters it in the ledger, inside the caller's transaction.
/// `goes_on` is asked after each range of keys.
pub(crate) fn apply(
    tx: &Transaction<'_>,
    step: &Pending,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<(), StoreError> {
    ranges::run(tx, step.migration.sql, goes_on)?;
    tx.execute(
        "INSERT INTO store_ledger (module, version, name, checksum, applied_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            step.module,
            step.migration.version,
            step.migration.name,
            checksum(step.migration.sql),
            now_ms(),
        ],
    )?;
    Ok(())
}

/// Raises the sequence; answers the new one.
pub(crate) fn bump_sequence(tx: &Connection) -> Result<u64, StoreError> {
    let value: i64 = tx
        .prepare_cached("UPDATE store_sequence SET value = value + 1 WHERE id = 1 RETURNING value")?
        .query_row([], |row| row.get(0))?;
    u64::try_from(value).map_err(|_| StoreError::Conversion)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Line ends do not count: a checkout may turn them.
fn checksum(sql: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for line in sql.split_inclusive('\n') {
        hasher.update(line.strip_suffix("\r\n").unwrap_or(line).as_bytes());
        if line.ends_with("\r\n") {
            hasher.update(b"\n");
        }
    }
    hasher.finalize().into()
}

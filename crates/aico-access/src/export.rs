//! Everything about one person in open formats: a line of JSON for each row, and what the modules
//! make of it for people. It is handed out piece by piece; nothing of it is kept here.

use std::collections::BTreeMap;

use aico_contracts::ids::PersonId;
use aico_store::{StoreError, tables, vectors};
use aico_vault::Password;
use jiff::Timestamp;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::backup::BackupError;
use crate::home::{PERSON_DB, blocking, person_folder};
use crate::{Home, HomeError, Role, Source, stores};

/// Takes a file, by name and content, and says whether more are wanted.
pub type TakeFile<'a> = &'a mut dyn FnMut(&str, &str) -> bool;

/// What a module makes of its tables for people to read.
#[derive(Clone, Copy)]
pub struct PersonExport {
    /// The module.
    pub module: &'static str,
    /// Hands out files by name and content. Stops when it is answered `false`.
    pub write: fn(&Connection, TakeFile<'_>) -> Result<(), StoreError>,
}

/// A piece of a file: what comes next in it. Personal, so without Debug.
pub struct ExportPiece {
    /// The file's name, with a folder before it perhaps.
    pub file: String,
    /// Text.
    pub text: String,
}

/// What was handed out.
#[derive(Clone, Debug, Default)]
pub struct Exported {
    /// Lines in each file of lines, counted in the store as well.
    pub lines: BTreeMap<String, u64>,
    /// Other files.
    pub files: Vec<String>,
    /// Rows of tables that are left out because they are computed from the others.
    pub derived: BTreeMap<String, u64>,
}

/// Tables of the store's own, which say nothing about anybody.
const INTERNAL: [&str; 3] = ["store_identity", "store_ledger", "store_sequence"];
/// In the audit's table.
const EXPORTED: &str = "self.export";
/// Text that is gathered before it is handed out, in bytes.
const PIECE: usize = 64 * 1024;

/// Hands pieces on and counts.
struct Out<'a> {
    emit: &'a mut dyn FnMut(ExportPiece) -> bool,
    exported: Exported,
    file: String,
    text: String,
    lines: u64,
}

impl Home {
    /// Hands out everything about a person, who proves that it is they with their own password.
    ///
    /// # Errors
    /// [`HomeError::WrongPassword`]; [`BackupError::Stopped`] when `emit` answers `false`.
    pub async fn export_person(
        &self,
        person: PersonId,
        own: &Password,
        source: impl Into<Source>,
        mut emit: impl FnMut(ExportPiece) -> bool + Send + 'static,
    ) -> Result<Exported, HomeError> {
        let open = self.opened()?;
        let about = self.known(&open, person).await?;
        let source = source.into();
        if about.role == Role::Owner {
            self.prove_master(&open, own, &source).await?;
        } else {
            let check = self.check_member(&open, person, own);
            self.guarded(&about.name.key(), &source, check).await?;
        }
        let _hold = self.hold();
        let store = self.store_in_time(person).await?;
        let system = open.system.clone();
        // Where the person sees it: it is a line of what they get.
        let noted = system.write(move |tx| {
            tx.execute(
                "INSERT INTO access_audit (at_ms, action, person, outcome)
                 VALUES (?1, ?2, ?3, 'done')",
                rusqlite::params![
                    Timestamp::now().as_millisecond(),
                    EXPORTED,
                    person.as_bytes()
                ],
            )?;
            Ok(())
        });
        if let Err(error) = noted.await {
            // A full disk must not keep anybody from leaving with what is theirs.
            tracing::warn!(%error, "an export could not be noted");
        }
        let account = system.read(move |db| account(db, person)).await?;
        let path = person_folder(self.root(), person).join(PERSON_DB);
        let vault = open.vault.clone();
        let exports = self.inner.config.person_exports.clone();
        blocking(move || {
            let (steady, _, key) = stores::steady_with_key(&vault, &store, person, &path)?;
            let view = steady.view(key.expose())?;
            drop(steady);
            let mut out = Out {
                emit: &mut emit,
                exported: Exported::default(),
                file: String::new(),
                text: String::new(),
                lines: 0,
            };
            out.begin("account.jsonl");
            for line in account {
                out.line(&line)?;
            }
            out.end()?;
            view.read(|db| everything(db, &exports, &mut out).map_err(StoreError::caller))?;
            out.last()
        })
        .await
    }
}

/// What the system's store has about somebody. Hashes and keys are not theirs, and left out.
fn account(db: &Connection, person: PersonId) -> Result<Vec<Value>, StoreError> {
    const QUERIES: [(&str, &str); 6] = [
        (
            "person",
            "SELECT id, name, role, created_ms FROM access_person WHERE id = ?1",
        ),
        (
            "session",
            "SELECT id, client, created_ms, expires_ms FROM access_session WHERE person = ?1
             ORDER BY created_ms",
        ),
        (
            "token",
            "SELECT id, name, created_ms, expires_ms, used_ms FROM access_token WHERE person = ?1
             ORDER BY created_ms",
        ),
        (
            "module",
            "SELECT m.name AS module, p.agreed_ms FROM access_module_person p
             JOIN access_module m ON m.id = p.module WHERE p.person = ?1 ORDER BY m.name",
        ),
        (
            "engine",
            "SELECT engine, address, agreed_ms FROM engine_consent WHERE person = ?1
             ORDER BY engine",
        ),
        (
            "audit",
            "SELECT at_ms, action, outcome FROM access_audit WHERE person = ?1 ORDER BY id",
        ),
    ];
    let mut lines = Vec::new();
    for (kind, sql) in QUERIES {
        let mut query = db.prepare(sql)?;
        let mut rows = query.query([person.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let mut line = object(row)?;
            line.insert("kind".to_owned(), kind.into());
            lines.push(Value::Object(line));
        }
    }
    Ok(lines)
}

fn object(row: &rusqlite::Row<'_>) -> Result<Map<String, Value>, StoreError> {
    let statement: &rusqlite::Statement<'_> = row.as_ref();
    let mut line = Map::new();
    for index in 0..statement.column_count() {
        let name = statement.column_name(index)?.to_owned();
        line.insert(name, value(row.get_ref(index)?)?);
    }
    Ok(line)
}

/// Ids are written as UUIDs, other bytes in hexadecimal.
fn value(cell: ValueRef<'_>) -> Result<Value, StoreError> {
    Ok(match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => std::str::from_utf8(text)
            .map_err(|_| StoreError::Conversion)?
            .into(),
        ValueRef::Blob(bytes) => match Uuid::from_slice(bytes) {
            Ok(id) => id.to_string().into(),
            Err(_) => hex::encode(bytes).into(),
        },
    })
}

fn everything(
    db: &Connection,
    exports: &[PersonExport],
    out: &mut Out<'_>,
) -> Result<(), HomeError> {
    for table in tables(db)? {
        if INTERNAL.contains(&table.as_str()) {
            continue;
        }
        // Names of tables come from our own migrations.
        let quoted = format!("\"{}\"", table.replace('"', "\"\""));
        let count = || -> Result<u64, StoreError> {
            let sql = format!("SELECT count(*) FROM {quoted}");
            let counted: i64 = db.query_row(&sql, [], |row| row.get(0))?;
            Ok(counted.unsigned_abs())
        };
        if vectors::DERIVED.contains(&table.as_str()) {
            out.exported.derived.insert(table, count()?);
            continue;
        }
        out.begin(&format!("{table}.jsonl"));
        let mut query = db
            .prepare(&format!("SELECT * FROM {quoted}"))
            .map_err(StoreError::from)?;
        let mut rows = query.query([]).map_err(StoreError::from)?;
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            out.line(&Value::Object(object(row)?))?;
        }
        let lines = out.end()?;
        if count()? != lines {
            return Err(StoreError::Conversion.into());
        }
    }
    for export in exports {
        let mut stopped = false;
        (export.write)(db, &mut |file, text| {
            stopped = out.whole(file, text).is_err();
            !stopped
        })?;
        if stopped {
            return Err(BackupError::Stopped.into());
        }
    }
    Ok(())
}

impl Out<'_> {
    fn begin(&mut self, file: &str) {
        self.file = file.to_owned();
        self.lines = 0;
    }

    fn line(&mut self, line: &Value) -> Result<(), HomeError> {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
        self.lines += 1;
        if self.text.len() >= PIECE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), HomeError> {
        let piece = ExportPiece {
            file: self.file.clone(),
            text: std::mem::take(&mut self.text),
        };
        self.hand(piece)
    }

    fn hand(&mut self, piece: ExportPiece) -> Result<(), HomeError> {
        if (self.emit)(piece) {
            Ok(())
        } else {
            Err(BackupError::Stopped.into())
        }
    }

    /// An empty table is an empty file, so that it can be told from one that is missing.
    fn end(&mut self) -> Result<u64, HomeError> {
        self.flush()?;
        self.exported.lines.insert(self.file.clone(), self.lines);
        Ok(self.lines)
    }

    fn whole(&mut self, file: &str, text: &str) -> Result<(), HomeError> {
        self.exported.files.push(file.to_owned());
        self.hand(ExportPiece {
            file: file.to_owned(),
            text: text.to_owned(),
        })
    }

    /// The page that says what all of it is.
    fn last(mut self) -> Result<Exported, HomeError> {
        let now = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
        let mut page = format!(
            "# Everything AICO has about you\n\nWritten on {now}.\n\n\
             **Nothing here is encrypted.** Whoever can read this folder can read everything in \
             it. Keep it where only you can, and delete it when it is no longer needed.\n\n\
             - `conversations/`: what was said, to be read: the branch that was shown last.\n\
             - `*.jsonl`: all of it, one row of the store on each line, in JSON: other branches \
             and everything else. Times are milliseconds since 1970, in UTC.\n\n\
             What AICO keeps for its own use is left out: search indexes, which hold the same \
             words once more, hashes of tokens, and keys. So are the vectors that a model made of \
             what you said, to find it by its meaning: {}. They are computed from the rest, and \
             of use only with that model.\n\n\
             | file | lines, as counted in the store |\n|---|---|\n",
            self.exported.derived.get("vector_value").unwrap_or(&0)
        );
        for (file, lines) in &self.exported.lines {
            page.push_str(&format!("| `{file}` | {lines} |\n"));
        }
        let lines = self.exported.lines.clone();
        let manifest = json!({
            "program": env!("CARGO_PKG_VERSION"),
            "written": Timestamp::now(),
            "lines": lines,
            "files": self.exported.files.len(),
            "left_out": self.exported.derived,
        });
        self.whole("README.md", &page)?;
        self.whole("manifest.json", &format!("{manifest:#}\n"))?;
        Ok(self.exported)
    }
}

#[cfg(test)]
mod tests {
    use aico_store::vectors::{Collection, Distance, Item, Labels, MIGRATIONS, Spec};

    use super::*;

    #[test]
    fn vectors_are_left_out_and_counted_and_what_they_stand_for_is_not() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(MIGRATIONS.migrations[0].sql).unwrap();
        let spec = Spec {
            name: "memory.fact",
            dimension: 3,
            distance: Distance::Cosine,
            model: "a-model",
            model_version: "1",
        };
        let labels = Labels {
            kind: "fact",
            conversation: None,
            at_ms: 5,
        };
        let items = [1, 2].map(|n| Item {
            key: [n; 16],
            vector: &[1.0, 2.0, 3.0],
            labels,
        });
        Collection::create(&db, &spec).unwrap().put(&items).unwrap();
        let mut files = BTreeMap::<String, String>::new();
        let mut emit = |piece: ExportPiece| {
            files.entry(piece.file).or_default().push_str(&piece.text);
            true
        };
        let mut out = Out {
            emit: &mut emit,
            exported: Exported::default(),
            file: String::new(),
            text: String::new(),
            lines: 0,
        };
        everything(&db, &[], &mut out).unwrap();
        let exported = out.last().unwrap();
        assert_eq!(exported.derived["vector_value"], 2);
        assert_eq!(exported.derived["vector_code"], 1);
        assert_eq!(exported.lines["vector_item.jsonl"], 2);
        assert!(files["vector_item.jsonl"].contains("\"kind\":\"fact\""));
        assert!(!files.keys().any(|name| name.starts_with("vector_value")));
        assert!(files["README.md"].contains("by its meaning: 2."));
        let manifest: Value = serde_json::from_str(&files["manifest.json"]).unwrap();
        assert_eq!(manifest["left_out"]["vector_value"], 2);
    }
}

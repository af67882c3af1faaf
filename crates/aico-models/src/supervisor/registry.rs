//! The registry of models: which files the person told us of, and which one answers.
//!
//! One row of `models_model` in `system.db` for each. Files lie where they lie; the registry
//! holds what they were when they were added, so that a change is noticed.

use std::path::{Path, PathBuf};

use aico_characters::is_wanted;
use aico_contracts::ids::ModelId;
use aico_contracts::v1;
use aico_store::rusqlite::{self, OptionalExtension, Row, params};
use aico_store::{Migration, ModuleMigrations, Store, StoreError};
use async_trait::async_trait;

/// This module's tables in `system.db`.
pub const MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "models",
    migrations: &[
        Migration {
            version: 1,
            name: "registry of models",
            sql: "
            CREATE TABLE models_model (
                id BLOB PRIMARY KEY CHECK (length(id) = 16),
                name TEXT NOT NULL,
                path TEXT NOT NULL UNIQUE,
                size INTEGER NOT NULL,
                modified_ns INTEGER NOT NULL,
                sha256 BLOB CHECK (length(sha256) = 32),
                architecture TEXT NOT NULL,
                parameters INTEGER NOT NULL,
                quantization TEXT NOT NULL,
                context_length INTEGER NOT NULL,
                bytes_per_token INTEGER NOT NULL,
                license TEXT NOT NULL,
                starter INTEGER NOT NULL CHECK (starter IN (0, 1)),
                active INTEGER NOT NULL CHECK (active IN (0, 1)),
                added_unix_ms INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID;
            CREATE UNIQUE INDEX models_model_active ON models_model (active) WHERE active = 1;
            CREATE UNIQUE INDEX models_model_starter ON models_model (starter) WHERE starter = 1;
        ",
        },
        Migration {
            version: 2,
            name: "pinned models, and the choice of another program's",
            // The active model of the registry stays beside the choice: it answers when the
            // program that runs the chosen one can't.
            sql: "
                ALTER TABLE models_model
                    ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1));
                CREATE TABLE models_choice (
                    one INTEGER PRIMARY KEY CHECK (one = 1),
                    backend TEXT NOT NULL,
                    name TEXT NOT NULL
                ) STRICT;
            ",
        },
        Migration {
            version: 3,
            name: "models with an adapter",
            // The same file may be there with several adapters and without one, but its path in
            // `models_model` is there once: that of a model with an adapter is made of both, and
            // what they are stands here.
            sql: "
                CREATE TABLE models_adapter (
                    model BLOB PRIMARY KEY CHECK (length(model) = 16),
                    base TEXT NOT NULL,
                    path TEXT NOT NULL,
                    size INTEGER NOT NULL,
                    modified_ns INTEGER NOT NULL,
                    sha256 BLOB NOT NULL CHECK (length(sha256) = 32)
                ) STRICT, WITHOUT ROWID;
            ",
        },
    ],
};

/// A model of a program beside us that is chosen for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Name of the program.
    pub backend: String,
    /// The model, as the program calls it.
    pub name: String,
}

/// The file of an adapter (LoRA), as it was when it was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// Bytes of the file.
    pub size: u64,
    /// When the file was last changed, nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// Of the whole file.
    pub sha256: [u8; 32],
}

/// One model of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRecord {
    /// Made when it was added.
    pub id: ModelId,
    /// As shown.
    pub name: String,
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// Bytes of the file.
    pub size: u64,
    /// When the file was last changed, nanoseconds since the Unix epoch.
    pub modified_ns: i64,
    /// Of the whole file; absent until it was computed.
    pub sha256: Option<[u8; 32]>,
    /// `llama`, `qwen3`, ….
    pub architecture: String,
    /// Number of them.
    pub parameters: u64,
    /// `Q4_0`, …; may be empty.
    pub quantization: String,
    /// Tokens it was trained to attend to.
    pub context_length: u32,
    /// What one token of context takes in memory; 0: unknown.
    pub bytes_per_token: u64,
    /// May be empty.
    pub license: String,
    /// The model that AICO brings along.
    pub starter: bool,
    /// The one that answers.
    pub active: bool,
    /// It stays in memory.
    pub pinned: bool,
    /// What changes the model in the file; this is a model of its own then.
    pub adapter: Option<Adapter>,
}

impl ModelRecord {
    /// Whether this is what the file says, changed by this adapter or by none.
    #[must_use]
    pub fn is_of(&self, path: &Path, adapter: Option<&Path>) -> bool {
        let own = self.adapter.as_ref().map(|adapter| &*adapter.path);
        self.path == path && own == adapter
    }

    /// Whether somebody may mean it by this name or id. Its file is another model's as well where
    /// there is an adapter: then it is meant by its whole name alone.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.id.to_string() == name
            || match self.adapter {
                None => is_wanted(name, &self.name, &self.path.to_string_lossy()),
                Some(_) => self.name.eq_ignore_ascii_case(name.trim()),
            }
    }

    /// As it is told; looks whether the file is there. What it is good for stands in the file, and
    /// is left out here.
    #[must_use]
    pub fn to_message(&self) -> v1::Model {
        v1::Model {
            id: self.id.to_vec(),
            name: self.name.clone(),
            file: self.path.display().to_string(),
            size_bytes: self.size,
            architecture: self.architecture.clone(),
            parameters: self.parameters,
            quantization: self.quantization.clone(),
            context_length: self.context_length,
            license: self.license.clone(),
            starter: self.starter,
            active: self.active,
            pinned: self.pinned,
            present: self.path.is_file()
                && self.adapter.as_ref().is_none_or(|one| one.path.is_file()),
            adapter: self
                .adapter
                .as_ref()
                .map(|adapter| adapter.path.display().to_string()),
            modified_unix_ms: u64::try_from(self.modified_ns / 1_000_000).unwrap_or_default(),
            ..v1::Model::default()
        }
    }
}

/// Keeps the registry. Each change is durable when it returns.
#[async_trait]
pub trait ModelRegistryStore: Send + Sync {
    /// All models, in the order in which they were added.
    ///
    /// # Errors
    /// Those of the store.
    async fn list(&self) -> Result<Vec<ModelRecord>, StoreError>;
    /// Adds a model, or replaces the row with the same id.
    ///
    /// # Errors
    /// Those of the store.
    async fn put(&self, record: ModelRecord) -> Result<(), StoreError>;
    /// Makes this model the one that answers, in place of a [`Choice`] too. False: there is no
    /// such model.
    ///
    /// # Errors
    /// Those of the store.
    async fn activate(&self, id: ModelId) -> Result<bool, StoreError>;
    /// Forgets a model. False: there is no such model.
    ///
    /// # Errors
    /// Those of the store.
    async fn remove(&self, id: ModelId) -> Result<bool, StoreError>;
    /// Notes the hash of a file; does nothing when the model is gone.
    ///
    /// # Errors
    /// Those of the store.
    async fn set_hash(&self, id: ModelId, sha256: [u8; 32]) -> Result<(), StoreError>;
    /// Notes whether a model stays in memory. False: there is no such model.
    ///
    /// # Errors
    /// Those of the store.
    async fn pin(&self, id: ModelId, pinned: bool) -> Result<bool, StoreError>;
    /// The model of a program beside us that is chosen for everybody.
    ///
    /// # Errors
    /// Those of the store.
    async fn choice(&self) -> Result<Option<Choice>, StoreError>;
    /// Chooses one.
    ///
    /// # Errors
    /// Those of the store.
    async fn choose(&self, choice: Choice) -> Result<(), StoreError>;
}

/// The registry in `system.db`.
#[derive(Clone)]
pub struct SystemRegistry(Store);

impl SystemRegistry {
    /// In this store, which was opened with [`MIGRATIONS`].
    #[must_use]
    pub fn new(system: Store) -> Self {
        Self(system)
    }
}

const COLUMNS: &str = "id, name, path, size, modified_ns, sha256, architecture, parameters, \
    quantization, context_length, bytes_per_token, license, starter, active, \
    pinned";
const OF_ADAPTER: &str = "base, adapter.path, adapter.size, adapter.modified_ns, adapter.sha256";

fn record(row: &Row<'_>) -> rusqlite::Result<ModelRecord> {
    let broken = |column: usize| rusqlite::Error::IntegralValueOutOfRange(column, 0);
    let id: Vec<u8> = row.get(0)?;
    let path: String = row.get(2)?;
    let sha256: Option<Vec<u8>> = row.get(5)?;
    let count = |column: usize| {
        row.get::<_, i64>(column)
            .and_then(|n| u64::try_from(n).map_err(|_| broken(column)))
    };
    let base: Option<String> = row.get(15)?;
    let adapter = match &base {
        None => None,
        Some(_) => Some(Adapter {
            path: PathBuf::from(row.get::<_, String>(16)?),
            size: count(17)?,
            modified_ns: row.get(18)?,
            sha256: row.get(19)?,
        }),
    };
    Ok(ModelRecord {
        id: ModelId::from_slice(&id).map_err(|_| broken(0))?,
        name: row.get(1)?,
        path: PathBuf::from(base.unwrap_or(path)),
        size: count(3)?,
        modified_ns: row.get(4)?,
        sha256: sha256.and_then(|bytes| bytes.try_into().ok()),
        architecture: row.get(6)?,
        parameters: count(7)?,
        quantization: row.get(8)?,
        context_length: row.get(9)?,
        bytes_per_token: count(10)?,
        license: row.get(11)?,
        starter: row.get(12)?,
        active: row.get(13)?,
        pinned: row.get(14)?,
        adapter,
    })
}

fn forget_adapter(tx: &rusqlite::Connection, id: ModelId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM models_adapter WHERE model = ?1";
    tx.execute(sql, [id.as_bytes()]).map(|_| ())
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[async_trait]
impl ModelRegistryStore for SystemRegistry {
    async fn list(&self) -> Result<Vec<ModelRecord>, StoreError> {
        self.0
            .read(|db| {
                let own: Vec<_> = COLUMNS
                    .split(", ")
                    .map(|one| format!("own.{one}"))
                    .collect();
                let sql = format!(
                    "SELECT {}, {OF_ADAPTER} FROM models_model own \
                     LEFT JOIN models_adapter adapter ON adapter.model = own.id \
                     ORDER BY own.added_unix_ms, own.id",
                    own.join(", ")
                );
                let mut statement = db.prepare(&sql)?;
                let rows = statement
                    .query_map([], record)?
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(rows)
            })
            .await
    }

    async fn put(&self, model: ModelRecord) -> Result<(), StoreError> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let path = model.path.to_string_lossy().into_owned();
        let place = match &model.adapter {
            None => path.clone(),
            Some(adapter) => format!("{path} + {}", adapter.path.display()),
        };
        self.0
            .write(move |tx| {
                let added: Option<i64> = tx
                    .query_row(
                        "SELECT added_unix_ms FROM models_model WHERE id = ?1",
                        [model.id.as_bytes()],
                        |row| row.get(0),
                    )
                    .optional()?;
                tx.execute(
                    &format!(
                        "INSERT OR REPLACE INTO models_model ({COLUMNS}, added_unix_ms) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
                         ?16)"
                    ),
                    params![
                        model.id.as_bytes(),
                        model.name,
                        place,
                        number(model.size),
                        model.modified_ns,
                        model.sha256,
                        model.architecture,
                        number(model.parameters),
                        model.quantization,
                        model.context_length,
                        number(model.bytes_per_token),
                        model.license,
                        model.starter,
                        model.active,
                        model.pinned,
                        added.unwrap_or_else(now_ms),
                    ],
                )?;
                forget_adapter(tx, model.id)?;
                if let Some(adapter) = &model.adapter {
                    tx.execute(
                        "INSERT INTO models_adapter (model, base, path, size, modified_ns, sha256) \
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                        params![
                            model.id.as_bytes(),
                            path,
                            adapter.path.to_string_lossy(),
                            number(adapter.size),
                            adapter.modified_ns,
                            adapter.sha256,
                        ],
                    )?;
                }
                Ok(())
            })
            .await
    }

    async fn activate(&self, id: ModelId) -> Result<bool, StoreError> {
        self.0
            .write(move |tx| {
                let known: bool = tx.query_row(
                    "SELECT EXISTS (SELECT 1 FROM models_model WHERE id = ?1)",
                    [id.as_bytes()],
                    |row| row.get(0),
                )?;
                if known {
                    tx.execute("DELETE FROM models_choice", [])?;
                    tx.execute("UPDATE models_model SET active = 0 WHERE active = 1", [])?;
                    tx.execute(
                        "UPDATE models_model SET active = 1 WHERE id = ?1",
                        [id.as_bytes()],
                    )?;
                }
                Ok(known)
            })
            .await
    }

    async fn remove(&self, id: ModelId) -> Result<bool, StoreError> {
        self.0
            .write(move |tx| {
                forget_adapter(tx, id)?;
                Ok(tx.execute("DELETE FROM models_model WHERE id = ?1", [id.as_bytes()])? > 0)
            })
            .await
    }

    async fn set_hash(&self, id: ModelId, sha256: [u8; 32]) -> Result<(), StoreError> {
        self.0
            .write(move |tx| {
                tx.execute(
                    "UPDATE models_model SET sha256 = ?2 WHERE id = ?1",
                    params![id.as_bytes(), sha256],
                )?;
                Ok(())
            })
            .await
    }

    async fn pin(&self, id: ModelId, pinned: bool) -> Result<bool, StoreError> {
        self.0
            .write(move |tx| {
                let changed = tx.execute(
                    "UPDATE models_model SET pinned = ?2 WHERE id = ?1",
                    params![id.as_bytes(), pinned],
                )?;
                Ok(changed > 0)
            })
            .await
    }

    async fn choice(&self) -> Result<Option<Choice>, StoreError> {
        self.0
            .read(|db| {
                let row = db.query_row("SELECT backend, name FROM models_choice", [], |row| {
                    Ok(Choice {
                        backend: row.get(0)?,
                        name: row.get(1)?,
                    })
                });
                Ok(row.optional()?)
            })
            .await
    }

    async fn choose(&self, choice: Choice) -> Result<(), StoreError> {
        self.0
            .write(move |tx| {
                tx.execute(
                    "INSERT OR REPLACE INTO models_choice (one, backend, name) VALUES (1, ?1, ?2)",
                    params![choice.backend, choice.name],
                )?;
                Ok(())
            })
            .await
    }
}

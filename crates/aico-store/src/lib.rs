//! Encrypted relational stores, and working memory: one [`Store`] is one SQLCipher database.
//!
//! `system.db` and each person's `person.db` are opened through this crate and by nothing else.
//! It adds to SQLCipher what SQLCipher does not promise:
//!
//! - **Noticing.** An older copy, a cut write-ahead log, an emptied or foreign file reads as a
//!   valid database. An identity row inside and a record outside (a [`StoreRegistry`]: salt,
//!   generation, last acknowledged sequence, hash after a clean stop) tell them apart, each with
//!   its own [`OpenError`].
//! - **Acknowledging.** [`Store::write`] returns when the change is on the disk and its sequence
//!   is noted. Writes that wait for each other share one commit.
//! - **Migrating.** Each module brings ordered, checksummed steps ([`ModuleMigrations`]); a
//!   snapshot lies beside until all of them have run, and is put back when one fails.
//! - **Nearness.** [`vectors`]: collections of vectors beside what they stand for.
//! - **Silence.** No error and no log line of this crate holds SQL text or a value: the engine's
//!   messages quote both, so they end here as codes.
//!
//! Beside the stores lies what can be lost: each person's [`WorkingMemory`], sealed values with a
//! time to live.
//!
//! The layout on disk is described in `docs/formats/stores.md` and
//! `docs/formats/working-memory.md`.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use aico_store::{Identity, Migration, ModuleMigrations, Store, StoreError, StoreRegistry};
//! # async fn example(registry: Arc<dyn StoreRegistry>, key: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
//! const NOTES: ModuleMigrations = ModuleMigrations {
//!     module: "notes",
//!     migrations: &[Migration {
//!         version: 1,
//!         name: "first tables",
//!         sql: "CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;",
//!     }],
//! };
//! let store = Store::open(Path::new("system.db"), &key, &Identity::system(), &[NOTES], registry)?;
//! let id = store
//!     .write(|tx| {
//!         tx.execute("INSERT INTO note (body) VALUES (?1)", ["…"])?;
//!         Ok(tx.last_insert_rowid())
//!     })
//!     .await?;
//! let count: i64 = store
//!     .read(|db| Ok(db.query_row("SELECT count(*) FROM note", [], |row| row.get(0))?))
//!     .await?;
//! store.close().await?;
//! # Ok(())
//! # }
//! ```

mod check;
mod connection;
mod copy;
mod create;
mod error;
mod fault;
mod guard;
mod identity;
mod inspect;
mod memory;
mod migrate;
mod open;
mod outbox;
mod place;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;
mod progress;
mod ranges;
mod reader;
mod registry;
mod rekey;
mod schema;
mod shared;
mod snapshot;
mod store;
mod threads;
mod turn;
mod vault;
pub mod vectors;
mod working;
mod writer;

pub use check::{CheckedFile, Finding};
pub use copy::{AtRest, Copied, GoOn, StoreView, tables};
pub use error::{ConstraintKind, OpenError, StoreError};
pub use fault::{FaultHook, FaultPoint};
pub use identity::{Identity, StoreKind};
pub use outbox::{OutboxEvent, enqueue};
pub use progress::{MigrationProgress, MigrationWatch};
pub use registry::{RegistryError, StoreRecord, StoreRegistry};
pub use rekey::{NumberedKey, Progress, Steady};
pub use schema::{Migration, ModuleMigrations};
pub use shared::Health;
pub use store::{OpenOptions, Store};
pub use threads::wait_for_threads;
pub use working::{WorkingLimits, WorkingMemory, WorkingStats};

/// The SQL engine's types, so that modules name one version of them: ours.
pub use rusqlite;

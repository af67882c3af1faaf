//! Copies of a database: taken while it is in use, for an archive, and made into a database again.
//!
//! A copy is an encrypted database of the same key with a salt of its own: nothing is ever on the
//! disk in clear. It is taken from one read transaction, which the writer does not wait for; the
//! write-ahead log grows as long as it lasts.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{
    Connection, Transaction, TransactionBehavior,
    backup::{Backup, StepResult},
    ffi,
};

use crate::{
    connection::{self, Mode},
    error::{OpenError, StoreError},
    identity::Identity,
    inspect::{self, engine},
    open::{Opening, close_folded, raise_generation},
    place::{self, PAGE, Place, beside, io_error},
    platform,
    registry::{StoreRecord, StoreRegistry},
    rekey::{self, NumberedKey, Steady},
    schema::{self, ModuleMigrations},
    shared::Shared,
    snapshot,
    store::Store,
};

/// Pages that are copied between two looks at whether it is still wanted.
const STEP: i32 = 256;

/// Hears how many bytes of how many are done; stops the work with `false`.
pub type GoOn<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// A store as it was at one moment, to be copied while it goes on being used.
///
/// Drop it soon: the log grows while it lives, and the store can't be closed cleanly.
pub struct StoreView {
    connection: Connection,
    path: PathBuf,
    shared: Arc<Shared>,
    sequence: u64,
    generation: u64,
}

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The first 16 bytes of it.
    pub salt: [u8; 16],
    /// Its generation.
    pub generation: u64,
    /// Its sequence.
    pub sequence: u64,
    /// Bytes of the file.
    pub length: u64,
    /// SHA-256 of the file.
    pub hash: [u8; 32],
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// The newest step of each module that has run in it.
    pub schema: BTreeMap<String, u32>,
}

/// What a database at rest says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtRest {
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// The newest step of each module that has run in it.
    pub schema: BTreeMap<String, u32>,
}

impl Store {
    /// Takes hold of the store as it is now. Blocks for a moment.
    ///
    /// # Errors
    /// Those of [`StoreError`].
    pub fn view(&self, key: &[u8; 32]) -> Result<StoreView, StoreError> {
        self.steady_under_a_key()?.view(key)
    }

    /// Makes a database out of a copy: every page is authenticated on the way, the salt is a new
    /// one, the generation is above that of the copy and of what the registry knows. Nothing may
    /// be in its place. What the copy says of itself is handed to `check` before. Blocks.
    ///
    /// # Errors
    /// When the copy is damaged, another's, or of a newer program; [`OpenError::AlreadyThere`].
    pub fn adopt(
        from: &Path,
        to: &Path,
        key: &NumberedKey,
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
        check: &dyn Fn(&AtRest) -> bool,
    ) -> Result<(), OpenError> {
        let opening = Opening::new(
            to,
            key.expose(),
            identity,
            modules,
            registry,
            crate::fault::Faults::default(),
        )?;
        if place::exists(opening.place.path()) {
            return Err(OpenError::AlreadyThere {
                path: opening.place.to_path(),
            });
        }
        let unborn = opening.place.unborn();
        let record = opening.new_from(from, key.number(), check)?;
        opening.registry.put(&opening.id, &record)?;
        opening.place.take_place(&unborn)
    }

    /// Puts a copy in the place of a database that is there, open for nobody. What was there is
    /// kept beside it under the names that are answered, which nothing had before: none when
    /// nothing was there. At every moment the one counts or the other: an interruption is finished
    /// when it is opened next. Blocks.
    ///
    /// # Errors
    /// As [`Self::adopt`], without [`OpenError::AlreadyThere`].
    pub fn put_back(
        from: &Path,
        to: &Path,
        key: &NumberedKey,
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
        check: &dyn Fn(&AtRest) -> bool,
    ) -> Result<Vec<PathBuf>, OpenError> {
        let opening = Opening::new(
            to,
            key.expose(),
            identity,
            modules,
            registry,
            crate::fault::Faults::default(),
        )?;
        opening.end_what_is_pending()?;
        let record = opening.new_from(from, key.number(), check)?;
        opening.exchange(&record)
    }

    /// Whether what [`Self::put_back`] began is decided and will be finished by the next opening,
    /// after it failed.
    #[must_use]
    pub fn will_be_put_back(identity: &Identity, registry: &dyn StoreRegistry) -> bool {
        let noted = registry.get(&snapshot::restore_id(&identity.store_id()));
        !matches!(noted, Ok(None))
    }

    /// As [`Self::put_back`], with a copy that nobody here can open: it takes the place as it lies, and `record`,
    /// with its hash, is what is known of it. Nothing of it is checked but that hash. Blocks.
    ///
    /// # Errors
    /// [`OpenError::ChangedSinceStop`] when the hash is another; those of the disk.
    pub fn put_back_unopened(
        from: &Path,
        to: &Path,
        identity: &Identity,
        registry: Arc<dyn StoreRegistry>,
        record: &StoreRecord,
    ) -> Result<Vec<PathBuf>, OpenError> {
        // Nothing is opened.
        let no_key = [0; 32];
        let faults = crate::fault::Faults::default();
        let opening = Opening::new(to, &no_key, identity, &[], registry, faults)?;
        opening.end_what_is_pending()?;
        opening.or_nothing(|unborn| {
            let hash = place::copy(from, unborn, &mut |_| {})?;
            if record.closed_hash == Some(hash) {
                return Ok(());
            }
            Err(OpenError::ChangedSinceStop {
                path: from.to_path_buf(),
            })
        })?;
        opening.exchange(record)
    }

    /// What a database that nobody has open says of itself.
    ///
    /// # Errors
    /// A wrong key, damage.
    pub fn at_rest(path: &Path, key: &[u8; 32]) -> Result<AtRest, OpenError> {
        connection::prepare_engine()?;
        let failed = engine(path);
        let connection = connection::open(path, key, Mode::AtRest).map_err(&failed)?;
        said(&connection).map_err(&failed)
    }
}

impl Steady<'_> {
    /// [`Store::view`] with the key that it is under now.
    ///
    /// # Errors
    /// Those of [`StoreError`].
    pub fn view(&self, key: &[u8; 32]) -> Result<StoreView, StoreError> {
        StoreView::begin(self, key)
    }
}

impl StoreView {
    fn begin(steady: &Steady<'_>, key: &[u8; 32]) -> Result<Self, StoreError> {
        let store = steady.store;
        let connection = steady.open(store.path(), key)?;
        // The first read takes hold; until the connection closes it sees nothing newer.
        connection.execute_batch("BEGIN")?;
        let facts = inspect::facts(&connection)?.ok_or(StoreError::NoRow)?;
        Ok(Self {
            connection,
            path: store.path().to_path_buf(),
            shared: store.shared(),
            sequence: facts.sequence,
            generation: facts.generation,
        })
    }

    /// Whether an error of [`Self::copy_to`] is that the store itself can't be read: it is damaged,
    /// or its disk fails. Others are the copy's.
    #[must_use]
    pub fn can_not_be_read(&self, error: &OpenError) -> bool {
        match error {
            OpenError::WrongKeyOrDamaged { path } => *path == self.path,
            OpenError::Engine { path, source } => {
                let unreadable =
                    matches!(source, StoreError::Damaged { .. }) || source.is_disk_failure();
                *path == self.path && unreadable
            }
            _ => false,
        }
    }

    /// The sequence of the last commit that it sees.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Bytes that a copy of it takes.
    ///
    /// # Errors
    /// Those of [`StoreError`].
    pub fn size(&self) -> Result<u64, StoreError> {
        let pages: u32 = self
            .connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))?;
        Ok(u64::from(pages) * PAGE)
    }

    /// Runs a query in it.
    ///
    /// # Errors
    /// Those of [`StoreError`].
    pub fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        query(&self.connection)
    }

    /// Writes a copy to a new, private, synced file, after `edit` has changed what must not be in
    /// it. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`] when it is wanted no longer; a full disk; damage, which
    /// [`Store::health`] tells of from then on. Then there is no copy.
    pub fn copy_to(
        &self,
        to: &Path,
        key: &[u8; 32],
        edit: &dyn Fn(&Transaction<'_>) -> Result<(), StoreError>,
        go_on: GoOn<'_>,
    ) -> Result<Copied, OpenError> {
        // What is damaged in a copy that was just written was so in what it was copied from: the
        // engine does not notice each page on the way.
        let made = self
            .copy(to, key, edit, go_on)
            .map_err(|error| match error {
                OpenError::Engine {
                    path,
                    source: source @ StoreError::Damaged { .. },
                } if path == to => engine(&self.path)(source),
                OpenError::WrongKeyOrDamaged { path } if path == to => {
                    OpenError::WrongKeyOrDamaged {
                        path: self.path.clone(),
                    }
                }
                other => other,
            });
        if let Err(error) = &made {
            match error {
                OpenError::Engine { source, .. } if self.can_not_be_read(error) => {
                    self.shared.failed(source);
                }
                error if self.can_not_be_read(error) => {
                    let code = ffi::SQLITE_NOTADB;
                    self.shared.failed(&StoreError::Damaged { code });
                }
                _ => {}
            }
            place::remove_with_companions(to)?;
        }
        made
    }

    fn copy(
        &self,
        to: &Path,
        key: &[u8; 32],
        edit: &dyn Fn(&Transaction<'_>) -> Result<(), StoreError>,
        go_on: GoOn<'_>,
    ) -> Result<Copied, OpenError> {
        copy_pages(&self.connection, &self.path, to, key, go_on)?;
        let place = Place::claim(to)?;
        let failed = engine(to);
        let mut connection = connection::open(to, key, Mode::Write).map_err(&failed)?;
        connection::use_log(&connection).map_err(&failed)?;
        let edited = (|| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            edit(&tx)?;
            tx.commit()?;
            Ok(())
        })();
        edited.map_err(&failed)?;
        close_folded(&place, connection)?;
        sync(to)?;
        let said = Store::at_rest(to, key)?;
        Ok(Copied {
            salt: place::salt(to)?.ok_or_else(|| OpenError::WrongKeyOrDamaged {
                path: to.to_path_buf(),
            })?,
            generation: self.generation,
            sequence: self.sequence,
            length: place::length(to),
            hash: place::hash(to)?,
            rows: said.rows,
            schema: said.schema,
        })
    }
}

impl Opening<'_> {
    /// Copies the pages of a database at rest into the file that is to be, and makes that one younger
    /// than everything that is known.
    fn new_from(
        &self,
        from: &Path,
        key: u64,
        check: &dyn Fn(&AtRest) -> bool,
    ) -> Result<StoreRecord, OpenError> {
        self.or_nothing(|unborn| self.copy_of(from, unborn, key, check))
    }

    /// Makes the file that is to be. On an error nothing is left: it would go on taking the space
    /// that it may have failed for.
    fn or_nothing<T>(
        &self,
        make: impl FnOnce(&Path) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let unborn = self.place.unborn();
        let made = make(&unborn);
        if made.is_err()
            && let Err(error) = place::remove_with_companions(&unborn)
        {
            tracing::warn!(?error, "an unfinished copy of a store was left behind");
        }
        made
    }

    /// The store is replaced: what was to become of it before is brought to its end, or given up.
    fn end_what_is_pending(&self) -> Result<(), OpenError> {
        if let Err(error) = snapshot::finish_put_back(self) {
            tracing::warn!(%error, "what was to be put back is given up: the store is replaced");
            snapshot::forget(self)?;
        }
        if let Err(error) = rekey::finish(self) {
            tracing::warn!(%error, "a change of the key is given up: the store is replaced");
            rekey::forget(&*self.registry, &self.id)?;
        }
        Ok(())
    }

    /// Puts the file that is to be in the place of the one that is there, and keeps that one.
    fn exchange(&self, record: &StoreRecord) -> Result<Vec<PathBuf>, OpenError> {
        let kept = keep_previous(&self.place)?;
        self.place
            .rename(&self.place.unborn(), &self.place.snapshot())
            .and_then(|()| snapshot::put_this_back(self, record))?;
        Ok(kept)
    }

    fn copy_of(
        &self,
        from: &Path,
        to: &Path,
        key: u64,
        check: &dyn Fn(&AtRest) -> bool,
    ) -> Result<StoreRecord, OpenError> {
        let failed = engine(from);
        let source = connection::open(from, self.key, Mode::AtRest).map_err(&failed)?;
        let facts =
            inspect::facts(&source)
                .map_err(&failed)?
                .ok_or_else(|| OpenError::NotAStore {
                    path: from.to_path_buf(),
                })?;
        if facts.identity != self.identity {
            return Err(OpenError::OfAnother {
                path: from.to_path_buf(),
                expected: self.identity,
                found: facts.identity,
            });
        }
        schema::pending(from, &self.plan, &facts.ledger)?;
        if !check(&said(&source).map_err(&failed)?) {
            return Err(OpenError::ChangedSinceStop {
                path: from.to_path_buf(),
            });
        }
        place::remove_with_companions(to)?;
        copy_pages(&source, from, to, self.key, &mut |_, _| true)?;
        drop(source);
        let known = self.registry.get(&self.id)?;
        let known = known.map_or(0, |record| record.generation);
        let generation = known.max(facts.generation) + 1;
        let place = Place::claim(to)?;
        let failed = engine(to);
        let mut connection = connection::open(to, self.key, Mode::Write).map_err(&failed)?;
        connection::use_log(&connection).map_err(&failed)?;
        let sequence = raise_generation(&mut connection, generation).map_err(&failed)?;
        let unsound = StoreRecord {
            salt: [0; 16],
            generation,
            last_sequence: sequence,
            closed_hash: None,
            key,
        };
        connection::fold_log(&connection).map_err(&failed)?;
        inspect::verify_pages(&place, &connection, &unsound)?;
        close_folded(&place, connection)?;
        sync(to)?;
        Ok(StoreRecord {
            salt: place::salt(to)?.ok_or_else(|| OpenError::WrongKeyOrDamaged {
                path: to.to_path_buf(),
            })?,
            closed_hash: Some(place::hash(to)?),
            ..unsound
        })
    }
}

/// Gives what is in the place second names, so that it outlives what takes its place.
fn keep_previous(place: &Place) -> Result<Vec<PathBuf>, OpenError> {
    let name = place.to_keep();
    let mut kept = Vec::new();
    for suffix in ["", "-wal"] {
        let (from, to) = (beside(place.path(), suffix), beside(&name, suffix));
        if !place::exists(&from) {
            continue;
        }
        // A second name costs nothing; where the file system has no such thing, a copy.
        if std::fs::hard_link(&from, &to).is_err() {
            place::copy(&from, &to, &mut |_| {})?;
        }
        kept.push(to);
    }
    platform::sync_folder(place.folder()).map_err(io_error("sync", place.path()))?;
    Ok(kept)
}

fn copy_pages(
    from: &Connection,
    from_path: &Path,
    to: &Path,
    key: &[u8; 32],
    go_on: GoOn<'_>,
) -> Result<(), OpenError> {
    drop(platform::create_private(to).map_err(io_error("create", to))?);
    let failed = engine(to);
    let mut target = connection::open(to, key, Mode::Write).map_err(&failed)?;
    // It is made anew when it is cut off, and synced when it is whole.
    target
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        .map_err(|error| failed(error.into()))?;
    let copied = step_through(from, &mut target, go_on).map_err(|error| match error {
        // The pages that can't be read are the source's: the target is only written.
        StoreError::Damaged { .. } => engine(from_path)(error),
        StoreError::Io { code } if is_reading(code) => engine(from_path)(error),
        other => failed(connection::refine(&target, other)),
    });
    let closed = target.close();
    copied?;
    closed.map_err(|(_, error)| failed(error.into()))?;
    sync(to)
}

fn is_reading(code: i32) -> bool {
    matches!(
        code,
        ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS
    )
}

fn step_through(from: &Connection, to: &mut Connection, go_on: GoOn<'_>) -> Result<(), StoreError> {
    let backup = Backup::new(from, to)?;
    loop {
        let step = backup.step(STEP)?;
        let progress = backup.progress();
        let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * PAGE;
        let total = bytes(progress.pagecount);
        if !go_on(total.saturating_sub(bytes(progress.remaining)), total) {
            return Err(StoreError::Cancelled);
        }
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Nobody else knows the target, and the source is read in a transaction.
            _ => return Err(StoreError::Busy),
        }
    }
}

fn sync(path: &Path) -> Result<(), OpenError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.sync_all())
        .map_err(io_error("sync", path))
}

fn said(connection: &Connection) -> Result<AtRest, StoreError> {
    Ok(AtRest {
        rows: row_counts(connection)?,
        schema: schema_of(connection)?,
    })
}

/// The tables that hold what was stored, as opposed to what an index keeps for itself.
///
/// # Errors
/// Those of [`StoreError`].
pub fn tables(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut query = connection.prepare(
        "SELECT name FROM pragma_table_list
         WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         ORDER BY name",
    )?;
    let names = query.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

fn row_counts(connection: &Connection) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut counts = BTreeMap::new();
    for table in tables(connection)? {
        // Names of tables come from our own migrations.
        let sql = format!("SELECT count(*) FROM \"{}\"", table.replace('"', "\"\""));
        let count: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        counts.insert(table, count.unsigned_abs());
    }
    Ok(counts)
}

fn schema_of(connection: &Connection) -> Result<BTreeMap<String, u32>, StoreError> {
    let sql = "SELECT module, max(version) FROM store_ledger GROUP BY module ORDER BY module";
    let mut query = connection.prepare(sql)?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

//! Opening: every check comes before the first byte is changed.

use std::{path::Path, sync::Arc};

use rusqlite::Connection;

use crate::{
    connection::{self, Mode},
    error::{OpenError, StoreError},
    fault::Faults,
    identity::Identity,
    inspect::{self, engine},
    migrate,
    place::{self, Place},
    progress::MigrationWatch,
    registry::{StoreRecord, StoreRegistry},
    rekey,
    schema::{self, ModuleMigrations, Pending},
    snapshot,
};

/// What is asked for.
pub(crate) struct Opening<'a> {
    pub(crate) place: Place,
    pub(crate) key: &'a [u8; 32],
    pub(crate) identity: Identity,
    pub(crate) plan: Vec<Pending>,
    pub(crate) registry: Arc<dyn StoreRegistry>,
    pub(crate) id: String,
    pub(crate) faults: Faults,
    pub(crate) watch: Option<MigrationWatch>,
}

/// A database that is open and checked.
pub(crate) struct Opened {
    pub(crate) place: Place,
    /// The writing connection, or the first reading one of a store that is read-only.
    pub(crate) connection: Connection,
    pub(crate) record: StoreRecord,
    pub(crate) sequence: u64,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(
        path: &Path,
        key: &'a [u8; 32],
        identity: &Identity,
        modules: &[ModuleMigrations],
        registry: Arc<dyn StoreRegistry>,
        faults: Faults,
    ) -> Result<Self, OpenError> {
        if !identity.is_coherent() {
            return Err(OpenError::IncoherentIdentity);
        }
        let plan = schema::plan(modules)?;
        connection::prepare_engine()?;
        Ok(Self {
            place: Place::claim(path)?,
            key,
            identity: *identity,
            plan,
            registry,
            id: identity.store_id(),
            faults,
            watch: None,
        })
    }

    /// Opens for reading and writing, migrating where steps are pending.
    pub(crate) fn open(self) -> Result<Opened, OpenError> {
        self.finish_creation()?;
        rekey::finish(&self)?;
        snapshot::finish_put_back(&self)?;
        let length = self.place.check_file()?;
        let record = self.record()?;
        self.place.check_writable()?;
        inspect::check_salt(&self.place, self.key, &self.identity, &record)?;
        let clean = self.is_as_closed(length, &record)?;
        if clean {
            // The hashed file holds everything; a log beside it is a leftover, or was put there.
            self.place.remove_companions()?;
        } else {
            self.place.remove_journal()?;
        }
        let mode = if clean { Mode::AtRest } else { Mode::Read };
        let facts = self.inspect_telling(mode, &record)?;
        inspect::check_facts(self.place.path(), &facts, &self.identity, &record)?;
        let pending = schema::pending(self.place.path(), &self.plan, &facts.ledger)?;

        // From here on the file changes: it is no longer the one that was closed.
        let record = StoreRecord {
            closed_hash: None,
            ..record
        };
        self.registry.put(&self.id, &record)?;
        let mut connection = self.connect()?;
        if !clean {
            connection::fold_log(&connection).map_err(engine(self.place.path()))?;
            inspect::verify_pages(&self.place, &connection, &record)?;
            tracing::info!(
                store = self.id,
                sequence = facts.sequence,
                noted = record.last_sequence,
                "a database was opened after an unclean stop and is whole",
            );
        }
        let mut sequence = facts.sequence;
        if pending.is_empty() {
            snapshot::discard(&self)?;
        } else {
            (connection, sequence) = migrate::run(&self, connection, &record, sequence, &pending)?;
        }
        let record = StoreRecord {
            last_sequence: sequence,
            ..record
        };
        Ok(Opened {
            place: self.place,
            connection,
            record,
            sequence,
        })
    }

    /// Opens for reading, whatever the registry says of the file's age. Changes nothing.
    pub(crate) fn open_read_only(self) -> Result<Opened, OpenError> {
        self.place.check_file()?;
        let record = self.registry.get(&self.id)?;
        // Without a log the file is read as it lies, which works in a read-only folder too.
        let mode = if place::length(&self.place.log()) == 0 {
            Mode::AtRest
        } else {
            Mode::Read
        };
        let path = self.place.path();
        let connection = connection::open(path, self.key, mode).map_err(engine(path))?;
        let facts = inspect::facts(&connection)
            .map_err(engine(path))?
            .ok_or_else(|| OpenError::NotAStore {
                path: path.to_path_buf(),
            })?;
        if facts.identity != self.identity {
            return Err(OpenError::OfAnother {
                path: path.to_path_buf(),
                expected: self.identity,
                found: facts.identity,
            });
        }
        schema::pending(path, &self.plan, &facts.ledger)?;
        let record = record.unwrap_or(StoreRecord {
            salt: [0; 16],
            generation: facts.generation,
            last_sequence: facts.sequence,
            closed_hash: None,
            key: 0,
        });
        Ok(Opened {
            place: self.place,
            connection,
            record,
            sequence: facts.sequence,
        })
    }

    /// Makes the file that is there the present one, by the owner's decision: every page is
    /// authenticated, the generation grows past both the file's and the registry's, so that the
    /// copy that it replaces is refused from now on.
    pub(crate) fn accept(self) -> Result<(), OpenError> {
        self.place.check_file()?;
        self.place.check_writable()?;
        self.place.remove_journal()?;
        let path = self.place.path();
        let known = self.registry.get(&self.id)?;
        let salt = place::salt(path)?.ok_or_else(|| OpenError::WrongKeyOrDamaged {
            path: path.to_path_buf(),
        })?;
        let facts = inspect::inspect(&self.place, self.key, Mode::Read)?;
        if facts.identity != self.identity {
            return Err(OpenError::OfAnother {
                path: path.to_path_buf(),
                expected: self.identity,
                found: facts.identity,
            });
        }
        schema::pending(path, &self.plan, &facts.ledger)?;
        let known_generation = known.as_ref().map_or(0, |record| record.generation);
        let mut record = StoreRecord {
            salt,
            generation: known_generation.max(facts.generation) + 1,
            last_sequence: facts.sequence,
            closed_hash: None,
            key: known.as_ref().map_or(0, |record| record.key),
        };
        let mut connection = self.connect()?;
        connection::fold_log(&connection).map_err(engine(path))?;
        inspect::verify_pages(&self.place, &connection, &record)?;
        // A snapshot belongs to what was there before the decision.
        snapshot::discard(&self)?;
        record.last_sequence =
            raise_generation(&mut connection, record.generation).map_err(engine(path))?;
        close_folded(&self.place, connection)?;
        record.closed_hash = Some(place::hash(path)?);
        self.registry.put(&self.id, &record)?;
        tracing::warn!(
            store = self.id,
            generation = record.generation,
            sequence = record.last_sequence,
            "another copy of a database was accepted as the present one",
        );
        Ok(())
    }

    /// The writing connection.
    pub(crate) fn connect(&self) -> Result<Connection, OpenError> {
        let failed = engine(self.place.path());
        let connection =
            connection::open(self.place.path(), self.key, Mode::Write).map_err(&failed)?;
        connection::use_log(&connection).map_err(&failed)?;
        Ok(connection)
    }

    fn record(&self) -> Result<StoreRecord, OpenError> {
        self.registry
            .get(&self.id)?
            .ok_or_else(|| OpenError::NotRegistered {
                store_id: self.id.clone(),
            })
    }

    /// Whether the file is the one that was closed cleanly; an error when it should be and is not.
    fn is_as_closed(&self, length: u64, record: &StoreRecord) -> Result<bool, OpenError> {
        match record.closed_hash {
            None => Ok(false),
            Some(expected) if place::hash(self.place.path())? == expected => Ok(true),
            Some(_) => Err(inspect::diagnose_changed(
                &self.place,
                length,
                self.key,
                &self.identity,
                record,
            )),
        }
    }

    /// Inspects; tells a cut file from a damaged one.
    fn inspect_telling(
        &self,
        mode: Mode,
        record: &StoreRecord,
    ) -> Result<inspect::Facts, OpenError> {
        inspect::inspect(&self.place, self.key, mode)
            .map_err(|error| inspect::tell_damage(&self.place, self.key, mode, record, error))
    }

    /// A creation that was interrupted after the registry knew of it. Beside a database that is there
    /// lies what a restore had begun to copy.
    fn finish_creation(&self) -> Result<(), OpenError> {
        let unborn = self.place.unborn();
        if place::exists(self.place.path()) {
            return place::remove_with_companions(&unborn);
        }
        if !place::exists(&unborn) {
            return Ok(());
        }
        if let Some(record) = self.registry.get(&self.id)?
            && place::salt(&unborn)? == Some(record.salt)
            && record.closed_hash == Some(place::hash(&unborn)?)
        {
            self.place.take_place(&unborn)?;
            tracing::info!(store = self.id, "an interrupted creation was finished");
        }
        Ok(())
    }
}

pub(crate) fn raise_generation(
    connection: &mut Connection,
    generation: u64,
) -> Result<u64, StoreError> {
    let generation = i64::try_from(generation).map_err(|_| StoreError::Conversion)?;
    let tx = connection.transaction()?;
    tx.execute("UPDATE store_identity SET generation = ?1", [generation])?;
    let sequence = schema::bump_sequence(&tx)?;
    tx.commit()?;
    Ok(sequence)
}

/// Closes the only connection, which folds the log into the file, and makes sure that it did.
pub(crate) fn close_folded(place: &Place, connection: Connection) -> Result<(), OpenError> {
    let failed = engine(place.path());
    connection::fold_log(&connection).map_err(&failed)?;
    connection
        .close()
        .map_err(|(_, error)| failed(error.into()))?;
    if place::length(&place.log()) == 0 {
        Ok(())
    } else {
        Err(failed(StoreError::Busy))
    }
}

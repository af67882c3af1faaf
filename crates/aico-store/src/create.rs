//! Making a new database: under a temporary name, known to the registry before it gets its own.
//! A crash on the way leaves either nothing that counts, or what the next opening finishes.

use std::fs::OpenOptions;

use rusqlite::{Connection, TransactionBehavior, params};

use crate::{
    connection::{self, Mode},
    error::{OpenError, StoreError},
    fault::FaultPoint,
    inspect::engine,
    open::{Opened, Opening},
    place::{self, beside, io_error},
    platform,
    registry::StoreRecord,
    schema,
};

impl Opening<'_> {
    /// Makes the database and opens it.
    pub(crate) fn create(self) -> Result<Opened, OpenError> {
        for suffix in ["", "-wal", "-journal", ".before-migration"] {
            let path = beside(self.place.path(), suffix);
            if place::exists(&path) {
                return Err(OpenError::AlreadyThere { path });
            }
        }
        if self.registry.get(&self.id)?.is_some() {
            return Err(OpenError::AlreadyRegistered {
                store_id: self.id.clone(),
            });
        }
        self.remove_unborn()?;
        let unborn = self.place.unborn();
        let record = self.build().inspect_err(|_| {
            if let Err(error) = self.remove_unborn() {
                tracing::warn!(
                    store = self.id,
                    ?error,
                    "an unfinished database was left behind"
                );
            }
        })?;
        self.pass(FaultPoint::CreateBuilt)?;
        self.registry.put(&self.id, &record)?;
        self.pass(FaultPoint::CreateRegistered)?;
        self.place.take_place(&unborn)?;
        tracing::info!(store = self.id, "a database was created");
        self.open()
    }

    fn build(&self) -> Result<StoreRecord, OpenError> {
        let unborn = self.place.unborn();
        platform::create_private(&unborn).map_err(io_error("create", &unborn))?;
        let sequence = self.fill().map_err(engine(&unborn))?;
        if place::length(&beside(&unborn, "-wal")) != 0 {
            return Err(engine(&unborn)(StoreError::Busy));
        }
        let failed = || io_error("sync", &unborn);
        OpenOptions::new()
            .write(true)
            .open(&unborn)
            .and_then(|file| file.sync_all())
            .map_err(failed())?;
        platform::sync_folder(self.place.folder()).map_err(failed())?;
        match place::salt(&unborn)? {
            Some(salt) if &salt != b"SQLite format 3\0" => Ok(StoreRecord {
                salt,
                generation: 1,
                last_sequence: sequence,
                closed_hash: Some(place::hash(&unborn)?),
                key: 0,
            }),
            _ => Err(OpenError::NotEncrypting),
        }
    }

    fn fill(&self) -> Result<u64, StoreError> {
        let mut connection = connection::open(&self.place.unborn(), self.key, Mode::Write)?;
        connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
        connection::use_log(&connection)?;
        let filled = self
            .fill_tables(&mut connection)
            .and_then(|sequence| connection::fold_log(&connection).map(|()| sequence))
            .map_err(|error| connection::refine(&connection, error));
        let closed = connection.close();
        let sequence = filled?;
        closed.map_err(|(_, error)| error)?;
        Ok(sequence)
    }

    fn fill_tables(&self, connection: &mut Connection) -> Result<u64, StoreError> {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut steps = self.plan.iter();
        // The first step is the store's own and makes the ledger.
        if let Some(first) = steps.next() {
            schema::apply(&tx, first, &mut || true)?;
        }
        tx.execute(
            "INSERT INTO store_identity (id, kind, person, generation, created_at)
             VALUES (1, ?1, ?2, 1, ?3)",
            params![
                self.identity.store.code(),
                self.identity.person,
                schema::now_ms()
            ],
        )?;
        for step in steps {
            schema::apply(&tx, step, &mut || true)?;
        }
        let sequence = schema::bump_sequence(&tx)?;
        tx.commit()?;
        Ok(sequence)
    }

    fn remove_unborn(&self) -> Result<(), OpenError> {
        place::remove_with_companions(&self.place.unborn())
    }

    /// Goes on, unless a test stops it here.
    pub(crate) fn pass(&self, point: FaultPoint) -> Result<(), OpenError> {
        if self.faults.pass(point) {
            Ok(())
        } else {
            Err(OpenError::Interrupted)
        }
    }
}

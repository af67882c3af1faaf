//! Running pending steps: a snapshot first, one transaction for each step, and the snapshot back
//! when one fails. An interruption is resumed: a step is in the ledger or has left no trace.

use rusqlite::{Connection, TransactionBehavior};

use crate::{
    connection,
    error::{OpenError, StoreError},
    fault::FaultPoint,
    guard::Guard,
    inspect::engine,
    open::{Opening, close_folded},
    place,
    progress::Meter,
    registry::StoreRecord,
    schema::{self, Pending},
    snapshot,
};

/// Operations of the engine between two looks at how far a step is: some milliseconds.
const OPERATIONS: std::ffi::c_int = 100_000;

/// Why a step did not run.
enum Stop {
    Failed(StoreError),
    Open(OpenError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Runs the steps; answers a writing connection and the sequence after the last one.
pub(crate) fn run(
    opening: &Opening<'_>,
    connection: Connection,
    record: &StoreRecord,
    mut sequence: u64,
    pending: &[Pending],
) -> Result<(Connection, u64), OpenError> {
    close_folded(&opening.place, connection)?;
    let size = place::length(opening.place.path());
    let meter = Meter::new(opening.watch.clone(), size, pending.len());
    snapshot::ensure(opening, record, sequence, &meter)?;
    meter.part_done();
    let mut connection = opening.connect()?;
    for step in pending {
        let (module, migration) = (step.module, step.migration);
        match run_step(opening, &mut connection, step, &meter) {
            Ok(reached) => sequence = reached,
            Err(Stop::Open(error)) => return Err(error),
            Err(Stop::Failed(source)) => {
                let source = connection::refine(&connection, source);
                drop(connection);
                let restored = put_back(opening);
                tracing::error!(
                    store = opening.id,
                    module,
                    version = migration.version,
                    restored,
                    "a migration failed",
                );
                return Err(OpenError::MigrationFailed {
                    module,
                    version: migration.version,
                    name: migration.name,
                    restored,
                    source,
                });
            }
        }
        meter.part_done();
        tracing::info!(
            store = opening.id,
            module,
            version = migration.version,
            name = migration.name,
            "a migration ran",
        );
    }
    watch_no_more(&mut connection).map_err(engine(opening.place.path()))?;
    opening.pass(FaultPoint::StepsDone)?;
    snapshot::discard(opening)?;
    Ok((connection, sequence))
}

fn run_step(
    opening: &Opening<'_>,
    connection: &mut Connection,
    step: &Pending,
    meter: &Meter,
) -> Result<u64, Stop> {
    let guard = Guard::install(connection)?;
    watch(opening, connection, meter)?;
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(StoreError::from)?;
    let mut stopped = None;
    let applied = guard.during(|| {
        schema::apply(&tx, step, &mut || {
            stopped = opening.pass(FaultPoint::RangeRan).err();
            stopped.is_none()
        })
    });
    if let Some(stopped) = stopped {
        return Err(Stop::Open(stopped));
    }
    applied?;
    let sequence = schema::bump_sequence(&tx)?;
    opening.pass(FaultPoint::StepRan).map_err(Stop::Open)?;
    tx.commit().map_err(StoreError::from)?;
    opening
        .pass(FaultPoint::StepCommitted)
        .map_err(Stop::Open)?;
    opening
        .registry
        .note_sequence(&opening.id, sequence)
        .map_err(|error| Stop::Failed(StoreError::Registry(error)))?;
    Ok(sequence)
}

/// What a step writes goes to the end of the log, as long as that was not folded before.
fn watch(
    opening: &Opening<'_>,
    connection: &mut Connection,
    meter: &Meter,
) -> Result<(), StoreError> {
    if opening.watch.is_none() {
        return Ok(());
    }
    let (log, meter) = (opening.place.log(), meter.clone());
    let before = place::length(&log);
    let look = move || {
        meter.at(place::length(&log).saturating_sub(before));
        false
    };
    Ok(connection.progress_handler(OPERATIONS, Some(look))?)
}

fn watch_no_more(connection: &mut Connection) -> Result<(), StoreError> {
    Ok(connection.progress_handler(0, None::<fn() -> bool>)?)
}

fn put_back(opening: &Opening<'_>) -> bool {
    snapshot::put_back(opening)
        .inspect_err(|error| {
            tracing::error!(
                store = opening.id,
                ?error,
                "the snapshot could not be put back; it is kept for the next start",
            );
        })
        .is_ok()
}

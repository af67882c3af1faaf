//! Running pending steps: a snapshot first, one transaction for each step, and the snapshot back
//! when one fails. An interruption is resumed: a step is in the ledger or has left no trace.

use rusqlite::{Connection, TransactionBehavior};

use crate::{
    connection,
    error::{OpenError, StoreError},
    fault::FaultPoint,
    guard::Guard,
    open::{Opening, close_folded},
    registry::StoreRecord,
    schema::{self, Pending},
    snapshot,
};

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
    snapshot::ensure(opening, record, sequence)?;
    let mut connection = opening.connect()?;
    for step in pending {
        let (module, migration) = (step.module, step.migration);
        match run_step(opening, &mut connection, step) {
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
        tracing::info!(
            store = opening.id,
            module,
            version = migration.version,
            name = migration.name,
            "a migration ran",
        );
    }
    opening.pass(FaultPoint::StepsDone)?;
    snapshot::discard(opening)?;
    Ok((connection, sequence))
}

fn run_step(
    opening: &Opening<'_>,
    connection: &mut Connection,
    step: &Pending,
) -> Result<u64, Stop> {
    let guard = Guard::install(connection)?;
    let tx = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(StoreError::from)?;
    guard.during(|| schema::apply(&tx, step))?;
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

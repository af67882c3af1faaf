//! The copy that lies beside a database while its migrations run.
//!
//! It is the encrypted file itself, copied while nothing has it open. The registry holds its hash
//! under `<store>/before-migration`; a copy that it does not vouch for is never used. Putting it
//! back is noted first (`<store>/restore`), so that an interruption is finished at the next start.

use crate::{
    error::OpenError, fault::FaultPoint, open::Opening, place, progress::Meter,
    registry::StoreRecord,
};

fn before_id(id: &str) -> String {
    format!("{id}/before-migration")
}

pub(crate) fn restore_id(id: &str) -> String {
    format!("{id}/restore")
}

/// The registry's names of a store: its own, those of its snapshot, that of its next file.
pub(crate) fn record_ids(id: &str) -> [String; 4] {
    [
        id.to_owned(),
        before_id(id),
        restore_id(id),
        crate::rekey::record_id(id),
    ]
}

/// Makes sure that a snapshot from before the first pending step lies beside the database, which
/// no connection has open. One that an interrupted migration left is kept: it is the older one.
pub(crate) fn ensure(
    opening: &Opening<'_>,
    record: &StoreRecord,
    sequence: u64,
    meter: &Meter,
) -> Result<(), OpenError> {
    let (place, id) = (&opening.place, before_id(&opening.id));
    let snapshot = place.snapshot();
    if let Some(known) = opening.registry.get(&id)? {
        if place::exists(&snapshot) && known.closed_hash == Some(place::hash(&snapshot)?) {
            tracing::info!(store = opening.id, "an interrupted migration is resumed");
            return Ok(());
        }
        tracing::error!(
            store = opening.id,
            "the snapshot of an interrupted migration is missing or changed; a new one is taken",
        );
        opening.registry.remove(&id)?;
    }
    let copying = place.copying();
    let hash = place::copy(place.path(), &copying, &mut |bytes| meter.at(bytes))?;
    opening.pass(FaultPoint::SnapshotCopied)?;
    place.rename(&copying, &snapshot)?;
    opening.pass(FaultPoint::SnapshotNamed)?;
    let vouched = StoreRecord {
        last_sequence: sequence,
        closed_hash: Some(hash),
        ..record.clone()
    };
    opening.registry.put(&id, &vouched)?;
    opening.pass(FaultPoint::SnapshotRegistered)
}

/// Removes all that is noted of the snapshot.
pub(crate) fn forget(opening: &Opening<'_>) -> Result<(), OpenError> {
    for id in [before_id(&opening.id), restore_id(&opening.id)] {
        if opening.registry.get(&id)?.is_some() {
            opening.registry.remove(&id)?;
        }
    }
    Ok(())
}

/// Removes the snapshot and all that is noted of it, once nothing is pending.
pub(crate) fn discard(opening: &Opening<'_>) -> Result<(), OpenError> {
    forget(opening)?;
    opening.pass(FaultPoint::SnapshotForgotten)?;
    place::remove_if_there(&opening.place.copying())?;
    place::remove_if_there(&opening.place.snapshot())
}

/// Puts the snapshot back; no connection has the database open.
pub(crate) fn put_back(opening: &Opening<'_>) -> Result<(), OpenError> {
    let Some(record) = opening.registry.get(&before_id(&opening.id))? else {
        return Err(OpenError::Missing {
            path: opening.place.snapshot(),
        });
    };
    opening.registry.put(&restore_id(&opening.id), &record)?;
    opening.pass(FaultPoint::RestoreNoted)?;
    finish_put_back(opening)
}

/// Puts a file back that lies in the snapshot's place and was never this database, with the record
/// that it is to have.
pub(crate) fn put_this_back(opening: &Opening<'_>, record: &StoreRecord) -> Result<(), OpenError> {
    opening.registry.put(&restore_id(&opening.id), record)?;
    opening.pass(FaultPoint::RestoreNoted)?;
    finish_put_back(opening)
}

/// Finishes what [`put_back`] began, here or in a process that was interrupted.
pub(crate) fn finish_put_back(opening: &Opening<'_>) -> Result<(), OpenError> {
    let Some(record) = opening.registry.get(&restore_id(&opening.id))? else {
        return Ok(());
    };
    let (place, snapshot) = (&opening.place, opening.place.snapshot());
    if place::exists(&snapshot) {
        if record.closed_hash != Some(place::hash(&snapshot)?) {
            return Err(OpenError::ChangedSinceStop { path: snapshot });
        }
        place.remove_companions()?;
        place.take_place(&snapshot)?;
        opening.pass(FaultPoint::RestoreSwapped)?;
    } else if record.closed_hash != Some(place::hash(place.path())?) {
        return Err(OpenError::ChangedSinceStop {
            path: place.to_path(),
        });
    }
    opening.registry.put(&opening.id, &record)?;
    // The note that began it goes last: up to then an interruption is finished like this one.
    opening.registry.remove(&before_id(&opening.id))?;
    opening.registry.remove(&restore_id(&opening.id))?;
    tracing::warn!(
        store = opening.id,
        sequence = record.last_sequence,
        "a database was put back to what it was before a migration that failed",
    );
    Ok(())
}

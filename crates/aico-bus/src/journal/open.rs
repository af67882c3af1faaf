//! Opening the journal: which files there are, how far they got, and what is known of the ids.

use std::collections::HashSet;

use aico_vault::append::{AppendError, SealedLogWriter};

use super::dedup::{Dedup, Epochs, WINDOW, epoch_of};
use super::error::JournalError;
use super::files::Folder;
use super::format::{FileName, Head};
use super::store::{Current, Store, is_damage};

impl Store {
    /// Opens the journal in a folder, or begins one. A torn end is cut off; a last file that is
    /// damaged is set aside, and a new one goes on counting where the registry knows it stopped.
    pub(crate) fn open(folder: Folder, now_s: u64) -> Result<Self, JournalError> {
        let mut files = folder.whole()?;
        drop_vain(&folder, &mut files)?;
        let strays = folder.stray_marks(&files);
        // What is known to have been durable, whatever the files say.
        let marked = files.iter().map(|file| folder.mark(file).sequence);
        let known = marked.chain(strays.iter().map(|stray| stray.1)).max();
        let known = known.unwrap_or(0);
        let (mut dedup, mut epochs) = (Dedup::default(), Epochs::default());
        let mut opened = None;
        if let Some(last) = files.last().copied() {
            match Self::open_last(&folder, &files, &mut dedup, &mut epochs) {
                Ok(current) => opened = Some(current),
                Err(error) if !is_damage(&error) => return Err(JournalError::File(error)),
                Err(error) => {
                    tracing::error!(
                        error = %error,
                        "A file of the bus's journal is damaged and was set aside. What it held \
                         can't be delivered to other processes again; the stores have it."
                    );
                    folder.set_aside(&last)?;
                    (dedup, epochs) = (Dedup::default(), Epochs::default());
                }
            }
            files.pop();
        }
        let reached = opened
            .as_ref()
            .map_or(0, |(_, writer)| writer.last_sequence());
        let (name, writer) = match opened {
            Some(opened) if reached >= known => opened,
            unfit => {
                if let Some((file, writer)) = unfit {
                    tracing::error!(
                        reached,
                        known,
                        "The newest file of the bus's journal is missing. What it held can't be \
                         delivered to other processes again; the stores have it."
                    );
                    drop(writer);
                    files.push(file);
                }
                Self::begin(&folder, reached.max(known) + 1, now_s).map_err(JournalError::File)?
            }
        };
        folder
            .keys
            .registry()
            .note_sequence(&name.mark(), name.first - 1)
            .map_err(JournalError::Registry)?;
        // Only now: until the new file's mark was noted, these alone knew how far it had got.
        for (stray, _) in strays {
            let removed = folder.keys.registry().remove(&stray);
            removed.map_err(JournalError::Registry)?;
        }
        let closed = files.iter().map(|file| (*file, folder.len_of(file)));
        let mut store = Self {
            closed: closed.collect(),
            last: writer.last_sequence(),
            current: Current::new(name, writer),
            folder,
            dedup,
            epochs,
            is_cut: true,
            erased: HashSet::new(),
        };
        store.epochs.begin(store.last + 1, store.current.epoch);
        Ok(store)
    }

    /// Reads the ids of the last files and opens the last one for writing.
    fn open_last(
        folder: &Folder,
        files: &[FileName],
        dedup: &mut Dedup,
        epochs: &mut Epochs,
    ) -> Result<(FileName, SealedLogWriter), AppendError> {
        let Some((last, before)) = files.split_last() else {
            unreachable!("there is a last file")
        };
        // Newest first, until there are as many as are remembered; a file that can't be read is
        // told of when somebody follows it.
        let mut read = vec![Ids::read(folder, last)?];
        let mut count = read[0].ids.len();
        for file in before.iter().rev() {
            if count >= WINDOW {
                break;
            }
            match Ids::read(folder, file) {
                Ok(ids) => {
                    count += ids.ids.len();
                    read.push(ids);
                }
                Err(error) => {
                    tracing::warn!(error = %error, "An older file of the bus's journal can't be read.");
                    break;
                }
            }
        }
        for ids in read.into_iter().rev() {
            for (first, epoch) in ids.epochs {
                epochs.begin(first, epoch);
            }
            for (id, sequence) in ids.ids {
                dedup.insert(id, sequence);
            }
        }
        Ok((*last, folder.writer(last)?))
    }
}

/// Removes a last file that was begun in vain (there was no room for it) while the one before it
/// went on: both count from the same sequence.
fn drop_vain(folder: &Folder, files: &mut Vec<FileName>) -> Result<(), JournalError> {
    while let [.., before, last] = files[..] {
        let is_empty = Ids::read(folder, &last).is_ok_and(|ids| ids.ids.is_empty());
        let went_on = || {
            let ids = Ids::read(folder, &before).ok();
            ids.and_then(|ids| ids.ids.last().copied())
                .is_some_and(|(_, sequence)| sequence >= last.first)
        };
        if !is_empty || !went_on() {
            return Ok(());
        }
        folder.remove(&last)?;
        files.pop();
    }
    Ok(())
}

/// What one file says of ids and epochs.
struct Ids {
    ids: Vec<([u8; 16], u64)>,
    epochs: Vec<(u64, [u8; 16])>,
}

impl Ids {
    fn read(folder: &Folder, file: &FileName) -> Result<Self, AppendError> {
        let mut reader = folder.reader(file)?;
        let (mut ids, mut epochs) = (Vec::new(), Epochs::default());
        let mut stretches = Vec::new();
        while let Some(record) = reader.next_record()? {
            let epoch = epoch_of(&reader.segment());
            if epochs.latest() != epoch {
                epochs.begin(record.sequence, epoch);
                stretches.push((record.sequence, epoch));
            }
            if let Some((head, _)) = Head::decode(&record.data) {
                ids.push((head.id, record.sequence));
            }
        }
        Ok(Self {
            ids,
            epochs: stretches,
        })
    }
}

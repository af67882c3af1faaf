//! The journal's files as the one who writes them sees them: appended to, and mended.
//!
//! Nothing here knows threads or tasks; every call waits for the disk.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use aico_contracts::ids::PersonId;
use aico_vault::append::{AppendError, BodyKey, SealedLogWriter};
use aico_vault::fs::FileError;
use uuid::Uuid;

use super::dedup::{Dedup, Epochs, epoch_of};
use super::error::JournalFault;
use super::files::Folder;
use super::format::{FileName, Head};
use super::keys::NoBodyKey;
use super::message::{Kept, Message, Place, Receipt};

/// The file that is written.
pub(crate) struct Current {
    pub(crate) name: FileName,
    /// `None` after a failed write: what is on the disk behind `durable_len` is unknown, and no
    /// sequence of this segment may be given again.
    pub(crate) writer: Option<SealedLogWriter>,
    pub(crate) durable_len: u64,
    /// Keys of the segment's bodies, by person.
    bodies: HashMap<PersonId, BodyKey>,
    pub(crate) epoch: [u8; 16],
}

/// The journal, open for writing.
pub(crate) struct Store {
    pub(crate) folder: Folder,
    /// Files that are not written any more, oldest first, with their lengths.
    pub(crate) closed: Vec<(FileName, u64)>,
    pub(crate) current: Current,
    pub(crate) dedup: Dedup,
    pub(crate) epochs: Epochs,
    /// The last sequence that is durable.
    pub(crate) last: u64,
    /// Whether the file ends with what is durable, while it has no writer.
    pub(crate) is_cut: bool,
    /// Persons who were erased while this was open: nothing of theirs is taken any more.
    pub(crate) erased: HashSet<PersonId>,
}

/// What became of a batch.
pub(crate) struct Committed {
    /// For each message, in order.
    pub(crate) outcomes: Vec<Result<Receipt, JournalFault>>,
    /// What is new in the journal, when it was asked for.
    pub(crate) kept: Vec<Kept>,
}

impl Store {
    /// A new file.
    pub(crate) fn begin(
        folder: &Folder,
        first: u64,
        now_s: u64,
    ) -> Result<(FileName, SealedLogWriter), AppendError> {
        let name = FileName {
            first,
            made_s: now_s,
            id: *Uuid::new_v4().as_bytes(),
        };
        match folder.writer(&name) {
            Ok(writer) => Ok((name, writer)),
            Err(error) => {
                // Half a file must not stay: the one before it may go on. `drop_vain` is for
                // when this fails too.
                let _ = folder.remove(&name);
                Err(error)
            }
        }
    }

    pub(crate) fn epoch(&self) -> [u8; 16] {
        self.current.epoch
    }

    pub(crate) fn place(&self, sequence: u64) -> Place {
        Place {
            epoch: self.epochs.of(sequence).unwrap_or_default(),
            sequence,
        }
    }

    /// Appends messages, makes them durable with one sync, and says what became of each. What is
    /// not acknowledged is not in the journal.
    pub(crate) fn commit(&mut self, batch: &[Message], want_kept: bool) -> Committed {
        let mut committed = Committed {
            outcomes: Vec::with_capacity(batch.len()),
            kept: Vec::new(),
        };
        let mut fresh: HashMap<[u8; 16], u64> = HashMap::new();
        let written = self.mend().and_then(|()| {
            for message in batch {
                let outcome = self.append(message, &mut fresh, want_kept, &mut committed.kept)?;
                committed.outcomes.push(outcome);
            }
            if fresh.is_empty() {
                return Ok(());
            }
            match &mut self.current.writer {
                Some(writer) => writer.sync().map(drop),
                None => Ok(()),
            }
        });
        match written {
            Ok(()) => {
                for message in batch {
                    if let Some(sequence) = fresh.get(&message.id) {
                        self.dedup.insert(message.id, *sequence);
                    }
                }
                if let Some(writer) = &self.current.writer {
                    self.current.durable_len = writer.len();
                    self.last = writer.last_sequence();
                }
            }
            Err(error) => {
                self.current.writer = None;
                committed.kept.clear();
                let fault = JournalFault::of_write(&error);
                tracing::warn!(error = %error, "The bus's journal could not be written.");
                // At once, so that a crash does not bring back what is refused here. When the disk
                // can't do even that, it is done before the next write.
                self.is_cut = self.cut().is_ok();
                // What had been there before still is, and what was refused for itself stays so.
                committed.outcomes.resize(batch.len(), Err(fault.clone()));
                for (outcome, message) in committed.outcomes.iter_mut().zip(batch) {
                    match (self.dedup.get(&message.id), &outcome) {
                        (Some(sequence), _) => {
                            *outcome = Ok(Receipt {
                                place: self.place(sequence),
                                repeated: true,
                            });
                        }
                        (None, Ok(_)) => *outcome = Err(fault.clone()),
                        (None, Err(_)) => {}
                    }
                }
            }
        }
        committed
    }

    /// Appends one message; `Err` when the writer is of no more use.
    fn append(
        &mut self,
        message: &Message,
        fresh: &mut HashMap<[u8; 16], u64>,
        want_kept: bool,
        kept: &mut Vec<Kept>,
    ) -> Result<Result<Receipt, JournalFault>, AppendError> {
        let before = self.dedup.get(&message.id);
        if let Some(sequence) = before.or_else(|| fresh.get(&message.id).copied()) {
            return Ok(Ok(Receipt {
                place: self.place(sequence),
                repeated: true,
            }));
        }
        let Some(writer) = &mut self.current.writer else {
            return Ok(Err(JournalFault::Locked));
        };
        let head: Head<'_> = message.head();
        let sequence = writer.last_sequence() + 1;
        let mut record = Vec::with_capacity(message.size());
        head.encode(&mut record);
        let body = record.len();
        record.extend_from_slice(&message.body);
        if let Some(person) = message.person {
            if self.erased.contains(&person) {
                return Ok(Err(JournalFault::PersonGone));
            }
            let keys = &*self.folder.keys;
            let key = match self.current.bodies.entry(person) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => match keys.body_key(person, &writer.segment()) {
                    Ok(key) => place.insert(key),
                    Err(why) => return Ok(Err(refusal(why))),
                },
            };
            key.seal(sequence, &mut record, body);
        }
        writer.append(&record)?;
        let place = Place {
            epoch: self.current.epoch,
            sequence,
        };
        fresh.insert(message.id, sequence);
        if want_kept {
            kept.extend(Kept::new(&head, place, &message.body));
        }
        Ok(Ok(Receipt {
            place,
            repeated: false,
        }))
    }

    /// After a failed write: cuts the file back to what was durable and opens it again, which
    /// begins a segment with other random bytes.
    fn mend(&mut self) -> Result<(), AppendError> {
        if self.current.writer.is_some() {
            return Ok(());
        }
        let name = self.current.name;
        if !self.is_cut {
            self.cut()?;
            self.is_cut = true;
        }
        match self.folder.writer(&name) {
            Ok(writer) if writer.last_sequence() == self.last => {
                self.current = Current::new(name, writer);
            }
            Err(error) if !is_damage(&error) => return Err(error),
            // Somebody else was at it. What it held is told as missing to who follows.
            _ => {
                tracing::error!("A file of the bus's journal was changed while it was written.");
                let now_s = name.made_s;
                let (next, writer) = Self::begin(&self.folder, self.last + 1, now_s)?;
                self.closed.push((name, self.current.durable_len));
                self.current = Current::new(next, writer);
            }
        }
        self.epochs.begin(self.last + 1, self.current.epoch);
        Ok(())
    }

    /// Takes away what a failed write left behind what is durable.
    fn cut(&mut self) -> Result<(), FileError> {
        self.folder
            .cut(&self.current.name, self.current.durable_len)
    }

    /// A person is locked: their key is asked for anew with their next message.
    pub(crate) fn lock(&mut self, person: PersonId) {
        self.current.bodies.remove(&person);
    }

    /// A person is gone: no key of theirs stays in memory.
    pub(crate) fn forget(&mut self, person: PersonId) {
        self.current.bodies.remove(&person);
        self.erased.insert(person);
    }
}

impl Current {
    pub(crate) fn new(name: FileName, writer: SealedLogWriter) -> Self {
        Self {
            name,
            durable_len: writer.len(),
            epoch: epoch_of(&writer.segment()),
            bodies: HashMap::new(),
            writer: Some(writer),
        }
    }
}

/// Whether a file is at fault. A disk that can't be read or written now says nothing about the
/// file, and one of a newer program is not ours to set aside.
pub(crate) fn is_damage(error: &AppendError) -> bool {
    !matches!(
        error,
        AppendError::File(_) | AppendError::Unsupported { .. } | AppendError::Broken { .. }
    )
}

/// Why a message of a person can't be kept.
fn refusal(why: NoBodyKey) -> JournalFault {
    match why {
        NoBodyKey::Locked => JournalFault::PersonLocked,
        NoBodyKey::Gone => JournalFault::PersonGone,
        NoBodyKey::Unreadable(reason) => JournalFault::Failed { reason },
    }
}

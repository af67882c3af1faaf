//! Following from the disk: a stretch of messages at a time.

use std::collections::HashMap;
use std::sync::Arc;

use aico_contracts::ids::PersonId;
use aico_vault::append::{AppendError, BodyKey, Record, SealedLogReader};
use bytes::Bytes;

use super::dedup::epoch_of;
use super::error::JournalFault;
use super::format::{CONTEXT, FileName, Head, before_carrying};
use super::keys::NoBodyKey;
use super::message::{Kept, Place};
use super::shared::Shared;
use super::store::is_damage;
use super::tail::Wanted;

/// Bounds of one stretch: messages that match, their bytes, records looked at.
const MESSAGES: usize = 64;
const BYTES: usize = 256 * 1024;
const RECORDS: usize = 4096;

/// Why messages are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// They are past the time or the size that is kept.
    Expired,
    /// The place that was named is not of this journal: it was put back to an earlier state, or
    /// begun anew. Everything that is there follows; drop by id what is known.
    OtherEpoch,
    /// They belong to a person who is locked.
    Locked,
    /// They can't be read any more; the log says which file.
    Damaged,
    /// They were lost on the way.
    Lost,
}

/// Messages that a follower does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Why.
    pub why: Why,
    /// How many sequences, of whatever topic; 0 when nobody can know.
    pub missed: u64,
    /// It goes on from here.
    pub next: Place,
}

/// What a follower gets.
pub(crate) enum Item {
    Kept(Kept),
    Skipped(Skipped),
}

/// A stretch that was read.
pub(crate) struct Stretch {
    pub(crate) items: Vec<Item>,
    /// Where to go on.
    pub(crate) next: u64,
}

/// Reads on through the files, as long as it is kept.
pub(crate) struct DiskReader {
    shared: Arc<Shared>,
    open: Option<(FileName, SealedLogReader)>,
}

impl DiskReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None }
    }

    /// Messages from `next` up to and including `last`, which is durable, that are wanted.
    pub(crate) fn read(
        &mut self,
        mut next: u64,
        last: u64,
        wanted: &Wanted,
    ) -> Result<Stretch, JournalFault> {
        let mut items = Vec::new();
        let (mut found, mut bytes, mut looked) = (0, 0, 0);
        let mut bodies = Bodies::default();
        while next <= last && found < MESSAGES && bytes < BYTES && looked < RECORDS {
            let first = self.shared.view().first();
            if self.open.is_none() && next < first {
                self.skip(&mut items, Why::Expired, &mut next, first);
                continue;
            }
            let record = match self.record(next) {
                Ok(Some(record)) => record,
                Ok(None) => {
                    // The file ends before the next one begins.
                    let (open, after) = self.after(next, last);
                    if after > next {
                        self.skip(&mut items, Why::Damaged, &mut next, after);
                    }
                    self.open = open;
                    continue;
                }
                // Deleted since: what is left begins later.
                Err(AppendError::Absent { .. }) if self.shared.view().first() > next => {
                    self.open = None;
                    continue;
                }
                Err(error) if !is_damage(&error) => return Err(JournalFault::of_write(&error)),
                Err(error) => {
                    tracing::error!(error = %error, "A file of the bus's journal can't be read.");
                    let (open, after) = self.after(next, last);
                    // In the next file it may go on right here; without one it has to go on.
                    let after = after.max(next + u64::from(open.is_none()));
                    if after > next {
                        self.skip(&mut items, Why::Damaged, &mut next, after);
                    }
                    self.open = open;
                    continue;
                }
            };
            looked += 1;
            if record.sequence > next {
                self.skip(&mut items, Why::Damaged, &mut next, record.sequence);
            }
            let segment = self
                .open
                .as_ref()
                .map_or([0; 32], |(_, open)| open.segment());
            next += 1;
            match bodies.open(&self.shared, record, &segment, wanted) {
                Ok(Some(kept)) => {
                    found += 1;
                    bytes += kept.parcel.size();
                    items.push(Item::Kept(kept));
                }
                Ok(None) => {}
                Err(why) => {
                    let mut from = next - 1;
                    self.skip(&mut items, why, &mut from, next);
                }
            }
        }
        Ok(Stretch { items, next })
    }

    /// The epoch of a sequence that is in the files. `None` when it can't be found.
    pub(crate) fn epoch(&mut self, sequence: u64) -> Option<[u8; 16]> {
        self.open = None;
        let record = self.record(sequence).ok()??;
        let segment = self.open.as_ref()?.1.segment();
        (record.sequence == sequence).then(|| epoch_of(&segment))
    }

    /// The record with this sequence, or the first after it in the same file.
    fn record(&mut self, sequence: u64) -> Result<Option<Record>, AppendError> {
        if self.open.is_none() {
            let view = self.shared.view();
            let after = view.files.partition_point(|file| file.first <= sequence);
            let Some(file) = after.checked_sub(1).and_then(|at| view.files.get(at)) else {
                return Ok(None);
            };
            self.open = Some((*file, self.shared.folder.reader(file)?));
        }
        let Some((_, reader)) = &mut self.open else {
            return Ok(None);
        };
        while let Some(record) = reader.next_record()? {
            if record.sequence >= sequence {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Nothing more comes out of the open file: the file after it, and where that begins.
    fn after(&self, next: u64, last: u64) -> (Option<(FileName, SealedLogReader)>, u64) {
        let view = self.shared.view();
        let later = |file: &&FileName| match &self.open {
            Some((open, _)) => *file > open,
            None => file.first > next,
        };
        match view.files.iter().find(later) {
            // A file that can't be opened is found to be so when it is its turn.
            Some(file) => match self.shared.folder.reader(file) {
                Ok(reader) => (Some((*file, reader)), file.first),
                Err(_) => (None, file.first),
            },
            None => (None, last + 1),
        }
    }

    fn skip(&self, items: &mut Vec<Item>, why: Why, next: &mut u64, to: u64) {
        let missed = to - *next;
        *next = to;
        let place = self.shared.place(to);
        if let Some(Item::Skipped(before)) = items.last_mut()
            && before.why == why
        {
            before.missed += missed;
            before.next = place;
            return;
        }
        items.push(Item::Skipped(Skipped {
            why,
            missed,
            next: place,
        }));
    }
}

/// Keys of bodies, for the time of one stretch: a key that is gone must not live on here.
#[derive(Default)]
struct Bodies {
    segment: [u8; 32],
    keys: HashMap<PersonId, Result<BodyKey, NoBodyKey>>,
}

impl Bodies {
    /// A record as a message, when it matches and its person is still there.
    fn open(
        &mut self,
        shared: &Shared,
        record: Record,
        segment: &[u8; 32],
        wanted: &Wanted,
    ) -> Result<Option<Kept>, Why> {
        let (sequence, mut data) = (record.sequence, record.data);
        let Some((head, mut body)) = Head::decode(&data) else {
            return Err(Why::Damaged);
        };
        if !wanted.matches(head.topic, head.person) {
            return Ok(None);
        }
        let place = Place {
            epoch: epoch_of(segment),
            sequence,
        };
        let Some(person) = head.person else {
            let body = Bytes::copy_from_slice(data.get(body..).unwrap_or_default());
            return Kept::new(&head, place, &body).map(Some).ok_or(Why::Damaged);
        };
        if shared.is_erased(person) {
            Shared::count(&shared.counts.erased, 1);
            return Ok(None);
        }
        // One that was carried over is sealed as it was in the segment of then.
        let before = before_carrying(&data, body);
        let segment = before.as_ref().map_or(*segment, |(_, segment)| *segment);
        if let Some((before, _)) = before {
            body -= CONTEXT;
            data = before.into();
        }
        if self.segment != segment {
            self.segment = segment;
            self.keys.clear();
        }
        let keys = &*shared.folder.keys;
        let key = self
            .keys
            .entry(person)
            .or_insert_with(|| keys.body_key(person, &segment));
        match key {
            Ok(key) => {
                let opened = key.open(sequence, &mut data, body);
                let opened = Bytes::copy_from_slice(opened.map_err(|_| Why::Damaged)?);
                let (head, _) = Head::decode(&data).ok_or(Why::Damaged)?;
                Kept::new(&head, place, &opened)
                    .map(Some)
                    .ok_or(Why::Damaged)
            }
            Err(NoBodyKey::Gone) => {
                Shared::count(&shared.counts.erased, 1);
                Ok(None)
            }
            Err(NoBodyKey::Locked) => Err(Why::Locked),
            Err(NoBodyKey::Unreadable(_)) => Err(Why::Damaged),
        }
    }
}

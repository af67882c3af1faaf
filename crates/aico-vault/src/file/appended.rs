//! A sealed append file as a stream of bytes: its records are what was collected between two
//! flushes, at most 64 KiB each.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::EncryptedFileError;
use crate::append::{AppendError, HighWater, LogKey, Place, Scanner, SealedLogWriter, Tail};
use crate::fs::{Filesystem, FsFile};

/// Bytes of plain text that are collected into one record.
const RECORD: usize = 64 * 1024;
/// How many places are remembered to seek to. When there are more, every second one goes, and
/// those that come are as far apart: memory stays the same whatever the file's size.
const PLACES: usize = 1024;

pub(super) struct Appender {
    log: SealedLogWriter,
    /// Bytes of plain text that are in no record yet.
    collected: Zeroizing<Vec<u8>>,
    taken: u64,
}

impl Appender {
    pub(super) fn open(
        fs: Arc<dyn Filesystem>,
        key: &LogKey,
        path: &Path,
        mark: HighWater,
    ) -> Result<Self, EncryptedFileError> {
        let (log, _) = SealedLogWriter::open_on(fs, key, path, mark, 1)?;
        Ok(Self {
            log,
            collected: Zeroizing::new(Vec::with_capacity(RECORD)),
            taken: 0,
        })
    }

    /// Bytes of plain text that were taken since it was opened.
    pub(super) fn position(&self) -> u64 {
        self.taken
    }

    /// Takes some of the data. An error takes none.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<usize, AppendError> {
        if self.collected.len() == RECORD {
            self.seal()?;
        }
        let count = data.len().min(RECORD - self.collected.len());
        self.collected.extend_from_slice(&data[..count]);
        self.taken += count as u64;
        Ok(count)
    }

    fn seal(&mut self) -> Result<(), AppendError> {
        if !self.collected.is_empty() {
            self.log.append(&self.collected)?;
            self.collected.clear();
        }
        Ok(())
    }

    /// What was collected becomes a record and is handed over to the system.
    pub(super) fn flush(&mut self) -> Result<(), AppendError> {
        self.seal()?;
        self.log.flush()
    }

    /// The same, made durable; the sequence of the last record.
    pub(super) fn sync(&mut self) -> Result<u64, AppendError> {
        self.seal()?;
        self.log.sync()
    }

    /// The same, and the end is sealed.
    pub(super) fn finish(mut self) -> Result<u64, AppendError> {
        self.seal()?;
        self.log.close()
    }
}

pub(super) struct RecordReader {
    scanner: Scanner,
    /// The plain text of the record that was read last.
    record: Zeroizing<Vec<u8>>,
    /// Where it begins in the plain text.
    start: u64,
    position: u64,
    places: Places,
}

impl RecordReader {
    pub(super) fn new(file: Box<dyn FsFile>, path: &Path, key: LogKey, mark: HighWater) -> Self {
        Self {
            scanner: Scanner::new(file, path, key, mark),
            record: Zeroizing::new(Vec::new()),
            start: 0,
            position: 0,
            places: Places::default(),
        }
    }

    /// Where the record that was read last ends.
    fn end(&self) -> u64 {
        self.start + self.record.len() as u64
    }

    /// Moves to the next record; `false` at the end of what is there now.
    fn advance(&mut self) -> Result<bool, AppendError> {
        let place = self.scanner.place();
        let Some(record) = self.scanner.next()? else {
            return Ok(false);
        };
        self.start = self.end();
        self.record = record.data;
        self.places.note(record.sequence, self.start, place);
        Ok(true)
    }

    /// What can be handed out from the position on; empty at the end.
    pub(super) fn fill(&mut self) -> Result<&[u8], EncryptedFileError> {
        if self.position < self.start {
            match self.places.before(self.position) {
                Some((start, place)) => {
                    self.start = start;
                    self.scanner.go_to(&place);
                }
                None => unreachable!("the first record's place is always remembered"),
            }
            self.record.clear();
        }
        while self.position >= self.end() {
            if !self.advance()? {
                return Ok(&[]);
            }
        }
        // In the record, since it neither ends before the position nor begins after it.
        let at = (self.position - self.start) as usize;
        Ok(self.record.get(at..).unwrap_or_default())
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.position = self.position.saturating_add(count as u64);
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn seek(&mut self, to: u64) {
        self.position = to;
    }

    /// Reads on to the end of what is there now, and says where that is.
    pub(super) fn len(&mut self) -> Result<u64, EncryptedFileError> {
        while self.advance()? {}
        Ok(self.end())
    }

    /// Authenticates everything from the beginning.
    pub(super) fn verify(&mut self) -> Result<(), EncryptedFileError> {
        let position = std::mem::take(&mut self.position);
        let checked = self.fill().map(drop).and_then(|()| self.len());
        self.position = position;
        checked.map(drop)
    }

    pub(super) fn tail(&self) -> Tail {
        self.scanner.tail
    }
}

/// Some places between records, in order, at most [`PLACES`] of them.
struct Places {
    kept: Vec<(u64, Place)>,
    /// Every how many records one is kept.
    stride: u64,
    /// Sequence of the last record that was noted or passed over.
    seen: u64,
    count: u64,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            stride: 1,
            seen: 0,
            count: 0,
        }
    }
}

impl Places {
    /// `place` is where the record with this sequence stands, whose text begins at `start`.
    fn note(&mut self, sequence: u64, start: u64, place: Place) {
        if sequence <= self.seen {
            return;
        }
        self.seen = sequence;
        if self.count.is_multiple_of(self.stride) {
            if self.kept.len() == PLACES {
                let mut number = 0_u64;
                self.kept.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                self.stride *= 2;
            }
            if self.count.is_multiple_of(self.stride) {
                self.kept.push((start, place));
            }
        }
        self.count += 1;
    }

    /// The last of them whose record begins at or before a position.
    fn before(&self, position: u64) -> Option<(u64, Place)> {
        let after = self.kept.partition_point(|(start, _)| *start <= position);
        self.kept.get(after.checked_sub(1)?).cloned()
    }
}

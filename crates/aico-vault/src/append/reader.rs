//! Reading: records in order, and what the end of the file means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    CLOSE, CLOSE_LEN, DATA, DATA_AFTER_SYNC, HEADER, LogKey, MAGIC, MAX_RECORD, RECORD_HEAD,
    RECORD_OVERHEAD, Segment, SegmentPlace, VERSION,
};
use super::{AppendError, HighWater};
use crate::aead::TAG;
use crate::fs::{self, Context, Filesystem, FsFile, Kind, OsFilesystem};

/// Bytes read from the file at a time.
const CHUNK: usize = 64 * 1024;
/// How many records after a failed one are looked at for proof that it had been durable.
const LOOK_AHEAD: u64 = 100_000;

/// A decrypted record.
pub struct Record {
    /// Its place in the file, counted from the first record on across segments.
    pub sequence: u64,
    /// What was appended. It is wiped when dropped.
    pub data: zeroize::Zeroizing<Vec<u8>>,
}

/// How a file ends, as far as it has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// After a whole record of an open segment: being written, or not closed properly.
    Open,
    /// After the mark that closes the last segment.
    Closed,
    /// With bytes that are no whole record: being written just now, or torn by a crash.
    Torn {
        /// How many.
        bytes: u64,
    },
}

/// Reads a sealed append file, finished or growing.
pub struct SealedLogReader(Scanner);

impl SealedLogReader {
    /// Opens a file. `mark` is what the registry knows of it.
    ///
    /// # Errors
    /// [`AppendError::Absent`] without a file; one that can't be read or is not private.
    pub fn open(key: &LogKey, path: &Path, mark: HighWater) -> Result<Self, AppendError> {
        Self::open_on(Arc::new(OsFilesystem), key, path, mark)
    }

    /// As [`SealedLogReader::open`], on another file system.
    ///
    /// # Errors
    /// As [`SealedLogReader::open`].
    pub fn open_on(
        fs: Arc<dyn Filesystem>,
        key: &LogKey,
        path: &Path,
        mark: HighWater,
    ) -> Result<Self, AppendError> {
        if fs::probe_private(&*fs, path, Kind::File)?.is_none() {
            return Err(AppendError::Absent {
                path: path.to_path_buf(),
            });
        }
        let file = fs.open(path, false).on("open", path)?;
        Ok(Self(Scanner::new(file, path, key.share(), mark)))
    }

    /// The next record; `None` at the end of what is there now. A later call sees what was
    /// appended since.
    ///
    /// # Errors
    /// [`AppendError::Damaged`] at the place; [`AppendError::Cut`] and
    /// [`AppendError::CloseMissing`] at the end.
    pub fn next_record(&mut self) -> Result<Option<Record>, AppendError> {
        self.0.next()
    }

    /// How the file ends, once [`SealedLogReader::next_record`] gave `None`.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.0.tail
    }

    /// The random bytes of the segment that the last record stands in; zeros before the first.
    #[must_use]
    pub fn segment(&self) -> [u8; 32] {
        self.0.segment.as_ref().map_or([0; 32], Segment::random)
    }

    /// Offset of the next byte to be read: how much of the file has been understood.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.offset
    }
}

impl Iterator for SealedLogReader {
    type Item = Result<Record, AppendError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

/// A place between two records that was reached before, to be gone on from.
#[derive(Clone)]
pub(crate) struct Place {
    offset: u64,
    segment: Option<SegmentPlace>,
    closed_at: u64,
}

/// Walks over segments and records, and knows where the valid part ends.
pub(crate) struct Scanner {
    pub(crate) file: Box<dyn FsFile>,
    path: PathBuf,
    key: LogKey,
    mark: HighWater,
    /// Where the valid part ends so far.
    pub(crate) offset: u64,
    /// From where on nothing that was read says that what stands before it had been synced.
    pub(crate) unproven: u64,
    pub(crate) segment: Option<Segment>,
    /// Sequence of the last record before the last closing mark.
    closed_at: u64,
    pub(crate) tail: Tail,
    window: Vec<u8>,
    window_start: u64,
    /// Offset and file length at the last failure, to tell damage from growth.
    failed_at: Option<(u64, u64)>,
}

impl Scanner {
    pub(crate) fn new(file: Box<dyn FsFile>, path: &Path, key: LogKey, mark: HighWater) -> Self {
        Self {
            file,
            path: path.to_path_buf(),
            key,
            mark,
            offset: 0,
            unproven: 0,
            segment: None,
            closed_at: 0,
            tail: Tail::Open,
            window: Vec::new(),
            window_start: 0,
            failed_at: None,
        }
    }

    /// Where the next record will be looked for.
    pub(crate) fn place(&self) -> Place {
        Place {
            offset: self.offset,
            segment: self.segment.as_ref().map(Segment::place),
            closed_at: self.closed_at,
        }
    }

    /// Goes back to a place of this file.
    pub(crate) fn go_to(&mut self, place: &Place) {
        self.offset = place.offset;
        self.segment = place.segment.as_ref().and_then(|at| self.key.resume(at));
        self.closed_at = place.closed_at;
        self.tail = Tail::Open;
        self.failed_at = None;
    }

    /// Sequence of the last record so far; 0 before the first.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.segment
            .as_ref()
            .map_or(0, |segment| segment.next_sequence() - 1)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>, AppendError> {
        loop {
            let Some(kind) = self.peek(self.offset, 1)?.map(|bytes| bytes[0]) else {
                let closed = self.segment.as_ref().is_some_and(|segment| segment.closed);
                return self.end(if closed { Tail::Closed } else { Tail::Open });
            };
            let open = self.segment.as_ref().is_some_and(|segment| !segment.closed);
            let step = match kind {
                DATA | DATA_AFTER_SYNC if open => self.record(kind)?,
                CLOSE if open => self.closing_mark()?,
                _ => self.header()?,
            };
            match step {
                Step::Record(record) => return Ok(Some(record)),
                Step::Moved => {}
                Step::Failed => {
                    // A growing file: judge only what did not change between two looks at it.
                    let len = self.file.len().on("read", &self.path)?;
                    self.window.clear();
                    if self.failed_at != Some((self.offset, len)) {
                        self.failed_at = Some((self.offset, len));
                        continue;
                    }
                    let judged = self.failed(len);
                    if self.file.len().on("read", &self.path)? != len {
                        continue;
                    }
                    return judged.and_then(|()| {
                        self.end(Tail::Torn {
                            bytes: len.saturating_sub(self.offset),
                        })
                    });
                }
            }
        }
    }

    fn record(&mut self, kind: u8) -> Result<Step, AppendError> {
        let Some(len) = self.record_len(self.offset)? else {
            return Ok(Step::Failed);
        };
        let Some(body) = self.peek(self.offset + RECORD_HEAD as u64, len + TAG)? else {
            return Ok(Step::Failed);
        };
        let mut body = zeroize::Zeroizing::new(body.to_vec());
        let Some(tag) = body.last_chunk().copied() else {
            return Ok(Step::Failed);
        };
        let Some(segment) = &mut self.segment else {
            return Ok(Step::Failed);
        };
        if segment.open(0, kind, &mut body).is_err() {
            return Ok(Step::Failed);
        }
        body.truncate(len);
        let sequence = segment.next_sequence();
        segment.advance(tag);
        if kind == DATA_AFTER_SYNC {
            self.unproven = self.offset;
        }
        self.offset += (RECORD_OVERHEAD + len) as u64;
        Ok(Step::Record(Record {
            sequence,
            data: body,
        }))
    }

    fn closing_mark(&mut self) -> Result<Step, AppendError> {
        let Some(mark) = self.peek_array::<CLOSE_LEN>(self.offset)? else {
            return Ok(Step::Failed);
        };
        let Some(segment) = &mut self.segment else {
            return Ok(Step::Failed);
        };
        if segment.read_close(&mark) != Some(segment.records) {
            return Ok(Step::Failed);
        }
        segment.closed_by(&mark);
        self.closed_at = segment.next_sequence() - 1;
        self.unproven = self.offset;
        self.offset += CLOSE_LEN as u64;
        Ok(Step::Moved)
    }

    fn header(&mut self) -> Result<Step, AppendError> {
        let Some(header) = self.peek_array::<HEADER>(self.offset)? else {
            return Ok(Step::Failed);
        };
        let found = u16::from_be_bytes([header[8], header[9]]);
        if header.starts_with(MAGIC) && found > VERSION {
            let path = self.path.clone();
            return Err(AppendError::Unsupported {
                path,
                found,
                known: VERSION,
            });
        }
        let Some(segment) = self.key.read(header) else {
            if self.key.is_foreign(&header) {
                return Err(AppendError::Foreign {
                    path: self.path.clone(),
                });
            }
            return Ok(Step::Failed);
        };
        let previous = self.segment.as_ref();
        let expected = previous.map_or(segment.first_sequence, Segment::next_sequence);
        if !self.key.follows(&segment, previous)
            || segment.first_sequence != expected
            || segment.first_sequence == 0
        {
            return Err(self.damaged("a segment before this one is missing or was cut"));
        }
        self.segment = Some(segment);
        self.unproven = self.offset;
        self.offset += HEADER as u64;
        Ok(Step::Moved)
    }

    /// Nothing valid stands at the offset: an error when it had been durable.
    fn failed(&mut self, len: u64) -> Result<(), AppendError> {
        // A header is synced before anything follows it: bytes after a bad one prove damage.
        if len.saturating_sub(self.offset) > HEADER as u64 && self.header_stood_here()? {
            return Err(self.damaged("a segment's header fails authentication"));
        }
        if self.was_closed(len)? {
            return Err(self.damaged("a record in a closed segment fails authentication"));
        }
        if self.durable_record_follows()? {
            return Err(self.damaged("a record that had been synced fails authentication"));
        }
        if self.segment_follows(len)? {
            return Err(self.damaged("a record before another segment fails authentication"));
        }
        Ok(())
    }

    /// Whether a header was once at the offset: nothing else can be there, or enough of one is
    /// left to be known.
    fn header_stood_here(&mut self) -> Result<bool, AppendError> {
        if self.segment.as_ref().is_none_or(|segment| segment.closed) {
            return Ok(true);
        }
        let header = self.peek_array::<HEADER>(self.offset)?;
        Ok(header.is_some_and(|header| self.key.resembles(&header)))
    }

    /// Whether the file ends with the closing mark of the current segment.
    fn was_closed(&mut self, len: u64) -> Result<bool, AppendError> {
        let Some(at) = len.checked_sub(CLOSE_LEN as u64) else {
            return Ok(false);
        };
        if at < self.offset {
            return Ok(false);
        }
        let mark = self.peek_array::<CLOSE_LEN>(at)?;
        Ok(mark.is_some_and(|mark| {
            self.segment
                .as_ref()
                .is_some_and(|segment| segment.read_close(&mark).is_some())
        }))
    }

    /// Whether one of the records after the failed one opens and says that those before it had
    /// been synced.
    fn durable_record_follows(&mut self) -> Result<bool, AppendError> {
        let mut at = self.offset;
        for ahead in 0..LOOK_AHEAD {
            let kind = self.peek(at, 1)?.map(|bytes| bytes[0]);
            let Some(len) = self.record_len(at)? else {
                return Ok(false);
            };
            let Some(body) = self.peek(at + RECORD_HEAD as u64, len + TAG)? else {
                return Ok(false);
            };
            let mut body = zeroize::Zeroizing::new(body.to_vec());
            if let (1.., Some(DATA_AFTER_SYNC), Some(segment)) = (ahead, kind, &self.segment)
                && segment.open(ahead, DATA_AFTER_SYNC, &mut body).is_ok()
            {
                return Ok(true);
            }
            at += (RECORD_OVERHEAD + len) as u64;
        }
        Ok(false)
    }

    /// Whether an authentic header of this file stands anywhere after the offset.
    fn segment_follows(&mut self, len: u64) -> Result<bool, AppendError> {
        let mut at = self.offset + 1;
        while at + HEADER as u64 <= len {
            let want = CHUNK.min((len - at) as usize);
            let Some(chunk) = self.peek(at, want)? else {
                return Ok(false);
            };
            let places: Vec<u64> = chunk
                .windows(MAGIC.len())
                .enumerate()
                .filter(|(_, window)| window == MAGIC)
                .map(|(index, _)| at + index as u64)
                .collect();
            for place in places {
                let header = self.peek_array::<HEADER>(place)?;
                if header.is_some_and(|header| self.key.read(header).is_some()) {
                    return Ok(true);
                }
            }
            at += (want.saturating_sub(MAGIC.len() - 1)).max(1) as u64;
        }
        Ok(false)
    }

    fn end(&mut self, tail: Tail) -> Result<Option<Record>, AppendError> {
        self.tail = tail;
        let path = || self.path.clone();
        let found = self.last_sequence();
        if found < self.mark.sequence {
            return Err(AppendError::Cut {
                path: path(),
                found,
                mark: self.mark.sequence,
            });
        }
        if self.closed_at < self.mark.closed {
            return Err(AppendError::CloseMissing {
                path: path(),
                mark: self.mark.closed,
            });
        }
        Ok(None)
    }

    fn damaged(&self, reason: &'static str) -> AppendError {
        AppendError::Damaged {
            path: self.path.clone(),
            offset: self.offset,
            segment: self.segment.as_ref().map_or(0, |segment| segment.number),
            sequence: self.last_sequence() + 1,
            reason,
        }
    }

    /// The length of the data of a record at `at`, if a record's head can be there.
    fn record_len(&mut self, at: u64) -> Result<Option<usize>, AppendError> {
        let Some([kind, len @ ..]) = self.peek_array::<RECORD_HEAD>(at)? else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(len) as usize;
        let possible = matches!(kind, DATA | DATA_AFTER_SYNC) && len <= MAX_RECORD;
        Ok(possible.then_some(len))
    }

    fn peek_array<const N: usize>(&mut self, at: u64) -> Result<Option<[u8; N]>, AppendError> {
        Ok(self
            .peek(at, N)?
            .and_then(|bytes| bytes.first_chunk().copied()))
    }

    /// `len` bytes at `at`, or `None` when the file ends before. Memory is taken for what the
    /// file really has, whatever a damaged length says.
    fn peek(&mut self, at: u64, len: usize) -> Result<Option<&[u8]>, AppendError> {
        let inside = |scanner: &Self| {
            let start = usize::try_from(at.checked_sub(scanner.window_start)?).ok()?;
            let end = start.checked_add(len)?;
            (end <= scanner.window.len()).then_some(start..end)
        };
        if inside(self).is_none() {
            let there = self.file.len().on("read", &self.path)?.saturating_sub(at);
            if there < len as u64 {
                return Ok(None);
            }
            let want = len.max(CHUNK.min(usize::try_from(there).unwrap_or(CHUNK)));
            self.window.resize(want, 0);
            self.window_start = at;
            let got = fs::read_full_at(&*self.file, &mut self.window, at).on("read", &self.path)?;
            self.window.truncate(got);
        }
        Ok(inside(self).and_then(|range| self.window.get(range)))
    }
}

enum Step {
    Record(Record),
    Moved,
    Failed,
}

//! Writing: recovery of what is there, then a new segment.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{HEADER, LogKey, MAX_RECORD, Segment};
use super::reader::Scanner;
use super::{AppendError, HighWater, Tail};
use crate::fs::{self, Context, FileError, Filesystem, FsFile, Kind, OsFilesystem};

/// Encrypted bytes that are collected before they are handed to the system.
const BUFFER: usize = 64 * 1024;
/// Bytes above which nothing more is taken while the system refuses to write.
const BACKLOG: usize = 4 * 1024 * 1024;

/// What was there when a file was opened for appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Sequence of the last valid record; 0 in a new file.
    pub records: u64,
    /// Bytes of torn records that were cut off.
    pub torn_bytes: u64,
    /// Whether the file was new, or had been closed.
    pub clean: bool,
}

/// A wait for the disk that [`SealedLogWriter::begin_sync`] left to somebody else.
#[must_use = "nothing is durable before it is waited for"]
pub struct Syncing {
    file: Box<dyn FsFile>,
    path: PathBuf,
    sequence: u64,
}

/// What came of it, for [`SealedLogWriter::end_sync`].
#[must_use = "the writer has to be told"]
pub struct Synced {
    sequence: u64,
    done: Result<(), FileError>,
}

impl Syncing {
    /// Waits until what had been appended when it began is durable.
    pub fn wait(mut self) -> Synced {
        Synced {
            sequence: self.sequence,
            done: self.file.sync().on("sync", &self.path),
        }
    }
}

/// Appends to a sealed file.
///
/// [`append`](Self::append) encrypts and collects, [`flush`](Self::flush) hands over to the
/// system (what a killed process leaves), [`sync`](Self::sync) makes durable (what a power cut
/// leaves). Dropping leaves the segment open; [`close`](Self::close) seals its end.
pub struct SealedLogWriter {
    file: Box<dyn FsFile>,
    path: PathBuf,
    segment: Segment,
    /// Encrypted, not yet handed over. After a failed write the same bytes go to the same place
    /// again: encrypting anew would use their nonces twice.
    pending: Vec<u8>,
    /// Where `pending` goes.
    offset: u64,
    /// Everything up to here is durable.
    durable: u64,
    broken: bool,
}

impl SealedLogWriter {
    /// Opens a file for appending, or makes it: checks all that is there, cuts off a torn end,
    /// begins a segment.
    ///
    /// # Errors
    /// As reading; nothing is changed then.
    pub fn open(key: &LogKey, path: &Path, mark: HighWater) -> Result<(Self, Found), AppendError> {
        Self::open_on(Arc::new(OsFilesystem), key, path, mark, 1)
    }

    /// As [`SealedLogWriter::open`], where a new file's first record gets another sequence
    /// than 1: the next file of a journal goes on counting.
    ///
    /// # Errors
    /// As [`SealedLogWriter::open`].
    pub fn open_from(
        key: &LogKey,
        path: &Path,
        mark: HighWater,
        first_sequence: u64,
    ) -> Result<(Self, Found), AppendError> {
        Self::open_on(Arc::new(OsFilesystem), key, path, mark, first_sequence)
    }

    /// As [`SealedLogWriter::open_from`], on another file system.
    ///
    /// # Errors
    /// As [`SealedLogWriter::open`].
    pub fn open_on(
        fs: Arc<dyn Filesystem>,
        key: &LogKey,
        path: &Path,
        mark: HighWater,
        first_sequence: u64,
    ) -> Result<(Self, Found), AppendError> {
        let first_sequence = first_sequence.max(1);
        if fs::probe_private(&*fs, path, Kind::File)?.is_none() {
            if mark.sequence >= first_sequence {
                let path = path.to_path_buf();
                return Err(AppendError::Cut {
                    path,
                    found: 0,
                    mark: mark.sequence,
                });
            }
            let file = fs.create(path).on("create", path)?;
            let writer = Self::begin(file, path, key.begin(None, first_sequence), 0)?;
            fs::sync_parent(&*fs, path)?;
            return Ok((
                writer,
                Found {
                    records: 0,
                    torn_bytes: 0,
                    clean: true,
                },
            ));
        }
        let file = fs.open(path, true).on("open", path)?;
        let mut scanner = Scanner::new(file, path, key.share(), mark);
        while scanner.next()?.is_some() {}
        let torn_bytes = match scanner.tail {
            Tail::Torn { bytes } => bytes,
            Tail::Open | Tail::Closed => 0,
        };
        let found = Found {
            records: scanner.last_sequence(),
            torn_bytes,
            clean: scanner.tail == Tail::Closed,
        };
        let next = scanner
            .segment
            .as_ref()
            .map_or(first_sequence, Segment::next_sequence);
        let segment = key.begin(scanner.segment.as_ref(), next);
        let Scanner {
            mut file,
            offset,
            unproven,
            ..
        } = scanner;
        if torn_bytes > 0 {
            tracing::warn!(
                bytes = torn_bytes,
                kept = found.records,
                "a torn end was cut off"
            );
            file.set_len(offset).on("cut", path)?;
        }
        write_again(&mut *file, unproven..offset).on("write", path)?;
        // Synced before the header is written: a header may not end up in front of old bytes, not
        // even of those that an opening before this one cut off and did not come to sync. Nor may
        // it have made the file without coming to sync the folder.
        file.sync().on("sync", path)?;
        fs::sync_parent(&*fs, path)?;
        Ok((Self::begin(file, path, segment, offset)?, found))
    }

    /// As [`SealedLogWriter::open`] for a file that has to be there.
    pub(crate) fn open_existing(
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
        Ok(Self::open_on(fs, key, path, mark, 1)?.0)
    }

    /// A file at its very beginning, with the header not yet synced.
    pub(crate) fn fresh(file: Box<dyn FsFile>, path: &Path, key: &LogKey) -> Self {
        let segment = key.begin(None, 1);
        Self::over(file, path, segment, 0)
    }

    fn over(file: Box<dyn FsFile>, path: &Path, segment: Segment, offset: u64) -> Self {
        let durable = segment.next_sequence() - 1;
        let pending = segment.header().to_vec();
        Self {
            file,
            path: path.to_path_buf(),
            segment,
            pending,
            offset,
            durable,
            broken: false,
        }
    }

    pub(crate) fn begin(
        file: Box<dyn FsFile>,
        path: &Path,
        segment: Segment,
        offset: u64,
    ) -> Result<Self, AppendError> {
        let mut writer = Self::over(file, path, segment, offset);
        writer.sync()?;
        Ok(writer)
    }

    /// Encrypts a record and returns its sequence. It is durable after the next
    /// [`sync`](Self::sync) only.
    ///
    /// When the disk is full the record may be kept and written later, once there is room; the
    /// error of the flush that failed is returned by `flush` and `sync`.
    ///
    /// # Errors
    /// [`AppendError::TooLong`]; the system's refusal once 4 MiB wait to be written; and
    /// [`AppendError::Broken`] after a failed sync.
    pub fn append(&mut self, data: &[u8]) -> Result<u64, AppendError> {
        self.usable()?;
        if data.len() > MAX_RECORD {
            return Err(AppendError::TooLong {
                path: self.path.clone(),
                len: data.len(),
            });
        }
        if self.pending.len() >= BACKLOG {
            self.flush()?;
        }
        let after_sync = self.segment.next_sequence() == self.durable + 1;
        let sequence = self.segment.seal(after_sync, data, &mut self.pending);
        if self.pending.len() >= BUFFER {
            // A refusal is not this record's: it is taken, and the next flush says what is wrong.
            let _ = self.flush();
        }
        Ok(sequence)
    }

    /// Hands everything over to the system.
    ///
    /// # Errors
    /// The system's refusal. Nothing is lost; a later flush writes the same bytes.
    pub fn flush(&mut self) -> Result<(), AppendError> {
        self.usable()?;
        if !self.pending.is_empty() {
            self.file
                .write_at(&self.pending, self.offset)
                .on("write", &self.path)?;
            self.offset += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
    }

    /// Makes everything durable and returns the sequence of the last record.
    ///
    /// # Errors
    /// As [`SealedLogWriter::flush`]. When the sync itself fails, what is on disk is unknown and
    /// the writer is of no more use: open the file again.
    pub fn sync(&mut self) -> Result<u64, AppendError> {
        self.flush()?;
        let synced = Synced {
            sequence: self.last_sequence(),
            done: self.file.sync().on("sync", &self.path),
        };
        self.end_sync(synced)
    }

    /// Hands everything over to the system, and leaves the wait for the disk to the caller:
    /// records can be appended and flushed meanwhile. Pass what came of it to
    /// [`end_sync`](Self::end_sync) before the next one begins.
    ///
    /// # Errors
    /// As [`SealedLogWriter::flush`].
    pub fn begin_sync(&mut self) -> Result<Syncing, AppendError> {
        self.flush()?;
        Ok(Syncing {
            file: self.file.try_clone().on("sync", &self.path)?,
            path: self.path.clone(),
            sequence: self.last_sequence(),
        })
    }

    /// Returns the sequence up to which everything is durable.
    ///
    /// # Errors
    /// As [`SealedLogWriter::sync`], when the wait failed.
    pub fn end_sync(&mut self, synced: Synced) -> Result<u64, AppendError> {
        if let Err(error) = synced.done {
            self.broken = true;
            return Err(error.into());
        }
        self.durable = self.durable.max(synced.sequence);
        Ok(self.durable)
    }

    /// The file was renamed.
    pub(crate) fn moved(&mut self, path: &Path) {
        path.clone_into(&mut self.path);
    }

    /// Whether a sync failed, so that the file has to be opened again.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Sequence of the last record that was appended.
    #[must_use]
    pub fn last_sequence(&self) -> u64 {
        self.segment.next_sequence() - 1
    }

    /// Length that the file has, or will have once everything is flushed, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.offset + self.pending.len() as u64
    }

    /// The random bytes of the segment that this opening began: fresh, and no other has them.
    #[must_use]
    pub fn segment(&self) -> [u8; 32] {
        self.segment.random()
    }

    /// Whether there is no record in this segment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() <= HEADER as u64 || self.segment.records == 0
    }

    /// Seals the end and makes it durable, after all that stands before it: from now on any cut is noticed. Returns the sequence
    /// of the last record, for [`crate::Registry::note_closed`].
    ///
    /// # Errors
    /// As [`SealedLogWriter::sync`]; the file is then left as after a crash.
    pub fn close(mut self) -> Result<u64, AppendError> {
        self.usable()?;
        // The mark says that what stands before it is whole.
        if self.last_sequence() > self.durable {
            self.sync()?;
        }
        let mark = self.segment.close();
        self.pending.extend_from_slice(&mark);
        self.sync()
    }

    fn usable(&self) -> Result<(), AppendError> {
        if self.broken {
            Err(AppendError::Broken {
                path: self.path.clone(),
            })
        } else {
            Ok(())
        }
    }
}

/// Writes what stands there once more, to the same place. A process whose sync failed, and that was
/// killed then, left bytes that can be read but that no sync writes any more: for the system they
/// are written.
fn write_again(file: &mut dyn FsFile, range: Range<u64>) -> io::Result<()> {
    let mut bytes = vec![0; BUFFER];
    let mut at = range.start;
    while at < range.end {
        let want = (range.end - at).min(BUFFER as u64) as usize;
        let got = fs::read_full_at(file, &mut bytes[..want], at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&bytes[..got], at)?;
        at += got as u64;
    }
    Ok(())
}

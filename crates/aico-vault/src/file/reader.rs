//! Reading a finished file: any place of it, each chunk authenticated before a byte goes out.

use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::EncryptedFileError;
use super::format::{FileKey, HEADER, MOST_CHUNKS, Stream};
use crate::aead::TAG;
use crate::fs::{self, Context, FsFile};

/// Bytes that are read ahead at the most when chunks are read in order. With the caller's own
/// buffer that fits a core's cache, and more brings no more.
const AHEAD: usize = 256 * 1024;

pub(super) struct Reader {
    file: Box<dyn FsFile>,
    path: PathBuf,
    stream: Stream,
    /// Bytes of plain text. Proven: the chunk that ends there opened as the last one.
    len: u64,
    /// Index of the last chunk.
    last: u64,
    /// Bytes of plain text in the last chunk.
    last_len: usize,
    position: u64,
    /// Chunks as they were read; opened in place, one by one.
    window: Zeroizing<Vec<u8>>,
    /// Index of the first chunk in the window.
    first: u64,
    /// How many chunks are in the window.
    count: u64,
    /// How many of these have been opened, from the first on.
    opened: Vec<bool>,
    /// How many chunks to read at once when the next one follows.
    ahead: u64,
}

impl Reader {
    /// `head` is what the file begins with, as many bytes as a header has or all there are.
    pub(super) fn open(
        key: &FileKey,
        path: &Path,
        file: Box<dyn FsFile>,
        head: &[u8],
    ) -> Result<Self, EncryptedFileError> {
        let Some(header) = head.first_chunk::<HEADER>() else {
            return Err(EncryptedFileError::DamagedHeader {
                path: path.to_path_buf(),
                reason: "it is cut off",
            });
        };
        let stream = key.read(path, *header)?;
        let body = file.len().on("read", path)?.saturating_sub(HEADER as u64);
        let sealed = stream.sealed_chunk() as u64;
        let chunks = body.div_ceil(sealed);
        let cut = |chunks| EncryptedFileError::Cut {
            path: path.to_path_buf(),
            chunks,
        };
        let last = chunks.checked_sub(1).ok_or_else(|| cut(0))?;
        let damaged = |reason| EncryptedFileError::Damaged {
            path: path.to_path_buf(),
            chunk: last,
            reason,
        };
        if chunks > MOST_CHUNKS {
            return Err(damaged("there are more chunks than a file can have"));
        }
        // Below the size of a chunk, which is bounded.
        let last_len = ((body - last * sealed) as usize)
            .checked_sub(TAG)
            .ok_or_else(|| damaged("it is cut off"))?;
        if last_len == 0 && last > 0 {
            return Err(damaged(
                "it is empty, and only an empty file has such a one",
            ));
        }
        let len = last * stream.chunk as u64 + last_len as u64;
        let mut reader = Self {
            file,
            path: path.to_path_buf(),
            stream,
            len,
            last,
            last_len,
            position: 0,
            window: Zeroizing::new(Vec::new()),
            first: 0,
            count: 0,
            opened: Vec::new(),
            ahead: 1,
        };
        // The last chunk says where the file ends: without it nothing could be said of a cut
        // before everything has been read.
        if let Err(error) = reader.chunk(last) {
            let full = last_len == reader.stream.chunk;
            let cut_here = full && reader.opens_as_inner(last)?;
            return Err(if cut_here { cut(chunks) } else { error });
        }
        if last > 0 {
            reader.count = 0;
        }
        Ok(reader)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of plain text in a chunk.
    fn chunk_len(&self, index: u64) -> usize {
        if index == self.last {
            self.last_len
        } else {
            self.stream.chunk
        }
    }

    /// The plain text of a chunk, which is authentic.
    fn chunk(&mut self, index: u64) -> Result<&[u8], EncryptedFileError> {
        if !(self.first..self.first + self.count).contains(&index) {
            self.load(index)?;
        }
        // Few: the window is bounded.
        let slot = (index - self.first) as usize;
        let sealed = self.stream.sealed_chunk();
        let len = self.chunk_len(index);
        let place = slot * sealed..slot * sealed + len + TAG;
        if !self.opened[slot] {
            let last = index == self.last;
            let body = &mut self.window[place.clone()];
            if self.stream.open(index, last, body).is_err() {
                // What is there now is neither ciphertext nor proven.
                self.count = 0;
                return Err(EncryptedFileError::Damaged {
                    path: self.path.clone(),
                    chunk: index,
                    reason: "it was altered, moved or cut off",
                });
            }
            self.opened[slot] = true;
        }
        Ok(&self.window[place.start..place.start + len])
    }

    /// Reads chunks from `index` on into the window: one, and more the longer they follow each
    /// other, so that a single place costs one chunk.
    fn load(&mut self, index: u64) -> Result<(), EncryptedFileError> {
        let sealed = self.stream.sealed_chunk();
        let most = (AHEAD / self.stream.chunk).max(1) as u64;
        self.ahead = if self.count > 0 && index == self.first + self.count {
            (self.ahead * 2).min(most)
        } else {
            1
        };
        let count = self.ahead.min(self.last - index + 1);
        let ends = self.chunk_len(index + count - 1) + TAG;
        let want = (count as usize - 1) * sealed + ends;
        self.count = 0;
        if self.window.len() < want {
            self.window.resize(want, 0);
        }
        let window = &mut self.window[..want];
        let got = fs::read_full_at(&*self.file, window, self.stream.offset(index))
            .on("read", &self.path)?;
        // A file that was cut while it was open.
        let whole = if got == want {
            count
        } else {
            (got / sealed) as u64
        };
        if whole == 0 {
            return Err(EncryptedFileError::Damaged {
                path: self.path.clone(),
                chunk: index,
                reason: "it was cut off while the file was open",
            });
        }
        self.first = index;
        self.count = whole;
        self.opened.clear();
        self.opened.resize(whole as usize, false);
        Ok(())
    }

    /// Whether the chunk that should be the last is one from inside a longer file.
    fn opens_as_inner(&mut self, index: u64) -> Result<bool, EncryptedFileError> {
        self.load(index)?;
        let sealed = self.stream.sealed_chunk();
        let inner = self.stream.open(index, false, &mut self.window[..sealed]);
        self.count = 0;
        Ok(inner.is_ok())
    }

    /// What can be handed out from the position on without reading more; empty at the end.
    pub(super) fn fill(&mut self) -> Result<&[u8], EncryptedFileError> {
        if self.position >= self.len {
            return Ok(&[]);
        }
        let size = self.stream.chunk as u64;
        let at = (self.position % size) as usize;
        let chunk = self.chunk(self.position / size)?;
        Ok(chunk.get(at..).unwrap_or_default())
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

    /// Authenticates everything, in constant memory.
    pub(super) fn verify(&mut self) -> Result<(), EncryptedFileError> {
        for index in 0..=self.last {
            self.chunk(index)?;
        }
        Ok(())
    }
}

/// Where a seek goes, from where one is and how long the file is.
pub(super) fn target(from: u64, by: i64) -> io::Result<u64> {
    from.checked_add_signed(by).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a seek to before the beginning",
        )
    })
}

//! Writing a file as a whole.

use super::EncryptedFileError;
use super::beside::Beside;
use super::format::{MOST_CHUNKS, Stream};
use crate::aead::TAG;
use crate::fs::Context;

/// Bytes that are handed to the system at once.
const BUFFER: usize = 256 * 1024;

pub(super) struct Writer {
    beside: Beside,
    stream: Stream,
    /// Sealed bytes, then the plain text of the chunk in the making.
    buffer: zeroize::Zeroizing<Vec<u8>>,
    /// How many bytes of the buffer are sealed. After a failed write the same bytes go to the
    /// same place again: encrypting anew would use their nonces twice.
    sealed: usize,
    /// Bytes of plain text of the chunk in the making.
    filled: usize,
    /// Index of the chunk in the making.
    index: u64,
    /// Where the buffer goes.
    offset: u64,
}

impl Writer {
    pub(super) fn new(beside: Beside, stream: Stream) -> Self {
        let chunk = stream.sealed_chunk();
        let header = stream.header();
        let room = header.len() + (BUFFER / stream.chunk).max(1) * chunk;
        let mut buffer = zeroize::Zeroizing::new(vec![0; room]);
        buffer[..header.len()].copy_from_slice(header);
        Self {
            beside,
            sealed: header.len(),
            stream,
            buffer,
            filled: 0,
            index: 0,
            offset: 0,
        }
    }

    /// Bytes of plain text that were taken.
    pub(super) fn position(&self) -> u64 {
        self.index * self.stream.chunk as u64 + self.filled as u64
    }

    /// Takes some of the data. An error takes none.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<usize, EncryptedFileError> {
        if data.is_empty() {
            return Ok(0);
        }
        // A full chunk waits until more comes: it could be the last one.
        if self.filled == self.stream.chunk {
            if self.index + 1 >= MOST_CHUNKS {
                return Err(EncryptedFileError::TooLong {
                    path: self.beside.path.clone(),
                });
            }
            self.seal(false);
        }
        if self.buffer.len() - self.sealed < self.stream.sealed_chunk() {
            self.flush()?;
        }
        let count = data.len().min(self.stream.chunk - self.filled);
        let at = self.sealed + self.filled;
        self.buffer[at..at + count].copy_from_slice(&data[..count]);
        self.filled += count;
        Ok(count)
    }

    fn seal(&mut self, last: bool) {
        let end = self.sealed + self.filled;
        let data = &mut self.buffer[self.sealed..end];
        let tag = self.stream.seal(self.index, last, data);
        self.buffer[end..end + TAG].copy_from_slice(&tag);
        self.sealed = end + TAG;
        self.filled = 0;
        self.index += 1;
    }

    /// Hands whole chunks over to the system.
    pub(super) fn flush(&mut self) -> Result<(), EncryptedFileError> {
        if self.sealed == 0 {
            return Ok(());
        }
        let sealed = &self.buffer[..self.sealed];
        self.beside
            .file
            .write_at(sealed, self.offset)
            .on("write", &self.beside.path)?;
        self.offset += self.sealed as u64;
        let rest = self.sealed..self.sealed + self.filled;
        self.buffer.copy_within(rest, 0);
        self.sealed = 0;
        Ok(())
    }

    /// Seals the last chunk and puts the file in its place, durably.
    pub(super) fn finish(mut self) -> Result<(), EncryptedFileError> {
        // The write that failed had sealed the chunk before it as one that is not the last.
        if self.filled == 0 && self.index > 0 {
            return Err(EncryptedFileError::Incomplete {
                path: self.beside.path.clone(),
            });
        }
        self.seal(true);
        self.flush()?;
        self.beside.publish()
    }
}

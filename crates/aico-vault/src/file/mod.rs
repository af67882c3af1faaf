//! Encrypted files, in the manner of [`std::fs`].
//!
//! The bytes are in `docs/formats/encrypted-file.md`. Two forms, told apart by their first bytes:
//!
//! * **Finished**: written once and as a whole, in chunks that are read in any order. It appears
//!   in its place when it is [finished](EncryptedFile::finish), and any cut of it is an error.
//!   Nothing is ever written in the middle of one.
//! * **Appended**: a [sealed append file](crate::append), read and written as a stream of bytes.
//!   Each opening begins a segment with a key of its own. A cut of what was not closed is noticed
//!   up to the [mark](OpenOptions::mark) that the registry keeps.
//!
//! The key says which file is expected; a file of another purpose, owner or id is refused. Bytes
//! that did not pass authentication are never handed out. Memory is the same for any size.
//!
//! ```
//! use std::io::{Read, Seek, SeekFrom, Write};
//! use aico_vault::EncryptedFile;
//! # use aico_vault::{KdfCost, Owner, Password, Purpose, Vault};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let password = Password::new("velvet harbour moss lantern")?;
//! # let (vault, _) = Vault::create_with(&folder.path().join("d"), &password, KdfCost::minimum())?;
//! let path = folder.path().join("example");
//! let key = vault.file_key(Purpose::EncryptedFile, Owner::System, [7; 16]);
//!
//! let mut file = EncryptedFile::create_new(&key, &path)?;
//! file.write_all(b"a text that nobody else reads")?;
//! file.finish()?;
//!
//! let mut file = EncryptedFile::open(&key, &path)?;
//! file.seek(SeekFrom::End(-5))?;
//! let mut end = String::new();
//! file.read_to_string(&mut end)?;
//! assert_eq!(end, "reads");
//! # Ok(())
//! # }
//! ```

mod appended;
mod asynchronous;
mod beside;
mod error;
mod format;
mod options;
mod reader;
mod writer;

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub use asynchronous::AsyncEncryptedFile;
pub use beside::create_beside;
pub use error::EncryptedFileError;
pub use format::{Claim, FileKey, Form};
pub use options::OpenOptions;

pub(crate) use beside::Beside;
pub(crate) use options::open_file;

use crate::append::Tail;

/// An open encrypted file.
///
/// To be read: [`Read`], [`BufRead`], [`Seek`]. To be written: [`Write`], and then
/// [`finish`](Self::finish), without which a new file never appears, a segment stays open, and what
/// was appended since the last flush is lost. After a failed write, write the same again or give the file up.
pub struct EncryptedFile {
    inner: Inner,
    path: PathBuf,
}

enum Inner {
    Reader(reader::Reader),
    Records(Box<appended::RecordReader>),
    Writer(writer::Writer),
    Appender(Box<appended::Appender>),
}

impl EncryptedFile {
    /// Opens a file to read it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(key: &FileKey, path: impl AsRef<Path>) -> Result<Self, EncryptedFileError> {
        OpenOptions::new().read(true).open(key, path)
    }

    /// Begins a new file, which takes the place of what is there when it is finished; until then
    /// the old one stays as it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(key: &FileKey, path: impl AsRef<Path>) -> Result<Self, EncryptedFileError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        options.open(key, path)
    }

    /// Begins a new file where there is none.
    ///
    /// # Errors
    /// [`EncryptedFileError::Exists`], now or when it is finished; what the system says.
    pub fn create_new(key: &FileKey, path: impl AsRef<Path>) -> Result<Self, EncryptedFileError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).open(key, path)
    }

    /// How it is opened otherwise.
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Bytes of plain text in a file that is read. In a finished one this is proven; one that is
    /// appended to is read to its present end for it.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn plain_len(&mut self) -> Result<u64, EncryptedFileError> {
        match &mut self.inner {
            Inner::Reader(reader) => Ok(reader.len()),
            Inner::Records(reader) => reader.len(),
            _ => Err(self.wrong_mode("reading")),
        }
    }

    /// Authenticates a file from its first byte to its last, in constant memory. The position
    /// stays.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(&mut self) -> Result<(), EncryptedFileError> {
        match &mut self.inner {
            Inner::Reader(reader) => reader.verify(),
            Inner::Records(reader) => reader.verify(),
            _ => Err(self.wrong_mode("reading")),
        }
    }

    /// How a file that is appended to ends, once it was read to its end or verified. A finished
    /// file is closed.
    #[must_use]
    pub fn tail(&self) -> Tail {
        match &self.inner {
            Inner::Records(reader) => reader.tail(),
            Inner::Reader(_) => Tail::Closed,
            Inner::Writer(_) | Inner::Appender(_) => Tail::Open,
        }
    }

    /// Makes what was appended durable. Returns the sequence of the last record, for
    /// [`crate::Registry::note_sequence`].
    ///
    /// # Errors
    /// What the system says; [`EncryptedFileError::WrongMode`] when it is not appended to: a
    /// file that is written as a whole becomes durable when it is finished.
    pub fn sync(&mut self) -> Result<u64, EncryptedFileError> {
        match &mut self.inner {
            Inner::Appender(appender) => Ok(appender.sync()?),
            _ => Err(self.wrong_mode("appending")),
        }
    }

    /// Seals the end and makes all of it durable; a file that is written as a whole appears in
    /// its place. Returns the sequence of the last record of one that is appended to, for
    /// [`crate::Registry::note_closed`]; otherwise 0.
    ///
    /// # Errors
    /// What the system says. A file that was written as a whole is not there then, and what it
    /// was to replace is, unless only making the folder durable failed.
    pub fn finish(self) -> Result<u64, EncryptedFileError> {
        match self.inner {
            Inner::Writer(writer) => writer.finish().map(|()| 0),
            Inner::Appender(appender) => Ok(appender.finish()?),
            Inner::Reader(_) | Inner::Records(_) => Ok(0),
        }
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn wrong_mode(&self, what: &'static str) -> EncryptedFileError {
        EncryptedFileError::WrongMode {
            path: self.path.clone(),
            what,
        }
    }

    fn fill(&mut self) -> Result<&[u8], EncryptedFileError> {
        match &mut self.inner {
            Inner::Reader(reader) => reader.fill(),
            Inner::Records(reader) => reader.fill(),
            _ => Err(EncryptedFileError::WrongMode {
                path: self.path.clone(),
                what: "reading",
            }),
        }
    }
}

impl Read for EncryptedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill()?;
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for EncryptedFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.fill()?)
    }

    fn consume(&mut self, count: usize) {
        match &mut self.inner {
            Inner::Reader(reader) => reader.consume(count),
            Inner::Records(reader) => reader.consume(count),
            Inner::Writer(_) | Inner::Appender(_) => {}
        }
    }
}

impl Seek for EncryptedFile {
    /// To a place to read from. Beyond the end is allowed, and nothing is read there.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(to) => (to, 0),
            SeekFrom::Current(by) => (self.stream_position()?, by),
            SeekFrom::End(by) => (self.plain_len()?, by),
        };
        let to = reader::target(from, by)?;
        match &mut self.inner {
            Inner::Reader(reader) => reader.seek(to),
            Inner::Records(reader) => reader.seek(to),
            _ => return Err(self.wrong_mode("seeking").into()),
        }
        Ok(to)
    }

    /// Of a file that is written, how many bytes it took since it was opened.
    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(match &self.inner {
            Inner::Reader(reader) => reader.position(),
            Inner::Records(reader) => reader.position(),
            Inner::Writer(writer) => writer.position(),
            Inner::Appender(appender) => appender.position(),
        })
    }
}

impl Write for EncryptedFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Writer(writer) => Ok(writer.write(data)?),
            Inner::Appender(appender) => {
                Ok(appender.write(data).map_err(EncryptedFileError::from)?)
            }
            _ => Err(self.wrong_mode("writing").into()),
        }
    }

    /// Hands over to the system what can be: whole chunks of a new file, everything of one that
    /// is appended to.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Writer(writer) => Ok(writer.flush()?),
            Inner::Appender(appender) => Ok(appender.flush().map_err(EncryptedFileError::from)?),
            Inner::Reader(_) | Inner::Records(_) => Ok(()),
        }
    }
}

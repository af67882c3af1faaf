//! How a file is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::appended::{Appender, RecordReader};
use super::beside::Beside;
use super::format::{self, CHUNK, FileKey, Form, MAGIC};
use super::reader::Reader;
use super::writer::Writer;
use super::{EncryptedFile, EncryptedFileError, Inner};
use crate::append::{HighWater, MAGIC as SEGMENT_MAGIC};
use crate::fs::{self, Context, Filesystem, FsFile, Kind, OsFilesystem};

/// How an [`EncryptedFile`] is opened, in the manner of [`std::fs::OpenOptions`].
///
/// | options | what they do |
/// |---|---|
/// | `read` | reads a finished file, or one that is appended to |
/// | `write`, `create_new` | a new file, which appears when it is finished |
/// | `write`, `create`, `truncate` | a new file, which takes the place of another when it is finished |
/// | `write`, `truncate` | the same, where there has to be another |
/// | `append` with or without `create`, `create_new` | appends in a segment of its own |
///
/// Nothing else: no file is read and written at once, and none is written in the middle.
#[derive(Clone)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mark: HighWater,
    chunk: u32,
    from_elsewhere: bool,
    fs: Arc<dyn Filesystem>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Nothing is set.
    #[must_use]
    pub fn new() -> Self {
        Self {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mark: HighWater::default(),
            chunk: CHUNK,
            from_elsewhere: false,
            fs: Arc::new(OsFilesystem),
        }
    }

    /// To read.
    pub fn read(&mut self, read: bool) -> &mut Self {
        self.read = read;
        self
    }

    /// To write as a whole.
    pub fn write(&mut self, write: bool) -> &mut Self {
        self.write = write;
        self
    }

    /// To append.
    pub fn append(&mut self, append: bool) -> &mut Self {
        self.append = append;
        self
    }

    /// To take the place of what is there.
    pub fn truncate(&mut self, truncate: bool) -> &mut Self {
        self.truncate = truncate;
        self
    }

    /// Makes the file where there is none.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Makes the file, and it is an error when there is one.
    pub fn create_new(&mut self, create_new: bool) -> &mut Self {
        self.create_new = create_new;
        self
    }

    /// What the registry knows of a file that is appended to: without it a cut at a record's
    /// boundary is not noticed.
    pub fn mark(&mut self, mark: HighWater) -> &mut Self {
        self.mark = mark;
        self
    }

    /// Bytes in a chunk of a new file: a power of two from 4 KiB to 1 MiB; usually 64 KiB.
    pub fn chunk_size(&mut self, bytes: u32) -> &mut Self {
        self.chunk = bytes;
        self
    }

    /// Reads a copy that came from elsewhere: it may belong to another user and be open to
    /// others. What is in it is sealed. Links are not followed all the same.
    pub fn from_elsewhere(&mut self, from_elsewhere: bool) -> &mut Self {
        self.from_elsewhere = from_elsewhere;
        self
    }

    /// On another file system.
    pub fn on(&mut self, fs: Arc<dyn Filesystem>) -> &mut Self {
        self.fs = fs;
        self
    }

    /// Opens it. The key says which file is expected: of which purpose, owner and id.
    ///
    /// # Errors
    /// What is wrong with the file; [`EncryptedFileError::Options`] when they don't go together.
    pub fn open(
        &self,
        key: &FileKey,
        path: impl AsRef<Path>,
    ) -> Result<EncryptedFile, EncryptedFileError> {
        let path = path.as_ref();
        let invalid = |reason| EncryptedFileError::Options {
            path: path.to_path_buf(),
            reason,
        };
        let inner = match (self.read, self.write, self.append) {
            (true, false, false) if !self.create && !self.create_new && !self.truncate => {
                self.open_to_read(key, path)?
            }
            (false, true, false) if self.create_new || self.truncate => {
                self.open_to_write(key, path)?
            }
            (false, false, true) if !self.truncate => self.open_to_append(key, path)?,
            (false, true, false) => {
                return Err(invalid(
                    "a file is written as a whole: create_new, truncate or append is needed",
                ));
            }
            (false, false, false) => return Err(invalid("neither to read nor to write")),
            _ => return Err(invalid("one of read, write and append, without the others")),
        };
        Ok(EncryptedFile {
            inner,
            path: path.to_path_buf(),
        })
    }

    fn open_to_read(&self, key: &FileKey, path: &Path) -> Result<Inner, EncryptedFileError> {
        let file = open_file(&*self.fs, path, self.from_elsewhere)?;
        let head = format::head(&*file, path)?;
        Ok(match format::form_of(path, &head)? {
            Form::Finished => Inner::Reader(Reader::open(key, path, file, &head)?),
            Form::Appended => {
                let log = key.log().share();
                Inner::Records(Box::new(RecordReader::new(file, path, log, self.mark)))
            }
        })
    }

    fn open_to_write(&self, key: &FileKey, path: &Path) -> Result<Inner, EncryptedFileError> {
        if !format::is_chunk(self.chunk) {
            return Err(EncryptedFileError::Options {
                path: path.to_path_buf(),
                reason: "a chunk's size is a power of two from 4 KiB to 1 MiB",
            });
        }
        let replace = !self.create_new;
        if replace && !self.create && self.fs.probe(path).on("read", path)?.is_none() {
            return Err(absent(path));
        }
        let beside = Beside::create(Arc::clone(&self.fs), path, replace)?;
        Ok(Inner::Writer(Writer::new(beside, key.begin(self.chunk))))
    }

    fn open_to_append(&self, key: &FileKey, path: &Path) -> Result<Inner, EncryptedFileError> {
        let there = fs::probe_private(&*self.fs, path, Kind::File)?.is_some();
        if there && self.create_new {
            return Err(EncryptedFileError::Exists {
                path: path.to_path_buf(),
            });
        }
        if !there && !self.create && !self.create_new {
            return Err(absent(path));
        }
        if there {
            let file = self.fs.open(path, false).on("open", path)?;
            refuse_others(path, &format::head(&*file, path)?)?;
        }
        let fs = Arc::clone(&self.fs);
        let appender = Appender::open(fs, key.log(), path, self.mark)?;
        Ok(Inner::Appender(Box::new(appender)))
    }
}

/// Appending cuts off what a crash left of a beginning. What is no file of ours is not touched,
/// however short it is.
fn refuse_others(path: &Path, head: &[u8]) -> Result<(), EncryptedFileError> {
    let path = path.to_path_buf();
    let magic = head.get(..8).unwrap_or(head);
    // A crash can leave the length of a header without its bytes.
    if SEGMENT_MAGIC.starts_with(magic) || head.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    Err(if magic == MAGIC {
        EncryptedFileError::Finished { path }
    } else {
        EncryptedFileError::NotEncrypted { path }
    })
}

fn absent(path: &Path) -> EncryptedFileError {
    EncryptedFileError::Absent {
        path: PathBuf::from(path),
    }
}

/// Opens a plain file to read it. Links are never followed.
pub(crate) fn open_file(
    fs: &dyn Filesystem,
    path: &Path,
    from_elsewhere: bool,
) -> Result<Box<dyn FsFile>, EncryptedFileError> {
    let plain = |kind| kind == Kind::File;
    let entry = match fs.probe(path).on("read", path)? {
        Some(entry) if from_elsewhere && plain(entry.kind) => Some(entry),
        // Says what is wrong with it and what mends it.
        Some(_) => fs::probe_private(fs, path, Kind::File)?,
        None => None,
    };
    if entry.is_none() {
        return Err(absent(path));
    }
    Ok(fs.open(path, false).on("open", path)?)
}

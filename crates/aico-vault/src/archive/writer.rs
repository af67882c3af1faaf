//! Writing an archive, part by part.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::format::{self, CHUNK, INDEX, INDEX_KIND, Part, PartKind, Scope, Stream, TRAILER};
use super::open::{Archive, ArchiveKey};
use super::{ArchiveError, reader};
use crate::aead::TAG;
use crate::container::{Container, Form};
use crate::derive::{Label, Owner, Purpose};
use crate::error::UnlockError;
use crate::file::Beside;
use crate::fs::{self, Context, FileError, Filesystem};
use crate::key::{Key, random_array};
use crate::vault::{Roots, Vault, header_mac_key, read_header};
use crate::wrap::WrapKind;

/// Bytes that are handed to the system at once.
const BUFFER: usize = 256 * 1024;

/// An archive in the making. It appears in its place when it is finished.
pub struct ArchiveWriter {
    beside: Beside,
    id: [u8; 16],
    key: Key,
    parts: Vec<Part>,
    next: u32,
    offset: u64,
    buffer: Vec<u8>,
    /// A part was begun and not finished, or a write failed.
    broken: bool,
}

impl Vault {
    /// Begins an archive of this vault's in a place where nothing is. The folder must be there.
    ///
    /// # Errors
    /// [`ArchiveError::Exists`]; [`ArchiveError::KeysChange`] while the root key is being changed;
    /// what the system says of the folder, or of the vault's header.
    pub fn begin_archive(
        &self,
        fs: Arc<dyn Filesystem>,
        path: &Path,
        scope: Scope,
        created_ms: u64,
    ) -> Result<ArchiveWriter, ArchiveError> {
        let roots = self.0.roots();
        if roots.earlier.is_some() {
            return Err(ArchiveError::KeysChange);
        }
        let header = self.header_for_archive(&roots)?;
        let (id, key): ([u8; 16], _) = (random_array(), Key::random());
        let mut preface = format::preface(id, created_ms, scope, &header);
        let label =
            Label::new(Purpose::Archive, Owner::System).with_context(&format::key_name(&preface));
        let sealed = crate::sealed::seal(
            &roots.root,
            crate::derive::ROOT_SALT,
            roots.epoch,
            &label,
            key.expose(),
        );
        drop(roots);
        preface.extend_from_slice(&sealed);
        if fs.probe(path).on("read", path)?.is_some() {
            return Err(ArchiveError::Exists {
                path: path.to_path_buf(),
            });
        }
        // Not by a rename that refuses to replace: disks of other systems and networks, where
        // archives like to lie, have none. Names of archives are random.
        let beside = Beside::create(fs, path, true)?;
        Ok(ArchiveWriter::new(beside, id, key, preface))
    }

    /// The header as it is now, with what a person has and without what a machine keeps.
    fn header_for_archive(&self, roots: &Roots) -> Result<Vec<u8>, ArchiveError> {
        let inner = &*self.0;
        let damaged = |reason| ArchiveError::Damaged {
            path: inner.data.join(crate::vault::HEADER),
            reason,
        };
        let now = read_header(&*inner.fs, &inner.data).map_err(|error| match error {
            UnlockError::File(error) => ArchiveError::File(error),
            _ => damaged("it can't be read"),
        })?;
        let mac = header_mac_key(&roots.root);
        if !now.authentic(&mac) {
            return Err(damaged("it was exchanged for another vault's"));
        }
        let mut header = Container::new(Form::Header, now.epoch, now.vault, now.person);
        let persons = [WrapKind::MasterPassword, WrapKind::RecoveryPhrase];
        let wraps = now.wraps.into_iter();
        header.wraps = wraps
            .filter(|wrap| persons.contains(&wrap.kind()))
            .collect();
        Ok(header.encode(&mac))
    }
}

impl ArchiveWriter {
    pub(super) fn new(beside: Beside, id: [u8; 16], key: Key, preface: Vec<u8>) -> Self {
        Self {
            beside,
            id,
            key,
            parts: Vec::new(),
            next: 0,
            offset: 0,
            buffer: preface,
            broken: false,
        }
    }

    /// Its random id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Its key, to be sealed and kept.
    #[must_use]
    pub fn key(&self) -> ArchiveKey {
        ArchiveKey(Key::from_bytes(self.key.expose()))
    }

    /// Bytes that are in it by now.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Begins a part. It counts once it is finished, and the archive can't be finished before.
    pub fn part(&mut self, kind: PartKind, owner: Owner) -> PartWriter<'_> {
        let number = self.next;
        self.next += 1;
        self.begin(kind, owner, number)
    }

    fn begin(&mut self, kind: PartKind, owner: Owner, number: u32) -> PartWriter<'_> {
        let stream = Stream::begin(&self.key, &self.id, kind, owner, number);
        let begun = self.position();
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(stream.header());
        self.buffer.extend_from_slice(stream.header());
        // Until the part is finished.
        self.broken = true;
        PartWriter {
            archive: self,
            stream,
            kind,
            owner,
            number,
            begun,
            digest,
            chunk: zeroize::Zeroizing::new(Vec::with_capacity(CHUNK + TAG)),
            index: 0,
            plain: 0,
        }
    }

    /// Copies a part as it is from another archive of the same id and key, and checks its hash.
    pub(super) fn copy(
        &mut self,
        from: &Archive,
        part: &Part,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), ArchiveError> {
        self.broken = true;
        let begun = self.position();
        let mut digest = digest::Context::new(&digest::SHA256);
        let mut piece = vec![0; BUFFER];
        let mut done = 0;
        while done < part.length {
            let want = usize::try_from(part.length - done).map_or(BUFFER, |left| left.min(BUFFER));
            let piece = &mut piece[..want];
            let got =
                fs::read_full_at(&*from.file, piece, part.offset + done).on("read", &from.path)?;
            if got < want {
                return Err(from.damaged("it is cut off"));
            }
            digest.update(piece);
            self.buffer.extend_from_slice(piece);
            self.flush_full()?;
            done += want as u64;
            if !go_on(want as u64) {
                return Err(ArchiveError::Cancelled);
            }
        }
        if reader::finish(digest) != part.sha256 {
            return Err(from.damaged("a part of it was altered"));
        }
        self.parts.push(Part {
            offset: begun,
            ..part.clone()
        });
        self.next = self.next.max(part.number.saturating_add(1));
        self.broken = false;
        Ok(())
    }

    fn flush_full(&mut self) -> Result<(), FileError> {
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.beside
            .file
            .write_at(&self.buffer, self.offset)
            .on("write", &self.beside.path)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the index, with what its maker says of the parts, makes all of it durable, and puts
    /// the archive in its place. Answers how long it is.
    ///
    /// # Errors
    /// [`ArchiveError::Incomplete`] when a part was not finished; what the system says. Then there
    /// is no archive, unless only making the folder durable failed.
    pub fn finish(mut self, manifest: &[u8]) -> Result<u64, ArchiveError> {
        if self.broken {
            return Err(ArchiveError::Incomplete {
                path: self.beside.path.clone(),
            });
        }
        let text = format::encode_index(&self.parts, manifest);
        let at = self.position();
        let mut index = self.begin(INDEX_KIND, Owner::System, INDEX);
        index.take(&text)?;
        index.seal_last()?;
        let length = self.position() - at;
        let mut trailer = Vec::with_capacity(TRAILER);
        trailer.extend_from_slice(&at.to_be_bytes());
        trailer.extend_from_slice(&length.to_be_bytes());
        trailer.extend_from_slice(format::END);
        self.buffer.extend_from_slice(&trailer);
        self.flush()?;
        let total = self.offset;
        self.beside.publish()?;
        Ok(total)
    }
}

/// A part in the making: write to it, then finish it.
pub struct PartWriter<'a> {
    archive: &'a mut ArchiveWriter,
    stream: Stream,
    kind: PartKind,
    owner: Owner,
    number: u32,
    begun: u64,
    digest: digest::Context,
    /// The chunk in the making. A full one waits until more comes: it could be the last one.
    chunk: zeroize::Zeroizing<Vec<u8>>,
    index: u64,
    plain: u64,
}

impl PartWriter<'_> {
    fn take(&mut self, mut data: &[u8]) -> Result<(), ArchiveError> {
        while !data.is_empty() {
            if self.chunk.len() == CHUNK {
                self.seal(false)?;
            }
            let count = data.len().min(CHUNK - self.chunk.len());
            let (now, later) = data.split_at(count);
            self.chunk.extend_from_slice(now);
            self.plain += count as u64;
            data = later;
        }
        Ok(())
    }

    fn seal(&mut self, last: bool) -> Result<(), ArchiveError> {
        if self.index >= format::MOST_CHUNKS {
            return Err(ArchiveError::Incomplete {
                path: self.archive.beside.path.clone(),
            });
        }
        let tag = self.stream.seal(self.index, last, &mut self.chunk);
        self.digest.update(&self.chunk);
        self.digest.update(&tag);
        self.archive.buffer.extend_from_slice(&self.chunk);
        self.archive.buffer.extend_from_slice(&tag);
        self.chunk.clear();
        self.index += 1;
        Ok(self.archive.flush_full()?)
    }

    fn seal_last(mut self) -> Result<(), ArchiveError> {
        self.seal(true)
    }

    /// Seals its end. Answers how much plain text it took.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(mut self) -> Result<u64, ArchiveError> {
        self.seal(true)?;
        let part = Part {
            kind: self.kind,
            owner: self.owner,
            number: self.number,
            plain: self.plain,
            offset: self.begun,
            length: self.archive.position() - self.begun,
            sha256: reader::finish(self.digest),
        };
        self.archive.parts.push(part);
        self.archive.broken = false;
        Ok(self.plain)
    }
}

impl Write for PartWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.take(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! Reading the parts of an archive: each chunk is authenticated before a byte of it goes out.

use std::io::{self, Read};

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::ArchiveError;
use super::format::{CHUNK, PART_HEADER, Part, PartKind, SEALED_CHUNK, Stream};
use super::open::Archive;
use crate::aead::TAG;
use crate::derive::Owner;
use crate::fs::{self, Context};

/// The digest in the form that the formats have it.
pub(super) fn finish(context: digest::Context) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}

/// One part, read from its beginning to its end.
pub struct PartReader<'a> {
    archive: &'a Archive,
    part: Part,
    stream: Stream,
    /// The hash of the part, unless it is the index, which has none.
    digest: Option<digest::Context>,
    /// A chunk as it was read, opened in place.
    chunk: Zeroizing<Vec<u8>>,
    /// Where in the chunk the bytes are that were not handed out.
    at: usize,
    index: u64,
    /// Bytes of plain text in the chunks that are still to come.
    left: u64,
    ended: bool,
}

impl Archive {
    /// The part of a kind that belongs to somebody, if there is one.
    #[must_use]
    pub fn find(&self, kind: PartKind, owner: Owner) -> Option<&Part> {
        let mut parts = self.parts().iter();
        parts.find(|part| part.kind == kind && part.owner == owner)
    }

    /// Reads a part.
    ///
    /// # Errors
    /// Damage in its header, and what the system says.
    pub fn read(&self, part: &Part) -> Result<PartReader<'_>, ArchiveError> {
        if !self.parts().contains(part) {
            return Err(ArchiveError::NoSuchPart {
                path: self.path.clone(),
            });
        }
        self.reader(part, true)
    }

    /// Authenticates every byte of it, in constant memory; `go_on` hears how many bytes are done
    /// since it was called last, and stops it with `false`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<(), ArchiveError> {
        for part in self.parts() {
            let mut reader = self.reader(part, true)?;
            while let Some(count) = reader.next_chunk()? {
                if !go_on(count) {
                    return Err(ArchiveError::Cancelled);
                }
            }
        }
        Ok(())
    }

    /// All of a part that is known to be short.
    pub(super) fn text_of(&self, part: &Part) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
        let mut reader = self.reader(part, false)?;
        let mut text = Zeroizing::new(Vec::new());
        while let Some(count) = reader.next_chunk()? {
            let count = usize::try_from(count).unwrap_or(CHUNK);
            text.extend_from_slice(&reader.chunk[..count]);
        }
        Ok(text)
    }

    fn reader(&self, part: &Part, hashed: bool) -> Result<PartReader<'_>, ArchiveError> {
        let mut header = [0; PART_HEADER];
        let got = fs::read_full_at(&*self.file, &mut header, part.offset).on("read", &self.path)?;
        if got < PART_HEADER {
            return Err(self.damaged("it is cut off"));
        }
        let stream = Stream::read(
            &self.key,
            &self.id,
            part.kind,
            part.owner,
            part.number,
            header,
        )
        .map_err(|_| self.damaged("a part of it was altered"))?;
        let digest = hashed.then(|| {
            let mut digest = digest::Context::new(&digest::SHA256);
            digest.update(&header);
            digest
        });
        Ok(PartReader {
            archive: self,
            part: part.clone(),
            stream,
            digest,
            chunk: Zeroizing::new(Vec::new()),
            at: 0,
            index: 0,
            left: part.plain,
            ended: false,
        })
    }
}

impl PartReader<'_> {
    /// Bytes of plain text in all of it.
    #[must_use]
    pub fn plain_len(&self) -> u64 {
        self.part.plain
    }

    /// Opens the next chunk; answers how much plain text is in it, `None` after the last one.
    fn next_chunk(&mut self) -> Result<Option<u64>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let archive = self.archive;
        let full = CHUNK as u64;
        let plain = self.left.min(full);
        let last = self.left <= full;
        // At most a chunk.
        let want = plain as usize + TAG;
        self.chunk.resize(want, 0);
        let from = self.part.offset + PART_HEADER as u64 + self.index * SEALED_CHUNK as u64;
        let got =
            fs::read_full_at(&*archive.file, &mut self.chunk, from).on("read", &archive.path)?;
        if got < want {
            self.chunk.clear();
            return Err(archive.damaged("it is cut off"));
        }
        if let Some(digest) = &mut self.digest {
            digest.update(&self.chunk);
        }
        if self.stream.open(self.index, last, &mut self.chunk).is_err() {
            self.chunk.clear();
            return Err(archive.damaged("a part of it was altered"));
        }
        self.chunk.truncate(want - TAG);
        self.left -= plain;
        self.index += 1;
        self.at = 0;
        if last {
            self.ended = true;
            if let Some(digest) = self.digest.take()
                && finish(digest) != self.part.sha256
            {
                self.chunk.clear();
                return Err(archive.damaged("a part of it was exchanged"));
            }
        }
        Ok(Some(plain))
    }
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            if self.next_chunk()?.is_none() {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

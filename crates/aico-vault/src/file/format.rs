//! The bytes of a finished file's header, the keys behind it, and the nonces of its chunks.

use std::path::Path;
use std::sync::Arc;

use super::EncryptedFileError;
use crate::aead::{Cipher, Forged, NONCE, TAG, same};
use crate::append::{IDENTITY, LogKey, MAGIC as SEGMENT_MAGIC};
use crate::codec::{Fields, Short};
use crate::derive::{self, Owner, Purpose};
use crate::fs::{self, Context, Filesystem, FsFile, OsFilesystem};
use crate::key::{Key, random_array};
use crate::person::PersonKeys;
use crate::vault::Vault;

pub(super) const MAGIC: &[u8; 8] = b"AICOFIL\0";
pub(super) const VERSION: u16 = 1;
/// Magic, version, key epoch: where a finished file's header and a segment's agree.
const PREFIX: usize = 8 + 2 + 4;
/// Bytes of a header before the commitment.
const FIXED: usize = PREFIX + IDENTITY + 4 + 32;
/// Bytes of a header.
pub(super) const HEADER: usize = FIXED + 32;
/// Bytes in a chunk, unless a writer is told otherwise.
pub(super) const CHUNK: u32 = 64 * 1024;
/// Bounds of what a header may ask memory for.
const CHUNKS: std::ops::RangeInclusive<u32> = 4 * 1024..=1024 * 1024;
/// Most chunks in a file: 256 TiB at the usual size, and far below what one key may encrypt.
pub(super) const MOST_CHUNKS: u64 = 1 << 32;

const SALT: &[u8] = b"aico file v1";
const INFO: &[u8] = b"aico/file/1\0";

/// Whether a writer may use chunks of this many bytes.
pub(super) fn is_chunk(size: u32) -> bool {
    size.is_power_of_two() && CHUNKS.contains(&size)
}

/// What opens one encrypted file: its key, and the identity that is expected of it.
///
/// From [`Vault::file_key`] or [`PersonKeys::file_key`].
pub struct FileKey(LogKey);

impl Vault {
    /// The key of an encrypted file under the root key.
    #[must_use]
    pub fn file_key(&self, purpose: Purpose, owner: Owner, file: [u8; 16]) -> FileKey {
        FileKey(self.log_key(purpose, owner, file))
    }
}

impl Vault {
    /// As [`Self::file_key`], under the root key of an epoch; `None` when that is not here.
    #[must_use]
    pub fn file_key_of(
        &self,
        epoch: u32,
        purpose: Purpose,
        owner: Owner,
        file: [u8; 16],
    ) -> Option<FileKey> {
        let roots = self.0.roots();
        let root = roots.of(epoch)?;
        Some(FileKey(LogKey::under_root(
            root, epoch, purpose, owner, file,
        )))
    }
}

impl PersonKeys {
    /// The key of an encrypted file under this person's key.
    #[must_use]
    pub fn file_key(&self, purpose: Purpose, file: [u8; 16]) -> FileKey {
        FileKey(self.log_key(purpose, file))
    }
}

impl FileKey {
    /// The key of one file from another process, which derived it for purpose and owner with the
    /// file id as context. It opens that file and no other.
    #[must_use]
    pub fn from_derived(
        key: Key,
        epoch: u32,
        purpose: Purpose,
        owner: Owner,
        file: [u8; 16],
    ) -> Self {
        Self(LogKey::new(key, epoch, purpose, owner, file))
    }

    /// What the segments of a file that is appended to are sealed with.
    pub(super) fn log(&self) -> &LogKey {
        &self.0
    }

    /// A new file, with a fresh salt and hence a fresh key.
    pub(super) fn begin(&self, chunk: u32) -> Stream {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_be_bytes());
        header[10..PREFIX].copy_from_slice(&self.0.epoch().to_be_bytes());
        header[PREFIX..PREFIX + IDENTITY].copy_from_slice(self.0.identity());
        let at = PREFIX + IDENTITY;
        header[at..at + 4].copy_from_slice(&chunk.to_be_bytes());
        header[at + 4..FIXED].copy_from_slice(&random_array::<32>());
        let (key, commitment) = self.derive(&header);
        header[FIXED..].copy_from_slice(&commitment);
        Stream::new(header, &key, chunk)
    }

    /// Reads the header of a file that is expected to be this one.
    pub(super) fn read(
        &self,
        path: &Path,
        header: [u8; HEADER],
    ) -> Result<Stream, EncryptedFileError> {
        let foreign = |what| EncryptedFileError::Foreign {
            path: path.to_path_buf(),
            what,
        };
        let identity = &header[PREFIX..PREFIX + IDENTITY];
        let expected = self.0.identity();
        for (what, field) in [("purpose", 0..32), ("owner", 32..49), ("id", 49..IDENTITY)] {
            if identity[field.clone()] != expected[field] {
                return Err(foreign(what));
            }
        }
        if header[10..PREFIX] != self.0.epoch().to_be_bytes() {
            return Err(foreign("key epoch"));
        }
        let (key, commitment) = self.derive(&header);
        if !same(&commitment, &header[FIXED..]) {
            return Err(EncryptedFileError::WrongKey {
                path: path.to_path_buf(),
            });
        }
        let at = PREFIX + IDENTITY;
        let mut chunk = [0; 4];
        chunk.copy_from_slice(&header[at..at + 4]);
        let chunk = u32::from_be_bytes(chunk);
        // Whoever made the header had the key; the bound still holds for what they ask of us.
        if !is_chunk(chunk) {
            return Err(EncryptedFileError::DamagedHeader {
                path: path.to_path_buf(),
                reason: "its chunks have a size that is never written",
            });
        }
        Ok(Stream::new(header, &key, chunk))
    }

    fn derive(&self, header: &[u8; HEADER]) -> (Key, [u8; 32]) {
        derive::derive_committing(self.0.base(), SALT, &[INFO, &header[..FIXED]])
    }
}

/// The chunks of one finished file: each is sealed once, under its index.
pub(super) struct Stream {
    header: [u8; HEADER],
    cipher: Cipher,
    /// Bytes of plain text in a chunk.
    pub(super) chunk: usize,
}

impl Stream {
    fn new(header: [u8; HEADER], key: &Key, chunk: u32) -> Self {
        Self {
            header,
            cipher: Cipher::new(key),
            chunk: chunk as usize,
        }
    }

    pub(super) fn header(&self) -> &[u8; HEADER] {
        &self.header
    }

    /// Bytes of a full chunk in the file.
    pub(super) fn sealed_chunk(&self) -> usize {
        self.chunk + TAG
    }

    /// Where a chunk begins in the file.
    pub(super) fn offset(&self, index: u64) -> u64 {
        HEADER as u64 + index * self.sealed_chunk() as u64
    }

    /// Encrypts a chunk in place and returns its tag.
    pub(super) fn seal(&self, index: u64, last: bool, data: &mut [u8]) -> [u8; TAG] {
        self.cipher.seal(nonce(index, last), &[], data)
    }

    /// Decrypts a chunk, which is ciphertext and tag, in place.
    pub(super) fn open<'a>(
        &self,
        index: u64,
        last: bool,
        data: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged> {
        self.cipher.open(nonce(index, last), &[], data)
    }
}

/// Three zero bytes, the chunk's index, and whether it is the last one.
fn nonce(index: u64, last: bool) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce[3..11].copy_from_slice(&index.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce
}

/// Which of the two forms an encrypted file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Written once, as a whole: any cut is an error.
    Finished,
    /// A sealed append file, made of segments.
    Appended,
}

/// What a file says of itself: enough to ask for the right key, and proof of nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Finished, or made of segments.
    pub form: Form,
    /// Epoch of the key that it was sealed under.
    pub epoch: u32,
    /// The name of its purpose.
    pub purpose: String,
    /// Whose it is.
    pub owner: Owner,
    /// Its random id.
    pub id: [u8; 16],
}

impl Claim {
    /// Reads it off a file, which may lie open to others: what is in it is sealed.
    ///
    /// # Errors
    /// [`EncryptedFileError::Absent`], [`EncryptedFileError::NotEncrypted`],
    /// [`EncryptedFileError::Unsupported`], and what the system says.
    pub fn read(path: &Path) -> Result<Self, EncryptedFileError> {
        let fs: Arc<dyn Filesystem> = Arc::new(OsFilesystem);
        let file = super::options::open_file(&*fs, path, true)?;
        let mut head = [0; PREFIX + IDENTITY];
        let got = fs::read_full_at(&*file, &mut head, 0).on("read", path)?;
        let form = form_of(path, &head[..got])?;
        let mut fields = Fields(&head[10..got]);
        let mut read = || -> Result<Self, Short> {
            let epoch = fields.u32()?;
            let purpose = fields.take(32)?;
            let purpose = purpose.split(|byte| *byte == 0).next().unwrap_or_default();
            let purpose = String::from_utf8(purpose.to_vec()).map_err(|_| Short)?;
            let owner = match fields.u8()? {
                0 => fields.array::<16>().map(|_| Owner::System)?,
                1 => Owner::Person(fields.array()?),
                _ => return Err(Short),
            };
            let id = fields.array()?;
            Ok(Self {
                form,
                epoch,
                purpose,
                owner,
                id,
            })
        };
        read().map_err(|Short| EncryptedFileError::DamagedHeader {
            path: path.to_path_buf(),
            reason: "a field of it is cut off or was altered",
        })
    }
}

/// Tells the form of a file by its first bytes.
pub(super) fn form_of(path: &Path, head: &[u8]) -> Result<Form, EncryptedFileError> {
    let path = || path.to_path_buf();
    let Some((magic, rest)) = head.split_first_chunk::<8>() else {
        return Err(EncryptedFileError::NotEncrypted { path: path() });
    };
    let form = match magic {
        magic if magic == MAGIC => Form::Finished,
        magic if magic == SEGMENT_MAGIC => Form::Appended,
        _ => return Err(EncryptedFileError::NotEncrypted { path: path() }),
    };
    let Some(found) = rest.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)) else {
        return Err(EncryptedFileError::DamagedHeader {
            path: path(),
            reason: "it is cut off",
        });
    };
    if found > VERSION {
        return Err(EncryptedFileError::Unsupported {
            path: path(),
            found,
            known: VERSION,
        });
    }
    if found != VERSION {
        return Err(EncryptedFileError::DamagedHeader {
            path: path(),
            reason: "it has a version that never was",
        });
    }
    Ok(form)
}

/// The first bytes of a file, as many as a header has, or fewer.
pub(super) fn head(file: &dyn FsFile, path: &Path) -> Result<Vec<u8>, EncryptedFileError> {
    let mut head = vec![0; HEADER];
    let got = fs::read_full_at(file, &mut head, 0).on("read", path)?;
    head.truncate(got);
    Ok(head)
}

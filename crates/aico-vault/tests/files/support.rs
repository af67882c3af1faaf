//! Keys, a disk that is not real, and the two forms of files on it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_vault::append::HighWater;
use aico_vault::file::OpenOptions;
use aico_vault::fs::faulty::Faulty;
use aico_vault::{EncryptedFile, EncryptedFileError, FileKey, Key, Owner, Purpose};

/// The smallest chunk, so that small files have several.
pub(crate) const CHUNK: usize = 4096;
/// Where the file is, on a disk that is not real.
pub(crate) const PLACE: &str = "/file";

pub(crate) fn person(last: u8) -> Owner {
    let mut id = *b"\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf";
    id[15] = last;
    Owner::Person(id)
}

pub(crate) fn id(last: u8) -> [u8; 16] {
    let mut id = *b"PQRSTUVWXYZ[\\]^_";
    id[15] = last;
    id
}

pub(crate) fn key_bytes() -> [u8; 32] {
    std::array::from_fn(|n| n as u8)
}

/// The key of the test vectors in the format's document.
pub(crate) fn key() -> FileKey {
    key_of(Purpose::EncryptedFile, person(0xaf), id(0x5f))
}

/// The same 32 bytes under another identity: what the identity alone refuses.
pub(crate) fn key_of(purpose: Purpose, owner: Owner, id: [u8; 16]) -> FileKey {
    FileKey::from_derived(Key::from_bytes(&key_bytes()), 1, purpose, owner, id)
}

/// Some text in which no two places look alike.
pub(crate) fn text(len: usize) -> Vec<u8> {
    (0..len)
        .map(|n| (n % 251) as u8 ^ (n / 251) as u8)
        .collect()
}

/// A disk that is not real, with the key of the file at [`PLACE`].
pub(crate) struct Disk(pub(crate) Faulty);

impl Disk {
    pub(crate) fn new() -> Self {
        Self(Faulty::new())
    }

    pub(crate) fn with(bytes: &[u8]) -> Self {
        let disk = Self::new();
        disk.0.plant(place(), bytes);
        disk
    }

    pub(crate) fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options
            .on(Arc::new(self.0.clone()))
            .chunk_size(CHUNK as u32);
        options
    }

    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        self.0.read(place())
    }

    /// Writes a file as a whole, in the place of what is there.
    pub(crate) fn replace(&self, text: &[u8]) -> Result<(), EncryptedFileError> {
        self.replace_with(&key(), text)
    }

    pub(crate) fn replace_with(
        &self,
        key: &FileKey,
        text: &[u8],
    ) -> Result<(), EncryptedFileError> {
        let mut options = self.options();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .open(key, place())?;
        file.write_all(text).map_err(typed)?;
        file.finish().map(drop)
    }

    pub(crate) fn append(&self, mark: HighWater) -> Result<EncryptedFile, EncryptedFileError> {
        let mut options = self.options();
        options
            .append(true)
            .create(true)
            .mark(mark)
            .open(&key(), place())
    }

    pub(crate) fn open(&self) -> Result<EncryptedFile, EncryptedFileError> {
        self.open_with(&key(), HighWater::default())
    }

    pub(crate) fn open_with(
        &self,
        key: &FileKey,
        mark: HighWater,
    ) -> Result<EncryptedFile, EncryptedFileError> {
        self.options().read(true).mark(mark).open(key, place())
    }

    /// All that is handed out, and how that ended.
    pub(crate) fn read(&self) -> (Vec<u8>, Result<(), EncryptedFileError>) {
        self.read_with(&key(), HighWater::default())
    }

    pub(crate) fn read_with(
        &self,
        key: &FileKey,
        mark: HighWater,
    ) -> (Vec<u8>, Result<(), EncryptedFileError>) {
        let mut out = Vec::new();
        let done = self
            .open_with(key, mark)
            .and_then(|mut file| file.read_to_end(&mut out).map(drop).map_err(typed));
        (out, done)
    }
}

/// The finished file with this text.
pub(crate) fn finished(text: &[u8]) -> Vec<u8> {
    let disk = Disk::new();
    disk.replace(text).unwrap();
    disk.bytes().unwrap()
}

/// A file that is appended to: a flush after each of these, a segment for each group.
pub(crate) fn appended(segments: &[&[&[u8]]]) -> Vec<u8> {
    let disk = Disk::new();
    for records in segments {
        let mut file = disk.append(HighWater::default()).unwrap();
        for record in *records {
            file.write_all(record).unwrap();
            file.sync().unwrap();
        }
        file.finish().unwrap();
    }
    disk.bytes().unwrap()
}

pub(crate) fn place() -> &'static Path {
    Path::new(PLACE)
}

/// The error of ours inside one of the standard library's.
pub(crate) fn typed(error: std::io::Error) -> EncryptedFileError {
    error.downcast().unwrap()
}

/// A committed file, private as AICO's own are.
pub(crate) fn fixture(name: &str, folder: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/files")
        .join(name);
    let to = folder.join(name);
    std::fs::copy(from, &to).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    to
}

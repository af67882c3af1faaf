//! Prompts of conversations, kept across restarts of the model process: sealed, bounded, and of no
//! use but to save time.
//!
//! Each conversation has at most one file, in its person's folder, under a key of theirs
//! (`docs/formats/prompt-cache.md`). Its name comes from the conversation and that key, so there is
//! no index that could be lost, and nobody without the key sees what it belongs to. What is of
//! another model or program, damaged, or under an earlier key is thrown away without a word: the
//! prompt is read anew.
//!
//! Everything here blocks.

mod files;
mod format;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aico_contracts::ids::PersonId;
use aico_vault::{EncryptedFile, EncryptedFileError, PersonKeys, Purpose, Vault};

pub use format::Fingerprint;

use files::Folders;
use format::{Head, LONGEST_KEY};

/// What a file has beside its state: the seal and the tokens take less than one part in so many of
/// it, and its head less than so many bytes.
const PARTS: u64 = 64;
const HEAD: u64 = 4 << 10;

/// Most bytes of a state whose file takes no more than so many.
pub(crate) fn fitting(file: u64) -> u64 {
    file.saturating_sub(HEAD) / (PARTS + 1) * PARTS
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that one person's prompts may take.
    pub person: u64,
    /// Bytes that all of them may take together.
    pub all: u64,
    /// Nothing is written that would leave less than this free on the disk.
    pub free: u64,
    /// What was not used for so long is removed.
    pub age: Duration,
    /// A prompt that is read again faster than this is not kept.
    pub least: Duration,
}

impl Limits {
    /// With so many bytes for each person and for all, and what is sensible otherwise.
    #[must_use]
    pub fn new(person: u64, all: u64) -> Self {
        Self {
            person: person.min(all),
            all,
            free: 1 << 30,
            age: Duration::from_secs(30 * 24 * 60 * 60),
            least: Duration::from_millis(250),
        }
    }
}

/// Why a prompt was not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It is too large, or the disk too full.
    #[error("there is no room for it")]
    NoRoom,
    /// The person's key can't be had: they are gone, or sealed and not signed in.
    #[error("the person's key can't be had")]
    Key,
    /// What is to be written is not what was announced.
    #[error("it is not what was announced")]
    Malformed,
    /// The file can't be written.
    #[error("the file can't be written")]
    File(#[from] EncryptedFileError),
    /// The system refused.
    #[error("the folder can't be used")]
    Io(#[from] io::Error),
}

/// The prompts that are kept in a home. Clones are the same.
#[derive(Clone)]
pub struct PromptCache {
    vault: Vault,
    limits: Limits,
}

impl PromptCache {
    /// Of the persons of this vault.
    #[must_use]
    pub fn new(vault: Vault, limits: Limits) -> Self {
        Self { vault, limits }
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Most bytes of one state: its file may take all that one person's may.
    #[must_use]
    pub fn most(&self) -> u64 {
        fitting(self.limits.person)
    }

    /// What was kept of a conversation, computed by the same. What can't be used is removed.
    #[must_use]
    pub fn open(
        &self,
        person: PersonId,
        key: &[u8],
        fingerprint: &Fingerprint,
    ) -> Option<KeptPrompt> {
        let keys = self.vault.open_person(*person.as_bytes()).ok()?;
        let (path, file) = self.place(&keys, key);
        if !path.exists() {
            return None;
        }
        let opened = Self::read(&keys, file, &path, key, fingerprint);
        match opened {
            Some(kept) => {
                // The least recently used goes first.
                let _only_the_order = files::touch(&path, SystemTime::now());
                Some(kept)
            }
            None => {
                let _gone = std::fs::remove_file(&path);
                tracing::debug!("A kept prompt could not be used and was removed.");
                None
            }
        }
    }

    fn read(
        keys: &PersonKeys,
        file: [u8; 16],
        path: &std::path::Path,
        key: &[u8],
        fingerprint: &Fingerprint,
    ) -> Option<KeptPrompt> {
        let file_key = keys.file_key(Purpose::PromptCache, file);
        let mut file = EncryptedFile::open(&file_key, path).ok()?;
        let length = file.plain_len().ok()?;
        let head = Head::read(&mut file).ok()??;
        let whole = (head.len() as u64).checked_add(head.state)?;
        let ours = head.key == key
            && head.fingerprint == *fingerprint
            && whole == length
            && !head.tokens.is_empty()
            && head.state > 0;
        ours.then_some(KeptPrompt {
            tokens: head.tokens,
            bytes: head.state,
            left: head.state,
            file,
        })
    }

    /// What is kept of a conversation counts as used then.
    pub fn used(&self, person: PersonId, key: &[u8], when: SystemTime) {
        if let Ok(keys) = self.vault.open_person(*person.as_bytes()) {
            let (path, _) = self.place(&keys, key);
            let _not_there = files::touch(&path, when);
        }
    }

    /// Bytes of the file in which a conversation is kept, if it is.
    #[must_use]
    pub fn size(&self, person: PersonId, key: &[u8]) -> Option<u64> {
        let keys = self.vault.open_person(*person.as_bytes()).ok()?;
        let (path, _) = self.place(&keys, key);
        Some(std::fs::metadata(path).ok()?.len())
    }

    /// Begins to keep a conversation's prompt. What was kept of it before stays until the new one
    /// is [finished](KeptWriter::finish), and what has to make room for it as well.
    ///
    /// # Errors
    /// [`KeepError`]; nothing has changed then.
    pub fn begin(
        &self,
        person: PersonId,
        key: &[u8],
        fingerprint: &Fingerprint,
        tokens: Vec<u8>,
        state: u64,
    ) -> Result<KeptWriter, KeepError> {
        if key.is_empty()
            || key.len() > LONGEST_KEY
            || tokens.is_empty()
            || !tokens.len().is_multiple_of(4)
        {
            return Err(KeepError::Malformed);
        }
        let head = Head {
            fingerprint: *fingerprint,
            key: key.to_vec(),
            tokens,
            state,
        };
        let keys = self
            .vault
            .open_person(*person.as_bytes())
            .map_err(|_| KeepError::Key)?;
        let (path, file) = self.place(&keys, key);
        let bytes = files::sealed_size((head.len() as u64).saturating_add(state));
        Folders::new(self.vault.data(), &self.limits).admit(&path, bytes)?;
        let file_key = keys.file_key(Purpose::PromptCache, file);
        let mut file = EncryptedFile::create(&file_key, &path)?;
        head.write(&mut file)?;
        Ok(KeptWriter {
            cache: self.clone(),
            path,
            bytes,
            file,
            left: state,
        })
    }

    /// Removes what was kept of a conversation.
    pub fn discard(&self, person: PersonId, key: &[u8]) {
        if let Ok(keys) = self.vault.open_person(*person.as_bytes()) {
            let (path, _) = self.place(&keys, key);
            let _not_there = std::fs::remove_file(path);
        }
    }

    /// Removes what is too old or too much; what a writer left that was killed, too.
    pub fn tidy(&self) {
        if let Err(error) = Folders::new(self.vault.data(), &self.limits).tidy() {
            tracing::debug!(%error, "Kept prompts could not be tidied up.");
        }
    }

    /// Where a conversation's prompt is kept, and under which id: the name is that id.
    fn place(&self, keys: &PersonKeys, key: &[u8]) -> (PathBuf, [u8; 16]) {
        let file = self.vault.prompt_cache_name(keys, key);
        let folder = self.vault.prompt_cache_folder(keys.id());
        (folder.join(hex::encode(file)), file)
    }
}

/// A kept prompt, open. Nothing of it is handed out that did not authenticate.
pub struct KeptPrompt {
    tokens: Vec<u8>,
    bytes: u64,
    left: u64,
    file: EncryptedFile,
}

impl KeptPrompt {
    /// What the state stands for: 4 bytes each, big-endian.
    #[must_use]
    pub fn tokens(&self) -> &[u8] {
        &self.tokens
    }

    /// Bytes of the state.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece of the state, at most so many bytes; empty at the end.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn piece(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let count = usize::try_from(self.left).unwrap_or(most).min(most);
        let mut piece = vec![0; count];
        self.file.read_exact(&mut piece)?;
        self.left -= count as u64;
        Ok(piece)
    }
}

/// A prompt that is being kept. Dropped, it leaves nothing.
pub struct KeptWriter {
    cache: PromptCache,
    path: PathBuf,
    /// Of the file.
    bytes: u64,
    file: EncryptedFile,
    /// Of the state, not yet written.
    left: u64,
}

impl KeptWriter {
    /// Takes a piece of the state.
    ///
    /// # Errors
    /// [`KeepError::Malformed`] when it is more than was announced; what the system says.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), KeepError> {
        self.left = self
            .left
            .checked_sub(piece.len() as u64)
            .ok_or(KeepError::Malformed)?;
        Ok(self.file.write_all(piece)?)
    }

    /// Puts it in place of what was kept before, and makes room for it.
    ///
    /// # Errors
    /// [`KeepError::Malformed`] when it is less than was announced; what the system says.
    pub fn finish(self) -> Result<(), KeepError> {
        if self.left > 0 {
            return Err(KeepError::Malformed);
        }
        self.file.finish()?;
        let limits = &self.cache.limits;
        let folders = Folders::new(self.cache.vault.data(), limits);
        if let Err(error) = folders.make_room(&self.path, self.bytes) {
            // The next tidying does it.
            tracing::debug!(%error, "Older kept prompts could not be removed.");
        }
        Ok(())
    }
}

//! Key derivation: HKDF-SHA256 with a label that names purpose, version and owner.
//!
//! The exact bytes and test vectors are in `docs/formats/key-derivation.md`.

use aws_lc_rs::hkdf;

use crate::key::Key;

/// Salt under which the root key is extracted.
pub(crate) const ROOT_SALT: &[u8] = b"aico root key v1";
/// Salt under which a person's key is extracted.
pub(crate) const PERSON_SALT: &[u8] = b"aico person key v1";

/// What a derived key is for. The names are part of the format: they never change, and one that
/// went out of use is not given a new meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Purpose {
    /// `system.db`.
    SystemDatabase,
    /// A person's `person.db`.
    PersonDatabase,
    /// A person's working memory (LMDB).
    WorkingMemory,
    /// Encrypted log files.
    Log,
    /// The journal of durable bus topics.
    BusJournal,
    /// Bodies of a person's messages inside that journal.
    BusBody,
    /// The sealed registry of stores.
    Registry,
    /// A sealed signing key.
    SigningKey,
    /// A sealed key of the bus.
    BusKey,
    /// Sealed configuration.
    Configuration,
    /// Encrypted files.
    EncryptedFile,
    /// Prompts that the model has read, kept across its restarts.
    PromptCache,
    /// The names of their files.
    PromptCacheName,
    /// Archives.
    Archive,
    /// Keyed content ids.
    ContentId,
    /// The MAC over the vault header.
    HeaderMac,
    /// The MAC over a person's keyring.
    KeyringMac,
    /// The wrap of a person's key under the root key.
    PersonKeyWrap,
    /// The wrap of the key that this one followed, kept as long as something is under it.
    EarlierKey,
}

impl Purpose {
    /// The name in the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SystemDatabase => "system-database",
            Self::PersonDatabase => "person-database",
            Self::WorkingMemory => "working-memory",
            Self::Log => "log",
            Self::BusJournal => "bus-journal",
            Self::BusBody => "bus-body",
            Self::Registry => "registry",
            Self::SigningKey => "signing-key",
            Self::BusKey => "bus-key",
            Self::Configuration => "configuration",
            Self::EncryptedFile => "encrypted-file",
            Self::PromptCache => "prompt-cache",
            Self::PromptCacheName => "prompt-cache-name",
            Self::Archive => "archive",
            Self::ContentId => "content-id",
            Self::HeaderMac => "header-mac",
            Self::KeyringMac => "keyring-mac",
            Self::PersonKeyWrap => "person-key-wrap",
            Self::EarlierKey => "earlier-key",
        }
    }

    /// All of them, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::SystemDatabase,
        Self::PersonDatabase,
        Self::WorkingMemory,
        Self::Log,
        Self::BusJournal,
        Self::BusBody,
        Self::Registry,
        Self::SigningKey,
        Self::BusKey,
        Self::Configuration,
        Self::EncryptedFile,
        Self::PromptCache,
        Self::PromptCacheName,
        Self::Archive,
        Self::ContentId,
        Self::HeaderMac,
        Self::KeyringMac,
        Self::PersonKeyWrap,
        Self::EarlierKey,
    ];
}

/// Whose data a derived key protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The installation.
    System,
    /// One person, by their random id.
    Person([u8; 16]),
}

impl Owner {
    /// One byte of kind and 16 of id, as every format writes them.
    pub(crate) fn encode(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        if let Self::Person(id) = self {
            bytes[0] = 1;
            bytes[1..].copy_from_slice(&id);
        }
        bytes
    }
}

/// The label of a derived key.
#[derive(Clone, PartialEq, Eq)]
pub struct Label {
    purpose: Purpose,
    owner: Owner,
    version: u16,
    context: Vec<u8>,
}

impl Label {
    /// The label of the first version, without context.
    #[must_use]
    pub fn new(purpose: Purpose, owner: Owner) -> Self {
        Self {
            purpose,
            owner,
            version: 1,
            context: Vec::new(),
        }
    }

    /// Another version of the same purpose: an unrelated key.
    #[must_use]
    pub fn with_version(mut self, version: u16) -> Self {
        self.version = version;
        self
    }

    /// Binds the key to something more, such as a file id or the random salt of an environment.
    #[must_use]
    pub fn with_context(mut self, context: &[u8]) -> Self {
        self.context = context.to_vec();
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let purpose = self.purpose.as_str().as_bytes();
        let mut bytes = b"aico/derive/1\0".to_vec();
        bytes.push(purpose.len() as u8);
        bytes.extend_from_slice(purpose);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.owner.encode());
        bytes.extend_from_slice(&(self.context.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&self.context);
        bytes
    }
}

/// The key that `label` names under `parent`.
pub(crate) fn derive(parent: &Key, salt: &[u8], label: &Label) -> Key {
    Key::fill_with(|out| hkdf(parent.expose(), salt, &[&label.encode()], out))
}

/// A key and the 32-byte commitment that is stored beside what it encrypts: AES-GCM alone lets
/// one ciphertext open under two keys.
pub(crate) fn derive_committing(parent: &Key, salt: &[u8], info: &[&[u8]]) -> (Key, [u8; 32]) {
    let mut commitment = [0; 32];
    let key = Key::fill_with(|out| {
        let mut both = zeroize::Zeroizing::new([0; 64]);
        hkdf(parent.expose(), salt, info, both.as_mut());
        out.copy_from_slice(&both[..32]);
        commitment.copy_from_slice(&both[32..]);
    });
    (key, commitment)
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA256 (RFC 5869), extract and expand. `out` is at most 255 × 32 bytes long.
pub(crate) fn hkdf(secret: &[u8], salt: &[u8], info: &[&[u8]], out: &mut [u8]) {
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let filled = key
        .expand(info, Length(out.len()))
        .and_then(|okm| okm.fill(out));
    if filled.is_err() {
        // Only a length above 8160 bytes can fail, and no caller asks for that. Going on would
        // mean to encrypt under zeros.
        std::process::abort();
    }
}

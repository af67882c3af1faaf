//! Opening an archive: what it says in clear, and what password, phrase or key open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ArchiveError;
use super::format::{
    self, FIXED, INDEX, INDEX_KIND, MAGIC, MOST_INDEX, Part, SEALED_KEY, Scope, TRAILER, VERSION,
};
use super::writer::ArchiveWriter;
use crate::codec::Fields;
use crate::container::{Container, Form, MAX_BYTES, Unreadable};
use crate::derive::{Label, Owner, Purpose, ROOT_SALT};
use crate::error::UnlockError;
use crate::file::Beside;
use crate::fs::{self, Context, Filesystem, FsFile};
use crate::kdf::KdfCost;
use crate::key::Key;
use crate::password::Password;
use crate::phrase::RecoveryPhrase;
use crate::registry::Registry;
use crate::rotate;
use crate::vault::{
    HEADER, REGISTRY, Roots, Secret, Vault, header_mac_key, open_header, read_header,
};

/// What an archive says of itself in clear: enough to list it, and proof of nothing.
pub struct Preface {
    /// Its random id.
    pub id: [u8; 16],
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// What it is a backup of.
    pub scope: Scope,
    /// Bytes of the file.
    pub length: u64,
    header: Container,
    /// Everything before the parts.
    bytes: Vec<u8>,
    path: PathBuf,
    file: Box<dyn FsFile>,
}

/// The key of one archive, for the vault that made it to keep.
pub struct ArchiveKey(pub(super) Key);

impl ArchiveKey {
    /// Sealed under the root key, bound to the archive's id.
    #[must_use]
    pub fn seal(&self, vault: &Vault, archive: [u8; 16]) -> Vec<u8> {
        vault.seal(Purpose::Archive, Owner::System, &archive, self.0.expose())
    }

    /// Opens what [`ArchiveKey::seal`] made.
    ///
    /// # Errors
    /// When it was altered, or sealed by another vault or for another archive.
    pub fn open(
        vault: &Vault,
        archive: [u8; 16],
        sealed: &[u8],
    ) -> Result<Self, crate::error::VaultError> {
        let bytes = vault.open_sealed(Purpose::Archive, Owner::System, &archive, sealed)?;
        let bytes: &[u8; Key::LEN] = bytes[..]
            .try_into()
            .map_err(|_| crate::error::VaultError::Forged)?;
        Ok(Self(Key::from_bytes(bytes)))
    }
}

impl Preface {
    /// Reads it. The file may lie open to others: what is in it is sealed. Links are not followed.
    ///
    /// # Errors
    /// [`ArchiveError::Absent`], [`ArchiveError::NotAnArchive`], [`ArchiveError::Unsupported`],
    /// damage in the preface, and what the system says.
    pub fn read(fs: &dyn Filesystem, path: &Path) -> Result<Self, ArchiveError> {
        let file = crate::file::open_file(fs, path, true)?;
        let length = file.len().on("read", path)?;
        let at = |reason| ArchiveError::Damaged {
            path: path.to_path_buf(),
            reason,
        };
        let mut bytes = vec![0; FIXED];
        let got = fs::read_full_at(&*file, &mut bytes, 0).on("read", path)?;
        if got < 8 || bytes[..8] != *MAGIC {
            return Err(ArchiveError::NotAnArchive {
                path: path.to_path_buf(),
            });
        }
        if got < FIXED {
            return Err(at("it is cut off"));
        }
        let cut = |_| at("it is cut off");
        let mut fields = Fields(&bytes[8..]);
        let version = fields.u16().map_err(cut)?;
        if version > VERSION {
            return Err(ArchiveError::Unsupported {
                path: path.to_path_buf(),
                found: version,
                known: VERSION,
            });
        }
        if version != VERSION {
            return Err(at("it has a version that never was"));
        }
        let id = fields.array().map_err(cut)?;
        let created_ms = fields.u64().map_err(cut)?;
        let scope = match fields.u8().map_err(cut)? {
            0 => Scope::Whole,
            1 => Scope::OnePerson,
            _ => return Err(at("it is a backup of something that there never was")),
        };
        let count = fields.u32().map_err(cut)? as usize;
        if count > MAX_BYTES {
            return Err(at("the header in it is far too long"));
        }
        bytes.resize(FIXED + count + SEALED_KEY, 0);
        let rest = &mut bytes[FIXED..];
        let got = fs::read_full_at(&*file, rest, FIXED as u64).on("read", path)?;
        if got < rest.len() {
            return Err(at("it is cut off"));
        }
        let header = Container::decode(Form::Header, &bytes[FIXED..FIXED + count]).map_err(
            |why| match why {
                Unreadable::Damaged(_) => at("the vault header in it was altered"),
                Unreadable::Unsupported { found, known } => ArchiveError::Unsupported {
                    path: path.to_path_buf(),
                    found,
                    known,
                },
            },
        )?;
        Ok(Self {
            id,
            created_ms,
            scope,
            length,
            header,
            bytes,
            path: path.to_path_buf(),
            file,
        })
    }

    /// The random id of the vault that it says it is of.
    #[must_use]
    pub fn vault(&self) -> [u8; 16] {
        self.header.vault
    }

    /// Epoch of the root key under which it was made.
    #[must_use]
    pub fn key_epoch(&self) -> u32 {
        self.header.epoch
    }

    /// Opens it with the master password of when it was made.
    ///
    /// # Errors
    /// Told apart: a wrong password, damage.
    pub fn open_with_password(self, master: &Password) -> Result<Archive, ArchiveError> {
        self.open_with(&Secret::Password(master))
    }

    /// Opens it with the recovery phrase of when it was made.
    ///
    /// # Errors
    /// Told apart: a wrong phrase, damage.
    pub fn open_with_phrase(self, phrase: &RecoveryPhrase) -> Result<Archive, ArchiveError> {
        self.open_with(&Secret::Phrase(phrase))
    }

    /// Opens it with the key of the vault that made it.
    ///
    /// # Errors
    /// [`ArchiveError::OtherKey`] when it was made by another, or under another key.
    pub fn open_in(self, vault: &Vault) -> Result<Archive, ArchiveError> {
        let roots = vault.0.roots();
        let root = roots.of(self.header.epoch).filter(|root| {
            self.header.vault == vault.0.id && self.header.authentic(&header_mac_key(root))
        });
        let Some(root) = root.map(|root| Key::from_bytes(root.expose())) else {
            return Err(ArchiveError::OtherKey { path: self.path });
        };
        drop(roots);
        self.open_under(root)
    }

    /// Opens it with its own key, for what needs no root key.
    ///
    /// # Errors
    /// Damage.
    pub fn open_with_key(self, key: ArchiveKey) -> Result<Archive, ArchiveError> {
        Archive::open(self, None, key.0)
    }

    fn open_with(self, secret: &Secret<'_>) -> Result<Archive, ArchiveError> {
        let path = self.path.clone();
        let root = open_header(&path, &self.header, secret).map_err(|error| match error {
            UnlockError::WrongPassword => ArchiveError::WrongPassword,
            UnlockError::WrongPhrase => ArchiveError::WrongPhrase,
            UnlockError::NoSuchWrap { .. } => ArchiveError::NoSuchWrap { path: path.clone() },
            UnlockError::OutOfMemory => ArchiveError::OutOfMemory,
            UnlockError::KdfOutOfBounds { source, .. } => ArchiveError::KdfOutOfBounds {
                path: path.clone(),
                source,
            },
            UnlockError::File(error) => error.into(),
            _ => ArchiveError::Damaged {
                path: path.clone(),
                reason: "the vault header in it was altered",
            },
        })?;
        self.open_under(root)
    }

    fn open_under(self, root: Key) -> Result<Archive, ArchiveError> {
        let (before, sealed) = self.bytes.split_at(self.bytes.len() - SEALED_KEY);
        let label =
            Label::new(Purpose::Archive, Owner::System).with_context(&format::key_name(before));
        let key = crate::sealed::open(&root, ROOT_SALT, &label, sealed);
        let key = key.as_deref().and_then(|bytes| bytes.first_chunk::<32>());
        let Some(key) = key.map(Key::from_bytes) else {
            return Err(ArchiveError::Damaged {
                path: self.path,
                reason: "its beginning was altered",
            });
        };
        Archive::open(self, Some(root), key)
    }
}

/// An archive whose index is open and authentic.
pub struct Archive {
    pub(super) file: Box<dyn FsFile>,
    pub(super) path: PathBuf,
    pub(super) key: Key,
    pub(super) id: [u8; 16],
    header: Container,
    preface: Vec<u8>,
    created_ms: u64,
    scope: Scope,
    root: Option<Key>,
    parts: Vec<Part>,
    manifest: Vec<u8>,
}

impl Archive {
    fn open(preface: Preface, root: Option<Key>, key: Key) -> Result<Self, ArchiveError> {
        let begins = preface.bytes.len() as u64;
        let mut archive = Self {
            file: preface.file,
            path: preface.path,
            key,
            id: preface.id,
            header: preface.header,
            preface: preface.bytes,
            created_ms: preface.created_ms,
            scope: preface.scope,
            root,
            parts: Vec::new(),
            manifest: Vec::new(),
        };
        let ends = preface
            .length
            .checked_sub(TRAILER as u64)
            .filter(|ends| *ends >= begins)
            .ok_or_else(|| archive.damaged("it is cut off"))?;
        let mut trailer = [0; TRAILER];
        let got = fs::read_full_at(&*archive.file, &mut trailer, ends).on("read", &archive.path)?;
        let cut = |_| archive.damaged("it is cut off");
        let mut fields = Fields(&trailer[..got]);
        let (at, length) = (fields.u64().map_err(cut)?, fields.u64().map_err(cut)?);
        if fields.0 != format::END || at < begins || at.checked_add(length) != Some(ends) {
            return Err(archive.damaged("its end is cut off or was altered"));
        }
        let part = Part {
            kind: INDEX_KIND,
            owner: Owner::System,
            number: INDEX,
            plain: plain_of(length).ok_or_else(|| archive.damaged("its index does not fit"))?,
            offset: at,
            length,
            sha256: [0; 32],
        };
        if part.plain > MOST_INDEX {
            return Err(archive.damaged("its index is far too long"));
        }
        let text = archive.text_of(&part)?;
        let (parts, manifest) =
            format::decode_index(&text, begins, at).map_err(|reason| archive.damaged(reason))?;
        archive.parts = parts;
        archive.manifest = manifest;
        Ok(archive)
    }

    pub(super) fn damaged(&self, reason: &'static str) -> ArchiveError {
        ArchiveError::Damaged {
            path: self.path.clone(),
            reason,
        }
    }

    /// Its random id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The random id of the vault that it is of.
    #[must_use]
    pub fn vault(&self) -> [u8; 16] {
        self.header.vault
    }

    /// When it was made, in milliseconds since 1970.
    #[must_use]
    pub fn created_ms(&self) -> u64 {
        self.created_ms
    }

    /// What it is a backup of.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its parts, in the order of the file.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What its maker said of them.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Its own key, to be sealed and kept.
    #[must_use]
    pub fn own_key(&self) -> ArchiveKey {
        ArchiveKey(Key::from_bytes(self.key.expose()))
    }

    /// The key that a label names in the vault that it is of. `None` when it was opened with its
    /// own key.
    #[must_use]
    pub fn derive(&self, label: Label) -> Option<Key> {
        let root = self.root.as_ref()?;
        Some(crate::derive::derive(root, ROOT_SALT, &label))
    }

    /// Writes it anew without some of its parts, in its own place, in one step: at every moment
    /// the old one is there or the new one. The other parts are copied as they are, their hashes
    /// checked.
    ///
    /// # Errors
    /// Damage, and what the system says; then the old one is there.
    pub fn rewrite_without(
        &self,
        fs: Arc<dyn Filesystem>,
        drop: impl Fn(&Part) -> bool,
        manifest: &[u8],
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u64, ArchiveError> {
        let beside = Beside::create(fs, &self.path, true)?;
        let key = Key::from_bytes(self.key.expose());
        let mut writer = ArchiveWriter::new(beside, self.id, key, self.preface.clone());
        for part in self.parts.iter().filter(|part| !drop(part)) {
            writer.copy(self, part, go_on)?;
        }
        writer.finish(manifest)
    }

    /// Opens the vault in a folder with the root key of the archive's, when it is the same one.
    ///
    /// # Errors
    /// [`ArchiveError::OtherKey`] when it is another, or its root key has changed since; damage.
    pub fn open_vault(
        &self,
        fs: Arc<dyn Filesystem>,
        data: &Path,
        cost: KdfCost,
    ) -> Result<Vault, ArchiveError> {
        let other = || ArchiveError::OtherKey {
            path: self.path.clone(),
        };
        let root = self.root.as_ref().ok_or_else(other)?;
        let root = Key::from_bytes(root.expose());
        let header = read_header(&*fs, data).map_err(|error| match error {
            UnlockError::File(error) => ArchiveError::File(error),
            UnlockError::Absent { path } => ArchiveError::Absent { path },
            _ => ArchiveError::Damaged {
                path: data.join(HEADER),
                reason: "it can't be read",
            },
        })?;
        let same = header.vault == self.header.vault && header.epoch == self.header.epoch;
        if !same || !header.authentic(&header_mac_key(&root)) {
            return Err(other());
        }
        let earlier = rotate::earlier_root(data, &header, &root).map_err(|_| other())?;
        let roots = Roots {
            root,
            epoch: header.epoch,
            earlier,
        };
        let path = data.join(REGISTRY);
        let registry = Registry::open(Arc::clone(&fs), &path, &roots, header.vault)
            .map_err(|error| vault_error(error.into()))?;
        Ok(Vault::unlocked(fs, data, roots, &header, cost, registry))
    }

    /// Makes a vault of what it holds in a folder that is private and empty: the header, with the
    /// wraps of when it was made, and a new registry. The root key is the same.
    ///
    /// # Errors
    /// [`ArchiveError::OtherKey`] when it was opened with its own key; what the system says.
    pub fn restore_vault(
        &self,
        fs: Arc<dyn Filesystem>,
        data: &Path,
        cost: KdfCost,
    ) -> Result<Vault, ArchiveError> {
        let Some(root) = &self.root else {
            return Err(ArchiveError::OtherKey {
                path: self.path.clone(),
            });
        };
        let root = Key::from_bytes(root.expose());
        if Vault::exists_on(&*fs, data).map_err(vault_error)? {
            return Err(ArchiveError::Exists {
                path: data.to_path_buf(),
            });
        }
        let bytes = self.header.encode(&header_mac_key(&root));
        fs::write_atomically(&*fs, &data.join(HEADER), &bytes)?;
        let roots = Roots {
            root,
            epoch: self.header.epoch,
            earlier: None,
        };
        let path = data.join(REGISTRY);
        let registry = Registry::create(Arc::clone(&fs), &path, &roots, self.header.vault)
            .map_err(|error| vault_error(error.into()))?;
        Ok(Vault::unlocked(
            fs,
            data,
            roots,
            &self.header,
            cost,
            registry,
        ))
    }
}

fn vault_error(error: crate::error::VaultError) -> ArchiveError {
    match error {
        crate::error::VaultError::File(error) => error.into(),
        _ => ArchiveError::Incomplete {
            path: PathBuf::from(REGISTRY),
        },
    }
}

/// Bytes of plain text in a part of this length in the file.
fn plain_of(length: u64) -> Option<u64> {
    let body = length.checked_sub(format::PART_HEADER as u64)?;
    let chunks = body.div_ceil(format::SEALED_CHUNK as u64).max(1);
    let plain = body.checked_sub(chunks * crate::aead::TAG as u64)?;
    (format::length_of(plain) == length).then_some(plain)
}

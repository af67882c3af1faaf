//! The layout that vault header and keyrings share: a list of typed wraps of one key, a MAC from
//! that key over everything, and a SHA-256 over all of that.
//!
//! The bytes are described in `docs/formats/vault-header.md` and `docs/formats/keyring.md`.
//! In every version the last 32 bytes are the SHA-256 of all before them, so that damage is told
//! from a newer version, and damage from a wrong password.

use crate::aead::{mac, same, sha256};
use crate::codec::Fields;
use crate::key::Key;
use crate::keychain::Kept;
use crate::wrap::{Params, Wrap, WrapKind};

/// Largest file that is read, in bytes.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
/// Most wraps in a file.
const MAX_WRAPS: u16 = 64;
/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u16 = 1;

/// Which of the two files it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Header,
    Keyring,
}

impl Form {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Header => b"AICOVLT\0",
            Self::Keyring => b"AICOKEY\0",
        }
    }
}

/// Why some bytes are not such a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Damaged(&'static str),
    Unsupported { found: u16, known: u16 },
}

/// A header or keyring, read or to be written.
pub(crate) struct Container {
    pub(crate) form: Form,
    pub(crate) epoch: u32,
    pub(crate) vault: [u8; 16],
    /// The person of a keyring; zeros in a header.
    pub(crate) person: [u8; 16],
    pub(crate) wraps: Vec<Wrap>,
    mac: [u8; 32],
    /// The bytes that the MAC covers.
    covered: Vec<u8>,
}

impl Container {
    pub(crate) fn new(form: Form, epoch: u32, vault: [u8; 16], person: [u8; 16]) -> Self {
        Self {
            form,
            epoch,
            vault,
            person,
            wraps: Vec::new(),
            mac: [0; 32],
            covered: Vec::new(),
        }
    }

    /// The fields before the wraps. They are authenticated with each wrap, so that a wrap opens
    /// in its own file only.
    pub(crate) fn fixed(&self) -> Vec<u8> {
        let mut out = self.form.magic().to_vec();
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.vault);
        out.extend_from_slice(&self.person);
        out
    }

    /// The wrap of a kind, if there is one.
    pub(crate) fn find(&self, kind: WrapKind) -> Option<&Wrap> {
        self.wraps.iter().find(|wrap| wrap.kind() == kind)
    }

    /// Adds a wrap of `key` under `kek`, in the place of the first of the same kind.
    pub(crate) fn set(&mut self, params: Params, kek: &[u8], key: &Key) {
        let wrap = Wrap::seal(&self.fixed(), params, kek, key);
        match self.wraps.iter_mut().find(|old| old.kind() == wrap.kind()) {
            Some(old) => *old = wrap,
            None => self.wraps.push(wrap),
        }
    }

    /// Adds a wrap of `key` under `kek` beside those that are there.
    pub(crate) fn push(&mut self, params: Params, kek: &[u8], key: &Key) {
        self.wraps.push(Wrap::seal(&self.fixed(), params, kek, key));
    }

    /// Takes out all wraps of a kind.
    pub(crate) fn remove(&mut self, kind: WrapKind) {
        self.wraps.retain(|wrap| wrap.kind() != kind);
    }

    /// Takes out what opens without a person, and says where its keys are kept.
    pub(crate) fn take_kept(&mut self) -> Vec<Kept> {
        let taken = self.wraps.iter().filter_map(Wrap::kept).collect();
        self.wraps.retain(|wrap| wrap.kept().is_none());
        taken
    }

    /// The bytes of the file, authenticated by `mac_key`.
    pub(crate) fn encode(&self, mac_key: &Key) -> Vec<u8> {
        let mut out = self.fixed();
        out.extend_from_slice(&(self.wraps.len() as u16).to_be_bytes());
        for wrap in &self.wraps {
            wrap.encode(&mut out);
        }
        let tag = mac(mac_key, &[&out]);
        out.extend_from_slice(&tag);
        let digest = sha256(&out);
        out.extend_from_slice(&digest);
        out
    }

    /// Whether the MAC was made with this key: nothing in the file was changed by anybody else.
    pub(crate) fn authentic(&self, mac_key: &Key) -> bool {
        same(&mac(mac_key, &[&self.covered]), &self.mac)
    }

    pub(crate) fn decode(form: Form, bytes: &[u8]) -> Result<Self, Unreadable> {
        if bytes.is_empty() {
            return Err(Unreadable::Damaged("it is empty"));
        }
        if bytes.len() > MAX_BYTES {
            return Err(Unreadable::Damaged("it is far too long"));
        }
        let (content, digest) = bytes
            .split_last_chunk::<32>()
            .ok_or(Unreadable::Damaged("it is cut off"))?;
        if sha256(content) != *digest {
            return Err(Unreadable::Damaged("its checksum does not match"));
        }
        let short = |_| Unreadable::Damaged("a field in it is cut off");
        let mut fields = Fields(content);
        if fields.take(8).map_err(short)? != form.magic() {
            return Err(Unreadable::Damaged("it is another kind of file"));
        }
        let version = fields.u16().map_err(short)?;
        if version != VERSION {
            return Err(Unreadable::Unsupported {
                found: version,
                known: VERSION,
            });
        }
        let (covered, tag) = content
            .split_last_chunk::<32>()
            .ok_or(Unreadable::Damaged("it is cut off"))?;
        let mut fields = Fields(covered.get(10..).unwrap_or_default());
        let epoch = fields.u32().map_err(short)?;
        let vault = fields.array().map_err(short)?;
        let person = fields.array().map_err(short)?;
        let count = fields.u16().map_err(short)?;
        if count > MAX_WRAPS {
            return Err(Unreadable::Damaged("it has too many wraps"));
        }
        let mut wraps: Vec<Wrap> = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let wrap = Wrap::decode(&mut fields).map_err(Unreadable::Damaged)?;
            // One password each: otherwise a planted file could ask for any number of hashes.
            if wrap.kind().is_single() && wraps.iter().any(|other| other.kind() == wrap.kind()) {
                return Err(Unreadable::Damaged("it has two wraps of one kind"));
            }
            wraps.push(wrap);
        }
        if !fields.is_empty() {
            return Err(Unreadable::Damaged("there are bytes after the last wrap"));
        }
        Ok(Self {
            form,
            epoch,
            vault,
            person,
            wraps,
            mac: *tag,
            covered: covered.to_vec(),
        })
    }
}

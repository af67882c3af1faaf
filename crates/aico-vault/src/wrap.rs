//! Typed wraps: one key, encrypted under another that comes from a password, a phrase or a key.
//!
//! Every wrap of a known kind is its parameters followed by salt, nonce, ciphertext and tag.
//! The wrapping key is HKDF over what the kind brings, with a fresh random salt of 32 bytes, and
//! is used for one encryption: a nonce can't meet the same key twice. Kinds that this program
//! does not know are kept as they are when the file is written anew.

use crate::aead::{Cipher, NONCE, TAG};
use crate::codec::{Fields, put_text};
use crate::derive::hkdf;
use crate::kdf::{KdfCost, KdfOutOfBounds, OutOfMemory};
use crate::key::{Key, random_array};
use crate::keychain::Kept;
use crate::password::Password;

/// Label of wrapping keys.
const INFO: &[u8] = b"aico/wrap/1\0";
/// Argon2id, version 0x13.
const ARGON2ID: u8 = 1;
/// Where the epoch stands in a file's fixed fields.
const EPOCH_AT: usize = 8 + 2;
/// Salt, nonce, ciphertext and tag, in bytes.
const SEALED: usize = 32 + NONCE + Key::LEN + TAG;

/// The kind of a wrap. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WrapKind {
    /// Header: Argon2id of the master password.
    MasterPassword,
    /// Header: the recovery phrase.
    RecoveryPhrase,
    /// Header: a wrapping key in the system's keychain.
    Keychain,
    /// Header: a key file outside the data folder.
    KeyFile,
    /// Header: the root key before this one, while something is still under it.
    EarlierRoot,
    /// Keyring: the root key.
    Root,
    /// Keyring: Argon2id of the person's own password.
    OwnPassword,
    /// Keyring: the person's own phrase.
    OwnPhrase,
    /// Keyring: Argon2id of the person's own password, around a key before this one: proves the
    /// password until they sign in, and opens nothing that is under the present key.
    EarlierPassword,
    /// Keyring: a key before this one.
    EarlierKey,
    /// One that this program does not know.
    Unknown(u16),
}

impl WrapKind {
    /// The number in the file.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::MasterPassword => 1,
            Self::RecoveryPhrase => 2,
            Self::Keychain => 3,
            Self::KeyFile => 4,
            Self::EarlierRoot => 5,
            Self::Root => 16,
            Self::OwnPassword => 17,
            Self::OwnPhrase => 18,
            Self::EarlierPassword => 19,
            Self::EarlierKey => 20,
            Self::Unknown(number) => number,
        }
    }

    /// Whether a file has at most one of this kind.
    pub(crate) const fn is_single(self) -> bool {
        !matches!(
            self,
            Self::Keychain | Self::KeyFile | Self::EarlierKey | Self::Unknown(_)
        )
    }
}

/// Argon2id's cost, as the file has it (not yet checked against the bounds), and its salt.
#[derive(Clone)]
pub(crate) struct KdfParams {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; 32],
}

impl KdfParams {
    pub(crate) fn fresh(cost: KdfCost) -> Self {
        Self {
            memory_kib: cost.memory_kib(),
            passes: cost.passes(),
            lanes: cost.lanes(),
            salt: random_array(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(ARGON2ID);
        for field in [self.memory_kib, self.passes, self.lanes] {
            out.extend_from_slice(&field.to_be_bytes());
        }
        out.extend_from_slice(&self.salt);
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, &'static str> {
        let short = |_| "a wrap in it is cut off";
        if fields.u8().map_err(short)? != ARGON2ID {
            return Err("it names an unknown way to hash passwords");
        }
        Ok(Self {
            memory_kib: fields.u32().map_err(short)?,
            passes: fields.u32().map_err(short)?,
            lanes: fields.u32().map_err(short)?,
            salt: fields.array().map_err(short)?,
        })
    }

    /// Hashes the password, if the cost is inside the bounds.
    pub(crate) fn hash(&self, password: &Password) -> Result<Key, HashError> {
        let cost = KdfCost::new(self.memory_kib, self.passes, self.lanes)?;
        cost.hash(password, &self.salt)
            .map_err(|OutOfMemory| HashError::OutOfMemory)
    }
}

/// Why a password could not be hashed.
#[derive(Debug)]
pub(crate) enum HashError {
    OutOfBounds(KdfOutOfBounds),
    OutOfMemory,
}

impl From<KdfOutOfBounds> for HashError {
    fn from(bounds: KdfOutOfBounds) -> Self {
        Self::OutOfBounds(bounds)
    }
}

/// The kind of a wrap with what it needs beside the secret.
#[derive(Clone)]
pub(crate) enum Params {
    MasterPassword(KdfParams),
    RecoveryPhrase,
    /// Which backend and which item hold the wrapping key.
    Keychain {
        backend: String,
        item: String,
    },
    /// The id that stands in the key file.
    KeyFile {
        id: [u8; 16],
    },
    /// The epoch of the wrapped key.
    EarlierRoot {
        epoch: u32,
    },
    Root,
    OwnPassword(KdfParams),
    OwnPhrase,
    /// The epoch of the keyring that the wrap was made in.
    EarlierPassword {
        epoch: u32,
        kdf: KdfParams,
    },
    /// The epoch of the wrapped key.
    EarlierKey {
        epoch: u32,
    },
}

impl From<Kept> for Params {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Keychain { backend, item } => Self::Keychain { backend, item },
            Kept::KeyFile { id } => Self::KeyFile { id },
        }
    }
}

impl Params {
    fn kind(&self) -> WrapKind {
        match self {
            Self::MasterPassword(_) => WrapKind::MasterPassword,
            Self::RecoveryPhrase => WrapKind::RecoveryPhrase,
            Self::Keychain { .. } => WrapKind::Keychain,
            Self::KeyFile { .. } => WrapKind::KeyFile,
            Self::EarlierRoot { .. } => WrapKind::EarlierRoot,
            Self::Root => WrapKind::Root,
            Self::OwnPassword(_) => WrapKind::OwnPassword,
            Self::OwnPhrase => WrapKind::OwnPhrase,
            Self::EarlierPassword { .. } => WrapKind::EarlierPassword,
            Self::EarlierKey { .. } => WrapKind::EarlierKey,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::MasterPassword(kdf) | Self::OwnPassword(kdf) => kdf.encode(out),
            Self::EarlierPassword { epoch, kdf } => {
                out.extend_from_slice(&epoch.to_be_bytes());
                kdf.encode(out);
            }
            Self::EarlierRoot { epoch } | Self::EarlierKey { epoch } => {
                out.extend_from_slice(&epoch.to_be_bytes());
            }
            Self::Keychain { backend, item } => {
                put_text(out, backend);
                put_text(out, item);
            }
            Self::KeyFile { id } => out.extend_from_slice(id),
            Self::RecoveryPhrase | Self::Root | Self::OwnPhrase => {}
        }
    }

    fn decode(kind: WrapKind, fields: &mut Fields<'_>) -> Result<Option<Self>, &'static str> {
        let short = |_| "a wrap in it is cut off";
        Ok(Some(match kind {
            WrapKind::MasterPassword => Self::MasterPassword(KdfParams::decode(fields)?),
            WrapKind::OwnPassword => Self::OwnPassword(KdfParams::decode(fields)?),
            WrapKind::EarlierPassword => Self::EarlierPassword {
                epoch: fields.u32().map_err(short)?,
                kdf: KdfParams::decode(fields)?,
            },
            WrapKind::EarlierRoot => Self::EarlierRoot {
                epoch: fields.u32().map_err(short)?,
            },
            WrapKind::EarlierKey => Self::EarlierKey {
                epoch: fields.u32().map_err(short)?,
            },
            WrapKind::RecoveryPhrase => Self::RecoveryPhrase,
            WrapKind::Root => Self::Root,
            WrapKind::OwnPhrase => Self::OwnPhrase,
            WrapKind::Keychain => Self::Keychain {
                backend: fields.text().map_err(short)?,
                item: fields.text().map_err(short)?,
            },
            WrapKind::KeyFile => Self::KeyFile {
                id: fields.array().map_err(short)?,
            },
            WrapKind::Unknown(_) => return Ok(None),
        }))
    }
}

/// A wrap in a header or keyring.
#[derive(Clone)]
pub(crate) enum Wrap {
    Known {
        params: Params,
        sealed: [u8; SEALED],
    },
    Unknown {
        number: u16,
        body: Vec<u8>,
    },
}

impl Wrap {
    /// Encrypts `key` under `kek`. `file` are the fixed fields of the file it goes into.
    pub(crate) fn seal(file: &[u8], params: Params, kek: &[u8], key: &Key) -> Self {
        let aad = associated(file, &params);
        let mut sealed = [0; SEALED];
        let salt: [u8; 32] = random_array();
        let nonce: [u8; NONCE] = random_array();
        let (head, body) = sealed.split_at_mut(32 + NONCE);
        head[..32].copy_from_slice(&salt);
        head[32..].copy_from_slice(&nonce);
        let (secret, tag) = body.split_at_mut(Key::LEN);
        secret.copy_from_slice(key.expose());
        let made = Cipher::new(&wrapping_key(kek, &salt, &aad)).seal(nonce, &aad, secret);
        tag.copy_from_slice(&made);
        Self::Known { params, sealed }
    }

    /// Decrypts the key. `None`: another secret, or another file.
    pub(crate) fn open(&self, file: &[u8], kek: &[u8]) -> Option<Key> {
        let Self::Known { params, sealed } = self else {
            return None;
        };
        let aad = associated(file, params);
        let mut fields = Fields(sealed);
        let salt: [u8; 32] = fields.array().ok()?;
        let nonce: [u8; NONCE] = fields.array().ok()?;
        let mut body: zeroize::Zeroizing<[u8; Key::LEN + TAG]> = fields.array().ok()?.into();
        let cipher = Cipher::new(&wrapping_key(kek, &salt, &aad));
        let key = cipher.open(nonce, &aad, body.as_mut()).ok()?;
        Some(Key::fill_with(|out| out.copy_from_slice(key)))
    }

    pub(crate) fn kind(&self) -> WrapKind {
        match self {
            Self::Known { params, .. } => params.kind(),
            Self::Unknown { number, .. } => WrapKind::Unknown(*number),
        }
    }

    /// How the password of this wrap is hashed, when it is one of a password.
    pub(crate) fn kdf(&self) -> Option<&KdfParams> {
        match self {
            Self::Known {
                params:
                    Params::MasterPassword(kdf)
                    | Params::OwnPassword(kdf)
                    | Params::EarlierPassword { kdf, .. },
                ..
            } => Some(kdf),
            _ => None,
        }
    }

    /// Of which epoch the wrapped key is, when it is not the file's present one.
    pub(crate) fn earlier(&self) -> Option<u32> {
        match self {
            Self::Known {
                params:
                    Params::EarlierRoot { epoch }
                    | Params::EarlierKey { epoch }
                    | Params::EarlierPassword { epoch, .. },
                ..
            } => Some(*epoch),
            _ => None,
        }
    }

    /// The wrap under the own password, as it stands, for a keyring whose key is another now: it
    /// goes on proving the password. `epoch` is that of the keyring it was made in.
    pub(crate) fn retired(&self, epoch: u32) -> Option<Self> {
        match self {
            Self::Known {
                params: Params::OwnPassword(kdf),
                sealed,
            } => Some(Self::Known {
                params: Params::EarlierPassword {
                    epoch,
                    kdf: kdf.clone(),
                },
                sealed: *sealed,
            }),
            Self::Known {
                params: Params::EarlierPassword { .. },
                ..
            } => Some(self.clone()),
            _ => None,
        }
    }

    /// Where the wrapping key is kept, when it is a place and not a person that has it.
    pub(crate) fn kept(&self) -> Option<Kept> {
        match self {
            Self::Known {
                params: Params::Keychain { backend, item },
                ..
            } => Some(Kept::Keychain {
                backend: backend.clone(),
                item: item.clone(),
            }),
            Self::Known {
                params: Params::KeyFile { id },
                ..
            } => Some(Kept::KeyFile { id: *id }),
            _ => None,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        match self {
            Self::Known { params, sealed } => {
                params.encode(&mut body);
                body.extend_from_slice(sealed);
            }
            Self::Unknown { body: kept, .. } => body.extend_from_slice(kept),
        }
        out.extend_from_slice(&self.kind().number().to_be_bytes());
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(&body);
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<Self, &'static str> {
        let short = |_| "a wrap in it is cut off";
        let number = fields.u16().map_err(short)?;
        let len = fields.u32().map_err(short)?;
        let body = fields.take(len as usize).map_err(short)?;
        let kind = match number {
            1 => WrapKind::MasterPassword,
            2 => WrapKind::RecoveryPhrase,
            3 => WrapKind::Keychain,
            4 => WrapKind::KeyFile,
            5 => WrapKind::EarlierRoot,
            16 => WrapKind::Root,
            17 => WrapKind::OwnPassword,
            18 => WrapKind::OwnPhrase,
            19 => WrapKind::EarlierPassword,
            20 => WrapKind::EarlierKey,
            other => WrapKind::Unknown(other),
        };
        let mut inside = Fields(body);
        let Some(params) = Params::decode(kind, &mut inside)? else {
            return Ok(Self::Unknown {
                number,
                body: body.to_vec(),
            });
        };
        let sealed = inside.array().map_err(short)?;
        if !inside.is_empty() {
            return Err("a wrap in it is too long");
        }
        Ok(Self::Known { params, sealed })
    }
}

/// What is authenticated with a wrap: the file it is in, its kind, its parameters.
fn associated(file: &[u8], params: &Params) -> Vec<u8> {
    // A retired wrap is authenticated as it was made: in the keyring of its epoch.
    if let Params::EarlierPassword { epoch, kdf } = params {
        let mut file = file.to_vec();
        file[EPOCH_AT..EPOCH_AT + 4].copy_from_slice(&epoch.to_be_bytes());
        return associated(&file, &Params::OwnPassword(kdf.clone()));
    }
    let mut out = INFO.to_vec();
    out.extend_from_slice(file);
    out.extend_from_slice(&params.kind().number().to_be_bytes());
    params.encode(&mut out);
    out
}

fn wrapping_key(kek: &[u8], salt: &[u8; 32], aad: &[u8]) -> Key {
    Key::fill_with(|out| hkdf(kek, salt, &[aad], out))
}

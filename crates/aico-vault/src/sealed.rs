//! Sealed blobs: small secrets, such as a signing key, for a column or a file of somebody else's.
//!
//! ```text
//! magic "AICOBLB\0" 8 | version 2 | key epoch 4 | salt 32 | commitment 32 | ciphertext | tag 16
//! ```
//! Key and commitment are HKDF over the label (purpose, owner, name) and all fields before the
//! commitment. The salt is fresh, so the key is used once and the nonce is zero. The commitment
//! is compared first.

use crate::aead::{Cipher, TAG, same};
use crate::derive::{self, Label, Owner, Purpose};
use crate::error::VaultError;
use crate::key::{Key, random_array};
use crate::person::PersonKeys;
use crate::vault::Vault;

const MAGIC: &[u8; 8] = b"AICOBLB\0";
const VERSION: u16 = 1;
/// Bytes before the commitment.
const FIXED: usize = 8 + 2 + 4 + 32;
/// Bytes before the ciphertext.
pub(crate) const HEAD: usize = FIXED + 32;
const INFO: &[u8] = b"aico/seal/1\0";

impl Vault {
    /// Seals a small secret under the root key, bound to purpose, owner and name.
    #[must_use]
    pub fn seal(&self, purpose: Purpose, owner: Owner, name: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let label = Label::new(purpose, owner).with_context(name);
        let roots = self.0.roots();
        seal(
            &roots.root,
            derive::ROOT_SALT,
            roots.epoch,
            &label,
            plaintext,
        )
    }

    /// Opens what [`Vault::seal`] made.
    ///
    /// # Errors
    /// [`VaultError::Forged`] when it was altered, or sealed by another vault or for another
    /// purpose, owner or name.
    pub fn open_sealed(
        &self,
        purpose: Purpose,
        owner: Owner,
        name: &[u8],
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, VaultError> {
        let label = Label::new(purpose, owner).with_context(name);
        let roots = self.0.roots();
        epoch_of(sealed)
            .and_then(|epoch| roots.of(epoch))
            .and_then(|root| open(root, derive::ROOT_SALT, &label, sealed))
            .ok_or(VaultError::Forged)
    }
}

impl PersonKeys {
    /// As [`Vault::seal`], under this person's key.
    #[must_use]
    pub fn seal(&self, purpose: Purpose, name: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let label = Label::new(purpose, Owner::Person(self.0.id)).with_context(name);
        seal(
            &self.0.key,
            derive::PERSON_SALT,
            self.0.epoch,
            &label,
            plaintext,
        )
    }

    /// As [`Vault::open_sealed`], under this person's key.
    ///
    /// # Errors
    /// As [`Vault::open_sealed`].
    pub fn open_sealed(
        &self,
        purpose: Purpose,
        name: &[u8],
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, VaultError> {
        let label = Label::new(purpose, Owner::Person(self.0.id)).with_context(name);
        epoch_of(sealed)
            .and_then(|epoch| self.of(epoch))
            .and_then(|key| open(key, derive::PERSON_SALT, &label, sealed))
            .ok_or(VaultError::Forged)
    }
}

/// Under which epoch of the parent key a blob was sealed, as it says.
fn epoch_of(sealed: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*sealed.get(10..)?.first_chunk()?))
}

pub(crate) fn seal(
    parent: &Key,
    salt: &[u8],
    epoch: u32,
    label: &Label,
    plaintext: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + plaintext.len() + TAG);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&random_array::<32>());
    let (key, commitment) = derive::derive_committing(parent, salt, &[INFO, &label.encode(), &out]);
    out.extend_from_slice(&commitment);
    out.extend_from_slice(plaintext);
    let (head, secret) = out.split_at_mut(HEAD);
    let tag = Cipher::new(&key).seal([0; 12], head, secret);
    out.extend_from_slice(&tag);
    out
}

pub(crate) fn open(
    parent: &Key,
    salt: &[u8],
    label: &Label,
    sealed: &[u8],
) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let (head, body) = sealed.split_at_checked(HEAD)?;
    let (fixed, commitment) = head.split_at_checked(FIXED)?;
    if !fixed.starts_with(MAGIC) || fixed[8..10] != VERSION.to_be_bytes() {
        return None;
    }
    let (key, expected) = derive::derive_committing(parent, salt, &[INFO, &label.encode(), fixed]);
    if !same(commitment, &expected) {
        return None;
    }
    let mut body = zeroize::Zeroizing::new(body.to_vec());
    let len = Cipher::new(&key).open([0; 12], head, &mut body).ok()?.len();
    body.truncate(len);
    Some(body)
}

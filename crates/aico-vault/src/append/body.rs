//! Bodies of one person inside records that belong to the system.
//!
//! A journal's records are sealed for the system, so that it can be read, kept in order and
//! thrown away without anybody's key. What a record says of a person is sealed once more, under a
//! key that comes from that person's: erasing the person's key reaches it wherever it lies.
//!
//! The nonce is the record's sequence. It does not repeat, because the key belongs to one
//! *segment*: it is bound to the 32 random bytes that each opening for writing draws anew, and in
//! a segment a sequence is given once. Who writes has to give the segment up when an append was
//! refused: the sequence would be given again.

use crate::aead::{Cipher, NONCE, TAG};
use crate::derive::{self, Label, Owner, Purpose};
use crate::person::PersonKeys;

/// The key of one person's bodies in one segment. From [`PersonKeys::body_key`].
///
/// It seals under the person's present key and opens what was sealed under those before it.
pub struct BodyKey {
    present: Cipher,
    earlier: Vec<Cipher>,
}

/// A body was altered, or belongs to another record, segment or person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body was altered, or belongs elsewhere")]
pub struct BodyForged;

impl PersonKeys {
    /// The key of this person's bodies in the segment with these random bytes
    /// ([`super::SealedLogWriter::segment`], [`super::SealedLogReader::segment`]).
    #[must_use]
    pub fn body_key(&self, segment: &[u8; 32]) -> BodyKey {
        let label = Label::new(Purpose::BusBody, Owner::Person(self.id())).with_context(segment);
        let earlier = self.earlier();
        BodyKey {
            present: Cipher::new(&self.derive_label(label.clone())),
            earlier: earlier
                .map(|key| Cipher::new(&derive::derive(key, derive::PERSON_SALT, &label)))
                .collect(),
        }
    }
}

impl BodyKey {
    /// What a sealed body is longer by, in bytes.
    pub const OVERHEAD: usize = TAG;

    /// Seals everything in `record` from `body` on, in place; what stands before is authenticated
    /// with it.
    pub fn seal(&self, sequence: u64, record: &mut Vec<u8>, body: usize) {
        let (head, secret) = record.split_at_mut(body);
        let tag = self.present.seal(nonce(sequence), head, secret);
        record.extend_from_slice(&tag);
    }

    /// Opens what [`BodyKey::seal`] made, in place, and returns the body.
    ///
    /// # Errors
    /// When it was altered, or is another record's.
    pub fn open<'a>(
        &self,
        sequence: u64,
        record: &'a mut [u8],
        body: usize,
    ) -> Result<&'a [u8], BodyForged> {
        let (head, secret) = record.split_at_mut_checked(body).ok_or(BodyForged)?;
        // A try that fails leaves nothing of the ciphertext, so that each but the last has a copy.
        let mut ciphers = std::iter::once(&self.present)
            .chain(&self.earlier)
            .peekable();
        while let Some(cipher) = ciphers.next() {
            if ciphers.peek().is_none() {
                return cipher
                    .open(nonce(sequence), head, secret)
                    .map(|opened| &*opened)
                    .map_err(|_| BodyForged);
            }
            let mut copy = zeroize::Zeroizing::new(secret.to_vec());
            let Ok(opened) = cipher.open(nonce(sequence), head, &mut copy) else {
                continue;
            };
            let len = opened.len();
            secret[..len].copy_from_slice(opened);
            return Ok(&secret[..len]);
        }
        Err(BodyForged)
    }
}

/// 4 zero bytes and the record's sequence.
fn nonce(sequence: u64) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce[4..].copy_from_slice(&sequence.to_be_bytes());
    nonce
}

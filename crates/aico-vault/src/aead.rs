//! AES-256-GCM and HMAC-SHA256 in the few shapes the formats use.
//!
//! Nonces are the caller's business, and each format says why its own can't repeat.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;

use crate::key::Key;

/// Length of an AES-GCM nonce in bytes.
pub(crate) const NONCE: usize = 12;
/// Length of an AES-GCM tag in bytes.
pub(crate) const TAG: usize = 16;

/// Authentication failed. It does not say why: nobody can know.
#[derive(Debug)]
pub(crate) struct Forged;

/// An AES-256-GCM key, ready for use.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(key: &Key) -> Self {
        match UnboundKey::new(&AES_256_GCM, key.expose()) {
            Ok(key) => Self(LessSafeKey::new(key)),
            // Only a key of another length can fail, and `Key` has no other length.
            Err(_) => std::process::abort(),
        }
    }

    /// Encrypts `data` in place and returns the tag.
    pub(crate) fn seal(&self, nonce: [u8; NONCE], aad: &[u8], data: &mut [u8]) -> [u8; TAG] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), data);
        match sealed
            .ok()
            .and_then(|tag| tag.as_ref().first_chunk().copied())
        {
            Some(tag) => tag,
            // Only more than 64 GiB can fail; writing the plain text instead is no choice.
            None => std::process::abort(),
        }
    }

    /// Decrypts `data`, which is ciphertext and tag, in place, and returns the plaintext's part.
    pub(crate) fn open<'a>(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        data: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_in_place(nonce, Aad::from(aad), data)
            .map_err(|_| Forged)
    }
}

/// HMAC-SHA256 over the parts, one after the other.
pub(crate) fn mac(key: &Key, parts: &[&[u8]]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    out
}

/// Whether two MACs or commitments are equal, in constant time.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// SHA-256, for damage: it has no key, so it proves nothing about intent.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}

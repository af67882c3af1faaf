//! AES-256-GCM and HMAC-SHA256 in the few shapes the formats use.
//!
//! Nonces are the caller's business, and each format says why its own can't repeat.

#[cfg(target_arch = "x86_64")]
mod wide;

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
pub(crate) enum Cipher {
    Aws(LessSafeKey),
    /// What AWS-LC does at half the speed of the processor.
    #[cfg(target_arch = "x86_64")]
    Wide(wide::Cipher),
}

impl Cipher {
    pub(crate) fn new(key: &Key) -> Self {
        #[cfg(target_arch = "x86_64")]
        if wide::is_faster() {
            return Self::Wide(wide::Cipher::new(key));
        }
        Self::aws(key)
    }

    fn aws(key: &Key) -> Self {
        match UnboundKey::new(&AES_256_GCM, key.expose()) {
            Ok(key) => Self::Aws(LessSafeKey::new(key)),
            // Only a key of another length can fail, and `Key` has no other length.
            Err(_) => std::process::abort(),
        }
    }

    /// Encrypts `data` in place and returns the tag.
    pub(crate) fn seal(&self, nonce: [u8; NONCE], aad: &[u8], data: &mut [u8]) -> [u8; TAG] {
        let tag = match self {
            Self::Aws(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(aad), data);
                sealed
                    .ok()
                    .and_then(|tag| tag.as_ref().first_chunk().copied())
            }
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => key.seal(nonce, aad, data),
        };
        match tag {
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
        match self {
            Self::Aws(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(aad), data)
                    .map_err(|_| Forged)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => key.open(nonce, aad, data),
        }
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Lengths around the steps that the wide instructions go in: 16, 32, 128 and 256 bytes.
    const LENGTHS: [usize; 14] = [
        0, 1, 15, 16, 17, 31, 32, 127, 128, 129, 255, 257, 4096, 65_536,
    ];

    #[test]
    fn both_libraries_write_the_same_and_read_and_refuse_each_others() {
        let key = Key::random();
        let (aws, wide) = (Cipher::aws(&key), Cipher::Wide(wide::Cipher::new(&key)));
        for len in LENGTHS {
            let plain: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let (nonce, aad) = ([len as u8; NONCE], &plain[..len.min(40)]);
            let seal = |cipher: &Cipher| {
                let mut data = plain.clone();
                let tag = cipher.seal(nonce, aad, &mut data);
                data.extend(tag);
                data
            };
            let sealed = seal(&aws);
            assert_eq!(sealed, seal(&wide), "{len} bytes");
            for cipher in [&aws, &wide] {
                assert_eq!(cipher.open(nonce, aad, &mut sealed.clone()).unwrap(), plain);
                for at in [0, sealed.len() / 2, sealed.len() - 1] {
                    let mut altered = sealed.clone();
                    altered[at] ^= 1;
                    assert!(cipher.open(nonce, aad, &mut altered).is_err());
                }
                let cut = &mut sealed.clone()[..sealed.len() - 1];
                assert!(cipher.open(nonce, aad, cut).is_err());
                let other = [aad, b"x"].concat();
                assert!(cipher.open(nonce, &other, &mut sealed.clone()).is_err());
            }
        }
    }
}

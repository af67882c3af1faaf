//! AES-256-GCM by `ring`, for processors that compute two blocks in one instruction (VAES) and
//! have no AVX-512: AMD's Zen 3, Intel's Core from the 12th generation on. AWS-LC uses wide AES
//! together with AVX-512 only, on Windows not even then, and goes at half the speed there
//! (`docs/benchmarks.md`).

use std::mem::MaybeUninit;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::{Forged, NONCE, TAG};
use crate::key::Key;

/// More of the stack than a key is made on, in bytes.
const STACK: usize = 8 * 1024;

/// Whether this processor has the wide instructions, and AWS-LC would not use them.
pub(super) fn is_faster() -> bool {
    is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && is_x86_feature_detected!("avx2")
        && (cfg!(windows)
            || !(is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")))
}

/// A key in a place of its own: moving it would leave copies behind.
pub(crate) struct Cipher(Box<Expanded>);

impl Cipher {
    pub(super) fn new(key: &Key) -> Self {
        let made = Self::make(key);
        wipe_stack();
        made
    }

    #[inline(never)]
    fn make(key: &Key) -> Self {
        match UnboundKey::new(&AES_256_GCM, key.expose()) {
            Ok(key) => Self(Box::new(Expanded(MaybeUninit::new(LessSafeKey::new(key))))),
            // Only a key of another length can fail, and `Key` has no other length.
            Err(_) => std::process::abort(),
        }
    }

    /// `None` for more than 64 GiB.
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        data: &mut [u8],
    ) -> Option<[u8; TAG]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .key()
            .seal_in_place_separate_tag(nonce, Aad::from(aad), data)
            .ok()?
            .as_ref()
            .first_chunk()
            .copied()
    }

    pub(super) fn open<'a>(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        data: &'a mut [u8],
    ) -> Result<&'a mut [u8], Forged> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .key()
            .open_in_place(nonce, Aad::from(aad), data)
            .map_err(|_| Forged)
    }
}

/// What the key is expanded to, wiped when it is dropped: `ring` does not. There until then.
struct Expanded(MaybeUninit<LessSafeKey>);

impl Expanded {
    fn key(&self) -> &LessSafeKey {
        // SAFETY: it is made with a key, and only dropping takes that away.
        unsafe { self.0.assume_init_ref() }
    }
}

impl Drop for Expanded {
    fn drop(&mut self) {
        std::slice::from_mut(&mut self.0).zeroize();
    }
}

// Wiping is all that is done when it is dropped.
const _: () = assert!(!std::mem::needs_drop::<LessSafeKey>());

/// Overwrites what making a key left below the caller's frame.
#[inline(never)]
fn wipe_stack() {
    [0_u8; STACK].zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_key_stays_where_it_was() {
        let Cipher(made) = Cipher::new(&Key::random());
        let mut place = MaybeUninit::new(*made);
        // SAFETY: it was made a line ago and is not used again; wiping it wrote each of its bytes.
        let left = unsafe {
            place.assume_init_drop();
            std::slice::from_raw_parts(place.as_ptr().cast::<u8>(), size_of::<Expanded>())
        };
        assert!(left.iter().all(|byte| *byte == 0));
    }
}

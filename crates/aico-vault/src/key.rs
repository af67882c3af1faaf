//! [`Key`]: 32 secret bytes in locked memory.

use aws_lc_rs::{constant_time, rand};

use crate::memory::Locked;

/// A 256-bit key. It lies in locked memory, is wiped when dropped, and has neither `Debug` nor
/// `Clone` nor a serialised form, so that it can't reach a log or a file by accident.
pub struct Key(Locked);

impl Key {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// A key from the system's random numbers.
    #[must_use]
    pub fn random() -> Self {
        Self::fill_with(random_bytes)
    }

    /// A key with these bytes. The caller wipes their own copy.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self::fill_with(|key| key.copy_from_slice(bytes))
    }

    /// A key whose bytes `fill` writes, straight into locked memory.
    pub(crate) fn fill_with(fill: impl FnOnce(&mut [u8])) -> Self {
        let mut memory = Locked::zeroed(Self::LEN);
        fill(memory.bytes_mut());
        Self(memory)
    }

    /// As [`Key::fill_with`], where filling can fail.
    pub(crate) fn try_fill_with<E>(
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut memory = Locked::zeroed(Self::LEN);
        fill(memory.bytes_mut())?;
        Ok(Self(memory))
    }

    /// The bytes, for the one call that needs them. Don't keep a copy.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LEN] {
        match self.0.bytes().first_chunk() {
            Some(bytes) => bytes,
            None => unreachable!("a key is 32 bytes long"),
        }
    }
}

impl PartialEq for Key {
    /// Takes the same time wherever the keys differ.
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.expose(), other.expose()).is_ok()
    }
}

impl Eq for Key {}

/// Fills `bytes` with random numbers from the system.
pub(crate) fn random_bytes(bytes: &mut [u8]) {
    if rand::fill(bytes).is_err() {
        // Without random numbers every key and nonce from here on would be guessable: there is
        // nothing to go on with, and unwinding could be caught and gone on from.
        std::process::abort();
    }
}

/// `N` random bytes that aren't secret: a salt, an id, a nonce.
pub(crate) fn random_array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_by_content_and_random_ones_differ() {
        assert!(Key::from_bytes(&[3; 32]) == Key::from_bytes(&[3; 32]));
        assert!(Key::from_bytes(&[3; 32]) != Key::from_bytes(&[4; 32]));
        assert!(Key::random() != Key::random());
    }
}

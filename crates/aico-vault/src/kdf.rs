//! Argon2id: from a password to the key that opens a wrap.

use argon2::{Algorithm, Argon2, Params, Version};

use crate::key::Key;
use crate::password::Password;

/// The cost of Argon2id. What a header asks for is checked against bounds before any memory is
/// taken: a damaged or planted header can neither exhaust the machine nor make guessing cheap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// A cost outside the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "password hashing of {memory_kib} KiB, {passes} passes and {lanes} lanes is outside of what \
     AICO accepts (19456 KiB to 1 GiB, 2 to 16 passes, 1 to 16 lanes)"
)]
pub struct KdfOutOfBounds {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfCost {
    /// What OWASP names as the least for Argon2id: 19 MiB, two passes, one lane. For tests.
    #[must_use]
    pub const fn minimum() -> Self {
        Self {
            memory_kib: 19 * 1024,
            passes: 2,
            lanes: 1,
        }
    }

    /// A cost inside the bounds.
    ///
    /// # Errors
    /// The figures, when they are outside.
    pub const fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, KdfOutOfBounds> {
        let floor = Self::minimum();
        let inside = memory_kib >= floor.memory_kib
            && memory_kib <= 1024 * 1024
            && passes >= floor.passes
            && passes <= 16
            && lanes >= floor.lanes
            && lanes <= 16;
        if inside {
            Ok(Self {
                memory_kib,
                passes,
                lanes,
            })
        } else {
            Err(KdfOutOfBounds {
                memory_kib,
                passes,
                lanes,
            })
        }
    }

    /// Memory in KiB.
    #[must_use]
    pub const fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// Passes over the memory.
    #[must_use]
    pub const fn passes(self) -> u32 {
        self.passes
    }

    /// Lanes.
    #[must_use]
    pub const fn lanes(self) -> u32 {
        self.lanes
    }

    /// Hashes a password.
    pub(crate) fn hash(self, password: &Password, salt: &[u8; 32]) -> Result<Key, OutOfMemory> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(Key::LEN))
            .map_err(|_| OutOfMemory)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Key::try_fill_with(|out| {
            argon2
                .hash_password_into(password.expose(), salt, out)
                .map_err(|_| OutOfMemory)
        })
    }
}

impl Default for KdfCost {
    /// 64 MiB, three passes, four lanes.
    fn default() -> Self {
        Self {
            memory_kib: 64 * 1024,
            passes: 3,
            lanes: 4,
        }
    }
}

/// The machine has not the memory that the cost asks for.
#[derive(Debug)]
pub(crate) struct OutOfMemory;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_beyond_either_bound_are_refused() {
        let mib = 1024;
        for (memory, passes, lanes) in [
            (4096 * mib, 3, 4),
            (u32::MAX, 3, 4),
            (64 * mib, 1_000_000_000, 4),
            (64 * mib, 3, 1_000_000),
            (19 * mib - 1, 3, 4),
            (64 * mib, 1, 4),
            (64 * mib, 3, 0),
            (0, 0, 0),
        ] {
            assert!(
                KdfCost::new(memory, passes, lanes).is_err(),
                "{memory} {passes} {lanes}"
            );
        }
        assert!(KdfCost::new(64 * mib, 3, 4).is_ok_and(|cost| cost == KdfCost::default()));
        assert!(KdfCost::new(19 * mib, 2, 1).is_ok_and(|cost| cost == KdfCost::minimum()));
    }
}

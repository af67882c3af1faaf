//! The text of a kept prompt, inside its encrypted file (`docs/formats/prompt-cache.md`).

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// Version of the text.
const VERSION: u16 = 1;
/// Longest key of a conversation.
pub(super) const LONGEST_KEY: usize = 64;
/// Most tokens that a head may tell of: memory is taken for them.
const MOST_TOKENS: u32 = 1 << 20;

/// What a state was computed by. Another one can't use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a model file with this SHA-256, in a context of so many tokens for each of so many
    /// sequences, computed by this library on this kind of processor.
    #[must_use]
    pub fn new(model: &[u8; 32], context: u32, sequences: u32, library: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"aico/prompt-cache/1\0");
        hasher.update(model);
        hasher.update(context.to_be_bytes());
        hasher.update(sequences.to_be_bytes());
        for text in [library, std::env::consts::ARCH] {
            hasher.update(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            hasher.update(text);
        }
        Self(hasher.finalize().into())
    }
}

/// What stands before the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) fingerprint: Fingerprint,
    /// Of the conversation.
    pub(super) key: Vec<u8>,
    /// Four bytes each, big-endian.
    pub(super) tokens: Vec<u8>,
    /// Bytes of the state.
    pub(super) state: u64,
}

impl Head {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.fingerprint.0);
        bytes.push(u8::try_from(self.key.len()).map_err(too_long)?);
        bytes.extend(&self.key);
        let tokens = u32::try_from(self.tokens.len() / 4).map_err(too_long)?;
        bytes.extend(tokens.to_be_bytes());
        bytes.extend(self.state.to_be_bytes());
        bytes.extend(&self.tokens);
        to.write_all(&bytes)
    }

    /// `None`: it is none, or of another version.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        if u16::from_be_bytes(array(from)?) != VERSION {
            return Ok(None);
        }
        let fingerprint = Fingerprint(array(from)?);
        let [length] = array(from)?;
        if usize::from(length) > LONGEST_KEY {
            return Ok(None);
        }
        let mut key = vec![0; usize::from(length)];
        from.read_exact(&mut key)?;
        let tokens = u32::from_be_bytes(array(from)?);
        let state = u64::from_be_bytes(array(from)?);
        if tokens > MOST_TOKENS {
            return Ok(None);
        }
        let mut bytes = vec![0; tokens as usize * 4];
        from.read_exact(&mut bytes)?;
        Ok(Some(Self {
            fingerprint,
            key,
            tokens: bytes,
            state,
        }))
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        2 + 32 + 1 + self.key.len() + 4 + 8 + self.tokens.len()
    }
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            fingerprint: Fingerprint::new(&[7; 32], 4096, 4, "library 1"),
            key: vec![1; 16],
            tokens: vec![0, 0, 0, 5, 0, 0, 1, 0],
            state: 9,
        }
    }

    #[test]
    fn a_head_is_read_as_it_was_written_and_every_cut_is_noticed() {
        let mut bytes = Vec::new();
        head().write(&mut bytes).unwrap();
        assert_eq!(bytes.len(), head().len());
        assert_eq!(Head::read(&mut bytes.as_slice()).unwrap(), Some(head()));
        for cut in 0..bytes.len() {
            assert!(Head::read(&mut &bytes[..cut]).is_err(), "{cut}");
        }
        bytes[1] = 2;
        assert_eq!(Head::read(&mut bytes.as_slice()).unwrap(), None);
    }

    #[test]
    fn memory_is_not_taken_for_what_a_head_claims() {
        let mut bytes = Vec::new();
        head().write(&mut bytes).unwrap();
        let count = 2 + 32 + 1 + 16;
        bytes[count..count + 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(Head::read(&mut bytes.as_slice()).unwrap(), None);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_documented_fingerprint_is_ours() {
        let document = include_str!("../../../../docs/formats/prompt-cache.md");
        let ours = Fingerprint::new(&[7; 32], 4096, 4, "llama-cpp-2 0.1.160");
        assert!(document.contains(&hex::encode(ours.0)));
    }

    #[test]
    fn whatever_changes_the_state_changes_the_fingerprint() {
        let of = Fingerprint::new;
        let all = [
            of(&[7; 32], 4096, 4, "library 1"),
            of(&[8; 32], 4096, 4, "library 1"),
            of(&[7; 32], 4095, 4, "library 1"),
            of(&[7; 32], 4096, 3, "library 1"),
            of(&[7; 32], 4096, 4, "library 2"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "{at}");
        }
    }
}

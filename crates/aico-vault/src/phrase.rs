//! The recovery phrase, and the passphrase that is offered as a password.
//!
//! Both draw on the English BIP-39 list of 2048 words. That is 11 bits a word exactly, so taking
//! bits from the random numbers favours no word.

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

use crate::key::random_bytes;
use crate::memory::Locked;

/// Words in a recovery phrase.
const WORDS: usize = 12;
/// Bytes of entropy in a recovery phrase: 128 bits.
const ENTROPY: usize = 16;

/// The recovery phrase: twelve words of BIP-39 in English, 128 random bits with a checksum.
///
/// Held in locked memory, wiped when dropped, without `Debug` or `Clone`.
pub struct RecoveryPhrase(Locked);

/// Why a text is not a recovery phrase. Never names a word that was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// Not twelve words.
    #[error("a recovery phrase has 12 words, not {0}")]
    Count(usize),
    /// A word that isn't in the list; counted from 1.
    #[error("word {0} is not in the list of words; check its spelling")]
    Unknown(usize),
    /// All words are in the list, but they don't belong together.
    #[error("the words do not belong together; check their order and each word")]
    Checksum,
}

impl RecoveryPhrase {
    /// A new phrase from the system's random numbers.
    #[must_use]
    pub fn random() -> Self {
        let mut memory = Locked::zeroed(ENTROPY);
        random_bytes(memory.bytes_mut());
        Self(memory)
    }

    /// Reads a phrase as a person types it: any case, any white space between the words.
    ///
    /// # Errors
    /// What is wrong with it, by position.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        let words: Vec<&str> = text.split_whitespace().take(WORDS * 3).collect();
        if words.len() != WORDS {
            return Err(PhraseError::Count(words.len()));
        }
        let joined = Zeroizing::new(words.join(" ").to_lowercase());
        let mnemonic =
            Mnemonic::parse_in_normalized(Language::English, &joined).map_err(|e| match e {
                bip39::Error::UnknownWord(index) => PhraseError::Unknown(index + 1),
                bip39::Error::BadWordCount(count) => PhraseError::Count(count),
                _ => PhraseError::Checksum,
            })?;
        let (entropy, _) = mnemonic.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        let mut memory = Locked::zeroed(ENTROPY);
        memory.bytes_mut().copy_from_slice(&entropy[..ENTROPY]);
        Ok(Self(memory))
    }

    /// A second copy in locked memory, for a thread that opens something with it. Not `Clone`:
    /// each copy of a secret is made on purpose.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut memory = Locked::zeroed(ENTROPY);
        memory.bytes_mut().copy_from_slice(self.expose());
        Self(memory)
    }

    /// The twelve words.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        match Mnemonic::from_entropy_in(Language::English, self.expose()) {
            Ok(mnemonic) => mnemonic.words().collect(),
            Err(_) => unreachable!("16 bytes always make 12 words"),
        }
    }

    /// The 128 bits.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Five random words as a password to offer: 55 bits, which Argon2id makes as dear to guess as
/// about 75 bits of a fast hash.
#[must_use]
pub fn suggest_passphrase() -> Zeroizing<String> {
    let list = Language::English.word_list();
    let mut bytes = Zeroizing::new([0_u8; 8]);
    random_bytes(bytes.as_mut());
    let mut bits = u64::from_be_bytes(*bytes);
    let mut phrase = Zeroizing::new(String::with_capacity(64));
    for number in 0..5 {
        if number > 0 {
            phrase.push(' ');
        }
        phrase.push_str(list[(bits % 2048) as usize]);
        bits /= 2048;
    }
    phrase
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_vector_of_bip39_reads_and_writes() {
        let text = "legal winner thank year wave sausage worth useful legal winner thank yellow";
        let phrase = RecoveryPhrase::parse(text).unwrap();
        assert_eq!(phrase.expose(), [0x7f; 16]);
        assert_eq!(phrase.words().join(" "), text);
    }

    #[test]
    fn typing_is_forgiven_but_mistakes_are_found() {
        let text =
            "  Legal WINNER thank\tyear wave sausage\n worth useful legal winner thank yellow ";
        assert_eq!(RecoveryPhrase::parse(text).unwrap().expose(), [0x7f; 16]);
        let cases = [
            ("legal winner thank", PhraseError::Count(3)),
            (
                "legal winner thank year wave sausge worth useful legal winner thank yellow",
                PhraseError::Unknown(6),
            ),
            (
                "winner legal thank year wave sausage worth useful legal winner thank yellow",
                PhraseError::Checksum,
            ),
        ];
        for (text, error) in cases {
            assert_eq!(RecoveryPhrase::parse(text).err(), Some(error));
        }
    }

    #[test]
    fn random_phrases_survive_being_written_down() {
        for _ in 0..50 {
            let phrase = RecoveryPhrase::random();
            let again = RecoveryPhrase::parse(&phrase.words().join(" ")).unwrap();
            assert_eq!(phrase.expose(), again.expose());
        }
    }

    #[test]
    fn the_offered_passphrase_is_five_words_and_good_enough() {
        for _ in 0..50 {
            let phrase = suggest_passphrase();
            assert_eq!(phrase.split(' ').count(), 5);
            let password = crate::Password::new(&phrase).unwrap();
            assert_eq!(password.check_new(&[]), Ok(()), "{}", *phrase);
        }
    }
}

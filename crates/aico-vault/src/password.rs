//! Passwords: bounded, normalised, held in locked memory; and what makes a new one good enough.

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::memory::Locked;

/// Longest input in bytes, before normalisation.
const MAX_BYTES: usize = 4096;
/// Longest password in characters, after normalisation.
const MAX_CHARS: usize = 512;
/// Shortest new password in characters.
const MIN_NEW_CHARS: usize = 12;

/// A password, normalised to NFKC as NIST SP 800-63B has it, so that the same password typed on
/// another keyboard or system unlocks. Nothing is trimmed and case counts.
///
/// It lies in locked memory, is wiped when dropped, and has neither `Debug` nor `Clone`.
pub struct Password(Locked);

/// Why a text can't be a password at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Nothing was given.
    #[error("the password is empty")]
    Empty,
    /// More than 512 characters, or more than 4 KiB.
    #[error("the password is too long; at most 512 characters")]
    TooLong,
    /// There is a NUL character in it.
    #[error("the password has a NUL character in it")]
    Nul,
    /// The bytes aren't UTF-8.
    #[error("the password is not UTF-8 text")]
    NotUtf8,
}

/// Why a new password is refused, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Shorter than 12 characters.
    #[error("the password has {chars} characters; use at least 12, five random words for example")]
    TooShort {
        /// How many characters it has.
        chars: usize,
    },
    /// It is made of the person's name.
    #[error("the password is mostly a name that others know; use five random words, for example")]
    Name,
    /// It is a common one or follows a common pattern.
    #[error(
        "the password is one of those that are guessed first; use five random words, for example"
    )]
    Common,
}

impl Password {
    /// A password from text.
    ///
    /// # Errors
    /// When it is empty, too long, or has a NUL in it.
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        if text.contains('\0') {
            return Err(PasswordError::Nul);
        }
        // Two passes, so that the normalised text is only ever in locked memory.
        let (chars, bytes) = text.nfkc().fold((0, 0), |(chars, bytes), c| {
            (chars + 1, bytes + c.len_utf8())
        });
        if chars > MAX_CHARS {
            return Err(PasswordError::TooLong);
        }
        let mut memory = Locked::zeroed(bytes);
        let mut rest = memory.bytes_mut();
        for c in text.nfkc() {
            let (here, after) = rest.split_at_mut(c.len_utf8());
            c.encode_utf8(here);
            rest = after;
        }
        Ok(Self(memory))
    }

    /// A password from a file or from standard input: one newline at the end is taken off.
    ///
    /// # Errors
    /// As [`Password::new`], and when the bytes are not UTF-8.
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Result<Self, PasswordError> {
        let bytes = bytes
            .strip_suffix(b"\n")
            .map_or(&bytes[..], |b| b.strip_suffix(b"\r").unwrap_or(b));
        Self::new(std::str::from_utf8(bytes).map_err(|_| PasswordError::NotUtf8)?)
    }

    /// A second copy in locked memory, for a thread that turns it into a key. Not `Clone`: each
    /// copy of a secret is made on purpose.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut memory = Locked::zeroed(self.expose().len());
        memory.bytes_mut().copy_from_slice(self.expose());
        Self(memory)
    }

    /// Whether this is good enough as a new password. `also` are names that others know of this
    /// person, such as their own.
    ///
    /// # Errors
    /// What is wrong with it, with advice.
    pub fn check_new(&self, also: &[&str]) -> Result<(), WeakPassword> {
        let text = self.text();
        let chars = text.chars().count();
        if chars < MIN_NEW_CHARS {
            return Err(WeakPassword::TooShort { chars });
        }
        let mut rest = Zeroizing::new(text.to_lowercase());
        let names: Vec<String> = also
            .iter()
            .flat_map(|name| std::iter::once(*name).chain(name.split_whitespace()))
            .map(|name| name.nfkc().collect::<String>().to_lowercase())
            .filter(|name| name.chars().count() >= 3)
            .collect();
        for name in &names {
            *rest = rest.replace(name.as_str(), "");
        }
        let left = rest.chars().count();
        if left < chars && left < 8 {
            return Err(WeakPassword::Name);
        }
        let mut inputs: Vec<&str> = names.iter().map(String::as_str).collect();
        inputs.push("aico");
        if zxcvbn::zxcvbn(text, &inputs).score() < zxcvbn::Score::Three {
            return Err(WeakPassword::Common);
        }
        Ok(())
    }

    /// The normalised bytes.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.bytes()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.expose()).unwrap_or_default()
    }
}

impl PartialEq for Password {
    /// In constant time for passwords of one length.
    fn eq(&self, other: &Self) -> bool {
        crate::aead::same(self.expose(), other.expose())
    }
}

impl Eq for Password {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<PasswordError> {
        Password::new(text).err()
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_computed() {
        assert_eq!(refusal(""), Some(PasswordError::Empty));
        assert_eq!(refusal("x"), None);
        assert_eq!(refusal(&"x".repeat(512)), None);
        assert_eq!(refusal(&"x".repeat(513)), Some(PasswordError::TooLong));
        assert_eq!(refusal(&"x".repeat(1 << 20)), Some(PasswordError::TooLong));
        assert_eq!(refusal(&"\u{1F511}".repeat(512)), None);
        // One character that normalises to eighteen.
        assert_eq!(
            refusal(&"\u{FDFA}".repeat(29)),
            Some(PasswordError::TooLong)
        );
        assert_eq!(refusal("with a \0 in it"), Some(PasswordError::Nul));
    }

    #[test]
    fn composed_and_decomposed_forms_are_one_password() {
        let composed = Password::new("z\u{fc}rich b\u{e4}r \u{ac00}").unwrap();
        let decomposed = Password::new("zu\u{308}rich ba\u{308}r \u{1100}\u{1161}").unwrap();
        let wide = Password::new("\u{ff5a}\u{fc}rich b\u{e4}r \u{ac00}").unwrap();
        assert_eq!(composed.expose(), decomposed.expose());
        assert_eq!(composed.expose(), wide.expose());
        assert_ne!(
            composed.expose(),
            Password::new("zurich bar \u{ac00}").unwrap().expose()
        );
    }

    #[test]
    fn one_newline_of_a_file_is_not_part_of_the_password() {
        let read = |bytes: &[u8]| Password::from_bytes(Zeroizing::new(bytes.to_vec()));
        for bytes in [&b"secret"[..], b"secret\n", b"secret\r\n"] {
            assert_eq!(read(bytes).unwrap().expose(), b"secret");
        }
        assert_eq!(read(b"secret\n\n").unwrap().expose(), b"secret\n");
        assert_eq!(read(b" secret \r").unwrap().expose(), b" secret \r");
        assert_eq!(read(b"\n").err(), Some(PasswordError::Empty));
        assert_eq!(read(b"\xff\xfe").err(), Some(PasswordError::NotUtf8));
    }

    #[test]
    fn new_passwords_that_are_guessed_first_are_refused() {
        let check = |text: &str| {
            Password::new(text)
                .unwrap()
                .check_new(&["Anna Maria Keller"])
        };
        assert_eq!(check("short"), Err(WeakPassword::TooShort { chars: 5 }));
        assert_eq!(check("passwordpassword"), Err(WeakPassword::Common));
        assert_eq!(check("123456789012"), Err(WeakPassword::Common));
        assert_eq!(check("aaaaaaaaaaaaaaaa"), Err(WeakPassword::Common));
        assert_eq!(check("qwertyuiopasdf"), Err(WeakPassword::Common));
        assert_eq!(check("annamariakeller"), Err(WeakPassword::Name));
        assert_eq!(check("Keller-Anna-1990"), Err(WeakPassword::Name));
        assert_eq!(check("velvet harbour moss lantern"), Ok(()));
        assert_eq!(check("rT7#qLw9!zKp2"), Ok(()));
    }

    #[test]
    fn a_password_as_long_as_allowed_is_checked_too() {
        let long: String = (0..512_u32)
            .map(|i| char::from(b'!' + (i * 37 % 90) as u8))
            .collect();
        assert_eq!(Password::new(&long).unwrap().check_new(&[]), Ok(()));
    }
}

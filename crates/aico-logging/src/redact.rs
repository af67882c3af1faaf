//! The second fence against secrets and chat text in the log.
//!
//! The first one is that types which carry them can't be formatted. This one looks at the names
//! of fields, cuts what is long, and trusts other people's crates with little: of a crate that is
//! not ours only warnings and errors are taken, without their fields.

/// What stands in place of a value that is not for the log.
pub const WITHHELD: &str = "[withheld]";

/// Bytes of one value or message that are kept.
pub const MAX_TEXT: usize = 2048;

/// Bytes of a message of somebody else's crate that are kept.
pub const MAX_FOREIGN_TEXT: usize = 256;

/// Parts of a field's name that mean its value is not for the log.
const DENIED: &[&str] = &[
    "answer",
    "auth",
    "authorization",
    "body",
    "code",
    "content",
    "cookie",
    "credential",
    "key",
    "keys",
    "name",
    "names",
    "passphrase",
    "password",
    "phrase",
    "prompt",
    "query",
    "question",
    "reply",
    "secret",
    "seed",
    "text",
    "title",
    "token",
    "word",
    "words",
];

/// Fields that the rule above would catch and that are known to be harmless.
const ALLOWED: &[&str] = &["exit_code", "status_code", "close_code", "error_code"];

/// Whether the value of a field of this name may be written.
#[must_use]
pub fn field_is_allowed(field: &str) -> bool {
    ALLOWED.contains(&field)
        || !field.split(['_', '.', '-']).any(|part| {
            DENIED
                .iter()
                .any(|denied| part.eq_ignore_ascii_case(denied))
        })
}

/// Whether a module is ours. Others are held to warnings.
#[must_use]
pub fn is_ours(target: &str) -> bool {
    target == "aico" || target.starts_with("aico_") || target.starts_with("aico::")
}

/// Cuts a text to at most `limit` bytes, at a character.
#[must_use]
pub fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_denied_wherever_they_stand() {
        for field in [
            "password",
            "new_password",
            "api_token",
            "person_name",
            "Key",
            "chat.text",
        ] {
            assert!(!field_is_allowed(field), "{field}");
        }
        for field in [
            "port",
            "person",
            "tokens",
            "keyring_version",
            "status_code",
            "error",
        ] {
            assert!(field_is_allowed(field), "{field}");
        }
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("äöü".to_owned(), 3), "ä…");
        assert_eq!(cut("äöü".to_owned(), 6), "äöü");
    }

    #[test]
    fn only_our_crates_are_ours() {
        assert!(is_ours("aico_gateway::ws") && is_ours("aico") && is_ours("aico::serve"));
        assert!(!is_ours("aicorn") && !is_ours("hyper::proto"));
    }
}

//! Asking a person, and reading passwords from where they may come.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use aico_vault::Password;
use zeroize::Zeroizing;

use crate::cli::PasswordFrom;
use crate::exit::{Exit, Failure, sentence};
use crate::unfinished;

/// Bytes of a password file that are looked at: more than any password has.
const MOST: u64 = 8 * 1024;

/// From the file, from standard input, or asked without showing what is typed. As text: for the
/// daemon, which checks it.
pub(crate) fn raw_password(
    from: &PasswordFrom,
    question: &str,
) -> Result<Zeroizing<String>, Failure> {
    let bytes = if let Some(file) = &from.password_file {
        read_file(file)?
    } else if from.password_stdin {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        std::io::stdin()
            .lock()
            .take(MOST)
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::new(Exit::Usage, "Standard input can't be read.").because(&e))?;
        bytes
    } else {
        return ask(question, from.options);
    };
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::new(Exit::Refused, "The password is not UTF-8 text."))?;
    // One line break at the end belongs to the file, not to the password.
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(
        text.strip_suffix('\r').unwrap_or(text).to_owned(),
    ))
}

/// From a file that only its owner should be able to read.
pub(crate) fn password_file(path: &Path) -> Result<Password, Failure> {
    Password::from_bytes(read_file(path)?).map_err(|error| refused(&error))
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(
            Exit::Usage,
            format!("The password file {} can't be read.", path.display()),
        )
        .because(&error)
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let about = file.metadata().map_err(failed)?;
        if about.is_file() && about.mode() & 0o077 != 0 {
            crate::style::warning(&format!(
                "others can read {}; type: chmod 600 {}",
                path.display(),
                path.display()
            ));
        }
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    file.take(MOST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// `options` are those of the command that answer this; there may be none.
fn ask(question: &str, options: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        let what_to_do = match options {
            "" => "Run it in a terminal, where the password can be typed.".to_owned(),
            options => format!("Use {options}."),
        };
        return Err(
            Failure::new(Exit::Usage, "A password is needed and nobody can be asked.")
                .do_this(what_to_do),
        );
    }
    let asking = unfinished::asking();
    let typed = rpassword::prompt_password(format!("{question}: "));
    drop(asking);
    match typed {
        Ok(text) => Ok(Zeroizing::new(text)),
        // Ctrl-C, and the terminal is as it was before.
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => unfinished::end(2),
        Err(error) => Err(Failure::new(Exit::Usage, "The password can't be read.").because(&error)),
    }
}

/// Standard input is read once: for the text, or for the password.
pub(crate) fn one_of_both(text_is_piped: bool, from: &PasswordFrom) -> Result<(), Failure> {
    if text_is_piped && from.password_stdin {
        return Err(Failure::new(
            Exit::Usage,
            "Standard input can't be both what is read and the password.",
        )
        .do_this("Give the password in a file: --password-file FILE"));
    }
    Ok(())
}

/// A secret of a service, as it was given by it: asked for without showing what is typed, or one
/// line on standard input.
pub(crate) fn secret(question: &str) -> Result<Zeroizing<String>, Failure> {
    if std::io::stdin().is_terminal() {
        return ask(question, "");
    }
    let from = PasswordFrom {
        password_stdin: true,
        ..PasswordFrom::default()
    };
    raw_password(&from, question)
}

/// A new password, good enough; asked twice, with a generated one offered.
pub(crate) fn new_password(from: &PasswordFrom, name: &str) -> Result<Password, Failure> {
    let text = new_raw_password(from, name)?;
    Password::new(&text).map_err(|error| refused(&error))
}

/// The same as text, for the daemon.
pub(crate) fn new_raw_password(
    from: &PasswordFrom,
    name: &str,
) -> Result<Zeroizing<String>, Failure> {
    if from.password_file.is_some() || from.password_stdin {
        let text = raw_password(from, "")?;
        check(&text, name)?;
        return Ok(text);
    }
    let offered = aico_vault::suggest_passphrase();
    crate::style::note(&format!(
        "At least 12 characters. Five random words are easy to remember; for example:\n\n    {}\n",
        crate::style::strong(&offered)
    ));
    loop {
        let first = ask("New password (not shown)", from.options)?;
        if let Err(failure) = check(&first, name) {
            failure.report();
            continue;
        }
        if *first == *ask("The same once more", from.options)? {
            return Ok(first);
        }
        crate::style::note("These were not the same. Once more, please.");
    }
}

fn check(text: &str, name: &str) -> Result<(), Failure> {
    // Of one line break at the end nobody knows any more; with any other nobody could type it.
    if text.contains(char::is_control) {
        return Err(Failure::new(
            Exit::Refused,
            "A new password is one line: this one has a line break or another control character.",
        )
        .do_this("Leave only the password in the file, without further lines or blank ones."));
    }
    let password = Password::new(text).map_err(|error| refused(&error))?;
    password.check_new(&[name]).map_err(|error| refused(&error))
}

fn refused(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Refused, sentence(&error.to_string()))
}

/// Something to say that comes on standard input.
pub(crate) fn piped_text() -> Result<String, Failure> {
    let most = aico_companion::LONGEST_MESSAGE;
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::new(Exit::Usage, "Standard input can't be read.").because(&e))?;
    if bytes.len() > most {
        return Err(
            Failure::new(Exit::Refused, "This message is too long.").do_this(format!(
                "Send less at once: the longest message has {} KiB.",
                most / 1024
            )),
        );
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(
            Exit::Refused,
            "What came on standard input is not UTF-8 text.",
        )
    })
}

/// Whether a person agrees; anything but a yes is none.
pub(crate) fn agrees(question: &str) -> Result<bool, Failure> {
    let answer = line(&format!("{question} [y/N]"))?.to_lowercase();
    Ok(answer == "y" || answer == "yes")
}

/// One line of a person, trimmed.
pub(crate) fn line(question: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            "An answer is needed and nobody can be asked.",
        ));
    }
    let mut err = std::io::stderr().lock();
    let mut text = String::new();
    write!(err, "{question} ")
        .and_then(|()| err.flush())
        .and_then(|()| std::io::stdin().read_line(&mut text))
        .map_err(|e| Failure::new(Exit::Usage, "The answer can't be read.").because(&e))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_password_is_one_that_can_be_typed() {
        let good = "velvet harbour moss lantern quill";
        assert!(check(good, "Mia").is_ok());
        for end in ["\n", "\r", "\nanother line", "\t", "\u{7f}", "\u{85}"] {
            let failure = check(&format!("{good}{end}"), "Mia").unwrap_err();
            assert_eq!(failure.exit, Exit::Refused, "{end:?}");
            assert!(failure.what.contains("line break"), "{end:?}");
        }
    }
}

//! `aico file`: encrypted files of one's own, wherever they lie.
//!
//! The text never goes through the daemon: it tells the key of the one file that is worked on,
//! and the work is done here.

mod keys;

use std::fs::{self, File as PlainFile};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aico_vault::append::Tail;
use aico_vault::file::{Claim, create_beside};
use aico_vault::fs::{Filesystem as _, FsFile, OsFilesystem};
use aico_vault::{EncryptedFile, EncryptedFileError, FileError, FileKey, Purpose};
use uuid::Uuid;
use zeroize::Zeroizing;

use self::keys::Keys;
use super::{Context, setup};
use crate::cli::{File, FileCopy};
use crate::client::Daemon;
use crate::exit::{Exit, Failure, chain, sentence};
use crate::unfinished::{Sealing, Unfinished};
use crate::{prompt, style, unfinished};

/// What an encrypted file's name ends with, when nothing else is said.
const ENDING: &str = ".aico";
/// Bytes that are moved at once.
const PIECE: usize = 256 * 1024;

pub(super) async fn run(context: &Context, what: &File) -> Result<(), Failure> {
    match what {
        File::Encrypt(copy) => encrypt(context, copy).await,
        File::Decrypt(copy) => decrypt(context, copy).await,
        File::Cat { file, id, password } => {
            let keys = Keys::find(context, password).await?;
            let done = print(&keys, file, *id).await;
            keys.close().await.and(done)
        }
        File::Verify { files, password } => {
            let keys = Keys::find(context, password).await?;
            let done = verify(&keys, files).await;
            keys.close().await.and(done)
        }
    }
}

/// The key of a new file of the person's that this daemon takes its caller for.
pub(super) async fn new_key(daemon: &Daemon) -> Result<FileKey, Failure> {
    keys::of_daemon(daemon, Uuid::new_v4(), None).await
}

async fn encrypt(context: &Context, copy: &FileCopy) -> Result<(), Failure> {
    let piped = copy.file == Path::new("-");
    prompt::one_of_both(piped, &copy.password)?;
    let out = match &copy.out {
        Some(out) => out.clone(),
        None if piped => {
            return Err(Failure::new(Exit::Usage, "Where to write is not said.")
                .do_this("aico file encrypt - --out FILE"));
        }
        None => with_ending(&copy.file),
    };
    refuse_there(&out, copy.force)?;
    let mut from: Box<dyn Read> = if piped {
        Box::new(std::io::stdin())
    } else {
        Box::new(open_plain(&copy.file)?)
    };
    let keys = Keys::find(context, &copy.password).await?;
    let id = copy.id.unwrap_or_else(Uuid::new_v4);
    let done = match keys.get(id, None).await {
        Ok(key) => {
            let made = match copy.force {
                true => EncryptedFile::create(&key, &out),
                false => EncryptedFile::create_new(&key, &out),
            };
            made.map_err(Failure::from).and_then(|file| {
                let mut file = Sealing::new(file);
                move_all(&mut from, &copy.file, &mut file, &out)?;
                if piped {
                    unfinished::hear_signals_first();
                }
                Ok(file.finish()?)
            })
        }
        Err(failure) => Err(failure),
    };
    keys.close().await.and(done)?;
    style::line(&out.display().to_string());
    Ok(())
}

async fn decrypt(context: &Context, copy: &FileCopy) -> Result<(), Failure> {
    let out = match &copy.out {
        Some(out) => out.clone(),
        None => without_ending(&copy.file)?,
    };
    refuse_there(&out, copy.force)?;
    let keys = Keys::find(context, &copy.password).await?;
    let opened = open(&keys, &copy.file, copy.id).await;
    keys.close().await?;
    let mut file = opened?;
    if is_same(&copy.file, &out) {
        return Err(
            Failure::new(Exit::Refused, "A file can't be decrypted into itself.")
                .do_this("Choose another name: --out FILE"),
        );
    }
    // It is written only now that all of it was checked, beside its place: a part of it is never
    // there. No link is followed, and nobody else can read it from its first byte on. Its lock tells
    // the next one for the same place that it is not left from a kill.
    let part = Arc::new(OnceLock::<PathBuf>::new());
    let made = Arc::clone(&part);
    let unfinished = Unfinished::new(move || {
        if let Some(made) = made.get() {
            let _ = fs::remove_file(made);
        }
    });
    let (making, plain) = unfinished.step(|| {
        let (making, plain) = create_beside(&OsFilesystem, &out)?;
        let _ = part.set(making.clone());
        Ok::<_, Failure>((making, plain))
    })?;
    let mut plain = Plain { file: plain, at: 0 };
    move_all(&mut file, &copy.file, &mut plain, &out)?;
    plain
        .file
        .sync()
        .map_err(|error| cant(&out, "written", &error))?;
    unfinished
        .finish(|| match copy.force {
            true => OsFilesystem.rename(&making, &out),
            false => OsFilesystem.rename_new(&making, &out),
        })
        .map_err(|error| cant(&out, "made", &error))?;
    setup::sync_folder_of(&out).map_err(|error| cant(&out, "written", &error))?;
    style::line(&out.display().to_string());
    Ok(())
}

/// A file that is written from its beginning on.
struct Plain {
    file: Box<dyn FsFile>,
    at: u64,
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn print(keys: &Keys, path: &Path, id: Option<Uuid>) -> Result<(), Failure> {
    let mut file = open(keys, path, id).await?;
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    let mut out = std::io::stdout().lock();
    loop {
        let count = file.read(&mut piece).map_err(|error| told(path, error))?;
        let written = match count {
            0 => out.flush(),
            _ => out.write_all(&piece[..count]),
        };
        match written {
            Ok(()) if count == 0 => return Ok(()),
            Ok(()) => {}
            // That nobody reads any more (`aico file cat … | head`) is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(cant(Path::new("standard output"), "written", &error)),
        }
    }
}

async fn verify(keys: &Keys, files: &[PathBuf]) -> Result<(), Failure> {
    let mut wrong = None;
    for path in files {
        match check(keys, path).await {
            Ok(line) => style::line(&line),
            Err(failure) => {
                if let Some(before) = wrong.replace(failure) {
                    before.report();
                }
            }
        }
    }
    wrong.map_or(Ok(()), Err)
}

async fn check(keys: &Keys, path: &Path) -> Result<String, Failure> {
    let mut file = open(keys, path, None).await?;
    let len = file.plain_len()?;
    let id = Uuid::from_bytes(Claim::read(path)?.id);
    let path = style::harmless(&path.display().to_string());
    Ok(format!("{path}: whole, {len} bytes, id {id}"))
}

/// Opens a file of one's own and checks all of it.
async fn open(keys: &Keys, path: &Path, id: Option<Uuid>) -> Result<EncryptedFile, Failure> {
    let claim = Claim::read(path)?;
    if claim.purpose != Purpose::EncryptedFile.as_str() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} belongs to AICO itself.", path.display()),
        )
        .do_this("See what there is: aico logs, aico conversation list"));
    }
    // What the file says of itself chooses the key; whether it is that file the key tells.
    let id = id.unwrap_or(Uuid::from_bytes(claim.id));
    let key = keys.get(id, Some(claim.epoch)).await?;
    let mut options = EncryptedFile::options();
    let mut file = options.read(true).from_elsewhere(true).open(&key, path)?;
    file.verify()?;
    if let Tail::Torn { bytes } = file.tail() {
        style::warning(&format!(
            "the last {bytes} bytes of {} are torn and left out",
            style::harmless(&path.display().to_string())
        ));
    }
    Ok(file)
}

fn move_all(
    from: &mut dyn Read,
    from_path: &Path,
    to: &mut dyn Write,
    to_path: &Path,
) -> Result<(), Failure> {
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(told(from_path, error)),
        };
        to.write_all(&piece[..count])
            .map_err(|error| told(to_path, error))?;
    }
}

fn with_ending(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ENDING);
    name.into()
}

fn without_ending(path: &Path) -> Result<PathBuf, Failure> {
    let ends = path.extension().is_some_and(|end| end == &ENDING[1..]);
    if ends && path.file_stem().is_some() {
        return Ok(path.with_extension(""));
    }
    Err(Failure::new(
        Exit::Usage,
        format!("The name of {} does not end in {ENDING}.", path.display()),
    )
    .do_this("Say where to write: --out FILE"))
}

fn refuse_there(path: &Path, force: bool) -> Result<(), Failure> {
    // A link that points nowhere is something as well.
    if force || std::fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    Err(EncryptedFileError::Exists {
        path: path.to_owned(),
    }
    .into())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn open_plain(path: &Path) -> Result<PlainFile, Failure> {
    let file = PlainFile::open(path).map_err(|error| cant(path, "read", &error))?;
    match file.metadata() {
        Ok(about) if about.is_dir() => Err(Failure::new(
            Exit::Refused,
            format!("{} is a folder.", path.display()),
        )
        .do_this(format!(
            "Pack it first: tar -c '{}' | aico file encrypt - --out FILE",
            path.display()
        ))),
        _ => Ok(file),
    }
}

/// An error of the standard library, with ours in it when there is one.
fn told(path: &Path, error: std::io::Error) -> Failure {
    match error.downcast::<EncryptedFileError>() {
        Ok(ours) => ours.into(),
        Err(error) => cant(path, "read or written", &error),
    }
}

fn cant(path: &Path, what: &str, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let exit = match error.kind() {
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Exit::StorageFull,
        ErrorKind::ReadOnlyFilesystem => Exit::StorageReadOnly,
        ErrorKind::PermissionDenied | ErrorKind::AlreadyExists => Exit::Refused,
        _ if aico_vault::fs::disk_failed(error) => Exit::StorageFailing,
        _ => Exit::Unexpected,
    };
    Failure::new(exit, format!("{} can't be {what}.", path.display())).because(error)
}

impl From<EncryptedFileError> for Failure {
    fn from(error: EncryptedFileError) -> Self {
        use EncryptedFileError as E;
        let (exit, what_to_do) = match &error {
            E::Absent { .. } => (Exit::NotFound, None),
            E::Exists { .. } => (
                Exit::Refused,
                Some("Choose another name with --out, or replace it with --force."),
            ),
            E::NotEncrypted { .. } => (Exit::Refused, Some("Encrypt it: aico file encrypt FILE")),
            E::Unsupported { .. } => (
                Exit::NewerData,
                Some("Open it with the program that wrote it, or a newer one."),
            ),
            E::Foreign { what: "owner", .. } => (
                Exit::Refused,
                Some("Its owner opens it: aico --person NAME file ..."),
            ),
            E::Foreign { .. } | E::WrongKey { .. } => (
                Exit::Damaged,
                Some(
                    "Nothing of it was used. Use the AICO that it was made with, or a copy of it.",
                ),
            ),
            E::File(FileError::StorageFull { .. }) => (
                Exit::StorageFull,
                Some("Free some space on the disk, then try again."),
            ),
            // The message has the command that mends it.
            E::File(FileError::ReadOnly { .. }) => (Exit::StorageReadOnly, None),
            E::File(FileError::Insecure { .. } | FileError::NotWritable { .. }) => {
                (Exit::Refused, None)
            }
            // The folder that it should be made in.
            E::File(FileError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                (Exit::NotFound, None)
            }
            E::File(error) if aico_vault::fs::disk_failed(error) => (
                Exit::StorageFailing,
                Some("See the system's log and the disk's own report (smartctl -a)."),
            ),
            E::File(_) | E::Options { .. } | E::WrongMode { .. } | E::TooLong { .. } => {
                (Exit::Unexpected, None)
            }
            _ => (
                Exit::Damaged,
                Some("Nothing of it was used. Take an earlier copy of it, if there is one."),
            ),
        };
        // Most begin with the name of the file, which stays as it is spelt.
        let text = error.to_string();
        let words = ["the ", "a ", "there ", "could "];
        let what = match words.iter().any(|word| text.starts_with(word)) {
            true => sentence(&text),
            false => format!("{text}."),
        };
        let mut failure = Self::new(exit, what);
        failure.why = std::error::Error::source(&error).map(chain);
        failure.what_to_do = what_to_do.map(str::to_owned);
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_spells_the_name_of_a_file_as_it_is() {
        let told = |error: EncryptedFileError| Failure::from(error).what;
        let path = || PathBuf::from("letter");
        assert_eq!(
            told(EncryptedFileError::NotEncrypted { path: path() }),
            "letter is no encrypted file of AICO's."
        );
        assert_eq!(
            told(EncryptedFileError::Absent { path: path() }),
            "letter is missing."
        );
    }

    #[test]
    fn names_get_the_ending_and_lose_it() {
        assert_eq!(with_ending(Path::new("a/b.txt")), Path::new("a/b.txt.aico"));
        let without = |name: &str| without_ending(Path::new(name)).ok();
        assert_eq!(without("a/b.txt.aico").unwrap(), Path::new("a/b.txt"));
        assert!(without("a/b.txt").is_none());
        assert!(without(".aico").is_none());
    }
}

//! `aico export`: everything about a person in open formats, in a new folder, or packed into one
//! encrypted file.

mod packed;
mod tar;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use aico_vault::fs::{Filesystem as _, FsFile, Kind, OsFilesystem};
use serde_json::{Value, json};

use self::packed::Packed;
use super::{Context, file};
use crate::cli::Export;
use crate::client::{Daemon, Problem};
use crate::exit::{Exit, Failure};
use crate::unfinished::Unfinished;
use crate::{prompt, style};

/// What the name of a file of rows ends with.
const ROWS: &str = ".jsonl";
/// In the folder that an export is made in: held as long as it is.
const LOCK: &str = ".aico-export.lock";
/// What the name of that folder ends with.
const PART: &str = ".part";

pub(super) async fn run(context: &Context, what: &Export) -> Result<(), Failure> {
    let to = std::path::absolute(&what.to).map_err(|error| refused(&what.to, &error))?;
    let making = Making::begin(&to)?;
    if !what.encrypt {
        style::warning(&format!(
            "what is written to {} is not encrypted: whoever can read that folder can read all of \
             it",
            to.display()
        ));
    }
    // Once for signing in and for the proof: the same password.
    let (daemon, password) = match &context.person {
        Some(name) => {
            // No password is typed for nobody.
            Daemon::find(&context.places).await?;
            let password = prompt::raw_password(&what.password, &format!("Password of {name}"))?;
            let daemon = Daemon::sign_in(&context.places, name, &password).await?;
            (daemon, password)
        }
        None => {
            let daemon = Daemon::find(&context.places).await?;
            let password = prompt::raw_password(&what.password, "Master password")?;
            (daemon, password)
        }
    };
    let mut target: Box<dyn Target> = match what.encrypt {
        true => Box::new(Packed::begin(making, &file::new_key(&daemon).await?)?),
        false => Box::new(Folder::begin(making)),
    };
    let body = json!({ "password": password.as_str() });
    let mut written = Written::default();
    let mut done = None;
    daemon
        .post_lines("/api/v1/me/export", &body, |line| {
            match line["type"].as_str() {
                Some("piece") => {
                    let text = |key: &str| line[key].as_str().unwrap_or_default();
                    let (name, text) = (text("file"), text("text"));
                    written.take(name, text)?;
                    target.append(name, text)?;
                }
                Some("done") => done = Some(line),
                _ => return Err(Problem::of(&line)),
            }
            Ok(())
        })
        .await?;
    let done = done.ok_or_else(|| {
        Failure::new(
            Exit::NotRunning,
            "The daemon ended before the export was finished.",
        )
        .do_this("Nothing was written. Start AICO, then try again.")
    })?;
    let lines = written.compare(&done)?;
    target.finish()?;
    style::line(&to.display().to_string());
    let next = match what.encrypt {
        true => "A tar file, encrypted: aico file cat FILE | tar -x. It opens with this AICO only.",
        false => "Begin with README.md in there.",
    };
    style::note(&format!(
        "{lines} rows, as many as the store counted. {next}"
    ));
    Ok(())
}

/// Where an export goes. Until it is finished there is nothing in that place.
trait Target {
    /// Takes a piece of a file. Only files of rows come in several.
    fn append(&mut self, name: &str, text: &str) -> Result<(), Failure>;
    /// Puts it in its place.
    fn finish(self: Box<Self>) -> Result<(), Failure>;
}

/// What came, to be compared with what the store counted.
#[derive(Default)]
struct Written {
    lines: BTreeMap<String, u64>,
}

impl Written {
    fn take(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let plain = Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.is_empty() {
            return Err(Failure::new(
                Exit::Unexpected,
                "The daemon named a file that can't be in an export.",
            ));
        }
        let lines = text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        *self.lines.entry(name.to_owned()).or_default() += lines;
        Ok(())
    }

    /// How many rows there are.
    fn compare(&self, done: &Value) -> Result<u64, Failure> {
        let counted: BTreeMap<String, u64> =
            serde_json::from_value(done["lines"].clone()).unwrap_or_default();
        let (rows, others): (Vec<_>, Vec<_>) = self
            .lines
            .iter()
            .partition(|(name, _)| name.ends_with(ROWS));
        let written: BTreeMap<_, _> = rows
            .into_iter()
            .map(|(name, lines)| (name.clone(), *lines))
            .collect();
        if counted != written || done["files"] != others.len() {
            return Err(Failure::new(
                Exit::Unexpected,
                "What was written is not what the store counted, so nothing was kept.",
            )
            .do_this("Try again. If it stays, run aico doctor."));
        }
        Ok(written.values().sum())
    }
}

/// A folder beside the place, which is removed unless it becomes what is there; after a kill, by the
/// next export to beside it.
struct Making {
    to: PathBuf,
    folder: PathBuf,
    /// Dropped before the folder is removed: some systems remove no file that is open.
    lock: Box<dyn FsFile>,
    unfinished: Unfinished,
}

impl Making {
    fn begin(to: &Path) -> Result<Self, Failure> {
        let taken = |what: &str| {
            Failure::new(Exit::Target, format!("{} {what}.", to.display()))
                .do_this("Name one that is not there yet: --to FOLDER")
        };
        if fs::symlink_metadata(to).is_ok() {
            return Err(taken("is there already"));
        }
        let (Some(name), Some(parent)) = (to.file_name(), to.parent()) else {
            return Err(taken("can't be made"));
        };
        if !parent.is_dir() {
            return Err(taken("can't be made: the folder above it is missing"));
        }
        remove_abandoned(parent);
        let mut making = std::ffi::OsString::from(".");
        making.push(name);
        making.push(format!(
            ".{}{PART}",
            &uuid::Uuid::new_v4().simple().to_string()[..8]
        ));
        let folder = parent.join(making);
        let made = folder.clone();
        let unfinished = Unfinished::new(move || {
            let _ = fs::remove_dir_all(made);
        });
        let begin = || -> std::io::Result<Box<dyn FsFile>> {
            make_private(&folder)?;
            let lock = OsFilesystem.create(&folder.join(LOCK))?;
            // Where there are no locks, what a kill leaves stays. Whoever cleans up takes an unlocked
            // one for abandoned: between these two calls it may have been removed.
            let locked = lock.try_lock().unwrap_or(true);
            match locked && OsFilesystem.probe(&folder.join(LOCK))?.is_some() {
                true => Ok(lock),
                false => Err(std::io::ErrorKind::ResourceBusy.into()),
            }
        };
        let begun = unfinished.step(begin);
        let lock = begun.map_err(|error| refused(&folder, &error))?;
        Ok(Self {
            to: to.to_owned(),
            folder,
            lock,
            unfinished,
        })
    }
}

/// Removes what exports to this folder left that were killed: it may be in clear. Those that still
/// write hold their lock. What fails is left for the next one.
fn remove_abandoned(parent: &Path) {
    for name in OsFilesystem.list(parent).unwrap_or_default() {
        let left = parent.join(&name);
        let is_mine = || matches!(OsFilesystem.probe(&left), Ok(Some(found)) if found.kind == Kind::Folder && found.mine);
        if is_part(&name)
            && is_mine()
            && let Ok(lock) = OsFilesystem.open(&left.join(LOCK), true)
            && matches!(lock.try_lock(), Ok(true))
        {
            let _ = fs::remove_dir_all(&left);
        }
    }
}

/// Whether it is `.NAME.<8 hex digits>.part`.
fn is_part(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let mark = name
        .strip_suffix(PART.as_bytes())
        .and_then(|rest| rest.rsplit(|byte| *byte == b'.').next());
    let is_mark = |mark: &[u8]| mark.len() == 8 && mark.iter().all(u8::is_ascii_hexdigit);
    name.starts_with(b".") && mark.is_some_and(is_mark)
}

/// Files in clear, in a folder that gets its name when all of it is there.
struct Folder {
    making: Making,
    files: BTreeMap<String, File>,
}

impl Folder {
    fn begin(making: Making) -> Self {
        Self {
            making,
            files: BTreeMap::new(),
        }
    }
}

impl Target for Folder {
    fn append(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.making.folder.join(name);
        let write = || -> std::io::Result<()> {
            if let Some(file) = self.files.get_mut(name) {
                return file.write_all(text.as_bytes());
            }
            if let Some(parent) = path.parent() {
                make_private(parent)?;
            }
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&path)?;
            file.write_all(text.as_bytes())?;
            if name.ends_with(ROWS) {
                self.files.insert(name.to_owned(), file);
            } else {
                file.sync_all()?;
            }
            Ok(())
        };
        let written = self.making.unfinished.step(write);
        written.map_err(|error| refused(&path, &error))
    }

    fn finish(self: Box<Self>) -> Result<(), Failure> {
        let Self { making, files } = *self;
        let Making {
            to,
            folder,
            lock,
            unfinished,
        } = making;
        let synced = files.values().try_for_each(File::sync_all);
        drop(files);
        // Windows moves no folder in which a file is open.
        if cfg!(windows) {
            drop(lock);
        }
        let put = || -> std::io::Result<()> {
            fs::rename(&folder, &to)?;
            // Not before: without it nobody would remove what a kill leaves.
            let _ = fs::remove_file(to.join(LOCK));
            Ok(())
        };
        synced
            .and_then(|()| unfinished.finish(put))
            .map_err(|error| refused(&to, &error))
    }
}

fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn refused(path: &Path, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Exit::StorageFull,
        std::io::ErrorKind::ReadOnlyFilesystem => Exit::StorageReadOnly,
        _ if aico_vault::fs::disk_failed(error) => Exit::StorageFailing,
        _ => Exit::Target,
    };
    Failure::new(exit, format!("{} can't be written.", path.display()))
        .because(error)
        .do_this("Nothing of the export was kept. Choose another place: --to FOLDER")
}

//! `aico export`: everything about a person in open formats, in a new folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::Context;
use crate::cli::Export;
use crate::client::{Daemon, Problem};
use crate::exit::{Exit, Failure};
use crate::{prompt, style};

pub(super) async fn run(context: &Context, what: &Export) -> Result<(), Failure> {
    let to = std::path::absolute(&what.to).map_err(|error| refused(&what.to, &error))?;
    let mut folder = Folder::begin(&to)?;
    style::warning(&format!(
        "what is written to {} is not encrypted: whoever can read that folder can read all of it",
        to.display()
    ));
    // Once for signing in and for the proof: the same password.
    let (daemon, password) = match &context.person {
        Some(name) => {
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
    let body = json!({ "password": password.as_str() });
    let mut done = None;
    daemon
        .post_lines("/api/v1/me/export", &body, |line| {
            match line["type"].as_str() {
                Some("piece") => {
                    let text = |key: &str| line[key].as_str().unwrap_or_default();
                    folder.append(text("file"), text("text"))?;
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
    let lines = folder.finish(&done)?;
    style::line(&to.display().to_string());
    style::note(&format!(
        "{lines} rows, as many as the store counted. Begin with README.md in there.",
    ));
    Ok(())
}

/// A folder in the making, which gets its name when all of it is there.
struct Folder {
    to: PathBuf,
    making: PathBuf,
    files: BTreeMap<String, File>,
    lines: BTreeMap<String, u64>,
    done: bool,
}

impl Folder {
    fn begin(to: &Path) -> Result<Self, Failure> {
        let taken = |what: &str| {
            Failure::new(Exit::Target, format!("{} {what}.", to.display()))
                .do_this("Name a folder that is not there yet: --to FOLDER")
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
        let mut making = std::ffi::OsString::from(".");
        making.push(name);
        making.push(format!(
            ".{}.part",
            &uuid::Uuid::new_v4().simple().to_string()[..8]
        ));
        let making = parent.join(making);
        make_private(&making).map_err(|error| refused(&making, &error))?;
        Ok(Self {
            to: to.to_owned(),
            making,
            files: BTreeMap::new(),
            lines: BTreeMap::new(),
            done: false,
        })
    }

    fn append(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.making.join(name);
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
        let mut write = || -> std::io::Result<()> {
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
            // Only files of rows come in several pieces.
            if name.ends_with(".jsonl") {
                self.files.insert(name.to_owned(), file);
            } else {
                file.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|error| refused(&path, &error))
    }

    /// Compares what was written with what the store counted, and gives the folder its name.
    fn finish(mut self, done: &Value) -> Result<u64, Failure> {
        let counted: BTreeMap<String, u64> =
            serde_json::from_value(done["lines"].clone()).unwrap_or_default();
        let written: BTreeMap<_, _> = self
            .lines
            .iter()
            .filter(|(name, _)| name.ends_with(".jsonl"))
            .map(|(name, lines)| (name.clone(), *lines))
            .collect();
        let others: BTreeSet<_> = self
            .lines
            .keys()
            .filter(|name| !name.ends_with(".jsonl"))
            .collect();
        if counted != written || done["files"] != others.len() {
            return Err(Failure::new(
                Exit::Unexpected,
                "What was written is not what the store counted, so nothing was kept.",
            )
            .do_this("Try again. If it stays, run aico doctor."));
        }
        let synced = self.files.values().try_for_each(File::sync_all);
        synced
            .and_then(|()| fs::rename(&self.making, &self.to))
            .map_err(|error| refused(&self.to, &error))?;
        self.done = true;
        Ok(written.values().sum())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_dir_all(&self.making);
        }
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
        _ => Exit::Target,
    };
    Failure::new(exit, format!("{} can't be written.", path.display()))
        .because(error)
        .do_this("Nothing of the export was kept. Choose another place: --to FOLDER")
}

//! Putting something new in the place of what a data folder holds, in one step.
//!
//! ```text
//! <data>/.next-<16 hex digits>/   in the making: removed at the next start
//! <data>/next/                    whole: put in place, by this process or at the next start
//! <data>/before-<why>-<time>/     what was there before, kept until a person removes it
//! ```
//!
//! Whoever makes a home anew, from a backup or under another key, builds it in [`Next::folder`],
//! under the name that it is to have in the data folder, and calls [`Next::take_place`]. The rename
//! of the one folder decides: before it nothing has changed, after it everything has, though some
//! of it may have to be moved at the next start.
//!
//! The caller holds the data folder's lock, and nothing of the home is open.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::HomeError;
use crate::folder::{create_private, sync_folder};

/// Begins the name of what is in the making.
const MAKING: &str = ".next-";
/// What is whole and has yet to be put in place.
const NEXT: &str = "next";
/// Names what is moved, in the folder of what is whole.
const PLAN: &str = "plan";
/// Begins the name of what is kept.
const KEPT: &str = "before-";
/// In the plan: something new takes the place of what has this name.
const PUT: &str = "put";
/// In the plan: what has this name is only moved away.
const AWAY: &str = "away";

/// Something new for a data folder, in the making. Dropped, it is removed.
pub(crate) struct Next {
    data: PathBuf,
    folder: PathBuf,
    done: bool,
}

impl Next {
    /// Begins; the data folder must be there.
    pub(crate) fn begin(data: &Path) -> Result<Self, HomeError> {
        let random = Uuid::new_v4().simple().to_string();
        let folder = data.join(format!("{MAKING}{}", &random[..16]));
        create_private(&folder).map_err(at(&folder))?;
        Ok(Self {
            data: data.to_owned(),
            folder,
            done: false,
        })
    }

    /// Where it is made: `home` in here becomes `home` of the data folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts these names in place of what has them now; those that are not here are only moved
    /// away. Answers where that is kept, when there was any.
    pub(crate) fn take_place(
        mut self,
        names: &[&str],
        why: &str,
    ) -> Result<Option<PathBuf>, HomeError> {
        let kept = free_name(&self.data, why);
        let mut plan = kept.clone();
        for name in names {
            let verb = if there(&self.folder.join(name)) {
                PUT
            } else {
                AWAY
            };
            plan.push_str(&format!("\n{verb} {name}"));
        }
        let path = self.folder.join(PLAN);
        fs::write(&path, plan)
            .and_then(|()| fs::File::open(&path)?.sync_all())
            .map_err(at(&path))?;
        sync_all(&self.folder).map_err(at(&self.folder))?;
        let next = self.data.join(NEXT);
        // From this rename on it is decided.
        fs::rename(&self.folder, &next).map_err(at(&next))?;
        self.done = true;
        sync_folder(&self.data).map_err(at(&self.data))?;
        finish(&self.data)?;
        let kept = self.data.join(kept);
        Ok(kept.exists().then_some(kept))
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Finishes what was decided, and removes what was not. Called whenever a data folder is opened.
pub(crate) fn finish(data: &Path) -> Result<(), HomeError> {
    finish_until(data, &mut || true)
}

/// As [`finish`]; `go_on` is asked before each step, so that a test can stop it anywhere.
fn finish_until(data: &Path, go_on: &mut dyn FnMut() -> bool) -> Result<(), HomeError> {
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(data)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(at(data))?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(MAKING);
        if is_ours && entry.file_type().map_err(at(data))?.is_dir() {
            fs::remove_dir_all(entry.path()).map_err(at(&entry.path()))?;
            tracing::warn!("removed what a restore or a change of keys that was cut off had left");
        }
    }
    let next = data.join(NEXT);
    if !there(&next) {
        return Ok(());
    }
    let path = next.join(PLAN);
    let plan = match fs::read_to_string(&path) {
        Ok(plan) => plan,
        // Everything was moved, and removing the rest was cut off.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return remove_rest(data, &next);
        }
        Err(error) => return Err(at(&path)(error)),
    };
    let mut lines = plan.lines();
    let kept = lines.next().map(plain).unwrap_or_default();
    let kept = kept.ok_or_else(|| unreadable(&path))?;
    let kept = data.join(kept);
    for line in lines {
        let (verb, name) = line.split_once(' ').ok_or_else(|| unreadable(&path))?;
        let name = plain(name).ok_or_else(|| unreadable(&path))?;
        let (new, now, old) = (next.join(name), data.join(name), kept.join(name));
        // Something new that is here no longer is in place, and so is what was before it.
        let to_move = match verb {
            PUT => there(&new),
            AWAY => !there(&old),
            _ => return Err(unreadable(&path)),
        };
        if to_move && there(&now) {
            step(go_on)?;
            create_private(&kept).map_err(at(&kept))?;
            fs::rename(&now, &old).map_err(at(&now))?;
        }
        if verb == PUT && there(&new) {
            step(go_on)?;
            fs::rename(&new, &now).map_err(at(&now))?;
        }
    }
    if there(&kept) {
        sync_folder(&kept).map_err(at(&kept))?;
    }
    sync_folder(data).map_err(at(data))?;
    step(go_on)?;
    fs::remove_file(&path).map_err(at(&path))?;
    step(go_on)?;
    remove_rest(data, &next)
}

fn step(go_on: &mut dyn FnMut() -> bool) -> Result<(), HomeError> {
    go_on().then_some(()).ok_or(HomeError::Task)
}

fn remove_rest(data: &Path, next: &Path) -> Result<(), HomeError> {
    fs::remove_dir_all(next).map_err(at(next))?;
    sync_folder(data).map_err(at(data))
}

/// Folders with what was there before something took its place.
pub(crate) fn kept_folders(data: &Path) -> Result<Vec<PathBuf>, HomeError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data).map_err(at(data))? {
        let entry = entry.map_err(at(data))?;
        let is_kept = entry.file_name().to_string_lossy().starts_with(KEPT);
        if is_kept && entry.file_type().map_err(at(data))?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn free_name(data: &Path, why: &str) -> String {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let mut name = format!("{KEPT}{why}-{now}");
    let mut count = 1;
    while there(&data.join(&name)) {
        count += 1;
        name = format!("{KEPT}{why}-{now}-{count}");
    }
    name
}

/// A name in a folder, and nothing that leads elsewhere.
fn plain(name: &str) -> Option<&str> {
    let mut parts = Path::new(name).components();
    let one = matches!(parts.next(), Some(std::path::Component::Normal(_)));
    (one && parts.next().is_none()).then_some(name)
}

fn there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn unreadable(path: &Path) -> HomeError {
    at(path)(io::Error::new(
        io::ErrorKind::InvalidData,
        "it does not say what belongs where",
    ))
}

/// Makes everything in a folder durable: its files were written by several libraries.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            let mut options = fs::OpenOptions::new();
            options
                .read(true)
                .write(true)
                .open(entry.path())?
                .sync_all()?;
        }
    }
    sync_folder(folder)
}

fn at(path: &Path) -> impl Fn(io::Error) -> HomeError + use<> {
    let path = path.to_owned();
    move |source| HomeError::Folder {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    /// A data folder with an old home, logs and configuration, and something new for two of them.
    fn prepared() -> (tempfile::TempDir, Next) {
        let temp = tempfile::tempdir().unwrap();
        let data = temp.path();
        for (folder, what) in [("home", "old"), ("logs", "old")] {
            fs::create_dir(data.join(folder)).unwrap();
            fs::write(data.join(folder).join("file"), what).unwrap();
        }
        fs::write(data.join("config.yaml"), "old").unwrap();
        let next = Next::begin(data).unwrap();
        fs::create_dir(next.folder().join("home")).unwrap();
        fs::write(next.folder().join("home").join("file"), "new").unwrap();
        fs::write(next.folder().join("config.yaml"), "new").unwrap();
        (temp, next)
    }

    const NAMES: [&str; 3] = ["home", "logs", "config.yaml"];

    fn check_new(data: &Path) {
        assert_eq!(text(&data.join("home/file")).as_deref(), Some("new"));
        assert_eq!(text(&data.join("config.yaml")).as_deref(), Some("new"));
        assert!(!data.join("logs").exists() && !data.join(NEXT).exists());
        let kept = kept_folders(data).unwrap();
        let [kept] = &kept[..] else {
            panic!("{kept:?}")
        };
        for name in ["home/file", "logs/file", "config.yaml"] {
            assert_eq!(text(&kept.join(name)).as_deref(), Some("old"), "{name}");
        }
    }

    #[test]
    fn what_is_made_takes_the_place_of_what_was_and_that_is_kept() {
        let (temp, next) = prepared();
        let kept = next.take_place(&NAMES, "restore").unwrap().unwrap();
        assert!(
            kept.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("before-restore-2")
        );
        check_new(temp.path());
        // Once more is nothing more.
        finish(temp.path()).unwrap();
        check_new(temp.path());
    }

    #[test]
    fn stopped_before_it_is_decided_everything_is_as_it_was() {
        let (temp, next) = prepared();
        // As a killed process leaves it.
        let left = next.folder().to_owned();
        let _killed = std::mem::ManuallyDrop::new(next);
        assert!(left.exists());
        finish(temp.path()).unwrap();
        assert!(!left.exists());
        assert_eq!(text(&temp.path().join("home/file")).as_deref(), Some("old"));
        assert_eq!(text(&temp.path().join("logs/file")).as_deref(), Some("old"));
        assert!(kept_folders(temp.path()).unwrap().is_empty());
    }

    #[test]
    fn stopped_anywhere_after_it_the_next_start_finishes_it() {
        for stop in 0.. {
            let (temp, mut next) = prepared();
            let data = temp.path().to_owned();
            // What `take_place` does up to the rename that decides.
            let plan = "before-restore-x\nput home\naway logs\nput config.yaml";
            fs::write(next.folder().join(PLAN), plan).unwrap();
            fs::rename(next.folder(), data.join(NEXT)).unwrap();
            next.done = true;
            let mut left = stop;
            let stopped = finish_until(&data, &mut || {
                left -= 1;
                left >= 0
            });
            finish(&data).unwrap();
            check_new(&data);
            if stopped.is_ok() {
                assert!(stop >= 7, "{stop}");
                return;
            }
        }
    }

    #[test]
    fn a_plan_that_leads_elsewhere_is_refused() {
        for plan in [
            "before-x\nput ../home",
            "../x\nput home",
            "before-x\nput /etc",
            "",
        ] {
            let temp = tempfile::tempdir().unwrap();
            fs::create_dir(temp.path().join(NEXT)).unwrap();
            fs::write(temp.path().join(NEXT).join(PLAN), plan).unwrap();
            assert!(finish(temp.path()).is_err(), "{plan}");
        }
    }
}

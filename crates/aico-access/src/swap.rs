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

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_vault::FileError;
use aico_vault::fs::{Context as _, Filesystem, Kind, OsFilesystem};
use uuid::Uuid;

use crate::HomeError;

/// Begins the name of what is in the making.
const MAKING: &str = ".next-";
/// What is whole and has yet to be put in place.
const NEXT: &str = "next";
/// Names what is moved, in the folder of what is whole.
const PLAN: &str = "plan";
/// Longest plan, in bytes.
const MOST_PLAN: usize = 4096;
/// Begins the name of what is kept.
const KEPT: &str = "before-";
/// In the plan: something new takes the place of what has this name.
const PUT: &str = "put";
/// In the plan: what has this name is only moved away.
const AWAY: &str = "away";

type Fs = dyn Filesystem;

/// Something new for a data folder, in the making. Dropped, it is removed.
pub(crate) struct Next {
    fs: Arc<Fs>,
    data: PathBuf,
    folder: PathBuf,
    done: bool,
}

impl Next {
    /// Begins; the data folder must be there.
    pub(crate) fn begin(data: &Path) -> Result<Self, HomeError> {
        Self::begin_on(Arc::new(OsFilesystem), data)
    }

    pub(crate) fn begin_on(fs: Arc<Fs>, data: &Path) -> Result<Self, HomeError> {
        let random = Uuid::new_v4().simple().to_string();
        let folder = data.join(format!("{MAKING}{}", &random[..16]));
        fs.make_folder(&folder).on("create", &folder)?;
        Ok(Self {
            fs,
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
        let fs = &*self.fs;
        let kept = free_name(fs, &self.data, why)?;
        let mut plan = kept.clone();
        for name in names {
            let verb = if there(fs, &self.folder.join(name))? {
                PUT
            } else {
                AWAY
            };
            plan.push_str(&format!("\n{verb} {name}"));
        }
        let path = self.folder.join(PLAN);
        fs.create(&path)
            .and_then(|mut file| file.write_at(plan.as_bytes(), 0))
            .on("write", &path)?;
        sync_all(fs, &self.folder)?;
        let next = self.data.join(NEXT);
        // From this rename on it is decided.
        fs.rename(&self.folder, &next).on("create", &next)?;
        self.done = true;
        fs.sync_folder(&self.data).on("sync", &self.data)?;
        finish_on(fs, &self.data)?;
        let kept = self.data.join(kept);
        Ok(there(fs, &kept)?.then_some(kept))
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        if !self.done {
            let _ = remove_all(&*self.fs, &self.folder);
        }
    }
}

/// Finishes what was decided, and removes what was not. Called whenever a data folder is opened.
pub(crate) fn finish(data: &Path) -> Result<(), HomeError> {
    finish_on(&OsFilesystem, data)
}

fn finish_on(fs: &Fs, data: &Path) -> Result<(), HomeError> {
    let names = match fs.list(data) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::new("read", data, error).into()),
    };
    for name in names {
        let path = data.join(&name);
        if name.to_string_lossy().starts_with(MAKING) && is_folder(fs, &path)? {
            remove_all(fs, &path)?;
            fs.sync_folder(data).on("sync", data)?;
            tracing::warn!("removed what a restore or a change of keys that was cut off had left");
        }
    }
    let next = data.join(NEXT);
    if !there(fs, &next)? {
        return Ok(());
    }
    let path = next.join(PLAN);
    // Without a plan everything was moved, and removing the rest was cut off.
    if let Some(plan) = read_plan(fs, &path)? {
        move_all(fs, data, &next, &path, &plan)?;
        fs.remove_file(&path).on("remove", &path)?;
        fs.sync_folder(&next).on("sync", &next)?;
    }
    remove_all(fs, &next)?;
    fs.sync_folder(data).on("sync", data)?;
    Ok(())
}

fn read_plan(fs: &Fs, path: &Path) -> Result<Option<String>, HomeError> {
    if !there(fs, path)? {
        return Ok(None);
    }
    let file = fs.open(path, false).on("read", path)?;
    let mut bytes = vec![0; MOST_PLAN];
    let mut length = 0;
    while length < bytes.len() {
        match file
            .read_at(&mut bytes[length..], length as u64)
            .on("read", path)?
        {
            0 => break,
            count => length += count,
        }
    }
    bytes.truncate(length);
    let plan = String::from_utf8(bytes).map_err(|_| unreadable(path))?;
    Ok(Some(plan))
}

fn move_all(fs: &Fs, data: &Path, next: &Path, path: &Path, plan: &str) -> Result<(), HomeError> {
    let mut lines = plan.lines();
    let kept = lines
        .next()
        .and_then(plain)
        .ok_or_else(|| unreadable(path))?;
    let kept = data.join(kept);
    for line in lines {
        let (verb, name) = line.split_once(' ').ok_or_else(|| unreadable(path))?;
        let name = plain(name).ok_or_else(|| unreadable(path))?;
        let (new, now, old) = (next.join(name), data.join(name), kept.join(name));
        // Something new that is here no longer is in place, and so is what was before it.
        let to_move = match verb {
            PUT => there(fs, &new)?,
            AWAY => !there(fs, &old)?,
            _ => return Err(unreadable(path)),
        };
        if to_move && there(fs, &now)? {
            if !there(fs, &kept)? {
                fs.make_folder(&kept).on("create", &kept)?;
                fs.sync_folder(data).on("sync", data)?;
            }
            rename(fs, &now, &old)?;
        }
        if verb == PUT && there(fs, &new)? {
            rename(fs, &new, &now)?;
        }
    }
    Ok(())
}

/// From one folder to another: durable in the one that it comes to before it is gone from the
/// other, so that no power cut loses it.
fn rename(fs: &Fs, from: &Path, to: &Path) -> Result<(), HomeError> {
    fs.rename(from, to).on("replace", to)?;
    for folder in [to.parent(), from.parent()].into_iter().flatten() {
        fs.sync_folder(folder).on("sync", folder)?;
    }
    Ok(())
}

/// Folders with what was there before something took its place.
pub(crate) fn kept_folders(data: &Path) -> Result<Vec<PathBuf>, HomeError> {
    kept_folders_on(&OsFilesystem, data)
}

fn kept_folders_on(fs: &Fs, data: &Path) -> Result<Vec<PathBuf>, HomeError> {
    let mut found = Vec::new();
    for name in fs.list(data).on("read", data)? {
        let path = data.join(&name);
        if name.to_string_lossy().starts_with(KEPT) && is_folder(fs, &path)? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn free_name(fs: &Fs, data: &Path, why: &str) -> Result<String, HomeError> {
    let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let mut name = format!("{KEPT}{why}-{now}");
    let mut count = 1;
    while there(fs, &data.join(&name))? {
        count += 1;
        name = format!("{KEPT}{why}-{now}-{count}");
    }
    Ok(name)
}

/// A name in a folder, and nothing that leads elsewhere.
fn plain(name: &str) -> Option<&str> {
    let mut parts = Path::new(name).components();
    let one = matches!(parts.next(), Some(std::path::Component::Normal(_)));
    (one && parts.next().is_none()).then_some(name)
}

fn there(fs: &Fs, path: &Path) -> Result<bool, HomeError> {
    Ok(fs.probe(path).on("read", path)?.is_some())
}

fn is_folder(fs: &Fs, path: &Path) -> Result<bool, HomeError> {
    let entry = fs.probe(path).on("read", path)?;
    Ok(entry.is_some_and(|entry| entry.kind == Kind::Folder))
}

fn unreadable(path: &Path) -> HomeError {
    HomeError::Folder {
        path: path.to_owned(),
        source: io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not say what belongs where",
        ),
    }
}

/// Makes everything in a folder durable: its files were written by several libraries.
fn sync_all(fs: &Fs, folder: &Path) -> Result<(), HomeError> {
    for name in fs.list(folder).on("read", folder)? {
        let path = folder.join(name);
        if is_folder(fs, &path)? {
            sync_all(fs, &path)?;
        } else {
            let mut file = fs.open(&path, true).on("open", &path)?;
            file.sync().on("sync", &path)?;
        }
    }
    fs.sync_folder(folder).on("sync", folder)?;
    Ok(())
}

fn remove_all(fs: &Fs, folder: &Path) -> Result<(), HomeError> {
    for name in fs.list(folder).on("read", folder)? {
        let path = folder.join(name);
        if is_folder(fs, &path)? {
            remove_all(fs, &path)?;
        } else {
            fs.remove_file(&path).on("remove", &path)?;
        }
    }
    fs.remove_folder(folder).on("remove", folder)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use aico_vault::fs::faulty::{Dice, Faulty};

    use super::*;

    const DATA: &str = "/data";
    const NAMES: [&str; 3] = ["home", "logs", "config.yaml"];

    fn put(fs: &Fs, path: &str, text: &str) {
        let path = Path::new(path);
        let mut file = fs.create(path).unwrap();
        file.write_at(text.as_bytes(), 0).unwrap();
    }

    /// A data folder, durable, with an old home, logs and configuration.
    fn old_disk() -> Faulty {
        let disk = Faulty::new();
        for folder in ["/data", "/data/home", "/data/home/persons", "/data/logs"] {
            disk.make_folder(Path::new(folder)).unwrap();
        }
        for path in [
            "/data/home/a",
            "/data/home/persons/b",
            "/data/logs/c",
            "/data/config.yaml",
        ] {
            put(&disk, path, "old");
        }
        sync_all(&disk, Path::new(DATA)).unwrap();
        disk.sync_folder(Path::new("/")).unwrap();
        disk
    }

    /// Something new for two of the three, not yet durable.
    fn prepare(disk: &Faulty) -> Result<Next, HomeError> {
        let next = Next::begin_on(Arc::new(disk.clone()), Path::new(DATA))?;
        let folder = next.folder().to_owned();
        for name in ["home", "home/persons"] {
            let path = folder.join(name);
            disk.make_folder(&path).on("create", &path)?;
        }
        for name in ["home/a", "home/persons/b", "config.yaml"] {
            let path = folder.join(name);
            let written = disk
                .create(&path)
                .and_then(|mut file| file.write_at(b"new", 0));
            written.on("write", &path)?;
        }
        Ok(next)
    }

    fn text(disk: &Faulty, path: &str) -> Option<String> {
        disk.read(Path::new(path))
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// Whether it is all new; everything old is kept then, and otherwise in its place.
    fn is_new(disk: &Faulty) -> bool {
        let (old, new) = (Some("old".to_owned()), Some("new".to_owned()));
        // What was in a folder that is gone is gone with it: the folder's entry counts.
        let left = disk.list(Path::new(DATA)).unwrap();
        let odd = |name: &&std::ffi::OsString| {
            let name = name.to_string_lossy();
            name == NEXT || name.starts_with(MAKING)
        };
        assert_eq!(left.iter().find(odd), None);
        let kept = kept_folders_on(disk, Path::new(DATA)).unwrap();
        if text(disk, "/data/home/a") == old {
            assert_eq!(text(disk, "/data/home/persons/b"), old);
            assert_eq!(text(disk, "/data/config.yaml"), old);
            assert_eq!(text(disk, "/data/logs/c"), old);
            assert!(kept.is_empty(), "{kept:?}");
            return false;
        }
        assert_eq!(text(disk, "/data/home/a"), new);
        assert_eq!(text(disk, "/data/home/persons/b"), new);
        assert_eq!(text(disk, "/data/config.yaml"), new);
        assert_eq!(text(disk, "/data/logs/c"), None);
        assert_eq!(kept.len(), 1);
        for name in ["home/a", "home/persons/b", "logs/c", "config.yaml"] {
            let path = kept[0].join(name);
            assert_eq!(text(disk, path.to_str().unwrap()), old, "{name}");
        }
        true
    }

    #[test]
    fn what_is_made_takes_the_place_of_what_was_and_that_is_kept() {
        let disk = old_disk();
        let next = prepare(&disk).unwrap();
        let kept = next.take_place(&NAMES, "restore").unwrap().unwrap();
        assert!(kept.to_string_lossy().starts_with("/data/before-restore-2"));
        assert!(is_new(&disk));
        // Once more is nothing more.
        finish_on(&disk, Path::new(DATA)).unwrap();
        assert!(is_new(&disk));
    }

    #[test]
    fn given_up_it_leaves_nothing() {
        let disk = old_disk();
        drop(prepare(&disk).unwrap());
        assert!(!is_new(&disk));
    }

    #[test]
    fn killed_or_without_power_at_any_write_it_is_the_old_one_or_the_new_one() {
        let (mut old, mut new) = (0, 0);
        for stop in 0.. {
            let disk = old_disk();
            disk.stop_after(stop);
            let done = prepare(&disk)
                .and_then(|next| next.take_place(&NAMES, "restore"))
                .is_ok();
            let mut aftermaths = vec![disk.after_kill()];
            for roll in 0..8 {
                aftermaths.push(disk.after_power_cut(&mut Dice((stop * 100 + roll) as u64)));
            }
            for after in aftermaths {
                // What the next start does, itself stopped anywhere and done again.
                let again = after.fork();
                again.stop_after(stop % 7);
                let _ = finish_on(&again, Path::new(DATA));
                for mut after in [
                    after,
                    again.after_kill(),
                    again.after_power_cut(&mut Dice(stop as u64)),
                ] {
                    finish_on(&after, Path::new(DATA)).unwrap();
                    let is_new = is_new(&after);
                    assert!(is_new || !done, "stopped after {stop}");
                    *(if is_new { &mut new } else { &mut old }) += 1;
                    after = after.after_power_cut(&mut Dice(1));
                    // Decided means decided: the next start finds the same.
                    finish_on(&after, Path::new(DATA)).unwrap();
                    assert_eq!(super::tests::is_new(&after), is_new, "stopped after {stop}");
                }
            }
            if done {
                assert!(stop > 20 && old > 100 && new > 100, "{stop} {old} {new}");
                return;
            }
        }
    }

    #[test]
    fn a_full_disk_changes_nothing() {
        let disk = old_disk();
        disk.set_full(true);
        let error = prepare(&disk).map(drop).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::StorageFull);
        disk.set_full(false);
        assert!(!is_new(&disk));
        let next = prepare(&disk).unwrap();
        disk.set_full(true);
        let error = next.take_place(&NAMES, "restore").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::StorageFull);
        disk.set_full(false);
        assert!(!is_new(&disk));
    }

    #[test]
    fn a_plan_that_leads_elsewhere_is_refused() {
        let plans = [
            "before-x\nput ../home",
            "../x\nput home",
            "before-x\nput /etc",
            "before-x\nburn home",
            "before-x\nhome",
            "",
        ];
        for plan in plans {
            let temp = tempfile::tempdir().unwrap();
            fs::create_dir(temp.path().join(NEXT)).unwrap();
            fs::write(temp.path().join(NEXT).join(PLAN), plan).unwrap();
            assert!(finish(temp.path()).is_err(), "{plan}");
        }
    }
}

//! Installing Ollama for one person, when that person agrees: a pinned release, checked before
//! anything of it is unpacked, without root, in a folder of ours.
//!
//! ```text
//! current.json       which one is used; replaced in one step
//! <version>-<hash>/  it
//! downloads/         parts of an archive, until it is unpacked
//! home/, models/     what it keeps while it runs
//! lock               held by who installs or removes
//! ```

mod error;
mod releases;
mod unpack;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use error::InstallError;
pub use releases::{EMBEDDED, Layout, Packed, Release};

use self::unpack::Bounds;
use crate::pull::PullConfig;
use crate::pull::single::{Fetched, Wanted};

const POINTER: &str = "current.json";
/// How often it is told how far unpacking is.
const LOOK: Duration = Duration::from_millis(200);

/// What is installed by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Of Ollama.
    pub version: String,
    /// The program.
    pub program: PathBuf,
    /// Bytes of the archive that it came from.
    pub size: u64,
    /// SHA-256 of that archive.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Pointer {
    format: u32,
    version: String,
    folder: String,
    size: u64,
    sha256: String,
}

/// What we have installed. Blocks shortly.
#[must_use]
pub fn installed(folder: &Path) -> Option<Installed> {
    let pointer = pointer(folder)?;
    let unpacked = folder.join(&pointer.folder);
    let program = [Layout::Prefix, Layout::Flat]
        .map(|layout| unpacked.join(layout.program()))
        .into_iter()
        .find(|program| program.is_file())?;
    Some(Installed {
        version: pointer.version,
        program,
        size: pointer.size,
        sha256: pointer.sha256,
    })
}

fn pointer(folder: &Path) -> Option<Pointer> {
    let path = folder.join(POINTER);
    let short = std::fs::metadata(&path).is_ok_and(|found| found.len() < 4096);
    let text = short.then(|| std::fs::read(&path).ok()).flatten()?;
    let pointer: Pointer = serde_json::from_slice(&text).ok()?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-".contains(letter);
    let name = &pointer.folder;
    (pointer.format == 1 && !name.starts_with('.') && name.chars().all(plain)).then_some(pointer)
}

/// Bytes of the archive that were downloaded another time.
#[must_use]
pub fn kept(folder: &Path, release: &Release) -> u64 {
    let downloads = folder.join("downloads");
    let wanted = release.wanted();
    // All of it is here when unpacking was ended, or the disk was too small for that.
    let whole = std::fs::symlink_metadata(archive_in(&downloads, &wanted))
        .is_ok_and(|found| found.is_file() && found.len() == release.size);
    match whole {
        true => release.size,
        false => wanted.kept(&downloads),
    }
}

/// Where the archive lies when all of it came.
fn archive_in(downloads: &Path, wanted: &Wanted) -> PathBuf {
    downloads.join(format!("{}.archive", wanted.name))
}

/// Installs a release: downloads, checks, unpacks, and puts it in place of what was there.
/// Nothing is asked here: whoever calls has the person's word. `tell` hears how far it is.
///
/// # Errors
/// [`InstallError`]; what was installed before stays, and what was downloaded is kept unless it
/// was wrong.
pub async fn install(
    folder: &Path,
    release: &Release,
    config: &PullConfig,
    stop: CancellationToken,
    mut tell: impl FnMut(Fetched),
) -> Result<Installed, InstallError> {
    let _held = lock(folder)?;
    if let Some(there) = installed(folder).filter(|it| it.sha256 == hex::encode(release.sha256)) {
        return Ok(there);
    }
    let downloads = folder.join("downloads");
    private(&downloads)?;
    let wanted = release.wanted();
    let archive = archive_in(&downloads, &wanted);
    wanted
        .fetch(
            config,
            downloads.clone(),
            archive.clone(),
            stop.clone(),
            &mut tell,
        )
        .await?;
    let came = Arc::new(AtomicU64::new(0));
    let working = {
        let (folder, release) = (folder.to_owned(), release.clone());
        let (archive, came) = (archive.clone(), Arc::clone(&came));
        tokio::task::spawn_blocking(move || place(&folder, &release, &archive, &came, &stop))
    };
    tokio::pin!(working);
    let placed = loop {
        tokio::select! {
            placed = &mut working => break placed,
            () = tokio::time::sleep(LOOK) => tell(Fetched {
                step: "unpacking",
                done: came.load(Ordering::Relaxed),
                total: 0,
                rate: 0,
                problem: None,
            }),
        }
    };
    let placed = placed.map_err(|_| InstallError::Archive("unpacking it failed"))?;
    // An archive with the right hash that can't be unpacked will not be better another time.
    if !matches!(
        placed,
        Err(InstallError::Full | InstallError::Stopped | InstallError::Disk { .. })
    ) {
        let _left_for_the_next_time = std::fs::remove_file(&archive);
    }
    placed
}

/// Unpacks beside what is there, and then points at it.
fn place(
    folder: &Path,
    release: &Release,
    archive: &Path,
    came: &AtomicU64,
    stop: &CancellationToken,
) -> Result<Installed, InstallError> {
    let id = release.id();
    let (target, temporary) = (folder.join(&id), folder.join(format!("{id}.new")));
    remove_tree(&temporary)?;
    remove_tree(&target)?;
    private(&temporary)?;
    let unpacked = unpack::unpack(
        archive,
        release,
        &temporary,
        Bounds::default(),
        &mut |bytes| {
            came.fetch_add(bytes, Ordering::Relaxed);
            !stop.is_cancelled()
        },
    );
    let checked = unpacked.and_then(|()| {
        let program = temporary.join(release.layout.program());
        let there = std::fs::symlink_metadata(&program).is_ok_and(|found| found.is_file());
        match there {
            true => Ok(()),
            false => Err(InstallError::Archive("the program is not in it")),
        }
    });
    let moved = checked.and_then(|()| {
        let failed = |error| InstallError::disk(&target, error);
        write_out(&temporary).map_err(failed)?;
        // Between the last byte and here lies all the time that the disk takes.
        if stop.is_cancelled() {
            return Err(InstallError::Stopped);
        }
        std::fs::rename(&temporary, &target).map_err(failed)?;
        sync_folder(folder).map_err(failed)?;
        point(folder, release, &id)
    });
    if moved.is_err() {
        let _best_effort = remove_tree(&temporary);
    }
    moved?;
    tidy(folder, &id);
    tidy_downloads(&folder.join("downloads"), &release.wanted().name);
    installed(folder).ok_or(InstallError::NotInstalled)
}

/// Replaces the pointer in one step.
fn point(folder: &Path, release: &Release, id: &str) -> Result<(), InstallError> {
    let path = folder.join(POINTER);
    let temporary = folder.join("current.json.new");
    let pointer = Pointer {
        format: 1,
        version: release.version.clone(),
        folder: id.to_owned(),
        size: release.size,
        sha256: hex::encode(release.sha256),
    };
    let written = (|| {
        let text = serde_json::to_vec(&pointer)?;
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        sync_folder(folder)
    })();
    written.map_err(|error| InstallError::disk(&path, error))
}

/// Removes earlier versions, unless something still runs from them.
fn tidy(folder: &Path, keep: &str) {
    let Ok(all) = std::fs::read_dir(folder) else {
        return;
    };
    for one in all.flatten() {
        let name = one.file_name();
        let name = name.to_string_lossy();
        let version = name.starts_with(|first: char| first.is_ascii_digit());
        if version && name != keep && runs_from(&one.path()).is_none() {
            let _left_for_the_next_time = remove_tree(&one.path());
        }
    }
}

/// Removes what came of releases that are wanted no more. The archive itself goes with whoever
/// had it unpacked.
fn tidy_downloads(downloads: &Path, keep: &str) {
    let Ok(all) = std::fs::read_dir(downloads) else {
        return;
    };
    for one in all.flatten() {
        let of_another = !one.file_name().to_string_lossy().starts_with(keep);
        if of_another && one.file_type().is_ok_and(|kind| !kind.is_dir()) {
            let _left_for_the_next_time = std::fs::remove_file(one.path());
        }
    }
}

/// What [`remove`] took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Of Ollama.
    pub version: Option<String>,
    /// Whether models of its are still there.
    pub models: bool,
}

/// Removes what we installed, with what was downloaded of it. Its models stay unless `models`.
/// Blocks.
///
/// # Errors
/// [`InstallError::Running`]: it runs; [`InstallError::NotInstalled`].
pub fn remove(folder: &Path, models: bool) -> Result<Removed, InstallError> {
    if !folder.is_dir() {
        return Err(InstallError::NotInstalled);
    }
    let held = lock(folder)?;
    let version = pointer(folder).map(|pointer| pointer.version);
    if let Some(process) = runs_from(folder) {
        return Err(InstallError::Running { process });
    }
    let has_models = |folder: &Path| folder.join("models").is_dir();
    if version.is_none() && !(models && has_models(folder)) && !folder.join("downloads").is_dir() {
        return Err(InstallError::NotInstalled);
    }
    // The pointer first: what it points at is whole or not there.
    match std::fs::remove_file(folder.join(POINTER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(InstallError::disk(folder.join(POINTER), error));
        }
        _ => {}
    }
    tidy(folder, "");
    remove_tree(&folder.join("downloads"))?;
    if models {
        remove_tree(&folder.join("models"))?;
        remove_tree(&folder.join("home"))?;
    }
    drop(held);
    Ok(Removed {
        version,
        models: has_models(folder),
    })
}

/// A process that runs a program in this folder.
fn runs_from(folder: &Path) -> Option<u32> {
    let folder = folder.canonicalize().ok()?;
    let all = std::fs::read_dir("/proc").ok()?;
    all.flatten().find_map(|one| {
        let process = one.file_name().to_str()?.parse().ok()?;
        let program = std::fs::read_link(one.path().join("exe")).ok()?;
        program.starts_with(&folder).then_some(process)
    })
}

/// Held by who installs or removes. Closing the file alone would end the lock later: a program that
/// another thread is just starting has a copy of it for a moment.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        let _ends_later_then = self.0.unlock();
    }
}

fn lock(folder: &Path) -> Result<Held, InstallError> {
    private(folder)?;
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let file = options.open(&path);
    let file = file.map_err(|error| InstallError::disk(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Held(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(InstallError::Busy),
        Err(std::fs::TryLockError::Error(error)) => Err(InstallError::disk(&path, error)),
    }
}

fn private(folder: &Path) -> Result<(), InstallError> {
    crate::starter::private_folder(folder).map_err(|error| InstallError::disk(folder, error))
}

fn remove_tree(folder: &Path) -> Result<(), InstallError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(InstallError::disk(folder, error))
        }
        _ => Ok(()),
    }
}

/// Everything that was written below a folder is on the disk after this.
fn write_out(folder: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd as _;

        let open = File::open(folder)?;
        // SAFETY: a system call without memory; the descriptor is open while it runs.
        if unsafe { libc::syncfs(open.as_raw_fd()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    sync_folder(folder)
}

/// Makes a rename last.
fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _no_folders = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use sha2::{Digest as _, Sha256};

    use super::*;

    /// An archive whose unpacking says nothing of bytes, so that nothing in it ends it.
    fn packed() -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        tar.append_data(&mut header, "bin/ollama", io::empty())
            .unwrap();
        let tar = tar.into_inner().unwrap();
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(tar.as_slice(), flate2::Compression::fast())
            .read_to_end(&mut packed)
            .unwrap();
        packed
    }

    #[test]
    fn one_that_is_cancelled_after_its_last_byte_is_not_installed_and_its_archive_counts_as_kept() {
        let content = packed();
        let list = serde_json::json!({
            "version": 1, "date": "2026-11-27", "release": "0.12.10", "license": "MIT",
            "license_url": "https://hub.test/LICENSE",
            "archives": [{
                "system": "linux", "machine": "x86_64",
                "source": "https://hub.test/v0.12.10/ollama.tgz",
                "size": content.len(), "sha256": hex::encode(Sha256::digest(&content)),
            }],
        });
        let release = Release::parse(&list.to_string(), "linux", "x86_64").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let downloads = folder.join("downloads");
        private(&downloads).unwrap();
        assert_eq!(kept(folder, &release), 0);
        let archive = archive_in(&downloads, &release.wanted());
        std::fs::write(&archive, &content).unwrap();
        assert_eq!(kept(folder, &release), release.size);

        let stop = CancellationToken::new();
        stop.cancel();
        let came = AtomicU64::new(0);
        let ended = place(folder, &release, &archive, &came, &stop);
        assert!(matches!(ended, Err(InstallError::Stopped)), "{ended:?}");
        assert_eq!(installed(folder), None);
        let left: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|one| one.unwrap().file_name())
            .collect();
        assert_eq!(left, ["downloads"], "nothing of what was unpacked");
        assert_eq!(kept(folder, &release), release.size);

        let stop = CancellationToken::new();
        let done = place(folder, &release, &archive, &came, &stop).unwrap();
        assert_eq!(done.version, "0.12.10");
    }
}

//! A small disk of its own for a folder: to be filled, or made read-only. Modes don't hold back root,
//! a mount does.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system in memory, unmounted when dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one of this size here. `None`, with a line that says why, where the machine does not
    /// let us; without the right to mount, the test is run again in a namespace of its own: then
    /// `None` as well.
    pub(crate) fn mount(test: &str, place: &Path, size: &str) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=700"),
                "tmpfs",
            ])
            .arg(place)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(place.to_owned()));
        }
        if std::env::var_os("AICO_TEST_NAMESPACE").is_some() {
            eprintln!("skipped {test}: no file system can be mounted, in a namespace neither");
            return None;
        }
        let again = Command::new("unshare")
            .arg("-rm")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env("AICO_TEST_NAMESPACE", "1")
            .status();
        match again {
            Ok(status) => assert!(status.success(), "{test} failed in its namespace"),
            Err(error) => eprintln!("skipped {test}: neither mount nor unshare works ({error})"),
        }
        None
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .unwrap();
        for size in [1 << 16, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Makes room again.
    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// `ro` or `rw`.
    pub(crate) fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,bind,{options}")])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the small disk stays mounted"
        );
    }
}

/// One in a folder for the time of a test. Unmounted before the folder goes.
pub(crate) struct SmallDisk(pub(crate) Disk, TempDir);

impl SmallDisk {
    /// As [`Disk::mount`].
    pub(crate) fn mount(test: &str, size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::mount(test, &folder.path().join("disk"), size)?;
        Some(Self(disk, folder))
    }

    /// As [`Disk::remount`].
    pub(crate) fn remount(&self, options: &str) {
        self.0.remount(options);
    }
}

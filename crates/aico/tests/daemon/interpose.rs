//! A disk that fails as the test wants, under a real daemon: `interpose.c`, loaded into the daemon and
//! switched by a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::preload;
use crate::support::World;

/// What the disk does from now on.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// There is no room.
    Full,
    /// Nothing can be changed.
    ReadOnly,
    /// Syncs fail.
    NoSync,
    /// Reads fail.
    NoRead,
    /// Writes fail.
    NoWrite,
    /// Each sync takes so long.
    Slow(Duration),
    /// Each rename takes so long.
    SlowSwap(Duration),
}

/// The switch of a world's disk.
pub(crate) struct FaultyDisk {
    control: PathBuf,
}

impl FaultyDisk {
    /// From the next start on, the daemon's calls on files pass through here.
    pub(crate) fn under(world: &mut World) -> Self {
        let control = world.path("disk");
        std::fs::write(&control, "").unwrap();
        world.set("LD_PRELOAD", preload::built("interpose.c"));
        world.set("AICO_TEST_DISK", &control);
        Self { control }
    }

    /// For everything under a folder.
    pub(crate) fn fails(&self, fault: Fault, folder: &Path) {
        let (mode, number) = match fault {
            Fault::Full => ("full", 0),
            Fault::ReadOnly => ("readonly", 0),
            Fault::NoSync => ("nosync", 0),
            Fault::NoRead => ("noread", 0),
            Fault::NoWrite => ("nowrite", 0),
            Fault::Slow(time) => ("slow", time.as_millis()),
            Fault::SlowSwap(time) => ("slowswap", time.as_millis()),
        };
        self.set(&format!("{mode} {number} {}\n", folder.display()));
    }

    /// All is well again.
    pub(crate) fn mend(&self) {
        self.set("");
    }

    /// At once: nobody reads half of it.
    fn set(&self, text: &str) {
        let next = self.control.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, &self.control).unwrap();
    }
}

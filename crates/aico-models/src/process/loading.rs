//! Loading a model file: how far it is, told now and then, and an end when nobody wants it.
//!
//! The file is read once before the library maps it. The library would have the system read it as
//! well, within one call that tells nothing and can't be ended; so what takes long on a slow disk
//! is counted here. The second half is the library's: it brings some kinds of weights into an order
//! that this processor computes faster with.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::launch::{Failure, Report};
use crate::disk;

/// How often it is told at most.
const EVERY: Duration = Duration::from_millis(250);
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Ends a load when it is dropped; one that is done stays so.
pub(super) struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Tells the daemon how far a load is.
pub(super) struct Loading {
    wanted: Arc<AtomicBool>,
    tell: fn(&Report),
    told: Option<(u8, Instant)>,
}

/// The halves of a load.
#[derive(Clone, Copy)]
pub(super) enum Half {
    /// The file is read.
    Read,
    /// The library takes it.
    Taken,
}

impl Loading {
    /// It is told by `tell`, and goes on until the other part is dropped.
    pub(super) fn new(tell: fn(&Report)) -> (Self, Wanted) {
        let wanted = Arc::new(AtomicBool::new(true));
        let loading = Self {
            wanted: Arc::clone(&wanted),
            tell,
            told: None,
        };
        (loading, Wanted(wanted))
    }

    /// So much of a half is done: from 0 to 1. False: it is not wanted any more.
    pub(super) fn at(&mut self, half: Half, done: f64) -> bool {
        let before = match half {
            Half::Read => 0.0,
            Half::Taken => 50.0,
        };
        // The cast saturates, and what is no number becomes 0.
        let percent = (before + done.clamp(0.0, 1.0) * 50.0) as u8;
        let now = Instant::now();
        let due = self.told.is_none_or(|(last, at)| {
            percent > last && (percent == 100 || now.duration_since(at) >= EVERY)
        });
        if due {
            self.told = Some((percent, now));
            (self.tell)(&Report::Loading(percent));
        }
        self.wanted.load(Ordering::Relaxed)
    }
}

/// Reads the file, and tells whether it is still the one that was registered.
pub(super) fn check(
    model: &Path,
    size: u64,
    sha256: Option<&str>,
    loading: &mut Loading,
) -> Result<(), Failure> {
    let unread = |otherwise: Failure| {
        move |error| match disk::is_failure(&error) {
            true => Failure::Unreadable,
            false => otherwise,
        }
    };
    let file = File::open(model).map_err(unread(Failure::Missing))?;
    let about = file.metadata().map_err(unread(Failure::Missing))?;
    if about.len() != size {
        return Err(Failure::Damaged);
    }
    let mut file = Counted {
        file,
        done: 0,
        size,
        loading,
    };
    match sha256 {
        Some(wanted) => {
            let found = super::hash(&mut file).map_err(unread(Failure::Damaged))?;
            match hex::encode(found).eq_ignore_ascii_case(wanted) {
                true => Ok(()),
                false => Err(Failure::Damaged),
            }
        }
        None => {
            let mut buffer = vec![0; PIECE];
            while file.read(&mut buffer).map_err(unread(Failure::Damaged))? > 0 {}
            Ok(())
        }
    }
}

/// A file that tells how far it is read.
struct Counted<'a> {
    file: File,
    done: u64,
    size: u64,
    loading: &'a mut Loading,
}

impl Read for Counted<'_> {
    #[expect(clippy::cast_precision_loss, reason = "a part of a hundred")]
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let done = self.done as f64 / self.size.max(1) as f64;
        if !self.loading.at(Half::Read, done) {
            return Err(std::io::Error::other("nobody wants it any more"));
        }
        let read = self.file.read(buffer)?;
        self.done += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    static TOLD: Mutex<Vec<Report>> = Mutex::new(Vec::new());

    fn note(report: &Report) {
        TOLD.lock().unwrap().push(report.clone());
    }

    #[test]
    fn a_file_is_read_to_its_half_and_the_end_is_always_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, vec![7; 3 << 20]).unwrap();
        let (mut loading, wanted) = Loading::new(note);
        check(&path, 3 << 20, None, &mut loading).unwrap();
        assert!(loading.at(Half::Taken, 0.0));
        assert!(loading.at(Half::Taken, 1.0));
        assert!(loading.at(Half::Taken, f64::NAN));
        let told = std::mem::take(&mut *TOLD.lock().unwrap());
        // In between it depends on the machine how often.
        assert_eq!(told.first(), Some(&Report::Loading(0)));
        assert_eq!(told.last(), Some(&Report::Loading(100)));

        let hash = hex::encode(super::super::hash(&mut File::open(&path).unwrap()).unwrap());
        assert_eq!(check(&path, 3 << 20, Some(&hash), &mut loading), Ok(()));
        let other = check(&path, 3 << 20, Some("00"), &mut loading);
        assert_eq!(other, Err(Failure::Damaged));
        let shorter = check(&path, 4 << 20, None, &mut loading);
        assert_eq!(shorter, Err(Failure::Damaged));

        // Given up, it ends at the next piece.
        drop(wanted);
        assert!(check(&path, 3 << 20, None, &mut loading).is_err());
        assert!(!loading.at(Half::Taken, 0.5));
    }

    /// Nothing is at the beginning of a process's memory: the system answers with EIO.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_fails_at_reading_is_no_damage_of_the_file() {
        let (mut loading, _wanted) = Loading::new(|_| {});
        for hash in [None, Some("00")] {
            let read = check(Path::new("/proc/self/mem"), 0, hash, &mut loading);
            assert_eq!(read, Err(Failure::Unreadable));
        }
    }
}

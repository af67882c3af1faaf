//! What the program changes in a folder, written down beneath it by `recorder.c`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::preload;
use crate::support::World;

/// One change, in the order in which they happened.
#[derive(Debug)]
pub(super) enum Record {
    Created {
        path: PathBuf,
        file: u64,
        mode: u32,
    },
    Wrote {
        file: u64,
        at: usize,
        bytes: Vec<u8>,
    },
    Length {
        file: u64,
        length: usize,
    },
    Synced {
        file: u64,
    },
    FolderMade {
        path: PathBuf,
        mode: u32,
    },
    FolderSynced {
        path: PathBuf,
    },
    /// A file or a folder.
    Removed {
        path: PathBuf,
    },
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    Linked {
        from: PathBuf,
        to: PathBuf,
    },
    /// From here on its content changes without being seen.
    Mapped {
        path: PathBuf,
        file: u64,
    },
    Mode {
        path: PathBuf,
        mode: u32,
    },
}

/// Fields of `struct control`, in bytes from its beginning.
const RECORDS: u64 = 0;
const TAKES: u64 = 8;
const FULL: u64 = 16;
/// Bytes of `struct record`.
const HEAD: usize = 40;

/// Records what a world's program does from now on.
pub(super) struct Recorder {
    folder: tempfile::TempDir,
    control: File,
}

impl Recorder {
    /// Begins; the world's folder is what is looked at.
    pub(super) fn begin(world: &mut World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(world.path("")).unwrap();
        let (log, page) = (folder.path().join("log"), folder.path().join("control"));
        File::create(&log).unwrap();
        let control = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&page)
            .unwrap();
        control.set_len(4096).unwrap();
        // Sockets, what the tests themselves write, and the model, which is inside the program.
        let skipped: Vec<OsString> = ["data/run", "data/models", "stderr"]
            .iter()
            .map(|name| root.join(name).into_os_string())
            .collect();
        world.set("LD_PRELOAD", library());
        world.set("AICO_RECORD_ROOT", root);
        world.set("AICO_RECORD_SKIP", skipped.join(OsStr::new(":")));
        world.set("AICO_RECORD_LOG", log);
        world.set("AICO_RECORD_CONTROL", page);
        Self { folder, control }
    }

    fn field(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, at).unwrap();
        u64::from_ne_bytes(bytes)
    }

    /// Records up to now: what was acknowledged before this is to outlive a cut after it.
    pub(super) fn position(&self) -> usize {
        usize::try_from(self.field(RECORDS)).unwrap()
    }

    /// Calls up to now that take space.
    pub(super) fn takes(&self) -> u64 {
        self.field(TAKES)
    }

    /// From this one of them on there is none; `None`: there is enough.
    pub(super) fn full_from(&self, take: Option<u64>) {
        let bytes = take.unwrap_or(0).to_ne_bytes();
        self.control.write_all_at(&bytes, FULL).unwrap();
    }

    /// Everything that was recorded.
    pub(super) fn records(&self) -> Vec<Record> {
        let log = fs::read(self.folder.path().join("log")).unwrap();
        let mut rest = &log[..];
        let mut all = Vec::new();
        while !rest.is_empty() {
            let size = number(rest, 0);
            all.push(parse(&rest[..size]));
            rest = &rest[size..];
        }
        all
    }
}

fn number(record: &[u8], at: usize) -> usize {
    u32::from_ne_bytes(record[at..at + 4].try_into().unwrap()) as usize
}

fn parse(record: &[u8]) -> Record {
    let long = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
    let (file, at) = (long(8), usize::try_from(long(16)).unwrap());
    let (mode, first, second) = (number(record, 24), number(record, 28), number(record, 32));
    let mode = u32::try_from(mode).unwrap();
    let (paths, bytes) = record[HEAD..].split_at(first + second);
    let text = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    let (path, other) = (text(&paths[..first]), text(&paths[first..]));
    match number(record, 4) {
        1 => Record::Created { path, file, mode },
        2 => Record::Wrote {
            file,
            at,
            bytes: bytes.to_vec(),
        },
        3 => Record::Length { file, length: at },
        4 => Record::Synced { file },
        5 => Record::FolderMade { path, mode },
        6 | 7 => Record::Removed { path },
        8 => Record::Renamed {
            from: path,
            to: other,
        },
        9 => Record::Linked {
            from: path,
            to: other,
        },
        10 => Record::FolderSynced { path },
        11 => Record::Mapped { path, file },
        12 => Record::Mode { path, mode },
        kind => panic!("a record of kind {kind}"),
    }
}

/// The recorder, compiled once for all tests of this process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| preload::built("power/recorder.c"))
}

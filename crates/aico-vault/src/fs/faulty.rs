//! A file system for tests that keeps its promises to the letter and no more.
//!
//! What was written is seen at once, as through the page cache. What survives a power cut is only
//! what was synced, and of the rest *any* part: each write not yet synced is dropped or kept, or
//! torn at a multiple of 512 bytes, whatever order it was made in; each entry of a folder is the
//! old one or the new one.
//! After a number of operations that the test chooses, everything fails as if the process were gone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Entry, Filesystem, FsFile, Kind};

const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct Inode {
    /// As the page cache has it.
    now: Vec<u8>,
    durable: Vec<u8>,
    /// What was done since the last sync.
    since: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone)]
enum Entries {
    Set(Vec<(PathBuf, Option<Node>)>),
    MoveFolder { from: PathBuf, to: PathBuf },
}

impl Entries {
    /// Whether one of the entries is in this folder.
    fn is_in(&self, folder: &Path) -> bool {
        let inside = |path: &PathBuf| path.parent() == Some(folder);
        match self {
            Self::Set(all) => all.iter().any(|(path, _)| inside(path)),
            Self::MoveFolder { from, to } => inside(from) || inside(to),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder,
}

#[derive(Clone, Default)]
struct Disk {
    inodes: Vec<Inode>,
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of entries since the last sync of their folder. A rename is one change of two, and
    /// that of a folder takes along what is in it.
    since: Vec<Entries>,
    operations: usize,
    /// Operations from this number on fail.
    stop_at: Option<usize>,
    /// Writes fail for want of space.
    full: bool,
    /// Syncs fail.
    no_sync: bool,
    /// Nothing can be changed.
    read_only: bool,
    /// Names whose files and folders belong to another user.
    foreign: BTreeSet<PathBuf>,
}

/// The file system; clones are the same one.
#[derive(Clone, Default)]
pub struct Faulty(Arc<Mutex<Disk>>);

/// Small reproducible random numbers (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

impl Faulty {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk of its own with the same content.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.disk().clone())))
    }

    /// How many operations that change something there have been.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.disk().operations
    }

    /// Lets this many more operations pass; the next fail, as if the process had been killed.
    pub fn stop_after(&self, more: usize) {
        let mut disk = self.disk();
        disk.stop_at = Some(disk.operations + more);
    }

    /// From now on writes fail for want of space, after half of them; or no longer.
    pub fn set_full(&self, full: bool) {
        self.disk().full = full;
    }

    /// From now on syncs fail; or no longer.
    pub fn set_no_sync(&self, no_sync: bool) {
        self.disk().no_sync = no_sync;
    }

    /// From now on nothing can be changed, as on a disk that was remounted; or again.
    pub fn set_read_only(&self, read_only: bool) {
        self.disk().read_only = read_only;
    }

    /// From now on what has this name belongs to another user; or no longer.
    pub fn set_foreign(&self, path: &Path, foreign: bool) {
        let mut disk = self.disk();
        match foreign {
            true => disk.foreign.insert(path.to_path_buf()),
            false => disk.foreign.remove(path),
        };
    }

    /// The disk as a new process finds it after this one was killed.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut disk = self.disk().clone();
        disk.stop_at = None;
        disk.full = false;
        disk.no_sync = false;
        disk.read_only = false;
        Self(Arc::new(Mutex::new(disk)))
    }

    /// The disk after a power cut.
    #[must_use]
    pub fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let mut disk = self.disk().clone();
        for inode in &mut disk.inodes {
            let mut content = std::mem::take(&mut inode.durable);
            for change in std::mem::take(&mut inode.since) {
                match change {
                    Change::Length(len) if dice.roll(2) == 0 => content.resize(len, 0),
                    Change::Length(_) => {}
                    Change::Write { offset, bytes } => match dice.roll(4) {
                        0 => {}
                        // The length arrived and the bytes did not.
                        1 => content.resize(content.len().max(offset + bytes.len()), 0),
                        2 => put(&mut content, offset, &bytes),
                        _ => torn(&mut content, offset, &bytes, dice),
                    },
                }
            }
            inode.durable.clone_from(&content);
            inode.now = content;
        }
        let mut entries = disk.durable.clone();
        for change in std::mem::take(&mut disk.since) {
            if dice.roll(2) == 0 {
                apply(&mut entries, &change);
            }
        }
        disk.durable.clone_from(&entries);
        disk.now = entries;
        disk.stop_at = None;
        disk.full = false;
        disk.no_sync = false;
        disk.read_only = false;
        Self(Arc::new(Mutex::new(disk)))
    }

    /// The content of a file.
    #[must_use]
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        match disk.now.get(path) {
            Some(Node::File(inode)) => Some(disk.inodes[*inode].now.clone()),
            _ => None,
        }
    }

    /// Puts bytes in place, durably.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        let inode = disk.inodes.len();
        let content = bytes.to_vec();
        disk.inodes.push(Inode {
            now: content.clone(),
            durable: content,
            since: Vec::new(),
        });
        disk.now.insert(path.to_path_buf(), Node::File(inode));
        disk.durable.insert(path.to_path_buf(), Node::File(inode));
    }

    /// All paths there are.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk().now.keys().cloned().collect()
    }
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    content.resize(content.len().max(offset + bytes.len()), 0);
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Some sectors of a write arrive, others don't.
fn torn(content: &mut Vec<u8>, offset: usize, bytes: &[u8], dice: &mut Dice) {
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes
            .len()
            .min((offset + at) / SECTOR * SECTOR + SECTOR - offset);
        if dice.roll(2) == 0 {
            put(content, offset + at, &bytes[at..end]);
        }
        at = end;
    }
}

fn apply(entries: &mut BTreeMap<PathBuf, Node>, change: &Entries) {
    match change {
        Entries::Set(all) => {
            for (path, node) in all {
                match node {
                    Some(node) => entries.insert(path.clone(), *node),
                    None => entries.remove(path),
                };
            }
        }
        Entries::MoveFolder { from, to } => {
            let inside = |path: &&PathBuf| path.starts_with(from);
            let moved: Vec<PathBuf> = entries.keys().filter(inside).cloned().collect();
            for path in moved {
                let rest = path.strip_prefix(from).map(|rest| match rest {
                    rest if rest.as_os_str().is_empty() => to.clone(),
                    rest => to.join(rest),
                });
                if let (Some(node), Ok(new)) = (entries.remove(&path), rest) {
                    entries.insert(new, node);
                }
            }
        }
    }
}

impl Disk {
    fn operation(&mut self) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if self.stop_at.is_some_and(|stop| self.operations >= stop) {
            return Err(io::Error::other("the process is gone"));
        }
        self.operations += 1;
        Ok(())
    }

    fn change(&mut self, change: Vec<(PathBuf, Option<Node>)>) -> io::Result<()> {
        self.change_entries(Entries::Set(change))
    }

    fn change_entries(&mut self, change: Entries) -> io::Result<()> {
        self.operation()?;
        apply(&mut self.now, &change);
        self.since.push(change);
        Ok(())
    }
}

struct FaultyFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
}

impl FsFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self
            .disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .inodes[self.inode]
            .now
            .len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let content = disk.inodes[self.inode]
            .now
            .get(offset as usize..)
            .unwrap_or_default();
        let count = buffer.len().min(content.len());
        buffer[..count].copy_from_slice(&content[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let full = disk.full;
        let killed = disk.operation();
        if disk.read_only {
            return killed;
        }
        // A write that is refused or interrupted may have got half of the way.
        let bytes = if full || killed.is_err() {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        let inode = &mut disk.inodes[self.inode];
        put(&mut inode.now, offset as usize, bytes);
        inode.since.push(Change::Write {
            offset: offset as usize,
            bytes: bytes.to_vec(),
        });
        killed?;
        if full {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.operation()?;
        let inode = &mut disk.inodes[self.inode];
        inode.now.resize(len as usize, 0);
        inode.since.push(Change::Length(len as usize));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.operation()?;
        let failed = disk.no_sync;
        let inode = &mut disk.inodes[self.inode];
        let changes = std::mem::take(&mut inode.since);
        if failed {
            // As Linux has it: what could not be written is taken for written from now on. It can be
            // read, by the next process too, and no later sync makes it durable.
            return Err(io::Error::other("sync failed"));
        }
        for change in changes {
            match change {
                Change::Length(len) => inode.durable.resize(len, 0),
                Change::Write { offset, bytes } => put(&mut inode.durable, offset, &bytes),
            }
        }
        Ok(())
    }

    fn try_clone(&self) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(Self {
            disk: Arc::clone(&self.disk),
            inode: self.inode,
        }))
    }
}

impl Filesystem for Faulty {
    fn probe(&self, path: &Path) -> io::Result<Option<Entry>> {
        let disk = self.disk();
        Ok(disk.now.get(path).map(|node| {
            let (kind, len) = match node {
                Node::File(inode) => (Kind::File, disk.inodes[*inode].now.len() as u64),
                Node::Folder => (Kind::Folder, 0),
            };
            Entry {
                kind,
                len,
                mine: !disk.foreign.contains(path),
                open_to_others: false,
            }
        }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let disk = self.disk();
        let inside = disk.now.keys().filter(|path| path.parent() == Some(folder));
        Ok(inside
            .filter_map(|path| path.file_name())
            .map(OsString::from)
            .collect())
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Box<dyn FsFile>> {
        match self.disk().now.get(path) {
            Some(Node::File(inode)) => Ok(Box::new(FaultyFile {
                disk: Arc::clone(&self.0),
                inode: *inode,
            })),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let mut disk = self.disk();
        if disk.now.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = disk.inodes.len();
        disk.inodes.push(Inode::default());
        disk.change(vec![(path.to_path_buf(), Some(Node::File(inode)))])?;
        Ok(Box::new(FaultyFile {
            disk: Arc::clone(&self.0),
            inode,
        }))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.now.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        disk.change(vec![(path.to_path_buf(), Some(Node::Folder))])
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let node = *disk.now.get(from).ok_or(io::ErrorKind::NotFound)?;
        if node == Node::Folder {
            if disk.now.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let (from, to) = (from.to_path_buf(), to.to_path_buf());
            return disk.change_entries(Entries::MoveFolder { from, to });
        }
        disk.change(vec![
            (from.to_path_buf(), None),
            (to.to_path_buf(), Some(node)),
        ])
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.disk().now.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.now.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(vec![(path.to_path_buf(), None)])
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operation()?;
        if disk.no_sync {
            return Err(io::Error::other("sync failed"));
        }
        let Disk { durable, since, .. } = &mut *disk;
        since.retain(|change| {
            let here = change.is_in(folder);
            if here {
                apply(durable, change);
            }
            !here
        });
        Ok(())
    }
}

//! What a disk may hold when the power goes.
//!
//! Kept is what was synced: the content and length of a file by a sync of the file, an entry of a
//! folder by a sync of that folder. Of the rest any part is kept, in whatever order it was done;
//! of one write any of its sectors. A rename is one change, though it touches two entries.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::recording::Record;

/// What becomes of a change that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Dropped,
    Kept,
    /// Of a write: the file is as long as it makes it, and the bytes did not arrive.
    LengthOnly,
    /// Of a write: the sectors (of this size) whose bit is set; the bits repeat.
    Sectors(usize, u64),
}

/// A change that was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// Number of its record.
    pub(super) record: usize,
    /// Where and how long, for a write.
    pub(super) write: Option<(usize, usize)>,
    /// Of an entry of a folder, not of a file's content.
    pub(super) is_name: bool,
}

type Entries = BTreeMap<(usize, OsString), usize>;

#[derive(Clone)]
enum Node {
    File {
        durable: Vec<u8>,
        since: Vec<(usize, Change)>,
    },
    Folder,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone)]
struct NameChange {
    record: usize,
    sets: Vec<((usize, OsString), Option<usize>)>,
    synced: bool,
}

/// A disk while it is written to.
#[derive(Clone)]
pub(super) struct Medium {
    root: PathBuf,
    nodes: Vec<(u32, Node)>,
    /// The newest file that has an inode.
    inodes: HashMap<u64, usize>,
    /// As programs see it.
    now: Entries,
    /// What of it is kept whatever happens, before `changes`.
    base: Entries,
    changes: Vec<NameChange>,
    /// Rises with each sync that changed something.
    syncs: usize,
    records: usize,
}

/// What is on a disk after a cut.
pub(super) struct Tree(BTreeMap<PathBuf, (u32, Option<Vec<u8>>)>);

impl Medium {
    /// A folder as it is, all of it durable.
    pub(super) fn of(root: &Path) -> Self {
        let root = fs::canonicalize(root).unwrap();
        let mut medium = Self {
            nodes: vec![(0o700, Node::Folder)],
            root: root.clone(),
            inodes: HashMap::new(),
            now: Entries::new(),
            base: Entries::new(),
            changes: Vec::new(),
            syncs: 0,
            records: 0,
        };
        medium.take_in(&root, 0);
        medium.base = medium.now.clone();
        medium
    }

    fn take_in(&mut self, folder: &Path, parent: usize) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let about = entry.metadata().unwrap();
            let node = match (about.is_dir(), about.is_file()) {
                (true, _) => Node::Folder,
                (_, true) => Node::File {
                    durable: fs::read(entry.path()).unwrap(),
                    since: Vec::new(),
                },
                _ => continue,
            };
            let id = self.nodes.len();
            self.nodes.push((about.mode() & 0o7777, node));
            self.now.insert((parent, entry.file_name()), id);
            if about.is_dir() {
                self.take_in(&entry.path(), id);
            } else {
                self.inodes.insert(about.ino(), id);
            }
        }
    }

    /// Records that were applied.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// The folder and name of a path, as programs see it now.
    fn place(&self, path: &Path) -> (usize, OsString) {
        let inside = path.strip_prefix(&self.root).unwrap();
        let mut names: Vec<_> = inside.iter().collect();
        let last = names.pop().unwrap_or_default();
        let folder = names.into_iter().fold(0, |folder, name| {
            let found = self.now.get(&(folder, name.to_owned()));
            *found.unwrap_or_else(|| panic!("no folder {}", path.display()))
        });
        (folder, last.to_owned())
    }

    fn at(&self, path: &Path) -> Option<usize> {
        match path == self.root {
            true => Some(0),
            false => self.now.get(&self.place(path)).copied(),
        }
    }

    fn file(&mut self, inode: u64) -> (&mut Vec<u8>, &mut Vec<(usize, Change)>) {
        let id = *self
            .inodes
            .get(&inode)
            .expect("a file that was not seen being made");
        match &mut self.nodes[id].1 {
            Node::File { durable, since } => (durable, since),
            Node::Folder => panic!("a folder is written to"),
        }
    }

    fn change(&mut self, sets: Vec<((usize, OsString), Option<usize>)>) {
        set_all(&mut self.now, &sets);
        self.changes.push(NameChange {
            record: self.records,
            sets,
            synced: false,
        });
    }

    fn make(&mut self, path: &Path, mode: u32, node: Node) -> usize {
        let id = self.nodes.len();
        self.nodes.push((mode, node));
        self.change(vec![(self.place(path), Some(id))]);
        id
    }

    /// The next record.
    pub(super) fn apply(&mut self, record: &Record) {
        let number = self.records;
        match record {
            Record::Created { path, file, mode } => {
                let (durable, since) = (Vec::new(), Vec::new());
                let id = self.make(path, *mode, Node::File { durable, since });
                self.inodes.insert(*file, id);
            }
            Record::FolderMade { path, mode } => {
                self.make(path, *mode, Node::Folder);
            }
            Record::Wrote { file, at, bytes } => {
                let (at, bytes) = (*at, bytes.clone());
                self.file(*file)
                    .1
                    .push((number, Change::Write { at, bytes }));
            }
            Record::Length { file, length } => {
                self.file(*file).1.push((number, Change::Length(*length)));
            }
            Record::Synced { file } => {
                let (durable, since) = self.file(*file);
                let changed = !since.is_empty();
                for (_, change) in since.drain(..) {
                    change.apply(durable, Fate::Kept);
                }
                self.syncs += usize::from(changed);
            }
            // What is no file (a socket) was not seen being made either.
            Record::Removed { path } => {
                if self.at(path).is_some() {
                    self.change(vec![(self.place(path), None)]);
                }
            }
            Record::Renamed { from, to } => {
                let node = self.at(from).expect("what is renamed is there");
                let (from, to) = (self.place(from), self.place(to));
                self.change(vec![(from, None), (to, Some(node))]);
            }
            Record::Linked { from, to } => {
                let node = self.at(from).expect("what gets another name is there");
                self.change(vec![(self.place(to), Some(node))]);
            }
            Record::FolderSynced { path } => self.sync_folder(path),
            Record::Mapped { path, file } => {
                let rebuilt = path.to_string_lossy().ends_with("-shm");
                assert!(rebuilt, "{} is written unseen", path.display());
                self.file(*file);
            }
            Record::Mode { path, mode } => {
                if let Some(id) = self.at(path) {
                    self.nodes[id].0 = *mode;
                }
            }
        }
        self.records += 1;
    }

    fn sync_folder(&mut self, path: &Path) {
        let folder = self.at(path).expect("a folder that is synced is there");
        for change in &mut self.changes {
            if !change.synced && change.sets.iter().any(|((parent, _), _)| *parent == folder) {
                change.synced = true;
                self.syncs += 1;
            }
        }
        let done = self.changes.iter().take_while(|change| change.synced);
        let done = done.count();
        for change in self.changes.drain(..done) {
            set_all(&mut self.base, &change.sets);
        }
    }

    /// What was not synced, oldest first.
    pub(super) fn pending(&self) -> Vec<Pending> {
        let names = self.changes.iter().filter(|change| !change.synced);
        let mut all: Vec<_> = names
            .map(|change| Pending {
                record: change.record,
                write: None,
                is_name: true,
            })
            .collect();
        for (_, node) in &self.nodes {
            let Node::File { since, .. } = node else {
                continue;
            };
            all.extend(since.iter().map(|(record, change)| Pending {
                record: *record,
                write: match change {
                    Change::Write { at, bytes } => Some((*at, bytes.len())),
                    Change::Length(_) => None,
                },
                is_name: false,
            }));
        }
        all.sort_by_key(|pending| pending.record);
        all
    }

    /// Two cuts with the same answer leave the same disk.
    pub(super) fn signature(&self, fates: &BTreeMap<usize, Fate>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.syncs.hash(&mut hasher);
        for (record, fate) in fates {
            if *fate != Fate::Dropped {
                (record, fate).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// The disk after a cut. What has no fate is dropped.
    pub(super) fn after_cut(&self, fates: &BTreeMap<usize, Fate>) -> Tree {
        let fate = |record: &usize| fates.get(record).copied().unwrap_or(Fate::Dropped);
        let mut entries = self.base.clone();
        for change in &self.changes {
            if change.synced || fate(&change.record) != Fate::Dropped {
                set_all(&mut entries, &change.sets);
            }
        }
        self.tree(&entries, |durable, since| {
            let mut content = durable.to_vec();
            for (record, change) in since {
                change.apply(&mut content, fate(record));
            }
            content
        })
    }

    /// The disk as programs see it now.
    pub(super) fn present(&self) -> Tree {
        self.tree(&self.now, |durable, since| {
            let mut content = durable.to_vec();
            for (_, change) in since {
                change.apply(&mut content, Fate::Kept);
            }
            content
        })
    }

    fn tree(
        &self,
        entries: &Entries,
        content: impl Fn(&[u8], &[(usize, Change)]) -> Vec<u8>,
    ) -> Tree {
        let mut tree = BTreeMap::new();
        let mut folders = vec![(PathBuf::new(), 0)];
        while let Some((path, folder)) = folders.pop() {
            let first = (folder, OsString::new());
            let inside = entries
                .range(first..)
                .take_while(|((parent, _), _)| *parent == folder);
            for ((_, name), id) in inside {
                let (path, (mode, node)) = (path.join(name), &self.nodes[*id]);
                match node {
                    Node::Folder => {
                        folders.push((path.clone(), *id));
                        tree.insert(path, (*mode, None));
                    }
                    Node::File { durable, since } => {
                        tree.insert(path, (*mode, Some(content(durable, since))));
                    }
                }
            }
        }
        Tree(tree)
    }

    /// Sees that nothing was changed that was not recorded.
    pub(super) fn is_as_recorded(&self, skipped: &[&str]) {
        let skipped = |path: &Path| skipped.iter().any(|skip| path.starts_with(skip));
        let unseen: HashSet<PathBuf> = {
            let present = self.present();
            let shared = |path: &&PathBuf| path.to_string_lossy().ends_with("-shm");
            present.0.keys().filter(shared).cloned().collect()
        };
        let there = Self::of(&self.root).present();
        let kept = |tree: Tree| -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
            let wanted = |path: &PathBuf| !skipped(path) && !unseen.contains(path);
            tree.0
                .into_iter()
                .filter(|(path, _)| wanted(path))
                .collect()
        };
        let (there, recorded) = (kept(there), kept(self.present()));
        for (path, (mode, content)) in &there {
            let known = recorded.get(path);
            let same = known.is_some_and(|(m, c)| m == mode && c == content);
            assert!(same, "{} was changed unseen", path.display());
        }
        let more: Vec<_> = recorded
            .keys()
            .filter(|path| !there.contains_key(*path))
            .collect();
        assert!(more.is_empty(), "removed unseen: {more:?}");
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>, fate: Fate) {
        match (self, fate) {
            (_, Fate::Dropped) => {}
            (Self::Length(length), _) => content.resize(*length, 0),
            (Self::Write { at, bytes }, Fate::LengthOnly) => {
                content.resize(content.len().max(at + bytes.len()), 0);
            }
            (Self::Write { at, bytes }, Fate::Kept) => put(content, *at, bytes),
            (Self::Write { at, bytes }, Fate::Sectors(size, bits)) => {
                let (mut from, mut number) = (0, 0);
                while from < bytes.len() {
                    let next = ((at + from) / size + 1) * size - at;
                    let to = next.min(bytes.len());
                    if bits >> (number % 64) & 1 == 1 {
                        put(content, at + from, &bytes[from..to]);
                    }
                    (from, number) = (to, number + 1);
                }
            }
        }
    }
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    content.resize(content.len().max(at + bytes.len()), 0);
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

fn set_all(entries: &mut Entries, sets: &[((usize, OsString), Option<usize>)]) {
    for (place, node) in sets {
        match node {
            Some(node) => entries.insert(place.clone(), *node),
            None => entries.remove(place),
        };
    }
}

impl Tree {
    /// The content of a file, by its path in the folder.
    pub(super) fn content(&self, path: &str) -> Option<&[u8]> {
        self.0.get(Path::new(path))?.1.as_deref()
    }

    /// Files whose path ends like this.
    pub(super) fn files(&self, ending: &str) -> impl Iterator<Item = (&Path, &[u8])> {
        let named = self
            .0
            .iter()
            .filter_map(|(path, (_, content))| Some((path.as_path(), content.as_deref()?)));
        named.filter(move |(path, _)| path.to_string_lossy().ends_with(ending))
    }

    /// Puts it into an empty folder.
    pub(super) fn write_to(&self, folder: &Path) {
        for (path, (mode, content)) in &self.0 {
            let path = folder.join(path);
            match content {
                None => fs::DirBuilder::new().mode(*mode).create(&path).unwrap(),
                Some(content) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
            }
        }
    }
}

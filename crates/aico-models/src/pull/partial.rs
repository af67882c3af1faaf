//! A file that is being downloaded: its parts on the disk, and the list of those that are whole.
//!
//! Two files in the folder of downloads: `<name>.partial` has the bytes where they belong,
//! `<name>.parts` one line for each part that was written and synced. A line is written after
//! its bytes are on the disk, and nothing is believed of it later: the bytes are hashed again
//! before they count. docs/formats/model-parts.md has the format.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::catalogue::{Entry, Hash};
use super::error::PullError;

/// First word of the list, and its version.
const MAGIC: &str = "aico-parts 1";
/// Most bytes of the list that are read.
const LIST_LIMIT: u64 = 4 << 20;
const SMALLEST: u64 = 256 << 10;
const LARGEST: u64 = 16 << 20;

/// How a file is cut into parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) size: u64,
    pub(super) part: u64,
}

impl Plan {
    /// As the catalogue cuts it; otherwise into some five hundred parts, none larger than what
    /// a worker keeps in memory.
    pub(super) fn of(entry: &Entry) -> Self {
        let part = match &entry.parts {
            Some(parts) => parts.size,
            None => (entry.size / 512).clamp(SMALLEST, LARGEST),
        };
        Self {
            size: entry.size,
            part,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.size.div_ceil(self.part)
    }

    /// First byte and length of a part.
    pub(super) fn place(&self, index: u64) -> (u64, u64) {
        let first = index * self.part;
        (first, self.part.min(self.size.saturating_sub(first)))
    }
}

/// A part that is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sha256: Hash,
    /// Which version of the file on which server it came from.
    pub(super) tag: u64,
}

/// The two files, open.
pub(super) struct Partial {
    pub(super) plan: Plan,
    file: File,
    path: PathBuf,
    list_path: PathBuf,
    whole: Hash,
    known: Option<Vec<Hash>>,
    state: Mutex<State>,
}

struct State {
    list: File,
    records: BTreeMap<u64, Record>,
    /// Of the part that was written last.
    newest: Option<u64>,
}

/// `<folder>/<name>.<extension>`
fn beside(folder: &Path, name: &str, extension: &str) -> PathBuf {
    // Not `with_extension`, which would cut a name with a dot.
    folder.join(format!("{name}.{extension}"))
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    }
    options
}

impl Partial {
    /// Opens what there is of a file, or begins it. What lies there of another file of the same
    /// name is removed. Nothing is believed yet: see [`Partial::verify`]. Blocks.
    pub(super) fn open(folder: &Path, entry: &Entry) -> Result<Arc<Self>, PullError> {
        let plan = Plan::of(entry);
        let path = beside(folder, &entry.name, "partial");
        let list_path = beside(folder, &entry.name, "parts");
        let records = match read_list(&list_path) {
            Some(list) if list.sha256 == entry.sha256 && list.plan == plan => list.records,
            _ => {
                remove(folder, &entry.name)?;
                BTreeMap::new()
            }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let opened = private(&mut options).open(&path).and_then(|file| {
            file.set_len(plan.size)?;
            Ok(file)
        });
        let file = opened.map_err(|error| PullError::disk(&path, error))?;
        let list = write_list(&list_path, &entry.sha256, plan, &records)
            .map_err(|error| PullError::disk(&list_path, error))?;
        Ok(Arc::new(Self {
            plan,
            file,
            path,
            list_path,
            whole: entry.sha256,
            known: entry.parts.as_ref().map(|parts| parts.sha256.clone()),
            state: Mutex::new(State {
                list,
                records,
                newest: None,
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes what the list names and keeps what is whole; `checked` hears of the bytes. Blocks.
    pub(super) fn verify(&self, mut checked: impl FnMut(u64) -> bool) -> Result<(), PullError> {
        let listed = self.state().records.clone();
        let mut good = BTreeMap::new();
        let mut buffer = Vec::new();
        for (index, record) in &listed {
            if *index >= self.plan.count() {
                continue;
            }
            let (first, length) = self.plan.place(*index);
            buffer.resize(usize::try_from(length).unwrap_or(0), 0);
            read_at(&self.file, &mut buffer, first)
                .map_err(|error| PullError::disk(&self.path, error))?;
            let found: Hash = Sha256::digest(&buffer).into();
            let known = self.known_hash(*index).is_none_or(|known| known == found);
            if found == record.sha256 && known {
                good.insert(*index, *record);
            }
            if !checked(length) {
                return Err(PullError::Stopped);
            }
        }
        if good != listed {
            tracing::info!(
                lost = listed.len() - good.len(),
                kept = good.len(),
                "Parts of a download on the disk were not whole; they are fetched again."
            );
        }
        self.keep(good)
    }

    /// The hash of a part by the catalogue.
    pub(super) fn known_hash(&self, index: u64) -> Option<Hash> {
        let known = self.known.as_ref()?;
        known.get(usize::try_from(index).ok()?).copied()
    }

    /// Forgets all parts but these, on the disk too.
    fn keep(&self, records: BTreeMap<u64, Record>) -> Result<(), PullError> {
        let mut state = self.state();
        if state.records != records {
            state.list = write_list(&self.list_path, &self.whole, self.plan, &records)
                .map_err(|error| PullError::disk(&self.list_path, error))?;
            state.records = records;
        }
        Ok(())
    }

    /// Forgets the parts for which this is not so; those that the catalogue vouches for stay.
    pub(super) fn keep_if(&self, keep: impl Fn(&Record) -> bool) -> Result<(), PullError> {
        let mut records = self.state().records.clone();
        records.retain(|index, record| self.known_hash(*index).is_some() || keep(record));
        self.keep(records)
    }

    /// Parts that are not there.
    pub(super) fn missing(&self) -> Vec<u64> {
        let state = self.state();
        let all = 0..self.plan.count();
        all.filter(|index| !state.records.contains_key(index))
            .collect()
    }

    pub(super) fn has(&self, index: u64) -> bool {
        self.state().records.contains_key(&index)
    }

    /// Bytes that are there.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.state();
        let parts = state.records.keys();
        parts.map(|index| self.plan.place(*index).1).sum()
    }

    /// The tags of the parts that only their whole can prove.
    pub(super) fn unproven_tags(&self) -> Vec<u64> {
        let state = self.state();
        let unproven = state
            .records
            .iter()
            .filter(|(index, _)| self.known_hash(**index).is_none());
        let mut tags: Vec<u64> = unproven.map(|(_, record)| record.tag).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }

    /// Writes a part, syncs it, and only then puts it on the list. Blocks.
    pub(super) fn put(&self, index: u64, bytes: &[u8], tag: u64) -> Result<(), PullError> {
        let (first, length) = self.plan.place(index);
        if u64::try_from(bytes.len()) != Ok(length) {
            return Err(PullError::Broken);
        }
        write_at(&self.file, bytes, first)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| PullError::disk(&self.path, error))?;
        let record = Record {
            sha256: Sha256::digest(bytes).into(),
            tag,
        };
        let mut state = self.state();
        let line = line(index, &record);
        state
            .list
            .write_all(line.as_bytes())
            .and_then(|()| state.list.sync_data())
            .map_err(|error| PullError::disk(&self.list_path, error))?;
        state.records.insert(index, record);
        state.newest = Some(tag);
        Ok(())
    }

    /// The tag of the part that was written last.
    pub(super) fn newest_tag(&self) -> Option<u64> {
        self.state().newest
    }

    /// SHA-256 of the whole. Blocks as long as reading takes.
    pub(super) fn hash(&self, mut checked: impl FnMut(u64) -> bool) -> Result<Hash, PullError> {
        let mut sum = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        while at < self.plan.size {
            let length = (buffer.len() as u64).min(self.plan.size - at);
            let piece = &mut buffer[..usize::try_from(length).unwrap_or(0)];
            read_at(&self.file, piece, at).map_err(|error| PullError::disk(&self.path, error))?;
            sum.update(&*piece);
            at += length;
            if !checked(length) {
                return Err(PullError::Stopped);
            }
        }
        Ok(sum.finalize().into())
    }

    /// Where the bytes are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its place; the list is no longer needed. Blocks.
    pub(super) fn finish(&self, target: &Path) -> Result<(), PullError> {
        let failed = |error| PullError::disk(target, error);
        self.file.sync_all().map_err(failed)?;
        std::fs::rename(&self.path, target).map_err(failed)?;
        if let Some(folder) = target.parent() {
            sync_folder(folder).map_err(failed)?;
        }
        let _left_for_the_next_time = std::fs::remove_file(&self.list_path);
        Ok(())
    }
}

/// Removes everything of a download. Blocks.
pub(super) fn remove(folder: &Path, name: &str) -> Result<(), PullError> {
    for extension in ["parts", "parts.tmp", "partial"] {
        let path = beside(folder, name, extension);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(PullError::disk(path, error)),
        }
    }
    Ok(())
}

/// Bytes that the list of a download names, unproven; 0 where there is none of this file.
pub(super) fn listed_bytes(folder: &Path, entry: &Entry) -> u64 {
    let plan = Plan::of(entry);
    let list = read_list(&beside(folder, &entry.name, "parts"));
    let list = list.filter(|list| list.sha256 == entry.sha256 && list.plan == plan);
    list.map_or(0, |list| {
        let parts = list.records.keys().filter(|index| **index < plan.count());
        parts.map(|index| plan.place(*index).1).sum()
    })
}

struct List {
    sha256: Hash,
    plan: Plan,
    records: BTreeMap<u64, Record>,
}

fn line(index: u64, record: &Record) -> String {
    format!(
        "{index} {} {:016x}\n",
        hex::encode(record.sha256),
        record.tag
    )
}

fn read_list(path: &Path) -> Option<List> {
    let mut options = OpenOptions::new();
    let file = private(options.read(true)).open(path).ok()?;
    let mut text = Vec::new();
    file.take(LIST_LIMIT).read_to_end(&mut text).ok()?;
    parse_list(&String::from_utf8_lossy(&text))
}

/// What a list says. A line that is torn or none is passed over: its part is fetched again.
fn parse_list(text: &str) -> Option<List> {
    let hash = |word: &str| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(word, &mut bytes).ok()?;
        Some(bytes)
    };
    let (head, rest) = text.split_once('\n')?;
    let mut words = head.strip_prefix(MAGIC)?.split_whitespace();
    let sha256 = hash(words.next()?)?;
    let plan = Plan {
        size: words.next()?.parse().ok()?,
        part: words.next()?.parse().ok().filter(|part| *part > 0)?,
    };
    let mut records = BTreeMap::new();
    for line in rest.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let mut words = line.split(' ');
        let read = (|| {
            let index: u64 = words.next()?.parse().ok()?;
            let sha256 = hash(words.next()?)?;
            let tag = u64::from_str_radix(words.next()?, 16).ok()?;
            words.next().is_none().then_some((index, sha256, tag))
        })();
        if let Some((index, sha256, tag)) = read {
            records.insert(index, Record { sha256, tag });
        }
    }
    Some(List {
        sha256,
        plan,
        records,
    })
}

/// Writes a list anew, whole or not at all, and gives it back open for more.
fn write_list(
    path: &Path,
    sha256: &Hash,
    plan: Plan,
    records: &BTreeMap<u64, Record>,
) -> io::Result<File> {
    let mut text = format!(
        "{MAGIC} {} {} {}\n",
        hex::encode(sha256),
        plan.size,
        plan.part
    );
    for (index, record) in records {
        text.push_str(&line(*index, record));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let _none_left = std::fs::remove_file(&temporary);
    let mut options = OpenOptions::new();
    let mut file = private(options.append(true).create_new(true)).open(&temporary)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        let _best_effort = std::fs::remove_file(&temporary);
        return Err(error);
    }
    if let Some(folder) = path.parent() {
        sync_folder(folder)?;
    }
    Ok(file)
}

/// Makes a rename last.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _no_folders = folder;
    Ok(())
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !buffer.is_empty() {
        match file.seek_read(buffer, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                buffer = &mut buffer[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_write(bytes, at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => {
                bytes = &bytes[written..];
                at += written as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::Catalogue;
    use super::*;

    const SIZE: u64 = 10_000;
    const PART: u64 = 4096;

    fn content() -> Vec<u8> {
        (0..SIZE).map(|at| (at * 7 % 251) as u8).collect()
    }

    fn entry(with_parts: bool) -> Entry {
        let text = include_str!("../../../../models/catalogue.json");
        let mut entry = Catalogue::parse(text, None).unwrap().items.remove(0);
        entry.size = SIZE;
        entry.sha256 = Sha256::digest(content()).into();
        let chunks = content();
        let hashes = chunks
            .chunks(PART as usize)
            .map(|chunk| Sha256::digest(chunk).into());
        entry.parts = Some(super::super::catalogue::Parts {
            size: PART,
            sha256: hashes.collect(),
        });
        if !with_parts {
            // The same cut, without hashes.
            entry.parts = None;
        }
        entry
    }

    fn part(index: u64) -> Vec<u8> {
        let first = (index * PART) as usize;
        content()[first..(first + PART as usize).min(SIZE as usize)].to_vec()
    }

    #[test]
    fn parts_are_found_again_and_damaged_ones_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(true);
        {
            let partial = Partial::open(folder.path(), &entry).unwrap();
            assert_eq!(partial.missing(), [0, 1, 2]);
            partial.put(2, &part(2), 7).unwrap();
            partial.put(0, &part(0), 7).unwrap();
            assert!(partial.put(1, &part(2), 7).is_err(), "not its length");
            assert_eq!(partial.bytes(), SIZE - PART);
        }
        assert_eq!(listed_bytes(folder.path(), &entry), SIZE - PART);
        // A line torn by a crash, and one of nonsense.
        let list = beside(folder.path(), &entry.name, "parts");
        let mut file = OpenOptions::new().append(true).open(&list).unwrap();
        file.write_all(b"1 zz 0\n1 00").unwrap();
        {
            let partial = Partial::open(folder.path(), &entry).unwrap();
            partial.verify(|_| true).unwrap();
            assert_eq!(partial.missing(), [1]);
        }
        // A byte of part 0 tips over on the disk.
        let bytes = beside(folder.path(), &entry.name, "partial");
        let mut whole = std::fs::read(&bytes).unwrap();
        whole[5] ^= 1;
        std::fs::write(&bytes, &whole).unwrap();
        {
            let partial = Partial::open(folder.path(), &entry).unwrap();
            partial.verify(|_| true).unwrap();
            assert_eq!(partial.missing(), [0, 1]);
            partial.put(0, &part(0), 7).unwrap();
            partial.put(1, &part(1), 8).unwrap();
            assert_eq!(partial.hash(|_| true).unwrap(), entry.sha256);
            let target = folder.path().join("whole");
            partial.finish(&target).unwrap();
            assert_eq!(std::fs::read(target).unwrap(), content());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_the_catalogue_does_not_vouch_for_goes_when_it_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let proven = Partial::open(folder.path(), &entry(true)).unwrap();
        proven.put(0, &part(0), 1).unwrap();
        assert!(proven.unproven_tags().is_empty());
        proven.keep_if(|_| false).unwrap();
        assert!(proven.has(0));

        let mut other = entry(false);
        other.name = "other".into();
        let unproven = Partial::open(folder.path(), &other).unwrap();
        assert_eq!(unproven.plan.part, SMALLEST, "one part for a small file");
        unproven.put(0, &content(), 3).unwrap();
        assert_eq!(unproven.unproven_tags(), [3]);
        unproven.keep_if(|record| record.tag != 3).unwrap();
        assert_eq!(unproven.missing(), [0]);
        drop(unproven);
        let again = Partial::open(folder.path(), &other).unwrap();
        assert_eq!(again.missing(), [0], "on the disk too");
    }

    #[test]
    fn the_list_of_another_file_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut entry = entry(true);
        let partial = Partial::open(folder.path(), &entry).unwrap();
        partial.put(0, &part(0), 1).unwrap();
        drop(partial);
        entry.sha256[0] ^= 1;
        assert_eq!(listed_bytes(folder.path(), &entry), 0);
        let partial = Partial::open(folder.path(), &entry).unwrap();
        assert_eq!(partial.missing(), [0, 1, 2]);
    }

    /// The vector of docs/formats/model-parts.md.
    #[test]
    fn the_list_is_written_as_documented() {
        let page = include_str!("../../../../docs/formats/model-parts.md");
        let vector = page
            .split("```text\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let list = parse_list(vector).unwrap();
        assert_eq!(
            list.plan,
            Plan {
                size: 10_000,
                part: 4096
            }
        );
        assert_eq!(list.records.keys().copied().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(list.records[&2].tag, 0x0123_4567_89ab_cdef);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parts");
        write_list(&path, &list.sha256, list.plan, &list.records).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), vector);
        // Whatever is cut off or bent, nothing is made up.
        for cut in 0..vector.len() {
            if let Some(list) = parse_list(&vector[..cut]) {
                assert!(list.records.len() <= 2);
            }
        }
        assert!(parse_list("aico-parts 2 00 1 1\n").is_none());
        assert!(parse_list("aico-parts 1 00 1 0\n").is_none());
    }
}

//! Unpacking the archive of a program. Its hash was right; its content is treated as hostile all
//! the same: nothing lands outside of the folder, and nothing is larger than it may be.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::InstallError;
use super::releases::{Layout, Packed, Release};

/// What an archive may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of all files.
    pub(super) bytes: u64,
    /// Files, folders and links.
    pub(super) entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            bytes: 24 << 30,
            entries: 10_000,
        }
    }
}

/// Deepest folder and longest path.
const DEPTH: usize = 8;
const PATH: usize = 200;
/// What of an archive in [`Layout::Prefix`] belongs to the program.
const ROOTS: [&str; 2] = ["bin", "lib"];

const DAMAGED: InstallError = InstallError::Archive("it ends early or is damaged");
const NAME: InstallError = InstallError::Archive("the name of a file makes no sense");
const NO_FILE: InstallError = InstallError::Archive("it has something that is no file");

/// Unpacks into an empty folder; `tell` hears of the bytes, and ends it by `false`. Blocks.
pub(super) fn unpack(
    archive: &Path,
    release: &Release,
    folder: &Path,
    bounds: Bounds,
    tell: &mut dyn FnMut(u64) -> bool,
) -> Result<(), InstallError> {
    let file = File::open(archive).map_err(|error| InstallError::disk(archive, error))?;
    let file = BufReader::with_capacity(1 << 20, file);
    let odd = InstallError::Archive("it is not packed as its name says");
    let unpacking = Unpacking {
        folder,
        layout: release.layout,
        left: bounds.bytes,
        entries: bounds.entries,
        files: BTreeSet::new(),
        links: BTreeSet::new(),
        tell,
    };
    match release.packed {
        // There may be several members in a file.
        Packed::Gzip => unpacking.tar(flate2::read::MultiGzDecoder::new(file)),
        Packed::Zstandard => {
            // Frames of up to 128 MiB of window: what the strongest level makes.
            let decoder = ruzstd::decoding::StreamingDecoder::new(file).map_err(|_| odd)?;
            unpacking.tar(decoder)
        }
        Packed::Zip => unpacking.zip(zip::ZipArchive::new(file).map_err(|_| odd)?),
    }
}

struct Unpacking<'a> {
    folder: &'a Path,
    layout: Layout,
    /// Bytes that may still come.
    left: u64,
    /// Most entries.
    entries: usize,
    files: BTreeSet<PathBuf>,
    /// In small letters: some file systems know no others.
    links: BTreeSet<PathBuf>,
    tell: &'a mut dyn FnMut(u64) -> bool,
}

impl Unpacking<'_> {
    fn tar(mut self, input: impl Read) -> Result<(), InstallError> {
        let mut archive = tar::Archive::new(input);
        for (number, entry) in archive.entries().map_err(|_| DAMAGED)?.enumerate() {
            self.count(number)?;
            let mut entry = entry.map_err(|_| DAMAGED)?;
            let kind = entry.header().entry_type();
            if matches!(kind, EntryType::XGlobalHeader) {
                continue;
            }
            let folder = matches!(kind, EntryType::Directory);
            let named = entry.path().map_err(|_| NAME)?.into_owned();
            let Some(path) = self.place(&named, folder)? else {
                continue;
            };
            match kind {
                EntryType::Directory => {}
                EntryType::Regular | EntryType::Continuous => {
                    let runs = entry.header().mode().unwrap_or(0o600) & 0o100 != 0;
                    let size = entry.size();
                    self.file(path, &mut entry, size, runs)?;
                }
                EntryType::Symlink => {
                    let to = entry.link_name().map_err(|_| NAME)?.unwrap_or_default();
                    self.link(path, &to)?;
                }
                EntryType::Link => {
                    let to = entry.link_name().map_err(|_| NAME)?.unwrap_or_default();
                    self.hard_link(path, &to)?;
                }
                _ => return Err(NO_FILE),
            }
        }
        Ok(())
    }

    fn zip(
        mut self,
        mut archive: zip::ZipArchive<impl Read + io::Seek>,
    ) -> Result<(), InstallError> {
        for number in 0..archive.len() {
            self.count(number)?;
            let mut entry = archive.by_index(number).map_err(|_| DAMAGED)?;
            // Links are not made on Windows without rights, so no archive for it has any.
            if entry.is_symlink() || entry.encrypted() {
                return Err(NO_FILE);
            }
            let named = entry.name().map_err(|_| NAME)?.into_owned();
            let Some(path) = self.place(Path::new(&named), entry.is_dir())? else {
                continue;
            };
            if entry.is_dir() {
                continue;
            }
            let runs = entry.unix_mode().unwrap_or(0o600) & 0o100 != 0;
            let size = entry.size();
            self.file(path, &mut entry, size, runs)?;
            // Its checksum is compared at the end.
            if !matches!(entry.read(&mut [0]), Ok(0)) {
                return Err(DAMAGED);
            }
        }
        Ok(())
    }

    fn count(&self, number: usize) -> Result<(), InstallError> {
        match number < self.entries {
            true => Ok(()),
            false => Err(InstallError::Archive("it has too many files")),
        }
    }

    /// Where an entry goes, below the folder, with the folders that are above it. `None`: it is
    /// the folder itself.
    fn place(&self, named: &Path, folder: bool) -> Result<Option<PathBuf>, InstallError> {
        let Some(path) = self.within(named)? else {
            return match folder {
                true => Ok(None),
                false => Err(InstallError::Archive("a file has no name")),
            };
        };
        let no_folder =
            |above: &Path| self.links.contains(&folded(above)) || self.files.contains(above);
        if path.ancestors().skip(1).any(no_folder) {
            return Err(InstallError::Archive("a file lies behind a link or a file"));
        }
        let target = self.folder.join(&path);
        let needed = match folder {
            true => Some(target.as_path()),
            false => target.parent(),
        };
        if let Some(needed) = needed {
            crate::starter::private_folder(needed)
                .map_err(|error| InstallError::disk(needed, error))?;
        }
        Ok(Some(path))
    }

    fn file(
        &mut self,
        path: PathBuf,
        input: &mut impl Read,
        size: u64,
        runs: bool,
    ) -> Result<(), InstallError> {
        self.left = self
            .left
            .checked_sub(size)
            .ok_or(InstallError::Archive("it is larger than it may be"))?;
        write(input, &self.folder.join(&path), size, runs, self.tell)?;
        self.files.insert(path);
        Ok(())
    }

    /// Libraries have names of their versions beside each other, and copies of another folder's.
    fn link(&mut self, path: PathBuf, to: &Path) -> Result<(), InstallError> {
        let elsewhere = InstallError::Archive("a link leads elsewhere");
        let mut leads = path.clone();
        leads.pop();
        let mut down = false;
        for part in to.components() {
            match part {
                Component::Normal(part) => {
                    leads.push(part);
                    down = true;
                }
                Component::CurDir => {}
                // Above a folder that is a link itself lies another one.
                Component::ParentDir if !down && leads.pop() => {}
                _ => return Err(elsewhere),
            }
        }
        if !matches!(self.within(&leads), Ok(Some(_))) {
            return Err(elsewhere);
        }
        let target = self.folder.join(&path);
        link(to, &target).map_err(|error| InstallError::disk(&target, error))?;
        self.links.insert(folded(&path));
        Ok(())
    }

    fn hard_link(&mut self, path: PathBuf, to: &Path) -> Result<(), InstallError> {
        let to = self.within(to)?.filter(|to| self.files.contains(to));
        let to = to.ok_or(InstallError::Archive("a link leads elsewhere"))?;
        let target = self.folder.join(&path);
        std::fs::hard_link(self.folder.join(&to), &target)
            .map_err(|error| InstallError::disk(&target, error))?;
        self.files.insert(path);
        Ok(())
    }

    /// The path below the folder; `None`: the folder itself.
    fn within(&self, named: &Path) -> Result<Option<PathBuf>, InstallError> {
        let mut path = PathBuf::new();
        for part in named.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(part) => {
                    // Windows knows streams of a file by a colon, and folders by a backslash.
                    let odd = |letter: char| letter.is_control() || ":\\".contains(letter);
                    if part.to_str().is_none_or(|part| part.contains(odd)) {
                        return Err(NAME);
                    }
                    path.push(part);
                }
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(InstallError::Archive(
                        "a file would lie outside of its folder",
                    ));
                }
            }
        }
        let Some(root) = path.components().next() else {
            return Ok(None);
        };
        let known = ROOTS.iter().any(|known| root.as_os_str() == *known);
        if self.layout == Layout::Prefix && !known {
            return Err(InstallError::Archive("it has other files than Ollama's"));
        }
        if path.components().count() > DEPTH || path.as_os_str().len() > PATH {
            return Err(InstallError::Archive("a path in it is too long"));
        }
        Ok(Some(path))
    }
}

fn folded(path: &Path) -> PathBuf {
    path.to_string_lossy().to_lowercase().into()
}

fn write(
    input: &mut impl Read,
    target: &Path,
    size: u64,
    runs: bool,
    tell: &mut dyn FnMut(u64) -> bool,
) -> Result<(), InstallError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => InstallError::Archive("a file is in it twice"),
        _ => InstallError::disk(target, error),
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if runs { 0o700 } else { 0o600 });
    #[cfg(not(unix))]
    let _by_its_name = runs;
    let mut file = options.open(target).map_err(failed)?;
    let mut buffer = vec![0; 256 << 10];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = input.read(&mut buffer[..most]);
        let read = match read {
            Ok(0) | Err(_) => return Err(DAMAGED),
            Ok(read) => read,
        };
        file.write_all(&buffer[..read]).map_err(failed)?;
        left -= read as u64;
        if !tell(read as u64) {
            return Err(InstallError::Stopped);
        }
    }
    // Elsewhere all of it is written out at once, when it is complete.
    #[cfg(not(target_os = "linux"))]
    file.sync_data().map_err(failed)?;
    Ok(())
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn link(_to: &Path, _at: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

//! Unpacking the archive of a program. Its hash was right; its content is treated as hostile all
//! the same: nothing lands outside of the folder, and nothing is larger than it may be.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::InstallError;
use super::releases::Packed;

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
/// What of an archive belongs to the program.
const ROOTS: [&str; 2] = ["bin", "lib"];

/// Unpacks into an empty folder; `tell` hears of the bytes, and ends it by `false`. Blocks.
pub(super) fn unpack(
    archive: &Path,
    packed: Packed,
    folder: &Path,
    bounds: Bounds,
    tell: &mut dyn FnMut(u64) -> bool,
) -> Result<(), InstallError> {
    let file = File::open(archive).map_err(|error| InstallError::disk(archive, error))?;
    let file = BufReader::with_capacity(1 << 20, file);
    match packed {
        // There may be several members in a file.
        Packed::Gzip => entries(
            flate2::read::MultiGzDecoder::new(file),
            folder,
            bounds,
            tell,
        ),
        Packed::Zstandard => {
            // Frames of up to 128 MiB of window: what the strongest level makes.
            let decoder = ruzstd::decoding::StreamingDecoder::new(file)
                .map_err(|_| InstallError::Archive("it is not packed as its name says"))?;
            entries(decoder, folder, bounds, tell)
        }
    }
}

fn entries(
    input: impl Read,
    folder: &Path,
    bounds: Bounds,
    tell: &mut dyn FnMut(u64) -> bool,
) -> Result<(), InstallError> {
    let mut archive = tar::Archive::new(input);
    let mut unpacking = Unpacking {
        folder,
        left: bounds.bytes,
        files: BTreeSet::new(),
        links: BTreeSet::new(),
    };
    let damaged = |_: io::Error| InstallError::Archive("it ends early or is damaged");
    let all = archive.entries().map_err(damaged)?;
    for (number, entry) in all.enumerate() {
        if number >= bounds.entries {
            return Err(InstallError::Archive("it has too many files"));
        }
        let mut entry = entry.map_err(damaged)?;
        unpacking.take(&mut entry, tell)?;
    }
    Ok(())
}

struct Unpacking<'a> {
    folder: &'a Path,
    /// Bytes that may still come.
    left: u64,
    files: BTreeSet<PathBuf>,
    links: BTreeSet<PathBuf>,
}

impl Unpacking<'_> {
    fn take(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        tell: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), InstallError> {
        let odd = |_: io::Error| InstallError::Archive("the name of a file makes no sense");
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let named = entry.path().map_err(odd)?.into_owned();
        let Some(path) = within(&named)? else {
            return match kind {
                EntryType::Directory => Ok(()),
                _ => Err(InstallError::Archive("a file has no name")),
            };
        };
        if path
            .ancestors()
            .skip(1)
            .any(|above| self.links.contains(above))
        {
            return Err(InstallError::Archive("a file lies behind a link"));
        }
        let target = self.folder.join(&path);
        if let Some(above) = target.parent() {
            crate::starter::private_folder(above)
                .map_err(|error| InstallError::disk(above, error))?;
        }
        match kind {
            EntryType::Directory => crate::starter::private_folder(&target)
                .map_err(|error| InstallError::disk(&target, error)),
            EntryType::Regular | EntryType::Continuous => {
                let size = entry.size();
                self.left = self
                    .left
                    .checked_sub(size)
                    .ok_or(InstallError::Archive("it is larger than it may be"))?;
                let mode = entry.header().mode().unwrap_or(0o600);
                write(entry, &target, size, mode & 0o100 != 0, tell)?;
                self.files.insert(path);
                Ok(())
            }
            EntryType::Symlink => {
                let to = entry.link_name().map_err(odd)?.unwrap_or_default();
                let mut parts = to.components();
                // Libraries have names of their versions beside each other, and nothing more.
                let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else {
                    return Err(InstallError::Archive("a link leads elsewhere"));
                };
                link(&to, &target).map_err(|error| InstallError::disk(&target, error))?;
                self.links.insert(path);
                Ok(())
            }
            EntryType::Link => {
                let to = entry.link_name().map_err(odd)?.unwrap_or_default();
                let to = within(&to)?.filter(|to| self.files.contains(to));
                let to = to.ok_or(InstallError::Archive("a link leads elsewhere"))?;
                std::fs::hard_link(self.folder.join(&to), &target)
                    .map_err(|error| InstallError::disk(&target, error))?;
                self.files.insert(path);
                Ok(())
            }
            _ => Err(InstallError::Archive("it has something that is no file")),
        }
    }
}

/// The path below the folder; `None`: the folder itself.
fn within(named: &Path) -> Result<Option<PathBuf>, InstallError> {
    let mut path = PathBuf::new();
    for part in named.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => path.push(part),
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
    if !ROOTS.iter().any(|known| root.as_os_str() == *known) {
        return Err(InstallError::Archive("it has other files than Ollama's"));
    }
    if path.components().count() > DEPTH || path.as_os_str().len() > PATH {
        return Err(InstallError::Archive("a path in it is too long"));
    }
    Ok(Some(path))
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
            Ok(0) | Err(_) => return Err(InstallError::Archive("it ends early or is damaged")),
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

//! What Unix has its own way of: modes, owners, links, syncing of folders.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::quoted;

/// Whether it is this user's, and whether others may do anything with it.
pub(super) fn access(metadata: &Metadata) -> (bool, bool) {
    // SAFETY: takes nothing, can't fail.
    let me = unsafe { libc::geteuid() };
    (metadata.uid() == me, metadata.mode() & 0o077 != 0)
}

pub(super) fn no_follow(options: &mut OpenOptions) {
    options.custom_flags(libc::O_NOFOLLOW);
}

pub(super) fn private_file(options: &mut OpenOptions) {
    options.mode(0o600);
}

pub(super) fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// The command that takes access from others.
pub(super) fn mend_mode(path: &Path, folder: bool) -> String {
    format!(
        "chmod {} {}",
        if folder { "u+rwx,go=" } else { "u+rw,go=" },
        quoted(path)
    )
}

/// The command that gives the file to this user.
pub(super) fn mend_owner(path: &Path) -> String {
    // SAFETY: takes nothing, can't fail.
    let me = unsafe { libc::geteuid() };
    format!("sudo chown -R {me} {}", quoted(path))
}

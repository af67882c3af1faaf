//! Copying in pieces: into an archive, out of it, and beside it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use aico_vault::archive::{ArchiveError, PartReader};

use super::error::BackupError;
use crate::HomeError;

/// Bytes that are moved at once.
const PIECE: usize = 256 * 1024;

/// Hands over what is read until its end, in pieces.
fn each_piece<E>(
    from: &mut impl Read,
    failed: impl Fn(io::Error) -> E,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&piece[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Copies a file as it lies, to a private one, and answers its length in bytes. An error names the
/// one of the two that it is about.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<u64, HomeError> {
    let mut source = fs::File::open(from).map_err(at(from))?;
    let mut target = new_private(to).map_err(at(to))?;
    let mut length = 0;
    each_piece(&mut source, at(from), |piece| {
        length += piece.len() as u64;
        target.write_all(piece).map_err(at(to))
    })?;
    Ok(length)
}

/// Moves a file into a part. `go_on` hears the bytes of each piece, and stops it with `false`.
pub(crate) fn pour(
    from: &Path,
    to: &mut impl Write,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), HomeError> {
    let mut file = fs::File::open(from).map_err(at(from))?;
    each_piece(&mut file, at(from), |piece| {
        to.write_all(piece).map_err(archive_error)?;
        unless_stopped(go_on(piece.len() as u64))
    })
}

/// Writes the rest of a part to a new private file, durably. `go_on` as for [`pour`].
pub(crate) fn unpack(
    reader: &mut PartReader<'_>,
    to: &Path,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<(), HomeError> {
    let mut file = new_private(to).map_err(at(to))?;
    each_piece(reader, archive_error, |piece| {
        file.write_all(piece).map_err(at(to))?;
        unless_stopped(go_on(piece.len() as u64))
    })?;
    file.sync_all().map_err(at(to))
}

pub(crate) fn sha256_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let same = std::convert::identity;
    each_piece(&mut fs::File::open(path)?, same, |piece| {
        context.update(piece);
        Ok(())
    })?;
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    Ok(out)
}

fn unless_stopped(goes_on: bool) -> Result<(), HomeError> {
    match goes_on {
        true => Ok(()),
        false => Err(BackupError::Stopped.into()),
    }
}

/// A file that nobody else reads, where none is.
pub(crate) fn new_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> HomeError + use<> {
    let path = path.to_owned();
    move |source| HomeError::Folder {
        path: path.clone(),
        source,
    }
}

/// The archive's own error in one of the standard library's.
pub(crate) fn archive_error(error: io::Error) -> HomeError {
    let kind = error.kind();
    match error.downcast::<ArchiveError>() {
        Ok(ours) => ours.into(),
        Err(_) => HomeError::Archive(ArchiveError::File(aico_vault::FileError::new(
            "write",
            Path::new("the archive"),
            kind.into(),
        ))),
    }
}

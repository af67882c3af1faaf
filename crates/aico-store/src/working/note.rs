//! The note of a clean stop: without one that fits, what lies there is removed unopened.
//!
//! Working memory is never synced, and its engine never opens a file that it did not close: a cut,
//! flipped, older or foreign file can't reach it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use aico_vault::{PersonKeys, Purpose};
use sha2::{Digest as _, Sha256};

use super::cells::SALT;
use crate::platform;

/// The note's file.
const NOTE: &str = "closed";
/// The note in the making.
const MAKING: &str = "closed.new";
/// The table's file.
const TABLE: &str = "cells";
/// Names the note among what is sealed for this purpose.
const NAME: &[u8] = b"closed";
/// More than a note has, in bytes.
const MOST_NOTE: u64 = 1024;

/// A table that was closed well.
pub(crate) struct Closed {
    pub(crate) file: File,
    pub(crate) salt: [u8; SALT],
}

/// Takes what a clean stop left, at most once: the note is gone before the table is looked at.
/// `Ok(None)`: there is nothing. `Err`: there is something that may not be used, and why.
pub(crate) fn take(
    folder: &Path,
    keys: &PersonKeys,
    most: u64,
) -> Result<Option<Closed>, &'static str> {
    let about = match fs::symlink_metadata(folder) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err("it can't be looked at"),
    };
    if !about.is_dir() || platform::privacy_fault(folder, &about).is_some() {
        return Err("its folder is not private");
    }
    let path = folder.join(NOTE);
    let sealed = match open(&path) {
        Ok(file) => {
            let mut sealed = Vec::new();
            let read = file.take(MOST_NOTE).read_to_end(&mut sealed);
            read.map_err(|_| "its note can't be read")?;
            sealed
        }
        Err(Opening::Absent) => return Err("it was not closed"),
        Err(Opening::Refused) => return Err("its note is not a plain, private file"),
    };
    // On the disk before anything else is: after a loss of power it would fit the table of before,
    // with what was forgotten since.
    fs::remove_file(&path)
        .and_then(|()| platform::sync_folder(folder))
        .map_err(|_| "its note can't be removed")?;
    let note = keys
        .open_sealed(Purpose::WorkingMemory, NAME, &sealed)
        .map_err(|_| "its note is of another key, or altered")?;
    let note = Note::decode(&note).ok_or("its note can't be read")?;
    if note.epoch != keys.key_epoch() {
        return Err("the person's key is another");
    }
    let mut file = open(&folder.join(TABLE)).map_err(|_| "its table is not a private file")?;
    let length = file.metadata().map_err(|_| "it can't be looked at")?.len();
    // Before it is read: somebody may have put anything there.
    if length != note.length || length > most {
        return Err("its length is another");
    }
    match hash(&mut file) {
        Ok((_, hash)) if hash == note.hash => Ok(Some(Closed {
            file,
            salt: note.salt,
        })),
        Ok(_) => Err("its content is another"),
        Err(_) => Err("it can't be read"),
    }
}

/// Notes that the table was closed. Without the note the next opening begins anew, so nothing is
/// synced: a note that reached the disk before the table did does not fit it.
pub(crate) fn leave(
    folder: &Path,
    keys: &PersonKeys,
    salt: &[u8; SALT],
    table: &mut File,
) -> io::Result<()> {
    let (length, hash) = hash(table)?;
    let note = Note {
        epoch: keys.key_epoch(),
        salt: *salt,
        length,
        hash,
    };
    let sealed = keys.seal(Purpose::WorkingMemory, NAME, &note.encode());
    let making = folder.join(MAKING);
    remove_file(&making)?;
    platform::create_private(&making)?.write_all(&sealed)?;
    fs::rename(&making, folder.join(NOTE))
}

/// Removes everything, whatever it is. A link is removed, not followed.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) if fs::symlink_metadata(folder).is_ok_and(|about| !about.is_dir()) => {
            fs::remove_file(folder)
        }
        other => other,
    }
}

/// An empty table in a new folder that only its owner may enter.
pub(crate) fn begin(folder: &Path) -> io::Result<File> {
    remove(folder)?;
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    platform::create_private(&folder.join(TABLE))
}

struct Note {
    epoch: u32,
    salt: [u8; SALT],
    length: u64,
    hash: [u8; 32],
}

impl Note {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.epoch.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        Some(Self {
            epoch: u32::from_be_bytes(*epoch),
            salt: *salt,
            length: u64::from_be_bytes(*length),
            hash: rest.try_into().ok()?,
        })
    }
}

enum Opening {
    Absent,
    Refused,
}

/// Opens a plain file that is ours alone, and never what a link leads to.
fn open(path: &Path) -> Result<File, Opening> {
    let file = match platform::open_no_follow(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Opening::Absent),
        Err(_) => return Err(Opening::Refused),
    };
    match file.metadata() {
        Ok(about) if about.is_file() && platform::privacy_fault(path, &about).is_none() => Ok(file),
        _ => Err(Opening::Refused),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn hash(file: &mut File) -> io::Result<(u64, [u8; 32])> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((length, hasher.finalize().into()))
}

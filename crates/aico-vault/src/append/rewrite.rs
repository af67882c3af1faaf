//! Writing a whole file anew: under the present key after the key above it was changed, or under
//! another id, which is another key, while that stays.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::format::LogKey;
use super::reader::{Record, SealedLogReader};
use super::writer::SealedLogWriter;
use super::{AppendError, HighWater};
use crate::fs::{self, Context, Filesystem};

/// Before the id, in what the next one is the hash of.
const NEXT: &[u8] = b"aico/append/next/1\0";

/// The segment that a record comes from, and the one that it goes to.
pub struct Rewritten<'a> {
    /// The record as it was read.
    pub record: &'a Record,
    /// Random bytes of the segment that it was read from.
    pub from: [u8; 32],
    /// Random bytes of the segment that it goes into.
    pub to: [u8; 32],
}

/// Replaces a file that nobody writes by one with the same records under the present key: in one
/// segment with fresh random bytes, closed. `change` gives each record's new bytes. Answers the
/// last sequence, to be noted as closed; `None` when the file is under the present key already and
/// not `all` are asked for.
///
/// At every moment the path holds the whole old file or the whole new one.
///
/// # Errors
/// As reading and writing; then the file is as it was.
pub fn rewrite(
    fs: &Arc<dyn Filesystem>,
    key: &LogKey,
    path: &Path,
    mark: HighWater,
    first_sequence: u64,
    all: bool,
    change: &mut dyn FnMut(&Rewritten<'_>) -> zeroize::Zeroizing<Vec<u8>>,
) -> Result<Option<u64>, AppendError> {
    let mut reader = SealedLogReader::open_on(Arc::clone(fs), key, path, mark)?;
    if !all && begins_under(&**fs, path, key.epoch())? {
        return Ok(None);
    }
    let last = write_anew(
        &**fs,
        &mut reader,
        path,
        (key, path),
        first_sequence,
        change,
    )?;
    Ok(Some(last))
}

/// The id under which a file is written anew that is to have another key while the keys above it
/// stay. It follows from the one that it has, so that what was cut off writes the same file again.
#[must_use]
pub fn next_id(id: [u8; 16]) -> [u8; 16] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(NEXT);
    hash.update(&id);
    let mut next = [0; 16];
    next.copy_from_slice(&hash.finish().as_ref()[..16]);
    next
}

/// Writes a file that nobody writes anew in another place, under another key: with the same records,
/// in one closed segment. What is in that place goes. `change` gives each record's new bytes.
/// Answers the last sequence, to be noted as closed. The file itself stays; remove it then.
///
/// # Errors
/// As reading and writing; then the other place is as it was.
pub fn rewrite_to(
    fs: &Arc<dyn Filesystem>,
    from: (&LogKey, &Path, HighWater),
    to: (&LogKey, &Path),
    first_sequence: u64,
    change: &mut dyn FnMut(&Rewritten<'_>) -> zeroize::Zeroizing<Vec<u8>>,
) -> Result<u64, AppendError> {
    let (key, path, mark) = from;
    let mut reader = SealedLogReader::open_on(Arc::clone(fs), key, path, mark)?;
    write_anew(&**fs, &mut reader, path, to, first_sequence, change)
}

/// As [`rewrite_to`], with the records as they are.
///
/// # Errors
/// As [`rewrite_to`].
pub fn rewrite_to_as_is(
    fs: &Arc<dyn Filesystem>,
    from: (&LogKey, &Path, HighWater),
    to: (&LogKey, &Path),
) -> Result<u64, AppendError> {
    rewrite_to(fs, from, to, 1, &mut as_it_is)
}

fn as_it_is(it: &Rewritten<'_>) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(it.record.data.to_vec())
}

fn write_anew(
    fs: &dyn Filesystem,
    reader: &mut SealedLogReader,
    from: &Path,
    (key, path): (&LogKey, &Path),
    first_sequence: u64,
    change: &mut dyn FnMut(&Rewritten<'_>) -> zeroize::Zeroizing<Vec<u8>>,
) -> Result<u64, AppendError> {
    fs::remove_leftover(fs, path)?;
    let beside = fs::temporary(path);
    let file = fs.create(&beside).on("create", &beside)?;
    let written = (|| {
        let segment = key.begin(None, first_sequence.max(1));
        let mut writer = SealedLogWriter::begin(file, &beside, segment, 0)?;
        while let Some(record) = reader.next_record()? {
            if record.sequence != writer.last_sequence() + 1 {
                return Err(AppendError::Foreign {
                    path: from.to_path_buf(),
                });
            }
            let data = change(&Rewritten {
                record: &record,
                from: reader.segment(),
                to: writer.segment(),
            });
            writer.append(&data)?;
        }
        writer.close()
    })();
    let last = match written {
        Ok(last) => last,
        Err(error) => {
            let _ = fs.remove_file(&beside);
            return Err(error);
        }
    };
    fs.rename(&beside, path).on("replace", path)?;
    fs::sync_parent(fs, path)?;
    Ok(last)
}

/// As [`rewrite`], with the records as they are.
///
/// # Errors
/// As [`rewrite`].
pub fn rewrite_as_is(
    fs: &Arc<dyn Filesystem>,
    key: &LogKey,
    path: &Path,
    mark: HighWater,
) -> Result<Option<u64>, AppendError> {
    rewrite(fs, key, path, mark, 1, false, &mut as_it_is)
}

/// Whether the first segment names this epoch: then all that follow do, since epochs only rise.
fn begins_under(fs: &dyn Filesystem, path: &Path, epoch: u32) -> Result<bool, AppendError> {
    let file = fs.open(path, false).on("open", path)?;
    let mut head = [0; 14];
    let got = fs::read_full_at(&*file, &mut head, 0).on("read", path)?;
    Ok(got == head.len() && head[10..] == epoch.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_id_is_the_one_that_the_documentation_has() {
        let id = std::array::from_fn(|n| n as u8);
        assert_eq!(hex::encode(next_id(id)), "3ce3ccee0156b1ed18d96a09a1c90c01");
    }
}

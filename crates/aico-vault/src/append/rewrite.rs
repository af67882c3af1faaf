//! Writing a whole file anew under the present key, after the key above it was changed.

use std::path::Path;
use std::sync::Arc;

use super::format::LogKey;
use super::reader::{Record, SealedLogReader};
use super::writer::SealedLogWriter;
use super::{AppendError, HighWater};
use crate::fs::{self, Context, Filesystem};

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
    fs::remove_leftover(&**fs, path)?;
    let beside = fs::temporary(path);
    let file = fs.create(&beside).on("create", &beside)?;
    let written = (|| {
        let segment = key.begin(None, first_sequence.max(1));
        let mut writer = SealedLogWriter::begin(file, &beside, segment, 0)?;
        while let Some(record) = reader.next_record()? {
            if record.sequence != writer.last_sequence() + 1 {
                return Err(AppendError::Foreign {
                    path: path.to_path_buf(),
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
    fs::sync_parent(&**fs, path)?;
    Ok(Some(last))
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
    rewrite(fs, key, path, mark, 1, false, &mut |it| {
        zeroize::Zeroizing::new(it.record.data.to_vec())
    })
}

/// Whether the first segment names this epoch: then all that follow do, since epochs only rise.
fn begins_under(fs: &dyn Filesystem, path: &Path, epoch: u32) -> Result<bool, AppendError> {
    let file = fs.open(path, false).on("open", path)?;
    let mut head = [0; 14];
    let got = fs::read_full_at(&*file, &mut head, 0).on("read", path)?;
    Ok(got == head.len() && head[10..] == epoch.to_be_bytes())
}

//! What is done between writes: a new file when one is long or old enough, files that are past
//! their time deleted, the registry told how far it got.

use std::time::Duration;

use aico_vault::append::SealedLogWriter;

use super::error::JournalError;
use super::store::{Current, Store};

/// How long and how much is kept. Whole files go, never the one that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long a message can be followed.
    pub age: Duration,
    /// Most bytes of all files together; the one that is written may go beyond.
    pub bytes: u64,
}

impl Retention {
    /// These many days and MiB.
    #[must_use]
    pub fn new(days: u32, megabytes: u32) -> Self {
        Self {
            age: Duration::from_secs(u64::from(days) * 24 * 3600),
            bytes: u64::from(megabytes) * 1024 * 1024,
        }
    }

    /// Past this length a new file begins: an eighth of all, at most 16 MiB, so that what goes at
    /// once is little and finding a place in a file is quick.
    pub(crate) fn file_bytes(self) -> u64 {
        (self.bytes / 8).clamp(64 * 1024, 16 * 1024 * 1024)
    }

    /// Past this age a new file begins: a quarter of all, at most a day.
    fn file_age_s(self) -> u64 {
        (self.age.as_secs() / 4).clamp(60, 24 * 3600)
    }
}

impl Default for Retention {
    /// 7 days, 256 MiB.
    fn default() -> Self {
        Self::new(7, 256)
    }
}

impl Store {
    /// Begins a new file when it is time. `true` when it did.
    ///
    /// # Errors
    /// When the new file can't be made; the old one goes on.
    pub(crate) fn rotate(
        &mut self,
        retention: Retention,
        now_s: u64,
    ) -> Result<bool, JournalError> {
        let current = &self.current;
        let written = self.last >= current.name.first;
        let long = current.durable_len >= retention.file_bytes();
        let old = now_s.saturating_sub(current.name.made_s) >= retention.file_age_s();
        if current.writer.is_none() || !written || !(long || old) {
            return Ok(false);
        }
        let (name, writer) =
            Self::begin(&self.folder, self.last + 1, now_s).map_err(JournalError::File)?;
        let old = std::mem::replace(&mut self.current, Current::new(name, writer));
        self.epochs.begin(self.last + 1, self.epoch());
        self.closed.push((old.name, old.durable_len));
        let registry = self.folder.keys.registry();
        // A file that could not be closed is as after a crash: cuts are noticed up to its mark.
        let noted = match old.writer.map(SealedLogWriter::close) {
            Some(Ok(last)) => registry.note_closed(&old.name.mark(), last),
            _ => registry.note_sequence(&old.name.mark(), self.last),
        };
        noted
            .and_then(|()| registry.note_sequence(&name.mark(), name.first - 1))
            .map_err(JournalError::Registry)?;
        Ok(true)
    }

    /// Deletes closed files that are past their time or too much. Returns how many went.
    ///
    /// # Errors
    /// When one can't be deleted; it is tried again the next time.
    pub(crate) fn retain(
        &mut self,
        retention: Retention,
        now_s: u64,
    ) -> Result<usize, JournalError> {
        let mut gone = 0;
        while let Some((oldest, _)) = self.closed.first().copied() {
            // Whatever is in a file is older than the file after it.
            let next = self.closed.get(1).map_or(self.current.name, |next| next.0);
            let too_old = now_s.saturating_sub(next.made_s) > retention.age.as_secs();
            if !too_old && self.bytes() <= retention.bytes {
                break;
            }
            self.folder.remove(&oldest)?;
            self.closed.remove(0);
            gone += 1;
        }
        Ok(gone)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|(_, len)| len).sum();
        closed + self.current.durable_len
    }

    /// Notes in the registry how far the journal got, and cursors with it.
    ///
    /// # Errors
    /// When it can't be noted.
    pub(crate) fn note(&self, cursors: &[(String, u64)]) -> Result<(), JournalError> {
        let mark = self.current.name.mark();
        let mut notes: Vec<(&str, u64)> = vec![(&mark, self.last)];
        notes.extend(cursors.iter().map(|(name, at)| (name.as_str(), *at)));
        self.folder
            .keys
            .registry()
            .note_sequences(&notes)
            .map_err(JournalError::Registry)
    }

    /// Closes the file that is written: from now on any cut of it is noticed.
    ///
    /// # Errors
    /// When it can't be closed or noted; the journal is then as after a crash.
    pub(crate) fn close(self) -> Result<(), JournalError> {
        let name = self.current.name;
        let Some(writer) = self.current.writer else {
            return Ok(());
        };
        let last = writer.close().map_err(JournalError::File)?;
        let registry = self.folder.keys.registry();
        registry
            .note_closed(&name.mark(), last)
            .map_err(JournalError::Registry)
    }
}

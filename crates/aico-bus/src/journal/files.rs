//! The journal's folder: which files there are, and what the registry knows of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_vault::append::{AppendError, HighWater, SealedLogReader, SealedLogWriter};
use aico_vault::fs::{self, Context as _, FileError, Filesystem, Kind};

use super::error::JournalError;
use super::format::{FileName, MARK};
use super::keys::JournalKeys;

/// The folder of a journal with its keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) keys: Arc<dyn JournalKeys>,
    fs: Arc<dyn Filesystem>,
    path: PathBuf,
}

impl Folder {
    /// The folder, made when it is not there.
    pub(crate) fn open(keys: Arc<dyn JournalKeys>, path: &Path) -> Result<Self, JournalError> {
        let fs = keys.filesystem();
        fs::ensure_folder(&*fs, path).map_err(JournalError::Folder)?;
        let path = path.to_path_buf();
        Ok(Self { keys, fs, path })
    }

    /// All files, oldest first.
    pub(crate) fn list(&self) -> Result<Vec<FileName>, JournalError> {
        let names = self.fs.list(&self.path).on("read", &self.path);
        let names = names.map_err(JournalError::Folder)?;
        let mut files: Vec<_> = names
            .iter()
            .filter_map(|name| FileName::parse(name.to_str()?))
            .collect();
        files.sort_unstable();
        Ok(files)
    }

    /// As [`Folder::list`], without the copies that a change of ids left when it was cut off before
    /// the files that they are copies of were removed. Those are whole, and may be gone on with.
    ///
    /// The registry knows such a file until it is removed. One that it does not know, while it knows
    /// what became of it, was put back: it is set aside, since the other one has gone on, under a key
    /// that is to count instead of this one's.
    pub(crate) fn whole(&self) -> Result<Vec<FileName>, JournalError> {
        let mut files = self.list()?;
        let marks = self.keys.registry().marks();
        let is_known = |file: &FileName| marks.contains_key(&file.mark());
        let before = files.iter().filter(|file| is_known(file));
        let copies: Vec<_> = before.map(FileName::next).collect();
        for copy in files.extract_if(.., |file| copies.contains(file)) {
            self.remove(&copy)?;
        }
        let is_put_back = |file: &FileName| !is_known(file) && file.anew().any(|it| is_known(&it));
        for file in files.extract_if(.., |file| is_put_back(file)) {
            tracing::error!(
                %file,
                "A file of the bus's journal that was written anew under another key has been put \
                 back, and was set aside. What came of it is used as before."
            );
            self.set_aside(&file)?;
        }
        Ok(files)
    }

    pub(crate) fn path_of(&self, file: &FileName) -> PathBuf {
        self.path.join(file.to_string())
    }

    /// A file's length in bytes; 0 when it can't be told.
    pub(crate) fn len_of(&self, file: &FileName) -> u64 {
        match self.fs.probe(&self.path_of(file)) {
            Ok(Some(entry)) if entry.kind == Kind::File => entry.len,
            _ => 0,
        }
    }

    pub(crate) fn mark(&self, file: &FileName) -> HighWater {
        self.keys.registry().mark(&file.mark())
    }

    pub(crate) fn reader(&self, file: &FileName) -> Result<SealedLogReader, AppendError> {
        let (key, path) = (self.keys.file_key(file.id), self.path_of(file));
        SealedLogReader::open_on(self.fs.clone(), &key, &path, self.mark(file))
    }

    /// Opens a file for writing, or makes it.
    pub(crate) fn writer(&self, file: &FileName) -> Result<SealedLogWriter, AppendError> {
        let (key, path) = (self.keys.file_key(file.id), self.path_of(file));
        let mark = self.mark(file);
        let opened = SealedLogWriter::open_on(self.fs.clone(), &key, &path, mark, file.first);
        Ok(opened?.0)
    }

    /// Cuts off what a failed write left behind `len`, which was durable.
    pub(crate) fn cut(&self, file: &FileName, len: u64) -> Result<(), FileError> {
        let path = self.path_of(file);
        let mut file = self.fs.open(&path, true).on("open", &path)?;
        if file.len().on("read", &path)? > len {
            file.set_len(len).on("cut", &path)?;
        }
        // Also when it had been cut before: that may not have come to be synced.
        file.sync().on("sync", &path)
    }

    /// Deletes a file, and what the registry knew of it.
    pub(crate) fn remove(&self, file: &FileName) -> Result<(), JournalError> {
        let path = self.path_of(file);
        self.fs
            .remove_file(&path)
            .on("remove", &path)
            .and_then(|()| fs::sync_parent(&*self.fs, &path))
            .map_err(JournalError::Folder)?;
        self.forget(file)
    }

    /// Gives a damaged file a name under which nothing reads it any more.
    pub(crate) fn set_aside(&self, file: &FileName) -> Result<(), JournalError> {
        let path = self.path_of(file);
        let aside = path.with_extension("damaged");
        self.fs
            .rename(&path, &aside)
            .on("rename", &path)
            .and_then(|()| fs::sync_parent(&*self.fs, &path))
            .map_err(JournalError::Folder)
    }

    /// Removes a file's mark.
    pub(crate) fn forget(&self, file: &FileName) -> Result<(), JournalError> {
        let registry = self.keys.registry();
        if registry.marks().contains_key(&file.mark()) {
            registry
                .remove(&file.mark())
                .map_err(JournalError::Registry)?;
        }
        Ok(())
    }

    /// The marks of files that are not there: name in the registry, highest durable sequence.
    pub(crate) fn stray_marks(&self, files: &[FileName]) -> Vec<(String, u64)> {
        let known: Vec<_> = files.iter().map(FileName::mark).collect();
        let marks = self.keys.registry().marks();
        marks
            .into_iter()
            .filter(|(name, _)| name.starts_with(MARK) && !known.contains(name))
            .map(|(name, mark)| (name, mark.sequence))
            .collect()
    }
}

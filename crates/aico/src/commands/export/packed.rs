//! An export as one encrypted tar file. Nothing of it is ever on the disk in clear: files of rows,
//! whose length is known only at their end, wait for it under a key that dies with this process.

use std::collections::BTreeMap;
use std::io::Write as _;

use aico_vault::{EncryptedFile, FileKey, Key, Owner, Purpose};
use uuid::Uuid;

use super::tar::Tar;
use super::{Making, ROWS, Target, refused};
use crate::exit::Failure;
use crate::unfinished::Sealing;

/// The file in the making.
pub(super) struct Packed {
    making: Making,
    tar: Tar<Sealing>,
    waiting: BTreeMap<String, Waiting>,
}

/// A file of rows.
struct Waiting {
    key: FileKey,
    file: EncryptedFile,
    bytes: u64,
}

impl Packed {
    pub(super) fn begin(making: Making, key: &FileKey) -> Result<Self, Failure> {
        let file = Sealing::new(EncryptedFile::create_new(key, &making.to)?);
        let now = jiff::Timestamp::now().as_second();
        Ok(Self {
            making,
            tar: Tar::new(file, u64::try_from(now).unwrap_or(0)),
            waiting: BTreeMap::new(),
        })
    }

    fn waits(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        if !self.waiting.contains_key(name) {
            let id = Uuid::new_v4();
            let key = FileKey::from_derived(
                Key::random(),
                1,
                Purpose::EncryptedFile,
                Owner::System,
                id.into_bytes(),
            );
            let path = self.making.folder.join(id.simple().to_string());
            let unfinished = &self.making.unfinished;
            let file = unfinished.step(|| EncryptedFile::create_new(&key, path))?;
            let waiting = Waiting {
                file,
                key,
                bytes: 0,
            };
            self.waiting.insert(name.to_owned(), waiting);
        }
        let Some(waiting) = self.waiting.get_mut(name) else {
            return Ok(());
        };
        waiting.bytes += text.len() as u64;
        let written = waiting.file.write_all(text.as_bytes());
        written.map_err(|error| refused(&self.making.folder, &error))
    }
}

impl Target for Packed {
    fn append(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        if name.ends_with(ROWS) {
            return self.waits(name, text);
        }
        self.tar
            .add(name, text.len() as u64, &mut text.as_bytes())
            .map_err(|error| refused(&self.making.to, &error))
    }

    fn finish(self: Box<Self>) -> Result<(), Failure> {
        let Self {
            making,
            mut tar,
            waiting,
        } = *self;
        for (name, waiting) in waiting {
            let path = waiting.file.path().to_owned();
            making.unfinished.step(|| waiting.file.finish())?;
            let mut file = EncryptedFile::open(&waiting.key, &path)?;
            tar.add(&name, waiting.bytes, &mut file)
                .map_err(|error| refused(&making.to, &error))?;
        }
        let file = tar.finish().map_err(|error| refused(&making.to, &error))?;
        // Before the end: nothing is taken back of what is in its place.
        drop(making);
        Ok(file.finish()?)
    }
}

//! A vault with two persons on a disk in memory, and archives of it.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_vault::archive::{Archive, ArchiveError, PartKind, Preface, Scope};
use aico_vault::fs::Filesystem as _;
use aico_vault::fs::faulty::Faulty;
use aico_vault::{KdfCost, Owner, Password, RecoveryPhrase, Vault};

pub(crate) const MIA: [u8; 16] = [0xa1; 16];
pub(crate) const BEN: [u8; 16] = [0xb2; 16];
pub(crate) const PLACE: &str = "/set/one.aicobackup";
pub(crate) const MANIFEST: &[u8] = b"{\"persons\":2}";

pub(crate) fn password() -> Password {
    Password::new("velvet harbour moss lantern").unwrap()
}

pub(crate) struct World {
    pub(crate) disk: Faulty,
    pub(crate) vault: Vault,
    pub(crate) phrase: RecoveryPhrase,
}

/// The texts of the parts, the longer one of several chunks when `long`.
pub(crate) fn texts(long: bool) -> Vec<(PartKind, Owner, Vec<u8>)> {
    let person = |id: u8, count: usize| (0..count).map(|n| id ^ (n % 251) as u8).collect();
    vec![
        (PartKind::System, Owner::System, b"the system's".to_vec()),
        (
            PartKind::Person,
            Owner::Person(MIA),
            person(1, if long { 200_000 } else { 90 }),
        ),
        (PartKind::Person, Owner::Person(BEN), person(2, 70)),
        (PartKind::Configuration, Owner::System, Vec::new()),
    ]
}

impl World {
    pub(crate) fn new() -> Self {
        let disk = Faulty::new();
        disk.make_folder(Path::new("/set")).unwrap();
        let (vault, phrase) = Vault::create_on(
            Arc::new(disk.clone()),
            Path::new("/data"),
            &password(),
            KdfCost::minimum(),
        )
        .unwrap();
        Self {
            disk,
            vault,
            phrase,
        }
    }

    pub(crate) fn write(&self, long: bool) -> Result<[u8; 16], ArchiveError> {
        self.write_to(&self.disk, Path::new(PLACE), long)
    }

    pub(crate) fn write_to(
        &self,
        disk: &Faulty,
        path: &Path,
        long: bool,
    ) -> Result<[u8; 16], ArchiveError> {
        let fs = Arc::new(disk.clone());
        let mut writer = self
            .vault
            .begin_archive(fs, path, Scope::Whole, 1_700_000)?;
        for (kind, owner, text) in texts(long) {
            let mut part = writer.part(kind, owner);
            part.write_all(&text).map_err(typed)?;
            part.finish()?;
        }
        let id = writer.id();
        writer.finish(MANIFEST)?;
        Ok(id)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.disk.read(Path::new(PLACE)).unwrap()
    }

    /// Opens what is in the place on a disk, with the vault's own key.
    pub(crate) fn open_on(&self, disk: &Faulty) -> Result<Archive, ArchiveError> {
        Preface::read(disk, Path::new(PLACE))?.open_in(&self.vault)
    }

    pub(crate) fn open(&self) -> Result<Archive, ArchiveError> {
        self.open_on(&self.disk)
    }

    /// Opens these bytes as an archive and reads all of it.
    pub(crate) fn read_bytes(&self, bytes: &[u8]) -> Outcome {
        let disk = Faulty::new();
        disk.plant(Path::new(PLACE), bytes);
        match self.open_on(&disk) {
            Ok(archive) => read_all(&archive),
            Err(error) => Outcome {
                texts: Vec::new(),
                error: Some(error),
            },
        }
    }
}

/// What was handed out of an archive, and the first thing that was wrong with it.
pub(crate) struct Outcome {
    pub(crate) texts: Vec<(PartKind, Owner, Vec<u8>)>,
    pub(crate) error: Option<ArchiveError>,
}

pub(crate) fn read_all(archive: &Archive) -> Outcome {
    let mut outcome = Outcome {
        texts: Vec::new(),
        error: archive.verify(&mut |_| true).err(),
    };
    for part in archive.parts() {
        let mut text = Vec::new();
        let read = archive.read(part).and_then(|mut reader| {
            let mut piece = [0; 1000];
            loop {
                match reader.read(&mut piece).map_err(typed)? {
                    0 => return Ok(()),
                    count => text.extend_from_slice(&piece[..count]),
                }
            }
        });
        if let Err(error) = read {
            outcome.error.get_or_insert(error);
        }
        outcome.texts.push((part.kind, part.owner, text));
    }
    outcome
}

/// Our error in one of the standard library's.
pub(crate) fn typed(error: std::io::Error) -> ArchiveError {
    error.downcast::<ArchiveError>().unwrap()
}

pub(crate) fn archives(disk: &Faulty) -> Vec<PathBuf> {
    let all = disk.files().into_iter();
    all.filter(|path| path.starts_with("/set") && path != Path::new("/set"))
        .collect()
}

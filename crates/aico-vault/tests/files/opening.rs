//! Opening, on a real file system: rights, links, what is there already, and what does not go
//! together.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use aico_vault::append::HighWater;
use aico_vault::{EncryptedFile, EncryptedFileError, FileError};

use super::support::*;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a file");
    (folder, path)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut all: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

fn read(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    EncryptedFile::open(&key(), path)
        .unwrap()
        .read_to_end(&mut out)
        .unwrap();
    out
}

#[test]
fn a_new_file_appears_when_it_is_finished_and_never_before() {
    let (folder, path) = folder();
    let mut file = EncryptedFile::create_new(&key(), &path).unwrap();
    file.write_all(b"one").unwrap();
    assert!(!path.exists());
    file.finish().unwrap();
    assert_eq!(read(&path), b"one");

    let mut file = EncryptedFile::create(&key(), &path).unwrap();
    file.write_all(b"two").unwrap();
    assert_eq!(read(&path), b"one");
    drop(file);
    assert_eq!(names(folder.path()), ["a file"]);
    assert_eq!(read(&path), b"one");

    let again = EncryptedFile::create_new(&key(), &path).map(drop);
    assert!(matches!(again, Err(EncryptedFileError::Exists { .. })));
    let other = folder.path().join("other");
    let mut options = EncryptedFile::options();
    let missing = options.write(true).truncate(true).open(&key(), &other);
    assert!(matches!(
        missing.map(drop),
        Err(EncryptedFileError::Absent { .. })
    ));
    let missing = EncryptedFile::open(&key(), &other).map(drop).unwrap_err();
    assert_eq!(std::io::Error::from(missing).kind(), ErrorKind::NotFound);
}

#[test]
fn two_who_make_the_same_new_file_get_one_of_them_and_two_who_replace_one_get_a_whole_one() {
    let (folder, path) = folder();
    let begin = |text: &[u8]| {
        let mut file = EncryptedFile::create_new(&key(), &path).unwrap();
        file.write_all(text).unwrap();
        file
    };
    let (one, two) = (begin(b"one"), begin(b"two"));
    two.finish().unwrap();
    assert!(matches!(
        one.finish(),
        Err(EncryptedFileError::Exists { .. })
    ));
    assert_eq!(read(&path), b"two");

    let begin = |text: &[u8]| {
        let mut file = EncryptedFile::create(&key(), &path).unwrap();
        file.write_all(text).unwrap();
        file
    };
    let one = begin(b"one again");
    // Whoever begins now tidies up, and leaves alone what somebody still writes.
    let two = begin(b"two again");
    one.finish().unwrap();
    assert_eq!(read(&path), b"one again");
    two.finish().unwrap();
    assert_eq!(read(&path), b"two again");
    assert_eq!(names(folder.path()), ["a file"]);
}

#[test]
fn what_a_killed_writer_left_is_removed_and_what_only_looks_like_it_is_not() {
    let (folder, path) = folder();
    let mine = folder.path().join(".a file.0123456789abcdef.tmp");
    let others = [
        ".a file.tmp",
        ".a file.0123456789abcdeg.tmp",
        ".a file.b.0123456789abcdef.tmp",
        "a file.0123456789abcdef.tmp",
        ".b file.0123456789abcdef.tmp",
    ];
    for other in others {
        fs::write(folder.path().join(other), b"somebody's").unwrap();
    }
    fs::write(&mine, b"left behind").unwrap();
    EncryptedFile::create(&key(), &path)
        .unwrap()
        .finish()
        .unwrap();
    assert!(!mine.exists());
    assert_eq!(names(folder.path()).len(), others.len() + 1);
}

#[cfg(unix)]
#[test]
fn files_are_private_links_are_not_followed_and_copies_from_elsewhere_can_be_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, path) = folder();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let mut file = EncryptedFile::create(&key(), &path).unwrap();
    file.write_all(b"mine").unwrap();
    file.flush().unwrap();
    for name in names(folder.path()) {
        assert_eq!(mode(&folder.path().join(name)), 0o600);
    }
    file.finish().unwrap();
    assert_eq!(mode(&path), 0o600);

    set(0o644);
    let open = EncryptedFile::open(&key(), &path).map(drop);
    let Err(EncryptedFileError::File(FileError::Insecure { mend, .. })) = open else {
        panic!("{open:?}");
    };
    assert!(
        mend.starts_with("chmod") && mend.contains("a file"),
        "{mend}"
    );
    let mut options = EncryptedFile::options();
    let options = options.read(true).from_elsewhere(true);
    options.open(&key(), &path).unwrap().verify().unwrap();
    // Replaced, it is private again.
    EncryptedFile::create(&key(), &path)
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(mode(&path), 0o600);

    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let before = fs::read(&path).unwrap();
    let mut append = EncryptedFile::options();
    for refused in [
        EncryptedFile::open(&key(), &link),
        EncryptedFile::create(&key(), &link),
        EncryptedFile::create_new(&key(), &link),
        options.open(&key(), &link),
        append.append(true).create(true).open(&key(), &link),
    ] {
        assert!(matches!(
            refused.map(drop),
            Err(EncryptedFileError::File(FileError::Insecure { .. })
                | EncryptedFileError::Exists { .. })
        ));
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(EncryptedFile::open(&key(), folder.path()).is_err());
    assert!(EncryptedFile::create(&key(), folder.path()).is_err());
}

#[test]
fn what_does_not_go_together_is_refused() {
    let disk = Disk::new();
    type Set = fn(&mut aico_vault::file::OpenOptions) -> &mut aico_vault::file::OpenOptions;
    let refused: [Set; 8] = [
        |o| o,
        |o| o.write(true),
        |o| o.write(true).create(true),
        |o| o.read(true).write(true).create_new(true),
        |o| o.read(true).append(true),
        |o| o.read(true).create(true),
        |o| o.append(true).truncate(true).create(true),
        |o| o.write(true).append(true),
    ];
    for (number, set) in refused.iter().enumerate() {
        let mut options = disk.options();
        let opened = set(&mut options).open(&key(), place()).map(drop);
        assert!(
            matches!(opened, Err(EncryptedFileError::Options { .. })),
            "{number}"
        );
    }
    assert!(disk.0.files().is_empty());
}

#[test]
fn each_mode_does_what_it_is_for_and_says_what_it_is_not_for() {
    let disk = Disk::new();
    let kind = |error: std::io::Error| (error.kind(), typed(error).to_string());
    let mut options = disk.options();
    let mut file = options
        .write(true)
        .create_new(true)
        .open(&key(), place())
        .unwrap();
    assert_eq!(
        kind(file.read(&mut [0]).unwrap_err()).0,
        ErrorKind::Unsupported
    );
    assert_eq!(
        kind(file.seek(SeekFrom::Start(0)).unwrap_err()).0,
        ErrorKind::Unsupported
    );
    assert!(file.sync().is_err() && file.verify().is_err() && file.plain_len().is_err());
    file.finish().unwrap();
    let mut file = disk.open().unwrap();
    let (found, said) = kind(file.write(b"x").unwrap_err());
    assert_eq!(found, ErrorKind::Unsupported);
    assert!(said.contains(PLACE) && said.contains("writing"), "{said}");
    let before = file.seek(SeekFrom::Current(-1)).unwrap_err();
    assert_eq!(before.kind(), ErrorKind::InvalidInput);
    assert_eq!(file.seek(SeekFrom::Start(u64::MAX)).unwrap(), u64::MAX);
    assert_eq!(file.read(&mut [0]).unwrap(), 0);
    file.finish().unwrap();

    let disk = Disk::new();
    let mut options = disk.options();
    let missing = options.append(true).open(&key(), place()).map(drop);
    assert!(matches!(missing, Err(EncryptedFileError::Absent { .. })));
    options
        .create_new(true)
        .open(&key(), place())
        .unwrap()
        .finish()
        .unwrap();
    let there = options.open(&key(), place()).map(drop);
    assert!(matches!(there, Err(EncryptedFileError::Exists { .. })));
    let mut file = disk.append(HighWater::default()).unwrap();
    assert!(file.read(&mut [0]).is_err() && file.seek(SeekFrom::Start(0)).is_err());
    file.write_all(b"x").unwrap();
    assert_eq!(file.sync().unwrap(), 1);
    assert_eq!(file.finish().unwrap(), 1);
}

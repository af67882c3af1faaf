//! `aico file`: encrypted files of one's own, with a daemon and without.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{World, fails, text};

const TEXT: &str = "a line that nobody else may read, at zebra crossing nine\n";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A file with some text, beside the data folder.
fn letter(world: &World, name: &str, text: &[u8]) -> String {
    let path = world.path(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn long() -> Vec<u8> {
    TEXT.bytes().cycle().take(1_000_000).collect()
}

#[test]
fn a_file_goes_there_and_back_and_only_its_owner_reads_either() {
    let world = World::ready();
    let plain = letter(&world, "letter.txt", &long());
    let sealed = format!("{plain}.aico");
    assert_eq!(world.said(&["file", "encrypt", &plain]).trim(), sealed);
    // The file stays, and so does its text: but not in the copy.
    assert_eq!(fs::read(&plain).unwrap(), long());
    let bytes = fs::read(&sealed).unwrap();
    assert!(!bytes.windows(5).any(|window| window == b"zebra"));
    assert_eq!(mode(Path::new(&sealed)), 0o600);

    let said = world.said(&["file", "verify", &sealed]);
    assert!(said.contains("whole, 1000000 bytes"), "{said}");
    assert_eq!(world.aico(&["file", "cat", &sealed]).stdout, long());

    fails(&world, &["file", "decrypt", &sealed], 15, "--force");
    let out = world.path("out");
    let name = out.to_str().unwrap();
    world.said(&["file", "decrypt", &sealed, "--out", name]);
    assert_eq!(fs::read(&out).unwrap(), long());
    assert_eq!(mode(&out), 0o600);

    // Others can read what is in its way, and it is a link: neither stays so.
    fs::remove_file(&out).unwrap();
    fs::write(world.path("elsewhere"), "another's").unwrap();
    symlink(world.path("elsewhere"), &out).unwrap();
    fails(
        &world,
        &["file", "decrypt", &sealed, "--out", name],
        15,
        "--force",
    );
    world.said(&["file", "decrypt", &sealed, "--out", name, "--force"]);
    assert_eq!(fs::read(world.path("elsewhere")).unwrap(), b"another's");
    assert!(fs::symlink_metadata(&out).unwrap().is_file());
    assert_eq!(mode(&out), 0o600);

    // A copy that came back from elsewhere, where all are open to others.
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o644)).unwrap();
    world.said(&["file", "verify", &sealed]);
    fails(
        &world,
        &["file", "decrypt", &sealed, "--out", &sealed, "--force"],
        15,
        "--out",
    );
    fails(&world, &["file", "encrypt", &plain], 15, "--force");
    fails(&world, &["file", "cat", &plain], 15, "encrypt");
    fails(
        &world,
        &["file", "encrypt", world.data().to_str().unwrap()],
        15,
        "tar",
    );
    fails(
        &world,
        &["file", "verify", "/nowhere/at/all.aico"],
        13,
        "missing",
    );
    let names = fs::read_dir(world.path("")).unwrap();
    let left: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_a_daemon_the_master_password_opens_the_same_files() {
    let mut world = World::ready();
    let plain = letter(&world, "letter.txt", TEXT.as_bytes());
    let sealed = format!("{plain}.aico");
    world.said(&["file", "encrypt", &plain]);
    world.stop();

    fails(&world, &["file", "cat", &sealed], 2, "--password-file");
    let wrong = world.write("wrong", "not the right one at all");
    let wrong = wrong.to_str().unwrap();
    fails(
        &world,
        &["file", "cat", &sealed, "--password-file", wrong],
        5,
        "password is wrong",
    );
    let password = world.path("password");
    let password = password.to_str().unwrap();
    assert_eq!(
        world.said(&["file", "cat", &sealed, "--password-file", password]),
        TEXT
    );
    let again = world.path("again.aico");
    let again = again.to_str().unwrap();
    let arguments = [
        "file",
        "encrypt",
        &plain,
        "--out",
        again,
        "--password-file",
        password,
    ];
    world.said(&arguments);

    // What was written without a daemon opens with one, which is as well as before.
    world.serve();
    assert_eq!(world.said(&["file", "cat", again]), TEXT);
    world.said(&["lock"]);
    fails(&world, &["file", "cat", again], 4, "unlock");
    let nowhere = World::new();
    fails(&nowhere, &["file", "cat", again], 6, "aico");
    assert!(!nowhere.data().exists(), "it made a data folder");
}

#[test]
fn of_a_damaged_file_nothing_is_printed_or_written_and_what_is_there_stays() {
    let world = World::ready();
    let plain = letter(&world, "letter.txt", &long());
    let sealed = format!("{plain}.aico");
    world.said(&["file", "encrypt", &plain]);
    let good = fs::read(&sealed).unwrap();
    let nothing = |done: Output| {
        assert_eq!(done.status.code(), Some(10), "{}", text(&done.stderr));
        assert!(done.stdout.is_empty());
        text(&done.stderr)
    };
    let flipped = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bad
    };
    let mut lengthened = good.clone();
    lengthened.push(0);
    for (bad, words) in [
        (flipped(good.len() - 1), "chunk 15"),
        (flipped(good.len() / 2), "chunk 7"),
        (flipped(100), "letter.txt.aico"),
        (good[..good.len() / 2].to_vec(), "chunk 7"),
        (good[..147 + 3 * 65552].to_vec(), "after 3 chunks"),
        (lengthened, "chunk 15"),
    ] {
        fs::write(&sealed, bad).unwrap();
        let said = nothing(world.aico(&["file", "cat", &sealed]));
        assert!(said.contains(words), "{said}");
        nothing(world.aico(&["file", "verify", &sealed]));
        nothing(world.aico(&["file", "decrypt", &sealed, "--force"]));
        assert_eq!(fs::read(&plain).unwrap(), long());
        let out = world.path("out");
        nothing(world.aico(&["file", "decrypt", &sealed, "--out", out.to_str().unwrap()]));
        assert!(!out.exists());
    }
    // Of several, the good ones are told all the same.
    fs::write(world.path("good.aico"), &good).unwrap();
    let fine = world.path("good.aico");
    let done = world.aico(&["file", "verify", &sealed, fine.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(10));
    assert!(text(&done.stdout).contains("good.aico: whole"));
}

#[test]
fn another_persons_file_opens_for_them_alone() {
    let world = World::ready();
    let bens = world.write("password-ben", "copper Ben meadow trumpet glass");
    let bens = bens.to_str().unwrap();
    world.said(&["person", "add", "Ben", "--password-file", bens]);
    let plain = letter(&world, "letter.txt", TEXT.as_bytes());
    let (mine, theirs) = (format!("{plain}.aico"), format!("{plain}.ben"));
    world.said(&["file", "encrypt", &plain]);
    let as_ben = |what: &[&str]| {
        let mut arguments = vec!["--person", "Ben", "file"];
        arguments.extend(what);
        arguments.extend(["--password-file", bens]);
        world.aico(&arguments)
    };
    let done = as_ben(&["encrypt", &plain, "--out", &theirs]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&as_ben(&["cat", &theirs]).stdout), TEXT);
    fails(&world, &["file", "cat", &theirs], 15, "--person");
    assert_eq!(as_ben(&["cat", &mine]).status.code(), Some(15));

    // One file in the place of another of the same person: seen by whoever says which it has to be.
    let id = "00112233-4455-6677-8899-aabbccddeeff";
    let named = world.path("named.aico");
    let named = named.to_str().unwrap();
    world.said(&["file", "encrypt", &plain, "--id", id, "--out", named]);
    assert!(world.said(&["file", "verify", named]).contains(id));
    assert_eq!(world.said(&["file", "cat", named, "--id", id]), TEXT);
    fs::copy(&mine, named).unwrap();
    fails(
        &world,
        &["file", "cat", named, "--id", id],
        10,
        "another id",
    );
}

#[test]
fn what_comes_on_standard_input_is_encrypted_and_never_lies_in_clear() {
    let world = World::ready();
    fails(&world, &["file", "encrypt", "-"], 2, "--out");
    let out = world.path("piped.aico");
    let mut child = world
        .command(&["file", "encrypt", "-", "--out", out.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&long()).unwrap();
    // In the middle: the file is not in its place yet, and what there is of it is sealed.
    assert!(!out.exists());
    for entry in fs::read_dir(world.path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let seen = bytes.windows(5).any(|window| window == b"zebra");
            assert!(!seen, "{}", path.display());
        }
    }
    drop(stdin);
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(
        world.aico(&["file", "cat", out.to_str().unwrap()]).stdout,
        long()
    );
}

/// Ended where all of the text is there in clear and only waits for the disk.
#[test]
#[cfg(target_os = "linux")]
fn what_a_killed_decryption_left_goes_with_the_next_one_and_what_is_being_written_stays() {
    use crate::backups::names_in;
    use crate::interpose::{Fault, FaultyDisk};

    let mut world = World::ready();
    let plain = letter(&world, "letter.txt", TEXT.as_bytes());
    world.said(&["file", "encrypt", &plain]);
    let sealed = format!("{plain}.aico");
    let folder = world.path("out");
    fs::create_dir(&folder).unwrap();
    let out = folder.join("letter.txt");
    let decrypt = ["file", "decrypt", &sealed, "--out", out.to_str().unwrap()];
    let disk = FaultyDisk::under(&mut world);
    disk.fails(Fault::Slow(std::time::Duration::from_secs(60)), &folder);
    let mut waits = world.command(&decrypt).spawn().unwrap();
    let part = crate::support::until("the text is written", || {
        let part = names_in(&folder).pop()?;
        let text = fs::read_to_string(folder.join(&part)).unwrap();
        (text == TEXT).then_some(part)
    });
    // The disk stays slow for the first: mended, it would have gone on.
    let mut beside = world.command(&decrypt);
    assert!(beside.env_remove("LD_PRELOAD").status().unwrap().success());
    assert_eq!(names_in(&folder), [part.as_str(), "letter.txt"]);
    waits.kill().unwrap();
    waits.wait().unwrap();
    disk.mend();
    assert_eq!(names_in(&folder), [part.as_str(), "letter.txt"]);
    world.said(&[&decrypt[..], &["--force"]].concat());
    assert_eq!(names_in(&folder), ["letter.txt"]);
    assert_eq!(fs::read_to_string(&out).unwrap(), TEXT);
}

/// The system's own disk that is always full.
#[test]
#[cfg(target_os = "linux")]
fn what_can_not_be_printed_is_told() {
    let world = World::ready();
    let plain = letter(&world, "letter.txt", &long());
    world.said(&["file", "encrypt", &plain]);
    let sealed = format!("{plain}.aico");
    for arguments in [
        &["file", "cat", &sealed][..],
        &["token", "create", "--name", "Editor"],
        &["character", "export", "Aico", "--out", "-"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let mut command = world.command(arguments);
        let done = command.stdout(full.unwrap()).output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(12), "{arguments:?}: {said}");
        assert!(said.contains("written"), "{said}");
    }
}

//! A person's database in another program: SQLCipher 4 of another packager (PyPI), given the key
//! that the person asks for.
//!
//! `AICO_TEST_PYTHON` names a Python that has `sqlcipher3`; `./test` prepares one. Without it the part
//! that opens the database is left out with a line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::backups::{add_ben, ben_says, names_in, string};
use crate::support::{PASSWORD, World, fails, text};

/// Opens a copy with the statements, and prints what was said in it.
const READER: &str = r#"
import sys
from sqlcipher3 import dbapi2
statements, copy = sys.argv[1:]
database = dbapi2.connect(copy)
for statement in open(statements).read().splitlines():
    database.execute(statement)
version, = database.execute("PRAGMA cipher_version").fetchone()
assert version.startswith("4."), version
for text, in database.execute("SELECT text FROM companion_part"):
    print(text)
checked = database.execute("PRAGMA cipher_integrity_check").fetchall()
assert checked == [], checked
"#;

/// `None` with a line where there is no such Python.
fn read(world: &World, statements: &Path, copy: &Path) -> Option<Output> {
    let Some(python) = std::env::var_os("AICO_TEST_PYTHON") else {
        eprintln!("skipped: AICO_TEST_PYTHON names no Python with sqlcipher3");
        return None;
    };
    let program = world.write("reader.py", READER);
    let mut command = Command::new(python);
    command.arg(program).arg(statements).arg(copy);
    Some(command.output().unwrap())
}

fn refused(world: &World, statements: &Path, copy: &Path) {
    if let Some(done) = read(world, statements, copy) {
        let said = text(&done.stderr);
        assert!(!done.status.success(), "it was opened");
        assert!(said.contains("file is not a database"), "{said}");
        assert_eq!(text(&done.stdout), "");
    }
}

/// Where the database lies, as the command tells it.
fn told_path(notes: &str) -> PathBuf {
    let line = notes
        .lines()
        .find_map(|line| line.split_once("The database: "));
    line.unwrap_or_else(|| panic!("{notes}")).1.trim().into()
}

#[test]
fn the_exported_key_opens_a_copy_in_the_sqlcipher_of_another_packager() {
    let mut world = World::ready();
    let ben = add_ben(&world);
    ben_says(&world, &ben, "I keep bees in Lund");
    world.chat(None, "My dog is called Rex");
    let password = world.path("password");
    let export = ["person", "export-key", "--yes"];

    // Mia's to a file that only she can read, Ben's to standard output.
    let (mine, his) = (world.path("mine.sql"), world.path("his.sql"));
    let to_mine = ["--out", string(&mine), "--password-file", string(&password)];
    let done = world.aico(&[&export[..], &to_mine].concat());
    let notes = text(&done.stderr);
    assert!(done.status.success(), "{notes}");
    assert_eq!(text(&done.stdout), "", "it is in the file alone");
    assert!(notes.contains("reads everything in it"), "{notes}");
    let my_database = told_path(&notes);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&mine).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let done = world.aico(&[&export[..], &["Ben", "--password-file", &ben]].concat());
    let printed = text(&done.stdout);
    let notes = text(&done.stderr);
    assert!(done.status.success(), "{notes}");
    let his_database = told_path(&notes);
    let key = printed.strip_prefix("PRAGMA key = \"x'").unwrap();
    let (key, rest) = key.split_at(64);
    assert!(key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert_eq!(rest, "'\";\nPRAGMA cipher_compatibility = 4;\n");
    assert!(!notes.contains(key), "the warnings repeat it");
    assert!(!world.log().contains(key));
    std::fs::write(&his, &printed).unwrap();

    // Noted where Ben sees it, and only he.
    let to = world.path("bens-data");
    let took = ["--person", "Ben", "export", "--to", string(&to)];
    world.said(&[&took[..], &["--password-file", &ben]].concat());
    let account = std::fs::read_to_string(to.join("account.jsonl")).unwrap();
    assert_eq!(account.matches("self.export-key").count(), 1, "{account}");

    world.stop();
    let (my_copy, his_copy) = (world.path("mine.db"), world.path("his.db"));
    std::fs::copy(&my_database, &my_copy).unwrap();
    std::fs::copy(&his_database, &his_copy).unwrap();
    if let Some(done) = read(&world, &mine, &my_copy) {
        assert!(done.status.success(), "{}", text(&done.stderr));
        let said = text(&done.stdout);
        assert!(
            said.contains("My dog is called Rex") && !said.contains("Lund"),
            "{said}"
        );
    }
    if let Some(done) = read(&world, &his, &his_copy) {
        assert!(done.status.success(), "{}", text(&done.stderr));
        let said = text(&done.stdout);
        assert!(
            said.contains("I keep bees in Lund") && !said.contains("Rex"),
            "{said}"
        );
    }
    // Another's, and one that is wrong in its last digit, open nothing.
    refused(&world, &mine, &his_copy);
    refused(&world, &his, &my_copy);
    let last = if key.ends_with('0') { "1" } else { "0" };
    let other = printed.replace(key, &format!("{}{last}", &key[..63]));
    let wrong = world.write("wrong.sql", other.trim_end());
    refused(&world, &wrong, &his_copy);

    // New keys take it back for what is in the data folder, and not for the copy.
    world.serve();
    let rotate = ["--person", "Ben", "vault", "rotate", "--password-file"];
    let done = world.aico(&[&rotate[..], &[string(&password)]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    ben_says(&world, &ben, "And I sell the honey");
    world.stop();
    let new_copy = world.path("new.db");
    std::fs::copy(&his_database, &new_copy).unwrap();
    refused(&world, &his, &new_copy);
    if let Some(done) = read(&world, &his, &his_copy) {
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
}

#[test]
fn no_key_is_given_out_unasked_or_without_the_persons_own_password() {
    let world = World::ready();
    let ben = add_ben(&world);
    let password = world.path("password");
    let (mine, out) = (string(&password), world.path("key.sql"));
    let key = ["person", "export-key"];
    // Nobody is there to say that it is meant.
    fails(
        &world,
        &[&key[..], &["--password-file", mine]].concat(),
        2,
        "--yes",
    );
    // The owner's password is not Ben's, nor the other way round.
    let yes = ["person", "export-key", "--yes", "--out", string(&out)];
    let bens = [&yes[..], &["Ben", "--password-file", mine]].concat();
    fails(&world, &bens, 5, "wrong");
    fails(
        &world,
        &[&yes[..], &["--password-file", &ben]].concat(),
        5,
        "wrong",
    );
    // No file is left behind, and none is written over.
    assert!(!out.exists());
    std::fs::write(&out, "mine").unwrap();
    fails(
        &world,
        &[&yes[..], &["--password-file", mine]].concat(),
        2,
        "does not exist yet",
    );
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "mine");
    // Not over TCP, whoever is signed in.
    let api = world.api().sign_in("Mia", PASSWORD);
    let body = json!({"password": PASSWORD});
    assert_eq!(api.post("/api/v1/me/store/key", &body).0, 404);
    // What was refused is not noted as done.
    let to = world.path("data-of-mia");
    world.said(&["export", "--to", string(&to), "--password-file", mine]);
    assert!(names_in(&to).contains(&"account.jsonl".to_owned()));
    let account = std::fs::read_to_string(to.join("account.jsonl")).unwrap();
    assert!(!account.contains("export-key"), "{account}");
}

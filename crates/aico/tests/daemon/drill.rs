//! The restore drill as the README has it: its own lines, run as they stand there, on an empty
//! folder, by somebody who has the archive and the words on paper.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::backups::{names_in, shown, string};
use crate::support::{PASSWORD, World, text};

const README: &str = include_str!("../../../../README.md");

/// The commands of the section on backups, without their comments.
fn commands() -> Vec<String> {
    let section = README.split("\n## Backups").nth(1).unwrap();
    let block = section.split("```sh\n").nth(1).unwrap();
    let block = block.split("```").next().unwrap();
    let lines = block.lines().map(|line| line.split('#').next().unwrap());
    lines
        .map(|line| line.trim().to_owned())
        .filter(|line| line.starts_with("aico "))
        .collect()
}

/// Runs a line of the README in a shell, with this disk in place of the one in the README, and
/// what would be typed when a password is asked.
fn run(world: &World, line: &str, disk: &Path, typed: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_aico"));
    let file = world.write("typed", typed);
    let mut line = line.replace("/media/disk", string(disk));
    if line.contains("aico-….aicobackup") {
        let name = names_in(disk)
            .into_iter()
            .find(|name| name.ends_with(".aicobackup"))
            .unwrap();
        line = line.replace("aico-….aicobackup", &name);
        // Nobody sits at a terminal here: what would be typed comes from a file.
        line.push_str(&format!(" --password-file '{}'", file.display()));
    }
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let done = Command::new("sh")
        .args(["-ec", &line])
        .env("PATH", path)
        .env("AICO_DATA_DIR", world.data())
        .env("XDG_CONFIG_HOME", world.path("config"))
        .env_remove("CREDENTIALS_DIRECTORY")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success(), "{line}: {}", text(&done.stderr));
    text(&done.stdout)
}

#[test]
fn the_lines_of_the_readme_give_a_conversation_back() {
    let lines = commands();
    let [create, verify, restore, serve] = &lines[..] else {
        panic!("another number of lines than this drill knows: {lines:?}")
    };
    assert!(create.starts_with("aico backup create") && serve == "aico serve");
    let mut world = World::ready();
    let said = world.chat(None, "My dog is called Rex");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    let before = shown(&world, &conversation);
    let disk = world.path("disk");
    run(&world, create, &disk, "");
    let phrase = std::fs::read_to_string(world.path("phrase")).unwrap();
    world.stop();

    // Another machine, which has the disk and the words on paper.
    for typed in [phrase.trim(), PASSWORD] {
        let mut other = World::new();
        let told = run(&other, verify, &disk, typed);
        assert!(told.contains("Whole"), "{told}");
        run(&other, restore, &disk, typed);
        // `aico serve`, with the port of a test.
        other.serve();
        assert_eq!(shown(&other, &conversation), before);
    }
}

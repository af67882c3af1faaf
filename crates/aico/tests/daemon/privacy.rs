//! Nothing that was said, no name and no password is readable in anything that is left behind.

use std::path::Path;

#[cfg(target_os = "linux")]
use crate::support::allow_cores;
use crate::support::{World, text};

const MARKER: &str = "zyxmarkerqwv";

pub(crate) fn files(folder: &Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = std::fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            files(&path, all);
        } else if about.is_file() {
            all.push(path);
        }
    }
}

fn assert_nowhere(world: &World) {
    let mut all = Vec::new();
    files(&world.data(), &mut all);
    assert!(all.len() > 4, "{all:?}");
    let utf16: Vec<u8> = MARKER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for path in all {
        let content = std::fs::read(&path).unwrap();
        for marker in [MARKER.as_bytes(), &utf16] {
            let found = content
                .windows(marker.len())
                .any(|w| w.eq_ignore_ascii_case(marker));
            assert!(!found, "{} holds the marker", path.display());
        }
        assert!(!path.to_string_lossy().contains(MARKER));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with("core"), "a core was left");
    }
    let log = world.log();
    assert!(
        !log.to_lowercase().contains(MARKER),
        "the console log holds the marker: {log}"
    );
}

#[test]
fn a_marker_in_chat_name_and_password_is_in_no_file_however_the_daemon_ends() {
    let mut world = World::new();
    world.write("password", &format!("{MARKER} harbour moss lantern"));
    let (password, phrase) = (world.path("password"), world.path("phrase"));
    let arguments = [
        "setup",
        "--name",
        MARKER,
        "--password-file",
        password.to_str().unwrap(),
        "--recovery-file",
        phrase.to_str().unwrap(),
    ];
    let done = world.aico(&arguments);
    // A name that is in the password is refused: another name then, marked as well.
    assert!(
        !done.status.success() || world.home().exists(),
        "{}",
        text(&done.stderr)
    );
    if !done.status.success() {
        let name = format!("Ida {MARKER}");
        let mut arguments = arguments;
        arguments[2] = &name;
        world.write(
            "password",
            &format!("{MARKER} harbour moss lantern quill copper"),
        );
        let done = world.aico(&arguments);
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    world.serve_with(&[
        "--password-file",
        password.to_str().unwrap(),
        "--set",
        "logging.level=trace",
    ]);
    let said = world.chat(
        None,
        &format!("My dog is called {MARKER}. Remember {MARKER}."),
    );
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    world.said(&["conversation", "search", MARKER]);
    let wrong = world.write("wrong", &format!("{MARKER} is the wrong password"));
    let refused = world.aico(&[
        "--person",
        MARKER,
        "chat",
        "--once",
        MARKER,
        "--password-file",
        wrong.to_str().unwrap(),
    ]);
    assert!(!refused.status.success());
    assert_nowhere(&world);

    world.kill();
    assert_nowhere(&world);
    world.serve_with(&["--password-file", password.to_str().unwrap()]);
    assert!(
        world
            .said(&["conversation", "show", &conversation])
            .contains(MARKER),
        "it is kept"
    );
    world.stop();
    assert_nowhere(&world);
}

/// Not dumpable, so only root may even look; as root there is nothing to see.
#[cfg(target_os = "linux")]
fn environment(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_else(|error| {
        let must_look = std::env::var_os("AICO_TEST_MUST_LOOK").is_some();
        assert!(!must_look, "the environment of {pid}: {error}");
        Vec::new()
    })
}

#[cfg(target_os = "linux")]
#[test]
fn neither_process_tells_a_secret_by_its_arguments_or_environment() {
    allow_cores();
    let world = World::ready();
    world.chat(None, "Hello");
    let children = world.children();
    assert_eq!(children.len(), 1, "one model process");
    for pid in [world.pid(), children[0]] {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!text(&arguments).contains("velvet"));
        assert!(!text(&environment(pid)).contains("velvet"));
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits
            .lines()
            .find(|l| l.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    let environment = environment(children[0]);
    assert!(environment.is_empty(), "{}", text(&environment));
    let status = std::fs::read_to_string(format!("/proc/{}/status", children[0])).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
}

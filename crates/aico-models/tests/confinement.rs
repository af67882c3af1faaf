//! What the confined process can't do, tried from inside of one.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Place {
    folder: tempfile::TempDir,
    /// Which confinement.
    probe: &'static str,
}

/// Of a process that computes on the processor, and of one that drives a graphics device: what
/// belongs to a person is as closed to both.
const PROBES: [&str; 2] = ["probe", "probe-gpu"];

impl Place {
    /// A data folder with a model, a scratch folder and a secret beside them.
    fn new(probe: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("scratch")).unwrap();
        std::fs::write(folder.path().join("model.gguf"), b"model").unwrap();
        std::fs::write(folder.path().join("vault.hdr"), b"secret").unwrap();
        Self { folder, probe }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, what: &str, other: impl AsRef<std::ffi::OsStr>) -> Output {
        Command::new(env!("CARGO_BIN_EXE_aico-models-child"))
            .args([self.probe, what])
            .args([self.path("model.gguf"), self.path("scratch")])
            .arg(other)
            .env_clear()
            // The first device is one, whether the processor plays it or not.
            .env("GGML_VK_VISIBLE_DEVICES", "0")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn probe(&self, what: &str, other: impl AsRef<Path>) -> String {
        let output = self.run(what, other.as_ref());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

const REFUSED: &str = "PermissionDenied";

/// Landlock may be missing from a kernel; then the process says so, and these tests too.
fn files_supported(place: &Place) -> bool {
    let supported = place.probe("supported", "/");
    assert!(
        supported.ends_with("true"),
        "seccomp is everywhere: {supported}"
    );
    supported.starts_with("true")
}

#[test]
fn model_is_read_and_scratch_written_and_threads_run() {
    for probe in PROBES {
        let place = Place::new(probe);
        assert_eq!(place.probe("read-model", "/"), "done");
        assert_eq!(place.probe("write-scratch", "/"), "done");
        assert_eq!(place.probe("thread", "/"), "done");
    }
}

#[test]
fn data_folder_is_closed() {
    for probe in PROBES {
        let place = Place::new(probe);
        if !files_supported(&place) {
            return;
        }
        assert_eq!(place.probe("read-other", place.path("vault.hdr")), REFUSED);
        assert_eq!(place.probe("list-other", place.path("")), REFUSED);
        assert_eq!(place.probe("write-other", place.path("new")), REFUSED);
        assert_eq!(place.probe("write-other", place.path("vault.hdr")), REFUSED);
        assert_eq!(place.probe("write-model", "/"), REFUSED);
        assert_eq!(place.probe("read-other", "/etc/passwd"), REFUSED);
        assert_eq!(std::fs::read(place.path("vault.hdr")).unwrap(), b"secret");
    }
}

#[test]
fn no_socket_is_made() {
    for probe in PROBES {
        let place = Place::new(probe);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        let local = place.path("socket");
        let _unix = UnixListener::bind(&local).unwrap();
        assert_eq!(place.probe("tcp", &address), REFUSED);
        assert_eq!(place.probe("unix", &local), REFUSED);
        assert_eq!(place.probe("listen", "/"), REFUSED);
        assert_eq!(place.probe("udp", "/"), REFUSED);
    }
}

#[test]
fn starting_a_program_is_refused_and_becoming_one_is_death() {
    for probe in PROBES {
        let place = Place::new(probe);
        assert_ne!(place.probe("run", "/"), "done");
        let output = place.run("exec", "/");
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGSYS),
            "{:?}",
            output.status
        );
    }
}

#[test]
fn other_processes_are_left_alone() {
    for probe in PROBES {
        let place = Place::new(probe);
        assert_eq!(place.probe("own-limits", "/"), "done");
        for what in ["parents-limits", "users-priority", "signals-of-a-file"] {
            assert_eq!(place.probe(what, "/"), REFUSED, "{what}");
        }
    }
}

#[test]
fn a_device_is_spoken_to_and_a_terminal_is_not() {
    for probe in PROBES {
        let place = Place::new(probe);
        assert_eq!(place.probe("type-into-terminal", "/"), REFUSED);
    }
    let place = Place::new("probe-gpu");
    // What the system has of drivers is read, and not written.
    assert_eq!(place.probe("list-other", "/usr/lib"), "done");
    if files_supported(&place) {
        let planted = place.probe("write-other", "/usr/lib/aico-was-here");
        assert_eq!(planted, REFUSED);
        let processor = Place::new("probe");
        assert_eq!(processor.probe("list-other", "/usr/lib"), REFUSED);
    }
}

#[test]
#[cfg_attr(
    not(feature = "vulkan"),
    ignore = "needs the build for Vulkan and a driver: docs/gpu.md, \"Tests\""
)]
fn the_confinement_holds_with_an_open_device() {
    let place = Place::new("probe-gpu");
    assert_ne!(place.probe("device", "/"), "none");
}

//! A data folder with a daemon on it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::disk::Disk;
use crate::http::Api;

pub(crate) const PASSWORD: &str = "velvet harbour moss lantern quill";
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data folder with files for passwords; the daemon on it, if one runs.
pub(crate) struct World {
    daemon: Option<Child>,
    // Unmounted before the folder that it is mounted in is removed.
    disk: Option<Disk>,
    /// Variables of the environment for every run.
    variables: Vec<(&'static str, std::ffi::OsString)>,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            daemon: None,
            disk: None,
            variables: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        };
        world.write("password", PASSWORD);
        world
    }

    /// With the data folder on a disk of its own. `None` where there can be none; see
    /// [`Disk::mount`].
    pub(crate) fn on_disk(test: &str, size: &str) -> Option<Self> {
        let mut world = Self::new();
        world.disk = Some(Disk::mount(test, &world.data(), size)?);
        Some(world)
    }

    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    /// Set up for Mia, with a running, unlocked daemon.
    pub(crate) fn ready() -> Self {
        let mut world = Self::new();
        let done = world.setup();
        assert!(done.status.success(), "{}", text(&done.stderr));
        world.serve();
        world
    }

    pub(crate) fn setup(&self) -> Output {
        let (password, phrase) = (self.path("password"), self.path("phrase"));
        let _ = std::fs::remove_file(&phrase);
        self.aico(&[
            "setup",
            "--name",
            "Mia",
            "--password-file",
            password.to_str().unwrap(),
            "--recovery-file",
            phrase.to_str().unwrap(),
        ])
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.data().join("home")
    }

    /// A private file beside the data folder.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, format!("{content}\n")).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aico"));
        command
            .arg("--data")
            .arg(self.data())
            .args(arguments)
            .stdin(Stdio::null());
        command.env_remove("AICO_DATA_DIR");
        // Nothing of whoever runs the tests: neither their keychain nor their configuration.
        command
            .env_remove("CREDENTIALS_DIRECTORY")
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env(
                "DBUS_SESSION_BUS_ADDRESS",
                format!("unix:path={}", self.path("no-bus").display()),
            );
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Sets a variable of the environment for what runs from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<std::ffi::OsString>) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
    }

    /// Runs the program to its end.
    pub(crate) fn aico(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a run that succeeds.
    pub(crate) fn said(&self, arguments: &[&str]) -> String {
        let done = self.aico(arguments);
        assert!(
            done.status.success(),
            "{arguments:?}: {}",
            text(&done.stderr)
        );
        text(&done.stdout)
    }

    /// Starts the daemon unlocked; returns when it says that it is ready.
    pub(crate) fn serve(&mut self) -> String {
        let password = self.path("password");
        self.serve_with(&["--password-file", password.to_str().unwrap()])
    }

    pub(crate) fn serve_with(&mut self, more: &[&str]) -> String {
        match self.try_serve(more) {
            Ok(line) => line,
            Err(code) => panic!("the daemon ended with {code:?}: {}", self.log()),
        }
    }

    /// The same; how it ended where it did not say that it is ready.
    pub(crate) fn try_serve(&mut self, more: &[&str]) -> Result<String, Option<i32>> {
        assert!(self.daemon.is_none(), "one runs already");
        let mut arguments = vec![
            "serve",
            "--bind",
            "127.0.0.1:0",
            "--set",
            "bus.bind=127.0.0.1:0",
            "--set",
            "bus.live_bind=127.0.0.1:0",
            // Nor the Ollama of whoever runs the tests.
            "--set",
            "ollama.start=never",
            // Nor an engine for graphics devices that somebody built.
            "--set",
            "models.gpu=off",
        ];
        arguments.extend(more);
        let log = std::fs::File::create(self.path("stderr")).unwrap();
        let mut child = self
            .command(&arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            let _ = say.send(read.map(|_| line));
        });
        let Ok(line) = said.recv_timeout(PATIENCE) else {
            end(child, "KILL");
            panic!(
                "the daemon is not ready after {PATIENCE:?}, nor has it ended; its log: {}",
                self.log()
            );
        };
        let line = line.unwrap();
        if line.is_empty() {
            return Err(child.wait().unwrap().code());
        }
        self.daemon = Some(child);
        Ok(line)
    }

    /// Whether a daemon was started and not stopped.
    pub(crate) fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&mut self) {
        let status = self.stop_however();
        assert!(status.success(), "stopped with {status}: {}", self.log());
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop_however(&mut self) -> ExitStatus {
        end(self.daemon.take().unwrap(), "TERM")
    }

    /// Waits for an end that something else brings about.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait(self.daemon.take().unwrap(), "by itself")
    }

    /// The API of the running daemon; nobody is signed in.
    pub(crate) fn api(&self) -> Api {
        Api::at(&self.said(&["status", "--address"]))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        end(self.daemon.take().unwrap(), "KILL");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap()
    }

    /// Says one thing; the last event of the answer.
    pub(crate) fn chat(&self, conversation: Option<&str>, words: &str) -> Value {
        let mut arguments = vec!["chat", "--json", "--once", words];
        if let Some(conversation) = conversation {
            arguments.extend(["--conversation", conversation]);
        }
        done(&self.said(&arguments))
    }

    /// Process ids of the children of the daemon.
    #[cfg(target_os = "linux")]
    pub(crate) fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let mut all: Vec<u32> = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            let children = std::fs::read_to_string(task.unwrap().path().join("children"));
            let children = children.unwrap_or_default();
            all.extend(
                children
                    .split_whitespace()
                    .map(|pid| pid.parse::<u32>().unwrap()),
            );
        }
        assert!(Path::new(&path).exists());
        all
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(child) = self.daemon.take() {
            end(child, "KILL");
        }
    }
}

fn end(child: Child, signal: &str) -> ExitStatus {
    send(child.id(), signal);
    wait(child, signal)
}

fn wait(mut child: Child, why: &str) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end: {why}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn send(pid: u32, signal: &str) {
    Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .unwrap();
}

/// From now on processes may leave cores, whatever the shell forbids: what leaves none does so by
/// itself. A hard limit stays.
#[cfg(target_os = "linux")]
pub(crate) fn allow_cores() {
    let pid = std::process::id().to_string();
    let lifted = Command::new("prlimit")
        .args(["--core=unlimited:", "--pid", &pid])
        .status();
    if !lifted.is_ok_and(|status| status.success()) {
        eprintln!("no process may leave a core here, so none proves that it would leave none");
    }
}

/// The last event of `chat --json`.
pub(crate) fn done(output: &str) -> Value {
    let last = output.lines().last().unwrap_or_default();
    let event: Value = serde_json::from_str(last).unwrap();
    assert_eq!(event["type"], "done", "{output}");
    event
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What lies in a folder under a name that nothing has for long: what was in the making when
/// somebody was killed. Kept prompts are not looked at, of which one in the making goes within the
/// hour.
fn unfinished(folder: &Path) -> Vec<PathBuf> {
    const BEGINNINGS: [&str; 3] = [".next-", ".new-home-", ".backup-"];
    const ENDINGS: [&str; 5] = [".tmp", ".new", ".copying", ".rekeyed", ".before-migration"];
    let mut all = Vec::new();
    // It may be gone by now: somebody may be at work there.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if BEGINNINGS.iter().any(|begins| name.starts_with(begins))
            || ENDINGS.iter().any(|ends| name.ends_with(ends))
            || name == "next"
        {
            all.push(entry.path());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != "prompt-cache" {
            all.extend(unfinished(&entry.path()));
        }
    }
    all
}

/// Nothing that was in the making is left in the data folder.
pub(crate) fn nothing_unfinished(world: &World, when: &str) {
    let left = unfinished(&world.data());
    // What is just being replaced has such a name too, for a moment.
    until(&format!("nothing is left {when} of {left:?}"), || {
        unfinished(&world.data()).is_empty().then_some(())
    });
}

/// Waits until something holds.
pub(crate) fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn alive(pid: u32) -> bool {
    // A zombie has ended; nobody has asked how yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim()
            .starts_with('Z')
    })
}

/// A run that ends with this code and says these words.
pub(crate) fn fails(world: &World, arguments: &[&str], code: i32, words: &str) {
    let done = world.aico(arguments);
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(said.contains(words), "{arguments:?}: {said}");
}

/// The same for a daemon that does not start.
pub(crate) fn serve_fails(world: &World, code: i32, words: &str) {
    let password = world.path("password");
    let arguments = [
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--password-file",
        password.to_str().unwrap(),
    ];
    fails(world, &arguments, code, words);
}

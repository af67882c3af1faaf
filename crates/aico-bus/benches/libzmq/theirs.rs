//! libzmq's side: compiles `peer.c`, runs it, reads what it found.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::frames::{self, TOPICS};
use super::{Found, Settings};

pub(crate) struct Peer {
    program: PathBuf,
    version: String,
    _folder: tempfile::TempDir,
}

/// A process that ends with this.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    /// Compiles it. `Err` is a line that says what to install.
    pub(crate) fn build() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("peer");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/libzmq/peer.c");
        let compiled = Command::new("cc")
            .args(["-O2", "-o"])
            .args([&program, &source])
            .args(["-lzmq", "-lpthread"])
            .output();
        let missing = "install it for this benchmark: apt-get install gcc libc6-dev libzmq3-dev";
        match compiled {
            Ok(compiled) if compiled.status.success() => {}
            Ok(compiled) => {
                let said = String::from_utf8_lossy(&compiled.stderr);
                return Err(if said.contains("zmq.h") || said.contains("lzmq") {
                    format!("libzmq's header or library is missing; {missing}")
                } else {
                    format!("cc can't compile {}:\n{said}", source.display())
                });
            }
            Err(_) => return Err(format!("there is no C compiler; {missing}")),
        }
        let told = Command::new(&program).arg("version").output().unwrap();
        Ok(Self {
            program,
            version: String::from_utf8_lossy(&told.stdout).trim().to_owned(),
            _folder: folder,
        })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// A broker and its ends.
    pub(crate) fn over_link(&self, settings: Settings) -> Found {
        let mut broker = Command::new(&self.program)
            .arg("broker")
            .stdout(Stdio::piped())
            .spawn()
            .map(Ended)
            .unwrap();
        let mut line = String::new();
        let told = broker.0.stdout.take().unwrap();
        BufReader::new(told).read_line(&mut line).unwrap();
        let (addresses, key) = line.trim().rsplit_once(' ').unwrap();
        let environment = [("ADDRESSES", addresses), ("SERVER_KEY", key)];
        self.ends("ends", settings, &environment)
    }

    pub(crate) fn in_process(&self, settings: Settings) -> Found {
        self.ends("inproc", settings, &[])
    }

    fn ends(&self, role: &str, settings: Settings, environment: &[(&str, &str)]) -> Found {
        let envelopes = settings.envelopes();
        let mut ends = Command::new(&self.program)
            .arg(role)
            .args([settings.subscribers, envelopes, settings.window()].map(|n| n.to_string()))
            .args([settings.rate, settings.warm_ms, settings.span_ms].map(|n| n.to_string()))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(Ended)
            .unwrap();
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        };
        let mut input = hex(&frames::prefix()) + "\n";
        for topic in &TOPICS[..if settings.many { 1 } else { 2 }] {
            let (bytes, stamp) = frames::frame(topic, settings.size, envelopes);
            let _ = writeln!(input, "{stamp} {}", hex(&bytes));
        }
        let mut stdin = ends.0.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let mut answer = String::new();
        let told = ends.0.stdout.take().unwrap();
        BufReader::new(told).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

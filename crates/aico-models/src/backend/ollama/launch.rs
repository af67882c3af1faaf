//! The process of an Ollama that we started.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::OllamaConfig;
use super::find::{Found, Place};
#[cfg(windows)]
use super::job::Job;

/// Longest line of its that is read at once.
const LINE_LIMIT: u64 = 64 << 10;
/// To end its models by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Variables of ours that it may have: what finds graphics cards and libraries.
const PASSED: [&str; 22] = [
    "PATH",
    "USER",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "HSA_OVERRIDE_GFX_VERSION",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SystemRoot",
    "SystemDrive",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "LOCALAPPDATA",
    "APPDATA",
    "ProgramFiles",
    "NUMBER_OF_PROCESSORS",
];

type Environment = Vec<(&'static str, OsString)>;

/// Everything that it is told.
pub(super) fn environment(
    config: &OllamaConfig,
    found: &Found,
    address: SocketAddr,
) -> Environment {
    let mut all: Environment = PASSED
        .iter()
        .filter_map(|name| Some((*name, std::env::var_os(name)?)))
        .collect();
    let mut put = |name, value: OsString| all.push((name, value));
    put("OLLAMA_HOST", address.to_string().into());
    put("OLLAMA_NUM_PARALLEL", config.parallel.to_string().into());
    put("OLLAMA_MAX_LOADED_MODELS", config.loaded.to_string().into());
    put("OLLAMA_MAX_QUEUE", "64".into());
    let keep_alive = match config.keep_alive {
        Some(time) => format!("{}s", time.as_secs()),
        None => "-1".to_owned(),
    };
    put("OLLAMA_KEEP_ALIVE", keep_alive.into());
    put("OLLAMA_CONTEXT_LENGTH", config.context.to_string().into());
    put("OLLAMA_FLASH_ATTENTION", "1".into());
    put("OLLAMA_LOAD_TIMEOUT", "5m".into());
    // What was downloaded of a model stays for the next time.
    put("OLLAMA_NOPRUNE", "1".into());
    // Nothing of a conversation goes to servers of its makers; the older know the second.
    put("OLLAMA_NO_CLOUD", "1".into());
    put("OLLAMA_REMOTES", "none.invalid".into());
    put("OLLAMA_NOHISTORY", "1".into());
    if let Some(proxy) = &config.proxy {
        put("HTTPS_PROXY", proxy.into());
        put("NO_PROXY", "127.0.0.1,localhost".into());
    }
    match found.place {
        // With a home of its own: it keeps a key there.
        Place::Ours => {
            put("HOME", config.folder.join("home").into());
            put("OLLAMA_MODELS", config.folder.join("models").into());
        }
        Place::Theirs => {
            for name in ["HOME", "OLLAMA_MODELS"] {
                if let Some(value) = std::env::var_os(name) {
                    put(name, value);
                }
            }
        }
    }
    all
}

/// Starts processes from a thread that lives as long as it does: on Linux a child hears of the
/// end of the *thread* that started it, and a runtime's threads come and go.
pub(super) struct Starter {
    orders: std::sync::mpsc::Sender<Order>,
}

struct Order {
    program: PathBuf,
    environment: Environment,
    answer: oneshot::Sender<std::io::Result<Child>>,
}

impl Starter {
    pub(super) fn new() -> std::io::Result<Self> {
        let (orders, inbox) = std::sync::mpsc::channel::<Order>();
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("aico-ollama-start".into())
            .spawn(move || {
                let _inside = runtime.enter();
                while let Ok(order) = inbox.recv() {
                    let started = start(&order.program, &order.environment);
                    let _asker_gone = order.answer.send(started);
                }
            })?;
        Ok(Self { orders })
    }

    pub(super) async fn run(
        &self,
        program: PathBuf,
        environment: Environment,
    ) -> std::io::Result<Process> {
        let gone = || std::io::Error::other("the starting thread has ended");
        let own = environment.iter().filter(|(name, _)| *name == "HOME");
        for (_, home) in own {
            let home = PathBuf::from(home);
            tokio::task::spawn_blocking(move || crate::starter::private_folder(&home))
                .await
                .map_err(|_| gone())??;
        }
        let (answer, started) = oneshot::channel();
        let order = Order {
            program,
            environment,
            answer,
        };
        self.orders.send(order).map_err(|_| gone())?;
        let mut child = started.await.map_err(|_| gone())??;
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(filter(errors));
        }
        Ok(Process {
            group: child.id().unwrap_or(0),
            #[cfg(windows)]
            job: job_around(&child),
            child,
        })
    }
}

fn start(program: &std::path::Path, environment: &Environment) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command
        .arg("serve")
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Not into the terminal's foreground group: Ctrl-C is the daemon's to handle.
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let daemon = std::process::id();
        // SAFETY: between fork and exec only system calls that are safe there.
        unsafe {
            command.pre_exec(move || {
                // It ends its models when it is asked to, which a kill would leave behind.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // The daemon may have ended before that took effect.
                if u32::try_from(libc::getppid()) != Ok(daemon) {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
    }
    command.spawn()
}

/// In it end those too that Ollama starts to run its models.
#[cfg(windows)]
fn job_around(child: &Child) -> Option<Job> {
    // It has ended where it has no handle any more.
    match Job::around(child.raw_handle()?) {
        Ok(job) => Some(job),
        Err(error) => {
            tracing::warn!(
                %error,
                "Ollama can't be put into a job; processes that run its models may outlive it."
            );
            None
        }
    }
}

/// A running process. Dropping it ends it.
pub(super) struct Process {
    child: Child,
    group: u32,
    #[cfg(windows)]
    job: Option<Job>,
}

impl Process {
    pub(super) fn id(&self) -> u32 {
        self.group
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it is this process that listens there, and not one that took the port first.
    /// `None` where the system does not tell. Blocks shortly.
    pub(super) fn listens_at(&self, address: SocketAddr) -> Option<bool> {
        listens(self.group, address)
    }

    pub(super) async fn ended(&mut self) {
        let _status = self.child.wait().await;
    }

    /// Asks it to end, and kills it when it does not soon.
    pub(super) async fn end(&mut self) {
        self.signal(false);
        if tokio::time::timeout(GRACE, self.child.wait())
            .await
            .is_err()
        {
            let _ended = self.child.kill().await;
        }
        self.clear();
    }

    /// Ends it at once: it does not hear any more.
    pub(super) async fn kill(&mut self) {
        let _ended = self.child.kill().await;
        self.clear();
    }

    /// Ends what is left of its group: the processes that ran its models.
    pub(super) fn clear(&mut self) {
        self.signal(true);
    }

    #[cfg(unix)]
    fn signal(&mut self, group: bool) {
        let Ok(id @ 2..) = libc::pid_t::try_from(self.group) else {
            return;
        };
        // One that was waited for has no number any more; its group may.
        let ended = self.has_ended();
        // SAFETY: a system call without memory; what is meant may be gone, which does no harm.
        unsafe {
            if group {
                libc::kill(-id, libc::SIGKILL);
            } else if !ended {
                libc::kill(id, libc::SIGTERM);
            }
        }
    }

    #[cfg(windows)]
    fn signal(&mut self, group: bool) {
        let _ended = self.child.start_kill();
        if group {
            self.job = None;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(false);
        self.signal(true);
    }
}

/// By the kernel's table of sockets, in which an address is a number in the machine's order.
fn listens(process: u32, address: SocketAddr) -> Option<bool> {
    let std::net::IpAddr::V4(host) = address.ip() else {
        return None;
    };
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).ok()?;
    let host = u32::from_ne_bytes(host.octets());
    let local = format!("{host:08X}:{:04X}", address.port());
    let sockets: Vec<String> = table
        .lines()
        .filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            // 0A: it listens.
            let found = words.get(1) == Some(&local.as_str()) && words.get(3) == Some(&"0A");
            found.then(|| Some(format!("socket:[{}]", words.get(9)?)))?
        })
        .collect();
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let mut own = files
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok());
    Some(own.any(|file| {
        sockets
            .iter()
            .any(|socket| file.as_os_str() == socket.as_str())
    }))
}

/// Lines of its log that are known, with our words for them. All else may quote anything and is
/// only counted.
const KNOWN: &[(&str, &str)] = &[
    ("address already in use", "Ollama found its port taken."),
    ("out of memory", "Ollama ran out of memory."),
    ("cannot allocate memory", "Ollama ran out of memory."),
    (
        "requires more system memory",
        "A model does not fit into the memory that Ollama may use.",
    ),
    ("no space left on device", "Ollama found its disk full."),
    (
        "runner process has terminated",
        "A process of Ollama that ran a model has ended.",
    ),
    ("panic:", "Ollama panicked."),
    ("permission denied", "Ollama may not use one of its files."),
];

fn known(line: &str) -> Option<&'static str> {
    let line = line.to_ascii_lowercase();
    let found = KNOWN.iter().find(|(phrase, _)| line.contains(phrase));
    found.map(|(_, words)| *words)
}

async fn filter(errors: impl AsyncRead + Unpin) {
    let mut errors = BufReader::new(errors);
    let mut unknown = 0_u64;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let read = (&mut errors)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut buffer)
            .await;
        match read {
            Ok(0) | Err(_) => break,
            Ok(_) => match known(&String::from_utf8_lossy(&buffer)) {
                Some(words) => tracing::warn!("{words}"),
                None => unknown += 1,
            },
        }
    }
    tracing::debug!(lines = unknown, "Ollama wrote lines that are not known.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_lines_pass_and_in_our_words() {
        assert_eq!(known("level=INFO msg=\"my secret\""), None);
        let words = known("Error: listen tcp 127.0.0.1:1: bind: address already in use secret");
        assert_eq!(words, Some("Ollama found its port taken."));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_listens_is_known() {
        let us = std::process::id();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(listens(us, address), Some(true));
        assert_eq!(
            listens(std::os::unix::process::parent_id(), address),
            Some(false)
        );
        drop(socket);
        assert_eq!(listens(us, address), Some(false));
    }

    #[test]
    fn it_is_told_the_policy_and_nothing_of_ours() {
        let mut config = OllamaConfig::new("/data/engines/ollama".into());
        config.keep_alive = None;
        let below = |name: &str| config.folder.join(name).display().to_string();
        let (home, models) = (below("home"), below("models"));
        let found = Found {
            program: "/x/ollama".into(),
            place: Place::Ours,
        };
        let all = environment(&config, &found, "127.0.0.1:4000".parse().unwrap());
        let value = |name: &str| {
            let found = all.iter().find(|(known, _)| *known == name);
            found.and_then(|(_, value)| value.to_str())
        };
        for (name, expected) in [
            ("OLLAMA_HOST", "127.0.0.1:4000"),
            ("OLLAMA_NUM_PARALLEL", "4"),
            ("OLLAMA_MAX_LOADED_MODELS", "2"),
            ("OLLAMA_KEEP_ALIVE", "-1"),
            ("OLLAMA_NOPRUNE", "1"),
            ("OLLAMA_NO_CLOUD", "1"),
            ("HOME", home.as_str()),
            ("OLLAMA_MODELS", models.as_str()),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
        assert!(all.iter().all(|(name, _)| !name.starts_with("AICO")));
    }
}

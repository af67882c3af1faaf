//! One run of the model process: starting it, talking to it, hearing of its end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

use aico_bus::Trace;
use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::process::launch::{Control, LINE_LIMIT, Launch, Report};

/// How long the system may take to end one that was killed, and to give its memory back.
const KILLED: Duration = Duration::from_secs(2);

/// The program that runs as the model process.
#[derive(Debug, Clone)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// All that is in its environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// One with one argument, and nothing in its environment.
    pub fn new(path: impl Into<PathBuf>, argument: impl Into<OsString>) -> Self {
        Self {
            path: path.into(),
            arguments: vec![argument.into()],
            environment: Vec::new(),
        }
    }
}

/// What a run tells.
pub(super) enum News {
    /// A line of its own.
    Report(Report),
    /// It wrote that there was no memory for it; its end follows.
    NoMemory,
    /// It ended.
    Ended(Option<ExitStatus>),
}

/// Starts model processes. Tests play them.
#[async_trait]
pub(super) trait Launcher: Send + Sync {
    /// Starts a process and hands it its launch line.
    async fn run(&self, program: Program, launch: Launch) -> std::io::Result<Run>;
}

/// Starts processes from one thread that lives as long as the daemon: on Linux a child dies
/// with the *thread* that started it, and a runtime's threads come and go.
#[derive(Clone)]
pub(super) struct Starter {
    orders: std::sync::mpsc::Sender<Order>,
}

struct Order {
    program: Program,
    variables: Vec<(&'static str, String)>,
    answer: oneshot::Sender<std::io::Result<Child>>,
}

impl Starter {
    pub(super) fn new() -> std::io::Result<Self> {
        let (orders, inbox) = std::sync::mpsc::channel::<Order>();
        let runtime = Handle::current();
        std::thread::Builder::new()
            .name("aico-models-start".into())
            .spawn(move || {
                let _inside = runtime.enter();
                while let Ok(order) = inbox.recv() {
                    let started = start(&order.program, order.variables);
                    let _asker_gone = order.answer.send(started);
                }
            })?;
        Ok(Self { orders })
    }

    /// Starts a process. It finds no other variables than these.
    pub(super) async fn spawn(
        &self,
        program: Program,
        variables: Vec<(&'static str, String)>,
    ) -> std::io::Result<Child> {
        let gone = || std::io::Error::other("the starting thread has ended");
        let (answer, started) = oneshot::channel();
        self.orders
            .send(Order {
                program,
                variables,
                answer,
            })
            .map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }
}

#[async_trait]
impl Launcher for Starter {
    async fn run(&self, program: Program, launch: Launch) -> std::io::Result<Run> {
        let mut child = self.spawn(program, Vec::new()).await?;
        let mut line = serde_json::to_string(&launch).map_err(std::io::Error::other)?;
        line.push('\n');
        let (Some(mut input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(std::io::Error::other("the pipes are missing"));
        };
        // A process that ends at once has not read it: its end will be heard.
        let _ended = input.write_all(line.as_bytes()).await;
        let process_id = child.id().unwrap_or(0);
        let (sender, news) = mpsc::channel(16);
        let heard = tokio::spawn(hear(output, sender.clone()));
        let filtered = tokio::spawn(filter(errors));
        let (kill, killed) = oneshot::channel();
        tokio::spawn(await_end(child, killed, (heard, filtered), sender));
        Ok(Run {
            process_id,
            input: Some(input),
            news,
            kill: Some(kill),
        })
    }
}

fn start(program: &Program, variables: Vec<(&str, String)>) -> std::io::Result<Child> {
    let mut command = Command::new(&program.path);
    command
        .args(&program.arguments)
        .env_clear()
        .envs(variables)
        .envs(
            program
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Windows can't load its own libraries without knowing where it is.
    #[cfg(windows)]
    if let Some(root) = std::env::var_os("SystemRoot") {
        command.env("SystemRoot", root);
    }
    // Not into the terminal's foreground group: Ctrl-C is the daemon's to handle.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn()
}

/// A running process. Dropping it kills.
pub(super) struct Run {
    pub(super) process_id: u32,
    input: Option<ChildStdin>,
    news: mpsc::Receiver<News>,
    kill: Option<oneshot::Sender<()>>,
}

impl Run {
    /// The next news; `Ended` is the last.
    async fn news(&mut self) -> News {
        std::future::poll_fn(|cx| self.poll_news(cx)).await
    }

    /// The next news, if there are any now.
    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<News> {
        let news = std::task::ready!(self.news.poll_recv(cx));
        Poll::Ready(news.unwrap_or(News::Ended(None)))
    }

    /// Kills it at once. Its end is still told.
    pub(super) fn kill(&mut self) {
        self.kill = None;
    }

    /// One that a test plays.
    #[cfg(test)]
    pub(super) fn played(
        process_id: u32,
        news: mpsc::Receiver<News>,
        kill: oneshot::Sender<()>,
    ) -> Self {
        Self {
            process_id,
            input: None,
            news,
            kill: Some(kill),
        }
    }

    /// Says something to it. One that does not read soon is left alone.
    pub(super) async fn say(&mut self, control: &Control) {
        let Some(input) = &mut self.input else { return };
        if let Ok(mut line) = serde_json::to_string(control) {
            line.push('\n');
            let said = input.write_all(line.as_bytes());
            let _ended = tokio::time::timeout(Duration::from_millis(200), said).await;
        }
    }

    /// Asks it to end, and kills it when it does not within `grace`.
    pub(super) async fn end(mut self, grace: Duration) {
        self.say(&Control::Stop).await;
        if self.input.take().is_none() {
            // It can't be asked.
            self.kill = None;
        }
        let ended = async { while !matches!(self.news().await, News::Ended(_)) {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            self.kill = None;
            let ended = async { while !matches!(self.news().await, News::Ended(_)) {} };
            let _unkillable = tokio::time::timeout(KILLED, ended).await;
        }
    }
}

/// Reads its reports. The end of the lines is not the end of the process.
async fn hear(output: impl AsyncRead + Unpin, news: mpsc::Sender<News>) {
    let mut output = BufReader::new(output);
    while let Some(line) = line(&mut output).await {
        match serde_json::from_slice(&line) {
            Ok(report) => {
                if let Report::Answered {
                    trace,
                    outcome,
                    read,
                    written,
                    took_ms,
                } = &report
                {
                    // Its own words are in no record: a trace is one, or none.
                    let trace = trace.parse::<Trace>().ok().map(|trace| trace.to_string());
                    tracing::debug!(
                        trace,
                        ?outcome,
                        read,
                        written,
                        took_ms,
                        "The model process has dealt with a question."
                    );
                }
                if news.send(News::Report(report)).await.is_err() {
                    return;
                }
            }
            Err(_) => tracing::warn!("The model process said something that is no report."),
        }
    }
}

async fn line(input: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    input
        .take(LINE_LIMIT as u64)
        .read_until(b'\n', &mut line)
        .await
        .ok()?;
    (line.pop() == Some(b'\n')).then_some(line)
}

async fn await_end(
    mut child: Child,
    killed: oneshot::Receiver<()>,
    (heard, filtered): (JoinHandle<()>, JoinHandle<bool>),
    news: mpsc::Sender<News>,
) {
    let status = tokio::select! {
        status = child.wait() => status.ok(),
        _dropped = killed => {
            let _ended = child.kill().await;
            child.wait().await.ok()
        }
    };
    // Its last words come before the news of its end, unless somebody else holds the pipe.
    let last = async {
        let _ended = heard.await;
        filtered.await.unwrap_or(false)
    };
    let no_memory = tokio::time::timeout(Duration::from_millis(200), last).await;
    if no_memory.unwrap_or(false) {
        let _nobody_listens = news.send(News::NoMemory).await;
    }
    let _nobody_listens = news.send(News::Ended(status)).await;
}

/// Lines on its standard error that are known, with our words for them. All else may quote
/// anything and is only counted.
const KNOWN: &[(&str, &str)] = &[
    (crate::process::PANIC_LINE, "The model process panicked."),
    (
        "GGML_ASSERT",
        "The inference library found an inconsistency and aborted.",
    ),
    (
        "terminate called",
        "The inference library threw an exception and aborted.",
    ),
    (NO_MEMORY[0], RAN_OUT),
    (NO_MEMORY[1], RAN_OUT),
    (NO_MEMORY[2], RAN_OUT),
];

/// What stands in a line of one that has no memory.
const NO_MEMORY: [&str; 3] = ["bad_alloc", "memory allocation of", "failed to allocate"];
const RAN_OUT: &str = "The model process ran out of memory.";

fn known(line: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(phrase, _)| line.contains(phrase))
        .map(|(_, words)| *words)
}

/// Reads what a process writes besides, and lets nothing of it through but its kind. Tells whether
/// it wrote that there was no memory.
pub(super) async fn filter(errors: impl AsyncRead + Unpin) -> bool {
    let mut errors = BufReader::new(errors);
    let mut unknown = 0_u64;
    let mut no_memory = false;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match (&mut errors)
            .take(LINE_LIMIT as u64)
            .read_until(b'\n', &mut buffer)
            .await
        {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                let line = String::from_utf8_lossy(&buffer);
                no_memory |= NO_MEMORY.iter().any(|phrase| line.contains(phrase));
                match known(&line) {
                    Some(words) => tracing::warn!("{words}"),
                    None => unknown += 1,
                }
            }
        }
    }
    if unknown > 0 {
        tracing::debug!(
            lines = unknown,
            "The model process wrote lines that are not known."
        );
    }
    no_memory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_lines_pass_and_in_our_words() {
        assert_eq!(known("prompt: my secret"), None);
        let words = known("/x/ggml.c:1: GGML_ASSERT(a == b) failed, my secret").unwrap();
        assert!(!words.contains("secret"));
        assert_eq!(
            known("terminate called after throwing an instance of 'std::bad_alloc'").map(str::len),
            Some("The inference library threw an exception and aborted.".len())
        );
    }

    #[tokio::test]
    async fn one_that_writes_that_there_is_no_memory_is_known_by_it() {
        let thrown = "hello\nterminate called after throwing 'std::bad_alloc'\n";
        assert!(filter(thrown.as_bytes()).await);
        assert!(filter("memory allocation of 9 bytes failed".as_bytes()).await);
        assert!(!filter("GGML_ASSERT(a == b) failed\n".as_bytes()).await);
    }
}

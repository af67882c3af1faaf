//! One run of a package's process: starting it, and asking it.

use std::time::Duration;

use aico_contracts::v1::Fault;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::supervisor::child::{Program, Starter, filter};
use crate::transformers::graph::variables;
use crate::transformers::wire::{ANSWER_LIMIT, Failure, Kind, Launch, Report, head, read_head};

/// What a process gets to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// How long the system may take to end one that was killed, and to give its memory back.
const KILLED: Duration = Duration::from_secs(2);

/// Why a process did not answer.
pub(super) enum RunError {
    /// It can't be started.
    Start(std::io::Error),
    /// It told why it can't.
    Told(Failure),
    /// It ended.
    Ended,
    /// It took too long.
    TooSlow,
    /// What it said is nothing that it should.
    Strange,
}

/// A process. Dropping it kills.
pub(super) struct Run {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Run {
    /// Starts the process.
    pub(super) async fn start(
        starter: &Starter,
        program: Program,
        launch: &Launch,
    ) -> Result<Self, RunError> {
        let variables = variables(usize::try_from(launch.threads).unwrap_or(1));
        let child = starter.spawn(program, variables).await;
        let mut child = child.map_err(RunError::Start)?;
        let (Some(mut input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(RunError::Start(std::io::Error::other(
                "the pipes are missing",
            )));
        };
        tokio::spawn(filter(errors));
        let mut line = serde_json::to_vec(launch)
            .map_err(|error| RunError::Start(std::io::Error::other(error)))?;
        line.push(b'\n');
        // A process that ends at once has not read it: its end will be heard.
        let _ended = input.write_all(&line).await;
        Ok(Self {
            child,
            input,
            output,
        })
    }

    /// Waits until it can answer.
    pub(super) async fn ready(&mut self, limit: Duration) -> Result<(), RunError> {
        let loaded = tokio::time::timeout(limit, self.loaded()).await;
        loaded.map_err(|_| RunError::TooSlow)?
    }

    async fn loaded(&mut self) -> Result<(), RunError> {
        loop {
            let (kind, bytes) = self.read().await?;
            let report = match kind {
                Kind::Report => serde_json::from_slice(&bytes).map_err(|_| RunError::Strange)?,
                _ => return Err(RunError::Strange),
            };
            match report {
                Report::Hello(confinement) => tracing::info!(
                    files = confinement.files,
                    calls = confinement.calls,
                    "The process of a package is confined as far as this system can."
                ),
                Report::Ready => return Ok(()),
                Report::Failed(failure) => return Err(RunError::Told(failure)),
            }
        }
    }

    pub(super) fn process_id(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Asks; what comes back is the message, or the process's own fault.
    pub(super) async fn ask(
        &mut self,
        kind: Kind,
        question: &[u8],
        limit: Duration,
    ) -> Result<Result<Vec<u8>, Fault>, RunError> {
        let asked = async {
            let ended = |_| RunError::Ended;
            let first = head(kind, question.len());
            self.input.write_all(&first).await.map_err(ended)?;
            self.input.write_all(question).await.map_err(ended)?;
            self.input.flush().await.map_err(ended)?;
            self.read().await
        };
        let answer = tokio::time::timeout(limit, asked).await;
        match answer.map_err(|_| RunError::TooSlow)?? {
            (Kind::Fault, bytes) => {
                let fault = Fault::decode(&bytes[..]).map_err(|_| RunError::Strange)?;
                Ok(Err(known(&fault)))
            }
            (answered, bytes) if answered == kind => Ok(Ok(bytes)),
            _ => Err(RunError::Strange),
        }
    }

    async fn read(&mut self) -> Result<(Kind, Vec<u8>), RunError> {
        let ended = |_| RunError::Ended;
        let mut first = [0; 5];
        self.output.read_exact(&mut first).await.map_err(ended)?;
        let (kind, length) = read_head(first, ANSWER_LIMIT).ok_or(RunError::Strange)?;
        let mut bytes = Vec::new();
        // As much as comes: a length alone reserves nothing.
        let mut limited = (&mut self.output).take(length as u64);
        limited.read_to_end(&mut bytes).await.map_err(ended)?;
        match bytes.len() == length {
            true => Ok((kind, bytes)),
            false => Err(RunError::Ended),
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.wait().await.ok()
    }

    /// Ends it at once, and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        let _unkillable = tokio::time::timeout(KILLED, self.child.kill()).await;
    }

    /// Lets it end, or ends it.
    pub(super) async fn end(self) {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            let _ended = child.kill().await;
        }
    }
}

/// The process's words are a stranger's: its code chooses among ours.
fn known(fault: &Fault) -> Fault {
    match fault.code.as_str() {
        "too-long" => Fault::too_long("The labels are longer than the model reads")
            .with_what_to_do("Ask for fewer labels, or for shorter ones."),
        "invalid" => Fault::invalid("The model can't do this"),
        _ => Fault::model_failed("The model could not make anything of this text")
            .with_what_to_do("Try another model."),
    }
}

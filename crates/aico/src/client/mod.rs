//! Talking to the running daemon: REST and the WebSocket over the local socket.
//!
//! The operating system tells each side who the other is, so there is no credential here. With
//! `--person` the person's own password is asked and a session of theirs is used.

mod events;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub(crate) use events::{Event, Events, failure};

use crate::exit::{Exit, Failure};
use crate::places::Places;
use crate::{prompt, style};

/// Sessions that this command began. They end with it: a session that nobody uses any more would
/// keep a sealed person open.
static SIGNED_IN: Mutex<Vec<Daemon>> = Mutex::new(Vec::new());

/// A daemon that has not said by then how it is answers nothing else either.
const ANSWER: Duration = Duration::from_secs(10);

/// Ends the sessions that this command began.
pub(crate) async fn sign_out() {
    let all = std::mem::take(&mut *SIGNED_IN.lock().unwrap_or_else(PoisonError::into_inner));
    for daemon in all {
        // One that has ended by itself (a lock, a change of the password) is no failure.
        let _ = daemon.delete("/api/v1/sessions/current").await;
    }
}

/// A way to the daemon, for the owner or for the person who signed in.
#[derive(Clone)]
pub(crate) struct Daemon {
    places: Places,
    token: Option<Zeroizing<String>>,
}

/// A problem document of the daemon.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Problem {
    code: String,
    title: String,
    detail: Option<String>,
    what_to_do: Option<String>,
}

impl Daemon {
    /// Finds the daemon of this data folder; checks that it is of this program's version.
    pub(crate) async fn find(places: &Places) -> Result<Self, Failure> {
        let daemon = Self {
            places: places.clone(),
            token: None,
        };
        let asked = tokio::time::timeout(ANSWER, daemon.get("/api/v1/state")).await;
        let state = asked.map_err(|_| silent(places))??;
        let running = state["version"].as_str().unwrap_or("unknown");
        let ours = env!("CARGO_PKG_VERSION");
        if running != ours {
            return Err(Failure::new(
                Exit::VersionMismatch,
                format!("The running daemon is version {running}, this program is {ours}."),
            )
            .do_this("Stop the daemon and start it again with this program: aico serve"));
        }
        Ok(daemon)
    }

    /// The same, signed in as `person` when one is named.
    pub(crate) async fn find_as(
        places: &Places,
        person: Option<&str>,
        password: &crate::cli::PasswordFrom,
    ) -> Result<Self, Failure> {
        match person {
            None => Self::find(places).await,
            Some(name) => {
                // No password is typed for nobody.
                Self::find(places).await?;
                let password = prompt::raw_password(password, &format!("Password of {name}"))?;
                Self::sign_in(places, name, &password).await
            }
        }
    }

    /// Signs a person in by their own password.
    pub(crate) async fn sign_in(
        places: &Places,
        name: &str,
        password: &Zeroizing<String>,
    ) -> Result<Self, Failure> {
        let (daemon, session) = Self::sign_in_with(places, name, password, false).await?;
        if session["keys_wait"] == true {
            style::warning("a change of keys waits for you, and makes a new recovery phrase");
            style::hint(&format!(
                "Do it: aico person rekey {}",
                style::harmless(name)
            ));
        }
        Ok(daemon)
    }

    /// The same, and the answer; `takes_phrase`: what waits for a sealed person is done, and the
    /// phrase in the answer is shown.
    pub(crate) async fn sign_in_with(
        places: &Places,
        name: &str,
        password: &Zeroizing<String>,
        takes_phrase: bool,
    ) -> Result<(Self, Value), Failure> {
        let mut daemon = Self::find(places).await?;
        let body = json!({
            "name": name, "password": password.as_str(), "takes_phrase": takes_phrase,
        });
        let session = daemon.post("/api/v1/sessions", &body).await?;
        daemon.takes(&session);
        Ok((daemon, session))
    }

    /// Goes on in this session, which ends with this command.
    pub(crate) fn takes(&mut self, session: &Value) {
        self.token = session["token"]
            .as_str()
            .map(|t| Zeroizing::new(t.to_owned()));
        let mut signed_in = SIGNED_IN.lock().unwrap_or_else(PoisonError::into_inner);
        signed_in.push(self.clone());
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let response = self.start(method, path, body).await?;
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(|e| broken(&e))?
            .to_bytes();
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|e| broken(&e))
    }

    /// Sends a request; the body of the answer is still to come. Problems become failures.
    pub(crate) async fn start(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<http::Response<Incoming>, Failure> {
        let stream = platform::connect(&self.places).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&e))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(
                header::USER_AGENT,
                concat!("aico/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes)).map_err(|e| broken(&e))?;
        let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(|e| broken(&e))?
            .to_bytes();
        let problem = serde_json::from_slice::<Problem>(&bytes).unwrap_or_default();
        Err(problem.into_failure(status))
    }

    /// Reads what the daemon sends line by line, as it comes, until it ends or `show` says that
    /// nobody reads any more. What `goes_on` for ever ends with a failure that says why.
    pub(crate) async fn lines(
        &self,
        path: &str,
        goes_on: bool,
        mut show: impl FnMut(&str) -> bool,
    ) -> Result<(), Failure> {
        let mut body = self.start(Method::GET, path, None).await?.into_body();
        let mut line = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(_) if goes_on => return Err(self.why_ended().await),
                Err(error) => {
                    let what = "The daemon ended the stream.";
                    return Err(Failure::new(Exit::NotRunning, what).because(&error));
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            for byte in data {
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                if !show(&String::from_utf8_lossy(&line)) {
                    return Ok(());
                }
                line.clear();
            }
        }
        match goes_on {
            true => Err(self.why_ended().await),
            false => Ok(()),
        }
    }

    /// Why something ended that goes on for ever.
    async fn why_ended(&self) -> Failure {
        let nobody = Self {
            places: self.places.clone(),
            token: None,
        };
        let asked = tokio::time::timeout(ANSWER, nobody.get("/api/v1/state")).await;
        match asked {
            Ok(Ok(state)) if state["stage"] == "locked" => events::locked(),
            Ok(Ok(state)) if state["stage"] == "ready" => match self.token {
                Some(_) => events::session_over(),
                None => Failure::new(Exit::NotRunning, "The daemon ended the stream."),
            },
            _ => events::stopping(&self.places),
        }
    }

    /// Asks for something that is told line by line, and reads it to its end or to a failure.
    pub(crate) async fn post_lines(
        &self,
        path: &str,
        body: &Value,
        mut take: impl FnMut(Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut body = self
            .start(Method::POST, path, Some(body))
            .await?
            .into_body();
        let mut line = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Failure::new(Exit::NotRunning, "The daemon ended the stream.").because(&error)
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            line.extend_from_slice(&data);
            let Some(end) = line.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            let rest = line.split_off(end + 1);
            for one in line
                .split(|byte| *byte == b'\n')
                .filter(|one| !one.is_empty())
            {
                take(serde_json::from_slice(one).map_err(|error| broken(&error))?)?;
            }
            line = rest;
        }
        Ok(())
    }

    /// Opens the WebSocket.
    pub(crate) async fn events(&self) -> Result<Events, Failure> {
        let stream = platform::connect(&self.places).await?;
        Events::open(stream, &self.places, self.token.as_ref()).await
    }
}

impl Problem {
    /// The failure that the last line of something long tells.
    pub(crate) fn of(line: &Value) -> Failure {
        let problem = &line["problem"];
        let status = problem["status"].as_u64().and_then(|status| {
            let status = u16::try_from(status).ok()?;
            StatusCode::from_u16(status).ok()
        });
        serde_json::from_value::<Self>(problem.clone())
            .unwrap_or_default()
            .into_failure(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
    }

    pub(crate) fn into_failure(self, status: StatusCode) -> Failure {
        let engine = Exit::of_engine(&self.code);
        let exit = match (self.code.as_str(), status.as_u16()) {
            _ if engine.is_some() => engine.unwrap_or(Exit::Engine),
            ("locked" | "person-locked", _) | (_, 423) => Exit::Locked,
            ("not-set-up", _) => Exit::NotSetUp,
            ("already-set-up", _) => Exit::AlreadySetUp,
            // Of a file that was named; one that can't answer says so in its answer.
            ("model-missing", 422) => Exit::NotFound,
            ("model-failed" | "model-missing" | "model-damaged", _) => Exit::ModelFailed,
            ("offline", _) => Exit::Offline,
            ("download-failed", _) => Exit::DownloadFailed,
            ("download-wrong", _) => Exit::DownloadWrong,
            ("address-refused", _) => Exit::AddressRefused,
            ("catalogue-unusable", _) => Exit::Configuration,
            ("stopping", _) => Exit::NotRunning,
            ("damaged" | "archive-damaged", _) => Exit::Damaged,
            ("target-unusable", _) => Exit::Target,
            ("newer-data", _) => Exit::NewerData,
            ("folder-unusable", _) => Exit::Folder,
            ("keychain-locked", _) => Exit::KeychainLocked,
            ("keychain-absent", _) => Exit::KeychainAbsent,
            ("keychain-changed", _) => Exit::KeychainChanged,
            ("keychain-wrong", _) => Exit::KeychainWrong,
            (_, 401) => Exit::WrongPassword,
            (_, 404) => Exit::NotFound,
            ("storage-failing", _) => Exit::StorageFailing,
            ("storage-read-only", _) => Exit::StorageReadOnly,
            (_, 507) => Exit::StorageFull,
            (_, 400..500) => Exit::Refused,
            _ => Exit::Unexpected,
        };
        let what = if self.title.is_empty() {
            format!("The daemon answered with status {status}.")
        } else {
            crate::exit::sentence(&self.title)
        };
        Failure {
            exit,
            what,
            why: self.detail,
            what_to_do: self.what_to_do,
        }
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Unexpected, "The connection to the daemon broke.")
        .because(error)
        .do_this("See whether it runs: aico status")
}

/// Somebody has the folder and takes the connection, and that is all.
fn silent(places: &Places) -> Failure {
    let process = std::fs::read_to_string(places.data().join("lock")).unwrap_or_default();
    let process = match process.trim().parse::<u32>() {
        Ok(process) => format!(" (process {process})"),
        Err(_) => String::new(),
    };
    Failure::new(
        Exit::Unexpected,
        format!("The daemon{process} does not answer."),
    )
    .do_this("Look whether it is stopped or the machine is very busy. When it stays so, end that process and start AICO again.")
}

fn not_running(places: &Places, error: Option<&std::io::Error>) -> Failure {
    let mut failure = Failure::new(Exit::NotRunning, "No AICO is running on this data folder.")
        .do_this(format!("Start it: {}", places.serve()));
    if let Some(error) = error
        && !matches!(
            error.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
        )
    {
        failure = failure.because(error);
    }
    failure
}

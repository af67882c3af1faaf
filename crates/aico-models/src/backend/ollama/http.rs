//! HTTP to a program on this machine: one connection for each question, so that dropping the
//! answer ends the work on the other side, and every limit of time and size is ours.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::refusal::{self, Said};
use crate::backend::driver::Driver;
use crate::backend::{BackendError, Wait};

/// Longest line of a streamed answer, and longest refusal.
const LINE_LIMIT: usize = 4 << 20;
/// Longest answer that is not streamed: vectors of many texts.
const BODY_LIMIT: usize = 64 << 20;

/// What is longer is no refusal.
const REFUSAL_LIMIT: usize = 64 << 10;

/// Limits of time for one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the connection.
    pub connect: Duration,
    /// For what needs no model: versions, lists.
    pub answer: Duration,
    /// For the first piece of an answer; the model may have to be loaded for it.
    pub first_token: Duration,
    /// For each further piece.
    pub next_token: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(15),
            // Ollama itself gives a model five minutes to be loaded.
            first_token: Duration::from_secs(330),
            next_token: Duration::from_secs(60),
        }
    }
}

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A question without a body.
pub(super) fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A question in JSON.
pub(super) fn json(question: &impl Serialize) -> Result<Body, BackendError> {
    let text = serde_json::to_vec(question).map_err(|_| BackendError::Refused { status: 400 })?;
    Ok(Full::from(text)
        .map_err(|never| match never {})
        .boxed_unsync())
}

/// The way to one address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Http {
    pub(super) at: SocketAddr,
    pub(super) limits: Limits,
}

impl Http {
    pub(super) fn new(at: SocketAddr, limits: Limits) -> Self {
        Self { at, limits }
    }

    /// Asks and waits for the head of the answer, `patience` long; 200 to 299 or an error.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Body,
        patience: Duration,
    ) -> Result<Answer, BackendError> {
        let answer = self.send(method, path, body, patience).await?;
        let status = answer.response.status();
        if status.is_success() {
            return Ok(answer);
        }
        let status = status.as_u16();
        let is_json = answer.is_json();
        let text = answer.all(LINE_LIMIT, self.limits.answer).await;
        let said = text.ok().and_then(|text| Said::of_body(&text));
        match said {
            Some(said) => Err(refusal::of(status, &said)),
            // Every refusal of Ollama is JSON, but that of a name that is not this machine's
            // (403) and those that a defect of its own brings about (5xx).
            None if status == 403 || status >= 500 || is_json => {
                Err(refusal::of(status, &Said::default()))
            }
            None => Err(self.other_program()),
        }
    }

    /// Asks for one JSON value.
    pub(super) async fn value<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Body,
        patience: Duration,
    ) -> Result<T, BackendError> {
        let answer = self.ask(method, path, body, patience).await?;
        let text = answer.all(BODY_LIMIT, self.limits.next_token).await?;
        if text.len() <= REFUSAL_LIMIT
            && let Some(said) = Said::of_body(&text)
        {
            return Err(refusal::of(500, &said));
        }
        serde_json::from_slice(&text).map_err(|_| BackendError::Unreadable)
    }

    /// Whatever is answered.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        patience: Duration,
    ) -> Result<Answer, BackendError> {
        let stream = self.connect().await?;
        let (mut sender, driving) = http1::Builder::new()
            .max_headers(100)
            .max_buf_size(128 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| BackendError::CutOff)?;
        let mut driver = Driver::of(driving);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.at.to_string())
            .header(
                header::USER_AGENT,
                concat!("aico/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|_| BackendError::Refused { status: 400 })?;
        let answered = timeout(patience, sender.send_request(request)).await;
        let response = match answered {
            Err(_) => {
                return Err(BackendError::TimedOut {
                    waited_for: Wait::FirstToken,
                    limit: patience,
                });
            }
            Ok(Err(error)) if driver.heard_no_http(&error).await => {
                return Err(self.other_program());
            }
            Ok(Err(_)) => return Err(BackendError::CutOff),
            Ok(Ok(response)) => response,
        };
        Ok(Answer {
            response,
            driver,
            _sender: sender,
        })
    }

    async fn connect(&self) -> Result<TcpStream, BackendError> {
        let limit = self.limits.connect;
        match timeout(limit, TcpStream::connect(self.at)).await {
            Err(_) => Err(BackendError::TimedOut {
                waited_for: Wait::Connect,
                limit,
            }),
            // Reset: it is just going.
            Ok(Err(error))
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::ConnectionReset
                ) =>
            {
                Err(BackendError::Absent {
                    address: self.at.to_string(),
                })
            }
            Ok(Err(_)) => Err(BackendError::Unreachable {
                address: self.at.to_string(),
            }),
            Ok(Ok(stream)) => {
                let _best_effort = stream.set_nodelay(true);
                Ok(stream)
            }
        }
    }

    pub(super) fn other_program(&self) -> BackendError {
        BackendError::OtherProgram {
            address: self.at.to_string(),
        }
    }
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    driver: Driver,
    _sender: http1::SendRequest<Body>,
}

impl Answer {
    fn is_json(&self) -> bool {
        let kind = self.response.headers().get(header::CONTENT_TYPE);
        kind.and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.contains("json"))
    }

    /// The whole body, at most `limit` bytes of it; `silence` between two pieces.
    pub(super) async fn all(
        self,
        limit: usize,
        silence: Duration,
    ) -> Result<Vec<u8>, BackendError> {
        let mut body = self.response.into_body();
        let mut all = Vec::new();
        loop {
            let frame = timeout(silence, body.frame()).await;
            let frame = frame.map_err(|_| BackendError::TimedOut {
                waited_for: Wait::NextToken,
                limit: silence,
            })?;
            match frame {
                None => return Ok(all),
                Some(Err(_)) => return Err(BackendError::CutOff),
                Some(Ok(frame)) => {
                    let Ok(piece) = frame.into_data() else {
                        continue;
                    };
                    if all.len() + piece.len() > limit {
                        return Err(BackendError::Unreadable);
                    }
                    all.extend_from_slice(&piece);
                }
            }
        }
    }

    /// Its lines.
    pub(super) fn lines(self, first: Duration, next: Duration) -> Lines {
        Lines {
            body: self.response.into_body(),
            _driver: self.driver,
            _sender: self._sender,
            buffer: Vec::new(),
            at: 0,
            began: Instant::now(),
            first: Some(first),
            next,
        }
    }
}

/// The lines of an answer (NDJSON): bounded, and each within its time.
pub(super) struct Lines {
    body: Incoming,
    _driver: Driver,
    _sender: http1::SendRequest<Body>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that have no line's end.
    at: usize,
    began: Instant,
    /// Until the first line is there.
    first: Option<Duration>,
    next: Duration,
}

impl Lines {
    /// The next line that says something, read as `T`; `None` at a clean end.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BackendError> {
        let Some(line) = self.line().await? else {
            return Ok(None);
        };
        // An error is looked for in every line: by then the status was said to be 200.
        if let Some(said) = Said::of_body(&line) {
            return Err(refusal::of(500, &said));
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|_| BackendError::Unreadable)
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>, BackendError> {
        let (waited_for, limit) = match self.first {
            Some(first) => (Wait::FirstToken, first),
            None => (Wait::NextToken, self.next),
        };
        // Bytes that make no line do not stretch the time.
        let until = match self.first {
            Some(first) => self.began + first,
            None => Instant::now() + self.next,
        };
        loop {
            if let Some(length) = self.buffer[self.at..].iter().position(|b| *b == b'\n') {
                let end = self.at + length;
                let line = self.buffer[..end].to_vec();
                self.buffer.drain(..=end);
                self.at = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                self.first = None;
                return Ok(Some(line));
            }
            self.at = self.buffer.len();
            if self.at > LINE_LIMIT {
                return Err(BackendError::Unreadable);
            }
            let frame = timeout_at(until, self.body.frame()).await;
            match frame.map_err(|_| BackendError::TimedOut { waited_for, limit })? {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.buffer.extend_from_slice(&piece);
                    }
                }
                Some(Err(_)) => return Err(BackendError::CutOff),
                None => {
                    let rest = std::mem::take(&mut self.buffer);
                    self.at = 0;
                    if rest.iter().all(u8::is_ascii_whitespace) {
                        return Ok(None);
                    }
                    self.first = None;
                    // The last line may lack its end and be whole.
                    return match serde_json::from_slice::<serde::de::IgnoredAny>(&rest) {
                        Ok(_) => Ok(Some(rest)),
                        Err(_) => Err(BackendError::Unreadable),
                    };
                }
            }
        }
    }
}

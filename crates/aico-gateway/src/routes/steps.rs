//! Work that takes longer than a request may: told line by line as it goes.
//!
//! What is refused before anything was told is an ordinary problem. After the first line the
//! status is out, so the last line says how it ended.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::app::App;
use crate::caller::Caller;
use crate::problem::{Code, Problem};
use crate::watch::Watch;

/// Lines that wait for a slow reader.
const WAITING: usize = 16;

enum Told {
    Line(Value),
    Failed(Problem),
}

/// Where the work tells its lines.
#[derive(Clone)]
pub(crate) struct Lines(mpsc::Sender<Told>);

impl Lines {
    /// Tells a line, waiting for the reader; `false` when nobody reads any more. From a thread
    /// that may wait.
    pub(crate) fn tell(&self, line: Value) -> bool {
        self.0.blocking_send(Told::Line(line)).is_ok()
    }

    /// Tells a line, waiting for the reader; `false` when nobody reads any more.
    pub(crate) async fn send(&self, line: Value) -> bool {
        self.0.send(Told::Line(line)).await.is_ok()
    }

    /// Tells a line that may be left out; `false` when nobody reads any more.
    pub(crate) fn mention(&self, line: Value) -> bool {
        match self.0.try_send(Told::Line(line)) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// Does the work as long as somebody reads of it who has the right to.
pub(crate) async fn answer<W>(
    app: &Arc<App>,
    caller: &Caller,
    work: impl FnOnce(Lines) -> W,
) -> Result<Response, Problem>
where
    W: Future<Output = Result<Value, Problem>> + Send + 'static,
{
    let (sender, mut told) = mpsc::channel(WAITING);
    let working = work(Lines(sender.clone()));
    tokio::spawn(async move {
        let last = match working.await {
            Ok(done) => Told::Line(done),
            Err(problem) => Told::Failed(problem),
        };
        // Nobody listening is fine: they have gone.
        let _ = sender.send(last).await;
    });
    let first = match told.recv().await {
        Some(Told::Line(line)) => line,
        Some(Told::Failed(problem)) => return Err(problem),
        None => return Err(Code::Internal.into()),
    };
    let rest = stream::unfold(told, |mut told| async move {
        let line = match told.recv().await? {
            Told::Line(line) => line,
            Told::Failed(problem) => json!({ "type": "problem", "problem": problem.document() }),
        };
        Some((line, told))
    });
    let lines = stream::iter([first])
        .chain(rest)
        .map(|line| Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))))
        .take_until(Watch::new(app, caller.principal()).over());
    let kind = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response())
}

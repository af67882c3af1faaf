//! The daemon's WebSocket, as docs/websocket.md has it.

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use zeroize::Zeroizing;

use super::platform::Stream;
use super::{Problem, broken};
use crate::exit::{Exit, Failure};
use crate::places::Places;

/// An authenticated WebSocket.
pub(crate) struct Events {
    socket: WebSocketStream<Stream>,
    places: Places,
}

/// A frame of the server.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Event {
    Authenticated {},
    #[serde(rename = "event")]
    Told {
        event: Value,
    },
    Accepted {
        message: String,
        answer: String,
    },
    Cancelled {},
    Pong {},
    Error {
        status: u16,
        #[serde(flatten)]
        problem: Problem,
    },
}

impl Events {
    pub(super) async fn open(
        stream: Stream,
        places: &Places,
        token: Option<&Zeroizing<String>>,
    ) -> Result<Self, Failure> {
        let (socket, _) = tokio_tungstenite::client_async("ws://localhost/ws", stream)
            .await
            .map_err(|e| broken(&e))?;
        let mut events = Self {
            socket,
            places: places.clone(),
        };
        let mut first = json!({ "type": "authenticate" });
        if let Some(token) = token {
            first["token"] = token.as_str().into();
        }
        events.send(&first).await?;
        match events.next().await? {
            Event::Authenticated {} => Ok(events),
            Event::Error { status, problem } => Err(failure(status, problem)),
            _ => Err(Failure::new(
                Exit::Unexpected,
                "The daemon spoke out of turn.",
            )),
        }
    }

    pub(crate) async fn send(&mut self, frame: &Value) -> Result<(), Failure> {
        self.socket
            .send(Message::text(frame.to_string()))
            .await
            .map_err(|e| broken(&e))
    }

    /// The next frame; an end is a failure that says why.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map_err(|e| broken(&e));
                }
                Some(Ok(Message::Close(frame))) => return Err(self.closed(frame.as_ref())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(&error)),
                None => return Err(self.closed(None)),
            }
        }
    }

    fn closed(&self, frame: Option<&CloseFrame>) -> Failure {
        match frame.map(|frame| u16::from(frame.code)) {
            Some(1001) => stopping(&self.places),
            Some(4001) => session_over(),
            Some(4023) => locked(),
            _ => Failure::new(Exit::Unexpected, "The daemon closed the connection.")
                .do_this("See whether it runs: aico status"),
        }
    }
}

pub(crate) fn failure(status: u16, problem: Problem) -> Failure {
    let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_REQUEST);
    problem.into_failure(status)
}

pub(super) fn stopping(places: &Places) -> Failure {
    Failure::new(Exit::NotRunning, "AICO is stopping.")
        .do_this(format!("Start it again: {}", places.serve()))
}

pub(super) fn session_over() -> Failure {
    Failure::new(Exit::WrongPassword, "The session has ended.")
}

pub(super) fn locked() -> Failure {
    Failure::new(Exit::Locked, "AICO was locked.").do_this("Unlock it: aico unlock")
}

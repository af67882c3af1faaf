//! What comes from the client: frames within their limits, handed to the commands.

use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::tungstenite::Error as WsError;

use super::close::Close;
use super::commands::Commands;
use super::protocol::{ClientFrame, ServerFrame};
use super::rate::{Bytes, Frames};
use crate::config::Limits;
use crate::server::counted::Received;

/// How often silence and bytes are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Characters of a `ref`; it is sent back.
const REF: usize = 128;

/// Reads until the client is done, gone, or over a limit.
pub(super) async fn run(
    stream: &mut SplitStream<WebSocket>,
    limits: &Limits,
    received: &Received,
    commands: &Commands,
    replies: &mpsc::Sender<ServerFrame>,
) -> Close {
    let now = Instant::now();
    let mut frames = Frames::new(limits.frame_burst, limits.frames_per_second, now);
    let mut bytes = Bytes::new(limits.bytes_per_second, received.bytes(), now);
    let mut heard = now;
    // The first look comes after a whole interval: one long message right away is no flood.
    let period = LOOK.min(limits.heartbeat);
    let mut look = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // First, so that a flood can't keep it from its turn.
            biased;
            _ = look.tick() => {
                if heard.elapsed() > limits.heartbeat * 2 {
                    return Close::Gone;
                }
                if !bytes.look(received.bytes(), Instant::now()) {
                    return Close::TooMany;
                }
            }
            message = stream.next() => {
                let message = match message {
                    None => return Close::Gone,
                    Some(Err(error)) => return why(error),
                    Some(Ok(message)) => message,
                };
                heard = Instant::now();
                bytes.whole(received.bytes());
                if !frames.take(heard) {
                    return Close::TooMany;
                }
                match message {
                    Message::Text(text) => {
                        if let Err(close) = handle(&text, commands, replies).await {
                            return close;
                        }
                    }
                    Message::Binary(_) => return Close::Binary,
                    Message::Close(_) => return Close::Done,
                    // Answered below us.
                    Message::Ping(_) | Message::Pong(_) => {}
                }
            }
        }
    }
}

async fn handle(
    text: &str,
    commands: &Commands,
    replies: &mpsc::Sender<ServerFrame>,
) -> Result<(), Close> {
    let frame: ClientFrame = serde_json::from_str(text).map_err(|_| Close::Protocol)?;
    let name = match &frame {
        ClientFrame::Authenticate { .. } => return Err(Close::Protocol),
        ClientFrame::Send { r#ref, .. }
        | ClientFrame::Cancel { r#ref, .. }
        | ClientFrame::Ping { r#ref } => r#ref,
    };
    if name.chars().count() > REF {
        return Err(Close::Protocol);
    }
    let answer = match frame {
        ClientFrame::Ping { r#ref } => Some(ServerFrame::Pong { r#ref }),
        command => commands.submit(command),
    };
    if let Some(answer) = answer {
        replies.send(answer).await.map_err(|_| Close::Gone)?;
    }
    Ok(())
}

/// What a failed read means.
pub(super) fn why(error: axum::Error) -> Close {
    match error.into_inner().downcast::<WsError>().map(|error| *error) {
        Ok(WsError::Capacity(_)) => Close::TooLarge,
        Ok(WsError::Protocol(_) | WsError::Utf8(_)) => Close::Protocol,
        _ => Close::Gone,
    }
}

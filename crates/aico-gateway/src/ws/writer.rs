//! What goes to the client: answers to its frames, events in order, pings.

use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::close::Close;
use super::hub::Member;
use super::protocol::ServerFrame;
use super::ring::Next;
use crate::config::Limits;

/// Writes until it is told to close, or the client can't follow. Returns why; the close frame
/// is the caller's.
pub(super) async fn run(
    sink: &mut SplitSink<WebSocket, Message>,
    member: &mut Member,
    mut replies: mpsc::Receiver<ServerFrame>,
    mut close: watch::Receiver<Option<Close>>,
    limits: &Limits,
    first: String,
) -> Close {
    let beat = limits.heartbeat;
    let mut ping = tokio::time::interval_at(Instant::now() + beat, beat);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut message = Message::Text(first.into());
    loop {
        if let Err(why) = send(sink, member, &mut close, limits, message).await {
            return why;
        }
        message = tokio::select! {
            biased;
            why = told(&mut close) => {
                if why.sends_rest() {
                    rest(sink, member, limits).await;
                }
                return why;
            }
            Some(reply) = replies.recv() => match serde_json::to_string(&reply) {
                Ok(text) => Message::Text(text.into()),
                Err(_) => return Close::Protocol,
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
            event = member.next() => match event {
                Some(text) => Message::Text(text),
                None => return ended(member, &mut close).await,
            },
        };
    }
}

async fn told(close: &mut watch::Receiver<Option<Close>>) -> Close {
    match close.wait_for(Option::is_some).await {
        Ok(why) => (*why).unwrap_or(Close::Gone),
        Err(_) => Close::Gone,
    }
}

/// No more events: too many wait, or the person's stream is over, and why is being told.
async fn ended(member: &Member, close: &mut watch::Receiver<Option<Close>>) -> Close {
    if !member.is_over() {
        return Close::Slow;
    }
    let why = tokio::time::timeout(Duration::from_secs(2), told(close)).await;
    why.unwrap_or(Close::Slow)
}

/// Sends one message to a peer that may not take it.
async fn send(
    sink: &mut SplitSink<WebSocket, Message>,
    member: &mut Member,
    close: &mut watch::Receiver<Option<Close>>,
    limits: &Limits,
    message: Message,
) -> Result<(), Close> {
    let mut sending = std::pin::pin!(sink.send(message));
    let late = tokio::time::sleep(limits.heartbeat * 2);
    let why = tokio::select! {
        biased;
        sent = &mut sending => return sent.map_err(|_| Close::Gone),
        why = told(close) => Some(why),
        () = member.fallen_behind() => None,
        () = late => Some(Close::Gone),
    };
    let why = match why {
        Some(why) => why,
        None => ended(member, close).await,
    };
    if !why.sends_rest() {
        return Err(why);
    }
    // The daemon stops: what was begun is finished, within its time.
    match tokio::time::timeout(limits.shutdown / 2, sending).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Close::Gone),
    }
}

/// The events that are there already, so that a talk ends with its last word.
async fn rest(sink: &mut SplitSink<WebSocket, Message>, member: &mut Member, limits: &Limits) {
    let all = async {
        while let Next::Event(_, frame) = member.take() {
            let frame: Utf8Bytes = frame;
            if sink.send(Message::Text(frame)).await.is_err() {
                return;
            }
        }
    };
    drop(tokio::time::timeout(limits.shutdown / 2, all).await);
}

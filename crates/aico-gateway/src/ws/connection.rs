//! The life of one WebSocket: authentication, then a reader, a writer, and whatever ends it.

use std::sync::Arc;
use std::time::Duration;

use aico_access::{Action, HomeError, Principal, Resource, Stage, authorize};
use aico_contracts::ids::PersonId;
use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{mpsc, watch};

use super::close::Close;
use super::commands::Commands;
use super::hub::{Begin, Member};
use super::presence::Present;
use super::protocol::{ClientFrame, Resume, ServerFrame};
use super::quota::{Held, Holder};
use super::upgrade::Below;
use super::{reader, writer};
use crate::app::App;
use crate::watch::Watch;

/// Answers that wait to be written.
const REPLIES: usize = 64;
/// A peer has so long to take the close frame.
const GOODBYE: Duration = Duration::from_secs(1);

/// From the upgrade to the close.
pub(super) async fn run(app: Arc<App>, mut socket: WebSocket, below: Below) {
    let cut = below.activity.cut();
    let opened = tokio::select! {
        opened = open(&app, &mut socket, &below) => opened,
        () = cut.cancelled() => return,
    };
    match opened {
        Ok(open) => {
            let present = Present::new(&app, &open.principal, open.person);
            tokio::select! {
                () = talk(app, socket, below, open) => {}
                () = cut.cancelled() => {}
                () = present.note() => {}
            }
            present.over().await;
        }
        Err(close) => goodbye(socket, close).await,
    }
}

/// Says why, and gives the peer a moment to hear it.
async fn goodbye(mut socket: WebSocket, close: Close) {
    let Some(frame) = close.frame() else { return };
    let told = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    drop(tokio::time::timeout(GOODBYE, told).await);
}

/// An authenticated connection.
struct Open {
    principal: Principal,
    person: PersonId,
    member: Member,
    watch: Watch,
    /// Counted as long as it lives.
    held: Held,
    first: String,
}

/// Reads the first frame and decides who this is.
async fn open(app: &Arc<App>, socket: &mut WebSocket, below: &Below) -> Result<Open, Close> {
    match app.stage() {
        Stage::Ready => {}
        Stage::Stopping => return Err(Close::Stopping),
        Stage::New | Stage::Locked => return Err(Close::Locked),
    }
    let until = tokio::time::Instant::now() + app.limits.authentication_time;
    let (token, resume) = first_frame(socket, until).await?;
    let principal = match token {
        Some(token) => {
            app.home
                .authenticate(token.as_str())
                .await
                .map_err(|error| match error {
                    HomeError::Locked => Close::Locked,
                    HomeError::Stopping => Close::Stopping,
                    _ => Close::Session,
                })?
        }
        None if below.peer.is_local() => app.home.local_principal(),
        None => return Err(Close::Session),
    };
    let watch = Watch::new(app, &principal);
    let person = principal.person().ok_or(Close::Session)?;
    authorize(&principal, Action::OpenEvents, &Resource::Of(person)).map_err(|_| Close::Session)?;
    let holder = match principal {
        Principal::Person { session, .. } => Holder::Session(session),
        _ => Holder::Local(person),
    };
    let held = app.sockets.take(holder).ok_or(Close::TooMany)?;
    let who = app.home.person(person).await.map_err(|_| Close::Session)?;
    let resume = resume.map(|Resume { epoch, seq }| (epoch, seq));
    let (member, begin) = app.hubs.join(person, resume).map_err(|error| {
        tracing::error!(%error, "a person's events can't be followed");
        Close::Stopping
    })?;
    let Begin {
        epoch,
        seq,
        resumed,
    } = begin;
    let heartbeat_seconds = app.limits.heartbeat.as_secs();
    let first = ServerFrame::Authenticated {
        person: who.into(),
        epoch,
        seq,
        resumed,
        heartbeat_seconds,
    };
    let first = serde_json::to_string(&first).map_err(|_| Close::Protocol)?;
    // From here on it is no longer one that makes room for others.
    below.activity.work();
    Ok(Open {
        principal,
        person,
        member,
        watch,
        held,
        first,
    })
}

async fn first_frame(
    socket: &mut WebSocket,
    until: tokio::time::Instant,
) -> Result<(Option<crate::input::Secret>, Option<Resume>), Close> {
    loop {
        let message = tokio::time::timeout_at(until, socket.recv())
            .await
            .map_err(|_| Close::Session)?
            .ok_or(Close::Gone)?;
        return match message {
            Ok(Message::Text(text)) => match serde_json::from_str(&text) {
                Ok(ClientFrame::Authenticate { token, resume }) => Ok((token, resume)),
                _ => Err(Close::Protocol),
            },
            Ok(Message::Binary(_)) => Err(Close::Binary),
            Ok(Message::Close(_)) => Err(Close::Done),
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Err(error) => Err(reader::why(error)),
        };
    }
}

/// Reads and writes until something ends it, and tells the peer what.
async fn talk(app: Arc<App>, socket: WebSocket, below: Below, open: Open) {
    let Open {
        principal,
        person,
        mut member,
        watch,
        held,
        first,
    } = open;
    let (mut sink, mut stream) = socket.split();
    let (replies, waiting) = mpsc::channel(REPLIES);
    let (closing, close) = watch::channel(None);
    let why = {
        let commands = Commands::start(&app, principal, person, replies.clone());
        let reader = reader::run(
            &mut stream,
            &app.limits,
            &below.received,
            &commands,
            &replies,
        );
        let writer = writer::run(&mut sink, &mut member, waiting, close, &app.limits, first);
        // Whoever ends it, the writer is told and has the last word: it knows what was sent.
        let decide = async {
            let why = tokio::select! {
                why = reader => why,
                over = watch.over() => Close::from(over),
            };
            closing.send_replace(Some(why));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            why = writer => why,
            () = decide => Close::Gone,
        }
    };
    drop(member);
    let Some(frame) = why.frame() else { return };
    let told = async {
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            // Its answer, or what it had under way: a connection that is cut with something
            // unread loses what was sent last.
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    drop(tokio::time::timeout(GOODBYE, told).await);
    drop(held);
}

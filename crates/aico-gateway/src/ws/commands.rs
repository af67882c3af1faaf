//! What a client asks for over the WebSocket, done in order and without holding up the reader.
//!
//! Sends are done one after another: the second follows the first in the conversation. Cancels
//! have a queue of their own, so that one never waits behind a send.

use std::sync::Arc;
use std::time::Instant;

use aico_access::{Action, Principal, Resource, authorize};
use aico_bus::Trace;
use aico_contracts::ids::PersonId;
use aico_contracts::topics::verb;
use aico_contracts::v1;
use tokio::sync::mpsc;

use super::protocol::{ClientFrame, ServerFrame};
use crate::app::App;
use crate::convert;
use crate::input::too_long;
use crate::problem::{Code, Problem};

/// Commands that wait.
const QUEUE: usize = 32;

/// Where the reader hands commands in.
pub(super) struct Commands {
    sends: mpsc::Sender<ClientFrame>,
    cancels: mpsc::Sender<ClientFrame>,
}

impl Commands {
    /// Starts both workers. A command under way when the connection ends is brought to its
    /// end (a message that was sent is not lost because a tab closed); those that wait are
    /// dropped.
    pub(super) fn start(
        app: &Arc<App>,
        principal: Principal,
        person: PersonId,
        replies: mpsc::Sender<ServerFrame>,
    ) -> Self {
        let worker = || {
            let (queue, commands) = mpsc::channel(QUEUE);
            let worker = Worker {
                app: Arc::clone(app),
                principal: principal.clone(),
                person,
                replies: replies.clone(),
            };
            tokio::spawn(worker.run(commands));
            queue
        };
        Self {
            sends: worker(),
            cancels: worker(),
        }
    }

    /// Hands a command in; returns the answer when it can't be taken.
    pub(super) fn submit(&self, command: ClientFrame) -> Option<ServerFrame> {
        let queue = match &command {
            ClientFrame::Cancel { .. } => &self.cancels,
            _ => &self.sends,
        };
        let refused = queue.try_send(command).err()?.into_inner();
        Some(failure(name(refused), Code::Busy.into()))
    }
}

fn name(command: ClientFrame) -> String {
    match command {
        ClientFrame::Authenticate { .. } => String::new(),
        ClientFrame::Send { r#ref, .. }
        | ClientFrame::Cancel { r#ref, .. }
        | ClientFrame::Ping { r#ref } => r#ref,
    }
}

fn failure(r#ref: String, problem: Problem) -> ServerFrame {
    ServerFrame::Error {
        r#ref,
        problem: problem.document().into(),
    }
}

struct Worker {
    app: Arc<App>,
    principal: Principal,
    person: PersonId,
    replies: mpsc::Sender<ServerFrame>,
}

impl Worker {
    async fn run(self, mut commands: mpsc::Receiver<ClientFrame>) {
        while let Some(command) = commands.recv().await {
            if self.replies.is_closed() {
                return;
            }
            let Some(answer) = Trace::new().scope(self.answer(command)).await else {
                continue;
            };
            if self.replies.send(answer).await.is_err() {
                return;
            }
        }
    }

    /// Each command is a trace of its own.
    async fn answer(&self, command: ClientFrame) -> Option<ServerFrame> {
        let started = Instant::now();
        let (kind, r#ref, outcome) = match command {
            ClientFrame::Send {
                r#ref,
                conversation,
                text,
                id,
                parent,
            } => {
                let question = v1::SendMessage {
                    conversation: conversation.to_vec(),
                    text,
                    id: id.map(|id| id.to_vec()).unwrap_or_default(),
                    parent: parent.map(|id| id.to_vec()).unwrap_or_default(),
                };
                let outcome = self.send(question).await.map(|(message, answer)| {
                    let r#ref = r#ref.clone();
                    ServerFrame::Accepted {
                        r#ref,
                        message,
                        answer,
                    }
                });
                ("send", r#ref, outcome)
            }
            ClientFrame::Cancel { r#ref, message } => {
                let outcome = self.cancel(message.to_vec()).await.map(|()| {
                    let r#ref = r#ref.clone();
                    ServerFrame::Cancelled { r#ref }
                });
                ("cancel", r#ref, outcome)
            }
            ClientFrame::Authenticate { .. } | ClientFrame::Ping { .. } => return None,
        };
        tracing::debug!(
            target: "aico_gateway::access",
            kind,
            done = outcome.is_ok(),
            took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "command"
        );
        Some(outcome.unwrap_or_else(|problem| failure(r#ref, problem)))
    }

    fn may(&self, action: Action) -> Result<(), Problem> {
        if self.app.stopping() {
            return Err(Code::Stopping.into());
        }
        Ok(authorize(
            &self.principal,
            action,
            &Resource::Of(self.person),
        )?)
    }

    async fn send(
        &self,
        question: v1::SendMessage,
    ) -> Result<
        (
            aico_contracts::ids::MessageId,
            aico_contracts::ids::MessageId,
        ),
        Problem,
    > {
        self.may(Action::SendMessage)?;
        if question.text.len() > self.app.limits.text {
            return Err(too_long(self.app.limits.text));
        }
        let done = self
            .app
            .ask_companion(self.person, verb::SEND, &question)
            .await?;
        let done = convert::accepted(done)?;
        Ok((done.message, done.answer))
    }

    async fn cancel(&self, answer: Vec<u8>) -> Result<(), Problem> {
        self.may(Action::CancelAnswer)?;
        let question = v1::CancelAnswer {
            conversation: Vec::new(),
            answer,
        };
        let _: v1::Empty = self
            .app
            .ask_companion(self.person, verb::CANCEL, &question)
            .await?;
        Ok(())
    }
}

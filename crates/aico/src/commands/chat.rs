//! `aico chat`: one question or a conversation, streamed as it comes.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::{Context, checked_id};
use crate::cli::Chat;
use crate::client::{Daemon, Event, Events};
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::{prompt, style};

pub(super) async fn run(context: &Context, chat: &Chat) -> Result<(), Failure> {
    prompt::one_of_both(chat.once.as_deref() == Some("-"), &chat.password)?;
    // Read before anything is made for it.
    let once = match chat.once.as_deref() {
        Some("-") => Some(prompt::piped_text()?),
        text => text.map(str::to_owned),
    };
    if once.as_ref().is_some_and(|text| text.trim().is_empty()) {
        return Err(Failure::new(
            Exit::Refused,
            "A message needs at least one character.",
        ));
    }
    if once.is_none() && !std::io::stdin().is_terminal() {
        return Err(
            Failure::new(Exit::Usage, "There is nobody to talk with here.")
                .do_this("Say one thing: aico chat --once TEXT, or --once - with the text on standard input."),
        );
    }
    let daemon =
        Daemon::find_as(&context.places, context.person.as_deref(), &chat.password).await?;
    let conversation = match &chat.conversation {
        Some(id) => {
            daemon
                .get(&format!("/api/v1/conversations/{}", checked_id(id)?))
                .await?;
            id.clone()
        }
        None => {
            let body = match &chat.character {
                Some(name) => json!({ "character": super::character::find(&daemon, name).await? }),
                None => json!({}),
            };
            let made = daemon.post("/api/v1/conversations", &body).await?;
            made["id"].as_str().unwrap_or_default().to_owned()
        }
    };
    let mut talk = Talk {
        events: daemon.events().await?,
        daemon,
        conversation,
        json: chat.json,
    };
    if let Some(text) = once {
        return talk.say(&text).await;
    }
    style::note(&style::faint("An empty line ends. Ctrl-C stops an answer."));
    loop {
        let text = typed().await?;
        if text.is_empty() {
            return Ok(());
        }
        // Nobody listened while they wrote: the daemon takes such a connection for lost.
        talk.events = talk.daemon.events().await?;
        match talk.say(&text).await {
            // A failed answer is told; the conversation goes on.
            Err(failure)
                if matches!(
                    failure.exit,
                    Exit::ModelFailed
                        | Exit::Engine
                        | Exit::EngineAway
                        | Exit::EngineWrong
                        | Exit::EngineSlow
                        | Exit::EngineBarred
                        | Exit::StorageFull
                        | Exit::StorageReadOnly
                        | Exit::StorageFailing
                        | Exit::Refused
                ) =>
            {
                failure.report();
            }
            other => other?,
        }
    }
}

/// What the person says next. Ctrl-C ends the command here, which it no longer does by itself once an
/// answer could be stopped by it.
async fn typed() -> Result<String, Failure> {
    let reading = tokio::task::spawn_blocking(|| prompt::line(&style::strong("you:")));
    tokio::select! {
        text = reading => text.unwrap_or_else(|error| {
            Err(Failure::new(Exit::Unexpected, "The answer can't be read.").because(&error))
        }),
        _ = tokio::signal::ctrl_c() => {
            crate::client::sign_out().await;
            // Whoever reads the line can't be called off.
            aico_vault::end_process(130)
        }
    }
}

/// Bytes of a message up to which it goes over the WebSocket; longer ones go by REST, which takes
/// more at once.
const LONGEST_FRAME: usize = 200 * 1024;

struct Talk {
    events: Events,
    daemon: Daemon,
    conversation: String,
    json: bool,
}

impl Talk {
    fn accepted(&self, shown: &Shown, message: &Value, answer: &Value) {
        shown.event(&json!({
            "type": "accepted", "conversation": self.conversation,
            "message": message, "answer": answer,
        }));
    }

    async fn say(&mut self, text: &str) -> Result<(), Failure> {
        let send = json!({
            "type": "send", "ref": "say", "conversation": self.conversation, "text": text,
        });
        let mut answer = None;
        let mut shown = Shown::new(self.json);
        if send.to_string().len() <= LONGEST_FRAME {
            self.events.send(&send).await?;
        } else {
            let path = format!("/api/v1/conversations/{}/messages", self.conversation);
            let made = self.daemon.post(&path, &json!({ "text": text })).await?;
            self.accepted(&shown, &made["message"], &made["answer"]);
            answer = made["answer"].as_str().map(str::to_owned);
        }
        loop {
            let event = tokio::select! {
                event = self.events.next() => event?,
                _ = tokio::signal::ctrl_c(), if answer.is_some() => {
                    self.events.send(&json!({"type": "cancel", "ref": "stop", "message": answer})).await?;
                    continue;
                }
            };
            match event {
                Event::Accepted {
                    message,
                    answer: id,
                } => {
                    self.accepted(&shown, &message.into(), &id.as_str().into());
                    answer = Some(id);
                }
                Event::Error { status, problem } => {
                    return Err(crate::client::failure(status, problem));
                }
                Event::Told { event } => {
                    if let Some(end) = shown.follow(&event, answer.as_deref()) {
                        return end;
                    }
                }
                Event::Authenticated {} | Event::Cancelled {} | Event::Pong {} => {}
            }
        }
    }
}

/// What of the stream reaches the person.
struct Shown {
    json: bool,
    /// Deltas can come before the frame that says which answer is ours.
    early: Vec<Value>,
    begun: bool,
    /// How far the model is loaded that the answer waits for.
    loading: Option<Progress>,
    /// How many are answered before.
    queued: Option<Progress>,
}

impl Shown {
    fn new(json: bool) -> Self {
        Self {
            json,
            early: Vec::new(),
            begun: false,
            loading: None,
            queued: None,
        }
    }

    fn event(&self, event: &Value) {
        if self.json {
            style::json(event);
        }
    }

    /// Shows an event of our answer; at its end, says how it ended.
    fn follow(&mut self, event: &Value, answer: Option<&str>) -> Option<Result<(), Failure>> {
        let Some(answer) = answer else {
            self.early.push(event.clone());
            return None;
        };
        for event in std::mem::take(&mut self.early)
            .into_iter()
            .chain([event.clone()])
        {
            if let Some(end) = self.one(&event, answer) {
                return Some(end);
            }
        }
        None
    }

    fn one(&mut self, event: &Value, answer: &str) -> Option<Result<(), Failure>> {
        match event["kind"].as_str()? {
            "answer.delta" if event["message"] == answer => {
                let text = event["text"].as_str().unwrap_or_default();
                let thinking = event["thinking"] == true;
                self.queued = None;
                self.event(&json!({
                    "type": "delta", "part": event["part"], "text": text, "thinking": thinking,
                }));
                // What it thinks is no part of the answer.
                if !self.json && !thinking {
                    self.begun = true;
                    self.loading = None;
                    style::piece(&style::harmless(text));
                }
                None
            }
            "queue" if event["message"] == answer => {
                self.event(&json!({"type": "queue", "position": event["position"]}));
                self.queue(&event["position"]);
                None
            }
            "model.state" => {
                self.event(&json!({"type": "model", "state": event["state"]}));
                self.load(&event["state"]);
                None
            }
            "answer.done" if event["message"]["id"] == answer => {
                self.loading = None;
                self.queued = None;
                Some(self.done(event))
            }
            _ => None,
        }
    }

    /// Shows how many are answered before, while the answer has not begun.
    fn queue(&mut self, position: &Value) {
        if self.json || self.begun {
            return;
        }
        // A new line each time: of one line, what follows at once on another is left out.
        self.queued = None;
        let before = match position.as_u64() {
            None | Some(0) => "next in line".to_owned(),
            Some(1) => "1 answer before yours".to_owned(),
            Some(count) => format!("{count} answers before yours"),
        };
        self.queued
            .insert(Progress::new("Waiting"))
            .say(&format!("Waiting: {before}"));
    }

    /// Shows how far the model is loaded while the answer has not begun.
    fn load(&mut self, state: &Value) {
        if self.json || self.begun || state["status"] != "starting" {
            self.loading = None;
            return;
        }
        let name = style::harmless(state["name"].as_str().unwrap_or("the model"));
        let progress = self.loading.get_or_insert_with(|| Progress::new("Loading"));
        match state["loading_percent"].as_u64() {
            Some(percent) => progress.part(percent, &name),
            None => progress.say(&format!("Loading {name}")),
        }
    }

    fn done(&self, event: &Value) -> Result<(), Failure> {
        let message = &event["message"];
        let texts = message["parts"].as_array().into_iter().flatten();
        let text: String = texts
            .filter(|part| part["type"] == "text")
            .filter_map(|part| part["text"].as_str())
            .collect();
        let status = message["status"].as_str().unwrap_or_default();
        self.event(&json!({
            "type": "done", "text": text, "conversation": message["conversation"],
            "message": message["id"], "status": status, "error": message["error"],
            "stats": event["stats"],
        }));
        if !self.json {
            style::line("");
        }
        if let Some(wanted) = message["instead_of"].as_str().filter(|_| !self.json) {
            let model = message["model"].as_str().unwrap_or_default();
            style::note(&style::faint(&format!(
                "{} answered: {}, which this character is made for, can't be had. See `aico \
                 character show`.",
                style::harmless(model),
                style::harmless(wanted)
            )));
        }
        match status {
            "failed" => {
                let error = &message["error"];
                let said = |key: &str| error[key].as_str().map(str::to_owned);
                let exit = match error["code"].as_str() {
                    Some("storage-full") => Exit::StorageFull,
                    Some("storage-read-only") => Exit::StorageReadOnly,
                    Some("storage-failing") => Exit::StorageFailing,
                    Some("locked") => Exit::Locked,
                    Some("too-long") => Exit::Refused,
                    Some(code) => Exit::of_engine(code).unwrap_or(Exit::ModelFailed),
                    None => Exit::ModelFailed,
                };
                let title = said("title").unwrap_or_else(|| "The answer failed.".to_owned());
                Err(Failure {
                    exit,
                    what: crate::exit::sentence(&title),
                    why: said("detail"),
                    what_to_do: said("what_to_do"),
                })
            }
            "interrupted" => Err(
                Failure::new(Exit::NotRunning, "AICO was stopped in the middle.")
                    .do_this("What was said is kept: aico conversation show ID"),
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_so_until_it_is_their_turn() {
        let queue = |message: &str| json!({"kind": "queue", "message": message, "position": 2});
        let mut shown = Shown::new(false);
        assert!(shown.follow(&queue("another"), Some("ours")).is_none());
        assert!(shown.queued.is_none());
        assert!(shown.follow(&queue("ours"), Some("ours")).is_none());
        assert!(shown.queued.is_some());
        let thought = json!({
            "kind": "answer.delta", "message": "ours", "part": 0, "text": "Hm.", "thinking": true,
        });
        assert!(shown.follow(&thought, Some("ours")).is_none());
        assert!(shown.queued.is_none());
    }
}

//! Talking with the companion: its answer is made of events, as every page hears them.

use std::sync::Arc;
use std::time::Duration;

use aico_bus::{Delivery, Meta, Queue, Subscription, decode};
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{self, event, verb};
use aico_contracts::v1::{self, Envelope, MessageStatus, Priority, part::Content, turn};
use tokio::time::Instant;

use super::answer::{Figures, Instead, Item, Piece};
use super::memory;
use super::question::Question;
use crate::app::App;
use crate::problem::{Code, Problem};

/// Has the model ready that would answer in a new conversation: one that the person's character is
/// made for, or the one that is chosen for everybody.
pub(super) async fn load(app: &App, person: PersonId, program: &str) -> Result<(), Problem> {
    let question = v1::ListCharacters {};
    let all: v1::CharacterList = request(app, person, program, verb::CHARACTERS, &question).await?;
    let chosen = all.items.into_iter().find(|one| one.chosen);
    let wanted = chosen.map(|one| one.models).unwrap_or_default();
    memory::any_ready(app, person, wanted).await
}

/// One answer of the companion. Dropping it before its end stops it; what was said is kept.
pub(super) struct Talk {
    app: Arc<App>,
    person: PersonId,
    program: String,
    events: Subscription,
    conversation: Vec<u8>,
    answer: Vec<u8>,
    /// The text that was handed on.
    sent: String,
    /// The first delta that is not in it.
    next: u64,
    asked: Instant,
    first: Option<Duration>,
    /// What comes after what is handed on now.
    end: Option<Figures>,
    ended: bool,
}

impl Talk {
    pub(super) async fn begin(
        app: &Arc<App>,
        person: PersonId,
        program: String,
        question: &Question,
    ) -> Result<Self, Problem> {
        let (earlier, text, instructions) = split(&question.turns)?;
        let talk = v1::Talk {
            earlier,
            text,
            instructions,
            sampling: Some(question.sampling.of_companion()),
        };
        let asked = Instant::now();
        // Before it is asked: nothing of the answer is missed.
        let queue = Queue::new(app.limits.ring_events, app.limits.ring_bytes);
        let events = app
            .bus
            .subscribe(&topics::conversation_events(person), queue)
            .map_err(|error| {
                tracing::error!(%error, "a person's events can't be followed");
                Code::Internal
            })?;
        let begun = ask(app, person, program.clone(), talk).await?;
        Ok(Self {
            app: Arc::clone(app),
            person,
            program,
            events,
            conversation: begun.conversation,
            answer: begun.answer,
            sent: String::new(),
            next: 0,
            asked,
            first: None,
            end: None,
            ended: false,
        })
    }

    pub(super) async fn next(&mut self) -> Result<Item, Problem> {
        if let Some(figures) = self.end.take() {
            return Ok(Item::End(figures));
        }
        loop {
            match self.events.recv().await {
                Some(Delivery::Message(envelope)) => {
                    if let Some(item) = self.hear(&envelope).await? {
                        return Ok(item);
                    }
                }
                // The end may be among what was lost.
                Some(Delivery::Gap { .. }) => {
                    let message = self.look().await?;
                    if message.status() != MessageStatus::Streaming {
                        return self.done(message, v1::AnswerStats::default());
                    }
                    if let Some(item) = self.catch_up(message) {
                        return Ok(item);
                    }
                }
                Some(Delivery::Interrupted { .. }) | None => return Err(Code::Stopping.into()),
            }
        }
    }

    /// What was lost on the way, of an answer that goes on.
    fn catch_up(&mut self, message: v1::Message) -> Option<Item> {
        self.next = message.next_index;
        let text = text_of(message);
        let rest = text.strip_prefix(self.sent.as_str())?.to_owned();
        self.sent = text;
        (!rest.is_empty()).then_some(Item::Piece(Piece::Text(rest)))
    }

    async fn hear(&mut self, envelope: &Envelope) -> Result<Option<Item>, Problem> {
        match envelope.topic.rsplit('.').next().unwrap_or_default() {
            event::ANSWER_DELTA => {
                let delta: v1::AnswerDelta = decode(envelope)?;
                if delta.message != self.answer || delta.index < self.next {
                    return Ok(None);
                }
                self.first.get_or_insert_with(|| self.asked.elapsed());
                if delta.thinking {
                    return Ok(Some(Item::Piece(Piece::Thinking(delta.text))));
                }
                self.sent.push_str(&delta.text);
                Ok(Some(Item::Piece(Piece::Text(delta.text))))
            }
            event::ANSWER_DONE => {
                let done: v1::AnswerDone = decode(envelope)?;
                match done.message.filter(|message| message.id == self.answer) {
                    Some(message) => self.done(message, done.stats.unwrap_or_default()).map(Some),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    /// The answer as it is now.
    async fn look(&mut self) -> Result<v1::Message, Problem> {
        let id = self.conversation.clone();
        let question = v1::GetConversation { id };
        let (app, person) = (&self.app, self.person);
        let found: v1::ConversationDetail =
            request(app, person, &self.program, verb::GET, &question).await?;
        let mut messages = found.messages.into_iter();
        let answer = messages.find(|message| message.id == self.answer);
        answer.ok_or_else(|| Code::NotFound.into())
    }

    fn done(&mut self, message: v1::Message, stats: v1::AnswerStats) -> Result<Item, Problem> {
        self.ended = true;
        match message.status() {
            MessageStatus::Failed => {
                let fault = message.fault.unwrap_or_default();
                return Err(fault.into());
            }
            MessageStatus::Interrupted => return Err(Code::Stopping.into()),
            // Stopped on the person's own page: what was said is the answer.
            _ => {}
        }
        let figures = Figures {
            prompt_tokens: stats.prompt_tokens,
            cached_tokens: stats.cached_tokens,
            answer_tokens: stats.answer_tokens,
            dropped_turns: stats.dropped_turns,
            first_token: self.first.unwrap_or_default(),
            total: self.asked.elapsed(),
            cut: stats.cut,
            instead: (!message.instead_of.is_empty()).then(|| Instead {
                by: message.model.clone(),
                of: message.instead_of.clone(),
            }),
        };
        let text = text_of(message);
        // What was lost on the way.
        match text.strip_prefix(self.sent.as_str()) {
            Some(rest) if !rest.is_empty() => {
                self.end = Some(figures);
                Ok(Item::Piece(Piece::Text(rest.to_owned())))
            }
            _ => Ok(Item::End(figures)),
        }
    }
}

fn text_of(message: v1::Message) -> String {
    let parts = message.parts.into_iter();
    let texts = parts.filter_map(|part| match part.content {
        Some(Content::Text(text)) => Some(text),
        _ => None,
    });
    texts.collect()
}

impl Drop for Talk {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (app, person) = (Arc::clone(&self.app), self.person);
        let program = std::mem::take(&mut self.program);
        let begun = v1::Talking {
            conversation: std::mem::take(&mut self.conversation),
            answer: std::mem::take(&mut self.answer),
            message: Vec::new(),
        };
        tokio::spawn(async move { stop(&app, person, &program, begun).await });
    }
}

/// Asks to its end, even when the program is gone meanwhile: an answer that has begun and has no
/// listener is stopped.
async fn ask(
    app: &Arc<App>,
    person: PersonId,
    program: String,
    talk: v1::Talk,
) -> Result<v1::Talking, Problem> {
    let (told, begun) = tokio::sync::oneshot::channel();
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let begun = request(&app, person, &program, verb::TALK, &talk).await;
        if let Err(Ok(begun)) = told.send(begun) {
            stop(&app, person, &program, begun).await;
        }
    });
    begun.await.map_err(|_| Code::Internal)?
}

async fn stop(app: &App, person: PersonId, program: &str, begun: v1::Talking) {
    let question = v1::CancelAnswer {
        conversation: begun.conversation,
        answer: begun.answer,
    };
    let stopped = request::<_, v1::Empty>(app, person, program, verb::CANCEL, &question);
    if let Err(problem) = stopped.await {
        let problem = problem.code().as_str();
        tracing::debug!(problem, "an answer that nobody waits for was not stopped");
    }
}

async fn request<Q: aico_contracts::Payload, R: aico_contracts::Payload>(
    app: &App,
    person: PersonId,
    program: &str,
    verb: &str,
    question: &Q,
) -> Result<R, Problem> {
    let topic = topics::conversation_request(person, verb);
    let meta = Meta::for_person(person)
        .purpose("conversation")
        .priority(Priority::Normal)
        .origin_device(program)
        .deadline_in(app.limits.module_time);
    Ok(app.bus.request(&topic, question, meta).await?)
}

/// What was said before, what is said now, and what the program adds to the character's prompt.
fn split(turns: &[v1::Turn]) -> Result<(Vec<v1::Said>, String, String), Problem> {
    let mut instructions: Vec<&str> = Vec::new();
    let mut said = Vec::new();
    for turn in turns {
        let role = match turn.role() {
            turn::Role::System => {
                instructions.push(&turn.text);
                continue;
            }
            turn::Role::Assistant => v1::Role::Assistant,
            turn::Role::User | turn::Role::Tool | turn::Role::Unspecified => v1::Role::User,
        };
        said.push(v1::Said {
            role: role.into(),
            text: turn.text.clone(),
        });
    }
    match said.pop() {
        Some(last) if last.role() == v1::Role::User => {
            Ok((said, last.text, instructions.join("\n\n")))
        }
        _ => Err(Problem::from(Code::Invalid)
            .with_detail("The last message to `aico` must be the person's.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(role: turn::Role, text: &str) -> v1::Turn {
        v1::Turn {
            role: role.into(),
            text: text.into(),
            ..v1::Turn::default()
        }
    }

    #[test]
    fn the_last_word_is_the_persons_and_instructions_are_apart() {
        use turn::Role::{Assistant, System, User};
        let turns = [
            turn(System, "a"),
            turn(User, "b"),
            turn(Assistant, "c"),
            turn(System, "d"),
            turn(User, "e"),
        ];
        let (earlier, text, instructions) = split(&turns).unwrap();
        assert_eq!(earlier.len(), 2);
        assert_eq!((text.as_str(), instructions.as_str()), ("e", "a\n\nd"));
        assert!(split(&turns[..3]).is_err());
        assert!(split(&turns[..1]).is_err());
        assert!(split(&[]).is_err());
    }
}

//! One question to a model, from its coming to its end.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aico_bus::{Request, RequestError, Responder};
use aico_contracts::Payload;
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{self, slot_verb as verb};
use aico_contracts::v1::generated::Item as Piece;
use aico_contracts::v1::{self, Envelope, Fault, Generated, GeneratedEnd};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use super::activity::Ticket;
use super::backends::Model;
use super::gate::{Entry, Pass};
use super::table::View;
use super::{Guard, Router, asked_model, changed};
use crate::backend::{Asker, BackendError, Item, Wait};

/// How long a cancelled answer may take to say so.
const CANCELLED: Duration = Duration::from_secs(2);

/// What the router reads of a question to a slot. The rest is passed on unread.
#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(bytes = "vec", tag = "6")]
    model: Vec<u8>,
    #[prost(uint32, tag = "11")]
    character_turns: u32,
}

/// Whether a module of another maker says this: the bus gives each a name that begins so.
fn is_of_a_module(envelope: &Envelope) -> bool {
    envelope.sender.starts_with("module:")
}

fn of(item: Piece) -> Generated {
    Generated { item: Some(item) }
}

impl Router {
    pub(super) async fn generate(self, request: Request) {
        let envelope = &request.envelope;
        let named = match envelope.payload_type == v1::Generate::TYPE {
            true => prost::Message::decode(envelope.payload.clone()).ok(),
            false => None,
        };
        // What can't be read is refused in the words of whoever would have read it.
        let Some(Named {
            model,
            character_turns,
        }) = named
        else {
            let refused = request.decode::<v1::Generate>().err();
            return request.fault(refused.unwrap_or_else(|| Fault::invalid("It can't be read")));
        };
        if character_turns > 0 && is_of_a_module(envelope) {
            // What is read of it would be shared between persons, and outlast the one whose it is.
            return request.fault(
                Fault::invalid("A module can't say which turns are those of AICO's own characters")
                    .with_what_to_do("Leave `character_turns` out."),
            );
        }
        let named = match asked_model(&model) {
            Ok(named) => named,
            Err(fault) => return request.fault(fault),
        };
        let id = match (named, self.chosen.get()) {
            (None, Some(chosen)) => return self.ask_backend(request, chosen).await,
            (named, _) => named.or_else(|| self.table.active()),
        };
        let Some(id) = id else {
            return request.fault(changed());
        };
        match self.table.enter(id) {
            // It is asked for anew, and its turn comes after the more urgent one's.
            Some((slot, _)) if self.table.gives_way(&slot, envelope.priority()) => {
                request.fault(changed());
            }
            Some((slot, flying)) => {
                self.ask_slot(request, &slot).await;
                drop(flying);
            }
            None => match self.backends.find(id) {
                Some(model) => self.ask_backend(request, model).await,
                None => request.fault(changed()),
            },
        }
    }

    /// Passes the question on to a model process, and its answer back. One that waits for a place
    /// there is taken back for a more urgent one that waits for room: it would keep the model in
    /// memory after those that are being answered. A process tells when a question waits and not
    /// when it begins to be read: what was read of one that has just begun is lost.
    async fn ask_slot(&self, request: Request, slot: &View) {
        let envelope = request.envelope.clone();
        let mut ticket = self.activity.begin(slot.model, &slot.name, "", &envelope);
        let _running = Running::note(self, &envelope.id, slot.number);
        let topic = topics::slot(slot.number, verb::GENERATE);
        let mut passed = Arc::clone(&envelope);
        if is_of_a_module(&envelope) {
            // Whatever it says that it asks for: the person's own questions may be told more.
            Arc::make_mut(&mut passed).purpose = "".into();
        }
        let asked = self.client.pass_on::<Generated>(&passed, &topic).await;
        let mut answer = match asked {
            Ok(answer) => answer,
            Err(RequestError::NobodyServes { .. }) => {
                let fault = changed();
                ticket.put_anew(&fault.code);
                return request.fault(fault);
            }
            Err(error) => return end_badly(request.stream(), ticket, error),
        };
        let mut back = request.stream();
        let mut until = None;
        let (mut waits, mut said) = (false, false);
        let priority = envelope.priority();
        loop {
            let next = match until {
                None => tokio::select! {
                    biased;
                    () = back.cancelled() => {
                        // It may still say how far it came.
                        until = Some(Instant::now() + CANCELLED);
                        answer.cancel();
                        continue;
                    }
                    next = answer.next() => next,
                    () = self.table.until_it_gives_way(slot, priority), if waits => {
                        let fault = changed();
                        ticket.put_anew(&fault.code);
                        return back.fault(fault);
                    }
                },
                Some(until) => match tokio::time::timeout_at(until, answer.next()).await {
                    Ok(next) => next,
                    Err(_) => return,
                },
            };
            let item = match next {
                Some(Ok(Generated { item: Some(item) })) => item,
                // Of a kind that this build does not know.
                Some(Ok(Generated { item: None })) => continue,
                Some(Err(error)) => return end_badly(back, ticket, error),
                None => return end_badly(back, ticket, RequestError::ServerGone),
            };
            match item {
                Piece::End(end) => {
                    back.end(of(Piece::End(end)));
                    return ticket.end(&end);
                }
                Piece::Queued(_) => {
                    // What was said would be said again.
                    waits = !said;
                    ticket.queued();
                }
                Piece::Text(_) | Piece::Thinking(_) | Piece::ToolCall(_) => {
                    (waits, said) = (false, true);
                    ticket.piece();
                }
            }
            if back.send(of(item)).await.is_err() && until.is_none() {
                return;
            }
        }
    }

    /// Asks a program beside us.
    async fn ask_backend(&self, request: Request, model: Model) {
        let envelope = request.envelope.clone();
        let engine = model.engine.backend.name().to_owned();
        let mut ticket = self
            .activity
            .begin(model.id, &model.name, &engine, &envelope);
        let question: v1::Generate = match request.decode() {
            Ok(question) => question,
            Err(fault) => {
                ticket.refused(&fault.code);
                return request.fault(fault);
            }
        };
        let person = match &envelope.person[..] {
            [] => None,
            bytes => match PersonId::from_slice(bytes) {
                Ok(person) => Some(person),
                Err(_) => {
                    ticket.refused("invalid");
                    return request.fault(Fault::invalid("The person's id has not 16 bytes"));
                }
            },
        };
        let deadline = request.deadline();
        let mut back = request.stream();
        let pass = match model.engine.gate.enter(person, envelope.priority()) {
            Entry::Now(pass) => Some(pass),
            Entry::Full => None,
            Entry::Wait(queued) => {
                ticket.queued();
                match wait(&mut back, queued).await {
                    Waited::In(pass) => Some(pass),
                    Waited::Full => None,
                    Waited::Gone => return,
                }
            }
        };
        let Some(_pass) = pass else {
            let fault = BackendError::Busy.to_fault(&engine);
            ticket.refused(&fault.code);
            return back.fault(fault);
        };
        ticket.started();
        let mut admission = match model.engine.admit() {
            Ok(admission) => admission,
            Err(error) => {
                let fault = error.to_fault(&engine);
                ticket.refused(&fault.code);
                return back.fault(fault);
            }
        };
        let asker = Asker { person };
        let (sender, mut items) = mpsc::channel(64);
        let work = model
            .engine
            .backend
            .generate(&asker, &model.name, &question, sender);
        tokio::pin!(work);
        let begun = Instant::now();
        let left = deadline.and_then(|at| at.duration_since(std::time::SystemTime::now()).ok());
        let last = left.and_then(|left| begun.checked_add(left));
        let Guard { first, .. } = self.guard;
        let next = self.guard.next_of(&question);
        let mut limit = (begun + first, Wait::FirstToken, first);
        let mut done = None;
        loop {
            let at = last.map_or(limit.0, |last| last.min(limit.0));
            let item = tokio::select! {
                biased;
                () = back.cancelled() => {
                    // Dropping the work ends it on the other side.
                    let end = GeneratedEnd {
                        reason: v1::generated_end::Reason::Cancelled.into(),
                        ..GeneratedEnd::default()
                    };
                    back.end(of(Piece::End(end)));
                    return ticket.end(&end);
                }
                item = items.recv() => item,
                ended = &mut work, if done.is_none() => {
                    // What it handed over before is still to be read.
                    done = Some(ended);
                    continue;
                }
                () = tokio::time::sleep_until(at) => {
                    let error = BackendError::TimedOut { waited_for: limit.1, limit: limit.2 };
                    done = Some(Err(error));
                    break;
                }
            };
            let Some(item) = item else { break };
            admission.succeeded();
            limit = (Instant::now() + next, Wait::NextToken, next);
            ticket.piece();
            let piece = match item {
                Item::Text(text) => Piece::Text(text),
                Item::Thinking(text) => Piece::Thinking(text),
                Item::ToolCall(call) => Piece::ToolCall(call),
            };
            if back.send(of(piece)).await.is_err() {
                return;
            }
        }
        let done = match done {
            Some(done) => done,
            // It has dropped its end of the channel and goes on to the figures.
            None => match tokio::time::timeout(next, work).await {
                Ok(done) => done,
                Err(_) => Err(BackendError::TimedOut {
                    waited_for: Wait::NextToken,
                    limit: next,
                }),
            },
        };
        match done {
            Ok(mut end) => {
                admission.succeeded();
                if end.total_us == 0 {
                    end.total_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                }
                back.end(of(Piece::End(end)));
                ticket.end(&end);
            }
            Err(error) => {
                admission.failed(&model.name, &error);
                tracing::warn!(engine, %error, "A program that runs models did not answer.");
                let fault = error.to_fault(&engine);
                ticket.failed(&fault.code);
                back.fault(fault);
            }
        }
    }
}

enum Waited {
    In(Pass),
    /// The more urgent took its place.
    Full,
    Gone,
}

/// Tells the place in the queue until there is one.
async fn wait(back: &mut Responder, mut queued: super::gate::Queued) -> Waited {
    let mut told = None;
    loop {
        let place = *queued.place.borrow_and_update();
        if place != u32::MAX && told != Some(place) {
            told = Some(place);
            if back.send(of(Piece::Queued(place))).await.is_err() {
                return Waited::Gone;
            }
        }
        tokio::select! {
            biased;
            pass = &mut queued.pass => match pass {
                Ok(pass) => return Waited::In(pass),
                Err(_) => return Waited::Full,
            },
            () = back.cancelled() => return Waited::Gone,
            changed = queued.place.changed() => if changed.is_err() {
                // It was admitted, and the pass is on its way; or it is not.
                return match queued.pass.await {
                    Ok(pass) => Waited::In(pass),
                    Err(_) => Waited::Full,
                };
            },
        }
    }
}

/// A failure of the bus or of the process, as it came.
fn end_badly(back: Responder, ticket: Ticket, error: RequestError) {
    match error {
        RequestError::Fault(fault) => {
            ticket.faulted(&fault.code);
            back.fault(fault);
        }
        RequestError::DeadlinePassed => {
            ticket.failed("took-too-long");
            back.fault(RequestError::DeadlinePassed.into_fault());
        }
        error => {
            ticket.failed("model-failed");
            tracing::debug!(%error, "A model process did not answer to the end.");
            // The asker is told that the server is gone.
            drop(back);
        }
    }
}

/// Notes in which slot a question is, while it is there.
struct Running<'a> {
    router: &'a Router,
    id: Option<Uuid>,
}

impl<'a> Running<'a> {
    fn note(router: &'a Router, id: &[u8], slot: u32) -> Self {
        let id = Uuid::from_slice(id).ok();
        if let Some(id) = id {
            let running = router.running.lock();
            running
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id, slot);
        }
        Self { router, id }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            let running = self.router.running.lock();
            running.unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }
}

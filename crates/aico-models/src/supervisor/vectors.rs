//! Vectors of texts by models that are no packages: a model file that embeds, or a program beside
//! us.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aico_bus::{Client, Meta, ReplyStream, Request, RequestError};
use aico_contracts::ids::PersonId;
use aico_contracts::topics::{self, slot_verb};
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, EmbeddedText, Fault};
use tokio::time::Instant;

use super::files::AddError;
use super::heads::Heads;
use super::registry::{ModelRecord, ModelRegistryStore};
use crate::backend::{Asker, BackendError, Capability};
use crate::router::gate::Entry;
use crate::router::table::{Flying, View};
use crate::router::{Router, Ticket};

/// Loading tens of gigabytes from a slow disk takes minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is asked whether it is loaded.
const AGAIN: Duration = Duration::from_millis(100);
/// How often one that does not serve yet is asked again.
const TRIES: u32 = 20;
/// How old the lists of the programs beside us may be.
const LISTED: Duration = Duration::from_secs(60);
/// Texts, and bytes of them, that a process is handed at once.
const PIECE: usize = 64;
const PIECE_BYTES: usize = 512 << 10;

/// Finds such a model and asks it. Clones are the same.
#[derive(Clone)]
pub(super) struct Vectors {
    pub(super) client: Client,
    pub(super) router: Router,
    pub(super) registry: Arc<dyn ModelRegistryStore>,
    pub(super) heads: Heads,
}

impl Vectors {
    /// Answers; `nothing` is told where there is no such model. The work ends when nobody waits
    /// for it any more.
    pub(super) async fn answer(self, request: Request, asked: v1::Embed, nothing: Fault) {
        let deadline = request.deadline();
        let back = request.stream();
        let done = async {
            let how = How::of(back.request(), deadline)?;
            self.vectors(&how, back.request(), asked, nothing).await
        };
        let done = tokio::select! {
            () = back.cancelled() => return,
            done = done => done,
        };
        match done {
            Ok(done) => back.end(done),
            Err(fault) => back.fault(fault),
        }
    }

    async fn vectors(
        &self,
        how: &How,
        question: &v1::Envelope,
        asked: v1::Embed,
        nothing: Fault,
    ) -> Result<v1::Embedded, Fault> {
        let (model, mut items) = match self.own(&asked.model).await? {
            Some(record) => {
                let mut ticket = self.router.asked(record.id, &record.name, "", question);
                ticket.queued();
                let done = self.of_file(how, &record, &asked.texts, &mut ticket).await;
                (record.name, ticket.ended(done)?)
            }
            None => self.beside(how, question, &asked, nothing).await?,
        };
        if asked.dimensions > 0 {
            for item in &mut items {
                shorten(&mut item.vector, asked.dimensions)?;
            }
        }
        Ok(v1::Embedded { model, items })
    }

    /// The model file of this name that embeds; of no name, the first. One of this name of which
    /// nothing is known is an error: the texts are not for another program's model of its name.
    pub(super) async fn own(&self, name: &str) -> Result<Option<ModelRecord>, Fault> {
        let models = self.registry.list().await;
        let models = models.map_err(|error| super::manager::registry_fault(&error))?;
        let mut unknown = None;
        for model in models {
            if !name.is_empty() && !model.is_called(name) {
                continue;
            }
            match self.heads.good_for(&model).await {
                Ok(good_for) if good_for.contains(&Capability::Embeddings) => {
                    return Ok(Some(model));
                }
                // Of no name, one that is gone or no model any more is not meant.
                Err(error) if !name.is_empty() || matches!(error, AddError::Unread { .. }) => {
                    unknown.get_or_insert(error);
                }
                _ => {}
            }
        }
        unknown.map_or(Ok(None), |error| Err(error.to_fault()))
    }

    async fn of_file(
        &self,
        how: &How,
        record: &ModelRecord,
        texts: &[String],
        ticket: &mut Ticket,
    ) -> Result<Vec<EmbeddedText>, Fault> {
        let mut items = Vec::with_capacity(texts.len());
        for piece in pieces(texts) {
            if !items.is_empty() {
                ticket.yielded();
            }
            let question = v1::Embed {
                model: record.id.to_string(),
                texts: piece.to_vec(),
                dimensions: 0,
            };
            let mut tries = 0;
            let done = loop {
                // It stays where it is as long as a piece is with it.
                let (slot, _flying) = self.loaded(record, how).await?;
                match self.piece(&slot, &question, how, ticket).await {
                    Ok(Some(done)) => break done,
                    // It is asked for anew, and its turn comes after the more urgent one's.
                    Ok(None) => continue,
                    // A process that was just replaced serves a moment later than its state says.
                    Err(RequestError::NobodyServes { .. }) if tries < TRIES => tries += 1,
                    Err(error) => return Err(error.into_fault()),
                }
                tokio::time::sleep(AGAIN).await;
            };
            if done.len() != piece.len() {
                return Err(Fault::model_failed(
                    "The model did not answer for each text",
                ));
            }
            ticket.read(done.iter().map(|item| item.tokens).sum());
            items.extend(done);
        }
        Ok(items)
    }

    /// Asks a process. An answer without vectors tells that the question waits no more; until then
    /// it gives way to a more urgent one that waits for room, and that is `None`.
    pub(super) async fn piece(
        &self,
        slot: &View,
        question: &v1::Embed,
        how: &How,
        ticket: &mut Ticket,
    ) -> Result<Option<Vec<EmbeddedText>>, RequestError> {
        let (table, topic) = (
            &self.router.table,
            topics::slot(slot.number, slot_verb::EMBED),
        );
        let opened = self.client.open_stream(&topic, question, how.meta());
        let mut answers: ReplyStream<v1::Embedded> = opened.await?;
        let (mut items, mut waits) = (Vec::new(), true);
        loop {
            let next = tokio::select! {
                biased;
                next = answers.next() => next,
                () = table.until_it_gives_way(slot, how.priority), if waits => return Ok(None),
            };
            let Some(answer) = next else {
                return Ok(Some(items));
            };
            items.extend(answer?.items);
            waits = false;
            ticket.started();
        }
    }

    /// Has it loaded, and its slot kept until the guard is dropped.
    async fn loaded(&self, record: &ModelRecord, how: &How) -> Result<(View, Flying), Fault> {
        let table = &self.router.table;
        if let Some((slot, flying)) = table.enter(record.id)
            && !table.gives_way(&slot, how.priority)
        {
            return Ok((slot, flying));
        }
        let question = v1::PrepareModel {
            wanted: vec![record.id.to_string()],
            only: false,
        };
        let mut until = None;
        loop {
            let asked = self
                .client
                .request(topics::MODELS_PREPARE, &question, how.meta());
            let prepared: v1::PreparedModel = asked.await.map_err(RequestError::into_fault)?;
            let state = prepared.state.unwrap_or_default();
            if !prepared.missing.is_empty() {
                return Err(Fault::new("model-missing", "The model can't be loaded")
                    .with_detail("Its file is gone, or the memory does not suffice for it.")
                    .with_what_to_do("`aico model list` shows which can be used."));
            }
            if state.status() == Status::Failed {
                let failed = || Fault::model_failed("The model can't be used");
                return Err(state.fault.unwrap_or_else(failed));
            }
            if let Some(entered) = table.enter(record.id) {
                return Ok(entered);
            }
            // From the first answer on: before it, it was others that kept it waiting.
            let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
            if Instant::now() >= until {
                return Err(Fault::model_failed("The model takes too long to start")
                    .with_what_to_do("Choose a smaller model."));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn beside(
        &self,
        how: &How,
        question: &v1::Envelope,
        asked: &v1::Embed,
        nothing: Fault,
    ) -> Result<(String, Vec<EmbeddedText>), Fault> {
        let backends = &self.router.backends;
        if asked.model.is_empty() || backends.is_empty() {
            return Err(nothing);
        }
        backends.refresh(LISTED).await;
        let found = backends.wanted(&asked.model, Capability::Embeddings);
        let asker = Asker { person: how.person };
        let mut refused = nothing;
        for model in found {
            let backend = Arc::clone(&model.engine.backend);
            let name = backend.name().to_owned();
            if let Err(error) = backend.permits(&asker).await {
                refused = error.to_fault(&name);
                continue;
            }
            let mut ticket = self.router.asked(model.id, &model.name, &name, question);
            let pass = match model.engine.gate.enter(how.person, how.priority) {
                Entry::Now(pass) => Some(pass),
                Entry::Full => None,
                Entry::Wait(queued) => {
                    ticket.queued();
                    queued.pass.await.ok()
                }
            };
            let Some(_pass) = pass else {
                let fault = BackendError::Busy.to_fault(&name);
                ticket.faulted(&fault.code);
                return Err(fault);
            };
            ticket.started();
            let mut admission = match model.engine.admit() {
                Ok(admission) => admission,
                Err(error) => {
                    refused = error.to_fault(&name);
                    ticket.faulted(&refused.code);
                    continue;
                }
            };
            let done = match backend.embed(&asker, &model.name, &asked.texts).await {
                Ok(done) => done,
                Err(error) => {
                    admission.failed(&model.name, &error);
                    let fault = error.to_fault(&name);
                    ticket.failed(&fault.code);
                    return Err(fault);
                }
            };
            admission.succeeded();
            if done.vectors.len() != asked.texts.len() {
                let fault = Fault::model_failed(format!("{name} did not answer for each text"));
                ticket.failed(&fault.code);
                return Err(fault);
            }
            ticket.read(done.tokens);
            ticket.done();
            // Such a program tells the tokens of all texts at once: they are told with the first.
            let mut tokens = Some(done.tokens);
            let vectors = done.vectors.into_iter().enumerate();
            let items = vectors.map(|(place, vector)| EmbeddedText {
                vector,
                tokens: tokens.take().unwrap_or(0),
                truncated: done.truncated.contains(&place),
            });
            return Ok((model.name, items.collect()));
        }
        Err(refused)
    }
}

/// For whom vectors are made, and until when.
pub(super) struct How {
    person: Option<PersonId>,
    priority: v1::Priority,
    deadline: Option<SystemTime>,
}

impl How {
    pub(super) fn of(envelope: &v1::Envelope, deadline: Option<SystemTime>) -> Result<Self, Fault> {
        let person = match &envelope.person[..] {
            [] => None,
            bytes => Some(
                PersonId::from_slice(bytes)
                    .map_err(|_| Fault::invalid("The person's id has not 16 bytes"))?,
            ),
        };
        Ok(Self {
            person,
            priority: envelope.priority(),
            deadline,
        })
    }

    fn meta(&self) -> Meta {
        let meta = self.person.map_or_else(Meta::new, Meta::for_person);
        let meta = meta.priority(self.priority);
        match self.deadline {
            Some(at) => meta.deadline(at),
            None => meta,
        }
    }
}

/// Texts in their order, a few at a time.
fn pieces(texts: &[String]) -> impl Iterator<Item = &[String]> {
    let mut rest = texts;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |text: &&String| {
            bytes += text.len();
            bytes <= PIECE_BYTES
        };
        let count = rest.iter().take(PIECE).take_while(fits).count();
        // One text may have more.
        let (piece, after) = rest.split_at(count.max(1).min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The first numbers alone, of length 1 again.
fn shorten(vector: &mut Vec<f32>, dimensions: u32) -> Result<(), Fault> {
    let wanted = usize::try_from(dimensions).unwrap_or(usize::MAX);
    if wanted > vector.len() {
        return Err(Fault::invalid(format!(
            "The model's vectors have {} dimensions",
            vector.len()
        )));
    }
    vector.truncate(wanted);
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value /= length;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_handed_over_in_order_and_a_few_at_a_time() {
        let mut texts: Vec<String> = (0..150).map(|n| n.to_string()).collect();
        texts.insert(3, "x".repeat(PIECE_BYTES + 1));
        let found: Vec<_> = pieces(&texts).map(<[String]>::len).collect();
        assert_eq!(found, [3, 1, 64, 64, 19]);
        let joined: Vec<_> = pieces(&texts).flatten().cloned().collect();
        assert_eq!(joined, texts);
        assert_eq!(pieces(&[]).count(), 0);
    }

    #[test]
    fn a_shorter_vector_has_length_one_again() {
        let mut vector = vec![0.6, 0.0, 0.8];
        assert!(shorten(&mut vector, 4).is_err());
        shorten(&mut vector, 2).unwrap();
        assert_eq!(vector, [1.0, 0.0]);
        let mut nothing = vec![0.0, 1.0];
        shorten(&mut nothing, 1).unwrap();
        assert_eq!(nothing, [0.0]);
    }
}

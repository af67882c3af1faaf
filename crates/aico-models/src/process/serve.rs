//! The process's side of the bus: answers to `models.generate` and its companions.

use std::sync::Arc;
use std::time::Instant;

use aico_bus::{BusError, Client, Request, Responder, Trace};
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1::{self, Fault, Generated, GeneratedEnd, Priority};
use aico_contracts::{Payload, topics};
use uuid::Uuid;

use crate::batch::{self, Batcher, Event, QUEUE_LIMIT};
use crate::engine::SamplingPlan;
use crate::prompt::{self, Language, Prompt};

use super::launch::{Outcome, Report};
use super::prompts::Prompts;

/// A loaded model, ready to answer.
#[derive(Clone)]
pub struct Speaker {
    /// Which one it is.
    pub model: ModelId,
    /// Its vocabulary and template.
    pub language: Arc<Language>,
    /// Its loop.
    pub batcher: Batcher,
    /// Most bytes of a prompt's state that is handed out or taken.
    pub most_kept: u64,
}

/// Serves until the link ends.
///
/// # Errors
/// When the topics can't be served.
pub async fn serve(link: &Client, speaker: Speaker) -> Result<(), BusError> {
    // All that may wait in the loop's queue, all that run, and some to be told "busy".
    let mut generate = link.serve(topics::MODELS_GENERATE, 2 * QUEUE_LIMIT)?;
    let mut count = link.serve(topics::MODELS_COUNT, 4)?;
    let mut pause = link.serve(topics::MODELS_PAUSE, 4)?;
    let mut resume = link.serve(topics::MODELS_RESUME, 4)?;
    let prompts = Prompts::new(speaker.batcher.clone(), speaker.most_kept);
    let mut list = link.serve(topics::MODELS_CACHE_LIST, 2)?;
    let mut save = link.serve(topics::MODELS_CACHE_SAVE, 1)?;
    let mut restore = link.serve(topics::MODELS_CACHE_RESTORE, 1)?;
    for requests in [
        &mut generate,
        &mut count,
        &mut pause,
        &mut resume,
        &mut list,
        &mut save,
        &mut restore,
    ] {
        requests.ready().await?;
    }
    super::report(&Report::Ready {
        context: u32::try_from(speaker.batcher.context_length()).unwrap_or(u32::MAX),
    });
    loop {
        tokio::select! {
            Some(request) = generate.recv() => {
                tokio::spawn(answer(speaker.clone(), request));
            }
            Some(request) = count.recv() => {
                tokio::spawn(tell_count(speaker.clone(), request));
            }
            Some(request) = pause.recv() => {
                with::<v1::PauseGeneration>(request, |message| {
                    speaker.batcher.pause(exchange(&message.request)?);
                    Ok(())
                });
            }
            Some(request) = resume.recv() => {
                with::<v1::ResumeGeneration>(request, |message| {
                    speaker.batcher.resume(exchange(&message.request)?);
                    Ok(())
                });
            }
            Some(request) = list.recv() => {
                tokio::spawn(prompts.clone().list(request));
            }
            Some(request) = save.recv() => {
                tokio::spawn(prompts.clone().save(request));
            }
            Some(request) = restore.recv() => {
                tokio::spawn(prompts.clone().restore(request));
            }
            () = link.closed() => return Ok(()),
            else => return Ok(()),
        }
    }
}

fn with<M: Payload>(request: Request, act: impl FnOnce(M) -> Result<(), Fault>) {
    match request.decode::<M>().and_then(act) {
        Ok(()) => request.reply(v1::Empty {}),
        Err(fault) => request.fault(fault),
    }
}

fn exchange(id: &[u8]) -> Result<Uuid, Fault> {
    Uuid::from_slice(id).map_err(|_| Fault::invalid("The id of the request has not 16 bytes"))
}

async fn tell_count(speaker: Speaker, request: Request) {
    let question: v1::CountTokens = match request.decode() {
        Ok(question) => question,
        Err(fault) => return request.fault(fault),
    };
    let language = Arc::clone(&speaker.language);
    let counted =
        tokio::task::spawn_blocking(move || language.count(&prompt::turns(&question.turns))).await;
    match counted {
        Ok(Ok(tokens)) => request.reply(v1::TokenCount {
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            context_length: u32::try_from(speaker.batcher.context_length()).unwrap_or(u32::MAX),
        }),
        Ok(Err(error)) => request.fault(error.to_fault()),
        Err(_panicked) => request.fault(failed()),
    }
}

fn failed() -> Fault {
    Fault::model_failed("The model could not go on")
        .with_what_to_do("Ask again. If it stays so, choose another model.")
}

/// Answers, and tells the daemon's log what became of it.
async fn answer(speaker: Speaker, request: Request) {
    let begun = Instant::now();
    let trace = Trace::of(&request.envelope);
    let told = generate(speaker, request).await;
    if let Some(trace) = trace {
        super::report(&Report::Answered {
            trace: trace.to_string(),
            outcome: told.outcome,
            read: told.read,
            written: told.written,
            took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
    }
}

/// What is told of a question: how it ended, how much was read and written.
struct Told {
    outcome: Outcome,
    read: u32,
    written: u32,
}

impl Told {
    fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            read: 0,
            written: 0,
        }
    }
}

fn refuse(request: Request, fault: Fault) -> Told {
    request.fault(fault);
    Told::of(Outcome::Failed)
}

async fn generate(speaker: Speaker, request: Request) -> Told {
    let question: v1::Generate = match request.decode() {
        Ok(question) => question,
        Err(fault) => return refuse(request, fault),
    };
    if !question.model.is_empty() && question.model != speaker.model.as_bytes() {
        // It was replaced between the asker's hearing of it and now: they ask again.
        return refuse(
            request,
            Fault::new("model-changed", "Another model answers now"),
        );
    }
    let envelope = Arc::clone(&request.envelope);
    let Ok(id) = Uuid::from_slice(&envelope.id) else {
        return refuse(
            request,
            Fault::invalid("The id of the request has not 16 bytes"),
        );
    };
    let person = match &envelope.person[..] {
        [] => None,
        bytes => match PersonId::from_slice(bytes) {
            Ok(person) => Some(person),
            Err(_) => {
                return refuse(request, Fault::invalid("The person's id has not 16 bytes"));
            }
        },
    };
    let sampling = question.sampling.unwrap_or_default();
    let loaded = speaker.batcher.context_length();
    let context = match question.context as usize {
        0 => loaded,
        asked => asked.min(loaded),
    };
    let language = Arc::clone(&speaker.language);
    let prompt = tokio::task::spawn_blocking(move || {
        language.prompt(
            &prompt::turns(&question.turns),
            question.max_tokens,
            context,
        )
    });
    let prompt: Prompt = match prompt.await {
        Ok(Ok(prompt)) => prompt,
        Ok(Err(error)) => return refuse(request, error.to_fault()),
        Err(_panicked) => return refuse(request, failed()),
    };
    let plan = SamplingPlan::from_request(&sampling);
    let mut stops = sampling.stop;
    stops.extend(prompt.stops.iter().map(ToString::to_string));
    let dropped_turns = prompt.dropped_turns;
    let generation = speaker.batcher.submit(batch::Request {
        id,
        person,
        priority: Priority::try_from(envelope.priority).unwrap_or_default(),
        cache_key: question.cache_key,
        prompt: prompt.tokens,
        answer_limit: prompt.answer_limit,
        sampling: plan,
        stops,
        thinking: prompt.thinking,
    });
    hand_over(generation, request.stream(), dropped_turns).await
}

/// From the loop to the asker.
async fn hand_over(
    mut generation: batch::Generation,
    mut stream: Responder,
    dropped_turns: u32,
) -> Told {
    use v1::generated::Item;
    let of = |item| Generated { item: Some(item) };
    loop {
        let event = tokio::select! {
            event = generation.next() => event,
            () = stream.cancelled() => {
                let reason = v1::generated_end::Reason::Cancelled.into();
                let end = GeneratedEnd { reason, dropped_turns, ..GeneratedEnd::default() };
                stream.end(of(Item::End(end)));
                return Told::of(Outcome::Cancelled);
            }
        };
        let item = match event {
            Some(Event::Queued(before)) => Item::Queued(before),
            Some(Event::Text(text)) => Item::Text(text),
            Some(Event::Thinking(text)) => Item::Thinking(text),
            Some(Event::End(end)) => {
                let told = Told {
                    outcome: if end.cut {
                        Outcome::Length
                    } else {
                        Outcome::Stop
                    },
                    read: end.prompt_tokens,
                    written: end.answer_tokens,
                };
                stream.end(of(Item::End(ended(&end, dropped_turns))));
                return told;
            }
            Some(Event::Busy) => {
                stream.fault(Fault::busy("Too many questions wait for the model"));
                return Told::of(Outcome::Busy);
            }
            Some(Event::Failed | Event::Stopped) | None => {
                stream.fault(failed());
                return Told::of(Outcome::Failed);
            }
        };
        if stream.send(of(item)).await.is_err() {
            return Told::of(Outcome::Cancelled);
        }
    }
}

fn ended(end: &batch::End, dropped_turns: u32) -> GeneratedEnd {
    use v1::generated_end::Reason;
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    GeneratedEnd {
        reason: if end.cut {
            Reason::Length
        } else {
            Reason::Stop
        }
        .into(),
        prompt_tokens: end.prompt_tokens,
        cached_tokens: end.cached_tokens,
        answer_tokens: end.answer_tokens,
        dropped_turns,
        first_token_us: micros(end.first_token),
        total_us: micros(end.total),
    }
}

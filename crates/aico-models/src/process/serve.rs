//! The process's side of the bus: answers to `models.generate` and its companions.

use std::sync::Arc;
use std::time::Instant;

use aico_bus::{BusError, Client, Request, Responder, Trace};
use aico_contracts::Payload;
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::topics::{self, slot_verb as verb};
use aico_contracts::v1::{self, Fault, Generated, GeneratedEnd, Priority};
use uuid::Uuid;

use crate::batch::{self, Batcher, Event, QUEUE_LIMIT};
use crate::calls;
use crate::engine::SamplingPlan;
use crate::engine::embed::WAITING;
use crate::prompt::{self, Asked, Language, Prompt};
use crate::structured::{FormatError, Structure};
use crate::text;

use super::embed::Embeds;
use super::launch::{Outcome, Report};
use super::prompts::{PULSE, Prompts};

/// The purpose of a question that is the person's own, in a conversation of theirs: it may be told how
/// much of it others begin with alike. The daemon passes it on of no module of another maker.
const CONVERSATION: &str = "conversation";
/// Questions for vectors at once: all that may wait in their queue, and some to be told "busy".
const EMBED_LIMIT: usize = 2 * WAITING;

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

/// What a model file turned out to be.
pub struct Loaded {
    /// Tokens that it reads at once.
    pub context: u32,
    /// It goes on with a conversation.
    pub speaker: Option<Speaker>,
    /// It makes vectors of texts.
    pub embeds: Option<Embeds>,
}

/// Serves its slot until the link ends.
///
/// # Errors
/// When the topics can't be served.
pub async fn serve(link: &Client, slot: u32, loaded: Loaded) -> Result<(), BusError> {
    let mut embed = match &loaded.embeds {
        Some(_) => Some(link.serve(&topics::slot(slot, verb::EMBED), EMBED_LIMIT)?),
        None => None,
    };
    if let Some(requests) = &mut embed {
        requests.ready().await?;
    }
    let embedding = {
        let embeds = loaded.embeds.clone();
        async move {
            if let (Some(embeds), Some(mut requests)) = (embeds, embed) {
                while let Some(request) = requests.recv().await {
                    tokio::spawn(make_vectors(embeds.clone(), request));
                }
            }
            std::future::pending().await
        }
    };
    let context = loaded.context;
    match loaded.speaker {
        Some(speaker) => tokio::select! {
            ended = speak(link, slot, speaker, loaded.embeds, context) => ended,
            () = embedding => Ok(()),
        },
        None => {
            let mut looks = link.serve(&topics::slot(slot, verb::LIST_PROMPTS), 2)?;
            looks.ready().await?;
            super::report(&Report::Ready { context });
            // It keeps no prompts; that it answers is what is asked for.
            let alive = async {
                while let Some(look) = looks.recv().await {
                    let embeds = loaded.embeds.clone();
                    tokio::spawn(async move {
                        gets_on(embeds.as_ref(), &look).await;
                        look.reply(v1::PromptList::default());
                    });
                }
            };
            tokio::select! {
                () = link.closed() => Ok(()),
                () = alive => Ok(()),
                () = embedding => Ok(()),
            }
        }
    }
}

/// Who looks for that waits for the thread that makes vectors too, nobody else does.
async fn gets_on(embeds: Option<&Embeds>, asked: &Request) {
    if let Some(embeds) = embeds
        && &*asked.envelope.purpose == PULSE
    {
        embeds.gets_on().await;
    }
}

async fn speak(
    link: &Client,
    slot: u32,
    speaker: Speaker,
    embeds: Option<Embeds>,
    context: u32,
) -> Result<(), BusError> {
    let serve = |verb, most| link.serve(&topics::slot(slot, verb), most);
    // All that may wait in the loop's queue, all that run, and some to be told "busy".
    let mut generate = serve(verb::GENERATE, 2 * QUEUE_LIMIT)?;
    let mut count = serve(verb::COUNT, 4)?;
    let mut pause = serve(verb::PAUSE, 4)?;
    let mut resume = serve(verb::RESUME, 4)?;
    let prompts = Prompts::new(speaker.batcher.clone(), speaker.most_kept);
    let mut list = serve(verb::LIST_PROMPTS, 2)?;
    let mut save = serve(verb::SAVE_PROMPT, 1)?;
    let mut restore = serve(verb::RESTORE_PROMPT, 1)?;
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
    super::report(&Report::Ready { context });
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
                let (prompts, embeds) = (prompts.clone(), embeds.clone());
                tokio::spawn(async move {
                    gets_on(embeds.as_ref(), &request).await;
                    prompts.list(request).await;
                });
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

/// Answers, and tells the daemon what became of it.
async fn answer(speaker: Speaker, request: Request) {
    let asked = Question::of(&request);
    asked.dealt_with(&generate(speaker, request).await);
}

/// Makes vectors, and tells the daemon what became of it.
async fn make_vectors(embeds: Embeds, request: Request) {
    let asked = Question::of(&request);
    asked.dealt_with(&Told::of(embeds.answer(request).await));
}

/// What the daemon is told of a question beside its answer.
struct Question {
    begun: Instant,
    trace: Option<Trace>,
}

impl Question {
    fn of(request: &Request) -> Self {
        Self {
            begun: Instant::now(),
            trace: Trace::of(&request.envelope),
        }
    }

    fn dealt_with(self, told: &Told) {
        super::report(&Report::Answered {
            trace: self
                .trace
                .map_or_else(String::new, |trace| trace.to_string()),
            outcome: told.outcome,
            read: told.read,
            written: told.written,
            took_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
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
    let sampling = question.sampling.clone().unwrap_or_default();
    let cache_key = question.cache_key.clone();
    let loaded = speaker.batcher.context_length();
    let context = match question.context as usize {
        0 => loaded,
        asked => asked.min(loaded),
    };
    if question.turns.iter().any(|turn| !turn.images.is_empty()) {
        let fault = prompt::PromptError::NotCapable("images").to_fault();
        return refuse(request, fault);
    }
    let language = Arc::clone(&speaker.language);
    let prompt = tokio::task::spawn_blocking(move || read(&language, question, context));
    let (prompt, structure): (Prompt, Option<Structure>) = match prompt.await {
        Ok(Ok(read)) => read,
        Ok(Err(fault)) => return refuse(request, fault),
        Err(_panicked) => return refuse(request, failed()),
    };
    let plan = SamplingPlan::from_request(&sampling);
    let stops = text::stops(prompt.stops, sampling.stop);
    let dropped_turns = prompt.dropped_turns;
    let generation = speaker.batcher.submit(batch::Request {
        id,
        person,
        priority: Priority::try_from(envelope.priority).unwrap_or_default(),
        cache_key,
        prompt: prompt.tokens,
        own: prompt.own,
        shares: &*envelope.purpose == CONVERSATION,
        answer_limit: prompt.answer_limit,
        sampling: plan,
        stops,
        thinking: prompt.thinking,
        calls: prompt.calls,
        structure,
    });
    hand_over(generation, request.stream(), dropped_turns).await
}

/// The question as the loop takes it.
fn read(
    language: &Language,
    question: v1::Generate,
    context: usize,
) -> Result<(Prompt, Option<Structure>), Fault> {
    if !question.tools.is_empty() && !question.format.is_empty() {
        return Err(
            Fault::invalid("An answer is bound to a format or may call tools, not both")
                .with_what_to_do("Leave out one of them."),
        );
    }
    let structure = match question.format.as_str() {
        "" => None,
        format => Some(
            language
                .structure(format)
                .map_err(|error| error.to_fault())?,
        ),
    };
    let asked = Asked {
        tools: question.tools,
        think: question.think,
        effort: question.effort,
        own_turns: usize::try_from(question.character_turns).unwrap_or(0),
    };
    let turns = prompt::turns(&question.turns);
    let prompt = language.prompt_for(&turns, &asked, question.max_tokens, context);
    let prompt = prompt.map_err(|error| error.to_fault())?;
    let thought = prompt::thought_limit(&asked.effort, prompt.answer_limit);
    let structure = structure.map(|structure| structure.think_at_most(thought));
    Ok((prompt, structure))
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
                // It is told when nothing of it is computed any more.
                let freed = generation.cancel().await;
                stream.end(of(Item::End(cancelled(&freed, dropped_turns))));
                return Told {
                    outcome: Outcome::Cancelled,
                    read: freed.prompt_tokens,
                    written: freed.answer_tokens,
                };
            }
        };
        let item = match event {
            Some(Event::Queued(before)) => Item::Queued(before),
            Some(Event::Text(text)) => Item::Text(text),
            Some(Event::Thinking(text)) => Item::Thinking(text),
            Some(Event::Call(call)) => Item::ToolCall(v1::ToolCall {
                id: calls::id(),
                name: call.name,
                arguments: call.arguments,
            }),
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
            Some(Event::TooComplex) => {
                stream.fault(FormatError::TooComplex.to_fault());
                return Told::of(Outcome::Failed);
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

fn cancelled(freed: &batch::Freed, dropped_turns: u32) -> GeneratedEnd {
    GeneratedEnd {
        reason: v1::generated_end::Reason::Cancelled.into(),
        prompt_tokens: freed.prompt_tokens,
        cached_tokens: freed.cached_tokens,
        answer_tokens: freed.answer_tokens,
        dropped_turns,
        steps_after_cancel: freed.steps_after,
        ..GeneratedEnd::default()
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
        steps_after_cancel: 0,
    }
}

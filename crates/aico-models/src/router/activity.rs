//! What models do: the questions that are with them, and what the last hour was like.
//!
//! Bounded, in memory, and without a word of a question or an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1::asked_of_model::Outcome;
use aico_contracts::v1::generated_end::Reason;
use aico_contracts::v1::{self, Envelope, Fault, GeneratedEnd};
use bytes::Bytes;
use tokio::time::Instant;

use crate::clock;

/// From one sample to the next.
pub const EVERY: Duration = Duration::from_secs(5);
/// Samples that are kept: an hour.
const SAMPLES: usize = 720;
/// Questions that are kept.
const REQUESTS: usize = 200;
/// Models whose sums are kept.
const MODELS: usize = 256;

/// The log. Clones are the same.
#[derive(Clone, Default)]
pub struct Activity(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    models: HashMap<ModelId, Stats>,
    requests: VecDeque<Asked>,
    samples: VecDeque<v1::ActivitySample>,
    sampled: Option<Instant>,
    next: u64,
}

/// Sums of one model, and what happened since the last sample.
struct Stats {
    name: String,
    engine: String,
    running: u32,
    waiting: u32,
    totals: v1::AskedTotals,
    first_us: u64,
    /// Tokens that were written, or read where nothing is written, and how long that took.
    paced: u64,
    paced_us: u64,
    since: Window,
    /// When `running` last changed.
    changed: Instant,
    /// Tokens a second in the last sample.
    speed: f32,
    /// Processor time of its process, at the last sample.
    cpu: Option<(u32, Duration)>,
    /// Bytes that another program said it holds of it, and when.
    beside: Option<(u64, Instant)>,
}

#[derive(Default)]
struct Window {
    busy: Duration,
    waiting: u32,
    pieces: u64,
    completed: u32,
    failed: u32,
    first_us: u64,
}

struct Asked {
    number: u64,
    person: Bytes,
    begun: Instant,
    first: Option<Instant>,
    told: v1::AskedOfModel,
}

/// A model that is in memory, at a sample.
pub struct Loaded {
    /// Which.
    pub model: ModelId,
    /// As shown.
    pub name: String,
    /// What runs it; empty: our own engine.
    pub engine: &'static str,
    /// Of its process.
    pub process_id: u32,
    /// Bytes of its memory, if that is known.
    pub memory: Option<u64>,
    /// Processor time that it has used.
    pub cpu: Option<Duration>,
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: u64, time: Duration) -> f32 {
    match time.as_secs_f32() {
        0.0 => 0.0,
        seconds => count as f32 / seconds,
    }
}

impl Stats {
    fn new(name: &str, engine: &str) -> Self {
        Self {
            name: name.to_owned(),
            engine: engine.to_owned(),
            running: 0,
            waiting: 0,
            totals: v1::AskedTotals::default(),
            first_us: 0,
            paced: 0,
            paced_us: 0,
            since: Window::default(),
            changed: clock::now(),
            speed: 0.0,
            cpu: None,
            beside: None,
        }
    }

    /// Counts the time that questions ran up to now.
    fn settle(&mut self) {
        let now = clock::now();
        self.since.busy += (now - self.changed) * self.running;
        self.changed = now;
    }

    fn running(&mut self, more: bool) {
        self.settle();
        match more {
            true => self.running += 1,
            false => self.running = self.running.saturating_sub(1),
        }
    }

    fn waiting(&mut self, more: bool) {
        match more {
            true => self.waiting += 1,
            false => self.waiting = self.waiting.saturating_sub(1),
        }
        self.since.waiting = self.since.waiting.max(self.waiting);
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting == 0
    }

    fn totals(&self) -> v1::AskedTotals {
        let mut totals = self.totals;
        totals.first_token_us = self.first_us.checked_div(totals.completed).unwrap_or(0);
        totals.tokens_per_second = rate(self.paced, Duration::from_micros(self.paced_us));
        totals
    }
}

impl Activity {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question has come for this model.
    #[must_use]
    pub fn begin(&self, model: ModelId, name: &str, engine: &str, asked: &Envelope) -> Ticket {
        let mut log = self.log();
        if log.models.len() >= MODELS {
            log.models.retain(|_, stats| !stats.is_idle());
        }
        let stats = log
            .models
            .entry(model)
            .or_insert_with(|| Stats::new(name, engine));
        stats.running(true);
        let number = log.next;
        log.next += 1;
        if log.requests.len() >= REQUESTS {
            log.requests.pop_front();
        }
        log.requests.push_back(Asked {
            number,
            person: asked.person.clone(),
            begun: clock::now(),
            first: None,
            told: v1::AskedOfModel {
                request: asked.id.to_vec(),
                model: model.to_vec(),
                name: name.to_owned(),
                engine: engine.to_owned(),
                at_unix_ms: now_ms(),
                outcome: Outcome::Running.into(),
                asker: asked.sender.to_string(),
                ..v1::AskedOfModel::default()
            },
        });
        Ticket {
            activity: self.clone(),
            model,
            number,
            begun: clock::now(),
            since: clock::now(),
            waited: Duration::ZERO,
            first: None,
            read: 0,
            waits: false,
            ended: false,
        }
    }

    /// Takes a sample of what happened since the last.
    pub fn sample(&self, available: Option<u64>, loaded: &[Loaded]) {
        let mut log = self.log();
        let now = clock::now();
        let since = log.sampled.map_or(EVERY, |at| now - at);
        log.sampled = Some(now);
        for one in loaded {
            log.models
                .entry(one.model)
                .or_insert_with(|| Stats::new(&one.name, one.engine));
        }
        let mut models = Vec::new();
        for (id, stats) in &mut log.models {
            stats.settle();
            let window = std::mem::take(&mut stats.since);
            stats.since.waiting = stats.waiting;
            stats.speed = rate(window.pieces, since);
            let process = loaded.iter().find(|one| one.model == *id);
            let cpu = process.and_then(|one| Some((one.process_id, one.cpu?)));
            let used = match (stats.cpu, cpu) {
                // Another process counts from nothing.
                (Some((before, from)), Some((after, to))) if before == after => {
                    to.saturating_sub(from)
                }
                _ => Duration::ZERO,
            };
            stats.cpu = cpu;
            let beside = stats.beside.filter(|(_, at)| now - *at < 2 * EVERY);
            let quiet = window.busy.is_zero() && window.completed + window.failed == 0;
            let is_there = process.is_some() || beside.is_some();
            if !is_there && quiet && window.waiting == 0 {
                continue;
            }
            let held = process.and_then(|one| one.memory);
            let of = |time: Duration| time.as_secs_f32() / since.as_secs_f32().max(0.001);
            models.push(v1::ModelSample {
                model: id.to_vec(),
                running: of(window.busy),
                waiting: window.waiting,
                tokens_per_second: stats.speed,
                memory_bytes: held.or(beside.map(|(bytes, _)| bytes)).unwrap_or(0),
                processors: of(used),
                completed: window.completed,
                failed: window.failed,
                first_token_us: window.first_us,
            });
        }
        models.sort_by(|a, b| a.model.cmp(&b.model));
        if log.samples.len() >= SAMPLES {
            log.samples.pop_front();
        }
        log.samples.push_back(v1::ActivitySample {
            at_unix_ms: now_ms(),
            available_bytes: available.unwrap_or(0),
            models,
        });
    }

    /// Another program said that it holds so many bytes of this model. Samples tell it for as long
    /// as somebody looks: nobody asks that program otherwise.
    pub fn held_beside(&self, model: ModelId, name: &str, engine: &str, bytes: u64) {
        let mut log = self.log();
        let stats = log.models.entry(model);
        let stats = stats.or_insert_with(|| Stats::new(name, engine));
        stats.beside = Some((bytes, clock::now()));
    }

    /// Samples that were taken after that, the oldest first.
    #[must_use]
    pub fn samples(&self, after_unix_ms: u64) -> Vec<v1::ActivitySample> {
        let log = self.log();
        let later = |sample: &&v1::ActivitySample| sample.at_unix_ms > after_unix_ms;
        log.samples.iter().filter(later).cloned().collect()
    }

    /// The questions of this person, the latest first.
    #[must_use]
    pub fn requests(&self, person: PersonId) -> Vec<v1::AskedOfModel> {
        let log = self.log();
        let own = log
            .requests
            .iter()
            .rev()
            .filter(|asked| asked.person[..] == person.as_bytes()[..]);
        own.map(|asked| {
            let mut told = asked.told.clone();
            if told.total_us == 0
                && let Some(first) = asked.first
            {
                told.tokens_per_second = rate(u64::from(told.answer_tokens), clock::now() - first);
            } else if told.total_us == 0 {
                let waited = Duration::from_micros(told.waited_us);
                let reading = (clock::now() - asked.begun).saturating_sub(waited);
                told.tokens_per_second = rate(u64::from(told.prompt_tokens), reading);
            }
            told
        })
        .collect()
    }

    /// The models with sums, without what their slots say.
    #[must_use]
    pub fn models(&self) -> Vec<(ModelId, v1::ModelActivity)> {
        let log = self.log();
        let since = log.sampled.map_or(EVERY, |at| clock::now() - at);
        let of = |(id, stats): (&ModelId, &Stats)| {
            // Too short a time says nothing.
            let speed = match since < Duration::from_secs(1) || stats.is_idle() {
                true if stats.is_idle() => 0.0,
                true => stats.speed,
                false => rate(stats.since.pieces, since),
            };
            let told = v1::ModelActivity {
                model: id.to_vec(),
                name: stats.name.clone(),
                engine: stats.engine.clone(),
                running: stats.running,
                waiting: stats.waiting,
                tokens_per_second: speed,
                totals: Some(stats.totals()),
                ..v1::ModelActivity::default()
            };
            (*id, told)
        };
        log.models.iter().map(of).collect()
    }
}

/// One question, from its coming to its end. Dropped without an end, it was cancelled.
pub struct Ticket {
    activity: Activity,
    model: ModelId,
    number: u64,
    begun: Instant,
    /// When it last began to wait.
    since: Instant,
    waited: Duration,
    first: Option<Instant>,
    /// Tokens that were read, where nothing is written.
    read: u32,
    waits: bool,
    ended: bool,
}

impl Ticket {
    fn change(&self, change: impl FnOnce(&mut Stats, Option<&mut Asked>)) {
        let mut log = self.activity.log();
        let Log {
            models, requests, ..
        } = &mut *log;
        let Some(stats) = models.get_mut(&self.model) else {
            return;
        };
        // Their numbers go up by one.
        let front = requests.front().map_or(0, |first| first.number);
        let asked = self.number.checked_sub(front);
        let asked = asked.and_then(|index| requests.get_mut(usize::try_from(index).ok()?));
        change(stats, asked);
    }

    /// It waits for a place.
    pub fn queued(&mut self) {
        let first = !std::mem::replace(&mut self.waits, true);
        let waited = us(self.waited + (clock::now() - self.since));
        self.change(|stats, asked| {
            if first {
                stats.running(false);
                stats.waiting(true);
            }
            if let Some(asked) = asked {
                asked.told.outcome = Outcome::Waiting.into();
                asked.told.waited_us = waited;
            }
        });
    }

    /// It has a place.
    pub fn started(&mut self) {
        if !std::mem::replace(&mut self.waits, false) {
            return;
        }
        self.waited += clock::now() - self.since;
        let waited = us(self.waited);
        self.change(|stats, asked| {
            stats.waiting(false);
            stats.running(true);
            if let Some(asked) = asked {
                asked.told.outcome = Outcome::Running.into();
                asked.told.waited_us = waited;
            }
        });
    }

    /// Others have their turn before it goes on.
    pub fn yielded(&mut self) {
        self.started();
        self.since = clock::now();
        self.queued();
    }

    /// So many tokens more were read, by a model that writes nothing.
    pub fn read(&mut self, tokens: u32) {
        self.started();
        self.read = self.read.saturating_add(tokens);
        self.change(|stats, asked| {
            stats.since.pieces += u64::from(tokens);
            if let Some(asked) = asked {
                let told = &mut asked.told;
                told.prompt_tokens = told.prompt_tokens.saturating_add(tokens);
            }
        });
    }

    /// All is read.
    pub fn done(mut self) {
        self.started();
        self.close(Outcome::Completed, "", None);
    }

    /// It ended so, and what comes of it.
    ///
    /// # Errors
    /// The fault that it ended in.
    pub fn ended<T>(self, with: Result<T, Fault>) -> Result<T, Fault> {
        match &with {
            Ok(_) => self.done(),
            Err(fault) => self.faulted(&fault.code),
        }
        with
    }

    /// It ended in a fault of this code: it went wrong, or was refused.
    pub fn faulted(self, code: &str) {
        match code {
            "model-failed" | "internal" => self.failed(code),
            _ => self.refused(code),
        }
    }

    /// A piece of the answer has come.
    pub fn piece(&mut self) {
        self.started();
        let now = clock::now();
        let first = self.first.is_none();
        let first_us = us(now - self.begun);
        if first {
            self.first = Some(now);
        }
        self.change(|stats, asked| {
            stats.since.pieces += 1;
            if first {
                stats.since.first_us = stats.since.first_us.max(first_us);
            }
            if let Some(asked) = asked {
                asked.told.answer_tokens = asked.told.answer_tokens.saturating_add(1);
                if first {
                    asked.first = Some(now);
                    asked.told.first_token_us = us(now - asked.begun);
                }
            }
        });
    }

    /// The answer is whole, or was cancelled on the way.
    pub fn end(mut self, end: &GeneratedEnd) {
        let outcome = match end.reason() {
            Reason::Length => Outcome::Cut,
            Reason::Cancelled => Outcome::Cancelled,
            Reason::Stop | Reason::Unspecified => Outcome::Completed,
        };
        self.close(outcome, "", Some(end));
    }

    /// It was not answered.
    pub fn refused(mut self, code: &str) {
        self.close(Outcome::Refused, code, None);
    }

    /// It went wrong.
    pub fn failed(mut self, code: &str) {
        self.close(Outcome::Failed, code, None);
    }

    fn close(&mut self, outcome: Outcome, code: &str, end: Option<&GeneratedEnd>) {
        self.ended = true;
        let (begun, first, waits) = (self.begun, self.first, self.waits);
        let (read, waited) = (self.read, self.waited);
        self.change(|stats, asked| {
            match waits {
                true => stats.waiting(false),
                false => stats.running(false),
            }
            let now = clock::now();
            let writing = first.map_or(Duration::ZERO, |first| now - first);
            // One that only reads is as fast as it reads.
            let paced = match read {
                0 => writing,
                _ => (now - begun).saturating_sub(waited),
            };
            let totals = &mut stats.totals;
            match outcome {
                Outcome::Completed | Outcome::Cut => {
                    totals.completed += 1;
                    stats.since.completed += 1;
                    stats.first_us += first.map_or(0, |first| us(first - begun));
                    totals.prompt_tokens += u64::from(read);
                    stats.paced += u64::from(read);
                    stats.paced_us += us(paced);
                }
                Outcome::Cancelled => totals.cancelled += 1,
                Outcome::Refused => totals.refused += 1,
                _ => {
                    totals.failed += 1;
                    stats.since.failed += 1;
                }
            }
            if let (Some(end), Outcome::Completed | Outcome::Cut) = (end, outcome) {
                totals.prompt_tokens += u64::from(end.prompt_tokens);
                totals.cached_tokens += u64::from(end.cached_tokens);
                totals.answer_tokens += u64::from(end.answer_tokens);
                stats.paced += u64::from(end.answer_tokens);
            }
            if let Some(asked) = asked {
                let told = &mut asked.told;
                told.outcome = outcome.into();
                code.clone_into(&mut told.fault);
                told.total_us = us(now - begun).max(1);
                if let Some(end) = end.filter(|end| end.answer_tokens > 0) {
                    told.prompt_tokens = end.prompt_tokens;
                    told.cached_tokens = end.cached_tokens;
                    told.answer_tokens = end.answer_tokens;
                }
                let tokens = match read {
                    0 => told.answer_tokens,
                    read => read,
                };
                told.tokens_per_second = rate(u64::from(tokens), paced);
            }
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            self.close(Outcome::Cancelled, "", None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_by(person: PersonId) -> Envelope {
        Envelope {
            person: person.as_bytes().to_vec().into(),
            ..Envelope::default()
        }
    }

    #[test]
    fn of_a_question_that_is_only_read_it_is_told_how_long_it_waited_and_what_was_read() {
        let activity = Activity::default();
        let person = PersonId::new();
        let mut ticket = activity.begin(ModelId::new(), "m", "transformers", &asked_by(person));
        ticket.queued();
        let second = Duration::from_secs(1);
        clock::advance(second);
        let now = |activity: &Activity| {
            let told = activity.models().remove(0).1;
            (told.running, told.waiting)
        };
        assert_eq!(now(&activity), (0, 1));
        ticket.started();
        assert_eq!(now(&activity), (1, 0));
        clock::advance(second);
        ticket.read(300);
        let running = activity.requests(person).remove(0);
        assert_eq!((running.prompt_tokens, running.answer_tokens), (300, 0));
        assert_eq!(running.outcome(), Outcome::Running);
        // The clock also moves by itself.
        let about = |rate: f32, wanted: f32| rate <= wanted && rate > wanted / 10.0;
        assert!(about(running.tokens_per_second, 300.0));
        // Somebody more urgent has the next two seconds.
        ticket.yielded();
        assert_eq!(now(&activity), (0, 1));
        clock::advance(2 * second);
        ticket.started();
        clock::advance(second);
        ticket.read(100);
        ticket.done();
        assert_eq!(now(&activity), (0, 0));

        let done = activity.requests(person).remove(0);
        assert_eq!(done.outcome(), Outcome::Completed);
        assert!(done.waited_us >= 3_000_000 && done.total_us - done.waited_us >= 2_000_000);
        assert_eq!((done.prompt_tokens, done.answer_tokens), (400, 0));
        assert!(about(done.tokens_per_second, 200.0));
        let totals = activity.models().remove(0).1.totals.unwrap();
        assert_eq!((totals.completed, totals.prompt_tokens), (1, 400));
        assert!(about(totals.tokens_per_second, 200.0));
    }

    #[test]
    fn what_another_program_holds_is_in_the_samples_while_somebody_looks() {
        let (activity, model) = (Activity::default(), ModelId::new());
        let held = || {
            clock::advance(EVERY);
            activity.sample(None, &[]);
            let sample = activity.samples(0).pop().unwrap();
            let models = sample.models.iter();
            models.map(|one| one.memory_bytes).collect::<Vec<_>>()
        };
        assert!(held().is_empty());
        activity.held_beside(model, "m", "ollama", 7);
        assert_eq!(held(), [7]);
        // Nobody looks any more.
        assert!(held().is_empty());
    }

    #[test]
    fn a_question_is_refused_or_fails_or_is_given_up() {
        let (activity, model) = (Activity::default(), ModelId::new());
        for code in ["busy", "model-failed"] {
            let asked = asked_by(PersonId::new());
            activity.begin(model, "m", "", &asked).faulted(code);
        }
        let mut given_up = activity.begin(model, "m", "", &asked_by(PersonId::new()));
        given_up.queued();
        drop(given_up);
        let told = activity.models().remove(0).1;
        assert_eq!((told.running, told.waiting), (0, 0));
        let totals = told.totals.unwrap();
        assert_eq!((totals.refused, totals.failed, totals.cancelled), (1, 1, 1));
    }
}

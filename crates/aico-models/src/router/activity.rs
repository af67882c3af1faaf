//! What models do: the questions that are with them, and what the last hour was like.
//!
//! Bounded, in memory, and without a word of a question or an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::metrics::{FIRST_TOKEN_SECONDS, TOKENS_PER_SECOND};
use aico_contracts::v1::asked_of_model::Outcome;
use aico_contracts::v1::generated_end::Reason;
use aico_contracts::v1::{self, Envelope, Fault, GeneratedEnd};
use bytes::Bytes;
use tokio::time::Instant;

use super::histogram::Histogram;
use crate::clock;

/// From one sample to the next.
pub const EVERY: Duration = Duration::from_secs(5);
/// Samples that are kept: an hour.
const SAMPLES: usize = 720;
/// Questions that are kept.
const REQUESTS: usize = 200;
/// Models whose sums are kept.
const MODELS: usize = 256;

/// What models did and do. Clones are the same.
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
    /// Those that wait before they are with it: for room, or until it is loaded.
    outside: u32,
    totals: v1::AskedTotals,
    first_us: u64,
    /// Seconds to the first token, of all that had one.
    first_tokens: Histogram,
    /// Tokens a second of each whole answer.
    speeds: Histogram,
    /// Processor time of its processes, and times that one of them was ready.
    processor: Duration,
    loads: u64,
    /// Tokens that were written, or read where nothing is written, and how long that took.
    paced: u64,
    paced_us: u64,
    since: Window,
    /// When `running` last changed.
    changed: Instant,
    /// Tokens a second in the last sample.
    speed: f32,
    /// Processor time of its process, as far as it was seen to be.
    cpu: Option<(u32, Duration)>,
    /// It was in memory at the last sample, or has been loaded since.
    in_memory: bool,
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
            outside: 0,
            totals: v1::AskedTotals::default(),
            first_us: 0,
            first_tokens: Histogram::new(&FIRST_TOKEN_SECONDS),
            speeds: Histogram::new(&TOKENS_PER_SECOND),
            processor: Duration::ZERO,
            loads: 0,
            paced: 0,
            paced_us: 0,
            since: Window::default(),
            changed: clock::now(),
            speed: 0.0,
            cpu: None,
            in_memory: false,
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
        self.note_waiting();
    }

    fn waiting_outside(&mut self, count: u32) {
        self.outside = count;
        self.note_waiting();
    }

    fn note_waiting(&mut self) {
        self.since.waiting = self.since.waiting.max(self.all_waiting());
    }

    fn all_waiting(&self) -> u32 {
        self.waiting.saturating_add(self.outside)
    }

    /// Counts the processor time that its process has used up to now; tells how much of it is of
    /// this sample, as far as that is known.
    fn note_processor(&mut self, process: Option<&Loaded>) -> Duration {
        let before = self.cpu;
        let Some((id, now)) = process.map(|one| (one.process_id, one.cpu)) else {
            self.cpu = None;
            return Duration::ZERO;
        };
        let Some(now) = now else {
            // It goes on, though its time can't be read now: what was counted is not counted again.
            self.cpu = before.filter(|(known, _)| *known == id);
            return Duration::ZERO;
        };
        match before {
            Some((known, from)) if known == id => {
                let used = now.saturating_sub(from);
                self.processor += used;
                self.cpu = Some((id, from.max(now)));
                used
            }
            // Another process counts from nothing, and how much of it is of this sample is not
            // known.
            _ => {
                self.processor += now;
                self.cpu = Some((id, now));
                Duration::ZERO
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.all_waiting() == 0
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
        if log.models.len() >= MODELS && !log.models.contains_key(&model) {
            log.models
                .retain(|_, stats| !stats.is_idle() || stats.in_memory);
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
            pieces: 0,
            waits: false,
            counts: true,
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
            stats.since.waiting = stats.all_waiting();
            stats.speed = rate(window.pieces, since);
            let process = loaded.iter().find(|one| one.model == *id);
            let used = stats.note_processor(process);
            let beside = stats.beside.filter(|(_, at)| now - *at < 2 * EVERY);
            let quiet = window.busy.is_zero() && window.completed + window.failed == 0;
            stats.in_memory = process.is_some() || beside.is_some();
            if !stats.in_memory && quiet && window.waiting == 0 {
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

    /// A process has this model in memory, and is ready.
    pub fn loaded(&self, model: ModelId, name: &str, engine: &str) {
        let mut log = self.log();
        let stats = log.models.entry(model);
        let stats = stats.or_insert_with(|| Stats::new(name, engine));
        stats.loads += 1;
        stats.in_memory = true;
    }

    /// So many questions wait for models of our own engine before they are with them, and for no
    /// others.
    pub fn wait_outside(&self, all: &[(ModelId, &str, u32)]) {
        let mut log = self.log();
        for (id, stats) in &mut log.models {
            if !all.iter().any(|(model, ..)| model == id) {
                stats.outside = 0;
            }
        }
        for (model, name, count) in all {
            let stats = log.models.entry(*model);
            let stats = stats.or_insert_with(|| Stats::new(name, ""));
            stats.waiting_outside(*count);
        }
    }

    /// Samples that were taken after that, the oldest first.
    #[must_use]
    pub fn samples(&self, after_unix_ms: u64) -> Vec<v1::ActivitySample> {
        let log = self.log();
        let later = |sample: &&v1::ActivitySample| sample.at_unix_ms > after_unix_ms;
        log.samples.iter().filter(later).cloned().collect()
    }

    /// Forgets who asked what. The sums, which are nobody's, stay.
    pub(crate) fn forget_requests(&self) {
        self.log().requests.clear();
    }

    /// Forgets who this person was, also of questions that go on. What is counted stays.
    pub(super) fn forget(&self, person: PersonId) {
        for asked in &mut self.log().requests {
            if asked.person[..] == person.as_bytes()[..] {
                asked.person = Bytes::new();
            }
        }
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
                waiting: stats.all_waiting(),
                tokens_per_second: speed,
                totals: Some(stats.totals()),
                first_tokens: stats.first_tokens.counts(),
                first_tokens_sum: stats.first_tokens.sum(),
                speeds: stats.speeds.counts(),
                speeds_sum: stats.speeds.sum(),
                processor_us: us(stats.processor),
                loads: stats.loads,
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
    /// Pieces of the answer that came.
    pieces: u32,
    waits: bool,
    /// How it ends is counted.
    counts: bool,
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
        self.pieces = self.pieces.saturating_add(1);
        let until_first = (now - self.begun).as_secs_f64();
        self.change(|stats, asked| {
            stats.since.pieces += 1;
            if first {
                stats.since.first_us = stats.since.first_us.max(first_us);
                stats.first_tokens.observe(until_first);
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

    /// It was taken back before it was answered, and its asker puts it anew: it counts when that one
    /// ends.
    pub fn put_anew(mut self, code: &str) {
        self.counts = false;
        self.close(Outcome::Refused, code, None);
    }

    /// It went wrong.
    pub fn failed(mut self, code: &str) {
        self.close(Outcome::Failed, code, None);
    }

    fn close(&mut self, outcome: Outcome, code: &str, end: Option<&GeneratedEnd>) {
        self.ended = true;
        let (begun, first, waits) = (self.begun, self.first, self.waits);
        let counts = self.counts;
        let (read, waited, pieces) = (self.read, self.waited, self.pieces);
        self.change(|stats, asked| {
            match waits {
                true => stats.waiting(false),
                false => stats.running(false),
            }
            let now = clock::now();
            let writing = first.map_or(Duration::ZERO, |first| now - first);
            let reading = (now - begun).saturating_sub(waited);
            let totals = &mut stats.totals;
            match outcome {
                _ if !counts => {}
                Outcome::Completed | Outcome::Cut => {
                    totals.completed += 1;
                    stats.since.completed += 1;
                    stats.first_us += first.map_or(0, |first| us(first - begun));
                }
                Outcome::Cancelled => totals.cancelled += 1,
                Outcome::Refused => totals.refused += 1,
                _ => {
                    totals.failed += 1;
                    stats.since.failed += 1;
                }
            }
            // What was read and written is so however it ended. Where the engine did not count it,
            // the pieces are what is known.
            let whole = matches!(outcome, Outcome::Completed | Outcome::Cut);
            let written = end.map_or(0, |end| end.answer_tokens);
            totals.answer_tokens += u64::from(if written > 0 { written } else { pieces });
            totals.prompt_tokens += u64::from(read);
            // A prompt is read once there is a first token.
            if let Some(end) = end.filter(|_| whole || first.is_some()) {
                totals.prompt_tokens += u64::from(end.prompt_tokens);
                totals.cached_tokens += u64::from(end.cached_tokens);
            }
            // One token alone has no speed, and of an answer that comes in one piece nobody saw how
            // long it was written.
            let was_seen = pieces > 1 && !writing.is_zero();
            if whole && written > 1 && was_seen {
                let speed = rate(u64::from(written), writing);
                stats.speeds.observe(f64::from(speed));
                stats.paced += u64::from(written);
                stats.paced_us += us(writing);
            }
            // One that only reads is as fast as it reads.
            if whole && read > 0 {
                stats.paced += u64::from(read);
                stats.paced_us += us(reading);
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
                told.tokens_per_second = match read {
                    0 if was_seen => rate(u64::from(told.answer_tokens), writing),
                    0 => 0.0,
                    read => rate(u64::from(read), reading),
                };
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
    fn what_metrics_tell_grows_as_questions_end_and_outlives_who_asked() {
        let (activity, model) = (Activity::default(), ModelId::new());
        let person = PersonId::new();
        let begin = || activity.begin(model, "m", "ollama", &asked_by(person));
        let told = || {
            let told = activity.models().remove(0).1;
            let totals = told.totals.unwrap();
            let tokens = [
                totals.prompt_tokens,
                totals.cached_tokens,
                totals.answer_tokens,
            ];
            (tokens, told)
        };
        let end = |reason: Reason, answer_tokens| GeneratedEnd {
            reason: reason.into(),
            prompt_tokens: 10,
            cached_tokens: 4,
            answer_tokens,
            ..GeneratedEnd::default()
        };
        let mut ticket = begin();
        clock::advance(Duration::from_millis(1500));
        ticket.piece();
        clock::advance(Duration::from_secs(2));
        ticket.piece();
        ticket.end(&end(Reason::Stop, 20));
        let (tokens, first) = told();
        assert_eq!(tokens, [10, 4, 20]);
        let at = |bounds: &[f64], bound: f64| {
            let found = bounds.iter().position(|it| (it - bound).abs() < 1e-9);
            found.unwrap()
        };
        assert_eq!(first.first_tokens[at(&FIRST_TOKEN_SECONDS, 2.5)], 1);
        assert!((first.first_tokens_sum - 1.5).abs() < 1.0);
        assert_eq!(first.speeds[at(&TOKENS_PER_SECOND, 10.0)], 1);

        // Given up on the way: by the engine's figures, and by the pieces where it has none.
        for (end, tokens) in [
            (end(Reason::Cancelled, 7), [20, 8, 27]),
            (
                GeneratedEnd {
                    reason: Reason::Cancelled.into(),
                    ..GeneratedEnd::default()
                },
                [20, 8, 28],
            ),
        ] {
            let mut ticket = begin();
            ticket.piece();
            ticket.end(&end);
            assert_eq!(told().0, tokens);
        }
        // Before its first token nobody knows how much of it was read.
        begin().end(&end(Reason::Cancelled, 0));
        let mut broken = begin();
        broken.piece();
        broken.failed("engine-cut-off");
        let (tokens, last) = told();
        assert_eq!(tokens, [20, 8, 29]);
        let count = |counts: &[u64]| counts.iter().sum::<u64>();
        assert_eq!(
            (count(&last.first_tokens), count(&last.speeds)),
            (4, 1),
            "whole answers have a speed"
        );

        // Another program writes it and hands it over as one piece.
        let mean = last.totals.unwrap().tokens_per_second;
        let mut whole = begin();
        clock::advance(Duration::from_secs(3));
        whole.piece();
        clock::advance(Duration::from_millis(1));
        whole.end(&end(Reason::Stop, 300));
        let (tokens, last) = told();
        assert_eq!(tokens, [30, 12, 329]);
        assert_eq!((count(&last.first_tokens), count(&last.speeds)), (5, 1));
        assert!((last.totals.unwrap().tokens_per_second - mean).abs() < 1e-6);
        let row = activity.requests(person).remove(0);
        assert_eq!(row.answer_tokens, 300);
        assert!(row.tokens_per_second.abs() < 1e-6, "nobody saw it");

        activity.forget_requests();
        assert!(activity.requests(person).is_empty());
        assert_eq!(told().0, tokens);
    }

    #[test]
    fn processor_time_and_loads_add_up_over_processes() {
        let (activity, model) = (Activity::default(), ModelId::new());
        for (process_id, seconds) in [
            (1, Some(2)),
            (1, Some(3)),
            (2, Some(1)),
            // Its time can't be read, and then what is read is late.
            (2, None),
            (2, Some(4)),
            (2, Some(3)),
            (2, Some(4)),
            // Another one, of which nothing can be read yet.
            (3, None),
            (3, Some(1)),
        ] {
            let loaded = Loaded {
                model,
                name: "m".into(),
                engine: "",
                process_id,
                memory: None,
                cpu: seconds.map(Duration::from_secs),
            };
            activity.sample(None, &[loaded]);
        }
        activity.sample(None, &[]);
        activity.loaded(model, "m", "");
        activity.loaded(model, "m", "");
        let told = activity.models().remove(0).1;
        assert_eq!((told.processor_us, told.loads), (8_000_000, 2));
    }

    #[test]
    fn of_many_models_those_begin_anew_that_rest_and_are_not_in_memory() {
        let (activity, loaded, sampled) = (Activity::default(), ModelId::new(), ModelId::new());
        let inside = [Loaded {
            model: sampled,
            name: "sampled".into(),
            engine: "",
            process_id: 1,
            memory: None,
            cpu: None,
        }];
        activity.sample(None, &inside);
        activity.loaded(loaded, "loaded", "");
        let begin = |model| activity.begin(model, "m", "", &asked_by(PersonId::new()));
        let asked = begin(ModelId::new());
        let mut last = ModelId::new();
        while activity.models().len() < MODELS {
            last = ModelId::new();
            begin(last).done();
        }
        let known = || activity.models().into_iter().map(|(id, _)| id);
        begin(last).done();
        assert_eq!(known().count(), MODELS, "there is no new one");
        let new = ModelId::new();
        begin(new).done();
        let mut left: Vec<_> = known().collect();
        let mut wanted = [loaded, sampled, asked.model, new];
        left.sort();
        wanted.sort();
        assert_eq!(left, wanted);
    }

    #[test]
    fn who_waits_before_there_is_a_model_is_counted_with_those_in_its_queue() {
        let (activity, model) = (Activity::default(), ModelId::new());
        let waiting = || activity.models().remove(0).1.waiting;
        activity.wait_outside(&[(model, "m", 2)]);
        let mut ticket = activity.begin(model, "m", "", &asked_by(PersonId::new()));
        ticket.queued();
        assert_eq!(waiting(), 3);
        activity.wait_outside(&[(ModelId::new(), "other", 1)]);
        activity.sample(None, &[]);
        let sample = activity.samples(0).pop().unwrap();
        let most = sample.models.iter().find(|one| one.model == model.to_vec());
        assert_eq!(most.unwrap().waiting, 3, "the most since the sample before");
        activity.wait_outside(&[]);
        drop(ticket);
        let told = activity.models();
        assert!(told.iter().all(|(_, one)| one.waiting == 0));
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

    #[test]
    fn a_question_that_is_put_anew_counts_once() {
        let (activity, model, person) = (Activity::default(), ModelId::new(), PersonId::new());
        let begin = || activity.begin(model, "m", "", &asked_by(person));
        let mut taken_back = begin();
        taken_back.queued();
        taken_back.put_anew("model-changed");
        let told = activity.models().remove(0).1;
        assert_eq!((told.running, told.waiting), (0, 0));
        assert_eq!(told.totals.unwrap(), v1::AskedTotals::default());
        let row = activity.requests(person).remove(0);
        assert_eq!(
            (row.outcome(), &*row.fault),
            (Outcome::Refused, "model-changed")
        );
        begin().done();
        let totals = activity.models().remove(0).1.totals.unwrap();
        assert_eq!((totals.completed, totals.refused), (1, 0));
    }

    #[test]
    fn of_a_person_who_is_forgotten_nobody_can_tell_what_they_asked() {
        let (activity, model) = (Activity::default(), ModelId::new());
        let (gone, other) = (PersonId::new(), PersonId::new());
        let begin = |person| activity.begin(model, "m", "", &asked_by(person));
        let running = begin(gone);
        begin(other).done();
        activity.forget(gone);
        // It goes on, and its row with it.
        running.failed("internal");
        assert!(activity.requests(gone).is_empty());
        let rows = activity.requests(other);
        let outcomes: Vec<_> = rows.iter().map(v1::AskedOfModel::outcome).collect();
        assert_eq!(outcomes, [Outcome::Completed]);
        let log = activity.log();
        let kept: Vec<_> = log
            .requests
            .iter()
            .map(|asked| asked.person.len())
            .collect();
        assert_eq!(kept, [0, 16]);
        drop(log);
        let totals = activity.models().remove(0).1.totals.unwrap();
        assert_eq!((totals.completed, totals.failed), (1, 1));
    }
}

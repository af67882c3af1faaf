//! The thread that writes: it takes all that waits, makes it durable with one sync, and answers
//! everyone. Who publishes hands over and goes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aico_contracts::ids::PersonId;
use parking_lot::{Condvar, Mutex};

use super::error::{JournalError, JournalFault};
use super::message::{Message, Receipt};
use super::shared::{Shared, View};
use super::store::Store;
use super::upkeep::Retention;

/// Most messages and bytes that one sync makes durable.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes that wait. More is refused as busy.
const WAITING_BYTES: usize = 32 * 1024 * 1024;
/// How often marks and cursors are noted, and files looked at.
const UPKEEP: Duration = Duration::from_secs(1);

/// Told once what became of a message.
pub(crate) type Done = Box<dyn FnOnce(Result<Receipt, JournalFault>) + Send>;

/// What waits for the thread.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<(Message, Option<Done>)>,
    bytes: usize,
    erased: Vec<PersonId>,
    locked: Vec<PersonId>,
    closing: bool,
    /// The thread gathers: wake it when so many wait.
    wanted: usize,
}

#[derive(Default)]
pub(crate) struct Intake {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

impl Intake {
    /// Hands a message over; `done` is called later, or with the refusal now. Never waits.
    pub(crate) fn hand_over(&self, message: Message, done: Option<Done>) {
        let fault = {
            let mut waiting = self.waiting.lock();
            if waiting.closing {
                JournalFault::Locked
            } else if waiting.bytes + message.size() > WAITING_BYTES {
                JournalFault::Busy
            } else {
                waiting.bytes += message.size();
                waiting.messages.push_back((message, done));
                let count = waiting.messages.len();
                let wake = count == 1 || count == waiting.wanted;
                drop(waiting);
                // The thread takes all that waits: it needs to be woken for the first only.
                if wake {
                    self.more.notify_one();
                }
                return;
            }
        };
        if let Some(done) = done {
            done(Err(fault));
        }
    }

    pub(crate) fn forget(&self, person: PersonId) {
        self.waiting.lock().erased.push(person);
        self.more.notify_one();
    }

    pub(crate) fn lock(&self, person: PersonId) {
        self.waiting.lock().locked.push(person);
        self.more.notify_one();
    }

    /// Takes no more; the thread writes what waits and ends.
    pub(crate) fn close(&self) {
        self.waiting.lock().closing = true;
        self.more.notify_one();
    }

    /// Messages that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().messages.len()
    }
}

/// How the last commit went.
#[derive(Clone, Copy, Default)]
struct Pace {
    /// How many messages it was for.
    together: usize,
    /// How long those who come a little later are waited for: half of what it took.
    moment: Duration,
}

/// Longest moment.
const MOMENT: Duration = Duration::from_millis(1);

/// What the thread took out of the intake.
struct Work {
    messages: Vec<Message>,
    done: Vec<Option<Done>>,
    erased: Vec<PersonId>,
    locked: Vec<PersonId>,
    closing: bool,
}

impl Intake {
    /// Waits for something to do, at most until upkeep is due. When many came together the last
    /// time, those who were answered publish again about now: a moment is given to them, so that
    /// one sync is for all. Who publishes alone never waits for others.
    fn take(&self, pace: Pace) -> Work {
        let mut waiting = self.waiting.lock();
        if waiting.messages.is_empty()
            && waiting.erased.is_empty()
            && waiting.locked.is_empty()
            && !waiting.closing
        {
            self.more.wait_for(&mut waiting, UPKEEP);
        }
        let until = Instant::now() + pace.moment;
        waiting.wanted = pace.together;
        while (1..pace.together).contains(&waiting.messages.len()) && !waiting.closing {
            if self.more.wait_until(&mut waiting, until).timed_out() {
                break;
            }
        }
        waiting.wanted = 0;
        let mut work = Work {
            messages: Vec::new(),
            done: Vec::new(),
            erased: std::mem::take(&mut waiting.erased),
            locked: std::mem::take(&mut waiting.locked),
            closing: waiting.closing,
        };
        let mut bytes = 0;
        while work.messages.len() < BATCH && bytes < BATCH_BYTES {
            let Some((message, done)) = waiting.messages.pop_front() else {
                break;
            };
            bytes += message.size();
            work.messages.push(message);
            work.done.push(done);
        }
        waiting.bytes -= bytes;
        work
    }
}

/// The thread's work, until the intake is closed and empty. Gives back how it ended.
pub(crate) fn run(
    mut store: Store,
    shared: &Arc<Shared>,
    intake: &Intake,
    retention: Retention,
) -> Result<(), JournalError> {
    let (mut upkept, mut noted) = (Instant::now(), store.last);
    let mut pace = Pace::default();
    loop {
        let work = intake.take(pace);
        for person in &work.erased {
            store.forget(*person);
        }
        for person in &work.locked {
            store.lock(*person);
        }
        let is_empty = work.messages.is_empty();
        if !is_empty {
            let (begun, together) = (Instant::now(), work.messages.len());
            let moment = commit(&mut store, shared, work.messages, work.done, begun);
            pace = Pace { together, moment };
        } else if work.closing {
            break;
        }
        let long = store.current.durable_len >= retention.file_bytes();
        if long || upkept.elapsed() >= UPKEEP {
            upkept = Instant::now();
            upkeep(&mut store, shared, retention, &mut noted);
        }
    }
    shared.closed.cancel();
    let cursors = shared.cursors();
    let told = store.note(&cursors);
    store.close().and(told)
}

/// Commits and answers; tells the moment for which the next ones are waited for.
fn commit(
    store: &mut Store,
    shared: &Shared,
    batch: Vec<Message>,
    done: Vec<Option<Done>>,
    begun: Instant,
) -> Duration {
    let followed = shared.followers.load(std::sync::atomic::Ordering::Acquire) > 0;
    let (before, epoch) = (store.last, store.epoch());
    let committed = store.commit(&batch, followed);
    if store.epoch() != epoch {
        shared.set_view(View::of(store));
    }
    let moment = (begun.elapsed() / 2).min(MOMENT);
    let counts = &shared.counts;
    if store.last > before {
        Shared::count(&counts.commits, 1);
        Shared::count(&counts.kept, store.last - before);
        shared.publish(committed.kept, store.last);
    }
    // Counted before anybody is answered: who has the answer finds it in the figures.
    let outcomes = || committed.outcomes.iter();
    let repeated = outcomes().filter(|outcome| outcome.as_ref().is_ok_and(|it| it.repeated));
    Shared::count(&counts.repeated, repeated.count() as u64);
    let refused = outcomes().filter(|outcome| outcome.is_err());
    Shared::count(&counts.refused, refused.count() as u64);
    for (outcome, done) in committed.outcomes.into_iter().zip(done) {
        if let Some(done) = done {
            done(outcome);
        }
    }
    moment
}

/// Failures here lose nothing that was acknowledged; they are told and tried again.
fn upkeep(store: &mut Store, shared: &Shared, retention: Retention, noted: &mut u64) {
    let now_s = now_s();
    let changed = store.rotate(retention, now_s).map(|new| (new, 0));
    let changed = changed.and_then(|(new, _)| Ok((new, store.retain(retention, now_s)?)));
    match changed {
        Ok((false, 0)) => {}
        Ok((_, gone)) => {
            if gone > 0 {
                tracing::info!(
                    files = gone,
                    "Files of the bus's journal are past their time."
                );
            }
            shared.set_view(View::of(store));
        }
        Err(error) => {
            tracing::warn!(error = %error, "The bus's journal could not be tidied.");
            shared.set_view(View::of(store));
        }
    }
    let cursors = shared.cursors();
    if store.last == *noted && cursors.is_empty() {
        return;
    }
    match store.note(&cursors) {
        Ok(()) => {
            *noted = store.last;
            shared.noted(&cursors);
        }
        Err(error) => tracing::warn!(error = %error, "The bus's journal could not be noted."),
    }
}

pub(crate) fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

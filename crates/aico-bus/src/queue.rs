//! A subscriber's own bounded queue. A publisher never waits for it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use aico_contracts::v1::Envelope;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::BusError;
use crate::parcel::Parcel;

/// Bounds of a subscriber's queue. When either is reached the oldest message is dropped; the
/// newest is always kept, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Most waiting messages.
    pub messages: usize,
    /// Most waiting bytes: payload, topic, and 256 for each message.
    pub bytes: usize,
}

impl Default for Queue {
    /// 1,024 messages, 4 MiB.
    fn default() -> Self {
        Self {
            messages: 1024,
            bytes: 4 * 1024 * 1024,
        }
    }
}

impl Queue {
    /// These bounds; at least one message.
    #[must_use]
    pub fn new(messages: usize, bytes: usize) -> Self {
        Self {
            messages: messages.max(1),
            bytes,
        }
    }
}

/// What a subscriber receives.
#[derive(Clone)]
pub enum Delivery {
    /// A message.
    Message(Arc<Envelope>),
    /// This many messages were dropped here because the queue was full.
    Gap {
        /// How many.
        missed: u64,
    },
    /// The link to the daemon was lost and made again: what was published on the pattern
    /// meanwhile did not come here, and nobody knows how much. Only over a link that is
    /// [kept](crate::link::keep()).
    Interrupted {
        /// The daemon is another run: its epoch is new, and sequences count from 1.
        restarted: bool,
    },
}

/// Content-free: an envelope holds what people say.
impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(envelope) => write!(f, "Message({})", envelope.topic),
            Self::Gap { missed } => write!(f, "Gap({missed})"),
            Self::Interrupted { restarted } => write!(f, "Interrupted({restarted})"),
        }
    }
}

/// How many messages a subscriber takes out of its queue at once.
const BATCH: usize = 64;
/// Past this many bytes a batch ends earlier.
const BATCH_BYTES: usize = 64 * 1024;

/// How often a subscriber that finds nothing lets others run and looks again before it sleeps: some
/// ten microseconds after a message. Waking a sleeper costs the publisher a system call, and in a
/// virtual machine an exit of it: more than all the rest of a message.
const LINGER: u8 = 250;

struct State {
    items: VecDeque<Parcel>,
    bytes: usize,
    /// Dropped and not yet told.
    missed: u64,
    /// Dropped since the beginning.
    missed_in_all: u64,
    /// What a link has to tell, oldest first: how many of the waiting messages came before.
    marks: VecDeque<(usize, Mark)>,
    waker: Option<Waker>,
    closed: bool,
}

/// Something between two messages.
#[derive(Clone, Copy)]
enum Mark {
    /// So many were dropped at the other end.
    Gap(u64),
    /// The link was lost and made again; whether to another run of the daemon.
    Break(bool),
}

impl Mark {
    /// Both, when nothing lies between them. After a break nobody knows how much is missing.
    fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Gap(one), Self::Gap(other)) => Self::Gap(one + other),
            (Self::Break(one), Self::Break(other)) => Self::Break(one || other),
            (Self::Break(one), Self::Gap(_)) | (Self::Gap(_), Self::Break(one)) => Self::Break(one),
        }
    }
}

impl State {
    /// So many of the oldest messages left. Marks with nothing between them become one.
    fn pass(&mut self, count: usize) {
        for (before, _) in &mut self.marks {
            *before = before.saturating_sub(count);
        }
        while let [(0, first), (0, second), ..] = self.marks.make_contiguous() {
            *second = first.and(*second);
            self.marks.pop_front();
        }
    }
}

/// The queue between the bus and one subscriber.
pub(crate) struct Mailbox {
    limits: Queue,
    state: Mutex<State>,
    /// Something came since it was last found empty: who looks again and again asks here, and
    /// leaves the lock to the publisher.
    news: AtomicBool,
}

/// What a push did.
pub(crate) struct Pushed {
    /// The subscriber sleeps: wake it, once no lock is held.
    pub(crate) waker: Option<Waker>,
    pub(crate) dropped: u64,
}

impl Mailbox {
    pub(crate) fn new(limits: Queue) -> Arc<Self> {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            missed: 0,
            missed_in_all: 0,
            marks: VecDeque::new(),
            waker: None,
            closed: false,
        };
        Arc::new(Self {
            limits,
            state: Mutex::new(state),
            news: AtomicBool::new(false),
        })
    }

    /// Called under the lock, after something was put in.
    fn tell(&self, state: &mut State) -> Option<Waker> {
        // Written only when it changes: it lies where the other thread reads.
        if !self.news.load(Ordering::Relaxed) {
            self.news.store(true, Ordering::Release);
        }
        state.waker.take()
    }

    pub(crate) fn push(&self, parcel: Parcel) -> Pushed {
        let size = parcel.size();
        let mut dropped = Vec::new();
        let mut state = self.state.lock();
        if state.closed {
            return Pushed {
                waker: None,
                dropped: 0,
            };
        }
        while !state.items.is_empty()
            && (state.items.len() >= self.limits.messages || state.bytes + size > self.limits.bytes)
        {
            if let Some(oldest) = state.items.pop_front() {
                state.bytes -= oldest.size();
                // Freed after the lock: the last owner of a payload pays for it.
                dropped.push(oldest);
            }
        }
        if !state.marks.is_empty() {
            state.pass(dropped.len());
        }
        let count = dropped.len() as u64;
        state.missed += count;
        state.missed_in_all += count;
        state.bytes += size;
        state.items.push_back(parcel);
        Pushed {
            waker: self.tell(&mut state),
            dropped: count,
        }
    }

    /// Tells of messages that were dropped at the other end of a link, after what waits now.
    pub(crate) fn push_gap(&self, missed: u64) {
        self.state.lock().missed_in_all += missed;
        self.push_mark(Mark::Gap(missed));
    }

    /// Tells that the link was lost after what waits now, and made again.
    pub(crate) fn push_break(&self, restarted: bool) {
        self.push_mark(Mark::Break(restarted));
    }

    fn push_mark(&self, mark: Mark) {
        let mut state = self.state.lock();
        let before = state.items.len();
        match state.marks.back_mut() {
            // Nothing came in between: one is enough.
            Some((last, known)) if *last == before => *known = known.and(mark),
            _ => state.marks.push_back((before, mark)),
        }
        let waker = self.tell(&mut state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// No more messages; those that wait can still be read.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waker = self.tell(&mut state);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waiting messages, waiting bytes, dropped since the beginning.
    pub(crate) fn load(&self) -> (usize, usize, u64) {
        let state = self.state.lock();
        (state.items.len(), state.bytes, state.missed_in_all)
    }
}

/// Called when a subscriber took this many bytes out of its queue; gives credit to the peer.
pub(crate) type Consumed = Box<dyn FnMut(usize) + Send>;

/// What the link needs of a delivery: the parcel.
pub(crate) enum Taken {
    Parcel(Parcel),
    Gap(u64),
    Break(bool),
}

/// A running subscription. Dropping it ends it.
pub struct Subscription {
    mailbox: Arc<Mailbox>,
    batch: VecDeque<Parcel>,
    consumed: Option<Consumed>,
    confirmation: Option<watch::Receiver<Option<Result<(), BusError>>>>,
    /// Ends the subscription at the bus.
    _guard: Guard,
    /// How often it found nothing since the last message.
    idle_polls: u8,
}

/// Runs a function when dropped.
pub(crate) struct Guard(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Guard {
    pub(crate) fn new(run: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(run)))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run();
        }
    }
}

impl Subscription {
    pub(crate) fn new(mailbox: Arc<Mailbox>, guard: Guard) -> Self {
        Self {
            mailbox,
            batch: VecDeque::new(),
            consumed: None,
            confirmation: None,
            idle_polls: 0,
            _guard: guard,
        }
    }

    pub(crate) fn over_link(
        mailbox: Arc<Mailbox>,
        guard: Guard,
        consumed: Consumed,
        confirmation: watch::Receiver<Option<Result<(), BusError>>>,
    ) -> Self {
        let mut subscription = Self::new(mailbox, guard);
        subscription.consumed = Some(consumed);
        subscription.confirmation = Some(confirmation);
        subscription
    }

    /// The next message or gap; `None` when the subscription or the bus has ended.
    pub async fn recv(&mut self) -> Option<Delivery> {
        poll_fn(|context| self.poll_delivery(context)).await
    }

    /// The next message or gap if one is there.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        match self.poll_delivery(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(delivery) => delivery,
            Poll::Pending => None,
        }
    }

    /// Waits until the subscription stands at the daemon. Inside the daemon it stands at once; over
    /// a link, what is published before this returns may not be seen.
    ///
    /// # Errors
    /// When the policy refused it or the link ended.
    pub async fn ready(&mut self) -> Result<(), BusError> {
        wait_confirmed(self.confirmation.as_mut()).await
    }

    fn poll_delivery(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll_taken(context).map(|taken| {
            taken.map(|taken| match taken {
                Taken::Parcel(parcel) => Delivery::Message(parcel.envelope),
                Taken::Gap(missed) => Delivery::Gap { missed },
                Taken::Break(restarted) => Delivery::Interrupted { restarted },
            })
        })
    }

    /// The next parcel, for a pump that passes it on.
    pub(crate) async fn take(&mut self) -> Option<Taken> {
        poll_fn(|context| self.poll_taken(context)).await
    }

    /// The next parcel if one is there already.
    pub(crate) fn try_take(&mut self) -> Option<Taken> {
        match self.poll_taken(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => taken,
            Poll::Pending => None,
        }
    }

    fn poll_taken(&mut self, context: &mut Context<'_>) -> Poll<Option<Taken>> {
        if self.batch.is_empty() {
            if self.idle_polls < LINGER && !self.mailbox.news.load(Ordering::Acquire) {
                self.idle_polls += 1;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut state = self.mailbox.state.lock();
            if state.missed > 0 {
                // The dropped ones lie between the last batch and what waits now.
                return Poll::Ready(Some(Taken::Gap(std::mem::take(&mut state.missed))));
            }
            let most = match state.marks.front() {
                None => BATCH,
                Some((0, mark)) => {
                    let taken = match *mark {
                        Mark::Gap(missed) => Taken::Gap(missed),
                        Mark::Break(restarted) => Taken::Break(restarted),
                    };
                    state.marks.pop_front();
                    return Poll::Ready(Some(taken));
                }
                Some((before, _)) => BATCH.min(*before),
            };
            let mut bytes = 0;
            while self.batch.len() < most && bytes < BATCH_BYTES {
                let Some(parcel) = state.items.pop_front() else {
                    break;
                };
                bytes += parcel.size();
                self.batch.push_back(parcel);
            }
            state.bytes -= bytes;
            if !state.marks.is_empty() {
                state.pass(self.batch.len());
            }
            if self.batch.is_empty() {
                if state.closed {
                    return Poll::Ready(None);
                }
                self.mailbox.news.store(false, Ordering::Relaxed);
                if self.idle_polls < LINGER {
                    self.idle_polls += 1;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if !state
                    .waker
                    .as_ref()
                    .is_some_and(|known| known.will_wake(context.waker()))
                {
                    state.waker = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
        }
        let Some(parcel) = self.batch.pop_front() else {
            return Poll::Pending;
        };
        self.idle_polls = 0;
        if let Some(consumed) = &mut self.consumed {
            consumed(parcel.size());
        }
        Poll::Ready(Some(Taken::Parcel(parcel)))
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll_delivery(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

pub(crate) async fn wait_confirmed(
    confirmation: Option<&mut watch::Receiver<Option<Result<(), BusError>>>>,
) -> Result<(), BusError> {
    let Some(confirmation) = confirmation else {
        return Ok(());
    };
    match confirmation.wait_for(Option::is_some).await {
        Ok(answer) => answer.clone().unwrap_or(Err(BusError::Closed)),
        Err(_) => Err(BusError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(number: u64) -> Parcel {
        Parcel::new(Envelope {
            sequence: number,
            ..Envelope::default()
        })
    }

    fn told(subscription: &mut Subscription) -> Vec<String> {
        let mut all = Vec::new();
        // Once more: it may ask to be polled again.
        for _ in 0..2 {
            while let Some(delivery) = subscription.try_recv() {
                all.push(match delivery {
                    Delivery::Message(envelope) => envelope.sequence.to_string(),
                    other => format!("{other:?}"),
                });
            }
        }
        all
    }

    #[test]
    fn a_break_is_told_between_what_came_before_and_after_it() {
        let mailbox = Mailbox::new(Queue::new(4, usize::MAX));
        let mut subscription = Subscription::new(mailbox.clone(), Guard::new(|| ()));
        mailbox.push(parcel(1));
        mailbox.push(parcel(2));
        mailbox.push_break(false);
        // Nothing came between: one of them, which knows of both.
        mailbox.push_break(true);
        mailbox.push(parcel(3));
        mailbox.push_break(false);
        let expected = ["1", "2", "Interrupted(true)", "3", "Interrupted(false)"];
        assert_eq!(told(&mut subscription), expected);
        // The oldest are dropped, and the break stays where it was.
        for number in 4..=6 {
            mailbox.push(parcel(number));
        }
        mailbox.push_break(true);
        for number in 7..=9 {
            mailbox.push(parcel(number));
        }
        let expected = ["Gap(2)", "6", "Interrupted(true)", "7", "8", "9"];
        assert_eq!(told(&mut subscription), expected);
        for number in 1..=9 {
            mailbox.push(parcel(number));
            mailbox.push_break(false);
        }
        mailbox.close();
        // Breaks whose messages are all gone are one.
        let all = told(&mut subscription);
        assert_eq!(all[..3], ["Gap(5)", "Interrupted(false)", "6"]);
    }

    #[test]
    fn a_gap_of_the_other_end_is_told_after_what_came_before_it() {
        let mailbox = Mailbox::new(Queue::default());
        let mut subscription = Subscription::new(mailbox.clone(), Guard::new(|| ()));
        mailbox.push(parcel(1));
        mailbox.push_gap(2);
        mailbox.push_gap(1);
        mailbox.push(parcel(5));
        mailbox.push_break(true);
        mailbox.push_gap(4);
        mailbox.push(parcel(7));
        let expected = ["1", "Gap(3)", "5", "Interrupted(true)", "7"];
        assert_eq!(told(&mut subscription), expected);
        assert_eq!(mailbox.load().2, 7);
    }
}

//! The member's end of one who follows: what came and was not handed out yet, and the place after
//! which it goes on over the next link.

use std::collections::VecDeque;

use aico_contracts::v1::control::{self, follow, skipped};
use aico_contracts::v1::{Empty, Envelope, Fault};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

use super::receipts::{place, read_place};
use crate::error::BusError;
use crate::follow::Followed;
use crate::journal::{JournalFault, Place, Skipped, Start, Why};
use crate::queue::Queue;

/// Room for what is told of missing messages, beside the messages that credit allows.
const NOTICES: usize = 64;

/// A refusal by the daemon that is not the journal's own keeps its words.
pub(super) fn read_fault(fault: &Fault) -> JournalFault {
    JournalFault::from_fault(fault).unwrap_or_else(|| JournalFault::Failed {
        reason: fault.title.clone(),
    })
}

/// Why the daemon ended or refused one who follows.
pub(super) fn read_refusal(topic: String, refusal: Fault) -> BusError {
    match JournalFault::from_fault(&refusal) {
        Some(fault) => BusError::Journal(fault),
        None => BusError::RefusedByPeer {
            topic,
            reason: refusal.title,
        },
    }
}

enum Item {
    Told(Followed),
    /// Whatever is up to here came before, or is of no concern.
    UpTo(Place),
}

struct State {
    items: VecDeque<Item>,
    /// Everything up to here was handed out, or is of no concern.
    done: Option<Place>,
    /// What was handed out last, when it was that something is missing: over the next link it is
    /// told again from the same place, and once is enough.
    told: Option<Skipped>,
    /// What the follower is done with, so that it can be said again.
    acknowledged: Option<u64>,
    /// The place that was asked for over this link.
    asked: Option<Place>,
    /// The daemon has said after which place it begins. Before that nobody knows of which journal
    /// the sequences are.
    stands: bool,
    /// Where it goes on instead, because that place is not of this journal, until the follower
    /// has heard of it. Till then what it acknowledges is of the other journal.
    instead: Option<Place>,
    received: u64,
    next: Place,
    ended: bool,
}

/// One who follows, between the link's reader and its user.
pub(crate) struct Target {
    start: Start,
    most: usize,
    state: Mutex<State>,
    more: Notify,
    head: watch::Sender<Option<Place>>,
}

impl Target {
    pub(super) fn new(start: Start, queue: Queue) -> Arc<Self> {
        let nowhere = Place {
            epoch: [0; 16],
            sequence: 0,
        };
        let done = match start {
            Start::After(place) => Some(place),
            _ => None,
        };
        Arc::new(Self {
            start,
            most: queue.messages.saturating_add(NOTICES),
            state: Mutex::new(State {
                items: VecDeque::new(),
                done,
                told: None,
                acknowledged: None,
                asked: None,
                stands: false,
                instead: None,
                received: 0,
                next: nowhere,
                ended: false,
            }),
            more: Notify::new(),
            head: watch::Sender::new(None),
        })
    }

    /// Where to begin over a new link: after what was handed out last. What came over the old one
    /// and was not is forgotten, and comes again.
    pub(super) fn begin(&self) -> (Option<follow::Start>, Option<control::Place>) {
        let mut state = self.state.lock();
        state.items.clear();
        state.received = 0;
        state.instead = None;
        state.stands = false;
        state.asked = state.done;
        let resume = state.done.map(place);
        match (&self.start, resume) {
            (Start::Cursor(_), resume) => (Some(said_start(&self.start)), resume),
            (_, Some(resume)) => (Some(follow::Start::After(resume)), None),
            (start, None) => (Some(said_start(start)), None),
        }
    }

    /// It stands at the daemon, after this place. Gives back what is to be acknowledged again.
    pub(super) fn stands(&self, from: Option<&control::Place>) -> Option<u64> {
        let mut state = self.state.lock();
        state.stands = true;
        let from = from.and_then(read_place)?;
        match state.asked {
            Some(asked) if asked == from => state.acknowledged,
            Some(_) => {
                state.instead = Some(from);
                state.acknowledged = None;
                None
            }
            None => {
                state.done = Some(from);
                None
            }
        }
    }

    /// `Err`: the daemon sent more than there was credit for.
    pub(super) fn deliver(&self, envelope: Envelope) -> Result<(), ()> {
        let mut state = self.state.lock();
        state.received += 1;
        if let Some(place) = place_of(&envelope) {
            state.next = Place {
                sequence: place.sequence + 1,
                ..place
            };
        }
        self.push(&mut state, Followed::Message(Arc::new(envelope)))
    }

    pub(super) fn skipped(&self, told: &control::Skipped) -> Result<(), ()> {
        let next = told.next.as_ref().and_then(read_place).ok_or(())?;
        let why = match told.why() {
            skipped::Why::Expired => Why::Expired,
            skipped::Why::OtherEpoch => Why::OtherEpoch,
            skipped::Why::Locked => Why::Locked,
            skipped::Why::Damaged | skipped::Why::Unspecified => Why::Damaged,
        };
        let skipped = Skipped {
            why,
            missed: told.missed,
            next,
        };
        self.push(&mut self.state.lock(), Followed::Skipped(skipped))
    }

    /// The daemon's heartbeat: what was sent and is not here was lost.
    pub(super) fn head(&self, head: &control::Head) -> Result<(), ()> {
        let last = head.last.as_ref().and_then(read_place);
        self.head.send_replace(last);
        let state = &mut *self.state.lock();
        let received = std::mem::replace(&mut state.received, head.sent);
        if received < head.sent {
            let lost = Skipped {
                why: Why::Lost,
                missed: head.sent - received,
                next: state.next,
            };
            return self.push(state, Followed::Skipped(lost));
        }
        if let Some(upto) = head.upto.as_ref().and_then(read_place) {
            match state.items.back_mut() {
                Some(Item::UpTo(last)) => *last = upto,
                Some(Item::Told(_)) => state.items.push_back(Item::UpTo(upto)),
                None if state.instead.is_some() => {}
                None => state.done = Some(upto),
            }
        }
        Ok(())
    }

    /// Each may have an [`Item::UpTo`] after it.
    fn push(&self, state: &mut State, item: Followed) -> Result<(), ()> {
        if state.items.len() >= self.most.saturating_mul(2) {
            return Err(());
        }
        state.items.push_back(Item::Told(item));
        self.more.notify_one();
        Ok(())
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.more.notify_one();
    }

    /// The next one; `None` when nothing comes any more. Can be dropped and called again.
    pub(crate) async fn next(&self) -> Option<Followed> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(item) = state.hand_out() {
                    return Some(item);
                }
                if state.ended {
                    return None;
                }
            }
            self.more.notified().await;
        }
    }

    /// The follower is done with everything up to here. Gives back what to say of it: no more than
    /// was handed out, and nothing while that was out of another journal.
    pub(super) fn acknowledge(&self, sequence: u64) -> Option<u64> {
        let mut state = self.state.lock();
        if state.instead.is_some() {
            return None;
        }
        let sequence = sequence.min(state.done?.sequence);
        state.acknowledged = state.acknowledged.max(Some(sequence));
        // Or else it is said when it stands.
        state.stands.then_some(sequence)
    }

    pub(crate) fn last(&self) -> Option<Place> {
        *self.head.borrow()
    }
}

impl State {
    fn hand_out(&mut self) -> Option<Followed> {
        loop {
            match self.items.pop_front()? {
                Item::UpTo(place) => self.done = Some(place),
                Item::Told(Followed::Message(envelope)) => {
                    if let Some(place) = place_of(&envelope) {
                        self.done = Some(place);
                    }
                    self.told = None;
                    return Some(Followed::Message(envelope));
                }
                Item::Told(Followed::Skipped(skipped)) => {
                    match skipped.why {
                        Why::OtherEpoch => self.done = self.instead.take().or(self.done),
                        // The record before the first that is kept is believed to be ours.
                        Why::Expired => {
                            self.done = Some(Place {
                                epoch: skipped.next.epoch,
                                sequence: skipped.next.sequence.saturating_sub(1),
                            });
                        }
                        // Over the next link they are asked for again.
                        Why::Locked | Why::Damaged | Why::Lost => {
                            if self.told.as_ref() == Some(&skipped) {
                                continue;
                            }
                        }
                    }
                    self.told = Some(skipped);
                    return Some(Followed::Skipped(skipped));
                }
            }
        }
    }
}

fn place_of(envelope: &Envelope) -> Option<Place> {
    Some(Place {
        epoch: envelope.epoch.as_ref().try_into().ok()?,
        sequence: envelope.sequence,
    })
}

fn said_start(start: &Start) -> follow::Start {
    match start {
        Start::Now => follow::Start::Now(Empty {}),
        Start::First => follow::Start::First(Empty {}),
        Start::After(after) => follow::Start::After(place(*after)),
        Start::Cursor(name) => follow::Start::Cursor(name.clone()),
    }
}

//! The daemon's end of one follower: the journal, passed on as far as there is credit.

use std::time::Duration;

use aico_contracts::v1::control::{self, Say, skipped};
use tokio::time::Instant;

use super::outbox::{FRAME_BYTES, FRAME_ENVELOPES};
use super::peer::Credit;
use super::receipts::place;
use super::session::Session;
use super::wire;
use crate::error::BusError;
use crate::follow::Following;
use crate::journal::{Item, Kept, Place, Skipped, Why};
use crate::queue::Queue;

/// How often a follower that has everything hears how far the journal is, when that changed.
const BEAT: Duration = Duration::from_secs(1);
/// How often when it did not.
const SLOW_BEAT: Duration = Duration::from_secs(10);

/// Passes what is followed on to the peer until it ends.
pub(super) async fn feed(
    session: &Session,
    id: u64,
    mut following: Following,
    limit: Queue,
    credit: &Credit,
) -> BusError {
    let mut beat = Beat::new(id);
    let mut next = None;
    loop {
        credit.wait(limit).await;
        let item = match next.take().or_else(|| following.try_next()) {
            Some(item) => item,
            None => {
                beat.tell(session, &following);
                tokio::select! {
                    biased;
                    item = following.next() => match item {
                        Ok(Some(item)) => item,
                        Ok(None) => return BusError::Closed,
                        Err(error) => return error,
                    },
                    () = tokio::time::sleep(BEAT) => continue,
                }
            }
        };
        let first = match item {
            Item::Skipped(skipped) => {
                session.say(Say::Skipped(told(id, &skipped)));
                continue;
            }
            Item::Kept(kept) => kept,
        };
        let mut bytes = first.parcel.size();
        credit.spend(bytes);
        let mut parcels = vec![first.parcel.clone()];
        while parcels.len() < FRAME_ENVELOPES && bytes < FRAME_BYTES && credit.has_room(limit) {
            match following.try_next() {
                Some(Item::Kept(kept)) if fits(&first, &kept, bytes) => {
                    credit.spend(kept.parcel.size());
                    bytes += kept.parcel.size();
                    parcels.push(kept.parcel);
                }
                other => {
                    next = other;
                    break;
                }
            }
        }
        beat.sent += parcels.len() as u64;
        session.outbox.send(wire::frame(&parcels, id));
    }
}

/// One frame is of one topic, and of one person.
fn fits(first: &Kept, other: &Kept, bytes: usize) -> bool {
    other.topic() == first.topic()
        && other.person == first.person
        && bytes + other.parcel.size() <= FRAME_BYTES
}

fn told(subscription: u64, skipped: &Skipped) -> control::Skipped {
    let why = match skipped.why {
        Why::Expired => skipped::Why::Expired,
        Why::OtherEpoch => skipped::Why::OtherEpoch,
        Why::Locked => skipped::Why::Locked,
        Why::Damaged | Why::Lost => skipped::Why::Damaged,
    };
    control::Skipped {
        subscription,
        why: why.into(),
        missed: skipped.missed,
        next: Some(place(skipped.next)),
    }
}

/// When the follower is told how far the journal is.
struct Beat {
    id: u64,
    sent: u64,
    last: Option<(Place, u64, Instant)>,
}

impl Beat {
    fn new(id: u64) -> Self {
        Self {
            id,
            sent: 0,
            last: None,
        }
    }

    fn tell(&mut self, session: &Session, following: &Following) {
        let head = following.head();
        let now = Instant::now();
        if let Some((place, sent, at)) = self.last {
            let changed = place != head || sent != self.sent;
            let pause = if changed { BEAT } else { SLOW_BEAT };
            if now.duration_since(at) < pause {
                return;
            }
        }
        self.last = Some((head, self.sent, now));
        session.say(Say::Head(control::Head {
            subscription: self.id,
            last: Some(place(head)),
            sent: self.sent,
            upto: following.upto().map(place),
        }));
    }
}

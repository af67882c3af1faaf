//! What somebody who publishes on a durable topic, or follows it, holds.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aico_contracts::v1::Envelope;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::error::BusError;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::journal::{Cursor, Done, Item, JournalFault, Kept, Place, Receipt, Skipped, Tail};
use crate::link::follow::Target;
use crate::parcel::size_of;
use crate::queue::{Consumed, Guard};

/// A message on its way into the journal: resolves when it is durable there, or with the reason
/// why it is not. It is on its way whether or not this is awaited.
pub struct Pending(oneshot::Receiver<Result<Receipt, JournalFault>>);

impl Pending {
    pub(crate) fn new() -> (Done, Self) {
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |outcome| drop(sender.send(outcome)));
        (done, Self(receiver))
    }
}

impl Future for Pending {
    type Output = Result<Receipt, BusError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|told| match told {
            Ok(outcome) => outcome.map_err(BusError::Journal),
            // The link ended, or the journal's thread did: nobody knows what became of it.
            Err(_) => Err(BusError::Closed),
        })
    }
}

/// What a follower receives.
#[derive(Clone)]
pub enum Followed {
    /// A message; its place is in `epoch` and `sequence`.
    Message(Arc<Envelope>),
    /// Messages that it does not get.
    Skipped(Skipped),
}

/// Content-free: an envelope holds what people say.
impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(envelope) => write!(f, "Message({})", envelope.topic),
            Self::Skipped(skipped) => write!(f, "{skipped:?}"),
        }
    }
}

/// One who follows, inside the daemon: for itself, or for a peer.
pub(crate) struct Following {
    pub(crate) hub: Arc<Hub>,
    pub(crate) who: Identity,
    pub(crate) tail: Tail,
    pub(crate) ended: CancellationToken,
    pub(crate) _guard: Guard,
}

impl Following {
    /// `None` when the bus or the grant ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Item>, BusError> {
        loop {
            let item = tokio::select! {
                biased;
                () = self.ended.cancelled() => return Ok(None),
                item = self.tail.next() => item.map_err(BusError::Journal)?,
            };
            match item {
                None => return Err(BusError::Journal(JournalFault::Locked)),
                Some(item) if self.allows(&item) => return Ok(Some(item)),
                Some(_) => {}
            }
        }
    }

    /// The next one if it is in memory already.
    pub(crate) fn try_next(&mut self) -> Option<Item> {
        while !self.ended.is_cancelled() {
            let item = self.tail.try_next()?;
            if self.allows(&item) {
                return Some(item);
            }
        }
        None
    }

    /// It matched when it was pulled; a consent may have ended since.
    fn allows(&self, item: &Item) -> bool {
        match item {
            Item::Kept(kept) => kept
                .person
                .is_none_or(|person| self.hub.sees(&self.who, person)),
            Item::Skipped(_) => true,
        }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        self.tail.cursor()
    }

    pub(crate) fn head(&self) -> Place {
        self.tail.head()
    }

    /// It began after this place.
    pub(crate) fn from(&self) -> Place {
        self.tail.from()
    }

    /// Everything up to here was given out, or is of no concern.
    pub(crate) fn upto(&self) -> Option<Place> {
        self.tail.upto()
    }
}

/// Follows the journal of durable messages. Dropping it ends it; a cursor stays where it was
/// last acknowledged.
pub struct Follower(Source);

enum Source {
    Inside(Box<Following>),
    Link(Remote),
}

/// The member's end of a link.
pub(crate) struct Remote {
    pub(crate) target: Arc<Target>,
    pub(crate) consumed: Consumed,
    pub(crate) acknowledge: Box<dyn Fn(u64) + Send + Sync>,
    /// Why it ended.
    pub(crate) ended: watch::Receiver<Option<Result<(), BusError>>>,
    pub(crate) _guard: Guard,
}

impl Follower {
    pub(crate) fn inside(following: Following) -> Self {
        Self(Source::Inside(Box::new(following)))
    }

    pub(crate) fn over_link(remote: Remote) -> Self {
        Self(Source::Link(remote))
    }

    /// The next message, or what is missing. `None` when the bus, the link or the grant ended.
    ///
    /// # Errors
    /// [`JournalFault::Locked`] when AICO was locked: follow again once it is not. Others when the
    /// journal can't be read now.
    pub async fn recv(&mut self) -> Result<Option<Followed>, BusError> {
        match &mut self.0 {
            Source::Inside(following) => match following.next().await? {
                None => Ok(None),
                Some(Item::Skipped(skipped)) => Ok(Some(Followed::Skipped(skipped))),
                Some(Item::Kept(Kept { parcel, .. })) => {
                    Ok(Some(Followed::Message(parcel.envelope)))
                }
            },
            Source::Link(remote) => match remote.target.next().await {
                Some(item) => {
                    if let Followed::Message(envelope) = &item {
                        let size = size_of(envelope);
                        (remote.consumed)(size);
                    }
                    Ok(Some(item))
                }
                None => match remote.ended.borrow().clone() {
                    Some(Err(error)) if error != BusError::Closed => Err(error),
                    _ => Ok(None),
                },
            },
        }
    }

    /// Moves the cursor: everything up to and including this sequence is done with. Without a
    /// cursor it does nothing. It is durable within about a second; what comes between is
    /// received again after a crash.
    pub fn acknowledge(&self, sequence: u64) {
        match &self.0 {
            Source::Inside(following) => following.cursor().acknowledge(sequence),
            Source::Link(remote) => (remote.acknowledge)(sequence),
        }
    }

    /// The last place that is durable, as far as it is known here. Over a link it comes with the
    /// daemon's heartbeats; `None` before the first.
    #[must_use]
    pub fn head(&self) -> Option<Place> {
        match &self.0 {
            Source::Inside(following) => Some(following.head()),
            Source::Link(remote) => remote.target.last(),
        }
    }
}

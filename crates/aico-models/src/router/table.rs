//! Which slot answers for which model, as the manager of models last said.
//!
//! The manager writes it, the router reads it. A question is counted before its slot can be taken
//! away ([`Table::enter`], [`Table::retire`]), so that none is cut off by the making of room.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aico_contracts::ids::ModelId;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{Fault, Priority};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::batch::queue::rank;
use crate::clock;
use crate::gpu::device::Device;

/// The table. Clones are the same.
#[derive(Clone, Default)]
pub struct Table {
    inner: Arc<RwLock<Inner>>,
    /// How urgent the question is that waits until others have been answered, for its model to
    /// have room.
    awaited: Arc<watch::Sender<Option<Priority>>>,
}

#[derive(Default)]
struct Inner {
    active: Option<ModelId>,
    slots: Vec<View>,
}

/// A slot as others see it.
#[derive(Clone)]
pub struct View {
    /// Number of the slot.
    pub number: u32,
    /// The model in it.
    pub model: ModelId,
    /// As shown.
    pub name: String,
    /// How far it is.
    pub status: Status,
    /// 0: none.
    pub process_id: u32,
    /// It is not unloaded.
    pub pinned: bool,
    /// When it is unloaded unless somebody asks it.
    pub idle_until: Option<Instant>,
    /// Sequences at once.
    pub places: u32,
    /// Times that its process was started again.
    pub restarts: u32,
    /// How much of it is loaded, in percent, while that goes on and is known.
    pub loading_percent: Option<u32>,
    /// Its questions.
    pub flight: Flight,
    /// The graphics device that computes it; `None`: the processor does.
    pub device: Option<Device>,
    /// Why the processor does although a device was wanted.
    pub fallback: Option<Fault>,
}

fn is_before(awaited: Option<Priority>, priority: Priority) -> bool {
    awaited.is_some_and(|awaited| rank(awaited) > rank(priority))
}

/// Questions that are with a slot. Clones are the same.
#[derive(Clone, Default)]
pub struct Flight(Arc<Counts>);

#[derive(Default)]
struct Counts {
    now: AtomicU32,
    last: Mutex<Option<Instant>>,
}

impl Flight {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.now.load(Ordering::SeqCst)
    }

    /// When the last one came or went.
    #[must_use]
    pub fn last(&self) -> Option<Instant> {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now());
    }

    fn enter(&self) -> Flying {
        self.0.now.fetch_add(1, Ordering::SeqCst);
        self.touch();
        Flying(self.clone())
    }
}

/// A question that is with a slot, until it is dropped.
pub struct Flying(Flight);

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.touch();
        self.0.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Table {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model that answers where none is named.
    #[must_use]
    pub fn active(&self) -> Option<ModelId> {
        self.read().active
    }

    /// Notes it.
    pub fn set_active(&self, active: Option<ModelId>) {
        self.write().active = active;
    }

    /// Notes how a slot is.
    pub fn put(&self, view: View) {
        let mut inner = self.write();
        match inner.slots.iter_mut().find(|one| one.number == view.number) {
            Some(one) => *one = view,
            None => inner.slots.push(view),
        }
    }

    /// Takes a slot off the table.
    pub fn remove(&self, number: u32) {
        self.write().slots.retain(|one| one.number != number);
    }

    /// Takes a slot off the table unless a question is with it. False: one is.
    #[must_use]
    pub fn retire(&self, number: u32) -> bool {
        let mut inner = self.write();
        let busy = |one: &View| one.number == number && one.flight.count() > 0;
        if inner.slots.iter().any(busy) {
            return false;
        }
        inner.slots.retain(|one| one.number != number);
        true
    }

    /// Lets a question in to the slot that answers for this model.
    #[must_use]
    pub fn enter(&self, model: ModelId) -> Option<(View, Flying)> {
        let inner = self.read();
        let slot = inner
            .slots
            .iter()
            .find(|one| one.model == model && one.status == Status::Ready)?;
        Some((slot.clone(), slot.flight.enter()))
    }

    /// Notes how urgent the question is that waits for others to be answered; `None`: none does.
    pub fn set_awaited(&self, awaited: Option<Priority>) {
        self.awaited.send_if_modified(|before| {
            let changed = *before != awaited;
            *before = awaited;
            changed
        });
    }

    /// Whether a question to this slot comes after one that waits for room. A pinned model goes
    /// for nobody: nothing is won by keeping questions from it.
    #[must_use]
    pub fn gives_way(&self, slot: &View, priority: Priority) -> bool {
        !slot.pinned && is_before(*self.awaited.borrow(), priority)
    }

    /// Returns when a question to this slot comes after one that waits for room.
    pub async fn until_it_gives_way(&self, slot: &View, priority: Priority) {
        if slot.pinned {
            return std::future::pending().await;
        }
        let mut awaited = self.awaited.subscribe();
        let before = |awaited: &Option<Priority>| is_before(*awaited, priority);
        let _never_closed = awaited.wait_for(before).await;
    }

    /// All slots.
    #[must_use]
    pub fn slots(&self) -> Vec<View> {
        self.read().slots.clone()
    }
}

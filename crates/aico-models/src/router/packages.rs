//! The packages for texts, as their workers last said. They run in processes of their own, which
//! no slot has; here they are known for the figures alone.

use std::collections::HashMap;
use std::sync::Arc;

use aico_contracts::ids::ModelId;
use aico_contracts::v1::model_state::Status;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::activity::Activity;
use super::backends;

/// What runs them, as it is shown.
pub(crate) const ENGINE: &str = "transformers";

/// Those that are in memory, or can't be. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Packages {
    all: Arc<Mutex<HashMap<ModelId, Package>>>,
    activity: Activity,
}

/// How one of them is.
#[derive(Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) status: Status,
    /// 0: none.
    pub(crate) process_id: u32,
    /// When it goes unless somebody asks it.
    pub(crate) idle_until: Option<Instant>,
}

/// What the figures know a package by. A program beside us always has a name, so that none of its
/// models has the same.
pub(crate) fn id_of(name: &str) -> ModelId {
    backends::id_of("", name)
}

impl Packages {
    /// Their loads are counted there.
    pub(super) fn new(activity: Activity) -> Self {
        Self {
            all: Arc::default(),
            activity,
        }
    }

    /// Notes how a package is.
    pub(crate) fn put(&self, name: &str, status: Status, process_id: u32) {
        let mut all = self.all.lock();
        if status == Status::Stopped {
            all.remove(&id_of(name));
            return;
        }
        let package = Package {
            name: name.to_owned(),
            status,
            process_id,
            idle_until: None,
        };
        let before = all.insert(id_of(name), package);
        let was_ready = before.is_some_and(|before| before.status == Status::Ready);
        if status == Status::Ready && !was_ready {
            self.activity.loaded(id_of(name), name, ENGINE);
        }
    }

    /// Notes when a package goes unless somebody asks it.
    pub(crate) fn rests(&self, name: &str, until: Option<Instant>) {
        if let Some(package) = self.all.lock().get_mut(&id_of(name)) {
            package.idle_until = until;
        }
    }

    /// All that are not stopped.
    pub(crate) fn all(&self) -> Vec<(ModelId, Package)> {
        let all = self.all.lock();
        all.iter()
            .map(|(id, package)| (*id, package.clone()))
            .collect()
    }
}

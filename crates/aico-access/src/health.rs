//! How the open stores do, while they serve.

use crate::Home;

/// What does not work at present. Nothing of it while everything is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The disk was full at the last attempt to write: what is there can be read, nothing is added.
    /// It is looked at again every two seconds.
    pub storage_full: bool,
    /// A store met damage.
    pub damaged: bool,
}

impl Home {
    /// The health of all stores that are open.
    pub async fn health(&self) -> Health {
        let mut all = Health::default();
        let Ok(open) = self.opened() else {
            return all;
        };
        let persons = open.persons.lock().await;
        for store in persons.values().chain([&open.system]) {
            let one = store.health();
            all.storage_full |= one.storage_full;
            all.damaged |= one.damaged;
        }
        all
    }
}

//! How the open stores do, while they serve.

use std::time::Duration;

use crate::Home;

/// What does not work at present. Nothing of it while everything is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The disk was full at the last attempt to write: what is there can be read, nothing is added.
    /// It is looked at again every two seconds.
    pub storage_full: bool,
    /// The disk could only be read at the last attempt to write. It is looked at again as often.
    pub storage_read_only: bool,
    /// The disk failed at the last attempt to read or write. It is looked at again as often.
    pub storage_failing: bool,
    /// The longest that the disk took, or takes by now, for one of the last commits, where that is
    /// long enough to be noticed.
    pub slow_commit: Option<Duration>,
    /// A store met damage.
    pub damaged: bool,
    /// How many persons' data can't be opened because it is damaged.
    pub persons_damaged: usize,
}

impl Home {
    /// The health of all stores that are open, and of those that could not be opened. Waits for
    /// nobody.
    pub async fn health(&self) -> Health {
        let mut all = Health::default();
        let Ok(open) = self.opened() else {
            return all;
        };
        let persons = open.persons.all();
        for store in persons.iter().chain([&open.system]) {
            let one = store.health();
            all.storage_full |= one.storage_full;
            all.storage_read_only |= one.storage_read_only;
            all.storage_failing |= one.storage_failing;
            all.damaged |= one.damaged;
            if one.is_slow() {
                all.slow_commit = all.slow_commit.max(Some(one.commit));
            }
        }
        all.persons_damaged = open.persons.ill();
        all.damaged |= all.persons_damaged > 0;
        all
    }
}

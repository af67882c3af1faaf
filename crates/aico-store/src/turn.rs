//! Whose turn it is: a caller waits for the beginning of what it asked for only so long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use crate::error::StoreError;

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Shared by a caller and its job: it is begun, or given up before that, and never both.
#[derive(Clone, Default)]
pub(crate) struct Turn(Arc<AtomicU8>);

impl Turn {
    /// The job's part: `false` when nobody waits for it any more.
    pub(crate) fn begin(&self) -> bool {
        self.leave(BEGUN)
    }

    /// The caller's part: `false` when it has begun.
    fn give_up(&self) -> bool {
        self.leave(GIVEN_UP)
    }

    fn leave(&self, to: u8) -> bool {
        let left = self
            .0
            .compare_exchange(WAITS, to, Ordering::AcqRel, Ordering::Acquire);
        left.is_ok()
    }

    /// Waits for the answer. When the job has not begun in time, because the file is being
    /// replaced or the disk does not answer those before it, it never will: [`StoreError::Busy`].
    pub(crate) async fn wait<T>(
        self,
        patience: Duration,
        mut answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answered = match tokio::time::timeout(patience, &mut answer).await {
            Ok(answered) => answered,
            Err(_) if self.give_up() => return Err(StoreError::Busy),
            Err(_) => answer.await,
        };
        answered.unwrap_or(Err(StoreError::Closed))
    }
}

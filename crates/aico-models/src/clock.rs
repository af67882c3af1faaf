//! The clock of all that waits for minutes. A test moves it.

#[cfg(not(test))]
use tokio::time::Instant;

#[cfg(not(test))]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(not(test))]
pub(crate) async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at).await;
}

#[cfg(test)]
pub(crate) use played::{advance, now, sleep_until};

/// Real time, and what a test has moved it by. Each test has a thread of its own and a runtime on
/// that thread.
#[cfg(test)]
mod played {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::Instant;

    thread_local! {
        static MOVED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(crate) fn now() -> Instant {
        Instant::now() + MOVED.get()
    }

    /// Moves the clock of this thread.
    pub(crate) fn advance(by: Duration) {
        MOVED.set(MOVED.get() + by);
    }

    pub(crate) async fn sleep_until(at: Instant) {
        while let Some(left) = at.checked_duration_since(now()) {
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(5))).await;
        }
    }
}

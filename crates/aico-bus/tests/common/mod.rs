//! What the integration tests share.

#![expect(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::Duration;

use aico_bus::{AllowAll, Bus, Delivery, Identity, Subscription};
use aico_contracts::v1::{AnswerDelta, Envelope};

/// Past this a test has failed; no test waits for it when things work.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn bus() -> Bus {
    Bus::new(Arc::new(AllowAll))
}

pub fn id(name: &str) -> Identity {
    Identity::new(name)
}

pub fn delta(index: u64) -> AnswerDelta {
    AnswerDelta {
        index,
        text: format!("word {index}"),
        ..AnswerDelta::default()
    }
}

pub fn index_of(envelope: &Envelope) -> u64 {
    aico_bus::decode::<AnswerDelta>(envelope).unwrap().index
}

/// Whatever the future gives, within the patience of a test.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it did not happen in time")
}

/// Until a condition holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The next message.
pub async fn message(subscription: &mut Subscription) -> Arc<Envelope> {
    match soon(subscription.recv()).await {
        Some(Delivery::Message(envelope)) => envelope,
        other => panic!("a message was expected, not {other:?}"),
    }
}

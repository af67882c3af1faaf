//! What the integration tests share.

use std::sync::Arc;
use std::time::Duration;

use aico_bus::{AllowAll, Bus, Delivery, Identity, Subscription};
use aico_contracts::v1::{AnswerDelta, Envelope};

/// Past this a test has failed; no test waits for it when things work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn bus() -> Bus {
    Bus::new(Arc::new(AllowAll))
}

pub(crate) fn id(name: &str) -> Identity {
    Identity::new(name)
}

pub(crate) fn delta(index: u64) -> AnswerDelta {
    AnswerDelta {
        index,
        text: format!("word {index}"),
        ..AnswerDelta::default()
    }
}

pub(crate) fn index_of(envelope: &impl AsRef<Envelope>) -> u64 {
    aico_bus::decode::<AnswerDelta>(envelope.as_ref())
        .unwrap()
        .index
}

/// Whatever the future gives, within the patience of a test.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it did not happen in time")
}

/// Until a condition holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The next message.
pub(crate) async fn message(subscription: &mut Subscription) -> Arc<Envelope> {
    match soon(subscription.recv()).await {
        Some(Delivery::Message(envelope)) => envelope,
        other => panic!("a message was expected, not {other:?}"),
    }
}

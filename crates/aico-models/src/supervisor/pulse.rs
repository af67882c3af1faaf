//! Whether a model process still answers.

use aico_bus::Meta;
use aico_contracts::topics::{self, slot_verb as verb};
use aico_contracts::v1;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::slot::Parts;
use crate::process::prompts::PULSE;

/// Looks now and then. Dropping it ends that.
pub(super) struct Pulse(JoinHandle<()>);

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pulse {
    /// Asks the process of a slot now and then for something small, which its loop answers between
    /// two steps, and not while its thread that makes vectors stands still; tells `parts.hung` when
    /// it does not.
    pub(super) fn new(parts: &Parts, number: u32, process: u32) -> Self {
        let (client, hung) = (parts.client.clone(), parts.hung.clone());
        let (every, limit) = (parts.config.pulse, parts.config.hang_limit);
        Self(tokio::spawn(async move {
            let topic = topics::slot(number, verb::LIST_PROMPTS);
            let mut answered = None;
            loop {
                tokio::time::sleep(every).await;
                // No deadline of the envelope: that one goes on while the machine sleeps.
                let asked = client.request::<_, v1::PromptList>(
                    &topic,
                    &v1::ListPrompts {},
                    Meta::default().purpose(PULSE),
                );
                let hangs = match tokio::time::timeout(limit, asked).await {
                    Ok(Ok(_)) => {
                        answered = Some(Instant::now());
                        false
                    }
                    // The link has cut off one that was there before: nobody serves, at once.
                    Ok(Err(_)) => answered.is_some_and(|at: Instant| at.elapsed() >= limit),
                    Err(_) => true,
                };
                if hangs {
                    let _manager_gone = hung.send((number, process)).await;
                    return;
                }
            }
        }))
    }
}

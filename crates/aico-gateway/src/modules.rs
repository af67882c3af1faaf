//! Asking the modules behind the bus. The gateway knows topics and messages, no module.

use std::time::Duration;

use aico_bus::Meta;
use aico_contracts::Payload;
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::{Empty, ModelState, Priority};

use crate::app::App;
use crate::problem::Problem;
use crate::routes::transformers::PATIENCE;

/// How long a state may take that is told beside something else.
const GLANCE: Duration = Duration::from_millis(500);

impl App {
    /// Asks the companion about what belongs to this person, and to nobody else: the topic
    /// carries the person, and the companion opens that person's store and no other.
    pub(crate) async fn ask_companion<Q: Payload, R: Payload>(
        &self,
        person: PersonId,
        verb: &str,
        question: &Q,
    ) -> Result<R, Problem> {
        let topic = topics::conversation_request(person, verb);
        let meta = Meta::for_person(person)
            .purpose("conversation")
            .priority(Priority::Interactive)
            .deadline_in(self.limits.module_time);
        Ok(self.bus.request(&topic, question, meta).await?)
    }

    /// Asks for something about models, within `time`.
    pub(crate) async fn ask_models<Q: Payload, R: Payload>(
        &self,
        topic: &str,
        question: &Q,
        time: Duration,
    ) -> Result<R, Problem> {
        let meta = Meta::new()
            .priority(Priority::Interactive)
            .deadline_in(time);
        Ok(self.bus.request(topic, question, meta).await?)
    }

    /// Asks what texts are, for a person: a server of another machine is asked only for those who
    /// allow it.
    pub(crate) async fn ask_texts<Q: Payload, R: Payload>(
        &self,
        person: PersonId,
        topic: &str,
        question: &Q,
    ) -> Result<R, Problem> {
        let meta = Meta::for_person(person)
            .priority(Priority::Interactive)
            .deadline_in(PATIENCE);
        Ok(self.bus.request(topic, question, meta).await?)
    }

    /// How the model is; the last that was heard when nobody answers at once.
    pub(crate) async fn model_state(&self) -> ModelState {
        // A look, no question: it must not load a model that waits for the first question.
        let meta = Meta::new()
            .purpose(topics::LOOK)
            .priority(Priority::Interactive)
            .deadline_in(GLANCE);
        let asked = self
            .bus
            .request(topics::MODELS_GET_STATE, &Empty {}, meta)
            .await;
        let mut last = self.model.lock();
        if let Ok(state) = asked {
            *last = Some(state);
        }
        last.clone().unwrap_or_default()
    }
}

//! How many at once. One that was started by us is told so itself; one that was not takes what
//! it gets, so both limits are held here for either.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit};

use super::Ollama;
use super::about::full;
use super::http::Http;
use crate::backend::BackendError;

/// Answers at once and models in memory.
pub(super) struct Room {
    answers: Semaphore,
    loaded: usize,
    /// One question at a time decides which models stay.
    deciding: AsyncMutex<()>,
    used: Mutex<HashMap<String, Use>>,
}

/// What we use a model for.
struct Use {
    answers: u32,
    last: Instant,
}

/// A place for one answer.
pub(super) struct Place<'a> {
    room: &'a Room,
    model: String,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(one) = self.room.used().get_mut(&self.model) {
            one.answers = one.answers.saturating_sub(1);
            one.last = Instant::now();
        }
    }
}

impl Room {
    pub(super) fn new(answers: u32, loaded: u32) -> Self {
        let many = |number: u32| usize::try_from(number).unwrap_or(1).max(1);
        Self {
            answers: Semaphore::new(many(answers).min(Semaphore::MAX_PERMITS)),
            loaded: many(loaded),
            deciding: AsyncMutex::default(),
            used: Mutex::default(),
        }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, and makes room in memory for a model that is not loaded: the one of
    /// ours that was used longest ago goes. What others have loaded is theirs and stays.
    pub(super) async fn enter<'a>(
        &'a self,
        ollama: &Ollama,
        http: &Http,
        model: &str,
    ) -> Result<Place<'a>, BackendError> {
        let permit = self.answers.acquire().await;
        let permit = permit.map_err(|_closed| BackendError::Busy)?;
        let model = full(model);
        let _one = self.deciding.lock().await;
        let busy = self.used().get(&model).is_some_and(|it| it.answers > 0);
        if !busy {
            self.make_room(ollama, http, &model).await?;
        }
        let mut used = self.used();
        let one = used.entry(model.clone()).or_insert(Use {
            answers: 0,
            last: Instant::now(),
        });
        one.answers += 1;
        one.last = Instant::now();
        drop(used);
        Ok(Place {
            room: self,
            model,
            _permit: permit,
        })
    }

    async fn make_room(
        &self,
        ollama: &Ollama,
        http: &Http,
        model: &str,
    ) -> Result<(), BackendError> {
        let loaded = ollama.loaded_of(http).await?;
        let loaded: Vec<_> = loaded
            .into_iter()
            .map(|(name, _)| (full(&name), name))
            .collect();
        if loaded.iter().any(|(name, _)| name == model) || loaded.len() < self.loaded {
            return Ok(());
        }
        let mut ours: Vec<_> = {
            let used = self.used();
            let idle = loaded.into_iter().filter_map(|(name, called)| {
                let one = used.get(&name)?;
                (one.answers == 0).then_some((one.last, called))
            });
            idle.collect()
        };
        ours.sort();
        // While all are in use, Ollama itself makes the question wait.
        let Some((_, oldest)) = ours.into_iter().next() else {
            return Ok(());
        };
        match ollama.unload_of(http, &oldest).await {
            // Somebody removed it.
            Ok(()) | Err(BackendError::ModelMissing) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

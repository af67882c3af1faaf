//! How many at once. One that was started by us is told so itself; one that was not takes what
//! it gets, so both limits are held here for either.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore, SemaphorePermit};

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
    /// A model answers no more: there may be room now.
    idle: Notify,
}

/// What we use a model for.
struct Use {
    /// As it was asked for.
    name: String,
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
            if one.answers == 0 {
                self.room.idle.notify_one();
            }
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
            idle: Notify::new(),
        }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<String, Use>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name that we asked a model by; nothing of one that we never asked.
    pub(super) fn asked_as(&self, model: &str) -> Option<String> {
        let used = self.used();
        used.get(&full(model)).map(|one| one.name.clone())
    }

    /// Whether a model may leave the memory: one that answers may not, nor one that others have
    /// loaded and we never asked.
    pub(super) async fn may_leave(
        &self,
        ollama: &Ollama,
        http: &Http,
        model: &str,
    ) -> Result<(), BackendError> {
        let model = full(model);
        let answers = self.used().get(&model).map(|one| one.answers);
        match answers {
            Some(0) => Ok(()),
            Some(_) => Err(BackendError::InUse),
            None => {
                let loaded = ollama.loaded_of(http).await?;
                match loaded.iter().any(|(name, _)| full(name) == model) {
                    true => Err(BackendError::LoadedByOthers),
                    false => Ok(()),
                }
            }
        }
    }

    /// Waits for a place, and makes room in memory for a model that is not loaded: the one of
    /// ours that was used longest ago goes. What others have loaded is theirs and stays. While all
    /// of ours answer it waits, and whoever comes behind it too: else they could keep it waiting
    /// for ever.
    pub(super) async fn enter<'a>(
        &'a self,
        ollama: &Ollama,
        http: &Http,
        model: &str,
    ) -> Result<Place<'a>, BackendError> {
        let permit = self.answers.acquire().await;
        let permit = permit.map_err(|_closed| BackendError::Busy)?;
        let (name, model) = (model, full(model));
        let _one = self.deciding.lock().await;
        let busy = self.used().get(&model).is_some_and(|it| it.answers > 0);
        if !busy {
            self.make_room(ollama, http, &model).await?;
        }
        let mut used = self.used();
        let one = used.entry(model.clone()).or_insert_with(|| Use {
            name: name.to_owned(),
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
        loop {
            let loaded = ollama.loaded_of(http).await?;
            let loaded: Vec<_> = loaded
                .into_iter()
                .map(|(name, _)| (full(&name), name))
                .collect();
            if loaded.iter().any(|(name, _)| name == model) {
                return Ok(());
            }
            let (count, answering, oldest) = self.count(loaded);
            if count < self.loaded {
                return Ok(());
            }
            if let Some(oldest) = oldest {
                return match ollama.unload_of(http, &oldest).await {
                    // Somebody removed it.
                    Ok(()) | Err(BackendError::ModelMissing) => Ok(()),
                    Err(error) => Err(error),
                };
            }
            // All are others': how many there may be is theirs to say.
            if !answering {
                return Ok(());
            }
            self.idle.notified().await;
        }
    }

    /// Of what is loaded and what is about to be: how many, whether one of ours answers, and the
    /// one of ours that was idle longest.
    fn count(&self, loaded: Vec<(String, String)>) -> (usize, bool, Option<String>) {
        let used = self.used();
        // One that was only now asked may not be in Ollama's list yet.
        let answering = used.values().filter(|one| one.answers > 0).count();
        let (mut count, mut idle) = (answering, Vec::new());
        for (name, called) in loaded {
            match used.get(&name) {
                Some(one) if one.answers > 0 => {}
                Some(one) => {
                    count += 1;
                    idle.push((one.last, called));
                }
                None => count += 1,
            }
        }
        let oldest = idle.into_iter().min().map(|(_, called)| called);
        (count, answering > 0, oldest)
    }
}

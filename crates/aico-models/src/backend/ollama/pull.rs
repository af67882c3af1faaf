//! What takes long on its side and tells how far it is: downloads, and models that are made.

use std::collections::BTreeMap;

use ::http::Method;
use serde_json::json;
use tokio::sync::watch;

use super::http::{self, Answer};
use super::{Ollama, wire};
use crate::backend::BackendError;
use crate::backend::shelf::Progress;

/// Layers of a model; more are not added up.
const LAYERS: usize = 4096;

/// Steps by the first word that Ollama has for them.
const STEPS: [&str; 9] = [
    "pulling",
    "verifying",
    "writing",
    "removing",
    "parsing",
    "quantizing",
    "converting",
    "creating",
    "using",
];

/// Adds up what the lines tell of each layer.
#[derive(Default)]
pub(super) struct Sum {
    layers: BTreeMap<String, (u64, u64)>,
    progress: Progress,
}

impl Sum {
    /// Whether this was the last step.
    pub(super) fn take(&mut self, line: &wire::Step) -> bool {
        if line.status == "success" {
            self.progress.done = self.progress.total;
            self.progress.step = "done";
            return true;
        }
        let word = line.status.split(' ').next().unwrap_or_default();
        let step = STEPS.iter().find(|step| **step == word);
        self.progress.step = step.copied().unwrap_or("working");
        // Models of the newest kind tell one number without a layer.
        if line.total > 0 && (self.layers.len() < LAYERS || self.layers.contains_key(&line.digest))
        {
            let layer = self.layers.entry(line.digest.clone()).or_default();
            // A layer that begins anew may go back; its size does not shrink.
            layer.1 = layer.1.max(line.total);
            layer.0 = line.completed.min(layer.1);
            let sum = |of: fn(&(u64, u64)) -> u64| {
                let all = self.layers.values().map(of);
                all.fold(0_u64, u64::saturating_add)
            };
            self.progress.done = sum(|layer| layer.0);
            self.progress.total = sum(|layer| layer.1);
        }
        false
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Ollama {
    /// Lets it download a model. Dropping the future stops it; what came is kept and gone on
    /// with the next time. `unencrypted`: from a registry at home that has no TLS.
    ///
    /// # Errors
    /// As [`BackendError`] tells; [`BackendError::ModelMissing`]: there is none of this name.
    pub async fn pull(
        &self,
        model: &str,
        unencrypted: bool,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), BackendError> {
        self.pull_for(model, model, unencrypted, progress).await
    }

    /// As [`Self::pull`], for a model that is made of it: what comes counts as that one's, and goes
    /// when that one is given up.
    pub(super) async fn pull_for(
        &self,
        whom: &str,
        model: &str,
        unencrypted: bool,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), BackendError> {
        let pulled = async {
            let http = self.http().await?;
            let mut question = json!({ "model": model, "stream": true });
            if unencrypted {
                question["insecure"] = true.into();
            }
            let question = http::json(&question)?;
            let patience = self.config.limits.first_token;
            let answer = http
                .ask(Method::POST, "/api/pull", question, patience)
                .await?;
            self.follow(whom, answer, progress).await?;
            self.changed(model);
            Ok(())
        };
        self.heard(pulled.await)
    }

    /// Follows a streamed answer to its `success`. What comes is `whom`'s.
    pub(super) async fn follow(
        &self,
        whom: &str,
        answer: Answer,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), BackendError> {
        // A step may take long without a word: hashing a large file, asking a slow server.
        let patience = self.config.limits.first_token;
        let mut lines = answer.lines(patience, patience);
        let mut sum = Sum::default();
        while let Some(line) = lines.next::<wire::Step>().await? {
            let last = sum.take(&line);
            self.parts.note(whom, &line.digest);
            progress.send_replace(sum.progress().clone());
            if last {
                self.parts.forget(whom);
                return Ok(());
            }
        }
        Err(BackendError::CutOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> wire::Step {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn layers_are_added_up_and_do_not_shrink() {
        let mut sum = Sum::default();
        assert!(!sum.take(&step(r#"{"status":"pulling manifest"}"#)));
        assert_eq!(sum.progress().total, 0);
        sum.take(&step(
            r#"{"status":"pulling a","digest":"sha256:a","total":100}"#,
        ));
        sum.take(&step(
            r#"{"status":"pulling a","digest":"sha256:a","total":100,"completed":60}"#,
        ));
        sum.take(&step(
            r#"{"status":"pulling b","digest":"sha256:b","total":50,"completed":50}"#,
        ));
        assert_eq!((sum.progress().done, sum.progress().total), (110, 150));
        assert_eq!(sum.progress().step, "pulling");
        // More than there is can't be done.
        sum.take(&step(
            r#"{"status":"pulling a","digest":"sha256:a","total":90,"completed":999}"#,
        ));
        assert_eq!((sum.progress().done, sum.progress().total), (150, 150));
        sum.take(&step(r#"{"status":"/home/ann/secret"}"#));
        assert_eq!(sum.progress().step, "working");
        assert!(sum.take(&step(r#"{"status":"success"}"#)));
        assert_eq!(sum.progress().step, "done");
    }
}

//! Vectors of texts.

use ::http::Method;

use super::http::{self, Http};
use super::{Ollama, wire};
use crate::backend::{BackendError, Embedded};

/// Texts that are handed over in one question.
const TEXTS: usize = 64;

impl Ollama {
    pub(super) async fn vectors(
        &self,
        model: &str,
        texts: &[String],
    ) -> Result<Embedded, BackendError> {
        let http = self.http().await?;
        let about = self.about_model(&http, model).await?;
        if !about.local {
            return Err(BackendError::Elsewhere);
        }
        let _place = self.room.enter(self, &http, model).await?;
        let mut all = Embedded::default();
        for some in texts.chunks(TEXTS) {
            // Asked to shorten what is too long, it does not say what it has shortened. So it is
            // asked to refuse that; it refuses all of a question then, and not which text it was.
            let done = self.some_vectors(&http, model, some, false).await;
            let Err(BackendError::TooLong) = done else {
                all.add(done?);
                continue;
            };
            for text in some {
                let one = std::slice::from_ref(text);
                let done = match self.some_vectors(&http, model, one, false).await {
                    Err(BackendError::TooLong) => {
                        all.truncated.push(all.vectors.len());
                        self.some_vectors(&http, model, one, true).await?
                    }
                    done => done?,
                };
                all.add(done);
            }
        }
        Ok(all)
    }

    async fn some_vectors(
        &self,
        http: &Http,
        model: &str,
        texts: &[String],
        truncate: bool,
    ) -> Result<wire::EmbedAnswer, BackendError> {
        let question = http::json(&wire::EmbedRequest {
            model,
            input: texts,
            truncate,
            keep_alive: self.config.keep_alive_seconds(),
        })?;
        let patience = self.config.limits.first_token;
        let asked = http.value(Method::POST, "/api/embed", question, patience);
        let answer: wire::EmbedAnswer = asked.await?;
        match answer.embeddings.len() == texts.len() {
            true => Ok(answer),
            false => Err(BackendError::Unreadable),
        }
    }
}

impl Embedded {
    fn add(&mut self, answer: wire::EmbedAnswer) {
        self.vectors.extend(answer.embeddings);
        self.tokens = self.tokens.saturating_add(answer.prompt_eval_count);
    }
}

//! Servers that run models, as the configuration names them: where their keys come from, and where
//! the consents stand.

use std::path::Path;
use std::sync::Arc;

use aico_access::{Home, HomeError, NewEgress};
use aico_config::{Config, Models};
use aico_contracts::ids::PersonId;
use aico_models::backend::ollama::Ollama;
use aico_models::backend::openai::{Keys, Server, ServerConfig};
use aico_models::backend::{Backend, BackendError, Guarded, Ledger, Outgoing, What};
use aico_models::pull::url::UrlError;
use async_trait::async_trait;
use zeroize::Zeroizing;

/// The home, as backends see it.
#[derive(Clone)]
struct AtHome(Home);

/// Every configured server, with the guard before it.
///
/// # Errors
/// When an address is none, which the configuration's own check lets nobody come to.
pub(super) fn servers(home: &Home, settings: &Models) -> Result<Vec<Arc<Guarded>>, UrlError> {
    let here = Arc::new(AtHome(home.clone()));
    let all = settings.servers.iter().map(|(name, server)| {
        let config = ServerConfig {
            key: server.secret().map(|secret| secret.name().to_owned()),
            unencrypted: server.unencrypted(),
            ..ServerConfig::new(name, &server.url)
        };
        let server = Server::new(config, Arc::clone(&here) as Arc<dyn Keys>)?;
        Ok(guarded(home, Arc::new(server)))
    });
    all.collect()
}

/// The Ollama of this machine, unless the configuration says to leave it alone.
///
/// # Errors
/// When its address is another machine's, which the configuration's own check lets nobody come to.
pub(super) fn ollama(
    home: &Home,
    settings: &Config,
    data: &Path,
) -> Result<Option<Arc<Guarded>>, BackendError> {
    let Some(config) = super::ollama::config(settings, data) else {
        return Ok(None);
    };
    Ok(Some(guarded(home, Ollama::new(config)?)))
}

/// Puts the guard before any backend: what stays on this machine it passes.
fn guarded(home: &Home, backend: Arc<dyn Backend>) -> Arc<Guarded> {
    Arc::new(Guarded::new(backend, Arc::new(AtHome(home.clone()))))
}

#[async_trait]
impl Keys for AtHome {
    async fn key(&self, name: &str) -> Option<Zeroizing<String>> {
        match self.0.secret(name).await {
            Ok(secret) => Some(secret),
            Err(HomeError::NotFound) => None,
            Err(error) => {
                tracing::warn!(%error, "the key of a server can't be read");
                None
            }
        }
    }
}

#[async_trait]
impl Ledger for AtHome {
    async fn allows(
        &self,
        person: PersonId,
        engine: &str,
        address: &str,
    ) -> Result<bool, BackendError> {
        let found = self.0.allows_engine(person, engine, address).await;
        found.map_err(|_| BackendError::NotNoted)
    }

    async fn begin(&self, person: PersonId, out: &Outgoing) -> Result<i64, BackendError> {
        let out = NewEgress {
            engine: out.engine.clone(),
            address: out.address.clone(),
            model: out.model.clone(),
            what: match out.what {
                What::Chat => "chat",
                What::Embeddings => "embeddings",
            },
            bytes: out.bytes,
        };
        let noted = self.0.note_egress(person, out).await;
        noted.map_err(|error| match error {
            HomeError::NotFound => BackendError::NotAllowed,
            error => {
                tracing::warn!(%error, "what would leave can't be noted; nothing was sent");
                BackendError::NotNoted
            }
        })
    }

    async fn end(&self, person: PersonId, note: i64, tokens: u32) {
        if let Err(error) = self.0.settle_egress(person, note, tokens).await {
            tracing::debug!(%error, "how many tokens left was not noted");
        }
    }
}

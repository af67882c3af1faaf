//! Ollama's models, as the owner has them kept: downloaded, made, shown, removed.

use ::http::Method;
use aico_contracts::v1::Fault;
use async_trait::async_trait;
use tokio::sync::watch;

use super::about::{capabilities, cut};
use super::create::{self, Creation, Source};
use super::name::Name;
use super::{NAME, Ollama, http, registry, wire};
use crate::backend::shelf::{Details, Making, Offer, Progress, Shelf, Trouble};
use crate::backend::{Backend as _, BackendError};

/// Longest text of a model that is told.
const TEXT: usize = 32 << 10;
/// For the one who wrote a part to notice that nobody wants it any more.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(500);

#[async_trait]
impl Shelf for Ollama {
    fn whole(&self, name: &str) -> Result<String, Fault> {
        Ok(Name::parse(name)?.whole())
    }

    async fn offer(&self, making: &Making) -> Result<Offer, Fault> {
        let present = self.has(&making.name).await?;
        let mut offer = match self.to_download(making).await? {
            Some(name) => registry::look_up(&self.config.way, &name).await?,
            None => Offer::default(),
        };
        offer.present = present;
        for path in self.files(making) {
            let sized = tokio::task::spawn_blocking(move || {
                let size = create::size_of(&path);
                size.map_err(|error| (path, error))
            });
            match sized.await {
                Ok(Ok(size)) => offer.copied = offer.copied.saturating_add(size),
                Ok(Err((path, error))) => {
                    let fault = error.to_fault(NAME);
                    return Err(fault.with_detail(format!("{}.", path.display())));
                }
                Err(_) => return Err(Fault::internal("Reading the model file failed")),
            }
        }
        Ok(offer)
    }

    async fn make(
        &self,
        making: &Making,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Trouble> {
        let refused = |fault| Trouble {
            fault,
            passes: false,
        };
        let download = match &making.recipe {
            None => Some(Name::parse(&making.name).map_err(refused)?),
            Some(_) => {
                let missing = self.to_download(making).await;
                missing.map_err(|fault| Trouble {
                    passes: fault.code.starts_with("engine-"),
                    fault,
                })?
            }
        };
        if let Some(name) = download {
            let own = self.config.way.own.as_ref();
            name.may_come(own).map_err(refused)?;
            let unencrypted = name.is_own(own) && own.is_some_and(|own| !own.secure());
            let whole = name.whole();
            let pulled = self.pull_for(&making.name, &whole, unencrypted, progress);
            let pulled = pulled.await;
            pulled.map_err(|error| trouble(&error, &name.host))?;
        }
        let Some(recipe) = &making.recipe else {
            return Ok(());
        };
        let creation = Creation::new(&making.name, recipe.clone(), &making.folder);
        let made = self.create(&creation, progress).await;
        made.map_err(|error| trouble(&error, "Ollama"))
    }

    async fn give_up(&self, name: &str) {
        let models = self.config.folder.join("models");
        if !models.is_dir() {
            self.parts.forget(name);
            return;
        }
        tokio::time::sleep(SETTLE).await;
        self.parts.remove(name, &models);
    }

    async fn details(&self, name: &str) -> Result<Details, Fault> {
        let shown = async {
            let http = self.http().await?;
            let question = http::json(&wire::ShowRequest { model: name })?;
            let patience = self.config.limits.answer;
            let shown: wire::Shown = http
                .value(Method::POST, "/api/show", question, patience)
                .await?;
            let about = self.about_model(&http, name).await?;
            Ok((shown, about))
        };
        let shown = self.heard(shown.await);
        let (shown, about) = shown.map_err(|error| error.to_fault(NAME))?;
        let words = shown.capabilities.as_deref().unwrap_or_default();
        let words = capabilities(words);
        Ok(Details {
            license: cut(&shown.license, TEXT),
            template: cut(&shown.template, TEXT),
            system: cut(&shown.system, TEXT),
            parameters: cut(&shown.parameters, TEXT),
            architecture: about.architecture.clone(),
            parameter_count: about.parameters,
            quantization: cut(&shown.details.quantization_level, 32),
            context_length: about.context_length,
            capabilities: words.iter().map(|one| one.as_str().to_owned()).collect(),
        })
    }

    async fn delete(&self, name: &str) -> Result<(), Fault> {
        let deleted = self.heard(Ollama::delete(self, name).await);
        deleted.map_err(|error| error.to_fault(NAME))
    }
}

impl Ollama {
    /// Whether it has a model of this name.
    async fn has(&self, name: &str) -> Result<bool, Fault> {
        let listed = self.models().await.map_err(|error| error.to_fault(NAME))?;
        Ok(listed.iter().any(|model| same(&model.name, name)))
    }

    /// What has to be downloaded for it.
    async fn to_download(&self, making: &Making) -> Result<Option<Name>, Fault> {
        let name = match (&making.recipe, self.from(making)) {
            (None, _) => making.name.clone(),
            (Some(_), Some(Source::Model(from))) => {
                let from = Name::parse(&from)?;
                if self.has(&from.whole()).await? {
                    return Ok(None);
                }
                from.whole()
            }
            (Some(_), _) => return Ok(None),
        };
        let name = Name::parse(&name)?;
        name.may_come(self.config.way.own.as_ref())?;
        Ok(Some(name))
    }

    fn creation(making: &Making) -> Option<Creation> {
        let recipe = making.recipe.clone()?;
        Some(Creation::new(&making.name, recipe, &making.folder))
    }

    fn from(&self, making: &Making) -> Option<Source> {
        Self::creation(making).map(|creation| creation.source())
    }

    /// Files of this machine that it is made of.
    fn files(&self, making: &Making) -> Vec<std::path::PathBuf> {
        let Some(creation) = Self::creation(making) else {
            return Vec::new();
        };
        let mut files = match creation.source() {
            Source::Files(files) => files,
            Source::Model(_) => Vec::new(),
        };
        files.extend(creation.adapters());
        files
    }
}

/// As Ollama compares names.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// What is told of a model that was not made.
fn trouble(error: &BackendError, host: &str) -> Trouble {
    let fault = match error {
        BackendError::ModelMissing => registry::missing(host),
        BackendError::Key => Fault::refused("This model is not handed out to everybody")
            .with_detail(format!("{host} wants to know who asks."))
            .with_what_to_do("Choose another model, or let Ollama itself sign in there."),
        BackendError::Refused { .. } => Fault::refused(format!("{NAME} does not make this model"))
            .with_what_to_do("Look at what it is made of, and at its name."),
        other => other.to_fault(NAME),
    };
    let passes = matches!(
        error,
        BackendError::Absent { .. }
            | BackendError::NotInstalled { .. }
            | BackendError::CutOff
            | BackendError::TimedOut { .. }
            | BackendError::RegistryUnreachable
            | BackendError::Unreadable
            | BackendError::Resting { .. }
            | BackendError::NotStarted
            | BackendError::Failed { .. }
    );
    Trouble { fault, passes }
}

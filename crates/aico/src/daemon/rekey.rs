//! The log's and the journal's files in a change of keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_access::{Home, PartChecked, PartsError, SealedParts};
use aico_logging::{CheckedLog, Logging};
use aico_vault::Vault;
use tokio::sync::{mpsc, oneshot};

/// The journal's files are to be written anew; `true`: what is inside them too.
pub(super) struct Ask {
    pub(super) all: bool,
    pub(super) done: oneshot::Sender<Result<(), PartsError>>,
}

/// In a daemon: the log goes on in a new file, and whoever has the journal closes it meanwhile.
pub(super) struct Running {
    pub(super) home: Home,
    pub(super) logging: Logging,
    pub(super) settings: aico_config::Logging,
    pub(super) data: PathBuf,
    pub(super) asks: mpsc::Sender<Ask>,
}

#[async_trait::async_trait]
impl SealedParts for Running {
    async fn logs(&self) -> Result<(), PartsError> {
        let (folder, vault) = (self.data.join("logs"), self.home.vault()?);
        let (logging, settings) = (self.logging.clone(), self.settings.clone());
        blocking(move || {
            // What is written from now on is under the present key.
            logging.attach(&folder, vault.clone(), &settings)?;
            told(aico_logging::rekey(&folder, &vault)?);
            Ok(())
        })
        .await
    }

    async fn journal(&self, all: bool) -> Result<(), PartsError> {
        let (done, answer) = oneshot::channel();
        self.asks.send(Ask { all, done }).await?;
        answer.await?
    }

    async fn check_journal(
        &self,
        told: &mut (dyn FnMut(PartChecked) -> bool + Send),
    ) -> Result<(), PartsError> {
        check_journal(self.home.vault()?, told).await
    }

    async fn check_logs(
        &self,
        told: &mut (dyn FnMut(PartChecked) -> bool + Send),
    ) -> Result<(), PartsError> {
        // Without a folder the log goes to the console only.
        let Ok(reader) = self.logging.reader() else {
            return Ok(());
        };
        let check = move |each: &mut dyn FnMut(CheckedLog) -> bool| Ok(reader.check(each)?);
        check_logs(check, told).await
    }

    fn bytes(&self) -> (u64, u64) {
        bytes(&self.data)
    }
}

/// Without a daemon: nobody has the files open.
pub(crate) struct AtRest {
    pub(crate) home: Home,
    pub(crate) data: PathBuf,
}

#[async_trait::async_trait]
impl SealedParts for AtRest {
    async fn logs(&self) -> Result<(), PartsError> {
        let (folder, vault) = (self.data.join("logs"), self.home.vault()?);
        blocking(move || {
            told(aico_logging::rekey(&folder, &vault)?);
            Ok(())
        })
        .await
    }

    async fn journal(&self, all: bool) -> Result<(), PartsError> {
        journal(self.home.vault()?, all).await
    }

    async fn check_journal(
        &self,
        told: &mut (dyn FnMut(PartChecked) -> bool + Send),
    ) -> Result<(), PartsError> {
        check_journal(self.home.vault()?, told).await
    }

    async fn check_logs(
        &self,
        told: &mut (dyn FnMut(PartChecked) -> bool + Send),
    ) -> Result<(), PartsError> {
        let (folder, vault) = (self.data.join("logs"), self.home.vault()?);
        let check = move |each: &mut dyn FnMut(CheckedLog) -> bool| {
            Ok(aico_logging::check(&folder, &vault, each)?)
        };
        check_logs(check, told).await
    }

    fn bytes(&self) -> (u64, u64) {
        bytes(&self.data)
    }
}

/// Writes the files of a journal anew that nobody has open.
pub(super) async fn journal(vault: Vault, all: bool) -> Result<(), PartsError> {
    let folder = vault.data().join("journal");
    blocking(move || {
        aico_bus::rekey_journal(Arc::new(vault), &folder, all)?;
        Ok(())
    })
    .await
}

/// Reads the files of the journal again, beside whoever writes them.
async fn check_journal(
    vault: Vault,
    told: &mut (dyn FnMut(PartChecked) -> bool + Send),
) -> Result<(), PartsError> {
    let folder = vault.data().join("journal");
    let (files, mut checked) = mpsc::channel(16);
    let reading = tokio::task::spawn_blocking(move || {
        aico_bus::check_journal(Arc::new(vault), &folder, &mut |file| {
            files.blocking_send(file).is_ok()
        })
    });
    while let Some(file) = checked.recv().await {
        let part = PartChecked {
            path: file.path,
            records: file.records,
            wrong: file.wrong,
        };
        if !told(part) {
            break;
        }
    }
    drop(checked);
    Ok(reading.await??)
}

/// Reads the log's files again, each as far as it was written when that began.
async fn check_logs(
    check: impl FnOnce(&mut dyn FnMut(CheckedLog) -> bool) -> Result<(), PartsError> + Send + 'static,
    told: &mut (dyn FnMut(PartChecked) -> bool + Send),
) -> Result<(), PartsError> {
    let (files, mut checked) = mpsc::channel(16);
    let reading =
        tokio::task::spawn_blocking(move || check(&mut |file| files.blocking_send(file).is_ok()));
    while let Some(file) = checked.recv().await {
        let part = PartChecked {
            path: file.path,
            records: file.records,
            wrong: file.wrong,
        };
        if !told(part) {
            break;
        }
    }
    drop(checked);
    reading.await?
}

async fn blocking(
    work: impl FnOnce() -> Result<(), PartsError> + Send + 'static,
) -> Result<(), PartsError> {
    tokio::task::spawn_blocking(work).await?
}

fn told(unreadable: usize) {
    if unreadable > 0 {
        tracing::warn!(
            files = unreadable,
            "damaged log files stay under the old key"
        );
    }
}

/// Bytes of the log's files and of the journal's.
fn bytes(data: &Path) -> (u64, u64) {
    let of = |folder: PathBuf| -> u64 {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .map(|about| about.len())
            .sum()
    };
    (of(data.join("logs")), of(data.join("home/journal")))
}

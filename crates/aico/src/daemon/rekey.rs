//! The log's and the journal's files in a change of keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_access::{Home, JournalAnew, PartChecked, PartsError, SealedParts};
use aico_bus::Anew;
use aico_logging::{CheckedLog, LogError, Logging};
use aico_vault::Vault;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Held while the log's files are written anew: a lock does not wait for long, and the next unlocking
/// goes on with it.
static LOGS: parking_lot::Mutex<()> = parking_lot::const_mutex(());

/// The journal's files are to be written anew.
pub(super) struct Ask {
    pub(super) what: JournalAnew,
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

impl Running {
    /// One change of the log's files at a time, and none once it is being locked.
    async fn change_logs(
        &self,
        change: impl FnOnce(&Logging, &Path, &Vault, &dyn Fn() -> bool) -> Result<usize, LogError>
        + Send
        + 'static,
    ) -> Result<(), PartsError> {
        let hold = self.home.hold();
        let (folder, vault) = (self.data.join("logs"), self.home.vault()?);
        let (logging, go_on) = (self.logging.clone(), while_open(&self.home));
        blocking(hold, move || {
            let _one = LOGS.lock();
            if !go_on() {
                return Err(LogError::Locked.into());
            }
            told(change(&logging, &folder, &vault, &go_on)?);
            Ok(())
        })
        .await
    }
}

#[async_trait::async_trait]
impl SealedParts for Running {
    async fn logs(&self) -> Result<(), PartsError> {
        let settings = self.settings.clone();
        self.change_logs(move |logging, folder, vault, go_on| {
            // What is written from now on is under the present key.
            logging.attach_again(folder, vault, &settings)?;
            aico_logging::rekey(folder, vault, go_on)
        })
        .await
    }

    async fn logs_anew(&self) -> Result<(), PartsError> {
        let settings = self.settings.clone();
        self.change_logs(move |logging, folder, vault, go_on| {
            logging.rekey_all(folder, vault, &settings, go_on)
        })
        .await
    }

    async fn journal(&self, what: JournalAnew) -> Result<(), PartsError> {
        let (done, answer) = oneshot::channel();
        self.asks.send(Ask { what, done }).await?;
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
        let hold = self.home.hold();
        let (folder, vault) = (self.data.join("logs"), self.home.vault()?);
        blocking(hold, move || {
            told(aico_logging::rekey(&folder, &vault, &|| true)?);
            Ok(())
        })
        .await
    }

    async fn logs_anew(&self) -> Result<(), PartsError> {
        let hold = self.home.hold();
        let (folder, vault) = (self.data.join("logs"), self.home.vault()?);
        blocking(hold, move || {
            told(aico_logging::rekey_all(&folder, &vault, &|| true)?);
            Ok(())
        })
        .await
    }

    async fn journal(&self, what: JournalAnew) -> Result<(), PartsError> {
        journal(self.home.hold(), self.home.vault()?, what, || true).await
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

/// Whether it is still open, and not again: a lock waits for the file that is being written and no
/// longer, and the next unlocking has a vault and a registry of its own.
pub(super) fn while_open(home: &Home) -> impl Fn() -> bool + Send + 'static {
    let (home, epoch) = (home.clone(), home.epoch());
    move || home.stage() == aico_access::Stage::Ready && home.epoch() == epoch
}

/// Writes the files of a journal anew that nobody has open.
pub(super) async fn journal(
    hold: TaskTrackerToken,
    vault: Vault,
    what: JournalAnew,
    go_on: impl Fn() -> bool + Send + 'static,
) -> Result<(), PartsError> {
    let folder = vault.data().join("journal");
    let what = match what {
        JournalAnew::Behind => Anew::Behind,
        JournalAnew::Bodies => Anew::Bodies,
        JournalAnew::Files => Anew::Files,
    };
    blocking(hold, move || {
        match aico_bus::rekey_journal(Arc::new(vault), &folder, what, &go_on)?.stopped {
            true => Err("AICO is being locked".into()),
            false => Ok(()),
        }
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

/// Runs what goes on although whoever asked may be gone: a lock waits for it.
async fn blocking(
    hold: TaskTrackerToken,
    work: impl FnOnce() -> Result<(), PartsError> + Send + 'static,
) -> Result<(), PartsError> {
    tokio::task::spawn_blocking(move || {
        let done = work();
        drop(hold);
        done
    })
    .await?
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aico_access::{HomeConfig, SetupProof, Stage};
    use aico_vault::{KdfCost, Keychains, Password};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lock_waits_for_files_that_are_written_anew_though_nobody_asks_any_more() {
        let data = tempfile::tempdir().unwrap();
        let home = Home::open(HomeConfig {
            kdf: KdfCost::minimum(),
            keychains: Arc::new(Keychains::default()),
            ..crate::daemon::home_config(data.path(), 24)
        })
        .unwrap();
        let password = Password::new("velvet harbour moss lantern").unwrap();
        home.set_up(SetupProof::LocalSocket, "Ada", &password, "test")
            .await
            .map(drop)
            .unwrap();
        let (begun, begins) = oneshot::channel();
        let (end, ends) = std::sync::mpsc::channel();
        let asked = tokio::spawn(blocking(home.hold(), move || {
            begun.send(()).unwrap();
            Ok(ends.recv()?)
        }));
        begins.await.unwrap();
        asked.abort();

        let mut stage = home.watch_stage();
        let mut locking = tokio::spawn(async move { home.lock().await });
        stage
            .wait_for(|stage| *stage == Stage::Locked)
            .await
            .unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(100), &mut locking).await;
        assert!(waited.is_err());
        end.send(()).unwrap();
        locking.await.unwrap().unwrap();
    }
}

//! What AICO writes about what happens: to the console, and once the vault is open to sealed files.
//!
//! One [`Record`] is made of each event and goes two ways. The console shows it to whoever
//! started the program. After [`Logging::attach`] it also goes to an encrypted file in the data
//! folder; what happened before unlocking is on the console only, since there is no key to seal
//! it with. [`Logging::detach`] closes the file and drops the key when the vault locks.
//!
//! No chat text, name, key or token is in a record, at any level. Types that carry such things
//! have no `Debug` and no `Display`; the rules in [`redact`] are the second fence.
//!
//! What the levels mean:
//!
//! | level | meaning |
//! |---|---|
//! | `ERROR` | data is at risk, or a person is needed |
//! | `WARN` | something did not go as it should and was dealt with |
//! | `INFO` | what an owner would want to know afterwards |
//! | `DEBUG`, `TRACE` | what a developer would want to know |
//!
//! ```
//! use aico_logging::{Console, Logging};
//!
//! let settings = aico_config::Config::default().logging;
//! let logging = Logging::start(&settings, Console::Human)?;
//! tracing::info!(port = 8771, "The gateway is open");
//! assert!(!logging.is_attached());
//! # Ok::<(), aico_logging::LogError>(())
//! ```
#![forbid(unsafe_code)]

mod capture;
mod check;
mod console;
mod error;
mod files;
mod levels;
mod panic;
mod query;
mod reader;
mod record;
pub mod redact;
mod rekey;
mod sealed;
mod writer;

pub use check::{CheckedLog, check};
pub use console::Console;
pub use error::LogError;
pub use panic::install_panic_hook;
pub use query::Query;
pub use reader::LogReader;
pub use record::Record;
pub use rekey::{rekey, rekey_all};

use std::path::Path;
use std::sync::{Arc, RwLock};

use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt;

use aico_vault::Vault;

use crate::capture::Capture;
use crate::levels::Levels;
use crate::writer::Writer;

/// The place that both the layer and the handles know: whether there is a file to write to.
type Attached = Arc<RwLock<Option<Writer>>>;

/// The program's logging. Clones are handles to the same.
#[derive(Clone)]
pub struct Logging {
    levels: Levels,
    attached: Attached,
}

impl Logging {
    /// Starts logging to the console. Once in a process, before anything else is done.
    ///
    /// # Errors
    /// [`LogError::Started`] when this process logs already.
    pub fn start(settings: &aico_config::Logging, console: Console) -> Result<Self, LogError> {
        let (logging, dispatch) = Self::prepare(settings, console);
        tracing::dispatcher::set_global_default(dispatch).map_err(LogError::Started)?;
        Ok(logging)
    }

    /// The same without installing it: for tests, which share a process.
    #[must_use]
    pub fn prepare(settings: &aico_config::Logging, console: Console) -> (Self, Dispatch) {
        let attached = Attached::default();
        let (filter, levels) = Levels::new(settings);
        let capture = Capture::new(console, attached.clone());
        let subscriber = tracing_subscriber::registry().with(filter).with(capture);
        (Self { levels, attached }, Dispatch::new(subscriber))
    }

    /// Begins to write to sealed files in `folder`, which is created (0700) when missing. The
    /// vault is held open until [`Self::detach`].
    ///
    /// # Errors
    /// When the folder or the first file can't be made; nothing is attached then.
    pub fn attach(
        &self,
        folder: &Path,
        vault: Vault,
        settings: &aico_config::Logging,
    ) -> Result<(), LogError> {
        let writer = Writer::start(folder, vault, settings)?;
        let previous = self.slot_mut().replace(writer);
        if let Some(previous) = previous {
            previous.stop();
        }
        Ok(())
    }

    /// As [`rekey_all`], with what is being written: it goes on in a new file.
    ///
    /// # Errors
    /// As [`Self::attach_again`] and [`rekey_all`].
    pub fn rekey_all(
        &self,
        folder: &Path,
        vault: &Vault,
        settings: &aico_config::Logging,
        go_on: &dyn Fn() -> bool,
    ) -> Result<usize, LogError> {
        let files = rekey::list(folder)?;
        // From here on nobody writes those.
        self.attach_again(folder, vault, settings)?;
        let done = rekey::anew(folder, vault, files, go_on);
        // Once more, also when it failed: whoever writes knows the files that were there before. Not
        // to go on, it is being locked, and whoever writes next may have another vault.
        if go_on() {
            self.attach_again(folder, vault, settings)?;
        }
        done
    }

    /// Goes on in a new file. Where none is written, as after a lock meanwhile, none begins.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_again(
        &self,
        folder: &Path,
        vault: &Vault,
        settings: &aico_config::Logging,
    ) -> Result<(), LogError> {
        if !self.is_attached() {
            return Ok(());
        }
        let writer = Writer::start(folder, vault.clone(), settings)?;
        let unneeded = {
            let mut slot = self.slot_mut();
            match slot.is_some() {
                true => slot.replace(writer),
                false => Some(writer),
            }
        };
        if let Some(unneeded) = unneeded {
            unneeded.stop();
        }
        Ok(())
    }

    /// Writes what is waiting, closes the file and drops the key. Returns when that is done.
    /// Without a file it does nothing.
    pub fn detach(&self) {
        let writer = self.slot_mut().take();
        if let Some(writer) = writer {
            writer.stop();
        }
    }

    /// Whether records go to a file.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.slot().is_some()
    }

    /// Returns when everything logged so far is on disk. Without a file it does nothing.
    pub fn flush(&self) {
        let handle = self.slot().as_ref().map(Writer::handle);
        if let Some(handle) = handle {
            handle.flush();
        }
    }

    /// Changes the levels from now on.
    pub fn set_levels(&self, settings: &aico_config::Logging) {
        self.levels.set(settings);
    }

    /// Records that found no room in the queue to the file, since it was attached. Each such
    /// gap is also told in the file.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.slot().as_ref().map_or(0, Writer::dropped)
    }

    /// Reads what was logged.
    ///
    /// # Errors
    /// [`LogError::Locked`] while there is no key to read with.
    pub fn reader(&self) -> Result<LogReader, LogError> {
        let handle = self
            .slot()
            .as_ref()
            .map(Writer::handle)
            .ok_or(LogError::Locked)?;
        Ok(LogReader::new(handle))
    }

    // A poisoned lock means that a thread died between two assignments of an `Option`: the
    // value is whole, and logging has to go on.
    fn slot(&self) -> std::sync::RwLockReadGuard<'_, Option<Writer>> {
        self.attached
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn slot_mut(&self) -> std::sync::RwLockWriteGuard<'_, Option<Writer>> {
        self.attached
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

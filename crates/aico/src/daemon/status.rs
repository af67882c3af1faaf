//! What `aico status` and the settings page tell of the process.

use aico_access::Home;
use aico_gateway::{ProcessStatus, StatusSource};
use aico_logging::Logging;
use aico_models::supervisor::{MemoryProbe as _, SystemMemory};
use jiff::Timestamp;

/// Asks the parts when it is asked.
pub(super) struct Status {
    home: Home,
    logging: Logging,
    started_at: Timestamp,
}

impl Status {
    pub(super) fn new(home: Home, logging: Logging) -> Self {
        Self {
            home,
            logging,
            started_at: Timestamp::now(),
        }
    }

    async fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let health = self.home.health().await;
        if health.storage_full {
            warnings.push(
                "The disk is full: what is there can be read, nothing new is stored. Free some \
                 space; AICO goes on by itself."
                    .to_owned(),
            );
        }
        if health.storage_read_only {
            warnings.push(
                "The disk can only be read: nothing new is stored. Make it writable; AICO goes on \
                 by itself."
                    .to_owned(),
            );
        }
        if health.storage_failing {
            warnings.push(
                "The disk fails at reading or writing. Make a backup to another disk while it can \
                 be read, and look at the system's log."
                    .to_owned(),
            );
        }
        if let Some(took) = health.slow_commit {
            warnings.push(format!(
                "The disk is slow: storing takes {:.1} seconds.",
                took.as_secs_f64()
            ));
        }
        if health.damaged {
            let whose = match health.persons_damaged {
                0 => "Stored data is damaged".to_owned(),
                1 => "The data of one person is damaged, nobody else's".to_owned(),
                count => format!("The data of {count} persons is damaged, nobody else's"),
            };
            warnings.push(format!(
                "{whose}. What, and what can be put back from where: aico store check"
            ));
        }
        if !self.logging.is_attached() {
            warnings.push("The log goes to the console only.".to_owned());
        }
        let dropped = self.logging.dropped();
        if dropped > 0 {
            warnings.push(format!("{dropped} records of the log were dropped."));
        }
        if !aico_gateway::is_built() {
            warnings
                .push("This program was built without the web page; `./run` builds it.".to_owned());
        }
        warnings
    }
}

#[async_trait::async_trait]
impl StatusSource for Status {
    async fn status(&self) -> ProcessStatus {
        let process = std::process::id();
        let usage = SystemMemory.process(process);
        ProcessStatus {
            pid: process,
            started_at: self.started_at,
            resident_bytes: usage.map_or(0, |usage| usage.resident),
            persons_open: u32::try_from(self.home.open_persons().await).unwrap_or(u32::MAX),
            warnings: self.warnings().await,
        }
    }
}

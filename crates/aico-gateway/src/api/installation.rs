//! Installing another program that runs models.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::ProblemDocument;

/// What there is of a program that AICO can install.
#[derive(Serialize, ToSchema)]
pub(crate) struct EngineInstallation {
    /// `ollama`.
    pub(crate) engine: String,
    /// Version of what AICO installed.
    #[schema(required = true)]
    pub(crate) installed: Option<String>,
    /// The program that is started, AICO's own or one that was here; null: none is here.
    #[schema(required = true)]
    pub(crate) program: Option<String>,
    /// AICO starts it when it is needed, unless one runs already. Otherwise the configuration
    /// says to leave it alone.
    pub(crate) starts: bool,
    /// What would be installed; null when that is here already, or `problem` says why nothing can
    /// be.
    #[schema(required = true)]
    pub(crate) release: Option<EngineRelease>,
    #[schema(required = true)]
    pub(crate) problem: Option<ProblemDocument>,
    /// The installation that runs, or how the last one ended since AICO was unlocked; null when
    /// there was none, or it was cancelled.
    #[schema(required = true)]
    pub(crate) run: Option<EngineInstalling>,
}

/// What can be installed.
#[derive(Serialize, ToSchema)]
pub(crate) struct EngineRelease {
    pub(crate) version: String,
    /// Day on which the list that it is from was last looked at.
    pub(crate) date: String,
    /// Where its archive is fetched, by https unless it is a mirror of one's own.
    pub(crate) source: String,
    /// Of the archive. On the disk it takes about three times that.
    pub(crate) size_bytes: u64,
    /// Of the archive, hexadecimal. Nothing is unpacked before it was compared.
    pub(crate) sha256: String,
    pub(crate) license: String,
    pub(crate) license_url: String,
    /// What else has to be known before.
    #[schema(required = true)]
    pub(crate) notice: Option<String>,
    /// Of the archive, downloaded another time: it goes on from there.
    pub(crate) kept_bytes: u64,
    /// Where it goes.
    pub(crate) folder: String,
}

/// How far an installation is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InstallStatus {
    /// What is here already is looked at.
    Checking,
    /// It is downloaded.
    Running,
    /// It is tried again by itself; `problem` says why.
    Waiting,
    /// All of it is here, and its hash is computed.
    Verifying,
    /// `done_bytes` are written, and `total_bytes` is 0: how many there will be is not known.
    Unpacking,
    Done,
    /// `problem` says why. What was downloaded is kept, unless it was wrong.
    Failed,
}

/// An installation.
#[derive(Serialize, ToSchema)]
pub(crate) struct EngineInstalling {
    pub(crate) version: String,
    pub(crate) status: InstallStatus,
    /// Downloaded, read, or while unpacking: written.
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) bytes_per_second: u64,
    /// While it is known.
    #[schema(required = true)]
    pub(crate) seconds_left: Option<u64>,
    #[schema(required = true)]
    pub(crate) problem: Option<ProblemDocument>,
}

/// What a person agreed to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "version": "0.35.0",
    "sha256": "1c114a6b220c5efca2ef2b1e5f01d1e535e26f6cd6d1678c8489325d2835e525"
}))]
pub(crate) struct InstallEngine {
    /// As `release` shows it.
    pub(crate) version: String,
    /// As `release` shows it.
    pub(crate) sha256: String,
}

//! Why Ollama was not installed, and what the person is told of it.

use std::io;
use std::path::PathBuf;

use aico_contracts::v1::Fault;

use crate::disk;
use crate::pull::PullError;

/// Why an installation did not come about. What was installed before stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is nothing for this kind of machine.
    #[error("there is no Ollama to install on {machine}")]
    None {
        /// System and processor.
        machine: String,
    },
    /// Nothing proves that what would be downloaded is what it should be.
    #[error("Ollama {version} can't be checked: {why}")]
    Unproven {
        /// Of Ollama.
        version: String,
        /// What is missing.
        why: String,
    },
    /// The list of releases can't be used.
    #[error("the list of releases can't be used: {0}")]
    List(String),
    /// The download.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The right bytes, and not what an archive of Ollama is.
    #[error("the archive can't be unpacked: {0}")]
    Archive(&'static str),
    /// No room.
    #[error("the disk is full")]
    Full,
    /// The disk says no.
    #[error("{path} can't be used")]
    Disk {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another one is at it.
    #[error("it is being installed already")]
    Busy,
    /// It runs.
    #[error("it runs (process {process})")]
    Running {
        /// Which.
        process: u32,
    },
    /// Nothing of ours is installed.
    #[error("it is not installed")]
    NotInstalled,
    /// The person.
    #[error("it was stopped")]
    Stopped,
}

impl InstallError {
    pub(super) fn disk(path: impl Into<PathBuf>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Disk {
                path: path.into(),
                source,
            },
        }
    }

    /// As it is told.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let by_hand = "Install Ollama by hand as https://ollama.com tells; AICO finds and uses it.";
        match self {
            Self::None { machine } => {
                Fault::not_found("There is no Ollama to install on this machine")
                    .with_detail(format!("AICO has none for {machine}."))
                    .with_what_to_do(by_hand)
            }
            Self::Unproven { version, why } => {
                Fault::refused("Ollama can't be installed without a check")
                    .with_detail(format!("For Ollama {version}: {why}."))
                    .with_what_to_do(format!(
                        "{by_hand} Or name a list of your own with its hash and size \
                         (ollama.releases; docs/engines.md has the format)."
                    ))
            }
            Self::List(why) => {
                Fault::new("catalogue-unusable", "The list of releases can't be used")
                    .with_detail(format!("{why}."))
                    .with_what_to_do(
                        "Mend the file that ollama.releases names, or take the key out of the \
                         configuration.",
                    )
            }
            Self::Pull(PullError::Full { .. }) | Self::Full => Fault::storage_full()
                .with_what_to_do(
                    "Free some space, then install it again: what was downloaded is kept.",
                ),
            Self::Pull(error) => {
                let mut fault = error.to_fault();
                if fault.code == "download-failed" {
                    fault.what_to_do = format!("What was downloaded is kept: try again. {by_hand}");
                } else if fault.code == "download-wrong" {
                    fault.title = "This is not the Ollama that was asked for".to_owned();
                    fault.what_to_do = format!(
                        "Nothing of it was used. The server may have another file, or somebody \
                         altered it. {by_hand}"
                    );
                }
                fault
            }
            Self::Archive(why) => Fault::new("download-wrong", "The archive can't be unpacked")
                .with_detail(format!("It was left alone, because {why}."))
                .with_what_to_do(by_hand),
            Self::Disk { path, source } => {
                let fault = disk::fault(source).unwrap_or_else(|| {
                    Fault::new("engine-folder", "The folder for Ollama can't be used")
                        .with_what_to_do("Check that the data folder can be written.")
                });
                fault.with_detail(format!("{}: {source}.", path.display()))
            }
            Self::Busy => Fault::conflict("Ollama is being installed already")
                .with_what_to_do("Wait until the other installation has ended."),
            Self::Running { process } => Fault::conflict("Ollama is running")
                .with_detail(format!("Process {process} runs from its folder."))
                .with_what_to_do(
                    "End AICO first (Ctrl-C where `aico serve` runs), then try again.",
                ),
            Self::NotInstalled => Fault::not_found("AICO has not installed Ollama")
                .with_what_to_do("One that was installed in another way is not touched."),
            Self::Stopped => Fault::new("download-failed", "The installation was stopped")
                .with_what_to_do("What was downloaded is kept: ask for it again."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_says_has_its_code() {
        let code = |error| InstallError::disk("x", error).to_fault().code;
        assert_eq!(code(io::ErrorKind::StorageFull.into()), "storage-full");
        assert_eq!(
            code(io::ErrorKind::ReadOnlyFilesystem.into()),
            "storage-read-only"
        );
        #[cfg(unix)]
        assert_eq!(
            code(io::Error::from_raw_os_error(libc::EIO)),
            "storage-failing"
        );
        assert_eq!(
            code(io::ErrorKind::PermissionDenied.into()),
            "engine-folder"
        );
    }
}

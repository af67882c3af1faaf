//! What can go wrong with a download, and what the person is told of it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aico_contracts::v1::Fault;

use super::catalogue::CatalogueError;
use crate::disk;
use crate::supervisor::files::AddError;

/// Why a download does not go on. What was downloaded well before stays, except after
/// [`PullError::WrongHash`], [`PullError::NotAModel`] and [`PullError::Changed`].
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The server can't be reached.
    #[error("{host} can't be reached: {why}")]
    Offline {
        /// Its name.
        host: String,
        /// What the system says.
        why: String,
    },
    /// The connection broke, or what came was less than announced.
    #[error("the connection to {0} broke")]
    Cut(String),
    /// Less came than the least rate.
    #[error("{0} sends too slowly")]
    TooSlow(String),
    /// It failed, or asks to wait.
    #[error("{host} answered with status {status}")]
    Server {
        /// Its name.
        host: String,
        /// What it said.
        status: u16,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
    /// The certificate does not prove who the server is.
    #[error("the connection to {host} is not secure: {why}")]
    Insecure {
        /// Its name.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name, or a redirect, that leads where downloads may not go.
    #[error("{host} leads to {address}, which is no address of the internet")]
    Address {
        /// The name.
        host: String,
        /// What it stands for.
        address: IpAddr,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects to where a download does not follow: {why}")]
    Redirect {
        /// Who redirects.
        host: String,
        /// What is wrong with where.
        why: String,
    },
    /// It wants an account, or does not give the file to us.
    #[error("{host} does not hand the file out (status {status})")]
    Refused {
        /// Its name.
        host: String,
        /// What it said.
        status: u16,
    },
    /// There is no such file.
    #[error("{0} has no such file")]
    Gone(String),
    /// The answer makes no sense.
    #[error("{host} answered what can't be used: {why}")]
    Answer {
        /// Its name.
        host: String,
        /// Why not.
        why: &'static str,
    },
    /// A file of another size.
    #[error("{host} has a file of {found} bytes, not of {expected}")]
    WrongSize {
        /// Who has it.
        host: String,
        /// Bytes by the catalogue.
        expected: u64,
        /// Bytes by the server; a lower bound when it did not say.
        found: u64,
    },
    /// Other bytes.
    #[error("what {0} sent is not the file of the catalogue")]
    WrongHash(String),
    /// The file that is here is another one, and nobody agreed to a download.
    #[error("{path} is not the file of the catalogue")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The model, by the catalogue.
        name: String,
    },
    /// The right bytes, but nothing that can be run.
    #[error("the file is no model that can be run")]
    NotAModel {
        /// What it is instead.
        fault: Fault,
        /// The file where it was here before: it stays. What was downloaded is removed.
        kept: Option<PathBuf>,
    },
    /// The right bytes, but nothing came of reading them as a model.
    #[error("the file could not be read as a model")]
    Unread {
        /// Why not.
        fault: Box<Fault>,
        /// The file where it is in its place.
        kept: Option<PathBuf>,
    },
    /// The catalogue names another file now.
    #[error("the catalogue names another file under this name now")]
    Changed,
    /// The catalogue can't be used.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// No room.
    #[error("the disk is full")]
    Full {
        /// Bytes that are still to come.
        needed: u64,
        /// Bytes that are free; `None` when writing failed.
        free: Option<u64>,
    },
    /// The disk says no.
    #[error("{path} can't be used")]
    Disk {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The registry says no.
    #[error("the registry of models can't be used")]
    Registry(#[from] aico_store::StoreError),
    /// The person, or the end of the daemon.
    #[error("it was stopped")]
    Stopped,
    /// A defect.
    #[error("a part of the download ended unexpectedly")]
    Broken,
}

impl PullError {
    /// From what a write or read of `path` said.
    pub(super) fn disk(path: impl Into<PathBuf>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                needed: 0,
                free: None,
            },
            _ => Self::Disk {
                path: path.into(),
                source,
            },
        }
    }

    /// From what a look at a file said that has the right bytes. `kept`: it is in its place already.
    pub(super) fn look(error: AddError, kept: Option<PathBuf>) -> Self {
        match error {
            // Nothing is known of what it holds.
            AddError::Missing { path, source } => Self::disk(path, source),
            error @ AddError::Unread { .. } => Self::Unread {
                fault: Box::new(error.to_fault()),
                kept,
            },
            error => Self::NotAModel {
                fault: error.to_fault(),
                kept,
            },
        }
    }

    /// Whether it may be over by itself.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(
            self,
            Self::Offline { .. } | Self::Cut(_) | Self::TooSlow(_) | Self::Server { .. }
        )
    }

    /// Whether another server may do better.
    #[must_use]
    pub fn is_the_servers(&self) -> bool {
        matches!(
            self,
            Self::Insecure { .. }
                | Self::Address { .. }
                | Self::Redirect { .. }
                | Self::Refused { .. }
                | Self::Gone(_)
                | Self::Answer { .. }
                | Self::WrongSize { .. }
                | Self::WrongHash(_)
        )
    }

    /// As it is told.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        let detail = format!("{}.", sentence(&self.to_string()));
        let failed = |what_to_do: &str| {
            Fault::new("download-failed", "The download failed")
                .with_detail(detail.clone())
                .with_what_to_do(what_to_do)
        };
        let again = "What was downloaded is kept. Ask for it again later, or choose another model.";
        match self {
            Self::Offline { .. } => Fault::new("offline", "The server can't be reached")
                .with_detail(detail)
                .with_what_to_do(
                    "Check this computer's connection, or name a mirror or proxy in the \
                     configuration (models.mirror, models.proxy). What was downloaded is kept.",
                ),
            Self::Cut(_) | Self::TooSlow(_) | Self::Server { .. } => failed(again),
            Self::Insecure { .. } => failed(
                "Check this computer's clock and its certificates. Something between here and \
                 the server may read along: nothing was taken from it.",
            ),
            Self::Address { .. } | Self::Redirect { .. } => {
                Fault::new("address-refused", "The download leads where it may not go")
                    .with_detail(detail)
                    .with_what_to_do(
                        "If it is a server of your own, name it as models.mirror in the \
                         configuration.",
                    )
            }
            Self::Refused { .. } | Self::Gone(_) => failed(
                "It may have been taken down. Choose another model, or download the file by hand \
                 and bring it in: `aico model add FILE`.",
            ),
            Self::Answer { .. } => failed(again),
            Self::WrongSize { .. } | Self::WrongHash(_) => {
                Fault::new("download-wrong", "This is not the file of the catalogue")
                    .with_detail(detail)
                    .with_what_to_do(
                        "Nothing of it was used. The server may have another version, or \
                         somebody altered it: take another source or another model.",
                    )
            }
            Self::Damaged { name, .. } => {
                Fault::new("model-damaged", "The model's file has changed")
                    .with_detail(format!("{detail} Nothing was downloaded."))
                    .with_what_to_do(format!(
                        "Ask for it again, and it is downloaded: `aico model pull {name}`."
                    ))
            }
            Self::NotAModel { fault, kept } => {
                let tell = "Tell whoever made the catalogue, and choose another model.";
                let Some(path) = kept else {
                    let removed = format!("The file was removed. {tell}");
                    return fault.clone().with_what_to_do(removed);
                };
                // Not that it is damaged: that would promise another one by a download.
                Fault::new("not-a-model", fault.title.clone())
                    .with_detail(fault.detail.clone())
                    .with_what_to_do(format!(
                        "{} stays as it is. It is the file that the catalogue names: a download \
                         would bring the same. {tell}",
                        path.display()
                    ))
            }
            Self::Unread { fault, kept } => unread(fault, kept.as_deref()),
            Self::Changed => Fault::conflict("The catalogue has changed")
                .with_detail(detail)
                .with_what_to_do("What was downloaded of the old file is removed. Ask again."),
            Self::Catalogue(error) => error.to_fault(),
            Self::Full { needed, free } => {
                let full = Fault::storage_full();
                match free {
                    None => full.with_what_to_do(
                        "Free some space, then ask for the model again: what was downloaded is \
                         kept.",
                    ),
                    Some(free) => full
                        .with_detail(format!(
                            "{} are still to be downloaded, {} are free.",
                            gigabytes(*needed),
                            gigabytes(*free)
                        ))
                        .with_what_to_do("Free some space, or choose a smaller model."),
                }
            }
            Self::Disk { source, .. } => {
                let fault = disk::fault(source);
                let fault =
                    fault.unwrap_or_else(|| failed("Check that the data folder can be written."));
                fault.with_detail(format!("{detail} {source}."))
            }
            Self::Registry(_) => Fault::internal("The registry of models can't be used"),
            Self::Stopped => Fault::new("download-failed", "The download was stopped"),
            Self::Broken => Fault::internal("A part of the download ended unexpectedly"),
        }
    }
}

/// The fault of a file that could not be read, and lies in its place where that is `kept`.
fn unread(fault: &Fault, kept: Option<&Path>) -> Fault {
    let stays = kept.map_or_else(
        || "What was downloaded is kept.".to_owned(),
        |path| format!("{} stays as it is.", path.display()),
    );
    let then = match &*fault.code {
        // It was no file that failed.
        "model-failed" => &*fault.what_to_do,
        _ => "Ask for it again later, or choose another model.",
    };
    fault.clone().with_what_to_do(format!("{stays} {then}"))
}

/// Bytes as people read them.
pub(super) fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// With a capital letter, unless it begins with the name of a server.
fn sentence(text: &str) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    if first.contains(['.', ':']) {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::heads::Unread;

    #[test]
    fn each_says_what_happened_and_what_to_do() {
        let host = || "hub.example".to_owned();
        for (error, code) in [
            (
                PullError::Offline {
                    host: host(),
                    why: "no such name".into(),
                },
                "offline",
            ),
            (PullError::Cut(host()), "download-failed"),
            (PullError::Gone(host()), "download-failed"),
            (
                PullError::Damaged {
                    path: "hub.example".into(),
                    name: "tiny".into(),
                },
                "model-damaged",
            ),
            (PullError::WrongHash(host()), "download-wrong"),
            (
                PullError::Address {
                    host: host(),
                    address: [127, 0, 0, 1].into(),
                },
                "address-refused",
            ),
            (
                PullError::Full {
                    needed: 5_000_000_000,
                    free: Some(1_000_000),
                },
                "storage-full",
            ),
        ] {
            let fault = error.to_fault();
            assert_eq!(fault.code, code);
            assert!(!fault.detail.is_empty() && !fault.what_to_do.is_empty());
            assert!(
                code == "storage-full" || fault.detail.contains("hub.example"),
                "{}",
                fault.detail
            );
        }
        for (source, advice) in [
            (Unread::Start, "`aico doctor`"),
            (Unread::Killed, "Close other programs"),
            (Unread::Ended, "Ask for it again later"),
        ] {
            for (kept, stays) in [
                (None, "What was downloaded is kept."),
                (Some("tiny.gguf".into()), "tiny.gguf stays as it is."),
            ] {
                let path = "tiny.gguf".into();
                let source = source.clone();
                let fault = PullError::look(AddError::Unread { path, source }, kept).to_fault();
                let told = &fault.what_to_do;
                assert!(told.starts_with(stays) && told.contains(advice), "{fault}");
            }
        }
        let full = PullError::disk("x", io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(full, PullError::Full { free: None, .. }));
        let code = |error| PullError::disk("x", error).to_fault().code;
        #[cfg(unix)]
        assert_eq!(
            code(io::Error::from_raw_os_error(libc::EIO)),
            "storage-failing"
        );
        assert_eq!(
            code(io::ErrorKind::ReadOnlyFilesystem.into()),
            "storage-read-only"
        );
        assert_eq!(
            code(io::ErrorKind::PermissionDenied.into()),
            "download-failed"
        );
    }
}

//! Where Ollama is installed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The program's file.
#[cfg(not(windows))]
pub(super) const FILE: &str = "ollama";
/// The program's file.
#[cfg(windows)]
pub(super) const FILE: &str = "ollama.exe";

/// Whose installation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Ours, in the folder for it.
    Ours,
    /// The person's or the system's.
    Theirs,
}

/// An installed Ollama.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub program: PathBuf,
    /// Whose it is.
    pub place: Place,
}

/// Looks for an installed Ollama: our own, then by `path` (as `PATH`), then where installers put
/// it. `folder`: where ours would be.
#[must_use]
pub fn find(folder: &Path, path: Option<&OsStr>) -> Option<Found> {
    let ours = super::install::installed(folder).map(|installed| installed.program);
    if let Some(program) = ours.filter(|program| runs(program)) {
        return Some(Found {
            program,
            place: Place::Ours,
        });
    }
    let named = path.map(std::env::split_paths).into_iter().flatten();
    named
        // What a folder means must not depend on where one stands.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(FILE))
        .chain(usual())
        .find(|program| runs(program))
        .map(|program| Found {
            program,
            place: Place::Theirs,
        })
}

fn usual() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    if cfg!(target_os = "linux") {
        all.extend(["/usr/local/bin", "/usr/bin", "/snap/bin", "/opt/ollama/bin"].map(Into::into));
    }
    if cfg!(target_os = "macos") {
        all.push("/Applications/Ollama.app/Contents/Resources".into());
        all.extend(["/opt/homebrew/bin", "/usr/local/bin"].map(Into::into));
    }
    if let Some(home) = std::env::var_os("HOME") {
        all.push(PathBuf::from(home).join(".local/bin"));
    }
    if cfg!(windows)
        && let Some(local) = std::env::var_os("LOCALAPPDATA")
    {
        all.push(PathBuf::from(local).join("Programs").join("Ollama"));
    }
    all.into_iter().map(|folder| folder.join(FILE)).collect()
}

#[cfg(unix)]
fn runs(program: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(program)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn runs(program: &Path) -> bool {
    std::fs::metadata(program).is_ok_and(|found| found.is_file())
}

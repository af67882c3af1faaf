//! The platform's folders.
//!
//! | | data | configuration |
//! |---|---|---|
//! | Linux | `$XDG_DATA_HOME/aico`, else `~/.local/share/aico` | `$XDG_CONFIG_HOME`, else `~/.config` |
//! | macOS | `~/Library/Application Support/aico` | `~/Library/Preferences` |
//! | Windows | `%LOCALAPPDATA%\aico` (data does not roam) | `%APPDATA%` |
//!
//! `AICO_DATA_DIR` and `--data` move the data folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};

/// The variable that moves the data folder.
pub const DATA_DIR_VARIABLE: &str = "AICO_DATA_DIR";

/// No data folder can be named.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The system names no home folder.
    #[error("no home folder is known; name a data folder with --data or {DATA_DIR_VARIABLE}")]
    NoHome(#[source] etcetera::HomeDirError),
    /// A relative path would mean another folder for each program that is started elsewhere.
    #[error("the data folder {} has to be an absolute path", .0.display())]
    Relative(PathBuf),
}

/// The data folder: `flag` (from `--data`; relative to the current folder), else
/// `AICO_DATA_DIR` (absolute), else the platform's. It is not created.
///
/// # Errors
/// When no absolute path can be made.
pub fn data_dir(flag: Option<&Path>) -> Result<PathBuf, PathError> {
    choose(flag, std::env::var_os(DATA_DIR_VARIABLE))
}

fn choose(flag: Option<&Path>, variable: Option<OsString>) -> Result<PathBuf, PathError> {
    if let Some(flag) = flag {
        return std::path::absolute(flag).map_err(|_| PathError::Relative(flag.to_owned()));
    }
    if let Some(named) = variable.filter(|v| !v.is_empty()).map(PathBuf::from) {
        return if named.is_absolute() {
            Ok(named)
        } else {
            Err(PathError::Relative(named))
        };
    }
    let strategy = choose_native_strategy().map_err(PathError::NoHome)?;
    let base = if cfg!(windows) {
        strategy.cache_dir()
    } else {
        strategy.data_dir()
    };
    Ok(base.join("aico"))
}

/// The person's configuration folder, in which `aico/config.yaml` is looked for.
#[must_use]
pub fn config_dir() -> Option<PathBuf> {
    choose_native_strategy()
        .ok()
        .map(|strategy| strategy.config_dir())
}

/// Whether somebody other than its owner may change the file.
#[cfg(unix)]
pub(crate) fn others_may_write(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o022 != 0)
}

/// Whether somebody other than its owner may change the file: on Windows the folder's own
/// access list decides, which lets in nobody else by default.
#[cfg(not(unix))]
pub(crate) fn others_may_write(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_wins_over_variable() {
        let chosen = choose(Some(Path::new("/a/b")), Some("/c".into())).unwrap();
        assert!(chosen.ends_with("b"));
        assert_eq!(choose(None, Some("/c".into())).unwrap(), Path::new("/c"));
    }

    #[test]
    fn relative_variable_is_refused() {
        let error = choose(None, Some("here".into())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the data folder here has to be an absolute path"
        );
    }

    #[test]
    fn relative_flag_means_the_current_folder() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(choose(Some(Path::new("x")), None).unwrap(), here.join("x"));
    }

    #[test]
    fn platform_folder_ends_with_our_name() {
        assert!(choose(None, Some("".into())).unwrap().ends_with("aico"));
    }
}

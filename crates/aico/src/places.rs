//! Where things are: the data folder, the local socket, what the daemon notes for others.

use std::path::{Path, PathBuf};

use aico_vault::Keychains;

use crate::exit::{Exit, Failure};

/// Paths that program and daemon agree on.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    data: PathBuf,
    /// It was named on the command line.
    named: bool,
}

/// A Unix socket's path has at most 107 bytes on Linux and 103 on macOS.
#[cfg(unix)]
const LONGEST_SOCKET: usize = 100;

impl Places {
    pub(crate) fn find(flag: Option<&Path>) -> Result<Self, Failure> {
        let data = aico_config::paths::data_dir(flag).map_err(|error| {
            Failure::new(Exit::Usage, "There is no data folder to use.").because(&error)
        })?;
        let named = flag.is_some();
        Ok(Self { data, named })
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The command that starts a daemon on this data folder.
    pub(crate) fn serve(&self) -> String {
        match self.named {
            true => format!("aico serve --data '{}'", self.data.display()),
            false => "aico serve".to_owned(),
        }
    }

    /// The program as it is called where nothing of this moment's environment is known: with the data
    /// folder, unless that is the one that is used unasked.
    pub(crate) fn program(&self) -> String {
        let variable = std::env::var_os(aico_config::paths::DATA_DIR_VARIABLE);
        match self.named || variable.is_some_and(|variable| !variable.is_empty()) {
            true => {
                let data = self.data.display().to_string();
                format!("aico --data '{}'", data.replace('\'', r"'\''"))
            }
            false => "aico".to_owned(),
        }
    }

    /// Sockets and notes of a running daemon; private to its user. The same for each way in which
    /// the data folder can be named.
    pub(crate) fn run(&self) -> PathBuf {
        let beside = real(&self.data).join("run");
        #[cfg(unix)]
        if beside.as_os_str().len() + "/modules.sock".len() > LONGEST_SOCKET {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            let base = runtime
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| "/tmp".into());
            return base.join(format!("aico-{}", self.key()));
        }
        beside
    }

    /// Where the daemon listens for this program.
    #[cfg(unix)]
    pub(crate) fn socket(&self) -> PathBuf {
        self.run().join("aico.sock")
    }

    /// Where the daemon listens for this program.
    #[cfg(windows)]
    pub(crate) fn socket(&self) -> PathBuf {
        format!(r"\\.\pipe\aico-{}", self.key()).into()
    }

    /// The address that browsers use, noted by the running daemon.
    pub(crate) fn address(&self) -> PathBuf {
        self.run().join("address")
    }

    /// The address with the set-up code, when the daemon has no terminal to print it on.
    pub(crate) fn setup_address(&self) -> PathBuf {
        self.run().join("setup-address")
    }

    /// Names this data folder where its path would be too long.
    fn key(&self) -> String {
        // FNV-1a: the same in every version of this program. Not a secret and not a check: the
        // folder that it names is checked for its owner.
        let real = real(&self.data);
        let bytes = real.as_os_str().as_encoded_bytes();
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{hash:016x}")
    }
}

/// Where keys may be kept for this data folder. Key files lie with the configuration, and there are
/// none where that is inside the data folder: a copy of the data folder alone opens nothing.
pub(crate) fn keychains(data: &Path) -> Keychains {
    Keychains::of_this_machine(key_files().filter(|folder| !real(folder).starts_with(real(data))))
}

/// The folder for key files.
pub(crate) fn key_files() -> Option<PathBuf> {
    aico_config::paths::config_dir().map(|folder| folder.join("aico").join("keys"))
}

/// The path without links, as far as it exists; each path in one form.
fn real(path: &Path) -> PathBuf {
    let known = path.ancestors().find_map(|above| {
        let rest = path.strip_prefix(above).ok()?;
        Some(std::fs::canonicalize(above).ok()?.join(rest))
    });
    let known = known.unwrap_or_else(|| path.to_owned());
    known.components().collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_as_far_as_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        std::fs::create_dir(&there).unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        assert!(real(&link.join("aico/keys")).starts_with(real(&there)));
        assert!(!real(&folder.path().join("thereby")).starts_with(real(&there)));
    }

    #[test]
    fn a_long_path_gets_a_short_socket() {
        let places = |data: String| Places {
            data: data.into(),
            named: false,
        };
        let short = places("/home/mia/.local/share/aico".to_owned());
        assert!(short.socket().starts_with(short.data()));
        let long = places(format!("/home/{}", "x".repeat(120)));
        assert!(long.socket().as_os_str().len() < LONGEST_SOCKET);
        let other = places(format!("/home/{}", "y".repeat(120)));
        assert_ne!(long.socket(), other.socket());
    }

    #[test]
    fn one_folder_has_one_socket_however_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(120));
        let link = folder.path().join("link");
        std::fs::create_dir(&long).unwrap();
        std::os::unix::fs::symlink(&long, &link).unwrap();
        let socket = |data: PathBuf| Places { data, named: false }.socket();
        let expected = socket(long.clone());
        assert!(expected.as_os_str().len() < LONGEST_SOCKET);
        for named in [link, long.join(""), long.join("."), long.join("./")] {
            assert_eq!(socket(named.clone()), expected, "{}", named.display());
        }
    }
}

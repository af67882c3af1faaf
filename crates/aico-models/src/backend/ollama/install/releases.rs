//! Which release is installed, and what proves it: a dated list that comes with the program, or
//! one of the household's own.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::InstallError;
use crate::backend::ollama::find::FILE;
use crate::pull::catalogue::Hash;
use crate::pull::single::Wanted;
use crate::pull::url::Url;

/// The list that comes with the program.
pub const EMBEDDED: &str = include_str!("../../../../../../models/ollama.json");

/// Most bytes of a list.
const FILE_LIMIT: u64 = 1 << 20;
/// Largest archive.
const SIZE_LIMIT: u64 = 16 << 30;

/// What can be installed on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Of Ollama.
    pub version: String,
    /// Day on which the list was last looked at.
    pub date: String,
    /// Where the archive is.
    pub source: Url,
    /// Its bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Hash,
    /// How it is packed.
    pub packed: Packed,
    /// Where in it everything lies.
    pub layout: Layout,
    /// SPDX identifier.
    pub license: String,
    /// Where the licence can be read.
    pub license_url: String,
    /// What else has to be known before; may be empty.
    pub notice: String,
}

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packed {
    /// `.tgz`
    Gzip,
    /// `.tar.zst`
    Zstandard,
    /// `.zip`
    Zip,
}

/// Where in an archive everything lies. Ollama's makers pack it as each system has its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// The program in `bin`, what it needs in `lib`; nothing else (Linux).
    Prefix,
    /// The program at the top, and what it needs beside or below it (macOS, Windows).
    Flat,
}

impl Layout {
    /// That of a system, as [`std::env::consts::OS`] names it.
    fn of(system: &str) -> Self {
        match system {
            "macos" | "windows" => Self::Flat,
            _ => Self::Prefix,
        }
    }

    /// The program, from the folder that everything was unpacked to.
    pub(super) fn program(self) -> PathBuf {
        match self {
            Self::Prefix => Path::new("bin").join(FILE),
            Self::Flat => FILE.into(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    version: u32,
    date: String,
    release: String,
    license: String,
    license_url: String,
    #[serde(default)]
    notice: String,
    archives: Vec<Archive>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Archive {
    system: String,
    machine: String,
    source: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    sha256: Option<String>,
    /// Why it can't be trusted yet.
    #[serde(default)]
    unproven: Option<String>,
    /// How its hash and size came to be known.
    #[serde(default, rename = "evidence")]
    _evidence: String,
}

impl Release {
    /// From the list that comes with the program, or from that of a household.
    ///
    /// # Errors
    /// As [`Release::parse`]; [`InstallError::List`] when the file can't be read.
    pub fn read(file: Option<&Path>) -> Result<Self, InstallError> {
        let (system, machine) = (std::env::consts::OS, std::env::consts::ARCH);
        let Some(path) = file else {
            return Self::parse(EMBEDDED, system, machine);
        };
        let unreadable = |why: String| InstallError::List(format!("{}: {why}", path.display()));
        let length = std::fs::metadata(path).map(|found| found.len());
        if length.as_ref().is_ok_and(|length| *length > FILE_LIMIT) {
            return Err(unreadable("it is too long".to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text, system, machine)
    }

    /// What a list has for a machine.
    ///
    /// # Errors
    /// [`InstallError::None`]: nothing; [`InstallError::Unproven`]: nothing that could be
    /// checked; [`InstallError::List`]: it is no list.
    pub fn parse(text: &str, system: &str, machine: &str) -> Result<Self, InstallError> {
        let wrong = |why: &str| InstallError::List(why.to_owned());
        let list: List =
            serde_json::from_str(text).map_err(|error| InstallError::List(error.to_string()))?;
        if list.version != 1 {
            return Err(wrong("its version is not 1"));
        }
        if list.date.parse::<jiff::civil::Date>().is_err() {
            return Err(wrong("its date is none, such as 2026-11-27"));
        }
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
        if list.release.is_empty() || list.release.len() > 32 || !list.release.chars().all(plain) {
            return Err(wrong("its release is no version"));
        }
        let archive = list
            .archives
            .into_iter()
            .find(|archive| archive.system == system && archive.machine == machine)
            .ok_or_else(|| InstallError::None {
                machine: format!("{system} {machine}"),
            })?;
        if let Some(why) = archive.unproven {
            return Err(InstallError::Unproven {
                version: list.release,
                why,
            });
        }
        let (Some(size), Some(sha256)) = (archive.size, archive.sha256) else {
            return Err(InstallError::Unproven {
                version: list.release,
                why: "its hash or size is not known".to_owned(),
            });
        };
        let mut hash = [0; 32];
        hex::decode_to_slice(&sha256, &mut hash).map_err(|_| wrong("a sha256 is none"))?;
        if size == 0 || size > SIZE_LIMIT {
            return Err(wrong("a size can't be"));
        }
        let source = Url::parse(&archive.source).map_err(|_| wrong("a source is no address"))?;
        if !source.secure() {
            return Err(wrong("a source is not https"));
        }
        let name = source.path().split('?').next().unwrap_or_default();
        let packed = if name.ends_with(".tgz") || name.ends_with(".tar.gz") {
            Packed::Gzip
        } else if name.ends_with(".tar.zst") {
            Packed::Zstandard
        } else if name.ends_with(".zip") {
            Packed::Zip
        } else {
            return Err(wrong("a source is neither .tgz nor .tar.zst nor .zip"));
        };
        Ok(Self {
            version: list.release,
            date: list.date,
            source,
            size,
            sha256: hash,
            packed,
            layout: Layout::of(system),
            license: list.license,
            license_url: list.license_url,
            notice: list.notice,
        })
    }

    /// What distinguishes it from every other one; the name of its folder.
    pub(super) fn id(&self) -> String {
        format!("{}-{}", self.version, hex::encode(&self.sha256[..4]))
    }

    /// As a file to download.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            name: format!("ollama-{}", self.id()),
            source: self.source.clone(),
            size: self.size,
            sha256: self.sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_program_has_every_usual_machine() {
        use {Layout::*, Packed::*};
        for (system, machine, packed, layout) in [
            ("linux", "x86_64", Zstandard, Prefix),
            ("linux", "aarch64", Zstandard, Prefix),
            ("macos", "x86_64", Gzip, Flat),
            ("macos", "aarch64", Gzip, Flat),
            ("windows", "x86_64", Zip, Flat),
            ("windows", "aarch64", Zip, Flat),
        ] {
            let release = Release::parse(EMBEDDED, system, machine).unwrap();
            assert_eq!((release.packed, release.layout), (packed, layout));
            assert!(super::super::super::is_new_enough(&release.version));
        }
        let other = Release::parse(EMBEDDED, "plan9", "mips");
        assert!(matches!(other, Err(InstallError::None { .. })));
    }

    #[test]
    fn a_list_without_proof_is_none() {
        let change = |key: &str, value: serde_json::Value| {
            let mut list: serde_json::Value = serde_json::from_str(EMBEDDED).unwrap();
            list["archives"][0][key] = value;
            Release::parse(&list.to_string(), "linux", "x86_64")
        };
        let unproven = |result| matches!(result, Err(InstallError::Unproven { .. }));
        assert!(unproven(change("sha256", serde_json::Value::Null)));
        assert!(unproven(change("size", serde_json::Value::Null)));
        assert!(unproven(change("unproven", "one witness".into())));
        let bad = |result| matches!(result, Err(InstallError::List(_)));
        assert!(bad(change("sha256", "00".into())));
        assert!(bad(change("size", 0.into())));
        assert!(bad(change("source", "http://x.example/a.tgz".into())));
        assert!(bad(change("source", "https://x.example/a.exe".into())));
        assert!(bad(change("unknown", 1.into())));
        for (name, packed) in [
            ("a.tar.zst?version=1", Packed::Zstandard),
            ("a.tgz", Packed::Gzip),
            ("a.zip", Packed::Zip),
        ] {
            let release = change("source", format!("https://x.example/{name}").into());
            assert_eq!(release.unwrap().packed, packed);
        }
    }
}

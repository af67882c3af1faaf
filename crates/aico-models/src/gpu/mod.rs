//! Models on a graphics device.
//!
//! The program itself computes on the processor and needs nobody's library to start. Beside it there
//! may be other executables, one for each kind of device (`aico-engine`): the model process alone,
//! built with that kind's back end of llama.cpp. The manager of models chooses one when it starts a
//! process (`supervisor/graphics.rs`); what opens the device inside of it is [`device`].
//!
//! A device is opened before the confinement closes, and what its driver needs afterwards is allowed
//! in these processes only (`process/confine`).

pub mod device;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the names of the executables begin with; the kind follows.
const EXECUTABLE: &str = "aico-engine-";

/// How a device is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Most devices, with their maker's driver or Mesa's.
    Vulkan,
    /// Nvidia's own.
    Cuda,
    /// Apple's own.
    Metal,
}

impl Kind {
    /// All, those made for one maker's devices first: where both work they are faster.
    pub const ALL: [Self; 3] = [Self::Cuda, Self::Metal, Self::Vulkan];

    /// As it is configured.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }

    /// As people know it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Vulkan => "Vulkan",
            Self::Cuda => "CUDA",
            Self::Metal => "Metal",
        }
    }

    /// Its executable in a folder.
    #[must_use]
    pub fn executable(self, folder: &Path) -> PathBuf {
        let suffix = std::env::consts::EXE_SUFFIX;
        folder.join(format!("{EXECUTABLE}{}{suffix}", self.name()))
    }

    /// Whether the program itself can use it: on Apple's processors llama.cpp's bindings always
    /// bring Metal along, which is part of the system.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        matches!(self, Self::Metal) && cfg!(all(target_os = "macos", target_arch = "aarch64"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Which kinds may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// None.
    #[default]
    Off,
    /// Whatever is there.
    Auto,
    /// This one.
    Only(Kind),
}

impl FromStr for Wanted {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            name => Kind::ALL
                .into_iter()
                .find(|kind| kind.name() == name)
                .map(Self::Only)
                .ok_or(UnknownKind),
        }
    }
}

/// There is no such kind of device.
#[derive(Debug, thiserror::Error)]
#[error("there is no such kind of graphics device")]
pub struct UnknownKind;

/// How graphics devices are used. The default: not at all.
#[derive(Debug, Clone, Default)]
pub struct GpuConfig {
    /// Which kinds.
    pub wanted: Wanted,
    /// Layers of a model that the device computes; 0: all, if they fit.
    pub layers: u32,
    /// Which of several devices, from 1 on, as the driver numbers them; 0: the first that is no
    /// processor playing one.
    pub device: u32,
    /// Where the executables are.
    pub folder: PathBuf,
}

/// An executable that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// What it is for.
    pub kind: Kind,
    /// Where it is; `None`: the program itself.
    pub path: Option<PathBuf>,
}

impl GpuConfig {
    /// The kinds that are wanted, the preferred first.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        let wanted = self.wanted;
        Kind::ALL.into_iter().filter(move |kind| match wanted {
            Wanted::Off => false,
            Wanted::Auto => true,
            Wanted::Only(only) => only == *kind,
        })
    }

    /// The executable for a kind, if there is one.
    #[must_use]
    pub fn executable(&self, kind: Kind) -> Option<Executable> {
        let path = kind.executable(&self.folder);
        match path.is_file() {
            true => Some(Executable {
                kind,
                path: Some(path),
            }),
            false => kind
                .is_built_in()
                .then_some(Executable { kind, path: None }),
        }
    }

    /// What a process of this kind finds in its environment, which is otherwise empty.
    #[must_use]
    pub fn environment(&self, kind: Kind) -> Vec<(OsString, OsString)> {
        let given = PASSED.iter().filter_map(|name| {
            let value = std::env::var_os(name)?;
            Some((OsString::from(name), value))
        });
        let set = SET.iter().map(|(name, value)| (name.into(), value.into()));
        let mut all: Vec<_> = given.chain(set).collect();
        let visible = match kind {
            Kind::Vulkan => Some("GGML_VK_VISIBLE_DEVICES"),
            Kind::Cuda => Some("CUDA_VISIBLE_DEVICES"),
            // A computer of Apple's has one.
            Kind::Metal => None,
        };
        if let (Some(name), Some(index)) = (visible, self.device.checked_sub(1)) {
            all.retain(|(other, _)| other != name);
            all.push((name.into(), index.to_string().into()));
        }
        all
    }
}

/// Variables that tell where drivers are, or which device is meant; handed on when they are set.
const PASSED: &[&str] = &[
    "VK_DRIVER_FILES",
    "VK_ADD_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "XDG_DATA_DIRS",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
];

/// No driver keeps compiled shaders in a file, and nobody's layer comes between: overlays and
/// recorders of games see every buffer.
const SET: &[(&str, &str)] = &[
    ("MESA_SHADER_CACHE_DISABLE", "true"),
    ("__GL_SHADER_DISK_CACHE", "0"),
    ("CUDA_CACHE_DISABLE", "1"),
    ("VK_LOADER_LAYERS_DISABLE", "~implicit~"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_names_kinds() {
        assert_eq!("off".parse::<Wanted>().unwrap(), Wanted::Off);
        assert_eq!("auto".parse::<Wanted>().unwrap(), Wanted::Auto);
        for kind in Kind::ALL {
            let wanted: Wanted = kind.name().parse().unwrap();
            assert_eq!(wanted, Wanted::Only(kind));
        }
        assert!("opengl".parse::<Wanted>().is_err());
    }

    #[test]
    fn only_wanted_kinds_are_looked_for() {
        let kinds = |wanted| {
            let config = GpuConfig {
                wanted,
                ..GpuConfig::default()
            };
            config.kinds().collect::<Vec<_>>()
        };
        assert_eq!(kinds(Wanted::Off), []);
        assert_eq!(kinds(Wanted::Auto), Kind::ALL);
        assert_eq!(kinds(Wanted::Only(Kind::Cuda)), [Kind::Cuda]);
    }

    #[test]
    fn one_of_several_devices_is_named_from_one_on() {
        let config = GpuConfig {
            device: 2,
            ..GpuConfig::default()
        };
        let told = |kind, name: &str| {
            let all = config.environment(kind);
            let found = all.into_iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value)
        };
        let second = Some(OsString::from("1"));
        assert_eq!(told(Kind::Vulkan, "GGML_VK_VISIBLE_DEVICES"), second);
        assert_eq!(told(Kind::Cuda, "CUDA_VISIBLE_DEVICES"), second);
        assert_eq!(told(Kind::Metal, "GGML_VK_VISIBLE_DEVICES"), None);
        let off = Some(OsString::from("true"));
        assert_eq!(told(Kind::Vulkan, "MESA_SHADER_CACHE_DISABLE"), off);
    }
}

//! Which executable computes a model: the program itself on the processor, or one beside it on a
//! graphics device; and the processor again, when that one can't.

use std::collections::HashMap;
use std::time::Duration;

use aico_contracts::v1::Fault;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::child::Program;
use super::memory::gib;
use crate::clock;
use crate::gpu::device::{Device, Lack, Offload};
use crate::gpu::{GpuConfig, Kind, Wanted};
use crate::process::launch::Failure;

/// How long an executable that failed whatever the model is left alone.
const LEFT_ALONE: Duration = Duration::from_secs(10 * 60);
/// Crashes in a row, of a process that had answered, after which the processor takes over.
pub(super) const CRASHES: u32 = 2;

/// Why the processor computes a model although a graphics device was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// There is no executable for it.
    Absent,
    /// Its executable can't be started.
    Start(String),
    /// It does not speak as this version of the program does.
    Version,
    /// It could not be confined.
    Confinement,
    /// It can't use the device.
    Lack(Lack),
    /// The driver ran out of memory on the way, or the library refused the model there.
    Refused,
    /// It ended by itself.
    Crashed(String),
    /// It took too long to load.
    Slow,
}

impl Why {
    /// What a process told that is not the model file's fault.
    pub(super) fn of(failure: &Failure) -> Option<Self> {
        match failure {
            Failure::Launch => Some(Self::Version),
            Failure::Confinement => Some(Self::Confinement),
            Failure::Device(lack) => Some(Self::Lack(*lack)),
            // The processor tells whether it was the device.
            Failure::Refused(_) | Failure::Memory => Some(Self::Refused),
            Failure::Adapter(failure) => Self::of(failure),
            Failure::Link
            | Failure::Missing
            | Failure::Damaged
            | Failure::Unreadable
            | Failure::Template => None,
        }
    }

    /// Whether it would be the same with another model.
    fn is_of_all(&self) -> bool {
        match self {
            Self::Start(_) | Self::Version | Self::Confinement => true,
            Self::Lack(lack) => !matches!(lack, Lack::Memory { .. }),
            Self::Absent | Self::Refused | Self::Crashed(_) | Self::Slow => false,
        }
    }

    /// As people are told.
    pub(super) fn fault(&self, kind: Kind) -> Fault {
        let name = kind.title();
        let (code, title, detail, what) = match self {
            Self::Absent => (
                "gpu-not-built",
                format!("There is no engine for {name} beside the program"),
                String::new(),
                format!("Build it with `./run --gpu {kind}`, or set models.gpu to auto."),
            ),
            Self::Start(error) => (
                "gpu-not-started",
                format!("The engine for {name} can't be started"),
                format!("{error}."),
                format!("Build it again with `./run --gpu {kind}`, or set models.gpu to off."),
            ),
            Self::Version => (
                "gpu-version",
                format!("The engine for {name} is not of this version of AICO"),
                String::new(),
                format!("Build it again with `./run --gpu {kind}`."),
            ),
            Self::Confinement => (
                "gpu-not-confined",
                format!("The engine for {name} could not be confined"),
                String::new(),
                "`aico doctor` tells more.".to_owned(),
            ),
            Self::Lack(Lack::Device) => (
                "gpu-no-device",
                format!("There is no device that {name} reaches"),
                String::new(),
                "Install the driver of the graphics device, or set models.gpu to off.".to_owned(),
            ),
            Self::Lack(Lack::Opened) => (
                "gpu-not-opened",
                format!("The device could not be opened with {name}"),
                String::new(),
                "See that this user may use it (on Linux often the group `render`).".to_owned(),
            ),
            Self::Lack(Lack::Memory { need, free }) => (
                "gpu-too-small",
                "The model does not fit into the graphics device's memory".to_owned(),
                format!(
                    "It needs about {}, {} are free there.",
                    gib(*need),
                    gib(*free)
                ),
                "Choose a smaller model or context, or set models.gpu_layers to the number of \
                 layers that shall be there."
                    .to_owned(),
            ),
            Self::Refused => (
                "gpu-refused",
                format!("The model could not be loaded with {name}"),
                String::new(),
                "Set models.gpu_layers to a smaller number, or choose the model again to retry."
                    .to_owned(),
            ),
            Self::Crashed(status) => (
                "gpu-crashed",
                format!("The engine for {name} crashed"),
                format!("Its process ended ({status})."),
                "Update the driver of the graphics device, or set models.gpu to off.".to_owned(),
            ),
            Self::Slow => (
                "gpu-slow",
                format!("The model took too long to load with {name}"),
                String::new(),
                "Update the driver of the graphics device, or set models.gpu to off.".to_owned(),
            ),
        };
        Fault::new(code, title)
            .with_detail(detail)
            .with_what_to_do(what)
    }
}

/// What is to run a process.
pub(super) struct Pick {
    pub(super) program: Program,
    /// On a device; `None`: on the processor.
    pub(super) offload: Option<Offload>,
    /// Why not on one, where one was wanted.
    pub(super) fault: Option<Fault>,
}

impl Pick {
    /// The processor, and why where a device was wanted.
    pub(super) fn processor(program: &Program, fault: Option<Fault>) -> Self {
        Self {
            program: program.clone(),
            offload: None,
            fault,
        }
    }
}

/// What is known of the executables.
pub(super) struct Graphics {
    config: GpuConfig,
    /// Those that are left alone, since when and why.
    given_up: Mutex<HashMap<Kind, (Instant, Why)>>,
}

impl Graphics {
    pub(super) fn new(config: GpuConfig) -> Self {
        Self {
            config,
            given_up: Mutex::default(),
        }
    }

    /// What runs a model that takes so much, where the processor is `program`'s matter.
    pub(super) fn pick(&self, program: &Program, need: u64) -> Pick {
        let mut fault = None;
        for kind in self.config.kinds() {
            let Some(executable) = self.config.executable(kind) else {
                if self.config.wanted == Wanted::Only(kind) {
                    fault = Some(Why::Absent.fault(kind));
                }
                continue;
            };
            if let Some(why) = self.left_alone(kind) {
                // The first that was there is the one that was hoped for.
                fault = fault.or_else(|| Some(why.fault(kind)));
                continue;
            }
            let path = executable.path.unwrap_or_else(|| program.path.clone());
            return Pick {
                program: Program {
                    path,
                    arguments: program.arguments.clone(),
                    environment: self.config.environment(kind),
                },
                offload: Some(Offload {
                    kind,
                    layers: self.config.layers,
                    need,
                }),
                fault: None,
            };
        }
        Pick::processor(program, fault)
    }

    fn left_alone(&self, kind: Kind) -> Option<Why> {
        let given_up = self.given_up.lock();
        let (at, why) = given_up.get(&kind)?;
        let recent = clock::now().saturating_duration_since(*at) < LEFT_ALONE;
        recent.then(|| why.clone())
    }

    /// One failed: it is left alone for a while if it would fail again.
    pub(super) fn failed(&self, kind: Kind, why: &Why) {
        if why.is_of_all() {
            let now = clock::now();
            self.given_up.lock().insert(kind, (now, why.clone()));
        }
    }

    /// A person wants it tried again.
    pub(super) fn try_again(&self) {
        self.given_up.lock().clear();
    }
}

/// Where the process of a slot computes.
#[derive(Default)]
pub(super) struct Place {
    /// The device it was started for.
    pub(super) kind: Option<Kind>,
    /// The device, once it is open.
    pub(super) device: Option<Device>,
    /// Why the processor computes although a device was wanted.
    pub(super) fault: Option<Fault>,
    /// The slot stays with the processor.
    pub(super) processor: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        Program::new("/x/aico", "modelservice")
    }

    fn graphics(wanted: Wanted, there: &[Kind]) -> (tempfile::TempDir, Graphics) {
        let folder = tempfile::tempdir().unwrap();
        for kind in there {
            std::fs::write(kind.executable(folder.path()), b"x").unwrap();
        }
        let config = GpuConfig {
            wanted,
            folder: folder.path().to_owned(),
            ..GpuConfig::default()
        };
        (folder, Graphics::new(config))
    }

    fn kind(pick: &Pick) -> Option<Kind> {
        pick.offload.map(|offload| offload.kind)
    }

    #[test]
    fn the_processor_computes_where_nothing_else_is_there_or_wanted() {
        let all = Kind::ALL;
        let (_folder, off) = graphics(Wanted::Off, &all);
        let pick = off.pick(&program(), 1);
        assert_eq!((kind(&pick), pick.fault), (None, None));
        assert_eq!(pick.program.path, program().path);
        let (_folder, none) = graphics(Wanted::Auto, &[]);
        let pick = none.pick(&program(), 1);
        if !Kind::Metal.is_built_in() {
            assert_eq!((kind(&pick), pick.fault), (None, None));
        }
        let (_folder, missing) = graphics(Wanted::Only(Kind::Cuda), &[Kind::Vulkan]);
        let pick = missing.pick(&program(), 1);
        assert_eq!(kind(&pick), None);
        assert_eq!(pick.fault.unwrap().code, "gpu-not-built");
    }

    #[test]
    fn what_is_there_is_chosen_and_left_alone_when_it_fails_whatever_the_model() {
        let (_folder, auto) = graphics(Wanted::Auto, &[Kind::Vulkan, Kind::Cuda]);
        let pick = auto.pick(&program(), 7);
        let offload = pick.offload.unwrap();
        assert_eq!((offload.kind, offload.need), (Kind::Cuda, 7));
        assert!(
            pick.program
                .path
                .ends_with(Kind::Cuda.executable("".as_ref()))
        );
        // One model that does not fit says nothing of another.
        let full = Why::Lack(Lack::Memory { need: 2, free: 1 });
        auto.failed(Kind::Cuda, &full);
        auto.failed(Kind::Cuda, &Why::Crashed("signal 6".into()));
        assert_eq!(kind(&auto.pick(&program(), 7)), Some(Kind::Cuda));
        auto.failed(Kind::Cuda, &Why::Lack(Lack::Device));
        assert_eq!(kind(&auto.pick(&program(), 7)), Some(Kind::Vulkan));
        auto.failed(Kind::Vulkan, &Why::Version);
        let pick = auto.pick(&program(), 7);
        assert_eq!(kind(&pick), None);
        assert_eq!(pick.fault.unwrap().code, "gpu-no-device");
        auto.try_again();
        assert_eq!(kind(&auto.pick(&program(), 7)), Some(Kind::Cuda));
    }

    #[test]
    fn a_fault_of_the_model_file_is_none_of_the_device() {
        assert_eq!(Why::of(&Failure::Damaged), None);
        assert_eq!(Why::of(&Failure::Template), None);
        assert_eq!(Why::of(&Failure::Launch), Some(Why::Version));
        let lack = Lack::Memory {
            need: 3 << 30,
            free: 1 << 30,
        };
        let why = Why::of(&Failure::Device(lack)).unwrap();
        let fault = why.fault(Kind::Vulkan);
        assert_eq!(fault.code, "gpu-too-small");
        assert_eq!(
            fault.detail,
            "It needs about 3.0 GiB, 1.0 GiB are free there."
        );
    }
}

//! The device as its process sees it.

use std::ptr::NonNull;

use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType, list_llama_ggml_backend_devices};
use serde::{Deserialize, Serialize};

use super::Kind;
use crate::engine::{EngineError, ready};

/// Longest name of a device that is passed on.
const NAME_LIMIT: usize = 80;

/// What a process is to do with its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// How it is reached.
    pub kind: Kind,
    /// Layers that it computes; 0: all, if its memory has room for `need` bytes.
    pub layers: u32,
    /// Bytes that weights and context take.
    pub need: u64,
}

impl Offload {
    /// The same for the library, which counts no more than there are.
    #[must_use]
    pub fn layers(&self) -> u32 {
        match self.layers {
            0 => u32::MAX,
            layers => layers,
        }
    }
}

/// A device, as its driver tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// How it is reached.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Whether it shares the machine's memory.
    pub shared: bool,
    /// Bytes of its memory.
    pub total: u64,
    /// Bytes of them that are free.
    pub free: u64,
}

impl Device {
    /// With a name that can be shown: the driver's own, without what is no letter, and not longer
    /// than a line.
    #[must_use]
    pub fn cleaned(mut self) -> Self {
        self.name.retain(|letter| !letter.is_control());
        self.name = self.name.chars().take(NAME_LIMIT).collect();
        self
    }
}

/// Why a device can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// There is none, or no driver for it.
    Device,
    /// It could not be opened.
    Opened,
    /// Its memory has no room for the model.
    Memory {
        /// Bytes that are needed.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
}

/// An open device, for as long as the process lives.
pub struct Open {
    /// What it is.
    pub device: Device,
    /// Its number in the library's list.
    index: usize,
    /// Holds the driver's own state; the library shares it with every context.
    _backend: Backend,
}

impl Open {
    /// Its number in the library's list.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }
}

struct Backend(NonNull<llama_cpp_sys_2::ggml_backend>);

// SAFETY: nothing is called on it but its end, which may come on any thread.
unsafe impl Send for Backend {}

impl Drop for Backend {
    fn drop(&mut self) {
        // SAFETY: it was made by the library, and nobody else frees it.
        unsafe { llama_cpp_sys_2::ggml_backend_free(self.0.as_ptr()) }
    }
}

/// The devices that this executable can use, the library's preferred first: a [`Device`] as JSON on
/// each line.
///
/// # Errors
/// When the library can't be set up.
pub fn lines() -> Result<String, EngineError> {
    let found = found()?.into_iter();
    let lines = found.filter_map(|(_, device)| serde_json::to_string(&device).ok());
    Ok(lines.map(|line| line + "\n").collect())
}

/// Opens the first device of a kind, with all that its driver makes for it.
///
/// # Errors
/// When there is none that can be used.
pub fn open(wanted: &Offload) -> Result<Open, Lack> {
    let found = found().map_err(|_| Lack::Device)?;
    let mut of_kind = found
        .into_iter()
        .filter(|(_, device)| device.kind == wanted.kind);
    let (index, device) = of_kind.next().ok_or(Lack::Device)?;
    if wanted.layers == 0 && device.free < wanted.need {
        return Err(Lack::Memory {
            need: wanted.need,
            free: device.free,
        });
    }
    // SAFETY: the index is one of the library's own list, which never changes once it is there.
    let backend = unsafe {
        let device = llama_cpp_sys_2::ggml_backend_dev_get(index);
        llama_cpp_sys_2::ggml_backend_dev_init(device, std::ptr::null())
    };
    let backend = NonNull::new(backend).ok_or(Lack::Opened)?;
    Ok(Open {
        device,
        index,
        _backend: Backend(backend),
    })
}

fn found() -> Result<Vec<(usize, Device)>, EngineError> {
    ready()?;
    let all = list_llama_ggml_backend_devices();
    Ok(all.into_iter().filter_map(known).collect())
}

fn known(found: LlamaBackendDevice) -> Option<(usize, Device)> {
    let kind = match found.backend.to_ascii_lowercase().as_str() {
        "vulkan" => Kind::Vulkan,
        "cuda" => Kind::Cuda,
        // "MTL" since its devices are numbered.
        "metal" | "mtl" => Kind::Metal,
        _ => return None,
    };
    let device = Device {
        kind,
        name: found.description,
        shared: found.device_type == LlamaBackendDeviceType::IntegratedGpu,
        total: found.memory_total as u64,
        free: found.memory_free as u64,
    };
    Some((found.index, device.cleaned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drivers_name_is_no_text_to_be_obeyed() {
        let device = Device {
            kind: Kind::Vulkan,
            name: format!("llvmpipe\u{1b}[31m\n{}", "x".repeat(200)),
            shared: false,
            total: 1,
            free: 1,
        };
        let name = device.cleaned().name;
        assert!(
            name.starts_with("llvmpipe[31mx") && name.len() == NAME_LIMIT,
            "{name}"
        );
    }
}

//! What a graphics device's driver needs, beside what computing on the processor does.
//!
//! Landlock's rules count for threads that are started after them, and drivers start threads: so the
//! device is opened under these rules, not before, and they name all that opening takes. None of it
//! belongs to a person: the system's libraries and descriptions of drivers, which everybody may read,
//! and the devices themselves. Nothing more may be written. The calls are filtered once the device is
//! open, on all threads.

use std::path::PathBuf;

use super::Kind;

/// Of every kind.
const READABLE: &[&str] = &[
    // Libraries: drivers are loaded by name.
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/run/opengl-driver",
    "/nix/store",
    "/gnu/store",
    // Which devices there are.
    "/sys/bus/pci/devices",
    "/sys/class/drm",
    "/sys/dev/char",
    "/sys/devices",
    "/sys/module",
    "/proc/modules",
    "/proc/devices",
    "/proc/sys/vm",
    "/usr/share/libdrm",
    "/usr/share/drirc.d",
    "/etc/drirc",
];

const VULKAN: &[&str] = &[
    "/usr/share/vulkan",
    "/usr/local/share/vulkan",
    "/etc/vulkan",
    "/usr/share/nvidia",
    "/proc/driver/nvidia",
];

const CUDA: &[&str] = &[
    "/usr/local/cuda",
    "/opt/cuda",
    "/usr/share/nvidia",
    "/proc/driver/nvidia",
];

/// What may be read for devices of a kind.
pub(super) fn readable(kind: Kind) -> impl Iterator<Item = &'static str> {
    let own = match kind {
        Kind::Vulkan => VULKAN,
        Kind::Cuda => CUDA,
        // There is none on Linux.
        Kind::Metal => &[],
    };
    READABLE.iter().chain(own).copied()
}

/// The devices that may be opened: each by itself, not the folder, in which others lie.
pub(super) fn devices(kind: Kind) -> Vec<PathBuf> {
    let nvidia = |name: &str| name.starts_with("nvidia");
    let named = |folder: &str, wanted: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_str().is_some_and(wanted))
            .map(|entry| entry.path())
            .collect()
    };
    let mut all = Vec::new();
    if kind == Kind::Metal {
        return all;
    }
    all.extend(named("/dev", &nvidia));
    all.extend(named("/dev/nvidia-caps", &nvidia));
    if kind == Kind::Vulkan {
        // Not the cards themselves, which screens hang on.
        all.extend(named("/dev/dri", &|name| name.starts_with("renderD")));
        all.push("/dev/udmabuf".into());
    }
    all.push("/dev/null".into());
    all.push("/dev/zero".into());
    all
}

/// Calls beside those that the processor's way needs.
pub(super) const CALLS: &[libc::c_long] = &[
    // Memory that driver and device share, without a name.
    libc::SYS_memfd_create,
    libc::SYS_fallocate,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
];

/// The letter that a control's number carries is its subsystem's.
const SUBSYSTEM: u64 = 0xff00;
/// A number without a letter and without a size.
const PLAIN: u64 = !0xff_u32 as u64;

const fn of(letter: u8) -> (u64, u64) {
    (SUBSYSTEM, (letter as u64) << 8)
}

/// Controls of the devices: of the kernel's graphics, of buffers that devices share, of fences; of
/// Nvidia's driver.
const CONTROLS: &[(u64, u64)] = &[of(b'd'), of(b'b'), of(b'>'), of(b'F')];

/// The same, and those of Nvidia's unified memory, whose numbers carry no letter.
const CONTROLS_CUDA: &[(u64, u64)] = &[
    of(b'd'),
    of(b'b'),
    of(b'>'),
    of(b'F'),
    (PLAIN, 0),
    (0xffff_ffff, 0x3000_0001),
    (0xffff_ffff, 0x3000_0002),
];

/// What may be said to a device of a kind: a mask, and what has to be there beneath it.
pub(super) fn controls(kind: Kind) -> &'static [(u64, u64)] {
    match kind {
        Kind::Vulkan => CONTROLS,
        Kind::Cuda => CONTROLS_CUDA,
        Kind::Metal => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(kind: Kind, control: u64) -> bool {
        let controls = controls(kind).iter();
        controls
            .copied()
            .any(|(mask, wanted)| control & mask == wanted)
    }

    #[test]
    fn a_device_is_spoken_to_and_a_terminal_is_not() {
        // DRM_IOCTL_VERSION, DMA_BUF_IOCTL_SYNC, SYNC_IOC_MERGE.
        for control in [0xc040_6400, 0x4008_6200, 0xc030_3e03] {
            assert!(allowed(Kind::Vulkan, control));
        }
        // What types into a terminal or takes it over, makes an interface, or puts a program on a
        // block device.
        for control in [0x5412, 0x540e, 0x8914, 0x4b49, 0x1261] {
            for kind in Kind::ALL {
                assert!(!allowed(kind, control), "{control:x} of {kind}");
            }
        }
        assert!(allowed(Kind::Cuda, 0x3000_0001) && !allowed(Kind::Vulkan, 0x3000_0001));
    }
}

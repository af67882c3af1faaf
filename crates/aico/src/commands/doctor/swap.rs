//! Swap that memory may be written to in clear.

use std::fs;
use std::path::{Path, PathBuf};

/// The first swap that is neither in memory nor on a device that encrypts.
pub(super) fn unencrypted() -> Option<String> {
    unencrypted_of(Path::new("/"))
}

/// The same for a system that lies in a folder.
fn unencrypted_of(root: &Path) -> Option<String> {
    let swaps = fs::read_to_string(root.join("proc/swaps")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
    let mut all = swaps.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((unescaped(words.next()?), words.next()?))
    });
    let found = all.find(|(path, kind)| {
        if path.contains("zram") {
            return false;
        }
        let device = match *kind {
            "file" => device_below(root, &mounts, Path::new(path)),
            _ => device(&inside(root, path)),
        };
        !device.is_some_and(|device| is_encrypted(root, &device))
    });
    found.map(|(path, _)| path)
}

/// The name of the device whose file system has this file.
fn device_below(root: &Path, mounts: &str, file: &Path) -> Option<String> {
    let above = mounts.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(2);
        let (number, point) = (words.next()?, unescaped(words.nth(1)?));
        let source = source.split(' ').nth(1)?;
        file.starts_with(&point)
            .then_some((point.len(), number, source))
    });
    // Of two in one place the later one is seen.
    let (_, number, source) = above.max_by_key(|(length, ..)| *length)?;
    // A file system on several devices has a number of its own, which is no device's.
    device(&root.join("sys/dev/block").join(number))
        .or_else(|| device(&inside(root, &unescaped(source))))
}

/// Whether all that is written to it is encrypted, there or in each device beneath it.
fn is_encrypted(root: &Path, device: &str) -> bool {
    let about = root.join("sys/class/block").join(device);
    let uuid = fs::read_to_string(about.join("dm/uuid")).unwrap_or_default();
    if uuid.starts_with("CRYPT-") {
        return true;
    }
    let beneath: Vec<_> = fs::read_dir(about.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    !beneath.is_empty() && beneath.iter().all(|device| is_encrypted(root, device))
}

/// The name of a device behind a path that leads to it.
fn device(path: &Path) -> Option<String> {
    let real = fs::canonicalize(path).ok()?;
    Some(real.file_name()?.to_str()?.to_owned())
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// As the kernel writes paths in its tables.
fn unescaped(path: &str) -> String {
    let path = path.replace(r"\040", " ").replace(r"\011", "\t");
    path.replace(r"\012", "\n").replace(r"\134", r"\")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A disk, an encrypted device on it, a volume on that, and another that is half on the disk.
    fn system() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let devices = [
            ("vda", "", &[][..]),
            ("dm-0", "CRYPT-LUKS2-0123-root\n", &["vda"]),
            ("dm-1", "LVM-0123\n", &["dm-0"]),
            ("dm-2", "LVM-4567\n", &["dm-0", "vda"]),
        ];
        for (name, uuid, beneath) in devices {
            let about = at("sys/class/block").join(name);
            fs::create_dir_all(about.join("slaves")).unwrap();
            for other in beneath {
                fs::create_dir(about.join("slaves").join(other)).unwrap();
            }
            if !uuid.is_empty() {
                fs::create_dir(about.join("dm")).unwrap();
                fs::write(about.join("dm/uuid"), uuid).unwrap();
            }
        }
        for folder in ["dev/mapper", "sys/dev/block", "proc/self"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        let link = |to: &str, path: &str| std::os::unix::fs::symlink(to, at(path)).unwrap();
        for name in ["vda", "dm-0", "dm-1", "dm-2"] {
            fs::write(at("dev").join(name), "").unwrap();
        }
        link("../dm-1", "dev/mapper/vg-swap");
        link("../../class/block/dm-1", "sys/dev/block/253:1");
        link("../../class/block/vda", "sys/dev/block/254:0");
        let mounts = "22 1 253:1 / / rw - ext4 /dev/root rw\n\
                      23 22 254:0 / /plain\\040disk rw shared:1 - ext4 /dev/vda rw\n\
                      24 22 0:31 /sub /pool rw - btrfs /dev/mapper/vg-swap rw\n";
        fs::write(at("proc/self/mountinfo"), mounts).unwrap();
        root
    }

    #[test]
    fn swap_is_encrypted_by_whatever_device_beneath_it_encrypts() {
        let root = system();
        let told = |path: &str, kind: &str| {
            let line = format!("Filename Type Size\n{path} {kind} 1024 0 -2\n");
            fs::write(root.path().join("proc/swaps"), line).unwrap();
            unencrypted_of(root.path())
        };
        for (path, kind) in [
            ("/dev/dm-0", "partition"),
            ("/dev/dm-1", "partition"),
            ("/dev/mapper/vg-swap", "partition"),
            ("/dev/zram0", "partition"),
            ("/swapfile", "file"),
            ("/pool/swapfile", "file"),
        ] {
            assert_eq!(told(path, kind), None, "{path}");
        }
        for (path, kind) in [
            ("/dev/vda", "partition"),
            ("/dev/dm-2", "partition"),
            ("/dev/gone", "partition"),
            ("/plain\\040disk/swapfile", "file"),
        ] {
            assert_eq!(told(path, kind), Some(unescaped(path)), "{path}");
        }
    }
}

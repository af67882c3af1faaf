//! What a control group leaves of the memory: in a container, or under a service with a limit, the
//! machine's own figures say too much.

use std::path::{Path, PathBuf};

/// Where control groups are told, on every Linux.
const ROOT: &str = "/sys/fs/cgroup";

/// The tightest limit of this process's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// Bytes that the group may have.
    pub(super) total: u64,
    /// Bytes of them that can be had; what it holds of files counts as such.
    pub(super) available: u64,
}

/// The names of one version's files.
struct Version {
    most: &'static str,
    used: &'static str,
    /// In `memory.stat`.
    files: [&'static str; 2],
}

const FIRST: Version = Version {
    most: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    files: ["total_inactive_file", "total_active_file"],
};
const SECOND: Version = Version {
    most: "memory.max",
    used: "memory.current",
    files: ["inactive_file", "active_file"],
};

/// `None`: there is none.
pub(super) fn limit() -> Option<Limit> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_in(Path::new(ROOT), &groups)
}

/// The same of these groups, as `/proc/self/cgroup` tells them.
fn limit_in(root: &Path, groups: &str) -> Option<Limit> {
    let mut tightest: Option<Limit> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (base, version) = match controllers {
            "" => (root.to_owned(), &SECOND),
            one if one.split(',').any(|name| name == "memory") => (root.join("memory"), &FIRST),
            _ => continue,
        };
        for folder in folders(&base, path) {
            let Some(here) = of(&folder, version) else {
                continue;
            };
            tightest = Some(match tightest {
                Some(before) => Limit {
                    total: before.total.min(here.total),
                    available: before.available.min(here.available),
                },
                None => here,
            });
        }
    }
    tightest
}

/// The group's folder and those above it. Where a container sees its own group as the root, the
/// longer path is not there, and the root is.
fn folders(base: &Path, path: &str) -> Vec<PathBuf> {
    let below = Path::new(path.trim_start_matches('/'));
    // What a name could climb out with is none of the system's.
    let plain = below
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    match plain {
        true => below.ancestors().map(|part| base.join(part)).collect(),
        false => vec![base.to_owned()],
    }
}

fn of(folder: &Path, version: &Version) -> Option<Limit> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    // `max`, or a number beyond every machine: no limit.
    let total: u64 = read(version.most)?.trim().parse().ok()?;
    if total >= 1 << 60 {
        return None;
    }
    let used: u64 = read(version.used)?.trim().parse().ok()?;
    let stat = read("memory.stat").unwrap_or_default();
    let files = stat.lines().filter_map(|line| line.split_once(' '));
    let files = files
        .filter(|(name, _)| version.files.contains(name))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum();
    let taken = used.saturating_sub(files);
    Some(Limit {
        total,
        available: total.saturating_sub(taken),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_tightest_group_counts_and_what_it_holds_of_files_is_free() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        write(
            &at("a"),
            &[("memory.max", "1000\n"), ("memory.current", "700\n")],
        );
        write(
            &at("a"),
            &[(
                "memory.stat",
                "anon 400\ninactive_file 200\nactive_file 100\n",
            )],
        );
        write(
            &at("a/b"),
            &[("memory.max", "max\n"), ("memory.current", "700\n")],
        );
        let of = |groups| limit_in(root.path(), groups);
        let limit = Limit {
            total: 1000,
            available: 600,
        };
        assert_eq!(of("0::/a/b\n"), Some(limit));
        assert_eq!(of("0::/\n"), None);
        assert_eq!(of("0::/../../a\n"), None);
        assert_eq!(of("9:name=systemd:/a\nnonsense\n"), None);
        // The first version, where no limit is a large number.
        let old = |most: &'static str| {
            [
                ("memory.limit_in_bytes", most),
                ("memory.usage_in_bytes", "500"),
                ("memory.stat", "total_inactive_file 50\nmapped_file 9\n"),
            ]
        };
        write(&at("memory"), &old("9223372036854771712"));
        write(&at("memory/c"), &old("2000"));
        let limit = Limit {
            total: 2000,
            available: 1550,
        };
        assert_eq!(of("4:cpu,memory:/c\n0::/\n"), Some(limit));
        assert_eq!(of("4:cpu,memory:/gone/in/a/container\n"), None);
    }
}

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

/// The files of both versions that tell how many processes were ended for memory.
const ENDED: [&str; 2] = ["memory.events", "memory.oom_control"];
/// What their line begins with, and the machine's.
const ENDED_LINE: &str = "oom_kill ";

/// How many processes of this process's group, and of those below it, the system has ended for
/// memory; of the machine where no group tells it.
pub(super) fn ended_for_memory() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    ended_in(Path::new(ROOT), Path::new("/proc/vmstat"), &groups)
}

fn ended_in(root: &Path, machine: &Path, groups: &str) -> Option<u64> {
    let told = |file: &Path| {
        let text = std::fs::read_to_string(file).ok()?;
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(ENDED_LINE)?.trim().parse().ok())
    };
    // The nearest that tells it counts what happened in those below it.
    let own = memory_groups(root, groups).find_map(|(base, _, path)| {
        let folders = folders(&base, path).into_iter();
        let mut files = folders.flat_map(|folder| ENDED.map(|name| folder.join(name)));
        files.find_map(|file| told(&file))
    });
    own.or_else(|| told(machine))
}

/// `None`: there is none.
pub(super) fn limit() -> Option<Limit> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_in(Path::new(ROOT), &groups)
}

/// The same of these groups, as `/proc/self/cgroup` tells them.
fn limit_in(root: &Path, groups: &str) -> Option<Limit> {
    let mut tightest: Option<Limit> = None;
    for (base, version, path) in memory_groups(root, groups) {
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

/// Of these groups those that have to do with memory: where they are, which version, and the path.
fn memory_groups<'a>(
    root: &Path,
    groups: &'a str,
) -> impl Iterator<Item = (PathBuf, &'static Version, &'a str)> {
    groups.lines().filter_map(move |line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (base, version) = match controllers {
            "" => (root.to_owned(), &SECOND),
            one if one.split(',').any(|name| name == "memory") => (root.join("memory"), &FIRST),
            _ => return None,
        };
        Some((base, version, path))
    })
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

    #[test]
    fn what_was_ended_for_memory_is_told_by_the_group_or_else_by_the_machine() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let machine = at("vmstat");
        let of = |groups| ended_in(root.path(), &machine, groups);
        assert_eq!(of("0::/a/b\n"), None);
        std::fs::write(&machine, "pgfault 9\noom_kill 70\noom_killer 1\n").unwrap();
        assert_eq!(of("0::/a/b\n"), Some(70));
        let events = |count| format!("low 0\nmax 8\noom 5\noom_kill {count}\noom_group_kill 0\n");
        write(&at("a"), &[("memory.events", &events(6))]);
        assert_eq!(of("0::/a/gone/in/a/container\n"), Some(6));
        write(&at("a/b"), &[("memory.events", &events(4))]);
        assert_eq!(of("0::/a/b\n"), Some(4));
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        write(&at("memory/c"), &[("memory.oom_control", control)]);
        assert_eq!(of("4:cpu,memory:/c\n0::/\n"), Some(2));
    }
}

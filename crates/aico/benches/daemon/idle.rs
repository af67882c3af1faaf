//! Memory and work of a daemon that nobody uses. Linux.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use crate::support::World;

/// What `/proc` says of one process.
struct Look {
    resident_kib: u64,
    proportional_kib: u64,
    threads: u64,
    /// User and system time so far.
    ticks: u64,
    /// Times that each of its threads went to sleep by itself so far.
    sleeps: BTreeMap<OsString, u64>,
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn look(pid: u32) -> Look {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let status = read("status");
    let stat = read("stat");
    // After the name, which may hold anything.
    let stat: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let mut sleeps = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap();
        // It may have ended meanwhile.
        if let Ok(status) = fs::read_to_string(task.path().join("status")) {
            sleeps.insert(task.file_name(), field(&status, "voluntary_ctxt_switches"));
        }
    }
    Look {
        resident_kib: field(&status, "VmRSS"),
        proportional_kib: field(&read("smaps_rollup"), "Pss:"),
        threads: field(&status, "Threads"),
        ticks: stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap(),
        sleeps,
    }
}

/// Looks twice, `time` apart. The share of one core, in percent.
fn row(name: &str, pid: u32, time: Duration) -> (f64, f64) {
    let before = look(pid);
    // Doing nothing is what is measured.
    std::thread::sleep(time);
    let after = look(pid);
    let seconds = time.as_secs_f64();
    // The kernel's clock ticks for user space: 100 a second on every Linux.
    let share = (after.ticks - before.ticks) as f64 / seconds;
    let sleeps = after
        .sleeps
        .iter()
        .map(|(task, sleeps)| sleeps - before.sleeps.get(task).unwrap_or(&0));
    let sleeps: u64 = sleeps.sum();
    let mega = |kib: u64| kib as f64 * 1024.0 / 1e6;
    println!(
        "  {name:<30} {:>7.1} {:>7.1} {share:>8.2} {:>9.1} {:>8}",
        mega(after.resident_kib),
        mega(after.proportional_kib),
        sleeps as f64 / seconds,
        after.threads
    );
    (mega(after.resident_kib), share)
}

pub(crate) fn measure(world: &mut World, time: Duration) {
    println!(
        "idle for {} s{:>25} {:>7} {:>8} {:>9} {:>8}",
        time.as_secs(),
        "RSS MB",
        "PSS MB",
        "% core",
        "wakes/s",
        "threads"
    );
    let password = world.path("password");
    let password = password.to_str().unwrap().to_owned();
    let unlocked = ["--password-file", &password, "--set", "models.start=lazy"];
    world.serve_with(&unlocked);
    // The owner's store is open, as after any use.
    world.said(&["conversation", "list"]);
    assert!(world.children().is_empty(), "no model was to be loaded");
    let (resident, share) = row("daemon, no model loaded", world.pid(), time);
    world.stop();

    world.serve();
    world.chat(None, "Hello");
    let model = world.children()[0];
    row("daemon, after an answer", world.pid(), time / 2);
    row("model process, starter", model, time / 2);
    world.stop();
    let is = |good: bool| if good { "met" } else { "MISSED" };
    println!(
        "  resident: {:.3} of 60 MB: {}; idle: {:.3} of 0.5 % of a core: {}",
        resident / 60.0,
        is(resident < 60.0),
        share / 0.5,
        is(share < 0.5)
    );
}

//! Working memory: real processes that are killed, and disks that are full.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aico_store::{WorkingLimits, WorkingMemory};
use aico_vault::{KdfCost, Password, PersonKeys, Vault};

use crate::{children, support::SmallDisk};

const MINUTE: Duration = Duration::from_secs(60);

/// The keys of somebody whose vault is in this folder; made at the first call.
pub(crate) fn keys(folder: &Path) -> PersonKeys {
    let data = folder.join("data");
    let password = Password::new("a long and odd passphrase for a test").unwrap();
    if Vault::exists(&data).unwrap() {
        let vault = Vault::unlock(&data, &password).unwrap();
        return vault.open_person([7; 16]).unwrap();
    }
    let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
    vault.create_person([7; 16], &password).unwrap()
}

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("working")
}

/// What the child does that is killed: opens and closes, grows, cleans, reads and writes in
/// several tasks at once. Every value says its name, so that a wrong one is seen.
pub(crate) async fn work_until_killed(folder: &Path) {
    let keys = keys(folder);
    let limits = WorkingLimits {
        bytes: 2 << 20,
        file: 8 << 20,
        ..WorkingLimits::default()
    };
    for round in 0_u64.. {
        let memory = WorkingMemory::open_limited(&path(folder), keys.clone(), limits);
        look(&memory).await;
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..4_u64 {
            let memory = memory.clone();
            tasks.spawn(async move { work(&memory, round * 4 + task).await });
        }
        tasks.join_all().await;
        println!("ack 0 {}", round + 1);
        memory.close().await;
    }
}

async fn work(memory: &WorkingMemory, seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..40 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let name = (random >> 40) % 64;
        let length = (random >> 20) as usize % 60_000;
        let ttl = Duration::from_millis(1 + (random >> 11) % 2000);
        match random >> 61 {
            0 => memory.forget("soak", &name.to_be_bytes()).await,
            1 => drop(memory.clean().await),
            2..4 => check(name, memory.get("soak", &name.to_be_bytes()).await),
            _ => {
                let value = vec![name as u8; length];
                memory.put("soak", &name.to_be_bytes(), value, ttl).await;
            }
        }
    }
}

fn check(name: u64, value: Option<impl std::ops::Deref<Target = Vec<u8>>>) {
    if let Some(value) = value {
        assert!(value.iter().all(|byte| *byte == name as u8));
    }
}

async fn look(memory: &WorkingMemory) {
    for (name, value) in memory.all("soak").await {
        let name = u64::from_be_bytes(name.as_slice().try_into().unwrap());
        check(name, Some(value));
    }
}

/// Row 1: killed anywhere, it is begun anew; what a clean stop left is there.
#[tokio::test]
async fn a_process_killed_at_any_moment_leaves_what_opens() {
    let rounds: u64 = std::env::var("AICO_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5);
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let mut random = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos() as u64 | 1;
    println!("seed {random}");
    let mut begun = 0;
    for _ in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let delay = Duration::from_millis(1 + (random >> 33) % 300);
        let mut child = children::start("working", folder.path(), None);
        let id = child.id().to_string();
        let mut killer = None;
        let done = children::acknowledged(&mut child, || {
            killer = Some(std::thread::spawn(move || {
                // The moment of the kill is the point of the test.
                std::thread::sleep(delay);
                let mut kill = std::process::Command::new("kill");
                assert!(kill.args(["-9", &id]).status().unwrap().success());
            }));
        });
        child.wait().unwrap();
        killer.expect("the child did nothing").join().unwrap();
        assert!(done[0] > 0);
        let memory = WorkingMemory::open(&path(folder.path()), keys.clone());
        look(&memory).await;
        begun += memory.stats().begun;
        memory
            .put("soak", &1_u64.to_be_bytes(), vec![1; 10], MINUTE)
            .await;
        assert!(memory.get("soak", &1_u64.to_be_bytes()).await.is_some());
        memory.close().await;
        let again = WorkingMemory::open(&path(folder.path()), keys.clone());
        assert_eq!(again.stats().begun, 0);
        assert!(again.get("soak", &1_u64.to_be_bytes()).await.is_some());
        again.close().await;
    }
    assert!(begun > 0, "no kill ever hit an open one");
}

/// Many environments opened, worked with, closed or dropped, at once and again, for a while: none
/// ever answers what was not put, no descriptor stays, and memory does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn many_environments_opened_and_closed_thousands_of_times() {
    let seconds = std::env::var("AICO_TEST_SOAK_SECONDS")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .map_or(5, |seconds| seconds / 6);
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut openings = 0_u64;
    let mut first = None;
    while Instant::now() < until {
        let mut tasks = tokio::task::JoinSet::new();
        for person in 0..8_u64 {
            let (keys, path) = (
                keys.clone(),
                folder.path().join(format!("working-{person}")),
            );
            let round = openings;
            tasks.spawn(async move {
                let memory = WorkingMemory::open(&path, keys);
                look(&memory).await;
                work(&memory, round * 8 + person).await;
                if (round + person).is_multiple_of(5) {
                    drop(memory);
                } else {
                    memory.close().await;
                }
            });
        }
        tasks.join_all().await;
        openings += 8;
        if openings >= 160 && first.is_none() {
            first = Some((descriptors(), resident()));
        }
    }
    println!("{openings} openings in {seconds} s");
    assert!(openings > 8);
    if let Some((open, memory)) = first {
        assert!(descriptors() <= open + 4, "descriptors stay open");
        let grown = resident().saturating_sub(memory);
        assert!(grown < 48 << 20, "{grown} bytes more than at the beginning");
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|text| text.parse().ok());
    pages.map_or(0, |pages: u64| pages * 4096)
}

#[tokio::test]
async fn a_full_disk_costs_what_was_remembered_and_it_comes_back_by_itself() {
    let test = "working::a_full_disk_costs_what_was_remembered_and_it_comes_back_by_itself";
    let Some(disk) = SmallDisk::mount(test, "4m") else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let keys = keys(home.path());
    let path = disk.0.path().join("working");
    let memory = WorkingMemory::open(&path, keys.clone());
    memory.put("test", b"a", b"one".to_vec(), MINUTE).await;
    assert!(memory.get("test", b"a").await.is_some());
    // Until the disk is full; then it begins anew, which gives the room back.
    for index in 0..40_u32 {
        let value = vec![1; 300_000];
        memory
            .put("test", &index.to_be_bytes(), value, MINUTE)
            .await;
    }
    assert!(memory.stats().begun > 1, "the disk was never full");
    // Others fill it: nothing is remembered, and nothing fails.
    fs::write(disk.0.path().join("ballast"), vec![1; 1 << 20]).ok();
    let mut ballast = fs::File::create(disk.0.path().join("more")).unwrap();
    while std::io::Write::write_all(&mut ballast, &[1; 4096]).is_ok() {}
    for index in 0..20_u32 {
        let value = vec![1; 200_000];
        memory
            .put("test", &index.to_be_bytes(), value, MINUTE)
            .await;
        memory.get("test", &index.to_be_bytes()).await;
    }
    memory.close().await;
    let memory = WorkingMemory::open(&path, keys);
    fs::remove_file(disk.0.path().join("more")).unwrap();
    fs::remove_file(disk.0.path().join("ballast")).unwrap();
    memory.discard().await;
    let memory = WorkingMemory::open(&path, self::keys(home.path()));
    memory.put("test", b"a", b"two".to_vec(), MINUTE).await;
    assert_eq!(memory.get("test", b"a").await.unwrap().as_slice(), b"two");
}

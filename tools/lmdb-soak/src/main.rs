//! Whether LMDB's encrypted environments (`heed3`) can be trusted with working memory.
//!
//! `cargo run --release --manifest-path tools/lmdb-soak/Cargo.toml -- MODE [SECONDS]`
//!
//! | mode | what it does |
//! |---|---|
//! | `sizes` | puts and gets one value of each length up to 20,000 bytes, in one thread |
//! | `threads` | four threads read in transactions of their own while one writes, as the crate's safe API lets them; each value says what it is |
//! | `writers` | four threads write in turn, one transaction each |
//! | `one-lock` | both, with one lock of ours around every transaction |
//! | `reopen` | opens, writes, reads and closes again and again; tells the memory in use |
//! | `residue` | writes a known value under a known key, closes, and looks for both in the memory of the process |
//!
//! In all others values are so short that `sizes` does not matter. Run by itself it does each mode in a process of its own and tells how that ended. What was found
//! is in ARCHITECTURE.md; run it again when a new version of `heed3` comes.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aes_gcm_siv::{Aes256GcmSiv, Key};
use heed3::types::Bytes;
use heed3::{CommitOrAbort, EncryptedDatabase, EncryptedEnv, EnvOpenOptions, Error};

const MODES: [&str; 6] = [
    "sizes", "threads", "writers", "one-lock", "reopen", "residue",
];
const ENTRIES: u64 = 600;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(30);
    match mode.as_str() {
        "sizes" => sizes(),
        "threads" => threads(seconds, 4, 1, false),
        "writers" => threads(seconds, 0, 4, false),
        "one-lock" => threads(seconds, 4, 2, true),
        "reopen" => reopen(seconds),
        "residue" => residue(),
        _ => return each(seconds),
    }
    ExitCode::SUCCESS
}

fn each(seconds: u64) -> ExitCode {
    let mut bad = false;
    for mode in MODES {
        let program = std::env::current_exe().expect("a path");
        let status = Command::new(program).args([mode, &seconds.to_string()]).status();
        let status = status.expect("a child");
        let end = match (status.code(), status.signal()) {
            (Some(0), _) => "ended well".to_owned(),
            (Some(code), _) => format!("FAILED, exit code {code}"),
            (None, signal) => format!("DIED of signal {}", signal.unwrap_or(0)),
        };
        bad |= !status.success();
        println!("== {mode}: {end}");
    }
    if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

type Db<'e> = EncryptedDatabase<'e, Bytes, Bytes>;

/// Opens an environment, works, closes it.
fn with(folder: &Path, key: [u8; 32], work: impl FnOnce(&EncryptedEnv, &Db<'_>)) {
    let mut options = EnvOpenOptions::new();
    options.map_size(64 << 20).max_dbs(2);
    let key = Key::<Aes256GcmSiv>::from(key);
    // SAFETY: a folder of our own, opened once, never touched otherwise.
    let env = unsafe { options.open_encrypted::<Aes256GcmSiv, _>(key, folder) }.expect("open");
    {
        let tx = env.write_txn().expect("begin");
        let made = env.create_databases_and_commit(tx, |opener, tx| {
            let db = opener.create_database::<Bytes, Bytes>(tx, Some("cells"))?;
            Ok::<_, Error>(CommitOrAbort::<_, ()>::Commit(db))
        });
        let db = made.expect("create").unwrap_commit();
        work(&env, &db);
    }
    env.prepare_for_closing().wait();
}

fn value(name: u64, round: u64) -> Vec<u8> {
    vec![(name % 251) as u8; 40 + ((name * 37 + round * 101) % 1500) as usize]
}

fn check(name: u64, value: &[u8]) {
    assert!(
        value.iter().all(|byte| *byte == (name % 251) as u8),
        "a value that nobody wrote"
    );
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }
}

fn sizes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut wrong, mut first) = (0, None);
    with(folder.path(), [7; 32], |env, db| {
        for length in 0..20_000 {
            let value = vec![0x5a; length];
            let mut tx = env.write_txn().expect("begin");
            db.put(&mut tx, b"name", &value).expect("put");
            tx.commit().expect("commit");
            let mut tx = env.read_txn().expect("begin");
            let found = db.get(&mut tx, b"name").expect("get").expect("it was put");
            if found != value {
                wrong += 1;
                first.get_or_insert(length);
            }
        }
    });
    println!("{wrong} of 20000 lengths come back altered, the first {first:?}");
    assert_eq!(wrong, 0);
}

fn threads(seconds: u64, readers: u64, writers: u64, one_lock: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let (stop, lock) = (AtomicBool::new(false), Mutex::new(()));
    let (reads, writes) = (AtomicU64::new(0), AtomicU64::new(0));
    with(folder.path(), [7; 32], |env, db| {
        for name in 0..ENTRIES {
            put(env, db, name, 0);
        }
        std::thread::scope(|scope| {
            for thread in 0..readers + writers {
                let (stop, lock, reads, writes) = (&stop, &lock, &reads, &writes);
                scope.spawn(move || {
                    let mut random = Random(thread + 1);
                    while !stop.load(Ordering::Relaxed) {
                        let _alone = one_lock.then(|| lock.lock().expect("a lock"));
                        let name = random.next() % ENTRIES;
                        if thread < readers {
                            let mut tx = env.read_txn().expect("begin");
                            for step in 0..20 {
                                let name = (name + step * 31) % ENTRIES;
                                let found = db.get(&mut tx, &name.to_be_bytes()).expect("get");
                                check(name, found.expect("it is always there"));
                            }
                            reads.fetch_add(20, Ordering::Relaxed);
                        } else {
                            put(env, db, name, random.next());
                            writes.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_secs(seconds));
            stop.store(true, Ordering::Relaxed);
        });
    });
    println!(
        "{} reads, {} writes",
        reads.load(Ordering::Relaxed),
        writes.load(Ordering::Relaxed)
    );
}

fn put(env: &EncryptedEnv, db: &Db<'_>, name: u64, round: u64) {
    let mut tx = env.write_txn().expect("begin");
    db.put(&mut tx, &name.to_be_bytes(), &value(name, round))
        .expect("put");
    tx.commit().expect("commit");
}

fn reopen(seconds: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut round = 0;
    println!("{} MB before", resident() >> 20);
    while Instant::now() < until {
        with(folder.path(), [7; 32], |env, db| {
            for name in 0..20 {
                put(env, db, name, round);
            }
            let mut tx = env.read_txn().expect("begin");
            for name in 0..20 {
                let found = db.get(&mut tx, &u64::to_be_bytes(name)).expect("get");
                check(name, found.expect("it was put"));
            }
        });
        round += 1;
    }
    println!("{} MB after {round} openings", resident() >> 20);
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn residue() {
    let folder = tempfile::tempdir().expect("a folder");
    // Neither is anywhere in this program as it is here.
    let key: [u8; 32] = std::array::from_fn(|index| (index as u8).wrapping_mul(73) ^ 0x5a);
    let text: Vec<u8> = (0..64_u8).map(|index| index.wrapping_mul(29) ^ 0xa5).collect();
    with(folder.path(), key, |env, db| {
        let mut tx = env.write_txn().expect("begin");
        db.put(&mut tx, b"name", &text).expect("put");
        tx.commit().expect("commit");
        let mut tx = env.read_txn().expect("begin");
        assert!(db.get(&mut tx, b"name").expect("get").is_some());
    });
    // Half of the key is enough: what frees memory writes over its first bytes.
    println!("half of the key is in memory at {} places", places(&key[16..]));
    println!("the value is in memory at {} places", places(&text));
}

/// Where these bytes are in the heap and on this thread's stack's far end, besides where they are
/// held here.
fn places(wanted: &[u8]) -> usize {
    use std::os::unix::fs::FileExt as _;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let memory = std::fs::File::open("/proc/self/mem").expect("memory");
    let mut found = 0;
    for line in maps.lines() {
        let anonymous = line.contains("rw-p") && !line.contains("[stack]") && !line.contains(".mdb");
        let Some((range, _)) = line.split_once(' ').filter(|_| anonymous) else { continue };
        let Some((from, to)) = range.split_once('-') else { continue };
        let parse = |text| u64::from_str_radix(text, 16).expect("an address");
        let (from, to) = (parse(from), parse(to));
        let mut bytes = vec![0; (to - from) as usize];
        let own = bytes.as_ptr() as u64..bytes.as_ptr() as u64 + bytes.len() as u64;
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        for (at, window) in bytes.windows(wanted.len()).enumerate() {
            let address = from + at as u64;
            let held = address == wanted.as_ptr() as u64 || own.contains(&address);
            if window == wanted && !held {
                found += 1;
            }
        }
        // Not to be found by the next look.
        bytes.fill(0);
    }
    found
}

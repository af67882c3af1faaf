//! The memory with clocks that are turned, engines that fail, and files that were tampered with.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use aico_vault::{KdfCost, Password, Vault};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Somebody's keys, in a vault of their own.
struct Somebody {
    folder: TempDir,
    keys: PersonKeys,
    clock: Arc<AtomicU64>,
}

impl Somebody {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let password = Password::new("a long and odd passphrase for a test").unwrap();
        let data = folder.path().join("data");
        let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
        let keys = vault.create_person([7; 16], &password).unwrap();
        Self {
            folder,
            keys,
            clock: Arc::new(AtomicU64::new(1_800_000_000_000)),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("working")
    }

    fn open(&self) -> WorkingMemory {
        self.open_as(WorkingLimits::default(), engine::redb)
    }

    fn open_as(&self, limits: WorkingLimits, make: MakeEngine) -> WorkingMemory {
        let clock = Arc::clone(&self.clock);
        let now: Clock = Arc::new(move || clock.load(Ordering::Relaxed));
        WorkingMemory::open_with(&self.path(), self.keys.clone(), limits, make, now)
    }

    fn later(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap();
        self.clock.fetch_add(by, Ordering::Relaxed);
    }
}

fn got(memory: &WorkingMemory, name: &[u8]) -> Option<Vec<u8>> {
    memory.inner.get("test", name).map(|value| value.to_vec())
}

fn put(memory: &WorkingMemory, name: &[u8], value: &[u8], ttl: Duration) {
    memory.inner.put("test", name, value, ttl);
}

#[test]
fn what_is_put_is_there_until_its_time_is_up() {
    let somebody = Somebody::new();
    let memory = somebody.open();
    put(&memory, b"a", b"one", MINUTE);
    put(&memory, b"b", b"two", 2 * MINUTE);
    memory.inner.put("other", b"a", b"elsewhere", MINUTE);
    assert_eq!(got(&memory, b"a").unwrap(), b"one");
    let all = memory.inner.all("test");
    let mut names: Vec<_> = all.iter().map(|(name, _)| name.as_slice()).collect();
    names.sort();
    assert_eq!(names, [b"a", b"b"]);
    somebody.later(MINUTE);
    assert_eq!(got(&memory, b"a"), None);
    assert_eq!(got(&memory, b"b").unwrap(), b"two");
    assert_eq!(memory.stats().entries, 3, "not cleaned yet");
    assert_eq!(memory.inner.clean(), 2);
    assert_eq!(memory.stats().entries, 1);
    memory.inner.forget("test", b"b");
    assert_eq!(got(&memory, b"b"), None);
    assert_eq!((memory.stats().entries, memory.stats().bytes), (0, 0));
    assert_eq!(memory.stats().begun, 1);
}

#[test]
fn a_clock_that_is_put_back_makes_nothing_live_longer() {
    let somebody = Somebody::new();
    somebody.later(Duration::from_secs(10 * 365 * 24 * 60 * 60));
    let memory = somebody.open();
    put(&memory, b"a", b"from the future", MINUTE);
    somebody.clock.store(1_800_000_000_000, Ordering::Relaxed);
    assert_eq!(got(&memory, b"a"), None);
    assert_eq!(memory.inner.clean(), 1);
    put(&memory, b"a", b"now", MINUTE);
    assert_eq!(got(&memory, b"a").unwrap(), b"now");
}

#[test]
fn a_clean_stop_is_gone_on_with_and_any_other_begins_anew() {
    let somebody = Somebody::new();
    let memory = somebody.open();
    put(&memory, b"a", b"one", MINUTE);
    memory.inner.close(true);
    assert_eq!(got(&memory, b"a"), None, "a closed one answers nothing");
    put(&memory, b"a", b"late", MINUTE);
    assert!(!memory.stats().open);

    let memory = somebody.open();
    assert_eq!(memory.stats().begun, 0);
    assert_eq!(got(&memory, b"a").unwrap(), b"one");
    // Nobody closes it.
    drop(memory);
    let memory = somebody.open();
    assert_eq!(memory.stats().begun, 1);
    assert_eq!(got(&memory, b"a"), None);
}

#[test]
fn what_is_over_or_empty_leaves_no_file() {
    let somebody = Somebody::new();
    let memory = somebody.open();
    put(&memory, b"a", b"one", MINUTE);
    somebody.later(MINUTE);
    memory.inner.close(true);
    assert!(!somebody.path().exists());
    let memory = somebody.open();
    put(&memory, b"a", b"one", MINUTE);
    memory.inner.close(false);
    assert!(!somebody.path().exists(), "discarded");
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_it_and_no_link_is_followed() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let somebody = Somebody::new();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    let memory = somebody.open();
    put(&memory, b"a", b"one", MINUTE);
    assert_eq!(mode(&somebody.path()), 0o700);
    assert_eq!(mode(&somebody.path().join("cells")), 0o600);
    memory.inner.close(true);
    assert_eq!(mode(&somebody.path().join("closed")), 0o600);

    // Open to others: not used.
    fs::set_permissions(
        somebody.path().join("cells"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let memory = somebody.open();
    assert_eq!(
        (
            got(&memory, b"a"),
            memory.stats().begun,
            mode(&somebody.path().join("cells"))
        ),
        (None, 1, 0o600)
    );
    put(&memory, b"a", b"one", MINUTE);
    memory.inner.close(true);

    // A link in the place of the folder, or of a file in it.
    let elsewhere = somebody.folder.path().join("elsewhere");
    fs::rename(somebody.path(), &elsewhere).unwrap();
    symlink(&elsewhere, somebody.path()).unwrap();
    let memory = somebody.open();
    assert_eq!((got(&memory, b"a"), memory.stats().begun), (None, 1));
    assert!(fs::symlink_metadata(somebody.path()).unwrap().is_dir());
    assert!(elsewhere.join("cells").exists(), "what it led to stays");
    put(&memory, b"a", b"one", MINUTE);
    memory.inner.close(true);
    let cells = somebody.path().join("cells");
    fs::rename(&cells, elsewhere.join("moved")).unwrap();
    symlink(elsewhere.join("moved"), &cells).unwrap();
    let memory = somebody.open();
    assert_eq!((got(&memory, b"a"), memory.stats().begun), (None, 1));
}

/// The state of a clean stop, to be tampered with.
fn closed(somebody: &Somebody) -> (Vec<u8>, Vec<u8>) {
    let memory = somebody.open();
    put(&memory, b"a", &[7; 3000], MINUTE);
    put(&memory, b"b", b"two", MINUTE);
    memory.inner.close(true);
    let read = |name| fs::read(somebody.path().join(name)).unwrap();
    (read("cells"), read("closed"))
}

fn begins_anew(somebody: &Somebody, cells: &[u8], note: &[u8], what: &str) {
    fs::write(somebody.path().join("cells"), cells).unwrap();
    let path = somebody.path().join("closed");
    fs::write(&path, note).unwrap();
    #[cfg(unix)]
    fs::set_permissions(
        &path,
        <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600),
    )
    .unwrap();
    let memory = somebody.open();
    assert_eq!(memory.stats().begun, 1, "{what}");
    assert_eq!(got(&memory, b"b"), None, "{what}");
    put(&memory, b"b", b"three", MINUTE);
    assert_eq!(got(&memory, b"b").unwrap(), b"three", "{what}");
}

#[test]
fn every_cut_and_flipped_file_begins_anew() {
    let somebody = Somebody::new();
    let (cells, note) = closed(&somebody);
    let every = std::env::var_os("AICO_TEST_EVERY_BYTE").is_some();
    let step = if every { 509 } else { 40_009 };
    for at in (0..cells.len()).step_by(step) {
        let mut other = cells.clone();
        other[at] ^= 0x10;
        begins_anew(&somebody, &other, &note, &format!("byte {at}"));
        begins_anew(&somebody, &cells[..at], &note, &format!("length {at}"));
    }
    for at in 0..note.len() {
        let mut other = note.clone();
        other[at] ^= 1;
        begins_anew(&somebody, &cells, &other, &format!("byte {at} of the note"));
    }
    for length in 0..note.len() {
        begins_anew(&somebody, &cells, &note[..length], "a cut note");
    }
    let longer = [&cells[..], &[0; 4096]].concat();
    begins_anew(&somebody, &longer, &note, "a longer table");
}

#[test]
fn a_table_from_before_or_of_somebody_else_begins_anew() {
    let (somebody, another) = (Somebody::new(), Somebody::new());
    let (old, _) = closed(&somebody);
    let memory = somebody.open();
    put(&memory, b"b", b"newer", MINUTE);
    memory.inner.close(true);
    let note = fs::read(somebody.path().join("closed")).unwrap();
    begins_anew(&somebody, &old, &note, "an older table");
    let (cells, note) = closed(&another);
    begins_anew(&somebody, &cells, &note, "somebody else's, with its note");
}

#[test]
fn a_note_counts_once() {
    let somebody = Somebody::new();
    let (cells, note) = closed(&somebody);
    let memory = somebody.open();
    assert_eq!(got(&memory, b"b").unwrap(), b"two");
    assert!(!somebody.path().join("closed").exists());
    put(&memory, b"b", b"newer", MINUTE);
    drop(memory);
    // Even put back, it vouches for the table of then and for no other.
    let now = fs::read(somebody.path().join("cells")).unwrap();
    assert_ne!(now, cells);
    begins_anew(&somebody, &now, &note, "a note put back");
}

#[test]
fn another_key_of_the_same_person_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let password = Password::new("a long and odd passphrase for a test").unwrap();
    let data = folder.path().join("data");
    let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
    let keys = vault.create_person([7; 16], &password).unwrap();
    let path = folder.path().join("working");
    let memory = WorkingMemory::open(&path, keys);
    put(&memory, b"a", b"one", MINUTE);
    memory.inner.close(true);
    vault.rotate_person([7; 16], Some(&password)).unwrap();
    let keys = vault.open_person([7; 16]).unwrap();
    assert_eq!(keys.key_epoch(), 2);
    let memory = WorkingMemory::open(&path, keys);
    assert_eq!((got(&memory, b"a"), memory.stats().begun), (None, 1));
}

/// Two environments under one root, and one that began anew, have nothing in common but what every
/// table of this engine has.
#[test]
fn two_environments_under_one_root_share_no_ciphertext() {
    let folder = tempfile::tempdir().unwrap();
    let password = Password::new("a long and odd passphrase for a test").unwrap();
    let data = folder.path().join("data");
    let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
    let mut files = Vec::new();
    let mut written = Vec::new();
    for (round, person) in [[1; 16], [2; 16], [1; 16]].into_iter().enumerate() {
        let keys = vault
            .create_person(person, &password)
            .or_else(|_| vault.open_person(person))
            .unwrap();
        let path = folder.path().join(format!("working-{round}"));
        let memory = WorkingMemory::open(&path, keys);
        // The same at the same time, under the same names, in the same order.
        for index in 0..40_u32 {
            put(&memory, &index.to_be_bytes(), &[b'q'; 900], MINUTE);
        }
        let mut cells = Vec::new();
        let mut state = memory.inner.state.lock();
        let open = state.open.as_mut().unwrap();
        open.engine
            .each(&mut |name, sealed| cells.push((name.to_vec(), sealed.to_vec())))
            .unwrap();
        drop(state);
        memory.inner.close(true);
        files.push(fs::read(path.join("cells")).unwrap());
        written.push(cells);
    }
    for (one, two) in [(0, 1), (0, 2), (1, 2)] {
        for (name, sealed) in &written[one] {
            assert_eq!(sealed.len(), written[two][0].1.len());
            assert!(written[two].iter().all(|(other, _)| other != name));
            for (_, other) in &written[two] {
                let equal = sealed
                    .windows(8)
                    .zip(other.windows(8))
                    .filter(|(a, b)| a == b);
                assert_eq!(equal.count(), 0, "eight bytes in the same place");
                // Nor is their difference the difference of what was written, which is nothing.
                let zeros = sealed.iter().zip(other).filter(|(a, b)| a == b).count();
                assert!(zeros < sealed.len() / 8, "{zeros} of {}", sealed.len());
            }
        }
    }
    for file in &files {
        assert!(
            !file.windows(12).any(|bytes| bytes == [b'q'; 12]),
            "nothing lies there in clear"
        );
    }
}

#[test]
fn the_oldest_make_room_and_what_is_too_long_is_not_remembered() {
    let somebody = Somebody::new();
    let limits = WorkingLimits {
        value: 1000,
        entries: 10,
        bytes: 6000,
        ..WorkingLimits::default()
    };
    let memory = somebody.open_as(limits, engine::redb);
    for index in 0..30_u32 {
        somebody.later(Duration::from_millis(1));
        put(&memory, &index.to_be_bytes(), b"small", MINUTE);
        assert!(memory.stats().entries <= 10);
    }
    for index in 0..30_u32 {
        assert_eq!(got(&memory, &index.to_be_bytes()).is_some(), index >= 20);
    }
    for index in 30..40_u32 {
        somebody.later(Duration::from_millis(1));
        put(&memory, &index.to_be_bytes(), &[1; 1000], MINUTE);
        assert!(memory.stats().bytes <= 6000);
        assert!(got(&memory, &index.to_be_bytes()).is_some());
    }
    put(&memory, &39_u32.to_be_bytes(), &[1; 1001], MINUTE);
    assert_eq!(
        got(&memory, &39_u32.to_be_bytes()),
        None,
        "nor what was there before it"
    );
    assert_eq!(memory.stats().begun, 1);
}

#[test]
fn the_file_grows_to_its_bound_and_then_it_begins_anew() {
    let somebody = Somebody::new();
    let limits = WorkingLimits {
        bytes: 64 << 20,
        entries: usize::MAX,
        file: 4 << 20,
        ..WorkingLimits::default()
    };
    let memory = somebody.open_as(limits, engine::redb);
    let length = || fs::metadata(somebody.path().join("cells")).unwrap().len();
    let first = length();
    let mut most = first;
    for index in 0..40_u32 {
        put(&memory, &index.to_be_bytes(), &vec![1; 200_000], MINUTE);
        most = most.max(length());
        assert!(length() <= 4 << 20);
    }
    assert!(most > first, "it never grew");
    let begun = memory.stats().begun;
    assert!((2..20).contains(&begun), "{begun}");
    put(&memory, b"a", b"one", MINUTE);
    assert_eq!(got(&memory, b"a").unwrap(), b"one");
}

/// An engine that fails or panics at every n-th call.
struct Flaky(Box<dyn Engine>);

static CALLS: AtomicUsize = AtomicUsize::new(0);

fn flaky(file: File, most: u64) -> Result<Box<dyn Engine>, EngineError> {
    trip("make")?;
    Ok(Box::new(Flaky(engine::redb(file, most)?)))
}

fn trip(step: &'static str) -> Result<(), EngineError> {
    match CALLS.fetch_add(1, Ordering::Relaxed) % 23 {
        11 => Err(EngineError::Failed(step)),
        17 => Err(EngineError::Full),
        22 => panic!("a test's"),
        _ => Ok(()),
    }
}

impl Engine for Flaky {
    fn change(&mut self, remove: &[Name], put: &[(Name, Vec<u8>)]) -> Result<(), EngineError> {
        trip("change")?;
        self.0.change(remove, put)?;
        // The worst moment: it was done and is told as failed.
        trip("after the change")
    }

    fn get(&mut self, name: &Name) -> Result<Option<Vec<u8>>, EngineError> {
        trip("get")?;
        self.0.get(name)
    }

    fn each(&mut self, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
        trip("each")?;
        self.0.each(visit)
    }

    fn close(self: Box<Self>) -> Result<(), EngineError> {
        trip("close")?;
        self.0.close()
    }
}

#[test]
fn an_engine_that_fails_costs_what_was_remembered_and_nothing_else() {
    let somebody = Somebody::new();
    let mut memory = somebody.open_as(WorkingLimits::default(), flaky);
    let (mut kept, mut lost) = (0, 0);
    for round in 0..600_u32 {
        let name = (round % 7).to_be_bytes();
        put(&memory, &name, &round.to_be_bytes(), MINUTE);
        match got(&memory, &name) {
            Some(value) => {
                assert_eq!(value, round.to_be_bytes(), "never an older one");
                kept += 1;
            }
            None => lost += 1,
        }
        // What could not be made is tried again at once here.
        memory.inner.state.lock().again = None;
        if round.is_multiple_of(97) {
            memory.inner.close(true);
            memory = somebody.open_as(WorkingLimits::default(), flaky);
        }
    }
    assert!(kept > 300 && lost > 10, "{kept} {lost}");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u16, u8),
    Get(u8),
    Forget(u8),
    Later(u8),
    Clean,
    Reopen,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u8, 0..2500_u16, 1..40_u8).prop_map(|(n, size, ttl)| Step::Put(n, size, ttl)),
        6 => (0..12_u8).prop_map(Step::Get),
        1 => (0..12_u8).prop_map(Step::Forget),
        3 => (1..15_u8).prop_map(Step::Later),
        1 => Just(Step::Clean),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Against a map with times.
    #[test]
    fn it_is_a_map_with_times_to_live(steps in steps()) {
        let somebody = Somebody::new();
        let mut memory = somebody.open();
        let mut model: BTreeMap<u8, (Vec<u8>, u64)> = BTreeMap::new();
        for step in steps {
            let now = somebody.clock.load(Ordering::Relaxed);
            match step {
                Step::Put(name, size, seconds) => {
                    let value = vec![name ^ seconds; usize::from(size)];
                    let ttl = Duration::from_secs(u64::from(seconds));
                    put(&memory, &[name], &value, ttl);
                    model.insert(name, (value, now + u64::from(seconds) * 1000));
                }
                Step::Get(name) => {
                    let expected = model
                        .get(&name)
                        .filter(|(_, expires)| now < *expires)
                        .map(|(value, _)| value.clone());
                    prop_assert_eq!(got(&memory, &[name]), expected);
                }
                Step::Forget(name) => {
                    memory.inner.forget("test", &[name]);
                    model.remove(&name);
                }
                Step::Later(seconds) => somebody.later(Duration::from_secs(u64::from(seconds))),
                Step::Clean => {
                    memory.inner.clean();
                    model.retain(|_, (_, expires)| now < *expires);
                    prop_assert_eq!(memory.stats().entries, model.len());
                }
                Step::Reopen => {
                    memory.inner.close(true);
                    model.retain(|_, (_, expires)| now < *expires);
                    memory = somebody.open();
                    prop_assert_eq!(memory.stats().entries, model.len());
                }
                Step::Kill => {
                    drop(memory);
                    memory = somebody.open();
                    model.clear();
                }
            }
        }
        let now = somebody.clock.load(Ordering::Relaxed);
        model.retain(|_, (_, expires)| now < *expires);
        let all: BTreeMap<u8, Vec<u8>> = memory
            .inner
            .all("test")
            .into_iter()
            .map(|(name, value)| (name[0], value.to_vec()))
            .collect();
        let expected: BTreeMap<u8, Vec<u8>> =
            model.into_iter().map(|(name, (value, _))| (name, value)).collect();
        prop_assert_eq!(all, expected);
    }
}

#[tokio::test]
async fn many_threads_write_read_and_clean_while_it_is_closed() {
    let somebody = Somebody::new();
    let memory = somebody.open();
    let mut tasks = tokio::task::JoinSet::new();
    let seen = Arc::new(AtomicU32::new(0));
    for task in 0..8_u8 {
        let (memory, seen) = (memory.clone(), Arc::clone(&seen));
        tasks.spawn(async move {
            for round in 0..100_u32 {
                let value = [&[task][..], &round.to_be_bytes()].concat();
                memory.put("test", &[task], value.clone(), MINUTE).await;
                if let Some(found) = memory.get("test", &[task]).await {
                    assert_eq!(*found, value);
                    seen.fetch_add(1, Ordering::Relaxed);
                }
                memory.clean().await;
            }
        });
    }
    while seen.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    memory.close().await;
    tasks.join_all().await;
    assert!(!memory.stats().open);
    let again = somebody.open();
    assert_eq!(again.stats().begun, 0, "it was closed well all the same");
}

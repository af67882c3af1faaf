//! Crashes of and damage to the registry, each test named after the fault.

use super::*;
use crate::fs::faulty::{Dice, Faulty};
use crate::key::Key;

fn path() -> &'static Path {
    Path::new("/registry")
}

fn roots_of(key: u8) -> Roots {
    Roots {
        root: Key::from_bytes(&[key; 32]),
        epoch: 1,
        earlier: None,
    }
}

fn roots() -> Roots {
    roots_of(3)
}

const VAULT: [u8; 16] = [4; 16];

fn create(fs: &Faulty) -> Registry {
    Registry::create(Arc::new(fs.clone()), path(), &roots(), VAULT).unwrap()
}

fn open(fs: &Faulty) -> Result<Registry, RegistryError> {
    Registry::open(Arc::new(fs.clone()), path(), &roots(), VAULT)
}

fn content(registry: &Registry) -> Content {
    registry.lock().content.clone()
}

fn store(generation: u64) -> StoreRecord {
    StoreRecord {
        salt: [7; 16],
        generation,
        last_sequence: 10,
        closed_hash: Some([8; 32]),
        key: 0,
    }
}

#[test]
fn what_was_recorded_is_there_after_opening_again() {
    let fs = Faulty::new();
    let registry = create(&fs);
    registry.put("system", store(1)).unwrap();
    registry
        .note_sequences(&[("system", 12), ("log:a", 5)])
        .unwrap();
    registry.note_sequence("log:a", 3).unwrap();
    registry.note_closed("log:b", 4).unwrap();
    drop(registry);
    let registry = open(&fs).unwrap();
    assert_eq!(
        registry.get("system"),
        Some(StoreRecord {
            last_sequence: 12,
            ..store(1)
        })
    );
    assert_eq!(
        registry.mark("log:a"),
        HighWater {
            sequence: 5,
            closed: 0
        }
    );
    assert_eq!(
        registry.mark("log:b"),
        HighWater {
            sequence: 4,
            closed: 4
        }
    );
    assert_eq!(registry.mark("log:c"), HighWater::default());
    registry.note_sequence("log:a", 6).unwrap();
    registry.remove("log:b").unwrap();
    let again = open(&fs).unwrap();
    assert_eq!(again.mark("log:a").sequence, 6);
    assert_eq!(again.mark("log:b"), HighWater::default());
    assert_eq!(content(&again), content(&registry));
}

#[test]
fn opening_writes_nothing() {
    let fs = Faulty::new();
    drop(create(&fs));
    let before = fs.operations();
    drop(open(&fs).unwrap());
    assert_eq!(fs.operations(), before);
}

#[test]
fn a_missing_emptied_or_shortened_registry_is_an_error() {
    let fs = Faulty::new();
    assert!(matches!(open(&fs), Err(RegistryError::Missing { .. })));
    create(&fs).put("system", store(1)).unwrap();
    let bytes = fs.read(path()).unwrap();
    for len in 0..bytes.len() {
        fs.plant(path(), &bytes[..len]);
        assert!(open(&fs).is_err(), "cut at {len}");
    }
}

#[test]
fn every_flipped_bit_in_the_snapshot_is_an_error() {
    let fs = Faulty::new();
    create(&fs).put("system", store(1)).unwrap();
    let bytes = fs.read(path()).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            fs.plant(path(), &damaged);
            assert!(open(&fs).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_registry_of_another_vault_is_refused() {
    let fs = Faulty::new();
    drop(create(&fs));
    let other_key = Registry::open(Arc::new(fs.clone()), path(), &roots_of(9), VAULT);
    assert!(other_key.is_err());
    let other_vault = Registry::open(Arc::new(fs), path(), &roots(), [5; 16]);
    assert!(other_vault.is_err());
}

#[test]
fn a_full_disk_is_told_and_recovered_from() {
    let fs = Faulty::new();
    let registry = create(&fs);
    registry.put("system", store(1)).unwrap();
    fs.set_full(true);
    assert!(registry.put("system", store(2)).is_err());
    assert_eq!(registry.get("system"), Some(store(1)));
    fs.set_full(false);
    registry.put("system", store(3)).unwrap();
    assert_eq!(open(&fs).unwrap().get("system"), Some(store(3)));
}

#[test]
fn a_full_disk_under_a_note_is_told_and_a_later_note_gets_through() {
    let fs = Faulty::new();
    let registry = create(&fs);
    registry.note_sequence("log", 1).unwrap();
    fs.set_full(true);
    assert!(registry.note_sequence("log", 2).is_err());
    assert_eq!(registry.mark("log").sequence, 1);
    fs.set_full(false);
    registry.note_sequence("log", 3).unwrap();
    assert_eq!(registry.mark("log").sequence, 3);
    assert_eq!(open(&fs).unwrap().mark("log").sequence, 3);
}

#[test]
fn after_a_failed_sync_everything_is_written_anew_before_more_is_acknowledged() {
    for by_put in [false, true] {
        let fs = Faulty::new();
        let registry = create(&fs);
        registry.note_sequence("log", 1).unwrap();
        fs.set_no_sync(true);
        assert!(registry.note_sequence("log", 2).is_err());
        // What is on disk is not known: an append to it would be acknowledged for nothing.
        assert!(registry.note_sequence("log", 3).is_err());
        assert_eq!(registry.mark("log").sequence, 1);
        fs.set_no_sync(false);
        match by_put {
            true => registry.put("system", store(1)).unwrap(),
            false => registry.note_sequence("log", 4).unwrap(),
        }
        for seed in 1..40 {
            let found = open(&fs.after_power_cut(&mut Dice(seed))).unwrap();
            assert_eq!(content(&found), content(&registry), "seed {seed}");
        }
    }
}

#[test]
fn a_disk_that_can_only_be_read_is_told_and_recovered_from() {
    let fs = Faulty::new();
    let registry = create(&fs);
    registry.put("system", store(1)).unwrap();
    registry.note_sequence("log", 1).unwrap();
    fs.set_read_only(true);
    let told = registry.note_sequence("log", 2).unwrap_err();
    assert_eq!(told.refusal(), Refusal::ReadOnly);
    let told = registry.put("system", store(2)).unwrap_err();
    assert_eq!(told.refusal(), Refusal::ReadOnly);
    assert_eq!(registry.get("system"), Some(store(1)));
    registry.check().unwrap();
    fs.set_read_only(false);
    registry.note_sequence("log", 3).unwrap();
    registry.put("system", store(3)).unwrap();
    let found = open(&fs).unwrap();
    assert_eq!(found.get("system"), Some(store(3)));
    assert_eq!(found.mark("log").sequence, 3);
}

#[test]
fn a_check_notices_what_was_changed_behind_its_back() {
    let fs = Faulty::new();
    let registry = create(&fs);
    registry.put("system", store(1)).unwrap();
    let older = fs.read(path()).unwrap();
    registry.note_sequence("log", 1).unwrap();
    registry.check().unwrap();
    let whole = fs.read(path()).unwrap();
    for at in [0, whole.len() / 2, older.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs.plant(path(), &damaged);
        assert!(registry.check().is_err(), "byte {at}");
    }
    fs.plant(path(), &older);
    assert!(matches!(
        registry.check(),
        Err(RegistryError::Behind { .. })
    ));
    fs.plant(path(), &whole);
    registry.check().unwrap();
}

#[test]
fn notes_are_folded_before_the_file_grows_without_end() {
    let fs = Faulty::new();
    let registry = create(&fs);
    let names: Vec<String> = (0..1000).map(|n| format!("log:{n:0>100}")).collect();
    for round in 1..=20 {
        let notes: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), round)).collect();
        registry.note_sequences(&notes).unwrap();
    }
    assert!(fs.read(path()).unwrap().len() < 1_500_000);
    assert_eq!(open(&fs).unwrap().mark(&names[999]).sequence, 20);
}

#[test]
fn threads_that_note_at_once_all_get_what_they_were_told() {
    let fs = Faulty::new();
    let registry = create(&fs);
    registry.put("system", store(1)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let registry = &registry;
            scope.spawn(move || {
                for sequence in 1..=50 {
                    registry
                        .note_sequence(&format!("log:{thread}"), sequence)
                        .unwrap();
                    assert_eq!(registry.mark(&format!("log:{thread}")).sequence, sequence);
                    if sequence % 10 == 0 {
                        registry
                            .put(&format!("person:{thread}"), store(sequence))
                            .unwrap();
                    }
                }
            });
        }
    });
    let again = open(&fs).unwrap();
    for thread in 0..8 {
        assert_eq!(again.mark(&format!("log:{thread}")).sequence, 50);
        assert_eq!(
            again.get(&format!("person:{thread}")).unwrap().generation,
            50
        );
    }
}

/// A fixed series of changes, with what the registry holds after each.
fn series(registry: &Registry, mut after: impl FnMut(Content)) -> Result<(), RegistryError> {
    let changes: [&dyn Fn() -> Result<(), RegistryError>; 6] = [
        &|| registry.put("system", store(1)),
        &|| registry.note_sequence("system", 11),
        &|| registry.note_sequences(&[("system", 12), ("log:a", 4)]),
        &|| registry.put("person:1", store(2)),
        &|| registry.note_closed("log:a", 5),
        &|| registry.remove("person:1"),
    ];
    for change in changes {
        change()?;
        after(content(registry));
    }
    Ok(())
}

#[test]
fn killed_or_cut_off_at_any_operation_it_holds_the_state_before_or_after() {
    let start = Faulty::new();
    drop(create(&start));
    let begun = start.operations();
    let complete = start.fork();
    let mut states = vec![Content::default()];
    series(&open(&complete).unwrap(), |state| states.push(state)).unwrap();
    let operations = complete.operations() - begun;
    assert!(operations > 20, "{operations}");
    for stop in 0..=operations {
        let fs = start.fork();
        fs.stop_after(stop);
        let mut acknowledged = 0;
        let _ = series(&open(&fs).unwrap(), |_| acknowledged += 1);
        for seed in 0..40 {
            let after = match seed {
                0 => fs.after_kill(),
                _ => fs.after_power_cut(&mut Dice(stop as u64 * 1000 + seed)),
            };
            let registry = open(&after).unwrap();
            let found = content(&registry);
            assert!(
                states[acknowledged..]
                    .iter()
                    .take(2)
                    .any(|state| *state == found),
                "stopped at {stop}, seed {seed}: {found:?} after {acknowledged}"
            );
            registry.note_sequence("log:z", 1).unwrap();
            registry.put("system", store(9)).unwrap();
            assert_eq!(open(&after).unwrap().mark("log:z").sequence, 1);
        }
    }
}

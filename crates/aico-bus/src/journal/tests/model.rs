//! The journal against a model in memory, on a disk that drops, tears and fills up.

use std::collections::{BTreeMap, HashMap, HashSet};

use aico_contracts::ids::PersonId;
use aico_vault::Vault;
use aico_vault::fs::faulty::{Dice, Faulty};

use super::*;
use crate::journal::upkeep::Retention;

/// Small files, so that there are many.
const RETENTION: Retention = Retention {
    age: std::time::Duration::from_secs(1 << 30),
    bytes: u64::MAX,
};

#[derive(Default)]
struct Model {
    /// By sequence: number and length of what was acknowledged or is known to be there.
    kept: BTreeMap<u64, (u64, usize)>,
    sequences: HashMap<u64, u64>,
    /// Nobody answered: it may be there.
    unknown: HashMap<u64, usize>,
    refused: HashSet<u64>,
}

impl Model {
    /// What is on the disk is what was acknowledged, and what may be.
    fn check(&mut self, store: &Store, context: &str) {
        let seen = read(store);
        assert_eq!(seen.skipped, [], "{context}");
        let mut there = HashSet::new();
        for (index, (sequence, number, len)) in seen.kept.iter().enumerate() {
            assert_eq!(*sequence, index as u64 + 1, "{context}: no gap");
            assert!(there.insert(*number), "{context}: {number} is there twice");
            assert!(
                !self.refused.contains(number),
                "{context}: {number} was refused"
            );
            match self.kept.get(sequence) {
                Some(known) => assert_eq!(*known, (*number, *len), "{context}"),
                None => {
                    let len = self.unknown.get(number).copied();
                    assert!(len.is_some(), "{context}: {number} was never published");
                    self.kept.insert(*sequence, (*number, len.unwrap()));
                    self.sequences.insert(*number, *sequence);
                }
            }
        }
        assert_eq!(seen.kept.len(), self.kept.len(), "{context}: one is lost");
        assert_eq!(store.last, self.kept.len() as u64, "{context}");
        self.unknown.clear();
    }

    /// What became of a batch, as far as anybody was told.
    fn told(&mut self, numbers: &[(u64, usize)], outcomes: &[Result<Receipt, JournalFault>]) {
        for ((number, len), outcome) in numbers.iter().zip(outcomes) {
            match outcome {
                Ok(receipt) => {
                    let sequence = receipt.place.sequence;
                    let before = self.sequences.insert(*number, sequence);
                    assert_eq!(receipt.repeated, before.is_some(), "{number}");
                    assert!(before.is_none_or(|before| before == sequence));
                    if before.is_none() {
                        self.kept.insert(sequence, (*number, *len));
                    }
                    self.refused.remove(number);
                }
                Err(_) if self.sequences.contains_key(number) => panic!("it was there"),
                Err(_) => {
                    self.refused.insert(*number);
                }
            }
        }
    }
}

fn batch(
    dice: &mut Dice,
    next: &mut u64,
    model: &Model,
    person: PersonId,
) -> (Vec<(u64, usize)>, Vec<Message>) {
    let mut numbers: Vec<(u64, usize)> = Vec::new();
    for _ in 0..=dice.roll(6) {
        // Sometimes a repetition: of what is there, or of what was refused.
        let old = match dice.roll(8) {
            0 => model.sequences.keys().min().copied(),
            1 => model.refused.iter().min().copied(),
            _ => None,
        };
        let number = old.unwrap_or_else(|| {
            *next += 1;
            *next
        });
        let len = match model.sequences.get(&number) {
            Some(sequence) => model.kept[sequence].1,
            None => [0, 40, 700, 5000, 70_000][dice.roll(5)],
        };
        if numbers.iter().all(|(known, _)| *known != number) {
            numbers.push((number, len));
        }
    }
    let messages = numbers.iter().map(|(number, len)| {
        let person = (number % 3 == 0).then_some(person);
        message(*number, person, *len)
    });
    let messages = messages.collect();
    (numbers, messages)
}

/// One life of a journal: many openings, each ended by a kill, a power cut or a close.
fn live(seed: u64) {
    let mut dice = Dice(seed);
    let mut fs = Faulty::new();
    let mut vault: Vault = make_vault(&fs);
    let person = add_person(&vault);
    let (mut model, mut next) = (Model::default(), 0);
    let mut history = Vec::new();
    for life in 0..6 {
        let context = format!("seed {seed}, life {life}, {history:?}");
        let Ok(mut store) = open_with(Arc::new(vault.clone())) else {
            panic!("{context}: it does not open");
        };
        model.check(&store, &context);
        let dies = dice.roll(4) != 0;
        if dies {
            fs.stop_after(dice.roll(40));
        }
        for _ in 0..dice.roll(12) {
            match dice.roll(10) {
                0 => fs.set_full(true),
                1 => fs.set_no_sync(true),
                2 | 3 => {
                    fs.set_full(false);
                    fs.set_no_sync(false);
                }
                4 => drop(store.rotate(RETENTION, NOW + 1_000_000)),
                5 => drop(store.note(&[])),
                _ => {
                    let operations = fs.operations();
                    let (numbers, messages) = batch(&mut dice, &mut next, &model, person);
                    let outcomes = store.commit(&messages, false).outcomes;
                    assert_eq!(outcomes.len(), messages.len());
                    // A disk that does nothing any more is a process that is gone: who would
                    // have been told is not.
                    let gone = dies && fs.operations() == operations;
                    let gone = gone || (dies && outcomes.iter().any(|o| is_gone(o.as_ref())));
                    if gone {
                        for (number, len) in numbers {
                            if !model.sequences.contains_key(&number) {
                                model.refused.remove(&number);
                                model.unknown.insert(number, len);
                            }
                        }
                        break;
                    }
                    model.told(&numbers, &outcomes);
                    if store.current.writer.is_some() || store.is_cut {
                        model.unknown.clear();
                    } else {
                        // The disk could not even take back what was refused: it may be there
                        // after a crash, and is not once something else was written.
                        for (number, len) in &numbers {
                            if model.refused.remove(number) {
                                model.unknown.insert(*number, *len);
                            }
                        }
                    }
                    assert_eq!(store.last, model.kept.len() as u64, "{context}");
                }
            }
        }
        let end = if dies { dice.roll(2) } else { 2 };
        history.push(["kill", "power", "close"][end]);
        fs = match end {
            0 => fs.after_kill(),
            1 => fs.after_power_cut(&mut dice),
            _ => {
                fs.set_full(false);
                fs.set_no_sync(false);
                let _ = store.close();
                fs
            }
        };
        drop(vault);
        vault = open_vault(&fs);
    }
}

fn is_gone(outcome: Result<&Receipt, &JournalFault>) -> bool {
    matches!(outcome, Err(JournalFault::Failed { .. }))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_and_nothing_is_there_twice() {
    let lives = std::env::var("AICO_TEST_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(25);
    for seed in 0..lives * 2 {
        live(seed);
    }
}

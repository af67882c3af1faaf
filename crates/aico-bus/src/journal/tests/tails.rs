//! Following: what is on the disk, then what comes, from wherever one begins.

use std::collections::HashSet;
use std::time::Duration;

use aico_vault::fs::faulty::Faulty;

use super::*;
use crate::journal::disk::Why;
use crate::journal::tail::{Start, Tail};
use crate::journal::upkeep::Retention;
use crate::journal::{Handle, Journal};

fn journal(vault: &Vault) -> Journal {
    journal_of(vault, 1000)
}

fn journal_of(vault: &Vault, megabytes: u32) -> Journal {
    let keys = Arc::new(vault.clone());
    Journal::open(keys, &data().join("journal"), Retention::new(7, megabytes)).unwrap()
}

async fn publish(handle: &Handle, numbers: std::ops::RangeInclusive<u64>, len: usize) -> Receipt {
    let mut last = None;
    for number in numbers {
        let (done, pending) = crate::follow::Pending::new();
        handle.keep(message(number, None, len), Some(done));
        last = Some(pending);
    }
    last.unwrap().await.unwrap()
}

fn follow(handle: &Handle, start: Start) -> Tail {
    handle.follow("weather", all(), start, None).unwrap()
}

/// The next messages' numbers.
async fn next(tail: &mut Tail, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let item = tokio::time::timeout(Duration::from_secs(20), tail.next());
        match item.await.expect("nothing came").unwrap() {
            Some(Item::Kept(kept)) => numbers.push(number(&kept.parcel.envelope.id)),
            Some(Item::Skipped(skipped)) => panic!("{skipped:?}"),
            None => panic!("it ended"),
        }
    }
    numbers
}

async fn skipped(tail: &mut Tail) -> Skipped {
    match tail.next().await.unwrap() {
        Some(Item::Skipped(skipped)) => skipped,
        _ => panic!("nothing is missing"),
    }
}

fn made() -> (Faulty, Vault) {
    let fs = Faulty::new();
    let vault = make_vault(&fs);
    (fs, vault)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_and_what_comes_are_one_stream_without_gap_or_doubling() {
    let (_, vault) = made();
    let journal = journal(&vault);
    let handle = journal.handle();
    publish(&handle, 1..=3000, 200).await;
    let publisher = {
        let handle = handle.clone();
        tokio::spawn(async move {
            for begin in (3001..8000).step_by(100) {
                publish(&handle, begin..=begin + 99, 200).await;
            }
        })
    };
    let mut tails = Vec::new();
    for start in [Start::First, Start::After(handle.stats().last), Start::Now] {
        tails.push(follow(&handle, start));
    }
    for tail in &mut tails {
        let numbers = next(tail, 1).await;
        let begin = numbers[0];
        let rest = next(tail, (8000 - begin) as usize).await;
        assert_eq!(rest, (begin + 1..=8000).collect::<Vec<_>>());
    }
    publisher.await.unwrap();
    assert_eq!(handle.stats().kept, 8000);
    drop(tails);
    assert_eq!(handle.stats().followers, 0);
    journal.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_stops_costs_nothing_and_gets_the_rest_off_the_disk() {
    let (_, vault) = made();
    let journal = journal(&vault);
    let handle = journal.handle();
    let mut tail = follow(&handle, Start::Now);
    // More than is kept in memory: 8 MiB.
    for begin in (1..=6000).step_by(500) {
        publish(&handle, begin..=begin + 499, 2500).await;
    }
    assert!(handle.shared.recent(1, 1, 1, |_| true).is_none());
    assert!(handle.shared.recent(6000, 1, 1, |_| true).is_some());
    assert_eq!(next(&mut tail, 6000).await, (1..=6000).collect::<Vec<_>>());
    publish(&handle, 6001..=6001, 10).await;
    assert_eq!(next(&mut tail, 1).await, [6001]);
    journal.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_survives_a_restart_and_belongs_to_its_identity() {
    let (fs, vault) = made();
    let first = journal(&vault);
    let handle = first.handle();
    publish(&handle, 1..=5, 10).await;
    let cursor = || Start::Cursor("main".to_owned());
    let mut tail = follow(&handle, cursor());
    publish(&handle, 6..=9, 10).await;
    assert_eq!(next(&mut tail, 3).await, [6, 7, 8]);
    tail.cursor().acknowledge(7);
    // More than it was given does not count.
    tail.cursor().acknowledge(5000);
    assert_eq!(tail.cursor().position(), 8);
    drop(tail);
    first.close().unwrap();
    drop(vault);

    let vault = open_vault(&fs);
    let journal = journal(&vault);
    let handle = journal.handle();
    let mut tail = follow(&handle, cursor());
    publish(&handle, 10..=10, 10).await;
    assert_eq!(next(&mut tail, 2).await, [9, 10]);
    // Another identity's cursor of that name is another one: it begins now.
    let mut other = handle.follow("lights", all(), cursor(), None).unwrap();
    publish(&handle, 11..=11, 10).await;
    assert_eq!(next(&mut other, 1).await, [11]);
    for name in ["", "a b", "a:b", &"x".repeat(65)] {
        let refused = handle.follow("lights", all(), Start::Cursor(name.to_owned()), None);
        assert_eq!(refused.err(), Some(JournalFault::CursorName), "{name}");
    }
    let mut made = 1;
    let refused = loop {
        let start = Start::Cursor(format!("cursor-{made}"));
        match handle.follow("lights", all(), start, None) {
            Ok(_) => made += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!((made, refused), (16, JournalFault::TooManyCursors));
    assert_eq!(handle.forget_cursors("lights"), Ok(16));
    assert!(handle.follow("lights", all(), cursor(), None).is_ok());
    journal.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_not_of_this_journal_is_told() {
    let (fs, vault) = made();
    let first = journal(&vault);
    publish(&first.handle(), 1..=4, 10).await;
    let before = first.handle().stats().last;
    first.close().unwrap();
    drop(vault);
    // A copy of the whole folder is put away; the original goes on, and a peer sees 5 and 6.
    let copy = fs.fork();
    let vault = open_vault(&fs);
    let journal_1 = journal(&vault);
    let seen = publish(&journal_1.handle(), 5..=6, 10).await.place;
    journal_1.close().unwrap();
    drop(vault);
    // The copy is put back, and goes on in its own way.
    let vault = open_vault(&copy);
    let journal = journal(&vault);
    let handle = journal.handle();
    publish(&handle, 101..=105, 10).await;
    let mut tail = follow(&handle, Start::After(seen));
    let told = skipped(&mut tail).await;
    assert_eq!(
        (told.why, told.missed, told.next.sequence),
        (Why::OtherEpoch, 0, 1)
    );
    let all: HashSet<_> = next(&mut tail, 9).await.into_iter().collect();
    assert_eq!(all, (1..=4).chain(101..=105).collect());
    // What both have in common is still a place.
    let mut tail = follow(&handle, Start::After(before));
    assert_eq!(next(&mut tail, 5).await, (101..=105).collect::<Vec<_>>());
    // Beyond the end there is nothing.
    let mut tail = follow(&handle, Start::After(place(seen.epoch, 5000)));
    assert_eq!(skipped(&mut tail).await.why, Why::OtherEpoch);
    let mut tail = follow(&handle, Start::After(place([0; 16], 0)));
    assert_eq!(next(&mut tail, 4).await, [1, 2, 3, 4]);
    journal.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_longer_than_is_kept_hears_how_much_is_gone() {
    let (_, vault) = made();
    // 1 MiB in files of 128 KiB.
    let journal = journal_of(&vault, 1);
    let handle = journal.handle();
    let begin = publish(&handle, 1..=1, 10).await.place;
    for number in 2..=3000 {
        publish(&handle, number..=number, 1000).await;
    }
    let stats = handle.stats();
    assert!(stats.first > 1 && stats.files > 2, "{stats:?}");
    assert!(stats.bytes < (1 << 20) + (256 << 10), "{stats:?}");
    let mut tail = follow(&handle, Start::After(begin));
    let told = skipped(&mut tail).await;
    assert_eq!(told.why, Why::Expired);
    let first = told.next.sequence;
    assert_eq!(told.missed, first - 2);
    let numbers = next(&mut tail, (3001 - first) as usize).await;
    assert_eq!(numbers, (first..=3000).collect::<Vec<_>>());
    journal.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_is_forgotten_in_memory_too() {
    let (_, vault) = made();
    let person = add_person(&vault);
    let journal = journal(&vault);
    let handle = journal.handle();
    let _follower = follow(&handle, Start::Now);
    for (number, person) in [(1, None), (2, Some(person)), (3, None)] {
        let (done, pending) = crate::follow::Pending::new();
        handle.keep(message(number, person, 10), Some(done));
        pending.await.unwrap();
    }
    handle.forget_person(person);
    let mut tail = follow(&handle, Start::First);
    assert_eq!(next(&mut tail, 2).await, [1, 3]);
    let (done, pending) = crate::follow::Pending::new();
    handle.keep(message(4, Some(person), 10), Some(done));
    let refused = pending.await.unwrap_err();
    assert_eq!(refused, crate::BusError::Journal(JournalFault::PersonGone));
    journal.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_is_closed_keeps_what_waited_and_ends_who_follows() {
    let (_, vault) = made();
    let first = journal(&vault);
    let handle = first.handle();
    let mut tail = follow(&handle, Start::Now);
    let mut pending = Vec::new();
    for number in 1..=500 {
        let (done, waits) = crate::follow::Pending::new();
        handle.keep(message(number, None, 100), Some(done));
        pending.push(waits);
    }
    tokio::task::spawn_blocking(move || first.close().unwrap())
        .await
        .unwrap();
    for waits in pending {
        waits.await.unwrap();
    }
    while tail.next().await.unwrap().is_some() {}
    let (done, late) = crate::follow::Pending::new();
    handle.keep(message(501, None, 100), Some(done));
    let refused = late.await.unwrap_err();
    assert_eq!(refused, crate::BusError::Journal(JournalFault::Locked));
    let refused = handle.follow("weather", all(), Start::Now, None);
    assert_eq!(refused.err(), Some(JournalFault::Locked));
    let journal = journal(&vault);
    assert_eq!(journal.handle().stats().last.sequence, 500);
    journal.close().unwrap();
}

//! What a backup costs, and what one that holds only the changes would save.
//!
//! `cargo bench --locked --workspace --profile dev --bench backup`
//!
//! The real program on a store of a year: `AICO_BENCH_MESSAGES` messages of some hundred bytes,
//! indexed as the companion does it. Then a day of `AICO_BENCH_DAY` messages, each a commit of its
//! own: the pages of the database that it touches are counted in the write-ahead log, whose frames
//! name them in clear.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

#[path = "../../aico-store/tests/support/disk.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod disk;
#[path = "../tests/daemon/http.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod http;
#[path = "../tests/daemon/support.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_access::{Home, HomeConfig, Source};
use aico_store::{Store, StoreError};
use aico_vault::{KdfCost, Password};

use support::{PASSWORD, World};

const CONVERSATION: [u8; 16] = [7; 16];

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |n| n.parse().unwrap())
}

/// Some sentences, about as long as people and companions say them; the same in each run.
fn said(n: usize) -> String {
    let mut state = n as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let words = 20 + n % 120;
    let mut text = String::new();
    for _ in 0..words {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // Few words are said often, many seldom.
        let rank = 1 + (state >> 40) % 6000;
        let word = 6000 / rank;
        text.push_str(&format!("w{word}x{} ", rank % 7));
    }
    text
}

fn say(tx: &aico_store::rusqlite::Transaction<'_>, n: usize) -> Result<(), StoreError> {
    let mut id = [1; 16];
    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
    let text = said(n);
    tx.prepare_cached(
        "INSERT INTO companion_message (id, conversation, role, status, created_ms)
         VALUES (?1, ?2, 1, 1, ?3)",
    )?
    .execute((id, CONVERSATION, n as i64))?;
    tx.prepare_cached(
        "INSERT INTO companion_part (message, position, kind, text) VALUES (?1, 0, 'text', ?2)",
    )?
    .execute((id, &text))?;
    tx.prepare_cached(
        "INSERT INTO companion_text (text, conversation, message) VALUES (?1, ?2, ?3)",
    )?
    .execute((&text, CONVERSATION, id))?;
    Ok(())
}

async fn year(store: &Store, messages: usize) {
    let first = store.write(|tx| {
        tx.execute(
            "INSERT INTO companion_conversation (id, title, character, created_ms, updated_ms)
             VALUES (?1, 'A year', 'aico', 0, 0)",
            [CONVERSATION],
        )?;
        Ok(())
    });
    first.await.unwrap();
    for day in 0..messages.div_ceil(1000) {
        let to = messages.min((day + 1) * 1000);
        let said = store.write(move |tx| (day * 1000..to).try_for_each(|n| say(tx, n)));
        said.await.unwrap();
    }
}

/// Numbers of the pages in the log.
fn pages_in_log(log: &Path, pages: &mut BTreeSet<u32>) {
    let bytes = std::fs::read(log).unwrap_or_default();
    let Some((head, frames)) = bytes.split_at_checked(32) else {
        return;
    };
    for frame in frames.chunks_exact(24 + 4096) {
        // Frames of an earlier round of the log have another salt.
        if frame[8..16] == head[16..24] {
            pages.insert(u32::from_be_bytes(frame[..4].try_into().unwrap()));
        }
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn main() {
    let (messages, day) = (
        number("AICO_BENCH_MESSAGES", 36_500),
        number("AICO_BENCH_DAY", 100),
    );
    let mut world = World::new();
    assert!(world.setup().status.success());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (size, touched) = runtime.block_on(async {
        let home = Home::open(HomeConfig {
            data: world.data(),
            kdf: KdfCost::default(),
            keychains: Arc::default(),
            backups: world.path("data-backups"),
            configuration: None,
            token_hours: 24,
            system_migrations: vec![aico_models::supervisor::MIGRATIONS],
            person_migrations: vec![aico_companion::MIGRATIONS],
            person_exports: Vec::new(),
        })
        .unwrap();
        let password = Password::new(PASSWORD).unwrap();
        let owner = home.unlock(&password, Source::local()).await.unwrap();
        let store = home.store_of(owner).await.unwrap();
        year(&store, messages).await;
        let folder = world
            .home()
            .join("persons")
            .join(owner.uuid().simple().to_string());
        let log = folder.join("person.db-wal");
        let mut pages = BTreeSet::new();
        // What the year left in the log does not count: a checkpoint happens at closing.
        home.stop().await.unwrap();
        let home_again = Home::open(HomeConfig {
            data: world.data(),
            kdf: KdfCost::default(),
            keychains: Arc::default(),
            backups: world.path("data-backups"),
            configuration: None,
            token_hours: 24,
            system_migrations: vec![aico_models::supervisor::MIGRATIONS],
            person_migrations: vec![aico_companion::MIGRATIONS],
            person_exports: Vec::new(),
        })
        .unwrap();
        home_again.unlock(&password, Source::local()).await.unwrap();
        let store = home_again.store_of(owner).await.unwrap();
        for n in messages..messages + day {
            store.write(move |tx| say(tx, n)).await.unwrap();
            pages_in_log(&log, &mut pages);
        }
        home_again.stop().await.unwrap();
        let size = std::fs::metadata(folder.join("person.db")).unwrap().len();
        (size, pages.len() as u64 * 4096)
    });
    println!("store of {messages} messages: {:.1} MB", megabytes(size));
    println!(
        "a day of {day} messages touches {:.1} MB of it, {:.1} %",
        megabytes(touched),
        touched as f64 * 100.0 / size as f64
    );
    world.serve();
    let timed = |what: &str, arguments: &[&str]| {
        let mut all: Vec<Duration> = Vec::new();
        let mut last = String::new();
        for _ in 0..number("AICO_BENCH_ROUNDS", 5) {
            let begun = Instant::now();
            last = world.said(arguments);
            all.push(begun.elapsed());
        }
        all.sort();
        let middle = all[all.len() / 2];
        println!(
            "{what}: {:.2} s, {:.0} MB/s",
            middle.as_secs_f64(),
            megabytes(size) / middle.as_secs_f64()
        );
        last
    };
    let archive = timed("backup", &["backup", "create"]);
    let archive = archive.trim();
    let length = std::fs::metadata(archive).unwrap().len();
    println!("archive: {:.1} MB", megabytes(length));
    let file = world.path("password");
    let password = ["--password-file", file.to_str().unwrap()];
    timed(
        "verify",
        &[&["backup", "verify", archive], &password[..]].concat(),
    );
    world.stop();
    let begun = Instant::now();
    world.said(&[&["restore", archive], &password[..]].concat());
    println!("restore: {:.2} s", begun.elapsed().as_secs_f64());
}

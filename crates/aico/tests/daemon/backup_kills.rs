//! Killed half-way, at many moments: the old set of backups or the new one, the old home or the
//! restored one, and nothing that needs a hand.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_access::{Home, HomeConfig, Source};
use aico_vault::{KdfCost, Password};

use crate::backups::{backup, names_in, restore, shown, string, verify};
use crate::support::{PASSWORD, World, send, text};

/// Rows of a kilobyte each that make a backup take a while.
const ROWS: usize = 24_000;

fn kills() -> u32 {
    let asked = std::env::var("AICO_TEST_KILLS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(8)
}

/// Puts a lot into the owner's store.
fn fill(world: &World) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let home = Home::open(HomeConfig {
            data: world.data(),
            kdf: KdfCost::default(),
            keychains: Arc::default(),
            backups: world.path("data-backups"),
            configuration: None,
            token_hours: 24,
            system_migrations: vec![aico_models::supervisor::MIGRATIONS],
            person_migrations: vec![
                aico_companion::MIGRATIONS,
                aico_store::vectors::MIGRATIONS,
                aico_access::EGRESS_MIGRATIONS,
            ],
            person_exports: Vec::new(),
        })
        .unwrap();
        let password = Password::new(PASSWORD).unwrap();
        let owner = home.unlock(&password, Source::local()).await.unwrap();
        let store = home.store_of(owner).await.unwrap();
        store
            .write(|tx| {
                tx.execute(
                    "INSERT INTO companion_conversation
                     (id, title, character, created_ms, updated_ms)
                     VALUES (?1, 'Old', 'companion', 0, 0)",
                    [[7_u8; 16]],
                )?;
                let mut message = tx.prepare(
                    "INSERT INTO companion_message
                     (id, conversation, role, status, created_ms) VALUES (?1, ?2, 1, 1, 0)",
                )?;
                let mut part = tx.prepare(
                    "INSERT INTO companion_part (message, position, kind, text)
                     VALUES (?1, 0, 'text', ?2)",
                )?;
                for n in 0..ROWS {
                    let mut id = [0; 16];
                    id[..8].copy_from_slice(&(n as u64).to_be_bytes());
                    message.execute((id, [7_u8; 16]))?;
                    part.execute((id, format!("{n} ").repeat(200)))?;
                }
                Ok(())
            })
            .await
            .unwrap();
        home.stop().await.unwrap();
    });
}

fn begin(world: &World, arguments: &[&str]) -> Child {
    let mut command = world.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn archives(folder: &Path) -> Vec<PathBuf> {
    let names = names_in(folder).into_iter();
    names
        .filter(|name| name.ends_with(".aicobackup"))
        .map(|name| folder.join(name))
        .collect()
}

#[test]
fn a_daemon_that_is_killed_in_a_backup_leaves_the_old_set_or_the_new_one() {
    let mut world = World::new();
    assert!(world.setup().status.success());
    fill(&world);
    world.serve();
    let to = world.path("set");
    let begun = Instant::now();
    backup(&world, &["--to", string(&to)]);
    let whole = begun.elapsed() * 12 / 10;
    let mut known = archives(&to);
    let mut cut = 0;
    for round in 0..kills() {
        let mut making = begin(&world, &["backup", "create", "--to", string(&to)]);
        std::thread::sleep(whole * round / kills());
        world.kill();
        making.wait().unwrap();
        let now = archives(&to);
        assert!(now.len() == known.len() || now.len() == known.len() + 1);
        for archive in now.iter().filter(|archive| !known.contains(archive)) {
            verify(&world, archive);
        }
        cut += usize::from(now.len() == known.len());
        known = now;
        world.serve();
        // What was in the making is gone from the data folder at the next start.
        let left = names_in(&world.data());
        assert!(
            !left.iter().any(|name| name.starts_with(".backup-")),
            "{left:?}"
        );
    }
    assert!(cut > 0, "no kill came before the end");
    let last = backup(&world, &["--to", string(&to)]);
    // And out of the folder of the archives with the next backup.
    let left: Vec<_> = names_in(&to)
        .into_iter()
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(verify(&world, &last).contains("Mia"));
    for archive in &known {
        verify(&world, archive);
    }
}

#[test]
fn whoever_gives_a_backup_up_leaves_nothing_of_it() {
    let mut world = World::new();
    assert!(world.setup().status.success());
    fill(&world);
    world.serve();
    let to = world.path("set");
    let begun = Instant::now();
    backup(&world, &["--to", string(&to)]);
    let whole = begun.elapsed();
    let mut making = begin(&world, &["backup", "create", "--to", string(&to)]);
    std::thread::sleep(whole / 3);
    send(making.id(), "INT");
    making.wait().unwrap();
    // The daemon notices, and another one can be made; locking ends one as well.
    crate::support::until("another backup can be made", || {
        let done = world.aico(&["backup", "create", "--to", string(&to)]);
        let said = text(&done.stderr);
        assert!(done.status.success() || said.contains("already"), "{said}");
        done.status.success().then_some(())
    });
    let mut making = begin(&world, &["backup", "create", "--to", string(&to)]);
    std::thread::sleep(whole / 3);
    let begun = Instant::now();
    world.said(&["lock"]);
    assert!(
        begun.elapsed() < Duration::from_secs(6),
        "locking waits for a backup"
    );
    making.wait().unwrap();
    for archive in archives(&to) {
        verify(&world, &archive);
    }
    let left = names_in(&world.data());
    assert!(
        !left.iter().any(|name| name.starts_with(".backup-")),
        "{left:?}"
    );
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_home_or_the_restored_one() {
    let mut world = World::new();
    assert!(world.setup().status.success());
    fill(&world);
    world.serve();
    let archive = backup(&world, &[]);
    let said = world.chat(None, "Only in the old one");
    let only_here = said["conversation"].as_str().unwrap().to_owned();
    world.stop();
    let begun = Instant::now();
    let other = World::new();
    restore(&other, &archive);
    let whole = begun.elapsed() * 12 / 10;
    let password = world.path("password");
    let arguments = [
        "restore",
        string(&archive),
        "--password-file",
        string(&password),
    ];
    let (mut old, mut new) = (0, 0);
    for round in 0..kills() {
        let mut restoring = begin(&world, &arguments);
        std::thread::sleep(whole * round / kills());
        send(restoring.id(), "KILL");
        restoring.wait().unwrap();
        // It starts without a hand, and is the one or the other.
        world.serve();
        let old_one = world.aico(&["conversation", "show", &only_here]);
        if old_one.status.success() {
            old += 1;
            let left = names_in(&world.data());
            let next = |name: &String| name.starts_with(".next-") || *name == "next";
            assert!(!left.iter().any(next), "{left:?}");
        } else {
            new += 1;
            let list = world.said(&["conversation", "list"]);
            assert!(list.contains("Old"), "{list}");
            // Back to the old one, which was kept.
            world.stop();
            let kept = names_in(&world.data())
                .into_iter()
                .find(|name| name.starts_with("before-restore-"))
                .unwrap();
            std::fs::remove_dir_all(world.home()).unwrap();
            let kept = world.data().join(kept);
            std::fs::rename(kept.join("home"), world.home()).unwrap();
            std::fs::remove_dir_all(kept).unwrap();
            world.serve();
            assert!(shown(&world, &only_here).contains("Only in the old one"));
        }
        world.stop();
    }
    assert!(old > 0, "no kill came before the end");
    println!("{old} times the old home, {new} times the restored one");
}

//! Archives of older and newer programs: brought up to date, or refused with both versions named.

use std::path::PathBuf;
use std::sync::Arc;

use aico_access::backup::BackupRequest;
use aico_access::{Home, HomeConfig, SetupProof, Source};
use aico_store::{Migration, ModuleMigrations};
use aico_vault::{KdfCost, Password};

use crate::backups::{opening, restore, string, verify};
use crate::support::{PASSWORD, World, text};

/// A home of a program with these tables, with one conversation, and a backup of it.
fn archive_of(world: &World, system: ModuleMigrations, person: ModuleMigrations) -> PathBuf {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        std::fs::create_dir(world.data()).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(world.data(), private).unwrap();
        }
        let home = Home::open(HomeConfig {
            data: world.data(),
            kdf: KdfCost::minimum(),
            keychains: Arc::default(),
            backups: world.path("data-backups"),
            configuration: None,
            token_hours: 24,
            system_migrations: vec![system],
            person_migrations: vec![person],
            person_exports: Vec::new(),
        })
        .unwrap();
        let password = Password::new(PASSWORD).unwrap();
        let done = home
            .set_up(SetupProof::LocalSocket, "Mia", &password, Source::local())
            .await
            .unwrap();
        let store = home.store_of(done.session.person.id).await.unwrap();
        let written = store.write(|tx| {
            tx.execute(
                "INSERT INTO companion_conversation
                 (id, title, titled, character, created_ms, updated_ms)
                 VALUES (?1, 'From back then', 1, 'aico', 5, 5)",
                [[7_u8; 16]],
            )?;
            Ok(())
        });
        written.await.unwrap();
        let made = home.create_backup(BackupRequest::default(), |_| true).await;
        let made = made.unwrap();
        home.stop().await.unwrap();
        made.path
    })
}

fn with(known: ModuleMigrations, more: &[Migration]) -> ModuleMigrations {
    let migrations = [known.migrations, more].concat();
    ModuleMigrations {
        module: known.module,
        migrations: migrations.leak(),
    }
}

#[test]
fn an_older_archive_is_brought_up_to_date() {
    let before = World::new();
    let older = ModuleMigrations {
        module: aico_companion::MIGRATIONS.module,
        migrations: &aico_companion::MIGRATIONS.migrations[..1],
    };
    let archive = archive_of(&before, aico_models::supervisor::MIGRATIONS, older);
    let mut world = World::new();
    verify(&world, &archive);
    restore(&world, &archive);
    world.serve();
    let list = world.said(&["conversation", "list"]);
    assert!(list.contains("From back then"), "{list}");
    // What only the newer tables make possible works.
    world.chat(None, "Hello");
}

#[test]
fn a_newer_archive_is_refused_with_both_versions_and_nothing_changes() {
    let extra = |version| Migration {
        version,
        name: "of tomorrow",
        sql: "CREATE TABLE tomorrow (id INTEGER PRIMARY KEY) STRICT;",
    };
    let (system, person) = (
        aico_models::supervisor::MIGRATIONS,
        aico_companion::MIGRATIONS,
    );
    let next = |known: ModuleMigrations| {
        let version = u32::try_from(known.migrations.len()).unwrap() + 1;
        with(known, &[extra(version)])
    };
    let cases = [
        (next(system), person, system.migrations.len()),
        (system, next(person), person.migrations.len()),
    ];
    for (system, person, known) in cases {
        let before = World::new();
        let archive = archive_of(&before, system, person);
        let mut world = World::new();
        let done = opening(&world, &["restore", string(&archive)]);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(11), "{said}");
        let (known, found) = (known.to_string(), (known + 1).to_string());
        assert!(said.contains(&known) && said.contains(&found), "{said}");
        assert!(!world.data().exists());
        // Over a home that is there: it stays.
        assert!(world.setup().status.success());
        let done = opening(&world, &["restore", string(&archive)]);
        assert_eq!(done.status.code(), Some(11));
        world.serve();
        let list = world.said(&["conversation", "list"]);
        assert!(!list.contains("From back then"), "{list}");
    }
}

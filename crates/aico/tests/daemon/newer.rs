//! Data, or a daemon, of a newer program: refused before anything is touched, and both versions are
//! named.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aico_access::{Home, HomeConfig, Source};
use aico_store::{Migration, ModuleMigrations};
use aico_vault::{KdfCost, Password};

use crate::support::{PASSWORD, World, text};

/// The tables of a module as a program of the future has them.
fn future(known: &ModuleMigrations) -> ModuleMigrations {
    let mut migrations = known.migrations.to_vec();
    migrations.push(Migration {
        version: u32::try_from(migrations.len()).unwrap() + 1,
        name: "of the future",
        sql: "CREATE TABLE future (x INTEGER) STRICT;",
    });
    ModuleMigrations {
        module: known.module,
        migrations: migrations.leak(),
    }
}

/// Opens the stores of this home once, as a program with these tables does.
fn used_by(world: &World, system: ModuleMigrations, person: ModuleMigrations) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let home = Home::open(HomeConfig {
            data: world.data(),
            kdf: KdfCost::default(),
            keychains: Arc::default(),
            backups: world.path("backups"),
            configuration: None,
            token_hours: 24,
            system_migrations: vec![system],
            person_migrations: vec![
                person,
                aico_store::vectors::MIGRATIONS,
                aico_access::EGRESS_MIGRATIONS,
            ],
            person_exports: Vec::new(),
        })
        .unwrap();
        let password = Password::new(PASSWORD).unwrap();
        let owner = home.unlock(&password, Source::local()).await.unwrap();
        home.store_of(owner).await.unwrap();
        home.stop().await.unwrap();
    });
}

/// Every file of the home but for the registry, which notes that stores are opened and closed.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            all.insert(path, bytes);
        }
    }
    all
}

#[test]
fn a_newer_system_store_is_refused_at_the_start_and_nothing_is_touched() {
    let world = World::new();
    assert!(world.setup().status.success());
    let models = &aico_models::supervisor::MIGRATIONS;
    used_by(&world, future(models), aico_companion::MIGRATIONS);
    let before = files(&world.home());
    let password = world.path("password");
    let start = [
        "serve",
        "--bind",
        "127.0.0.1:0",
        "--password-file",
        password.to_str().unwrap(),
    ];
    let refused = world.aico(&start);
    let words = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(11), "{words}");
    let known = models.migrations.len();
    assert!(
        words.contains(&format!("version {}", known + 1))
            && words.contains(&format!("knows {known}")),
        "both versions are named: {words}"
    );
    assert!(words.contains("newer"), "{words}");
    assert!(files(&world.home()) == before, "something was changed");
}

#[test]
fn a_newer_store_of_a_person_is_told_to_them_and_not_touched() {
    let mut world = World::new();
    assert!(world.setup().status.success());
    let companion = &aico_companion::MIGRATIONS;
    used_by(
        &world,
        aico_models::supervisor::MIGRATIONS,
        future(companion),
    );
    let mut before = files(&world.home().join("persons"));
    before.retain(|path, _| path.ends_with("person.db"));
    assert_eq!(before.len(), 1);
    world.serve();
    let refused = world.aico(&["conversation", "list"]);
    let words = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(11), "{words}");
    let known = companion.migrations.len();
    assert!(
        words.contains(&format!("version {}", known + 1))
            && words.contains(&format!("knows {known}")),
        "both versions are named: {words}"
    );
    let api = world.api().sign_in("Mia", PASSWORD);
    let (status, problem) = api.get("/api/v1/conversations");
    assert_eq!(
        (status, &problem["code"]),
        (500, &"newer-data".into()),
        "{problem}"
    );
    world.stop();
    for (path, bytes) in before {
        assert!(std::fs::read(&path).unwrap() == bytes, "it was changed");
    }
}

/// A program of another version can't be had here, so the socket answers as its daemon would; who
/// asks is the real program.
#[test]
fn a_daemon_of_another_version_is_told_with_both_versions_and_what_to_do() {
    let world = World::new();
    let run = world.data().join("run");
    std::fs::create_dir_all(&run).unwrap();
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(run.join("aico.sock")).unwrap();
    let daemon = std::thread::spawn(move || {
        let mut asked = Vec::new();
        // One connection for each command below.
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
            asked.push(request.next().unwrap().unwrap());
            request.find(|line| line.as_ref().unwrap().is_empty());
            let body = r#"{"stage":"ready","version":"9.8.7"}"#;
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .unwrap();
        }
        asked
    });
    for command in [&["conversation", "list"][..], &["chat", "--once", "Hello"]] {
        let told = world.aico(command);
        let words = text(&told.stderr);
        assert_eq!(told.status.code(), Some(16), "{words}");
        let ours = env!("CARGO_PKG_VERSION");
        assert!(words.contains("9.8.7") && words.contains(ours), "{words}");
        assert!(
            words.contains("aico serve"),
            "nothing to do is said: {words}"
        );
    }
    // Nothing was asked of it but what it is.
    let asked = daemon.join().unwrap();
    assert!(
        asked
            .iter()
            .all(|line| line.starts_with("GET /api/v1/state ")),
        "{asked:?}"
    );
}

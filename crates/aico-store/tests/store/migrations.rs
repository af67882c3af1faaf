//! Migrations that run, fail, are interrupted, or belong to a newer program (rows 11 and 12).

use std::{fs, process::Command};

use aico_store::{
    FaultHook, FaultPoint, Migration, ModuleMigrations, OpenError, OpenOptions, Store, StoreError,
};

use crate::{
    children,
    support::{Bench, KEY, NOTES, NOTES_1, PERSON, add_notes, count, names},
};

const NOTES_2: Migration = Migration {
    version: 2,
    name: "a length for each note",
    sql: "ALTER TABLE note ADD COLUMN length INTEGER; UPDATE note SET length = length(body);",
};
/// Two steps more than [`NOTES`].
pub(crate) const NOTES_TWICE: ModuleMigrations = ModuleMigrations {
    module: "notes",
    migrations: &[
        NOTES_1,
        NOTES_2,
        Migration {
            version: 3,
            name: "an index",
            sql: "CREATE INDEX by_length ON note (length);",
        },
    ],
};
/// A step that runs, and one that fails at the row with id 7.
pub(crate) const NOTES_3: ModuleMigrations = ModuleMigrations {
    module: "notes",
    migrations: &[
        NOTES_1,
        NOTES_2,
        Migration {
            version: 3,
            name: "fails at a row",
            sql: "
CREATE TABLE strict_note (id INTEGER PRIMARY KEY, body TEXT CHECK (id <> 7)) STRICT;
INSERT INTO strict_note SELECT id, body FROM note ORDER BY id;",
        },
    ],
};

async fn has_length(store: &Store) -> bool {
    store
        .read(|db| {
            let sql = "SELECT count(*) FROM pragma_table_info('note') WHERE name = 'length'";
            Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))? == 1)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn pending_steps_run_once_and_leave_nothing_behind() {
    let bench = Bench::new();
    bench.filled(50).await;
    for _ in 0..2 {
        let store = bench.open_as(&KEY, &PERSON, &[NOTES_TWICE]).unwrap();
        assert!(has_length(&store).await);
        assert_eq!(count(&store).await, 50);
        store.close().await.unwrap();
        assert_eq!(bench.names(), ["person.db"]);
        assert_eq!(bench.registry.records.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_module_that_is_new_to_the_database_gets_its_tables() {
    const MORE: ModuleMigrations = ModuleMigrations {
        module: "more",
        migrations: &[Migration {
            version: 1,
            name: "x",
            sql: "CREATE TABLE more (x) ;",
        }],
    };
    let bench = Bench::new();
    bench.filled(1).await;
    let store = bench.open_as(&KEY, &PERSON, &[NOTES, MORE]).unwrap();
    store
        .read(|db| Ok(db.query_row("SELECT count(*) FROM more", [], |_| Ok(()))?))
        .await
        .unwrap();
    store.close().await.unwrap();
}

/// Row 12.
#[tokio::test]
async fn an_older_program_refuses_newer_data_before_it_touches_anything() {
    let bench = Bench::new();
    bench.filled(5).await;
    bench
        .open_as(&KEY, &PERSON, &[NOTES_TWICE])
        .unwrap()
        .close()
        .await
        .unwrap();
    let (before, record) = (
        fs::read(bench.path()).unwrap(),
        bench.registry.record(&bench.id()),
    );
    for clean in [true, false] {
        if !clean {
            bench.forget_stop();
        }
        let error = bench.open().unwrap_err();
        assert!(
            matches!(&error, OpenError::SchemaNewer { module, found: 3, known: 1, .. } if module == "notes"),
            "{error:?}"
        );
        let text = error.to_string();
        assert!(
            text.contains("version 3") && text.contains("knows 1"),
            "{text}"
        );
        let unknown = bench.open_as(&KEY, &PERSON, &[]).unwrap_err();
        assert!(matches!(
            unknown,
            OpenError::SchemaNewer {
                found: 3,
                known: 0,
                ..
            }
        ));
        assert!(fs::read(bench.path()).unwrap() == before);
        if clean {
            assert_eq!(bench.registry.record(&bench.id()), record);
        }
    }
    assert!(matches!(
        bench.open_read_only(),
        Err(OpenError::SchemaNewer { .. })
    ));
}

#[tokio::test]
async fn a_step_whose_text_changed_after_it_ran_is_refused_but_turned_line_ends_are_not() {
    const CHANGED: ModuleMigrations = ModuleMigrations {
        module: "notes",
        migrations: &[Migration {
            sql: "CREATE TABLE note (id INTEGER PRIMARY KEY);",
            ..NOTES_1
        }],
    };
    const UNIX: ModuleMigrations = ModuleMigrations {
        module: "lines",
        migrations: &[Migration {
            version: 1,
            name: "x",
            sql: "CREATE TABLE\n x\n (y);\n",
        }],
    };
    const WINDOWS: ModuleMigrations = ModuleMigrations {
        module: "lines",
        migrations: &[Migration {
            version: 1,
            name: "x",
            sql: "CREATE TABLE\r\n x\r\n (y);\r\n",
        }],
    };
    let bench = Bench::new();
    bench.filled(1).await;
    let error = bench.open_as(&KEY, &PERSON, &[CHANGED]).unwrap_err();
    assert!(
        matches!(error, OpenError::MigrationChanged { version: 1, .. }),
        "{error:?}"
    );
    bench
        .open_as(&KEY, &PERSON, &[NOTES, UNIX])
        .unwrap()
        .close()
        .await
        .unwrap();
    bench
        .open_as(&KEY, &PERSON, &[NOTES, WINDOWS])
        .unwrap()
        .close()
        .await
        .unwrap();
}

#[test]
fn lists_that_are_out_of_order_or_name_a_module_twice_are_refused() {
    const GAP: ModuleMigrations = ModuleMigrations {
        module: "gap",
        migrations: &[Migration {
            version: 2,
            name: "x",
            sql: "",
        }],
    };
    let bench = Bench::new();
    for modules in [&[GAP][..], &[NOTES, NOTES]] {
        let error = bench.open_as(&KEY, &PERSON, modules).unwrap_err();
        assert!(matches!(error, OpenError::MigrationList { .. }));
    }
}

/// Row 11: failing at row n.
#[tokio::test]
async fn a_step_that_fails_at_a_row_leaves_the_database_as_it_was_for_the_older_program() {
    let bench = Bench::new();
    bench.filled(20).await;
    let before = fs::read(bench.path()).unwrap();
    for _ in 0..2 {
        let error = bench.open_as(&KEY, &PERSON, &[NOTES_3]).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::MigrationFailed {
                    module: "notes",
                    version: 3,
                    restored: true,
                    source: StoreError::Constraint(_),
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.to_string().contains("as it was before"), "{error}");
        assert!(fs::read(bench.path()).unwrap() == before);
        assert_eq!(bench.names(), ["person.db"]);
    }
    let store = bench.open().unwrap();
    assert!(!has_length(&store).await);
    add_notes(&store, 20, 22).await;
    store.close().await.unwrap();
    assert_eq!(bench.registry.records.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_step_that_ends_the_transaction_is_refused() {
    const ENDS: ModuleMigrations = ModuleMigrations {
        module: "ends",
        migrations: &[Migration {
            version: 1,
            name: "x",
            sql: "CREATE TABLE half (x); COMMIT;",
        }],
    };
    let bench = Bench::new();
    bench.filled(1).await;
    let error = bench.open_as(&KEY, &PERSON, &[NOTES, ENDS]).unwrap_err();
    assert!(
        matches!(error, OpenError::MigrationFailed { restored: true, .. }),
        "{error:?}"
    );
    bench.open().unwrap().close().await.unwrap();
}

/// Row 11: an error at each named point, in this process.
#[tokio::test]
async fn a_migration_stopped_at_each_point_is_resumed() {
    use FaultPoint as P;
    for point in [
        P::SnapshotCopied,
        P::SnapshotNamed,
        P::SnapshotRegistered,
        P::StepRan,
        P::StepCommitted,
        P::StepsDone,
        P::SnapshotForgotten,
    ] {
        let bench = Bench::new();
        bench.filled(30).await;
        let hook = FaultHook::new(move |reached| reached != point);
        let options = OpenOptions {
            fault: Some(hook),
            ..OpenOptions::default()
        };
        let stopped = bench.open_with(&[NOTES_TWICE], options);
        assert!(
            matches!(stopped, Err(OpenError::Interrupted)),
            "{point:?}: {stopped:?}"
        );
        let store = bench.open_as(&KEY, &PERSON, &[NOTES_TWICE]).unwrap();
        assert!(
            has_length(&store).await && count(&store).await == 30,
            "{point:?}"
        );
        store.close().await.unwrap();
        assert_eq!(bench.names(), ["person.db"], "{point:?}");
        assert_eq!(bench.registry.records.lock().unwrap().len(), 1, "{point:?}");
    }
}

/// Row 11: the process dies at each named point.
#[tokio::test]
async fn a_process_that_dies_at_each_point_of_creating_and_migrating_is_made_good_at_the_next_start()
 {
    use FaultPoint as P;
    for (task, point) in [
        ("create", P::CreateBuilt),
        ("create", P::CreateRegistered),
        ("migrate", P::SnapshotCopied),
        ("migrate", P::SnapshotNamed),
        ("migrate", P::SnapshotRegistered),
        ("migrate", P::StepRan),
        ("migrate", P::StepCommitted),
        ("migrate", P::StepsDone),
        ("migrate", P::SnapshotForgotten),
        ("fail", P::RestoreNoted),
        ("fail", P::RestoreSwapped),
    ] {
        let what = format!("{task} at {point:?}");
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "registry"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let (path, registry) = (
            children::path(folder.path()),
            children::registry(folder.path()),
        );
        let create = || Store::create(&path, &KEY, &PERSON, &[NOTES], registry.clone());
        let open = |modules| Store::open(&path, &KEY, &PERSON, modules, registry.clone());
        if task != "create" {
            let store = create().unwrap();
            add_notes(&store, 0, 30).await;
            store.close().await.unwrap();
        }
        let status = children::start(task, folder.path(), Some(point))
            .wait()
            .unwrap();
        assert!(
            !status.success() && status.code().is_none(),
            "{what}: it did not die there"
        );
        let store = match (task, point) {
            ("create", P::CreateBuilt) => create().expect(&what),
            ("migrate", _) => open(&[NOTES_TWICE]).expect(&what),
            // Put back for the older program, which is the one that opens it now.
            _ => open(&[NOTES]).expect(&what),
        };
        assert_eq!(has_length(&store).await, task == "migrate", "{what}");
        assert_eq!(
            count(&store).await,
            if task == "create" { 0 } else { 30 },
            "{what}"
        );
        store.close().await.unwrap();
        assert_eq!(names(path.parent().unwrap()), ["person.db"], "{what}");
        assert_eq!(
            names(&folder.path().join("registry")),
            [PERSON.store_id()],
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_snapshot_that_the_registry_does_not_vouch_for_is_never_put_back() {
    let bench = Bench::new();
    bench.filled(10).await;
    let older = fs::read(bench.path()).unwrap();
    let store = bench.open().unwrap();
    add_notes(&store, 10, 20).await;
    store.close().await.unwrap();
    fs::write(
        bench.folder.path().join("person.db.before-migration"),
        &older,
    )
    .unwrap();
    let error = bench.open_as(&KEY, &PERSON, &[NOTES_3]).unwrap_err();
    assert!(
        matches!(error, OpenError::MigrationFailed { restored: true, .. }),
        "{error:?}"
    );
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 20);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_is_as_unreadable_as_the_database() {
    let bench = Bench::new();
    bench.filled(10).await;
    let hook = FaultHook::new(|reached| reached != FaultPoint::SnapshotRegistered);
    let options = OpenOptions {
        fault: Some(hook),
        ..OpenOptions::default()
    };
    bench.open_with(&[NOTES_TWICE], options).unwrap_err();
    let path = bench.folder.path().join("person.db.before-migration");
    let bytes = fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"note 1"));
    let mode = Command::new("stat")
        .args(["-c", "%a"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(mode.stdout).unwrap().trim(), "600");
}

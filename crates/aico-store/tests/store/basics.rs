//! What a caller sees: reads, writes, errors, panics, closing, the outbox.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use aico_store::{
    ConstraintKind, Identity, ModuleMigrations, OpenError, Store, StoreError, StoreKind, enqueue,
};

use crate::support::{Bench, KEY, NOTES, PERSON, add_note, add_notes, body, count};

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let bench = Bench::new();
    let store = bench.create();
    let before = store.sequence();
    add_note(&store, 1).await.unwrap();
    assert_eq!(store.sequence(), before + 1);
    assert_eq!(
        bench.registry.record(&bench.id()).unwrap().last_sequence,
        store.sequence()
    );
    store.close().await.unwrap();
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, 1);
    assert_eq!(store.sequence(), before + 1);
    store.close().await.unwrap();
    assert_eq!(bench.names(), ["person.db"]);
}

#[tokio::test]
async fn nothing_in_the_files_is_readable_and_nobody_else_may_read_them() {
    let bench = Bench::new();
    let store = bench.create();
    add_note(&store, 1).await.unwrap();
    for name in bench.names() {
        let path = bench.folder.path().join(&name);
        let bytes = fs::read(&path).unwrap();
        for needle in [
            &b"note 1 "[..],
            b"CREATE TABLE",
            b"SQLite format 3",
            b"store_identity",
        ] {
            assert!(
                !bytes.windows(needle.len()).any(|window| window == needle),
                "{name}"
            );
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600,
                "{name}"
            );
        }
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn full_text_search_works_in_the_encrypted_database() {
    const SEARCH: ModuleMigrations = ModuleMigrations {
        module: "search",
        migrations: &[aico_store::Migration {
            version: 1,
            name: "full text",
            sql: "
CREATE TABLE line (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE VIRTUAL TABLE line_text USING fts5(body, content = 'line', content_rowid = 'id');
CREATE TRIGGER line_added AFTER INSERT ON line BEGIN
    INSERT INTO line_text (rowid, body) VALUES (new.id, new.body);
END;",
        }],
    };
    let bench = Bench::new();
    let store = Store::create(
        &bench.path(),
        &KEY,
        &PERSON,
        &[SEARCH],
        bench.registry.clone(),
    )
    .unwrap();
    store
        .write(|tx| {
            tx.execute(
                "INSERT INTO line (body) VALUES ('the quick brown fox'), ('a slow dog')",
                [],
            )?;
            Ok(())
        })
        .await
        .unwrap();
    let found: i64 = store
        .read(|db| {
            let sql = "SELECT rowid FROM line_text WHERE line_text MATCH ?1";
            Ok(db.query_row(sql, ["brown"], |row| row.get(0))?)
        })
        .await
        .unwrap();
    assert_eq!(found, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_failing_write_is_undone_and_harms_no_other_in_its_commit() {
    let bench = Bench::new();
    let store = bench.create();
    add_note(&store, 0).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=200_usize {
        let store = store.clone();
        tasks.spawn(async move {
            // Every third violates the uniqueness of its text, after having written another row.
            let result = store
                .write(move |tx| {
                    tx.execute(
                        "INSERT INTO note (id, body) VALUES (?1, ?2)",
                        (n as i64, body(n)),
                    )?;
                    if n.is_multiple_of(3) {
                        tx.execute("INSERT INTO note (body) VALUES (?1)", [body(0)])?;
                    }
                    Ok(n)
                })
                .await;
            (n, result)
        });
    }
    while let Some(task) = tasks.join_next().await {
        match task.unwrap() {
            (n, Ok(same)) => assert!(n == same && !n.is_multiple_of(3)),
            (n, Err(StoreError::Constraint(ConstraintKind::Unique))) => {
                assert!(n.is_multiple_of(3));
            }
            (n, Err(error)) => panic!("{n}: {error}"),
        }
    }
    assert_eq!(count(&store).await, 1 + 200 - 66);
    assert!(
        store.sequence() < 200,
        "200 writes made {} commits",
        store.sequence()
    );
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_panicking_closure_answers_an_error_and_the_store_lives_on() {
    let bench = Bench::new();
    let store = bench.create();
    let write = store
        .write(|tx| -> Result<(), StoreError> {
            tx.execute("INSERT INTO note (body) VALUES ('half')", [])?;
            panic!("in a write");
        })
        .await;
    assert!(matches!(write, Err(StoreError::Panicked)));
    for _ in 0..4 {
        let read = store
            .read(|_| -> Result<(), StoreError> { panic!("in a read") })
            .await;
        assert!(matches!(read, Err(StoreError::Panicked)));
    }
    add_note(&store, 1).await.unwrap();
    assert_eq!(count(&store).await, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_callers_own_error_passes_through_and_undoes_the_write() {
    #[derive(Debug, thiserror::Error, PartialEq)]
    #[error("no such conversation")]
    struct NoSuchConversation;
    let bench = Bench::new();
    let store = bench.create();
    let result = store
        .write(|tx| -> Result<(), StoreError> {
            tx.execute("INSERT INTO note (body) VALUES ('half')", [])?;
            Err(StoreError::caller(NoSuchConversation))
        })
        .await;
    assert_eq!(
        result
            .unwrap_err()
            .downcast::<NoSuchConversation>()
            .unwrap(),
        NoSuchConversation
    );
    assert_eq!(count(&store).await, 0);
    store.close().await.unwrap();
}

#[tokio::test]
async fn errors_quote_neither_statements_nor_values() {
    let bench = Bench::new();
    let store = bench.create();
    add_note(&store, 1).await.unwrap();
    let mut errors = Vec::new();
    for sql in [
        "INSERT INTO note (body) VALUES ('SECRET') garbage",
        "INSERT INTO SECRET VALUES ('SECRET')",
        "INSERT INTO note (id, body) VALUES (1, 'SECRET')",
        "INSERT INTO note (id, body) VALUES ('SECRET', 'SECRET')",
        "SELECT abs('SECRET'), \"SECRET\" FROM note",
        "SELECT raise(ABORT, 'SECRET')",
        "SELECT json('SECRET')",
    ] {
        let result = store.write(move |tx| Ok(tx.execute(sql, [])?)).await;
        errors.push(result.map(drop).unwrap_err());
    }
    let wrong_type = store
        .read(|db| {
            Ok(db.query_row("SELECT 'SECRET' AS \"SECRET\"", [], |row| {
                row.get::<_, i64>(0)
            })?)
        })
        .await;
    errors.push(wrong_type.map(drop).unwrap_err());
    for error in errors {
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = source {
            assert!(
                !format!("{error} {error:?}").contains("SECRET"),
                "{error:?}"
            );
            source = error.source();
        }
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn callers_statements_can_neither_end_the_transaction_nor_change_settings() {
    let bench = Bench::new();
    let store = bench.create();
    for sql in [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "RELEASE aico_write",
        "ROLLBACK TO aico_write",
        "ATTACH ':memory:' AS other",
        "PRAGMA secure_delete = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA synchronous = OFF",
        "PRAGMA temp_store = FILE",
        "PRAGMA cipher_log = stderr",
        "PRAGMA foreign_keys = OFF",
        "PRAGMA writable_schema = ON",
        "VACUUM",
    ] {
        let write = store.write(move |tx| Ok(tx.execute_batch(sql)?)).await;
        assert!(
            matches!(write, Err(StoreError::Sql { .. })),
            "{sql}: {write:?}"
        );
        let read = store.read(move |db| Ok(db.execute_batch(sql)?)).await;
        assert!(
            matches!(read, Err(StoreError::Sql { .. })),
            "{sql}: {read:?}"
        );
    }
    let read = store
        .read(|db| Ok(db.execute("DELETE FROM note", [])?))
        .await;
    assert!(matches!(read, Err(StoreError::ReadOnly)), "{read:?}");
    add_note(&store, 1).await.unwrap();
    assert_eq!(count(&store).await, 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_statement_that_rolls_everything_back_is_answered_truthfully() {
    let bench = Bench::new();
    let store = bench.create();
    add_note(&store, 1).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=60_usize {
        let store = store.clone();
        tasks.spawn(async move {
            let sql = if n == 1 || n.is_multiple_of(10) {
                "INSERT OR ROLLBACK INTO note (id, body) VALUES (1, ?2), (?1, 'other')"
            } else {
                "INSERT INTO note (id, body) VALUES (?1, ?2)"
            };
            let result = store
                .write(move |tx| Ok(tx.execute(sql, (n as i64, body(n)))?))
                .await;
            (n as i64, result)
        });
    }
    let mut acknowledged = vec![1];
    while let Some(task) = tasks.join_next().await {
        match task.unwrap() {
            (n, Ok(_)) => acknowledged.push(n),
            (_, Err(StoreError::Constraint(_) | StoreError::Aborted)) => {}
            (n, Err(error)) => panic!("{n}: {error:?}"),
        }
    }
    acknowledged.sort_unstable();
    let there: Vec<i64> = store
        .read(|db| {
            let mut ids = db.prepare("SELECT id FROM note ORDER BY id")?;
            Ok(ids
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?)
        })
        .await
        .unwrap();
    assert_eq!(there, acknowledged);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_reader_that_takes_its_time_blocks_neither_writer_nor_other_readers() {
    let bench = Bench::new();
    let store = bench.create();
    add_note(&store, 1).await.unwrap();
    let (entered, wait_entered) = mpsc::sync_channel(1);
    let (release, wait_release) = mpsc::sync_channel::<()>(1);
    let slow = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .read(move |db| {
                    let count =
                        || db.query_row("SELECT count(*) FROM note", [], |r| r.get::<_, i64>(0));
                    let before = count()?;
                    entered.send(()).unwrap();
                    wait_release.recv().unwrap();
                    Ok((before, count()?))
                })
                .await
        }
    });
    tokio::task::spawn_blocking(move || wait_entered.recv().unwrap())
        .await
        .unwrap();
    for n in 2..50 {
        add_note(&store, n).await.unwrap();
    }
    assert_eq!(count(&store).await, 49);
    release.send(()).unwrap();
    // It has one view of the database from beginning to end.
    assert_eq!(slow.await.unwrap().unwrap(), (1, 1));
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_readers_never_see_half_a_write() {
    let bench = Bench::new();
    let store = bench.create();
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (store, done) = (store.clone(), done.clone());
        readers.spawn(async move {
            let mut last = 0;
            while !done.load(Ordering::SeqCst) {
                let now = count(&store).await;
                assert!(now >= last && now.is_multiple_of(2), "{now} after {last}");
                last = now;
            }
        });
    }
    for pair in 0..200 {
        add_notes(&store, 2 * pair, 2 * pair + 2).await;
    }
    done.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    assert_eq!(count(&store).await, 400);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_what_was_queued_and_answers_closed_afterwards() {
    let bench = Bench::new();
    let store = bench.create();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100 {
        let store = store.clone();
        tasks.spawn(async move { add_note(&store, n).await });
    }
    tokio::task::yield_now().await;
    store.close().await.unwrap();
    let mut acknowledged = 0;
    while let Some(task) = tasks.join_next().await {
        match task.unwrap() {
            Ok(()) => acknowledged += 1,
            Err(StoreError::Closed) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(matches!(
        add_note(&store, 1000).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(
        store.read(|_| Ok(())).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(store.close().await, Err(StoreError::Closed)));
    assert!(!store.health().writable);
    let store = bench.open().unwrap();
    assert_eq!(count(&store).await, acknowledged);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_registry_that_fails_holds_up_the_acknowledgement_and_what_follows() {
    let bench = Bench::new();
    let store = bench.create();
    add_note(&store, 1).await.unwrap();
    bench.registry.failing.store(true, Ordering::SeqCst);
    assert!(matches!(
        add_note(&store, 2).await,
        Err(StoreError::Unacknowledged(_))
    ));
    assert!(matches!(
        add_note(&store, 3).await,
        Err(StoreError::StorageFull)
    ));
    assert!(!store.health().writable && store.health().registry_failing);
    assert_eq!(count(&store).await, 2);
    bench.registry.failing.store(false, Ordering::SeqCst);
    // By itself, without anybody writing.
    let healed = async {
        while !store.health().writable {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), healed)
        .await
        .unwrap();
    assert_eq!(
        bench.registry.record(&bench.id()).unwrap().last_sequence,
        store.sequence()
    );
    add_note(&store, 3).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn an_event_is_in_the_outbox_exactly_when_its_fact_is_there() {
    let bench = Bench::new();
    let store = bench.create();
    let mut commits = store.commits();
    commits.mark_unchanged();
    for n in 0..5_u8 {
        let result = store
            .write(move |tx| {
                tx.execute(
                    "INSERT INTO note (id, body) VALUES (?1, ?2)",
                    (n, body(n.into())),
                )?;
                enqueue(tx, "conversation.added", "aico.v1.Added", &[n; 3], [n; 16])?;
                if n == 3 {
                    Err(StoreError::NoRow)
                } else {
                    Ok(())
                }
            })
            .await;
        assert_eq!(result.is_ok(), n != 3);
    }
    assert!(commits.has_changed().unwrap());
    let events = store.drain_outbox(3).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.id[0]).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(
        (events[1].topic.as_str(), events[1].payload_type.as_str()),
        ("conversation.added", "aico.v1.Added")
    );
    assert_eq!(events[1].payload, [1; 3]);
    store
        .mark_published(vec![[0; 16], [2; 16], [99; 16]])
        .await
        .unwrap();
    store.close().await.unwrap();
    let store = bench.open().unwrap();
    let left: Vec<u8> = store
        .drain_outbox(10)
        .await
        .unwrap()
        .iter()
        .map(|event| event.id[0])
        .collect();
    assert_eq!(left, [1, 4]);
    let twice = store.write(|tx| enqueue(tx, "t", "p", b"", [1; 16])).await;
    assert!(matches!(
        twice,
        Err(StoreError::Constraint(ConstraintKind::Unique))
    ));
    store.close().await.unwrap();
}

#[tokio::test]
async fn opening_never_creates_and_creating_never_overwrites() {
    let bench = Bench::new();
    assert!(matches!(bench.open(), Err(OpenError::Missing { .. })));
    assert!(bench.names().is_empty());
    let store = bench.create();
    let again = || {
        Store::create(
            &bench.path(),
            &KEY,
            &PERSON,
            &[NOTES],
            bench.registry.clone(),
        )
    };
    assert!(matches!(again(), Err(OpenError::AlreadyOpen { .. })));
    assert!(matches!(bench.open(), Err(OpenError::AlreadyOpen { .. })));
    store.close().await.unwrap();
    assert!(matches!(again(), Err(OpenError::AlreadyThere { .. })));
    fs::rename(bench.path(), bench.folder.path().join("elsewhere")).unwrap();
    assert!(matches!(again(), Err(OpenError::AlreadyRegistered { .. })));
    assert!(matches!(bench.open(), Err(OpenError::Missing { .. })));
    assert_eq!(bench.names(), ["elsewhere"]);
}

#[tokio::test]
async fn a_file_that_the_registry_does_not_know_is_not_opened() {
    let bench = Bench::new();
    bench.filled(1).await;
    bench.registry.records.lock().unwrap().clear();
    assert!(matches!(bench.open(), Err(OpenError::NotRegistered { .. })));
}

#[tokio::test]
async fn erasing_leaves_neither_file_nor_record() {
    let bench = Bench::new();
    let store = bench.create();
    assert!(matches!(
        Store::erase(&bench.path(), &PERSON, &*bench.registry),
        Err(OpenError::AlreadyOpen { .. })
    ));
    store.close().await.unwrap();
    for name in [
        "person.db-wal",
        "person.db.before-migration",
        "person.db.new",
    ] {
        fs::write(bench.folder.path().join(name), b"left over").unwrap();
    }
    Store::erase(&bench.path(), &PERSON, &*bench.registry).unwrap();
    assert!(bench.names().is_empty());
    assert!(bench.registry.records.lock().unwrap().is_empty());
    bench.create().close().await.unwrap();
}

#[test]
fn an_identity_that_makes_no_sense_is_refused() {
    let bench = Bench::new();
    let nobody = Identity {
        store: StoreKind::Person,
        person: None,
    };
    assert!(matches!(
        bench.open_as(&KEY, &nobody, &[]),
        Err(OpenError::IncoherentIdentity)
    ));
}

//! Vectors: against brute force, in filters, together with what they stand for, after kills, under
//! another key and in copies.

use std::collections::BTreeMap;

use aico_store::{
    ModuleMigrations, NumberedKey, Progress, Store, StoreError,
    rusqlite::{Connection, Transaction},
    vectors::{
        Collection, Distance, EXACT_UP_TO, Filter, Hit, Item, Labels, MIGRATIONS, Method, Query,
        Spec, VectorError,
    },
};
use proptest::prelude::*;

use crate::{
    children,
    every_version::{self, Case},
    support::{Bench, FileRegistry, KEY, NOTES, PERSON},
};

pub(crate) const FACTS: Spec<'_> = Spec {
    name: "memory.fact",
    dimension: 24,
    distance: Distance::Cosine,
    model: "a-model",
    model_version: "1",
};

/// One vector of a test, with everything that belongs to it.
#[derive(Clone, Debug)]
struct Kept {
    vector: Vec<f32>,
    kind: String,
    conversation: Option<[u8; 16]>,
    at_ms: i64,
}

pub(crate) fn key(n: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[8..].copy_from_slice(&n.to_be_bytes());
    key
}

/// Repeatable values from -1 to 1.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    pub(crate) fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| self.next()).collect()
    }
}

fn put(db: &Connection, spec: &Spec<'_>, all: &[([u8; 16], Kept)]) -> Result<(), VectorError> {
    let items: Vec<_> = all
        .iter()
        .map(|(key, kept)| Item {
            key: *key,
            vector: &kept.vector,
            labels: Labels {
                kind: &kept.kind,
                conversation: kept.conversation,
                at_ms: kept.at_ms,
            },
        })
        .collect();
    Collection::create(db, spec)?.put(&items)
}

fn distance(how: Distance, a: &[f32], b: &[f32]) -> f64 {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    match how {
        Distance::Euclidean => pairs().map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
        Distance::Cosine => {
            let length = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            1.0 - pairs().map(|(a, b)| a * b).sum::<f64>() / length(a) / length(b)
        }
    }
}

/// Hits are the nearest of those that the filter lets through, by the plain definition; where
/// distances are as good as equal, either is right.
fn assert_nearest(
    hits: &[Hit],
    all: &BTreeMap<[u8; 16], Kept>,
    how: Distance,
    query: &[f32],
    filter: &Filter,
    limit: usize,
) {
    let mut right: Vec<f64> = all
        .values()
        .filter(|kept| lets(filter, kept))
        .map(|kept| distance(how, query, &kept.vector))
        .collect();
    right.sort_by(f64::total_cmp);
    right.truncate(limit);
    assert_eq!(hits.len(), right.len());
    assert_sound(hits, all, how, query, filter);
    for (hit, right) in hits.iter().zip(right) {
        let told = f64::from(hit.distance);
        assert!(
            (told - right).abs() < 1e-3,
            "{told} where {right} is nearest"
        );
    }
}

fn lets(filter: &Filter, kept: &Kept) -> bool {
    (filter.kinds.is_empty() || filter.kinds.contains(&kept.kind))
        && filter
            .conversation
            .is_none_or(|it| kept.conversation == Some(it))
        && filter
            .at_ms
            .as_ref()
            .is_none_or(|range| range.contains(&kept.at_ms))
}

/// Hits are of those that the filter lets through, with their own distances, in the order of these.
fn assert_sound(
    hits: &[Hit],
    all: &BTreeMap<[u8; 16], Kept>,
    how: Distance,
    query: &[f32],
    filter: &Filter,
) {
    let mut seen = std::collections::BTreeSet::new();
    for hit in hits {
        assert!(seen.insert(hit.key), "found twice");
        let kept = &all[&hit.key];
        assert!(lets(filter, kept), "not let through: {kept:?}");
        let own = distance(how, query, &kept.vector);
        let told = f64::from(hit.distance);
        assert!((told - own).abs() < 1e-3, "{told} instead of {own}");
    }
    assert!(hits.is_sorted_by(|a, b| a.distance <= b.distance));
}

/// A connection with the tables, without the threads of a store: each case is quick.
fn tables() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    db.execute_batch(MIGRATIONS.migrations[0].sql).unwrap();
    db
}

fn kept(dimension: usize) -> impl Strategy<Value = Kept> {
    (
        proptest::collection::vec(-1.0_f32..1.0, dimension),
        prop::sample::select(vec!["fact", "message", "note"]),
        prop::option::of(0_u8..3),
        0_i64..100,
    )
        .prop_map(|(mut vector, kind, conversation, at_ms)| {
            // Never without a direction.
            vector[0] += 1.5;
            Kept {
                vector,
                kind: kind.to_owned(),
                conversation: conversation.map(|it| [it; 16]),
                at_ms,
            }
        })
}

fn filter() -> impl Strategy<Value = Filter> {
    (
        prop::sample::subsequence(vec!["fact", "message", "note"], 0..=2),
        prop::option::of(0_u8..3),
        prop::option::of((0_i64..100, 0_i64..100)),
    )
        .prop_map(|(kinds, conversation, range)| Filter {
            kinds: kinds.into_iter().map(str::to_owned).collect(),
            conversation: conversation.map(|it| [it; 16]),
            at_ms: range.map(|(from, to)| from..to),
        })
}

/// What is done to a collection between searches.
#[derive(Clone, Debug)]
enum Step {
    Put(u64, Kept),
    Remove(u64),
    RemoveMatching(Filter),
    Reindex,
    Search(Vec<f32>, Filter, usize),
}

fn steps(dimension: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0_u64..60, kept(dimension)).prop_map(|(key, kept)| Step::Put(key, kept)),
        3 => (0_u64..60).prop_map(Step::Remove),
        1 => filter().prop_map(Step::RemoveMatching),
        1 => Just(Step::Reindex),
        6 => (kept(dimension), filter(), 1_usize..12)
            .prop_map(|(kept, filter, limit)| Step::Search(kept.vector, filter, limit)),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever was put, replaced and removed before: exact search is brute force, and what search
    /// by codes finds is let through by the filter and told with its exact distance.
    #[test]
    fn search_is_brute_force(
        (dimension, all) in prop::sample::select(vec![1_usize, 3, 8, 64, 70])
            .prop_flat_map(|dimension| (Just(dimension), steps(dimension))),
        euclidean in any::<bool>(),
    ) {
        let how = if euclidean { Distance::Euclidean } else { Distance::Cosine };
        let spec = Spec { dimension, distance: how, ..FACTS };
        let db = tables();
        let mut model = BTreeMap::new();
        Collection::create(&db, &spec).unwrap();
        for step in all {
            let mut facts = Collection::open(&db, &spec).unwrap();
            match step {
                Step::Put(n, kept) => {
                    put(&db, &spec, &[(key(n), kept.clone())]).unwrap();
                    model.insert(key(n), kept);
                }
                Step::Remove(n) => {
                    let there = facts.remove(&key(n)).unwrap();
                    prop_assert_eq!(there, model.remove(&key(n)).is_some());
                }
                Step::RemoveMatching(filter) => {
                    let gone = facts.remove_matching(&filter).unwrap();
                    let before = model.len();
                    model.retain(|_, kept: &mut Kept| !lets(&filter, kept));
                    prop_assert_eq!(gone as usize, before - model.len());
                }
                Step::Reindex => facts.reindex().unwrap(),
                Step::Search(vector, filter, limit) => {
                    for method in [
                        Method::Auto,
                        Method::Exact,
                        Method::Quantised { candidates: limit },
                    ] {
                        let query = Query {
                            vector: &vector,
                            limit,
                            filter: filter.clone(),
                            method,
                        };
                        let hits = facts.search(&query).unwrap();
                        if let Method::Quantised { candidates } = method {
                            let eligible = model.values().filter(|it| lets(&filter, it)).count();
                            prop_assert!(hits.len() == limit.min(eligible), "{candidates}");
                            assert_sound(&hits, &model, how, &vector, &filter);
                        } else {
                            assert_nearest(&hits, &model, how, &vector, &filter, limit);
                        }
                    }
                }
            }
            let facts = Collection::open(&db, &spec).unwrap();
            prop_assert_eq!(facts.len() as usize, model.len());
        }
        Collection::open(&db, &spec).unwrap().check().unwrap();
    }
}

/// So many that codes are read, in a real store: nearly all of the nearest are among the candidates,
/// and what is told of them is exact.
#[tokio::test]
async fn a_search_by_codes_finds_nearly_all_and_its_distances_are_exact() {
    let bench = Bench::new();
    let store = create(&bench);
    let spec = Spec {
        dimension: 128,
        ..FACTS
    };
    let all: BTreeMap<_, _> = clusters(6000, spec.dimension);
    let rows: Vec<_> = all.iter().map(|(key, kept)| (*key, kept.clone())).collect();
    for part in rows.chunks(700) {
        let part = part.to_vec();
        store
            .write(move |tx| Ok(put(tx, &spec, &part)?))
            .await
            .unwrap();
    }
    let queries: Vec<_> = clusters(40, spec.dimension).into_values().collect();
    let halves = [
        Filter::default(),
        Filter {
            kinds: vec!["even".into()],
            ..Filter::default()
        },
        Filter {
            at_ms: Some(1000..4500),
            ..Filter::default()
        },
    ];
    let (mut found, mut wanted) = (0, 0);
    for (query, filter) in queries.iter().zip(halves.iter().cycle()) {
        let search = |method| {
            let (vector, filter) = (query.vector.clone(), filter.clone());
            store.read(move |db| {
                let query = Query {
                    vector: &vector,
                    limit: 5,
                    filter,
                    method,
                };
                Ok(Collection::open(db, &spec)?.search(&query)?)
            })
        };
        let exact = search(Method::Exact).await.unwrap();
        assert_nearest(&exact, &all, spec.distance, &query.vector, filter, 5);
        let quick = search(Method::Auto).await.unwrap();
        assert_sound(&quick, &all, spec.distance, &query.vector, filter);
        wanted += exact.len();
        found += exact.iter().filter(|hit| quick.contains(hit)).count();
        // With no more candidates than are wanted, the codes alone decide.
        let few = search(Method::Quantised { candidates: 5 }).await.unwrap();
        assert_eq!(few.len(), 5);
    }
    assert!(found * 100 >= wanted * 97, "{found} of {wanted}");
    store.close().await.unwrap();
}

/// Vectors in groups, as what people say is.
fn clusters(many: u64, dimension: usize) -> BTreeMap<[u8; 16], Kept> {
    let mut random = Random(many);
    let mut middles = Random(1);
    let middles: Vec<_> = (0..600).map(|_| middles.vector(dimension)).collect();
    (0..many)
        .map(|n| {
            let around = random.vector(dimension);
            let middle = &middles[n as usize % middles.len()];
            let kept = Kept {
                vector: middle
                    .iter()
                    .zip(around)
                    .map(|(m, a)| m + 0.7 * a)
                    .collect(),
                kind: if n / 600 % 2 == 0 { "even" } else { "odd" }.to_owned(),
                conversation: None,
                at_ms: n as i64,
            };
            (key(n), kept)
        })
        .collect()
}

fn create(bench: &Bench) -> Store {
    let registry = bench.registry.clone();
    Store::create(&bench.path(), &KEY, &PERSON, &[NOTES, MIGRATIONS], registry).unwrap()
}

fn fact(n: u64) -> ([u8; 16], Kept) {
    let kept = Kept {
        vector: Random(n + 1).vector(FACTS.dimension),
        kind: "fact".to_owned(),
        conversation: None,
        at_ms: n as i64,
    };
    (key(n), kept)
}

/// Puts these facts, and asks for the nearest to each.
async fn remember(store: &Store, which: std::ops::Range<u64>) {
    let all: Vec<_> = which.map(fact).collect();
    store
        .write(move |tx| Ok(put(tx, &FACTS, &all)?))
        .await
        .unwrap();
}

async fn assert_remembered(store: &Store, many: u64) {
    store
        .read(move |db| {
            let facts = Collection::open(db, &FACTS)?;
            facts.check()?;
            assert_eq!(facts.len(), many);
            for n in (0..many).step_by(37) {
                let (key, kept) = fact(n);
                let hits = facts.search(&Query::nearest(&kept.vector, 1))?;
                assert_eq!(hits[0].key, key);
                assert!(hits[0].distance < 1e-5);
            }
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_no_vector_of_the_collection_is_refused_and_nothing_is_kept() {
    let bench = Bench::new();
    let store = create(&bench);
    remember(&store, 0..5).await;
    let refused = |vector: Vec<f32>| {
        let store = store.clone();
        async move {
            let write = store.write(move |tx| {
                tx.execute("INSERT INTO note (body) VALUES ('of no use alone')", [])?;
                let mut bad = fact(100);
                bad.1.vector = vector;
                Ok(put(tx, &FACTS, &[fact(99), bad])?)
            });
            write.await.unwrap_err().downcast::<VectorError>().unwrap()
        }
    };
    let mut nan = vec![1.0; 24];
    nan[7] = f32::NAN;
    let mut endless = vec![1.0; 24];
    endless[0] = f32::INFINITY;
    assert!(matches!(
        refused(vec![1.0; 23]).await,
        VectorError::WrongDimension {
            expected: 24,
            found: 23
        }
    ));
    for bad in [nan, endless, vec![1e20; 24]] {
        assert!(matches!(refused(bad).await, VectorError::NotFinite));
    }
    assert!(matches!(refused(vec![0.0; 24]).await, VectorError::Zero));
    assert_remembered(&store, 5).await;
    // The fact went with its vector.
    assert_eq!(crate::support::count(&store).await, 0);
    // A query is held to the same.
    let asked = store.read(|db| {
        let zero = [0.0; 24];
        Ok(Collection::open(db, &FACTS)?.search(&Query::nearest(&zero, 3))?)
    });
    let error = asked.await.unwrap_err().downcast::<VectorError>().unwrap();
    assert!(matches!(error, VectorError::Zero));
    store.close().await.unwrap();
}

#[tokio::test]
async fn another_model_is_refused_until_the_collection_is_begun_anew() {
    let bench = Bench::new();
    let store = create(&bench);
    remember(&store, 0..300).await;
    let others = [
        Spec {
            model: "another",
            ..FACTS
        },
        Spec {
            model_version: "2",
            ..FACTS
        },
        Spec {
            dimension: 32,
            ..FACTS
        },
        Spec {
            distance: Distance::Euclidean,
            ..FACTS
        },
    ];
    for other in others {
        let open = store.read(move |db| Ok(Collection::open(db, &other).map(drop)?));
        let create = store.write(move |tx| Ok(Collection::create(tx, &other).map(drop)?));
        for error in [open.await.unwrap_err(), create.await.unwrap_err()] {
            match error.downcast::<VectorError>().unwrap() {
                VectorError::OtherModel { found, expected } => {
                    assert_eq!((found.model.as_str(), found.vectors), ("a-model", 300));
                    assert!(expected.contains(other.model), "{expected}");
                }
                other => panic!("{other}"),
            }
        }
    }
    assert_remembered(&store, 300).await;
    let [.., wider, _] = others;
    store
        .write(move |tx| {
            let mut facts = Collection::rebuild(tx, &wider)?;
            assert!(facts.is_empty());
            let vector = Random(5).vector(32);
            let labels = Labels {
                kind: "fact",
                conversation: None,
                at_ms: 0,
            };
            facts.put(&[Item {
                key: key(1),
                vector: &vector,
                labels,
            }])?;
            facts.check()?;
            for table in ["vector_item", "vector_value", "vector_code"] {
                let sql = format!("SELECT count(*) FROM {table}");
                let rows: i64 = tx.query_row(&sql, [], |row| row.get(0))?;
                assert_eq!(rows, 1, "{table}");
            }
            assert_eq!(Collection::all(tx)?.len(), 1);
            assert!(Collection::remove_all(tx, FACTS.name)?);
            assert!(!Collection::remove_all(tx, FACTS.name)?);
            Ok(())
        })
        .await
        .unwrap();
    let gone = store.read(|db| Ok(Collection::open(db, &FACTS).map(drop)?));
    let error = gone.await.unwrap_err().downcast::<VectorError>().unwrap();
    assert!(matches!(error, VectorError::UnknownCollection { .. }));
    for bad in [
        Spec {
            dimension: 0,
            ..FACTS
        },
        Spec {
            dimension: 8193,
            ..FACTS
        },
        Spec { name: "", ..FACTS },
        Spec { model: "", ..FACTS },
    ] {
        let made = store.write(move |tx| Ok(Collection::create(tx, &bad).map(drop)?));
        let error = made.await.unwrap_err().downcast::<VectorError>().unwrap();
        assert!(matches!(error, VectorError::InvalidSpec));
    }
    store.close().await.unwrap();
}

/// Nothing of a removed vector stays in its tables: neither the values nor the code.
#[tokio::test]
async fn a_removed_vector_leaves_nothing_and_its_place_is_used_again() {
    let bench = Bench::new();
    let store = create(&bench);
    remember(&store, 0..500).await;
    let rows = || {
        store.read(|db| {
            let sql = "SELECT count(*) FROM vector_code";
            Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?)
        })
    };
    let before = rows().await.unwrap();
    store
        .write(|tx| {
            let mut facts = Collection::open(tx, &FACTS)?;
            for n in 100..400 {
                assert!(facts.remove(&key(n))?);
            }
            assert!(!facts.remove(&key(100))?);
            assert!(facts.get(&key(100))?.is_none());
            facts.check()?;
            // Codes of free places are zero.
            let mut query = tx.prepare("SELECT live, codes FROM vector_code")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let (live, codes): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
                for (place, code) in codes.chunks_exact(12).enumerate() {
                    if live[place / 8] >> (place % 8) & 1 == 0 {
                        assert_eq!(code, [0; 12]);
                    }
                }
            }
            Ok(())
        })
        .await
        .unwrap();
    remember(&store, 100..400).await;
    assert_remembered(&store, 500).await;
    assert_eq!(rows().await.unwrap(), before);
    store
        .write(|tx| {
            let mut facts = Collection::open(tx, &FACTS)?;
            assert_eq!(facts.remove_matching(&Filter::default())?, 500);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(rows().await.unwrap(), 0);
    store.close().await.unwrap();
}

#[tokio::test]
async fn collections_of_one_database_know_nothing_of_each_other() {
    let bench = Bench::new();
    let store = create(&bench);
    let other = Spec {
        name: "memory.message",
        dimension: 100,
        distance: Distance::Euclidean,
        ..FACTS
    };
    remember(&store, 0..50).await;
    store
        .write(move |tx| {
            let all: Vec<_> = (0..50)
                .map(|n| {
                    let (key, mut kept) = fact(n);
                    kept.vector = Random(n + 7).vector(100);
                    (key, kept)
                })
                .collect();
            put(tx, &other, &all)?;
            let mut messages = Collection::open(tx, &other)?;
            messages.remove(&key(3))?;
            messages.reindex()?;
            messages.check()?;
            assert_eq!(messages.len(), 49);
            let hits = messages.search(&Query::nearest(&all[4].1.vector, 60))?;
            assert_eq!((hits[0].key, hits.len()), (key(4), 49));
            let names: Vec<_> = Collection::all(tx)?.into_iter().map(|it| it.name).collect();
            assert_eq!(names, ["memory.fact", "memory.message"]);
            Ok(())
        })
        .await
        .unwrap();
    assert_remembered(&store, 50).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn vectors_go_with_a_change_of_the_key_and_with_copies() {
    let bench = Bench::new();
    let store = create(&bench);
    remember(&store, 0..2 * EXACT_UP_TO as u64).await;
    let many = 2 * EXACT_UP_TO as u64;
    let to = bench.folder.path().join("copy.db");
    let view = store.view(&KEY).unwrap();
    let copied = view
        .copy_to(&to, &KEY, &|_: &Transaction<'_>| Ok(()), &mut |_, _| true)
        .unwrap();
    drop(view);
    assert_eq!(copied.rows["vector_value"], many);
    assert_eq!(copied.schema["vectors"], 1);

    let next = crate::rekey::NEXT;
    store
        .rekey(NumberedKey::new(&next, 2), Progress::default())
        .await
        .unwrap();
    assert_remembered(&store, many).await;
    remember(&store, many..many + 10).await;
    store.close().await.unwrap();
    let open = |key: &[u8; 32]| bench.open_as(key, &PERSON, &[NOTES, MIGRATIONS]);
    let store = open(&next).unwrap();
    assert_remembered(&store, many + 10).await;
    let sound: String = store
        .read(|db| Ok(db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(sound, "ok");
    store.close().await.unwrap();
    // What the copy was made of is put back beside it, and erased.
    let other = Bench::new();
    Store::adopt(
        &to,
        &other.path(),
        &NumberedKey::new(&KEY, 7),
        &PERSON,
        &[NOTES, MIGRATIONS],
        other.registry.clone(),
        &|said| said.rows["vector_item"] == many,
    )
    .unwrap();
    let store = other.open_as(&KEY, &PERSON, &[NOTES, MIGRATIONS]).unwrap();
    assert_remembered(&store, many).await;
    store.close().await.unwrap();
    // Values of vectors lie nowhere in clear.
    let bytes = std::fs::read(other.path()).unwrap();
    let (_, kept) = fact(0);
    let length = kept.vector.iter().map(|it| it * it).sum::<f32>().sqrt();
    let first: Vec<u8> = kept.vector[..2]
        .iter()
        .flat_map(|it| (it / length).to_le_bytes())
        .collect();
    assert!(!bytes.windows(8).any(|window| window == first));
    Store::erase(&other.path(), &PERSON, &*other.registry).unwrap();
    assert!(other.names().is_empty());
}

/// What the killed child does: a note and its vector in each commit, some replaced, some removed.
pub(crate) fn step(tx: &Transaction<'_>, task: i64) -> Result<i64, StoreError> {
    let n: i64 = tx.query_row(
        "SELECT count(*) FROM note WHERE body LIKE ?1 || ':%'",
        [task],
        |row| row.get(0),
    )?;
    let id = (task * 1_000_000 + n) as u64;
    tx.execute(
        "INSERT INTO note (body) VALUES (?1)",
        [format!("{task}:{n}")],
    )?;
    let (key, kept) = fact(id);
    put(tx, &FACTS, &[(key, kept)])?;
    if n % 5 == 4 {
        Collection::open(tx, &FACTS)?.remove(&crate::vectors::key(id - 2))?;
        put(tx, &FACTS, &[fact(id - 2)])?;
    }
    Ok(n + 1)
}

/// Killed in the middle of it: each note has its vector, each vector its code, and both are found.
#[tokio::test]
async fn a_killed_process_leaves_facts_and_their_vectors_together() {
    let modules = [NOTES, MIGRATIONS];
    let (folder, path, registry) = children::made(&modules).await;
    let open = |registry: std::sync::Arc<FileRegistry>| {
        Store::open(&path, &KEY, &PERSON, &modules, registry)
    };
    for round in 0..3_u64 {
        let mut child = children::start("vectors", folder.path(), None);
        let id = child.id().to_string();
        let mut killer = None;
        let acknowledged = children::acknowledged(&mut child, || {
            killer = Some(std::thread::spawn(move || {
                // The moment of the kill is the point of the test.
                std::thread::sleep(std::time::Duration::from_millis(150 + 170 * round));
                let killed = std::process::Command::new("kill")
                    .args(["-9", &id])
                    .status();
                assert!(killed.unwrap().success());
            }));
        });
        assert!(!child.wait().unwrap().success());
        killer.unwrap().join().unwrap();
        let store = open(registry.clone()).unwrap();
        store
            .read(move |db| {
                let facts = Collection::open(db, &FACTS)?;
                facts.check()?;
                let notes: i64 = db.query_row("SELECT count(*) FROM note", [], |row| row.get(0))?;
                assert_eq!(facts.len() as i64, notes);
                for (task, acknowledged) in acknowledged.into_iter().enumerate() {
                    for n in 0..acknowledged {
                        let (key, kept) = fact(task as u64 * 1_000_000 + n as u64);
                        assert!(facts.get(&key)?.is_some(), "round {round}: {task}:{n}");
                        if n + 3 > acknowledged {
                            let query = Query {
                                method: Method::Exact,
                                ..Query::nearest(&kept.vector, 1)
                            };
                            assert_eq!(facts.search(&query)?[0].key, key);
                        }
                    }
                }
                Ok(())
            })
            .await
            .unwrap();
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_from_before_vectors_gets_their_tables_and_keeps_what_it_had() {
    let bench = Bench::new();
    bench.filled(20).await;
    let store = bench.open_as(&KEY, &PERSON, &[NOTES, MIGRATIONS]).unwrap();
    assert_eq!(crate::support::count(&store).await, 20);
    remember(&store, 0..10).await;
    assert_remembered(&store, 10).await;
    store.close().await.unwrap();
    assert_eq!(bench.names(), ["person.db"]);
    // A program that does not know vectors leaves it alone.
    assert!(matches!(
        bench.open(),
        Err(aico_store::OpenError::SchemaNewer { .. })
    ));
}

#[tokio::test]
async fn every_schema_version_becomes_the_present_one_and_keeps_its_rows() {
    let case = Case {
        identity: PERSON,
        present: vec![MIGRATIONS],
        versions: &[&[1]],
        rows: &["aico-store"],
        expected: "",
        whole: false,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

/// The rows that the test above goes by are such as a collection writes: they are found, and it goes
/// on from them.
#[tokio::test]
async fn what_the_first_version_kept_is_found_and_gone_on_with() {
    const ROWS: &str = include_str!("../fixtures/schema/vectors-1.sql");
    const KEPT: Spec<'_> = Spec {
        name: "memory.fact",
        dimension: 9,
        distance: Distance::Euclidean,
        model: "all-MiniLM-L6-v2",
        model_version: "1",
    };
    const VECTOR: [f32; 9] = [-0.25, 0.5, 0.0, 1.5, -1.0, 0.125, 0.0, 2.0, -0.5];
    let bench = Bench::new();
    let first = ModuleMigrations {
        migrations: &MIGRATIONS.migrations[..1],
        ..MIGRATIONS
    };
    let registry = bench.registry.clone();
    let store = Store::create(&bench.path(), &KEY, &PERSON, &[first], registry).unwrap();
    let written = store.write(|tx| Ok(tx.execute_batch(ROWS)?));
    written.await.unwrap();
    store.close().await.unwrap();
    let store = bench.open_as(&KEY, &PERSON, &[MIGRATIONS]).unwrap();
    let gone_on_with = store.write(|tx| {
        let mut facts = Collection::open(tx, &KEPT)?;
        facts.check()?;
        let key = *b"\x01\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        let query = Query {
            method: Method::Quantised { candidates: 1 },
            ..Query::nearest(&VECTOR, 1)
        };
        let distance = 0.0;
        assert_eq!(facts.search(&query)?, [Hit { key, distance }]);
        let codes = || {
            let sql = "SELECT codes FROM vector_code";
            tx.query_row(sql, [], |row| row.get::<_, Vec<u8>>(0))
        };
        let before = codes()?;
        let labels = Labels {
            kind: "note",
            conversation: None,
            at_ms: 1,
        };
        let item = |key, vector| Item {
            key,
            vector,
            labels,
        };
        facts.put(&[item(key, &VECTOR)])?;
        assert!(codes()? == before, "it is written as it was");
        facts.put(&[item([3; 16], &[1.0; 9])])?;
        facts.check()?;
        let sql = "SELECT key FROM vector_item WHERE id = (2 << 40) + 1";
        let at_the_free_place: [u8; 16] = tx.query_row(sql, [], |row| row.get(0))?;
        assert_eq!((facts.len(), at_the_free_place), (3, [3; 16]));
        Ok(())
    });
    gone_on_with.await.unwrap();
    store.close().await.unwrap();
}

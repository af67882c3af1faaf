//! Searching vectors of real sentences, 100,000 of 384 values in one encrypted file: by codes with
//! exact rescoring, against the exact search in the same file, and `sqlite-vec` beside both.
//!
//! `cargo bench --locked --workspace --profile dev --bench vectors`, after `tools/sentence-vectors`
//! has made the vectors. With `-- sweep` it shows how recall and time depend on the number of
//! candidates, with `-- many=N` it searches the first N alone. All sides of a query run one after the other, each against the caches that the
//! others left; the medians are printed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};

use aico_store::{
    Identity, RegistryError, Store, StoreError, StoreRecord, StoreRegistry,
    rusqlite::{Connection, ffi},
    vectors::{Collection, Distance, Filter, Hit, Item, Labels, MIGRATIONS, Method, Query, Spec},
};

/// In the file, before the queries.
const VECTORS: usize = 100_000;
const QUERIES: usize = 1_000;
const DIMENSION: usize = 384;
/// Found for each query.
const LIMIT: usize = 10;
/// Queries of which the exact searches are timed: each takes a third of a second.
const TIMED: usize = 40;

const SENTENCES: Spec<'_> = Spec {
    name: "bench.sentence",
    dimension: DIMENSION,
    distance: Distance::Cosine,
    model: "all-MiniLM-L6-v2",
    model_version: "1",
};

/// Notes in memory.
#[derive(Default)]
struct Memory(Mutex<HashMap<String, StoreRecord>>);

impl StoreRegistry for Memory {
    fn get(&self, id: &str) -> Result<Option<StoreRecord>, RegistryError> {
        Ok(self.0.lock().unwrap().get(id).cloned())
    }
    fn put(&self, id: &str, record: &StoreRecord) -> Result<(), RegistryError> {
        self.0.lock().unwrap().insert(id.to_owned(), record.clone());
        Ok(())
    }
    fn note_sequence(&self, id: &str, sequence: u64) -> Result<(), RegistryError> {
        if let Some(record) = self.0.lock().unwrap().get_mut(id) {
            record.last_sequence = sequence;
        }
        Ok(())
    }
    fn remove(&self, id: &str) -> Result<(), RegistryError> {
        self.0.lock().unwrap().remove(id);
        Ok(())
    }
}

fn file() -> PathBuf {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = folder("AICO_CACHE_DIR")
        .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("aico")))
        .or_else(|| Some(folder("HOME")?.join(".cache/aico")));
    cache.unwrap_or_default().join("sentence-vectors-1.f32")
}

type Vectors = Vec<Vec<f32>>;

/// The vectors: what is searched, and what is asked.
fn load() -> Option<(Vectors, Vectors)> {
    let bytes = std::fs::read(file()).ok()?;
    let rows = bytes.chunks_exact(4 * DIMENSION);
    let mut all: Vec<Vec<f32>> = rows
        .map(|row| {
            let values = row.as_chunks::<4>().0.iter();
            values.map(|it| f32::from_le_bytes(*it)).collect()
        })
        .collect();
    let unit = |row: &Vec<f32>| {
        let length: f32 = row.iter().map(|it| it * it).sum();
        (length - 1.0).abs() < 1e-3
    };
    let whole = bytes.len() == 4 * DIMENSION * (VECTORS + QUERIES) && all.iter().all(unit);
    let queries = whole.then(|| all.split_off(VECTORS))?;
    all.truncate(many());
    Some((all, queries))
}

/// How many are searched.
fn many() -> usize {
    let mut arguments = std::env::args();
    let said = arguments.find_map(|it| it.strip_prefix("many=")?.parse().ok());
    said.unwrap_or(VECTORS).clamp(2_000, VECTORS)
}

fn key(n: usize) -> [u8; 16] {
    (n as u128).to_be_bytes()
}

fn number(key: &[u8; 16]) -> usize {
    u128::from_be_bytes(*key) as usize
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Milliseconds of one run, and what it gave.
fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let begun = Instant::now();
    let result = work();
    (begun.elapsed().as_secs_f64() * 1e3, result)
}

/// The cosines of the nearest ten, computed in memory.
fn truth(all: &[Vec<f32>], query: &[f32]) -> Vec<usize> {
    let mut by_distance: Vec<(f32, usize)> = all
        .iter()
        .enumerate()
        .map(|(n, vector)| {
            let mut sums = [0.0_f32; 16];
            let pairs = vector
                .as_chunks::<16>()
                .0
                .iter()
                .zip(query.as_chunks::<16>().0);
            for (a, b) in pairs {
                for lane in 0..16 {
                    sums[lane] += a[lane] * b[lane];
                }
            }
            (-sums.iter().sum::<f32>(), n)
        })
        .collect();
    by_distance.select_nth_unstable_by(LIMIT, |a, b| a.0.total_cmp(&b.0));
    by_distance[..LIMIT].iter().map(|it| it.1).collect()
}

fn recall<'a>(found: impl Iterator<Item = (&'a Vec<usize>, Vec<usize>)>) -> f64 {
    let (mut right, mut all) = (0, 0);
    for (truth, found) in found {
        right += truth.iter().filter(|it| found.contains(it)).count();
        all += truth.len();
    }
    right as f64 / all as f64
}

fn numbers(hits: &[Hit]) -> Vec<usize> {
    hits.iter().map(|hit| number(&hit.key)).collect()
}

fn search(db: &Connection, vector: &[f32], method: Method, filter: &Filter) -> Vec<Hit> {
    let query = Query {
        vector,
        limit: LIMIT,
        filter: filter.clone(),
        method,
    };
    let collection = Collection::open(db, &SENTENCES).unwrap();
    collection.search(&query).unwrap()
}

fn float_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|it| it.to_le_bytes()).collect()
}

fn sign_bits(vector: &[f32], centre: &[f32]) -> Vec<u8> {
    let mut bits = vec![0; DIMENSION / 8];
    for (n, (value, centre)) in vector.iter().zip(centre).enumerate() {
        bits[n / 8] |= u8::from(value > centre) << (n % 8);
    }
    bits
}

/// The exact search of `sqlite-vec`.
fn vec0_exact(db: &Connection, query: &[f32]) -> Vec<usize> {
    let sql = "SELECT id FROM vec0_float WHERE value MATCH ?1 AND k = ?2 ORDER BY distance";
    let mut statement = db.prepare_cached(sql).unwrap();
    let rows = statement.query_map((float_bytes(query), LIMIT as i64), |row| {
        row.get::<_, i64>(0)
    });
    rows.unwrap().map(|id| id.unwrap() as usize).collect()
}

/// Its bits, and the exact distances of what they chose, read as ours are.
fn vec0_bits(
    db: &Connection,
    table: &str,
    query: &[f32],
    centre: &[f32],
    candidates: usize,
) -> Vec<usize> {
    let sql = format!("SELECT id FROM {table} WHERE bits MATCH vec_bit(?1) AND k = ?2");
    let mut statement = db.prepare_cached(&sql).unwrap();
    let rows = statement.query_map((sign_bits(query, centre), candidates as i64), |row| {
        row.get::<_, i64>(0)
    });
    let mut ids: Vec<i64> = rows.unwrap().map(Result::unwrap).collect();
    ids.sort_unstable();
    let sql = "SELECT v.value FROM vector_item i JOIN vector_value v ON v.id = i.id
               WHERE i.collection = 1 AND i.key = ?1";
    let mut statement = db.prepare_cached(sql).unwrap();
    let mut scored: Vec<(f32, usize)> = ids
        .into_iter()
        .map(|id| {
            let value = statement.query_row([key(id as usize)], |row| row.get::<_, Vec<u8>>(0));
            let value = value.unwrap();
            let floats = value
                .as_chunks::<4>()
                .0
                .iter()
                .map(|it| f32::from_le_bytes(*it));
            let product: f32 = floats.zip(query).map(|(a, b)| a * b).sum();
            (-product, id as usize)
        })
        .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    scored.into_iter().take(LIMIT).map(|it| it.1).collect()
}

fn labels(n: usize) -> Labels<'static> {
    let mut conversation = [0; 16];
    conversation[..8].copy_from_slice(&((n / 50) as u64).to_be_bytes());
    Labels {
        kind: if n.is_multiple_of(2) {
            "fact"
        } else {
            "message"
        },
        conversation: Some(conversation),
        at_ms: n as i64,
    }
}

fn register_sqlite_vec() {
    type Entry = unsafe extern "C" fn(
        *mut ffi::sqlite3,
        *mut *mut std::ffi::c_char,
        *const ffi::sqlite3_api_routines,
    ) -> std::ffi::c_int;
    // SAFETY: this is the signature of an extension's entry point, which the crate declares without.
    let entry = unsafe {
        std::mem::transmute::<*const (), Entry>(sqlite_vec::sqlite3_vec_init as *const ())
    };
    // SAFETY: before the first connection of this process.
    let code = unsafe { ffi::sqlite3_auto_extension(Some(entry)) };
    assert_eq!(code, ffi::SQLITE_OK);
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    store: Store,
}

impl Bench {
    fn read<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> T + Send + 'static) -> T {
        let read = self.store.read(move |db| Ok(work(db)));
        self.runtime.block_on(read).unwrap()
    }

    fn write(
        &self,
        work: impl FnOnce(&Connection) -> Result<(), StoreError> + Send + 'static,
    ) -> f64 {
        let write = self.store.write(move |tx| work(tx));
        timed(|| self.runtime.block_on(write).unwrap()).0
    }
}

fn main() {
    // `cargo test --benches` runs this too, without this word; there is nothing to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Some((all, queries)) = load() else {
        println!(
            "{} is not there: tools/sentence-vectors makes it, in a quarter of an hour",
            file().display()
        );
        return;
    };
    register_sqlite_vec();
    let folder = tempfile::tempdir_in(".").unwrap();
    let path = folder.path().join("person.db");
    let registry = Arc::new(Memory::default());
    let store = Store::create(
        &path,
        &[7; 32],
        &Identity::system(),
        &[MIGRATIONS],
        registry,
    );
    let bench = Bench {
        runtime: tokio::runtime::Runtime::new().unwrap(),
        store: store.unwrap(),
    };
    let all = Arc::new(all);

    let mut spent = 0.0;
    let many = all.len();
    for first in (0..many).step_by(5_000) {
        let all = all.clone();
        spent += bench.write(move |tx| {
            let items: Vec<_> = (first..many.min(first + 5_000))
                .map(|n| Item {
                    key: key(n),
                    vector: &all[n],
                    labels: labels(n),
                })
                .collect();
            Ok(Collection::create(tx, &SENTENCES)?.put(&items)?)
        });
    }
    let length = bench.read(|db| {
        db.query_row("PRAGMA page_count", [], |row| row.get::<_, u32>(0))
            .unwrap()
    });
    println!(
        "{many} vectors of {DIMENSION}: {:.0} put each second, {:.0} MB",
        many as f64 / spent * 1e3,
        f64::from(length) * 4096.0 / 1e6
    );
    let mut one_by_one = Vec::new();
    for n in 0..50 {
        let all = all.clone();
        one_by_one.push(bench.write(move |tx| {
            let item = Item {
                key: key(n * 39),
                vector: &all[n * 39],
                labels: labels(n * 39),
            };
            Ok(Collection::open(tx, &SENTENCES)?.put(&[item])?)
        }));
    }
    println!(
        "one replaced in a commit of its own: {:.1} ms",
        median(one_by_one)
    );
    let reindexed = bench.write(|tx| Ok(Collection::open(tx, &SENTENCES)?.reindex()?));
    println!("all codes made anew: {reindexed:.0} ms");

    let mut centre = vec![0.0_f32; DIMENSION];
    for vector in all.iter() {
        for (sum, value) in centre.iter_mut().zip(vector) {
            *sum += value / many as f32;
        }
    }
    let centre = Arc::new(centre);
    let (vectors, middle) = (all.clone(), centre.clone());
    bench.write(move |tx| {
        tx.execute_batch(
            "CREATE VIRTUAL TABLE vec0_float
                 USING vec0(id INTEGER PRIMARY KEY, value float[384] distance_metric=cosine);
             CREATE VIRTUAL TABLE vec0_plain USING vec0(id INTEGER PRIMARY KEY, bits bit[384]);
             CREATE VIRTUAL TABLE vec0_centred USING vec0(id INTEGER PRIMARY KEY, bits bit[384]);",
        )?;
        let zero = vec![0.0; DIMENSION];
        let mut float = tx.prepare("INSERT INTO vec0_float (id, value) VALUES (?1, ?2)")?;
        let bits = |table| {
            tx.prepare(&format!(
                "INSERT INTO {table} (id, bits) VALUES (?1, vec_bit(?2))"
            ))
        };
        let (mut plain, mut centred) = (bits("vec0_plain")?, bits("vec0_centred")?);
        for (n, vector) in vectors.iter().enumerate() {
            float.execute((n as i64, float_bytes(vector)))?;
            plain.execute((n as i64, sign_bits(vector, &zero)))?;
            centred.execute((n as i64, sign_bits(vector, &middle)))?;
        }
        Ok(())
    });

    let truths: Arc<Vec<Vec<usize>>> =
        Arc::new(queries.iter().map(|query| truth(&all, query)).collect());
    let queries = Arc::new(queries);
    if std::env::args().any(|argument| argument == "sweep") {
        sweep(&bench, &queries, &truths, &centre);
        return;
    }

    let everything = Filter::default();
    let (asked, right) = (queries.clone(), truths.clone());
    let [exact, theirs, quick] = bench.read(move |db| {
        let mut times = [const { Vec::new() }; 3];
        for (query, right) in asked.iter().zip(right.iter()).take(TIMED) {
            let (time, hits) = timed(|| search(db, query, Method::Exact, &everything));
            times[0].push(time);
            assert!(
                recall([(right, numbers(&hits))].into_iter()) > 0.89,
                "exact"
            );
            let (time, found) = timed(|| vec0_exact(db, query));
            times[1].push(time);
            assert!(recall([(right, found)].into_iter()) > 0.89, "exact");
            times[2].push(timed(|| search(db, query, Method::Auto, &everything)).0);
        }
        times.map(median)
    });
    let (asked, right) = (queries.clone(), truths.clone());
    let (all_quick, found) = bench.read(move |db| {
        let mut times = Vec::new();
        let mut found = Vec::new();
        for query in asked.iter() {
            let (time, hits) = timed(|| search(db, query, Method::Auto, &Filter::default()));
            times.push(time);
            found.push(numbers(&hits));
        }
        (median(times), recall(right.iter().zip(found)))
    });
    println!("exact, ours: {exact:.0} ms; exact, sqlite-vec: {theirs:.0} ms");
    println!(
        "by codes: {quick:.1} ms between the others, {all_quick:.1} ms one after the other; \
         {:.1} times as fast as the faster exact one, recall@{LIMIT} {found:.4} of {QUERIES} queries",
        exact.min(theirs) / quick
    );
    filters(&bench, &queries);
    bench.runtime.block_on(bench.store.close()).unwrap();
}

/// The same with filters, each against its exact search.
fn filters(bench: &Bench, queries: &Arc<Vec<Vec<f32>>>) {
    let all = [
        (
            "one kind of two",
            Filter {
                kinds: vec!["fact".into()],
                ..Filter::default()
            },
        ),
        (
            "a tenth of the time",
            Filter {
                at_ms: Some(0..many() as i64 / 10),
                ..Filter::default()
            },
        ),
        (
            "one conversation, 50 vectors",
            Filter {
                conversation: labels(many() / 2).conversation,
                ..Filter::default()
            },
        ),
    ];
    for (name, filter) in all {
        let asked = queries.clone();
        let (exact, quick, found) = bench.read(move |db| {
            let (mut exact, mut quick) = (Vec::new(), Vec::new());
            let mut found = Vec::new();
            for query in asked.iter().take(TIMED) {
                let (time, right) = timed(|| search(db, query, Method::Exact, &filter));
                exact.push(time);
                let (time, hits) = timed(|| search(db, query, Method::Auto, &filter));
                quick.push(time);
                found.push((numbers(&right), numbers(&hits)));
            }
            let found = found.iter().map(|(right, hits)| (right, hits.clone()));
            (median(exact), median(quick), recall(found))
        });
        println!("{name}: {quick:.1} ms, exact {exact:.1} ms, recall@{LIMIT} {found:.4}");
    }
}

fn sweep(
    bench: &Bench,
    queries: &Arc<Vec<Vec<f32>>>,
    truths: &Arc<Vec<Vec<usize>>>,
    centre: &Arc<Vec<f32>>,
) {
    for candidates in [20, 50, 100, 200, 400, 800] {
        let (asked, right, middle) = (queries.clone(), truths.clone(), centre.clone());
        let line = bench.read(move |db| {
            let zero = vec![0.0; DIMENSION];
            let method = Method::Quantised { candidates };
            type Side<'a> = &'a dyn Fn(&[f32]) -> Vec<usize>;
            let sides: [Side<'_>; 3] = [
                &|query| numbers(&search(db, query, method, &Filter::default())),
                &|query| vec0_bits(db, "vec0_plain", query, &zero, candidates),
                &|query| vec0_bits(db, "vec0_centred", query, &middle, candidates),
            ];
            sides.map(|side| {
                let mut times = Vec::new();
                let mut found = Vec::new();
                for (query, right) in asked.iter().zip(right.iter()).take(200) {
                    let (time, numbers) = timed(|| side(query));
                    times.push(time);
                    found.push((right, numbers));
                }
                (median(times), recall(found.into_iter()))
            })
        });
        let [ours, plain, centred] =
            line.map(|(time, recall)| format!("{recall:.4} in {time:5.1} ms"));
        println!(
            "{candidates:4} candidates: ours {ours}; sqlite-vec's bits {plain}, centred {centred}"
        );
    }
}

//! Durable publishing, also as a part of the benchmark `libzmq`.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_bus::link::{Listener, connect, endpoint_in};
use aico_bus::{AllowAll, Bus, Client, Identity, Journal, Meta, Retention};
use aico_contracts::topics;
use aico_contracts::v1::SessionEnded;
use aico_vault::{KdfCost, Password, Vault};

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(3);
const IN_FLIGHT: [usize; 3] = [1, 16, 256];

/// Messages each second.
async fn publish(client: &Client, in_flight: usize) -> f64 {
    let message = SessionEnded {
        sessions: vec![vec![7; 252]],
    };
    let send = || {
        let topic = topics::SYSTEM_SESSION_ENDED;
        client
            .publish_durably(topic, &message, Meta::new())
            .unwrap()
    };
    let mut waiting: VecDeque<_> = (0..in_flight).map(|_| send()).collect();
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < SPAN {
        let first = waiting.pop_front().unwrap();
        first.await.unwrap();
        count += 1;
        waiting.push_back(send());
    }
    let took = start.elapsed();
    for rest in waiting {
        rest.await.unwrap();
    }
    count as f64 / took.as_secs_f64()
}

/// Payloads each second, appended in groups to a plain file.
fn plain(folder: &Path, group: usize) -> f64 {
    let path = folder.join(format!("plain-{group}"));
    let mut file = std::fs::File::create(path).unwrap();
    let payloads = vec![7; 256 * group];
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < SPAN {
        file.write_all(&payloads).unwrap();
        file.sync_data().unwrap();
        count += group;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

/// Prints what each number in flight gives.
pub(crate) fn measure() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (here, there) = (runtime(), runtime());
    let folder = match std::env::var_os("AICO_BENCH_FOLDER") {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let password = Password::new("velvet harbour moss lantern").unwrap();
    let data = folder.path().join("home");
    let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
    let bus = Bus::new(Arc::new(AllowAll));
    let retention = Retention::new(7, 4096);
    let journal = Journal::open(Arc::new(vault), &data.join("journal"), retention).unwrap();
    bus.attach_journal(&journal);
    let inside = bus.join(Identity::new("companion"));
    let endpoint = endpoint_in(&folder.path().join("run")).unwrap();
    let listener = here.block_on(Listener::bind(&bus, &endpoint)).unwrap();
    let credentials = listener.issue(Identity::new("weather"));
    let over = there.block_on(connect(credentials)).unwrap();
    for in_flight in IN_FLIGHT {
        let disk = plain(folder.path(), in_flight);
        let (inside, over) = (inside.clone(), over.clone());
        let inside = here.block_on(here.spawn(async move { publish(&inside, in_flight).await }));
        let over = there.block_on(there.spawn(async move { publish(&over, in_flight).await }));
        let (inside, over) = (inside.unwrap(), over.unwrap());
        println!(
            "{in_flight:>3} in flight: inside {inside:>8.0} msg/s ({:.2} of the plain file), over \
             the link {over:>8.0} msg/s ({:.2}), plain file {disk:>8.0} records/s",
            inside / disk,
            over / disk,
        );
    }
    let stats = bus.stats().journal.unwrap();
    println!(
        "journal: {} messages in {} syncs, {} MiB in {} files",
        stats.kept,
        stats.commits,
        stats.bytes >> 20,
        stats.files
    );
    bus.detach_journal();
    journal.close().unwrap();
}

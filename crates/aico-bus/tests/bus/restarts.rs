//! The broker's process is killed again and again under load, with SIGKILL, and modules whose link
//! is kept do their work over all of it: nothing that was published durably is lost or shown
//! twice, what is served is answered again, and who subscribed hears of each gap.
//!
//! `AICO_TEST_KILLS` says how often; 25 without it.

use std::collections::{BTreeMap, VecDeque};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aico_bus::link::{
    Connection, Link, LinkState, Listener, ServerKeys, endpoint_in, keep, read_public_key,
};
use aico_bus::{
    BusError, Client, Delivery, Followed, Follower, Journal, Meta, Queue, Receipt, RequestError,
    Retention, Start,
};
use aico_contracts::v1::{Empty, SessionEnded};
use aico_vault::{KdfCost, Vault};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::common::{bus, id, soon};
use crate::durable::{Home, TOPIC, number_of, password};
use crate::keep::{QUICK, state};
use crate::kills::kills;

/// Set in the broker's process: what it needs, as JSON.
const BROKER: &str = "AICO_BUS_TEST_KEPT_BROKER";
const IN_FLIGHT: usize = 256;
/// A new process has to be there within this time, with a link to it.
const RESTART: Duration = Duration::from_secs(60);
const SERVED: &str = "weather.today";
const LIVE: &str = "weather.now";

#[derive(Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) folder: std::path::PathBuf,
    pub(crate) secret: [u8; 32],
    pub(crate) admitted: Vec<([u8; 32], String)>,
}

/// Not a test by itself: the broker that the test starts from this same program. It admits the
/// same keys each time, and lives until it is killed.
#[test]
fn broker() {
    let Ok(site) = std::env::var(BROKER) else {
        return;
    };
    let site: Site = serde_json::from_str(&site).unwrap();
    let home = site.folder.join("home");
    let vault = Vault::unlock_with(&home, &password(), KdfCost::minimum()).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let bus = bus();
        let retention = Retention {
            bytes: 256 * 1024 * 1024,
            ..Retention::default()
        };
        let journal = Journal::open(Arc::new(vault), &home.join("journal"), retention).unwrap();
        bus.attach_journal(&journal);
        let listener = Listener::open(&bus, ServerKeys::from_secret(site.secret)).unwrap();
        let admitted = site.admitted.iter().map(|(key, name)| (*key, id(name)));
        listener.admit_only(admitted).await;
        let endpoint = endpoint_in(&site.folder.join("run")).unwrap();
        listener.bind_to(&endpoint).await.unwrap();
        std::future::pending::<()>().await;
    });
}

pub(crate) fn start(site: &Site) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "restarts::broker",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(BROKER, serde_json::to_string(site).unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

pub(crate) fn admit(site: &mut Site, name: &str) -> Connection {
    let mut connection = Connection::generate(name);
    connection.endpoints = vec![endpoint_in(&site.folder.join("run")).unwrap()];
    let server = Listener::open(&bus(), ServerKeys::from_secret(site.secret)).unwrap();
    connection.server_public = server.public_key();
    let key = read_public_key(&connection.client_public).unwrap();
    site.admitted.push((key, name.to_owned()));
    connection
}

pub(crate) async fn linked(connection: Connection) -> (Link, Client) {
    let link = keep(connection, QUICK).unwrap();
    let client = soon(link.client()).await.unwrap();
    (link, client)
}

/// Publishes until it is told to stop, and gives back the place of each number. Whatever happens
/// to the broker, each gets its place.
async fn publish(
    client: Client,
    stop: Arc<AtomicBool>,
    told: watch::Sender<u64>,
) -> BTreeMap<u64, u64> {
    let mut places = BTreeMap::new();
    let mut in_flight = VecDeque::new();
    let mut next = 0;
    loop {
        while in_flight.len() < IN_FLIGHT && !stop.load(Ordering::SeqCst) {
            let message = SessionEnded {
                sessions: vec![u64::to_be_bytes(next).to_vec(), vec![7; 200]],
            };
            match client.publish_durably(TOPIC, &message, Meta::new()) {
                Ok(pending) => in_flight.push_back((next, pending)),
                Err(BusError::Busy) => break,
                Err(error) => panic!("{error}"),
            }
            next += 1;
        }
        let Some((number, pending)) = in_flight.pop_front() else {
            return places;
        };
        let Receipt { place, .. } = tokio::time::timeout(RESTART, pending)
            .await
            .expect("nobody answers for it")
            .expect("it was refused");
        places.insert(number, place.sequence);
        told.send_modify(|count| *count += 1);
    }
}

/// What a follower is handed: each once, in the order of the journal.
async fn follow(
    mut follower: Follower,
    told: watch::Sender<u64>,
    acknowledges: bool,
) -> Vec<(u64, u64)> {
    let mut seen: Vec<(u64, u64)> = Vec::new();
    loop {
        match follower.recv().await {
            Ok(Some(Followed::Message(envelope))) => {
                let (number, sequence) = (number_of(&envelope), envelope.sequence);
                if let Some((_, before)) = seen.last() {
                    assert!(*before < sequence, "{sequence} came after {before}");
                }
                seen.push((number, sequence));
                if acknowledges && seen.len().is_multiple_of(50) {
                    follower.acknowledge(sequence);
                }
                told.send_modify(|count| *count += 1);
            }
            Ok(None) => return seen,
            other => panic!("{other:?}"),
        }
    }
}

async fn reaches(told: &mut watch::Receiver<u64>, enough: u64, what: &str) {
    let reached = told.wait_for(|count| *count >= enough);
    tokio::time::timeout(RESTART, reached)
        .await
        .unwrap_or_else(|_| panic!("{what}: no progress"))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_do_their_work_over_a_broker_that_is_killed_again_and_again() {
    let Home { folder, vault } = Home::new();
    drop(vault);
    let mut site = Site {
        folder: folder.path().to_owned(),
        secret: *ServerKeys::generate().secret(),
        admitted: Vec::new(),
    };
    let weather = admit(&mut site, "module:weather");
    let lights = admit(&mut site, "module:lights");
    let mut broker = start(&site);
    let (weather_link, weather) = linked(weather).await;
    let (lights_link, lights) = linked(lights).await;

    let small = Queue::new(64, 1 << 20);
    let cursor = Start::Cursor("main".to_owned());
    let marked = soon(lights.follow(TOPIC, cursor, small)).await.unwrap();
    let all = soon(lights.follow("system.#", Start::First, small))
        .await
        .unwrap();
    let (all_told, mut all_seen) = watch::channel(0);
    let (marked_told, mut marked_seen) = watch::channel(0);
    let all = tokio::spawn(follow(all, all_told, false));
    let marked = tokio::spawn(follow(marked, marked_told, true));

    let mut requests = weather.serve(SERVED, 4).unwrap();
    soon(requests.ready()).await.unwrap();
    let serving = tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            request.reply(Empty {});
        }
    });
    let mut words = lights
        .subscribe("weather.#", Queue::new(64, 1 << 20))
        .unwrap();
    soon(words.ready()).await.unwrap();
    let breaks = Arc::new(AtomicU64::new(0));
    let counted = breaks.clone();
    let (heard_told, mut heard) = watch::channel(0);
    let hearing = tokio::spawn(async move {
        while let Some(delivery) = words.recv().await {
            match delivery {
                Delivery::Message(_) | Delivery::Gap { .. } => {
                    heard_told.send_modify(|count| *count += 1);
                }
                Delivery::Interrupted { restarted } => {
                    assert!(restarted);
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });

    let stop = Arc::new(AtomicBool::new(false));
    let (told, mut published) = watch::channel(0);
    let publishing = tokio::spawn(publish(weather.clone(), stop.clone(), told));
    let (answered_told, mut answered) = watch::channel(0);
    let (asker, asking_until) = (lights.clone(), stop.clone());
    let asking = tokio::spawn(async move {
        while !asking_until.load(Ordering::SeqCst) {
            let _ = weather.publish(LIVE, &Empty {}, Meta::new());
            // At once, whatever it is.
            match soon(asker.request::<_, Empty>(SERVED, &Empty {}, Meta::new())).await {
                Ok(Empty {}) => answered_told.send_modify(|count| *count += 1),
                Err(
                    RequestError::LinkLost
                    | RequestError::ServerGone
                    | RequestError::NobodyServes { .. },
                ) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    });

    let kills = kills() as u64;
    for kill in 0..kills {
        let more = 1 + (kill * 7919) % 700;
        let now = |told: &watch::Receiver<u64>| *told.borrow();
        let (acked, seen) = (now(&published) + more, now(&all_seen) + more / 2);
        let (answers, words) = (now(&answered) + 1, now(&heard) + 1);
        reaches(&mut published, acked, "publishing").await;
        reaches(&mut all_seen, seen, "following").await;
        reaches(&mut answered, answers, "serving").await;
        reaches(&mut heard, words, "hearing").await;
        // SIGKILL.
        broker.kill().await.unwrap();
        broker = start(&site);
    }
    let answers = *answered.borrow() + 1;
    reaches(&mut answered, answers, "serving").await;
    stop.store(true, Ordering::SeqCst);
    asking.await.unwrap();
    let places = publishing.await.unwrap();
    let count = places.len() as u64;
    reaches(&mut all_seen, count, "following").await;
    reaches(&mut marked_seen, count, "following at a cursor").await;
    state(&lights_link, |state| {
        matches!(state, LinkState::Connected { .. })
    })
    .await;
    weather_link.close();
    lights_link.close();
    serving.await.unwrap();
    hearing.await.unwrap();
    let places: Vec<_> = places.into_iter().collect();
    for seen in [all.await.unwrap(), marked.await.unwrap()] {
        // Every number once, in its place, and nothing else.
        let mut seen = seen;
        seen.sort_unstable();
        assert!(
            seen == places,
            "{} seen, {} published",
            seen.len(),
            places.len()
        );
    }
    // Each is told; two at once where nothing came between.
    let breaks = breaks.load(Ordering::SeqCst);
    assert!((1..=kills).contains(&breaks), "{breaks} of {kills}");
    drop(lights);
    broker.kill().await.unwrap();
}

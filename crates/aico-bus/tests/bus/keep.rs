//! A link that is kept: the daemon goes and comes back, on the same address with the same key.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aico_bus::link::{
    Connection, Link, LinkError, LinkState, Listener, Retry, ServerKeys, endpoint_in, keep,
    read_public_key,
};
use aico_bus::{
    Bus, BusError, Client, Delivery, Followed, Follower, Journal, JournalFault, Meta, Queue,
    RequestError, Retention, Start, Subscription, Why,
};
use aico_contracts::v1::Empty;
use aico_vault::{KdfCost, Vault};

use crate::common::{bus, delta, id, index_of, message, soon, until};
use crate::durable::{Home, TOPIC, number_of, numbered, password};

/// Quick enough for a test.
pub(crate) const QUICK: Retry = Retry {
    first: Duration::from_millis(10),
    longest: Duration::from_millis(50),
    refused: Duration::from_millis(20),
    longest_refused: Duration::from_millis(100),
    stable: Duration::from_millis(10),
};

/// What stays when a daemon goes: its folder, its key and who is admitted.
struct Site {
    folder: tempfile::TempDir,
    secret: [u8; 32],
    admitted: Vec<([u8; 32], &'static str)>,
}

/// A run of the daemon.
struct Run {
    bus: Bus,
    listener: Listener,
    journal: Option<Journal>,
}

impl Site {
    fn new() -> Self {
        let Home { folder, vault } = Home::new();
        drop(vault);
        Self {
            folder,
            secret: *ServerKeys::generate().secret(),
            admitted: Vec::new(),
        }
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn endpoint(&self) -> String {
        endpoint_in(&self.folder.path().join("run")).unwrap()
    }

    /// A connection for a module that is admitted from now on.
    async fn admit(&mut self, name: &'static str) -> Connection {
        let bus = bus();
        let keys = ServerKeys::from_secret(self.secret);
        let server_public = Listener::open(&bus, keys).unwrap().public_key();
        let mut connection = Connection::generate(name);
        connection.endpoints = vec![self.endpoint()];
        connection.server_public = server_public;
        let key = read_public_key(&connection.client_public).unwrap();
        self.admitted.push((key, name));
        connection
    }

    async fn listen(&self, bus: &Bus) -> Listener {
        let listener = Listener::open(bus, ServerKeys::from_secret(self.secret)).unwrap();
        let admitted = self.admitted.iter().map(|(key, name)| (*key, id(name)));
        listener.admit_only(admitted).await;
        listener.bind_to(&self.endpoint()).await.unwrap();
        listener
    }

    fn open_journal(&self, bus: &Bus) -> Journal {
        let vault = Vault::unlock_with(&self.home(), &password(), KdfCost::minimum()).unwrap();
        let folder = vault.data().join("journal");
        let journal = Journal::open(Arc::new(vault), &folder, Retention::default()).unwrap();
        bus.attach_journal(&journal);
        journal
    }

    /// The journal first, as the daemon does.
    async fn start(&self) -> Run {
        let bus = bus();
        let journal = Some(self.open_journal(&bus));
        let listener = self.listen(&bus).await;
        Run {
            bus,
            listener,
            journal,
        }
    }
}

impl Run {
    async fn close_journal(&mut self) {
        self.bus.detach_journal();
        let journal = self.journal.take().unwrap();
        tokio::task::spawn_blocking(move || journal.close().unwrap())
            .await
            .unwrap();
    }

    /// In order, as a daemon that is stopped: followers hear `locked` before the link goes.
    async fn stop(mut self) {
        self.close_journal().await;
        self.listener.close().await;
    }
}

async fn linked(connection: Connection) -> (Link, Client) {
    let link = keep(connection, QUICK).unwrap();
    let client = soon(link.client()).await.unwrap();
    (link, client)
}

pub(crate) async fn state(link: &Link, wanted: impl FnMut(&LinkState) -> bool) -> LinkState {
    let mut watch = link.watch();
    soon(watch.wait_for(wanted)).await.unwrap().clone()
}

fn is_connected(state: &LinkState) -> bool {
    matches!(state, LinkState::Connected { .. })
}

async fn interrupted(subscription: &mut Subscription) -> bool {
    match soon(subscription.recv()).await {
        Some(Delivery::Interrupted { restarted }) => restarted,
        other => panic!("an interruption was expected, not {other:?}"),
    }
}

async fn next(follower: &mut Follower) -> Followed {
    soon(follower.recv()).await.unwrap().unwrap()
}

async fn numbers(follower: &mut Follower, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    while all.len() < count {
        match next(follower).await {
            Followed::Message(envelope) => all.push(number_of(&envelope)),
            other => panic!("a message was expected, not {other:?}"),
        }
    }
    all
}

/// Until the daemon has taken all that was said to it: it is read in order.
async fn taken(client: &Client) {
    let mut last = client.subscribe("ui.last", Queue::default()).unwrap();
    soon(last.ready()).await.unwrap();
}

async fn publish(bus: &Bus, numbers: impl IntoIterator<Item = u64>) {
    let client = bus.join(id("companion"));
    for number in numbers {
        let pending = client.publish_durably(TOPIC, &numbered(number), Meta::new());
        soon(pending.unwrap()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stood_stands_again_when_the_daemon_comes_back() {
    let mut site = Site::new();
    let connection = site.admit("module:weather").await;
    // It may be started before its daemon.
    let link = keep(connection, QUICK).unwrap();
    state(
        &link,
        |state| matches!(state, LinkState::Connecting { why, .. } if !why.is_empty()),
    )
    .await;
    let mut run = site.start().await;
    let client = soon(link.client()).await.unwrap();
    assert_eq!(client.identity().as_str(), "module:weather");
    let mut words = client.subscribe("ui.#", Queue::new(8, 1 << 20)).unwrap();
    soon(words.ready()).await.unwrap();
    let mut requests = client.serve("weather.today", 1).unwrap();
    soon(requests.ready()).await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            request.reply(Empty {});
        }
    });
    for round in 0..3 {
        let companion = run.bus.join(id("companion"));
        let _held = companion.serve("near.work", 1).unwrap();
        let mut heard = companion.subscribe("weather.#", Queue::default()).unwrap();
        soon(companion.request::<_, Empty>("weather.today", &Empty {}, Meta::new()))
            .await
            .unwrap();
        companion
            .publish("ui.words", &delta(round), Meta::new())
            .unwrap();
        client
            .publish("weather.now", &delta(round), Meta::new())
            .unwrap();
        assert_eq!(index_of(&message(&mut words).await), round);
        assert_eq!(index_of(&message(&mut heard).await), round);
        // The credit of the new link is a whole queue again, several times.
        for index in 0..40 {
            companion
                .publish("ui.more", &delta(index), Meta::new())
                .unwrap();
            assert_eq!(index_of(&message(&mut words).await), index);
        }
        // The daemon goes in the middle of a request.
        let asked = client.request::<_, Empty>("near.work", &Empty {}, Meta::new());
        let stop = async {
            until(|| run.bus.stats().requests == 2).await;
            run.stop().await;
        };
        let (answer, ()) = soon(async { tokio::join!(asked, stop) }).await;
        assert_eq!(answer.unwrap_err(), RequestError::LinkLost);
        state(&link, |state| matches!(state, LinkState::Connecting { .. })).await;
        assert_eq!(
            client.publish("weather.now", &delta(9), Meta::new()),
            Err(BusError::LinkLost)
        );
        let asked = client.request::<_, Empty>("near.work", &Empty {}, Meta::new());
        assert_eq!(soon(asked).await.unwrap_err(), RequestError::LinkLost);
        // What is to be kept waits for the daemon.
        let kept = client
            .publish_durably(TOPIC, &numbered(round), Meta::new())
            .unwrap();
        run = site.start().await;
        assert_eq!(soon(kept).await.unwrap().place.sequence, round + 1);
        state(&link, is_connected).await;
        assert!(interrupted(&mut words).await);
        until(|| run.bus.stats().servers.len() == 1 && run.bus.stats().subscriptions.len() == 1)
            .await;
    }
    // Nothing is left of the links before.
    assert_eq!(run.bus.stats().peers, 1);
    link.close();
    soon(client.closed()).await;
    assert!(soon(words.recv()).await.is_none());
    assert_eq!(
        client.publish("weather.now", &delta(9), Meta::new()),
        Err(BusError::Closed)
    );
    until(|| run.bus.stats().peers == 0).await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_ends_with_the_last_that_uses_it() {
    let mut site = Site::new();
    let connection = site.admit("module:weather").await;
    let run = site.start().await;
    let (link, client) = linked(connection).await;
    let mut watch = link.watch();
    drop(link);
    let mut words = client.subscribe("ui.#", Queue::default()).unwrap();
    drop(client);
    soon(words.ready()).await.unwrap();
    drop(words);
    soon(watch.wait_for(|state| *state == LinkState::Closed))
        .await
        .unwrap();
    until(|| run.bus.stats().peers == 0).await;
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_was_cut_under_the_same_daemon_tells_the_gap_and_no_new_epoch() {
    let mut site = Site::new();
    let connection = site.admit("module:weather").await;
    let bus = bus();
    let listener = site.listen(&bus).await;
    let (link, client) = linked(connection).await;
    let mut words = client.subscribe("ui.#", Queue::default()).unwrap();
    soon(words.ready()).await.unwrap();
    let companion = bus.join(id("companion"));
    companion
        .publish("ui.words", &delta(1), Meta::new())
        .unwrap();
    assert_eq!(index_of(&message(&mut words).await), 1);
    listener.close().await;
    state(&link, |state| matches!(state, LinkState::Connecting { .. })).await;
    companion
        .publish("ui.words", &delta(2), Meta::new())
        .unwrap();
    let _listener = site.listen(&bus).await;
    assert!(!interrupted(&mut words).await);
    until(|| bus.stats().subscriptions.len() == 1).await;
    companion
        .publish("ui.words", &delta(3), Meta::new())
        .unwrap();
    assert_eq!(index_of(&message(&mut words).await), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_goes_on_after_what_it_was_handed_last() {
    let mut site = Site::new();
    let connection = site.admit("module:lights").await;
    let mut run = site.start().await;
    publish(&run.bus, 1..=100).await;
    let (_link, client) = linked(connection).await;
    let small = Queue::new(16, 64 * 1024);
    let start = |start| client.follow("system.#", start, small);
    let mut all = soon(start(Start::First)).await.unwrap();
    let mut marked = soon(start(Start::Cursor("main".to_owned()))).await.unwrap();
    let mut quiet = soon(start(Start::Now)).await.unwrap();
    assert_eq!(numbers(&mut all, 10).await, (1..=10).collect::<Vec<_>>());
    for round in 0..3 {
        let first = 101 + round * 20;
        publish(&run.bus, first..first + 10).await;
        assert_eq!(
            numbers(&mut marked, 5).await,
            (first..first + 5).collect::<Vec<_>>()
        );
        // Less than it was handed: it does not come again all the same.
        marked.acknowledge(run.bus.stats().journal.unwrap().last.sequence - 8);
        // More is on its way to it than it took: that comes again, and once.
        run.stop().await;
        run = site.start().await;
        // Published while it may not be back yet.
        publish(&run.bus, first + 10..first + 20).await;
        assert_eq!(
            numbers(&mut marked, 15).await,
            (first + 5..first + 20).collect::<Vec<_>>()
        );
        let before = 11 + round * 30;
        assert_eq!(
            numbers(&mut all, 30).await,
            (before..before + 30).collect::<Vec<_>>()
        );
    }
    // It was handed nothing in three runs, and missed nothing.
    assert_eq!(
        numbers(&mut quiet, 60).await,
        (101..=160).collect::<Vec<_>>()
    );
    // What was acknowledged last reached the daemon, over whichever link.
    drop(marked);
    until(|| run.bus.stats().followers.len() == 2).await;
    let mut marked = soon(start(Start::Cursor("main".to_owned()))).await.unwrap();
    assert_eq!(numbers(&mut marked, 1).await, [143]);
    run.stop().await;
}

/// A private copy of a folder.
fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restore_what_is_kept_comes_again_and_nothing_is_passed_over() {
    let mut site = Site::new();
    let connection = site.admit("module:lights").await;
    let run = site.start().await;
    publish(&run.bus, 1..=20).await;
    let (_link, client) = linked(connection).await;
    let small = Queue::new(16, 64 * 1024);
    let start = |start| client.follow(TOPIC, start, small);
    let mut marked = soon(start(Start::Cursor("main".to_owned()))).await.unwrap();
    let mut all = soon(start(Start::First)).await.unwrap();
    publish(&run.bus, 21..=30).await;
    assert_eq!(numbers(&mut all, 30).await, (1..=30).collect::<Vec<_>>());
    assert_eq!(
        numbers(&mut marked, 10).await,
        (21..=30).collect::<Vec<_>>()
    );
    let acknowledged = run.bus.stats().journal.unwrap().last.sequence - 4;
    marked.acknowledge(acknowledged);
    taken(&client).await;
    run.stop().await;
    let (home, kept) = (site.home(), site.folder.path().join("kept"));
    copy(&home, &kept);

    // A second stretch, of which the copy knows nothing.
    let run = site.start().await;
    publish(&run.bus, 31..=60).await;
    assert_eq!(numbers(&mut all, 30).await, (31..=60).collect::<Vec<_>>());
    assert_eq!(
        numbers(&mut marked, 20).await,
        (31..=50).collect::<Vec<_>>()
    );
    run.stop().await;
    std::fs::remove_dir_all(&home).unwrap();
    copy(&kept, &home);

    // The sequences that they have seen are given to other messages.
    let run = site.start().await;
    publish(&run.bus, 101..=140).await;
    // Done with something of the journal that is gone: no cursor may move by that.
    marked.acknowledge(u64::MAX);
    let Followed::Skipped(skipped) = next(&mut all).await else {
        panic!("it was not told");
    };
    assert_eq!((skipped.why, skipped.next.sequence), (Why::OtherEpoch, 1));
    let wanted: Vec<_> = (1..=30).chain(101..=140).collect();
    assert_eq!(numbers(&mut all, 70).await, wanted);
    // At the cursor, as the copy has it.
    let Followed::Skipped(skipped) = next(&mut marked).await else {
        panic!("it was not told");
    };
    assert_eq!(
        (skipped.why, skipped.next.sequence),
        (Why::OtherEpoch, acknowledged + 1)
    );
    let wanted: Vec<_> = (27..=30).chain(101..=140).collect();
    assert_eq!(numbers(&mut marked, 6).await, wanted[..6]);
    run.stop().await;
    // The place in the new journal is one of it.
    let run = site.start().await;
    assert_eq!(numbers(&mut marked, 38).await, wanted[6..]);
    publish(&run.bus, [141]).await;
    assert_eq!(numbers(&mut marked, 1).await, [141]);
    assert_eq!(numbers(&mut all, 1).await, [141]);
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_locked_for_a_while_ends_no_follower_that_stood() {
    let mut site = Site::new();
    let connection = site.admit("module:lights").await;
    let mut run = site.start().await;
    let (_link, client) = linked(connection).await;
    let mut all = soon(client.follow(TOPIC, Start::First, Queue::default()))
        .await
        .unwrap();
    publish(&run.bus, [1]).await;
    assert_eq!(numbers(&mut all, 1).await, [1]);
    run.close_journal().await;
    until(|| run.bus.stats().followers.is_empty()).await;
    // Who begins now is told so.
    let refused = soon(client.follow(TOPIC, Start::First, Queue::default())).await;
    assert_eq!(refused.err(), Some(BusError::Journal(JournalFault::Locked)));
    let refused = client.publish_durably(TOPIC, &numbered(7), Meta::new());
    assert_eq!(
        soon(refused.unwrap()).await,
        Err(BusError::Journal(JournalFault::Locked))
    );
    run.journal = Some(site.open_journal(&run.bus));
    publish(&run.bus, [2]).await;
    assert_eq!(numbers(&mut all, 1).await, [2]);
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_a_state_and_is_not_tried_in_a_hurry() {
    let mut site = Site::new();
    let connection = site.admit("module:weather").await;
    let again = connection.credentials(&connection.endpoints[0]);
    let run = site.start().await;
    // Past the first refusal not within this test.
    let patient = Retry {
        refused: Duration::from_secs(3600),
        longest_refused: Duration::from_secs(3600),
        ..QUICK
    };
    let link = keep(connection, patient).unwrap();
    let client = soon(link.client()).await.unwrap();
    let mut words = client.subscribe("ui.#", Queue::default()).unwrap();
    soon(words.ready()).await.unwrap();
    run.listener.revoke(&id("module:weather")).await;
    let refused = state(&link, |state| matches!(state, LinkState::Refused { .. })).await;
    assert!(matches!(refused, LinkState::Refused { why, .. } if !why.is_empty()));
    until(|| run.bus.stats().turned_away == 1).await;
    assert_eq!(
        client.publish("weather.now", &delta(1), Meta::new()),
        Err(BusError::LinkLost)
    );
    // Others are turned away meanwhile; it does not come back.
    assert!(matches!(
        soon(aico_bus::link::connect(again)).await.map(|_| ()),
        Err(LinkError::Refused { .. })
    ));
    until(|| run.bus.stats().turned_away == 2).await;
    assert!(words.try_recv().is_none());
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_admitted_later_comes_in() {
    let mut site = Site::new();
    let connection = site.admit("module:weather").await;
    let bus = bus();
    let admitted = std::mem::take(&mut site.admitted);
    let listener = site.listen(&bus).await;
    let link = keep(connection, QUICK).unwrap();
    assert!(matches!(
        soon(link.client()).await.map(|_| ()),
        Err(LinkError::Refused { .. })
    ));
    let listed = admitted.iter().map(|(key, name)| (*key, id(name)));
    listener.admit_only(listed).await;
    state(&link, is_connected).await;
    assert!(soon(link.client()).await.is_ok());
}

#[test]
fn a_connection_file_is_read_or_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weather.json");
    let write = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
        Connection::read(&path)
    };
    let mut connection = Connection::generate("weather");
    connection.endpoints = vec!["tcp://127.0.0.1:1".to_owned()];
    let good = serde_json::to_string(&connection).unwrap();
    let read = write(&good, 0o600).unwrap();
    assert_eq!(
        (&read.name, &read.endpoints, &read.client_public),
        (
            &connection.name,
            &connection.endpoints,
            &connection.client_public
        )
    );
    assert!(read.client_secret == connection.client_secret);
    connection.version = 2;
    let newer = serde_json::to_string(&connection).unwrap();
    let bad = [
        (newer, 0o600),
        (good.replace("\"name\"", "\"names\""), 0o600),
        (good[..good.len() - 1].to_owned(), 0o600),
        (String::new(), 0o600),
        #[cfg(unix)]
        (good.clone(), 0o640),
    ];
    for (text, mode) in bad {
        let Err(LinkError::File { reason, .. }) = write(&text, mode) else {
            panic!("it was taken");
        };
        assert!(!reason.contains(&connection.client_secret), "{reason}");
    }
    assert!(matches!(
        Connection::read(&folder.path().join("absent")),
        Err(LinkError::File { .. })
    ));
    let nowhere = Connection::generate("weather");
    assert!(matches!(
        keep(nowhere, QUICK).map(|_| ()),
        Err(LinkError::Credentials)
    ));
}

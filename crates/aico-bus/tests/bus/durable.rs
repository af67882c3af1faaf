//! Durable topics as a module and a peer see them.

use std::sync::Arc;

use aico_bus::link::{Listener, connect, endpoint_in};
use aico_bus::{
    Bus, BusError, Client, Delivery, Followed, Follower, Identity, Journal, JournalFault, Meta,
    Place, Queue, Receipt, Retention, Start, Why,
};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::{Empty, SessionEnded};
use aico_vault::{KdfCost, Password, Vault};
use uuid::Uuid;

use crate::common::{bus, id, message, soon, until};

pub(crate) const TOPIC: &str = topics::SYSTEM_SESSION_ENDED;

/// A folder with an open vault.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) vault: Vault,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vault =
            Vault::create_with(&folder.path().join("home"), &password(), KdfCost::minimum())
                .unwrap()
                .0;
        Self { folder, vault }
    }

    pub(crate) fn attach(&self, bus: &Bus) -> Journal {
        self.attach_with(bus, Retention::default())
    }

    fn attach_with(&self, bus: &Bus, retention: Retention) -> Journal {
        let folder = self.vault.data().join("journal");
        let journal = Journal::open(Arc::new(self.vault.clone()), &folder, retention).unwrap();
        bus.attach_journal(&journal);
        journal
    }

    async fn listen(&self, bus: &Bus) -> Listener {
        let endpoint = endpoint_in(&self.folder.path().join("run")).unwrap();
        Listener::bind(bus, &endpoint).await.unwrap()
    }
}

pub(crate) fn password() -> Password {
    Password::new("velvet harbour moss lantern").unwrap()
}

async fn member(listener: &Listener, name: &str) -> Client {
    soon(connect(listener.issue(id(name)))).await.unwrap()
}

pub(crate) fn numbered(number: u64) -> SessionEnded {
    SessionEnded {
        sessions: vec![number.to_be_bytes().to_vec()],
    }
}

pub(crate) fn number_of(envelope: &impl AsRef<aico_contracts::v1::Envelope>) -> u64 {
    let ended: SessionEnded = aico_bus::decode(envelope.as_ref()).unwrap();
    u64::from_be_bytes(ended.sessions[0].as_slice().try_into().unwrap())
}

async fn keep(client: &Client, number: u64) -> Result<Receipt, BusError> {
    let pending = client.publish_durably(TOPIC, &numbered(number), Meta::new())?;
    soon(pending).await
}

/// The next messages, by number; what is skipped fails the test.
async fn next(follower: &mut Follower, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match soon(follower.recv()).await.unwrap() {
            Some(Followed::Message(envelope)) => numbers.push(number_of(&envelope)),
            other => panic!("a message was expected, not {other:?}"),
        }
    }
    numbers
}

async fn close(bus: &Bus, journal: Journal) {
    bus.detach_journal();
    tokio::task::spawn_blocking(move || journal.close().unwrap())
        .await
        .unwrap();
}

const REFUSED: Result<Receipt, BusError> = Err(BusError::Journal(JournalFault::Locked));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_publishes_durably_and_is_heard_at_once_and_later() {
    let (home, bus) = (Home::new(), bus());
    let (companion, gateway) = (bus.join(id("companion")), bus.join(id("gateway")));
    let mut live = gateway.subscribe("system.#", Queue::default()).unwrap();
    // Without a journal nobody hears it, and who publishes is told.
    assert_eq!(keep(&companion, 0).await, REFUSED);
    let refused = gateway.follow(TOPIC, Start::Now, Queue::default()).await;
    assert_eq!(refused.err(), Some(BusError::Journal(JournalFault::Locked)));
    let journal = home.attach(&bus);
    let first = keep(&companion, 1).await.unwrap();
    assert_eq!((first.place.sequence, first.repeated), (1, false));
    // A plain publish is kept as well.
    companion.publish(TOPIC, &numbered(2), Meta::new()).unwrap();
    for number in 1..=2 {
        assert_eq!(number_of(&message(&mut live).await), number);
    }
    assert!(live.try_recv().is_none());
    assert_eq!(keep(&companion, 3).await.unwrap().place.sequence, 3);
    let again = Meta::new().id(Uuid::from_u128(7));
    let receipt = |meta| {
        companion
            .publish_durably(TOPIC, &numbered(4), meta)
            .unwrap()
    };
    let kept = soon(receipt(again.clone())).await.unwrap();
    let repeated = soon(receipt(again)).await.unwrap();
    assert_eq!((repeated.place, repeated.repeated), (kept.place, true));
    let mut follower = soon(gateway.follow("system.#", Start::First, Queue::default()))
        .await
        .unwrap();
    assert_eq!(next(&mut follower, 4).await, [1, 2, 3, 4]);
    let live_topic = companion.publish_durably("ui.words", &Empty {}, Meta::new());
    assert_eq!(
        live_topic.err(),
        Some(BusError::Journal(JournalFault::NotDurable))
    );
    let stats = bus.stats();
    let figures = stats.journal.unwrap();
    assert_eq!(
        (figures.kept, figures.repeated, figures.last.sequence),
        (4, 1, 4)
    );
    assert_eq!((stats.followers.len(), stats.followers[0].position), (1, 4));
    close(&bus, journal).await;
    assert_eq!(
        soon(follower.recv()).await.err(),
        Some(BusError::Journal(JournalFault::Locked))
    );
    assert!(bus.stats().journal.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_hears_that_its_message_is_kept_and_a_repetition_is_heard_once() {
    let (home, bus) = (Home::new(), bus());
    let listener = home.listen(&bus).await;
    let mut live = bus
        .join(id("gateway"))
        .subscribe("system.#", Queue::default())
        .unwrap();
    let weather = member(&listener, "weather").await;
    // Refused with a type, and silently delivered to nobody.
    assert_eq!(keep(&weather, 0).await, REFUSED);
    weather.publish(TOPIC, &numbered(0), Meta::new()).unwrap();
    assert_eq!(keep(&weather, 0).await, REFUSED);
    assert!(live.try_recv().is_none());
    let journal = home.attach(&bus);
    let meta = || Meta::new().id(Uuid::from_u128(1));
    let publish = || {
        weather
            .publish_durably(TOPIC, &numbered(1), meta())
            .unwrap()
    };
    let (one, two) = (publish(), publish());
    let (one, two) = (soon(one).await.unwrap(), soon(two).await.unwrap());
    assert_eq!(one.place, two.place);
    assert_eq!(soon(publish()).await.unwrap().place, one.place);
    assert_eq!(keep(&weather, 2).await.unwrap().place.sequence, 2);
    for number in 1..=2 {
        let envelope = message(&mut live).await;
        assert_eq!(
            (number_of(&envelope), &*envelope.sender),
            (number, "weather")
        );
    }
    assert!(live.try_recv().is_none());
    // A person who is not there, and a topic of another person than the envelope says.
    let person = PersonId::new();
    let topic = topics::conversation_event(person, "answer-done");
    let send = |meta| weather.publish_durably(&topic, &Empty {}, meta).unwrap();
    let gone = soon(send(Meta::for_person(person))).await;
    assert_eq!(gone, Err(BusError::Journal(JournalFault::PersonGone)));
    let forged = soon(send(Meta::for_person(PersonId::new()))).await;
    assert!(matches!(
        forged,
        Err(BusError::Journal(JournalFault::Failed { .. }))
    ));
    let own = Password::new("their own long password").unwrap();
    home.vault.create_person(*person.as_bytes(), &own).unwrap();
    assert!(soon(send(Meta::new())).await.is_ok());
    let live_topic = weather.publish_durably("ui.words", &Empty {}, Meta::new());
    assert_eq!(
        live_topic.err(),
        Some(BusError::Journal(JournalFault::NotDurable))
    );
    close(&bus, journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_follows_from_where_it_wants_and_goes_on_at_its_cursor() {
    let (home, bus) = (Home::new(), bus());
    let listener = home.listen(&bus).await;
    let journal = home.attach(&bus);
    let companion = bus.join(id("companion"));
    let mut second = None;
    for number in 1..=300 {
        let receipt = keep(&companion, number).await.unwrap();
        second = second.or((number == 2).then_some(receipt.place));
    }
    let small = Queue::new(8, 64 * 1024);
    let lights = member(&listener, "lights").await;
    let mut all = soon(lights.follow("system.#", Start::First, small))
        .await
        .unwrap();
    let after = Start::After(second.unwrap());
    let mut rest = soon(lights.follow("system.#", after, small)).await.unwrap();
    let mut now = soon(lights.follow(TOPIC, Start::Now, small)).await.unwrap();
    let cursor = || Start::Cursor("main".to_owned());
    let mut marked = soon(lights.follow(TOPIC, cursor(), small)).await.unwrap();
    for number in 301..=600 {
        keep(&companion, number).await.unwrap();
    }
    assert_eq!(next(&mut all, 600).await, (1..=600).collect::<Vec<_>>());
    assert_eq!(next(&mut rest, 598).await, (3..=600).collect::<Vec<_>>());
    assert_eq!(next(&mut now, 300).await, (301..=600).collect::<Vec<_>>());
    assert_eq!(
        next(&mut marked, 100).await,
        (301..=400).collect::<Vec<_>>()
    );
    marked.acknowledge(390);
    // The heartbeat tells how far the journal is.
    let last = bus.stats().journal.unwrap().last;
    until(|| all.head() == Some(last)).await;
    until(|| {
        let stats = bus.stats();
        stats
            .followers
            .iter()
            .any(|follower| follower.position >= 400)
    })
    .await;
    // It goes away without a word and comes back.
    drop((all, rest, now, marked, lights));
    until(|| bus.stats().peers == 0 && bus.stats().followers.is_empty()).await;
    let lights = member(&listener, "lights").await;
    let mut marked = soon(lights.follow(TOPIC, cursor(), small)).await.unwrap();
    assert_eq!(
        next(&mut marked, 210).await,
        (391..=600).collect::<Vec<_>>()
    );
    // Too many cursors, and a name that is none.
    let refused = soon(lights.follow(TOPIC, Start::Cursor("a b".to_owned()), small)).await;
    assert_eq!(
        refused.err(),
        Some(BusError::Journal(JournalFault::CursorName))
    );
    close(&bus, journal).await;
    let ended = soon(marked.recv()).await.err();
    assert_eq!(ended, Some(BusError::Journal(JournalFault::Locked)));
    let refused = soon(lights.follow(TOPIC, cursor(), small)).await;
    assert_eq!(refused.err(), Some(BusError::Journal(JournalFault::Locked)));
    // Unlocked again: sequences go on, and so does the cursor.
    let journal = home.attach(&bus);
    assert_eq!(keep(&companion, 601).await.unwrap().place.sequence, 601);
    let mut marked = soon(lights.follow(TOPIC, cursor(), small)).await.unwrap();
    assert_eq!(next(&mut marked, 211).await.last(), Some(&601));
    close(&bus, journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_stops_reading_costs_nobody_anything_and_gets_the_rest() {
    let (home, bus) = (Home::new(), bus());
    let listener = home.listen(&bus).await;
    let journal = home.attach(&bus);
    let companion = bus.join(id("companion"));
    let lights = member(&listener, "lights").await;
    let queue = Queue::new(4, 1 << 20);
    let mut stopped = soon(lights.follow("system.#", Start::Now, queue))
        .await
        .unwrap();
    let mut reading = soon(lights.follow("system.#", Start::Now, Queue::default()))
        .await
        .unwrap();
    let reader = tokio::spawn(async move { next(&mut reading, 5000).await });
    for begin in (1..=5000).step_by(100) {
        let pending: Vec<_> = (begin..begin + 100)
            .map(|number| {
                let message = numbered(number);
                companion
                    .publish_durably(TOPIC, &message, Meta::new())
                    .unwrap()
            })
            .collect();
        for pending in pending {
            soon(pending).await.unwrap();
        }
    }
    assert_eq!(reader.await.unwrap(), (1..=5000).collect::<Vec<_>>());
    let positions: Vec<_> = bus.stats().followers.iter().map(|f| f.position).collect();
    assert!(positions.contains(&4), "{positions:?}");
    assert_eq!(
        next(&mut stopped, 5000).await,
        (1..=5000).collect::<Vec<_>>()
    );
    close(&bus, journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_hears_what_is_gone_and_where_it_goes_on() {
    let (home, bus) = (Home::new(), bus());
    let listener = home.listen(&bus).await;
    // Files of 64 KiB, 64 KiB in all: the oldest go soon.
    let little = Retention {
        bytes: 64 * 1024,
        ..Retention::default()
    };
    let journal = home.attach_with(&bus, little);
    let companion = bus.join(id("companion"));
    let begin = keep(&companion, 1).await.unwrap().place;
    let mut number = 1;
    while bus.stats().journal.unwrap().first == 1 {
        number += 1;
        keep(&companion, number).await.unwrap();
    }
    let lights = member(&listener, "lights").await;
    for (after, why) in [
        (begin, Why::Expired),
        (
            Place {
                epoch: [9; 16],
                sequence: number,
            },
            Why::OtherEpoch,
        ),
    ] {
        let mut follower = soon(lights.follow("#", Start::After(after), Queue::default()))
            .await
            .unwrap();
        let first = match soon(follower.recv()).await.unwrap() {
            Some(Followed::Skipped(skipped)) => {
                assert_eq!(skipped.why, why);
                let first = skipped.next.sequence;
                let missed = if why == Why::Expired { first - 2 } else { 0 };
                assert_eq!(skipped.missed, missed);
                first
            }
            other => panic!("{other:?}"),
        };
        let rest = next(&mut follower, (number + 1 - first) as usize).await;
        assert_eq!(rest, (first..=number).collect::<Vec<_>>());
    }
    close(&bus, journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_persons_messages_are_followed_by_nobody() {
    let (home, bus) = (Home::new(), bus());
    let listener = home.listen(&bus).await;
    let journal = home.attach(&bus);
    let companion = bus.join(id("companion"));
    let person = PersonId::new();
    let own = Password::new("their own long password").unwrap();
    home.vault.create_person(*person.as_bytes(), &own).unwrap();
    let topic = topics::conversation_event(person, "answer-done");
    keep(&companion, 1).await.unwrap();
    let pending = companion.publish_durably(&topic, &numbered(2), Meta::new());
    soon(pending.unwrap()).await.unwrap();
    keep(&companion, 3).await.unwrap();
    let lights = member(&listener, "lights").await;
    let start = || Start::First;
    let mut before = soon(lights.follow("#", start(), Queue::default()))
        .await
        .unwrap();
    assert_eq!(next(&mut before, 3).await, [1, 2, 3]);
    bus.forget_person(person);
    home.vault.erase_person(*person.as_bytes()).unwrap();
    let mut after = soon(lights.follow("#", start(), Queue::default()))
        .await
        .unwrap();
    assert_eq!(next(&mut after, 2).await, [1, 3]);
    assert_eq!(bus.stats().journal.unwrap().erased, 1);
    close(&bus, journal).await;
    // And after a restart, when nobody remembers the erasure.
    let journal = home.attach(&bus);
    let mut after = soon(lights.follow("#", start(), Queue::default()))
        .await
        .unwrap();
    assert_eq!(next(&mut after, 2).await, [1, 3]);
    close(&bus, journal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_subscription_of_a_peer_hears_durable_topics_too() {
    let (home, bus) = (Home::new(), bus());
    let listener = home.listen(&bus).await;
    let journal = home.attach(&bus);
    let lights = member(&listener, "lights").await;
    let mut live = lights.subscribe("system.#", Queue::default()).unwrap();
    live.ready().await.unwrap();
    keep(&bus.join(Identity::new("companion")), 1)
        .await
        .unwrap();
    match soon(live.recv()).await {
        Some(Delivery::Message(envelope)) => assert_eq!(number_of(&envelope), 1),
        other => panic!("{other:?}"),
    }
    close(&bus, journal).await;
}

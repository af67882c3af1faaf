//! What is refused at the doors of the bus, case by case, with pyzmq (libzmq and libsodium) at the
//! other end: rows 30 to 33 of the catalogue of hostile cases.
//!
//! `pyzmq.rs` has the honest peer in all its roles, and the one that survives kills (row 34).

use std::process::Stdio;
use std::sync::Arc;

use aico_bus::link::{Connection, Listener, endpoint_named, read_public_key};
use aico_bus::{Bus, Direction, Identity, Meta, Pattern, Policy, Queue, Refusal};
use aico_contracts::ids::PersonId;
use aico_contracts::v1::{AnswerDelta, Empty};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::common::{id, message, soon, until};
use crate::logged::{keep_log, logged};

/// Both doors.
const DOORS: [&str; 2] = ["router", "live"];

/// The grants of this suite: who, in which direction, on which patterns; and for whom.
#[derive(Default)]
struct Granted {
    topics: Vec<(&'static str, Direction, &'static str)>,
    persons: Vec<PersonId>,
}

impl Policy for Granted {
    fn allow(
        &self,
        who: &Identity,
        direction: Direction,
        topic: &str,
        person: Option<PersonId>,
    ) -> Result<(), Refusal> {
        let granted = who.as_str() == "companion"
            || self.topics.iter().any(|(name, way, pattern)| {
                let pattern: Pattern = pattern.parse().unwrap();
                *name == who.as_str()
                    && *way == direction
                    && (pattern.as_str() == topic || pattern.matches(topic))
            }) && person.is_none_or(|person| self.sees(who, person));
        granted
            .then_some(())
            .ok_or_else(|| Refusal::new("it was not granted"))
    }

    fn sees(&self, who: &Identity, person: PersonId) -> bool {
        who.as_str() == "companion" || self.persons.contains(&person)
    }

    fn reaches(&self, who: &Identity, prefix: &str) -> bool {
        self.topics.iter().any(|(name, way, pattern)| {
            let pattern: Pattern = pattern.parse().unwrap();
            *name == who.as_str() && *way == Direction::Subscribe && pattern.reaches(prefix)
        })
    }
}

/// A bus with both doors open.
struct House {
    bus: Bus,
    listener: Listener,
    _folder: tempfile::TempDir,
}

impl House {
    async fn with(policy: Arc<dyn Policy>) -> Self {
        keep_log();
        let bus = Bus::new(policy);
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let at = |name| endpoint_named(&run, name).unwrap();
        let listener = Listener::bind(&bus, &at("bus.sock")).await.unwrap();
        listener.bind_live_to(&at("live.sock")).await.unwrap();
        Self {
            bus,
            listener,
            _folder: folder,
        }
    }

    async fn open() -> Self {
        Self::with(Arc::new(aico_bus::AllowAll)).await
    }

    fn endpoint(&self, door: &str) -> String {
        match door {
            "live" => self.listener.live_endpoints().remove(0),
            _ => self.listener.endpoints().remove(0),
        }
    }

    /// Credentials of a listed key, with where to use them.
    fn issue(&self, name: &str, door: &str) -> Value {
        let mut given = serde_json::to_value(self.listener.issue(id(name))).unwrap();
        given["endpoint"] = self.endpoint(door).into();
        given["door"] = door.into();
        given
    }
}

/// A peer in Python; `None`, said aloud, where there is no pyzmq.
struct Peer {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Peer {
    async fn start(part: &str, mut given: Value) -> Option<Self> {
        let Some(program) = std::env::var_os("AICO_TEST_PYTHON") else {
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: AICO_TEST_PYTHON names no Python with pyzmq");
            }
            return None;
        };
        given["part"] = part.into();
        let mut child = Command::new(program)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/bus/conformance_peer.py"
            ))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut peer = Self {
            stdin: child.stdin.take().unwrap(),
            lines,
            _child: child,
        };
        peer.tell(&given.to_string()).await;
        Some(peer)
    }

    async fn tell(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
    }

    async fn says(&mut self) -> String {
        let line = soon(self.lines.next_line()).await.unwrap();
        line.expect("Python ended early")
    }
}

/// The first eight bytes of a key, as they are logged.
fn fingerprint(public: &str) -> String {
    let key = read_public_key(public).unwrap();
    key[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Row 31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_prove_a_listed_key_hears_nothing() {
    for door in DOORS {
        for case in [
            "unlisted",
            "revoked",
            "no-curve",
            "plain",
            "wrong-server-key",
            "secret-of-another-key",
        ] {
            let house = House::open().await;
            let daemon = house.bus.join(id("companion"));
            let mut given = house.issue("weather", door);
            let own = Connection::generate("weather");
            if case == "unlisted" {
                given["client_public"] = own.client_public.clone().into();
                given["client_secret"] = own.client_secret.clone().into();
            }
            if case == "secret-of-another-key" {
                given["client_secret"] = own.client_secret.clone().into();
            }
            if case == "revoked" {
                house.listener.revoke(&id("weather")).await;
            }
            given["case"] = case.into();
            let public = given["client_public"].as_str().unwrap().to_owned();
            let Some(mut peer) = Peer::start("stranger", given).await else {
                return;
            };
            assert_eq!(peer.says().await, "trying");
            let topics = async {
                loop {
                    daemon.publish("near.x", &Empty {}, Meta::new()).unwrap();
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            };
            let outcome = tokio::select! {
                outcome = peer.says() => outcome,
                () = topics => unreachable!(),
            };
            assert_eq!(outcome, "silence", "{case} at {door}");
            let stats = house.bus.stats();
            assert_eq!(stats.peers, 0, "{case} at {door}");
            assert!(stats.subscriptions.is_empty(), "{case} at {door}");
            // libzmq goes away by itself when our greeting names another mechanism than its own;
            // the ROUTER door may not have read anything of it by then.
            let leaves = matches!(case, "no-curve" | "plain") && door == "router";
            assert!(stats.turned_away > 0 || leaves, "{case} at {door}");
            if matches!(case, "unlisted" | "revoked") {
                logged(&["A stranger was refused", &fingerprint(&public)]).await;
            }
        }
    }
}

/// Row 31, by hand: what a greeting is answered with holds nothing that was published, and what
/// goes on otherwise than a handshake ends the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_handshake_end_the_connection() {
    // A greeting (64), and for some an error that names no topic.
    const MOST: usize = 128;
    for door in DOORS {
        for case in [
            "null-by-hand",
            "two-gib-command",
            "two-gib-message",
            "message-first",
            "ready-without-hello",
            "other-protocol",
        ] {
            let house = House::open().await;
            let daemon = house.bus.join(id("companion"));
            let mut given = house.issue("weather", door);
            given["case"] = case.into();
            let Some(mut peer) = Peer::start("raw", given).await else {
                return;
            };
            for _ in 0..10 {
                daemon.publish("near.x", &Empty {}, Meta::new()).unwrap();
            }
            let said = peer.says().await;
            let words: Vec<&str> = said.split(' ').collect();
            let [_, length, heard] = words[..] else {
                panic!("{said}");
            };
            assert!(
                length.parse::<usize>().unwrap() <= MOST,
                "{case} at {door}: {said}"
            );
            let topic = "6e656172"; // near
            assert!(!heard.contains(topic), "{case} at {door}: {said}");
            let stats = house.bus.stats();
            assert_eq!(stats.peers, 0, "{case} at {door}");
            until(|| house.bus.stats().turned_away > 0).await;
        }
    }
}

/// Row 32 at the ROUTER door: what was not granted is refused in every direction and audited, and
/// what a message says of its sender counts for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_key_does_what_it_was_granted_and_nothing_else() {
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let policy = Granted {
        topics: vec![
            ("weather", Direction::Publish, "weather.now"),
            (
                "weather",
                Direction::Publish,
                "conversation.*.event.answer-delta",
            ),
            ("weather", Direction::Subscribe, "a.b"),
            ("weather", Direction::Request, "far.work"),
            ("weather", Direction::Serve, "weather.today"),
        ],
        persons: vec![ann],
    };
    let house = House::with(Arc::new(policy)).await;
    let daemon = house.bus.join(id("companion"));
    let mut all = daemon.subscribe("#", Queue::default()).unwrap();
    let wanted = [
        ("subscribe", "a.b", true),
        ("subscribe", "a.bc", false),
        ("subscribe", "a.b.c", false),
        ("subscribe", "a", false),
        ("subscribe", "a.*", false),
        ("subscribe", "a.#", false),
        ("subscribe", "#", false),
        ("serve", "weather.today", true),
        ("serve", "weather.*", false),
        ("serve", "models.generate", false),
        ("request", "far.work", true),
        ("request", "far.works", false),
        ("request", "models.generate", false),
    ];
    // Fields 100 to 103 are the broker's stamp: sequence, epoch, sender, time; 4 is the person.
    let forged_stamp = "a006e807aa0606666f72676564b20609636f6d70616e696f6eb80601";
    let of = |person: PersonId| format!("2210{}", hex(person.as_bytes()));
    let topic_of = |person: PersonId| format!("conversation.{person}.event.answer-delta");
    let published = [
        ("weather.now".to_owned(), forged_stamp.to_owned(), true),
        ("weather.nowhere".into(), String::new(), false),
        ("weather.now.x".into(), String::new(), false),
        ("weather".into(), String::new(), false),
        ("a.b".into(), String::new(), false),
        ("weather.now".into(), of(ben), false),
        ("weather.now".into(), of(ann), true),
        (topic_of(ann), String::new(), true),
        (topic_of(ben), String::new(), false),
        (topic_of(ben), of(ann), false),
        (topic_of(ann), of(ben), false),
        (
            "conversation.me.event.answer-delta".into(),
            String::new(),
            false,
        ),
        ("weather.now".into(), String::new(), true),
    ];
    let mut given = house.issue("weather", "router");
    given["wanted"] = json!(wanted.map(|(way, pattern, _)| (way, pattern)));
    given["published"] = published
        .iter()
        .map(|(topic, extra, _)| json!([topic, extra]))
        .collect();
    let Some(mut peer) = Peer::start("member_of_little", given).await else {
        return;
    };
    for (way, pattern, granted) in wanted {
        let outcome = if granted { "granted" } else { "refused" };
        assert_eq!(peer.says().await, format!("{way} {pattern} {outcome}"));
    }
    for (topic, _, _) in published.iter().filter(|(_, _, granted)| *granted) {
        let envelope = message(&mut all).await;
        assert_eq!(
            (&*envelope.topic, &*envelope.sender),
            (topic.as_str(), "weather")
        );
        assert_eq!(envelope.epoch, house.bus.epoch().as_bytes()[..]);
        assert!(envelope.sequence < 500 && envelope.stamped_unix_ns > 1);
    }
    let by_policy = |granted: &[bool]| granted.iter().filter(|granted| !**granted).count() as u64;
    let asked: Vec<bool> = wanted.iter().map(|case| case.2).collect();
    let said: Vec<bool> = published.iter().map(|case| case.2).collect();
    // Three contradict themselves and are dropped before the policy is asked.
    let contradictions = 3;
    assert_eq!(
        house.bus.stats().refused,
        by_policy(&asked) + by_policy(&said) - contradictions
    );
    logged(&["The bus refused a member", "weather.nowhere", "publish"]).await;
    assert!(all.try_recv().is_none());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Row 32 at the plain door: a prefix gives nothing that the grant does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_brings_what_was_granted_and_nothing_else() {
    let (ann, ben) = (PersonId::new(), PersonId::new());
    let event = |person: PersonId| format!("conversation.{person}.event.x");
    let (anns, bens) = (event(ann), event(ben));
    let of_ben = format!("conversation.{ben}.");
    type Case<'a> = (&'static str, &'a [&'a str], &'a [&'a str], bool);
    // What is granted; the prefixes; what is heard; whether a prefix leads nowhere.
    let cases: [Case; 16] = [
        ("a.b", &["a.b"], &["a.b"], false),
        ("a.b", &[""], &["a.b"], false),
        ("a.b", &["a.bc"], &[], true),
        ("a.b", &["a.b."], &[], true),
        ("a.b.#", &["a.b"], &["a.b", "a.b.c"], false),
        ("a.*", &["a.b"], &["a.b", "a.bc"], false),
        ("a.#", &["a"], &["a.b", "a.bc", "a.b.c", "a.x"], false),
        (
            "a.#",
            &["a.x", "a.", ""],
            &["a.b", "a.bc", "a.b.c", "a.x"],
            false,
        ),
        ("ab.#", &["a"], &["ab.c"], false),
        ("other.#", &["a.", "conversation."], &[], true),
        ("other.#", &["", "a."], &["other.b"], true),
        ("a.#", &["$link", "a.*", "a.#", "\u{e4}"], &[], true),
        ("conversation.*.#", &[""], &[&anns], false),
        ("conversation.*.#", &["conversation."], &[&anns], false),
        ("conversation.*.#", &[&of_ben], &[], false),
        ("note.#", &["note."], &["note.ann", "note.all"], false),
    ];
    let names: Vec<String> = (0..cases.len()).map(|n| format!("module-{n}")).collect();
    let mut topics = vec![];
    for (name, case) in names.iter().zip(&cases) {
        let name: &'static str = name.clone().leak();
        topics.push((name, Direction::Subscribe, case.0));
        topics.push((name, Direction::Subscribe, "near.end"));
    }
    let persons = vec![ann];
    let house = House::with(Arc::new(Granted { topics, persons })).await;
    let daemon = house.bus.join(id("companion"));
    let sockets: Vec<Value> = names
        .iter()
        .zip(&cases)
        .map(|(name, case)| {
            let mut given = house.issue(name, "live");
            let prefixes: Vec<&str> = case.1.iter().copied().chain(["near.end"]).collect();
            given["prefixes"] = json!(prefixes);
            given
        })
        .collect();
    let given = json!({ "cases": sockets, "endpoint": house.endpoint("live") });
    let Some(mut peer) = Peer::start("subscribers", given).await else {
        return;
    };
    // The last prefix of each stands: so do those before it.
    until(|| {
        let stats = house.bus.stats().subscriptions;
        let stand = |one: &&aico_bus::SubscriptionStats| one.pattern.contains("near.end");
        stats.iter().filter(stand).count() == cases.len()
    })
    .await;
    let say = |topic: &str, meta| daemon.publish(topic, &Empty {}, meta).unwrap();
    for topic in ["a.b", "a.bc", "a.b.c", "ab.c", "a.x", "other.b", "note.all"] {
        say(topic, Meta::new());
    }
    say(&anns, Meta::for_person(ann));
    say(&bens, Meta::for_person(ben));
    say("note.ann", Meta::for_person(ann));
    say("note.ben", Meta::for_person(ben));
    say("near.end", Meta::new());
    let mut heard = vec![Vec::new(); cases.len()];
    loop {
        let line = peer.says().await;
        let words: Vec<&str> = line.split(' ').collect();
        let [number, topic, sender] = words[..] else {
            break;
        };
        assert_eq!(sender, "companion");
        heard[number.parse::<usize>().unwrap()].push(topic.to_owned());
    }
    for (case, mut heard) in cases.iter().zip(heard) {
        assert_eq!(heard.pop().as_deref(), Some("near.end"), "{case:?}");
        heard.sort_unstable();
        let mut expected = case.2.to_vec();
        expected.sort_unstable();
        assert_eq!(heard, expected, "{case:?}");
    }
    let nowhere = cases.iter().filter(|case| case.3).count() as u64;
    assert!(house.bus.stats().refused >= nowhere);
    for (name, case) in names.iter().zip(&cases) {
        if case.3 {
            logged(&["refused a prefix of a SUB socket", &format!("who={name} ")]).await;
        }
    }
}

/// Row 30: each is counted and dropped, the link stays and the bus too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_counted_and_dropped_and_what_is_newer_is_kept() {
    let house = House::open().await;
    let daemon = house.bus.join(id("companion"));
    let mut all = daemon.subscribe("#", Queue::default()).unwrap();
    let mut keepers = Vec::new();
    for door in DOORS {
        let given = house.issue(&format!("keeper-{door}"), door);
        let Some(mut keeper) = Peer::start("keeper", given).await else {
            return;
        };
        assert_eq!(keeper.says().await, "listening");
        keepers.push(keeper);
    }
    until(|| house.bus.stats().subscriptions.len() == 3).await;
    // "" of the plain door and near.good of the other, beside the daemon's own.
    until(|| {
        let all = house.bus.stats().subscriptions;
        all.iter().any(|one| one.pattern == "SUB \"\"")
    })
    .await;
    let mut peer = Peer::start("malformed", house.issue("weather", "router"))
        .await
        .unwrap();
    let mut count = 0;
    loop {
        let line = peer.says().await;
        if line == "all sent" {
            break;
        }
        let name = line.strip_prefix("sends ").unwrap();
        assert_eq!(peer.says().await, format!("sent {name}"));
        count += 1;
        assert_eq!(house.bus.stats().malformed, count, "{name}");
        assert_eq!(house.bus.stats().peers, 3, "{name}");
        peer.tell("").await;
    }
    assert!(count >= 20);
    // And one of two parts.
    until(|| house.bus.stats().malformed == count + 1).await;
    let envelope = message(&mut all).await;
    assert_eq!((&*envelope.topic, envelope.priority), ("near.good", 99));
    // Field 9999 with its length, then the text; field 6 with the value 99.
    let field = format!("faf0040f{}", hex(b"from the future"));
    for mut keeper in keepers {
        let said = keeper.says().await;
        assert!(said.contains(&field), "{said}");
        assert!(said.contains("3063"), "{said}");
    }
}

/// Row 30 at the plain door, where there is nothing to say but subscriptions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_socket_that_says_more_than_subscriptions_is_closed() {
    let subscribe = |prefix: &str| vec![format!("01{}", hex(prefix.as_bytes()))];
    // libzmq lets 1,000 wait until it is connected.
    let many = (0..900).map(|number| subscribe(&format!("near.{number}")));
    let cases = [
        ("a message", vec![vec![hex(b"hello")]], true),
        ("two parts", vec![vec![hex(b"\x01near"), hex(b"x")]], true),
        ("far too long", vec![subscribe(&"a".repeat(4096))], true),
        ("no topic", vec![subscribe("a..b")], false),
        ("too many", many.collect(), false),
    ];
    for (name, says, closes) in cases {
        let house = House::open().await;
        let mut given = house.issue("weather", "live");
        given["says"] = json!(says);
        let Some(mut peer) = Peer::start("upstream", given).await else {
            return;
        };
        assert_eq!(peer.says().await, "sent");
        if closes {
            until(|| house.bus.stats().malformed > 0).await;
            logged(&["A SUB socket sent what can't be read"]).await;
        } else {
            until(|| house.bus.stats().refused > 0).await;
            assert_eq!(house.bus.stats().malformed, 0, "{name}");
        }
        if name == "too many" {
            until(|| house.bus.stats().refused == 900 - 256).await;
            let pattern = &house.bus.stats().subscriptions[0].pattern;
            assert_eq!(pattern.split(' ').count(), 1 + 256);
        }
        // The bus goes on.
        let listed = house.issue("lights", "live");
        let mut other = Peer::start("lines", listed).await.unwrap();
        let daemon = house.bus.join(id("companion"));
        let heard = async {
            loop {
                daemon.publish("near.x", &Empty {}, Meta::new()).unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            line = other.says() => assert_eq!(line, "near.x"),
            () = heard => unreachable!(),
        }
    }
}

/// Row 33: who does not read costs its own queue; what it missed is counted and told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_stops_reading_is_told_how_much_it_missed() {
    const MESSAGES: u64 = 4000;
    for door in DOORS {
        let house = House::open().await;
        let daemon = house.bus.join(id("companion"));
        let Some(mut peer) = Peer::start("stopped", house.issue("weather", door)).await else {
            return;
        };
        assert_eq!(peer.says().await, "listening");
        until(|| {
            let all = house.bus.stats().subscriptions;
            all.iter().any(|one| one.pattern.contains("near."))
        })
        .await;
        let mut other = daemon
            .subscribe("near.#", Queue::new(MESSAGES as usize + 1, usize::MAX))
            .unwrap();
        let text = "x".repeat(16 * 1024);
        for index in 0..MESSAGES {
            let word = AnswerDelta {
                index,
                text: text.clone(),
                ..AnswerDelta::default()
            };
            daemon.publish("near.x", &word, Meta::new()).unwrap();
            let all = house.bus.stats().subscriptions;
            let peers = all.iter().find(|one| one.identity == "weather").unwrap();
            assert!(
                peers.waiting_bytes <= 4 << 20 && peers.waiting <= 1024,
                "{door}"
            );
            tokio::task::yield_now().await;
        }
        daemon.publish("near.end", &Empty {}, Meta::new()).unwrap();
        // Others heard everything.
        for _ in 0..=MESSAGES {
            message(&mut other).await;
        }
        let all = house.bus.stats().subscriptions;
        let peers = all.iter().find(|one| one.identity == "weather").unwrap();
        let dropped = peers.dropped;
        assert!(dropped > 0, "{door}");
        peer.tell("").await;
        let said = peer.says().await;
        let words: Vec<&str> = said.split(' ').collect();
        let heard: u64 = words[1].parse().unwrap();
        assert_eq!(words[3], dropped.to_string(), "{door}");
        assert_eq!(heard + dropped, MESSAGES + 1, "{door}: {said}");
        assert_eq!(house.bus.stats().dropped, dropped, "{door}");
    }
}

/// A key that is taken off the list while its socket hears.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_sub_socket_hears_no_more_and_does_not_come_back() {
    let house = House::open().await;
    let daemon = house.bus.join(id("companion"));
    let given = house.issue("weather", "live");
    let key = given["client_public"].as_str().unwrap().to_owned();
    let Some(mut peer) = Peer::start("lines", given).await else {
        return;
    };
    until(|| {
        house
            .bus
            .stats()
            .subscriptions
            .iter()
            .any(|one| one.pattern == "SUB \"\"")
    })
    .await;
    daemon
        .publish("near.before", &Empty {}, Meta::new())
        .unwrap();
    assert_eq!(peer.says().await, "near.before");
    house.listener.revoke_key(&key).await;
    until(|| house.bus.stats().peers == 0).await;
    // libzmq tries again by itself and is turned away.
    until(|| house.bus.stats().turned_away > 0).await;
    daemon
        .publish("near.after", &Empty {}, Meta::new())
        .unwrap();
    assert!(house.bus.stats().subscriptions.is_empty());
    let more = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        peer.lines.next_line(),
    );
    assert!(more.await.is_err(), "it heard something");
    logged(&["A stranger was refused", &fingerprint(&key)]).await;
}

/// Prefixes that are taken back bring nothing; a key has a bounded number of sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_has_several_sub_sockets_and_not_any_number() {
    let house = House::open().await;
    let daemon = house.bus.join(id("companion"));
    let mut one = house.issue("weather", "live");
    one["prefixes"] = json!(["a.", "b.", "near.end"]);
    one["taken_back"] = json!(["a."]);
    let cases: Vec<&Value> = std::iter::repeat_n(&one, 8).collect();
    let given = json!({ "cases": cases, "endpoint": house.endpoint("live") });
    let Some(mut peer) = Peer::start("subscribers", given).await else {
        return;
    };
    let stand = |house: &House| {
        let all = house.bus.stats().subscriptions;
        all.iter()
            .filter(|one| one.pattern == "SUB \"b.\" \"near.end\"")
            .count()
    };
    until(|| stand(&house) == 8).await;
    let mut ninth = Peer::start("lines", one.clone()).await.unwrap();
    until(|| house.bus.stats().turned_away > 0).await;
    assert_eq!(house.bus.stats().peers, 8);
    for topic in ["a.x", "b.x", "near.end"] {
        daemon.publish(topic, &Empty {}, Meta::new()).unwrap();
    }
    for _ in 0..16 {
        let line = peer.says().await;
        assert!(
            line.contains(" b.x ") || line.contains(" near.end "),
            "{line}"
        );
    }
    assert_eq!(peer.says().await, "done");
    // As soon as there is room, it comes in.
    let heard = async {
        loop {
            daemon.publish("near.x", &Empty {}, Meta::new()).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        line = ninth.says() => assert_eq!(line, "near.x"),
        () = heard => unreachable!(),
    }
}

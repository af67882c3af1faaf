//! The bus over CurveZMQ, both ends in this process: what works inside works across, and who must
//! stay outside does.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{bus, delta, id, index_of, message, soon, until};
use aico_bus::link::{Credentials, LinkError, Listener, connect, endpoint_in};
use aico_bus::{
    Bus, BusError, Client, Delivery, Direction, Identity, Meta, Policy, Queue, Refusal,
    RequestError,
};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::{AnswerDelta, CountTokens, Empty, Envelope, Fault, Frame, TokenCount};
use bytes::Bytes;
use omq_tokio::{CurveKeypair, CurvePublicKey, CurveSecretKey, Options, Socket, SocketType};
use prost::Message as _;

struct House {
    bus: Bus,
    listener: Listener,
    /// Removed after the socket in it.
    _folder: tempfile::TempDir,
}

async fn house_of(bus: Bus) -> House {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = endpoint_in(&folder.path().join("run")).unwrap();
    let listener = Listener::bind(&bus, &endpoint).await.unwrap();
    House {
        bus,
        listener,
        _folder: folder,
    }
}

async fn house() -> House {
    house_of(bus()).await
}

impl House {
    async fn child(&self, name: &str) -> Client {
        soon(connect(self.listener.issue(id(name)))).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_cross_the_link_in_both_directions() {
    let house = house().await;
    let child = house.child("model-process").await;
    assert_eq!(child.identity().as_str(), "model-process");
    let daemon = house.bus.join(id("companion"));
    let mut at_daemon = daemon.subscribe("models.#", Queue::default()).unwrap();
    let mut at_child = child.subscribe("ui.*", Queue::default()).unwrap();
    soon(at_child.ready()).await.unwrap();
    for index in 0..300 {
        daemon
            .publish("ui.words", &delta(index), Meta::new())
            .unwrap();
        daemon
            .publish("ui.words.deeper", &delta(999), Meta::new())
            .unwrap();
        child
            .publish("models.words", &delta(index), Meta::new())
            .unwrap();
    }
    for index in 0..300 {
        let envelope = message(&mut at_child).await;
        assert_eq!(
            (index_of(&envelope), &*envelope.sender),
            (index, "companion")
        );
        let envelope = message(&mut at_daemon).await;
        assert_eq!(
            (index_of(&envelope), &*envelope.sender),
            (index, "model-process")
        );
        assert_eq!(envelope.epoch, house.bus.epoch().as_bytes().as_slice());
    }
    drop(at_child);
    until(|| house.bus.stats().subscriptions.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_serves_answers_faults_and_streams() {
    let house = house().await;
    let child = house.child("model-process").await;
    let mut requests = child.serve("models.*", 4).unwrap();
    soon(requests.ready()).await.unwrap();
    tokio::spawn(async move {
        let _child = child;
        while let Some(request) = requests.recv().await {
            match &*request.envelope.topic {
                topics::MODELS_COUNT => request.reply(TokenCount {
                    tokens: 7,
                    context_length: 9,
                }),
                topics::MODELS_GENERATE => {
                    let mut responder = request.stream();
                    for index in 0..500 {
                        responder.send(delta(index)).await.unwrap();
                    }
                    responder.finish();
                }
                topics::MODELS_PAUSE => drop(request),
                _ => request.fault(Fault::busy("Not now")),
            }
        }
    });
    let daemon = house.bus.join(id("companion"));
    let question = CountTokens::default();
    let count: TokenCount = soon(daemon.request(topics::MODELS_COUNT, &question, Meta::new()))
        .await
        .unwrap();
    assert_eq!(count.tokens, 7);
    let fault = soon(daemon.request::<_, Empty>(topics::MODELS_USE, &question, Meta::new())).await;
    assert_eq!(fault.unwrap_err().fault().unwrap().code, "busy");
    let gone = soon(daemon.request::<_, Empty>(topics::MODELS_PAUSE, &question, Meta::new())).await;
    assert_eq!(gone.unwrap_err(), RequestError::ServerGone);
    let mut answers =
        soon(daemon.open_stream::<_, AnswerDelta>(topics::MODELS_GENERATE, &question, Meta::new()))
            .await
            .unwrap();
    for index in 0..500 {
        assert_eq!(soon(answers.next()).await.unwrap().unwrap().index, index);
    }
    assert!(soon(answers.next()).await.is_none());
    until(|| house.bus.stats().servers[0].in_progress == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_asks_the_daemon_and_another_child() {
    let house = house().await;
    let asker = house.child("asker").await;
    let server = house.child("server").await;
    let nobody = soon(asker.request::<_, Empty>("far.work", &Empty {}, Meta::new())).await;
    assert_eq!(
        nobody.unwrap_err(),
        RequestError::NobodyServes {
            topic: "far.work".into()
        }
    );
    let mut far = server.serve("far.work", 1).unwrap();
    soon(far.ready()).await.unwrap();
    let mut near = house
        .bus
        .join(id("companion"))
        .serve("near.work", 1)
        .unwrap();
    tokio::spawn(async move {
        loop {
            let request = tokio::select! {
                Some(request) = far.recv() => request,
                Some(request) = near.recv() => request,
                else => return,
            };
            assert_eq!(request.envelope.sender, "asker");
            let mut responder = request.stream();
            for index in 0..200 {
                responder.send(delta(index)).await.unwrap();
            }
            responder.end(delta(200));
        }
    });
    for topic in ["far.work", "near.work"] {
        let mut answers = soon(asker.open_stream::<_, AnswerDelta>(topic, &Empty {}, Meta::new()))
            .await
            .unwrap();
        for index in 0..=200 {
            assert_eq!(
                soon(answers.next()).await.unwrap().unwrap().index,
                index,
                "{topic}"
            );
        }
        assert!(soon(answers.next()).await.is_none());
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_crosses_the_link_and_leaves_no_server_stuck() {
    let house = house().await;
    let child = house.child("model-process").await;
    let mut requests = child.serve(topics::MODELS_GENERATE, 1).unwrap();
    soon(requests.ready()).await.unwrap();
    let (ended, mut has_ended) = tokio::sync::mpsc::channel(8);
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        let _child = child;
        while let Some(request) = requests.recv().await {
            let mut responder = request.stream();
            begun.send(()).await.unwrap();
            let mut index = 0;
            while responder.send(delta(index)).await.is_ok() && !responder.is_cancelled() {
                index += 1;
            }
            responder.end(delta(u64::MAX));
            ended.send(index).await.unwrap();
        }
    });
    let daemon = house.bus.join(id("companion"));
    let ask =
        || daemon.open_stream::<_, AnswerDelta>(topics::MODELS_GENERATE, &Empty {}, Meta::new());
    // Dropped without reading a word; dropped in the middle; cancelled and read to the end. The
    // server has to have taken the first: one that is cancelled before is never handed out.
    let answers = soon(ask()).await.unwrap();
    soon(has_begun.recv()).await.unwrap();
    drop(answers);
    soon(has_ended.recv()).await.unwrap();
    let mut answers = soon(ask()).await.unwrap();
    for index in 0..100 {
        assert_eq!(soon(answers.next()).await.unwrap().unwrap().index, index);
    }
    drop(answers);
    soon(has_ended.recv()).await.unwrap();
    let mut answers = soon(ask()).await.unwrap();
    assert_eq!(soon(answers.next()).await.unwrap().unwrap().index, 0);
    answers.cancel();
    let mut last = 0;
    while let Some(answer) = soon(answers.next()).await {
        last = answer.unwrap().index;
    }
    assert_eq!(last, u64::MAX);
    soon(has_ended.recv()).await.unwrap();
    until(|| house.bus.stats().servers[0].in_progress == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_holds_across_the_link() {
    let house = house().await;
    let child = house.child("model-process").await;
    let mut requests = child.serve(topics::MODELS_COUNT, 1).unwrap();
    soon(requests.ready()).await.unwrap();
    let daemon = house.bus.join(id("companion"));
    let meta = Meta::new().deadline_in(Duration::from_millis(200));
    let question = CountTokens::default();
    let asked = soon(daemon.request::<_, TokenCount>(topics::MODELS_COUNT, &question, meta));
    let (answer, request) = tokio::join!(asked, soon(requests.recv()));
    assert_eq!(answer.unwrap_err(), RequestError::DeadlinePassed);
    let responder = request.unwrap().stream();
    soon(responder.cancelled()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_does_not_read_is_told_its_gap_and_costs_a_bounded_queue() {
    let house = house().await;
    let child = house.child("slow").await;
    let mut slow = child.subscribe("ui.#", Queue::new(8, usize::MAX)).unwrap();
    soon(slow.ready()).await.unwrap();
    let daemon = house.bus.join(id("companion"));
    for index in 0..5000 {
        daemon
            .publish("ui.words", &delta(index), Meta::new())
            .unwrap();
        if index % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    until(|| house.bus.stats().subscriptions[0].dropped > 0).await;
    assert!(house.bus.stats().subscriptions[0].waiting <= 8);
    let (mut got, mut missed, mut next) = (0, 0, 0);
    while got + missed < 5000 {
        match soon(slow.recv()).await.unwrap() {
            Delivery::Message(envelope) => {
                let index = index_of(&envelope);
                assert!(index >= next, "out of order");
                next = index + 1;
                got += 1;
            }
            Delivery::Gap { missed: gap } => missed += gap,
            Delivery::Interrupted { .. } => panic!("the link was not lost"),
        }
    }
    assert_eq!(got + missed, 5000);
    assert!(missed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_daemon_goes_the_child_learns_it_at_once() {
    let house = house().await;
    let child = house.child("model-process").await;
    let _held = house
        .bus
        .join(id("companion"))
        .serve("near.work", 1)
        .unwrap();
    let mut subscription = child.subscribe("ui.#", Queue::default()).unwrap();
    let mut requests = child.serve("far.work", 1).unwrap();
    let asked = child.request::<_, Empty>("near.work", &Empty {}, Meta::new());
    let end = async {
        until(|| house.bus.stats().requests == 1).await;
        drop(house.listener);
    };
    let (answer, ()) = soon(async { tokio::join!(asked, end) }).await;
    assert_eq!(answer.unwrap_err(), RequestError::LinkLost);
    soon(child.closed()).await;
    assert!(soon(subscription.recv()).await.is_none());
    assert!(soon(requests.recv()).await.is_none());
    assert_eq!(
        child.publish("ui.x", &Empty {}, Meta::new()),
        Err(BusError::Closed)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_peer_is_cut_off_and_does_not_come_back() {
    let house = house().await;
    let credentials = house.listener.issue(id("weather"));
    let again = copy(&credentials);
    let child = soon(connect(credentials)).await.unwrap();
    let other = house.child("other").await;
    house.listener.revoke(&id("weather")).await;
    soon(child.closed()).await;
    assert!(soon(connect(again)).await.is_err());
    // Who was not meant stays.
    let mut subscription = other.subscribe("ui.#", Queue::default()).unwrap();
    soon(subscription.ready()).await.unwrap();
    until(|| house.bus.stats().peers == 1).await;
}

fn copy(credentials: &Credentials) -> Credentials {
    serde_json::from_str(&serde_json::to_string(credentials).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_not_issued_is_refused() {
    let house = house().await;
    let mut stranger = copy(&house.listener.issue(id("weather")));
    let keys = CurveKeypair::generate();
    stranger.client_public = keys.public.to_z85();
    stranger.client_secret = keys.secret.to_z85();
    let refused = soon(connect(stranger)).await;
    assert!(matches!(
        refused.map(|_| ()),
        Err(LinkError::Refused { .. })
    ));
    until(|| house.bus.stats().turned_away == 1).await;
    assert_eq!(house.bus.stats().peers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_with_another_key_is_not_talked_to() {
    let house = house().await;
    let mut credentials = copy(&house.listener.issue(id("weather")));
    credentials.server_public = CurveKeypair::generate().public.to_z85();
    assert!(soon(connect(credentials)).await.is_err());
    assert_eq!(house.bus.stats().peers, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_credentials_and_an_address_where_nobody_listens_are_errors() {
    let house = house().await;
    let mut mixed = copy(&house.listener.issue(id("weather")));
    mixed.client_public = CurveKeypair::generate().public.to_z85();
    assert!(matches!(
        connect(mixed).await.map(|_| ()),
        Err(LinkError::Credentials)
    ));
    let mut nowhere = copy(&house.listener.issue(id("weather")));
    nowhere.endpoint = format!("{}.absent", nowhere.endpoint);
    assert!(matches!(
        soon(connect(nowhere)).await.map(|_| ()),
        Err(LinkError::Connect { .. })
    ));
}

/// A socket of the crate below, for what our own child would never do.
async fn raw(credentials: &Credentials, change: impl FnOnce(Options) -> Options) -> Socket {
    let server = CurvePublicKey::from_z85(&credentials.server_public).unwrap();
    let keys = CurveKeypair {
        public: CurvePublicKey::from_z85(&credentials.client_public).unwrap(),
        secret: CurveSecretKey::from_z85(&credentials.client_secret).unwrap(),
    };
    let options = change(Options::default().curve_client(keys, server));
    let socket = Socket::try_new(SocketType::Dealer, options).unwrap();
    socket.connect(credentials.endpoint.as_str()).await.unwrap();
    socket
}

fn frame(envelope: &Envelope) -> Bytes {
    let envelopes = vec![Bytes::from(envelope.encode_to_vec())];
    let topic = envelope.topic.to_string();
    Bytes::from(
        Frame {
            version: 1,
            topic,
            envelopes,
            receiver: 0,
            missed: 0,
        }
        .encode_to_vec(),
    )
}

fn plain(topic: &str) -> Envelope {
    Envelope {
        id: Bytes::from_static(&[7; 16]),
        topic: topic.into(),
        payload_type: "aico.v1.AnswerDelta".into(),
        payload: Bytes::from(delta(5).encode_to_vec()),
        ..Envelope::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_curve_or_with_a_routing_id_of_its_own_gets_nothing_through() {
    let house = house().await;
    let mut all = house
        .bus
        .join(id("audit"))
        .subscribe("#", Queue::default())
        .unwrap();
    let credentials = house.listener.issue(id("weather"));
    let open = Socket::try_new(SocketType::Dealer, Options::default()).unwrap();
    open.connect(credentials.endpoint.as_str()).await.unwrap();
    let _ = open.try_send(omq_tokio::Message::single(frame(&plain("ui.x"))));
    until(|| house.bus.stats().turned_away >= 1).await;
    let named = raw(&credentials, |options| options.identity("companion")).await;
    let _ = named.try_send(omq_tokio::Message::single(frame(&plain("ui.x"))));
    let before = house.bus.stats().turned_away;
    until(|| house.bus.stats().turned_away > before).await;
    assert!(all.try_recv().is_none());
    assert_eq!(house.bus.stats().peers, 0);
    drop((open, named));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_sender_is_overwritten_and_unknown_fields_reach_the_other_peer() {
    let house = house().await;
    let receiver = house.listener.issue(id("receiver"));
    let receiver = raw(&receiver, |options| options).await;
    let subscribe = aico_contracts::v1::control::SubscribeTo {
        id: 3,
        pattern: "ui.#".into(),
        messages: 10,
        bytes: 10_000,
    };
    let say = aico_contracts::v1::control::Say::Subscribe(subscribe);
    let control = aico_contracts::v1::Control { say: Some(say) };
    let control = Envelope {
        topic: "$link".into(),
        payload_type: "aico.v1.Control".into(),
        payload: Bytes::from(control.encode_to_vec()),
        ..Envelope::default()
    };
    receiver
        .send(omq_tokio::Message::single(frame(&control)))
        .await
        .unwrap();
    until(|| house.bus.stats().subscriptions.len() == 1).await;

    let weather = house.listener.issue(id("weather"));
    let weather = raw(&weather, |options| options).await;
    let mut forged = plain("ui.x");
    forged.sender = "companion".into();
    forged.sequence = 99;
    forged.epoch = Bytes::from_static(&[9; 16]);
    let mut encoded = forged.encode_to_vec();
    // Field 9000, a string: from a newer version of the contracts.
    prost::encoding::string::encode(9000, &"from the future".to_owned(), &mut encoded);
    let sent = Frame {
        version: 1,
        topic: "ui.x".into(),
        envelopes: vec![encoded.into()],
        receiver: 0,
        missed: 0,
    };
    let sent = omq_tokio::Message::single(sent.encode_to_vec());
    weather.send(sent).await.unwrap();
    loop {
        let bytes = soon(receiver.recv()).await.unwrap().into_bytes().unwrap();
        let frame = Frame::decode(bytes).unwrap();
        if frame.topic != "ui.x" {
            continue;
        }
        assert_eq!(frame.receiver, 3);
        let bytes = &frame.envelopes[0];
        assert!(bytes.windows(15).any(|part| part == b"from the future"));
        let envelope = Envelope::decode(bytes.clone()).unwrap();
        assert_eq!((&*envelope.sender, envelope.sequence), ("weather", 1));
        assert_eq!(envelope.epoch, house.bus.epoch().as_bytes().as_slice());
        break;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_counted_and_dropped_and_the_bus_stays_up() {
    let house = house().await;
    let mut all = house
        .bus
        .join(id("audit"))
        .subscribe("#", Queue::default())
        .unwrap();
    let credentials = house.listener.issue(id("weather"));
    let peer = raw(&credentials, |options| options).await;
    let envelope = plain("ui.x").encode_to_vec();
    let other_topic = Frame {
        version: 1,
        topic: "ui.y".into(),
        envelopes: vec![envelope.clone().into()],
        receiver: 0,
        missed: 0,
    };
    let newer = Frame {
        version: 2,
        ..other_topic.clone()
    };
    let bad: Vec<Vec<u8>> = vec![
        vec![],
        b"hello".to_vec(),
        vec![0xff; 100],
        // A field of 2 GiB that is not there.
        vec![0x1a, 0xff, 0xff, 0xff, 0xff, 0x07],
        other_topic.encode_to_vec(),
        newer.encode_to_vec(),
        frame(&Envelope {
            id: Bytes::new(),
            ..plain("ui.x")
        })
        .to_vec(),
        frame(&plain("ui.*")).to_vec(),
        frame(&plain("$link")).to_vec(),
    ];
    let count = bad.len() as u64;
    for bytes in bad {
        peer.send(omq_tokio::Message::single(bytes)).await.unwrap();
    }
    peer.send(omq_tokio::Message::multipart([
        Bytes::from_static(b"a"),
        frame(&plain("ui.x")),
    ]))
    .await
    .unwrap();
    peer.send(omq_tokio::Message::single(frame(&plain("ui.x"))))
        .await
        .unwrap();
    assert_eq!(index_of(&message(&mut all).await), 5);
    assert_eq!(house.bus.stats().malformed, count + 1);
    assert!(all.try_recv().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_beyond_the_limit_ends_that_link_and_no_other() {
    let house = house().await;
    let other = house.child("other").await;
    let credentials = house.listener.issue(id("weather"));
    let peer = raw(&credentials, |options| {
        options.reconnect(omq_tokio::ReconnectPolicy::Disabled)
    })
    .await;
    peer.send(omq_tokio::Message::single(frame(&plain("ui.x"))))
        .await
        .unwrap();
    until(|| house.bus.stats().peers == 2).await;
    let huge = vec![0; aico_bus::link::MAX_FRAME + 100_000];
    let _ = peer.send(omq_tokio::Message::single(huge)).await;
    until(|| house.bus.stats().peers == 1).await;
    let mut subscription = other.subscribe("ui.#", Queue::default()).unwrap();
    soon(subscription.ready()).await.unwrap();
}

/// `weather` may publish on `weather.#` and nothing else; everyone else may do everything.
struct WeatherOnly;

impl Policy for WeatherOnly {
    fn allow(
        &self,
        who: &Identity,
        direction: Direction,
        topic: &str,
        _: Option<PersonId>,
    ) -> Result<(), Refusal> {
        let own = direction == Direction::Publish && topic.starts_with("weather.");
        if who.as_str() != "weather" || own {
            Ok(())
        } else {
            Err(Refusal::new("not granted"))
        }
    }

    fn sees(&self, _: &Identity, _: PersonId) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_holds_for_peers_in_every_direction() {
    let house = house_of(Bus::new(Arc::new(WeatherOnly))).await;
    let daemon = house.bus.join(id("companion"));
    let mut all = daemon.subscribe("#", Queue::default()).unwrap();
    let _served = daemon.serve("near.work", 1).unwrap();
    let child = house.child("weather").await;
    let mut subscription = child.subscribe("weather.#", Queue::default()).unwrap();
    assert!(matches!(
        soon(subscription.ready()).await,
        Err(BusError::RefusedByPeer { .. })
    ));
    assert!(soon(subscription.recv()).await.is_none());
    let mut requests = child.serve("weather.today", 1).unwrap();
    assert!(soon(requests.ready()).await.is_err());
    let asked = soon(child.request::<_, Empty>("near.work", &Empty {}, Meta::new())).await;
    assert!(matches!(asked, Err(RequestError::Refused(_))));
    child.publish("ui.x", &delta(1), Meta::new()).unwrap();
    child
        .publish("weather.today", &delta(2), Meta::new())
        .unwrap();
    assert_eq!(index_of(&message(&mut all).await), 2);
    assert_eq!(house.bus.stats().refused, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_is_one_connection() {
    let house = house().await;
    let credentials = house.listener.issue(id("weather"));
    let second = copy(&credentials);
    let first = soon(connect(credentials)).await.unwrap();
    assert!(soon(connect(second)).await.is_err());
    let mut subscription = first.subscribe("ui.#", Queue::default()).unwrap();
    soon(subscription.ready()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_also_stands_over_tcp() {
    let bus = bus();
    let listener = Listener::bind(&bus, "tcp://127.0.0.1:0").await.unwrap();
    let child = soon(connect(listener.issue(id("model-process"))))
        .await
        .unwrap();
    let mut requests = child.serve("far.work", 1).unwrap();
    soon(requests.ready()).await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            request.reply(Empty {});
        }
    });
    let daemon = bus.join(id("companion"));
    soon(daemon.request::<_, Empty>("far.work", &Empty {}, Meta::new()))
        .await
        .unwrap();
}

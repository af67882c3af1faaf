//! The readers of a link, for [`crate::fuzzing`].

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use aico_contracts::v1::{Empty, Envelope, SessionEnded, control};
use aico_contracts::{Payload, SCHEMA_VERSION, topics};
use bytes::Bytes;
use futures_util::FutureExt as _;
use omq_tokio::{Message, Socket, SocketType};
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::outbox::{Outbox, Wire};
use super::peer::Peer;
use super::port::Alive;
use super::session::Session;
use super::uplink::Uplink;
use super::wire::{self, LINK_TOPIC, MAX_ENVELOPES, Read};
use super::{connect, options};
use crate::fuzzing::check_stamp;
use crate::identity::{AllowAll, Identity};
use crate::journal::Start;
use crate::meta::Meta;
use crate::parcel::{Kind, exchange};
use crate::pattern::check_topic;
use crate::port::{Port as _, Speaker};
use crate::queue::{Delivery, Queue};
use crate::{Bus, hub::Hub};

/// The id of what this end asks and publishes, so that the other can answer it.
const ID: [u8; 16] = *b"an id of our own";

/// Bytes as a frame, read and thrown away: for what it costs.
pub fn read(data: &[u8]) {
    let _ = wire::read(Bytes::copy_from_slice(data));
}

/// Bytes as a frame: what is read says again what it said, and is within the limits.
pub fn frame(data: &[u8]) {
    match wire::read(Bytes::copy_from_slice(data)) {
        Err(_) => {}
        Ok(Read::Control(said)) => {
            assert!(!said.is_empty() && said.len() <= MAX_ENVELOPES);
            for say in said {
                let again = wire::read(wire::control(say.clone()));
                assert!(matches!(again, Ok(Read::Control(again)) if again == [say]));
            }
        }
        Ok(Read::Parcels { receiver, parcels }) => {
            assert!(!parcels.is_empty() && parcels.len() <= MAX_ENVELOPES);
            let topic = parcels
                .first()
                .map(|(envelope, _)| envelope.topic.clone())
                .unwrap_or_default();
            assert!(check_topic(&topic).is_ok());
            for (envelope, wire) in &parcels {
                assert_eq!(envelope.topic, topic);
                assert_eq!(envelope.id.len(), 16);
                check_stamp(envelope, wire);
            }
            // As it came, and as this build writes it.
            let came = parcels.iter().map(|(_, wire)| wire.clone()).collect();
            let ours = parcels
                .iter()
                .map(|(envelope, _)| Bytes::from(envelope.encode_to_vec()))
                .collect();
            for encoded in [came, ours] {
                let again = wire::read(wire::frame_of_bytes(&topic, encoded, receiver));
                let Ok(Read::Parcels {
                    receiver: to,
                    parcels: again,
                }) = again
                else {
                    unreachable!("it can't be read again");
                };
                assert_eq!(to, receiver);
                assert!(
                    again
                        .iter()
                        .map(|(envelope, _)| envelope)
                        .eq(parcels.iter().map(|(envelope, _)| envelope))
                );
            }
        }
    }
}

/// What a link needs around it, made once: nothing listens at the other end of the socket.
struct World {
    runtime: Runtime,
    socket: Socket,
}

impl World {
    fn new() -> Option<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().ok()?;
        let socket = {
            let _inside = runtime.enter();
            Socket::try_new(SocketType::Dealer, options()).ok()?
        };
        Some(Self { runtime, socket })
    }
}

thread_local! {
    static WORLD: Option<World> = World::new();
}

/// Runs what `work` makes of a session with an end that says nothing by itself.
fn with_session<F: Future<Output = ()>>(
    stamp: Option<Speaker>,
    work: impl FnOnce(Arc<Session>) -> F,
) {
    WORLD.with(|world| {
        assert!(world.is_some(), "no runtime or no socket");
        let Some(world) = world else { return };
        world.runtime.block_on(async {
            let closed = CancellationToken::new();
            let outbox = Outbox::start(Wire::Dealer(world.socket.clone()), closed.clone());
            work(Session::new(outbox, stamp, closed.clone())).await;
            closed.cancel();
            settle().await;
        });
    });
}

/// Lets every task run for as long as it has something to do at once.
async fn settle() {
    for _ in 0..6 {
        tokio::task::yield_now().await;
    }
}

/// The bytes as messages, each after two bytes of its length and one that says its shape: bytes
/// as they are, an envelope, or a control message, the latter two in a frame.
fn messages(mut data: &[u8]) -> Vec<Bytes> {
    let mut out = Vec::new();
    while let Some(([low, high, shape], rest)) = data.split_first_chunk::<3>() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (message, rest) = rest.split_at(len);
        data = rest;
        let message = Bytes::copy_from_slice(message);
        out.push(match shape % 3 {
            0 => message,
            1 => {
                let read = Envelope::decode(message.clone()).unwrap_or_default();
                wire::frame_of_bytes(&read.topic, vec![message], u64::from(shape / 3))
            }
            _ => {
                let envelope = Envelope {
                    topic: LINK_TOPIC.into(),
                    payload_type: aico_contracts::v1::Control::TYPE.into(),
                    payload: message,
                    ..Envelope::default()
                };
                wire::frame_of_bytes(LINK_TOPIC, vec![envelope.encode_to_vec().into()], 0)
            }
        });
    }
    out
}

fn request() -> Envelope {
    Envelope {
        id: Bytes::from_static(&ID),
        topic: "ask.it".into(),
        schema_version: SCHEMA_VERSION,
        payload_type: Empty::TYPE.into(),
        exchange: exchange(Kind::Request, 0),
        ..Envelope::default()
    }
}

/// A parcel that came from the peer: stamped by the bus, in the envelope and in its bytes.
fn check_came_from_peer(envelope: &Envelope, bus: &Bus) {
    assert_eq!(envelope.sender, "peer");
    assert_eq!(envelope.epoch, bus.epoch().as_bytes()[..]);
    let now = crate::ids::now_ns();
    assert!(envelope.stamped_unix_ns <= now && envelope.stamped_unix_ns + 60_000_000_000 > now);
    if let Some(person) = topics::person_of(&envelope.topic) {
        assert_eq!(envelope.person, person.as_bytes()[..], "of another person");
    }
}

/// Bytes as what a peer sends, message after message, to a daemon that publishes to it, asks it
/// and answers it. Whatever it says, the bus says who spoke.
pub fn peer(data: &[u8]) {
    let bus = Bus::new(Arc::new(AllowAll));
    let hub: Arc<Hub> = bus.hub().clone();
    let member = hub.member(Identity::new("peer"));
    with_session(Some(member.speaker().clone()), async |session| {
        let peer = Peer::new(hub.clone(), member, session);
        let inside = bus.join(Identity::new("inside"));
        let (Ok(mut subscription), Ok(mut requests)) = (
            inside.subscribe("#", Queue::default()),
            inside.serve("serve.#", 4),
        ) else {
            unreachable!("the policy allows everything");
        };
        let mut asked = None;
        for (index, message) in messages(data).into_iter().enumerate() {
            peer.take(Message::single(message));
            settle().await;
            if index % 4 == 1 {
                // To what the peer has subscribed to.
                let _ = inside.publish("a.b", &Empty {}, Meta::new());
            }
            if asked.is_none() {
                let who = hub.member(Identity::new("inside"));
                asked = hub.ask(&who, request(), None).ok();
                settle().await;
            }
            while let Some(Some(request)) = requests.recv().now_or_never() {
                check_came_from_peer(&request.envelope, &bus);
                if index % 2 == 0 {
                    request.reply(Empty {});
                }
            }
            while let Some(Some(Ok(parcel))) = asked
                .as_mut()
                .and_then(|(_, answers)| answers.recv().now_or_never())
            {
                check_came_from_peer(&parcel.envelope, &bus);
                assert_eq!(parcel.envelope.topic, "ask.it");
                let read = Envelope::decode(parcel.encoded());
                assert!(read.is_ok_and(|read| read == *parcel.envelope));
            }
        }
        while let Some(delivery) = subscription.try_recv() {
            if let Delivery::Message(envelope) = delivery
                && envelope.sender != "inside"
            {
                check_came_from_peer(&envelope, &bus);
            }
        }
        let stats = bus.stats();
        assert!(stats.subscriptions.len() <= 257 && stats.servers.len() <= 257);
        peer.close();
    });
    bus.close();
}

/// Bytes as what a daemon sends, message after message, to a child that subscribes, serves, asks,
/// follows and publishes.
pub fn uplink(data: &[u8]) {
    with_session(None, async |session| {
        let welcome = control::Welcome {
            identity: "child".to_owned(),
            epoch: Bytes::from_static(&[9; 16]),
            ..control::Welcome::default()
        };
        let uplink = Uplink::new(false, session.closed.clone());
        uplink.begin(session.clone(), welcome.epoch.clone());
        let client = connect::client(&welcome, Arc::new(Alive(uplink.clone())));
        let subscription = client.subscribe("a.#", Queue::default());
        let requests = client.serve("serve.#", 4);
        let meta = || Meta::new().id(uuid::Uuid::from_bytes(ID));
        let message = SessionEnded::default();
        let mut kept = client.publish_durably(topics::SYSTEM_SESSION_ENDED, &message, meta());
        let tasks = [
            tokio::spawn({
                let client = client.clone();
                async move {
                    let asked = client.open_stream::<_, Empty>("ask.it", &Empty {}, meta());
                    if let Ok(mut answers) = asked.await {
                        while answers.next().await.is_some() {}
                    }
                }
            }),
            tokio::spawn({
                let client = client.clone();
                async move {
                    let following = client.follow("system.#", Start::First, Queue::default());
                    if let Ok(mut follower) = following.await {
                        while let Ok(Some(_)) = follower.recv().await {}
                    }
                }
            }),
        ];
        settle().await;
        let (Ok(mut subscription), Ok(mut requests)) = (subscription, requests) else {
            unreachable!("the link is open");
        };
        for message in messages(data) {
            let _ = uplink.take(&session, message);
            settle().await;
            while let Some(Some(request)) = requests.recv().now_or_never() {
                assert!(
                    request
                        .deadline()
                        .is_none_or(|at| at > SystemTime::UNIX_EPOCH)
                );
                request.reply(Empty {});
            }
            while let Some(Delivery::Message(envelope)) = subscription.try_recv() {
                assert!(check_topic(&envelope.topic).is_ok());
            }
            if let Ok(pending) = &mut kept
                && let Some(outcome) = pending.now_or_never()
            {
                drop(outcome);
                kept = Err(crate::BusError::Closed);
            }
        }
        uplink.close();
        settle().await;
        // Whatever was said: when the link ends everybody who waits is told.
        for task in tasks {
            assert!(task.await.is_ok());
        }
    });
}

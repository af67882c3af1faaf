//! The numbers of a person's stream: the same for everybody, and none lost or doubled.

use std::time::Duration;

use aico_gateway::Limits;
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Person, Socket, World, soon};

/// What a client remembers of the stream between its connections.
struct Follower {
    epoch: Value,
    seq: u64,
    /// Indices of the deltas, in the order in which they came.
    indices: Vec<u64>,
}

impl Follower {
    fn resume(&self) -> Option<Value> {
        (self.epoch != Value::Null).then(|| json!({"epoch": self.epoch, "seq": self.seq}))
    }

    /// Reads until this index has come, or so many events.
    async fn read(&mut self, socket: &mut Socket, until: u64, most: usize) {
        for _ in 0..most {
            if self.indices.last() == Some(&until) {
                return;
            }
            let frame = socket.frame().await;
            assert_eq!(frame["type"], "event", "{frame}");
            let seq = frame["seq"].as_u64().unwrap();
            assert_eq!(seq, self.seq + 1, "a number was left out or came twice");
            self.seq = seq;
            self.indices.push(frame["event"]["index"].as_u64().unwrap());
        }
    }
}

/// xorshift: the same schedule for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

async fn one_schedule(world: &World, owner: &Person, seed: u64) {
    const EVENTS: u64 = 400;
    let mut dice = Dice(seed);
    let mut follower = Follower {
        epoch: Value::Null,
        seq: 0,
        indices: Vec::new(),
    };
    // Connected once before it begins: what was before is read by REST.
    let (socket, first) = world.follow(&owner.token, None).await;
    follower.epoch = first["epoch"].clone();
    follower.seq = first["seq"].as_u64().unwrap();
    drop(socket);

    let companion = world.companion.clone();
    let person = owner.id;
    let pauses: Vec<_> = (0..EVENTS).map(|_| dice.roll(8) == 0).collect();
    let speaking = tokio::spawn(async move {
        for (index, pause) in (0..).zip(pauses) {
            companion.delta(person, index, "word ");
            if pause {
                tokio::task::yield_now().await;
            }
        }
    });
    while follower.indices.last() != Some(&(EVENTS - 1)) {
        let (mut socket, answer) = world.follow(&owner.token, follower.resume()).await;
        assert_eq!(answer["resumed"], true, "seed {seed}");
        assert_eq!(answer["seq"], follower.seq);
        let most = 1 + dice.roll(60) as usize;
        follower.read(&mut socket, EVENTS - 1, most).await;
        if dice.roll(2) == 0 {
            // Gone with a word, or without one.
            let _ = socket.socket.send(Message::Close(None)).await;
        }
    }
    speaking.await.unwrap();
    assert_eq!(
        follower.indices,
        (0..EVENTS).collect::<Vec<_>>(),
        "seed {seed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_and_goes_loses_and_doubles_nothing() {
    let limits = Limits {
        sockets_per_session: 10_000,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    for seed in 1..=8 {
        one_schedule(
            &world,
            &owner,
            u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_see_the_same_numbers() {
    let (world, owner) = World::ready().await;
    let (mut one, _) = world.follow(&owner.token, None).await;
    world.companion.delta(owner.id, 0, "before the second came");
    let before = one.frame().await;
    let (mut two, begin) = world.follow(&owner.token, None).await;
    assert_eq!(begin["seq"], before["seq"]);
    for index in 1..200 {
        world
            .companion
            .delta(owner.id, index, &format!("word {index}"));
    }
    for _ in 1..200 {
        assert_eq!(one.frame().await, two.frame().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_past_the_ring_or_from_another_stream_is_told() {
    let limits = Limits {
        ring_events: 50,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    let (mut socket, first) = world.follow(&owner.token, None).await;
    for index in 0..60 {
        world.companion.delta(owner.id, index, "word");
        socket.frame().await;
    }
    let epoch = &first["epoch"];
    let strange = "0193a1b2-0000-7000-8000-000000000001";
    for (resume, resumed, seq) in [
        (json!({"epoch": epoch, "seq": 60}), true, 60),
        (json!({"epoch": epoch, "seq": 10}), true, 10),
        (json!({"epoch": epoch, "seq": 9}), false, 60),
        (json!({"epoch": epoch, "seq": 61}), false, 60),
        (json!({"epoch": epoch, "seq": u64::MAX}), false, 60),
        (json!({"epoch": strange, "seq": 60}), false, 60),
    ] {
        let (_socket, answer) = world.follow(&owner.token, Some(resume.clone())).await;
        assert_eq!(answer["resumed"], resumed, "{resume}");
        assert_eq!(answer["seq"], seq, "{resume}");
        assert_eq!(&answer["epoch"], epoch);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_nobody_follows_ends_after_its_grace() {
    let limits = Limits {
        grace: Duration::from_millis(50),
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    let (socket, first) = world.follow(&owner.token, None).await;
    drop(socket);
    // Each look joins it again for a moment; in between it is left alone for longer.
    let mut pause = 100;
    soon("a new stream", async {
        loop {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let resume = json!({"epoch": first["epoch"], "seq": 0});
            let (_socket, answer) = world.follow(&owner.token, Some(resume)).await;
            if answer["epoch"] != first["epoch"] {
                assert_eq!(answer["resumed"], false);
                return;
            }
            pause *= 2;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_closed_and_delays_nobody() {
    let limits = Limits {
        waiting_bytes: 64 * 1024,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    let (mut slow, _) = world.follow(&owner.token, None).await;
    let (mut quick, _) = world.follow(&owner.token, None).await;
    // More than the system buffers for a peer that does not read.
    let text = "x".repeat(16 * 1024);
    for index in 0..2048 {
        world.companion.delta(owner.id, index, &text);
        let frame = quick.frame().await;
        assert_eq!(frame["event"]["index"], index);
    }
    let mut last = 0;
    let code = loop {
        match slow.message().await {
            Some(Message::Text(text)) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                last += 1;
                assert_eq!(frame["seq"], last, "what it got is whole and in order");
            }
            Some(Message::Close(Some(frame))) => break Some(u16::from(frame.code)),
            other => {
                // The frame that was under way may have been cut with the connection.
                assert!(other.is_none(), "{other:?}");
                break None;
            }
        }
    };
    assert!(matches!(code, Some(4008) | None), "{code:?}");
    assert!(last < 2048, "it was closed before the end");
    world.companion.delta(owner.id, 2048, "on");
    assert_eq!(quick.frame().await["event"]["text"], "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_on_the_bus_begins_a_new_stream() {
    let limits = Limits {
        ring_events: 4,
        waiting_events: 1 << 40,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    let (mut socket, first) = world.follow(&owner.token, None).await;
    // Faster than anybody can take them out of a queue of four.
    let code = soon("a gap", async {
        loop {
            for index in 0..10_000 {
                world.companion.delta(owner.id, index, "word");
            }
            match socket.message().await {
                Some(Message::Close(Some(frame))) => return u16::from(frame.code),
                Some(Message::Text(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!(code, 4008);
    let resume = json!({"epoch": first["epoch"], "seq": 0});
    let (mut socket, again) = world.follow(&owner.token, Some(resume)).await;
    assert_eq!(again["resumed"], false);
    assert_ne!(again["epoch"], first["epoch"]);
    world.companion.delta(owner.id, 0, "a new stream");
    let frame = socket.frame().await;
    assert_eq!(
        frame["seq"].as_u64(),
        again["seq"].as_u64().map(|seq| seq + 1)
    );
}

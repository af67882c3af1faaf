//! The bus inside one process: delivery, gaps, exchanges, policy.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{bus, delta, id, index_of, message, soon};
use aico_bus::{
    Bus, BusError, Delivery, Direction, Identity, Meta, Policy, Queue, Refusal, RequestError,
};
use aico_contracts::ids::PersonId;
use aico_contracts::topics;
use aico_contracts::v1::{AnswerDelta, CountTokens, Empty, Fault, ModelState, TokenCount};

#[tokio::test]
async fn every_subscriber_of_a_matching_pattern_gets_the_message_with_the_bus_stamp() {
    let bus = bus();
    let client = bus.join(id("companion"));
    let person = PersonId::new();
    let topic = topics::conversation_event(person, topics::event::ANSWER_DELTA);
    let mut exact = client.subscribe(&topic, Queue::default()).unwrap();
    let mut all = client
        .subscribe(topics::CONVERSATION_EVENTS, Queue::default())
        .unwrap();
    let mut rest = client
        .subscribe("conversation.#", Queue::default())
        .unwrap();
    let mut other = client
        .subscribe("conversation.*.even", Queue::default())
        .unwrap();
    client.publish(&topic, &delta(3), Meta::new()).unwrap();
    for subscription in [&mut exact, &mut all, &mut rest] {
        let envelope = message(subscription).await;
        assert_eq!(index_of(&envelope), 3);
        assert_eq!(envelope.sender, "companion");
        assert_eq!(envelope.epoch, bus.epoch().as_bytes().as_slice());
        assert_eq!(envelope.sequence, 1);
        assert_eq!(envelope.person, person.as_bytes().as_slice());
        assert_eq!(envelope.payload_type, "aico.v1.AnswerDelta");
    }
    assert!(other.try_recv().is_none());
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_loses_the_oldest_and_is_told_how_many() {
    let bus = bus();
    let client = bus.join(id("companion"));
    let mut slow = bus
        .join(id("slow"))
        .subscribe("ui.words", Queue::new(4, usize::MAX))
        .unwrap();
    let mut quick = bus
        .join(id("quick"))
        .subscribe("ui.words", Queue::default())
        .unwrap();
    for index in 0..10 {
        client
            .publish("ui.words", &delta(index), Meta::new())
            .unwrap();
    }
    assert!(matches!(
        soon(slow.recv()).await,
        Some(Delivery::Gap { missed: 6 })
    ));
    for index in 6..10 {
        assert_eq!(index_of(&message(&mut slow).await), index);
    }
    for index in 0..10 {
        assert_eq!(index_of(&message(&mut quick).await), index);
    }
    assert!(slow.try_recv().is_none() && quick.try_recv().is_none());
    let stats = bus.stats();
    assert_eq!(
        (stats.published, stats.delivered, stats.dropped),
        (10, 20, 6)
    );
    let of = |name: &str| {
        let mut all = stats.identities.iter();
        all.find(|one| one.identity == name).unwrap().clone()
    };
    assert_eq!(
        (of("companion").published, of("companion").received),
        (10, 0)
    );
    for name in ["slow", "quick"] {
        assert_eq!((of(name).published, of(name).received), (0, 10));
        assert_eq!(of(name).received_bytes, of("companion").published_bytes);
    }
    assert_eq!((of("slow").dropped, of("quick").dropped), (6, 0));
}

#[tokio::test]
async fn a_queue_is_bounded_in_bytes_but_keeps_the_newest_message_however_large() {
    let bus = bus();
    let client = bus.join(id("companion"));
    let mut subscription = client.subscribe("ui.words", Queue::new(100, 1000)).unwrap();
    for index in 0..3 {
        let text = "x".repeat(5000);
        let large = AnswerDelta {
            index,
            text,
            ..AnswerDelta::default()
        };
        client.publish("ui.words", &large, Meta::new()).unwrap();
    }
    assert!(matches!(
        soon(subscription.recv()).await,
        Some(Delivery::Gap { missed: 2 })
    ));
    assert_eq!(index_of(&message(&mut subscription).await), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_order_for_all_subscribers_however_many_publish() {
    let bus = bus();
    let mut one = bus
        .join(id("a"))
        .subscribe("ui.#", Queue::new(10_000, usize::MAX))
        .unwrap();
    let mut two = bus
        .join(id("b"))
        .subscribe("ui.#", Queue::new(10_000, usize::MAX))
        .unwrap();
    let publishers: Vec<_> = (0..4)
        .map(|who| {
            let client = bus.join(id("p"));
            tokio::spawn(async move {
                for index in 0..500 {
                    client
                        .publish(&format!("ui.p{who}"), &delta(index), Meta::new())
                        .unwrap();
                    if index % 50 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    for expected in 1..=2000 {
        assert_eq!(message(&mut one).await.sequence, expected);
        assert_eq!(message(&mut two).await.sequence, expected);
    }
}

#[tokio::test]
async fn a_request_that_nobody_serves_is_known_at_once() {
    let bus = bus();
    let client = bus.join(id("gateway"));
    let question = CountTokens::default();
    let asked = soon(client.request::<_, TokenCount>(topics::MODELS_COUNT, &question, Meta::new()));
    let error = asked.await.unwrap_err();
    assert_eq!(
        error,
        RequestError::NobodyServes {
            topic: "models.count".into()
        }
    );
    assert_eq!(bus.stats().unserved, 1);
}

#[tokio::test]
async fn an_answer_and_a_fault_reach_the_asker() {
    let bus = bus();
    let mut requests = bus.join(id("models")).serve("models.*", 1).unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            assert_eq!(request.envelope.sender, "gateway");
            if request.envelope.topic == topics::MODELS_COUNT {
                request.reply(TokenCount {
                    tokens: 7,
                    context_length: 9,
                });
            } else {
                request.fault(Fault::not_found("No such model"));
            }
        }
    });
    let client = bus.join(id("gateway"));
    let question = CountTokens::default();
    let count: TokenCount = soon(client.request(topics::MODELS_COUNT, &question, Meta::new()))
        .await
        .unwrap();
    assert_eq!((count.tokens, count.context_length), (7, 9));
    let failed = soon(client.request::<_, Empty>(topics::MODELS_USE, &question, Meta::new()));
    let Err(RequestError::Fault(fault)) = failed.await else {
        panic!("a fault was expected")
    };
    assert_eq!(fault.code, "not-found");
    let other = soon(client.request::<_, ModelState>(topics::MODELS_COUNT, &question, Meta::new()));
    assert!(matches!(other.await, Err(RequestError::Malformed(_))));
}

#[tokio::test]
async fn a_server_that_drops_its_request_or_dies_is_told_as_gone() {
    let bus = bus();
    let mut requests = bus
        .join(id("models"))
        .serve(topics::MODELS_COUNT, 2)
        .unwrap();
    let client = bus.join(id("gateway"));
    let question = CountTokens::default();
    let ask = || client.request::<_, TokenCount>(topics::MODELS_COUNT, &question, Meta::new());
    let drop_one = async { drop(requests.recv().await) };
    let (answer, ()) = soon(async { tokio::join!(ask(), drop_one) }).await;
    assert_eq!(answer.unwrap_err(), RequestError::ServerGone);
    // One that waits in its queue when it ends.
    let end = async {
        tokio::task::yield_now().await;
        drop(requests);
    };
    let (answer, ()) = soon(async { tokio::join!(ask(), end) }).await;
    assert_eq!(answer.unwrap_err(), RequestError::ServerGone);
    assert!(matches!(
        soon(ask()).await,
        Err(RequestError::NobodyServes { .. })
    ));
}

#[tokio::test]
async fn a_stream_arrives_in_order_and_waits_for_a_slow_asker() {
    let bus = bus();
    let mut requests = bus
        .join(id("models"))
        .serve(topics::MODELS_GENERATE, 1)
        .unwrap();
    let server = tokio::spawn(async move {
        let mut responder = requests.recv().await.unwrap().stream();
        for index in 0..500 {
            responder.send(delta(index)).await.unwrap();
        }
        responder.end(delta(500));
    });
    let client = bus.join(id("companion"));
    let mut answers =
        soon(client.open_stream::<_, AnswerDelta>(topics::MODELS_GENERATE, &Empty {}, Meta::new()))
            .await
            .unwrap();
    // However often the server runs meanwhile, the window fills and it has to wait.
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
    assert!(!server.is_finished());
    for index in 0..=500 {
        assert_eq!(soon(answers.next()).await.unwrap().unwrap().index, index);
    }
    assert!(soon(answers.next()).await.is_none());
    soon(server).await.unwrap();
}

#[tokio::test]
async fn dropping_or_cancelling_a_stream_reaches_the_server() {
    let bus = bus();
    let mut requests = bus
        .join(id("models"))
        .serve(topics::MODELS_GENERATE, 1)
        .unwrap();
    let client = bus.join(id("companion"));
    let ask =
        || client.open_stream::<_, AnswerDelta>(topics::MODELS_GENERATE, &Empty {}, Meta::new());

    let mut answers = soon(ask()).await.unwrap();
    let mut responder = soon(requests.recv()).await.unwrap().stream();
    responder.send(delta(0)).await.unwrap();
    assert!(!responder.is_cancelled());
    answers.cancel();
    soon(responder.cancelled()).await;
    // What the server says to its end is still read.
    responder.end(delta(1));
    assert_eq!(soon(answers.next()).await.unwrap().unwrap().index, 0);
    assert_eq!(soon(answers.next()).await.unwrap().unwrap().index, 1);
    assert!(soon(answers.next()).await.is_none());

    let answers = soon(ask()).await.unwrap();
    let mut responder = soon(requests.recv()).await.unwrap().stream();
    drop(answers);
    soon(responder.cancellation()).await;
    assert_eq!(
        soon(responder.send(delta(0))).await,
        Err(BusError::Cancelled)
    );
}

#[tokio::test]
async fn a_cancelled_server_is_never_stuck_on_an_asker_that_does_not_read() {
    let bus = bus();
    let mut requests = bus
        .join(id("models"))
        .serve(topics::MODELS_GENERATE, 1)
        .unwrap();
    let client = bus.join(id("companion"));
    let answers =
        soon(client.open_stream::<_, AnswerDelta>(topics::MODELS_GENERATE, &Empty {}, Meta::new()))
            .await
            .unwrap();
    let mut responder = soon(requests.recv()).await.unwrap().stream();
    let server = async {
        let mut sent = 0;
        while responder.send(delta(sent)).await.is_ok() {
            sent += 1;
        }
        sent
    };
    let cancel = async {
        tokio::task::yield_now().await;
        answers.cancel();
    };
    let (sent, ()) = soon(async { tokio::join!(server, cancel) }).await;
    assert!(sent >= 1);
}

#[tokio::test]
async fn a_deadline_ends_the_waiting_and_late_requests_are_not_begun() {
    let bus = bus();
    let mut requests = bus
        .join(id("models"))
        .serve(topics::MODELS_COUNT, 1)
        .unwrap();
    let client = bus.join(id("gateway"));
    let question = CountTokens::default();
    let meta = Meta::new().deadline_in(Duration::from_millis(20));
    let answer = soon(client.request::<_, TokenCount>(topics::MODELS_COUNT, &question, meta));
    assert_eq!(answer.await.unwrap_err(), RequestError::DeadlinePassed);
    // That one was never taken out of the queue; the next one is what the server sees.
    let meta = Meta::new().deadline_in(Duration::from_secs(3600));
    let (answer, ()) = soon(async {
        tokio::join!(
            client.request::<_, TokenCount>(topics::MODELS_COUNT, &question, meta),
            async {
                let request = requests.recv().await.unwrap();
                assert!(request.deadline().is_some());
                request.reply(TokenCount {
                    tokens: 1,
                    context_length: 1,
                });
            }
        )
    })
    .await;
    assert_eq!(answer.unwrap().tokens, 1);
    let past = Meta::new().deadline(std::time::UNIX_EPOCH);
    let answer = soon(client.request::<_, TokenCount>(topics::MODELS_COUNT, &question, past));
    assert_eq!(answer.await.unwrap_err(), RequestError::DeadlinePassed);
}

#[tokio::test]
async fn no_more_requests_than_agreed_are_in_progress() {
    let bus = bus();
    let mut requests = bus
        .join(id("models"))
        .serve(topics::MODELS_COUNT, 2)
        .unwrap();
    let client = bus.join(id("gateway"));
    let askers: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                client
                    .request::<_, TokenCount>(
                        topics::MODELS_COUNT,
                        &CountTokens::default(),
                        Meta::new(),
                    )
                    .await
            })
        })
        .collect();
    let first = soon(requests.recv()).await.unwrap();
    let second = soon(requests.recv()).await.unwrap();
    assert_eq!(bus.stats().servers[0].in_progress, 2);
    let mut third = Box::pin(requests.recv());
    assert!(futures_util::poll!(third.as_mut()).is_pending());
    first.reply(TokenCount::default());
    soon(third).await.unwrap().reply(TokenCount::default());
    second.reply(TokenCount::default());
    for asker in askers {
        soon(asker).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn one_slow_handler_stops_nobody_else() {
    let bus = bus();
    let client = bus.join(id("gateway"));
    let mut slow = bus.join(id("slow")).serve("slow.work", 1).unwrap();
    let mut quick = bus.join(id("quick")).serve("quick.work", 1).unwrap();
    tokio::spawn(async move {
        while let Some(request) = quick.recv().await {
            request.reply(Empty {});
        }
    });
    let waiting = client.request::<_, Empty>("slow.work", &Empty {}, Meta::new());
    let mut waiting = Box::pin(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    let held = soon(slow.recv()).await.unwrap();
    for _ in 0..100 {
        soon(client.request::<_, Empty>("quick.work", &Empty {}, Meta::new()))
            .await
            .unwrap();
    }
    held.reply(Empty {});
    soon(waiting).await.unwrap();
}

/// Each person's gateway sees that person's topics; the companion serves all.
struct OnlyTheirOwn;

impl Policy for OnlyTheirOwn {
    fn allow(
        &self,
        who: &Identity,
        _direction: Direction,
        _topic: &str,
        person: Option<PersonId>,
    ) -> Result<(), Refusal> {
        let own = person.is_some_and(|person| who.as_str() == person.to_string());
        if who.as_str() == "companion" || own {
            Ok(())
        } else {
            Err(Refusal::new("not theirs"))
        }
    }

    fn sees(&self, who: &Identity, person: PersonId) -> bool {
        who.as_str() == "companion" || who.as_str() == person.to_string()
    }
}

#[tokio::test]
async fn four_persons_never_see_each_others_topics() {
    let bus = Bus::new(Arc::new(OnlyTheirOwn));
    let companion = bus.join(id("companion"));
    let persons: Vec<PersonId> = (0..4).map(|_| PersonId::new()).collect();
    let clients: Vec<_> = persons
        .iter()
        .map(|person| bus.join(Identity::new(person.to_string())))
        .collect();
    let mut own = Vec::new();
    for (client, person) in clients.iter().zip(&persons) {
        own.push(
            client
                .subscribe(&topics::conversation_events(*person), Queue::default())
                .unwrap(),
        );
        for pattern in [
            topics::CONVERSATION_EVENTS,
            "#",
            "*.*.*.*",
            "conversation.#",
        ] {
            let refused = client.subscribe(pattern, Queue::default());
            assert!(
                matches!(refused.map(|_| ()), Err(BusError::Refused { .. })),
                "{pattern}"
            );
        }
        for other in persons.iter().filter(|other| *other != person) {
            let pattern = topics::conversation_events(*other);
            assert!(client.subscribe(&pattern, Queue::default()).is_err());
            let topic = topics::conversation_event(*other, "answer-delta");
            // Neither openly nor by naming oneself on another's topic.
            for meta in [
                Meta::new(),
                Meta::for_person(*other),
                Meta::for_person(*person),
            ] {
                assert!(client.publish(&topic, &delta(9), meta).is_err());
            }
            let topic = topics::conversation_request(*other, "list");
            let asked = client.request::<_, Empty>(&topic, &Empty {}, Meta::for_person(*person));
            assert!(matches!(soon(asked).await, Err(RequestError::Refused(_))));
        }
    }
    for (number, person) in persons.iter().enumerate() {
        let topic = topics::conversation_event(*person, "answer-delta");
        companion
            .publish(&topic, &delta(number as u64), Meta::new())
            .unwrap();
        let wrong = Meta::for_person(persons[(number + 1) % 4]);
        assert!(matches!(
            companion.publish(&topic, &delta(99), wrong),
            Err(BusError::WrongPerson { .. })
        ));
    }
    for (number, subscription) in own.iter_mut().enumerate() {
        assert_eq!(index_of(&message(subscription).await), number as u64);
        assert!(subscription.try_recv().is_none());
    }
    assert!(
        companion
            .publish("conversation.nobody.event.queue", &delta(0), Meta::new())
            .is_err()
    );
}

/// Allows until told otherwise.
#[derive(Default)]
struct Consent(std::sync::atomic::AtomicBool);

impl Policy for Consent {
    fn allow(
        &self,
        who: &Identity,
        _: Direction,
        _: &str,
        _: Option<PersonId>,
    ) -> Result<(), Refusal> {
        let withdrawn = self.0.load(std::sync::atomic::Ordering::SeqCst);
        if withdrawn && who.as_str() == "weather" {
            return Err(Refusal::new("consent withdrawn"));
        }
        Ok(())
    }

    fn sees(&self, _: &Identity, _: PersonId) -> bool {
        true
    }
}

#[tokio::test]
async fn a_withdrawn_grant_ends_what_stands() {
    let policy = Arc::new(Consent::default());
    let bus = Bus::new(policy.clone());
    let weather = bus.join(id("weather"));
    let gateway = bus.join(id("gateway"));
    let mut theirs = weather.subscribe("ui.#", Queue::default()).unwrap();
    let mut served = weather.serve("weather.today", 1).unwrap();
    let mut kept = gateway.subscribe("ui.#", Queue::default()).unwrap();
    policy.0.store(true, std::sync::atomic::Ordering::SeqCst);
    bus.reauthorize();
    assert!(soon(theirs.recv()).await.is_none());
    assert!(soon(served.recv()).await.is_none());
    gateway.publish("ui.x", &delta(1), Meta::new()).unwrap();
    assert_eq!(index_of(&message(&mut kept).await), 1);
    assert!(theirs.try_recv().is_none());
    let asked = gateway.request::<_, Empty>("weather.today", &Empty {}, Meta::new());
    assert!(matches!(
        soon(asked).await,
        Err(RequestError::NobodyServes { .. })
    ));
    assert!(weather.publish("ui.x", &delta(1), Meta::new()).is_err());
    let counted = bus.stats().identities;
    let refused = |name: &str| {
        let mut all = counted.iter();
        all.find(|one| one.identity == name)
            .map_or(0, |one| one.refused)
    };
    assert!(refused("weather") >= 1 && refused("gateway") == 0);
}

#[tokio::test]
async fn a_closed_bus_ends_everything() {
    let bus = bus();
    let client = bus.join(id("gateway"));
    let mut subscription = client.subscribe("ui.#", Queue::default()).unwrap();
    let mut requests = client.serve("ui.ask", 1).unwrap();
    bus.close();
    soon(client.closed()).await;
    assert!(soon(subscription.recv()).await.is_none());
    assert!(soon(requests.recv()).await.is_none());
    assert_eq!(
        client.publish("ui.x", &delta(0), Meta::new()),
        Err(BusError::Closed)
    );
    assert!(client.subscribe("ui.#", Queue::default()).is_err());
}

#[tokio::test]
async fn what_ended_leaves_nothing_behind() {
    let bus = bus();
    let client = bus.join(id("gateway"));
    for _ in 0..100 {
        let subscription = client.subscribe("a.*.c.#", Queue::default()).unwrap();
        let requests = client.serve("a.b", 1).unwrap();
        client.publish("a.b.c", &delta(0), Meta::new()).unwrap();
        drop((subscription, requests));
    }
    let stats = bus.stats();
    assert!(stats.subscriptions.is_empty() && stats.servers.is_empty());
}

#[tokio::test]
async fn what_is_no_topic_or_too_large_is_refused() {
    let bus = bus();
    let client = bus.join(id("gateway"));
    for topic in ["", "a..b", "a.*", "$link", "a b"] {
        let published = client.publish(topic, &delta(0), Meta::new());
        assert!(
            matches!(published, Err(BusError::Topic { .. })),
            "{topic:?}"
        );
    }
    let text = "x".repeat(aico_bus::MAX_PAYLOAD + 1);
    let huge = AnswerDelta {
        text,
        ..AnswerDelta::default()
    };
    assert!(matches!(
        client.publish("a.b", &huge, Meta::new()),
        Err(BusError::TooLarge { .. })
    ));
}

#[tokio::test]
async fn no_debug_form_tells_what_was_said() {
    let bus = bus();
    let client = bus.join(id("gateway"));
    let mut subscription = client.subscribe("ui.#", Queue::default()).unwrap();
    let said = AnswerDelta {
        text: "Zanzibar".into(),
        ..AnswerDelta::default()
    };
    client.publish("ui.x", &said, Meta::new()).unwrap();
    let delivery = soon(subscription.recv()).await.unwrap();
    assert!(!format!("{delivery:?}").contains("Zanzibar"));
    let Delivery::Message(envelope) = delivery else {
        panic!("a message was expected")
    };
    assert!(!format!("{envelope:?} {said:?}").contains("Zanzibar"));
}

//! Metrics: for the owner and programs of theirs, and nothing of a person in them. What the text
//! looks like is tested where it is written.

use aico_contracts::ids::PersonId;
use aico_gateway::Limits;

use crate::support::{MEMBER, World};

async fn named_token(world: &World, person: PersonId) -> String {
    let made = world.home.create_token(person, "Prometheus", 1).await;
    made.unwrap().token.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_the_owner_and_programs_of_theirs() {
    let (world, owner) = World::ready().await;
    let member = world.add("Grace", MEMBER).await;
    let own = named_token(&world, owner.id).await;
    let theirs = named_token(&world, member.id).await;
    for token in [&owner.token, &own] {
        let reply = world.get("/metrics", token).await.expect(200);
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(reply.headers["content-type"], kind);
        assert_eq!(reply.headers["cache-control"], "no-store");
        let text = std::str::from_utf8(&reply.body).unwrap();
        let running = "aico_model_questions_running{model=\"Starter (tiny)\",engine=\"aico\",id=";
        assert!(text.contains(running), "{text}");
        let (ada, grace) = (owner.id.to_string(), member.id.to_string());
        for personal in ["Ada", "Grace", "Prometheus", &ada, &grace] {
            assert!(!text.contains(personal), "{personal}: {text}");
        }
    }
    for token in [&member.token, &theirs] {
        let refused = world.get("/metrics", token).await;
        assert_eq!((refused.status, &*refused.code()), (403, "forbidden"));
    }
    let query = format!("/metrics?token={own}");
    for path in ["/metrics", &query] {
        let refused = world.call("GET", path, None, None).await;
        assert_eq!((refused.status, &*refused.code()), (401, "sign-in-needed"));
    }
    let refused = world.get("/metrics", &own[..own.len() - 1]).await;
    assert_eq!((refused.status, &*refused.code()), (401, "token-invalid"));
    // It opens nothing else of what is the owner's.
    for path in ["/api/v1/models/activity", "/api/v1/status"] {
        let refused = world.get(path, &own).await;
        assert_eq!((refused.status, &*refused.code()), (401, "token-invalid"));
    }
    world.home.lock().await.unwrap();
    let refused = world.get("/metrics", &own).await;
    assert_eq!((refused.status, &*refused.code()), (503, "locked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_metrics_at_the_pace_of_programs() {
    let limits = Limits {
        program_burst: 2,
        // None: how slow this machine is does not matter.
        programs_per_second: 0,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    let token = named_token(&world, owner.id).await;
    for _ in 0..2 {
        world.get("/metrics", &token).await.expect(200);
    }
    let refused = world.get("/metrics", &token).await;
    assert_eq!(
        (refused.status, &*refused.code()),
        (429, "too-many-requests")
    );
    assert!(refused.headers.contains_key("retry-after"));
    // A session has no such limit.
    world.get("/metrics", &owner.token).await.expect(200);
}

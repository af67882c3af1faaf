//! One question can be followed through all parts by its trace, and by nothing that was said.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{PASSWORD, World, text, until};

const GIVEN: &str = "0af7651916cd43dd8448eb211c80319c";
const SECRET: &str = "zyxmarkerqwv";

/// The records of one trace.
fn records(world: &World, trace: &str) -> Vec<Value> {
    let lines = world.said(&["logs", "--json", "--trace", trace]);
    let records: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(records.iter().all(|record| record["trace"] == trace));
    records
}

/// The records of one trace, once each of these crates has one.
fn parts(world: &World, trace: &str, wanted: &[&str]) -> Vec<Value> {
    until("all parts have a record of it", || {
        let records = records(world, trace);
        let parts: BTreeSet<&str> = records
            .iter()
            .filter_map(|record| record["module"].as_str()?.split("::").next())
            .collect();
        wanted
            .iter()
            .all(|part| parts.contains(part))
            .then_some(())?;
        Some(records)
    })
}

/// What the head of an answer says about the trace.
fn told(head: &str) -> String {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("traceresponse: 00-"));
    line.unwrap_or_else(|| panic!("{head}"))[..32].to_owned()
}

#[test]
fn one_question_has_one_trace_in_every_part() {
    let mut world = World::new();
    assert!(world.setup().status.success());
    let password = world.path("password");
    world.serve_with(&[
        "--password-file",
        password.to_str().unwrap(),
        "--set",
        "logging.level=debug",
    ]);
    let api = world.api().sign_in("Mia", PASSWORD);
    let (_, made) = api.post("/api/v1/conversations", &json!({}));
    let path = format!(
        "/api/v1/conversations/{}/messages",
        made["id"].as_str().unwrap()
    );
    let all = ["aico_gateway", "aico_companion", "aico_models"];

    // The caller's own.
    let question = json!({"text": format!("Hello {SECRET}")});
    let given = format!("traceparent: 00-{GIVEN}-b7ad6b7169203331-01\r\n");
    let (head, status, body) = api.call_with("POST", &path, Some(&question), &given);
    assert_eq!(status, 202, "{body}");
    assert_eq!(told(&head), GIVEN);
    let found = parts(&world, GIVEN, &all);
    let of = |module: &str, message: &str| {
        found
            .iter()
            .any(|record| record["module"] == module && record["message"] == message)
    };
    assert!(of("aico_gateway::access", "request"), "{found:?}");
    assert!(
        of("aico_companion::answer", "an answer has ended"),
        "{found:?}"
    );
    let logged = text(world.said(&["logs", "--json"]).as_bytes());
    assert!(!logged.contains(SECRET));

    // One that is not well-formed is none; each request has its own.
    let bad = format!("traceparent: 00-{GIVEN}-0000000000000000-01\r\n");
    let (head, status, body) = api.call_with("POST", &path, Some(&question), &bad);
    assert_eq!(status, 202, "{body}");
    let own = told(&head);
    assert_ne!(own, GIVEN);
    parts(&world, &own, &all);
    let twice = format!("{given}{given}");
    let (head, _, _) = api.call_with("GET", "/api/v1/state", None, &twice);
    let other = told(&head);
    assert!(other != GIVEN && other != own);

    // By the command line, which asks over a WebSocket.
    world.chat(None, SECRET);
    let commands = world.said(&["logs", "--json", "--module", "aico_gateway::access"]);
    let sent = commands
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|record| record["message"] == "command" && record["fields"]["kind"] == "send")
        .expect("the command has a record");
    let trace = sent["trace"].as_str().unwrap();
    assert!(trace != own && trace != GIVEN);
    parts(&world, trace, &all);
    // As a person reads it.
    assert!(
        world
            .said(&["logs", "--trace", trace])
            .lines()
            .all(|line| line.ends_with(&format!("trace={trace}")))
    );
    let wrong = world.aico(&["logs", "--trace", "xyz"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
    let (status, problem) = api.get("/api/v1/logs?trace=xyz");
    assert_eq!(status, 400, "{problem}");
    world.stop();
}

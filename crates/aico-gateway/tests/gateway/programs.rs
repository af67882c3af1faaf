//! Doors for other programs: named tokens, OpenAI's shapes and Ollama's.

use aico_contracts::v1::Priority;
use aico_gateway::Limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{MEMBER, OWNER, Person, Reply, World, password, soon, until};

const ADDRESSES: [(&str, &str); 12] = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/aico"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/api/version"),
    ("GET", "/api/tags"),
    ("GET", "/api/ps"),
    ("POST", "/api/show"),
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
];

async fn token(world: &World, person: &Person, name: &str) -> String {
    let made = world.home.create_token(person.id, name, 1).await.unwrap();
    made.token.to_string()
}

fn openai(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{"role": "user", "content": text}] })
}

/// The data of server-sent events.
fn events(reply: &Reply) -> Vec<String> {
    assert!(
        reply.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/event-stream")
    );
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    events
        .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
        .collect()
}

fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_told_once_listed_and_revoked() {
    let (world, owner) = World::ready().await;
    let member = world.add("Grace", MEMBER).await;
    let form = json!({"name": " Editor ", "expires_days": 7});
    let made = world.post("/api/v1/tokens", &owner.token, form).await;
    let made = made.expect(201).json();
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("aico_") && secret.len() == 48);
    assert_eq!(made["token"]["name"], "Editor");
    let again = json!({"name": "editor"});
    let again = world.post("/api/v1/tokens", &owner.token, again).await;
    assert_eq!((again.status, again.code().as_str()), (409, "conflict"));
    // Another person may call theirs so.
    world
        .post("/api/v1/tokens", &member.token, json!({"name": "Editor"}))
        .await
        .expect(201);
    for days in [0, 366, 100_000] {
        let form = json!({"name": "Other", "expires_days": days});
        let refused = world.post("/api/v1/tokens", &owner.token, form).await;
        assert_eq!((refused.status, refused.code().as_str()), (422, "invalid"));
    }
    for name in ["", " ", "a\nb"] {
        let refused = world
            .post("/api/v1/tokens", &owner.token, json!({"name": name}))
            .await;
        assert_eq!(refused.code(), "name-invalid");
    }

    let list = || async {
        let list = world.get("/api/v1/tokens", &owner.token).await.expect(200);
        assert!(!String::from_utf8_lossy(&list.body).contains(&secret[5..]));
        list.json()["items"].clone()
    };
    assert_eq!(list().await[0]["last_used_at"], Value::Null);
    world.get("/v1/models", secret).await.expect(200);
    let used = list().await[0]["last_used_at"].clone();
    assert!(used.as_str().unwrap().ends_with(":00:00Z"), "{used}");

    let path = format!("/api/v1/tokens/{}", made["token"]["id"].as_str().unwrap());
    world
        .call("DELETE", &path, Some(&owner.token), None)
        .await
        .expect(204);
    assert_eq!(list().await.as_array().unwrap().len(), 0);
    let refused = world.get("/v1/models", secret).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (401, "token-invalid")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_has_so_many_tokens_and_no_more() {
    let (world, owner) = World::ready().await;
    for number in 0..64 {
        token(&world, &owner, &number.to_string()).await;
    }
    let one_more = json!({"name": "one more"});
    let refused = world.post("/api/v1/tokens", &owner.token, one_more).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_sessions_are_not_taken_for_each_other() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    for path in ["/api/v1/me", "/api/v1/conversations", "/api/v1/tokens"] {
        let reply = world.get(path, &named).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "token-invalid")
        );
    }
    let mut socket = world.open().await;
    socket
        .say(json!({"type": "authenticate", "token": named}))
        .await;
    assert_eq!(socket.close_code().await, 4001);
    for (method, path) in ADDRESSES {
        let body = (method == "POST").then(|| openai("aico", "Hello"));
        let reply = world
            .call(method, path, Some(&owner.token), body.clone())
            .await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "token-invalid"),
            "{path}"
        );
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        // Neither a cookie nor the query is a credential.
        let host = ("host", world.address.to_string());
        let cookie = ("cookie", format!("token={named}"));
        let query = format!("{path}?token={named}&api_key={named}");
        let reply = world
            .send(method, &query, &[host, cookie], "{}".into())
            .await;
        assert_eq!(reply.code(), "sign-in-needed", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_stay_out_and_no_content_type_is_needed() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let host = || ("host", world.address.to_string());
    let bearer = || ("authorization", format!("Bearer {named}"));
    for path in ["/v1/chat/completions", "/api/chat"] {
        let body = openai("starter-tiny", "Hello").to_string();
        let post = |headers: Vec<(&'static str, String)>| {
            let (world, body) = (&world, body.clone());
            async move { world.send("POST", path, &headers, body.into()).await }
        };
        post(vec![host(), bearer()]).await.expect(200);
        let typed = ("content-type", "text/plain".to_owned());
        post(vec![host(), bearer(), typed]).await.expect(200);
        let foreign = ("origin", "http://evil.example".to_owned());
        let reply = post(vec![host(), bearer(), foreign]).await;
        assert_eq!(reply.code(), "origin-not-allowed");
        let rebound = ("host", "evil.example".to_owned());
        let reply = post(vec![rebound, bearer()]).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (403, "host-not-allowed")
        );
        let packed = ("content-encoding", "gzip".to_owned());
        let reply = post(vec![host(), bearer(), packed]).await;
        assert_eq!((reply.status, reply.code().as_str()), (415, "json-needed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_answers_whole_and_in_pieces() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let path = "/v1/chat/completions";
    let whole = world
        .post(path, &named, openai("Starter-Tiny", "one two"))
        .await;
    let whole = whole.expect(200).json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "starter-tiny");
    let choice = &whole["choices"][0];
    assert_eq!(choice["message"]["content"], "one two");
    assert_eq!(choice["message"]["reasoning_content"], "hm");
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(whole["usage"]["total_tokens"], 8);
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    assert_eq!(whole["dropped_turns"], 2);

    let mut form = openai("starter-tiny", "one two");
    form["stream"] = true.into();
    form["stream_options"] = json!({"include_usage": true});
    form["temperature"] = 0.5.into();
    form["max_tokens"] = 9.into();
    form["seed"] = 7.into();
    form["stop"] = "x".into();
    let streamed = world.post(path, &named, form).await.expect(200);
    let mut events = events(&streamed);
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let chunks: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "one two");
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let last = chunks.len() - 1;
    assert_eq!(chunks[last]["usage"]["completion_tokens"], 3);
    assert_eq!(chunks[last]["choices"], json!([]));
    assert_eq!(chunks[last - 1]["choices"][0]["finish_reason"], "length");

    // What the bus heard.
    let asked = world.models.asked.lock();
    let (generate, envelope) = asked.last().unwrap();
    assert_eq!(envelope.person.as_ref(), owner.id.as_bytes());
    assert_eq!(envelope.priority(), Priority::Normal);
    assert_eq!(envelope.purpose, "program");
    assert_eq!(envelope.origin_device, "Editor");
    let sampling = generate.sampling.as_ref().unwrap();
    assert_eq!((sampling.temperature, sampling.seed), (0.5, 7));
    assert_eq!(sampling.stop, ["x"]);
    assert_eq!(generate.max_tokens, 9);
    assert_eq!(generate.cache_key, asked[0].0.cache_key);
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_answers_whole_and_in_lines() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let streamed = world
        .post(
            "/api/chat",
            &named,
            openai("starter-tiny:latest", "one two"),
        )
        .await;
    let lines_ = lines(&streamed.expect(200));
    let text: String = lines_
        .iter()
        .map(|line| line["message"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(text, "one two");
    assert_eq!(lines_[0]["message"]["thinking"], "hm");
    let last = lines_.last().unwrap();
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&json!(true), &json!("length"))
    );
    assert_eq!(
        (&last["prompt_eval_count"], &last["eval_count"]),
        (&json!(5), &json!(3))
    );
    assert_eq!(last["model"], "starter-tiny:latest", "as it was asked for");

    let form = json!({
        "model": "starter-tiny", "prompt": "one two", "system": "be brief", "stream": false,
        "think": false, "options": {"num_predict": 4, "temperature": 0}
    });
    let whole = world.post("/api/generate", &named, form).await;
    let whole = whole.expect(200).json();
    assert_eq!(whole["response"], "one two");
    assert!(whole.get("thinking").is_none(), "it was not wanted");
    let (generate, _) = world.models.asked.lock().last().unwrap().clone();
    assert_eq!((generate.turns.len(), generate.max_tokens), (2, 4));
    assert_eq!(generate.sampling.unwrap().temperature, 0.0);

    let load = json!({"model": "starter-tiny", "messages": []});
    let load = world
        .post("/api/chat", &named, load)
        .await
        .expect(200)
        .json();
    assert_eq!(load["done_reason"], "load");
    // As clients write it whose members are there even when they are nothing.
    let form = json!({"model": "starter-tiny", "messages": null, "tools": null, "options": null});
    let load = world.post("/api/chat", &named, form).await;
    assert_eq!(load.expect(200).json()["done_reason"], "load");
    let turn = json!({"role": "user", "content": "one", "tool_name": null, "name": null});
    let empty = json!({"role": "assistant", "content": null, "tool_call_id": null});
    let form = json!({
        "model": "starter-tiny", "messages": [turn, empty, turn], "stream": false,
        "options": {"top_k": 40.0, "num_predict": 4.0}
    });
    world.post("/api/chat", &named, form).await.expect(200);
    let (generate, _) = world.models.asked.lock().last().unwrap().clone();
    assert_eq!(generate.sampling.unwrap().top_k, 40);
    let half = json!({"model": "starter-tiny", "prompt": null, "options": {"top_k": 0.5}});
    assert_eq!(world.post("/api/generate", &named, half).await.status, 400);

    let tags = world.get("/api/tags", &named).await.expect(200).json();
    let names: Vec<_> = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "aico:latest",
            "starter-tiny:latest",
            "other:latest",
            "nomic:latest",
            "vectors:latest"
        ]
    );
    assert_eq!(tags["models"][1]["details"]["parameter_size"], "8.2B");
    let ps = world.get("/api/ps", &named).await.expect(200).json();
    assert_eq!(ps["models"][0]["name"], "starter-tiny:latest");
    let show = json!({"name": "starter-tiny"});
    let show = world
        .post("/api/show", &named, show)
        .await
        .expect(200)
        .json();
    assert_eq!(show["model_info"]["llama.context_length"], 4096);
    assert_eq!(show["capabilities"], json!(["completion"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_is_asked_by_its_name_and_no_other_answers_for_it() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let path = "/v1/chat/completions";
    // As listed, as the person sees it, with a tag, by its id.
    let id = uuid::Uuid::from_bytes([6; 16]).to_string();
    for name in ["other", "Other", "other:latest", &id] {
        let reply = world.post(path, &named, openai(name, "one two")).await;
        assert_eq!(reply.expect(200).json()["model"], "other");
        let (asked, _) = world.models.asked.lock().last().unwrap().clone();
        assert_eq!(asked.model, vec![6; 16], "{name}");
        let (wanted, only) = world.models.prepared.lock().last().unwrap().clone();
        assert_eq!((wanted, only), (id.clone(), true), "{name}");
    }
    world
        .post("/api/chat", &named, openai("starter-tiny", "one"))
        .await
        .expect(200);
    let (asked, _) = world.models.asked.lock().last().unwrap().clone();
    assert_ne!(asked.model, vec![6; 16]);

    // A server's are there once the person allows it, and for nobody else.
    let ids = |list: Value| -> Vec<String> {
        let all = list["data"].as_array().unwrap().iter();
        all.map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let list = world.get("/v1/models", &named).await.expect(200).json();
    let without = ["aico", "starter-tiny", "other", "nomic", "vectors"];
    assert_eq!(ids(list), without);
    world
        .home
        .allow_engine(owner.id, "lab", "lab.test:443")
        .await
        .unwrap();
    let list = world.get("/v1/models", &named).await.expect(200).json();
    let lab = list["data"].as_array().unwrap();
    let lab = lab.iter().find(|one| one["owned_by"] == "lab").unwrap();
    assert_eq!(lab["id"], "lab/Large/70B");
    for path in ["/v1/models/lab/Large/70B", "/v1/models/lab%2FLarge%2F70B"] {
        let one = world.get(path, &named).await.expect(200).json();
        assert_eq!(one["id"], "lab/Large/70B", "{path}");
    }
    let member = world.add("Grace", MEMBER).await;
    let theirs = token(&world, &member, "Editor").await;
    let list = world.get("/v1/models", &theirs).await.expect(200).json();
    assert_eq!(ids(list), without);
    let one = world.get("/v1/models/lab/large/70b", &theirs).await;
    assert_eq!(
        (one.status, one.code().as_str()),
        (403, "engine-not-allowed")
    );
    // At another address it does not count.
    world
        .home
        .allow_engine(member.id, "lab", "elsewhere:443")
        .await
        .unwrap();
    let list = world.get("/v1/models", &theirs).await.expect(200).json();
    assert_eq!(ids(list), without);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_let_go_when_a_program_says_that_it_needs_it_no_longer() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let unloaded = || world.models.unloaded.lock().clone();
    let form = json!({"model": "other", "messages": [], "keep_alive": 0});
    let told = world.post("/api/chat", &named, form).await.expect(200);
    assert_eq!(told.json()["done_reason"], "unload");
    assert_eq!(unloaded(), [vec![6; 16]]);
    assert!(
        world.models.prepared.lock().is_empty(),
        "it was loaded for that"
    );
    for (stream, so_far) in [(true, 2), (false, 3)] {
        let form = json!({
            "model": "other", "prompt": "one two", "stream": stream, "keep_alive": "0s"
        });
        world.post("/api/generate", &named, form).await.expect(200);
        until("it is let go", || unloaded().len() == so_far).await;
    }
    let form = json!({"model": "other", "prompt": "one two", "keep_alive": "5m"});
    world.post("/api/generate", &named, form).await.expect(200);
    assert_eq!(unloaded().len(), 3);
    // A question that never came to the model has nothing to let go.
    let form = json!({"model": "lab/large/70b", "prompt": "one two", "keep_alive": 0});
    let refused = world.post("/api/generate", &named, form).await;
    assert_eq!(refused.status, 403);
    // Nor does one need it that has not waited for the end.
    let form = json!({"model": "other", "prompt": "wait", "keep_alive": 0});
    let mut stream = send(&world, &named, "/api/generate", form).await;
    read_until(&mut stream, "wait").await;
    assert_eq!(unloaded().len(), 3);
    drop(stream);
    until("it is let go", || unloaded().len() == 4).await;
    assert!(!unloaded().contains(&vec![8; 16]));
    assert_eq!(*world.models.dropped.lock(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_stays_while_another_question_has_it_and_goes_after_the_last() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let unloaded = || world.models.unloaded.lock().clone();
    let form = json!({"model": "other", "prompt": "wait", "keep_alive": 0});
    let mut first = send(&world, &named, "/api/generate", form.clone()).await;
    read_until(&mut first, "wait").await;
    let mut second = send(&world, &named, "/api/generate", form).await;
    read_until(&mut second, "wait").await;
    drop(first);
    until("it is given up", || *world.models.dropped.lock() == 1).await;
    let form = json!({"model": "other", "prompt": "one two"});
    world.post("/api/generate", &named, form).await.expect(200);
    assert!(unloaded().is_empty());
    drop(second);
    until("it is let go", || !unloaded().is_empty()).await;
    assert_eq!(unloaded(), [vec![6; 16]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_companions_model_is_loaded_and_not_one_programs_to_let_go() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let wanted = uuid::Uuid::from_bytes([6; 16]).to_string();
    for path in ["/api/chat", "/api/generate"] {
        let form = json!({ "model": "aico" });
        let told = world.post(path, &named, form).await.expect(200);
        assert_eq!(told.json()["done_reason"], "load");
        // The one that the person's character is made for, or another in its place.
        let prepared = world.models.prepared.lock().pop();
        assert_eq!(prepared, Some((wanted.clone(), false)));
        let form = json!({"model": "aico", "keep_alive": 0});
        let told = world.post(path, &named, form).await;
        assert_eq!(
            (told.status, &told.json()["code"]),
            (409, &json!("conflict"))
        );
        assert!(world.models.unloaded.lock().is_empty());
        assert!(world.models.prepared.lock().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_companion_is_the_model_aico() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let whole = world
        .post("/v1/chat/completions", &named, openai("aico", "Hello you"))
        .await;
    let whole = whole.expect(200).json();
    assert_eq!(whole["choices"][0]["message"]["content"], "Hello you");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    assert_eq!(whole["usage"]["prompt_tokens"], 3);
    let streamed = world
        .post("/api/chat", &named, openai("aico", "Hello you"))
        .await;
    let lines = lines(&streamed.expect(200));
    assert!(lines.len() > 2 && lines.last().unwrap()["done"] == true);
    // An answer of its own.
    let form = json!({
        "model": "aico",
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    });
    let refused = world.post("/v1/chat/completions", &named, form).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_the_shapes_and_statuses_of_the_imitated() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    for (text, openai_status, ollama_status, code) in [
        ("busy", 503, 503, "busy"),
        ("too long", 400, 400, "context_length_exceeded"),
    ] {
        let form = openai("starter-tiny", text);
        let reply = world
            .post("/v1/chat/completions", &named, form.clone())
            .await;
        assert_eq!((reply.status, reply.code().as_str()), (openai_status, code));
        assert!(reply.json()["error"]["message"].is_string());
        let reply = world.post("/api/chat", &named, form).await;
        assert_eq!((reply.status, reply.code().as_str()), (ollama_status, code));
        assert!(reply.json()["error"].is_string());
    }
    // In the middle the status is told already.
    let mut form = openai("starter-tiny", "break");
    form["stream"] = true.into();
    let broken = world
        .post("/v1/chat/completions", &named, form.clone())
        .await;
    let told = events(&broken.expect(200)).pop().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["error"]["code"], "model-failed");
    let broken = world.post("/api/chat", &named, form).await.expect(200);
    assert!(lines(&broken).pop().unwrap()["error"].is_string());
    let whole = openai("starter-tiny", "break");
    let broken = world.post("/v1/chat/completions", &named, whole).await;
    assert_eq!(
        (broken.status, broken.code().as_str()),
        (503, "model-failed")
    );

    for (model, openai_status, ollama_status, code) in [
        ("nothing", 404, 404, "model_not_found"),
        ("gone", 503, 500, "model-missing"),
        ("nomic", 400, 400, "unsupported_parameter"),
        ("lab/large/70b", 403, 403, "engine-not-allowed"),
    ] {
        let form = openai(model, "x");
        let reply = world
            .post("/v1/chat/completions", &named, form.clone())
            .await;
        let told = (reply.status, reply.code());
        assert_eq!(told, (openai_status, code.to_owned()), "{model}");
        assert!(reply.json()["error"]["message"].is_string());
        let reply = world.post("/api/chat", &named, form).await;
        let told = (reply.status, reply.code());
        assert_eq!(told, (ollama_status, code.to_owned()), "{model}");
    }
    let unknown = world
        .post("/api/chat", &named, openai("nothing", "x"))
        .await;
    assert_eq!(unknown.json()["error"], "model 'nothing' not found");

    let head = [
        ("host", world.address.to_string()),
        ("authorization", format!("Bearer {named}")),
    ];
    for path in ["/v1/chat/completions", "/api/chat"] {
        for body in ["", "{", "[]", "nonsense-secret", "{\"messages\":7}"] {
            let reply = world.send("POST", path, &head, body.into()).await;
            assert_eq!((reply.status, reply.code().as_str()), (400, "malformed"));
            assert!(!String::from_utf8_lossy(&reply.body).contains("nonsense"));
        }
        let huge = openai("starter-tiny", &"x".repeat(2 * 1024 * 1024));
        let reply = world.post(path, &named, huge).await;
        assert_eq!((reply.status, reply.code().as_str()), (413, "too-long"));
        let deep = format!("{{\"model\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        let reply = world.send("POST", path, &head, deep.into()).await;
        assert_eq!(reply.status, 400);
    }
    for (method, path) in [("POST", "/api/pull"), ("GET", "/v1/files"), ("GET", "/v1")] {
        let reply = world.call(method, path, Some(&named), None).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "not_found"));
    }
    let reply = world.call("PUT", "/api/chat", Some(&named), None).await;
    assert_eq!(reply.status, 405);
    assert!(reply.json()["error"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_go_to_models_that_see_and_to_nobody_else() {
    const PNG: &str = "iVBORw0KGgo=";
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    let url = format!("data:image/png;base64,{PNG}");
    let forms = |model: &str| {
        let parts = json!([{"type": "text", "text": "one two"},
            {"type": "image_url", "image_url": {"url": url}}]);
        let of = |content: Value| json!({"role": "user", "content": content});
        let mut shown = of("one two".into());
        shown["images"] = json!([PNG]);
        [
            (
                "/v1/chat/completions",
                json!({"model": model, "messages": [of(parts)]}),
            ),
            (
                "/api/chat",
                json!({"model": model, "messages": [shown], "stream": false}),
            ),
            (
                "/api/generate",
                json!({"model": model, "prompt": "one two", "images": [PNG], "stream": false}),
            ),
        ]
    };
    for (path, form) in forms("other") {
        world.post(path, &named, form).await.expect(200);
        let (asked, _) = world.models.asked.lock().pop().unwrap();
        let [turn] = &asked.turns[..] else {
            panic!("{path}: {} turns", asked.turns.len());
        };
        assert_eq!(turn.text, "one two", "{path}");
        assert_eq!(turn.images, [b"\x89PNG\r\n\x1a\n"], "{path}");
    }
    // Larger than a question may be in words.
    let photo = [b"\x89PNG\r\n\x1a\n".to_vec(), vec![7; 3 << 20]].concat();
    let image = STANDARD.encode(&photo);
    let message = json!({"role": "user", "content": "one", "images": [image]});
    let form = json!({"model": "other", "messages": [message], "stream": false});
    world.post("/api/chat", &named, form).await.expect(200);
    let (asked, _) = world.models.asked.lock().pop().unwrap();
    assert!(asked.turns[0].images == [photo]);

    // What is no text stays as small as of any other question, and is refused before it is read.
    let numbers = format!("[0{}]", ",0".repeat(3 << 19));
    let long = "x".repeat(9 << 20);
    let head = [
        ("host", world.address.to_string()),
        ("authorization", format!("Bearer {named}")),
    ];
    for (path, member) in [
        ("/v1/chat/completions", "messages"),
        ("/api/chat", "messages"),
        ("/api/generate", "prompt"),
    ] {
        for body in [
            format!("{{\"{member}\":{numbers}}}"),
            format!("{{\"{member}\":\"{long}\"}}"),
        ] {
            let reply = world.send("POST", path, &head, body.into()).await;
            assert_eq!((reply.status, reply.code().as_str()), (413, "too-long"));
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            let limits = "At most 1024 KiB are taken, and with images 8192 KiB in all.";
            assert!(body.contains(limits), "{body}");
        }
    }

    // One that can't be decoded is told by whoever runs the model, and is the question's fault.
    for (path, mut form) in forms("other") {
        let text = match path {
            "/v1/chat/completions" => &mut form["messages"][0]["content"][0]["text"],
            "/api/chat" => &mut form["messages"][0]["content"],
            _ => &mut form["prompt"],
        };
        *text = "fault engine-refused".into();
        let reply = world.post(path, &named, form).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "engine-refused")
        );
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(body.contains("may be damaged"), "{body}");
    }
    world.models.asked.lock().clear();

    let show = world
        .post("/api/show", &named, json!({"model": "other"}))
        .await;
    let capabilities = json!(["completion", "vision"]);
    assert_eq!(show.expect(200).json()["capabilities"], capabilities);

    // Refused by name, before a model is loaded for it.
    world.models.prepared.lock().clear();
    for (model, code, words) in [
        ("starter-tiny", "model-not-capable", "`starter-tiny` has"),
        ("aico", "unsupported_parameter", "takes no images"),
    ] {
        for (path, form) in forms(model) {
            let reply = world.post(path, &named, form).await;
            let told = (reply.status, reply.code());
            assert_eq!(told, (400, code.to_owned()), "{path}");
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(body.contains(words) && !body.contains(PNG), "{body}");
        }
    }
    assert!(world.models.asked.lock().is_empty());
    assert!(world.models.prepared.lock().is_empty());
}

/// Each has a code and a status of its own at both doors, and keeps its words.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_a_program_that_runs_models_is_told_apart() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    for (code, status) in [
        ("engine-not-allowed", 403),
        ("engine-elsewhere", 403),
        ("engine-absent", 502),
        ("engine-unreachable", 502),
        ("engine-certificate", 502),
        ("engine-unencrypted", 502),
        ("engine-key", 502),
        ("engine-other-program", 502),
        ("engine-too-old", 502),
        ("engine-refused", 502),
        ("engine-not-started", 502),
        ("engine-failed", 502),
        ("engine-cut-off", 502),
        ("engine-unreadable", 502),
        ("engine-resting", 503),
        ("engine-timeout", 504),
    ] {
        let form = openai("other", &format!("fault {code}"));
        let reply = world
            .post("/v1/chat/completions", &named, form.clone())
            .await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code));
        let said = reply.json()["error"]["message"].to_string();
        assert!(
            said.contains("lab can't") && said.contains("Mend lab."),
            "{said}"
        );
        let reply = world.post("/api/chat", &named, form).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code));
        let said = reply.json()["error"].to_string();
        assert!(said.contains("Mend lab."), "{said}");
        assert_eq!(reply.headers.contains_key("retry-after"), status == 503);
    }
    // One that this build does not know.
    let reply = world
        .post(
            "/api/chat",
            &named,
            openai("other", "fault engine-on-strike"),
        )
        .await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (502, "engine-failed")
    );
}

/// Begins a streamed answer that waits, and hands over the connection.
async fn begin(world: &World, token: &str, path: &str, model: &str) -> tokio::net::TcpStream {
    send(world, token, path, openai(model, "wait")).await
}

async fn send(world: &World, token: &str, path: &str, mut form: Value) -> tokio::net::TcpStream {
    form["stream"] = true.into();
    let body = form.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        world.address,
        body.len()
    );
    let mut stream = world.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn read_until(stream: &mut tokio::net::TcpStream, words: &str) -> String {
    let mut all = Vec::new();
    soon(words, async {
        loop {
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).await.unwrap();
            all.extend_from_slice(&piece[..read]);
            if read == 0 || String::from_utf8_lossy(&all).contains(words) {
                return String::from_utf8_lossy(&all).into_owned();
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_given_up_stops_the_one_who_answers() {
    let (world, owner) = World::ready().await;
    let named = token(&world, &owner, "Editor").await;
    for (number, path) in ["/v1/chat/completions", "/api/chat"]
        .into_iter()
        .enumerate()
    {
        let mut stream = begin(&world, &named, path, "starter-tiny").await;
        read_until(&mut stream, "wait").await;
        assert_eq!(*world.models.dropped.lock(), number);
        drop(stream);
        until("the model is free", || {
            *world.models.dropped.lock() == number + 1
        })
        .await;
        // The companion says nothing yet, so neither has the answer begun.
        let stream = begin(&world, &named, path, "aico").await;
        let begun = world.companion.clone();
        until("it is asked", || begun.streaming(owner.id) == number + 1).await;
        drop(stream);
        until("the companion is told", || {
            begun.cancelled.lock().len() == number + 1
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_locking_and_erasing_end_what_is_under_way() {
    let (world, owner) = World::ready().await;
    let member = world.add("Grace", MEMBER).await;
    let path = "/v1/chat/completions";

    let made = world.home.create_token(owner.id, "One", 1).await.unwrap();
    let mut stream = begin(&world, &made.token, path, "starter-tiny").await;
    read_until(&mut stream, "wait").await;
    world
        .home
        .revoke_token(owner.id, made.about.id)
        .await
        .unwrap();
    let told = read_until(&mut stream, "invalid_api_key").await;
    assert!(told.contains("invalid_api_key"), "{told}");

    let theirs = token(&world, &member, "Two").await;
    let mut stream = begin(&world, &theirs, "/api/chat", "starter-tiny").await;
    read_until(&mut stream, "wait").await;
    let home = &world.home;
    home.erase_person(member.id, &password(OWNER), "test")
        .await
        .unwrap();
    let told = read_until(&mut stream, "token-invalid").await;
    assert!(told.contains("token-invalid"), "{told}");
    assert_eq!(world.get("/v1/models", &theirs).await.status, 401);

    let kept = token(&world, &owner, "Three").await;
    let mut stream = begin(&world, &kept, path, "starter-tiny").await;
    read_until(&mut stream, "wait").await;
    world.home.lock().await.unwrap();
    let told = read_until(&mut stream, "locked").await;
    assert!(told.contains("\"locked\""), "{told}");
    let reply = world.get("/v1/models", &kept).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "locked"));
    world.home.unlock(&password(OWNER), "test").await.unwrap();
    world.get("/v1/models", &kept).await.expect(200);
    until("all are free", || *world.models.dropped.lock() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_expires() {
    let (world, owner) = World::ready().await;
    let made = world.home.create_token(owner.id, "Short", 1).await.unwrap();
    world.get("/v1/models", &made.token).await.expect(200);
    // A day later, as the store has it: unlocking reads the rows anew.
    let past = made.about.created_at.as_millisecond() - 1;
    let system = world.home.system().unwrap();
    system
        .write(move |tx| {
            tx.execute("UPDATE access_token SET expires_ms = ?1", [past])?;
            Ok::<_, aico_store::StoreError>(())
        })
        .await
        .unwrap();
    world.home.lock().await.unwrap();
    world.home.unlock(&password(OWNER), "test").await.unwrap();
    let reply = world.get("/v1/models", &made.token).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (401, "token-invalid")
    );
    let owner = world.sign_in("Ada", OWNER).await;
    let list = world.get("/api/v1/tokens", &owner.token).await.expect(200);
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 1, "shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_program_can_not_take_everything() {
    let limits = Limits {
        requests_per_token: 2,
        program_burst: 5,
        // None: how slow this machine is does not matter.
        programs_per_second: 0,
        ..Limits::default()
    };
    let (world, owner) = World::ready_with(limits).await;
    let greedy = token(&world, &owner, "Greedy").await;
    let modest = token(&world, &owner, "Modest").await;
    let path = "/v1/chat/completions";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = begin(&world, &greedy, path, "starter-tiny").await;
        read_until(&mut stream, "wait").await;
        held.push(stream);
    }
    let refused = world.post(path, &greedy, openai("starter-tiny", "x")).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (429, "rate_limit_exceeded")
    );
    drop(held);
    let mut last = 200;
    for _ in 0..5 {
        last = world.get("/v1/models", &greedy).await.status;
    }
    assert_eq!(last, 429, "too many in a time");
    world
        .post(path, &modest, openai("starter-tiny", "x"))
        .await
        .expect(200);
}

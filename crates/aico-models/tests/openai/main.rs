//! A server that speaks `/v1`, and all that can go wrong with one: each fault is its own error,
//! nothing waits without end, and nothing leaves this machine without consent.
#![expect(clippy::unwrap_used, reason = "tests")]

mod consent;
mod double;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aico_contracts::v1;
use aico_contracts::v1::generated_end::Reason;
use aico_models::backend::openai::{Limits, Server, ServerConfig};
use aico_models::backend::{Asker, Backend, BackendError, Capability, Item, Reach, Wait};
use aico_models::pull::Resolve;
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use double::{Act, Double, Key, STOP, Then, event, text};

struct Fixed(&'static [&'static str]);

#[async_trait]
impl Resolve for Fixed {
    async fn resolve(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
        Ok(self
            .0
            .iter()
            .map(|address| address.parse().unwrap())
            .collect())
    }
}

fn question() -> v1::Generate {
    v1::Generate {
        turns: vec![v1::Turn {
            role: v1::turn::Role::User.into(),
            text: "Hello, zebra".into(),
            ..Default::default()
        }],
        sampling: Some(v1::Sampling {
            temperature: 0.5,
            top_k: 40,
            ..Default::default()
        }),
        ..Default::default()
    }
}

type Done = (Vec<Item>, Result<v1::GeneratedEnd, BackendError>);

async fn ask(server: &dyn Backend, asker: Asker) -> Done {
    ask_this(server, asker, &question()).await
}

async fn ask_this(server: &dyn Backend, asker: Asker, question: &v1::Generate) -> Done {
    let (items, mut came) = mpsc::channel(1000);
    let end = server.generate(&asker, "m", question, items).await;
    let mut all = Vec::new();
    while let Some(item) = came.recv().await {
        all.push(item);
    }
    (all, end)
}

async fn error_of(double: &Double, act: Act) -> BackendError {
    double.then(act);
    let server = double.server();
    let (_, end) = ask(&server, Asker::default()).await;
    end.unwrap_err()
}

#[tokio::test]
async fn an_answer_comes_in_pieces_with_its_figures() {
    let double = Double::new().await;
    double.then(Act::Stream(
        vec![
            ": keeps alive\n\n".into(),
            event(r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#),
            event(r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#),
            // One event in two pieces, two in one.
            "data: {\"choices\":[{\"index\":0,\"del".into(),
            format!("ta\":{{\"content\":\"Hä\"}}}}]}}\n\n{}", event(&text("lo"))),
            event(STOP),
            event(r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#),
            event("[DONE]"),
        ],
        Then::End,
    ));
    let config = ServerConfig {
        key: Some("lab-key".into()),
        ..double.config()
    };
    let server = Server::new(config, Arc::new(Key(Some("sk-giraffe")))).unwrap();
    let (items, end) = ask(&server, Asker::default()).await;
    let expected = [
        Item::Thinking("hm".into()),
        Item::Text("Hä".into()),
        Item::Text("lo".into()),
    ];
    assert_eq!(items, expected);
    let end = end.unwrap();
    assert_eq!((end.prompt_tokens, end.answer_tokens), (9, 2));
    assert_eq!(end.reason(), Reason::Stop);
    assert!(end.first_token_us > 0 && end.total_us >= end.first_token_us);
    let asked = double.asked();
    assert_eq!(asked[0].line, "POST /v1/chat/completions HTTP/1.1");
    assert!(
        asked[0]
            .head
            .contains("authorization: Bearer sk-giraffe\r\n")
    );
    assert_eq!(asked[0].body["top_k"], 40);
    assert_eq!(asked[0].body["messages"][0]["content"], "Hello, zebra");
    assert_eq!(server.reach(), Reach::Machine);
}

#[tokio::test]
async fn a_server_that_refuses_what_it_does_not_know_is_told_less_from_then_on() {
    let double = Double::new().await;
    let refusal = r#"{"error":{"message":"Unrecognized request argument supplied: top_k"}}"#;
    double
        .then(Act::Answer(400, "", refusal.into()))
        .says(&[&text("a"), STOP, "[DONE]"])
        .says(&[&text("b"), STOP, "[DONE]"]);
    let server = double.server();
    for expected in ["a", "b"] {
        let (items, end) = ask(&server, Asker::default()).await;
        assert_eq!(
            (items, end.is_ok()),
            (vec![Item::Text(expected.into())], true)
        );
    }
    let said: Vec<bool> = double
        .asked()
        .iter()
        .map(|asked| asked.body.get("top_k").is_some())
        .collect();
    assert_eq!(said, [true, false, false]);
    assert!(double.asked()[2].body.get("stream_options").is_some());
    // One that refuses the rest too is not asked a fourth time.
    for _ in 0..3 {
        double.then(Act::Answer(422, "", String::new()));
    }
    let before = double.asked().len();
    let fresh = double.server();
    let (_, end) = ask(&fresh, Asker::default()).await;
    assert_eq!(end, Err(BackendError::Refused { status: 422 }));
    let asked = double.asked();
    assert_eq!(asked.len(), before + 3);
    assert!(asked[before + 2].body.get("stream_options").is_none());
}

#[tokio::test]
async fn each_fault_is_told_apart() {
    let double = Double::new().await;
    let address = double.at.to_string();
    let other = BackendError::OtherProgram {
        address: address.clone(),
    };
    let json = "content-type: application/json\r\n";
    let cases = [
        (Act::Answer(401, "", String::new()), BackendError::Key),
        (
            Act::Answer(
                404,
                json,
                r#"{"error":{"message":"The model `m` does not exist","code":"model_not_found"}}"#
                    .into(),
            ),
            BackendError::ModelMissing,
        ),
        (
            Act::Answer(404, "content-type: text/html\r\n", "<html>".into()),
            other.clone(),
        ),
        (
            Act::Answer(200, "content-type: text/html\r\n", "<html>".into()),
            other.clone(),
        ),
        // A redirect is not followed: words go to nobody who was not named.
        (
            Act::Answer(302, "location: http://127.0.0.1:1/\r\n", String::new()),
            other.clone(),
        ),
        (Act::Raw(b"SSH-2.0-OpenSSH_9.6\r\n"), other),
        (
            Act::Answer(429, "retry-after: 7\r\n", String::new()),
            BackendError::Throttled {
                wait: Duration::from_secs(7),
            },
        ),
        (Act::Answer(429, "", String::new()), BackendError::Busy),
        (
            Act::Answer(500, "", "Traceback".into()),
            BackendError::Failed { status: 500 },
        ),
        (Act::Close, BackendError::CutOff),
        (
            Act::Hang,
            BackendError::TimedOut {
                waited_for: Wait::FirstToken,
                limit: Duration::from_millis(700),
            },
        ),
        // The head of the answer alone is no answer.
        (
            Act::Stream(vec![], Then::Hang),
            BackendError::TimedOut {
                waited_for: Wait::FirstToken,
                limit: Duration::from_millis(700),
            },
        ),
        (
            Act::Stream(vec![event(&text("a"))], Then::Hang),
            BackendError::TimedOut {
                waited_for: Wait::NextToken,
                limit: Duration::from_millis(300),
            },
        ),
        // What keeps a connection alive is no piece of an answer.
        (
            Act::Stream(vec![event(&text("a"))], Then::Comments),
            BackendError::TimedOut {
                waited_for: Wait::NextToken,
                limit: Duration::from_millis(300),
            },
        ),
        (
            Act::Stream(vec![event(&text("a"))], Then::Cut),
            BackendError::CutOff,
        ),
        (
            Act::Stream(vec![event(&text("a"))], Then::End),
            BackendError::CutOff,
        ),
        (
            Act::Stream(vec![event(STOP), "data: {\"cho".into()], Then::End),
            BackendError::CutOff,
        ),
        (
            Act::Stream(vec![event("{\"choices\":[")], Then::End),
            BackendError::Unreadable,
        ),
        (
            Act::Stream(
                vec![
                    event(&text("a")),
                    event(r#"{"error":{"message":"CUDA out of memory","code":500}}"#),
                ],
                Then::Hang,
            ),
            BackendError::Memory,
        ),
        (
            Act::Stream(
                vec![event(&text("a")), "error: {\"code\":500}\n\n".into()],
                Then::Hang,
            ),
            BackendError::Failed { status: 500 },
        ),
    ];
    for (number, (act, expected)) in cases.into_iter().enumerate() {
        assert_eq!(error_of(&double, act).await, expected, "case {number}");
    }
    // Nobody there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = ServerConfig::new("lab", format!("http://{address}"));
    let server = Server::new(config, Arc::new(Key(None))).unwrap();
    let absent = BackendError::Absent { address };
    let hint = absent.to_fault("lab").what_to_do;
    assert_eq!(hint, "Start lab, or choose another model.");
    assert_eq!(server.models().await, Err(absent));
    // The secret that the configuration names is not set.
    let config = ServerConfig {
        key: Some("lab-key".into()),
        ..double.config()
    };
    let before = double.asked().len();
    let server = Server::new(config, Arc::new(Key(None))).unwrap();
    let missing = BackendError::KeyMissing {
        name: "lab-key".into(),
    };
    assert_eq!(server.models().await, Err(missing));
    assert_eq!(double.asked().len(), before, "it was asked without its key");
}

#[tokio::test]
async fn what_came_before_a_fault_is_handed_on() {
    let double = Double::new().await;
    double.then(Act::Stream(
        vec![event(&text("one")), event(&text(" two"))],
        Then::Cut,
    ));
    let (items, end) = ask(&double.server(), Asker::default()).await;
    let expected = [Item::Text("one".into()), Item::Text(" two".into())];
    assert_eq!(
        (items.as_slice(), end),
        (&expected[..], Err(BackendError::CutOff))
    );
}

#[tokio::test]
async fn ends_without_the_mark_and_answers_in_one_piece_are_taken() {
    let double = Double::new().await;
    double.says(&[&text("a"), STOP]);
    double.says(&[&text("a"), "[DONE]"]);
    let whole = json!({ "choices": [{ "index": 0, "finish_reason": "stop",
        "message": { "role": "assistant", "content": "a" } }] });
    let json = "content-type: application/json; charset=utf-8\r\n";
    double.then(Act::Answer(200, json, whole.to_string()));
    let server = double.server();
    for number in 0..3 {
        let (items, end) = ask(&server, Asker::default()).await;
        assert_eq!(items, [Item::Text("a".into())], "{number}");
        assert_eq!(end.unwrap().reason(), Reason::Stop, "{number}");
    }
}

/// A conversation of so many exchanges with a new question, behind what the system says.
fn conversation(exchanges: usize) -> v1::Generate {
    use v1::turn::Role;
    let turn = |role: Role, text: String| v1::Turn {
        role: role.into(),
        text,
        ..Default::default()
    };
    let mut turns = vec![turn(Role::System, "Be kind.".into())];
    for number in 0..exchanges {
        let text = format!("{number}: {}", "word ".repeat(50));
        turns.push(turn(Role::User, text.clone()));
        turns.push(turn(Role::Assistant, text));
    }
    turns.push(turn(Role::User, "And now?".into()));
    v1::Generate {
        turns,
        max_tokens: u32::MAX,
        ..question()
    }
}

/// What was sent of it, by the role and the beginning of each turn.
fn sent(asked: &double::Asked) -> Vec<String> {
    let messages = asked.body["messages"].as_array().unwrap();
    let of = |message: &Value| {
        let text = message["content"].as_str().unwrap();
        let role = message["role"].as_str().unwrap();
        format!("{role} {}", text.get(..2).unwrap_or(text))
    };
    messages.iter().map(of).collect()
}

#[tokio::test]
async fn what_does_not_fit_is_left_out_oldest_first_and_counted() {
    let double = Double::new().await;
    let server = double.server();
    let asked = conversation(8);
    let answers = || double.says(&[&text("a"), STOP, "[DONE]"]);
    let ask = async || ask_this(&server, Asker::default(), &asked).await.1;
    let too_long = r#"{"object":"error","message":"This model's maximum context length is 9"}"#;
    let refuses = || double.then(Act::Answer(400, "", too_long.into()));

    // Nothing is known of its context: it says by itself when it is too long.
    answers();
    assert_eq!(ask().await.unwrap().dropped_turns, 0);
    refuses();
    refuses();
    answers();
    let end = ask().await.unwrap();
    let tries = double.asked();
    assert_eq!(tries.len(), 4);
    assert_eq!(sent(&tries[1]).len(), 18);
    assert_eq!(end.dropped_turns, 12);
    let left = ["sy", "us 6:", "as 6:", "us 7:", "as 7:", "us"];
    for (sent, left) in sent(&tries[3]).iter().zip(left) {
        let (role, text) = left.split_once(' ').unwrap_or((left, ""));
        assert!(sent.starts_with(role) && sent.contains(text), "{sent}");
    }
    assert!(tries[3].body.get("max_tokens").is_none());

    // Until nothing is left that may go.
    for _ in 0..10 {
        refuses();
    }
    assert_eq!(ask().await, Err(BackendError::TooLong));
    let tries = double.asked();
    assert_eq!(sent(tries.last().unwrap()), ["system Be", "user An"]);
    double.acts.lock().unwrap().clear();

    // Once it has told its context, it is not asked in vain.
    let list = json!({ "data": [{ "id": "m", "max_model_len": 512 }] });
    let json_type = "content-type: application/json\r\n";
    double.then(Act::Answer(200, json_type, list.to_string()));
    server.models().await.unwrap();
    answers();
    let before = double.asked().len();
    let end = ask().await.unwrap();
    let tries = double.asked();
    assert_eq!(tries.len(), before + 1);
    let all = sent(&tries[before]);
    assert!(end.dropped_turns > 0 && all.len() > 2, "{all:?}");
    assert_eq!(all.len() + end.dropped_turns as usize, 18);

    // A character may want less read of it, and gets no more.
    for (context, fewer) in [(200, true), (8192, false)] {
        answers();
        let mut asked = asked.clone();
        asked.context = context;
        let end = ask_this(&server, Asker::default(), &asked).await.1.unwrap();
        let sent = sent(double.asked().last().unwrap());
        assert_eq!(sent.len() < all.len(), fewer, "{sent:?}");
        assert_eq!(sent.len() + end.dropped_turns as usize, 18);
    }

    // What was handed over stays: then it is told, and not asked again.
    let amid = event(r#"{"error":{"message":"context length exceeded","code":400}}"#);
    double.then(Act::Stream(vec![event(&text("a")), amid], Then::End));
    assert_eq!(ask().await, Err(BackendError::TooLong));
    assert_eq!(double.asked().len(), before + 4);
}

#[tokio::test]
async fn a_call_that_takes_its_time_is_no_silence() {
    let double = Double::new().await;
    let piece = |arguments: &str| {
        let call = json!({ "index": 0, "function": { "arguments": arguments } });
        event(
            &json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] }).to_string(),
        )
    };
    let begin = r#"{"choices":[{"index":0,"delta":{"tool_calls":[
        {"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\": \""}}]}}]}"#;
    let mut pieces = vec![event(&begin.replace('\n', ""))];
    pieces.extend((0..18).map(|_| piece("y")));
    pieces.extend([piece("\"}"), event(STOP)]);
    // Longer, all together, than the time to the first piece and the time to the next.
    double.then(Act::Slow(pieces, Duration::from_millis(50)));
    let (items, end) = ask(&double.server(), Asker::default()).await;
    let [Item::ToolCall(call)] = &items[..] else {
        panic!("{items:?} {end:?}");
    };
    assert_eq!(call.arguments, format!(r#"{{"x": "{}"}}"#, "y".repeat(18)));
}

#[tokio::test]
async fn dropping_the_question_closes_the_connection() {
    let double = Double::new().await;
    double.then(Act::Stream(vec![event(&text("a"))], Then::Hang));
    let config = ServerConfig {
        limits: Limits::default(),
        ..double.config()
    };
    let server = Server::new(config, Arc::new(Key(None))).unwrap();
    let (items, mut came) = mpsc::channel(10);
    let asking = tokio::spawn(async move {
        let _never = server
            .generate(&Asker::default(), "m", &question(), items)
            .await;
    });
    assert_eq!(came.recv().await, Some(Item::Text("a".into())));
    assert_eq!(double.closed.load(Ordering::SeqCst), 0);
    let dropped = Instant::now();
    asking.abort();
    while double.closed.load(Ordering::SeqCst) == 0 {
        assert!(dropped.elapsed() < Duration::from_secs(5), "it stays open");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn models_are_listed_as_each_server_tells_of_them() {
    let double = Double::new().await;
    let list = json!({ "object": "list", "data": [
        { "id": "qwen3-32b", "object": "model", "owned_by": "vllm", "max_model_len": 32768 },
        { "id": "gemma.gguf", "owned_by": "llamacpp", "created": 7,
          "meta": { "n_ctx_train": 8192, "n_params": 4_000_000_000_u64, "size": 2_000_000_000 } },
        { "id": "text-embedding-nomic" },
        { "id": "bad\u{1b}[2J" },
    ]});
    let json_type = "content-type: application/json\r\n";
    double.then(Act::Answer(200, json_type, list.to_string()));
    let config = ServerConfig {
        url: format!("http://{}/openai/v1/", double.at),
        ..double.config()
    };
    let server = Server::new(config, Arc::new(Key(None))).unwrap();
    let models = server.models().await.unwrap();
    assert_eq!(double.asked()[0].line, "GET /openai/v1/models HTTP/1.1");
    assert_eq!(server.about().version, "vllm");
    let told: Vec<_> = models
        .iter()
        .map(|model| {
            (
                model.name.as_str(),
                model.context_length,
                model.capabilities[0],
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("qwen3-32b", 32768, Capability::Chat),
            ("gemma.gguf", 8192, Capability::Chat),
            ("text-embedding-nomic", 0, Capability::Embeddings),
        ]
    );
    assert_eq!(
        (models[1].parameters, models[1].size),
        (4_000_000_000, 2_000_000_000)
    );
    // Anything else that answers is another program.
    for (status, body) in [
        (200, "{}"),
        (200, "<html>"),
        (404, r#"{"error":{"message":"x"}}"#),
    ] {
        double.then(Act::Answer(status, "", body.into()));
        let other = server.models().await.unwrap_err();
        assert!(
            matches!(other, BackendError::OtherProgram { .. }),
            "{body} {other:?}"
        );
    }
}

#[tokio::test]
async fn vectors_come_in_the_order_of_their_texts_and_of_length_one() {
    let double = Double::new().await;
    let json_type = "content-type: application/json\r\n";
    let of = |indices: std::ops::Range<usize>| {
        let data: Vec<Value> = indices
            .rev()
            .map(|index| json!({ "index": index, "embedding": [3.0 + index as f64, 4.0] }))
            .collect();
        json!({ "data": data, "usage": { "prompt_tokens": 5 } }).to_string()
    };
    double.then(Act::Answer(200, json_type, of(0..32)));
    double.then(Act::Answer(200, json_type, of(0..2)));
    let server = double.server();
    let texts: Vec<String> = (0..34).map(|number| number.to_string()).collect();
    let embedded = server.embed(&Asker::default(), "e", &texts).await.unwrap();
    assert_eq!((embedded.vectors.len(), embedded.tokens), (34, 10));
    assert_eq!(embedded.vectors[0], [0.6, 0.8]);
    assert_eq!(embedded.vectors[32], [0.6, 0.8]);
    assert!(embedded.vectors[1][0] > 0.6);
    assert_eq!(double.asked()[1].body["input"], json!(["32", "33"]));
    for body in [
        r#"{"data":[]}"#,
        r#"{"data":[{"embedding":[0,0]}]}"#,
        r#"{"data":[{"index":7,"embedding":[1]}]}"#,
        r#"{"data":[{"embedding":["x"]}]}"#,
        "",
    ] {
        double.then(Act::Answer(200, json_type, body.into()));
        let one = ["x".to_owned()];
        let read = server.embed(&Asker::default(), "e", &one).await;
        assert_eq!(read, Err(BackendError::Unreadable), "{body}");
    }
}

#[tokio::test]
async fn words_go_nowhere_without_encryption_unless_it_is_allowed_and_near() {
    let double = Double::new().await;
    let server = |url: String, unencrypted, found: &'static [&'static str]| {
        let config = ServerConfig {
            url,
            unencrypted,
            resolver: Arc::new(Fixed(found)),
            ..double.config()
        };
        Server::new(config, Arc::new(Key(None))).unwrap()
    };
    let port = double.at.port();
    let url = |host: &str| format!("http://{host}:{port}");
    let json_type = "content-type: application/json\r\n";
    for (host, unencrypted, found, expected) in [
        ("localhost", false, &["127.0.0.1"][..], Some(Reach::Machine)),
        // A name that leads here is another's to change: it counts as another machine.
        ("nas.local", true, &["127.0.0.1"], Some(Reach::Network)),
        ("nas.local", false, &["127.0.0.1"], None),
        ("nas.local", true, &["127.0.0.1", "1.1.1.1"], None),
        ("nas.local", true, &["1.1.1.1"], None),
        ("localhost", false, &["192.168.1.7"], None),
        ("1.1.1.1", true, &[], None),
    ] {
        let server = server(url(host), unencrypted, found);
        let list = json!({ "data": [] }).to_string();
        double.then(Act::Answer(200, json_type, list));
        match (server.models().await, expected) {
            (Ok(_), Some(reach)) => assert_eq!(server.reach(), reach, "{host}"),
            (Err(BackendError::Unencrypted { address }), None) => {
                assert_eq!(address, format!("{host}:{port}"));
                double.acts.lock().unwrap().clear();
            }
            (other, _) => panic!("{host}: {other:?}"),
        }
    }
    // TLS to what does not speak it; then to a certificate that nobody vouches for.
    double.then(Act::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let plain = server(format!("https://127.0.0.1:{port}"), false, &[]);
    assert!(plain.models().await.is_err());
    let own = tls_server().await;
    let strange = server(
        format!("https://localhost:{}", own.port()),
        false,
        &["127.0.0.1"],
    );
    let address = format!("localhost:{}", own.port());
    assert_eq!(
        strange.models().await,
        Err(BackendError::Certificate { address })
    );
}

/// Speaks TLS with a certificate of its own making.
async fn tls_server() -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _refused = acceptor.accept(stream).await;
        }
    });
    at
}

#[tokio::test]
async fn no_error_and_no_fault_repeats_what_a_server_wrote_or_was_sent() {
    let double = Double::new().await;
    let config = ServerConfig {
        key: Some("lab-key".into()),
        ..double.config()
    };
    let server = Server::new(config, Arc::new(Key(Some("sk-giraffe")))).unwrap();
    let echo = r#"{"error":{"message":"sk-giraffe may not say Hello, zebra","code":"zebra"}}"#;
    for status in [400, 401, 404, 413, 429, 500, 503] {
        // Again for the questions with fewer words.
        for _ in 0..3 {
            double.then(Act::Answer(status, "", echo.into()));
        }
        let (_, end) = ask(&server, Asker::default()).await;
        let error = end.unwrap_err();
        let fault = error.to_fault("lab");
        let told = [
            format!("{error} {error:?}"),
            fault.title,
            fault.detail,
            fault.what_to_do,
        ];
        let told = told.join(" ");
        assert!(
            !told.contains("giraffe") && !told.contains("zebra"),
            "{told}"
        );
        double.acts.lock().unwrap().clear();
    }
}

//! A server that does as it is told, faults included.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aico_models::backend::openai::{Keys, Limits, Server, ServerConfig};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

/// What the double does with one request.
#[derive(Clone)]
pub enum Act {
    /// A status, headers and a body, whole.
    Answer(u16, &'static str, String),
    /// A stream: these pieces, then what the last says.
    Stream(Vec<String>, Then),
    /// A stream that ends as it should, with so much time before each piece.
    Slow(Vec<String>, Duration),
    /// Bytes that are no HTTP.
    Raw(&'static [u8]),
    /// Nothing, for ever.
    Hang,
    /// The connection is closed.
    Close,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Then {
    /// The body ends as it should.
    End,
    /// The connection is gone.
    Cut,
    /// Nothing more comes.
    Hang,
    /// Comments come for ever.
    Comments,
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    pub head: String,
    pub body: Value,
}

pub struct Double {
    pub at: SocketAddr,
    pub acts: Arc<Mutex<VecDeque<Act>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Connections that the other side has closed.
    pub closed: Arc<AtomicUsize>,
}

impl Double {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let double = Self {
            at: listener.local_addr().unwrap(),
            acts: Arc::default(),
            asked: Arc::default(),
            closed: Arc::default(),
        };
        let (acts, asked) = (Arc::clone(&double.acts), Arc::clone(&double.asked));
        let closed = Arc::clone(&double.closed);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acts, asked) = (Arc::clone(&acts), Arc::clone(&asked));
                let closed = Arc::clone(&closed);
                tokio::spawn(async move {
                    serve(stream, &acts, &asked, &closed).await;
                });
            }
        });
        double
    }

    pub fn then(&self, act: Act) -> &Self {
        self.acts.lock().unwrap().push_back(act);
        self
    }

    pub fn says(&self, chunks: &[&str]) -> &Self {
        self.then(Act::Stream(
            chunks.iter().map(|chunk| event(chunk)).collect(),
            Then::End,
        ))
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn config(&self) -> ServerConfig {
        ServerConfig {
            limits: Limits {
                connect: Duration::from_secs(5),
                first_token: Duration::from_millis(700),
                next_token: Duration::from_millis(300),
                look: Duration::from_millis(700),
            },
            ..ServerConfig::new("lab", format!("http://{}", self.at))
        }
    }

    pub fn server(&self) -> Server {
        Server::new(self.config(), Arc::new(Key(None))).unwrap()
    }
}

pub fn event(chunk: &str) -> String {
    format!("data: {chunk}\n\n")
}

pub fn text(piece: &str) -> String {
    json!({ "choices": [{ "index": 0, "delta": { "content": piece } }] }).to_string()
}

pub const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

/// The head of a stream.
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                      transfer-encoding: chunked\r\n\r\n";

async fn serve(
    mut stream: TcpStream,
    acts: &Mutex<VecDeque<Act>>,
    asked: &Mutex<Vec<Asked>>,
    closed: &AtomicUsize,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let value = line.to_ascii_lowercase();
        value.strip_prefix("content-length:")?.trim().parse().ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    asked.lock().unwrap().push(Asked {
        line: head.lines().next().unwrap().to_owned(),
        head: head.clone(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    });
    let act = acts.lock().unwrap().pop_front().unwrap_or(Act::Close);
    match act {
        Act::Answer(status, headers, body) => {
            let answer = format!(
                "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        Act::Slow(pieces, between) => {
            let _ = stream.write_all(STREAM.as_bytes()).await;
            for piece in pieces {
                tokio::time::sleep(between).await;
                let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                let _ = stream.write_all(chunk.as_bytes()).await;
            }
            let _ = stream.write_all(b"0\r\n\r\n").await;
        }
        Act::Stream(pieces, then) => {
            let _ = stream.write_all(STREAM.as_bytes()).await;
            for piece in pieces {
                let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
                let _ = stream.write_all(chunk.as_bytes()).await;
                tokio::task::yield_now().await;
            }
            match then {
                Then::End => {
                    let _ = stream.write_all(b"0\r\n\r\n").await;
                }
                Then::Cut => return,
                Then::Hang => {}
                Then::Comments => {
                    while stream.write_all(b"5\r\n: x\n\n\r\n").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    closed.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
        }
        Act::Raw(bytes) => {
            let _ = stream.write_all(bytes).await;
        }
        Act::Hang => {}
        Act::Close => return,
    }
    // Until the other side goes.
    let mut rest = [0; 64];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    closed.fetch_add(1, Ordering::SeqCst);
}

pub struct Key(pub Option<&'static str>);

#[async_trait]
impl Keys for Key {
    async fn key(&self, name: &str) -> Option<Zeroizing<String>> {
        assert_eq!(name, "lab-key");
        self.0.map(|key| Zeroizing::new(key.to_owned()))
    }
}

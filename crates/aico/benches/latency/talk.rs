//! A client as the page is one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// One answer, measured.
pub(crate) struct Said {
    sent: Duration,
    came: Duration,
    /// For each token the time from where it was said to here.
    pub(crate) tokens: Vec<Duration>,
}

impl Said {
    /// From the client to where the model is.
    pub(crate) fn to_model(&self) -> Duration {
        self.came - self.sent
    }
}

/// A conversation over a WebSocket.
pub(crate) struct Talk {
    socket: WebSocketStream<TcpStream>,
    conversation: String,
    clock: Instant,
}

impl Talk {
    pub(crate) async fn open(address: SocketAddr, token: &str, clock: Instant) -> Self {
        let conversation = create(address, token).await;
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream)
            .await
            .unwrap();
        let mut talk = Self {
            socket,
            conversation,
            clock,
        };
        talk.say(json!({"type": "authenticate", "token": token}))
            .await;
        assert_eq!(talk.frame().await["type"], "authenticated");
        talk
    }

    async fn say(&mut self, frame: Value) {
        self.socket
            .send(Message::text(frame.to_string()))
            .await
            .unwrap();
    }

    async fn frame(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Asks and reads the answer to its end.
    pub(crate) async fn ask(&mut self, question: &str) -> Said {
        let send = json!({
            "type": "send", "ref": "q", "conversation": self.conversation, "text": question,
        });
        let sent = self.clock.elapsed();
        self.say(send).await;
        let mut said = Said {
            sent,
            came: Duration::ZERO,
            tokens: Vec::new(),
        };
        loop {
            let frame = self.frame().await;
            let now = self.clock.elapsed();
            assert_ne!(frame["type"], "error", "{frame}");
            let event = &frame["event"];
            match event["kind"].as_str() {
                Some("answer.delta") => {
                    let text = event["text"].as_str().unwrap();
                    let mut times: Vec<u64> = text
                        .split_whitespace()
                        .map(|time| time.parse().unwrap())
                        .collect();
                    if said.tokens.is_empty() {
                        said.came = Duration::from_nanos(times.remove(0));
                    }
                    said.tokens
                        .extend(times.iter().map(|time| now - Duration::from_nanos(*time)));
                }
                Some("answer.done") => {
                    assert_eq!(event["message"]["status"], "complete", "{event}");
                    return said;
                }
                _ => {}
            }
        }
    }
}

/// A new conversation, by REST.
async fn create(address: SocketAddr, token: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /api/v1/conversations HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
         \r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let made: Value = serde_json::from_str(body).unwrap();
    made["id"].as_str().unwrap().to_owned()
}

//! A running gateway, clients for it, and doubles for the modules behind the bus.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aico_access::{BusPolicy, Home, HomeConfig, SetupProof, Source, TAIL};
use aico_bus::{Bus, BusError, BusStats, Client, Identity, Meta, Queue, Request, Subscription};
use aico_contracts::ids::{ConversationId, MessageId, ModelId, PersonId, SessionId};
use aico_contracts::topics::{self, event, verb};
use aico_contracts::v1::{self, Envelope, Fault};
use aico_gateway::{BrokerSource, Door, Gateway, GatewayConfig, Limits, LogSource, Nothing};
use aico_vault::keychain::{KeyFiles, Keychains};
use aico_vault::{KdfCost, Password};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Method, Request as HttpRequest};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_util::sync::CancellationToken;

/// Nothing in these tests takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const OWNER: &str = "velvet harbour moss lantern";
pub(crate) const MEMBER: &str = "copper meadow violin seventeen";
pub(crate) const STRANGER: &str = "granite teapot umbrella forest";

/// Awaits with a deadline.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen in time"),
    }
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

pub(crate) fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

/// A signed-in person.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) id: PersonId,
    pub(crate) token: String,
    pub(crate) session: SessionId,
}

/// A bus with a door that nobody goes through, and where nothing more is said.
struct Broker(Bus);

#[async_trait::async_trait]
impl BrokerSource for Broker {
    async fn door(&self) -> Option<Door> {
        Some(Door {
            endpoints: vec!["tcp://127.0.0.1:1".into()],
            live_endpoints: Vec::new(),
            server_public: String::new(),
        })
    }

    fn stats(&self) -> BusStats {
        self.0.stats()
    }

    fn tail(&self, pattern: &str) -> Result<Subscription, BusError> {
        let quiet = Bus::new(Arc::new(BusPolicy::default()));
        let all = quiet
            .join(Identity::new(TAIL))
            .subscribe(pattern, Queue::default());
        quiet.close();
        all
    }
}

pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) bus: Bus,
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) companion: Companion,
    pub(crate) models: Models,
    pub(crate) served: tokio::task::JoinHandle<std::io::Result<()>>,
    pub(crate) data: tempfile::TempDir,
    /// Where key files go.
    keys: tempfile::TempDir,
    /// The owner's recovery phrase, once there is one.
    phrase: Mutex<String>,
}

impl World {
    /// Nothing is set up.
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default(), Arc::new(Nothing)).await
    }

    pub(crate) async fn with(limits: Limits, logs: Arc<dyn LogSource>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let keys = tempfile::tempdir().unwrap();
        let home = Home::open(HomeConfig {
            data: data.path().to_owned(),
            kdf: KdfCost::minimum(),
            keychains: Arc::new(Keychains::new(vec![Box::new(KeyFiles::new(
                keys.path().join("keys"),
            ))])),
            backups: keys.path().join("backups"),
            configuration: None,
            token_hours: 24,
            system_migrations: Vec::new(),
            person_migrations: vec![aico_access::EGRESS_MIGRATIONS],
            person_exports: Vec::new(),
        })
        .unwrap();
        let bus = Bus::new(Arc::new(BusPolicy::new(home.grants())));
        let companion = Companion::start(bus.join(Identity::new("companion")));
        let models = serve_models(&bus);
        let stop = CancellationToken::new();
        let config = GatewayConfig {
            limits,
            stop: stop.clone(),
            broker: Arc::new(Broker(bus.clone())),
            ..GatewayConfig::default()
        };
        let client = bus.join(Identity::new("gateway"));
        let gateway = Gateway::new(config, home.clone(), client, logs, Arc::new(Nothing));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = gateway.clone();
        let served = tokio::spawn(async move { serving.serve_tcp(listener).await });
        Self {
            home,
            bus,
            gateway,
            address,
            stop,
            companion,
            models,
            served,
            data,
            keys,
            phrase: Mutex::default(),
        }
    }

    pub(crate) fn phrase(&self) -> String {
        self.phrase.lock().clone()
    }

    /// How many key files there are.
    pub(crate) fn key_files(&self) -> usize {
        std::fs::read_dir(self.keys.path().join("keys")).map_or(0, Iterator::count)
    }

    /// Set up, with its owner signed in.
    pub(crate) async fn ready() -> (Self, Person) {
        Self::ready_with(Limits::default()).await
    }

    pub(crate) async fn ready_with(limits: Limits) -> (Self, Person) {
        let world = Self::with(limits, Arc::new(Nothing)).await;
        let owner = world.set_up().await;
        (world, owner)
    }

    pub(crate) async fn set_up(&self) -> Person {
        let proof = SetupProof::LocalSocket;
        let done = self
            .home
            .set_up(proof, "Ada", &password(OWNER), "test")
            .await
            .unwrap();
        *self.phrase.lock() = done.phrase.words().join(" ");
        Person {
            id: done.session.person.id,
            token: done.session.token.to_string(),
            session: done.session.id,
        }
    }

    pub(crate) async fn add(&self, name: &str, secret: &str) -> Person {
        self.home.add_person(name, &password(secret)).await.unwrap();
        self.sign_in(name, secret).await
    }

    pub(crate) async fn sign_in(&self, name: &str, secret: &str) -> Person {
        let source = Source {
            client: "test".to_owned(),
            local: false,
        };
        let session = self
            .home
            .sign_in(name, &password(secret), source)
            .await
            .unwrap();
        Person {
            id: session.person.id,
            token: session.token.to_string(),
            session: session.id,
        }
    }

    /// One request on a connection of its own.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Reply {
        let mut headers = vec![("host", self.address.to_string())];
        if let Some(token) = token {
            headers.push(("authorization", format!("Bearer {token}")));
        }
        let body = body.map(|body| body.to_string());
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        self.send(method, path, &headers, body.unwrap_or_default().into())
            .await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Reply {
        self.call("GET", path, Some(token), None).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Reply {
        self.call("POST", path, Some(token), Some(body)).await
    }

    /// One request with exactly these headers.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> Reply {
        let stream = TcpStream::connect(self.address).await.unwrap();
        soon("an answer", exchange(stream, method, path, headers, body)).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A WebSocket that has not authenticated.
    pub(crate) async fn open(&self) -> Socket {
        let request = format!("ws://{}/ws", self.address)
            .into_client_request()
            .unwrap();
        let stream = self.connect().await;
        let (socket, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        Socket { socket }
    }

    /// An authenticated WebSocket and the server's first frame.
    pub(crate) async fn follow(&self, token: &str, resume: Option<Value>) -> (Socket, Value) {
        let mut socket = self.open().await;
        let mut first = json!({"type": "authenticate", "token": token});
        if let Some(resume) = resume {
            first["resume"] = resume;
        }
        socket.say(first).await;
        let answer = socket.frame().await;
        assert_eq!(answer["type"], "authenticated", "{answer}");
        (socket, answer)
    }
}

/// One request over a stream.
pub(crate) async fn exchange<IO>(
    stream: IO,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: Bytes,
) -> Reply
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = HttpRequest::builder()
        .method(method.parse::<Method>().unwrap())
        .uri(path);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = sender
        .send_request(request.body(Full::new(body)).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} is no JSON ({error}): {:?}", self.status, self.body))
    }

    /// The problem's code; checks that it is a problem document of the same status. On addresses
    /// that have another's shape: the code that is told there, by our name for it.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        if self.headers["content-type"] == "application/json" {
            let told = self.json();
            let code = match &told["error"] {
                Value::String(_) => &told["code"],
                fault => &fault["code"],
            };
            return match code.as_str().unwrap() {
                "invalid_api_key" if self.body.windows(5).any(|w| w == b"needs") => {
                    "sign-in-needed"
                }
                "invalid_api_key" => "token-invalid",
                other => other,
            }
            .to_owned();
        }
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        problem["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}

/// A client's WebSocket.
pub(crate) struct Socket {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Socket {
    pub(crate) async fn say(&mut self, frame: Value) {
        self.socket
            .send(Message::text(frame.to_string()))
            .await
            .unwrap();
    }

    /// The next message; `None` when the connection is gone.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        loop {
            match soon("a message", self.socket.next()).await? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Some(message),
                Err(_) => return None,
            }
        }
    }

    /// The next JSON frame.
    pub(crate) async fn frame(&mut self) -> Value {
        match self.message().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    /// Reads on until the close frame and returns its code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.message().await {
                Some(Message::Close(Some(frame))) => return frame.code.into(),
                Some(Message::Text(_)) => {}
                other => panic!("a close frame was expected, not {other:?}"),
            }
        }
    }
}

struct Kept {
    conversation: v1::Conversation,
    messages: Vec<v1::Message>,
}

type Shelves = HashMap<PersonId, HashMap<ConversationId, Kept>>;

/// A double of the companion: keeps what it is told in memory, and says what the test says.
#[derive(Clone)]
pub(crate) struct Companion {
    bus: Client,
    shelves: Arc<Mutex<Shelves>>,
    /// Answers that were cancelled.
    pub(crate) cancelled: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Whose they are, and their ids.
    characters: Arc<Mutex<Vec<(PersonId, String)>>>,
}

impl Companion {
    fn start(bus: Client) -> Self {
        let companion = Self {
            bus,
            shelves: Arc::default(),
            cancelled: Arc::default(),
            characters: Arc::default(),
        };
        let mut requests = companion
            .bus
            .serve(topics::CONVERSATION_REQUESTS, 16)
            .unwrap();
        let serving = companion.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                serving.serve(request);
            }
        });
        companion
    }

    fn serve(&self, request: Request) {
        let topic = request.envelope.topic.clone();
        let person = topics::person_of(&topic).unwrap();
        assert_eq!(request.envelope.person.as_ref(), person.as_bytes());
        match topic.rsplit('.').next().unwrap() {
            verb::LIST => {
                let shelves = self.shelves.lock();
                let items = shelves.get(&person).into_iter().flat_map(HashMap::values);
                let items = items.map(|kept| kept.conversation.clone()).collect();
                drop(shelves);
                request.reply(v1::ConversationList {
                    items,
                    next: String::new(),
                });
            }
            verb::CREATE => {
                let wanted: v1::CreateConversation = request.decode().unwrap();
                let id = self.create(person, &wanted.title);
                request.reply(self.conversation(person, id).unwrap());
            }
            verb::GET => {
                let wanted: v1::GetConversation = request.decode().unwrap();
                let id = ConversationId::from_slice(&wanted.id).unwrap();
                let shelves = self.shelves.lock();
                let found = shelves
                    .get(&person)
                    .and_then(|mine| mine.get(&id))
                    .map(|kept| v1::ConversationDetail {
                        conversation: Some(kept.conversation.clone()),
                        messages: kept.messages.clone(),
                    });
                drop(shelves);
                answer(request, found);
            }
            verb::UPDATE => {
                let wanted: v1::UpdateConversation = request.decode().unwrap();
                let id = ConversationId::from_slice(&wanted.id).unwrap();
                let mut shelves = self.shelves.lock();
                let kept = shelves.get_mut(&person).and_then(|mine| mine.get_mut(&id));
                let changed = kept.map(|kept| {
                    if let Some(title) = wanted.title {
                        kept.conversation.title = title;
                    }
                    kept.conversation.clone()
                });
                drop(shelves);
                answer(request, changed);
            }
            verb::DELETE => {
                let wanted: v1::DeleteConversation = request.decode().unwrap();
                let id = ConversationId::from_slice(&wanted.id).unwrap();
                let gone = self
                    .shelves
                    .lock()
                    .get_mut(&person)
                    .and_then(|mine| mine.remove(&id));
                answer(request, gone.map(|_| v1::Empty {}));
            }
            verb::SEND => {
                let wanted: v1::SendMessage = request.decode().unwrap();
                let id = ConversationId::from_slice(&wanted.conversation).unwrap();
                let answered = self.accept(person, id, &wanted.text);
                answer(request, answered);
            }
            verb::REGENERATE => {
                let wanted: v1::RegenerateAnswer = request.decode().unwrap();
                let answered = self
                    .has(person, &wanted.conversation, &wanted.answer)
                    .and_then(|id| self.accept(person, id, "again"));
                answer(request, answered);
            }
            verb::EDIT => {
                let wanted: v1::EditMessage = request.decode().unwrap();
                let answered = self
                    .has(person, &wanted.conversation, &wanted.message)
                    .and_then(|id| self.accept(person, id, &wanted.text));
                answer(request, answered);
            }
            verb::CANCEL => {
                let wanted: v1::CancelAnswer = request.decode().unwrap();
                self.cancelled.lock().push(wanted.answer.clone());
                let found = self.has(person, &wanted.conversation, &wanted.answer);
                answer(request, found.map(|_| v1::Empty {}));
            }
            verb::SEARCH => {
                let wanted: v1::Search = request.decode().unwrap();
                if wanted.query.contains("break") {
                    // An id that is none: a defect of this module.
                    let items = vec![v1::SearchHit {
                        conversation: vec![1],
                        ..Default::default()
                    }];
                    return request.reply(v1::SearchResult { items });
                }
                request.reply(v1::SearchResult::default());
            }
            verb::TALK => {
                let wanted: v1::Talk = request.decode().unwrap();
                let id = self.create(person, "");
                let begun = self.accept(person, id, &wanted.text).unwrap();
                let answer = MessageId::from_slice(&begun.answer).unwrap();
                request.reply(v1::Talking {
                    conversation: id.to_vec(),
                    message: begun.message,
                    answer: begun.answer,
                });
                self.echo(person, id, answer, &wanted.text);
            }
            verb::CHARACTERS => request.reply(v1::CharacterList {
                items: vec![
                    v1::Character::default(),
                    v1::Character {
                        chosen: true,
                        models: vec![uuid::Uuid::from_bytes([6; 16]).to_string()],
                        ..v1::Character::default()
                    },
                ],
            }),
            verb::CHARACTER => {
                let wanted: v1::GetCharacter = request.decode().unwrap();
                let found = self.character(person, &wanted.id);
                let found = found.map(|character| v1::CharacterDetail {
                    character: Some(character),
                    text: Some(v1::CharacterText::default()),
                    portrait: vec![1],
                    ..v1::CharacterDetail::default()
                });
                answer(request, found);
            }
            verb::SAVE_CHARACTER => {
                let wanted: v1::SaveCharacter = request.decode().unwrap();
                let id = match wanted.id.as_str() {
                    "" => self.create_character(person),
                    id => id.to_owned(),
                };
                answer(request, self.character(person, &id));
            }
            verb::IMPORT_CHARACTER => {
                let id = self.create_character(person);
                request.reply(v1::ImportedCharacter {
                    character: self.character(person, &id),
                    ..v1::ImportedCharacter::default()
                });
            }
            verb::EXPORT_CHARACTER => {
                let wanted: v1::ExportCharacter = request.decode().unwrap();
                let found = self.character(person, &wanted.id);
                answer(request, found.map(|_| v1::ExportedCharacter::default()));
            }
            verb::REMOVE_CHARACTER => {
                let wanted: v1::RemoveCharacter = request.decode().unwrap();
                let found = self.character(person, &wanted.id);
                answer(request, found.map(|_| v1::RemovedCharacter::default()));
            }
            verb::USE_CHARACTER => request.reply(v1::Empty {}),
            _ => request.fault(Fault::invalid("unknown verb")),
        }
    }

    /// A character of this person's.
    pub(crate) fn create_character(&self, person: PersonId) -> String {
        let id = ConversationId::new().to_string();
        self.characters.lock().push((person, id.clone()));
        id
    }

    fn character(&self, person: PersonId, id: &str) -> Option<v1::Character> {
        let characters = self.characters.lock();
        let known = characters
            .iter()
            .any(|(whose, known)| *whose == person && known == id);
        known.then(|| v1::Character {
            id: id.to_owned(),
            ..v1::Character::default()
        })
    }

    /// An empty conversation.
    pub(crate) fn create(&self, person: PersonId, title: &str) -> ConversationId {
        let id = ConversationId::new();
        let conversation = v1::Conversation {
            id: id.to_vec(),
            title: title.to_owned(),
            character: "aico".to_owned(),
            created_unix_ms: 1_700_000_000_000,
            updated_unix_ms: 1_700_000_000_000,
            active_leaf: Vec::new(),
        };
        let kept = Kept {
            conversation,
            messages: Vec::new(),
        };
        self.shelves
            .lock()
            .entry(person)
            .or_default()
            .insert(id, kept);
        id
    }

    fn conversation(&self, person: PersonId, id: ConversationId) -> Option<v1::Conversation> {
        self.shelves
            .lock()
            .get(&person)?
            .get(&id)
            .map(|kept| kept.conversation.clone())
    }

    /// The conversation that holds this message, when it is this person's.
    fn has(&self, person: PersonId, conversation: &[u8], message: &[u8]) -> Option<ConversationId> {
        let shelves = self.shelves.lock();
        let (id, _) = shelves.get(&person)?.iter().find(|(id, kept)| {
            (conversation.is_empty() || id.as_bytes() == conversation)
                && kept.messages.iter().any(|known| known.id == message)
        })?;
        Some(*id)
    }

    /// What sending does: two messages, two events.
    pub(crate) fn accept(
        &self,
        person: PersonId,
        id: ConversationId,
        text: &str,
    ) -> Option<v1::Accepted> {
        let (message, answer) = (MessageId::new(), MessageId::new());
        let said = self.message(
            id,
            message,
            v1::Role::User,
            text,
            v1::MessageStatus::Complete,
        );
        let begun = self.message(
            id,
            answer,
            v1::Role::Assistant,
            "",
            v1::MessageStatus::Streaming,
        );
        {
            let mut shelves = self.shelves.lock();
            let kept = shelves.get_mut(&person)?.get_mut(&id)?;
            kept.messages.extend([said.clone(), begun.clone()]);
        }
        for message in [said, begun] {
            let created = v1::MessageCreated {
                message: Some(message),
            };
            self.tell(person, event::MESSAGE_CREATED, &created);
        }
        Some(v1::Accepted {
            message: message.to_vec(),
            answer: answer.to_vec(),
        })
    }

    fn message(
        &self,
        conversation: ConversationId,
        id: MessageId,
        role: v1::Role,
        text: &str,
        status: v1::MessageStatus,
    ) -> v1::Message {
        let content = v1::part::Content::Text(text.to_owned());
        v1::Message {
            id: id.to_vec(),
            conversation: conversation.to_vec(),
            role: role.into(),
            parts: vec![v1::Part {
                content: Some(content),
            }],
            status: status.into(),
            created_unix_ms: 1_700_000_000_000,
            siblings: vec![id.to_vec()],
            ..Default::default()
        }
    }

    /// Publishes an event of this person.
    pub(crate) fn tell(
        &self,
        person: PersonId,
        kind: &str,
        payload: &impl aico_contracts::Payload,
    ) {
        let topic = topics::conversation_event(person, kind);
        self.bus
            .publish(&topic, payload, Meta::for_person(person))
            .unwrap();
    }

    /// Answers with the words of the question, unless it says to wait.
    fn echo(&self, person: PersonId, conversation: ConversationId, id: MessageId, text: &str) {
        if text == "wait" {
            return;
        }
        for (index, word) in text.split_inclusive(' ').enumerate() {
            let delta = v1::AnswerDelta {
                conversation: conversation.to_vec(),
                message: id.to_vec(),
                part: 0,
                index: index as u64,
                text: word.to_owned(),
                thinking: false,
            };
            self.tell(person, event::ANSWER_DELTA, &delta);
        }
        let status = v1::MessageStatus::Complete;
        let message = self.message(conversation, id, v1::Role::Assistant, text, status);
        let stats = v1::AnswerStats {
            prompt_tokens: 3,
            answer_tokens: 2,
            ..Default::default()
        };
        let done = v1::AnswerDone {
            message: Some(message),
            stats: Some(stats),
        };
        self.tell(person, event::ANSWER_DONE, &done);
    }

    /// One delta of some answer.
    pub(crate) fn delta(&self, person: PersonId, index: u64, text: &str) {
        let delta = v1::AnswerDelta {
            conversation: vec![7; 16],
            message: vec![8; 16],
            part: 0,
            index,
            text: text.to_owned(),
            thinking: false,
        };
        self.tell(person, event::ANSWER_DELTA, &delta);
    }

    /// The end of some answer.
    pub(crate) fn done(&self, person: PersonId, text: &str) {
        let (conversation, id) = (ConversationId::new(), MessageId::new());
        let status = v1::MessageStatus::Interrupted;
        let message = self.message(conversation, id, v1::Role::Assistant, text, status);
        let done = v1::AnswerDone {
            message: Some(message),
            stats: None,
        };
        self.tell(person, event::ANSWER_DONE, &done);
    }

    /// Answers of this person that have begun and not ended.
    pub(crate) fn streaming(&self, person: PersonId) -> usize {
        let shelves = self.shelves.lock();
        let kept = shelves.get(&person).into_iter().flat_map(HashMap::values);
        kept.flat_map(|kept| &kept.messages)
            .filter(|message| message.status() == v1::MessageStatus::Streaming)
            .count()
    }

    /// The ids of the messages of a conversation: what was said, its answer, and so on.
    pub(crate) fn messages(&self, person: PersonId, id: ConversationId) -> Vec<MessageId> {
        let shelves = self.shelves.lock();
        let kept = &shelves[&person][&id];
        kept.messages
            .iter()
            .map(|m| MessageId::from_slice(&m.id).unwrap())
            .collect()
    }
}

fn answer<M: aico_contracts::Payload>(request: Request, found: Option<M>) {
    match found {
        Some(message) => request.reply(message),
        None => request.fault(Fault::not_found("There is no such conversation")),
    }
}

/// The one model of the double.
pub(crate) fn the_model() -> ModelId {
    ModelId::from_slice(&[5; 16]).unwrap()
}

/// The list of the double: the one model, and another that does not answer now.
fn the_list() -> v1::ModelList {
    let model = |id: Vec<u8>, name: &str, active| v1::Model {
        id,
        name: name.to_owned(),
        active,
        architecture: "llama".to_owned(),
        parameters: 8_200_000_000,
        quantization: "Q4_0".to_owned(),
        context_length: 4096,
        size_bytes: 1 << 32,
        modified_unix_ms: 1_700_000_000_000,
        present: true,
        ..Default::default()
    };
    v1::ModelList {
        items: vec![
            model(the_model().to_vec(), "Starter (tiny)", true),
            v1::Model {
                capabilities: vec!["chat".to_owned(), "images".to_owned()],
                ..model(vec![6; 16], "Other", false)
            },
            // Its file is gone.
            v1::Model {
                present: false,
                ..model(vec![7; 16], "Gone", false)
            },
            v1::Model {
                engine: "lab".to_owned(),
                ..model(vec![8; 16], "Large/70B", false)
            },
            v1::Model {
                capabilities: vec!["embeddings".to_owned()],
                ..model(vec![9; 16], "Nomic", false)
            },
        ],
        state: None,
    }
}

/// One model, one sample, one question of the asker's.
fn the_activity(asker: PersonId) -> v1::ModelsActivity {
    let model = the_model().to_vec();
    v1::ModelsActivity {
        at_unix_ms: 1_700_000_000_000,
        sample_every_ms: 5000,
        models: vec![v1::ModelActivity {
            model: model.clone(),
            name: "Starter (tiny)".to_owned(),
            status: v1::model_state::Status::Ready.into(),
            ..Default::default()
        }],
        samples: vec![v1::ActivitySample {
            at_unix_ms: 1_700_000_000_000,
            models: vec![v1::ModelSample {
                model: model.clone(),
                ..Default::default()
            }],
            ..Default::default()
        }],
        // The id tells the test whom the question named.
        requests: vec![v1::AskedOfModel {
            request: asker.to_vec(),
            model,
            at_unix_ms: 1_700_000_000_000,
            outcome: v1::asked_of_model::Outcome::Completed.into(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What the double of the models was asked, and what became of it.
#[derive(Clone, Default)]
pub(crate) struct Models {
    pub(crate) asked: Arc<Mutex<Vec<(v1::Generate, Envelope)>>>,
    /// Answers that were given up before their end.
    pub(crate) dropped: Arc<Mutex<usize>>,
    /// What was prepared, and whether no other would have done.
    pub(crate) prepared: Arc<Mutex<Vec<(String, bool)>>>,
    /// What was let go.
    pub(crate) unloaded: Arc<Mutex<Vec<Vec<u8>>>>,
    /// What was counted.
    pub(crate) counted: Arc<Mutex<Vec<v1::CountTokens>>>,
    /// For whom vectors were asked.
    pub(crate) embedded_for: Arc<Mutex<Vec<PersonId>>>,
    /// Texts that are never answered.
    waiting: Arc<Mutex<Vec<Request>>>,
}

impl Models {
    /// Every model is ready at once; that one whose file is gone can't be.
    fn prepare(&self, request: Request) {
        let asked: v1::PrepareModel = request.decode().unwrap();
        let wanted = asked.wanted.first().cloned().unwrap_or_default();
        self.prepared.lock().push((wanted.clone(), asked.only));
        let id = uuid::Uuid::parse_str(&wanted).unwrap();
        if id.as_bytes() == &[7; 16] {
            return request.fault(
                Fault::new("model-missing", "The model's file is not there")
                    .with_what_to_do("Put it back."),
            );
        }
        if id.as_bytes() == &[8; 16] {
            return request.fault(Fault::new("engine-not-allowed", "You have not allowed it"));
        }
        request.reply(v1::PreparedModel {
            state: Some(v1::ModelState {
                status: v1::model_state::Status::Ready.into(),
                model: id.as_bytes().to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        });
    }
}

impl Models {
    /// Words are tokens, and each turn has two more. One that is asked twice for the same was gone
    /// the first time, if its words say so.
    fn count(&self, request: Request) {
        let asked: v1::CountTokens = request.decode().unwrap();
        let mut counted = self.counted.lock();
        let again = counted.contains(&asked);
        counted.push(asked.clone());
        if asked.model == [8; 16] {
            return request.fault(Fault::new("model-not-capable", "It counts no tokens"));
        }
        if asked.turns.iter().any(|turn| turn.text == "gone") && !again {
            return request.fault(Fault::new("model-changed", "Another model answers now"));
        }
        let words = |turn: &v1::Turn| turn.text.split_whitespace().count() + 2;
        let tokens: usize = asked.turns.iter().map(words).sum();
        request.reply(v1::TokenCount {
            tokens: u32::try_from(tokens).unwrap(),
            context_length: 512,
        });
    }
}

/// Says the words of the last turn, or what it asks for: to wait, to fail, to break off.
async fn generate(models: Models, request: Request) {
    use v1::generated::Item;
    let of = |item| v1::Generated { item: Some(item) };
    let asked: v1::Generate = request.decode().unwrap();
    let text = asked.turns.last().unwrap().text.clone();
    let envelope = Envelope::clone(&request.envelope);
    models.asked.lock().push((asked, envelope));
    let mut stream = request.stream();
    match text.as_str() {
        "busy" => return stream.fault(Fault::busy("Too many questions wait for the model")),
        "too long" => return stream.fault(Fault::too_long("The message is too long")),
        text if text.starts_with("fault ") => {
            let fault = Fault::new(&text[6..], "lab can't").with_what_to_do("Mend lab.");
            return stream.fault(fault);
        }
        _ => {}
    }
    stream.send(of(Item::Queued(0))).await.unwrap();
    stream.send(of(Item::Thinking("hm".into()))).await.unwrap();
    for word in text.split_inclusive(' ') {
        stream.send(of(Item::Text(word.to_owned()))).await.unwrap();
    }
    match text.as_str() {
        "wait" => {
            stream.cancelled().await;
            *models.dropped.lock() += 1;
        }
        "break" => stream.fault(Fault::model_failed("The model could not go on")),
        _ => stream.end(of(Item::End(v1::GeneratedEnd {
            reason: v1::generated_end::Reason::Length.into(),
            prompt_tokens: 5,
            cached_tokens: 4,
            answer_tokens: 3,
            dropped_turns: 2,
            ..Default::default()
        }))),
    }
}

/// Doubles of the model manager and of the process beside it.
fn serve_models(bus: &Bus) -> Models {
    let models = Models::default();
    let bus = bus.join(Identity::new("models"));
    let mut questions = bus.serve(topics::MODELS_GENERATE, 16).unwrap();
    let all = models.clone();
    tokio::spawn(async move {
        while let Some(request) = questions.recv().await {
            tokio::spawn(generate(all.clone(), request));
        }
    });
    let topics_of_manager = [
        topics::MODELS_LIST,
        topics::MODELS_ADD,
        topics::MODELS_USE,
        topics::MODELS_REMOVE,
        topics::MODELS_CATALOGUE,
        topics::MODELS_PULL,
        topics::MODELS_PULLS,
        topics::MODELS_CANCEL_PULL,
        topics::MODELS_PIN,
        topics::MODELS_ACTIVITY,
        topics::MODELS_ENGINES,
        topics::MODELS_CHECK_ENGINE,
        topics::MODELS_MAKE_OFFER,
        topics::MODELS_MAKE,
        topics::MODELS_JOBS,
        topics::MODELS_CANCEL_JOB,
        topics::MODELS_SHOW,
        topics::MODELS_DELETE,
        topics::MODELS_INSTALLATION,
        topics::MODELS_INSTALL_ENGINE,
        topics::MODELS_CANCEL_INSTALLATION,
        topics::MODELS_EMBED,
        topics::MODELS_ENTITIES,
        topics::MODELS_CLASSIFY,
        topics::MODELS_PACKAGES,
        topics::MODELS_ADD_PACKAGE,
        topics::MODELS_REMOVE_PACKAGE,
        topics::MODELS_GET_STATE,
        topics::MODELS_PREPARE,
        topics::MODELS_COUNT,
        topics::MODELS_UNLOAD,
    ];
    for topic in topics_of_manager {
        let mut requests = bus.serve(topic, 16).unwrap();
        let models = models.clone();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let known = |id: &[u8]| (id == the_model().as_bytes()).then_some(v1::Empty {});
                match &*request.envelope.topic {
                    topics::MODELS_LIST => request.reply(the_list()),
                    topics::MODELS_ADD => {
                        let wanted: v1::AddModel = request.decode().unwrap();
                        if wanted.path.ends_with(".gguf") {
                            let id = ModelId::new().to_vec();
                            request.reply(v1::Model {
                                id,
                                ..Default::default()
                            });
                        } else {
                            request.fault(Fault::new("not-a-model", "This is no GGUF file"));
                        }
                    }
                    topics::MODELS_USE => {
                        let wanted: v1::UseModel = request.decode().unwrap();
                        answer(request, known(&wanted.id));
                    }
                    topics::MODELS_REMOVE => {
                        let wanted: v1::RemoveModel = request.decode().unwrap();
                        answer(request, known(&wanted.id));
                    }
                    topics::MODELS_PIN => {
                        let wanted: v1::PinModel = request.decode().unwrap();
                        answer(request, known(&wanted.id));
                    }
                    topics::MODELS_ACTIVITY => {
                        let asker = PersonId::from_slice(&request.envelope.person);
                        request.reply(the_activity(asker.unwrap()));
                    }
                    topics::MODELS_PREPARE => models.prepare(request),
                    topics::MODELS_COUNT => models.count(request),
                    topics::MODELS_UNLOAD => {
                        let wanted: v1::UnloadModel = request.decode().unwrap();
                        models.unloaded.lock().push(wanted.id);
                        request.reply(v1::Empty {});
                    }
                    topics::MODELS_CATALOGUE => request.reply(v1::Catalogue::default()),
                    topics::MODELS_PULL => {
                        let wanted: v1::PullModel = request.decode().unwrap();
                        request.reply(v1::Pull {
                            name: wanted.name,
                            state: v1::pull::State::Queued.into(),
                            ..v1::Pull::default()
                        });
                    }
                    topics::MODELS_PULLS => request.reply(v1::PullList::default()),
                    topics::MODELS_CANCEL_PULL => request.reply(v1::Empty {}),
                    topics::MODELS_ENGINES => request.reply(v1::EngineList {
                        items: vec![the_engine()],
                    }),
                    topics::MODELS_CHECK_ENGINE => request.reply(v1::Engine {
                        models: vec!["large".to_owned()],
                        ..the_engine()
                    }),
                    topics::MODELS_MAKE_OFFER => request.reply(v1::EngineOffer::default()),
                    topics::MODELS_MAKE => {
                        let wanted: v1::MakeEngineModel = request.decode().unwrap();
                        request.reply(v1::EngineJob {
                            engine: wanted.engine,
                            name: wanted.name,
                            model: the_model().to_vec(),
                            ..v1::EngineJob::default()
                        });
                    }
                    topics::MODELS_JOBS => request.reply(v1::EngineJobList::default()),
                    topics::MODELS_CANCEL_JOB
                    | topics::MODELS_DELETE
                    | topics::MODELS_CANCEL_INSTALLATION => {
                        request.reply(v1::Empty {});
                    }
                    topics::MODELS_INSTALLATION => request.reply(the_installation()),
                    topics::MODELS_INSTALL_ENGINE => {
                        let wanted: v1::InstallEngine = request.decode().unwrap();
                        let known = the_installation().release.unwrap();
                        if (wanted.version, wanted.sha256) == (known.version, known.sha256) {
                            request.reply(the_installation());
                        } else {
                            request.fault(Fault::conflict("This is another one"));
                        }
                    }
                    topics::MODELS_SHOW => request.reply(v1::EngineModelDetails::default()),
                    topics::MODELS_EMBED => {
                        let wanted: v1::Embed = request.decode().unwrap();
                        let asker = PersonId::from_slice(&request.envelope.person);
                        models.embedded_for.lock().push(asker.unwrap());
                        if wanted.texts == ["wait"] {
                            models.waiting.lock().push(request);
                            continue;
                        }
                        let item = |text: &String| v1::EmbeddedText {
                            vector: vec![text.len() as f32, 0.5],
                            tokens: 3,
                            truncated: text.len() > 20,
                        };
                        request.reply(v1::Embedded {
                            model: "vectors".to_owned(),
                            items: wanted.texts.iter().map(item).collect(),
                        });
                    }
                    topics::MODELS_ENTITIES => request.reply(v1::FoundEntities::default()),
                    topics::MODELS_CLASSIFY => request.reply(v1::Classified::default()),
                    topics::MODELS_PACKAGES => request.reply(v1::PackageList {
                        items: vec![v1::ModelPackage {
                            name: "vectors".to_owned(),
                            task: "embedding".to_owned(),
                            architecture: "bert".to_owned(),
                            dimensions: 2,
                            ..v1::ModelPackage::default()
                        }],
                    }),
                    topics::MODELS_ADD_PACKAGE => request.reply(v1::ModelPackage::default()),
                    topics::MODELS_REMOVE_PACKAGE => request.reply(v1::Empty {}),
                    topics::MODELS_GET_STATE => request.reply(v1::ModelState {
                        status: v1::model_state::Status::Ready.into(),
                        model: the_model().to_vec(),
                        name: "starter".to_owned(),
                        ..Default::default()
                    }),
                    _ => request.fault(Fault::invalid("unknown topic")),
                }
            }
        });
    }
    models
}

/// A program that can be installed, and is on its way.
pub fn the_installation() -> v1::EngineInstallation {
    v1::EngineInstallation {
        engine: "ollama".to_owned(),
        program: "/usr/bin/ollama".to_owned(),
        starts: true,
        release: Some(v1::EngineRelease {
            version: "0.35.0".to_owned(),
            source: "https://hub.test/ollama.tgz".to_owned(),
            size_bytes: 1 << 30,
            sha256: "1c".repeat(32),
            ..v1::EngineRelease::default()
        }),
        run: Some(v1::EngineInstalling {
            version: "0.35.0".to_owned(),
            state: v1::engine_installing::State::Running.into(),
            done_bytes: 1 << 20,
            total_bytes: 1 << 30,
            bytes_per_second: 1 << 20,
            fault: None,
        }),
        ..v1::EngineInstallation::default()
    }
}

/// A server on another machine.
pub fn the_engine() -> v1::Engine {
    v1::Engine {
        name: "lab".to_owned(),
        kind: "openai".to_owned(),
        address: "lab.test:443".to_owned(),
        network: true,
        ..Default::default()
    }
}

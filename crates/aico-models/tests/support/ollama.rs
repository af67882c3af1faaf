//! A double of Ollama on a real socket, in both dialects, written from its API and its sources:
//! as good or as bad as a test wants it.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// 0.12.0
    Old,
    /// 0.32 and later.
    New,
}

/// What goes wrong with the next answer of a path.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is taken and nothing is ever said.
    Hang,
    /// So many lines come, and then nothing.
    HangAfter(usize),
    /// The second line ends in its middle, and the answer ends as if it were whole.
    HalfLine,
    /// The connection breaks in the second line.
    Cut,
    /// The connection breaks in the line of this number.
    CutAt(usize),
    /// An error in place of the second line.
    Error(&'static str),
    /// The answer ends well, without `done` or `success`.
    NoDone,
    /// A line that is no JSON.
    Garbage,
    /// A line without end.
    Endless,
    /// A length that is less than what comes.
    ShortLength,
    /// A length that is more than what comes.
    LongLength,
    /// Time between the lines.
    Slow(Duration),
    /// A status and an error with it.
    Status(u16, &'static str),
    /// As another web server answers.
    OtherProgram,
    /// As something that is no web server.
    NotHttp,
}

#[derive(Debug, Clone)]
pub struct Model {
    pub capabilities: Vec<&'static str>,
    pub context: u64,
    pub size: u64,
    pub remote: bool,
    pub family: &'static str,
    pub made_of: Value,
}

impl Model {
    pub fn new(capabilities: &[&'static str]) -> Self {
        Self {
            capabilities: capabilities.to_vec(),
            context: 32_768,
            size: 1_000_000,
            remote: false,
            family: "qwen3",
            made_of: Value::Null,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub body: Value,
}

#[derive(Default)]
pub struct State {
    pub version: String,
    pub models: BTreeMap<String, Model>,
    pub loaded: VecDeque<String>,
    /// Seconds that they were told to stay; a negative number is for ever.
    pub stays: BTreeMap<String, i64>,
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub asked: Vec<Asked>,
    pub faults: Vec<(String, Fault)>,
    /// Layers of what is pulled: digest and bytes.
    pub layers: Vec<(&'static str, u64)>,
    /// Answers now, and the most at once.
    pub busy: usize,
    pub most: usize,
    /// Answers that nobody wanted any more.
    pub cancelled: usize,
    /// What it says, piece by piece.
    pub says: Vec<String>,
    pub between: Duration,
    pub prompt_tokens: u64,
}

#[derive(Clone)]
pub struct Double {
    pub address: SocketAddr,
    pub dialect: Dialect,
    state: Arc<Mutex<State>>,
    _task: Arc<Task>,
}

struct Task(tokio::task::JoinHandle<()>);
impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn full(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.contains(':') {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    }
}

impl Double {
    pub async fn start(dialect: Dialect) -> Self {
        Self::on("127.0.0.1:0", dialect).await
    }

    pub async fn on(address: &str, dialect: Dialect) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let state = State {
            version: match dialect {
                Dialect::Old => "0.12.0",
                Dialect::New => "0.32.15",
            }
            .to_owned(),
            models: BTreeMap::from([
                ("chat:latest".to_owned(), Model::new(&["completion"])),
                (
                    "clever:8b".to_owned(),
                    Model::new(&["completion", "tools", "thinking", "vision"]),
                ),
                ("vectors:latest".to_owned(), Model::new(&["embedding"])),
            ]),
            layers: vec![("sha256:aa", 1000), ("sha256:bb", 500)],
            says: ["Hel", "lo ", "there."].map(str::to_owned).to_vec(),
            prompt_tokens: 20,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let address = listener.local_addr().unwrap();
        let (shared, at) = (Arc::clone(&state), address);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let one = Connection {
                    state: Arc::clone(&shared),
                    dialect,
                    address: at,
                };
                connections.spawn(async move {
                    let _the_other_side_went = one.serve(stream).await;
                });
            }
        });
        Self {
            address,
            dialect,
            state,
            _task: Arc::new(Task(task)),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The next answer of this path goes wrong.
    pub fn fail(&self, path: &str, fault: Fault) {
        self.state().faults.push((path.to_owned(), fault));
    }

    pub fn asked(&self, path: &str) -> Vec<Value> {
        let state = self.state();
        let of = state.asked.iter().filter(|one| one.path == path);
        of.map(|one| one.body.clone()).collect()
    }

    pub fn last(&self, path: &str) -> Value {
        self.asked(path).pop().unwrap_or_default()
    }
}

struct Connection {
    state: Arc<Mutex<State>>,
    dialect: Dialect,
    address: SocketAddr,
}

/// Counts an answer while it is given.
struct Busy<'a>(&'a Mutex<State>);
impl<'a> Busy<'a> {
    fn new(state: &'a Mutex<State>) -> Self {
        let mut now = state.lock().unwrap();
        now.busy += 1;
        now.most = now.most.max(now.busy);
        drop(now);
        Self(state)
    }
}
impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().busy -= 1;
    }
}

type Io = std::io::Result<()>;

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn serve(&self, stream: TcpStream) -> Io {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut words = head.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        let body = read_body(&mut stream, &head).await?;
        let mut stream = stream.into_inner();
        let is_blob = path.starts_with("/api/blobs/");
        let value = match is_blob {
            true => Value::Null,
            false => serde_json::from_slice(&body).unwrap_or_default(),
        };
        let fault = {
            let mut state = self.state();
            state.asked.push(Asked {
                method: method.clone(),
                path: path.clone(),
                body: value.clone(),
            });
            let at = state.faults.iter().position(|(of, _)| *of == path);
            at.map(|at| state.faults.remove(at).1)
        };
        let host = format!("host: {}", self.address);
        if !head.to_ascii_lowercase().contains(&host) {
            return plain(&mut stream, 403, "text/plain", b"").await;
        }
        match fault {
            Some(Fault::Hang) => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                return Ok(());
            }
            Some(Fault::Status(status, text)) => {
                return say(&mut stream, status, &json!({ "error": text })).await;
            }
            Some(Fault::OtherProgram) => {
                return plain(&mut stream, 404, "text/html", b"<h1>nginx</h1>").await;
            }
            Some(Fault::NotHttp) => return stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await,
            _ => {}
        }
        if is_blob {
            return self.blob(&mut stream, &method, &path, body).await;
        }
        let model = |key: &str| full(value[key].as_str().unwrap_or_default());
        match (method.as_str(), path.as_str()) {
            ("GET", "/api/version") => {
                let version = self.state().version.clone();
                say(&mut stream, 200, &json!({ "version": version })).await
            }
            ("GET", "/api/tags") => {
                let listed = self.tags();
                say(&mut stream, 200, &listed).await
            }
            ("GET", "/api/ps") => {
                let processes = self.processes();
                say(&mut stream, 200, &processes).await
            }
            ("POST", "/api/show") => match self.found(&model("model")) {
                Some(found) => say(&mut stream, 200, &self.shown(&found)).await,
                None => self.missing(&mut stream, &value).await,
            },
            ("DELETE", "/api/delete") => match self.gone(&model("model")) {
                Some(_) => plain(&mut stream, 200, "text/plain", b"").await,
                None => self.missing(&mut stream, &value).await,
            },
            ("POST", "/api/generate") => match self.found(&model("model")) {
                None => self.missing(&mut stream, &value).await,
                Some(found) if !found.capabilities.contains(&"completion") => {
                    self.lacks(&mut stream, &value, "generate").await
                }
                Some(_) => {
                    self.load(&model("model"), &value);
                    let done = json!({"response": "", "done": true, "done_reason": "unload"});
                    say(&mut stream, 200, &done).await
                }
            },
            ("POST", "/api/chat") => self.chat(&mut stream, &value, fault).await,
            ("POST", "/api/embed") => self.embed(&mut stream, &value, fault).await,
            ("POST", "/api/pull") => {
                let lines = self.pull(&value, fault.is_none());
                lines_out(&mut stream, lines, fault, Duration::ZERO).await
            }
            ("POST", "/api/create") => {
                let lines = self.create(&value);
                match lines {
                    Ok(lines) => lines_out(&mut stream, lines, fault, Duration::ZERO).await,
                    Err(text) => say(&mut stream, 400, &json!({ "error": text })).await,
                }
            }
            _ => plain(&mut stream, 404, "text/plain", b"404 page not found").await,
        }
    }

    fn found(&self, name: &str) -> Option<Model> {
        self.state().models.get(name).cloned()
    }

    fn gone(&self, name: &str) -> Option<Model> {
        self.state().models.remove(name)
    }

    async fn missing(&self, stream: &mut TcpStream, value: &Value) -> Io {
        let name = value["model"].as_str().unwrap_or_default();
        let text = format!("model '{name}' not found");
        say(stream, 404, &json!({ "error": text })).await
    }

    async fn lacks(&self, stream: &mut TcpStream, value: &Value, what: &str) -> Io {
        let name = value["model"].as_str().unwrap_or_default();
        let text = match what {
            "chat" | "generate" => format!("\"{name}\" does not support {what}"),
            _ => format!("registry.ollama.ai/library/{name} does not support {what}"),
        };
        say(stream, 400, &json!({ "error": text })).await
    }

    fn tags(&self) -> Value {
        let new = self.dialect == Dialect::New;
        let listed = self
            .state()
            .models
            .clone()
            .into_iter()
            .map(|(name, model)| {
                let mut one = json!({
                    "name": name, "model": name, "modified_at": "2026-11-26T10:00:00.5+01:00",
                    "size": model.size, "digest": hex::encode(Sha256::digest(&name)),
                    "details": {"parent_model": "", "format": "gguf", "family": model.family,
                        "families": [model.family], "parameter_size": "8.2B",
                        "quantization_level": "Q4_K_M"},
                });
                if model.remote {
                    one["remote_host"] = "https://ollama.com:443".into();
                    one["remote_model"] = name.into();
                }
                if new {
                    one["capabilities"] = json!(model.capabilities);
                    one["details"]["context_length"] = model.context.into();
                }
                one
            });
        json!({ "models": listed.collect::<Vec<_>>() })
    }

    fn shown(&self, model: &Model) -> Value {
        let mut shown = json!({
            "license": "Apache License\nVersion 2.0", "modelfile": "FROM x", "template": "x",
            "details": {"family": model.family, "parameter_size": "8.2B",
                "quantization_level": "Q4_K_M"},
            "model_info": {"general.architecture": model.family,
                "general.parameter_count": 8_190_735_360_u64,
                format!("{}.context_length", model.family): model.context},
            "capabilities": model.capabilities,
        });
        if model.remote {
            shown["remote_host"] = "https://ollama.com:443".into();
        }
        shown
    }

    fn load(&self, name: &str, value: &Value) {
        let mut state = self.state();
        state.loaded.retain(|loaded| loaded != name);
        if value["keep_alive"] != 0 {
            state.loaded.push_front(name.to_owned());
            let stays = value["keep_alive"].as_i64().unwrap_or(300);
            state.stays.insert(name.to_owned(), stays);
        }
    }

    fn processes(&self) -> Value {
        let state = self.state();
        let of = |name: &String| {
            let stays = state.stays.get(name).copied().unwrap_or(300);
            // For ever is as long as its durations go: 292 years.
            let stays = if stays < 0 { 9_223_372_036 } else { stays };
            let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(stays);
            json!({"name": name, "model": name, "size": 4096, "size_vram": 0,
                "expires_at": until.to_string()})
        };
        json!({ "models": state.loaded.iter().map(of).collect::<Vec<_>>() })
    }

    async fn chat(&self, stream: &mut TcpStream, value: &Value, fault: Option<Fault>) -> Io {
        let name = full(value["model"].as_str().unwrap_or_default());
        let Some(model) = self.found(&name) else {
            return self.missing(stream, value).await;
        };
        let can = |what: &str| model.capabilities.contains(&what);
        let empty = Vec::new();
        let messages = value["messages"].as_array().unwrap_or(&empty);
        let thinks = can("thinking");
        let think = match (&value["think"], self.dialect) {
            (Value::Bool(think), _) => *think,
            (Value::String(_), _) if model.family == "gptoss" => true,
            (Value::String(word), _) => {
                let text = format!("think value {word:?} is not supported for this model");
                return say(stream, 400, &json!({ "error": text })).await;
            }
            // What is left out means one thing to the one and another to the other.
            (_, Dialect::New) => thinks,
            (_, Dialect::Old) => false,
        };
        let images = messages.iter().any(|one| one["images"].is_array());
        let tools = value["tools"].as_array();
        for (wanted, what) in [
            (true, "completion"),
            (tools.is_some(), "tools"),
            (think, "thinking"),
            (images, "vision"),
        ] {
            if wanted && !can(what) {
                let what = if what == "completion" { "chat" } else { what };
                return self.lacks(stream, value, what).await;
            }
        }
        let bytes: usize = messages
            .iter()
            .map(|one| one["content"].as_str().unwrap_or_default().len())
            .sum();
        let context = value["options"]["num_ctx"].as_u64().unwrap_or(4096);
        let refuses = value["truncate"] == false && self.dialect == Dialect::New;
        if refuses && bytes as u64 > context * 2 {
            let text = "the input length exceeds the context length";
            return say(stream, 400, &json!({ "error": text })).await;
        }
        self.load(&name, value);
        let _busy = Busy::new(&self.state);
        let line = |message: Value, done: bool| {
            let mut message = message;
            message["role"] = "assistant".into();
            if message["content"].is_null() {
                message["content"] = "".into();
            }
            json!({"model": name, "created_at": "2026-11-26T10:00:00.123456Z",
                "message": message, "done": done})
        };
        let mut lines = Vec::new();
        if think {
            lines.push(line(json!({"thinking": "Let me see."}), false));
        }
        let (says, between, prompt) = {
            let state = self.state();
            (state.says.clone(), state.between, state.prompt_tokens)
        };
        if let Some(tools) = tools {
            let name = tools[0]["function"]["name"].clone();
            let mut call = json!({"function": {"name": name, "arguments": {"place": "Bonn"}}});
            if self.dialect == Dialect::New {
                call["id"] = "call_abc".into();
            }
            lines.push(line(json!({"tool_calls": [call]}), false));
        } else if value["format"] == "json" || value["format"].is_object() {
            lines.push(line(json!({"content": "{\"a\": 1}"}), false));
        } else {
            for piece in says {
                lines.push(line(json!({ "content": piece }), false));
            }
        }
        let mut last = line(json!({}), true);
        last["done_reason"] = "stop".into();
        for (key, number) in [
            ("prompt_eval_count", prompt),
            ("eval_count", 3),
            ("total_duration", 5_000_000),
            ("load_duration", 1_000_000),
        ] {
            // A count of none is left out.
            if number > 0 {
                last[key] = number.into();
            }
        }
        lines.push(last);
        let written = lines_out(stream, lines, fault, between).await;
        if written.is_err() {
            self.state().cancelled += 1;
        }
        written
    }

    async fn embed(&self, stream: &mut TcpStream, value: &Value, fault: Option<Fault>) -> Io {
        let name = full(value["model"].as_str().unwrap_or_default());
        let Some(model) = self.found(&name) else {
            let text = format!("model \"{name}\" not found, try pulling it first");
            return say(stream, 404, &json!({ "error": text })).await;
        };
        if !model.capabilities.contains(&"embedding") {
            return self.lacks(stream, value, "embeddings").await;
        }
        self.load(&name, value);
        let empty = Vec::new();
        let texts = value["input"].as_array().unwrap_or(&empty);
        // What it reads of a text, at two bytes for a token.
        let context = value["options"]["num_ctx"].as_u64().unwrap_or(4096);
        let reads = usize::try_from(context.min(model.context) * 2).unwrap();
        let bytes = |text: &Value| text.as_str().unwrap_or_default().len();
        if value["truncate"] == false && texts.iter().any(|text| bytes(text) > reads) {
            let text = match self.dialect {
                Dialect::Old => "input length exceeds maximum context length",
                Dialect::New => "the input length exceeds the context length",
            };
            return say(stream, 400, &json!({ "error": text })).await;
        }
        let vectors = texts.iter().map(|text| {
            let length = bytes(text).min(reads) as f32;
            let norm = (length * length + 1.0).sqrt();
            json!([length / norm, 1.0 / norm])
        });
        let mut answer = json!({"model": name, "embeddings": vectors.collect::<Vec<_>>()});
        if !texts.is_empty() {
            answer["prompt_eval_count"] = texts.len().into();
        }
        match fault {
            Some(_) => lines_out(stream, vec![answer], fault, Duration::ZERO).await,
            None => say(stream, 200, &answer).await,
        }
    }

    fn pull(&self, value: &Value, whole: bool) -> Vec<Value> {
        let name = full(value["model"].as_str().unwrap_or_default());
        let mut lines = vec![json!({"status": "pulling manifest"})];
        if name.contains("nothing") {
            lines.push(json!({"error": "pull model manifest: file does not exist"}));
            return lines;
        }
        let mut state = self.state();
        for (digest, total) in state.layers.clone() {
            let status = format!("pulling {}", &digest[7..]);
            lines.push(json!({"status": status, "digest": digest, "total": total}));
            for share in [2, 1] {
                lines.push(json!({"status": status, "digest": digest, "total": total,
                    "completed": total / share}));
            }
        }
        for status in ["verifying sha256 digest", "writing manifest", "success"] {
            lines.push(json!({ "status": status }));
        }
        if whole {
            state.models.insert(name, Model::new(&["completion"]));
        }
        lines
    }

    fn create(&self, value: &Value) -> Result<Vec<Value>, &'static str> {
        let mut state = self.state();
        let source = match (&value["from"], &value["files"]) {
            (Value::String(from), _) => state.models.get(&full(from)).cloned(),
            (_, Value::Object(files)) => files
                .values()
                .all(|digest| {
                    state
                        .blobs
                        .contains_key(digest.as_str().unwrap_or_default())
                })
                .then(|| Model::new(&["completion"])),
            _ => return Err("neither 'from' or 'files' was specified"),
        };
        let Some(mut model) = source else {
            return Err("invalid digest format");
        };
        model.made_of = value.clone();
        let name = full(value["model"].as_str().unwrap_or_default());
        state.models.insert(name, model);
        let steps = [
            "parsing GGUF",
            "creating new layer sha256:cc",
            "writing manifest",
            "success",
        ];
        Ok(steps
            .iter()
            .map(|status| json!({ "status": status }))
            .collect())
    }

    async fn blob(&self, stream: &mut TcpStream, method: &str, path: &str, body: Vec<u8>) -> Io {
        let digest = path.trim_start_matches("/api/blobs/").to_owned();
        let known = self.state().blobs.contains_key(&digest);
        if method == "HEAD" {
            let status = if known { "200 OK" } else { "404 Not Found" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            return stream.write_all(head.as_bytes()).await;
        }
        if format!("sha256:{}", hex::encode(Sha256::digest(&body))) != digest {
            let text = "digest does not match body";
            return say(stream, 400, &json!({ "error": text })).await;
        }
        self.state().blobs.insert(digest, body);
        plain(stream, 201, "text/plain", b"").await
    }
}

async fn read_body(stream: &mut BufReader<TcpStream>, head: &str) -> std::io::Result<Vec<u8>> {
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if lower.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let mut piece = vec![0; length + 2];
            stream.read_exact(&mut piece).await?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&piece[..length]);
        }
    }
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    body.resize(length, 0);
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn plain(stream: &mut TcpStream, status: u16, kind: &str, body: &[u8]) -> Io {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}

async fn say(stream: &mut TcpStream, status: u16, value: &Value) -> Io {
    let kind = "application/json; charset=utf-8";
    plain(stream, status, kind, value.to_string().as_bytes()).await
}

async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> Io {
    // Somebody who has gone is noticed by reading, as Ollama's server does.
    let mut one = [0];
    match stream.try_read(&mut one) {
        Ok(0) => return Err(std::io::ErrorKind::BrokenPipe.into()),
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error),
        _ => {}
    }
    stream
        .write_all(format!("{:x}\r\n", bytes.len()).as_bytes())
        .await?;
    stream.write_all(bytes).await?;
    stream.write_all(b"\r\n").await?;
    stream.flush().await
}

async fn lines_out(
    stream: &mut TcpStream,
    lines: Vec<Value>,
    fault: Option<Fault>,
    between: Duration,
) -> Io {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n";
    let all: String = lines.iter().map(|line| format!("{line}\n")).collect();
    if let Some(Fault::ShortLength | Fault::LongLength) = fault {
        let length = match fault {
            Some(Fault::ShortLength) => all.len() - 10,
            _ => all.len() + 10,
        };
        let head = format!("{head}Content-Length: {length}\r\n\r\n{all}");
        return stream.write_all(head.as_bytes()).await;
    }
    let head = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    for (number, line) in lines.iter().enumerate() {
        let text = format!("{line}\n");
        let half = &text.as_bytes()[..text.len() / 2];
        match &fault {
            Some(Fault::HangAfter(lines)) if number == *lines => {
                // Until nobody waits any more.
                let mut byte = [0];
                let _gone = stream.read(&mut byte).await;
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            Some(Fault::HalfLine) if number == 1 => {
                chunk(stream, half).await?;
                return stream.write_all(b"0\r\n\r\n").await;
            }
            Some(Fault::Cut) if number == 1 => return chunk(stream, half).await,
            Some(Fault::CutAt(at)) if number == *at => return chunk(stream, half).await,
            Some(Fault::Error(text)) if number == 1 => {
                let line = format!("{}\n", json!({ "error": text }));
                chunk(stream, line.as_bytes()).await?;
                return stream.write_all(b"0\r\n\r\n").await;
            }
            Some(Fault::NoDone) if number + 1 == lines.len() => break,
            Some(Fault::Garbage) if number == 1 => chunk(stream, b"<html>\n").await?,
            Some(Fault::Endless) if number == 1 => loop {
                chunk(stream, &[b'x'; 65536]).await?;
            },
            Some(Fault::Slow(time)) => {
                // In two pieces, so that a line has to be put together.
                chunk(stream, half).await?;
                tokio::time::sleep(*time).await;
                chunk(stream, &text.as_bytes()[half.len()..]).await?;
                continue;
            }
            _ => {}
        }
        tokio::time::sleep(between).await;
        chunk(stream, text.as_bytes()).await?;
    }
    stream.write_all(b"0\r\n\r\n").await
}

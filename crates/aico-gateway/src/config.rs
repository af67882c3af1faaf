//! What the composition hands over: names, limits, and where status and logs come from.

use std::sync::Arc;
use std::time::Duration;

use aico_bus::{BusError, BusStats, Subscription};
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// Everything that is fixed when the gateway is made.
pub struct GatewayConfig {
    /// Names beside the bound address under which browsers may reach AICO, each as
    /// `name` or `name:port` (without a port: the bound one).
    pub hosts: Vec<String>,
    /// Every limit; the defaults are for use, tests shorten them.
    pub limits: Limits,
    /// Cancelled when the daemon ends: connections are closed with a final word.
    pub stop: CancellationToken,
    /// The configuration in force, for `GET /api/v1/config`.
    pub settings: Vec<Setting>,
    /// The bus, as the owner sees it from outside.
    pub broker: Arc<dyn BrokerSource>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            limits: Limits::default(),
            stop: CancellationToken::new(),
            settings: Vec::new(),
            broker: Arc::new(Nothing),
        }
    }
}

/// Sizes, times and counts beyond which a peer is refused.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Bytes of the text of one message.
    pub text: usize,
    /// Bytes of a request's head; over it: 431.
    pub head: usize,
    /// Header fields of a request; over it: 431.
    pub headers: usize,
    /// Time for a request's head to arrive, and for an idle connection to stay.
    pub head_time: Duration,
    /// Time for a request's body to arrive.
    pub body_time: Duration,
    /// Time for everything but streams.
    pub request_time: Duration,
    /// Time for a module to answer.
    pub module_time: Duration,
    /// TCP connections at once. When all are taken, one that has asked nothing yet makes room.
    pub connections: usize,
    /// Connections of the local socket at once.
    pub local_connections: usize,
    /// WebSockets on one session.
    pub sockets_per_session: usize,
    /// Requests of one named token at once.
    pub requests_per_token: usize,
    /// Requests that a named token may begin at once.
    pub program_burst: u32,
    /// Requests that a named token may begin in a second, on average.
    pub programs_per_second: u32,
    /// Time for another program's question to get the beginning of its answer, or all of one that
    /// is not streamed.
    pub program_time: Duration,
    /// Bytes of a WebSocket frame from a client, and of a message made of several.
    pub frame: usize,
    /// Frames a client may send at once.
    pub frame_burst: u32,
    /// Frames a client may send in a second, on average.
    pub frames_per_second: u32,
    /// Bytes a client may send over a WebSocket in a second.
    pub bytes_per_second: u64,
    /// Time until the first frame of a WebSocket has authenticated it.
    pub authentication_time: Duration,
    /// Time between pings; a peer that is silent for two of them is gone.
    pub heartbeat: Duration,
    /// Events that are kept for each person, to resume from.
    pub ring_events: usize,
    /// Bytes of events that are kept for each person.
    pub ring_bytes: usize,
    /// Events that may wait for one slow client.
    pub waiting_events: u64,
    /// Bytes of events that may wait for one slow client.
    pub waiting_bytes: u64,
    /// How long events are gathered for a person after their last connection has gone.
    pub grace: Duration,
    /// Failed sign-ins from one source that cost nothing.
    pub free_tries: u32,
    /// The longest wait between tries from one source.
    pub longest_wait: Duration,
    /// Time for connections to end when the daemon stops.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1024 * 1024,
            text: 256 * 1024,
            head: 64 * 1024,
            headers: 100,
            head_time: Duration::from_secs(15),
            body_time: Duration::from_secs(20),
            request_time: Duration::from_secs(150),
            module_time: Duration::from_secs(30),
            connections: 256,
            local_connections: 64,
            sockets_per_session: 32,
            requests_per_token: 16,
            program_burst: 120,
            programs_per_second: 20,
            program_time: Duration::from_secs(600),
            frame: 256 * 1024,
            frame_burst: 200,
            frames_per_second: 50,
            bytes_per_second: 4 * 1024 * 1024,
            authentication_time: Duration::from_secs(5),
            heartbeat: Duration::from_secs(25),
            ring_events: 4096,
            ring_bytes: 4 * 1024 * 1024,
            waiting_events: 1024,
            waiting_bytes: 4 * 1024 * 1024,
            grace: Duration::from_secs(120),
            free_tries: 10,
            longest_wait: Duration::from_secs(60),
            shutdown: Duration::from_secs(5),
        }
    }
}

/// One line of the configuration, as the owner sees it.
#[derive(Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "key": "server.bind", "value": "127.0.0.1:8771", "source": "default",
    "default": "127.0.0.1:8771", "description": "Where the gateway listens."
}))]
pub struct Setting {
    /// Dotted: `server.bind`.
    pub key: String,
    /// What is in force.
    pub value: String,
    /// `default`, or the file, variable or flag that set it.
    pub source: String,
    /// What would be in force otherwise.
    pub default: String,
    /// What it is for.
    pub description: String,
}

/// What only the composition knows about the process.
#[derive(Clone, Serialize, ToSchema)]
pub struct ProcessStatus {
    /// Process id of the daemon.
    pub pid: u32,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Resident memory of the daemon in bytes.
    pub resident_bytes: u64,
    /// Persons whose stores are open.
    pub persons_open: u32,
    /// What the owner should know, in sentences without personal data.
    pub warnings: Vec<String>,
}

/// Where `GET /api/v1/status` gets its facts.
#[async_trait::async_trait]
pub trait StatusSource: Send + Sync + 'static {
    /// How the process is now.
    async fn status(&self) -> ProcessStatus;
}

/// Which lines of the log are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// This level and the more severe ones.
    pub level: Option<LogLevel>,
    /// Modules whose name begins so.
    pub module: Option<String>,
    /// From then on.
    pub since: Option<Timestamp>,
    /// Of this trace alone.
    pub trace: Option<aico_bus::Trace>,
    /// Go on with what is logged from now on.
    pub follow: bool,
}

/// Severity, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Data is at risk or a person is needed.
    Error,
    /// Something was refused or repeated.
    Warn,
    /// What happened.
    Info,
    /// For development.
    Debug,
    /// Everything.
    Trace,
}

/// Why the log can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the log can't be read")]
pub struct LogError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where `GET /api/v1/logs` reads.
pub trait LogSource: Send + Sync + 'static {
    /// The lines, oldest first: each one JSON object without a line break. With `follow` the
    /// stream ends only when it is dropped.
    fn read(&self, query: LogQuery) -> BoxStream<'static, Result<String, LogError>>;
}

/// Where modules of other makers find the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "endpoints": ["ipc:///home/ada/.local/share/aico/run/modules.sock", "tcp://127.0.0.1:8772"],
    "live_endpoints": ["ipc:///home/ada/.local/share/aico/run/live.sock", "tcp://127.0.0.1:8773"],
    "server_public": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
}))]
pub struct Door {
    /// ZeroMQ addresses, the best first.
    pub endpoints: Vec<String>,
    /// The same for plain SUB sockets, which hear live what the module may subscribe to.
    pub live_endpoints: Vec<String>,
    /// The public CURVE key of the daemon, Z85.
    pub server_public: String,
}

/// The bus from outside: where `/api/v1/bus` and `/api/v1/modules` get their facts.
#[async_trait::async_trait]
pub trait BrokerSource: Send + Sync + 'static {
    /// Where admitted modules connect; waits while it is being opened. `None` when it can't be.
    async fn door(&self) -> Option<Door>;

    /// Counters and queues.
    fn stats(&self) -> BusStats;

    /// Reads along on a pattern, for the owner: of persons it shows the owner only.
    ///
    /// # Errors
    /// Not a pattern.
    fn tail(&self, pattern: &str) -> Result<Subscription, BusError>;
}

/// A log that is empty and a status that knows nothing, for tests and tools.
pub struct Nothing;

#[async_trait::async_trait]
impl StatusSource for Nothing {
    async fn status(&self) -> ProcessStatus {
        ProcessStatus {
            pid: std::process::id(),
            started_at: Timestamp::UNIX_EPOCH,
            resident_bytes: 0,
            persons_open: 0,
            warnings: Vec::new(),
        }
    }
}

#[async_trait::async_trait]
impl BrokerSource for Nothing {
    async fn door(&self) -> Option<Door> {
        None
    }

    fn stats(&self) -> BusStats {
        BusStats::default()
    }

    fn tail(&self, _: &str) -> Result<Subscription, BusError> {
        Err(BusError::Closed)
    }
}

impl LogSource for Nothing {
    fn read(&self, _: LogQuery) -> BoxStream<'static, Result<String, LogError>> {
        Box::pin(futures_util::stream::empty())
    }
}

//! A server of files on a real socket, as good or as bad as a test wants it.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub range: Option<(u64, u64)>,
    pub head: String,
    /// Of this server, from 0.
    pub number: usize,
}

/// What becomes of a body.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    /// All of it.
    Whole,
    /// The connection ends after so many bytes.
    Cut(usize),
    /// A piece of so many bytes, a wait, and so on.
    Slow(usize, Duration),
    /// It never ends.
    Endless,
}

/// An answer: status, lines of the head, body.
pub struct Reply {
    pub status: u16,
    pub head: Vec<String>,
    pub body: Vec<u8>,
    pub way: Way,
    /// Tell the length, or send in chunks.
    pub length: Option<usize>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            head: Vec::new(),
            body: Vec::new(),
            way: Way::Whole,
            length: Some(0),
        }
    }

    pub fn redirect(to: &str) -> Self {
        Self::status(302).with(format!("Location: {to}"))
    }

    /// A file, or the part of it that is asked for.
    pub fn file(content: &[u8], asked: &Asked) -> Self {
        let mut reply = Self::status(200);
        match asked.range {
            Some((first, last)) => {
                let last = last.min(content.len() as u64 - 1);
                reply.status = 206;
                reply.body = content[first as usize..=last as usize].to_vec();
                reply.head.push(format!(
                    "Content-Range: bytes {first}-{last}/{}",
                    content.len()
                ));
            }
            None => reply.body = content.to_vec(),
        }
        reply.length = Some(reply.body.len());
        reply
    }

    /// The whole file, whatever is asked for.
    pub fn all(content: &[u8]) -> Self {
        let mut reply = Self::status(200);
        reply.body = content.to_vec();
        reply.length = Some(content.len());
        reply
    }

    pub fn with(mut self, line: impl Into<String>) -> Self {
        self.head.push(line.into());
        self
    }

    pub fn way(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    pub fn length(mut self, length: Option<usize>) -> Self {
        self.length = length;
        self
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A running server; its connections end with it.
pub struct FileServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

/// Counts a connection for as long as it is served.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn one(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a connection is made on.
pub trait Wire: Read + Write + Send {}
impl<W: Read + Write + Send> Wire for W {}

/// Makes TLS of a connection, or leaves it.
pub type Wrap = dyn Fn(TcpStream) -> Box<dyn Wire> + Send + Sync;

impl FileServer {
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", answer)
    }

    pub fn on(address: &str, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::wrapped(address, Arc::new(|stream| Box::new(stream)), answer)
    }

    pub fn wrapped(
        address: &str,
        wrap: Arc<Wrap>,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            stop: Arc::default(),
        };
        let (asked, stop) = (Arc::clone(&server.asked), Arc::clone(&server.stop));
        let connections = Arc::clone(&server.connections);
        let open = Arc::clone(&server.open);
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let held = Open::one(&open);
                connections.fetch_add(1, Ordering::SeqCst);
                let (asked, stop) = (Arc::clone(&asked), Arc::clone(&stop));
                let (answer, wrap) = (Arc::clone(&answer), Arc::clone(&wrap));
                std::thread::spawn(move || {
                    let _served = held;
                    let _the_other_side_went = serve(wrap(stream?), &asked, &stop, &*answer);
                    std::io::Result::Ok(())
                });
            }
        });
        server
    }

    /// As a mirror.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn forget_asked(&self) {
        self.asked.lock().unwrap().clear();
    }

    /// Waits until everybody has gone. A client that was stopped may have left a request that is
    /// read only later. Blocks: where the client is a task, it needs another thread.
    pub fn settle(&self) {
        // Connections are taken in the order in which they came: when this one was, all were.
        let mut last = TcpStream::connect(self.address).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        let _ended = last.read_to_end(&mut Vec::new());
        let end = Instant::now() + Duration::from_secs(30);
        while self.open.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < end, "a client is still connected");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _wakes_it = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: Box<dyn Wire>,
    asked: &Mutex<Vec<Asked>>,
    stop: &AtomicBool,
    answer: &Answer,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let line = |name: &str| {
            head.lines().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let range = line("range").and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        let one = {
            let mut asked = asked.lock().unwrap();
            let one = Asked {
                path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
                range,
                number: asked.len(),
                head,
            };
            asked.push(one.clone());
            one
        };
        let reply = answer(&one);
        send(stream.get_mut(), &reply, stop)?;
        if matches!(reply.way, Way::Cut(_)) {
            return Ok(());
        }
    }
}

fn send(stream: &mut Box<dyn Wire>, reply: &Reply, stop: &AtomicBool) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for line in &reply.head {
        head.push_str(line);
        head.push_str("\r\n");
    }
    match reply.length {
        Some(length) => head.push_str(&format!("Content-Length: {length}\r\n\r\n")),
        None => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
    }
    stream.write_all(head.as_bytes())?;
    let mut piece = |bytes: &[u8]| -> std::io::Result<()> {
        if reply.length.is_none() {
            stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        }
        stream.write_all(bytes)?;
        if reply.length.is_none() {
            stream.write_all(b"\r\n")?;
        }
        stream.flush()
    };
    match reply.way {
        Way::Whole => {
            if !reply.body.is_empty() {
                piece(&reply.body)?;
            }
            if reply.length.is_none() {
                piece(&[])?;
            }
            Ok(())
        }
        Way::Cut(after) => piece(&reply.body[..after.min(reply.body.len())]),
        Way::Slow(size, wait) => {
            for part in reply.body.chunks(size) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                piece(part)?;
                std::thread::sleep(wait);
            }
            Ok(())
        }
        Way::Endless => loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            piece(&[7; 4096])?;
        },
    }
}

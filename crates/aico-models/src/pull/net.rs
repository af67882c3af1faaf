//! The way to a server: names are resolved once and pinned, addresses are checked before they
//! are connected to, and every limit of time is ours.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::is_global;
use super::error::PullError;
use super::url::Url;

/// Most redirects that are followed.
const REDIRECTS: usize = 5;
/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;
/// Longest answer of a proxy to `CONNECT`.
const PROXY_HEAD: usize = 8 << 10;

/// Finds the addresses of a name.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All of them.
    ///
    /// # Errors
    /// What the system says.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the system does it.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Limits of a download.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For reaching a server, its TLS included.
    pub connect: Duration,
    /// For the head of an answer.
    pub head: Duration,
    /// For the next piece of a body.
    pub silence: Duration,
    /// Over which the least rate is measured.
    pub window: Duration,
    /// Bytes that have to come in such a time.
    pub least: u64,
    /// The first wait after a failure that passes; doubled each time.
    pub wait: Duration,
    /// The longest.
    pub longest_wait: Duration,
    /// Failures in a row, without anything coming in between, after which it is given up.
    pub tries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            head: Duration::from_secs(30),
            silence: Duration::from_secs(30),
            window: Duration::from_secs(30),
            least: 30 << 10,
            wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(120),
            tries: 8,
        }
    }
}

/// A way around the direct one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxy {
    /// None, whatever the environment says.
    None,
    /// By the environment's variables, as other programs do it.
    Environment,
    /// This one.
    At(Url),
}

impl Proxy {
    fn of(&self, url: &Url) -> Result<Option<Url>, PullError> {
        match self {
            Self::None => Ok(None),
            Self::At(proxy) => Ok(Some(proxy.clone())),
            Self::Environment => named_in(&|name| std::env::var(name).ok(), url),
        }
    }

    /// What the environment names for encrypted connections; an empty variable names nothing.
    #[must_use]
    pub fn of_environment(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let names = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
        let mut named = names.iter().filter_map(|name| variable(name));
        named.find(|named| !named.is_empty())
    }
}

/// The proxy of the environment for this address. One that can't be used is an error: whoever named
/// it does not want to be seen without it.
fn named_in(
    variable: &dyn Fn(&str) -> Option<String>,
    url: &Url,
) -> Result<Option<Url>, PullError> {
    let direct = variable("no_proxy").or_else(|| variable("NO_PROXY"));
    if excepted(&direct.unwrap_or_default(), url.host()) {
        return Ok(None);
    }
    let Some(named) = Proxy::of_environment(variable) else {
        return Ok(None);
    };
    let named = match named.contains("://") {
        true => named,
        false => format!("http://{named}"),
    };
    // Its words stay out of it: there may be a password among them.
    Url::parse(&named)
        .map(Some)
        .map_err(|why| PullError::Offline {
            host: "the proxy that the environment names".into(),
            why: why.to_string(),
        })
}

/// Whether `host` is one of `NO_PROXY`'s names, or below one.
fn excepted(list: &str, host: &str) -> bool {
    list.split(',').map(str::trim).any(|name| {
        let name = name.trim_start_matches('.');
        name == "*"
            || (!name.is_empty()
                && (host.eq_ignore_ascii_case(name)
                    || host
                        .to_ascii_lowercase()
                        .ends_with(&format!(".{}", name.to_ascii_lowercase()))))
    })
}

/// One run of a download: what it resolved stays as it was.
pub(super) struct Net {
    resolver: Arc<dyn Resolve>,
    pinned: Mutex<HashMap<String, Vec<IpAddr>>>,
    /// A server that the owner named: it may be at home, and without TLS.
    mirror: Option<Url>,
    proxy: Proxy,
    pub(super) limits: Limits,
    tls: Arc<Tls>,
}

/// The certificates that the system trusts, read when the first connection needs them.
#[derive(Default)]
pub(crate) struct Tls(OnceLock<Result<Arc<rustls::ClientConfig>, String>>);

impl Tls {
    /// Blocks while the certificates are read the first time.
    pub(crate) fn config(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        self.0.get_or_init(Self::load).clone()
    }

    fn load() -> Result<Arc<rustls::ClientConfig>, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = rustls::RootCertStore::empty();
        let (taken, _) = roots.add_parsable_certificates(found.certs);
        if taken == 0 {
            return Err("this system has no certificates to check it with".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// A connection to one server.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    to: Url,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Where an answer came from, with the connection that it still uses.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) response: Response<Incoming>,
    /// After all redirects.
    pub(super) landing: Url,
}

impl Net {
    pub(super) fn new(
        resolver: Arc<dyn Resolve>,
        mirror: Option<Url>,
        proxy: Proxy,
        limits: Limits,
        tls: Arc<Tls>,
    ) -> Self {
        Self {
            resolver,
            pinned: Mutex::default(),
            mirror,
            proxy,
            limits,
            tls,
        }
    }

    fn is_mirror(&self, url: &Url) -> bool {
        self.mirror
            .as_ref()
            .is_some_and(|mirror| mirror.same_origin(url))
    }

    /// Asks for bytes of a file, following redirects; `reuse` is a connection of before.
    pub(super) async fn open(
        &self,
        url: &Url,
        range: Option<(u64, u64)>,
        mut reuse: Option<Connection>,
    ) -> Result<Opened, PullError> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS {
            let (connection, response) = self.ask(&at, range, reuse.take()).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Opened {
                    connection,
                    response,
                    landing: at,
                });
            }
            at = self.redirect(&at, &response)?;
        }
        Err(PullError::Redirect {
            host: url.host().to_owned(),
            why: format!("more than {REDIRECTS} times"),
        })
    }

    fn redirect(&self, from: &Url, response: &Response<Incoming>) -> Result<Url, PullError> {
        let refused = |why: String| PullError::Redirect {
            host: from.host().to_owned(),
            why,
        };
        let location = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .ok_or_else(|| refused("it does not say where".to_owned()))?;
        let to = from
            .redirected(location)
            .map_err(|error| refused(error.to_string()))?;
        if !to.secure() && !self.is_mirror(&to) {
            return Err(refused(format!("{} without encryption", to.host())));
        }
        Ok(to)
    }

    /// One question, no redirect.
    async fn ask(
        &self,
        url: &Url,
        range: Option<(u64, u64)>,
        reuse: Option<Connection>,
    ) -> Result<(Connection, Response<Incoming>), PullError> {
        let again = reuse.filter(|old| old.to.same_origin(url));
        if let Some(mut connection) = again {
            // It may have been closed meanwhile: then a new one is made.
            let ready = timeout(Duration::from_secs(1), connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(())))
                && let Ok(response) = self.send(&mut connection, url, range).await
            {
                return Ok((connection, response));
            }
        }
        let mut connection = self.connect(url).await?;
        let response = self.send(&mut connection, url, range).await?;
        Ok((connection, response))
    }

    async fn send(
        &self,
        connection: &mut Connection,
        url: &Url,
        range: Option<(u64, u64)>,
    ) -> Result<Response<Incoming>, PullError> {
        let host = url.host().to_owned();
        let mut request = Request::get(url.path())
            .header(header::HOST, url.authority())
            .header(
                header::USER_AGENT,
                concat!("aico/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::ACCEPT, "*/*")
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some((first, last)) = range {
            request = request.header(header::RANGE, format!("bytes={first}-{last}"));
        }
        let request = request.body(Empty::new()).map_err(|_| PullError::Answer {
            host: host.clone(),
            why: "its address can't be asked for",
        })?;
        let answered = timeout(self.limits.head, connection.sender.send_request(request)).await;
        match answered {
            Err(_) => Err(PullError::TooSlow(host)),
            Ok(Err(error)) if error.is_parse() => Err(PullError::Answer {
                host,
                why: "it does not speak HTTP",
            }),
            Ok(Err(_)) => Err(PullError::Cut(host)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// The addresses of a host: asked for once, and each of them allowed.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, PullError> {
        let host = url.host().to_owned();
        let pinned = {
            let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
            pinned.get(&host).cloned()
        };
        let found = match (pinned, url.literal()) {
            (Some(found), _) => found,
            (None, Some(address)) => vec![address],
            (None, None) => {
                let offline = |why: String| PullError::Offline {
                    host: host.clone(),
                    why,
                };
                let asked = timeout(self.limits.connect, self.resolver.resolve(&host)).await;
                let found = asked
                    .map_err(|_| offline("nobody answers what its address is".to_owned()))?
                    .map_err(|error| offline(error.to_string()))?;
                if found.is_empty() {
                    return Err(offline("there is no such name".to_owned()));
                }
                found
            }
        };
        if !self.is_mirror(url)
            && let Some(address) = found.iter().find(|address| !is_global(**address))
        {
            return Err(PullError::Address {
                host,
                address: *address,
            });
        }
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pinned.entry(host).or_insert(found);
        let port = url.port();
        let all = kept.iter().take(ADDRESSES);
        Ok(all.map(|address| (*address, port).into()).collect())
    }

    async fn connect(&self, url: &Url) -> Result<Connection, PullError> {
        let offline = |why: &str| PullError::Offline {
            host: url.host().to_owned(),
            why: why.to_owned(),
        };
        let reach = async {
            let stream = self.reach(url).await?;
            if url.secure() {
                let stream: Box<dyn Stream> = Box::new(self.secured(url, stream).await?);
                Ok::<_, PullError>(stream)
            } else {
                let stream: Box<dyn Stream> = Box::new(stream);
                Ok(stream)
            }
        };
        let stream = timeout(self.limits.connect, reach)
            .await
            .map_err(|_| offline("it does not answer in time"))??;
        let (sender, driving) = http1::Builder::new()
            .max_headers(100)
            .max_buf_size(128 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| PullError::Cut(url.host().to_owned()))?;
        Ok(Connection {
            sender,
            to: url.clone(),
            driver: tokio::spawn(async move {
                // How it ends is heard where it is used.
                let _ended = driving.await;
            }),
        })
    }

    async fn reach(&self, url: &Url) -> Result<TcpStream, PullError> {
        // The mirror is a server of the owner's: no proxy lies between.
        let proxy = match self.is_mirror(url) {
            true => None,
            false => self.proxy.of(url)?,
        };
        if let Some(proxy) = proxy {
            return self.through(&proxy, url).await;
        }
        let addresses = self.addresses(url).await?;
        connect_any(url.host(), &addresses).await
    }

    /// A tunnel through a proxy, which resolves the name. Addresses are checked all the same.
    async fn through(&self, proxy: &Url, url: &Url) -> Result<TcpStream, PullError> {
        if let Some(address) = url.literal().filter(|address| !is_global(*address)) {
            return Err(PullError::Address {
                host: url.host().to_owned(),
                address,
            });
        }
        let host = format!("the proxy {}", proxy.host());
        let offline = |why: String| PullError::Offline {
            host: host.clone(),
            why,
        };
        let found = match proxy.literal() {
            Some(address) => vec![address],
            None => {
                let found = self.resolver.resolve(proxy.host()).await;
                found.map_err(|error| offline(error.to_string()))?
            }
        };
        let at: Vec<SocketAddr> = found
            .into_iter()
            .map(|address| (address, proxy.port()).into())
            .collect();
        let mut stream = connect_any(&host, &at).await?;
        let endpoint = url.endpoint();
        let ask = format!("CONNECT {endpoint} HTTP/1.1\r\nHost: {endpoint}\r\n\r\n");
        stream
            .write_all(ask.as_bytes())
            .await
            .map_err(|error| offline(error.to_string()))?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows the head belongs to the tunnel.
            let byte = stream.read_u8().await;
            head.push(byte.map_err(|error| offline(error.to_string()))?);
            if head.len() > PROXY_HEAD {
                return Err(offline("its answer has no end".to_owned()));
            }
        }
        let status = head
            .split(|byte| *byte == b' ')
            .nth(1)
            .and_then(|status| std::str::from_utf8(status).ok()?.parse::<u16>().ok());
        match status {
            Some(200..300) => Ok(stream),
            Some(status) => Err(offline(format!("it answered with status {status}"))),
            None => Err(offline("its answer makes no sense".to_owned())),
        }
    }

    async fn secured(
        &self,
        url: &Url,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, PullError> {
        let insecure = |why: String| PullError::Insecure {
            host: url.host().to_owned(),
            why,
        };
        let tls = Arc::clone(&self.tls);
        let config = tokio::task::spawn_blocking(move || tls.config())
            .await
            .map_err(|_| PullError::Broken)?
            .map_err(insecure)?;
        let name = ServerName::try_from(url.host().to_owned())
            .map_err(|_| insecure("its name is none".to_owned()))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map_err(|error| {
            // What rustls says is inside; what the network says is not.
            let inner = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(inner) => insecure(inner.to_string()),
                None => PullError::Offline {
                    host: url.host().to_owned(),
                    why: error.to_string(),
                },
            }
        })
    }
}

/// What a connection is made on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The first of these that answers; each gets its share of the time.
async fn connect_any(host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, PullError> {
    let mut why = "it has no address".to_owned();
    for address in addresses {
        match timeout(Duration::from_secs(5), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _best_effort = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = "it does not answer in time".to_owned(),
        }
    }
    Err(PullError::Offline {
        host: host.to_owned(),
        why,
    })
}

/// The value of a header as text.
pub(super) fn text(response: &Response<Incoming>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name).map(HeaderValue::to_str)?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says one thing after the other.
    struct Changing(Mutex<Vec<Vec<IpAddr>>>);

    #[async_trait]
    impl Resolve for Changing {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.lock().unwrap().remove(0))
        }
    }

    fn net(answers: &[&[&str]], mirror: Option<&str>) -> Net {
        let answers = answers.iter().map(|one| {
            let all = one.iter().map(|address| address.parse().unwrap());
            all.collect()
        });
        Net::new(
            Arc::new(Changing(Mutex::new(answers.collect()))),
            mirror.map(|url| Url::parse(url).unwrap()),
            Proxy::None,
            Limits::default(),
            Arc::default(),
        )
    }

    #[tokio::test]
    async fn what_was_checked_is_what_is_connected_to() {
        let url = Url::parse("https://hub.test/x").unwrap();
        // The second answer would lead home: it is never asked for.
        let net = net(&[&["2606:4700::1111"], &["127.0.0.1"]], None);
        for _ in 0..3 {
            let found = net.addresses(&url).await.unwrap();
            assert_eq!(found, ["[2606:4700::1111]:443".parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn one_address_that_leads_home_is_one_too_many() {
        for home in [
            "127.0.0.1",
            "::1",
            "192.168.1.2",
            "169.254.169.254",
            "::ffff:10.0.0.1",
        ] {
            let url = Url::parse("https://hub.test/x").unwrap();
            let found = net(&[&["1.1.1.1", home]], None).addresses(&url).await;
            assert!(matches!(found, Err(PullError::Address { .. })), "{home}");
            // On the mirror it may be; on another port of it not.
            let mirror = Some("http://hub.test:8080/");
            let own = Url::parse("http://hub.test:8080/x").unwrap();
            let mirrored = net(&[&[home]], mirror);
            assert_eq!(mirrored.addresses(&own).await.unwrap().len(), 1);
            let other = mirrored.addresses(&url).await;
            assert!(matches!(other, Err(PullError::Address { .. })), "{home}");
        }
        let nothing = net(&[&[]], None);
        let url = Url::parse("https://hub.test/x").unwrap();
        let found = nothing.addresses(&url).await;
        assert!(matches!(found, Err(PullError::Offline { .. })));
    }

    #[test]
    fn a_proxy_that_can_not_be_used_is_told_and_never_passed_by() {
        let url = Url::parse("https://hub.test/x").unwrap();
        let found = |set: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            named_in(&variable, &url)
        };
        let proxy = |set| found(set).unwrap().map(|proxy| proxy.host().to_owned());
        assert_eq!(proxy(&[]), None);
        assert_eq!(proxy(&[("HTTPS_PROXY", "")]), None);
        assert_eq!(proxy(&[("HTTPS_PROXY", "a.test:3128")]).unwrap(), "a.test");
        let both = [("ALL_PROXY", "http://b.test"), ("https_proxy", "")];
        assert_eq!(proxy(&both).unwrap(), "b.test");
        let but = [("HTTPS_PROXY", "a.test"), ("NO_PROXY", "hub.test")];
        assert_eq!(proxy(&but), None);
        for unfit in ["http://me:secret@a.test", "socks5h://127.0.0.1:9050"] {
            let error = found(&[("HTTPS_PROXY", unfit)]).unwrap_err();
            assert!(matches!(error, PullError::Offline { .. }), "{error}");
            assert!(!format!("{error:?}").contains("secret"));
        }
    }

    #[test]
    fn names_without_a_proxy_cover_what_is_below_them() {
        for (list, host, expected) in [
            ("", "example.org", false),
            ("example.org", "example.org", true),
            (".example.org, b", "a.Example.org", true),
            ("example.org", "badexample.org", false),
            ("*", "anything", true),
        ] {
            assert_eq!(excepted(list, host), expected, "{list} {host}");
        }
    }
}

//! The way to a server: one connection for each question, gone with it.
//!
//! The address is the owner's, so it may lie at home. What is sent is a person's words and the
//! key, so the way has to be encrypted, or short: `http` goes to this machine, and to the home
//! network where the configuration says so. A server can send nobody elsewhere: redirects are not
//! followed, and no proxy lies between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::backend::driver::Driver;
use crate::backend::{BackendError, Reach, Wait};
use crate::pull::url::Url;
use crate::pull::{Resolve, Tls, is_global};

/// Most addresses of a name that are tried.
const ADDRESSES: usize = 8;

/// Limits of time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For reaching the server, its TLS included.
    pub connect: Duration,
    /// From the question to the first piece of the answer: a model may have to be loaded, and a
    /// long conversation to be read.
    pub first_token: Duration,
    /// From one piece to the next.
    pub next_token: Duration,
    /// For looking which models there are.
    pub look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(300),
            next_token: Duration::from_secs(60),
            look: Duration::from_secs(15),
        }
    }
}

/// The way to one server.
pub(super) struct Link {
    pub(super) url: Url,
    /// `http` may go to the home network.
    pub(super) unencrypted: bool,
    pub(super) limits: Limits,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tls: Arc<Tls>,
}

/// An answer whose body is still to come. Dropping it closes the connection.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    _driver: Driver,
}

impl Link {
    /// Host and port, as errors and consents name it.
    pub(super) fn address(&self) -> String {
        self.url.endpoint()
    }

    /// A name is of this machine only when it can be nothing else.
    pub(super) fn reach(&self) -> Reach {
        let loopback = match self.url.literal() {
            Some(address) => address.to_canonical().is_loopback(),
            None => self.url.host() == "localhost",
        };
        match loopback {
            true => Reach::Machine,
            false => Reach::Network,
        }
    }

    /// Asks for `path` below the server's address.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        key: Option<&Zeroizing<String>>,
        body: Vec<u8>,
    ) -> Result<Answered, BackendError> {
        let stream = timeout(self.limits.connect, self.connect())
            .await
            .map_err(|_| BackendError::TimedOut {
                waited_for: Wait::Connect,
                limit: self.limits.connect,
            })??;
        let (mut sender, driving) = http1::Builder::new()
            .max_headers(100)
            .max_buf_size(128 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| BackendError::CutOff)?;
        let mut driver = Driver::of(driving);
        let request = self.request(method, path, key, body)?;
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) if driver.heard_no_http(&error).await => return Err(self.other_program()),
            Err(_) => return Err(BackendError::CutOff),
        };
        Ok(Answered {
            response,
            _driver: driver,
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        key: Option<&Zeroizing<String>>,
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, BackendError> {
        let base = self.url.path().trim_end_matches('/');
        // An address without a path means the usual one.
        let base = if base.is_empty() { "/v1" } else { base };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(header::HOST, self.url.authority())
            .header(
                header::USER_AGENT,
                concat!("aico/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::ACCEPT, "text/event-stream, application/json")
            .header(header::ACCEPT_ENCODING, "identity");
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            let value = Zeroizing::new(format!("Bearer {}", key.as_str()));
            let mut value = HeaderValue::from_str(&value).map_err(|_| BackendError::Key)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = Full::new(Bytes::from(body));
        request.body(body).map_err(|_| self.other_program())
    }

    pub(super) fn other_program(&self) -> BackendError {
        BackendError::OtherProgram {
            address: self.address(),
        }
    }

    fn unreachable(&self) -> BackendError {
        BackendError::Unreachable {
            address: self.address(),
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, BackendError> {
        let stream = self.reach_any(&self.addresses().await?).await?;
        let _best_effort = stream.set_nodelay(true);
        if self.url.secure() {
            self.secured(stream).await
        } else {
            Ok(Box::new(stream))
        }
    }

    /// All of them have to be such that words may go there.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, BackendError> {
        let host = self.url.host();
        let found = match self.url.literal() {
            Some(address) => vec![address],
            None => {
                let found = self.resolver.resolve(host).await;
                found.map_err(|_| self.unreachable())?
            }
        };
        let allowed = |address: &std::net::IpAddr| match self.reach() {
            Reach::Machine => address.to_canonical().is_loopback(),
            Reach::Network => self.url.secure() || (self.unencrypted && !is_global(*address)),
        };
        if found.is_empty() {
            return Err(self.unreachable());
        }
        if !found.iter().all(allowed) {
            return Err(BackendError::Unencrypted {
                address: self.address(),
            });
        }
        let port = self.url.port();
        let all = found.into_iter().take(ADDRESSES);
        Ok(all.map(|address| (address, port).into()).collect())
    }

    async fn reach_any(&self, addresses: &[SocketAddr]) -> Result<TcpStream, BackendError> {
        let mut absent = false;
        let share = self.limits.connect / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    absent |= error.kind() == std::io::ErrorKind::ConnectionRefused;
                }
                // The next one; where there is none, the limit around tells it.
                Err(_) if addresses.len() == 1 => std::future::pending().await,
                Err(_) => {}
            }
        }
        match absent {
            true => Err(BackendError::Absent {
                address: self.address(),
            }),
            false => Err(self.unreachable()),
        }
    }

    async fn secured(&self, stream: TcpStream) -> Result<Box<dyn Stream>, BackendError> {
        let certificate = || BackendError::Certificate {
            address: self.address(),
        };
        let tls = Arc::clone(&self.tls);
        let config = tokio::task::spawn_blocking(move || tls.config())
            .await
            .map_err(|_| certificate())?
            .map_err(|_| certificate())?;
        let name = ServerName::try_from(self.url.host().to_owned()).map_err(|_| certificate())?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        match connected {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                let inner = error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<rustls::Error>());
                Err(match inner {
                    Some(rustls::Error::InvalidCertificate(_)) => certificate(),
                    // It does not speak TLS.
                    Some(_) => self.other_program(),
                    None => BackendError::CutOff,
                })
            }
        }
    }
}

/// What a connection is made on.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A body of which no more than `most` bytes are taken; `None`: it has more.
pub(super) async fn whole(
    response: Response<Incoming>,
    most: usize,
) -> Result<Option<Vec<u8>>, BackendError> {
    let mut body = response.into_body();
    let mut out = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BackendError::CutOff)?;
        if let Ok(data) = frame.into_data() {
            if out.len() + data.len() > most {
                return Ok(None);
            }
            out.extend_from_slice(&data);
        }
    }
    Ok(Some(out))
}

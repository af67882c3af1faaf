//! Small answers of servers of the internet, by the same rules as downloads.

use std::fmt;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::error::PullError;
use super::net::{Limits, Net, Proxy, Resolve, SystemResolver, Tls};
use super::url::Url;

/// The way to such servers.
#[derive(Clone)]
pub struct Way {
    /// What finds addresses.
    pub resolver: Arc<dyn Resolve>,
    /// The way to all but `own`.
    pub proxy: Proxy,
    /// A server that the owner named: it may be at home, and without TLS.
    pub own: Option<Url>,
    /// Limits of time.
    pub limits: Limits,
    tls: Arc<Tls>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            resolver: Arc::new(SystemResolver),
            proxy: Proxy::None,
            own: None,
            limits: Limits::default(),
            tls: Arc::default(),
        }
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Way").finish_non_exhaustive()
    }
}

impl Way {
    /// With everything else as usual.
    #[must_use]
    pub fn new(own: Option<Url>, proxy: Proxy) -> Self {
        Self {
            own,
            proxy,
            ..Self::default()
        }
    }

    /// What lies at an address, at most `most` bytes.
    ///
    /// # Errors
    /// [`PullError`]; [`PullError::Gone`]: nothing does.
    pub async fn get(&self, url: &Url, most: usize) -> Result<Vec<u8>, PullError> {
        let net = Net::new(
            Arc::clone(&self.resolver),
            self.own.clone(),
            self.proxy.clone(),
            self.limits.clone(),
            Arc::clone(&self.tls),
        );
        let opened = net.open(url, None, None).await?;
        let host = opened.landing.host().to_owned();
        match opened.response.status().as_u16() {
            200 => {}
            404 | 410 => return Err(PullError::Gone(host)),
            status @ (401..=403 | 407 | 451) => return Err(PullError::Refused { host, status }),
            status @ (429 | 500..=599) => {
                return Err(PullError::Server {
                    host,
                    status,
                    wait: None,
                });
            }
            _ => {
                return Err(PullError::Answer {
                    host,
                    why: "its status is none that an answer comes with",
                });
            }
        }
        // Kept until the body is read: it drives the connection.
        let _connection = opened.connection;
        let mut body = opened.response.into_body();
        let mut all = Vec::new();
        loop {
            let frame = timeout(self.limits.silence, body.frame()).await;
            let frame = match frame.map_err(|_| PullError::TooSlow(host.clone()))? {
                None => return Ok(all),
                Some(frame) => frame.map_err(|_| PullError::Cut(host.clone()))?,
            };
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            if all.len() + piece.len() > most {
                return Err(PullError::Answer {
                    host,
                    why: "it is longer than it may be",
                });
            }
            all.extend_from_slice(&piece);
        }
    }
}

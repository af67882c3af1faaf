//! Getting model files: the catalogue, and downloads that can be trusted and go on.
//!
//! [`catalogue`] says what there is, with size, hash and licence; [`fit`] what this machine can
//! carry. A download belongs to the daemon, for the model process has no network. It goes over
//! TLS, to addresses of the open internet only ([`address`]), unless the owner named a mirror;
//! parts come over several connections and count when their bytes are on the disk; the whole
//! counts when its hash is the catalogue's, and becomes a model when it can be read as one.
//! Nothing is asked of any server before a person asks.

pub mod address;
pub mod catalogue;
mod error;
mod fetch;
pub mod fit;
mod here;
mod job;
mod meter;
mod net;
mod note;
mod package;
mod partial;
mod puller;
pub mod single;
pub mod small;
mod space;
mod tell;
pub mod url;

use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use address::is_global;
pub use error::PullError;
pub(crate) use net::Tls;
pub use net::{Limits, Proxy, Resolve, SystemResolver};
pub(crate) use package::Packages;
pub(crate) use partial::sync_folder;
pub(crate) use puller::Puller;

/// How models are downloaded.
#[derive(Clone)]
pub struct PullConfig {
    /// The text of the catalogue that comes with the program.
    pub embedded: &'static str,
    /// A catalogue in its place.
    pub catalogue: Option<PathBuf>,
    /// A server that is asked instead of the catalogue's. The owner names it, so it may be at
    /// home and without TLS: the hashes decide what is taken from it.
    pub mirror: Option<url::Url>,
    /// The way to all other servers.
    pub proxy: Proxy,
    /// Connections at once.
    pub connections: usize,
    /// Limits of time.
    pub limits: Limits,
    /// What finds addresses.
    pub resolver: Arc<dyn Resolve>,
    /// Where models lie; unfinished downloads in a folder below.
    pub models: PathBuf,
}

impl PullConfig {
    /// With everything as usual.
    #[must_use]
    pub fn new(embedded: &'static str, models: PathBuf) -> Self {
        Self {
            embedded,
            catalogue: None,
            mirror: None,
            proxy: Proxy::None,
            connections: 4,
            limits: Limits::default(),
            resolver: Arc::new(SystemResolver),
            models,
        }
    }
}

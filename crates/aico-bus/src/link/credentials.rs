//! Keys: what a child gets through an inherited pipe, what a module keeps in its connection file,
//! and what the daemon keeps so that modules find it again.

use std::io::Read as _;
use std::path::Path;

use omq_tokio::{CurveKeypair, CurvePublicKey, CurveSecretKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::LinkError;

/// An identity's way onto the bus. Keys are in Z85, as ZeroMQ tools write them.
///
/// The secret key is erased from memory when this is dropped, and there is no `Debug`. As JSON:
/// `{"endpoint":"ipc:///…","server_public":"…","client_public":"…","client_secret":"…"}`.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Where the daemon listens: `ipc://PATH` or `tcp://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The daemon's public key; a server with another one is not talked to.
    pub server_public: String,
    /// This identity's public key.
    pub client_public: String,
    /// This identity's secret key.
    pub client_secret: String,
}

impl Credentials {
    pub(super) fn new(endpoint: String, server: &CurvePublicKey, client: &CurveKeypair) -> Self {
        Self {
            endpoint,
            server_public: server.to_z85(),
            client_public: client.public.to_z85(),
            client_secret: client.secret.to_z85(),
        }
    }

    pub(super) fn keys(&self) -> Result<(CurvePublicKey, CurveKeypair), LinkError> {
        let damaged = |_| LinkError::Credentials;
        let server = CurvePublicKey::from_z85(&self.server_public).map_err(damaged)?;
        let public = CurvePublicKey::from_z85(&self.client_public).map_err(damaged)?;
        let secret = CurveSecretKey::from_z85(&self.client_secret).map_err(damaged)?;
        if secret.derive_public() != public {
            return Err(LinkError::Credentials);
        }
        Ok((server, CurveKeypair { public, secret }))
    }
}

/// The daemon's own keys, for a listener whose peers keep theirs.
pub struct ServerKeys(pub(super) CurveKeypair);

impl ServerKeys {
    /// New ones.
    #[must_use]
    pub fn generate() -> Self {
        Self(CurveKeypair::generate())
    }

    /// Those of this secret key.
    #[must_use]
    pub fn from_secret(secret: [u8; 32]) -> Self {
        let secret = CurveSecretKey::from_bytes(secret);
        let public = secret.derive_public();
        Self(CurveKeypair { public, secret })
    }

    /// The secret key, to be sealed.
    #[must_use]
    pub fn secret(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(*self.0.secret.as_bytes())
    }
}

/// A public key as it is written, in Z85 (40 characters); `None` when it is none.
#[must_use]
pub fn read_public_key(text: &str) -> Option<[u8; 32]> {
    CurvePublicKey::from_z85(text)
        .ok()
        .map(|key| *key.as_bytes())
}

/// A public key in Z85.
#[must_use]
pub fn write_public_key(key: [u8; 32]) -> String {
    CurvePublicKey::from_bytes(key).to_z85()
}

/// The version of [`Connection`] that this build writes.
pub const CONNECTION_VERSION: u32 = 1;

/// Largest connection file that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// A module's connection file: all that it needs to reach the bus, as JSON, mode 0600.
///
/// The module's secret key is in it and nowhere else: the daemon knows the public one only.
/// Fields that a reader does not know are passed over.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Connection {
    /// Version of this file: [`CONNECTION_VERSION`].
    pub version: u32,
    /// The module's name, as the daemon knows it.
    pub name: String,
    /// Where the daemon listens, the best first: `ipc://PATH`, `tcp://127.0.0.1:PORT`.
    pub endpoints: Vec<String>,
    /// Where it listens for plain SUB sockets. None in files of before there was such a door.
    #[serde(default)]
    pub live_endpoints: Vec<String>,
    /// The daemon's public key, Z85.
    pub server_public: String,
    /// The module's public key, Z85.
    pub client_public: String,
    /// The module's secret key, Z85.
    pub client_secret: String,
}

impl Connection {
    /// A connection with a new pair of keys; where to and to whom is still to be filled in.
    #[must_use]
    pub fn generate(name: &str) -> Self {
        let client = CurveKeypair::generate();
        Self {
            version: CONNECTION_VERSION,
            name: name.to_owned(),
            endpoints: Vec::new(),
            live_endpoints: Vec::new(),
            server_public: String::new(),
            client_public: client.public.to_z85(),
            client_secret: client.secret.to_z85(),
        }
    }

    /// Reads a connection file, as `aico module add` writes it.
    ///
    /// # Errors
    /// [`LinkError::File`]: it can't be read, other users can read it, or it is of another version
    /// or no connection at all.
    pub fn read(path: &Path) -> Result<Self, LinkError> {
        let unfit = |reason: String| LinkError::File {
            path: path.to_owned(),
            reason,
        };
        let file = std::fs::File::open(path).map_err(|error| unfit(error.to_string()))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let about = file.metadata().map_err(|error| unfit(error.to_string()))?;
            if about.permissions().mode() & 0o077 != 0 {
                let reason = "other users can read the key in it; make it yours alone: chmod 600";
                return Err(unfit(reason.to_owned()));
            }
        }
        let mut text = Zeroizing::new(Vec::new());
        file.take(LONGEST)
            .read_to_end(&mut text)
            .map_err(|error| unfit(error.to_string()))?;
        // The message of the parser may quote what it read.
        let read: Self = serde_json::from_slice(&text)
            .map_err(|error| unfit(format!("line {}, column {}", error.line(), error.column())))?;
        if read.version != CONNECTION_VERSION {
            return Err(unfit(format!("it is of version {}", read.version)));
        }
        Ok(read)
    }

    /// What [`connect`](super::connect) takes, for one of the endpoints.
    #[must_use]
    pub fn credentials(&self, endpoint: &str) -> Credentials {
        Credentials {
            endpoint: endpoint.to_owned(),
            server_public: self.server_public.clone(),
            client_public: self.client_public.clone(),
            client_secret: self.client_secret.clone(),
        }
    }
}

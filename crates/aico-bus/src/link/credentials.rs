//! What a child gets through an inherited pipe, and nowhere else.

use omq_tokio::{CurveKeypair, CurvePublicKey, CurveSecretKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

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

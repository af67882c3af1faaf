//! What a registry tells of a model before anything of it is downloaded: its manifest and its
//! licence. Ollama itself can't be asked for them.

use std::collections::BTreeMap;

use aico_contracts::v1::Fault;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::about::license;
use super::name::Name;
use crate::backend::shelf::Offer;
use crate::pull::PullError;
use crate::pull::small::Way;

/// Longest manifest.
const MANIFEST: usize = 1 << 20;
/// Longest text of a licence that is fetched.
const LICENSE: u64 = 256 << 10;
const LICENSE_KIND: &str = "application/vnd.ollama.image.license";

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    config: Option<Layer>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(default, rename = "mediaType")]
    kind: String,
    digest: String,
    size: u64,
}

/// What a model would take. That a registry tells nothing is no error, unless it says that there
/// is no such model.
pub(super) async fn look_up(way: &Way, name: &Name) -> Result<Offer, Fault> {
    let mut offer = Offer {
        download: name.whole(),
        source: name.host.clone(),
        ..Offer::default()
    };
    match manifest(way, name).await {
        Ok(manifest) => {
            offer.size = manifest.size();
            offer.license = manifest.license(way, name).await;
        }
        Err(PullError::Gone(host)) => return Err(missing(&host)),
        // Without a way to it Ollama has none either.
        Err(error @ (PullError::Offline { .. } | PullError::Address { .. })) => {
            return Err(error.to_fault());
        }
        Err(error) => offer.unknown = Some(error.to_fault()),
    }
    Ok(offer)
}

/// There is no such model.
pub(super) fn missing(host: &str) -> Fault {
    Fault::not_found("There is no model of this name")
        .with_detail(format!("{host} does not have it."))
        .with_what_to_do("Look at its spelling, and at the part behind the colon.")
}

async fn manifest(way: &Way, name: &Name) -> Result<Manifest, PullError> {
    let unreadable = || PullError::Answer {
        host: name.host.clone(),
        why: "it is no manifest of a model",
    };
    let what = format!("manifests/{}", name.tag);
    let url = name.url(way.own.as_ref(), &what);
    let text = way.get(&url.map_err(|_| unreadable())?, MANIFEST).await?;
    serde_json::from_slice(&text).map_err(|_| unreadable())
}

impl Manifest {
    fn size(&self) -> u64 {
        // A layer may be named twice and comes once.
        let all = self.layers.iter().chain(&self.config);
        let all: BTreeMap<&str, u64> = all
            .map(|layer| (layer.digest.as_str(), layer.size))
            .collect();
        all.into_values().fold(0, u64::saturating_add)
    }

    /// The first line of its licence, if it has one that is what its digest says.
    async fn license(&self, way: &Way, name: &Name) -> String {
        let layer = self
            .layers
            .iter()
            .find(|layer| layer.kind == LICENSE_KIND && layer.size <= LICENSE);
        let Some(layer) = layer else {
            return String::new();
        };
        let Some(hash) = layer.digest.strip_prefix("sha256:") else {
            return String::new();
        };
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return String::new();
        }
        let Ok(url) = name.url(way.own.as_ref(), &format!("blobs/{}", layer.digest)) else {
            return String::new();
        };
        let most = usize::try_from(layer.size).unwrap_or(0);
        match way.get(&url, most).await {
            Ok(text) if hex::encode(Sha256::digest(&text)) == hash.to_ascii_lowercase() => {
                license(&String::from_utf8_lossy(&text))
            }
            _ => String::new(),
        }
    }
}

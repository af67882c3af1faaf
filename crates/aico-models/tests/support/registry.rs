//! A registry of models on a real socket, as Ollama has its models from: manifests, and blobs by
//! their digests.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::file_server::{Asked, FileServer, Reply};

const LAYER: &str = "application/vnd.ollama.image.";

/// What it has, and what becomes of what is asked.
#[derive(Default)]
pub struct Shelves {
    manifests: BTreeMap<String, Value>,
    blobs: BTreeMap<String, Vec<u8>>,
}

pub struct Registry {
    pub server: FileServer,
    shelves: Arc<Mutex<Shelves>>,
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl Registry {
    /// One that answers well.
    pub fn start() -> Self {
        Self::with(|_, reply| reply)
    }

    /// One whose answers for blobs are changed.
    pub fn with(change: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> Self {
        let shelves = Arc::new(Mutex::new(Shelves::default()));
        let held = Arc::clone(&shelves);
        let server = FileServer::start(move |asked| {
            let reply = answer(&held.lock().unwrap(), asked);
            match asked.path.contains("/files/") {
                true => change(asked, reply),
                false => reply,
            }
        });
        Self { server, shelves }
    }

    /// As names begin that come from here.
    pub fn host(&self) -> String {
        self.server.address.to_string()
    }

    /// Puts a model there; `name` is `namespace/model:tag`.
    pub fn put(&self, name: &str, gguf: &[u8], license: &str) {
        let mut shelves = self.shelves.lock().unwrap();
        let mut layer = |kind: &str, bytes: &[u8]| {
            let digest = digest(bytes);
            shelves.blobs.insert(digest.clone(), bytes.to_vec());
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let model = layer(&format!("{LAYER}model"), gguf);
        let mut layers = vec![model.clone()];
        if !license.is_empty() {
            layers.push(layer(&format!("{LAYER}license"), license.as_bytes()));
        }
        let diffs: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
        let config = json!({
            "model_format": "gguf", "model_family": "llama", "model_families": ["llama"],
            "model_type": "1M", "file_type": "Q8_0", "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        let config = layer(
            "application/vnd.docker.container.image.v1+json",
            config.to_string().as_bytes(),
        );
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": config, "layers": layers,
        });
        let (model, tag) = name.rsplit_once(':').unwrap();
        let path = format!("/v2/{model}/manifests/{tag}");
        shelves.manifests.insert(path, manifest);
    }
}

fn answer(shelves: &Shelves, asked: &Asked) -> Reply {
    let content = match shelves.manifests.get(&asked.path) {
        Some(manifest) => manifest.to_string().into_bytes(),
        None => {
            let (place, digest) = asked.path.rsplit_once('/').unwrap_or_default();
            let Some(content) = shelves.blobs.get(digest) else {
                return Reply::status(404);
            };
            // Ollama 0.12.0 takes no blob from where it asked for it: it has to be sent to another
            // host, as its own registry does.
            let asks_for_it = asked.head.starts_with("GET ") && place.ends_with("/blobs");
            if asks_for_it && !asked.head.contains("aico/") {
                let line = asked.head.lines().find(|line| line.starts_with("Host: "));
                let port = line
                    .and_then(|line| line.rsplit_once(':'))
                    .unwrap_or_default()
                    .1;
                let to = format!("Location: http://localhost:{port}/files/{digest}");
                return Reply::status(307).with(to);
            }
            content.clone()
        }
    };
    let mut reply = Reply::file(&content, asked);
    if asked.head.starts_with("HEAD ") {
        reply.body = Vec::new();
        reply.length = Some(content.len());
    }
    reply
}

//! Making a model there: of another one or of files of ours, by what a Modelfile says.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ::http::Method;
use aico_characters::{Recipe, RecipeRole, TurnRole};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use super::Ollama;
use super::http::{self, Body, Http};
use crate::backend::BackendError;
use crate::backend::shelf::Progress;

/// Bytes of a file that are sent at once.
const PIECE: usize = 256 << 10;
/// What a model's file begins with.
const GGUF: &[u8] = b"GGUF";

/// A model to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Creation {
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub recipe: Recipe,
    /// What its paths are below that are not absolute.
    pub folder: PathBuf,
}

/// What it is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A model of Ollama's.
    Model(String),
    /// GGUF files of this machine; Ollama makes copies of them.
    Files(Vec<PathBuf>),
}

impl Creation {
    /// A model by a recipe.
    #[must_use]
    pub fn new(name: impl Into<String>, recipe: Recipe, folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            recipe,
            folder: folder.into(),
        }
    }

    pub(super) fn source(&self) -> Source {
        match self.recipe.from.as_slice() {
            [one] if !is_path(one) => Source::Model(one.clone()),
            all => Source::Files(self.paths(all)),
        }
    }

    /// The files of adapters.
    pub(super) fn adapters(&self) -> Vec<PathBuf> {
        self.paths(&self.recipe.adapters)
    }

    fn paths(&self, all: &[String]) -> Vec<PathBuf> {
        all.iter().map(|one| self.folder.join(one)).collect()
    }

    /// The question, with the digests of files by their names.
    fn body(&self, source: &Source, files: &Digests, adapters: &Digests) -> Value {
        let recipe = &self.recipe;
        let mut body = recipe.others.clone();
        let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
        put("model", json!(self.name));
        put("stream", json!(true));
        match source {
            Source::Model(from) => put("from", json!(from)),
            Source::Files(_) => put("files", json!(files)),
        };
        if !adapters.is_empty() {
            put("adapters", json!(adapters));
        }
        if !recipe.system.is_empty() {
            put("system", json!(recipe.system));
        }
        if !recipe.parameters.is_empty() {
            put("parameters", Value::Object(recipe.parameters.clone()));
        }
        if !recipe.license.is_empty() {
            put("license", json!(recipe.license));
        }
        if !recipe.messages.is_empty() {
            let messages = recipe.messages.iter().map(|(role, text)| {
                let role = match role {
                    RecipeRole::System => "system",
                    RecipeRole::Turn(TurnRole::User) => "user",
                    RecipeRole::Turn(TurnRole::Assistant) => "assistant",
                };
                json!({ "role": role, "content": text })
            });
            put("messages", messages.collect());
        }
        Value::Object(body)
    }
}

type Digests = BTreeMap<String, String>;

/// Whether `FROM` names a file rather than a model.
pub(super) fn is_path(from: &str) -> bool {
    let begins = ["/", "./", "../", ".\\", "..\\", "~"];
    let drive = from.as_bytes().get(1) == Some(&b':') && from.contains('\\');
    let lower = from.to_ascii_lowercase();
    begins.iter().any(|begin| from.starts_with(begin))
        || drive
        || from == "."
        || lower.ends_with(".gguf")
}

impl Ollama {
    /// Makes a model. A model that it is made of and that is not there is downloaded by Ollama
    /// first, which `progress` tells too.
    ///
    /// # Errors
    /// As [`BackendError`] tells.
    pub async fn create(
        &self,
        creation: &Creation,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), BackendError> {
        let created = async {
            let http = self.http().await?;
            let source = creation.source();
            let files = match &source {
                Source::Model(_) => Digests::new(),
                Source::Files(all) => self.bring_all(&http, all, progress).await?,
            };
            let adapters = creation.adapters();
            let adapters = self.bring_all(&http, &adapters, progress).await?;
            let question = http::json(&creation.body(&source, &files, &adapters))?;
            let patience = self.config.limits.first_token;
            let answer = http
                .ask(Method::POST, "/api/create", question, patience)
                .await?;
            self.follow(&creation.name, answer, progress).await?;
            self.changed(&creation.name);
            Ok(())
        };
        self.heard(created.await)
    }

    async fn bring_all(
        &self,
        http: &Http,
        all: &[PathBuf],
        progress: &watch::Sender<Progress>,
    ) -> Result<Digests, BackendError> {
        let mut digests = Digests::new();
        for (number, path) in all.iter().enumerate() {
            let digest = self.bring(http, path, progress).await?;
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or("model.gguf").to_owned();
            let name = match digests.contains_key(&name) {
                true => format!("{number}-{name}"),
                false => name,
            };
            digests.insert(name, digest);
        }
        Ok(digests)
    }

    /// Hands a file over, unless it is there already; tells its digest.
    async fn bring(
        &self,
        http: &Http,
        path: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<String, BackendError> {
        let (file, telling) = (path.to_owned(), progress.clone());
        let hashed = tokio::task::spawn_blocking(move || digest_of(&file, &telling)).await;
        let (digest, length) = hashed.map_err(|_| BackendError::FileUnreadable)??;
        let blob = format!("/api/blobs/{digest}");
        let limits = self.config.limits;
        let there = http
            .ask(Method::HEAD, &blob, http::nothing(), limits.answer)
            .await;
        match there {
            Ok(_) => return Ok(digest),
            Err(BackendError::ModelMissing | BackendError::OtherProgram { .. }) => {}
            Err(error) => return Err(error),
        }
        let file = tokio::fs::File::open(path).await;
        let file = file.map_err(|_| BackendError::FileUnreadable)?;
        let body = upload(file, length, progress.clone());
        // It answers when the last byte is on its disk.
        let patience = limits.first_token.max(limits.next_token * 60);
        let answer = http.ask(Method::POST, &blob, body, patience).await?;
        answer.all(1 << 16, limits.answer).await?;
        Ok(digest)
    }
}

/// Looks whether a file is a model's, and how large it is. Blocks.
pub(super) fn size_of(path: &Path) -> Result<u64, BackendError> {
    let unreadable = |_| BackendError::FileUnreadable;
    // Looked at before it is opened: to open a pipe would wait for somebody who writes.
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(BackendError::FileUnreadable);
    }
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut begin = [0; 4];
    match file.read_exact(&mut begin) {
        Ok(()) if begin == GGUF => Ok(about.len()),
        Ok(()) => Err(BackendError::NotAModel),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(BackendError::NotAModel)
        }
        Err(_) => Err(BackendError::FileUnreadable),
    }
}

fn digest_of(
    path: &Path,
    progress: &watch::Sender<Progress>,
) -> Result<(String, u64), BackendError> {
    let total = size_of(path)?;
    let unreadable = |_| BackendError::FileUnreadable;
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok((format!("sha256:{}", hex::encode(sum.finalize())), length));
        }
        length += read as u64;
        sum.update(&buffer[..read]);
        // Nobody asks for it any more.
        if progress.is_closed() {
            return Err(BackendError::CutOff);
        }
        progress.send_replace(Progress {
            step: "reading",
            done: length,
            total,
        });
    }
}

/// The file piece by piece, told as it goes.
fn upload(file: tokio::fs::File, total: u64, progress: watch::Sender<Progress>) -> Body {
    let pieces = futures_util::stream::unfold((file, 0_u64), move |(mut file, done)| {
        let progress = progress.clone();
        async move {
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece).await {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    let done = done + read as u64;
                    progress.send_replace(Progress {
                        step: "sending",
                        done,
                        total,
                    });
                    Some((Ok(Frame::data(Bytes::from(piece))), (file, done)))
                }
                Err(error) => Some((Err(error), (file, done))),
            }
        }
    });
    StreamBody::new(pieces.boxed()).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creation(text: &str) -> Creation {
        Creation::new("aria", Recipe::parse(text).unwrap(), "/home/ann")
    }

    #[test]
    fn a_modelfile_becomes_fields() {
        let made = creation(
            "FROM qwen3:8b\nSYSTEM \"\"\"You are Aria.\"\"\"\nPARAMETER temperature 0.7\n\
             PARAMETER num_ctx 8192\nPARAMETER stop <|im_end|>\nPARAMETER stop END\n\
             TEMPLATE \"\"\"<|im_start|>{{ .Prompt }}\"\"\"\nMESSAGE user Hi\n\
             MESSAGE assistant Hello.\nLICENSE MIT\n",
        );
        let body = made.body(&made.source(), &Digests::new(), &Digests::new());
        assert_eq!(body["model"], "aria");
        assert_eq!(body["from"], "qwen3:8b");
        assert_eq!(body["system"], "You are Aria.");
        assert_eq!(body["parameters"]["num_ctx"], 8192);
        assert_eq!(body["parameters"]["stop"], json!(["<|im_end|>", "END"]));
        assert_eq!(body["template"], "<|im_start|>{{ .Prompt }}");
        assert_eq!(body["parameters"]["temperature"].to_string(), "0.7");
        assert_eq!(body["license"], json!(["MIT"]));
        assert_eq!(body["messages"][1]["role"], "assistant");
        assert_eq!(body.get("modelfile"), None, "that field is gone");
        assert_eq!(body.get("files"), None);
    }

    #[test]
    fn files_are_named_by_their_digests() {
        let made = creation("FROM ./tiny.gguf\nADAPTER style.gguf\n");
        let Source::Files(files) = made.source() else {
            panic!("a file");
        };
        assert_eq!(files, [PathBuf::from("/home/ann/./tiny.gguf")]);
        assert_eq!(made.adapters(), [PathBuf::from("/home/ann/style.gguf")]);
        let digests = |name: &str| Digests::from([(name.to_owned(), "sha256:00".to_owned())]);
        let body = made.body(
            &made.source(),
            &digests("tiny.gguf"),
            &digests("style.gguf"),
        );
        assert_eq!(body["files"], json!({"tiny.gguf": "sha256:00"}));
        assert_eq!(body["adapters"], json!({"style.gguf": "sha256:00"}));
        assert_eq!(body.get("from"), None);
    }

    #[test]
    fn paths_are_told_from_names() {
        for path in ["/a/b", "./x", "../x.bin", "x.GGUF", "C:\\m\\x", "~/x", "."] {
            assert!(is_path(path), "{path}");
        }
        for name in ["qwen3", "qwen3:8b", "ann/aria", "hf.co/a/b-GGUF:Q4"] {
            assert!(!is_path(name), "{name}");
        }
    }
}

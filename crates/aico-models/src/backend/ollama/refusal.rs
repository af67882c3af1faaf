//! What Ollama says when it says no, put into our words. Its own may quote what was asked and go
//! nowhere.

use serde::Deserialize;

use crate::backend::BackendError;

/// The text of a refusal, in small letters. Never shown or logged.
#[derive(Default)]
pub(super) struct Said(String);

#[derive(Deserialize)]
struct Refusal {
    error: Text,
}

/// Ollama's own addresses say a text, those it imitates an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Object { message: String },
}

impl Said {
    /// The error in a JSON object, if it has one.
    pub(super) fn of_body(body: &[u8]) -> Option<Self> {
        let refusal: Refusal = serde_json::from_slice(body).ok()?;
        let (Text::Plain(text) | Text::Object { message: text }) = refusal.error;
        let text: String = text.chars().take(2000).collect();
        (!text.is_empty()).then(|| Self(text.to_lowercase()))
    }

    fn has(&self, any: &[&str]) -> bool {
        any.iter().any(|words| self.0.contains(words))
    }
}

/// What the model lacks, by the word that Ollama has for it.
const CAPABILITIES: [(&str, &str); 8] = [
    ("does not support tools", "tools"),
    ("does not support thinking", "thinking"),
    ("think value", "thinking"),
    ("does not support vision", "images"),
    ("does not support chat", "chat"),
    ("does not support completion", "chat"),
    ("does not support generate", "chat"),
    ("does not support embedding", "embeddings"),
];

/// The error for a status and what was said with it.
pub(super) fn of(status: u16, said: &Said) -> BackendError {
    if let Some((_, what)) = CAPABILITIES.iter().find(|(words, _)| said.has(&[words])) {
        return BackendError::NotCapable { what };
    }
    if said.has(&["this model is missing data required for image"]) {
        return BackendError::NotCapable { what: "images" };
    }
    if said.has(&[
        "requires more system memory",
        "out of memory",
        "memory layout cannot be allocated",
        "unable to allocate",
        "failed to allocate",
        "cannot allocate memory",
    ]) {
        return BackendError::Memory;
    }
    if said.has(&["context length", "context size", "context window"])
        && said.has(&["exceed", "too long", "larger than"])
    {
        return BackendError::TooLong;
    }
    if said.has(&["no space left on device", "disk quota exceeded"]) {
        return BackendError::DiskFull;
    }
    if said.has(&["read-only file system"]) {
        return BackendError::DiskReadOnly;
    }
    if said.has(&["input/output error"]) {
        return BackendError::DiskFailing;
    }
    if said.has(&["digest mismatch"]) {
        return BackendError::WrongBytes;
    }
    if said.has(&["newer version of ollama"]) {
        return BackendError::TooOldForModel;
    }
    if said.has(&["server busy"]) {
        return BackendError::Busy;
    }
    if said.has(&["file does not exist"]) || (said.has(&["model"]) && said.has(&["not found"])) {
        return BackendError::ModelMissing;
    }
    // An image that it can't decode: a fault of one question, which it tells as its own. One that
    // is cut ends in the words of a connection that is.
    if said.has(&[
        "failed to process inputs",
        "image: unknown format",
        "png: invalid",
        "png: unsupported",
        "invalid jpeg",
        "unsupported jpeg",
    ]) {
        return BackendError::Refused { status: 400 };
    }
    // Where its models come from.
    if said.has(&[
        "no such host",
        "dial tcp",
        "network is unreachable",
        "i/o timeout",
        "max retries exceeded",
        "tls handshake",
        "x509:",
        "connection reset by peer",
        "unexpected eof",
    ]) {
        return BackendError::RegistryUnreachable;
    }
    match status {
        401 => BackendError::Key,
        404 => BackendError::ModelMissing,
        429 => BackendError::Busy,
        400..500 => BackendError::Refused { status },
        _ => BackendError::Failed { status },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_has_one_meaning() {
        let missing = BackendError::ModelMissing;
        for (status, text, meant) in [
            (404, "model 'x' not found", missing.clone()),
            (
                404,
                "model \"x\" not found, try pulling it first",
                missing.clone(),
            ),
            (500, "pull model manifest: file does not exist", missing),
            (
                400,
                "registry.ollama.ai/library/x:latest does not support tools",
                BackendError::NotCapable { what: "tools" },
            ),
            (
                400,
                "\"bert\" does not support chat",
                BackendError::NotCapable { what: "chat" },
            ),
            (
                500,
                "model requires more system memory (9.9 GiB) than is available (1.2 GiB)",
                BackendError::Memory,
            ),
            (
                400,
                "the input length exceeds the context length",
                BackendError::TooLong,
            ),
            (
                400,
                "input length exceeds maximum context length",
                BackendError::TooLong,
            ),
            (
                500,
                "input exceeds maximum context length and cannot be truncated further",
                BackendError::TooLong,
            ),
            (
                503,
                "server busy, please try again.  maximum pending requests exceeded",
                BackendError::Busy,
            ),
            (
                500,
                "write /x/blobs/y: no space left on device",
                BackendError::DiskFull,
            ),
            (
                500,
                "write /x/blobs/y: input/output error",
                BackendError::DiskFailing,
            ),
            (
                500,
                "open /x/y: read-only file system",
                BackendError::DiskReadOnly,
            ),
            (
                500,
                "digest mismatch, file must be downloaded again: want sha256:a, got sha256:b",
                BackendError::WrongBytes,
            ),
            (
                500,
                "pull model manifest: 412: The model you are attempting to pull requires a newer \
                 version of Ollama.",
                BackendError::TooOldForModel,
            ),
            (
                500,
                "max retries exceeded: unexpected EOF",
                BackendError::RegistryUnreachable,
            ),
            (
                500,
                "Failed to create new sequence: failed to process inputs: image: unknown format",
                BackendError::Refused { status: 400 },
            ),
            (
                500,
                "Failed to create new sequence: failed to process inputs: unexpected EOF",
                BackendError::Refused { status: 400 },
            ),
            (
                500,
                "png: invalid format: invalid checksum",
                BackendError::Refused { status: 400 },
            ),
            (
                500,
                "invalid JPEG format: short Huffman data",
                BackendError::Refused { status: 400 },
            ),
            (
                500,
                "failed to process inputs: this model is missing data required for image input",
                BackendError::NotCapable { what: "images" },
            ),
            (
                400,
                "missing request body",
                BackendError::Refused { status: 400 },
            ),
            (
                500,
                "llama runner process has terminated",
                BackendError::Failed { status: 500 },
            ),
            (401, "unauthorized", BackendError::Key),
        ] {
            let body = serde_json::json!({"error": text}).to_string();
            let said = Said::of_body(body.as_bytes()).unwrap();
            assert_eq!(of(status, &said), meant, "{text}");
        }
        assert!(Said::of_body(br#"{"models":[]}"#).is_none());
        assert!(Said::of_body(b"404 page not found").is_none());
        assert!(Said::of_body(br#"{"error":{"message":"x","type":"y"}}"#).is_some());
    }
}

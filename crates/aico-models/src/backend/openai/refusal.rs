//! What a server says when it does not answer, and what that means.
//!
//! Its words are read to tell one failure from another and go no further: they may repeat what
//! was asked.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::backend::BackendError;

/// Longest wait that a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Of an answer that is no success.
pub(super) fn of(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    address: &str,
) -> BackendError {
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let words = told.as_ref().and_then(words);
    let other = || BackendError::OtherProgram {
        address: address.to_owned(),
    };
    let wait = wait(headers);
    match (status.as_u16(), words) {
        (401 | 403, _) => BackendError::Key,
        (404, Some(words)) if words.is_of_server => BackendError::ModelMissing,
        (404 | 405, _) => other(),
        (413, _) => BackendError::TooLong,
        (429, _) => wait.map_or(BackendError::Busy, |wait| BackendError::Throttled { wait }),
        (503, words) => match (wait, words) {
            (Some(wait), _) => BackendError::Throttled { wait },
            // A model is being loaded.
            (None, Some(words)) if words.has(&["loading"]) => BackendError::Busy,
            (None, _) => BackendError::Failed { status: 503 },
        },
        (status @ 400..500, Some(words)) => words
            .meaning(status)
            .unwrap_or(BackendError::Refused { status }),
        (status @ 400..500, None) => BackendError::Refused { status },
        (status @ 500.., words) => match words.and_then(|words| words.meaning(status)) {
            Some(known) => known,
            None => BackendError::Failed { status },
        },
        // A redirect: whoever asks for words to be sent elsewhere is not what was configured.
        _ => other(),
    }
}

/// Of an error in the middle of a stream.
pub(super) fn amid(error: &Value) -> BackendError {
    let status = error
        .get("code")
        .or_else(|| error.get("status"))
        .and_then(Value::as_u64)
        .and_then(|code| u16::try_from(code).ok())
        .filter(|code| (400..600).contains(code))
        .unwrap_or(500);
    let meaning = Words::read(error, true).meaning(status);
    meaning.unwrap_or(match status {
        429 => BackendError::Busy,
        400..500 => BackendError::Refused { status },
        _ => BackendError::Failed { status },
    })
}

/// The error object of a body, in the shapes in which servers have it.
pub(super) fn error_of(body: &Value) -> Option<&Value> {
    let error = body.get("error").filter(|error| !error.is_null());
    error.or_else(|| (body.get("object")? == "error").then_some(body))
}

fn words(body: &Value) -> Option<Words> {
    match error_of(body) {
        Some(error) => Some(Words::read(error, true)),
        None => body.get("detail").map(|detail| Words::read(detail, false)),
    }
}

struct Words {
    /// Small letters.
    text: String,
    /// In the shape of the standard, not that of any web server.
    is_of_server: bool,
}

impl Words {
    fn read(error: &Value, is_of_server: bool) -> Self {
        let mut text = String::new();
        if let Some(plain) = error.as_str() {
            text.push_str(plain);
        }
        for field in ["message", "type", "code", "param"] {
            if let Some(part) = error.get(field).and_then(Value::as_str) {
                text.push(' ');
                text.push_str(part);
            }
        }
        text.make_ascii_lowercase();
        Self { text, is_of_server }
    }

    fn has(&self, all: &[&str]) -> bool {
        all.iter().all(|part| self.text.contains(part))
    }

    /// Whether it says that the model sees nothing at all, and not that it does not take one
    /// image, or so many.
    fn sees_nothing(&self) -> bool {
        if self.has(&["mmproj"])
            || self.has(&["not a multimodal"])
            || self.has(&["at most 0 image"])
            || self.has(&["unknown variant", "image"])
        {
            return true;
        }
        // What is supported instead is told of a format and a number as well.
        let of_one = self.has(&["format"]) || self.has(&["unsupported image"]);
        self.is_of_images() && self.has(&["support"]) && !of_one && !self.has(&["at most"])
    }

    fn is_of_images(&self) -> bool {
        self.has(&["image"]) || self.has(&["multimodal"])
    }

    /// `status`: what it came with. `None`: the status tells.
    fn meaning(&self, status: u16) -> Option<BackendError> {
        let capable = |what| Some(BackendError::NotCapable { what });
        if self.has(&["context", "length"])
            || self.has(&["exceed", "context"])
            || self.has(&["context", "window"])
            || self.has(&["too many tokens"])
        {
            return Some(BackendError::TooLong);
        }
        if self.has(&["out of memory"]) || self.has(&["insufficient", "memory"]) {
            return Some(BackendError::Memory);
        }
        if self.has(&["model_not_found"])
            || self.has(&["model", "not exist"])
            || self.has(&["model", "not found"])
        {
            return Some(BackendError::ModelMissing);
        }
        if self.sees_nothing() {
            return capable("images");
        }
        // An image that can't be read is a fault of one question, whatever it is told with.
        if self.is_of_images() && status >= 500 {
            return Some(BackendError::Refused { status });
        }
        if self.has(&["tool choice"])
            || self.has(&["tool-call-parser"])
            || self.has(&["tools", "support"])
        {
            return capable("tools");
        }
        if self.has(&["embedding", "support"]) {
            return capable("embeddings");
        }
        None
    }
}

/// Seconds of `Retry-After`; a date, which these servers do not send, counts as none.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: f64 = value.trim().parse().ok()?;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, after: Option<&str>, body: &str) -> BackendError {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert(header::RETRY_AFTER, after.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        of(status, &headers, body.as_bytes(), "lab:1")
    }

    #[test]
    fn each_refusal_has_its_meaning() {
        use BackendError::{Busy, Failed, Key, Memory, ModelMissing, NotCapable, Refused, TooLong};
        let other = BackendError::OtherProgram {
            address: "lab:1".into(),
        };
        let throttled = |wait| BackendError::Throttled {
            wait: Duration::from_secs(wait),
        };
        for (status, after, body, expected) in [
            (401, None, "", Key),
            (403, None, r#"{"error":"x"}"#, Key),
            // vLLM, OpenAI, llama.cpp; then a web server, and a framework without such a page.
            (
                404,
                None,
                r#"{"object":"error","message":"The model `x` does not exist.","code":404}"#,
                ModelMissing,
            ),
            (
                404,
                None,
                r#"{"error":{"code":"model_not_found"}}"#,
                ModelMissing,
            ),
            (404, None, "<html>", other.clone()),
            (404, None, r#"{"detail":"Not Found"}"#, other.clone()),
            (405, None, "", other.clone()),
            (302, None, "", other.clone()),
            (413, None, "", TooLong),
            (
                400,
                None,
                r#"{"error":{"type":"exceed_context_size_error","message":"x"}}"#,
                TooLong,
            ),
            (
                400,
                None,
                r#"{"object":"error","message":"This model's maximum context length is 9 tokens"}"#,
                TooLong,
            ),
            (
                500,
                None,
                r#"{"error":{"message":"image input is not supported - hint: you may need the mmproj"}}"#,
                NotCapable { what: "images" },
            ),
            (
                400,
                None,
                r#"{"object":"error","message":"facebook/opt-125m is not a multimodal model"}"#,
                NotCapable { what: "images" },
            ),
            (
                400,
                None,
                r#"{"message":"At most 0 image(s) may be provided in one prompt.","object":"error"}"#,
                NotCapable { what: "images" },
            ),
            (
                422,
                None,
                r#"{"error":{"message":"unknown variant `image_url`, expected `text`"}}"#,
                NotCapable { what: "images" },
            ),
            (
                400,
                None,
                r#"{"message":"At most 1 image(s) may be provided in one request.","object":"error"}"#,
                Refused { status: 400 },
            ),
            (
                400,
                None,
                r#"{"message":"The model only supports at most 1 image items","object":"error"}"#,
                Refused { status: 400 },
            ),
            (
                400,
                None,
                r#"{"error":{"message":"You uploaded an unsupported image."}}"#,
                Refused { status: 400 },
            ),
            (
                500,
                None,
                r#"{"error":{"message":"Failed to load image or audio file"}}"#,
                Refused { status: 500 },
            ),
            (
                400,
                None,
                r#"{"message":"\"auto\" tool choice requires --enable-auto-tool-choice","object":"error"}"#,
                NotCapable { what: "tools" },
            ),
            (
                422,
                None,
                r#"{"detail":[{"msg":"x"}]}"#,
                Refused { status: 422 },
            ),
            (400, None, "no JSON", Refused { status: 400 }),
            (429, None, "", Busy),
            (429, Some("7"), "", throttled(7)),
            (429, Some("99999999"), "", throttled(3600)),
            (429, Some("-1"), "", Busy),
            (429, Some("Fri, 31 Dec 1999 23:59:59 GMT"), "", Busy),
            (503, Some("2"), "", throttled(2)),
            (503, None, r#"{"error":{"message":"Loading model"}}"#, Busy),
            (503, None, "", Failed { status: 503 }),
            (
                500,
                None,
                r#"{"error":{"message":"CUDA out of memory"}}"#,
                Memory,
            ),
            (502, None, "<html>", Failed { status: 502 }),
        ] {
            assert_eq!(told(status, after, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn an_error_amid_a_stream_is_read_in_each_shape() {
        let of = |text: &str| {
            let body: Value = serde_json::from_str(text).unwrap();
            error_of(&body).map(amid)
        };
        let failed = Some(BackendError::Failed { status: 500 });
        assert_eq!(of(r#"{"error":{"message":"x","code":500}}"#), failed);
        assert_eq!(of(r#"{"error":"x"}"#), failed);
        assert_eq!(
            of(r#"{"error":"failed to process image"}"#),
            Some(BackendError::Refused { status: 500 })
        );
        assert_eq!(
            of(r#"{"object":"error","message":"x","code":429}"#),
            Some(BackendError::Busy)
        );
        assert_eq!(of(r#"{"error":null,"choices":[]}"#), None);
        assert_eq!(of(r#"{"object":"chat.completion.chunk"}"#), None);
    }
}

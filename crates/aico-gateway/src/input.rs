//! What a handler reads from a request, when it wants to: after it has asked whether the caller
//! may. Nothing here is read, or refused, before that.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use http::header;
use http::request::Parts;
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::app::App;
use crate::problem::{Code, Problem};
use crate::server::connections::Activity;

/// A body over its limit is read and thrown away up to this size, so that the client gets to
/// read the answer instead of a broken connection.
const DRAINED: usize = 32 * 1024 * 1024;

/// The body, unread.
pub(crate) struct Input {
    body: Body,
    length: Option<usize>,
    app: Arc<App>,
    activity: Option<Activity>,
}

impl FromRequest<Arc<App>> for Input {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let length = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Self {
            body,
            length,
            app: Arc::clone(app),
            activity: parts.extensions.get::<Activity>().cloned(),
        })
    }
}

impl Input {
    /// Reads the body as JSON.
    ///
    /// The bytes are wiped afterwards: a password may be among them. What the parser says is
    /// not passed on, it would quote what was sent; the place is told.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let limit = self.app.limits.body;
        self.json_up_to(limit).await
    }

    /// The same for a body with a file in it.
    pub(crate) async fn json_up_to<T: DeserializeOwned>(self, limit: usize) -> Result<T, Problem> {
        let bytes = self.read(limit).await?;
        parse(&bytes)
    }

    /// The same for a body with images in texts, and how many bytes it had. Beside its texts it
    /// has no more than any other.
    pub(crate) async fn json_with_images<T: DeserializeOwned>(
        self,
        limit: usize,
    ) -> Result<(T, usize), Problem> {
        let usual = self.app.limits.body;
        let bytes = self
            .read(limit)
            .await
            .map_err(|problem| match problem.code() {
                Code::TooLong => too_long_with_images(usual, limit),
                _ => problem,
            })?;
        // A text takes no more memory once it is parsed; anything else takes many times its bytes.
        if bytes.len() > usual && beside_texts(&bytes) > usual {
            return Err(too_long_with_images(usual, limit));
        }
        Ok((parse(&bytes)?, bytes.len()))
    }

    async fn read(mut self, limit: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let until = Instant::now() + self.app.limits.body_time;
        // Reserved at once, so that growing leaves no copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.length.unwrap_or(4096).min(limit)));
        let mut seen = 0usize;
        loop {
            let frame = timeout_at(until, self.body.frame()).await.map_err(|_| {
                if seen > limit {
                    Code::TooLong
                } else {
                    Code::TooSlow
                }
            })?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| {
                Problem::from(Code::Malformed).with_detail("The body ended too early.")
            })?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            seen = seen.saturating_add(data.len());
            if seen > DRAINED {
                break;
            }
            if seen <= limit {
                bytes.extend_from_slice(data);
            }
        }
        if seen > limit {
            return Err(too_long(limit));
        }
        // The request is complete: this connection no longer makes room for others.
        if let Some(activity) = &self.activity {
            activity.work();
        }
        Ok(bytes)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Serde would take a list for a structure, its items for the members in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::from(Code::Malformed).with_detail("The body is no JSON object."));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::from(Code::Malformed).with_detail(format!(
            "The body does not fit at line {}, column {}.",
            error.line(),
            error.column()
        ))
    })
}

/// Bytes of JSON that are not in its texts. Quotes count: texts may be empty, and many.
fn beside_texts(json: &[u8]) -> usize {
    let (mut beside, mut within, mut escaped) = (0, false, false);
    for byte in json {
        let quote = *byte == b'"' && !escaped;
        escaped = within && *byte == b'\\' && !escaped;
        if quote {
            within = !within;
        }
        beside += usize::from(quote || !within);
    }
    beside
}

/// 413, with the limit in words.
pub(crate) fn too_long(limit: usize) -> Problem {
    let most = match limit % 1024 {
        0 => format!("{} KiB", limit / 1024),
        _ => format!("{limit} bytes"),
    };
    Problem::from(Code::TooLong).with_detail(format!("At most {most} are taken."))
}

/// The same where images may be more than the usual.
pub(crate) fn too_long_with_images(usual: usize, limit: usize) -> Problem {
    Problem::from(Code::TooLong).with_detail(format!(
        "At most {} KiB are taken, and with images {} KiB in all.",
        usual / 1024,
        limit / 1024
    ))
}

/// The ids in a path, unread.
pub(crate) struct Ids(Vec<(String, String)>);

impl FromRequestParts<Arc<App>> for Ids {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        // A path that is no UTF-8 names nothing; told when it is asked for.
        let pairs = match RawPathParams::from_request_parts(parts, app).await {
            Ok(all) => all
                .iter()
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .collect(),
            Err(_) => Vec::new(),
        };
        Ok(Self(pairs))
    }
}

impl Ids {
    /// The id of this name. What is no id names nothing, and is told like an unknown one.
    pub(crate) fn get<T: FromStr>(&self, name: &str) -> Result<T, Problem> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.parse().ok())
            .ok_or_else(|| Code::NotFound.into())
    }
}

/// The query, unread.
pub(crate) struct Asked(Parts);

impl FromRequestParts<Arc<App>> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let (mut copy, ()) = http::Request::new(()).into_parts();
        copy.uri = parts.uri.clone();
        Ok(Self(copy))
    }
}

impl Asked {
    /// Reads the query.
    pub(crate) fn get<T: DeserializeOwned>(self) -> Result<T, Problem> {
        Query::try_from_uri(&self.0.uri)
            .map(|Query(value)| value)
            .map_err(|_| {
                Problem::from(Code::Malformed).with_detail("The query does not fit this address.")
            })
    }
}

/// A password or code from a request: wiped when it is dropped, never shown.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = Password)]
pub(crate) struct Secret(#[serde(deserialize_with = "wiped")] Zeroizing<String>);

fn wiped<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl Secret {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_is_told_in_bytes() {
        let told = |limit| too_long(limit).document().detail;
        assert_eq!(told(64).as_deref(), Some("At most 64 bytes are taken."));
        assert_eq!(told(4096).as_deref(), Some("At most 4 KiB are taken."));
    }

    #[test]
    fn what_is_not_in_a_text_is_counted() {
        for (json, beside) in [
            (r#"{"a":[1,"bc"]}"#, 11),
            (r#"["",""]"#, 7),
            (r#"["\"\"x"]"#, 4),
            (r#"["x\\",1]"#, 6),
            (r#"["\\\"x",1]"#, 6),
            (r#"["never ends"#, 2),
            ("", 0),
        ] {
            assert_eq!(beside_texts(json.as_bytes()), beside, "{json}");
        }
    }
}

//! The web UI, embedded by the build (see `build.rs`), and the page that stands in for it.

use aico_access::{Action, Principal, Resource, authorize};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::guard;
use crate::problem::{Code, Problem};
use crate::programs;

mod files {
    use super::File;

    include!(concat!(env!("OUT_DIR"), "/ui/files.rs"));
}

/// An embedded file and its compressed forms.
struct File {
    path: &'static str,
    mime: &'static str,
    /// A quoted entity tag of the content.
    tag: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    br: Option<&'static [u8]>,
}

/// Whether the real UI is embedded, or the page that says how to get it.
#[must_use]
pub fn is_built() -> bool {
    files::BUILT
}

/// Everything that is no route: files of the UI, and its pages, which are all one file.
pub(crate) async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    if let Some(dialect) = programs::dialect(path) {
        return programs::no_such_address(dialect).into_response();
    }
    if guard::is_api(path) {
        return Problem::from(Code::NotFound).into_response();
    }
    // Open to all, and decided where everything is.
    if let Err(denied) = authorize(&Principal::Anonymous, Action::ReadUi, &Resource::System) {
        return Problem::from(denied).into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Problem::from(Code::MethodNotAllowed).into_response();
    }
    let name = path.trim_start_matches('/');
    // Pages are told apart in the browser; a name with a dot is a file, which is there or not.
    let is_page = !name.rsplit('/').next().unwrap_or_default().contains('.');
    match find(name).or_else(|| if is_page { find("index.html") } else { None }) {
        Some(file) => send(file, request.headers()),
        None => Problem::from(Code::NotFound).into_response(),
    }
}

fn find(name: &str) -> Option<&'static File> {
    files::FILES.iter().find(|file| file.path == name)
}

fn send(file: &'static File, asked: &HeaderMap) -> Response {
    let cache = if file.path.starts_with("assets/") {
        // Their names change with their content.
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let known = asked
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| {
            tags.split(',')
                .any(|tag| tag.trim().trim_start_matches("W/") == file.tag)
        });
    let (coding, bytes) = choose(file, asked);
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(Body::from(Bytes::from_static(bytes)))
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.mime));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::ETAG, HeaderValue::from_static(file.tag));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let (Some(coding), false) = (coding, known) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    response
}

fn choose(file: &'static File, asked: &HeaderMap) -> (Option<&'static str>, &'static [u8]) {
    let accepts = |coding: &str| {
        asked.get_all(header::ACCEPT_ENCODING).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|list| list.split(',').any(|item| takes(item, coding)))
        })
    };
    match (file.br, file.gzip) {
        (Some(bytes), _) if accepts("br") => (Some("br"), bytes),
        (_, Some(bytes)) if accepts("gzip") => (Some("gzip"), bytes),
        _ => (None, file.plain),
    }
}

/// Whether one item of `Accept-Encoding` takes this coding: named, and not with `q=0`.
fn takes(item: &str, coding: &str) -> bool {
    let mut parts = item.split(';').map(str::trim);
    let named = parts
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case(coding));
    let refused = parts.any(|part| {
        part.strip_prefix("q=")
            .and_then(|q| q.parse::<f32>().ok())
            .is_some_and(|q| q <= 0.0)
    });
    named && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_page() {
        let page = find("index.html").unwrap();
        assert!(page.mime.starts_with("text/html"));
        assert!(!page.plain.is_empty());
        // The content policy lets neither inline scripts nor inline styles run.
        let text = String::from_utf8_lossy(page.plain);
        assert!(!text.contains("<style") && !text.contains(" style="));
    }

    #[test]
    fn codings_are_sent_to_those_who_take_them() {
        assert!(takes("br", "br") && takes(" br;q=0.5", "br"));
        assert!(!takes("br;q=0", "br") && !takes("gzip", "br") && !takes("brx", "br"));
    }
}

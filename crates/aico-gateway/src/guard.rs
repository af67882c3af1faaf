//! What is refused before routing: foreign names, other web sites, bodies that are no JSON.
//!
//! A browser on this machine runs pages of every web site, and each can send requests to every
//! port here. Three independent checks keep them out: `Host` must be one of the exact names of
//! this listener (a name that was rebound to 127.0.0.1 is not), `Origin` and `Sec-Fetch-Site`
//! must be our own where they are sent, and a body must be JSON, which no form can be. There are
//! no CORS headers and no cookies at all. The same checks stand before the WebSocket's upgrade.
//! The one exception: what other programs send need not say that it is JSON where the server that
//! is imitated does not ask for it. No form and no other site gets further by that: there is no
//! credential but a bearer token, which neither can add.

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, header};

use crate::peer::{Hosts, Peer};
use crate::problem::{Code, Problem};
use crate::programs;
use crate::routes::metrics::METRICS;

const FETCH_SITE: &str = "sec-fetch-site";
const FETCH_MODE: &str = "sec-fetch-mode";
const FETCH_DEST: &str = "sec-fetch-dest";

/// May this request be routed at all? `has_body` tells whether one follows the head.
pub(crate) fn check(peer: &Peer, parts: &Parts, has_body: bool) -> Result<(), Problem> {
    let host = host(parts)?;
    match peer {
        Peer::Tcp { hosts, .. } => check_browser(hosts, &host, parts)?,
        // No browser reaches the local socket; one that did would say where it comes from.
        Peer::Local if parts.headers.contains_key(header::ORIGIN) => {
            return Err(Code::OriginNotAllowed.into());
        }
        Peer::Local => {}
    }
    if has_body {
        check_body(
            &parts.headers,
            programs::dialect(parts.uri.path()).is_some(),
        )?;
    }
    Ok(())
}

/// The one name the request is addressed to: `Host`, an absolute target and HTTP/2's
/// `:authority` must agree, and exactly one must be there.
fn host(parts: &Parts) -> Result<String, Problem> {
    let bad = |detail: &str| Problem::from(Code::Malformed).with_detail(detail);
    let mut headers = parts.headers.get_all(header::HOST).iter();
    let header = headers.next();
    if headers.next().is_some() {
        return Err(bad("There is more than one Host header."));
    }
    let header = header
        .map(|value| {
            value
                .to_str()
                .map_err(|_| bad("The Host header is not text."))
        })
        .transpose()?;
    match (header, parts.uri.authority().map(Authority::as_str)) {
        (Some(header), Some(target)) if !header.eq_ignore_ascii_case(target) => {
            Err(bad("The Host header and the request's target differ."))
        }
        (Some(name), _) | (None, Some(name)) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(bad("There is no Host header.")),
    }
}

fn check_browser(hosts: &Hosts, host: &str, parts: &Parts) -> Result<(), Problem> {
    if !hosts.allows(host) {
        return Err(Code::HostNotAllowed.into());
    }
    let mut origins = parts.headers.get_all(header::ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let own = origin.to_str().is_ok_and(|origin| {
            origin
                .strip_prefix("http://")
                .is_some_and(|name| name.eq_ignore_ascii_case(host))
        });
        if !own || origins.next().is_some() {
            return Err(Code::OriginNotAllowed.into());
        }
    }
    let mut sites = parts.headers.get_all(FETCH_SITE).iter();
    if let Some(site) = sites.next() {
        // `same-site` is any port of this host: another program's page.
        let own = matches!(site.as_bytes(), b"same-origin" | b"none");
        if sites.next().is_some() || !(own || is_visit(parts)) {
            return Err(Code::OriginNotAllowed.into());
        }
    }
    Ok(())
}

/// A link on another page that opens ours, as itself: it can't be framed, and opening it
/// changes nothing.
fn is_visit(parts: &Parts) -> bool {
    let is = |name: &str, value: &[u8]| {
        parts
            .headers
            .get(name)
            .is_some_and(|given| given.as_bytes() == value)
    };
    parts.method == Method::GET
        && is(FETCH_MODE, b"navigate")
        && is(FETCH_DEST, b"document")
        && !is_api(parts.uri.path())
}

/// Whether a path is the API's, as against the UI's.
pub(crate) fn is_api(path: &str) -> bool {
    ["/api", "/ws", "/v1", METRICS].iter().any(|root| {
        path.strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn check_body(headers: &HeaderMap, any_type: bool) -> Result<(), Problem> {
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let kind = value.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json")
        });
    let plain = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if (json || any_type) && plain {
        Ok(())
    } else {
        Err(Code::JsonNeeded.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Request;

    use super::*;

    fn peer() -> Peer {
        let address = "127.0.0.1:8771".parse().unwrap();
        Peer::Tcp {
            address,
            hosts: Arc::new(Hosts::new(address, &[])),
        }
    }

    fn verdict(method: &str, target: &str, headers: &[(&str, &str)], body: bool) -> Option<Code> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(&peer(), &parts, body)
            .err()
            .map(|problem| problem.code())
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:8771");

    #[test]
    fn host_must_be_there_once_and_ours() {
        assert_eq!(verdict("GET", "/", &[HOST], false), None);
        assert_eq!(verdict("GET", "/", &[], false), Some(Code::Malformed));
        assert_eq!(
            verdict("GET", "/", &[("host", "")], false),
            Some(Code::Malformed)
        );
        assert_eq!(
            verdict("GET", "/", &[HOST, HOST], false),
            Some(Code::Malformed)
        );
        let foreign = ("host", "evil.example:8771");
        assert_eq!(
            verdict("GET", "/", &[foreign], false),
            Some(Code::HostNotAllowed)
        );
    }

    #[test]
    fn a_target_that_names_another_host_is_refused() {
        let ours = "http://127.0.0.1:8771/livez";
        let foreign = "http://evil.example/livez";
        assert_eq!(verdict("GET", ours, &[HOST], false), None);
        assert_eq!(
            verdict("GET", ours, &[], false),
            None,
            "HTTP/2 has :authority alone"
        );
        assert_eq!(
            verdict("GET", foreign, &[HOST], false),
            Some(Code::Malformed)
        );
        assert_eq!(
            verdict("GET", foreign, &[], false),
            Some(Code::HostNotAllowed)
        );
        let other = "http://localhost:8771/livez";
        assert_eq!(verdict("GET", other, &[HOST], false), Some(Code::Malformed));
    }

    #[test]
    fn only_our_own_origin_is_let_in() {
        for origin in [
            "null",
            "",
            "http://evil.example",
            "https://127.0.0.1:8771",
            "http://127.0.0.1:3000",
            "http://localhost:8771",
            "http://127.0.0.1:8771.evil.example",
            "http://127.0.0.1:8771/",
        ] {
            for method in ["GET", "POST"] {
                let found = verdict(method, "/api/v1/state", &[HOST, ("origin", origin)], false);
                assert_eq!(found, Some(Code::OriginNotAllowed), "{method} {origin}");
            }
        }
        let own = ("origin", "http://127.0.0.1:8771");
        assert_eq!(verdict("POST", "/api/v1/lock", &[HOST, own], false), None);
        let two = verdict("POST", "/api/v1/lock", &[HOST, own, own], false);
        assert_eq!(two, Some(Code::OriginNotAllowed));
    }

    #[test]
    fn cross_site_is_refused_except_for_a_visit_to_the_page() {
        for site in ["cross-site", "same-site", "nonsense"] {
            let headers = [HOST, (FETCH_SITE, site)];
            for target in ["/", "/api/v1/state", "/ws"] {
                let found = verdict("GET", target, &headers, false);
                assert_eq!(found, Some(Code::OriginNotAllowed), "{site} {target}");
            }
            let visit = [
                HOST,
                (FETCH_SITE, site),
                (FETCH_MODE, "navigate"),
                (FETCH_DEST, "document"),
            ];
            assert_eq!(verdict("GET", "/", &visit, false), None);
            assert!(verdict("GET", "/api/v1/state", &visit, false).is_some());
            assert!(verdict("GET", "/metrics", &visit, false).is_some());
            assert!(verdict("POST", "/", &visit, false).is_some());
            let framed = [
                HOST,
                (FETCH_SITE, site),
                (FETCH_MODE, "navigate"),
                (FETCH_DEST, "iframe"),
            ];
            assert!(verdict("GET", "/", &framed, false).is_some());
        }
        for site in ["same-origin", "none"] {
            assert_eq!(
                verdict("GET", "/api/v1/state", &[HOST, (FETCH_SITE, site)], false),
                None
            );
        }
    }

    #[test]
    fn bodies_are_plain_json() {
        let json = ("content-type", "application/json; charset=utf-8");
        assert_eq!(verdict("POST", "/api/v1/unlock", &[HOST, json], true), None);
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/jsonp",
            "",
        ] {
            let found = verdict(
                "POST",
                "/api/v1/unlock",
                &[HOST, ("content-type", kind)],
                true,
            );
            assert_eq!(found, Some(Code::JsonNeeded), "{kind}");
        }
        assert_eq!(
            verdict("POST", "/api/v1/unlock", &[HOST], true),
            Some(Code::JsonNeeded)
        );
        // What is sent by other programs need not say so, but is no more unpacked than anything.
        for path in ["/v1/chat/completions", "/api/chat", "/api/embed"] {
            assert_eq!(verdict("POST", path, &[HOST], true), None, "{path}");
            let foreign = ("origin", "http://evil.example");
            let found = verdict("POST", path, &[HOST, foreign], true);
            assert_eq!(found, Some(Code::OriginNotAllowed), "{path}");
            let packed = ("content-encoding", "gzip");
            let found = verdict("POST", path, &[HOST, packed], true);
            assert_eq!(found, Some(Code::JsonNeeded), "{path}");
        }
        for coding in ["gzip", "br", "deflate, gzip", "zstd"] {
            let headers = [HOST, json, ("content-encoding", coding)];
            let found = verdict("POST", "/api/v1/unlock", &headers, true);
            assert_eq!(found, Some(Code::JsonNeeded), "{coding}");
        }
    }
}

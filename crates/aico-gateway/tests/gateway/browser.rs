//! What a browser can be made to send by pages of others, and what our own answers tell it.

use http::HeaderMap;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::{OWNER, World, soon};

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_ours_are_refused_before_routing() {
    let (world, owner) = World::ready().await;
    let token = ("authorization", format!("Bearer {}", owner.token));
    let port = world.address.port();
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("127.0.0.1.nip.io:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("0.0.0.0:{port}"),
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{}", port.wrapping_add(1)),
        format!("aico.local:{port}"),
    ] {
        for path in ["/", "/api/v1/me", "/livez", "/nothing/here", "/ws"] {
            let headers = [("host", host.clone()), token.clone()];
            let reply = world.send("GET", path, &headers, "".into()).await;
            assert_eq!(
                (reply.status, reply.code().as_str()),
                (403, "host-not-allowed"),
                "{host}"
            );
        }
    }
    for host in [format!("localhost:{port}"), format!("[::1]:{port}")] {
        let headers = [("host", host.clone()), token.clone()];
        world
            .send("GET", "/api/v1/me", &headers, "".into())
            .await
            .expect(200);
    }
}

/// Sends bytes as they are and returns the status line's number, 0 when there is none.
async fn raw(world: &World, request: &str) -> u16 {
    let mut stream = world.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A refused connection may be reset after its answer.
    let _ = soon("an end", stream.read_to_end(&mut answer)).await;
    let line = String::from_utf8_lossy(&answer);
    line.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_its_host_exactly_once() {
    let world = World::new().await;
    let host = world.address;
    let get = |target: &str, hosts: &str| {
        format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")
    };
    let one = format!("Host: {host}\r\n");
    assert_eq!(raw(&world, &get("/livez", &one)).await, 200);
    assert_eq!(raw(&world, &get("/livez", "")).await, 400);
    assert_eq!(
        raw(&world, &get("/livez", &format!("{one}{one}"))).await,
        400
    );
    assert_eq!(
        raw(&world, &get("/livez", &format!("{one}Host: evil\r\n"))).await,
        400
    );
    assert_eq!(
        raw(&world, &get("http://evil.example/livez", &one)).await,
        400
    );
    assert_eq!(
        raw(&world, &get(&format!("http://{host}/livez"), &one)).await,
        200
    );
    let old = format!("GET /livez HTTP/1.0\r\n{one}\r\n");
    assert_eq!(raw(&world, &old).await, 200);
    assert_eq!(raw(&world, "GET /livez HTTP/1.0\r\n\r\n").await, 400);
    // HTTP/2 is not spoken: no second way to name a host.
    assert_ne!(raw(&world, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_other_sites_are_refused_even_with_a_token() {
    let (world, owner) = World::ready().await;
    let token = ("authorization", format!("Bearer {}", owner.token));
    let host = ("host", world.address.to_string());
    let json = ("content-type", "application/json".to_owned());
    let foreign = |name, value: &str| (name, value.to_owned());
    for marks in [
        vec![foreign("origin", "https://evil.example")],
        vec![foreign("origin", "null")],
        vec![foreign("origin", "http://localhost:5173")],
        vec![
            foreign("sec-fetch-site", "cross-site"),
            foreign("sec-fetch-mode", "no-cors"),
        ],
        vec![foreign("sec-fetch-site", "same-site")],
    ] {
        for (method, path, body) in [
            ("GET", "/api/v1/me", ""),
            ("POST", "/api/v1/lock", ""),
            ("POST", "/api/v1/conversations", "{}"),
            ("DELETE", "/api/v1/sessions", ""),
        ] {
            let mut headers = vec![host.clone(), token.clone(), json.clone()];
            headers.extend(marks.clone());
            let reply = world.send(method, path, &headers, body.into()).await;
            assert_eq!(
                reply.code(),
                "origin-not-allowed",
                "{method} {path} {marks:?}"
            );
            assert!(no_cors(&reply.headers));
        }
    }
    let own = ("origin", format!("http://{}", world.address));
    let site = ("sec-fetch-site", "same-origin".to_owned());
    let headers = [host, token, json, own, site];
    let reply = world
        .send("POST", "/api/v1/conversations", &headers, "{}".into())
        .await;
    reply.expect(201);
}

fn no_cors(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .all(|name| !name.as_str().starts_with("access-control-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_no_request() {
    let (world, _) = World::ready().await;
    let host = ("host", world.address.to_string());
    let form = json!({"name": "Ada", "password": OWNER}).to_string();
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let headers = [host.clone(), ("content-type", kind.to_owned())];
        let reply = world
            .send("POST", "/api/v1/sessions", &headers, form.clone().into())
            .await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (415, "json-needed"),
            "{kind}"
        );
    }
    let reply = world
        .send("POST", "/api/v1/sessions", &[host], form.into())
        .await;
    assert_eq!(reply.code(), "json-needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_never_changes_anything() {
    let document = serde_json::to_value(aico_gateway::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        if let Some(get) = item.get("get") {
            assert!(get.get("requestBody").is_none(), "{path}");
        }
    }
    let (world, owner) = World::ready().await;
    for path in ["/api/v1/lock", "/api/v1/unlock", "/api/v1/setup"] {
        let reply = world.get(path, &owner.token).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (405, "method-not-allowed"),
            "{path}"
        );
    }
    let options = world.call("OPTIONS", "/api/v1/me", None, None).await;
    assert_eq!(options.status, 405);
    assert!(no_cors(&options.headers));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_of_another_site_is_refused_before_the_upgrade() {
    let (world, _) = World::ready().await;
    let address = world.address;
    for (name, value) in [
        ("origin", "https://evil.example".to_owned()),
        ("origin", "null".to_owned()),
        ("origin", "http://127.0.0.1:1".to_owned()),
        ("host", "evil.example".to_owned()),
        ("sec-fetch-site", "cross-site".to_owned()),
    ] {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let refused = tokio_tungstenite::client_async(request, world.connect().await).await;
        match refused {
            Err(Error::Http(response)) => assert_eq!(response.status(), 403, "{name}: {value}"),
            other => panic!("{name}: {value}: {:?}", other.map(|_| "connected")),
        }
    }
    let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
    let own = format!("http://{address}").parse().unwrap();
    request.headers_mut().insert("origin", own);
    tokio_tungstenite::client_async(request, world.connect().await)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_security_headers() {
    let world = World::new().await;
    let host = ("host", world.address.to_string());
    let evil = ("host", "evil.example".to_owned());
    for (path, host, api) in [
        ("/", &host, false),
        ("/a/page", &host, false),
        ("/missing.js", &host, false),
        ("/livez", &host, true),
        ("/api/v1/state", &host, true),
        ("/api/v1/me", &host, true),
        ("/api/nothing", &host, true),
        ("/", &evil, false),
    ] {
        let reply = world
            .send("GET", path, std::slice::from_ref(host), "".into())
            .await;
        let header = |name: &str| reply.headers[name].to_str().unwrap().to_owned();
        let csp = header("content-security-policy");
        assert!(
            csp.starts_with("default-src 'none'; script-src 'self'"),
            "{path}"
        );
        assert!(csp.contains("frame-ancestors 'none'"));
        assert!(!csp.contains("unsafe"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        assert!(header("permissions-policy").contains("camera=()"));
        assert!(no_cors(&reply.headers) && !reply.headers.contains_key("set-cookie"));
        if api {
            assert_eq!(header("cache-control"), "no-store", "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_served_for_every_address_of_theirs_and_files_only_when_they_exist() {
    let world = World::new().await;
    let page = world.call("GET", "/", None, None).await.expect(200);
    assert!(
        page.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    assert_eq!(page.headers["cache-control"], "no-cache");
    let deep = world
        .call("GET", "/conversations/abc", None, None)
        .await
        .expect(200);
    assert_eq!(deep.body, page.body);
    assert_eq!(
        world
            .call("GET", "/assets/none.js", None, None)
            .await
            .code(),
        "not-found"
    );
    assert_eq!(
        world.call("GET", "/../Cargo.toml", None, None).await.code(),
        "not-found"
    );
    assert_eq!(
        world.call("GET", "/api/v2/me", None, None).await.code(),
        "not-found"
    );
    assert_eq!(
        world.call("POST", "/", None, None).await.code(),
        "method-not-allowed"
    );

    let host = ("host", world.address.to_string());
    let tag = page.headers["etag"].to_str().unwrap().to_owned();
    let again = [host.clone(), ("if-none-match", tag)];
    let again = world.send("GET", "/", &again, "".into()).await.expect(304);
    assert!(again.body.is_empty());
    let packed = [host, ("accept-encoding", "gzip, br".to_owned())];
    let packed = world.send("GET", "/", &packed, "".into()).await.expect(200);
    assert_eq!(packed.headers["content-encoding"], "br");
    assert!(packed.body.len() < page.body.len());
}

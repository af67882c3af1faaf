//! The local socket: no token, no password, and only for this user.
#![cfg(unix)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use aico_gateway::LocalListener;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::support::{MEMBER, OWNER, Reply, World, exchange, soon};

struct Local {
    world: World,
    path: PathBuf,
}

impl Local {
    async fn new() -> Self {
        let world = World::new().await;
        let path = world.data.path().join("aico.sock");
        let listener = LocalListener::bind(&path).unwrap();
        let gateway = world.gateway.clone();
        tokio::spawn(async move { gateway.serve_local(listener).await });
        Self { world, path }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        extra: &[(&str, String)],
        body: Option<Value>,
    ) -> Reply {
        let stream = UnixStream::connect(&self.path).await.unwrap();
        let mut headers = vec![("host", "aico".to_owned())];
        headers.extend(extra.iter().cloned());
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        soon(
            "an answer",
            exchange(stream, method, path, &headers, body.into()),
        )
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_sets_up_without_a_code_and_acts_as_the_owner() {
    let local = Local::new().await;
    let form = Some(json!({"name": "Ada", "password": OWNER}));
    local
        .call("POST", "/api/v1/setup", &[], form)
        .await
        .expect(201);
    let me = local
        .call("GET", "/api/v1/me", &[], None)
        .await
        .expect(200)
        .json();
    assert_eq!(
        (me["name"].as_str(), me["role"].as_str()),
        (Some("Ada"), Some("owner"))
    );
    local
        .call("GET", "/api/v1/status", &[], None)
        .await
        .expect(200);
    local.call("GET", "/metrics", &[], None).await.expect(200);
    let form = Some(json!({"name": "Grace", "password": MEMBER}));
    local
        .call("POST", "/api/v1/persons", &[], form)
        .await
        .expect(201);
    // There is no session that it could leave.
    let reply = local
        .call("DELETE", "/api/v1/sessions/current", &[], None)
        .await;
    assert_eq!(reply.code(), "not-found");

    local
        .call("POST", "/api/v1/lock", &[], None)
        .await
        .expect(204);
    let reply = local.call("GET", "/api/v1/me", &[], None).await;
    assert_eq!(reply.code(), "locked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_there_acts_for_its_person_with_no_more_rights() {
    let local = Local::new().await;
    local.world.set_up().await;
    let grace = local.world.add("Grace", MEMBER).await;
    let bearer = [("authorization", format!("Bearer {}", grace.token))];
    let me = local
        .call("GET", "/api/v1/me", &bearer, None)
        .await
        .expect(200)
        .json();
    assert_eq!(me["name"], "Grace");
    let reply = local.call("GET", "/api/v1/status", &bearer, None).await;
    assert_eq!(reply.code(), "forbidden");
    let broken = [("authorization", "Bearer x".to_owned())];
    let reply = local.call("GET", "/api/v1/me", &broken, None).await;
    assert_eq!(
        reply.code(),
        "token-invalid",
        "a bad token does not fall back to the owner"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_never_kept_out_by_wrong_passwords() {
    let local = Local::new().await;
    local.world.set_up().await;
    local.world.home.lock().await.unwrap();
    for _ in 0..25 {
        let form = Some(json!({"password": MEMBER}));
        let reply = local.call("POST", "/api/v1/unlock", &[], form).await;
        assert_eq!(reply.code(), "wrong-password");
    }
    let form = Some(json!({"password": OWNER}));
    local
        .call("POST", "/api/v1/unlock", &[], form)
        .await
        .expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_found_its_way_there_is_refused() {
    let local = Local::new().await;
    let origin = [("origin", "http://127.0.0.1:8771".to_owned())];
    let reply = local.call("GET", "/api/v1/state", &origin, None).await;
    assert_eq!(reply.code(), "origin-not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_file_is_private_replaced_when_stale_and_gone_at_the_end() {
    let local = Local::new().await;
    let mode = std::fs::metadata(&local.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    local.call("GET", "/livez", &[], None).await.expect(200);
    let path = local.path.clone();
    local.world.stop.cancel();
    crate::support::until("the socket to go", || !path.exists()).await;

    // What a killed daemon leaves is replaced, anything else is not.
    std::mem::forget(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(LocalListener::bind(&path).unwrap());
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert!(LocalListener::bind(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

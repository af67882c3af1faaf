//! Set-up, sign-in, tokens, and what guessing costs.

use aico_contracts::ids::SessionId;
use aico_gateway::Limits;
use serde_json::json;

use crate::support::{MEMBER, OWNER, World, soon};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_visitor_needs_the_printed_code() {
    let world = World::new().await;
    let form = |code: Option<&str>| {
        let mut form = json!({"name": "Ada", "password": OWNER});
        if let Some(code) = code {
            form["code"] = code.into();
        }
        Some(form)
    };
    for code in [None, Some(""), Some("AAAAAAAAAAAAAAAAAAAAAA")] {
        let reply = world.call("POST", "/api/v1/setup", None, form(code)).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (403, "setup-code-wrong")
        );
    }
    let old = world.home.setup_code().unwrap();
    let code = world.home.setup_code().unwrap();
    let void = world
        .call("POST", "/api/v1/setup", None, form(Some(old.as_str())))
        .await;
    assert_eq!(
        void.code(),
        "setup-code-wrong",
        "a new code voids the one before"
    );

    let weak = json!({"code": code.as_str(), "name": "Ada", "password": "password1234"});
    let reply = world.call("POST", "/api/v1/setup", None, Some(weak)).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (422, "password-too-weak")
    );

    let done = world
        .call("POST", "/api/v1/setup", None, form(Some(code.as_str())))
        .await;
    let done = done.expect(201).json();
    assert_eq!(done["recovery_phrase"].as_array().unwrap().len(), 12);
    assert_eq!(done["session"]["person"]["role"], "owner");
    let token = done["session"]["token"].as_str().unwrap();
    let me = world.get("/api/v1/me", token).await.expect(200).json();
    assert_eq!(me["name"], "Ada");

    let again = world
        .call("POST", "/api/v1/setup", None, form(Some(code.as_str())))
        .await;
    assert_eq!(
        (again.status, again.code().as_str()),
        (409, "already-set-up")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_and_a_wrong_password_look_alike() {
    let (world, _) = World::ready().await;
    let sign_in = |name: &str, password: &str| {
        let form = Some(json!({"name": name, "password": password}));
        let world = &world;
        async move { world.call("POST", "/api/v1/sessions", None, form).await }
    };
    let wrong = sign_in("Ada", MEMBER).await.expect(401);
    let unknown = sign_in("Nobody", MEMBER).await.expect(401);
    let empty = sign_in("", "").await.expect(401);
    let huge = sign_in("Ada", &"x".repeat(100_000)).await.expect(401);
    let nul = sign_in("Ada", "\0").await.expect(401);
    for other in [&unknown, &empty, &huge, &nul] {
        assert_eq!(other.json(), wrong.json());
    }
    assert_eq!(wrong.code(), "sign-in-failed");
    assert_eq!(wrong.headers["www-authenticate"], "Bearer");
    sign_in("Ada", OWNER).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down_for_a_source_whatever_account_it_tries() {
    let limits = Limits {
        free_tries: 2,
        ..Limits::default()
    };
    let (world, _) = World::ready_with(limits).await;
    for name in ["A", "B", "C"] {
        let form = Some(json!({"name": name, "password": MEMBER}));
        world
            .call("POST", "/api/v1/sessions", None, form)
            .await
            .expect(401);
    }
    for (path, form) in [
        (
            "/api/v1/sessions",
            json!({"name": "Ada", "password": OWNER}),
        ),
        ("/api/v1/unlock", json!({"password": OWNER})),
    ] {
        let reply = world.call("POST", path, None, Some(form)).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (429, "slow-down"),
            "{path}"
        );
        assert_eq!(reply.headers["retry-after"], "1");
        assert_eq!(reply.json()["retry_after_seconds"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_everywhere_at_once() {
    let (world, owner) = World::ready().await;
    let other = world.sign_in("Ada", OWNER).await;
    let listed = world
        .get("/api/v1/sessions", &owner.token)
        .await
        .expect(200)
        .json();
    let current: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|session| session["current"] == true)
        .map(|session| session["id"].clone())
        .collect();
    assert_eq!(current, [json!(owner.session)]);

    let path = format!("/api/v1/sessions/{}", other.session);
    world
        .call("DELETE", &path, Some(&owner.token), None)
        .await
        .expect(204);
    assert_eq!(
        world.get("/api/v1/me", &other.token).await.code(),
        "token-invalid"
    );
    world.get("/api/v1/me", &owner.token).await.expect(200);

    world
        .call(
            "DELETE",
            "/api/v1/sessions/current",
            Some(&owner.token),
            None,
        )
        .await
        .expect(204);
    assert_eq!(
        world.get("/api/v1/me", &owner.token).await.code(),
        "token-invalid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_the_other_sessions() {
    let (world, _) = World::ready().await;
    let first = world.add("Grace", MEMBER).await;
    let second = world.sign_in("Grace", MEMBER).await;
    let new = "window ladder cinnamon orbit";
    let form = Some(json!({"current": MEMBER, "new": new}));
    world
        .call("PUT", "/api/v1/me/password", Some(&first.token), form)
        .await
        .expect(204);
    world.get("/api/v1/me", &first.token).await.expect(200);
    assert_eq!(
        world.get("/api/v1/me", &second.token).await.code(),
        "token-invalid"
    );
    let form = json!({"name": "Grace", "password": MEMBER});
    world
        .call("POST", "/api/v1/sessions", None, Some(form))
        .await
        .expect(401);
    world.sign_in("Grace", new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_token_is_no_token() {
    use std::fmt::Write as _;

    let (world, owner) = World::ready().await;
    let parts: Vec<_> = owner.token.split('.').collect();
    // {"alg":"none"} and {"alg":"HS256"}
    let none = "eyJhbGciOiJub25lIn0";
    let hs256 = "eyJhbGciOiJIUzI1NiJ9";
    let mut flipped = String::new();
    for (index, letter) in owner.token.char_indices() {
        let middle = index == owner.token.len() / 2;
        write!(
            flipped,
            "{}",
            if middle && letter != 'A' { 'A' } else { letter }
        )
        .unwrap();
    }
    for (name, token) in [
        ("alg none", format!("{none}.{}.", parts[1])),
        (
            "alg none, signed",
            format!("{none}.{}.{}", parts[1], parts[2]),
        ),
        ("alg swapped", format!("{hs256}.{}.{}", parts[1], parts[2])),
        ("no signature", format!("{}.{}", parts[0], parts[1])),
        ("empty", String::new()),
        ("a letter changed", flipped),
        ("two in one", format!("{} {}", owner.token, owner.token)),
        ("huge", "x".repeat(8000)),
    ] {
        let reply = world.get("/api/v1/me", &token).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (401, "token-invalid"),
            "{name}"
        );
    }
    // A token is taken from the header and from nowhere else.
    let query = format!("/api/v1/me?token={}", owner.token);
    assert_eq!(
        world.call("GET", &query, None, None).await.code(),
        "sign-in-needed"
    );
    let host = ("host", world.address.to_string());
    let cookie = (
        "cookie",
        format!("token={0}; Authorization=Bearer {0}", owner.token),
    );
    let reply = world
        .send("GET", "/api/v1/me", &[host, cookie], "".into())
        .await;
    assert_eq!(reply.code(), "sign-in-needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_and_lists_have_their_documented_shapes() {
    let (world, owner) = World::ready().await;
    let session = world.sign_in("Ada", OWNER).await;
    assert_eq!(session.id, owner.id);
    let me = world
        .get("/api/v1/me", &owner.token)
        .await
        .expect(200)
        .json();
    assert!(me["created_at"].as_str().unwrap().ends_with('Z'));
    let path = "/api/v1/conversations?limit=0";
    assert_eq!(
        world.get(path, &owner.token).await.expect(422).code(),
        "invalid"
    );
    let path = "/api/v1/conversations?colour=red";
    assert_eq!(
        world.get(path, &owner.token).await.expect(400).code(),
        "malformed"
    );
    let broken = world
        .get("/api/v1/search?q=break", &owner.token)
        .await
        .expect(500);
    assert_eq!(
        broken.code(),
        "internal",
        "a module's malformed answer is a defect, not a guess"
    );
    let ready = world
        .call("GET", "/readyz", None, None)
        .await
        .expect(200)
        .json();
    assert_eq!(ready["model"]["status"], "ready");
}

/// What the list says of a session: whether it is connected, and whether it tells when it was.
async fn presence(
    world: &World,
    asker: &crate::support::Person,
    session: SessionId,
) -> (bool, bool) {
    let list = world.get("/api/v1/sessions", &asker.token).await;
    let list = list.expect(200).json();
    let of = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["id"] == session.to_string())
        .unwrap();
    (of["connected"] == true, of.get("seen_at").is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_connected_as_long_as_one_of_its_connections_lasts() {
    let (world, owner) = World::ready().await;
    let other = world.sign_in("Ada", OWNER).await;
    assert_eq!(
        presence(&world, &owner, other.session).await,
        (false, false)
    );
    let (one, _) = world.follow(&other.token, None).await;
    let (two, _) = world.follow(&other.token, None).await;
    let comes = |expected| {
        let (world, owner, other) = (&world, &owner, &other);
        soon("the list tells it", async move {
            while presence(world, owner, other.session).await != expected {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
    };
    comes((true, false)).await;
    assert_eq!(
        presence(&world, &owner, owner.session).await,
        (false, false)
    );
    drop(one);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(presence(&world, &owner, other.session).await, (true, false));
    drop(two);
    comes((false, true)).await;

    // Nobody sees it of somebody else, and it is gone with the lock.
    world.home.lock().await.unwrap();
    assert!(world.home.presence_of(owner.id).await.is_err());
}

//! What opens the vault, over the API: what is told, what is asked for, what dies.

use serde_json::json;

use crate::support::{MEMBER, OWNER, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_place_for_the_key_is_remembered_told_and_forgotten_on_the_masters_password_only() {
    let (world, owner) = World::ready().await;
    let token = Some(owner.token.as_str());
    let remember = |password: &str| Some(json!({"password": password, "backend": "key-file"}));
    let wrong = world
        .call("POST", "/api/v1/vault/remember", token, remember(MEMBER))
        .await;
    assert_eq!(
        (wrong.status, wrong.code().as_str()),
        (401, "wrong-password")
    );
    assert_eq!(world.key_files(), 0);
    // A key file is never chosen unasked, and this home has nothing else.
    let unasked = world
        .call(
            "POST",
            "/api/v1/vault/remember",
            token,
            Some(json!({"password": OWNER})),
        )
        .await;
    assert_eq!(
        (unasked.status, unasked.code().as_str()),
        (409, "keychain-absent")
    );
    let unknown = json!({"password": OWNER, "backend": "pocket"});
    let unknown = world
        .call("POST", "/api/v1/vault/remember", token, Some(unknown))
        .await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "not-found")
    );

    for _ in 0..2 {
        let done = world
            .call("POST", "/api/v1/vault/remember", token, remember(OWNER))
            .await
            .expect(200)
            .json();
        assert_eq!(done["backend"], "key-file");
        assert_eq!(world.key_files(), 1, "the one before is gone");
    }
    let told = world
        .get("/api/v1/vault", &owner.token)
        .await
        .expect(200)
        .json();
    let wraps = told["wraps"].as_array().unwrap();
    let kinds: Vec<_> = wraps.iter().map(|wrap| wrap["kind"].clone()).collect();
    assert_eq!(kinds, ["master-password", "recovery-phrase", "key-file"]);
    assert!(
        wraps.iter().all(|wrap| wrap["made_at"].is_string()),
        "{told}"
    );
    assert!(wraps.iter().all(|wrap| wrap["state"].is_null()), "{told}");

    let forget = |password: &str| Some(json!({ "password": password }));
    let wrong = world
        .call("POST", "/api/v1/vault/forget", token, forget(MEMBER))
        .await;
    assert_eq!(wrong.code(), "wrong-password");
    assert_eq!(world.key_files(), 1);
    let gone = world
        .call("POST", "/api/v1/vault/forget", token, forget(OWNER))
        .await
        .expect(200)
        .json();
    assert_eq!(gone, json!({"taken": 1, "left": []}));
    assert_eq!(world.key_files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_phrase_is_told_like_a_wrong_password_and_costs_as_much_patience() {
    let (world, _) = World::ready().await;
    let recover = |phrase: &str| Some(json!({"phrase": phrase, "new": MEMBER}));
    let odd = world
        .call("POST", "/api/v1/recover", None, recover("no phrase"))
        .await;
    assert_eq!((odd.status, odd.code().as_str()), (422, "phrase-invalid"));
    let other = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    let mut codes = Vec::new();
    for _ in 0..12 {
        let reply = world
            .call("POST", "/api/v1/recover", None, recover(other))
            .await;
        codes.push(reply.code());
    }
    assert_eq!(codes[0], "wrong-phrase");
    assert_eq!(codes[11], "slow-down", "{codes:?}");
    // Whoever is really there is not kept out of their own console.
    world.sign_in("Ada", OWNER).await;
}

//! Texts to vectors, entities and labels: our own addresses, and the doors for other programs.

use serde_json::{Value, json};

use crate::support::*;

async fn token(world: &World, person: &Person) -> String {
    let made = world.home.create_token(person.id, "Editor", 1).await;
    made.unwrap().token.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_go_in_and_vectors_come_out_with_what_was_left_out() {
    let (world, owner) = World::ready().await;
    let form = json!({"texts": ["four", "a text of more than twenty letters"]});
    let made = world.post("/api/v1/models/embed", &owner.token, form).await;
    let made = made.expect(200).json();
    assert_eq!(made["model"], "vectors");
    assert_eq!(
        made["items"][0],
        json!({"vector": [4.0, 0.5], "tokens": 3, "truncated": false})
    );
    assert_eq!(made["items"][1]["truncated"], true);
    // Whoever asks decides whether their texts may leave the machine.
    assert_eq!(*world.models.embedded_for.lock(), [owner.id]);

    for (path, form) in [
        ("embed", json!({"texts": "no list"})),
        ("embed", json!({"texts": [], "surprise": 1})),
        ("entities", json!({"texts": ["a"]})),
        ("classify", json!({"texts": ["a"], "task": "dancing"})),
    ] {
        let path = format!("/api/v1/models/{path}");
        let refused = world.post(&path, &owner.token, form).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "malformed")
        );
    }
    let large = json!({"texts": ["x".repeat(9 << 20)]});
    let refused = world
        .post("/api/v1/models/embed", &owner.token, large)
        .await;
    assert_eq!((refused.status, refused.code().as_str()), (413, "too-long"));
    let listed = world.get("/api/v1/models/packages", &owner.token).await;
    assert_eq!(listed.expect(200).json()["items"][0]["name"], "vectors");
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_gets_its_numbers_plain_or_packed() {
    let (world, owner) = World::ready().await;
    let token = token(&world, &owner).await;
    let ask = async |more: Value| {
        let mut form = json!({"model": "Vectors:latest", "input": "four"});
        for (name, value) in more.as_object().unwrap() {
            form[name] = value.clone();
        }
        world.post("/v1/embeddings", &token, form).await
    };
    let made = ask(json!({"user": "x"})).await.expect(200).json();
    assert_eq!(made["data"][0]["embedding"], json!([4.0, 0.5]));
    assert_eq!(
        made["usage"],
        json!({"prompt_tokens": 3, "total_tokens": 3})
    );
    assert_eq!(made.get("truncated"), None);
    let packed = ask(json!({"encoding_format": "base64"}))
        .await
        .expect(200)
        .json();
    assert_eq!(packed["data"][0]["embedding"], "AACAQAAAAD8=");
    let many = ask(json!({"input": ["a", "a text of more than twenty letters"]})).await;
    let many = many.expect(200).json();
    assert_eq!(
        (&many["data"][1]["index"], &many["truncated"]),
        (&json!(1), &json!([1]))
    );
    for (more, param) in [
        (json!({"input": [[1, 2]]}), "input"),
        (json!({"input": ""}), "input"),
        (json!({"input": []}), "input"),
        (json!({"encoding_format": "gif"}), "encoding_format"),
        (json!({"dimensions": 0}), "dimensions"),
        (json!({"surprise": 1}), "body"),
        (json!({"model": "starter-tiny"}), "model"),
    ] {
        let refused = ask(more).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.json()["error"]["param"], param);
    }
    let strange = ask(json!({"model": "none"})).await;
    assert_eq!(strange.status, 404);
    let listed = world.get("/v1/models", &token).await.expect(200).json();
    let listed = listed["data"].as_array().unwrap();
    assert!(listed.iter().any(|model| model["id"] == "vectors"));
    world.get("/v1/models/vectors", &token).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_not_waited_for_with_a_token_that_was_revoked() {
    let (world, owner) = World::ready().await;
    let made = world
        .home
        .create_token(owner.id, "Editor", 1)
        .await
        .unwrap();
    let form = json!({"model": "vectors", "input": "wait"});
    let asking = world.post("/v1/embeddings", &made.token, form);
    let revoking = async {
        until("it is asked", || {
            !world.models.embedded_for.lock().is_empty()
        })
        .await;
        world.home.revoke_token(owner.id, made.about.id).await
    };
    let (told, revoked) = tokio::join!(asking, revoking);
    revoked.unwrap();
    assert_eq!(told.status, 401);
    assert_eq!(told.json()["error"]["code"], "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_gets_a_list_and_the_older_address_one() {
    let (world, owner) = World::ready().await;
    let token = token(&world, &owner).await;
    let ask = async |path: &str, form: Value| world.post(path, &token, form).await;
    let form = json!({"model": "vectors", "input": ["four", "a text of more than twenty letters"]});
    let made = ask("/api/embed", form.clone()).await.expect(200).json();
    assert_eq!(made["embeddings"][0], json!([4.0, 0.5]));
    assert_eq!(
        (&made["prompt_eval_count"], &made["truncated"]),
        (&json!(6), &json!([1]))
    );
    let mut strict = form;
    strict["truncate"] = false.into();
    let refused = ask("/api/embed", strict).await;
    assert_eq!(
        (refused.status, refused.json()["code"].clone()),
        (400, json!("context_length_exceeded"))
    );
    let none = ask("/api/embed", json!({"model": "vectors"}))
        .await
        .expect(200)
        .json();
    assert_eq!(none["embeddings"], json!([]));
    let older = ask(
        "/api/embeddings",
        json!({"model": "vectors", "prompt": "four"}),
    )
    .await;
    assert_eq!(older.expect(200).json(), json!({"embedding": [4.0, 0.5]}));
    let other = ask("/api/embed", json!({"model": "starter-tiny", "input": "x"})).await;
    assert_eq!(other.status, 400);
    let shown = ask("/api/show", json!({"model": "vectors"}))
        .await
        .expect(200)
        .json();
    assert_eq!(shown["capabilities"], json!(["embedding"]));
    let listed = world.get("/api/tags", &token).await.expect(200).json();
    assert!(listed.to_string().contains("vectors:latest"));
}

//! Counting the tokens of what would be said to a model.

use aico_contracts::v1::turn::Role;
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_counted_by_the_model_that_is_named_once_it_is_there() {
    let (world, owner) = World::ready().await;
    let ask = async |form: Value| {
        let path = "/api/v1/models/count";
        world.post(path, &owner.token, form).await
    };
    let counted = ask(json!({"text": "one two three"})).await;
    assert_eq!(
        counted.expect(200).json(),
        json!({"model": the_model().to_string(), "tokens": 5, "context_length": 512})
    );
    let prepared = || world.models.prepared.lock().last().unwrap().clone();
    assert_eq!(prepared(), (the_model().to_string(), true));

    // What was said comes as other programs' questions do: roles that follow themselves are one turn.
    let said = json!({"model": "other", "turns": [
        {"role": "system", "text": "Be kind."},
        {"role": "user", "text": "Hello"},
        {"role": "user", "text": "you"},
        {"role": "assistant", "text": "Yes?"},
    ]});
    let counted = ask(said).await.expect(200).json();
    let other = uuid::Uuid::from_bytes([6; 16]).to_string();
    assert_eq!(
        (&counted["model"], &counted["tokens"]),
        (&json!(other), &json!(11))
    );
    assert_eq!(prepared(), (other, true));
    let asked = world.models.counted.lock().last().unwrap().clone();
    let roles: Vec<_> = asked.turns.iter().map(|turn| turn.role()).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant]);
    assert_eq!(asked.turns[1].text, "Hello\n\nyou");

    // It was unloaded between the two questions: it is loaded again.
    let before = world.models.prepared.lock().len();
    ask(json!({"text": "gone"})).await.expect(200);
    assert_eq!(world.models.prepared.lock().len(), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_counted_is_told_with_its_reason() {
    let (world, owner) = World::ready().await;
    for (form, status, code) in [
        // One of another program, one that makes vectors, one whose file is gone.
        (
            json!({"model": "lab/Large/70B", "text": "x"}),
            422,
            "model-not-capable",
        ),
        (
            json!({"model": "nomic", "text": "x"}),
            422,
            "model-not-capable",
        ),
        (json!({"model": "gone", "text": "x"}), 422, "model-missing"),
        (json!({"model": "none", "text": "x"}), 404, "not-found"),
        // The companion is no model.
        (json!({"model": "aico", "text": "x"}), 404, "not-found"),
        (json!({}), 422, "invalid"),
        (json!({"turns": []}), 422, "invalid"),
        (
            json!({"text": "x", "turns": [{"role": "user", "text": "x"}]}),
            422,
            "invalid",
        ),
        (
            json!({"turns": [{"role": "tool", "text": "x"}]}),
            400,
            "malformed",
        ),
        (json!({"text": "x", "surprise": 1}), 400, "malformed"),
        (json!({"text": "x".repeat(2 << 20)}), 413, "too-long"),
    ] {
        let path = "/api/v1/models/count";
        let refused = world.post(path, &owner.token, form.clone()).await;
        let told = (refused.status, refused.code());
        assert_eq!(told, (status, code.to_owned()), "{:.60}", form.to_string());
    }
    let asked = world.models.counted.lock().clone();
    assert_eq!(asked.len(), 1, "the other program's alone");
    assert!(world.models.prepared.lock().len() == 1);
}

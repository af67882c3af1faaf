//! Servers that run models: whose words may go there, and what went; installing a program.

use aico_access::{EGRESS_MOST, NewEgress};
use serde_json::{Value, json};

use crate::support::{MEMBER, World};

fn out(number: u32) -> NewEgress {
    NewEgress {
        engine: "lab".into(),
        address: "lab.test:443".into(),
        model: format!("m{number}"),
        what: "chat",
        bytes: u64::from(number),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_is_told_to_its_person_alone_in_pages_and_within_bounds() {
    let (world, owner) = World::ready().await;
    let grace = world.add("Grace", MEMBER).await;
    let home = &world.home;
    let path = "/api/v1/engines/lab/consent";
    let consent = |address: &str| Some(json!({ "address": address }));

    // Without consent nothing can be noted, so nothing can be sent; the address counts.
    assert!(home.note_egress(grace.id, out(0)).await.is_err());
    let other = consent("evil.test:443");
    let stale = world.call("PUT", path, Some(&grace.token), other).await;
    assert_eq!((stale.status, stale.code().as_str()), (409, "conflict"));
    let agreed = consent("lab.test:443");
    world
        .call("PUT", path, Some(&grace.token), agreed)
        .await
        .expect(204);
    let unknown = "/api/v1/engines/none/consent";
    let nobody = consent("lab.test:443");
    world
        .call("PUT", unknown, Some(&grace.token), nobody)
        .await
        .expect(404);
    let engines = |reply: Value| {
        (
            reply["items"][0]["allowed"].clone(),
            reply["items"][0]["allowed_elsewhere"].clone(),
        )
    };
    let hers = world
        .get("/api/v1/engines", &grace.token)
        .await
        .expect(200)
        .json();
    assert_eq!(engines(hers), (true.into(), false.into()));
    let owners = world
        .get("/api/v1/engines", &owner.token)
        .await
        .expect(200)
        .json();
    assert_eq!(engines(owners), (false.into(), false.into()));
    assert!(home.note_egress(owner.id, out(0)).await.is_err());

    for number in 1..=3 {
        let note = home.note_egress(grace.id, out(number)).await.unwrap();
        if number == 2 {
            home.settle_egress(grace.id, note, 99).await.unwrap();
        }
    }
    let page = |query: &str| {
        let path = format!("/api/v1/egress{query}");
        let (world, token) = (&world, grace.token.clone());
        async move { world.get(&path, &token).await.expect(200).json()["items"].clone() }
    };
    let newest = page("?limit=2").await;
    let figures = |one: &Value| {
        (
            one["model"].clone(),
            one["bytes"].clone(),
            one["tokens"].clone(),
        )
    };
    assert_eq!(figures(&newest[0]), ("m3".into(), 3.into(), Value::Null));
    assert_eq!(figures(&newest[1]), ("m2".into(), 2.into(), 99.into()));
    assert_eq!(newest[1]["address"], "lab.test:443");
    let rest = page(&format!("?before={}", newest[1]["id"])).await;
    assert_eq!(
        (rest.as_array().unwrap().len(), &rest[0]["model"]),
        (1, &"m1".into())
    );
    let owners = world
        .get("/api/v1/egress", &owner.token)
        .await
        .expect(200)
        .json();
    assert_eq!(owners["items"], json!([]), "the owner reads a member's");

    // The oldest go.
    let store = home.store_of(grace.id).await.unwrap();
    store
        .write(|tx| {
            tx.execute(
                "UPDATE egress_event SET id = id + ?1",
                [i64::from(EGRESS_MOST)],
            )?;
            tx.execute(
                "UPDATE sqlite_sequence SET seq = seq + ?1",
                [i64::from(EGRESS_MOST)],
            )?;
            tx.execute("UPDATE egress_event SET id = 1 WHERE model = 'm1'", [])?;
            Ok(())
        })
        .await
        .unwrap();
    home.note_egress(grace.id, out(4)).await.unwrap();
    let left = page("").await;
    let left: Vec<_> = left
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["model"].clone())
        .collect();
    assert_eq!(left, ["m4", "m3", "m2"]);

    // Withdrawn: what went stays told, and nothing more goes.
    world
        .call("DELETE", path, Some(&grace.token), None)
        .await
        .expect(204);
    assert!(home.note_egress(grace.id, out(5)).await.is_err());
    world
        .call("DELETE", path, Some(&grace.token), None)
        .await
        .expect(404);
    assert_eq!(page("").await.as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_is_what_was_shown_and_how_far_it_is_is_told() {
    let (world, owner) = World::ready().await;
    let path = "/api/v1/engines/ollama/installation";
    let told = world.get(path, &owner.token).await.expect(200).json();
    let nothing = ["installed", "problem"].map(|field| told[field].clone());
    assert_eq!(nothing, [Value::Null, Value::Null]);
    assert_eq!(told["program"], "/usr/bin/ollama");
    let release = &told["release"];
    assert_eq!(release["source"], "https://hub.test/ollama.tgz");
    assert_eq!(release["notice"], Value::Null);
    let run = &told["run"];
    assert_eq!(
        (&run["status"], &run["seconds_left"]),
        (&"running".into(), &1023.into())
    );

    let agree = |version: &str, sha256: &Value| {
        let body = json!({ "version": version, "sha256": sha256 });
        let (world, token) = (&world, owner.token.clone());
        async move { world.call("POST", path, Some(&token), Some(body)).await }
    };
    let other = agree("0.34.0", &release["sha256"]).await;
    assert_eq!((other.status, other.code().as_str()), (409, "conflict"));
    let other = agree("0.35.0", &"00".repeat(32).into()).await;
    assert_eq!((other.status, other.code().as_str()), (409, "conflict"));
    let begun = agree("0.35.0", &release["sha256"]).await.expect(202);
    assert_eq!(begun.json(), told);
}

//! Every route with every kind of caller, in one table that must be complete.

use std::collections::BTreeSet;

use aico_access::{Action, NewModule, TopicGrant};
use aico_bus::link::write_public_key;
use aico_contracts::ids::{ConversationId, MessageId, PersonId, SessionId};
use aico_gateway::operations::{Needs, OPERATIONS};
use serde_json::{Value, json};

use crate::support::{MEMBER, OWNER, Person, STRANGER, World, the_model};

/// Who calls. The objects in a path belong to `Member`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Revoked,
    /// A member whose objects these are not.
    Stranger,
    Member,
    Owner,
}

const EVERYBODY: [Who; 5] = [
    Who::Nobody,
    Who::Revoked,
    Who::Stranger,
    Who::Member,
    Who::Owner,
];

/// What a route answers to each of `EVERYBODY`.
struct Row(&'static str, [u16; 5]);

const OPEN: [u16; 5] = [200; 5];
/// On what is one's own, whoever one is.
const OWN: [u16; 5] = [401, 401, 200, 200, 200];
/// Names an object of the member: nobody else has such a thing, not even the owner.
const THEIRS: [u16; 5] = [401, 401, 404, 200, 404];
/// Over the local socket only.
const NOT_HERE: [u16; 5] = [401, 401, 404, 404, 404];
const FOR_THE_OWNER: [u16; 5] = [401, 401, 403, 403, 200];

const fn with(mut row: [u16; 5], success: u16) -> [u16; 5] {
    let mut at = 0;
    while at < row.len() {
        if row[at] == 200 {
            row[at] = success;
        }
        at += 1;
    }
    row
}

/// In this order: what ends sessions or persons comes last.
const TABLE: &[Row] = &[
    Row("livez", OPEN),
    Row("readyz", OPEN),
    Row("contract", OPEN),
    Row("state", OPEN),
    Row("passphrase", OPEN),
    Row("set_up", [409; 5]),
    Row("unlock", OPEN),
    Row("sign_in", with(OPEN, 201)),
    // Before there is a new phrase.
    Row("recover", OPEN),
    Row("vault", FOR_THE_OWNER),
    Row("remember", FOR_THE_OWNER),
    Row("forget", FOR_THE_OWNER),
    Row("new_phrase", FOR_THE_OWNER),
    // Over the signing key alone nothing else in this table stumbles; it ends sessions, so it is
    // asked for a key that nothing hangs on.
    Row("rotate_vault", FOR_THE_OWNER),
    Row("read_rotation", FOR_THE_OWNER),
    Row("open_events", [426; 5]),
    Row("list_sessions", OWN),
    Row("end_session", with(THEIRS, 204)),
    Row("end_current_session", with(OWN, 204)),
    Row("me", OWN),
    Row("change_password", [401, 401, 401, 204, 401]),
    Row("file_key", NOT_HERE),
    Row("export", NOT_HERE),
    Row("export_store_key", NOT_HERE),
    Row("create_backup", FOR_THE_OWNER),
    Row("check_stores", FOR_THE_OWNER),
    // The member's password: who else proves themselves with it fails; the owner can't.
    Row("seal_self", [401, 401, 401, 200, 409]),
    Row("unseal_self", [401, 401, 409, 204, 409]),
    Row("recover_person", [422; 5]),
    Row("list_persons", FOR_THE_OWNER),
    Row("add_person", with(FOR_THE_OWNER, 201)),
    Row("list_characters", OWN),
    Row("create_character", with(OWN, 201)),
    Row("import_character", with(OWN, 201)),
    Row("use_character", with(OWN, 204)),
    Row("read_character", THEIRS),
    Row("change_character", THEIRS),
    Row("read_portrait", THEIRS),
    Row("export_character", THEIRS),
    Row("remove_character", THEIRS),
    Row("list_conversations", OWN),
    Row("create_conversation", with(OWN, 201)),
    Row("read_conversation", THEIRS),
    Row("change_conversation", THEIRS),
    Row("delete_conversation", with(THEIRS, 204)),
    Row("search", OWN),
    Row("send_message", with(THEIRS, 202)),
    Row("regenerate_answer", with(THEIRS, 202)),
    Row("edit_message", with(THEIRS, 202)),
    Row("cancel_answer", with(THEIRS, 204)),
    Row("list_models", OWN),
    Row("add_model", with(FOR_THE_OWNER, 201)),
    Row("use_model", FOR_THE_OWNER),
    Row("remove_model", with(FOR_THE_OWNER, 204)),
    Row("pin_model", with(FOR_THE_OWNER, 204)),
    Row("unpin_model", with(FOR_THE_OWNER, 204)),
    Row("read_activity", OWN),
    Row("read_catalogue", FOR_THE_OWNER),
    Row("pull_model", with(FOR_THE_OWNER, 202)),
    Row("list_pulls", FOR_THE_OWNER),
    Row("cancel_pull", with(FOR_THE_OWNER, 204)),
    Row("count_tokens", OWN),
    Row("embed_texts", OWN),
    Row("find_entities", OWN),
    Row("classify_texts", OWN),
    Row("list_packages", OWN),
    Row("add_package", with(FOR_THE_OWNER, 201)),
    Row("remove_package", with(FOR_THE_OWNER, 204)),
    Row("list_modules", OWN),
    Row("add_module", with(FOR_THE_OWNER, 201)),
    Row("rotate_module", FOR_THE_OWNER),
    Row("consent_to_module", with(THEIRS, 204)),
    Row("withdraw_from_module", with(THEIRS, 204)),
    Row("revoke_module", with(FOR_THE_OWNER, 204)),
    Row("list_engines", OWN),
    Row("check_engine", FOR_THE_OWNER),
    // Who is signed in agrees for themselves.
    Row("allow_engine", with(OWN, 204)),
    Row("forbid_engine", with(OWN, 204)),
    Row("list_egress", OWN),
    Row("offer_engine_model", FOR_THE_OWNER),
    Row("make_engine_model", with(FOR_THE_OWNER, 202)),
    Row("list_engine_jobs", FOR_THE_OWNER),
    Row("cancel_engine_job", with(FOR_THE_OWNER, 204)),
    Row("show_engine_model", FOR_THE_OWNER),
    Row("delete_engine_model", with(FOR_THE_OWNER, 204)),
    Row("read_engine_installation", FOR_THE_OWNER),
    Row("install_engine", with(FOR_THE_OWNER, 202)),
    Row("cancel_engine_installation", with(FOR_THE_OWNER, 204)),
    Row("list_tokens", OWN),
    Row("create_token", with(OWN, 201)),
    Row("revoke_token", with(THEIRS, 204)),
    // With named tokens in place of sessions.
    Row("openai_models", OWN),
    Row("openai_model", OWN),
    Row("openai_chat", OWN),
    Row("openai_embeddings", OWN),
    Row("ollama_version", OWN),
    Row("ollama_tags", OWN),
    Row("ollama_ps", OWN),
    Row("ollama_show", OWN),
    Row("ollama_chat", OWN),
    Row("ollama_generate", OWN),
    Row("ollama_embed", OWN),
    Row("ollama_embeddings", OWN),
    Row("bus", FOR_THE_OWNER),
    Row("tail_bus", FOR_THE_OWNER),
    Row("read_metrics", FOR_THE_OWNER),
    Row("status", FOR_THE_OWNER),
    Row("config", FOR_THE_OWNER),
    Row("list_config_secrets", FOR_THE_OWNER),
    Row("set_config_secret", with(FOR_THE_OWNER, 204)),
    Row("remove_config_secret", with(FOR_THE_OWNER, 204)),
    Row("logs", FOR_THE_OWNER),
    Row("end_all_sessions", with(OWN, 204)),
    Row("accept_older_copy", FOR_THE_OWNER),
    Row("erase_person", FOR_THE_OWNER),
    Row("lock", with(FOR_THE_OWNER, 204)),
];

/// A body that would succeed for whoever may.
fn body(id: &str) -> Option<Value> {
    Some(match id {
        "set_up" => json!({"code": "x", "name": "Eve", "password": "orbit candle walnut harp"}),
        "unlock" => json!({"password": OWNER}),
        "sign_in" => json!({"name": "Grace", "password": MEMBER}),
        // Of the member's: whoever else proves themselves with it fails.
        "change_password" => json!({"current": MEMBER, "new": MEMBER}),
        "add_person" => json!({"name": "Lin", "password": "pepper saddle comet drizzle"}),
        "create_conversation" | "create_backup" | "check_stores" => json!({}),
        "export" | "export_store_key" => json!({"password": OWNER}),
        "change_conversation" => json!({"title": "Tea"}),
        "send_message" | "edit_message" => json!({"text": "Hello"}),
        "create_character" | "change_character" => json!({"text": {"name": "Mara"}}),
        "import_character" => json!({"file": "RlJPTSBxd2VuMzo4Yg==", "file_name": "x"}),
        "use_character" => json!({"id": "aico"}),
        "add_model" => json!({"path": "/somewhere/model.gguf"}),
        "use_model" => json!({"id": the_model()}),
        "pull_model" => json!({"name": "qwen3-4b"}),
        "count_tokens" => json!({"text": "Hello"}),
        "embed_texts" => json!({"texts": ["Hello"]}),
        "find_entities" => json!({"texts": ["Hello"], "labels": ["person"]}),
        "classify_texts" => json!({"texts": ["Hello"], "task": "emotion"}),
        "add_package" => json!({"path": "/somewhere/package"}),
        "add_module" => json!({
            "name": "weather", "public_key": write_public_key([1; 32]), "publish": ["weather.#"]
        }),
        "rotate_module" => json!({"public_key": write_public_key([2; 32])}),
        "check_engine" => json!({}),
        "allow_engine" => json!({"address": "lab.test:443"}),
        "offer_engine_model" | "make_engine_model" => json!({"model": "qwen3:8b"}),
        "install_engine" => json!({"version": "0.35.0", "sha256": "1c".repeat(32)}),
        "create_token" => json!({"name": "Editor"}),
        "set_config_secret" => json!({"name": "openai", "value": "sk-1"}),
        "remove_config_secret" => json!({"name": "openai"}),
        "openai_chat" | "ollama_chat" => json!({
            "model": "aico", "messages": [{"role": "user", "content": "Hello"}]
        }),
        "openai_embeddings" | "ollama_embed" => json!({"model": "vectors", "input": "Hello"}),
        "ollama_embeddings" => json!({"model": "vectors", "prompt": "Hello"}),
        "ollama_show" => json!({"model": "aico"}),
        "ollama_generate" => json!({"model": "starter-tiny", "prompt": "Hello"}),
        "rotate_vault" => json!({"password": OWNER, "purposes": ["bus-key"]}),
        "seal_self" | "unseal_self" => json!({"password": MEMBER}),
        "recover_person" => json!({"name": "Grace", "phrase": "no phrase", "new": MEMBER}),
        "recover" => json!({"phrase": "", "new": OWNER}),
        "remember" => json!({"password": OWNER, "backend": "key-file"}),
        "erase_person" | "forget" | "new_phrase" => json!({"password": OWNER}),
        _ => return None,
    })
}

struct Operation {
    id: String,
    method: String,
    path: String,
    open: bool,
    /// For other programs.
    program: bool,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(aico_gateway::openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: path.clone(),
                open: operation["security"].as_array().unwrap().is_empty(),
                program: operation["security"][0]["program"].is_array(),
            });
        }
    }
    all
}

#[test]
fn every_operation_of_the_document_has_its_row() {
    let rows: BTreeSet<_> = TABLE.iter().map(|row| row.0.to_owned()).collect();
    let documented: BTreeSet<_> = operations().into_iter().map(|op| op.id).collect();
    assert_eq!(rows, documented);
    assert_eq!(rows.len(), TABLE.len(), "a row twice");
}

#[test]
fn rows_document_and_the_table_of_actions_agree_on_who_passes() {
    for operation in operations() {
        let row = TABLE.iter().find(|row| row.0 == operation.id).unwrap();
        let known = OPERATIONS
            .iter()
            .find(|known| known.id == operation.id)
            .unwrap();
        assert_eq!(
            operation.open,
            known.needs == Needs::Nothing,
            "{}",
            operation.id
        );
        assert_eq!(
            row.1[0] == 401,
            known.needs != Needs::Nothing,
            "{}",
            operation.id
        );
        assert_eq!(
            row.1[2] == 403,
            matches!(known.needs, Needs::Owner | Needs::OwnerOrProgram),
            "{}",
            operation.id
        );
        assert_eq!(
            operation.program,
            known.needs == Needs::Program,
            "{}",
            operation.id
        );
    }
}

struct Household {
    world: World,
    owner: Person,
    member: Person,
    stranger: Person,
}

impl Household {
    async fn new() -> Self {
        let (world, owner) = World::ready().await;
        let member = world.add("Grace", MEMBER).await;
        let stranger = world.add("Mallory", STRANGER).await;
        Self {
            world,
            owner,
            member,
            stranger,
        }
    }

    /// A named token of its own for each call.
    async fn named_token(&self, who: Who) -> Option<String> {
        let home = &self.world.home;
        let person = match who {
            Who::Nobody => return None,
            Who::Revoked | Who::Owner => self.owner.id,
            Who::Stranger => self.stranger.id,
            Who::Member => self.member.id,
        };
        let made = home
            .create_token(person, &SessionId::new().to_string(), 1)
            .await
            .unwrap();
        if who == Who::Revoked {
            home.revoke_token(person, made.about.id).await.unwrap();
        }
        Some(made.token.to_string())
    }

    /// A token of its own for each call: some calls end their session.
    async fn token(&self, who: Who) -> Option<String> {
        let (name, secret) = match who {
            Who::Nobody => return None,
            Who::Revoked | Who::Owner => ("Ada", OWNER),
            Who::Stranger => ("Mallory", STRANGER),
            Who::Member => ("Grace", MEMBER),
        };
        let person = self.world.sign_in(name, secret).await;
        if who == Who::Revoked {
            self.world
                .home
                .end_session(person.id, person.session)
                .await
                .unwrap();
        }
        Some(person.token)
    }

    /// The path with fresh objects of the member in it.
    async fn path(&self, operation: &Operation) -> String {
        let member = self.member.id;
        let companion = &self.world.companion;
        let path = &operation.path;
        if path.starts_with("/api/v1/conversations/") {
            let conversation = companion.create(member, "Tea");
            companion.accept(member, conversation, "Hello").unwrap();
            let messages = companion.messages(member, conversation);
            let message = if operation.id == "edit_message" {
                messages[0]
            } else {
                messages[1]
            };
            return path
                .replace("{id}", &conversation.to_string())
                .replace("{message}", &message.to_string());
        }
        if path.starts_with("/api/v1/characters/{id}") {
            let id = companion.create_character(member);
            let query = match operation.id.as_str() {
                "export_character" => "?format=png",
                _ => "",
            };
            return format!("{}{query}", path.replace("{id}", &id));
        }
        match operation.id.as_str() {
            "end_session" => {
                let session = self.world.sign_in("Grace", MEMBER).await.session;
                path.replace("{id}", &session.to_string())
            }
            "erase_person" => {
                let name = format!("Temporary {}", SessionId::new());
                let person = self.world.add(&name, "thimble quarry lemon sundial").await;
                path.replace("{id}", &person.id.to_string())
            }
            "accept_older_copy" => path.replace("{id}", &member.to_string()),
            "file_key" => path.replace("{id}", &SessionId::new().to_string()),
            "revoke_token" => {
                let name = SessionId::new().to_string();
                let made = self
                    .world
                    .home
                    .create_token(member, &name, 1)
                    .await
                    .unwrap();
                path.replace("{id}", &made.about.id.to_string())
            }
            "check_engine" | "allow_engine" | "forbid_engine" | "offer_engine_model"
            | "make_engine_model" | "list_engine_jobs" => path.replace("{name}", "lab"),
            "read_engine_installation" | "install_engine" | "cancel_engine_installation" => {
                path.replace("{name}", "ollama")
            }
            "cancel_engine_job" | "show_engine_model" | "delete_engine_model" => path
                .replace("{name}", "lab")
                .replace("{id}", &the_model().to_string()),
            "openai_model" => path.replace("{model}", "aico"),
            "cancel_pull" => path.replace("{name}", "qwen3-4b"),
            "remove_model" | "pin_model" | "unpin_model" => {
                path.replace("{id}", &the_model().to_string())
            }
            "search" => format!("{path}?q=tea"),
            "tail_bus" => format!("{path}?pattern=weather.%23"),
            "rotate_module" | "revoke_module" | "consent_to_module" | "withdraw_from_module" => {
                let id = SessionId::new();
                let mut key = [0; 32];
                key[..16].copy_from_slice(id.as_bytes());
                let topic = TopicGrant::new(Action::BusSubscribe, "conversation.*.#");
                let new = NewModule {
                    name: format!("m{}", &id.uuid().simple().to_string()[..30]),
                    key,
                    topics: vec![topic.unwrap()],
                    persons: vec![member],
                };
                let module = self.world.home.add_module(new).await.unwrap();
                path.replace("{id}", &module.id.to_string())
            }
            _ => path.clone(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_everybody_as_the_table_says() {
    let house = Household::new().await;
    let operations = operations();
    for Row(id, expected) in TABLE {
        let operation = operations
            .iter()
            .find(|operation| operation.id == *id)
            .unwrap();
        for (who, expected) in EVERYBODY.into_iter().zip(expected) {
            let token = match operation.program {
                true => house.named_token(who).await,
                false => house.token(who).await,
            };
            let path = house.path(operation).await;
            let mut body = body(id);
            if *id == "recover" {
                body = Some(json!({"phrase": house.world.phrase(), "new": OWNER}));
            }
            let reply = house
                .world
                .call(&operation.method, &path, token.as_deref(), body)
                .await;
            assert_eq!(
                reply.status, *expected,
                "{id} for {who:?}: {:?}",
                reply.body
            );
            let code = match reply.status {
                401 if who == Who::Nobody => Some("sign-in-needed"),
                401 if who == Who::Revoked => Some("token-invalid"),
                401 => Some("wrong-password"),
                403 => Some("forbidden"),
                404 => Some("not-found"),
                _ => None,
            };
            if let Some(code) = code {
                assert_eq!(reply.code(), code, "{id} for {who:?}");
            }
        }
    }
    let state = house
        .world
        .call("GET", "/api/v1/state", None, None)
        .await
        .expect(200)
        .json();
    assert_eq!(state["stage"], "locked", "the last row");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_persons_object_is_told_exactly_like_an_unknown_one() {
    let house = Household::new().await;
    for operation in operations() {
        let row = TABLE.iter().find(|row| row.0 == operation.id).unwrap();
        if row.1[2] != 404 {
            continue;
        }
        let foreign = house.path(&operation).await;
        let query = foreign.split_once('?').map(|(_, query)| query);
        let asked = query.map_or(String::new(), |query| format!("?{query}"));
        let unknown = operation
            .path
            .replace("{id}", &ConversationId::new().to_string())
            .replace("{message}", &MessageId::new().to_string());
        let unknown = format!("{unknown}{asked}");
        let nonsense = operation
            .path
            .replace("{id}", "x")
            .replace("{message}", "%ff");
        let nonsense = format!("{nonsense}{asked}");
        for person in [&house.stranger, &house.owner] {
            let token = Some(person.token.as_str());
            let call = |path: String| {
                let body = body(&operation.id);
                let world = &house.world;
                let method = operation.method.clone();
                async move { world.call(&method, &path, token, body).await.expect(404) }
            };
            let foreign = call(foreign.clone()).await.json();
            let unknown = call(unknown.clone()).await.json();
            assert_eq!(foreign, unknown, "{}", operation.id);
            assert_eq!(
                call(nonsense.clone()).await.code(),
                "not-found",
                "{}",
                operation.id
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_comes_before_the_body_is_looked_at() {
    let house = Household::new().await;
    let broken = Some(json!([[["no", "object"]]]));
    for operation in operations().iter().filter(|operation| !operation.open) {
        let path = house.path(operation).await;
        if body(&operation.id).is_some() {
            let reply = house
                .world
                .call(&operation.method, &path, None, broken.clone())
                .await;
            assert_eq!(reply.code(), "sign-in-needed", "{}", operation.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_locked_everything_but_the_open_routes_says_so() {
    let house = Household::new().await;
    house.world.home.lock().await.unwrap();
    for operation in operations().iter().filter(|operation| !operation.open) {
        let path = operation
            .path
            .replace("{id}", &SessionId::new().to_string())
            .replace("{model}", "aico")
            .replace("{name}", "qwen3-4b")
            .replace("{message}", &MessageId::new().to_string());
        for token in [None, Some(house.owner.token.as_str())] {
            let reply = house
                .world
                .call(&operation.method, &path, token, body(&operation.id))
                .await;
            assert_eq!(
                (reply.status, reply.code().as_str()),
                (503, "locked"),
                "{}",
                operation.id
            );
        }
    }
    let unlocked = house
        .world
        .call("POST", "/api/v1/unlock", None, body("unlock"))
        .await;
    let session = unlocked.expect(200).json();
    let token = session["session"]["token"].as_str().unwrap();
    house.world.get("/api/v1/me", token).await.expect(200);
    // The old ones stay dead.
    let old = house.world.get("/api/v1/me", &house.member.token).await;
    assert_eq!(old.code(), "token-invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_installation_answers_nothing_but_set_up() {
    let world = World::new().await;
    for operation in operations().iter().filter(|operation| !operation.open) {
        let path = operation
            .path
            .replace("{id}", &PersonId::new().to_string())
            .replace("{model}", "aico")
            .replace("{name}", "qwen3-4b")
            .replace("{message}", &MessageId::new().to_string());
        let reply = world
            .call(&operation.method, &path, None, body(&operation.id))
            .await;
        assert_eq!(reply.code(), "not-set-up", "{}", operation.id);
    }
    let ready = world
        .call("GET", "/readyz", None, None)
        .await
        .expect(503)
        .json();
    assert_eq!(ready, json!({"status": "new"}));
}

//! What a model is told of a conversation is what the store says, whoever changed it and however,
//! though most of it comes from the working memory.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use aico_access::{BusPolicy, Home, HomeConfig, SetupProof, Source};
use aico_bus::{Bus, Client, Delivery, Identity, Meta, Queue, Request, Subscription};
use aico_companion::Companion;
use aico_contracts::Payload;
use aico_contracts::ids::{PersonId, SessionId};
use aico_contracts::topics::{self, MODELS_GENERATE, MODELS_PREPARE, event, verb};
use aico_contracts::v1::{self, generated::Item};
use aico_vault::keychain::Keychains;
use aico_vault::{KdfCost, Password};
use parking_lot::Mutex;
use rusqlite::params;

const PASSWORD: &str = "velvet harbour moss lantern quill";
const PATIENCE: Duration = Duration::from_secs(60);

/// What the model was told, question by question.
type Told = Arc<Mutex<Vec<Vec<v1::Turn>>>>;
/// How long an answer might get, in tokens, and what it is for, question by question.
type Limits = Arc<Mutex<Vec<(u32, String)>>>;

struct World {
    home: Home,
    person: PersonId,
    companion: Option<Companion>,
    bus: Client,
    events: Subscription,
    told: Told,
    limits: Limits,
    _data: tempfile::TempDir,
}

impl World {
    async fn new(history: u32) -> Self {
        let data = tempfile::tempdir().unwrap();
        let home = Home::open(HomeConfig {
            data: data.path().to_owned(),
            kdf: KdfCost::minimum(),
            keychains: Arc::new(Keychains::new(Vec::new())),
            backups: data.path().join("backups"),
            configuration: None,
            token_hours: 24,
            system_migrations: Vec::new(),
            person_migrations: vec![aico_companion::MIGRATIONS],
            person_exports: Vec::new(),
        })
        .unwrap();
        let password = Password::new(PASSWORD).unwrap();
        let done = home
            .set_up(SetupProof::LocalSocket, "Mia", &password, Source::local())
            .await
            .unwrap();
        let person = done.session.person.id;
        let bus = Bus::new(Arc::new(BusPolicy::new(home.grants())));
        let told = Told::default();
        tokio::spawn(ready(bus.join(Identity::new("models")), Arc::clone(&told)));
        let limits = Limits::default();
        tokio::spawn(generate(
            bus.join(Identity::new("models")),
            Arc::clone(&told),
            Arc::clone(&limits),
        ));
        let companion = bus.join(Identity::new("companion"));
        let companion = Companion::start(home.clone(), companion, history).unwrap();
        let client = bus.join(Identity::new("gateway"));
        let events = client
            .subscribe(&topics::conversation_events(person), Queue::default())
            .unwrap();
        Self {
            home,
            person,
            companion: Some(companion),
            bus: client,
            events,
            told,
            limits,
            _data: data,
        }
    }

    async fn ask<R: Payload + Default>(&self, verb: &str, question: &impl Payload) -> R {
        let topic = topics::conversation_request(self.person, verb);
        let meta = Meta::for_person(self.person);
        self.bus.request(&topic, question, meta).await.unwrap()
    }

    async fn conversation(&self) -> Vec<u8> {
        let made: v1::Conversation = self
            .ask(verb::CREATE, &v1::CreateConversation::default())
            .await;
        made.id
    }

    async fn say(&mut self, conversation: &[u8], text: &str) -> v1::Accepted {
        let question = v1::SendMessage {
            conversation: conversation.to_vec(),
            text: text.to_owned(),
            ..v1::SendMessage::default()
        };
        let accepted = self.ask(verb::SEND, &question).await;
        self.answered(&accepted).await;
        accepted
    }

    async fn edit(&mut self, conversation: &[u8], message: &[u8], text: &str) -> v1::Accepted {
        let question = v1::EditMessage {
            conversation: conversation.to_vec(),
            message: message.to_vec(),
            text: text.to_owned(),
            ..v1::EditMessage::default()
        };
        let accepted = self.ask(verb::EDIT, &question).await;
        self.answered(&accepted).await;
        accepted
    }

    async fn again(&mut self, conversation: &[u8], answer: &[u8]) -> v1::Accepted {
        let question = v1::RegenerateAnswer {
            conversation: conversation.to_vec(),
            answer: answer.to_vec(),
        };
        let accepted = self.ask(verb::REGENERATE, &question).await;
        self.answered(&accepted).await;
        accepted
    }

    /// Waits for the end of an answer, and holds what the model was told against the store.
    async fn answered(&mut self, accepted: &v1::Accepted) {
        self.ended(&accepted.answer).await;
    }

    /// Waits for the end of an answer, as it is told.
    async fn ended(&mut self, answer: &[u8]) -> v1::Message {
        loop {
            let done: v1::AnswerDone = self.heard(event::ANSWER_DONE).await;
            let message = done.message.unwrap();
            if message.id == answer {
                return message;
            }
        }
    }

    /// The next event of a kind.
    async fn heard<E: Payload + Default>(&mut self, kind: &str) -> E {
        let heard = async {
            loop {
                let Some(Delivery::Message(envelope)) = self.events.recv().await else {
                    continue;
                };
                if envelope.topic.ends_with(kind) {
                    return aico_bus::decode(&envelope).unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap()
    }

    /// What the model was told last, without the character's prompt.
    fn last(&self) -> Vec<String> {
        let told = self.told.lock();
        let turns = told.last().unwrap();
        turns[1..].iter().map(|turn| turn.text.clone()).collect()
    }

    /// What the store says of the branch that ends at this message.
    async fn stored(&self, leaf: &[u8], most: usize) -> Vec<String> {
        let store = self.home.store_of(self.person).await.unwrap();
        let leaf = leaf.to_vec();
        let mut all = store
            .read(move |db| {
                let (mut next, mut all) = (Some(leaf), Vec::new());
                while let Some(id) = next {
                    let sql = "SELECT m.parent, coalesce(group_concat(p.text, ''), '')
                               FROM companion_message m
                               LEFT JOIN companion_part p ON p.message = m.id
                               WHERE m.id = ?1 GROUP BY m.id";
                    let (parent, text): (Option<Vec<u8>>, String) =
                        db.query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
                    all.push(text);
                    next = parent;
                }
                Ok(all)
            })
            .await
            .unwrap();
        all.truncate(most);
        all.reverse();
        all
    }

    /// Changes rows past the companion.
    async fn behind(&self, sql: &'static str, id: &[u8]) {
        let store = self.home.store_of(self.person).await.unwrap();
        let id = id.to_vec();
        store
            .write(move |tx| Ok(tx.execute(sql, params![id]).map(drop)?))
            .await
            .unwrap();
    }
}

/// What the person says for the program that runs the model to be away when it is asked first.
const AWAY: &str = "the program is away";
/// What the person says for an answer that does not end by itself.
const ENDLESS: &str = "go on and on";

fn is_away(told: &Told) -> bool {
    let told = told.lock();
    let last = told.last().and_then(|turns| turns.last());
    last.is_some_and(|turn| turn.text == AWAY)
}

async fn ready(bus: Client, told: Told) {
    let mut requests = bus.serve(MODELS_PREPARE, 4).unwrap();
    while let Some(request) = requests.recv().await {
        let missing = match is_away(&told) {
            true => vec!["big".to_owned()],
            false => Vec::new(),
        };
        let state = v1::ModelState {
            status: v1::model_state::Status::Ready.into(),
            name: "double".into(),
            ..v1::ModelState::default()
        };
        request.reply(v1::PreparedModel {
            state: Some(state),
            // Which is told the character's prompt and none of its examples.
            starter: true,
            missing,
            ..v1::PreparedModel::default()
        });
    }
}

async fn generate(bus: Client, told: Told, limits: Limits) {
    let mut requests = bus.serve(MODELS_GENERATE, 4).unwrap();
    while let Some(request) = requests.recv().await {
        say(request, &told, &limits).await;
    }
}

async fn say(request: Request, told: &Told, limits: &Limits) {
    let question: v1::Generate = request.decode().unwrap();
    let purpose = request.envelope.purpose.to_string();
    limits.lock().push((question.max_tokens, purpose));
    let again = is_away(told);
    let says = |text: &str| question.turns.last().is_some_and(|turn| turn.text == text);
    let (away, endless) = (says(AWAY), says(ENDLESS));
    let count = {
        let mut told = told.lock();
        told.push(question.turns);
        told.len()
    };
    if away && !again {
        return request.fault(v1::Fault::new("engine-absent", "It does not run"));
    }
    let mut responder = request.stream();
    let text = Item::Text(format!("answer {count}"));
    let text = v1::Generated { item: Some(text) };
    responder.send(text).await.unwrap();
    if endless {
        return responder.cancelled().await;
    }
    let end = v1::GeneratedEnd {
        reason: v1::generated_end::Reason::Stop.into(),
        ..v1::GeneratedEnd::default()
    };
    responder.end(v1::Generated {
        item: Some(Item::End(end)),
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_conversation_is_deleted_ends_without_a_fault() {
    let mut world = World::new(400).await;
    let conversation = world.conversation().await;
    let question = v1::SendMessage {
        conversation: conversation.clone(),
        text: ENDLESS.to_owned(),
        ..v1::SendMessage::default()
    };
    let accepted: v1::Accepted = world.ask(verb::SEND, &question).await;
    let _: v1::AnswerDelta = world.heard(event::ANSWER_DELTA).await;
    let delete = v1::DeleteConversation { id: conversation };
    let _: v1::Empty = world.ask(verb::DELETE, &delete).await;
    let ended = world.ended(&accepted.answer).await;
    assert_eq!(ended.status(), v1::MessageStatus::Cancelled);
    assert_eq!(ended.fault, None);
    assert_eq!(ended.parts.len(), 1, "what was said is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_be_as_long_as_who_asks_says() {
    let mut world = World::new(400).await;
    for (asked, limit) in [(0, 2048), (7, 7), (5000, 5000)] {
        let question = v1::Talk {
            text: "Tell me a story.".to_owned(),
            sampling: Some(v1::TalkSampling {
                max_tokens: asked,
                ..v1::TalkSampling::default()
            }),
            ..v1::Talk::default()
        };
        let talking: v1::Talking = world.ask(verb::TALK, &question).await;
        world.ended(&talking.answer).await;
        let last = world.limits.lock().last().cloned();
        // Not the person's own: it does not share how others of theirs begin.
        assert_eq!(last, Some((limit, "program".to_owned())));
    }
}

/// Whether what is told comes from the working memory.
async fn remembered(world: &mut World, conversation: &[u8]) -> bool {
    // With the triggers gone nothing tells the memory of a change: what it answers then is what
    // it remembers.
    for sql in [
        "DROP TRIGGER companion_part_changed",
        "DROP TRIGGER companion_message_changed",
    ] {
        let store = world.home.store_of(world.person).await.unwrap();
        store
            .write(move |tx| Ok(tx.execute(sql, []).map(drop)?))
            .await
            .unwrap();
    }
    let sql = "UPDATE companion_part SET text = 'behind their back' WHERE message IN
               (SELECT id FROM companion_message WHERE conversation = ?1 AND role = 1)";
    world.behind(sql, conversation).await;
    world.say(conversation, "and?").await;
    !world.last().iter().any(|text| text == "behind their back")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_is_told_from_the_working_memory() {
    let mut world = World::new(400).await;
    let conversation = world.conversation().await;
    world.say(&conversation, "one").await;
    world.say(&conversation, "two").await;
    assert_eq!(world.last(), ["one", "answer 1", "two"]);
    assert!(remembered(&mut world, &conversation).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_program_is_away_the_next_model_answers_and_that_is_told() {
    let mut world = World::new(400).await;
    let conversation = world.conversation().await;
    let accepted = world.say(&conversation, AWAY).await;
    let question = v1::GetConversation {
        id: conversation.clone(),
    };
    let detail: v1::ConversationDetail = world.ask(verb::GET, &question).await;
    let answer = detail
        .messages
        .iter()
        .find(|message| message.id == accepted.answer)
        .unwrap();
    assert_eq!(answer.status(), v1::MessageStatus::Complete);
    assert_eq!(answer.instead_of, "big");
    assert_eq!(world.told.lock().len(), 2, "it was asked twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_whatever_way_is_told_as_it_is_in_the_store() {
    let mut world = World::new(400).await;
    let conversation = world.conversation().await;
    let one = world.say(&conversation, "one").await;
    let two = world.say(&conversation, "two").await;

    // Past the companion: a part, then a message's column, then a part more.
    let sql = "UPDATE companion_part SET text = 'won' WHERE message = ?1";
    world.behind(sql, &one.message).await;
    world.say(&conversation, "three").await;
    assert_eq!(
        world.last(),
        ["won", "answer 1", "two", "answer 2", "three"]
    );

    let sql = "INSERT INTO companion_part VALUES (?1, 5, 'text', ' and more')";
    world.behind(sql, &two.answer).await;
    let four = world.say(&conversation, "four").await;
    assert_eq!(world.last()[3], "answer 2 and more");

    // Worded anew, answered anew, on either branch.
    let other = world.edit(&conversation, &two.message, "zwei").await;
    assert_eq!(world.last(), ["won", "answer 1", "zwei"]);
    world.again(&conversation, &other.answer).await;
    assert_eq!(world.last(), ["won", "answer 1", "zwei"]);
    world.again(&conversation, &four.answer).await;
    assert_eq!(world.last().len(), 7);
    assert_eq!(world.last()[6], "four");
    world.edit(&conversation, &one.message, "eins").await;
    assert_eq!(world.last(), ["eins"]);
    let (told, stored) = (world.last(), world.stored(&one.message, 400).await);
    assert_ne!(told, stored, "that is another branch");
}

/// Anything in any order: what is told is what the store says of the branch, in its newest
/// messages.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_the_model_hears_what_the_store_says() {
    for history in [1, 2, 5, 400] {
        let mut world = World::new(history).await;
        let mut random = u64::from(history) | 1;
        let mut next = move |below: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as usize % below
        };
        let mut all: Vec<(Vec<u8>, Vec<v1::Accepted>)> = Vec::new();
        for step in 0..40 {
            if all.is_empty() || next(12) == 0 {
                all.push((world.conversation().await, Vec::new()));
            }
            let at = next(all.len());
            let (conversation, said) = all[at].clone();
            let text = format!("said {step}");
            let accepted = match (said.len(), next(8)) {
                (0, _) | (_, 0..=3) => world.say(&conversation, &text).await,
                (count, 4) => {
                    let old = &said[next(count)].message;
                    world.edit(&conversation, old, &text).await
                }
                (count, 5) => world.again(&conversation, &said[next(count)].answer).await,
                (count, 6) => {
                    let sql = "UPDATE companion_part SET text = text || '!' WHERE message = ?1";
                    world.behind(sql, &said[next(count)].message).await;
                    world.say(&conversation, &text).await
                }
                (_, _) => {
                    // The memory is gone, as after an unclean stop.
                    let memory = world.home.working_of(world.person).await.unwrap();
                    memory.forget("companion.recent", &conversation).await;
                    world.say(&conversation, &text).await
                }
            };
            let mut expected = world.stored(&accepted.message, history as usize).await;
            // A window that begins with an answer loses it: a template begins with a question.
            if expected.len() == history as usize && expected[0].starts_with("answer") {
                expected.remove(0);
            }
            assert_eq!(world.last(), expected, "history {history}, step {step}");
            all[at].1.push(accepted);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_conversation_is_forgotten_and_locking_leaves_no_key() {
    let mut world = World::new(400).await;
    let conversation = world.conversation().await;
    world.say(&conversation, "one").await;
    let memory = world.home.working_of(world.person).await.unwrap();
    assert!(
        memory
            .get("companion.recent", &conversation)
            .await
            .is_some()
    );
    let delete = v1::DeleteConversation {
        id: conversation.clone(),
    };
    let _: v1::Empty = world.ask(verb::DELETE, &delete).await;
    assert!(
        memory
            .get("companion.recent", &conversation)
            .await
            .is_none()
    );

    let conversation = world.conversation().await;
    world.say(&conversation, "one").await;
    world.companion.take().unwrap().stop(PATIENCE).await;
    world.home.lock().await.unwrap();
    assert!(!memory.stats().open);
    assert!(
        memory
            .get("companion.recent", &conversation)
            .await
            .is_none()
    );
    assert!(world.home.working_of(world.person).await.is_err());
    let password = Password::new(PASSWORD).unwrap();
    world.home.unlock(&password, Source::local()).await.unwrap();
    let memory = world.home.working_of(world.person).await.unwrap();
    assert_eq!(memory.stats().begun, 0, "it goes on where it was");
    assert!(
        memory
            .get("companion.recent", &conversation)
            .await
            .is_some()
    );
    world.home.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_can_be_asked_on_the_bus() {
    let world = World::new(400).await;
    let none: v1::PresenceList = world.ask(verb::PRESENCE, &v1::GetPresence {}).await;
    assert!(none.items.is_empty());
    let (here, gone) = (SessionId::new(), SessionId::new());
    let since = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    for session in [Some(here), Some(gone), None] {
        world
            .home
            .note_connected(world.person, session, since)
            .await;
    }
    world.home.note_gone(world.person, Some(gone)).await;
    let all: v1::PresenceList = world.ask(verb::PRESENCE, &v1::GetPresence {}).await;
    assert_eq!(all.items.len(), 3);
    let of = |session: &[u8]| all.items.iter().find(|one| one.session == session).unwrap();
    assert_eq!(
        of(here.as_bytes()).connected_since_unix_ms,
        1_800_000_000_000
    );
    assert_eq!(of(b"").connected_since_unix_ms, 1_800_000_000_000);
    assert_eq!(of(gone.as_bytes()).connected_since_unix_ms, 0);
    assert_eq!(
        all.items[2].session,
        gone.as_bytes(),
        "who is there comes first"
    );
    assert!(of(gone.as_bytes()).seen_unix_ms > 0);
}

//! The manager under a clock that each test moves, with sizes that are made up and processes that
//! are played. Real ones are in `tests/slots.rs`.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aico_bus::link::{Listener, endpoint_in};
use aico_bus::{AllowAll, Bus, Client, Identity, Meta, ReplyStream, RequestError};
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Empty, generated::Item};
use aico_contracts::{Payload, topics};
use aico_store::StoreError;
use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, mpsc};

use super::child::{Launcher, News, Run};
use super::places::{Places, Seat};
use super::vectors::{How, Vectors};
use super::*;
use crate::clock;
use crate::process::launch::{Launch, Report};
use crate::router::Router;
use crate::router::table::{Flight, View};

const GIB: u64 = 1 << 30;

#[derive(Default)]
struct Registry(Mutex<Vec<ModelRecord>>);

#[async_trait]
impl ModelRegistryStore for Registry {
    async fn list(&self) -> Result<Vec<ModelRecord>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }
    async fn put(&self, record: ModelRecord) -> Result<(), StoreError> {
        self.0.lock().unwrap().push(record);
        Ok(())
    }
    async fn activate(&self, id: ModelId) -> Result<bool, StoreError> {
        for model in self.0.lock().unwrap().iter_mut() {
            model.active = model.id == id;
        }
        Ok(true)
    }
    async fn remove(&self, id: ModelId) -> Result<bool, StoreError> {
        self.0.lock().unwrap().retain(|model| model.id != id);
        Ok(true)
    }
    async fn set_hash(&self, _id: ModelId, _sha256: [u8; 32]) -> Result<(), StoreError> {
        Ok(())
    }
    async fn pin(&self, id: ModelId, pinned: bool) -> Result<bool, StoreError> {
        let mut models = self.0.lock().unwrap();
        let found = models.iter_mut().find(|model| model.id == id);
        Ok(found.map(|model| model.pinned = pinned).is_some())
    }
    async fn choice(&self) -> Result<Option<Choice>, StoreError> {
        Ok(None)
    }
    async fn choose(&self, _choice: Choice) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Processes that are ready at once and answer `x`, and then nothing until they are told.
struct Played {
    bus: Bus,
    next: AtomicU32,
    finish: Arc<Notify>,
    /// Those that shall end don't, until they are let go.
    stubborn: watch::Receiver<bool>,
    /// How far each is told to be, instead of being ready at once.
    slow: watch::Receiver<Option<u8>>,
    /// Questions wait for a place.
    full: watch::Receiver<bool>,
    /// One of them ends by itself.
    die: Arc<Notify>,
}

#[async_trait]
impl Launcher for Played {
    async fn run(&self, _program: Program, launch: Launch) -> std::io::Result<Run> {
        let name = format!("{PROCESS}{}", launch.slot);
        let topic = topics::slot(launch.slot, topics::slot_verb::GENERATE);
        let mut requests = self.bus.join(Identity::new(name)).serve(&topic, 8).unwrap();
        let name = Identity::new(format!("{PROCESS}{}", launch.slot));
        let topic = topics::slot(launch.slot, topics::slot_verb::LIST_PROMPTS);
        let mut pulses = self.bus.join(name).serve(&topic, 8).unwrap();
        let finish = Arc::clone(&self.finish);
        let mut stubborn = self.stubborn.clone();
        let mut slow = self.slow.clone();
        let full = self.full.clone();
        let die = Arc::clone(&self.die);
        let (news, heard) = mpsc::channel(4);
        let (kill, mut killed) = oneshot::channel();
        tokio::spawn(async move {
            let far = *slow.borrow_and_update();
            let first = match far {
                Some(percent) => Report::Loading(percent),
                None => Report::Ready { context: 512 },
            };
            let _gone = news.send(News::Report(first)).await;
            loop {
                tokio::select! {
                    Ok(()) = slow.changed() => {
                        let far = *slow.borrow_and_update();
                        let report = Report::Loading(far.unwrap_or(100));
                        let _gone = news.send(News::Report(report)).await;
                    }
                    _ = &mut killed => {
                        drop(stubborn.wait_for(|is| !*is).await);
                        let _gone = news.send(News::Ended(None)).await;
                        return;
                    }
                    () = die.notified() => {
                        let _gone = news.send(News::Ended(None)).await;
                        return;
                    }
                    Some(request) = pulses.recv() => request.reply(v1::PromptList::default()),
                    request = requests.recv() => {
                        let Some(request) = request else { return };
                        tokio::spawn(answer(request, Arc::clone(&finish), full.clone()));
                    }
                }
            }
        });
        let process = 1_000_000 + self.next.fetch_add(1, Ordering::SeqCst);
        Ok(Run::played(process, heard, kill))
    }
}

async fn answer(request: aico_bus::Request, finish: Arc<Notify>, mut full: watch::Receiver<bool>) {
    let of = |item| v1::Generated { item: Some(item) };
    let mut back = request.stream();
    if *full.borrow() {
        let _gone = back.send(of(Item::Queued(0))).await;
        tokio::select! {
            () = back.cancelled() => return,
            _ = full.wait_for(|full| !*full) => {}
        }
    }
    let _gone = back.send(of(Item::Text("x".into()))).await;
    finish.notified().await;
    back.end(of(Item::End(v1::GeneratedEnd::default())));
}

/// Memory as the test says.
struct Made(Mutex<u64>);

impl MemoryProbe for Made {
    fn available(&self) -> Option<u64> {
        Some(*self.0.lock().unwrap())
    }
    fn total(&self) -> Option<u64> {
        Some(64 * GIB)
    }
    fn process(&self, _process_id: u32) -> Option<Usage> {
        None
    }
}

struct House {
    asker: Client,
    registry: Arc<Registry>,
    finish: Arc<Notify>,
    stubborn: watch::Sender<bool>,
    slow: watch::Sender<Option<u8>>,
    full: watch::Sender<bool>,
    die: Arc<Notify>,
    state: watch::Receiver<v1::ModelState>,
    memory: Arc<Made>,
    places: Arc<Places>,
    orders: mpsc::Sender<Order>,
    folder: tempfile::TempDir,
    _task: JoinHandle<()>,
    _router: JoinHandle<()>,
}

/// Models of these names and sizes in GiB, the first one chosen; so much memory is free.
async fn house(models: &[(&str, u64)], free: u64, loaded: u32) -> House {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::new(Arc::new(AllowAll));
    let endpoint = endpoint_in(&folder.path().join("run")).unwrap();
    let listener = Arc::new(Listener::bind(&bus, &endpoint).await.unwrap());
    let registry = Arc::new(Registry::default());
    for (index, (name, gibs)) in models.iter().enumerate() {
        let model = record(folder.path(), name, gibs * GIB, index == 0);
        registry.put(model).await.unwrap();
    }
    let at = |name: &str| folder.path().join(name);
    let mut config = ManagerConfig::new("nothing".into(), at("models"), at("scratch"));
    config.loaded = loaded;
    config.context = 512;
    config.idle_limit = Some(Duration::from_secs(30 * 60));
    let memory = Arc::new(Made(Mutex::new(free * GIB)));
    config.memory = Arc::clone(&memory) as _;
    config.start = StartWhen::Asked;
    let finish = Arc::new(Notify::new());
    let (stubborn, watched) = watch::channel(false);
    let (slow, far) = watch::channel(None);
    let (full, places) = watch::channel(false);
    let die = Arc::new(Notify::new());
    let played = Played {
        bus: bus.clone(),
        next: AtomicU32::new(0),
        finish: Arc::clone(&finish),
        stubborn: watched,
        slow: far,
        full: places,
        die: Arc::clone(&die),
    };
    let (orders, inbox) = mpsc::channel(4);
    let store = Arc::clone(&registry) as _;
    let heads = Heads::unread();
    let made = Manager::new(
        &bus,
        listener,
        store,
        heads,
        config,
        Arc::new(played),
        inbox,
    )
    .await;
    let (manager, state, routed) = made.unwrap();
    let places = Arc::clone(&manager.entrance.places);
    let router = tokio::spawn(manager.router.clone().run(routed));
    let task = tokio::spawn(manager.run());
    House {
        asker: bus.join(Identity::new("companion")),
        registry,
        finish,
        stubborn,
        slow,
        full,
        die,
        state,
        memory,
        places,
        orders,
        folder,
        _task: task,
        _router: router,
    }
}

/// With a file that is as long as it should be, and empty.
fn record(folder: &Path, name: &str, size: u64, active: bool) -> ModelRecord {
    use std::os::unix::fs::MetadataExt as _;

    let path = folder.join(format!("{name}.gguf"));
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(size).unwrap();
    let about = file.metadata().unwrap();
    ModelRecord {
        id: ModelId::new(),
        name: name.to_owned(),
        path,
        size,
        modified_ns: about.mtime() * 1_000_000_000 + about.mtime_nsec(),
        sha256: None,
        architecture: "llama".into(),
        parameters: 1,
        quantization: String::new(),
        context_length: 512,
        bytes_per_token: 0,
        license: String::new(),
        starter: false,
        active,
        pinned: false,
        adapter: None,
    }
}

impl House {
    async fn ask<Q: Payload, R: Payload>(&self, topic: &str, question: &Q) -> R {
        let meta = Meta::for_person(PersonId::new());
        self.asker.request(topic, question, meta).await.unwrap()
    }

    async fn prepare(&self, name: &str) -> v1::PreparedModel {
        let wanted = match name {
            "" => Vec::new(),
            name => vec![name.to_owned()],
        };
        self.ask(
            topics::MODELS_PREPARE,
            &v1::PrepareModel {
                wanted,
                only: false,
            },
        )
        .await
    }

    /// Asks for it as somebody to whom it is so urgent.
    async fn prepare_as(&self, priority: v1::Priority, name: &str) -> v1::PreparedModel {
        let question = v1::PrepareModel {
            wanted: vec![name.to_owned()],
            only: false,
        };
        let meta = Meta::for_person(PersonId::new()).priority(priority);
        let asked = self.asker.request(topics::MODELS_PREPARE, &question, meta);
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, asked).await.unwrap().unwrap()
    }

    /// The same, and hears what is told until then.
    async fn waiting_as(
        &self,
        priority: v1::Priority,
        name: &str,
    ) -> ReplyStream<v1::PreparedModel> {
        let meta = Meta::for_person(PersonId::new()).priority(priority);
        self.wait_with(meta, name).await
    }

    /// One look of a question; it is the same one as often as it has this trace.
    async fn looks(
        &self,
        person: PersonId,
        trace: u8,
        name: &str,
    ) -> ReplyStream<v1::PreparedModel> {
        let meta = Meta::for_person(person).trace([trace; 16]);
        self.wait_with(meta, name).await
    }

    async fn wait_with(&self, meta: Meta, name: &str) -> ReplyStream<v1::PreparedModel> {
        let question = v1::PrepareModel {
            wanted: vec![name.to_owned()],
            only: false,
        };
        let meta = meta.purpose(topics::PLACES);
        let asked = self
            .asker
            .open_stream(topics::MODELS_PREPARE, &question, meta);
        asked.await.unwrap()
    }

    /// Returns once this model is the one that waits for room.
    async fn awaited(&self, name: &str) {
        let mut state = self.state.clone();
        let is_it = |state: &v1::ModelState| {
            state.name == name && state.status() == Status::Starting && state.process_id == 0
        };
        let told = tokio::time::timeout(Duration::from_secs(60), state.wait_for(is_it));
        assert!(told.await.is_ok(), "{name}");
    }

    /// Returns once so many wait for this model, as the figures tell it.
    async fn waits(&self, name: &str, count: u32) {
        let told = async {
            while self.waiting(name).await != Some(count) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(60), told).await;
        assert!(told.is_ok(), "{count} wait for {name}");
    }

    /// How many wait for this model, as the figures tell it.
    async fn waiting(&self, name: &str) -> Option<u32> {
        let asked = v1::ReadActivity::default();
        let told: v1::ModelsActivity = self.ask(topics::MODELS_ACTIVITY, &asked).await;
        let found = told.models.iter().find(|one| one.name == name);
        found.map(|one| one.waiting)
    }

    /// What a question of no urgency hears first.
    async fn asked(
        &self,
        model: ModelId,
    ) -> (
        Result<v1::Generated, RequestError>,
        ReplyStream<v1::Generated>,
    ) {
        let question = v1::Generate {
            model: model.to_vec(),
            ..v1::Generate::default()
        };
        let meta = Meta::for_person(PersonId::new());
        let asked = self
            .asker
            .open_stream(topics::MODELS_GENERATE, &question, meta);
        let mut stream: ReplyStream<v1::Generated> = asked.await.unwrap();
        let first = stream.next().await.unwrap();
        (first, stream)
    }

    /// Asks for it and nothing else: why it can't be had.
    async fn refused(&self, name: &str) -> v1::Fault {
        let question = v1::PrepareModel {
            wanted: vec![name.to_owned()],
            only: true,
        };
        let meta = Meta::for_person(PersonId::new());
        let asked = self.asker.request(topics::MODELS_PREPARE, &question, meta);
        let asked: Result<v1::PreparedModel, RequestError> = asked.await;
        asked.unwrap_err().into_fault()
    }

    /// Prepares it until it is ready.
    async fn ready(&self, name: &str) -> ModelId {
        let mut state = self.state.clone();
        loop {
            let prepared = self.prepare(name).await;
            assert!(prepared.missing.is_empty(), "{:?}", prepared.missing);
            let told = prepared.state.unwrap();
            match told.status() {
                Status::Ready => {
                    // It is theirs to ask for a moment, which is over then.
                    pass(Duration::from_secs(2)).await;
                    return ModelId::from_slice(&told.model).unwrap();
                }
                Status::Starting => state.changed().await.unwrap(),
                other => panic!("{other:?}: {:?}", told.fault.map(|fault| fault.detail)),
            }
        }
    }

    /// Names of those in memory.
    async fn inside(&self) -> Vec<String> {
        let list: v1::ModelList = self.ask(topics::MODELS_LIST, &v1::ListModels {}).await;
        let inside = list.items.into_iter().filter(|model| model.loaded);
        inside.map(|model| model.name).collect()
    }

    async fn pin(&self, name: &str, pinned: bool) {
        let models = self.registry.list().await.unwrap();
        let id = models.iter().find(|model| model.name == name).unwrap().id;
        let pin = v1::PinModel {
            id: id.to_vec(),
            pinned,
        };
        let _: Empty = self.ask(topics::MODELS_PIN, &pin).await;
    }

    /// A package of this size in GiB that was loaded, and works.
    async fn package(&self, name: &str, gibs: u64) -> Result<Seat, v1::Fault> {
        self.package_as(v1::Priority::Normal, name, gibs).await
    }

    /// One that is let in for work that is so urgent.
    async fn package_as(
        &self,
        urgency: v1::Priority,
        name: &str,
        gibs: u64,
    ) -> Result<Seat, v1::Fault> {
        self.places.enter(name, gibs * GIB, urgency).await
    }

    /// One that has nothing to do, and leaves when it has to.
    async fn idle_package(&self, name: &str, gibs: u64) {
        rests(self.package(name, gibs).await.unwrap());
        // The clock goes on, so that whoever is used next is used later.
        pass(Duration::from_secs(2)).await;
    }

    /// Names of packages in memory.
    fn packages(&self) -> Vec<String> {
        let inside = self.places.inside().into_iter();
        let mut names: Vec<_> = inside.map(|(_, one)| one.name).collect();
        names.sort();
        names
    }

    /// Its process ends by itself: what is told then.
    async fn dies(&self) -> v1::ModelState {
        self.die.notify_one();
        let mut state = self.state.clone();
        let gone = state.wait_for(|state| state.status() != Status::Ready);
        let told = tokio::time::timeout(Duration::from_secs(60), gone).await;
        told.unwrap().unwrap().clone()
    }

    /// The same in the middle of an answer of the chosen model: why it is left alone then, if it is.
    async fn ends_when_asked(&self) -> v1::Fault {
        let ant = self.ready("").await;
        let asked = self.answering(ant).await;
        let told = self.dies().await;
        drop(asked);
        told.fault.unwrap_or_default()
    }

    /// An answer that goes on until it is finished.
    async fn answering(&self, model: ModelId) -> ReplyStream<v1::Generated> {
        let (first, stream) = self.asked(model).await;
        assert!(matches!(first.unwrap().item, Some(Item::Text(_))));
        stream
    }
}

/// A package that works no longer, and leaves when it has to.
fn rests(seat: Seat) {
    seat.rests();
    tokio::spawn(async move { seat.sent_away().await });
}

/// Moves the clock, and lets everybody do what is due.
async fn pass(time: Duration) {
    clock::advance(time);
    tokio::time::sleep(Duration::from_millis(60)).await;
}

async fn minutes(minutes: u64) {
    pass(Duration::from_secs(minutes * 60)).await;
}

#[tokio::test]
async fn each_model_goes_when_it_was_idle_for_thirty_minutes_and_a_pinned_one_stays() {
    let house = house(&[("ant", 1), ("bee", 1)], 60, 2).await;
    house.ready("").await;
    house.ready("bee").await;
    assert_eq!(house.inside().await, ["ant", "bee"]);
    minutes(20).await;
    let bee = house.ready("bee").await;
    minutes(11).await;
    assert_eq!(house.inside().await, ["bee"], "ant was idle for 31 minutes");
    // One that answers stays for as long as that takes, and half an hour more.
    let stream = house.answering(bee).await;
    for _ in 0..4 {
        minutes(31).await;
    }
    assert_eq!(house.inside().await, ["bee"]);
    house.finish.notify_waiters();
    drop(stream);
    pass(Duration::ZERO).await;
    minutes(29).await;
    assert_eq!(house.inside().await, ["bee"]);
    minutes(32).await;
    assert!(house.inside().await.is_empty());

    house.pin("ant", true).await;
    house.ready("").await;
    minutes(24 * 60).await;
    assert_eq!(house.inside().await, ["ant"]);
    house.pin("ant", false).await;
    minutes(31).await;
    assert!(house.inside().await.is_empty());
}

#[tokio::test]
async fn the_one_used_longest_ago_makes_room_and_never_a_pinned_one() {
    let models = [("ant", 1), ("bee", 1), ("cat", 1), ("dog", 1)];
    let house = house(&models, 60, 2).await;
    house.ready("ant").await;
    house.ready("bee").await;
    house.ready("ant").await;
    house.ready("cat").await;
    assert_eq!(
        house.inside().await,
        ["ant", "cat"],
        "bee was used longest ago"
    );
    house.pin("ant", true).await;
    house.ready("dog").await;
    house.ready("bee").await;
    assert_eq!(house.inside().await, ["ant", "bee"]);
    house.pin("bee", true).await;
    // Nobody may go: the one that is chosen for everybody answers, and that is told.
    let prepared = house.prepare("cat").await;
    assert_eq!(prepared.missing, ["cat"]);
    assert_eq!(prepared.state.unwrap().name, "ant");
}

#[tokio::test]
async fn by_the_sizes_one_goes_or_the_load_is_refused_with_the_figures() {
    let models = [("ant", 2), ("bee", 3), ("cat", 6), ("dog", 20)];
    let house = house(&models, 8, 16).await;
    house.ready("ant").await;
    house.ready("bee").await;
    assert_eq!(house.inside().await, ["ant", "bee"]);
    // 8 GiB are free by the system's word, but 5 of them are of files in use.
    house.ready("cat").await;
    assert_eq!(house.inside().await, ["cat"]);
    let prepared = house.prepare("dog").await;
    assert_eq!(prepared.missing, ["dog"], "it fits in no case");

    // Chosen for everybody it is told why not; what is there stays.
    let models = house.registry.list().await.unwrap();
    let dog = models.iter().find(|model| model.name == "dog").unwrap();
    let chosen = v1::UseModel {
        id: dog.id.to_vec(),
    };
    let _: Empty = house.ask(topics::MODELS_USE, &chosen).await;
    let state: v1::ModelState = house.ask(topics::MODELS_GET_STATE, &Empty {}).await;
    let fault = state.fault.unwrap();
    assert_eq!(fault.code, "model-too-large");
    assert!(
        fault.detail.starts_with("It needs about 20.1 GiB"),
        "{}",
        fault.detail
    );
    assert!(
        fault
            .detail
            .contains("when the models that are loaded are gone")
    );
    assert!(
        house
            .inside()
            .await
            .iter()
            .any(|name| name == "cat" || name == "ant")
    );
}

#[tokio::test]
async fn memory_that_was_short_for_the_chosen_model_is_looked_at_again() {
    let house = house(&[("ant", 2)], 1, 4).await;
    let refused = async |free: &str| {
        let told = house.prepare("").await.state.unwrap();
        assert_eq!(told.status(), Status::Failed);
        let fault = told.fault.unwrap();
        assert_eq!(fault.code, "model-too-large");
        assert!(fault.detail.contains(free), "{}", fault.detail);
    };
    refused("1.0 GiB are free").await;
    *house.memory.0.lock().unwrap() = GIB + GIB / 2;
    refused("1.5 GiB are free").await;
    assert!(house.inside().await.is_empty());
    // It came back, as when another program is closed.
    *house.memory.0.lock().unwrap() = 8 * GIB;
    house.ready("").await;
    assert_eq!(house.inside().await, ["ant"]);
}

#[tokio::test]
async fn when_memory_becomes_short_idle_models_go_one_by_one_and_nobody_else() {
    let models = [("ant", 1), ("bee", 1), ("cat", 1), ("dog", 1)];
    let house = house(&models, 60, 4).await;
    house.ready("ant").await;
    house.pin("ant", true).await;
    let bee = house.ready("bee").await;
    house.ready("cat").await;
    house.ready("dog").await;
    let stream = house.answering(bee).await;
    minutes(2).await;
    assert_eq!(house.inside().await, ["ant", "bee", "cat", "dog"]);

    *house.memory.0.lock().unwrap() = GIB - 1;
    house.ready("dog").await;
    pass(Duration::from_secs(6)).await;
    // The one used longest ago that is not pinned and answers nobody.
    assert_eq!(house.inside().await, ["ant", "bee", "dog"]);
    pass(Duration::from_secs(6)).await;
    let inside = house.inside().await;
    assert_eq!(inside, ["ant", "bee", "dog"], "dog was just asked");
    pass(Duration::from_secs(30)).await;
    assert_eq!(house.inside().await, ["ant", "bee"]);

    // There is enough again.
    *house.memory.0.lock().unwrap() = GIB;
    house.finish.notify_waiters();
    drop(stream);
    pass(Duration::ZERO).await;
    minutes(5).await;
    assert_eq!(house.inside().await, ["ant", "bee"]);
    *house.memory.0.lock().unwrap() = GIB - 1;
    pass(Duration::from_secs(6)).await;
    assert_eq!(house.inside().await, ["ant"]);
}

#[tokio::test]
async fn who_answers_is_not_taken_away_and_who_waits_for_room_gets_it() {
    let house = house(&[("ant", 1), ("bee", 1), ("cat", 1)], 60, 2).await;
    let ant = house.ready("ant").await;
    let bee = house.ready("bee").await;
    let mut first = house.answering(ant).await;
    let _second = house.answering(bee).await;
    minutes(5).await;
    let waiting = house.prepare("cat");
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut waiting).await;
    assert!(early.is_err(), "both answer");
    assert_eq!(house.inside().await, ["ant", "bee"]);
    house.finish.notify_one();
    // Of the two that wait, the one that began first is told.
    while let Some(Ok(_)) = first.next().await {}
    let prepared = tokio::time::timeout(Duration::from_secs(60), &mut waiting).await;
    assert_eq!(prepared.unwrap().state.unwrap().name, "cat");
    assert_eq!(house.inside().await, ["bee", "cat"]);
    assert!(house.folder.path().exists());
}

#[tokio::test]
async fn of_those_that_wait_for_room_the_urgent_come_first() {
    let house = house(&[("ant", 1), ("bee", 1), ("cat", 1)], 60, 1).await;
    let ant = house.ready("ant").await;
    let stream = house.answering(ant).await;
    let program = house.prepare_as(v1::Priority::Normal, "bee");
    let person = house.prepare_as(v1::Priority::Interactive, "cat");
    tokio::pin!(program, person);
    tokio::select! {
        _ = &mut program => panic!("ant answers"),
        () = house.awaited("bee") => {}
    }
    tokio::select! {
        _ = &mut person => panic!("ant answers"),
        () = house.awaited("cat") => {}
    }
    house.finish.notify_waiters();
    drop(stream);
    let prepared = tokio::select! {
        prepared = &mut person => prepared,
        _ = &mut program => panic!("it came before the person"),
    };
    assert_eq!(prepared.state.unwrap().name, "cat");
    assert_eq!(house.inside().await, ["cat"]);
    // It is theirs to ask for a moment; then the program has its turn.
    pass(Duration::from_secs(2)).await;
    assert_eq!(program.await.state.unwrap().name, "bee");
}

#[tokio::test]
async fn however_many_wait_for_room_who_wants_a_loaded_model_is_heard() {
    let house = house(&[("ant", 1), ("bee", 1)], 60, 1).await;
    let ant = house.ready("ant").await;
    let _stream = house.answering(ant).await;
    let mut waiting = Vec::new();
    for _ in 0..300 {
        waiting.push(house.waiting_as(v1::Priority::Background, "bee").await);
    }
    house.awaited("bee").await;
    let prepared = house.prepare_as(v1::Priority::Interactive, "ant").await;
    assert_eq!(prepared.state.unwrap().name, "ant");
}

#[tokio::test]
async fn who_has_no_place_yet_gives_way_to_the_more_urgent_that_wait_for_room() {
    let house = house(&[("ant", 1), ("bee", 1)], 60, 1).await;
    let ant = house.ready("ant").await;
    let mut answered = house.answering(ant).await;
    house.full.send_replace(true);
    let (first, mut queued) = house.asked(ant).await;
    assert_eq!(first.unwrap().item, Some(Item::Queued(0)));
    let person = house.prepare_as(v1::Priority::Interactive, "bee");
    tokio::pin!(person);
    let given_way = tokio::select! {
        _ = &mut person => panic!("ant answers"),
        item = queued.next() => item.unwrap().unwrap_err().into_fault(),
    };
    assert_eq!(
        given_way.code, "model-changed",
        "it is to be asked for anew"
    );
    let told: v1::ModelsActivity = house
        .ask(topics::MODELS_ACTIVITY, &v1::ReadActivity::default())
        .await;
    let refused = told.models.iter().filter_map(|one| one.totals);
    assert_eq!(refused.map(|totals| totals.refused).sum::<u64>(), 0);
    // Nobody comes in before the person either, and whoever is being answered is to the end.
    let (late, _stream) = house.asked(ant).await;
    assert_eq!(late.unwrap_err().into_fault().code, "model-changed");
    assert_eq!(house.inside().await, ["ant"]);
    house.finish.notify_one();
    let mut last = None;
    while let Some(item) = answered.next().await {
        last = item.unwrap().item;
    }
    assert!(matches!(last, Some(Item::End(_))));
    assert_eq!(person.await.state.unwrap().name, "bee");

    // Then everybody is let in again.
    house.full.send_replace(false);
    let bee = house.ready("bee").await;
    let _stream = house.answering(bee).await;
}

#[tokio::test]
async fn who_has_no_place_yet_stays_where_as_urgent_a_one_waits_for_room() {
    let house = house(&[("ant", 1), ("bee", 1)], 60, 1).await;
    let ant = house.ready("ant").await;
    house.full.send_replace(true);
    let (first, mut queued) = house.asked(ant).await;
    assert_eq!(first.unwrap().item, Some(Item::Queued(0)));
    let other = house.prepare_as(v1::Priority::Normal, "bee");
    tokio::pin!(other);
    tokio::select! {
        _ = &mut other => panic!("somebody waits for ant"),
        () = house.awaited("bee") => {}
    }
    house.full.send_replace(false);
    let next = queued.next().await.unwrap().unwrap();
    assert!(matches!(next.item, Some(Item::Text(_))));
}

#[tokio::test]
async fn while_a_process_ends_the_others_are_answered_and_nobody_else_has_to_go() {
    let models = [("ant", 1), ("bee", 1), ("cat", 1)];
    let house = house(&models, 60, 2).await;
    house.ready("ant").await;
    house.ready("bee").await;
    let ant = house.ready("ant").await;
    house.stubborn.send_replace(true);
    let waiting = house.prepare("cat");
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "there is no room yet");
    // The process of the one that goes does not end: its folder is there until it is gone.
    let folder = house.folder.path().join("scratch/1");
    std::fs::create_dir_all(&folder).unwrap();
    let prepared = house.prepare("ant").await.state.unwrap();
    assert_eq!(
        (prepared.status(), &prepared.model),
        (Status::Ready, &ant.to_vec())
    );
    let stream = house.answering(ant).await;
    assert_eq!(house.inside().await, ["ant"], "bee goes, and ant stays");
    let told = house.state.borrow().clone();
    assert_eq!(
        (told.status(), told.name.as_str()),
        (Status::Starting, "cat")
    );
    assert!(folder.exists(), "all that before bee was gone");
    drop(stream);

    house.stubborn.send_replace(false);
    let prepared = waiting.await.state.unwrap();
    assert_eq!(prepared.name, "cat");
    // With the number and the folder of the one that is gone.
    assert_eq!(house.inside().await, ["ant", "cat"]);
}

#[tokio::test]
async fn a_load_may_take_its_time_as_long_as_it_comes_on() {
    let house = house(&[("ant", 1)], 60, 2).await;
    house.slow.send_replace(Some(0));
    let mut state = house.state.clone();
    house.prepare("ant").await;
    for percent in 1..=20 {
        minutes(4).await;
        house.slow.send_replace(Some(percent));
        let told = state.wait_for(|state| state.loading_percent == Some(percent.into()));
        let told = tokio::time::timeout(Duration::from_secs(60), told).await;
        assert_eq!(told.unwrap().unwrap().status(), Status::Starting);
    }
    // It says the same again and again: that is none.
    minutes(3).await;
    house.slow.send_replace(Some(20));
    minutes(3).await;
    let failed = house.state.borrow().clone();
    assert_eq!(failed.status(), Status::Failed);
    assert_eq!(
        failed.fault.unwrap().title,
        "The model took too long to load"
    );
    assert_eq!(failed.loading_percent, None);
}

#[tokio::test]
async fn who_is_refused_is_refused_alone_and_who_waits_goes_on_waiting() {
    let house = house(&[("ant", 1), ("bee", 1)], 60, 1).await;
    house.ready("ant").await;
    house.stubborn.send_replace(true);
    let waiting = house.prepare("bee");
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err(), "ant has not gone yet");
    assert!(house.refused("cow").await.title.contains("no such model"));
    house.stubborn.send_replace(false);
    let prepared = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert_eq!(prepared.unwrap().state.unwrap().name, "bee");
}

#[tokio::test]
async fn nobody_goes_for_a_wish_that_was_given_up() {
    let house = house(&[("ant", 1), ("bee", 1)], 60, 1).await;
    let ant = house.ready("ant").await;
    let mut stream = house.answering(ant).await;
    minutes(5).await;
    let waiting = tokio::time::timeout(Duration::from_millis(200), house.prepare("bee")).await;
    assert!(waiting.is_err(), "ant answers");
    house.finish.notify_one();
    while let Some(Ok(_)) = stream.next().await {}
    for _ in 0..10 {
        pass(Duration::from_secs(2)).await;
    }
    assert_eq!(house.inside().await, ["ant"]);
}

/// What is told next to who waits for room.
async fn told_next(stream: &mut ReplyStream<v1::PreparedModel>) -> v1::PreparedModel {
    let told = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
    told.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn who_asked_what_is_forgotten_with_the_person() {
    let house = house(&[("ant", 1)], 60, 1).await;
    let ant = house.ready("ant").await;
    let person = PersonId::new();
    let question = v1::Generate {
        model: ant.to_vec(),
        ..v1::Generate::default()
    };
    let meta = Meta::for_person(person);
    let asked = house
        .asker
        .open_stream(topics::MODELS_GENERATE, &question, meta);
    let mut stream: ReplyStream<v1::Generated> = asked.await.unwrap();
    stream.next().await.unwrap().unwrap();
    let rows = async || {
        let (asked, meta) = (v1::ReadActivity::default(), Meta::for_person(person));
        let told = house.asker.request(topics::MODELS_ACTIVITY, &asked, meta);
        let told: v1::ModelsActivity = told.await.unwrap();
        told.requests.len()
    };
    assert_eq!(rows().await, 1);
    house.orders.send(Order::Forget(person)).await.unwrap();
    let forgotten = async {
        while rows().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let forgotten = tokio::time::timeout(Duration::from_secs(60), forgotten).await;
    assert!(forgotten.is_ok());
}

#[tokio::test]
async fn who_waits_for_room_is_told_how_many_are_before() {
    use v1::Priority::{Interactive, Normal};

    let house = house(&[("ant", 1), ("bee", 1), ("cat", 1)], 60, 1).await;
    let ant = house.ready("ant").await;
    let answered = house.answering(ant).await;
    let mut first = house.waiting_as(Normal, "bee").await;
    assert_eq!(told_next(&mut first).await.waiting, Some(0));
    let mut second = house.waiting_as(Normal, "cat").await;
    assert_eq!(told_next(&mut second).await.waiting, Some(1));
    // A person comes before both, and gives up.
    let mut person = house.waiting_as(Interactive, "cat").await;
    assert_eq!(told_next(&mut person).await.waiting, Some(0));
    assert_eq!(told_next(&mut first).await.waiting, Some(1));
    assert_eq!(told_next(&mut second).await.waiting, Some(2));
    drop(person);
    assert_eq!(told_next(&mut first).await.waiting, Some(0));
    assert_eq!(told_next(&mut second).await.waiting, Some(1));
    // Who asks without that purpose hears the answer alone.
    let silent = house.prepare_as(Normal, "bee");
    tokio::pin!(silent);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut silent).await;
    assert!(early.is_err(), "ant answers");

    house.finish.notify_waiters();
    drop(answered);
    let told = told_next(&mut first).await;
    assert_eq!(
        (told.waiting, told.state.unwrap().name.as_str()),
        (None, "bee")
    );
    assert_eq!(told_next(&mut second).await.waiting, Some(0));
    // What was promised to the first is over then, and so on.
    pass(Duration::from_secs(2)).await;
    assert_eq!(told_next(&mut second).await.state.unwrap().name, "cat");
    pass(Duration::from_secs(2)).await;
    let told = silent.await;
    assert_eq!(
        (told.waiting, told.state.unwrap().name.as_str()),
        (None, "bee")
    );
}

#[tokio::test]
async fn who_waits_for_room_or_for_a_load_counts_with_that_model_until_they_give_up() {
    let house = house(&[("ant", 1), ("bee", 1)], 60, 1).await;
    let ant = house.ready("ant").await;
    let stream = house.answering(ant).await;
    let person = PersonId::new();
    let mut waiting = Vec::new();
    for trace in 0..3 {
        waiting.push(house.looks(person, trace + 1, "bee").await);
    }
    house.waits("bee", 3).await;
    waiting.pop();
    house.waits("bee", 2).await;
    // The room is there, and the load takes its time.
    house.slow.send_replace(Some(0));
    house.finish.notify_one();
    drop(stream);
    for asked in &mut waiting {
        let told = loop {
            let told = told_next(asked).await;
            if told.waiting.is_none() {
                break told.state.unwrap();
            }
        };
        assert_eq!((told.status(), &*told.name), (Status::Starting, "bee"));
    }
    // They look again until it is there: who does not for a while counts no more.
    let counted = async {
        while house.waiting("bee").await != Some(2) {
            for trace in 0..2 {
                let mut look = house.looks(person, trace + 1, "bee").await;
                told_next(&mut look).await;
            }
        }
    };
    let counted = tokio::time::timeout(Duration::from_secs(60), counted).await;
    assert!(counted.is_ok(), "two wait for bee");
    // The next try is ready at once.
    house.slow.send_replace(None);
    house.die.notify_one();
    house.ready("bee").await;
    house.waits("bee", 0).await;
}

#[tokio::test]
async fn who_looks_again_while_their_model_is_loaded_counts_once_where_that_look_waits() {
    let house = house(&[("ant", 1), ("bee", 1), ("cat", 1)], 60, 1).await;
    house.slow.send_replace(Some(0));
    let person = PersonId::new();
    let mut look = house.looks(person, 1, "bee").await;
    let told = told_next(&mut look).await.state.unwrap();
    assert_eq!((told.status(), &*told.name), (Status::Starting, "bee"));
    // Nobody comes before one that waits for room.
    let mut other = house.looks(PersonId::new(), 1, "cat").await;
    assert_eq!(told_next(&mut other).await.waiting, Some(0));
    let mut again = house.looks(person, 1, "bee").await;
    assert_eq!(told_next(&mut again).await.waiting, Some(1));
    let mut twice = house.looks(person, 1, "bee").await;
    assert_eq!(told_next(&mut twice).await.waiting, Some(2));
    assert_eq!(house.waiting("bee").await, Some(1));
    assert_eq!(house.waiting("cat").await, Some(1));
}

#[tokio::test]
async fn one_that_kept_ending_is_tried_by_one_question_after_ten_minutes() {
    let house = house(&[("ant", 1)], 60, 2).await;
    assert_eq!(house.ends_when_asked().await, v1::Fault::default());
    assert_eq!(house.ends_when_asked().await, v1::Fault::default());
    let fault = house.ends_when_asked().await;
    assert_eq!(
        (fault.code.as_str(), fault.title.as_str()),
        ("model-failed", "The model crashes whenever it is asked")
    );
    minutes(9).await;
    let told = house.prepare("").await.state.unwrap();
    assert_eq!((told.status(), told.fault), (Status::Failed, Some(fault)));
    minutes(2).await;
    let fault = house.ends_when_asked().await;
    assert!(fault.detail.contains("4 times"), "{}", fault.detail);
    let told = house.prepare("").await.state.unwrap();
    assert_eq!(told.status(), Status::Failed);
}

#[tokio::test]
async fn one_that_kept_ending_rests_while_another_is_loaded_and_when_it_is_let_go() {
    let house = house(&[("ant", 1), ("bee", 1)], 60, 2).await;
    house.ends_when_asked().await;
    house.ends_when_asked().await;
    let fault = house.ends_when_asked().await;
    assert!(fault.detail.contains("3 times"), "{}", fault.detail);
    house.ready("bee").await;
    let told = house.prepare("").await.state.unwrap();
    assert_eq!(told.status(), Status::Failed);
    assert_eq!(told.fault.as_ref(), Some(&fault));
    let unload = v1::UnloadModel { id: told.model };
    let _: Empty = house.ask(topics::MODELS_UNLOAD, &unload).await;
    let told = house.prepare("").await.state.unwrap();
    assert_eq!((told.status(), told.fault), (Status::Failed, Some(fault)));
    assert_eq!(house.inside().await, ["bee"]);
    minutes(11).await;
    house.ready("").await;
}

#[tokio::test]
async fn one_that_ends_while_nobody_asks_it_is_started_again_however_often() {
    let house = house(&[("ant", 1)], 60, 2).await;
    for _ in 0..4 {
        let ant = house.ready("").await;
        let mut answered = house.answering(ant).await;
        house.finish.notify_one();
        while answered.next().await.is_some() {}
        pass(Duration::from_secs(2)).await;
        minutes(2).await;
        let told = house.dies().await;
        assert_eq!((told.status(), told.fault), (Status::Starting, None));
    }
}

/// With an empty registry, where nothing can be read.
fn vectors(bus: &Bus) -> Vectors {
    let client = bus.join(Identity::new("manager"));
    let router = Router::new(
        client.clone(),
        Backends::default(),
        Arc::new(Made(Mutex::new(GIB))),
        1,
        Guard::default(),
        Activity::default(),
    );
    Vectors {
        client,
        router,
        registry: Arc::new(Registry::default()),
        heads: Heads::unread(),
    }
}

#[tokio::test]
async fn texts_for_a_model_of_ours_that_can_not_be_read_are_for_no_other() {
    let vectors = vectors(&Bus::new(Arc::new(AllowAll)));
    let folder = tempfile::tempdir().unwrap();
    let model = record(folder.path(), "notes", 1, false);
    let path = model.path.clone();
    vectors.registry.put(model).await.unwrap();
    assert!(vectors.own("other").await.unwrap().is_none());
    for name in ["notes", ""] {
        let fault = vectors.own(name).await.unwrap_err();
        assert_eq!(fault.code, "model-failed", "{name}");
    }
    std::fs::remove_file(path).unwrap();
    let fault = vectors.own("notes").await.unwrap_err();
    assert_eq!(fault.code, "model-missing");
    assert!(vectors.own("").await.unwrap().is_none());
}

#[tokio::test]
async fn texts_that_only_wait_give_way_to_a_more_urgent_question() {
    let bus = Bus::new(Arc::new(AllowAll));
    let vectors = vectors(&bus);
    let router = vectors.router.clone();
    let topic = topics::slot(0, topics::slot_verb::EMBED);
    let mut process = bus.join(Identity::new("process")).serve(&topic, 8).unwrap();
    let slot = View {
        number: 0,
        model: ModelId::new(),
        name: "ant".into(),
        status: Status::Ready,
        process_id: 1,
        pinned: false,
        idle_until: None,
        places: 1,
        restarts: 0,
        loading_percent: None,
        flight: Flight::default(),
        device: None,
        fallback: None,
    };
    let envelope = v1::Envelope {
        person: PersonId::new().to_vec().into(),
        ..v1::Envelope::default()
    };
    let how = How::of(&envelope, None).unwrap();
    let mut ticket = router.asked(slot.model, &slot.name, "", &envelope);
    ticket.queued();
    let question = v1::Embed {
        texts: vec!["one".into()],
        ..v1::Embed::default()
    };

    let asked = vectors.piece(&slot, &question, &how, &mut ticket);
    let waits = async {
        let back = process.recv().await.unwrap().stream();
        router.table.set_awaited(Some(v1::Priority::Interactive));
        back
    };
    let (given_way, back) = tokio::join!(asked, waits);
    assert_eq!(given_way.unwrap(), None);
    // It waits there no longer.
    let gone = tokio::time::timeout(Duration::from_secs(60), back.cancelled());
    gone.await.unwrap();

    // One that has begun is not lost.
    router.table.set_awaited(None);
    let asked = vectors.piece(&slot, &question, &how, &mut ticket);
    let works = async {
        let mut back = process.recv().await.unwrap().stream();
        back.send(v1::Embedded::default()).await.unwrap();
        router.table.set_awaited(Some(v1::Priority::Interactive));
        back.end(v1::Embedded {
            items: vec![v1::EmbeddedText::default()],
            ..v1::Embedded::default()
        });
    };
    let (done, ()) = tokio::join!(asked, works);
    assert_eq!(done.unwrap().unwrap().len(), 1);
}

#[tokio::test]
async fn models_and_packages_make_room_for_each_other() {
    let house = house(&[("ant", 2), ("bee", 4)], 8, 2).await;
    house.idle_package("reader", 3).await;
    house.ready("ant").await;
    house.idle_package("finder", 2).await;
    assert_eq!(house.packages(), ["finder", "reader"]);
    // It was used longest ago, and is no model.
    house.ready("bee").await;
    assert_eq!(house.packages(), ["finder"]);
    // Of 8 GiB 2 are with finder: ant goes, which was used before it.
    assert_eq!(house.inside().await, ["bee"]);
    house.idle_package("reader", 3).await;
    assert_eq!(house.packages(), ["reader"]);
    assert_eq!(house.inside().await, ["bee"]);
    // And the other way round.
    house.idle_package("finder", 5).await;
    assert_eq!(house.packages(), ["finder", "reader"]);
    assert!(house.inside().await.is_empty());
    // Nobody who is pinned goes.
    house.ready("ant").await;
    house.pin("ant", true).await;
    let refused = house.package("reader", 7).await;
    let fault = refused.map(drop).unwrap_err();
    assert_eq!(fault.code, "model-too-large");
    assert!(
        fault.detail.starts_with("It needs about 7.0 GiB, "),
        "{}",
        fault.detail
    );
    assert!(fault.detail.contains("Pinned: ant"), "{}", fault.detail);
    assert_eq!(house.packages(), ["finder"], "nobody goes for nothing");
}

#[tokio::test]
async fn what_is_being_loaded_has_its_room_already() {
    let house = house(&[("ant", 5)], 8, 2).await;
    // Nothing of it is in memory yet, by the system's word.
    let reader = house.package("reader", 5).await.unwrap();
    let second = house.package("finder", 5);
    let third = house.prepare("ant");
    tokio::pin!(second, third);
    let early = tokio::time::timeout(Duration::from_millis(300), async {
        tokio::select! {
            _ = &mut second => {}
            _ = &mut third => {}
        }
    });
    assert!(early.await.is_err(), "there is no room for two of them");
    assert_eq!(house.packages(), ["reader"]);
    rests(reader);
    // A question waits: it is before the package, which gets nothing of what it needs.
    let prepared = tokio::select! {
        prepared = &mut third => prepared,
        _ = &mut second => panic!("it came before the question"),
    };
    assert_eq!(prepared.state.unwrap().name, "ant");
    assert!(house.packages().is_empty());
    // That one is theirs to ask for a moment, as it is told.
    pass(Duration::from_secs(2)).await;
    let finder = second.await.unwrap();
    assert!(house.inside().await.is_empty());

    // It does not wait for ever for those that work.
    let late = house.package("reader", 5);
    tokio::pin!(late);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut late).await;
    assert!(early.is_err(), "finder works");
    pass(Duration::from_secs(30)).await;
    let fault = late.await.map(drop).unwrap_err();
    assert_eq!(fault.code, "busy");
    assert_eq!(house.packages(), ["finder"]);
    drop(finder);
    assert!(house.packages().is_empty());

    // A model that loads has its room as well.
    house.slow.send_replace(Some(1));
    house.prepare("ant").await;
    let late = house.package("reader", 5);
    let early = tokio::time::timeout(Duration::from_millis(300), late).await;
    assert!(early.is_err(), "ant is being loaded");
    assert_eq!(house.inside().await, ["ant"]);
}

#[tokio::test]
async fn a_fifth_package_takes_the_place_of_an_idle_one_and_waits_for_none_that_works() {
    let house = house(&[], 60, 2).await;
    let mut seats = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        seats.push(house.package(name, 1).await.unwrap());
    }
    assert_eq!(house.packages(), ["a", "b", "c", "d", "e"], "all work");
    drop(seats.split_off(4));
    rests(seats.remove(2));
    pass(Duration::from_secs(2)).await;
    rests(seats.remove(1));
    pass(Duration::from_secs(2)).await;
    let _fifth = house.package("f", 1).await.unwrap();
    assert_eq!(house.packages(), ["a", "b", "d", "f"]);
}

#[tokio::test]
async fn a_package_that_is_asked_before_it_left_stays() {
    let house = house(&[], 8, 2).await;
    let reader = house.package("reader", 5).await.unwrap();
    reader.rests();
    let waiting = house.package("finder", 5);
    tokio::pin!(waiting);
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            _ = &mut waiting => panic!("there is no room"),
            () = reader.sent_away() => {}
        }
    });
    told.await.unwrap();
    assert_eq!(reader.works(v1::Priority::Normal), None);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "reader works");
    rests(reader);
    let _finder = waiting.await.unwrap();
    assert_eq!(house.packages(), ["finder"]);
}

#[tokio::test]
async fn background_work_of_a_package_stops_for_a_question_that_waits_for_room() {
    use v1::Priority::{Background, Interactive};

    let house = house(&[("ant", 5)], 8, 2).await;
    let reader = house.package("reader", 5).await.unwrap();
    assert_eq!(reader.works(Background), None);
    let person = house.prepare_as(Interactive, "ant");
    tokio::pin!(person);
    for _ in 0..2 {
        let told = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::select! {
                _ = &mut person => panic!("there is no room"),
                () = reader.sent_away() => {}
            }
        });
        told.await.unwrap();
        // What is as urgent has its turn, and what is not then makes way again.
        assert_eq!(reader.works(Interactive), None);
        assert_eq!(reader.works(Background), None);
    }
    tokio::select! {
        _ = &mut person => panic!("there is no room"),
        () = reader.sent_away() => {}
    }
    assert_eq!(reader.works(Background), Some(Interactive));
    // It wants to be let in again at once, and is after the question.
    drop(reader);
    let again = house.package_as(Background, "reader", 5);
    tokio::pin!(again);
    let prepared = tokio::select! {
        prepared = &mut person => prepared,
        _ = &mut again => panic!("it came before the question"),
    };
    assert_eq!(prepared.state.unwrap().name, "ant");
    assert!(house.packages().is_empty());
    // That one is theirs to ask for a moment; then there is room again.
    pass(Duration::from_secs(2)).await;
    let reader = again.await.unwrap();
    assert!(house.inside().await.is_empty());

    // For a package that a person waits for it stops as well, and that is before others.
    assert_eq!(reader.works(Background), None);
    let other = house.package_as(Background, "other", 5);
    let finder = house.package_as(Interactive, "finder", 5);
    tokio::pin!(other, finder);
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            biased;
            _ = &mut other => panic!("there is no room"),
            _ = &mut finder => panic!("there is no room"),
            () = reader.sent_away() => {}
        }
    });
    told.await.unwrap();
    assert_eq!(reader.works(Background), Some(Interactive));
    drop(reader);
    let let_in = tokio::select! {
        let_in = &mut finder => let_in,
        _ = &mut other => panic!("it came before the person's"),
    };
    let _finder = let_in.unwrap();
    assert_eq!(house.packages(), ["finder"]);
}

#[tokio::test]
async fn when_memory_becomes_short_idle_packages_go_like_idle_models() {
    let house = house(&[("ant", 1)], 60, 2).await;
    house.idle_package("reader", 1).await;
    house.ready("ant").await;
    house.idle_package("finder", 1).await;
    let _works = house.package("worker", 1).await.unwrap();
    minutes(2).await;
    house.idle_package("latest", 1).await;
    *house.memory.0.lock().unwrap() = GIB - 1;
    let gone = [
        (vec!["ant"], vec!["finder", "latest", "worker"]),
        (vec![], vec!["finder", "latest", "worker"]),
        (vec![], vec!["latest", "worker"]),
        // It was just asked.
        (vec![], vec!["latest", "worker"]),
    ];
    for (models, packages) in gone {
        pass(Duration::from_secs(6)).await;
        assert_eq!(house.inside().await, models);
        assert_eq!(house.packages(), packages);
    }
    pass(Duration::from_secs(30)).await;
    assert_eq!(house.packages(), ["worker"]);
}

#[test]
fn prompts_that_were_read_with_an_adapter_are_of_no_use_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let plain = record(folder.path(), "owl", 1, false);
    let with = |hash: u8| ModelRecord {
        adapter: Some(Adapter {
            path: folder.path().join("style.gguf"),
            size: 1,
            modified_ns: 0,
            sha256: [hash; 32],
        }),
        ..plain.clone()
    };
    let by = |model: &ModelRecord| super::slot::computed_by(None, model);
    assert_eq!(by(&plain), crate::engine::llama::LIBRARY);
    assert_ne!(by(&plain), by(&with(1)));
    assert_ne!(by(&with(2)), by(&with(1)));
    assert_eq!(by(&with(1)), by(&with(1)));
    // It takes memory as well.
    let need = |model: &ModelRecord| super::memory::need(model, 512, 1);
    assert_eq!(need(&with(1)), need(&plain) + 1);
    // Its name is its own: the file is another model's too.
    let named = ModelRecord {
        name: "owl + style".to_owned(),
        ..with(1)
    };
    assert!(plain.is_called("owl") && !named.is_called("owl"));
    assert!(named.is_called("Owl + style") && named.is_called(&named.id.to_string()));
}

/// Starts nothing.
struct Nobody;

#[async_trait]
impl Launcher for Nobody {
    async fn run(&self, _program: Program, _launch: Launch) -> std::io::Result<Run> {
        Err(std::io::Error::other("nothing is started here"))
    }
}

/// A whole file of no tensors.
fn whole_head() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    for (key, value) in [("general.architecture", "llama"), ("general.name", "S")] {
        bytes.extend(text(key));
        bytes.extend(8_u32.to_le_bytes());
        bytes.extend(text(value));
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes
}

#[tokio::test]
async fn a_first_start_has_its_starter_where_no_file_can_be_read() {
    let file = whole_head();
    let sha256 = hex::encode(Sha256::digest(&file));
    let starter = Embedded {
        bytes: Box::leak(file.into_boxed_slice()),
        sha256: Box::leak(sha256.into_boxed_str()),
    };
    let folder = tempfile::tempdir().unwrap();
    let registry = Arc::new(Registry::default());
    for run in ["first", "again"] {
        let bus = Bus::new(Arc::new(AllowAll));
        let at = |name: &str| folder.path().join(name);
        let endpoint = endpoint_in(&at(run)).unwrap();
        let listener = Arc::new(Listener::bind(&bus, &endpoint).await.unwrap());
        let mut config = ManagerConfig::new("nothing".into(), at("models"), at("scratch"));
        config.starter = Some(starter);
        let (_orders, inbox) = mpsc::channel(1);
        let store = Arc::clone(&registry) as _;
        let (heads, nobody) = (Heads::unread(), Arc::new(Nobody));
        let made = Manager::new(&bus, listener, store, heads, config, nobody, inbox).await;
        assert!(made.is_ok(), "{run}");
        let known = registry.list().await.unwrap();
        assert_eq!(known.len(), 1, "{run}");
        assert!(known[0].starter && known[0].active && known[0].name == "S");
    }
}

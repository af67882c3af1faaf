//! `models.prepare`: the model that a question wants, loaded before the question is asked.
//!
//! As many models are in memory as may be and fit; another one takes the place of the one that was
//! used longest ago, only while nobody is being answered by it, and not before whoever was told
//! that it is ready had time to ask ([`room`](super::room)). Questions for one that has to wait
//! for room are answered the urgent first, then in the order in which they came. Those that come
//! later wait behind them, and so do less urgent ones that only wait for a place in a model that
//! could go ([`table`](crate::router::table)), so that nobody is kept waiting by those who come
//! after them. The choice for everybody stays what it is: whoever names no model gets that one.

use std::time::Duration;

use aico_bus::{Request, Responder};
use aico_contracts::ids::{ModelId, PersonId};
use aico_contracts::topics;
use aico_contracts::v1::model_state::Status;
use aico_contracts::v1::{self, Fault, Priority};

use super::MANAGER;
use super::files::Presence;
use super::manager::{Manager, presence, registry_fault};
use super::memory;
use super::registry::ModelRecord;
use super::requests::chats;
use super::room::{Awaited, Room};
use super::slot::Slot;
use crate::backend::{Asker, Capability};
use crate::batch::queue::rank;
use crate::clock;
use crate::router::BackendModel;

/// How often it is looked whether there is room.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a model that could not be loaded is left out.
const LEFT_OUT: Duration = Duration::from_secs(10 * 60);
/// How old the lists of the programs beside us may be when a model is looked for.
const LISTED: Duration = Duration::from_secs(60);
/// Names of models in one question.
const MOST: usize = 256;

/// A question for a model that waits to be answered.
pub(super) enum Wish {
    /// For the first of these that can be had.
    Prepare(Prepare),
    /// For the one that is chosen for everybody.
    State(Request),
    /// For that one too, by the manager itself.
    Load,
}

/// One that says what it wants.
pub(super) struct Prepare {
    back: Responder,
    asked: v1::PrepareModel,
    /// The place that it was told last.
    told: Option<u32>,
    /// The model of our own engine that it waits for, once that was looked up.
    waits_for: Option<(ModelId, String)>,
    looked_up: bool,
}

impl Prepare {
    /// Tells how many are before it, where that is wanted and has changed. Never waits: whoever does
    /// not take what came before hears it at the next look.
    async fn tell(&mut self, before: u32) {
        if self.back.request().purpose != topics::PLACES || self.told == Some(before) {
            return;
        }
        let place = v1::PreparedModel {
            waiting: Some(before),
            ..v1::PreparedModel::default()
        };
        let sent = tokio::time::timeout(Duration::ZERO, self.back.send(place)).await;
        if matches!(sent, Ok(Ok(()))) {
            self.told = Some(before);
        }
    }
}

impl Wish {
    fn wanted(&self) -> &[String] {
        match self {
            Self::Prepare(prepare) => &prepare.asked.wanted,
            Self::State(_) | Self::Load => &[],
        }
    }

    /// What it came in; `None`: nobody asked for it.
    fn envelope(&self) -> Option<&v1::Envelope> {
        match self {
            Self::Prepare(prepare) => Some(prepare.back.request()),
            Self::State(request) => Some(&request.envelope),
            Self::Load => None,
        }
    }

    /// The question that it is for; `None`: there is none, or it is counted where it came in.
    pub(super) fn question(&self) -> Option<&v1::Envelope> {
        // What makes vectors asks here itself.
        self.envelope()
            .filter(|envelope| &*envelope.sender != MANAGER)
    }

    /// The model that its question waits for, as far as that is known; `active` is the one that is
    /// chosen for everybody.
    pub(super) fn waits_for<'a>(
        &'a self,
        active: Option<&'a ModelRecord>,
    ) -> Option<(ModelId, &'a str)> {
        self.question()?;
        match self {
            Self::Prepare(prepare) => {
                let waits_for = prepare.waits_for.as_ref();
                waits_for.map(|(id, name)| (*id, name.as_str()))
            }
            Self::State(_) => active.map(|model| (model.id, model.name.as_str())),
            Self::Load => None,
        }
    }

    /// The first of the names, where nothing else may come in its place.
    fn only(&self) -> Option<&str> {
        match self {
            Self::Prepare(prepare) if prepare.asked.only => {
                prepare.asked.wanted.first().map(String::as_str)
            }
            Self::Prepare(_) | Self::State(_) | Self::Load => None,
        }
    }

    /// On whose behalf a program beside us would be asked.
    fn asker(&self) -> Asker {
        let person = self.envelope().map(|envelope| &envelope.person[..]);
        Asker {
            person: person.and_then(|person| PersonId::from_slice(person).ok()),
        }
    }

    fn priority(&self) -> Priority {
        let envelope = self.envelope();
        envelope.map_or(Priority::Normal, v1::Envelope::priority)
    }

    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool {
        match self {
            Self::Prepare(prepare) => prepare.back.is_cancelled(),
            Self::State(request) => request.is_cancelled(),
            Self::Load => false,
        }
    }

    fn reply(self, state: v1::ModelState, starter: bool, missing: Vec<String>) {
        match self {
            Self::State(request) => request.reply(state),
            Self::Prepare(prepare) => prepare.back.end(v1::PreparedModel {
                state: Some(state),
                starter,
                missing,
                waiting: None,
            }),
            Self::Load => {}
        }
    }

    fn fault(self, fault: Fault) {
        match self {
            Self::State(request) => request.fault(fault),
            Self::Prepare(prepare) => prepare.back.fault(fault),
            Self::Load => tracing::warn!(code = fault.code, "No model could be loaded."),
        }
    }
}

/// What a wish comes to.
enum Target {
    Own(ModelRecord),
    Beside(BackendModel),
    /// It, and no other, was asked for.
    Refused(Fault),
    Nothing,
}

impl Manager {
    pub(super) async fn prepare(&mut self, request: Request) {
        let wish = match request.decode::<v1::PrepareModel>() {
            Ok(asked) if asked.wanted.len() > MOST => {
                return request.fault(Fault::too_long("Too many models are named"));
            }
            Ok(asked) => Wish::Prepare(Prepare {
                back: request.stream(),
                asked,
                told: None,
                waits_for: None,
                looked_up: false,
            }),
            Err(fault) => return request.fault(fault),
        };
        let backends = self.router.backends.clone();
        if wish.wanted().is_empty() || backends.is_empty() || backends.are_fresh(LISTED) {
            return self.wish(wish).await;
        }
        let later = self.later.0.clone();
        self.transfers.spawn(async move {
            backends.refresh(LISTED).await;
            let _stopped = later.send(wish).await;
        });
    }

    pub(super) async fn wish(&mut self, wish: Wish) {
        // The usual case, between a question and its answer: nothing is read for it.
        if wish.wanted().is_empty()
            && self.wishes.is_empty()
            && self.router.chosen.get().is_none()
            && let Some(active) = self.active.as_ref().map(|model| model.id)
            && let Some(slot) = self.slots.iter_mut().find(|slot| slot.model.id == active)
            && !slot.may_pass()
        {
            slot.grant();
            let (state, starter) = (slot.state(), slot.model.starter);
            self.note_waiter(&wish, &state);
            return wish.reply(state, starter, Vec::new());
        }
        let urgency = rank(wish.priority());
        let at = self
            .wishes
            .partition_point(|other| rank(other.priority()) >= urgency);
        self.wishes.insert(at, wish);
        self.grant_wishes().await;
    }

    /// Answers those that wait, as far as they can be answered now, and has others give way to the
    /// first that can't. Packages have what is left.
    pub(super) async fn grant_wishes(&mut self) {
        let awaited = self.answer_wishes().await;
        self.look_up().await;
        self.router.table.set_awaited(awaited);
        self.admit().await;
        // Where only a process has to end it is a matter of seconds.
        if awaited.is_some() {
            // After the state, whose line on a terminal it takes.
            self.tell();
            self.tell_places().await;
        }
    }

    /// Tells those that wait until others have been answered how many are before them.
    async fn tell_places(&mut self) {
        let mut before = 0;
        for wish in &mut self.wishes {
            if let Wish::Prepare(prepare) = wish {
                prepare.tell(before).await;
            }
            // The manager's own is nobody's question.
            before += u32::from(!matches!(wish, Wish::Load));
        }
    }

    /// Tells how urgent the one is that waits until others have been answered. While the first waits
    /// for a model that is on its way out, those for models that are there are answered before it:
    /// they take nothing from it. While it waits for others' answers, they would.
    async fn answer_wishes(&mut self) -> Option<Priority> {
        self.look_again = None;
        self.awaited = None;
        // Nobody has to go for one that was given up.
        self.wishes.retain(|wish| !wish.is_given_up());
        let mut at = 0;
        while let Some(wish) = self.wishes.get(at) {
            let models = match self.registry.list().await {
                Ok(models) => models,
                Err(error) => {
                    let fault = registry_fault(&error);
                    if let Some(wish) = self.wishes.remove(at) {
                        wish.fault(fault);
                    }
                    continue;
                }
            };
            let (target, missing) = self.target(&models, wish).await;
            let named = missing.len() < wish.wanted().len();
            let priority = wish.priority();
            self.note_active(&models);
            let (state, starter) = match target {
                Target::Refused(fault) => {
                    if let Some(wish) = self.wishes.remove(at) {
                        wish.fault(fault);
                    }
                    continue;
                }
                Target::Nothing => (self.no_model(), false),
                Target::Beside(model) => {
                    self.note_beside(&model);
                    (model.state(None), false)
                }
                Target::Own(model) if self.awaited.is_some() && !self.is_ready(model.id) => {
                    at += 1;
                    continue;
                }
                Target::Own(model) => {
                    let starter = model.starter;
                    let config = &self.parts.config;
                    let awaited = Awaited {
                        id: model.id,
                        name: model.name.clone(),
                        need: memory::need(&model, config.context, config.sequences),
                    };
                    match self.ready_or_loading(model, named, priority).await {
                        Some(state) => (state, starter),
                        None => {
                            self.awaited = Some(awaited);
                            self.look_again = Some(clock::now() + LOOK_AGAIN);
                            if !self.is_anyone_going() {
                                return Some(priority);
                            }
                            at += 1;
                            continue;
                        }
                    }
                }
            };
            // Who hears of it finds it told everywhere, and is let in.
            let wish = self.wishes.remove(at);
            if let Some(wish) = &wish {
                self.note_waiter(wish, &state);
            }
            self.tell();
            self.router.table.set_awaited(None);
            if let Some(wish) = wish {
                wish.reply(state, starter, missing);
            }
        }
        None
    }

    /// Whoever is told that their model is being loaded waits for that.
    fn note_waiter(&mut self, wish: &Wish, state: &v1::ModelState) {
        if state.status() != Status::Starting {
            return;
        }
        let mut slots = self.slots.iter_mut();
        if let Some(question) = wish.question()
            && let Some(slot) = slots.find(|slot| slot.model.id.as_bytes()[..] == state.model[..])
        {
            slot.waiters.note(question);
        }
    }

    /// Looks up which models those wait for that have come, once for each.
    async fn look_up(&mut self) {
        let is_new = |wish: &Wish| matches!(wish, Wish::Prepare(prepare) if !prepare.looked_up);
        if !self.wishes.iter().any(is_new) {
            return;
        }
        let Ok(models) = self.registry.list().await else {
            return;
        };
        for at in 0..self.wishes.len() {
            let Some(wish) = self.wishes.get(at).filter(|wish| is_new(wish)) else {
                continue;
            };
            let found = match self.target(&models, wish).await {
                (Target::Own(model), _) => Some((model.id, model.name)),
                _ => None,
            };
            if let Some(Wish::Prepare(prepare)) = self.wishes.get_mut(at) {
                prepare.waits_for = found;
                prepare.looked_up = true;
            }
        }
    }

    fn is_ready(&self, model: ModelId) -> bool {
        let slot = self.slot_of(model);
        slot.is_some_and(|slot| slot.status == Status::Ready)
    }

    fn no_model(&mut self) -> v1::ModelState {
        let fault = Fault::new("no-model", "No model is chosen")
            .with_what_to_do("Choose one: `aico model list`, `aico model use`.");
        self.nothing = Some(fault.clone());
        v1::ModelState {
            status: Status::Failed.into(),
            fault: Some(fault),
            ..v1::ModelState::default()
        }
    }

    /// The state of this model, which is loaded for it if it was not; `None` while there is no
    /// room.
    async fn ready_or_loading(
        &mut self,
        model: ModelRecord,
        named: bool,
        priority: Priority,
    ) -> Option<v1::ModelState> {
        let may_pass = self.slot_of(model.id).is_some_and(Slot::may_pass);
        let again = !self.is_left_out(&model) && (may_pass || !model.active);
        let slot = self.slots.iter_mut().find(|slot| slot.model.id == model.id);
        if let Some(slot) = slot
            && (slot.status != Status::Failed || !again)
        {
            slot.grant();
            if named {
                slot.name();
            }
            return Some(slot.state());
        }
        // A file that can't be loaded makes nobody go, and the start tells what is wrong with it.
        let there = matches!(presence(&model).await, Presence::Same | Presence::Touched);
        if there || model.starter {
            match self.make_room(&model, priority).await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(fault) => {
                    let slot = self.slots.iter_mut().find(|slot| slot.model.id == model.id);
                    if let Some(slot) = slot.filter(|slot| slot.is_short()) {
                        // Still so, with the figures of now.
                        slot.fault = Some(fault);
                        return Some(slot.state());
                    }
                }
            }
        }
        let id = model.id;
        self.load(model).await;
        let slot = self.slots.iter_mut().find(|slot| slot.model.id == id)?;
        slot.grant();
        if named {
            slot.name();
        }
        Some(slot.state())
    }

    /// The first of these that can be had, else the one that is chosen for everybody; and those
    /// that were passed over.
    async fn target(&self, models: &[ModelRecord], wish: &Wish) -> (Target, Vec<String>) {
        let asker = wish.asker();
        let mut missing = Vec::new();
        for name in wish.wanted() {
            let mut found = called(models, name);
            // Of several builds of one model the one that is in memory already.
            found.sort_by_key(|model| (self.slot_of(model.id).is_none(), !model.active));
            for model in found {
                // One that makes vectors is asked for by its id.
                let meant = model.id.to_string() == *name || chats(model);
                if meant && self.can_be_had(model).await {
                    return (Target::Own(model.clone()), missing);
                }
            }
            for model in self.router.backends.wanted(name, Capability::Chat) {
                if model.can_be_had_by(&asker).await {
                    return (Target::Beside(model), missing);
                }
            }
            missing.push(name.clone());
        }
        if let Some(name) = wish.only() {
            let why = self.why_not(models, name, &asker).await;
            return (Target::Refused(why), missing);
        }
        if let Some(chosen) = self.router.chosen.get() {
            if chosen.can_be_had_by(&asker).await {
                return (Target::Beside(chosen), missing);
            }
            // The last one of our own that was chosen takes its place, and that is told.
            missing.push(chosen.name);
        }
        let active = models.iter().find(|model| model.active).cloned();
        (active.map_or(Target::Nothing, Target::Own), missing)
    }

    pub(super) fn is_left_out(&self, model: &ModelRecord) -> bool {
        let failed = self.failed.get(&model.id);
        failed.is_some_and(|at| clock::now() - *at < LEFT_OUT)
    }

    async fn can_be_had(&self, model: &ModelRecord) -> bool {
        let slot = self.slot_of(model.id);
        if slot.is_some_and(|slot| slot.process_id() != 0) {
            return true;
        }
        if self.is_left_out(model) {
            return false;
        }
        let there = match presence(model).await {
            Presence::Same | Presence::Touched => true,
            Presence::Changed | Presence::Missing => model.starter,
        };
        let room = self.room_for(model, Priority::Background);
        there && !matches!(room.await, Room::Never(_))
    }
}

/// Those that somebody may mean by this name or id.
pub(super) fn called<'a>(models: &'a [ModelRecord], name: &str) -> Vec<&'a ModelRecord> {
    models
        .iter()
        .filter(|model| model.is_called(name))
        .collect()
}

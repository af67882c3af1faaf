//! Room for one more, be it a model that converses or a package for texts: whether there is, and
//! who goes for it.
//!
//! Least recently used first, whichever kind it is; never one that answers, is being loaded or was
//! promised to somebody, and never a pinned one. Where the idle ones do not suffice, packages that
//! do less urgent work stop between two pieces: a pile of that would keep everybody else out for
//! ever. The manager decides, one after the other: whoever it let in counts from then on with all
//! that it needs, and nobody else is given that.

use std::sync::Arc;

use aico_contracts::ids::ModelId;
use aico_contracts::v1::{Fault, Priority};
use tokio::time::Instant;

use super::manager::Manager;
use super::memory::{self, gib};
use super::places::Entry;
use super::prepare::LOOK_AGAIN;
use super::registry::ModelRecord;
use super::slot::Slot;
use crate::batch::queue::rank;
use crate::clock;

/// What takes memory. Of each kind there may be so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A model with a slot.
    Model,
    Package,
}

/// Who is in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// The number of a slot.
    Slot(u32),
    /// The name of a package.
    Package(String),
}

impl Holder {
    fn kind(&self) -> Kind {
        match self {
            Self::Slot(_) => Kind::Model,
            Self::Package(_) => Kind::Package,
        }
    }
}

/// One that is in memory.
#[derive(Debug, Clone)]
pub(super) struct Resident {
    pub(super) who: Holder,
    pub(super) name: String,
    /// What it takes, as estimated before it was loaded.
    pub(super) need: u64,
    /// What of that the system counts as taken already. The pages of a model file it counts as
    /// free, and they are not while somebody is answered from them.
    pub(super) taken: u64,
    pub(super) used: Instant,
    pub(super) pinned: bool,
    /// It can't go now.
    pub(super) busy: bool,
    /// Though it stops for what is more urgent than this.
    pub(super) work: Option<Priority>,
    /// It is on its way out.
    pub(super) going: bool,
}

/// One more that is to be in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    /// Bytes.
    pub(super) need: u64,
    /// So many of its kind may be in memory.
    pub(super) most: usize,
    pub(super) urgency: Priority,
}

/// The model that the first question waits to have room for.
pub(super) struct Awaited {
    pub(super) id: ModelId,
    pub(super) name: String,
    pub(super) need: u64,
}

/// What there is to do for one more.
#[derive(Debug, PartialEq)]
pub(super) enum Room {
    /// These go, in this order; none where there is room as it is.
    After(Vec<Holder>),
    /// Others have to come to an end first.
    Later,
    /// It does not fit, whoever goes.
    Never(Fault),
}

/// Decides, where `available` bytes are free by the system's word.
pub(super) fn room(wanted: &Wanted, available: Option<u64>, inside: &[Resident]) -> Room {
    let claimed = claimed(inside);
    let is_like = |one: &Resident| one.who.kind() == wanted.kind;
    let alike = inside.iter().filter(|one| is_like(one)).count();
    let most = wanted.most.max(1);
    let fits = |gone: &[&Resident]| {
        let back: u64 = gone.iter().map(|one| one.need.max(one.taken)).sum();
        let stay = alike - gone.iter().filter(|one| is_like(one)).count();
        // Sums and no difference: what is promised can be more than what is free.
        let enough = |free: u64| free.saturating_add(back) >= claimed.saturating_add(wanted.need);
        stay < most && available.is_none_or(enough)
    };
    let stops = |work: Priority| rank(work) < rank(wanted.urgency);
    let mut idle: Vec<_> = inside
        .iter()
        .filter(|one| !one.pinned && (!one.busy || one.work.is_some_and(stops)))
        .collect();
    // Nobody stops work where those that have none, or less urgent work, suffice.
    idle.sort_by_key(|one| (one.busy, one.work.map_or(0, rank), one.used));
    // There will be room for somebody by those that go already.
    let going: Vec<_> = inside.iter().filter(|one| one.going).collect();
    let staying = alike - going.iter().filter(|one| is_like(one)).count();
    // Where their number is what it lacks, only one of its kind helps.
    let mut over = (staying + 1).saturating_sub(most);
    let (first, others): (Vec<_>, Vec<_>) = idle.into_iter().partition(|one| {
        let goes_first = over > 0 && is_like(one);
        over -= usize::from(goes_first);
        goes_first
    });
    let idle = [first, others].concat();
    if fits(&[]) {
        return Room::After(Vec::new());
    }
    for count in 0..=idle.len() {
        let next = &idle[..count];
        if fits(&[&going, next].concat()) {
            return match next {
                // Nobody else has to.
                [] => Room::Later,
                next => Room::After(next.iter().map(|one| one.who.clone()).collect()),
            };
        }
    }
    let movable: Vec<_> = inside.iter().filter(|one| !one.pinned).collect();
    if fits(&movable) {
        return Room::Later;
    }
    let free = available.map(|bytes| bytes.saturating_sub(claimed));
    Room::Never(refusal(wanted, free, inside))
}

/// What those in memory will take beyond what they have.
fn claimed(inside: &[Resident]) -> u64 {
    let of_one = |one: &Resident| one.need.saturating_sub(one.taken);
    inside.iter().map(of_one).sum()
}

fn refusal(wanted: &Wanted, free: Option<u64>, inside: &[Resident]) -> Fault {
    let (need, most) = (wanted.need, wanted.most.max(1));
    let pinned: Vec<_> = inside.iter().filter(|one| one.pinned).collect();
    let movable: u64 = inside
        .iter()
        .filter(|one| !one.pinned)
        .map(|one| one.need.max(one.taken))
        .sum();
    // Packages are not pinned, and none lacks a place for those that are.
    if wanted.kind == Kind::Model && pinned.len() >= most {
        return Fault::new("model-too-large", "All places for models are taken")
            .with_detail(format!(
                "{most} may be in memory at once, and these are pinned: {}.",
                listed(&pinned)
            ))
            .with_what_to_do(
                "Let one of them go (`aico model unpin NAME`), or set models.loaded higher.",
            );
    }
    let free = free.unwrap_or(0);
    let mut detail = format!("It needs about {}, {} are free", gib(need), gib(free));
    if movable > 0 {
        let all = free.saturating_add(movable);
        detail.push_str(&format!(
            ", {} when the models that are loaded are gone",
            gib(all)
        ));
    }
    detail.push('.');
    let mut what = match wanted.kind {
        Kind::Model => "Close other programs, choose a smaller model, or set a smaller context.",
        Kind::Package => "Close other programs, or choose a smaller model.",
    }
    .to_owned();
    if !pinned.is_empty() {
        detail.push_str(&format!(" Pinned: {}.", listed(&pinned)));
        what = format!("Let a pinned model go (`aico model unpin NAME`). {what}");
    }
    Fault::new("model-too-large", "The model does not fit into memory")
        .with_detail(detail)
        .with_what_to_do(what)
}

fn listed(models: &[&Resident]) -> String {
    let told: Vec<_> = models
        .iter()
        .map(|one| format!("{} ({})", one.name, gib(one.need)))
        .collect();
    told.join(", ")
}

impl Manager {
    /// All that take memory or are about to, and their processes (0: none yet).
    pub(super) fn inside(&self) -> Vec<(u32, Resident)> {
        let of_slot = |slot: &Slot| {
            let resident = Resident {
                who: Holder::Slot(slot.number),
                name: slot.model.name.clone(),
                need: slot.need,
                taken: 0,
                used: slot.used(),
                pinned: slot.model.pinned,
                busy: slot.is_busy(),
                // Less urgent questions are kept from it by the table.
                work: None,
                going: false,
            };
            (slot.process_id(), resident)
        };
        let slots = self.slots.iter().filter(|slot| slot.is_inside());
        let leaving = self.leaving.values().map(|leaving| {
            let resident = Resident {
                who: Holder::Slot(leaving.number),
                name: leaving.name.clone(),
                need: leaving.need,
                taken: 0,
                used: clock::now(),
                pinned: false,
                busy: true,
                work: None,
                going: true,
            };
            (leaving.process_id, resident)
        });
        let mut inside: Vec<_> = slots.map(of_slot).chain(leaving).collect();
        inside.extend(self.entrance.places.inside());
        inside
    }

    /// Whether somebody is on the way out.
    pub(super) fn is_anyone_going(&self) -> bool {
        self.inside().iter().any(|(_, one)| one.going)
    }

    /// What there is to do for this model to be loaded, where that is so urgent.
    pub(super) async fn room_for(&self, model: &ModelRecord, urgency: Priority) -> Room {
        let config = &self.parts.config;
        let wanted = Wanted {
            kind: Kind::Model,
            need: memory::need(model, config.context, config.sequences),
            most: usize::try_from(config.loaded).unwrap_or(usize::MAX),
            urgency,
        };
        let own = self.slot_of(model.id).map(|slot| Holder::Slot(slot.number));
        let mut inside = self.inside();
        // A process of it that still ends takes memory as those of others do.
        inside.retain(|(_, one)| one.going || Some(&one.who) != own.as_ref());
        self.room_among(wanted, inside).await
    }

    async fn room_for_package(&self, entry: &Entry) -> Room {
        let wanted = Wanted {
            kind: Kind::Package,
            need: entry.need,
            most: self.entrance.places.most(),
            urgency: entry.urgency,
        };
        let mut inside = self.inside();
        // It takes nothing from a question that waits for room.
        inside.extend(self.awaited.iter().map(|awaited| {
            let resident = Resident {
                who: Holder::Slot(u32::MAX),
                name: awaited.name.clone(),
                need: awaited.need,
                taken: 0,
                used: clock::now(),
                pinned: false,
                busy: true,
                work: None,
                going: false,
            };
            (0, resident)
        }));
        self.room_among(wanted, inside).await
    }

    async fn room_among(&self, wanted: Wanted, mut inside: Vec<(u32, Resident)>) -> Room {
        let probe = Arc::clone(&self.parts.config.memory);
        let looked = tokio::task::spawn_blocking(move || {
            for (process, resident) in &mut inside {
                let usage = match process {
                    0 => None,
                    process => probe.process(*process),
                };
                resident.taken = usage.map_or(0, |usage| usage.anonymous);
            }
            let inside: Vec<_> = inside.into_iter().map(|(_, resident)| resident).collect();
            room(&wanted, probe.available(), &inside)
        });
        looked.await.unwrap_or(Room::Later)
    }

    /// Makes room for a model, where that is so urgent. False: not now.
    pub(super) async fn make_room(
        &mut self,
        model: &ModelRecord,
        urgency: Priority,
    ) -> Result<bool, Fault> {
        let going = match self.room_for(model, urgency).await {
            Room::After(going) => going,
            Room::Later => return Ok(false),
            Room::Never(fault) => return Err(fault),
        };
        self.send_away(&going, urgency);
        // There is room when they are gone.
        Ok(going.is_empty())
    }

    fn send_away(&mut self, going: &[Holder], urgency: Priority) {
        for one in going {
            if self.unload_one(one, urgency) {
                tracing::info!(who = ?one, "It was unloaded to make room for another.");
            }
        }
    }

    /// Has it leave for what is so urgent. False: it is being asked.
    pub(super) fn unload_one(&mut self, who: &Holder, urgency: Priority) -> bool {
        match who {
            Holder::Slot(number) => self.unload(*number),
            Holder::Package(name) => self.entrance.places.send_away(name, urgency),
        }
    }

    /// Lets packages in, in the order in which they wait.
    pub(super) async fn admit(&mut self) {
        while let Some(entry) = self.entrance.waiting.pop_front() {
            if entry.is_given_up() {
                continue;
            }
            match self.room_for_package(&entry).await {
                Room::Never(fault) => entry.refuse(fault),
                Room::After(going) if going.is_empty() => self.entrance.let_in(entry),
                // Not while somebody makes room, which ends with the piece that they are at.
                _ if entry.is_over() && !self.is_anyone_going() => entry.refuse_busy(),
                waits => {
                    if let Room::After(going) = waits {
                        self.send_away(&going, entry.urgency);
                    }
                    self.entrance.waiting.push_front(entry);
                    let again = || clock::now() + LOOK_AGAIN;
                    self.look_again.get_or_insert_with(again);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn inside(slot: u32, gibs: u64, used_s: u64, begun: Instant) -> Resident {
        Resident {
            who: Holder::Slot(slot),
            name: format!("m{slot}"),
            need: gibs * GIB,
            taken: 0,
            used: begun + Duration::from_secs(used_s),
            pinned: false,
            busy: false,
            work: None,
            going: false,
        }
    }

    fn package(name: &str, gibs: u64, used_s: u64, begun: Instant) -> Resident {
        Resident {
            who: Holder::Package(name.to_owned()),
            ..inside(0, gibs, used_s, begun)
        }
    }

    fn wanted(kind: Kind, need: u64, most: usize) -> Wanted {
        Wanted {
            kind,
            need,
            most,
            urgency: Priority::Normal,
        }
    }

    /// For a model.
    fn room(need: u64, available: Option<u64>, most: usize, inside: &[Resident]) -> Room {
        super::room(&wanted(Kind::Model, need, most), available, inside)
    }

    fn after(slots: &[u32]) -> Room {
        Room::After(slots.iter().copied().map(Holder::Slot).collect())
    }

    #[test]
    fn too_large_a_model_is_refused_with_the_figures() {
        let Room::Never(fault) = room(5 * GIB, Some(3 << 29), 2, &[]) else {
            panic!("it was not refused");
        };
        assert_eq!(fault.code, "model-too-large");
        assert_eq!(fault.detail, "It needs about 5.0 GiB, 1.5 GiB are free.");
        assert_eq!(room(5 * GIB, Some(5 * GIB), 2, &[]), after(&[]));
        // Where the system does not tell, it is tried.
        assert_eq!(room(u64::MAX, None, 2, &[]), after(&[]));
    }

    #[test]
    fn the_least_recently_used_goes_first_and_no_more_than_needed() {
        let begun = Instant::now();
        let two = [inside(0, 4, 9, begun), inside(1, 2, 3, begun)];
        // By the number of places.
        assert_eq!(room(GIB, None, 2, &two), after(&[1]));
        assert_eq!(room(GIB, None, 3, &two), after(&[]));
        // By memory: 10 are free by the system's word, which counts nothing of the 6.
        let free = Some(10 * GIB);
        assert_eq!(room(4 * GIB, free, 9, &two), after(&[]));
        assert_eq!(room(5 * GIB, free, 9, &two), after(&[1]));
        assert_eq!(room(7 * GIB, free, 9, &two), after(&[1, 0]));
        let Room::Never(fault) = room(11 * GIB, free, 9, &two) else {
            panic!("it was not refused");
        };
        assert_eq!(
            fault.detail,
            "It needs about 11.0 GiB, 4.0 GiB are free, 10.0 GiB when the models that are \
             loaded are gone."
        );
    }

    #[test]
    fn what_the_system_counts_as_taken_is_not_counted_twice() {
        let mut one = inside(0, 4, 0, Instant::now());
        one.taken = 3 * GIB;
        // Of 10, one more will be taken by the first.
        assert_eq!(room(9 * GIB, Some(10 * GIB), 2, &[one.clone()]), after(&[]));
        assert_eq!(room(10 * GIB, Some(10 * GIB), 2, &[one]), after(&[0]));
    }

    #[test]
    fn one_that_answers_is_waited_for_and_a_pinned_one_stays() {
        let begun = Instant::now();
        let mut two = [inside(0, 4, 9, begun), inside(1, 2, 3, begun)];
        two[1].busy = true;
        assert_eq!(room(GIB, None, 2, &two), after(&[0]));
        two[0].pinned = true;
        assert_eq!(room(GIB, None, 2, &two), Room::Later);
        two[1].pinned = true;
        let full = room(GIB, None, 2, &two);
        let Room::Never(fault) = full else {
            panic!("it was not refused")
        };
        assert_eq!(fault.title, "All places for models are taken");
        assert!(fault.detail.contains("m0 (4.0 GiB), m1 (2.0 GiB)"));
        // Memory that pinned ones hold is told as such.
        two[1].pinned = false;
        two[1].busy = false;
        let large = room(8 * GIB, Some(7 * GIB), 3, &two);
        let Room::Never(fault) = large else {
            panic!("it was not refused")
        };
        assert_eq!(fault.code, "model-too-large");
        assert!(fault.detail.ends_with("Pinned: m0 (4.0 GiB)."));
        assert!(fault.what_to_do.contains("aico model unpin"));
    }

    #[test]
    fn of_models_and_packages_the_one_used_longest_ago_goes() {
        let begun = Instant::now();
        let reader = Holder::Package("reader".into());
        let mut three = [
            inside(0, 2, 5, begun),
            package("reader", 3, 1, begun),
            package("finder", 1, 9, begun),
        ];
        let free = Some(8 * GIB);
        assert_eq!(
            room(3 * GIB, free, 2, &three),
            Room::After(vec![reader.clone()])
        );
        let both = vec![reader.clone(), Holder::Slot(0)];
        assert_eq!(room(6 * GIB, free, 2, &three), Room::After(both.clone()));
        let one_more = wanted(Kind::Package, 6 * GIB, 4);
        assert_eq!(super::room(&one_more, free, &three), Room::After(both));
        // A place for a model gets free by a model.
        assert_eq!(room(GIB, free, 1, &three), after(&[0]));
        let both = vec![Holder::Slot(0), reader.clone()];
        assert_eq!(room(6 * GIB, free, 1, &three), Room::After(both));
        let one_more = wanted(Kind::Package, GIB, 2);
        assert_eq!(
            super::room(&one_more, free, &three),
            Room::After(vec![reader])
        );
        // Nobody else has to go while somebody does.
        three[1].busy = true;
        three[1].going = true;
        assert_eq!(room(3 * GIB, free, 2, &three), Room::Later);
        let pinned = [Resident {
            pinned: true,
            ..inside(0, 7, 0, begun)
        }];
        let one_more = wanted(Kind::Package, 2 * GIB, 1);
        let Room::Never(fault) = super::room(&one_more, free, &pinned) else {
            panic!("it was not refused");
        };
        assert_eq!(fault.title, "The model does not fit into memory");
    }

    #[test]
    fn a_package_that_does_less_urgent_work_stops_where_the_idle_ones_do_not_suffice() {
        use Priority::{Background, Interactive, Normal, Unspecified};

        let begun = Instant::now();
        let reader = Holder::Package("reader".into());
        let mut three = [
            inside(0, 4, 9, begun),
            package("reader", 3, 1, begun),
            inside(1, 2, 5, begun),
        ];
        three[1].busy = true;
        three[1].work = Some(Background);
        three[2].busy = true;
        let ask = |need: u64, most: usize, urgency: Priority, inside: &[Resident]| {
            let wanted = Wanted {
                urgency,
                ..wanted(Kind::Model, need, most)
            };
            super::room(&wanted, Some(10 * GIB), inside)
        };
        assert_eq!(ask(5 * GIB, 9, Interactive, &three), after(&[0]));
        let both = Room::After(vec![Holder::Slot(0), reader]);
        for urgency in [Unspecified, Normal, Interactive] {
            assert_eq!(ask(6 * GIB, 9, urgency, &three), both);
        }
        // What is as urgent waits for it, as ever.
        assert_eq!(ask(6 * GIB, 9, Background, &three), Room::Later);
        three[1].work = Some(Interactive);
        assert_eq!(ask(6 * GIB, 9, Interactive, &three), Room::Later);
        // Nobody stops where that alone does not help.
        three[1].work = Some(Background);
        assert_eq!(ask(9 * GIB, 9, Interactive, &three), Room::Later);
        three[0].busy = true;
        assert_eq!(ask(GIB, 2, Interactive, &three), Room::Later);
        // Nor where more is promised already than is free.
        three[0].need = 9 * GIB;
        assert_eq!(ask(2 * GIB, 9, Interactive, &three), Room::Later);
        // While it is at its last piece, an idle one goes where it alone does not make the room.
        three[0] = inside(0, 4, 9, begun);
        three[1].work = None;
        three[1].going = true;
        assert_eq!(ask(GIB, 2, Interactive, &three), after(&[0]));
        assert_eq!(ask(4 * GIB, 9, Interactive, &three), Room::Later);
        assert_eq!(ask(6 * GIB, 9, Interactive, &three), after(&[0]));
    }

    #[test]
    fn of_packages_that_work_the_least_urgent_one_stops() {
        let begun = Instant::now();
        let works = |name: &str, used_s: u64, work: Priority| Resident {
            busy: true,
            work: Some(work),
            ..package(name, 4, used_s, begun)
        };
        let two = [
            works("normal", 1, Priority::Normal),
            works("background", 2, Priority::Background),
        ];
        let person = Wanted {
            urgency: Priority::Interactive,
            ..wanted(Kind::Model, 4 * GIB, 9)
        };
        let stops = vec![Holder::Package("background".into())];
        assert_eq!(
            super::room(&person, Some(9 * GIB), &two),
            Room::After(stops)
        );
    }
}

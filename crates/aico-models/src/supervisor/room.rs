//! Room for one more model: whether there is, and who goes for it.
//!
//! Least recently used first; never one that answers, is being loaded or was promised to
//! somebody, and never a pinned one.

use aico_contracts::v1::Fault;
use tokio::time::Instant;

use super::memory::gib;

/// A model that is in memory.
#[derive(Debug, Clone)]
pub(super) struct Resident {
    pub(super) slot: u32,
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
}

/// What there is to do for one more.
#[derive(Debug, PartialEq)]
pub(super) enum Room {
    /// These go, in this order; none where there is room as it is.
    After(Vec<u32>),
    /// Others have to come to an end first.
    Later,
    /// It does not fit, whoever goes.
    Never(Fault),
}

/// Decides, for a model that needs so much where `available` bytes are free by the system's word
/// and at most `most` models may be in memory.
pub(super) fn room(need: u64, available: Option<u64>, most: usize, inside: &[Resident]) -> Room {
    let free = available.map(|bytes| free(bytes, inside));
    let fits = |gone: &[&Resident]| {
        let back: u64 = gone.iter().map(|one| one.need.max(one.taken)).sum();
        inside.len() - gone.len() < most.max(1)
            && free.is_none_or(|free| free.saturating_add(back) >= need)
    };
    let mut idle: Vec<_> = inside
        .iter()
        .filter(|one| !one.pinned && !one.busy)
        .collect();
    idle.sort_by_key(|one| one.used);
    for count in 0..=idle.len() {
        if fits(&idle[..count]) {
            return Room::After(idle[..count].iter().map(|one| one.slot).collect());
        }
    }
    let movable: Vec<_> = inside.iter().filter(|one| !one.pinned).collect();
    if fits(&movable) {
        return Room::Later;
    }
    Room::Never(refusal(need, free, most, inside))
}

/// What is free when those in memory have all that they need.
fn free(available: u64, inside: &[Resident]) -> u64 {
    let claimed = inside.iter().map(|one| one.need.saturating_sub(one.taken));
    available.saturating_sub(claimed.sum())
}

fn refusal(need: u64, free: Option<u64>, most: usize, inside: &[Resident]) -> Fault {
    let pinned: Vec<_> = inside.iter().filter(|one| one.pinned).collect();
    let movable: u64 = inside
        .iter()
        .filter(|one| !one.pinned)
        .map(|one| one.need.max(one.taken))
        .sum();
    if pinned.len() >= most.max(1) {
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
    let mut what =
        "Close other programs, choose a smaller model, or set a smaller context.".to_owned();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn inside(slot: u32, gibs: u64, used_s: u64, begun: Instant) -> Resident {
        Resident {
            slot,
            name: format!("m{slot}"),
            need: gibs * GIB,
            taken: 0,
            used: begun + Duration::from_secs(used_s),
            pinned: false,
            busy: false,
        }
    }

    #[test]
    fn too_large_a_model_is_refused_with_the_figures() {
        let Room::Never(fault) = room(5 * GIB, Some(3 << 29), 2, &[]) else {
            panic!("it was not refused");
        };
        assert_eq!(fault.code, "model-too-large");
        assert_eq!(fault.detail, "It needs about 5.0 GiB, 1.5 GiB are free.");
        assert_eq!(room(5 * GIB, Some(5 * GIB), 2, &[]), Room::After(vec![]));
        // Where the system does not tell, it is tried.
        assert_eq!(room(u64::MAX, None, 2, &[]), Room::After(vec![]));
    }

    #[test]
    fn the_least_recently_used_goes_first_and_no_more_than_needed() {
        let begun = Instant::now();
        let two = [inside(0, 4, 9, begun), inside(1, 2, 3, begun)];
        // By the number of places.
        assert_eq!(room(GIB, None, 2, &two), Room::After(vec![1]));
        assert_eq!(room(GIB, None, 3, &two), Room::After(vec![]));
        // By memory: 10 are free by the system's word, which counts nothing of the 6.
        let free = Some(10 * GIB);
        assert_eq!(room(4 * GIB, free, 9, &two), Room::After(vec![]));
        assert_eq!(room(5 * GIB, free, 9, &two), Room::After(vec![1]));
        assert_eq!(room(7 * GIB, free, 9, &two), Room::After(vec![1, 0]));
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
        assert_eq!(
            room(9 * GIB, Some(10 * GIB), 2, &[one.clone()]),
            Room::After(vec![])
        );
        assert_eq!(
            room(10 * GIB, Some(10 * GIB), 2, &[one]),
            Room::After(vec![0])
        );
    }

    #[test]
    fn one_that_answers_is_waited_for_and_a_pinned_one_stays() {
        let begun = Instant::now();
        let mut two = [inside(0, 4, 9, begun), inside(1, 2, 3, begun)];
        two[1].busy = true;
        assert_eq!(room(GIB, None, 2, &two), Room::After(vec![0]));
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
}

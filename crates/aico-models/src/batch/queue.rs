//! Who is next for a slot: the more urgent first; among equals the person who has fewest
//! answers running, so that nobody's pile of requests delays the others; then who came first.

use std::collections::HashMap;

use aico_contracts::ids::PersonId;
use aico_contracts::v1::Priority;

/// Something that waits.
pub(crate) trait Waiting {
    fn priority(&self) -> Priority;
    fn person(&self) -> Option<PersonId>;
    /// Smaller came earlier.
    fn arrival(&self) -> u64;
    /// Told how many are before it, when that changes.
    fn position(&mut self, before: u32);
    /// Whether it may be refused after all, for somebody who comes before it.
    fn may_go(&self) -> bool {
        true
    }
}

/// What waits, in no order: the order depends on what runs.
pub(crate) struct Queue<W> {
    waiting: Vec<W>,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
        }
    }
}

impl<W: Waiting> Queue<W> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn push(&mut self, item: W) {
        self.waiting.push(item);
    }

    /// Takes one in where at most so many may wait, and gives whoever there is no place for: of
    /// all that may go, the newcomer too, the one that would come last.
    pub(crate) fn admit(
        &mut self,
        item: W,
        most: usize,
        running: &HashMap<Option<PersonId>, usize>,
    ) -> Option<W> {
        self.waiting.push(item);
        if self.waiting.len() <= most {
            return None;
        }
        let sequence = self.sequence(running);
        let mut last = sequence.into_iter().rev();
        let last = last.find(|&index| self.waiting[index].may_go())?;
        Some(self.waiting.swap_remove(last))
    }

    /// In which order they come: each that has its turn delays the others of its person.
    fn sequence(&self, running: &HashMap<Option<PersonId>, usize>) -> Vec<usize> {
        let mut running = running.clone();
        let mut left: Vec<usize> = (0..self.waiting.len()).collect();
        let mut sequence = Vec::with_capacity(left.len());
        while let Some(at) =
            (0..left.len()).min_by_key(|&at| order(&self.waiting[left[at]], &running))
        {
            let index = left.swap_remove(at);
            *running.entry(self.waiting[index].person()).or_default() += 1;
            sequence.push(index);
        }
        sequence
    }

    /// How urgent the most urgent is.
    pub(crate) fn urgency(&self) -> Option<Priority> {
        self.waiting
            .iter()
            .map(Waiting::priority)
            .max_by_key(|priority| rank(*priority))
    }

    /// Takes the next one.
    pub(crate) fn pop(&mut self, running: &HashMap<Option<PersonId>, usize>) -> Option<W> {
        let index = (0..self.waiting.len()).min_by_key(|&i| order(&self.waiting[i], running))?;
        Some(self.waiting.swap_remove(index))
    }

    /// Takes out all that `which` names.
    pub(crate) fn remove(&mut self, mut which: impl FnMut(&W) -> bool) {
        self.waiting.retain(|item| !which(item));
    }

    /// Takes one out.
    pub(crate) fn take(&mut self, which: impl Fn(&W) -> bool) -> Option<W> {
        let index = self.waiting.iter().position(which)?;
        Some(self.waiting.swap_remove(index))
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = W> + '_ {
        self.waiting.drain(..)
    }

    /// Tells each its position.
    pub(crate) fn tell(&mut self, running: &HashMap<Option<PersonId>, usize>) {
        for (before, index) in (0..).zip(self.sequence(running)) {
            self.waiting[index].position(before);
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.waiting.iter_mut()
    }
}

fn order<W: Waiting>(
    item: &W,
    running: &HashMap<Option<PersonId>, usize>,
) -> (std::cmp::Reverse<u8>, usize, u64) {
    let theirs = running.get(&item.person()).copied().unwrap_or(0);
    (
        std::cmp::Reverse(rank(item.priority())),
        theirs,
        item.arrival(),
    )
}

/// Priorities by urgency; unspecified is normal.
pub(crate) fn rank(priority: Priority) -> u8 {
    match priority {
        Priority::Background => 0,
        Priority::Unspecified | Priority::Normal => 1,
        Priority::Interactive => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(Priority, Option<PersonId>, u64, u32);

    impl Waiting for Item {
        fn priority(&self) -> Priority {
            self.0
        }
        fn person(&self) -> Option<PersonId> {
            self.1
        }
        fn arrival(&self) -> u64 {
            self.2
        }
        fn position(&mut self, before: u32) {
            self.3 = before;
        }
    }

    #[test]
    fn urgent_first_then_whoever_has_least_running_then_who_came_first() {
        let (ann, ben) = (Some(PersonId::new()), Some(PersonId::new()));
        let mut queue = Queue::new();
        queue.push(Item(Priority::Background, ben, 0, 9));
        queue.push(Item(Priority::Interactive, ann, 1, 9));
        queue.push(Item(Priority::Interactive, ann, 2, 9));
        queue.push(Item(Priority::Interactive, ben, 3, 9));
        queue.push(Item(Priority::Unspecified, ben, 4, 9));
        let mut running = HashMap::from([(ann, 1)]);
        queue.tell(&running);
        let mut order = Vec::new();
        while let Some(item) = queue.pop(&running) {
            assert_eq!(item.3, order.len() as u32, "as it was told");
            *running.entry(item.1).or_default() += 1;
            order.push(item.2);
        }
        assert_eq!(order, [3, 1, 2, 4, 0]);
    }

    #[test]
    fn in_a_full_queue_whoever_comes_last_gives_way() {
        let (ann, ben) = (Some(PersonId::new()), Some(PersonId::new()));
        let mut queue = Queue::new();
        let running = HashMap::new();
        let mut admit = |priority, person, arrival| {
            let item = Item(priority, person, arrival, 9);
            queue.admit(item, 3, &running).map(|item| item.2)
        };
        assert_eq!(admit(Priority::Normal, ann, 0), None);
        assert_eq!(admit(Priority::Background, ann, 1), None);
        assert_eq!(admit(Priority::Normal, ann, 2), None);
        assert_eq!(admit(Priority::Background, ann, 3), Some(3), "itself");
        assert_eq!(admit(Priority::Interactive, ann, 4), Some(1));
        assert_eq!(admit(Priority::Normal, ann, 5), Some(5));
        // One person's pile keeps nobody else out.
        assert_eq!(admit(Priority::Normal, ben, 6), Some(2));
    }
}

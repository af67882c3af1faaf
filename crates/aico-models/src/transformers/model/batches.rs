//! Rows into batches, and batches onto the threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::graph::{Graph, GraphError, Lane};
use super::super::tokens::Tokens;
use super::ModelError;

/// Tokens that are computed at once, those that fill rows included.
const AT_ONCE: usize = 4096;
/// A shorter text than this part of the longest in its batch goes into the next one: what fills a
/// row takes as long as what is in it, and a batch of a few rows is as quick as a large one.
const SHORTEST: f32 = 0.9;
/// Batches for each thread, so that all of them are done at about the same time.
const EACH: usize = 3;

/// A text on its way into a batch.
pub(super) struct Row {
    /// Which of the texts that were asked for.
    pub(super) index: usize,
    pub(super) tokens: Tokens,
}

/// Rows of about one length, the longest first, and enough of them for `lanes` threads.
pub(super) fn batches(mut rows: Vec<Row>, lanes: usize) -> Vec<Vec<Row>> {
    rows.sort_by_key(|row| std::cmp::Reverse(row.tokens.ids.len()));
    let tokens: usize = rows.iter().map(|row| row.tokens.ids.len()).sum();
    let most = match lanes {
        0 | 1 => AT_ONCE,
        some => (tokens / (EACH * some)).min(AT_ONCE),
    };
    let mut all: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        let own = row.tokens.ids.len();
        match all.last_mut() {
            Some(batch)
                if (batch.len() + 1) * batch[0].tokens.ids.len() <= most
                    && own as f32 >= SHORTEST * batch[0].tokens.ids.len() as f32 =>
            {
                batch.push(row);
            }
            _ => all.push(vec![row]),
        }
    }
    all
}

/// Computes each batch by `one`, which gives something for each row, and puts that at the place of
/// its text in `items`.
///
/// Where there is a batch for each thread, each takes one after the other by itself: a batch that
/// all of them compute together makes them wait for each other at every step.
pub(super) fn each<T: Send>(
    graph: &dyn Graph,
    batches: &[Vec<Row>],
    items: &mut [T],
    one: impl Fn(&[Row], Lane) -> Result<Vec<T>, ModelError> + Sync,
) -> Result<(), ModelError> {
    let lanes = graph.lanes();
    let next = AtomicUsize::new(0);
    let work = |lane: Lane| -> Result<Vec<(usize, T)>, ModelError> {
        let mut made = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let indexes = batch.iter().map(|row| row.index);
            made.extend(indexes.zip(one(batch, lane)?));
        }
        Ok(made)
    };
    let made = if lanes < 2 || batches.len() < lanes {
        work(Lane::All)?
    } else {
        std::thread::scope(|scope| {
            let start = |lane| {
                let thread = std::thread::Builder::new().name(format!("texts-{lane}"));
                // One that can't be started leaves its part to the others.
                let work = &work;
                thread
                    .spawn_scoped(scope, move || work(Lane::One(lane)))
                    .ok()
            };
            let others: Vec<_> = (1..lanes).filter_map(start).collect();
            let mut made = work(Lane::One(0))?;
            for other in others {
                made.extend(other.join().map_err(|_| GraphError::Computing)??);
            }
            Ok::<_, ModelError>(made)
        })?
    };
    for (index, item) in made {
        items[index] = item;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::super::super::graph::{Ids, Numbers};
    use super::*;

    fn rows(lengths: &[usize]) -> Vec<Row> {
        let row = |(index, length): (usize, &usize)| Row {
            index,
            tokens: Tokens {
                ids: vec![1; *length],
                truncated: false,
                words: Vec::new(),
            },
        };
        lengths.iter().enumerate().map(row).collect()
    }

    struct Lanes(usize);

    impl Graph for Lanes {
        fn lanes(&self) -> usize {
            self.0
        }
        fn run(&self, _inputs: Vec<Ids>, _lane: Lane) -> Result<Numbers, GraphError> {
            Err(GraphError::Computing)
        }
    }

    #[test]
    fn little_is_computed_for_filling_and_every_thread_has_a_batch() {
        let lengths: Vec<usize> = (0..32).map(|n| 8 + (n * 7) % 40).collect();
        for lanes in [1, 2, 8] {
            let all = batches(rows(&lengths), lanes);
            assert!(all.len() >= lanes);
            let mut seen: Vec<usize> = all.iter().flatten().map(|row| row.index).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..32));
            let own: usize = lengths.iter().sum();
            let filled: usize = all
                .iter()
                .map(|batch| batch.len() * batch[0].tokens.ids.len())
                .sum();
            assert!(filled * 100 <= own * 107, "{filled} for {own}");
        }
        assert!(batches(Vec::new(), 2).is_empty());
        assert_eq!(batches(rows(&[3]), 8).len(), 1);
        let long = batches(rows(&[4000, 4000]), 1);
        assert_eq!(long.len(), 2, "more at once than may be");
    }

    #[test]
    fn what_is_made_comes_to_its_text_whichever_thread_makes_it() {
        let lengths: Vec<usize> = (0..50).map(|n| 1 + (n * 13) % 50).collect();
        for lanes in [1, 3, 64] {
            let used = Mutex::new(std::collections::BTreeSet::new());
            let all = batches(rows(&lengths), lanes);
            let mut items = vec![0; lengths.len()];
            each(&Lanes(lanes), &all, &mut items, |batch, lane| {
                used.lock().insert(format!("{lane:?}"));
                Ok(batch.iter().map(|row| row.tokens.ids.len()).collect())
            })
            .unwrap();
            assert_eq!(items, lengths);
            let together = used.lock().contains("All");
            assert_eq!(together, lanes == 1 || all.len() < lanes, "{lanes}");
        }
        let all = batches(rows(&lengths), 3);
        let mut items = vec![0; lengths.len()];
        let failed = each(&Lanes(3), &all, &mut items, |batch, _| {
            match batch[0].tokens.ids.len() {
                20.. => Err(GraphError::Computing.into()),
                _ => Ok(vec![1; batch.len()]),
            }
        });
        assert!(failed.is_err());
    }
}

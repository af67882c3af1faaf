//! Searching: codes for candidates, vectors for the answer.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::blocks;
use super::code::{self, Probe};
use super::{Collection, Distance, EXACT_UP_TO, Hit, Method, Query, VectorError, math};

/// Candidates for each vector that is wanted, and at the least. Measured with sentence vectors:
/// `docs/benchmarks.md`.
const OVERSAMPLING: usize = 10;
const CANDIDATES: usize = 100;

/// Something with a distance; the nearer is the lesser, and of equals the one that was there before.
#[derive(Clone, Copy)]
struct Scored {
    score: f32,
    id: i64,
}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scored {}

/// The nearest so far.
struct Nearest {
    heap: BinaryHeap<Scored>,
    limit: usize,
}

impl Nearest {
    fn new(limit: usize) -> Self {
        Self {
            heap: BinaryHeap::new(),
            limit,
        }
    }

    fn offer(&mut self, score: f32, id: i64) {
        let new = Scored { score, id };
        if self.heap.len() < self.limit {
            self.heap.push(new);
        } else if let Some(mut farthest) = self.heap.peek_mut()
            && new < *farthest
        {
            *farthest = new;
        }
    }
}

impl Collection<'_> {
    /// The nearest of those that come into question, the nearest first.
    ///
    /// # Errors
    /// Those of [`Self::put`], for the query's vector.
    pub fn search(&self, query: &Query<'_>) -> Result<Vec<Hit>, VectorError> {
        let vector = self.accept(query.vector)?;
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let among = match query.filter.lets_all() {
            true => None,
            false => Some(self.matching(&query.filter)?),
        };
        let eligible = among.as_ref().map_or(self.len() as usize, Vec::len);
        let candidates = match query.method {
            Method::Exact => usize::MAX,
            Method::Quantised { candidates } => candidates.max(query.limit),
            Method::Auto if eligible <= EXACT_UP_TO => usize::MAX,
            Method::Auto => CANDIDATES.max(query.limit.saturating_mul(OVERSAMPLING)),
        };
        let mut nearest = Nearest::new(query.limit);
        let among = match among {
            _ if candidates < eligible => {
                Some(self.candidates(&vector, among.as_deref(), candidates)?)
            }
            among => among,
        };
        match among {
            Some(ids) => {
                let sql = "SELECT value FROM vector_value WHERE id = ?1";
                let mut read = self.db.prepare_cached(sql)?;
                for id in ids {
                    let distance = read.query_row([id], |row| {
                        Ok(self.distance_to(&vector, row.get_ref(0)?.as_blob()?))
                    })?;
                    nearest.offer(distance.ok_or(VectorError::Inconsistent)?, id);
                }
            }
            None => {
                self.each_value(|id, value| {
                    let distance = self.distance_to(&vector, value);
                    nearest.offer(distance.ok_or(VectorError::Inconsistent)?, id);
                    Ok(())
                })?;
            }
        }
        self.hits(nearest)
    }

    fn hits(&self, nearest: Nearest) -> Result<Vec<Hit>, VectorError> {
        let mut read = self
            .db
            .prepare_cached("SELECT key FROM vector_item WHERE id = ?1")?;
        let hit = |found: Scored| {
            Ok::<_, VectorError>(Hit {
                key: read.query_row([found.id], |row| row.get(0))?,
                distance: match self.distance {
                    Distance::Cosine => found.score,
                    Distance::Euclidean => found.score.sqrt(),
                },
            })
        };
        nearest
            .heap
            .into_sorted_vec()
            .into_iter()
            .map(hit)
            .collect()
    }

    /// In the order of distances; the square of the one that is a length.
    fn distance_to(&self, query: &[f32], value: &[u8]) -> Option<f32> {
        (value.len() == 4 * query.len()).then(|| match self.distance {
            Distance::Cosine => (1.0 - math::dot(query, value)).max(0.0),
            Distance::Euclidean => math::squared_distance(query, value),
        })
    }

    /// Those whose codes are nearest, in the order of their ids.
    fn candidates(
        &self,
        query: &[f32],
        among: Option<&[i64]>,
        wanted: usize,
    ) -> Result<Vec<i64>, VectorError> {
        let probe = Probe::new(query, &self.centre);
        let mut nearest = Nearest::new(wanted);
        let mut among = among.map(|ids| ids.iter().copied().peekable());
        each_code(self, |id, code| {
            if let Some(ids) = &mut among {
                while ids.next_if(|next| *next < id).is_some() {}
                if ids.peek() != Some(&id) {
                    return;
                }
            }
            nearest.offer(probe.estimate(code), id);
        })?;
        // In this order neighbours in a page are read one after the other.
        let mut ids: Vec<i64> = nearest.heap.into_iter().map(|it| it.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// Hands out each code with its vector's id, in the order of these.
pub(super) fn each_code(
    collection: &Collection<'_>,
    mut take: impl FnMut(i64, &[u8]),
) -> Result<(), VectorError> {
    let (first, last) = blocks::rows(collection.id);
    let per_row = blocks::per_row(collection.dimension);
    let bytes = code::code_bytes(collection.dimension);
    let mut query = collection.db.prepare_cached(
        "SELECT id, live, codes FROM vector_code WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
    )?;
    let mut rows = query.query([first, last])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let live = row.get_ref(1)?.as_blob().unwrap_or_default();
        let codes = row.get_ref(2)?.as_blob().unwrap_or_default();
        if live.len() != per_row.div_ceil(8) || codes.len() != per_row * bytes {
            return Err(VectorError::Inconsistent);
        }
        for (place, code) in codes.chunks_exact(bytes).enumerate() {
            if live[place / 8] >> (place % 8) & 1 == 1 {
                take(blocks::id_at(id, place), code);
            }
        }
    }
    Ok(())
}

//! Making collections, and putting vectors into them.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter};

use super::blocks::{self, Blocks};
use super::{
    DIMENSIONS, Distance, Filter, Info, Item, Labels, Spec, VectorError, code, math, search,
};

/// When there are so many vectors, the codes are made anew around their mean. Later ones change it
/// too little to matter; [`Collection::reindex`] does it at any time.
const CENTRED_AT: [i64; 2] = [256, 4096];

/// The largest square of a length: what is computed with it stays finite.
const LONGEST: f64 = 1e30;

/// A collection of vectors, for as long as a transaction or a view lasts.
pub struct Collection<'c> {
    pub(super) db: &'c Connection,
    pub(super) id: i64,
    pub(super) dimension: usize,
    pub(super) distance: Distance,
    pub(super) centre: Vec<f32>,
    centre_of: i64,
    pub(super) vectors: i64,
}

/// A row of the table of collections.
struct Found {
    id: i64,
    info: Info,
    centre: Vec<u8>,
    centre_of: i64,
}

impl<'c> Collection<'c> {
    /// The collection, which must be there and made as is said.
    ///
    /// # Errors
    /// [`VectorError::UnknownCollection`], [`VectorError::OtherModel`].
    pub fn open(db: &'c Connection, spec: &Spec<'_>) -> Result<Self, VectorError> {
        let found = find(db, spec.name)?.ok_or_else(|| VectorError::UnknownCollection {
            name: spec.name.to_owned(),
        })?;
        let info = &found.info;
        let same = info.model == spec.model
            && info.model_version == spec.model_version
            && info.dimension == spec.dimension
            && info.distance == spec.distance.name();
        if !same {
            return Err(VectorError::OtherModel {
                found: Box::new(found.info),
                expected: format!(
                    "{} {} ({} values, {})",
                    spec.model,
                    spec.model_version,
                    spec.dimension,
                    spec.distance.name()
                ),
            });
        }
        Ok(Self {
            db,
            id: found.id,
            dimension: spec.dimension,
            distance: spec.distance,
            centre: math::from_bytes(&found.centre, spec.dimension)
                .ok_or(VectorError::Inconsistent)?,
            centre_of: found.centre_of,
            vectors: i64::try_from(info.vectors).map_err(|_| VectorError::Inconsistent)?,
        })
    }

    /// The collection, made when it is not there.
    ///
    /// # Errors
    /// [`VectorError::InvalidSpec`], [`VectorError::OtherModel`]; on a connection that can't write,
    /// when it would have to be made.
    pub fn create(db: &'c Connection, spec: &Spec<'_>) -> Result<Self, VectorError> {
        let named = !spec.name.is_empty() && !spec.model.is_empty();
        if !named || !(1..=DIMENSIONS).contains(&spec.dimension) {
            return Err(VectorError::InvalidSpec);
        }
        match Self::open(db, spec) {
            Err(VectorError::UnknownCollection { .. }) => {}
            other => return other,
        }
        let next: i64 = db.query_row(
            "SELECT coalesce(max(id), 0) + 1 FROM vector_collection",
            [],
            |row| row.get(0),
        )?;
        if next > blocks::COLLECTIONS {
            return Err(VectorError::Full);
        }
        db.execute(
            "INSERT INTO vector_collection
                 (id, name, model, model_version, dimension, distance, centre)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                next,
                spec.name,
                spec.model,
                spec.model_version,
                spec.dimension as i64,
                spec.distance.name(),
                vec![0_u8; 4 * spec.dimension],
            ],
        )?;
        Self::open(db, spec)
    }

    /// Begins the collection anew, by this model: what was in it is gone, and its owner embeds
    /// again. The same for one that is not there.
    ///
    /// # Errors
    /// [`VectorError::InvalidSpec`]; those of the store.
    pub fn rebuild(db: &'c Connection, spec: &Spec<'_>) -> Result<Self, VectorError> {
        Self::remove_all(db, spec.name)?;
        Self::create(db, spec)
    }

    /// Removes a collection with everything in it. Whether there was one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn remove_all(db: &Connection, name: &str) -> Result<bool, VectorError> {
        let Some(found) = find(db, name)? else {
            return Ok(false);
        };
        let (first, last) = blocks::rows(found.id);
        db.execute(
            "DELETE FROM vector_code WHERE id BETWEEN ?1 AND ?2",
            [first, last],
        )?;
        let (first, last) = blocks::ids(found.id);
        db.execute(
            "DELETE FROM vector_value WHERE id BETWEEN ?1 AND ?2",
            [first, last],
        )?;
        db.execute(
            "DELETE FROM vector_item WHERE id BETWEEN ?1 AND ?2",
            [first, last],
        )?;
        db.execute("DELETE FROM vector_collection WHERE id = ?1", [found.id])?;
        Ok(true)
    }

    /// The collections of this database.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(db: &Connection) -> Result<Vec<Info>, VectorError> {
        let mut query = db.prepare("SELECT name FROM vector_collection ORDER BY name")?;
        let names = query.query_map([], |row| row.get::<_, String>(0))?;
        let mut all = Vec::new();
        for name in names {
            all.extend(find(db, &name?)?.map(|found| found.info));
        }
        Ok(all)
    }

    /// How many vectors there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.vectors.unsigned_abs()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vectors == 0
    }

    /// Adds vectors, or replaces those that are there under the same keys. None is written when one
    /// of them can't be.
    ///
    /// # Errors
    /// [`VectorError::WrongDimension`], [`VectorError::NotFinite`], [`VectorError::Zero`].
    pub fn put(&mut self, items: &[Item<'_>]) -> Result<(), VectorError> {
        let vectors: Vec<_> = items
            .iter()
            .map(|item| self.accept(item.vector))
            .collect::<Result<_, _>>()?;
        let mut blocks = Blocks::new(self.db, self.id, self.dimension);
        let mut added = 0;
        for (item, vector) in items.iter().zip(&vectors) {
            let value = math::to_bytes(vector);
            if let Some(id) = self.id_of(&item.key)? {
                code::encode(vector, &self.centre, blocks.take(id)?);
                self.write_labels(id, item)?;
                self.db
                    .prepare_cached("UPDATE vector_value SET value = ?2 WHERE id = ?1")?
                    .execute(params![id, value])?;
            } else {
                let (id, bits) = blocks.take_any()?;
                code::encode(vector, &self.centre, bits);
                self.write_labels(id, item)?;
                self.db
                    .prepare_cached("INSERT INTO vector_value (id, value) VALUES (?1, ?2)")?
                    .execute(params![id, value])?;
                added += 1;
            }
        }
        blocks.finish()?;
        self.count(added)?;
        let due = CENTRED_AT
            .iter()
            .any(|at| (self.centre_of + 1..=self.vectors).contains(at));
        if due {
            self.reindex()?;
        }
        Ok(())
    }

    /// Removes a vector. Whether there was one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn remove(&mut self, key: &[u8; 16]) -> Result<bool, VectorError> {
        let id = self.id_of(key)?;
        self.remove_ids(&id.into_iter().collect::<Vec<_>>())?;
        Ok(id.is_some())
    }

    /// Removes what comes into question. How many there were.
    ///
    /// # Errors
    /// Those of the store.
    pub fn remove_matching(&mut self, filter: &Filter) -> Result<u64, VectorError> {
        let ids = self.matching(filter)?;
        self.remove_ids(&ids)?;
        Ok(ids.len() as u64)
    }

    /// The vector under this key as it is kept: of length 1 where the distance is the cosine's.
    ///
    /// # Errors
    /// Those of the store.
    pub fn get(&self, key: &[u8; 16]) -> Result<Option<Vec<f32>>, VectorError> {
        let Some(id) = self.id_of(key)? else {
            return Ok(None);
        };
        let value: Vec<u8> = self
            .db
            .prepare_cached("SELECT value FROM vector_value WHERE id = ?1")?
            .query_row([id], |row| row.get(0))?;
        let vector = math::from_bytes(&value, self.dimension);
        vector.map(Some).ok_or(VectorError::Inconsistent)
    }

    /// Makes all codes anew out of the vectors, around their present mean. Reads all of them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn reindex(&mut self) -> Result<(), VectorError> {
        let mut sums = vec![0.0_f64; self.dimension];
        let counted = self.each_value(|_, value| {
            for (sum, value) in sums.iter_mut().zip(math::floats(value)) {
                *sum += f64::from(value);
            }
            Ok(())
        })?;
        let of = counted.max(1) as f64;
        let centre: Vec<f32> = sums.into_iter().map(|sum| (sum / of) as f32).collect();
        let (first, last) = blocks::rows(self.id);
        self.db.execute(
            "DELETE FROM vector_code WHERE id BETWEEN ?1 AND ?2",
            [first, last],
        )?;
        let mut blocks = Blocks::new(self.db, self.id, self.dimension);
        self.each_value(|id, value| {
            let vector =
                math::from_bytes(value, self.dimension).ok_or(VectorError::Inconsistent)?;
            code::encode(&vector, &centre, blocks.take(id)?);
            Ok(())
        })?;
        blocks.finish()?;
        self.db.execute(
            "UPDATE vector_collection SET centre = ?2, centre_of = ?3, vectors = ?3 WHERE id = ?1",
            params![self.id, math::to_bytes(&centre), counted],
        )?;
        (self.centre, self.centre_of, self.vectors) = (centre, counted, counted);
        Ok(())
    }

    /// Reads everything and compares: each vector has its labels and its code, and nothing else has.
    ///
    /// # Errors
    /// [`VectorError::Inconsistent`].
    pub fn check(&self) -> Result<(), VectorError> {
        let mut values = BTreeSet::new();
        self.each_value(|id, _| {
            values.insert(id);
            Ok(())
        })?;
        let items: BTreeSet<i64> = self.matching(&Filter::default())?.into_iter().collect();
        let mut codes = BTreeSet::new();
        search::each_code(self, |id, _| {
            codes.insert(id);
        })?;
        if values == items && values == codes && values.len() as i64 == self.vectors {
            Ok(())
        } else {
            Err(VectorError::Inconsistent)
        }
    }

    /// What is kept of a vector that can be compared with the others.
    pub(super) fn accept(&self, vector: &[f32]) -> Result<Vec<f32>, VectorError> {
        if vector.len() != self.dimension {
            return Err(VectorError::WrongDimension {
                expected: self.dimension,
                found: vector.len(),
            });
        }
        let square = math::squared_length(vector);
        if square.is_nan() || square > LONGEST {
            return Err(VectorError::NotFinite);
        }
        if self.distance == Distance::Euclidean {
            return Ok(vector.to_vec());
        }
        if square == 0.0 {
            return Err(VectorError::Zero);
        }
        let length = square.sqrt();
        let unit = vector.iter().map(|it| (f64::from(*it) / length) as f32);
        Ok(unit.collect())
    }

    /// Ids of what comes into question, in their order.
    pub(super) fn matching(&self, filter: &Filter) -> Result<Vec<i64>, VectorError> {
        use rusqlite::types::Value;
        let mut sql = "SELECT id FROM vector_item WHERE collection = ?".to_owned();
        let mut values = vec![Value::Integer(self.id)];
        if !filter.kinds.is_empty() {
            let marks = vec!["?"; filter.kinds.len()].join(", ");
            sql.push_str(&format!(" AND kind IN ({marks})"));
            values.extend(filter.kinds.iter().cloned().map(Value::Text));
        }
        if let Some(conversation) = filter.conversation {
            sql.push_str(" AND conversation = ?");
            values.push(Value::Blob(conversation.to_vec()));
        }
        if let Some(range) = &filter.at_ms {
            sql.push_str(" AND at_ms >= ? AND at_ms < ?");
            values.extend([Value::Integer(range.start), Value::Integer(range.end)]);
        }
        let mut query = self.db.prepare_cached(&sql)?;
        let rows = query.query_map(params_from_iter(values), |row| row.get(0))?;
        let mut ids: Vec<i64> = rows.collect::<Result<_, _>>()?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// Hands out each vector with its id, in the order of these. How many there are.
    pub(super) fn each_value(
        &self,
        mut take: impl FnMut(i64, &[u8]) -> Result<(), VectorError>,
    ) -> Result<i64, VectorError> {
        let (first, last) = blocks::ids(self.id);
        let mut query = self.db.prepare_cached(
            "SELECT id, value FROM vector_value WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
        )?;
        let mut rows = query.query([first, last])?;
        let mut counted = 0;
        while let Some(row) = rows.next()? {
            let value = row.get_ref(1)?.as_blob().unwrap_or_default();
            if value.len() != 4 * self.dimension {
                return Err(VectorError::Inconsistent);
            }
            take(row.get(0)?, value)?;
            counted += 1;
        }
        Ok(counted)
    }

    fn id_of(&self, key: &[u8; 16]) -> Result<Option<i64>, VectorError> {
        let sql = "SELECT id FROM vector_item WHERE collection = ?1 AND key = ?2";
        let mut query = self.db.prepare_cached(sql)?;
        let id = query.query_row(params![self.id, key], |row| row.get(0));
        Ok(id.optional()?)
    }

    fn write_labels(&self, id: i64, item: &Item<'_>) -> Result<(), VectorError> {
        let Labels {
            kind,
            conversation,
            at_ms,
        } = item.labels;
        self.db
            .prepare_cached(
                "INSERT INTO vector_item (id, collection, key, kind, conversation, at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET
                     kind = excluded.kind,
                     conversation = excluded.conversation,
                     at_ms = excluded.at_ms",
            )?
            .execute(params![id, self.id, item.key, kind, conversation, at_ms])?;
        Ok(())
    }

    fn remove_ids(&mut self, ids: &[i64]) -> Result<(), VectorError> {
        let mut blocks = Blocks::new(self.db, self.id, self.dimension);
        for id in ids {
            blocks.free(*id)?;
            for sql in [
                "DELETE FROM vector_value WHERE id = ?1",
                "DELETE FROM vector_item WHERE id = ?1",
            ] {
                self.db.prepare_cached(sql)?.execute([id])?;
            }
        }
        blocks.finish()?;
        self.count(-(ids.len() as i64))
    }

    fn count(&mut self, more: i64) -> Result<(), VectorError> {
        if more != 0 {
            let sql = "UPDATE vector_collection SET vectors = vectors + ?2 WHERE id = ?1";
            self.db.prepare_cached(sql)?.execute([self.id, more])?;
            self.vectors += more;
        }
        Ok(())
    }
}

fn find(db: &Connection, name: &str) -> Result<Option<Found>, VectorError> {
    let sql = "SELECT id, model, model_version, dimension, distance, vectors, centre, centre_of
               FROM vector_collection WHERE name = ?1";
    let mut query = db.prepare_cached(sql)?;
    let found = query.query_row([name], |row| {
        Ok(Found {
            id: row.get(0)?,
            info: Info {
                name: name.to_owned(),
                model: row.get(1)?,
                model_version: row.get(2)?,
                dimension: row.get::<_, i64>(3)?.unsigned_abs() as usize,
                distance: row.get(4)?,
                vectors: row.get::<_, i64>(5)?.unsigned_abs(),
            },
            centre: row.get(6)?,
            centre_of: row.get(7)?,
        })
    });
    Ok(found.optional()?)
}

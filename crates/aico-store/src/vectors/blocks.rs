//! Codes in rows of a page each, and which places in them are taken.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{VectorError, code};

/// Bytes of codes in one row: with what is beside them, one page of a database.
const ROW: usize = 3840;
/// Bits of an id that name a place in a row of codes.
const PLACE: u32 = 10;
/// Bits of an id below the collection's number.
const BELOW: u32 = 40;

/// Ids of a collection's vectors.
pub(super) fn ids(collection: i64) -> (i64, i64) {
    (collection << BELOW, ((collection + 1) << BELOW) - 1)
}

/// Ids of the rows of its codes.
pub(super) fn rows(collection: i64) -> (i64, i64) {
    let (first, last) = ids(collection);
    (first >> PLACE, last >> PLACE)
}

/// Codes in one row.
pub(super) fn per_row(dimension: usize) -> usize {
    (ROW / code::code_bytes(dimension)).clamp(1, 1 << PLACE)
}

/// The id of the vector at a place of a row.
pub(super) fn id_at(row: i64, place: usize) -> i64 {
    (row << PLACE) | place as i64
}

/// The largest number that a collection can have.
pub(super) const COLLECTIONS: i64 = (1 << 22) - 1;

struct Row {
    id: i64,
    free: usize,
    live: Vec<u8>,
    codes: Vec<u8>,
    /// Not in the table yet.
    new: bool,
    changed: bool,
}

/// Takes and frees places; what is changed in a row is written when the next one is needed, and by
/// [`Self::finish`].
pub(super) struct Blocks<'c> {
    db: &'c Connection,
    collection: i64,
    code_bytes: usize,
    per_row: usize,
    held: Option<Row>,
}

impl<'c> Blocks<'c> {
    pub(super) fn new(db: &'c Connection, collection: i64, dimension: usize) -> Self {
        Self {
            db,
            collection,
            code_bytes: code::code_bytes(dimension),
            per_row: per_row(dimension),
            held: None,
        }
    }

    /// A place that is free, and its code to be written.
    pub(super) fn take_any(&mut self) -> Result<(i64, &mut [u8]), VectorError> {
        if self.held.as_ref().is_none_or(|row| row.free == 0) {
            self.write_back()?;
            let (first, last) = rows(self.collection);
            let with_room: Option<i64> = self
                .db
                .prepare_cached(
                    "SELECT id FROM vector_code WHERE free > 0 AND id BETWEEN ?1 AND ?2
                     ORDER BY id LIMIT 1",
                )?
                .query_row([first, last], |row| row.get(0))
                .optional()?;
            match with_room {
                Some(id) => self.hold(id)?,
                None => {
                    let sql = "SELECT max(id) FROM vector_code WHERE id BETWEEN ?1 AND ?2";
                    let highest: Option<i64> = self
                        .db
                        .prepare_cached(sql)?
                        .query_row([first, last], |row| row.get(0))?;
                    let next = highest.map_or(first, |highest| highest + 1);
                    if next > last {
                        return Err(VectorError::Full);
                    }
                    self.held = Some(self.empty(next));
                }
            }
        }
        let row = self.held.as_ref().ok_or(VectorError::Inconsistent)?;
        let place = (0..self.per_row)
            .find(|place| row.live[place / 8] >> (place % 8) & 1 == 0)
            .ok_or(VectorError::Inconsistent)?;
        let id = id_at(row.id, place);
        Ok((id, self.take(id)?))
    }

    /// The place of this id, free or not, and its code to be written.
    pub(super) fn take(&mut self, id: i64) -> Result<&mut [u8], VectorError> {
        let (place, bytes) = self.place(id)?;
        let row = self.held.as_mut().ok_or(VectorError::Inconsistent)?;
        row.changed = true;
        if row.live[place / 8] >> (place % 8) & 1 == 0 {
            row.live[place / 8] |= 1 << (place % 8);
            row.free = row.free.saturating_sub(1);
        }
        row.codes.get_mut(bytes).ok_or(VectorError::Inconsistent)
    }

    /// Frees the place of this id; nothing of the code stays.
    pub(super) fn free(&mut self, id: i64) -> Result<(), VectorError> {
        let (place, bytes) = self.place(id)?;
        let row = self.held.as_mut().ok_or(VectorError::Inconsistent)?;
        row.changed = true;
        if row.live[place / 8] >> (place % 8) & 1 == 1 {
            row.live[place / 8] &= !(1 << (place % 8));
            row.free += 1;
        }
        let code = row.codes.get_mut(bytes).ok_or(VectorError::Inconsistent)?;
        code.fill(0);
        Ok(())
    }

    /// Writes what is changed.
    pub(super) fn finish(mut self) -> Result<(), VectorError> {
        self.write_back()
    }

    fn place(&mut self, id: i64) -> Result<(usize, std::ops::Range<usize>), VectorError> {
        let row = id >> PLACE;
        if self.held.as_ref().is_none_or(|held| held.id != row) {
            self.write_back()?;
            self.hold(row)?;
        }
        let place = (id & ((1 << PLACE) - 1)) as usize;
        if place >= self.per_row {
            return Err(VectorError::Inconsistent);
        }
        Ok((
            place,
            place * self.code_bytes..(place + 1) * self.code_bytes,
        ))
    }

    fn hold(&mut self, id: i64) -> Result<(), VectorError> {
        let row = self
            .db
            .prepare_cached("SELECT live, codes FROM vector_code WHERE id = ?1")?
            .query_row([id], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .optional()?;
        self.held = Some(match row {
            None => self.empty(id),
            Some((live, codes)) => {
                let sound = live.len() == self.per_row.div_ceil(8)
                    && codes.len() == self.per_row * self.code_bytes;
                if !sound {
                    return Err(VectorError::Inconsistent);
                }
                let taken: u32 = live.iter().map(|bits| bits.count_ones()).sum();
                Row {
                    id,
                    free: self.per_row.saturating_sub(taken as usize),
                    live,
                    codes,
                    new: false,
                    changed: false,
                }
            }
        });
        Ok(())
    }

    fn empty(&self, id: i64) -> Row {
        Row {
            id,
            free: self.per_row,
            live: vec![0; self.per_row.div_ceil(8)],
            codes: vec![0; self.per_row * self.code_bytes],
            new: true,
            changed: false,
        }
    }

    fn write_back(&mut self) -> Result<(), VectorError> {
        let Some(row) = self.held.take().filter(|row| row.changed) else {
            return Ok(());
        };
        if row.free == self.per_row {
            self.db
                .prepare_cached("DELETE FROM vector_code WHERE id = ?1")?
                .execute([row.id])?;
            return Ok(());
        }
        let sql = if row.new {
            "INSERT INTO vector_code (id, free, live, codes) VALUES (?1, ?2, ?3, ?4)"
        } else {
            "UPDATE vector_code SET free = ?2, live = ?3, codes = ?4 WHERE id = ?1"
        };
        self.db.prepare_cached(sql)?.execute(params![
            row.id,
            row.free as i64,
            row.live,
            row.codes
        ])?;
        Ok(())
    }
}

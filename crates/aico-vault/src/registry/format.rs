//! The records of the registry's file.

use std::collections::BTreeMap;

use super::StoreRecord;
use crate::append::HighWater;
use crate::codec::{Fields, Short, put_text};

/// First byte of a snapshot.
const SNAPSHOT: u8 = 1;
/// First byte of a snapshot that says under which key each store is. Written once a key was
/// changed, so that a program from before that can read everything from before it.
const SNAPSHOT_WITH_KEYS: u8 = 3;
/// First byte of notes.
const NOTES: u8 = 2;

/// Everything that the registry knows.
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Content {
    pub(super) stores: BTreeMap<String, StoreRecord>,
    pub(super) marks: BTreeMap<String, HighWater>,
}

/// A store or file got this far.
#[derive(Clone)]
pub(super) struct Note {
    pub(super) id: String,
    pub(super) sequence: u64,
    pub(super) closed: bool,
}

impl Content {
    pub(super) fn apply(&mut self, note: &Note) {
        if let Some(store) = self.stores.get_mut(&note.id) {
            store.last_sequence = store.last_sequence.max(note.sequence);
            return;
        }
        let mark = self.marks.entry(note.id.clone()).or_default();
        mark.sequence = mark.sequence.max(note.sequence);
        if note.closed {
            mark.closed = mark.closed.max(note.sequence);
        }
    }

    /// Whether this says all that `known` does, and is as far or further.
    pub(super) fn covers(&self, known: &Self) -> bool {
        let store = |(id, known): (&String, &StoreRecord)| {
            self.stores.get(id).is_some_and(|found| {
                let last_sequence = found.last_sequence.max(known.last_sequence);
                *found
                    == StoreRecord {
                        last_sequence,
                        ..*known
                    }
            })
        };
        let mark = |(id, known): (&String, &HighWater)| {
            let found = self.marks.get(id).copied().unwrap_or_default();
            found.sequence >= known.sequence && found.closed >= known.closed
        };
        self.stores.len() == known.stores.len()
            && known.stores.iter().all(store)
            && known.marks.iter().all(mark)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let keys = self.stores.values().any(|store| store.key != 0);
        let mut out = vec![if keys { SNAPSHOT_WITH_KEYS } else { SNAPSHOT }];
        out.extend_from_slice(&(self.stores.len() as u32).to_be_bytes());
        for (id, store) in &self.stores {
            put_text(&mut out, id);
            out.extend_from_slice(&store.salt);
            out.extend_from_slice(&store.generation.to_be_bytes());
            out.extend_from_slice(&store.last_sequence.to_be_bytes());
            out.push(u8::from(store.closed_hash.is_some()));
            out.extend_from_slice(&store.closed_hash.unwrap_or_default());
            if keys {
                out.extend_from_slice(&store.key.to_be_bytes());
            }
        }
        out.extend_from_slice(&(self.marks.len() as u32).to_be_bytes());
        for (id, mark) in &self.marks {
            put_text(&mut out, id);
            out.extend_from_slice(&mark.sequence.to_be_bytes());
            out.extend_from_slice(&mark.closed.to_be_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read(Fields(bytes)).ok()
    }

    fn read(mut fields: Fields<'_>) -> Result<Self, Short> {
        let mut content = Self::default();
        let keys = match fields.u8()? {
            SNAPSHOT => false,
            SNAPSHOT_WITH_KEYS => true,
            _ => return Err(Short),
        };
        for _ in 0..fields.u32()? {
            let id = fields.text()?;
            let (salt, generation, last_sequence) = (fields.array()?, fields.u64()?, fields.u64()?);
            let (closed, hash) = (fields.u8()?, fields.array()?);
            let closed_hash = (closed == 1).then_some(hash);
            let store = StoreRecord {
                salt,
                generation,
                last_sequence,
                closed_hash,
                key: if keys { fields.u64()? } else { 0 },
            };
            content.stores.insert(id, store);
        }
        for _ in 0..fields.u32()? {
            let id = fields.text()?;
            let mark = HighWater {
                sequence: fields.u64()?,
                closed: fields.u64()?,
            };
            content.marks.insert(id, mark);
        }
        if fields.is_empty() {
            Ok(content)
        } else {
            Err(Short)
        }
    }
}

impl Note {
    pub(super) fn encode_all(notes: &[Self]) -> Vec<u8> {
        let mut out = vec![NOTES];
        for note in notes {
            put_text(&mut out, &note.id);
            out.extend_from_slice(&note.sequence.to_be_bytes());
            out.push(u8::from(note.closed));
        }
        out
    }

    pub(super) fn decode_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let mut fields = Fields(bytes);
        if fields.u8().ok()? != NOTES {
            return None;
        }
        let mut notes = Vec::new();
        while !fields.is_empty() {
            let id = fields.text().ok()?;
            let sequence = fields.u64().ok()?;
            notes.push(Self {
                id,
                sequence,
                closed: fields.u8().ok()? == 1,
            });
        }
        Some(notes)
    }
}

//! What an archive says of its parts, in its sealed index: JSON, so that it can grow.

use std::collections::BTreeMap;

use aico_contracts::ids::PersonId;
use aico_store::Copied;
use aico_vault::archive::{Archive, ArchiveError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The manifest.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The program that made it.
    pub(crate) program: String,
    pub(crate) created: Timestamp,
    pub(crate) system: Database,
    pub(crate) persons: Vec<PersonEntry>,
    /// Who is not in it, though they belong to the home.
    #[serde(default)]
    pub(crate) left_out: Vec<LeftOutEntry>,
    /// The key of the list of the erased beside it: one for all archives of a home, whatever root
    /// key they were made under.
    #[serde(with = "hex_bytes")]
    pub(crate) list_key: [u8; 32],
    /// Where the configuration file lay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) configuration: Option<ConfigurationPlace>,
    /// The secrets that it refers to, as their file has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secrets: Option<String>,
}

/// A database in an archive.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Database {
    /// Rows of each table.
    pub(crate) rows: BTreeMap<String, u64>,
    /// The newest step of each module's that has run in it.
    pub(crate) schema: BTreeMap<String, u32>,
    pub(crate) length: u64,
    #[serde(with = "hex_bytes")]
    pub(crate) sha256: [u8; 32],
    #[serde(with = "hex_bytes")]
    pub(crate) salt: [u8; 16],
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    /// Which key it is under, as the registry numbers them; 0: the first.
    #[serde(default)]
    pub(crate) key: u64,
}

impl From<Copied> for Database {
    fn from(copied: Copied) -> Self {
        Self {
            rows: copied.rows,
            schema: copied.schema,
            length: copied.length,
            sha256: copied.hash,
            salt: copied.salt,
            generation: copied.generation,
            sequence: copied.sequence,
            key: 0,
        }
    }
}

/// A person whose piece is in the archive.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PersonEntry {
    pub(crate) id: PersonId,
    pub(crate) name: String,
    /// Nobody but they can open their database, so nothing was counted in it.
    #[serde(default)]
    pub(crate) sealed: bool,
    pub(crate) database: Database,
}

/// A person whose piece is not.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LeftOutEntry {
    /// Archives made before it was noted have none; what they say of a name stays in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<PersonId>,
    pub(crate) name: String,
    pub(crate) why: String,
}

/// Where the configuration file lay.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ConfigurationPlace {
    /// In the data folder.
    Data,
    /// In the person's configuration folder, or named with `--config`.
    Elsewhere,
}

/// What stands at the beginning of a person's piece: what the system's store knows of them, so
/// that all of it goes when the piece is dropped.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PersonRow {
    pub(crate) id: PersonId,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) created_ms: i64,
}

impl Manifest {
    pub(crate) fn of(archive: &Archive) -> Result<Self, ArchiveError> {
        serde_json::from_slice(archive.manifest()).map_err(|_| ArchiveError::Damaged {
            path: archive.path().to_owned(),
            reason: "what it says of its parts makes no sense",
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Maps with text keys and plain values: there is nothing in it that JSON has not.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The same without these persons.
    pub(crate) fn without(&self, gone: &[PersonId]) -> Self {
        let mut less = self.clone();
        less.persons.retain(|person| !gone.contains(&person.id));
        less.left_out
            .retain(|one| one.id.is_none_or(|id| !gone.contains(&id)));
        less
    }

    /// Whether it says anything of one of these persons.
    pub(crate) fn tells_of(&self, some: &[PersonId]) -> bool {
        let persons = self.persons.iter().map(|person| person.id);
        let left_out = self.left_out.iter().filter_map(|one| one.id);
        persons.chain(left_out).any(|id| some.contains(&id))
    }
}

mod hex_bytes {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        let bytes = hex::decode(text).map_err(D::Error::custom)?;
        bytes
            .try_into()
            .map_err(|_| D::Error::custom("another length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_one_who_was_left_out_goes_with_them() {
        let ben = PersonId::new();
        // As an archive from before has it, and as one from now.
        let text = serde_json::json!([
            {"name": "Ada", "why": "damaged"},
            {"id": ben, "name": "Ben", "why": "damaged"},
            {"id": PersonId::new(), "name": "Zoe", "why": "damaged"},
        ]);
        let database = Database {
            rows: BTreeMap::new(),
            schema: BTreeMap::new(),
            length: 0,
            sha256: [0; 32],
            salt: [0; 16],
            generation: 1,
            sequence: 1,
            key: 0,
        };
        let manifest = Manifest {
            program: String::new(),
            created: Timestamp::UNIX_EPOCH,
            system: database,
            persons: Vec::new(),
            left_out: serde_json::from_value(text).unwrap(),
            list_key: [0; 32],
            configuration: None,
            secrets: None,
        };
        assert!(manifest.tells_of(&[ben]));
        let less = manifest.without(&[ben]);
        assert!(!less.tells_of(&[ben]));
        let names: Vec<_> = less.left_out.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["Ada", "Zoe"]);
        let text = String::from_utf8(less.encode()).unwrap();
        assert!(!text.contains("Ben"), "{text}");
    }
}

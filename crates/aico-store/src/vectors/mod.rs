//! Vectors that are searched by nearness, in the same database as what they stand for.
//!
//! A [`Collection`] holds vectors of one model: its name, version, dimension and distance are
//! written with it, and one that was made by another is refused ([`VectorError::OtherModel`]) until
//! its owner begins it anew ([`Collection::rebuild`]), never mixed. Everything happens inside the
//! caller's transaction, so that a fact and its vector are committed together or not at all.
//!
//! Beside each vector lies a code of one bit for each dimension. A search reads the codes, which are
//! a thirtieth of the vectors, takes as many candidates as were measured to be enough, and answers
//! with exact distances of these ([`Method::Quantised`]); where few vectors come into question, and
//! when asked to, it reads the vectors themselves ([`Method::Exact`]). `sqlite-vec` was measured
//! beside this and is not used: `docs/benchmarks.md` tells why.
//!
//! A module that keeps vectors names [`MIGRATIONS`] beside its own. The layout is described in
//! `docs/formats/vectors.md`.
//!
//! ```no_run
//! # use aico_store::{Store, StoreError, vectors::*};
//! # async fn example(store: Store, id: [u8; 16], embedded: Vec<f32>, asked: Vec<f32>) -> Result<(), StoreError> {
//! const FACTS: Spec<'_> = Spec {
//!     name: "memory.fact",
//!     dimension: 384,
//!     distance: Distance::Cosine,
//!     model: "all-MiniLM-L6-v2",
//!     model_version: "1",
//! };
//! store
//!     .write(move |tx| {
//!         // … the fact itself, in the same transaction …
//!         let labels = Labels { kind: "fact", conversation: None, at_ms: 0 };
//!         Collection::create(tx, &FACTS)?.put(&[Item { key: id, vector: &embedded, labels }])?;
//!         Ok(())
//!     })
//!     .await?;
//! let hits = store
//!     .read(move |db| {
//!         let query = Query::nearest(&asked, 10);
//!         Ok(Collection::open(db, &FACTS)?.search(&query)?)
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```

mod blocks;
mod code;
mod collection;
mod math;
mod search;

use std::ops::Range;

use crate::{Migration, ModuleMigrations, StoreError};

pub use collection::Collection;

/// Vectors that may come into question before codes are read instead of the vectors themselves.
pub const EXACT_UP_TO: usize = 1024;

/// The highest dimension of a collection.
pub const DIMENSIONS: usize = 8192;

/// Tables whose rows are computed from the rest by a model: of no use to people, and left out of what
/// is written for them. They are counted.
pub const DERIVED: [&str; 2] = ["vector_value", "vector_code"];

/// The tables of all collections, for each database that has some.
pub const MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "vectors",
    migrations: &[Migration {
        version: 1,
        name: "collections of vectors",
        sql: "
CREATE TABLE vector_collection (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    model_version TEXT NOT NULL,
    dimension INTEGER NOT NULL CHECK (dimension BETWEEN 1 AND 8192),
    distance TEXT NOT NULL CHECK (distance IN ('cosine', 'euclidean')),
    -- How many there are.
    vectors INTEGER NOT NULL DEFAULT 0 CHECK (vectors >= 0),
    -- What the codes are relative to: the mean of as many vectors as are named beside it.
    centre BLOB NOT NULL,
    centre_of INTEGER NOT NULL DEFAULT 0
) STRICT;
-- An id is the collection's, shifted by 40, and the vector's place among its codes.
CREATE TABLE vector_item (
    id INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL REFERENCES vector_collection (id),
    key BLOB NOT NULL CHECK (length(key) = 16),
    kind TEXT NOT NULL,
    conversation BLOB CHECK (conversation IS NULL OR length(conversation) = 16),
    at_ms INTEGER NOT NULL,
    UNIQUE (collection, key)
) STRICT;
CREATE INDEX vector_item_time ON vector_item (collection, at_ms);
CREATE INDEX vector_item_kind ON vector_item (collection, kind, at_ms);
CREATE INDEX vector_item_conversation ON vector_item (collection, conversation, kind, at_ms)
    WHERE conversation IS NOT NULL;
-- Apart from the rest, so that going through the rest does not read them.
CREATE TABLE vector_value (
    id INTEGER PRIMARY KEY REFERENCES vector_item (id),
    value BLOB NOT NULL
) STRICT;
-- As many codes in a row as a page holds.
CREATE TABLE vector_code (
    id INTEGER PRIMARY KEY,
    free INTEGER NOT NULL CHECK (free >= 0),
    live BLOB NOT NULL,
    codes BLOB NOT NULL
) STRICT;
CREATE INDEX vector_code_room ON vector_code (id) WHERE free > 0;
",
    }],
};

/// How far two vectors are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// 1 less the cosine of the angle: 0 to 2. Vectors are kept at length 1.
    Cosine,
    /// The length of the difference.
    Euclidean,
}

impl Distance {
    fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Euclidean => "euclidean",
        }
    }
}

/// What a collection is, as the module that owns it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec<'a> {
    /// Its name, the module's before it: `memory.fact`.
    pub name: &'a str,
    /// Values in each vector.
    pub dimension: usize,
    /// How nearness is measured.
    pub distance: Distance,
    /// The model that makes the vectors.
    pub model: &'a str,
    /// Its version: another text, another model.
    pub model_version: &'a str,
}

/// A collection that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// The model that made it.
    pub model: String,
    /// The version of the model.
    pub model_version: String,
    /// Values in each vector.
    pub dimension: usize,
    /// `cosine` or `euclidean`.
    pub distance: String,
    /// How many vectors there are.
    pub vectors: u64,
}

/// What a vector can be filtered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels<'a> {
    /// What it stands for: `fact`, `message`.
    pub kind: &'a str,
    /// The conversation that it belongs to.
    pub conversation: Option<[u8; 16]>,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A vector with what belongs to it. It stands for what people wrote, hence no `Debug`.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    /// The id of what it stands for. A vector that is there under it is replaced.
    pub key: [u8; 16],
    /// As the model made it.
    pub vector: &'a [f32],
    /// What it can be filtered by.
    pub labels: Labels<'a>,
}

/// Which vectors come into question. The default: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one of these kinds; of any when there is none.
    pub kinds: Vec<String>,
    /// Of this conversation.
    pub conversation: Option<[u8; 16]>,
    /// From this time on and before that one, in milliseconds since 1970.
    pub at_ms: Option<Range<i64>>,
}

impl Filter {
    fn lets_all(&self) -> bool {
        *self == Self::default()
    }
}

/// How to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Exactly where few come into question, else by codes with as many candidates as were measured
    /// to be enough.
    #[default]
    Auto,
    /// By the vectors themselves, all that come into question.
    Exact,
    /// By their codes: so many candidates, whose exact distances are compared.
    Quantised {
        /// How many, at least as many as are wanted.
        candidates: usize,
    },
}

/// What is looked for.
#[derive(Clone)]
pub struct Query<'a> {
    /// What the others are compared with.
    pub vector: &'a [f32],
    /// How many, at most.
    pub limit: usize,
    /// Which come into question.
    pub filter: Filter,
    /// How to search.
    pub method: Method,
}

impl<'a> Query<'a> {
    /// The nearest of all.
    #[must_use]
    pub fn nearest(vector: &'a [f32], limit: usize) -> Self {
        Self {
            vector,
            limit,
            filter: Filter::default(),
            method: Method::default(),
        }
    }
}

/// A vector that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its key.
    pub key: [u8; 16],
    /// Its exact distance.
    pub distance: f32,
}

/// Why vectors were not kept or found. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// There is no such collection.
    #[error("there is no collection {name}")]
    UnknownCollection {
        /// Its name.
        name: String,
    },
    /// It was made by another model, or measures otherwise. Embed anew into a rebuilt one.
    #[error("the collection {} is of {} {} ({} values, {}), not of {expected}", found.name,
        found.model, found.model_version, found.dimension, found.distance)]
    OtherModel {
        /// What is there.
        found: Box<Info>,
        /// What was asked for.
        expected: String,
    },
    /// What is said of a collection can't be: a mistake in the program.
    #[error("a collection needs a name, a model, and 1 to 8192 dimensions")]
    InvalidSpec,
    /// A vector has another number of values than its collection.
    #[error("a vector has {found} values where the collection has {expected}")]
    WrongDimension {
        /// The collection's.
        expected: usize,
        /// The vector's.
        found: usize,
    },
    /// A value is not a number, or too large to be computed with.
    #[error("a vector holds a value that is not a number, or too large")]
    NotFinite,
    /// A vector without a direction, where directions are compared.
    #[error("a vector is zero and has no direction")]
    Zero,
    /// What lies in the tables does not fit together. `Collection::reindex` makes the codes anew.
    #[error("a collection of vectors does not fit together")]
    Inconsistent,
    /// The collection can take no more.
    #[error("a collection of vectors is full")]
    Full,
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for VectorError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<VectorError> for StoreError {
    /// So that `?` works in a transaction; [`StoreError::downcast`] gives it back.
    fn from(error: VectorError) -> Self {
        match error {
            VectorError::Store(error) => error,
            other => Self::caller(other),
        }
    }
}

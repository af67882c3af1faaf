//! The tables of this crate in the system's store.

use aico_store::{Migration, ModuleMigrations};

/// Persons, sessions, the instance's signing key, what was erased, what was decided.
pub(crate) const MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "access",
    migrations: &[Migration {
        version: 1,
        name: "persons and sessions",
        sql: "
            CREATE TABLE access_person (
                id          BLOB PRIMARY KEY CHECK (length(id) = 16),
                name        TEXT NOT NULL,
                name_key    TEXT NOT NULL UNIQUE,
                role        TEXT NOT NULL CHECK (role IN ('owner', 'member')),
                created_ms  INTEGER NOT NULL
            ) STRICT;
            CREATE UNIQUE INDEX access_one_owner ON access_person (role) WHERE role = 'owner';
            CREATE TABLE access_session (
                id          BLOB PRIMARY KEY CHECK (length(id) = 16),
                person      BLOB NOT NULL REFERENCES access_person (id) ON DELETE CASCADE,
                client      TEXT NOT NULL,
                created_ms  INTEGER NOT NULL,
                expires_ms  INTEGER NOT NULL
            ) STRICT;
            CREATE INDEX access_session_person ON access_session (person);
            -- One row: which installation this is, and its signing key, sealed by the vault.
            CREATE TABLE access_instance (
                one         INTEGER PRIMARY KEY CHECK (one = 1),
                id          BLOB NOT NULL CHECK (length(id) = 16),
                signing_key BLOB NOT NULL
            ) STRICT;
            -- Persons that were erased: a restore obeys it.
            CREATE TABLE access_tombstone (
                person      BLOB PRIMARY KEY CHECK (length(person) = 16),
                erased_ms   INTEGER NOT NULL
            ) STRICT;
            CREATE TABLE access_audit (
                id          INTEGER PRIMARY KEY,
                at_ms       INTEGER NOT NULL,
                action      TEXT NOT NULL,
                person      BLOB,
                outcome     TEXT NOT NULL
            ) STRICT;
        ",
    }],
};

//! The tables of this crate in the system's store.

use aico_store::{Migration, ModuleMigrations};

/// Persons, sessions, the instance's signing key, what was erased, what was decided; modules;
/// named tokens.
pub(crate) const MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "access",
    migrations: &[
        Migration {
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
        },
        Migration {
            version: 2,
            name: "modules of other makers",
            sql: "
            -- `key` is the module's public CURVE key; its secret key is nowhere here.
            CREATE TABLE access_module (
                id          BLOB PRIMARY KEY CHECK (length(id) = 16),
                name        TEXT NOT NULL UNIQUE,
                key         BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
                created_ms  INTEGER NOT NULL,
                key_ms      INTEGER NOT NULL
            ) STRICT;
            CREATE TABLE access_module_topic (
                module      BLOB NOT NULL REFERENCES access_module (id) ON DELETE CASCADE,
                action      TEXT NOT NULL,
                pattern     TEXT NOT NULL,
                PRIMARY KEY (module, action, pattern)
            ) STRICT;
            -- Asked for by the owner; in force once the person agreed.
            CREATE TABLE access_module_person (
                module      BLOB NOT NULL REFERENCES access_module (id) ON DELETE CASCADE,
                person      BLOB NOT NULL REFERENCES access_person (id) ON DELETE CASCADE,
                agreed_ms   INTEGER,
                PRIMARY KEY (module, person)
            ) STRICT;
            -- One row: the secret CURVE key by which modules know this daemon, sealed by the vault.
            CREATE TABLE access_broker (
                one         INTEGER PRIMARY KEY CHECK (one = 1),
                key         BLOB NOT NULL
            ) STRICT;
        ",
        },
        Migration {
            version: 3,
            name: "named tokens",
            sql: "
            -- What other programs act for a person with; `hash` is of the token, which is kept
            -- nowhere. A restore empties this table, as it empties access_session.
            CREATE TABLE access_token (
                id          BLOB PRIMARY KEY CHECK (length(id) = 16),
                person      BLOB NOT NULL REFERENCES access_person (id) ON DELETE CASCADE,
                name        TEXT NOT NULL,
                name_key    TEXT NOT NULL,
                hash        BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
                created_ms  INTEGER NOT NULL,
                expires_ms  INTEGER NOT NULL,
                -- The hour in which it was used last.
                used_ms     INTEGER,
                UNIQUE (person, name_key)
            ) STRICT;
        ",
        },
        Migration {
            version: 4,
            name: "checks that wait for sealed persons",
            sql: "
            -- A full check found them away: it is made when they sign in.
            CREATE TABLE access_check_due (
                person      BLOB PRIMARY KEY REFERENCES access_person (id) ON DELETE CASCADE
            ) STRICT;
        ",
        },
    ],
};

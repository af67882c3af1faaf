//! What the system's store knows of the archives that were made.

use aico_store::{Migration, ModuleMigrations};

/// Which archives there are, whose pieces are in them, and the key of each, so that a piece can be
/// dropped after the root key has changed.
pub(crate) const MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "backup",
    migrations: &[Migration {
        version: 1,
        name: "archives that were made",
        sql: "
            -- `key` is the archive's own, sealed by the vault (purpose archive, name the id).
            CREATE TABLE backup_archive (
                id          BLOB PRIMARY KEY CHECK (length(id) = 16),
                path        TEXT NOT NULL,
                created_ms  INTEGER NOT NULL,
                key         BLOB NOT NULL
            ) STRICT;
            -- The key of the lists of the erased, 32 random bytes; every archive has it, too.
            CREATE TABLE backup_list (
                one         INTEGER PRIMARY KEY CHECK (one = 1),
                key         BLOB NOT NULL CHECK (length(key) = 32)
            ) STRICT;
            -- Whose pieces are in it. Of persons who were erased it says what has yet to be
            -- dropped, so it refers to nobody.
            CREATE TABLE backup_archive_person (
                archive     BLOB NOT NULL REFERENCES backup_archive (id) ON DELETE CASCADE,
                person      BLOB NOT NULL CHECK (length(person) = 16),
                PRIMARY KEY (archive, person)
            ) STRICT, WITHOUT ROWID;
        ",
    }],
};

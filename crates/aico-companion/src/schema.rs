//! The tables of the companion in each person's store.

use aico_store::{Migration, ModuleMigrations};

/// Conversations as trees of messages of typed parts, a full-text index over them, where programs
/// that keep a conversation themselves go on, and a revision of what was said.
pub const MIGRATIONS: ModuleMigrations = ModuleMigrations {
    module: "companion",
    migrations: &[
        Migration {
            version: 1,
            name: "conversations",
            sql: "
            CREATE TABLE companion_conversation (
                id          BLOB PRIMARY KEY CHECK (length(id) = 16),
                title       TEXT NOT NULL,
                -- 1: the person chose the title, so it is not made from their first words.
                titled      INTEGER NOT NULL DEFAULT 0,
                character   TEXT NOT NULL,
                created_ms  INTEGER NOT NULL,
                updated_ms  INTEGER NOT NULL,
                active_leaf BLOB
            ) STRICT;
            CREATE INDEX companion_conversation_recent
                ON companion_conversation (updated_ms DESC, id DESC);

            CREATE TABLE companion_message (
                id            BLOB PRIMARY KEY CHECK (length(id) = 16),
                conversation  BLOB NOT NULL
                              REFERENCES companion_conversation (id) ON DELETE CASCADE,
                parent        BLOB REFERENCES companion_message (id) ON DELETE CASCADE,
                -- The enumerations of conversation.proto.
                role          INTEGER NOT NULL,
                status        INTEGER NOT NULL,
                created_ms    INTEGER NOT NULL,
                model         TEXT NOT NULL DEFAULT '',
                origin_device TEXT NOT NULL DEFAULT '',
                fault_code    TEXT NOT NULL DEFAULT '',
                fault_title   TEXT NOT NULL DEFAULT '',
                fault_detail  TEXT NOT NULL DEFAULT '',
                fault_todo    TEXT NOT NULL DEFAULT ''
            ) STRICT;
            CREATE INDEX companion_message_conversation ON companion_message (conversation);
            CREATE INDEX companion_message_parent ON companion_message (parent);
            CREATE INDEX companion_message_streaming ON companion_message (status)
                WHERE status = 2;

            CREATE TABLE companion_part (
                message  BLOB NOT NULL REFERENCES companion_message (id) ON DELETE CASCADE,
                position INTEGER NOT NULL,
                kind     TEXT NOT NULL CHECK (kind IN ('text', 'thinking')),
                text     TEXT NOT NULL,
                PRIMARY KEY (message, position)
            ) STRICT, WITHOUT ROWID;

            -- Titles (message empty) and the text of messages.
            CREATE VIRTUAL TABLE companion_text USING fts5 (
                text, conversation UNINDEXED, message UNINDEXED,
                tokenize = \"unicode61 remove_diacritics 2\"
            );
        ",
        },
        Migration {
            version: 2,
            name: "conversations that programs keep themselves",
            sql: "
            -- Where an answer is, by a hash over all that was said up to its end: see thread.rs.
            CREATE TABLE companion_thread (
                key      BLOB PRIMARY KEY CHECK (length(key) = 32),
                message  BLOB NOT NULL REFERENCES companion_message (id) ON DELETE CASCADE
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX companion_thread_message ON companion_thread (message);
        ",
        },
        Migration {
            version: 3,
            name: "a person's own characters",
            sql: "
            CREATE TABLE companion_character (
                -- A UUID; those that come along have words for ids and no row.
                id          TEXT PRIMARY KEY CHECK (length(id) = 36),
                name        TEXT NOT NULL,
                -- JSON: see docs/characters.md.
                body        TEXT NOT NULL,
                -- A PNG that holds nothing but its image.
                portrait    BLOB,
                created_ms  INTEGER NOT NULL,
                updated_ms  INTEGER NOT NULL
            ) STRICT;
            CREATE INDEX companion_conversation_character ON companion_conversation (character);
            CREATE TABLE companion_setting (
                name   TEXT PRIMARY KEY,
                value  TEXT NOT NULL
            ) STRICT, WITHOUT ROWID;
            -- The model that an answer's character is made for, when another one wrote it.
            ALTER TABLE companion_message ADD COLUMN instead_of TEXT NOT NULL DEFAULT '';
        ",
        },
        Migration {
            version: 4,
            name: "a revision of each conversation's messages",
            sql: "
            -- Raised by whatever changes a message or a part: see recent.rs.
            ALTER TABLE companion_conversation ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
            CREATE TRIGGER companion_message_added AFTER INSERT ON companion_message BEGIN
                UPDATE companion_conversation SET revision = revision + 1
                WHERE id = NEW.conversation;
            END;
            CREATE TRIGGER companion_message_changed AFTER UPDATE ON companion_message BEGIN
                UPDATE companion_conversation SET revision = revision + 1
                WHERE id IN (OLD.conversation, NEW.conversation);
            END;
            CREATE TRIGGER companion_message_gone AFTER DELETE ON companion_message BEGIN
                UPDATE companion_conversation SET revision = revision + 1
                WHERE id = OLD.conversation;
            END;
            CREATE TRIGGER companion_part_added AFTER INSERT ON companion_part BEGIN
                UPDATE companion_conversation SET revision = revision + 1
                WHERE id = (SELECT conversation FROM companion_message WHERE id = NEW.message);
            END;
            CREATE TRIGGER companion_part_changed AFTER UPDATE ON companion_part BEGIN
                UPDATE companion_conversation SET revision = revision + 1
                WHERE id IN (SELECT conversation FROM companion_message
                             WHERE id IN (OLD.message, NEW.message));
            END;
            CREATE TRIGGER companion_part_gone AFTER DELETE ON companion_part BEGIN
                UPDATE companion_conversation SET revision = revision + 1
                WHERE id = (SELECT conversation FROM companion_message WHERE id = OLD.message);
            END;
        ",
        },
    ],
};

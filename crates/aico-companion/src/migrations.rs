//! Each schema version that there was becomes the present one.

#[path = "../../aico-store/tests/support/every_version.rs"]
mod every_version;

use aico_store::Identity;

use crate::MIGRATIONS;
use every_version::Case;

const ROWS: &str = "
    INSERT INTO companion_conversation
        (id, title, titled, character, created_ms, updated_ms, active_leaf) VALUES
        (x'00112233445566778899aabbccddeeff', 'Tea', 0, 'aico', 1, 2, NULL);
    INSERT INTO companion_message (id, conversation, role, status, created_ms) VALUES
        (x'ff112233445566778899aabbccddeeff', x'00112233445566778899aabbccddeeff', 1, 1, 1);
    INSERT INTO companion_part VALUES (x'ff112233445566778899aabbccddeeff', 0, 'text', 'quince');
    INSERT INTO companion_text (text, conversation, message) VALUES
        ('quince', x'00112233445566778899aabbccddeeff', x'ff112233445566778899aabbccddeeff');";
const COUNT: &str = "SELECT (SELECT count(*) FROM companion_conversation)
    + (SELECT count(*) FROM companion_message) + (SELECT count(*) FROM companion_part)
    + (SELECT count(*) FROM companion_text WHERE companion_text MATCH 'quince')";

#[tokio::test]
async fn every_schema_version_becomes_the_present_one_and_keeps_its_rows() {
    let case = Case {
        identity: Identity::person([1; 16]),
        present: &[MIGRATIONS],
        rows: ROWS,
        count: COUNT,
        kept: 4,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

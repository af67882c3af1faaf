//! Each schema version that there was becomes the present one.

#[path = "../../aico-store/tests/support/every_version.rs"]
mod every_version;

use aico_store::Identity;

use crate::{backup, engines, rotation, schema};
use every_version::Case;

const ROWS: &str = "
    INSERT INTO access_person VALUES (x'00112233445566778899aabbccddeeff', 'Mia', 'mia', 'owner', 1);
    INSERT INTO access_session VALUES
        (x'ff112233445566778899aabbccddeeff', x'00112233445566778899aabbccddeeff', 'page', 1, 2);
    INSERT INTO access_instance VALUES (1, x'01112233445566778899aabbccddeeff', x'00');
    INSERT INTO access_tombstone VALUES (x'02112233445566778899aabbccddeeff', 3);
    INSERT INTO access_audit (at_ms, action, outcome) VALUES (1, 'vault.set-up', 'done');";
const COUNT: &str =
    "SELECT (SELECT count(*) FROM access_person) + (SELECT count(*) FROM access_session)
    + (SELECT count(*) FROM access_instance) + (SELECT count(*) FROM access_tombstone)
    + (SELECT count(*) FROM access_audit)";

#[tokio::test]
async fn every_schema_version_becomes_the_present_one_and_keeps_its_rows() {
    let case = Case {
        identity: Identity::system(),
        present: &[
            schema::MIGRATIONS,
            rotation::MIGRATIONS,
            backup::MIGRATIONS,
            engines::MIGRATIONS,
        ],
        rows: ROWS,
        count: COUNT,
        kept: 5,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

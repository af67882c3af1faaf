//! Each schema version that there was becomes the present one.

#[path = "../../aico-store/tests/support/every_version.rs"]
mod every_version;

use aico_store::Identity;

use crate::{backup, engines, rotation, schema};
use every_version::Case;

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
        versions: &[
            &[1, 0, 0, 0],
            &[2, 0, 0, 0],
            &[3, 0, 0, 0],
            &[3, 0, 1, 0],
            &[3, 1, 1, 0],
            &[3, 2, 1, 0],
            &[4, 2, 1, 1],
        ],
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

//! Each schema version that there was becomes the present one.

#[path = "../../aico-store/tests/support/every_version.rs"]
mod every_version;

use aico_store::Identity;

use crate::MIGRATIONS;
use every_version::Case;

#[tokio::test]
async fn every_schema_version_becomes_the_present_one_and_keeps_its_rows() {
    let case = Case {
        identity: Identity::person([1; 16]),
        present: vec![MIGRATIONS],
        versions: &[&[1], &[2], &[3], &[4]],
        rows: &["aico-companion"],
        expected: "",
        whole: false,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

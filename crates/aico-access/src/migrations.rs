//! Each schema version that there was becomes the present one.

#[path = "../../aico-store/tests/support/every_version.rs"]
mod every_version;

use std::path::Path;

use aico_store::Identity;

use crate::tests::config;
use crate::{EGRESS_MIGRATIONS, modules_of_system};
use every_version::Case;

#[tokio::test]
async fn every_schema_version_becomes_the_present_one_and_keeps_its_rows() {
    let case = Case {
        identity: Identity::system(),
        present: modules_of_system(&config(Path::new("nowhere"))),
        // Of access, rotation, backup, engines.
        versions: &[
            &[1, 0, 0, 0],
            &[2, 0, 0, 0],
            &[3, 0, 0, 0],
            &[3, 0, 1, 0],
            &[3, 1, 1, 0],
            &[3, 2, 1, 0],
            &[4, 2, 1, 1],
        ],
        rows: &["aico-access"],
        expected: "",
        whole: false,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

#[tokio::test]
async fn every_schema_version_of_what_left_becomes_the_present_one_and_keeps_its_rows() {
    let case = Case {
        identity: Identity::person([1; 16]),
        present: vec![EGRESS_MIGRATIONS],
        versions: &[&[1]],
        rows: &["aico-access"],
        expected: "egress",
        whole: false,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

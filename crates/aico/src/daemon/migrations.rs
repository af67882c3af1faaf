//! Each version that there was of the program's databases becomes the present one: what the crates
//! try of their modules apart, with all that one database has, in the program's own order.
//!
//! A version is what a commit of main had: the steps of the modules that its `home_config` named.

#[path = "../../../aico-store/tests/support/every_version.rs"]
mod every_version;

use std::path::Path;

use aico_access::{HomeConfig, modules_of_system};
use aico_store::Identity;

use every_version::Case;

/// As the program has it: a module that is new there and not here is noticed.
fn home_config() -> HomeConfig {
    super::home_config(Path::new("nowhere"), 1)
}

#[tokio::test]
async fn every_version_of_a_persons_database_becomes_the_present_one_and_keeps_its_rows() {
    let case = Case {
        identity: Identity::person([1; 16]),
        present: home_config().person_migrations,
        // Of companion, vectors, egress.
        versions: &[
            &[1, 0, 0],
            &[2, 0, 0],
            &[3, 0, 0],
            &[3, 1, 0],
            &[4, 1, 0],
            &[4, 1, 1],
        ],
        rows: &["aico-companion", "aico-store", "aico-access"],
        expected: "person",
        whole: true,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

#[tokio::test]
async fn every_version_of_the_systems_database_becomes_the_present_one_and_keeps_its_rows() {
    let case = Case {
        identity: Identity::system(),
        present: modules_of_system(&home_config()),
        // Of access, rotation, backup, engines, models.
        versions: &[
            &[1, 0, 0, 0, 1],
            &[2, 0, 0, 0, 1],
            &[3, 0, 0, 0, 1],
            &[3, 1, 1, 0, 1],
            &[3, 2, 1, 0, 1],
            &[4, 2, 1, 1, 1],
            &[4, 2, 1, 1, 2],
            &[4, 2, 1, 1, 3],
        ],
        rows: &["aico-access", "aico-models"],
        expected: "system",
        whole: true,
    };
    every_version::becomes_the_present_one_and_keeps_its_rows(&case).await;
}

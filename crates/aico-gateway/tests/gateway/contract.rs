//! The committed OpenAPI document is the one that the routes make.

use std::path::Path;

#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/openapi.json");
    let made = serde_json::to_string_pretty(&aico_gateway::openapi()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    // Compared as lines, so that a difference can be found.
    for (number, (committed, made)) in committed.lines().zip(made.lines()).enumerate() {
        assert_eq!(
            committed,
            made,
            "line {}: run this test with UPDATE=1",
            number + 1
        );
    }
    assert_eq!(
        committed.lines().count(),
        made.lines().count(),
        "ui/openapi.json is out of date: run this test with UPDATE=1"
    );
}

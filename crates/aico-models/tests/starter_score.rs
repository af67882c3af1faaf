//! The starter model keeps what its README promises.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/score.rs"]
mod score;

#[test]
fn at_least_95_of_100_held_out_cases_pass() {
    let cases = score::cases();
    assert!(
        cases.len() >= 200,
        "a score of {} cases says little",
        cases.len()
    );
    let score = score::score(&score::folder().join("aico-starter.gguf"), &cases);
    for (category, (passed, all)) in &score.categories {
        println!("{category:20} {passed:4} of {all:4}");
    }
    let (passed, all) = score.total();
    println!("{passed} of {all}: {:.1} %", 100.0 * score.share());
    assert!(
        score.share() >= 0.95,
        "{passed} of {all}; failed: {:?}",
        score.failed
    );
}

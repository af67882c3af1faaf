//! The starter model keeps what its README promises.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "support/score.rs"]
mod score;

/// What is promised. On another machine a case or two may turn out otherwise, which the score has
/// room for.
const FLOOR: f64 = 0.95;

#[test]
fn the_score_of_the_committed_model_has_not_fallen() {
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
        score.share() >= FLOOR,
        "{passed} of {all}; failed: {:?}",
        score.failed
    );
}

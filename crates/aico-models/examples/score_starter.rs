//! Prints the starter model's score on its held-out cases, by category, and what it said where
//! it failed:
//!
//! `cargo run -p aico-models --example score_starter [-- MODEL.gguf]`
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a tool of developers"
)]

#[path = "../tests/support/score.rs"]
mod score;

use std::process::ExitCode;

fn main() -> ExitCode {
    let model = std::env::args_os().nth(1).map_or_else(
        || score::folder().join("aico-starter.gguf"),
        std::path::PathBuf::from,
    );
    let score = score::score(&model, &score::cases());
    for (id, answer) in &score.failed {
        println!("failed {id}: {answer}");
    }
    for (category, (passed, all)) in &score.categories {
        println!("{category:20} {passed:4} of {all:4}");
    }
    let (passed, all) = score.total();
    println!(
        "{:20} {passed:4} of {all:4}  {:.1} %",
        "all",
        100.0 * score.share()
    );
    if score.share() >= 0.95 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

//! Writes a model with 134 million random parameters, for benchmarks and for trying how AICO
//! behaves with a model of that size:
//!
//! `cargo run -p aico-models --example random_gguf -- OUT.gguf [f16|q4_0]`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool of developers"
)]

#[path = "../tests/support/gguf_writer.rs"]
mod gguf_writer;

use gguf_writer::{Shape, Weights};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let weights = match arguments.get(2).map(String::as_str) {
        Some("f16") => Weights::F16,
        _ => Weights::Q4_0,
    };
    let path = std::path::Path::new(&arguments[1]);
    gguf_writer::write(path, &Shape::large(weights));
    println!("{} bytes", path.metadata().unwrap().len());
}

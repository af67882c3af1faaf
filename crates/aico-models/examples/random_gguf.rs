//! Writes a model with random parameters: 134 million, for benchmarks and for trying how AICO
//! behaves with a model of that size; `endless`, whose answers can be stopped; or `huge`, of more
//! than a gigabyte, to see it loaded:
//!
//! `cargo run -p aico-models --example random_gguf -- OUT.gguf [f16|q4_0|endless|huge]`
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
    let shape = match arguments.get(2).map(String::as_str) {
        Some("endless") => Shape::endless(),
        Some("huge") => Shape::huge(),
        Some("f16") => Shape::large(Weights::F16),
        _ => Shape::large(Weights::Q4_0),
    };
    let path = std::path::Path::new(&arguments[1]);
    gguf_writer::write(path, &shape);
    println!("{} bytes", path.metadata().unwrap().len());
}

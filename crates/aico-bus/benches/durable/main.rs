//! `cargo bench … --bench durable` (docs/benchmarks.md): durable publishing, 256-byte payloads, with 1, 16 and
//! 256 messages in flight, each acknowledged after its sync; inside the process and over the link.
//!
//! Beside it, in the same run and folder, a plain file to which groups of 1, 16 and 256 such
//! payloads are appended with one `fdatasync` each: what the disk gives. `AICO_BENCH_FOLDER` says
//! where (otherwise the system's folder for temporary files). The figure to reach is 100,000
//! messages each second with 256 in flight.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

mod measure;

fn main() {
    measure::measure();
}

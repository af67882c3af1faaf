//! The program as people use it: the real binary, its real child process, the starter model.

mod conversation;
mod damage;
mod disk;
mod failures;
mod files;
mod full_disk;
#[path = "../../../aico-models/tests/support/gguf_writer.rs"]
mod gguf_writer;
mod hostile;
mod http;
mod kills;
mod models;
mod modules;
mod newer;
mod persons;
mod privacy;
mod programs;
mod reading;
mod streams;
mod support;
mod traces;

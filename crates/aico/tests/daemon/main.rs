//! The program as people use it: the real binary, its real child process, the starter model.

mod backup_kills;
mod backup_versions;
mod backups;
mod characters;
mod conversation;
mod damage;
#[cfg(target_os = "linux")]
mod desktop;
mod disk;
mod drill;
mod erasing;
mod export_key;
mod exports;
#[cfg(target_os = "linux")]
mod failing_disk;
mod failures;
#[path = "../../../aico-models/tests/support/file_server.rs"]
mod file_server;
mod files;
mod full_disk;
#[path = "../../../aico-models/tests/support/gguf_writer.rs"]
mod gguf_writer;
mod hostile;
mod http;
#[cfg(target_os = "linux")]
mod interpose;
#[cfg(target_os = "linux")]
mod keychain;
mod keys;
mod kills;
#[cfg(target_os = "linux")]
mod memory;
mod models;
mod modules;
mod newer;
mod persons;
#[cfg(target_os = "linux")]
mod power;
#[cfg(target_os = "linux")]
mod preload;
mod privacy;
mod programs;
mod prompts;
mod pulls;
mod reading;
mod rotation;
mod sealed;
mod secrets;
mod store_check;
mod streams;
mod support;
mod traces;
mod working;

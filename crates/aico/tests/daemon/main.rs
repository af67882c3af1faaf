//! The program as people use it: the real binary, its real child process, the starter model.

mod backup_kills;
mod backup_versions;
mod backups;
mod characters;
mod conversation;
mod damage;
#[cfg(target_os = "linux")]
mod desktop;
#[path = "../../../aico-store/tests/support/disk.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod disk;
mod drill;
mod engines;
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
#[cfg(unix)]
mod interrupted;
#[cfg(target_os = "linux")]
mod keychain;
mod keys;
mod kills;
#[cfg(target_os = "linux")]
mod memory;
mod models;
mod modules;
mod newer;
#[cfg(target_os = "linux")]
mod ollama;
#[path = "../../../aico-models/tests/support/ollama.rs"]
mod ollama_double;
mod persons;
#[cfg(target_os = "linux")]
mod power;
#[cfg(target_os = "linux")]
mod preload;
mod privacy;
mod programs;
mod programs_models;
mod prompts;
mod pulls;
mod reading;
#[path = "../../../aico-models/tests/support/registry.rs"]
mod registry;
mod rotation;
mod sealed;
mod secrets;
mod shelves;
mod store_check;
mod streams;
mod support;
mod traces;
mod working;

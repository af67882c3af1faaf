//! Models: what can answer, where its files are, and the process that runs it.
//!
//! Four parts. [`engine`], [`batch`], [`template`], [`prompt`] and [`text`] turn a
//! conversation into an answer with a model file. [`process`] is the child process that does
//! this confined, for a model file is hostile input. [`supervisor`] is the part in the daemon:
//! it keeps the registry of models, starts and watches the processes, and tells their state.
//! [`router`] is beside it: it hands each question to what runs the model that it names.
//!
//! [`backend`] is what another program has to offer that runs models for us: Ollama, a server in
//! the household.
//!
//! [`calls`] reads calls of tools out of what a model writes; [`structured`] binds what it writes to
//! a JSON schema.
//!
//! [`prompt_cache`] keeps, sealed, what the process has read of a conversation.
//!
//! [`pull`] gets model files that a person asks for, and proves that they are what they should be.
//! [`transformers`] turns texts into vectors, labels and entities, in processes of their own.
//! [`gguf`] reads what a file says of itself, without the native library, in a process as confined as
//! one that runs a model.
//! [`gpu`] is about models on a graphics device, which other executables than the program compute.

pub mod backend;
pub mod batch;
pub mod calls;
pub mod capable;
mod clock;
mod disk;
pub mod engine;
pub mod gguf;
pub mod gpu;
pub mod process;
pub mod prompt;
pub mod prompt_cache;
pub mod pull;
pub mod router;
pub mod starter;
pub mod structured;
pub mod supervisor;
pub mod template;
pub mod text;
pub mod threads;
pub mod transformers;

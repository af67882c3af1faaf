//! Models: what can answer, where its files are, and the process that runs it.
//!
//! Three parts. [`engine`], [`batch`], [`template`], [`prompt`] and [`text`] turn a
//! conversation into an answer with a model file. [`process`] is the child process that does
//! this confined, for a model file is hostile input. [`supervisor`] is the part in the daemon:
//! it keeps the registry of models, starts and watches the process, and tells its state.
//!
//! [`prompt_cache`] keeps, sealed, what the process has read of a conversation.
//!
//! [`pull`] gets model files that a person asks for, and proves that they are what they should be.
//! [`gguf`] reads what a file says of itself, in the daemon and without the native library.

pub mod batch;
pub mod engine;
pub mod gguf;
pub mod process;
pub mod prompt;
pub mod prompt_cache;
pub mod pull;
pub mod starter;
pub mod supervisor;
pub mod template;
pub mod text;
pub mod threads;

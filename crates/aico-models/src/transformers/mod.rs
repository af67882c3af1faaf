//! Transformers: what texts mean, whom and what they name, how they judge and feel.
//!
//! A model is a [`package`]: a graph in ONNX, a tokeniser and a description. [`model`] runs it:
//! [`tokens`] and [`words`] prepare the texts, [`framing`] looks at a graph before it is read,
//! [`graph`] computes. All of that happens in a process of its own for each package ([`process`]),
//! confined, for a package is hostile input: it reads its folder and its standard input, and writes
//! to its standard output. The daemon's side is `supervisor/transformers`.

pub mod framing;
pub mod graph;
pub mod model;
pub mod package;
pub mod process;
pub mod tokens;
pub mod wire;
pub mod words;

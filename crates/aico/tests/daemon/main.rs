//! The program as people use it: the real binary, its real child process, the starter model.

mod conversation;
mod failures;
mod kills;
mod persons;
mod privacy;
mod support;

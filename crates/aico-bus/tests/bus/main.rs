//! The bus as its users see it. One program, so that it is linked once.

mod common;
mod inprocess;
mod link;
mod process;
mod pyzmq;

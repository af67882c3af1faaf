//! The power goes at every write, and the disk fills up at every write, beneath the real program:
//! the engine of the databases included. Afterwards everything is as before the operation or as
//! after it, and what was acknowledged is there.
//!
//! `recorder.c` stands between the program and the C library and writes down what is changed and
//! what is synced. [`medium`] makes of these records what a disk may hold when the power goes after
//! any of them; [`cuts`] chooses; [`look`] opens that for real. The recorder fills the disk too.
//!
//! `./test` looks at a sample of the cuts, `./test --long` at all of them (`AICO_TEST_EVERY_CUT`).
//! `AICO_TEST_SEED` chooses another sample.

mod cuts;
mod full;
mod look;
mod medium;
mod operations;
mod recording;

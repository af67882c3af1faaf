//! The program as people use it: the real binary, its real child process, the starter model.

mod conversation;
mod damage;
mod disk;
mod failures;
mod files;
mod full_disk;
mod hostile;
mod http;
mod kills;
mod models;
mod modules;
mod newer;
mod persons;
mod privacy;
mod reading;
mod streams;
mod support;
mod traces;

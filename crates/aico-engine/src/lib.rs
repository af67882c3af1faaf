//! The model process alone, for a graphics device: executables beside the program, one for each
//! kind, of which the daemon starts what is there (`models.gpu`).
//!
//! Each is built with one feature of this crate. The program itself has none of them, and so needs
//! no maker's library to be built or to start.

use std::io::Write as _;
use std::process::ExitCode;

#[path = "../../aico/src/wiping.rs"]
mod wiping;

#[global_allocator]
static ALLOCATOR: wiping::Wiping = wiping::Wiping;

/// Exit code of wrong usage, as the program's.
const USAGE: u8 = 2;

const HELP: &str = "\
A part of AICO that runs models on a graphics device. The program starts it by itself when it lies
beside it (`aico config get models.gpu`).

  devices        prints the devices that it can use, one JSON object a line
  modelservice   what the program starts; it reads its orders from standard input
";

/// The whole of each executable.
#[must_use]
pub fn main() -> ExitCode {
    // What can't be had of it is a matter for the confinement, which tells.
    let _not_all = aico_vault::harden_process();
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("modelservice"), None) => aico_models::process::run_model_process(),
        (Some("devices"), None) => devices(),
        _ => {
            let _nobody_reads = std::io::stderr().write_all(HELP.as_bytes());
            ExitCode::from(USAGE)
        }
    }
}

fn devices() -> ExitCode {
    let Ok(lines) = aico_models::gpu::device::lines() else {
        return ExitCode::FAILURE;
    };
    match std::io::stdout().write_all(lines.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

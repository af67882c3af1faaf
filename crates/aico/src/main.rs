//! `aico`: one program, several processes. See ARCHITECTURE.md for the whole picture.

mod cli;
mod client;
mod commands;
mod daemon;
mod exit;
mod places;
mod progress;
mod prompt;
mod style;
mod unfinished;
mod wiping;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: wiping::Wiping = wiping::Wiping;

fn main() -> ExitCode {
    // First of all, in every process: no core, no debugger of the same user.
    if let Err(error) = aico_vault::harden_process() {
        style::warning(&exit::chain(&error));
    }
    let arguments = cli::Cli::parse();
    if matches!(arguments.command, cli::Command::Modelservice) {
        return aico_models::process::run_model_process();
    }
    let code = commands::run(arguments)
        .and_then(|()| style::all_written())
        .map_or_else(|failure| failure.report(), |()| 0);
    if !aico_store::wait_for_threads(Duration::from_secs(5)) {
        aico_vault::end_process(code);
    }
    ExitCode::from(code)
}

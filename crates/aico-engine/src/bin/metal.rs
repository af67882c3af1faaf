//! The model process for devices that are reached through Metal.

fn main() -> std::process::ExitCode {
    aico_engine::main()
}

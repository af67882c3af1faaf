//! The model process for devices that are reached through CUDA.

fn main() -> std::process::ExitCode {
    aico_engine::main()
}

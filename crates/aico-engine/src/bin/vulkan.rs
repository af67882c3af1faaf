//! The model process for devices that are reached through Vulkan.

fn main() -> std::process::ExitCode {
    aico_engine::main()
}

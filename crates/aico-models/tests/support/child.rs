//! The model process as tests run it, and probes of its confinement.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::Path;
use std::process::ExitCode;

use aico_models::process::confine::{self, Places};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments[1].as_str() {
        "modelservice" => aico_models::process::run_model_process(),
        // Ends as soon as it has read its first line, as a process that crashes while loading.
        "crash" => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            std::process::abort()
        }
        // Loads for ever.
        "hang" => loop {
            std::thread::park();
        },
        "probe" => probe(&arguments[2], Path::new(&arguments[3]), &arguments[4..]),
        _ => ExitCode::from(64),
    }
}

/// Confines itself as the model process does, then tries one thing and prints what came of it.
fn probe(what: &str, model: &Path, rest: &[String]) -> ExitCode {
    let place = |index: usize| Path::new(&rest[index]);
    confine::first().unwrap();
    let files = confine::files(Places {
        model,
        scratch: place(0),
    })
    .unwrap();
    let calls = confine::calls().unwrap();
    let kind = |result: std::io::Result<()>| match result {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    let other = place(1);
    let outcome = match what {
        "supported" => format!("{files} {calls}"),
        "read-model" => kind(std::fs::read(model).map(drop)),
        "read-other" => kind(std::fs::read(other).map(drop)),
        "list-other" => kind(std::fs::read_dir(other).map(drop)),
        "write-scratch" => kind(std::fs::write(place(0).join("x"), b"x")),
        "write-model" => kind(
            std::fs::OpenOptions::new()
                .append(true)
                .open(model)
                .map(drop),
        ),
        "write-other" => kind(std::fs::write(other, b"x")),
        "tcp" => kind(std::net::TcpStream::connect(&rest[1]).map(drop)),
        "listen" => kind(std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
        "udp" => kind(std::net::UdpSocket::bind("127.0.0.1:0").map(drop)),
        #[cfg(unix)]
        "unix" => kind(std::os::unix::net::UnixStream::connect(other).map(drop)),
        "run" => kind(std::process::Command::new("/bin/true").status().map(drop)),
        #[cfg(unix)]
        "exec" => {
            use std::os::unix::process::CommandExt;
            kind(Err(std::process::Command::new("/bin/true").exec()))
        }
        "thread" => {
            let sum = std::thread::spawn(|| (0..100_u64).sum::<u64>()).join();
            if sum.is_ok_and(|sum| sum == 4950) {
                "done".into()
            } else {
                "failed".into()
            }
        }
        _ => return ExitCode::from(64),
    };
    println!("{outcome}");
    ExitCode::SUCCESS
}

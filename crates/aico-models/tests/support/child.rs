//! The model process as tests run it, and probes of its confinement.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::path::Path;
use std::process::ExitCode;

use aico_models::gpu::Kind;
use aico_models::gpu::device::{self, Offload};
use aico_models::process::confine::{self, Places};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments[1].as_str() {
        "modelservice" => aico_models::process::run_model_process(),
        // The same, but a thread that gets a signal stands still for ever, alone.
        #[cfg(target_os = "linux")]
        "modelservice-halting" => {
            // SAFETY: the handler only waits.
            unsafe { libc::signal(libc::SIGUSR1, stand_still as *const () as usize) };
            aico_models::process::run_model_process()
        }
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
        // Has more to say than anybody wants to hear.
        "flood" => {
            use std::io::Write as _;
            let mut out = std::io::stdout().lock();
            while out.write_all(&[b'x'; 4096]).is_ok() {}
            ExitCode::SUCCESS
        }
        // Says words, one after another, once it was told to begin.
        "talk" => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            for number in 0_u32.. {
                println!("word{number} ");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            ExitCode::SUCCESS
        }
        "probe" => probe(
            &arguments[2],
            Path::new(&arguments[3]),
            &arguments[4..],
            None,
        ),
        "probe-gpu" => {
            let gpu = Some(Kind::Vulkan);
            probe(
                &arguments[2],
                Path::new(&arguments[3]),
                &arguments[4..],
                gpu,
            )
        }
        _ => ExitCode::from(64),
    }
}

#[cfg(target_os = "linux")]
extern "C" fn stand_still(_signal: libc::c_int) {
    loop {
        // SAFETY: nothing is looked at.
        unsafe { libc::poll(std::ptr::null_mut(), 0, -1) };
    }
}

#[cfg(target_os = "linux")]
fn answer(done: libc::c_int) -> std::io::Result<()> {
    match done {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Confines itself as the model process does, then tries one thing and prints what came of it.
fn probe(what: &str, model: &Path, rest: &[String], gpu: Option<Kind>) -> ExitCode {
    let place = |index: usize| Path::new(&rest[index]);
    confine::first().unwrap();
    let files = confine::files(Places {
        model,
        adapter: None,
        scratch: place(0),
        gpu,
    })
    .unwrap();
    // Where this is an executable for devices, one is opened, as the model process does.
    let wanted = gpu.map(|kind| Offload {
        kind,
        layers: 0,
        need: 0,
    });
    let opened = wanted.and_then(|wanted| device::open(&wanted).ok());
    let calls = confine::calls(gpu).unwrap();
    let kind = |result: std::io::Result<()>| match result {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    };
    let other = place(1);
    let outcome = match what {
        "supported" => format!("{files} {calls}"),
        "device" => opened.map_or("none".to_owned(), |open| open.device.name),
        #[cfg(unix)]
        "type-into-terminal" => {
            let letter = b"x";
            // SAFETY: the call reads one byte.
            let done = unsafe { libc::ioctl(0, libc::TIOCSTI, letter.as_ptr()) };
            match done {
                0 => "done".into(),
                _ => kind(Err(std::io::Error::last_os_error())),
            }
        }
        // Sends nothing, and asks only whether it might.
        #[cfg(target_os = "linux")]
        "parents-limits" => {
            let mut limit = libc::rlimit64 {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: the structure is whole; nothing is set.
            let done = unsafe {
                libc::prlimit64(
                    libc::getppid(),
                    libc::RLIMIT_FSIZE,
                    std::ptr::null(),
                    &raw mut limit,
                )
            };
            kind(answer(done))
        }
        #[cfg(target_os = "linux")]
        "own-limits" => {
            let mut limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: the structure is whole.
            let done = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
            kind(answer(done))
        }
        #[cfg(target_os = "linux")]
        "users-priority" => {
            // SAFETY: no pointers are passed.
            let done = unsafe { libc::setpriority(libc::PRIO_USER, 0, 0) };
            kind(answer(done))
        }
        #[cfg(target_os = "linux")]
        "signals-of-a-file" => {
            // SAFETY: no pointers are passed.
            let done = unsafe { libc::fcntl(0, libc::F_SETOWN, libc::getppid()) };
            kind(answer(done))
        }
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

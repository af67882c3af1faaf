//! Encrypted files beside the bare cipher, a plain file and `age`, on one core, in memory-backed
//! files, in one run.
//!
//! `cargo bench --locked --workspace --profile dev --bench files`. The rounds alternate; the best
//! of them is printed, since everything else on the machine only makes one slower. `AICO_AGE` names
//! `age` or `rage` when the first is not in the path; without either that comparison is left out.
//!
//! Files in memory have pages of 4 KiB as a rule, and giving out and clearing those takes longer
//! than encrypting what they hold. On Linux everything is measured once more in pages of 2 MiB, in
//! a file system of its own (`unshare`), which leaves the work on the bytes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench")]

use std::fs;
use std::hint::black_box;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aico_vault::{EncryptedFile, FileKey, Key, Owner, Purpose};

const SIZE: usize = 512 << 20;
const PIECE: usize = 256 << 10;
const ROUNDS: usize = 5;
const READS: u64 = 50_000;

/// Seals and opens as many bytes as the files have, half each, in pieces of a chunk.
macro_rules! cipher {
    ($library:ident) => {{
        use $library::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[3; 32]).unwrap());
        let mut piece = vec![7; 64 << 10];
        for _ in 0..SIZE / piece.len() / 2 {
            let nonce = || Nonce::assume_unique_for_key([1; 12]);
            key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut piece)
                .unwrap();
            let len = key
                .open_in_place(nonce(), Aad::empty(), &mut piece)
                .unwrap()
                .len();
            piece.truncate(len);
            black_box(&piece);
        }
    }};
}

/// Tells the process that is started for large pages where its files go.
const FOLDER: &str = "AICO_BENCH_FOLDER";

fn main() {
    one_core();
    if let Some(folder) = std::env::var_os(FOLDER) {
        println!("\nPages of 2 MiB\n");
        return measure(Path::new(&folder));
    }
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    };
    measure(folder.path());
    if cfg!(target_os = "linux") {
        let done = Command::new("unshare")
            .args(["-rm", "sh", "-c"])
            .arg("mount -t tmpfs -o huge=always,size=4g tmpfs \"$0\" && exec \"$1\" --bench")
            .args([folder.path(), &std::env::current_exe().unwrap()])
            .env(FOLDER, folder.path())
            .status();
        if !done.is_ok_and(|status| status.success()) {
            println!(
                "\nNot measured in pages of 2 MiB: no file system with them is to be had here"
            );
        }
    }
}

fn measure(folder: &Path) {
    let place = |name: &str| folder.join(name);
    let key = FileKey::from_derived(
        Key::random(),
        1,
        Purpose::EncryptedFile,
        Owner::System,
        [1; 16],
    );
    let text = vec![7; SIZE];
    fs::write(place("text"), &text).unwrap();
    let age = Age::find(folder);

    let mut all: Vec<(&str, Vec<Duration>)> = Vec::new();
    for round in 0..ROUNDS + 1 {
        let mut step = |name: &'static str, work: &mut dyn FnMut()| {
            // A virtual machine gives memory back to its host when it is freed, and gets it again
            // when it is touched, which would be charged to whoever comes next.
            fs::write(place("memory"), &text).unwrap();
            fs::remove_file(place("memory")).unwrap();
            let start = Instant::now();
            work();
            let took = start.elapsed();
            // The first round warms up.
            match all.iter_mut().find(|(there, _)| *there == name) {
                Some((_, times)) => times.push(took),
                None if round > 0 => all.push((name, vec![took])),
                None => {}
            }
        };
        step("AWS-LC's cipher, both ways", &mut || cipher!(aws_lc_rs));
        #[cfg(target_arch = "x86_64")]
        step("ring's cipher, both ways", &mut || cipher!(ring));
        step("plain file, written", &mut || {
            write_all(&mut fs::File::create(place("plain")).unwrap());
        });
        step("plain file, read", &mut || {
            read_all(&mut fs::File::open(place("plain")).unwrap());
        });
        fs::remove_file(place("plain")).unwrap();
        step("encrypted file, written", &mut || {
            let mut file = EncryptedFile::create(&key, place("sealed")).unwrap();
            write_all(&mut file);
            file.finish().unwrap();
        });
        step("encrypted file, read", &mut || {
            read_all(&mut EncryptedFile::open(&key, place("sealed")).unwrap());
        });
        step("encrypted file, verified", &mut || {
            EncryptedFile::open(&key, place("sealed"))
                .unwrap()
                .verify()
                .unwrap();
        });
        step("encrypted file, 4 KiB anywhere", &mut || {
            anywhere(&mut EncryptedFile::open(&key, place("sealed")).unwrap());
        });
        fs::remove_file(place("sealed")).unwrap();
        step("plain file to file", &mut || {
            let mut from = fs::File::open(place("text")).unwrap();
            copy(&mut from, &mut fs::File::create(place("out")).unwrap());
        });
        fs::remove_file(place("out")).unwrap();
        step("file to encrypted file", &mut || {
            let mut file = EncryptedFile::create(&key, place("sealed")).unwrap();
            copy(&mut fs::File::open(place("text")).unwrap(), &mut file);
            file.finish().unwrap();
        });
        step("encrypted file to file", &mut || {
            let mut file = EncryptedFile::open(&key, place("sealed")).unwrap();
            copy(&mut file, &mut fs::File::create(place("out")).unwrap());
        });
        for name in ["sealed", "out"] {
            fs::remove_file(place(name)).unwrap();
        }
        if let Some(age) = &age {
            step("file to age's file", &mut || {
                age.encrypt(&place("text"), &place("aged"))
            });
            step("age's file to file", &mut || {
                age.decrypt(&place("aged"), &place("out"))
            });
            step("age's file, read", &mut || {
                age.decrypt(&place("aged"), Path::new("/dev/null"))
            });
            for name in ["aged", "out"] {
                fs::remove_file(place(name)).unwrap();
            }
        }
    }

    println!("{} MiB, best of {ROUNDS}, one core\n", SIZE >> 20);
    for (name, times) in &all {
        let best = times.iter().min().unwrap().as_secs_f64();
        if *name == "encrypted file, 4 KiB anywhere" {
            println!("{name:32} {:8.0} a second", READS as f64 / best);
        } else {
            println!("{name:32} {:8.2} GB/s", SIZE as f64 / best / 1e9);
        }
    }
    let best = |name: &str| {
        let (_, times) = all.iter().find(|(there, _)| *there == name)?;
        times.iter().min().map(Duration::as_secs_f64)
    };
    println!();
    for (ours, theirs) in [
        ("file to encrypted file", "file to age's file"),
        ("encrypted file to file", "age's file to file"),
        ("encrypted file, read", "age's file, read"),
        ("encrypted file, written", "plain file, written"),
        ("encrypted file, read", "plain file, read"),
    ] {
        if let (Some(a), Some(b)) = (best(ours), best(theirs)) {
            println!("{ours}: {:.2} times the speed of {theirs}", b / a);
        }
    }
    // Both move the same bytes from one file to another; what is left is what encryption costs.
    for (ours, theirs) in [
        ("file to encrypted file", "file to age's file"),
        ("encrypted file to file", "age's file to file"),
    ] {
        if let (Some(a), Some(b), Some(plain)) =
            (best(ours), best(theirs), best("plain file to file"))
        {
            println!(
                "{ours}, beyond copying it: {:.2} ns a byte, age {:.2}",
                (a - plain) * 1e9 / SIZE as f64,
                (b - plain) * 1e9 / SIZE as f64
            );
        }
    }
}

/// Everything on one core, this process and those that it starts.
fn one_core() {
    #[cfg(target_os = "linux")]
    // SAFETY: a set of CPUs that lives through the call; zeros are an empty one.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().max(0) as usize, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

fn write_all(file: &mut impl Write) {
    let piece = vec![7; PIECE];
    for _ in 0..SIZE / PIECE {
        file.write_all(black_box(&piece)).unwrap();
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece).unwrap() {
            0 => break,
            count => to.write_all(&piece[..count]).unwrap(),
        }
    }
}

fn read_all(file: &mut impl Read) {
    let mut piece = vec![0; PIECE];
    let mut all = 0;
    loop {
        match file.read(&mut piece).unwrap() {
            0 => break,
            count => all += black_box(&piece[..count]).len(),
        }
    }
    assert_eq!(all, SIZE);
}

fn anywhere(file: &mut EncryptedFile) {
    let mut place = 1_u64;
    let mut piece = [0; 4096];
    for _ in 0..READS {
        // SplitMix64's step: places in no order, the same ones each time.
        place = place
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        let block = (place >> 32) % (SIZE as u64 / 4096);
        file.seek(SeekFrom::Start(block * 4096)).unwrap();
        file.read_exact(&mut piece).unwrap();
        black_box(&piece);
    }
}

/// The program `age`, with a key of its own.
struct Age {
    program: PathBuf,
    identity: PathBuf,
    recipient: String,
}

impl Age {
    fn find(folder: &Path) -> Option<Self> {
        let program = std::env::var_os("AICO_AGE").map_or_else(|| "age".into(), PathBuf::from);
        let mut keygen = program.clone().into_os_string();
        keygen.push("-keygen");
        let identity = folder.join("identity");
        let made = Command::new(keygen)
            .arg("-o")
            .arg(&identity)
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            println!("no age here: install it, or name it in AICO_AGE, to compare with it\n");
            return None;
        }
        let text = fs::read_to_string(&identity).unwrap();
        let recipient = text
            .lines()
            .find_map(|line| line.strip_prefix("# public key: "))
            .unwrap()
            .to_owned();
        Some(Self {
            program,
            identity,
            recipient,
        })
    }

    fn encrypt(&self, from: &Path, to: &Path) {
        let mut command = Command::new(&self.program);
        command
            .args(["-r", &self.recipient, "-o"])
            .arg(to)
            .arg(from);
        assert!(command.status().unwrap().success());
    }

    fn decrypt(&self, from: &Path, to: &Path) {
        let mut command = Command::new(&self.program);
        command.arg("-d").arg("-i").arg(&self.identity);
        command.arg("-o").arg(to).arg(from);
        assert!(command.status().unwrap().success());
    }
}

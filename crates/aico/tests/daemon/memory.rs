//! What a forced core would hold. The processes' memory is read as a dump of it is made: every
//! mapping but those that are left out of dumps. The keys to look for are worked out here from
//! the header and the password, by the documents and with none of the program's own code.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use aico_vault::{Label, Owner, Password, Purpose, Vault};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;

use crate::support::{PASSWORD, World, allow_cores, text};

struct Len;

impl KeyType for Len {
    fn len(&self) -> usize {
        32
    }
}

/// docs/formats/vault-header.md: the first wrap is that of the master password.
fn root_key(header: &[u8]) -> [u8; 32] {
    let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    let (fixed, wrap) = (&header[..46], 48);
    assert_eq!(header[wrap..wrap + 2], [0, 1], "a master password");
    let params = &header[wrap + 6..wrap + 6 + 45];
    let sealed = &header[wrap + 6 + 45..][..92];
    let cost = argon2::Params::new(
        number(wrap + 7),
        number(wrap + 11),
        number(wrap + 15),
        Some(32),
    );
    let argon2 = argon2::Argon2::new(
        argon2::Algorithm::Argon2id,
        argon2::Version::V0x13,
        cost.unwrap(),
    );
    let mut kek = [0; 32];
    argon2
        .hash_password_into(PASSWORD.as_bytes(), &params[13..], &mut kek)
        .unwrap();
    let associated = [b"aico/wrap/1\0", fixed, &[0, 1], params].concat();
    let info = [associated.as_slice()];
    let secret = Salt::new(HKDF_SHA256, &sealed[..32]).extract(&kek);
    let mut key = [0; 32];
    let expanded = secret.expand(&info, Len).unwrap();
    expanded.fill(&mut key).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(&sealed[32..44]).unwrap();
    let mut root = sealed[44..].to_vec();
    let root = key
        .open_in_place(nonce, Aad::from(&associated), &mut root)
        .unwrap();
    (&*root).try_into().unwrap()
}

/// A secret under its name.
type Needle = (String, Vec<u8>);

/// Raw, and as hex digits in both cases: keys go into databases as text.
fn forms(name: &str, key: &[u8]) -> Vec<Needle> {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        (name.to_owned(), key.to_vec()),
        (format!("{name} in hex"), hex.to_uppercase().into_bytes()),
        (format!("{name} in hex"), hex.into_bytes()),
    ]
}

/// What no process may hold in ordinary memory, unlocked or not.
fn never(world: &World) -> Vec<Needle> {
    let header = std::fs::read(world.home().join("vault.hdr")).unwrap();
    let mut all = vec![("the password".to_owned(), PASSWORD.as_bytes().to_vec())];
    all.extend(forms("the root key", &root_key(&header)));
    let keys = world.path("config").join("aico/keys");
    for file in std::fs::read_dir(keys).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let hex = text.trim().rsplit_once("key ").unwrap().1;
        let key: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        all.extend(forms("the wrapping key", &key));
    }
    assert!(all.len() >= 7, "something to look for");
    all
}

/// The keys under the root key, as a copy of the home gives them.
fn derived(world: &World) -> Vec<Needle> {
    let copy = world.path("copy");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([world.home(), copy.clone()])
        .status()
        .unwrap();
    assert!(copied.success());
    let vault = Vault::unlock(&copy, &Password::new(PASSWORD).unwrap()).unwrap();
    let mut all = Vec::new();
    for purpose in [
        Purpose::SystemDatabase,
        Purpose::Registry,
        Purpose::SigningKey,
        Purpose::Log,
        Purpose::HeaderMac,
    ] {
        let key = vault.derive(Label::new(purpose, Owner::System));
        all.extend(forms(purpose.as_str(), key.expose()));
    }
    let person = std::fs::read_dir(copy.join("persons"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let name = person.file_name().into_string().unwrap();
    let id: Vec<u8> = (0..16)
        .map(|at| u8::from_str_radix(&name[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    let keys = vault.open_person(id.try_into().unwrap()).unwrap();
    for purpose in [Purpose::PersonDatabase, Purpose::KeyringMac] {
        all.extend(forms(purpose.as_str(), keys.derive(purpose).expose()));
    }
    all
}

/// The keys of the working memory of the only person, as its note of a clean stop gives them.
fn working(world: &World, round: &str) -> Vec<Needle> {
    let copy = world.path(&format!("copy-{round}"));
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([world.home(), copy.clone()])
        .status()
        .unwrap();
    assert!(copied.success());
    let vault = Vault::unlock(&copy, &Password::new(PASSWORD).unwrap()).unwrap();
    let persons = std::fs::read_dir(copy.join("persons"));
    let person = persons.unwrap().next().unwrap().unwrap();
    let name = person.file_name().into_string().unwrap();
    let id: Vec<u8> = (0..16)
        .map(|at| u8::from_str_radix(&name[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    let keys = vault.open_person(id.try_into().unwrap()).unwrap();
    // docs/formats/working-memory.md: the salt follows the epoch.
    let note = std::fs::read(person.path().join("working/closed")).unwrap();
    let note = keys
        .open_sealed(Purpose::WorkingMemory, b"closed", &note)
        .unwrap();
    let environment = keys.derive_with(Purpose::WorkingMemory, &note[4..36]);
    let mut all = forms("the working memory's key", environment.expose());
    for what in ["name", "value"] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, environment.expose());
        let label = format!("aico/working-memory/{what}/1\0");
        let key = hmac::sign(&key, label.as_bytes());
        all.extend(forms(&format!("its key of {what}s"), key.as_ref()));
    }
    all
}

/// The names of the secrets that a dump of the process would hold, each once.
fn found(pid: u32, needles: &[Needle]) -> Vec<String> {
    found_in(pid, needles, &dumped(pid))
}

/// The same for these mappings.
fn found_in(pid: u32, needles: &[Needle], mappings: &[(u64, u64)]) -> Vec<String> {
    let longest = needles
        .iter()
        .map(|(_, needle)| needle.len())
        .max()
        .unwrap();
    // Most places begin no needle: one look tells.
    let mut begins = vec![false; 1 << 16];
    for (_, needle) in needles {
        begins[usize::from(needle[0]) << 8 | usize::from(needle[1])] = true;
    }
    let mut names = Vec::new();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut read = 0_u64;
    for &(start, end) in mappings {
        let mut at = start;
        let mut window = Vec::new();
        while at < end {
            let kept = window.len().min(longest - 1);
            window.drain(..window.len() - kept);
            let mut piece = vec![0; (end - at).min(4 << 20) as usize];
            // Unmapped since it was listed, or not to be read by anybody.
            if memory.seek(SeekFrom::Start(at)).is_err() || memory.read_exact(&mut piece).is_err() {
                break;
            }
            read += piece.len() as u64;
            at += piece.len() as u64;
            window.extend_from_slice(&piece);
            search(&window, needles, &begins, &mut names);
        }
    }
    assert!(read > 1 << 20, "the memory of {pid} was not read");
    names
}

fn search(hay: &[u8], needles: &[Needle], begins: &[bool], names: &mut Vec<String>) {
    for (at, pair) in hay.windows(2).enumerate() {
        if !begins[usize::from(pair[0]) << 8 | usize::from(pair[1])] {
            continue;
        }
        for (name, needle) in needles {
            if hay[at..].starts_with(needle) && !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
}

/// The mappings that belong into a dump: readable, private or anonymous, not excluded.
fn dumped(pid: u32) -> Vec<(u64, u64)> {
    mapped(pid, false)
}

/// All that were written to, with those that are left out of dumps or without.
fn mapped(pid: u32, excluded_too: bool) -> Vec<(u64, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut all: Vec<(u64, u64)> = Vec::new();
    let mut here = None;
    for line in maps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let excluded = flags.split_whitespace().any(|flag| flag == "dd");
            all.extend(here.take().filter(|_| excluded_too || !excluded));
        } else if let Some((range, rest)) = line.split_once(' ')
            && let Some((start, end)) = range.split_once('-')
            && let (Ok(start), Ok(end)) =
                (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
        {
            // Only what was written to: the program's own text and a model's file hold no keys.
            here = rest.starts_with("rw").then_some((start, end));
        }
    }
    all
}

/// Whether this test may look into other processes' memory at all.
fn may_look(test: &str, pid: u32) -> bool {
    match File::open(format!("/proc/{pid}/mem")) {
        Ok(_) => true,
        Err(error) => {
            assert!(
                std::env::var_os("AICO_TEST_MUST_LOOK").is_none(),
                "{test} may not look: {error}"
            );
            eprintln!(
                "skipped {test}: only root may read the memory of a hardened process ({error})"
            );
            false
        }
    }
}

/// Set up, with a key file: the start without a password is looked into as well.
fn world() -> World {
    let world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let password = world.path("password");
    world.said(&[
        "vault",
        "remember",
        "--key-file",
        "--password-file",
        password.to_str().unwrap(),
    ]);
    world
}

#[test]
fn a_secret_in_ordinary_memory_is_found() {
    let test = "a_secret_in_ordinary_memory_is_found";
    if !may_look(test, std::process::id()) {
        return;
    }
    let secret = b"ordinary memory, seen by the search".to_vec();
    let needle = ("it".to_owned(), secret.clone());
    assert_eq!(found(std::process::id(), &[needle]), ["it"]);
    drop(secret);
}

#[test]
fn a_forced_core_of_an_unlocked_daemon_has_neither_password_nor_root_key_and_a_locked_one_no_key() {
    let test = "a_forced_core_of_an_unlocked_daemon_has_neither_password_nor_root_key_and_a_locked_one_no_key";
    let mut world = world();
    let (never, derived) = (never(&world), derived(&world));
    let everything = [&never[..], &derived[..]].concat();
    let said = "The heron stands in the reeds. ".repeat(5);
    let words = [("what was said".to_owned(), b"heron stands in".to_vec())];
    // With the key file, then with the password from a file, then with the password over REST.
    let password = world.path("password");
    let from_file = ["--password-file", password.to_str().unwrap()];
    for (how, arguments) in [
        ("key file", &[][..]),
        ("password file", &from_file),
        ("REST", &[]),
    ] {
        world.serve_with(arguments);
        if !may_look(test, world.pid()) {
            return;
        }
        if how == "REST" {
            world.said(&["lock"]);
            world.said(&["unlock", "--password-file", password.to_str().unwrap()]);
        }
        for _ in 0..3 {
            world.chat(None, &said);
        }
        let none: [String; 0] = [];
        assert_eq!(found(world.pid(), &never), none, "unlocked by {how}");
        let children = world.children();
        assert_eq!(children.len(), 1, "one model process");
        assert_eq!(found(children[0], &everything), none, "the model process");
        world.said(&["lock"]);
        // Nor anywhere that no dump reaches, and nothing of what was said.
        let all = mapped(world.pid(), true);
        let gone = [&everything[..], &working(&world, how), &words].concat();
        let left = found_in(world.pid(), &gone, &all);
        assert_eq!(left, none, "locked after {how}");
        world.stop();
    }
}

/// What a compromised key was for is over: neither the root key nor the keys of databases from before
/// are anywhere in the daemon, not even where no dump reaches.
#[test]
fn after_a_rotation_no_key_from_before_is_left_in_memory() {
    let test = "after_a_rotation_no_key_from_before_is_left_in_memory";
    let mut world = world();
    let mut old = derived(&world);
    old.retain(|(name, _)| name.contains("database"));
    assert!(old.len() >= 6, "raw and in hex, of two databases");
    let header = std::fs::read(world.home().join("vault.hdr")).unwrap();
    let root = forms("the root key", &root_key(&header));
    world.serve();
    if !may_look(test, world.pid()) {
        return;
    }
    world.chat(None, "Hello");
    let pid = world.pid();
    let before = found_in(pid, &root, &mapped(pid, true));
    if before.is_empty() {
        eprintln!("{test}: this system hides the locked memory from everybody");
    }
    let password = world.path("password");
    let phrase = world.path("next-phrase");
    world.said(&[
        "vault",
        "rotate",
        "--compromised",
        "--password-file",
        password.to_str().unwrap(),
        "--recovery-file",
        phrase.to_str().unwrap(),
    ]);
    world.chat(None, "Hello again");
    let none: [String; 0] = [];
    assert_eq!(
        found_in(pid, &root, &mapped(pid, true)),
        none,
        "the old root"
    );
    assert_eq!(found(pid, &old), none, "old keys of databases");
    // The present one is where it belongs, and nowhere else.
    let header = std::fs::read(world.home().join("vault.hdr")).unwrap();
    let present = forms("the present root key", &root_key(&header));
    assert_eq!(found(pid, &present), none);
    assert_eq!(
        found_in(pid, &present, &mapped(pid, true)).is_empty(),
        before.is_empty()
    );
}

/// What may not be dumped is root's under `/proc`. As root that can't be told from others.
fn assert_undumpable(pid: u32) {
    use std::os::unix::fs::MetadataExt as _;
    let owner = |pid: &str| {
        std::fs::metadata(format!("/proc/{pid}/environ"))
            .unwrap()
            .uid()
    };
    let ours = owner("self");
    if ours != 0 {
        assert_ne!(owner(&pid.to_string()), ours, "{pid} may be dumped");
    }
}

/// A killed process leaves no core, wherever the system would put one.
#[test]
fn no_process_that_is_made_to_dump_leaves_a_core() {
    allow_cores();
    let mut world = World::ready();
    world.chat(None, "Hello");
    let child = world.children()[0];
    let pids = [child, world.pid()];
    for pid in pids {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        assert_undumpable(pid);
        // Rust swallows the first SIGSEGV that nobody faulted for; this one dumps by default as well.
        crate::support::send(pid, "ABRT");
        if pid == child {
            // The daemon is told what the system made of it, also where cores go to a program.
            let ended = crate::support::until("the child ends", || {
                let log = world.said(&["logs", "--json", "--level", "warn"]);
                let mut lines = log.lines();
                let line = lines.find(|line| line.contains("The model process ended"));
                line.map(str::to_owned)
            });
            assert!(ended.contains("signal: 6"), "{ended}");
            assert!(!ended.contains("core dumped"), "{ended}");
        } else {
            use std::os::unix::process::ExitStatusExt as _;
            let status = world.ended();
            assert!(!status.core_dumped(), "{status}");
        }
        for name in ["core".to_owned(), format!("core.{pid}")] {
            let left = |folder: &Path| folder.join(&name).exists();
            // Where it works only root is told, once it is hardened.
            let there = cwd.as_deref().is_ok_and(left);
            assert!(!there && !left(&world.data()), "{name} was left");
        }
    }
}

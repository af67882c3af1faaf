//! Commands that a signal ends: nothing half is left behind, and nothing in clear.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;

use crate::backups::{names_in, string};
use crate::support::{PASSWORD, World, fails, send, text, until};

fn begin(world: &World, arguments: &[&str]) -> Child {
    world
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ended(mut child: Child, signal: &str) -> Output {
    // Open until it has ended: the end of its input ends it too.
    let stdin = child.stdin.take();
    send(child.id(), signal);
    let done = child.wait_with_output().unwrap();
    drop(stdin);
    done
}

/// What is in the folder of a test besides what it began with.
fn parts(world: &World, name: &str) -> Vec<String> {
    let all = names_in(world.path("x").parent().unwrap());
    all.into_iter().filter(|one| one.contains(name)).collect()
}

/// The head of a request, and its body.
fn request(stream: &mut UnixStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(said) = line.to_lowercase().strip_prefix("content-length:") {
            length = said.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    head
}

/// Stands for a daemon that has sent a piece of an export and sends no more.
fn half_an_export(world: &World) -> std::thread::JoinHandle<UnixStream> {
    let run = world.data().join("run");
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&run).unwrap();
    let listener = UnixListener::bind(run.join("aico.sock")).unwrap();
    std::thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            if request(&mut stream).starts_with("GET /api/v1/state ") {
                let state = json!({"version": env!("CARGO_PKG_VERSION"), "stage": "ready"});
                let state = state.to_string();
                let length = state.len();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{state}"
                )
                .unwrap();
                continue;
            }
            let piece =
                json!({"type": "piece", "file": "part.jsonl", "text": "{\"text\":\"zebra\"}\n"});
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{piece}\n"
            )
            .unwrap();
            return stream;
        }
    })
}

#[test]
fn of_an_export_in_clear_nothing_is_left() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let world = World::new();
        let daemon = half_an_export(&world);
        let (to, password) = (world.path("my-data"), world.path("password"));
        let password = string(&password);
        let child = begin(
            &world,
            &["export", "--to", string(&to), "--password-file", password],
        );
        let stays_open = daemon.join().unwrap();
        until("something of it is written", || {
            let [folder] = &parts(&world, "my-data")[..] else {
                return None;
            };
            let said = std::fs::read_to_string(world.path(folder).join("part.jsonl"));
            said.is_ok_and(|said| said.contains("zebra")).then_some(())
        });
        let done = ended(child, signal);
        drop(stays_open);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains("nothing of it was kept"), "{said}");
        assert!(parts(&world, "my-data").is_empty());
    }
}

#[test]
fn what_a_killed_export_left_goes_with_the_next_one_and_what_is_being_written_stays() {
    let world = World::new();
    let daemon = half_an_export(&world);
    let (to, password) = (world.path("my-data"), world.path("password"));
    let password = string(&password);
    let export = ["export", "--to", string(&to), "--password-file", password];
    let mut child = begin(&world, &export);
    let stays_open = daemon.join().unwrap();
    let part = until("something of it is written", || {
        let [folder] = &parts(&world, "my-data")[..] else {
            return None;
        };
        let said = std::fs::read_to_string(world.path(folder).join("part.jsonl"));
        said.is_ok_and(|said| said.contains("zebra"))
            .then(|| folder.clone())
    });
    // Nothing answers any more: the next one ends before it has written anything.
    assert!(!world.aico(&export).status.success());
    assert_eq!(parts(&world, "my-data"), [part.as_str()]);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stays_open);
    assert_eq!(parts(&world, "my-data"), [part.as_str()]);
    // Somebody else's, which only has such a name.
    let others = world.path(".photos.0123abcd.part");
    std::fs::create_dir(&others).unwrap();
    std::fs::write(others.join("one"), "mine").unwrap();
    let elsewhere = world.path("again");
    let export = ["export", "--to", string(&elsewhere)];
    assert!(!world.aico(&export).status.success());
    assert!(parts(&world, "my-data").is_empty());
    assert!(others.join("one").exists());
}

#[test]
fn of_a_file_that_is_encrypted_nothing_is_left() {
    let world = World::ready();
    let out = world.path("piped.aico");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = begin(&world, &["file", "encrypt", "-", "--out", string(&out)]);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&[b'z'; 300_000]).unwrap();
        until("it is begun", || {
            (parts(&world, "piped").len() == 1).then_some(())
        });
        let done = ended(child, signal);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains("nothing of it was kept"), "{said}");
        assert!(parts(&world, "piped").is_empty());
    }
}

#[test]
fn no_empty_file_for_a_phrase_is_in_the_way_of_the_next_try() {
    let world = World::new();
    let phrase = world.path("phrase");
    let setup = ["setup", "--name", "Mia", "--password-stdin"];
    let setup = [&setup[..], &["--recovery-file", string(&phrase)]].concat();
    let child = begin(&world, &setup);
    until("the file is made", || phrase.exists().then_some(()));
    let done = ended(child, "INT");
    assert_eq!(done.status.code(), Some(130), "{}", text(&done.stderr));
    assert!(!phrase.exists());

    let mut child = begin(&world, &setup);
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{PASSWORD}").unwrap();
    drop(stdin);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));

    // What is written is never taken away.
    let words = std::fs::read_to_string(&phrase).unwrap();
    let new = world.path("new-phrase");
    let again = ["vault", "phrase", "--password-stdin", "--recovery-file"];
    let child = begin(&world, &[&again[..], &[string(&new)]].concat());
    until("the file is made", || new.exists().then_some(()));
    let done = ended(child, "TERM");
    assert_eq!(done.status.code(), Some(143), "{}", text(&done.stderr));
    assert!(!new.exists());
    assert_eq!(std::fs::read_to_string(&phrase).unwrap(), words);
}

#[test]
fn a_second_signal_ends_a_daemon_that_still_opens_its_vault() {
    let world = World::new();
    assert!(world.setup().status.success());
    // Nobody ever writes to it.
    let pipe = world.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    std::fs::set_permissions(&pipe, std::fs::Permissions::from_mode(0o600)).unwrap();
    let log = world.path("stderr");
    let mut serve = vec!["serve", "--bind", "127.0.0.1:0"];
    for set in [
        "bus.bind=127.0.0.1:0",
        "bus.live_bind=127.0.0.1:0",
        "ollama.start=never",
        "models.gpu=off",
    ] {
        serve.extend(["--set", set]);
    }
    serve.extend(["--password-file", string(&pipe)]);
    let mut child = world
        .command(&serve)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let socket = world.data().join("run/aico.sock");
    until("it listens", || socket.exists().then_some(()));
    send(child.id(), "INT");
    until("the first signal is heard", || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("as soon as the vault is open").then_some(())
    });
    send(child.id(), "INT");
    let status = until("it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130));
}

#[test]
fn standard_input_is_the_text_or_the_password() {
    let world = World::new();
    let out = world.path("out.aico");
    for what in [
        &["file", "encrypt", "-", "--out", string(&out)][..],
        &["chat", "--once", "-"],
        &["character", "import", "-"],
        &["character", "edit", "Mine", "-"],
        &["character", "create", "Mine", "--file", "-"],
    ] {
        let mut child = begin(&world, &[what, &["--password-stdin"]].concat());
        // Open, with nothing in it: whoever reads it waits.
        let stdin = child.stdin.take();
        let status = until("it is refused", || child.try_wait().unwrap());
        drop(stdin);
        let done = child.wait_with_output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(status.code(), Some(2), "{what:?}: {said}");
        assert!(said.contains("--password-file"), "{what:?}: {said}");
    }
    assert!(!out.exists());
}

#[test]
fn what_follows_for_ever_says_why_it_ended() {
    let mut world = World::ready();
    let follow = |world: &World, what: &[&str]| {
        let mut child = begin(world, what);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "{what:?}");
        // Somebody still reads.
        (child, out)
    };
    let ends = |mut child: Child, what: &str| {
        let status = until(what, || child.try_wait().unwrap());
        let mut said = String::new();
        child.stderr.unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    };
    let (child, out) = follow(&world, &["logs", "--follow"]);
    world.said(&["lock"]);
    let (code, said) = ends(child, "it is locked");
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("locked"), "{said}");
    drop(out);
    let password = world.path("password");
    world.said(&["unlock", "--password-file", string(&password)]);
    let (child, out) = follow(&world, &["logs", "--follow"]);
    world.stop();
    let (code, said) = ends(child, "it is stopped");
    assert_eq!(code, Some(3), "{said}");
    drop(out);
}

#[test]
#[cfg(target_os = "linux")]
fn words_for_people_that_can_not_be_written_change_no_code() {
    let world = World::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let done = world.command(&["status"]).stderr(full.unwrap()).status();
    assert_eq!(done.unwrap().code(), Some(3));
}

#[test]
fn a_daemon_that_does_not_answer_is_not_waited_for_for_ever() {
    let world = World::new();
    let run = world.data().join("run");
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&run).unwrap();
    // It takes connections, as the system does for a process that is stopped.
    let _listener = UnixListener::bind(run.join("aico.sock")).unwrap();
    std::fs::write(world.data().join("lock"), "4242\n").unwrap();
    fails(&world, &["status"], 1, "(process 4242) does not answer");
}

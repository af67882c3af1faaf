//! Ollama installed by a person, from the command line and by the API: what is told first, and what
//! comes of it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::file_server::{FileServer, Reply, Way};
use crate::support::{PASSWORD, World, fails, text, until};

/// What does not become small when it is packed: several parts of a download.
fn noise() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..40_000_u32 {
        bytes.extend_from_slice(&Sha256::digest(number.to_be_bytes()));
    }
    bytes
}

/// An archive as Ollama's is.
fn archive(world: &World) -> Vec<u8> {
    let root = world.path("archive");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::create_dir_all(root.join("lib/ollama")).unwrap();
    let program = root.join("bin/ollama");
    // AICO gives it a home of its own; whoever else starts it has none of these variables.
    let script =
        "#!/bin/sh\necho installed\n[ -z \"$OLLAMA_NO_CLOUD\" ] || : > \"$HOME/started\"\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(root.join("lib/ollama/libggml.so.1"), noise()).unwrap();
    std::os::unix::fs::symlink("libggml.so.1", root.join("lib/ollama/libggml.so")).unwrap();
    let packed = Command::new("tar")
        .args(["-czf", "-", "./bin", "./lib"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(packed.status.success());
    packed.stdout
}

fn list(content: &[u8], sha256: Option<&str>) -> String {
    let hash = hex::encode(Sha256::digest(content));
    json!({
        "version": 1, "date": "2026-11-27", "release": "0.12.10", "license": "MIT",
        "license_url": "https://hub.test/LICENSE", "notice": "Holds libraries of others too.",
        "archives": [{
            "system": "linux", "machine": std::env::consts::ARCH,
            "source": "https://hub.test/v0.12.10/ollama-linux.tgz",
            "size": content.len(), "sha256": sha256.unwrap_or(&hash),
        }],
    })
    .to_string()
}

#[test]
fn ollama_is_installed_when_the_person_agrees_and_goes_again() {
    let world = World::new();
    let content = archive(&world);
    let served = content.clone();
    let server = FileServer::start(move |asked| Reply::file(&served, asked));
    let releases = world.write("releases.json", &list(&content, None));
    let from = [
        format!("models.mirror={}", server.url()),
        format!("ollama.releases={}", releases.display()),
        // Nobody listens there.
        "ollama.address=127.0.0.1:9".to_owned(),
    ];
    let with = |arguments: &[&str]| {
        let mut all: Vec<String> = Vec::new();
        for one in &from {
            all.extend(["--set".to_owned(), one.clone()]);
        }
        all.extend(arguments.iter().map(|word| (*word).to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        world.aico(&all)
    };
    let status = || -> Value {
        let told = with(&["engine", "status", "ollama", "--json"]);
        serde_json::from_slice(&told.stdout).unwrap()
    };
    let before = status();
    assert!(before["installed_by_aico"].is_null() && before["running"].is_null());
    assert_eq!(before["problem"]["code"], "engine-absent");

    // Nobody is there who could agree: everything is told, and no server is asked for anything.
    let asked = with(&["engine", "install", "ollama"]);
    let told = text(&asked.stderr);
    assert!(!asked.status.success());
    for word in [
        "Ollama 0.12.10",
        "MB",
        &server.url(),
        "MIT",
        "Holds libraries",
        "--yes",
    ] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(server.asked().is_empty());

    let done = with(&["engine", "install", "ollama", "--yes"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let after = status();
    assert_eq!(after["installed_by_aico"]["version"], "0.12.10");
    let program = after["program"].as_str().unwrap();
    assert!(program.starts_with(world.data().to_str().unwrap()));
    let said = Command::new(program).output().unwrap();
    assert_eq!(text(&said.stdout), "installed\n");
    let again = with(&["engine", "install", "ollama", "--yes"]);
    assert!(
        text(&again.stderr).contains("already"),
        "{}",
        text(&again.stderr)
    );

    assert!(with(&["engine", "remove", "ollama"]).status.success());
    assert!(status()["installed_by_aico"].is_null());
    fails(&world, &["engine", "remove", "ollama"], 13, "not installed");

    // Another hash than that of what comes.
    let other = world.write("other.json", &list(&content, Some(&"00".repeat(32))));
    let other = format!("ollama.releases={}", other.display());
    let mirror = &from[0];
    let wrong = [
        "--set", mirror, "--set", &other, "engine", "install", "ollama", "--yes",
    ];
    fails(&world, &wrong, 29, "Nothing of it was used");
    assert!(status()["installed_by_aico"].is_null());
    // None that could be checked.
    let mut unproven: Value = serde_json::from_str(&list(&content, None)).unwrap();
    unproven["archives"][0]["unproven"] = "nobody vouches for it".into();
    let unproven = world.write("unproven.json", &unproven.to_string());
    let unproven = format!("ollama.releases={}", unproven.display());
    server.forget_asked();
    let refused = [
        "--set", mirror, "--set", &unproven, "engine", "install", "ollama", "--yes",
    ];
    fails(&world, &refused, 15, "nobody vouches for it");
    assert!(server.asked().is_empty());
    // An address of another machine is no address for it.
    let away = [
        "--set",
        "ollama.address=192.168.1.2:11434",
        "engine",
        "status",
        "ollama",
    ];
    fails(&world, &away, 17, "ollama.address");
}

#[test]
fn ollama_is_installed_over_the_api_cancelled_gone_on_with_and_started() {
    const PATH: &str = "/api/v1/engines/ollama/installation";

    let mut world = World::new();
    assert!(world.setup().status.success());
    let content = archive(&world);
    let size = content.len() as u64;
    let slow = Arc::new(AtomicBool::new(false));
    let (served, slows) = (content.clone(), Arc::clone(&slow));
    let server = FileServer::start(move |asked| {
        let reply = Reply::file(&served, asked);
        // The first part comes, the others do not before somebody loses patience.
        let first = asked.range.is_some_and(|(first, _)| first == 0);
        match slows.load(Ordering::SeqCst) && !first {
            true => reply.way(Way::Slow(512, Duration::from_millis(100))),
            false => reply,
        }
    });
    // It is read each time, so a later one counts without a restart.
    let releases = world.write("releases.json", &list(&content, Some(&"00".repeat(32))));
    let set = [
        format!("models.mirror={}", server.url()),
        format!("ollama.releases={}", releases.display()),
        // Nobody listens there.
        "ollama.address=127.0.0.1:9".to_owned(),
        "ollama.start=auto".to_owned(),
    ];
    let set: Vec<&str> = set.iter().flat_map(|one| ["--set", one.as_str()]).collect();
    let password = world.path("password");
    let unlocked = ["--password-file", password.to_str().unwrap()];
    world.serve_with(&[&unlocked[..], &set].concat());
    let api = world.api().sign_in("Mia", PASSWORD);
    let told = || {
        let (status, told) = api.get(PATH);
        assert_eq!(status, 200, "{told}");
        told
    };
    let agree = |to: &Value| {
        let body = json!({ "version": to["version"], "sha256": to["sha256"] });
        api.post(PATH, &body)
    };
    let run = |status: &str| {
        until(status, || {
            let told = told();
            (told["run"]["status"] == status).then_some(told)
        })
    };

    // Everything is told, and no server is asked for it.
    let before = told();
    assert_eq!(
        (&before["installed"], &before["run"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(before["starts"], true);
    let release = &before["release"];
    assert_eq!(
        (&release["version"], &release["license"]),
        (&"0.12.10".into(), &"MIT".into())
    );
    assert_eq!(release["size_bytes"], size);
    assert_eq!(release["notice"], "Holds libraries of others too.");
    let source = release["source"].as_str().unwrap();
    assert!(source.starts_with(&server.url()), "{source}");
    let folder = world.data().join("engines/ollama");
    assert_eq!(release["folder"], folder.to_str().unwrap());
    let another = json!({ "version": "0.12.9", "sha256": release["sha256"] });
    assert_eq!(agree(&another).0, 409, "nobody was shown that one");
    assert_eq!(api.call("DELETE", PATH, None).0, 404, "nothing runs");
    assert_eq!(api.get("/api/v1/engines/lab/installation").0, 404);
    assert!(server.asked().is_empty());

    // What comes has another hash than what was agreed to.
    assert_eq!(agree(release).0, 202);
    let failed = run("failed");
    assert_eq!(failed["run"]["problem"]["code"], "download-wrong");
    assert_eq!(failed["installed"], Value::Null);
    assert_eq!(failed["release"]["kept_bytes"], 0);

    // The right list: cancelled in the middle, what came is kept.
    world.write("releases.json", &list(&content, None));
    slow.store(true, Ordering::SeqCst);
    let right = told()["release"].clone();
    assert_eq!(agree(release).0, 409, "by now it is another one");
    let (status, begun) = agree(&right);
    assert_eq!(status, 202, "{begun}");
    until("a part is here", || {
        (told()["release"]["kept_bytes"].as_u64()? > 0).then_some(())
    });
    let going = run("running");
    assert_eq!(going["run"]["total_bytes"], size);
    assert_eq!(agree(&right).0, 409, "one at a time");
    assert_eq!(api.call("DELETE", PATH, None).0, 204);
    let cancelled = told();
    assert_eq!(cancelled["run"], Value::Null);
    let kept = cancelled["release"]["kept_bytes"].as_u64().unwrap();
    assert!(kept > 0 && kept < size, "{kept} of {size}");

    // It goes on there, and what is installed is started without anybody starting AICO anew.
    slow.store(false, Ordering::SeqCst);
    server.settle();
    server.forget_asked();
    assert_eq!(agree(&right).0, 202);
    let done = run("done");
    assert_eq!(done["installed"], "0.12.10");
    assert_eq!(done["release"], Value::Null);
    assert!(
        done["program"]
            .as_str()
            .unwrap()
            .starts_with(folder.to_str().unwrap())
    );
    let asked = server.asked();
    let ranges = asked.iter().filter_map(|asked| asked.range);
    let fetched: u64 = ranges.map(|(first, last)| last - first + 1).sum();
    assert!(
        fetched <= size - kept,
        "{fetched} of {size}, {kept} were kept"
    );
    let started = folder.join("home/started");
    until("it was started", || started.exists().then_some(()));
    assert_eq!(agree(&right).0, 409, "it is here already");

    // One that failed is told as long as there is something to install.
    world.write("releases.json", &list(&content, Some(&"00".repeat(32))));
    let other = told()["release"].clone();
    assert_eq!(agree(&other).0, 202);
    assert_eq!(run("failed")["installed"], "0.12.10");
    world.write("releases.json", &list(&content, None));
    let right = told();
    assert_eq!(
        (&right["release"], &right["run"]),
        (&Value::Null, &Value::Null)
    );

    // The command line sees the same, with the daemon and without.
    for _ in 0..2 {
        let again = world.aico(&[&set[..], &["engine", "install", "ollama"]].concat());
        assert!(
            text(&again.stderr).contains("already"),
            "{}",
            text(&again.stderr)
        );
        if world.runs() {
            world.stop();
        }
    }
}

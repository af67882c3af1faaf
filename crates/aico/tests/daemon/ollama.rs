//! Ollama installed by a person from the command line: what is told first, and what comes of it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::file_server::{FileServer, Reply};
use crate::support::{World, fails, text};

/// What does not become small when it is packed.
fn noise() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..10_000_u32 {
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
    std::fs::write(&program, "#!/bin/sh\necho installed\n").unwrap();
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
        "kB",
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

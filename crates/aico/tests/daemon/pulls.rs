//! Downloading models with the real daemon: killed in the middle, over TLS, on a full disk, and
//! what the command line says when it does not work.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::file_server::{Asked, FileServer, Reply, Way, Wire};
use crate::support::{World, fails, text, until};

const PART: usize = 64 << 10;

/// The starter with a few bytes after its end: a model, and one that is not here yet.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let starter = include_bytes!("../../../../models/starter/aico-starter.gguf");
    [&starter[..], &[0; 64]].concat()
});

fn content() -> &'static [u8] {
    &CONTENT
}

/// A catalogue with the starter under another name; its hub is none that exists.
fn catalogue(world: &World, parts: bool) -> String {
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let mut model = json!({
        "name": "tiny", "title": "Tiny", "summary": "For tests.", "for": "chat",
        "architecture": "llama", "parameters": 1_000_000, "quantization": "Q8_0",
        "context_length": 512, "context_bytes_per_token": 1024, "license": "MIT",
        "license_url": "https://example.org/licence", "size": content().len(),
        "sha256": hash(content()), "sources": ["https://hub.invalid/tiny.gguf"], "recommend": true
    });
    if parts {
        let parts: Vec<String> = content().chunks(PART).map(hash).collect();
        model["parts"] = json!({"size": PART, "sha256": parts});
    }
    let all = json!({"version": 1, "date": "2026-11-26", "models": [model]});
    let path = world.write("catalogue.json", &all.to_string());
    format!("models.catalogue={}", path.display())
}

fn serve(world: &mut World, catalogue: &str, mirror: &str) {
    let password = world.path("password");
    let mirror = format!("models.mirror={mirror}");
    world.serve_with(&[
        "--password-file",
        password.to_str().unwrap(),
        "--set",
        catalogue,
        "--set",
        &mirror,
    ]);
}

/// Set up and served, with this server as the mirror.
fn world_with(mirror: &str, parts: bool) -> World {
    let mut world = World::new();
    assert!(world.setup().status.success());
    let catalogue = catalogue(&world, parts);
    serve(&mut world, &catalogue, mirror);
    world
}

fn pull(world: &World) -> Value {
    let all: Value = serde_json::from_str(&world.said(&["model", "pulls", "--json"])).unwrap();
    all["items"][0].clone()
}

fn slow(asked: &Asked) -> Reply {
    Reply::file(content(), asked).way(Way::Slow(8 << 10, Duration::from_millis(100)))
}

#[test]
fn a_killed_daemon_goes_on_and_keeps_the_parts_that_are_whole() {
    let fast = Arc::new(AtomicBool::new(false));
    let go = Arc::clone(&fast);
    let server = FileServer::start(move |asked| {
        if asked.number < 6 || go.load(Ordering::SeqCst) {
            Reply::file(content(), asked)
        } else {
            slow(asked)
        }
    });
    let mut world = World::new();
    assert!(world.setup().status.success());
    let catalogue = catalogue(&world, false);
    serve(&mut world, &catalogue, &server.url());
    assert_eq!(server.connections(), 0, "nobody asked yet");
    world.said(&["model", "pull", "tiny", "--yes", "--detach"]);
    let list = world.data().join("models/downloads/tiny.parts");
    let listed = || {
        let text = fs::read_to_string(&list).unwrap_or_default();
        text.lines().count().saturating_sub(1)
    };
    until("some parts are on the disk", || {
        (listed() >= 3).then_some(())
    });
    world.kill();
    assert!(
        listed() < content().len().div_ceil(256 << 10),
        "not all of it"
    );

    // What the power cut left of one part is not what was written.
    let kept: Vec<u64> = fs::read_to_string(&list)
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    let partial = world.data().join("models/downloads/tiny.partial");
    let mut bytes = fs::read(&partial).unwrap();
    let lost = kept[0];
    bytes[lost as usize * (256 << 10) + 77] ^= 1;
    fs::write(&partial, bytes).unwrap();

    server.settle();
    server.forget_asked();
    fast.store(true, Ordering::SeqCst);
    serve(&mut world, &catalogue, &server.url());
    let done = until("it is done by itself", || {
        let pull = pull(&world);
        (pull["status"] == "done").then_some(pull)
    });
    assert_eq!(done["kept_bytes"], (kept.len() - 1) * (256 << 10));
    let asked: Vec<u64> = server
        .asked()
        .iter()
        .map(|one| one.range.unwrap().0 / (256 << 10))
        .collect();
    assert!(asked.contains(&lost), "{asked:?}");
    for good in &kept[1..] {
        assert!(!asked.contains(good), "{good} again: {asked:?}");
    }
    assert_eq!(
        fs::read(world.data().join("models/tiny.gguf")).unwrap(),
        content()
    );
    assert_eq!(
        fs::read_dir(world.data().join("models/downloads"))
            .unwrap()
            .count(),
        0
    );
    world.said(&["model", "use", "tiny"]);
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    let told = world.said(&["model", "catalogue"]);
    assert!(told.contains("here already"), "{told}");
    // And nothing goes on once it is done.
    world.stop();
    server.forget_asked();
    serve(&mut world, &catalogue, &server.url());
    assert!(pull(&world).is_null());
    assert!(server.asked().is_empty());
}

/// A certificate for `localhost` and the authority that signed it, in a file.
fn tls(world: &World) -> (Arc<rustls::ServerConfig>, std::path::PathBuf) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&key).unwrap();
    let pem = world.write("authority.pem", &ca.pem());
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let signed = params.signed_by(&own, &issuer).unwrap();
    let secret = PrivateKeyDer::from_pem_slice(own.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], secret)
        .unwrap();
    (Arc::new(config), pem)
}

#[test]
fn over_tls_the_systems_certificates_decide() {
    let mut world = World::new();
    assert!(world.setup().status.success());
    let (config, authority) = tls(&world);
    let server = FileServer::wrapped(
        "127.0.0.1:0",
        Arc::new(move |stream| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            Box::new(rustls::StreamOwned::new(connection, stream)) as Box<dyn Wire>
        }),
        |asked| Reply::file(content(), asked),
    );
    let catalogue = catalogue(&world, true);
    let mirror = format!("https://localhost:{}", server.address.port());
    serve(&mut world, &catalogue, &mirror);
    let arguments = ["model", "pull", "tiny", "--yes", "--use"];
    fails(&world, &arguments, 28, "not secure");
    assert!(server.asked().is_empty(), "no word before it is secure");
    world.stop();

    world.set("SSL_CERT_FILE", authority);
    serve(&mut world, &catalogue, &mirror);
    let said = world.said(&arguments);
    assert!(said.contains("tiny is here"), "{said}");
    let listed: Value = serde_json::from_str(&world.said(&["model", "list", "--json"])).unwrap();
    let items = listed["items"].as_array().unwrap();
    let tiny = items.iter().find(|one| one["name"] == "tiny").unwrap();
    until("it answers", || {
        let listed: Value =
            serde_json::from_str(&world.said(&["model", "list", "--json"])).unwrap();
        (listed["state"]["name"] == "tiny" && listed["state"]["status"] == "ready").then_some(())
    });
    assert_eq!(tiny["license"], listed["items"][0]["license"]);
    // A name that the certificate does not have.
    world.stop();
    fs::remove_file(world.data().join("models/tiny.gguf")).unwrap();
    let other = format!("https://127.0.0.1:{}", server.address.port());
    serve(&mut world, &catalogue, &other);
    fails(&world, &arguments, 28, "not secure");
}

#[test]
fn what_how_large_and_from_where_is_said_before_anything_is_asked_of_a_server() {
    let server = FileServer::start(|asked| Reply::file(content(), asked));
    let world = world_with(&server.url(), true);
    let told = world.said(&["model", "catalogue"]);
    for words in ["tiny", "1.1 MB", "MIT", "memory"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let asked = world.aico(&["model", "pull", "tiny"]);
    let said = text(&asked.stderr);
    assert_eq!(asked.status.code(), Some(2), "{said}");
    for words in [
        "1.1 MB",
        &server.url(),
        "MIT",
        "https://example.org/licence",
        "are free now",
        "--yes",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(server.connections(), 0);
    fails(
        &world,
        &["model", "pull", "unknown", "--yes"],
        13,
        "catalogue",
    );
    fails(&world, &["model", "pull", "--cancel", "tiny"], 13, "pulls");
    assert!(world.said(&["model", "pulls"]).is_empty());
    let all: Value = serde_json::from_str(&world.said(&["model", "catalogue", "--json"])).unwrap();
    assert_eq!(
        all["items"][0]["sha256"],
        hex::encode(Sha256::digest(content()))
    );
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_damaged_model_is_fetched_again_when_somebody_agrees() {
    let server = FileServer::start(|asked| Reply::file(content(), asked));
    let world = world_with(&server.url(), true);
    let agreed = ["model", "pull", "tiny", "--yes"];
    world.said(&agreed);
    let file = world.data().join("models/tiny.gguf");
    let mut other = content().to_vec();
    other[content().len() / 2] ^= 1;
    for damaged in [&other[..], &content()[1..]] {
        fs::write(&file, damaged).unwrap();
        server.settle();
        server.forget_asked();
        let asked = world.aico(&agreed[..3]);
        let said = text(&asked.stderr);
        assert_eq!(asked.status.code(), Some(2), "{said}");
        for words in ["MIT", &server.url(), "--yes"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(server.asked().is_empty());
        assert_eq!(fs::read(&file).unwrap(), damaged);
        world.said(&agreed);
        assert_eq!(fs::read(&file).unwrap(), content());
    }
    // Who said yes beforehand need not ask twice.
    fs::write(&file, &other).unwrap();
    world.said(&agreed);
    assert_eq!(fs::read(&file).unwrap(), content());
}

#[test]
fn a_model_that_does_not_converse_is_not_advised_for_that() {
    let server = FileServer::start(|asked| Reply::file(content(), asked));
    let world = world_with(&server.url(), true);
    let all = fs::read_to_string(world.path("catalogue.json")).unwrap();
    let all = all.replace(r#""for":"chat""#, r#""for":"embedding""#);
    world.write("catalogue.json", &all);
    let pull = ["model", "pull", "tiny", "--yes", "--use"];
    fails(&world, &pull, 15, "without --use");
    assert_eq!(server.connections(), 0);
    let done = world.aico(&pull[..4]);
    let said = text(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("aico model embed --model tiny"), "{said}");
    assert!(!said.contains("model use"), "{said}");
}

#[test]
fn failures_have_words_and_codes_of_their_own() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let world = world_with(&nobody, true);
    let gone = world.aico(&["model", "pull", "tiny", "--yes"]);
    let said = text(&gone.stderr);
    assert_eq!(gone.status.code(), Some(27), "{said}");
    for words in ["127.0.0.1", "need no connection", "models.mirror"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    drop(world);

    let inside = FileServer::start(|asked| Reply::file(content(), asked));
    let target = format!("https://{}/tiny.gguf", inside.address);
    let mirror = FileServer::start(move |_| Reply::redirect(&target));
    let world = world_with(&mirror.url(), true);
    fails(&world, &["model", "pull", "tiny", "--yes"], 30, "127.0.0.1");
    assert_eq!(inside.connections(), 0);
    drop(world);

    let mut other = content().to_vec();
    other[9] ^= 1;
    let mirror = FileServer::start(move |asked| Reply::file(&other, asked));
    let world = world_with(&mirror.url(), false);
    fails(&world, &["model", "pull", "tiny", "--yes"], 29, "127.0.0.1");
    assert!(!world.data().join("models/tiny.gguf").exists());
    drop(world);

    // The catalogue's own source, which no mirror replaces and no network reaches.
    let mut world = World::new();
    assert!(world.setup().status.success());
    let catalogue = catalogue(&world, true);
    let broken = world.write("broken.json", "{}");
    let password = world.path("password");
    let password = password.to_str().unwrap();
    world.serve_with(&["--password-file", password, "--set", &catalogue]);
    fails(
        &world,
        &["model", "pull", "tiny", "--yes"],
        27,
        "hub.invalid",
    );
    world.stop();
    let broken = format!("models.catalogue={}", broken.display());
    world.serve_with(&["--password-file", password, "--set", &broken]);
    fails(&world, &["model", "catalogue"], 17, "broken.json");
    fails(
        &world,
        &["model", "pull", "tiny", "--yes"],
        17,
        "models.catalogue",
    );
}

#[test]
fn a_full_disk_is_told_and_the_download_goes_on_when_there_is_room() {
    let test = "pulls::a_full_disk_is_told_and_the_download_goes_on_when_there_is_room";
    let Some(mut world) = World::on_disk(test, "16m") else {
        return;
    };
    assert!(world.setup().status.success());
    let server = FileServer::start(|asked| {
        if asked.number < 4 {
            Reply::file(content(), asked)
        } else {
            slow(asked)
        }
    });
    let catalogue = catalogue(&world, true);
    serve(&mut world, &catalogue, &server.url());
    // No room for it from the beginning.
    world.disk().fill();
    let arguments = ["model", "pull", "tiny", "--yes"];
    fails(&world, &arguments, 12, "disk is full");
    assert_eq!(server.connections(), 0);
    world.disk().free();
    // And in the middle.
    world.said(&["model", "pull", "tiny", "--yes", "--detach"]);
    until("some of it is here", || {
        (pull(&world)["done_bytes"].as_u64()? > 4 * PART as u64).then_some(())
    });
    world.disk().fill();
    let failed = until("the disk is full", || {
        let pull = pull(&world);
        (pull["status"] == "failed").then_some(pull)
    });
    assert_eq!(failed["problem"]["code"], "storage-full", "{failed}");
    world.disk().free();
    world.said(&arguments);
    assert_eq!(
        fs::read(world.data().join("models/tiny.gguf")).unwrap(),
        content()
    );
    let kept = pull(&world)["kept_bytes"].as_u64().unwrap();
    assert!(kept >= 4 * PART as u64, "{kept}");
}

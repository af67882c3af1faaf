//! Downloads on its side, models that are made, and their removal.

use std::io::Write as _;

use aico_characters::Recipe;
use aico_models::backend::ollama::Creation;
use aico_models::backend::shelf::{Making, Progress, Shelf};
use aico_models::backend::{Backend, BackendError};
use aico_models::pull::url::Url;
use serde_json::json;
use tokio::sync::watch;

use crate::double::{Dialect, Double, Fault};
use crate::registry::Registry;
use crate::{BOTH, ask, of, question, with};

#[tokio::test]
async fn a_download_is_followed_to_its_end() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = of(&double);
        let (sender, mut progress) = watch::channel(Progress::default());
        ollama.pull("qwen3:8b", false, &sender).await.unwrap();
        let end = progress.borrow_and_update().clone();
        assert_eq!((end.step, end.done, end.total), ("done", 1500, 1500));
        let names: Vec<_> = ollama.models().await.unwrap();
        assert!(names.iter().any(|model| model.name == "qwen3:8b"));
        ask(&ollama, "qwen3:8b", &question("Hi")).await.1.unwrap();

        let none = ollama.pull("nothing:1b", false, &sender).await;
        assert_eq!(none, Err(BackendError::ModelMissing));
        for (fault, error) in [
            (Fault::NoDone, BackendError::CutOff),
            (Fault::Cut, BackendError::CutOff),
            (Fault::HalfLine, BackendError::Unreadable),
            (
                Fault::Error("write /x/blobs/y: no space left on device"),
                BackendError::DiskFull,
            ),
            (
                Fault::Error("write /x/blobs/y: input/output error"),
                BackendError::DiskFailing,
            ),
            (
                Fault::Error("digest mismatch, file must be downloaded again"),
                BackendError::WrongBytes,
            ),
            (Fault::Garbage, BackendError::Unreadable),
        ] {
            double.fail("/api/pull", fault);
            assert_eq!(ollama.pull("qwen3:8b", false, &sender).await, Err(error));
        }
        double.fail(
            "/api/pull",
            Fault::Error("dial tcp: lookup registry.ollama.ai: no such host"),
        );
        let offline = ollama.pull("qwen3:8b", false, &sender).await;
        assert_eq!(offline, Err(BackendError::RegistryUnreachable));
    }
}

#[tokio::test]
async fn a_download_that_stalls_is_noticed() {
    let double = Double::start(Dialect::New).await;
    let ollama = with(&double, |config| {
        config.limits.first_token = std::time::Duration::from_millis(300);
    });
    let (sender, progress) = watch::channel(Progress::default());
    double.fail("/api/pull", Fault::HangAfter(4));
    let stalled = ollama.pull("qwen3:8b", false, &sender).await;
    assert!(
        matches!(stalled, Err(BackendError::TimedOut { .. })),
        "{stalled:?}"
    );
    assert_eq!(progress.borrow().done, 1000);
}

fn making(name: &str, modelfile: Option<&str>) -> Making {
    Making {
        name: name.to_owned(),
        recipe: modelfile.map(|text| Recipe::parse(text).unwrap()),
        folder: "/nowhere".into(),
    }
}

#[tokio::test]
async fn what_a_model_takes_is_known_before_it_comes() {
    let registry = Registry::start();
    registry.put(
        "ns/tiny:v1",
        &[7; 5000],
        "MIT License\n\nPermission is hereby granted",
    );
    registry.put("ns/bare:latest", &[7; 10], "");
    let host = registry.host();
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = with(&double, |config| {
            config.way.own = Some(Url::parse(&format!("http://{host}")).unwrap());
        });
        let whole = ollama.whole(&format!("{host}/ns/tiny:v1")).unwrap();
        let offer = ollama.offer(&making(&whole, None)).await.unwrap();
        assert!(offer.size > 5000 && !offer.present, "{offer:?}");
        assert_eq!(offer.license, "MIT License");
        assert_eq!(
            (offer.download, offer.source),
            (whole.clone(), host.clone())
        );
        let bare = format!("{host}/ns/bare:latest");
        let offer = ollama.offer(&making(&bare, None)).await.unwrap();
        assert_eq!(offer.license, "");
        let none = format!("{host}/ns/none:latest");
        let fault = ollama.offer(&making(&none, None)).await.unwrap_err();
        assert_eq!(fault.code, "not-found");
        assert!(
            double.asked("/api/pull").is_empty(),
            "nothing is downloaded"
        );

        // Made of what is there: nothing is asked of anybody.
        registry.server.forget_asked();
        let made = making("aria:latest", Some("FROM clever:8b\nSYSTEM x\n"));
        let offer = ollama.offer(&made).await.unwrap();
        assert_eq!((offer.download.as_str(), offer.copied), ("", 0));
        assert!(registry.server.asked().is_empty());
        // Of what is not: it is downloaded first, unencrypted where the owner's registry is.
        let text = format!("FROM {host}/ns/tiny:v1\nSYSTEM x\n");
        let made = making("aria:latest", Some(&text));
        let offer = ollama.offer(&made).await.unwrap();
        assert_eq!(offer.download, whole);
        let (sender, _progress) = watch::channel(Progress::default());
        ollama.make(&made, &sender).await.unwrap();
        let pulled = double.last("/api/pull");
        assert_eq!(pulled["model"], whole);
        assert_eq!(pulled["insecure"], true);
        let details = ollama.details("aria:latest").await.unwrap();
        assert_eq!(details.license, "Apache License\nVersion 2.0");
        assert_eq!(details.context_length, 32_768);
        for (name, code) in [
            ("10.0.0.1/a/b", "address-refused"),
            ("qwen3:480b-cloud", "engine-elsewhere"),
        ] {
            let whole = ollama.whole(name).unwrap();
            let fault = ollama.offer(&making(&whole, None)).await.unwrap_err();
            assert_eq!(fault.code, code);
            let trouble = ollama.make(&making(&whole, None), &sender).await;
            assert_eq!(trouble.unwrap_err().fault.code, code);
        }
        assert!(ollama.whole("../x").is_err());
    }
}

#[tokio::test]
async fn what_came_of_a_model_goes_with_the_one_that_was_to_be_made_of_it() {
    const HASH: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const LAYER: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("models/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("sha256-{HASH}-partial"));
    std::fs::write(&part, "x").unwrap();
    let double = Double::start(Dialect::New).await;
    double.state().layers = vec![(LAYER, 1000)];
    double.fail("/api/pull", Fault::HangAfter(2));
    let ollama = with(&double, |config| {
        config.folder = folder.path().to_owned();
        config.limits.first_token = std::time::Duration::from_millis(300);
    });
    let (sender, _progress) = watch::channel(Progress::default());
    let made = making("aria:latest", Some("FROM qwen3:8b\nSYSTEM x\n"));
    assert!(ollama.make(&made, &sender).await.is_err());
    assert_eq!(double.last("/api/pull")["model"], "qwen3:8b");
    ollama.give_up("aria:latest").await;
    assert!(!part.exists());
}

#[tokio::test]
async fn a_modelfile_becomes_a_model_and_goes_again() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = of(&double);
        let text = "FROM clever:8b\nSYSTEM You are Aria.\nPARAMETER temperature 0.7\n\
            PARAMETER stop END\nMESSAGE user Hi\nMESSAGE assistant Hello.\n";
        let creation = Creation::new("aria", Recipe::parse(text).unwrap(), "/nowhere");
        let (sender, progress) = watch::channel(Progress::default());
        ollama.create(&creation, &sender).await.unwrap();
        assert_eq!(progress.borrow().step, "done");
        let made = double.state().models["aria:latest"].made_of.clone();
        assert_eq!(made["from"], "clever:8b");
        assert_eq!(
            made["parameters"],
            json!({"temperature": 0.7, "stop": ["END"]})
        );
        assert_eq!(made["system"], "You are Aria.");
        assert_eq!(made["messages"][1]["content"], "Hello.");

        ollama.delete("aria").await.unwrap();
        assert_eq!(ollama.delete("aria").await, Err(BackendError::ModelMissing));
        let end = ask(&ollama, "aria", &question("Hi")).await.1;
        assert_eq!(end, Err(BackendError::ModelMissing));
    }
}

fn of_file(name: &str, path: &std::path::Path) -> Creation {
    let text = format!("FROM {}\n", path.display());
    Creation::new(name, Recipe::parse(&text).unwrap(), "/nowhere")
}

#[tokio::test]
async fn a_file_is_brought_once() {
    let double = Double::start(Dialect::Old).await;
    let ollama = of(&double);
    let mut file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    let mut content = b"GGUF".to_vec();
    content.extend((0..700_000_u32).map(|n| n as u8));
    file.write_all(&content).unwrap();
    let (sender, progress) = watch::channel(Progress::default());
    for name in ["one", "two"] {
        ollama
            .create(&of_file(name, file.path()), &sender)
            .await
            .unwrap();
        assert_eq!(progress.borrow().step, "done");
    }
    let sent: Vec<_> = {
        let state = double.state();
        let all = state.asked.iter();
        let blobs = all.filter(|one| one.path.starts_with("/api/blobs/"));
        blobs.map(|one| one.method.clone()).collect()
    };
    assert_eq!(sent, ["HEAD", "POST", "HEAD"]);
    assert_eq!(double.state().blobs.values().next(), Some(&content));
    let missing = of_file("three", "/nowhere/x.gguf".as_ref());
    let failed = ollama.create(&missing, &sender).await;
    assert_eq!(failed, Err(BackendError::FileUnreadable));
    let mut other = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    other.write_all(b"no model at all").unwrap();
    let failed = ollama.create(&of_file("four", other.path()), &sender).await;
    assert_eq!(failed, Err(BackendError::NotAModel));
}

//! Everything that goes wrong has a meaning of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use aico_models::backend::ollama::{Start, find};
use aico_models::backend::{Asker, Backend, BackendError, Wait};

use crate::double::{Dialect, Double, Fault};
use crate::{BOTH, ask, limits, of, question, text, with};

/// Row 36 of the hostile cases: a distinct state and hint for each.
#[tokio::test]
async fn each_failure_is_another_one_and_says_what_to_do() {
    let nobody = Double::start(Dialect::Old).await;
    let address = nobody.address.to_string();
    let absent = of(&nobody);
    let none_installed = with(&nobody, |config| {
        config.start = Start::Auto;
        config.path = None;
    });
    drop(nobody);
    let mut seen = vec![ask(&absent, "chat", &question("Hi")).await.1.unwrap_err()];
    let at = || address.clone();
    assert_eq!(seen[0], BackendError::Absent { address: at() });
    let hint = seen[0].to_fault("ollama").what_to_do;
    assert!(!hint.contains("install"), "AICO may not start it: {hint}");
    let none = BackendError::NotInstalled { address: at() };
    // Where one is installed it would be started.
    if find(Path::new("/nowhere/at/all"), None).is_none() {
        let told = ask(&none_installed, "chat", &question("Hi")).await.1;
        assert_eq!(told.unwrap_err(), none);
    }
    let fault = none.to_fault("ollama");
    assert_eq!(fault.code, "engine-absent");
    let hint = fault.what_to_do;
    assert!(hint.contains("`aico engine install ollama`"), "{hint}");
    for dialect in BOTH {
        let cases = [
            ("/api/version", Fault::OtherProgram),
            ("/api/version", Fault::NotHttp),
            ("/api/version", Fault::Hang),
            ("/api/chat", Fault::Hang),
            ("/api/chat", Fault::HangAfter(1)),
            ("/api/chat", Fault::HalfLine),
            ("/api/chat", Fault::Cut),
            ("/api/chat", Fault::NoDone),
            ("/api/chat", Fault::Garbage),
            ("/api/chat", Fault::Endless),
            ("/api/chat", Fault::ShortLength),
            (
                "/api/chat",
                Fault::Error("model runner has unexpectedly stopped"),
            ),
            ("/api/chat", Fault::Error("CUDA error: out of memory")),
            ("/api/chat", Fault::Status(404, "model 'chat' not found")),
            (
                "/api/chat",
                Fault::Status(500, "llama runner process has terminated"),
            ),
            (
                "/api/chat",
                Fault::Status(500, "model requires more system memory (9 GiB)"),
            ),
            (
                "/api/chat",
                Fault::Status(503, "server busy, please try again."),
            ),
            ("/api/chat", Fault::Status(400, "invalid options")),
            ("/api/chat", Fault::Status(401, "unauthorized")),
        ];
        for (path, fault) in cases {
            let double = Double::start(dialect).await;
            let ollama = with(&double, |config| {
                config.limits.answer = Duration::from_millis(300);
                config.limits.first_token = Duration::from_millis(300);
                config.limits.next_token = Duration::from_millis(300);
            });
            double.fail(path, fault.clone());
            let (items, end) = ask(&ollama, "chat", &question("My secret")).await;
            let error = end.unwrap_err();
            let address = double.address.to_string();
            let timed = |waited_for| BackendError::TimedOut {
                waited_for,
                limit: Duration::from_millis(300),
            };
            let expected = match (path, &fault) {
                (_, Fault::OtherProgram | Fault::NotHttp) => BackendError::OtherProgram { address },
                (_, Fault::Hang) => timed(Wait::FirstToken),
                (_, Fault::HangAfter(_)) => timed(Wait::NextToken),
                (_, Fault::Cut | Fault::NoDone) => BackendError::CutOff,
                (_, Fault::HalfLine | Fault::Garbage | Fault::Endless | Fault::ShortLength) => {
                    BackendError::Unreadable
                }
                (_, Fault::Error(text)) if text.contains("memory") => BackendError::Memory,
                (
                    _,
                    Fault::Error(_) | Fault::Status(500, "llama runner process has terminated"),
                ) => BackendError::Failed { status: 500 },
                (_, Fault::Status(404, _)) => BackendError::ModelMissing,
                (_, Fault::Status(500, _)) => BackendError::Memory,
                (_, Fault::Status(503, _)) => BackendError::Busy,
                (_, Fault::Status(401, _)) => BackendError::Key,
                (_, Fault::Status(status, _)) => BackendError::Refused { status: *status },
                (_, Fault::Slow(_) | Fault::LongLength | Fault::CutAt(_)) => unreachable!(),
            };
            assert_eq!(error, expected, "{dialect:?} {path} {fault:?}");
            // What came until then was handed over.
            let late = matches!(
                fault,
                Fault::HangAfter(_)
                    | Fault::HalfLine
                    | Fault::Cut
                    | Fault::Garbage
                    | Fault::Endless
                    | Fault::Error(_)
            );
            assert_eq!(text(&items) == "Hel", late, "{fault:?} {items:?}");
            seen.push(error);
            // And the next question is answered.
            ask(&ollama, "chat", &question("Again")).await.1.unwrap();
        }
        let double = Double::start(dialect).await;
        double.state().version = "0.11.11".into();
        let error = of(&double).models().await.unwrap_err();
        assert!(matches!(&error, BackendError::TooOld { found, .. } if found == "0.11.11"));
        seen.push(error);
    }
    for error in seen {
        let fault = error.to_fault("Ollama");
        let told = format!("{fault:?}");
        assert!(!fault.code.is_empty() && !fault.title.is_empty(), "{told}");
        assert!(
            !told.contains("My secret") && !told.contains("llama runner"),
            "{told}"
        );
        if error != BackendError::Busy {
            assert!(!fault.what_to_do.is_empty(), "{told}");
        }
    }
}

/// A length that is more than what came.
#[tokio::test]
async fn what_was_announced_has_to_come_unless_the_answer_says_that_it_is_whole() {
    let double = Double::start(Dialect::Old).await;
    let ollama = of(&double);
    double.fail("/api/embed", Fault::LongLength);
    let cut = ollama
        .embed(&Asker::default(), "vectors", &["Hi".to_owned()])
        .await;
    assert_eq!(cut, Err(BackendError::CutOff));
    double.fail("/api/embed", Fault::ShortLength);
    let half = ollama
        .embed(&Asker::default(), "vectors", &["Hi".to_owned()])
        .await;
    assert_eq!(half, Err(BackendError::Unreadable));
    double.fail("/api/chat", Fault::LongLength);
    let (items, end) = ask(&ollama, "chat", &question("Hi")).await;
    end.unwrap();
    assert_eq!(text(&items), "Hello there.");
}

#[tokio::test]
async fn a_slow_answer_is_put_together_and_is_no_failure() {
    for dialect in BOTH {
        let double = Double::start(dialect).await;
        let ollama = with(&double, |config| {
            config.limits.next_token = Duration::from_millis(500);
        });
        double.fail("/api/chat", Fault::Slow(Duration::from_millis(150)));
        let (items, end) = ask(&ollama, "chat", &question("Hi")).await;
        end.unwrap();
        assert_eq!(text(&items), "Hello there.");
    }
}

#[tokio::test]
async fn a_firewall_that_swallows_is_given_up_on() {
    // Nobody accepts: the queue of the socket is full, and a further connection is not made.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        let connecting = tokio::net::TcpStream::connect(address);
        held.push(tokio::time::timeout(Duration::from_millis(100), connecting).await);
    }
    let mut config = aico_models::backend::ollama::OllamaConfig::new("/nowhere".into());
    config.address = address;
    config.start = aico_models::backend::ollama::Start::Never;
    config.limits = limits();
    config.limits.connect = Duration::from_millis(200);
    let ollama = aico_models::backend::ollama::Ollama::new(config).unwrap();
    let began = Instant::now();
    let error = ollama.models().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5));
    let limit = Duration::from_millis(200);
    let waited_for = Wait::Connect;
    assert_eq!(error, BackendError::TimedOut { waited_for, limit });
}

#[test]
fn only_this_machine() {
    let mut config = aico_models::backend::ollama::OllamaConfig::new("/nowhere".into());
    config.address = "192.168.1.5:11434".parse().unwrap();
    let made = aico_models::backend::ollama::Ollama::start(config);
    assert!(matches!(made, Err(BackendError::Elsewhere)));
}

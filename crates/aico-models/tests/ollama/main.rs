//! Ollama as a program that runs models, against a double in both dialects; started, watched and
//! ended; installed from a server of files. `real.rs` has what is run by hand against a real one.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod client;
mod install;
mod making;
mod process;
mod real;
mod refusals;

#[path = "../../../aico-store/tests/support/disk.rs"]
#[expect(dead_code, reason = "each test uses a part of it")]
mod disk;
#[path = "../support/ollama.rs"]
mod double;
#[path = "../support/file_server.rs"]
mod file_server;
#[path = "../support/registry.rs"]
mod registry;

use std::sync::Arc;
use std::time::Duration;

use aico_contracts::v1;
use aico_contracts::v1::turn::Role;
use aico_models::backend::ollama::{Limits, Ollama, OllamaConfig, Start};
use aico_models::backend::{Asker, Backend, BackendError, Item};
use double::{Dialect, Double};
use tokio::sync::mpsc;

const BOTH: [Dialect; 2] = [Dialect::Old, Dialect::New];

fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(2),
        first_token: Duration::from_secs(2),
        next_token: Duration::from_secs(2),
    }
}

/// One that uses this double and starts none.
fn of(double: &Double) -> Arc<Ollama> {
    with(double, |_| {})
}

fn with(double: &Double, change: impl FnOnce(&mut OllamaConfig)) -> Arc<Ollama> {
    let mut config = OllamaConfig::new("/nowhere/at/all".into());
    config.address = double.address;
    config.start = Start::Never;
    config.limits = limits();
    change(&mut config);
    Ollama::new(config).unwrap()
}

fn turn(role: Role, text: &str) -> v1::Turn {
    v1::Turn {
        role: role.into(),
        text: text.to_owned(),
        ..v1::Turn::default()
    }
}

fn question(text: &str) -> v1::Generate {
    v1::Generate {
        turns: vec![turn(Role::User, text)],
        max_tokens: 32,
        ..v1::Generate::default()
    }
}

/// What came, and how it ended.
async fn ask(
    ollama: &Ollama,
    model: &str,
    question: &v1::Generate,
) -> (Vec<Item>, Result<v1::GeneratedEnd, BackendError>) {
    let (sender, mut receiver) = mpsc::channel(4);
    let collect = async {
        let mut items = Vec::new();
        while let Some(item) = receiver.recv().await {
            items.push(item);
        }
        items
    };
    let asker = Asker::default();
    let asked = ollama.generate(&asker, model, question, sender);
    let (end, items) = tokio::join!(asked, collect);
    (items, end)
}

fn text(items: &[Item]) -> String {
    let said = items.iter().filter_map(|item| match item {
        Item::Text(text) => Some(text.as_str()),
        _ => None,
    });
    said.collect()
}

/// Waits until something is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

//! Which downloads were wished for: a file of names, so that they go on after a restart.

use std::path::{Path, PathBuf};

use aico_contracts::v1::Fault;
use serde::{Deserialize, Serialize};

use crate::disk;

const FILE: &str = "wanted.json";
/// Longest file that is one.
const LIMIT: u64 = 64 << 10;
/// Most that it holds.
const MOST: usize = 64;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Of which program.
    pub(super) engine: String,
    /// Its whole name.
    pub(super) name: String,
    /// It answers from then on.
    pub(super) use_then: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    version: u32,
    items: Vec<Wanted>,
}

/// What was wished for; nothing where nothing can be read.
pub(super) async fn read(folder: PathBuf) -> Vec<Wanted> {
    let read = tokio::task::spawn_blocking(move || look(&folder));
    read.await.unwrap_or_default()
}

/// Notes one, in place of an earlier one of its name.
pub(super) async fn add(folder: &Path, wanted: &Wanted) -> Result<(), Fault> {
    let wanted = wanted.clone();
    change(folder, move |items| {
        items.retain(|one| (&one.engine, &one.name) != (&wanted.engine, &wanted.name));
        items.push(wanted);
    })
    .await
}

/// Notes one no longer.
pub(super) async fn remove(folder: &Path, engine: &str, name: &str) -> Result<(), Fault> {
    let (engine, name) = (engine.to_owned(), name.to_owned());
    change(folder, move |items| {
        items.retain(|one| (&one.engine, &one.name) != (&engine, &name));
    })
    .await
}

async fn change(
    folder: &Path,
    change: impl FnOnce(&mut Vec<Wanted>) + Send + 'static,
) -> Result<(), Fault> {
    // One after the other: each reads what the last one wrote.
    static WRITING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = WRITING.lock().await;
    let folder = folder.to_owned();
    let changed = tokio::task::spawn_blocking(move || {
        let before = look(&folder);
        let mut items = before.clone();
        change(&mut items);
        if items == before {
            return Ok(());
        }
        let text = serde_json::to_vec(&Note { version: 1, items })?;
        disk::write_whole(&folder.join(FILE), &text)
    });
    let written = changed
        .await
        .map_err(|_| Fault::internal("A download could not be noted"))?;
    written.map_err(|error| {
        disk::fault(&error).unwrap_or_else(|| {
            Fault::new("folder-unusable", "A download can't be noted")
                .with_detail(format!("{error}."))
                .with_what_to_do("Check that the data folder can be written.")
        })
    })
}

fn look(folder: &Path) -> Vec<Wanted> {
    let path = folder.join(FILE);
    let short = std::fs::metadata(&path).is_ok_and(|about| about.len() <= LIMIT);
    let Some(text) = short.then(|| std::fs::read(&path).ok()).flatten() else {
        return Vec::new();
    };
    match serde_json::from_slice::<Note>(&text) {
        Ok(note) if note.version == 1 => note.items.into_iter().take(MOST).collect(),
        _ => {
            tracing::warn!("The note of downloads makes no sense and is passed over.");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_noted_is_there_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let one = |name: &str, use_then| Wanted {
            engine: "ollama".into(),
            name: name.into(),
            use_then,
        };
        assert!(read(path.to_owned()).await.is_empty());
        add(path, &one("a:latest", false)).await.unwrap();
        add(path, &one("b:latest", false)).await.unwrap();
        add(path, &one("a:latest", true)).await.unwrap();
        let all = read(path.to_owned()).await;
        assert_eq!(all, [one("b:latest", false), one("a:latest", true)]);
        remove(path, "ollama", "b:latest").await.unwrap();
        remove(path, "lab", "a:latest").await.unwrap();
        assert_eq!(read(path.to_owned()).await, [one("a:latest", true)]);
        for text in ["{", "{\"version\":2,\"items\":[]}", "[]"] {
            std::fs::write(path.join(FILE), text).unwrap();
            assert!(read(path.to_owned()).await.is_empty());
        }
    }
}

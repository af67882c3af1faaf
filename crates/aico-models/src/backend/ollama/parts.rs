//! What unfinished downloads leave on the disk: Ollama keeps it to go on with, and nobody but us
//! can remove it from the folder of an Ollama of ours, which never does by itself.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most layers that are remembered of one.
const MOST: usize = 512;

/// The digests of layers that were on their way, by the model's name.
#[derive(Default)]
pub(super) struct Parts(Mutex<HashMap<String, BTreeSet<String>>>);

impl Parts {
    fn all(&self) -> MutexGuard<'_, HashMap<String, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, model: &str, digest: &str) {
        let Some(hash) = digest.strip_prefix("sha256:") else {
            return;
        };
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return;
        }
        let mut all = self.all();
        let known = all.entry(model.to_owned()).or_default();
        if known.len() < MOST && !known.contains(hash) {
            known.insert(hash.to_owned());
        }
    }

    pub(super) fn forget(&self, model: &str) {
        self.all().remove(model);
    }

    /// Removes from the folder of models what is unfinished of this one and of no other. Blocks.
    pub(super) fn remove(&self, model: &str, models: &Path) {
        let gone: Vec<String> = {
            let mut all = self.all();
            let own = all.remove(model).unwrap_or_default();
            let others: BTreeSet<&String> = all.values().flatten().collect();
            let gone = own.iter().filter(|hash| !others.contains(hash));
            gone.cloned().collect()
        };
        let Ok(entries) = std::fs::read_dir(models.join("blobs")) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().and_then(|name| name.strip_prefix("sha256-")) else {
                continue;
            };
            // Whole layers may be another model's; only parts are nobody's.
            let part = |hash: &String| {
                let rest = name.strip_prefix(hash.as_str());
                rest.is_some_and(|rest| rest.starts_with("-partial"))
            };
            if gone.iter().any(part) {
                let _left_for_the_next_download = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_go_and_whole_layers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let hash = |digit: &str| digit.repeat(64);
        let names = [
            format!("sha256-{}", hash("a")),
            format!("sha256-{}-partial", hash("b")),
            format!("sha256-{}-partial-0", hash("b")),
            format!("sha256-{}-partial", hash("c")),
            format!("sha256-{}-partial", hash("d")),
        ];
        for name in &names {
            std::fs::write(blobs.join(name), "x").unwrap();
        }
        let parts = Parts::default();
        for digit in ["a", "b", "c"] {
            parts.note("one", &format!("sha256:{}", hash(digit)));
        }
        parts.note("one", "sha256:../../x");
        parts.note("two", &format!("sha256:{}", hash("c")));
        parts.remove("one", folder.path());
        let there: Vec<bool> = names.iter().map(|name| blobs.join(name).exists()).collect();
        assert_eq!(there, [true, false, false, true, true]);
    }
}

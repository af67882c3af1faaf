//! What the models of the registry are good for: read from their files, and remembered as long as
//! these are the same.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::backend::Capability;
use crate::gguf::Description;

/// Most files that are remembered.
const REMEMBERED: usize = 256;

type Known = HashMap<(PathBuf, i64), Vec<Capability>>;

/// What a model is good for, as far as its file tells.
#[must_use]
pub fn of_description(about: &Description) -> Vec<Capability> {
    let all = [
        (Capability::Chat, about.speaks()),
        (Capability::Embeddings, about.pooling),
        (Capability::Tools, about.speaks() && about.tools),
        (Capability::Thinking, about.speaks() && about.thinking),
    ];
    all.into_iter()
        .filter_map(|(capability, has)| has.then_some(capability))
        .collect()
}

/// Of the file that was last changed at `modified_ns`. Nothing when it can't be read. Blocks when
/// it is asked for the first time.
#[must_use]
pub fn of_file(path: &Path, modified_ns: i64) -> Vec<Capability> {
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    let key = (path.to_owned(), modified_ns);
    let found = {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key).cloned()
    };
    if let Some(found) = found {
        return found;
    }
    let Ok(about) = Description::of_file(path) else {
        return Vec::new();
    };
    let found = of_description(&about);
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(key, found.clone());
    found
}

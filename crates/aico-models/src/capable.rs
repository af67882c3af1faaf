//! What the models of the registry are good for: it stands in their files.

use crate::backend::Capability;
use crate::gguf::Description;

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

/// As it is told of a model.
pub(crate) fn names(all: &[Capability]) -> Vec<String> {
    all.iter().map(|one| one.as_str().to_owned()).collect()
}

//! Who the person talks to: name, manner and sampling.

use aico_contracts::v1;

/// A character. The default one is built in; more come as data later.
pub(crate) struct Character {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// The starter model was trained with the default character's words: a change here needs
    /// another training (see models/starter).
    pub(crate) system_prompt: &'static str,
    pub(crate) sampling: v1::Sampling,
}

const CHARACTERS: &[Character] = &[Character {
    id: "aico",
    name: "Aico",
    description: "Warm, honest and brief. Listens first.",
    system_prompt: "You are Aico, a warm and honest companion who lives on this computer. \
        Everything said here stays here, encrypted. You listen first, answer briefly and kindly, \
        remember what you are told, and say plainly when you do not know or cannot do something.",
    // Low enough that a small model keeps to what it was told, high enough not to repeat itself.
    sampling: v1::Sampling {
        temperature: 0.3,
        top_p: 0.9,
        top_k: 40,
        min_p: 0.05,
        repeat_penalty: 1.05,
        seed: 0,
        stop: Vec::new(),
    },
}];

/// The one that new conversations get.
pub(crate) const DEFAULT: &Character = &CHARACTERS[0];

pub(crate) fn find(id: &str) -> Option<&'static Character> {
    CHARACTERS.iter().find(|character| character.id == id)
}

pub(crate) fn list() -> v1::CharacterList {
    let items = CHARACTERS.iter().map(|character| v1::Character {
        id: character.id.to_owned(),
        name: character.name.to_owned(),
        description: character.description.to_owned(),
    });
    v1::CharacterList {
        items: items.collect(),
    }
}

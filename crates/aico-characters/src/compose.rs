//! What a model is told of a character.

use crate::character::{Character, Turn, TurnRole};
use crate::macros::{Names, expand};

/// The beginning of every prompt of a character.
pub struct Composed {
    /// The system's turn.
    pub system: String,
    /// Examples, alternating, beginning with the person and ending with the character.
    pub turns: Vec<Turn>,
}

/// Puts a character's texts together, with names in place of macros. `greeting` is what it opened
/// the conversation with; `original` of `names` stands in where it has no prompt of its own.
///
/// The system's turn is one text, for there are chat templates that take one and only at the
/// beginning; and nothing in it changes from turn to turn, so that what a model has read of it
/// need not be read again.
#[must_use]
pub fn compose(character: &Character, names: &Names<'_>, greeting: Option<&str>) -> Composed {
    let filled = |text: &str| expand(text, names).trim().to_owned();
    let turns = examples(character, names);
    let mut parts = Vec::new();
    match filled(&character.system_prompt) {
        own if own.is_empty() => parts.push(names.original.trim().to_owned()),
        own => parts.push(own),
    }
    parts.push(filled(&character.description));
    let about = |label: String, text: &str| match filled(text) {
        text if text.is_empty() => String::new(),
        text => format!("{label}{text}"),
    };
    parts.push(about(
        format!("{}'s manner: ", names.char),
        &character.personality,
    ));
    parts.push(about("The scene: ".to_owned(), &character.scenario));
    if turns.is_empty() {
        let label = format!("How {} speaks:\n", names.char);
        parts.push(about(label, &character.examples_text));
    } else {
        // Else a model takes them for something that the person said. Each is marked by itself, for
        // when the context is full they are left out one after the other.
        parts.push(format!(
            "What begins with {EXAMPLE} only shows how you speak; it is not part of this \
             conversation."
        ));
    }
    if let Some(greeting) = greeting {
        parts.push(about(
            "You opened this conversation with:\n".to_owned(),
            greeting,
        ));
    }
    parts.push(filled(&character.reminder));
    parts.retain(|part| !part.is_empty());
    Composed {
        system: parts.join("\n\n"),
        turns,
    }
}

/// Before what the person says in an example.
const EXAMPLE: &str = "[Example]";

/// The examples as chat templates want them: alternating, whole exchanges.
fn examples(character: &Character, names: &Names<'_>) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::with_capacity(character.examples.len());
    for turn in &character.examples {
        let text = expand(&turn.text, names).trim().to_owned();
        match turns.last_mut() {
            None if turn.role == TurnRole::Assistant => {}
            _ if text.is_empty() => {}
            Some(last) if last.role == turn.role => {
                last.text.push_str("\n\n");
                last.text.push_str(&text);
            }
            _ => turns.push(Turn {
                role: turn.role,
                text,
            }),
        }
    }
    if turns.last().is_some_and(|last| last.role == TurnRole::User) {
        turns.pop();
    }
    for turn in &mut turns {
        if turn.role == TurnRole::User {
            turn.text = format!("{EXAMPLE} {}", turn.text);
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(role: TurnRole, text: &str) -> Turn {
        Turn {
            role,
            text: text.into(),
        }
    }

    const NAMES: Names<'static> = Names {
        char: "Mara",
        user: "Jo",
        original: "Be kind.",
        seed: 1,
    };

    #[test]
    fn a_prompt_alone_is_the_whole_system_turn() {
        let character = Character {
            name: "Mara".into(),
            system_prompt: "{{original}} You are {{char}}.\n".into(),
            ..Character::default()
        };
        let told = compose(&character, &NAMES, None);
        assert_eq!(told.system, "Be kind. You are Mara.");
        assert!(told.turns.is_empty());
        assert_eq!(
            compose(&Character::default(), &NAMES, None).system,
            "Be kind."
        );
    }

    #[test]
    fn every_text_has_its_place() {
        let character = Character {
            name: "Mara".into(),
            description: "{{char}} keeps a lighthouse.".into(),
            personality: "calm".into(),
            scenario: "A storm.".into(),
            reminder: "Be brief, {{user}} is tired.".into(),
            examples: vec![
                turn(TurnRole::Assistant, "left out"),
                turn(TurnRole::User, "Hi"),
                turn(TurnRole::Assistant, "Ahoy,"),
                turn(TurnRole::Assistant, "{{user}}."),
                turn(TurnRole::User, "left out"),
            ],
            ..Character::default()
        };
        let told = compose(&character, &NAMES, Some("Come in, {{user}}!"));
        assert_eq!(
            told.system,
            "Be kind.\n\nMara keeps a lighthouse.\n\nMara's manner: calm\n\nThe scene: A storm.\n\n\
             What begins with [Example] only shows how you speak; it is not part of this \
             conversation.\n\nYou opened this conversation with:\nCome in, Jo!\n\n\
             Be brief, Jo is tired."
        );
        let flat: Vec<_> = told
            .turns
            .iter()
            .map(|t| (t.role, t.text.as_str()))
            .collect();
        assert_eq!(
            flat,
            [
                (TurnRole::User, "[Example] Hi"),
                (TurnRole::Assistant, "Ahoy,\n\nJo.")
            ]
        );
    }

    #[test]
    fn examples_that_are_no_dialogue_are_told_as_text() {
        let character = Character {
            examples_text: "{{char}} speaks softly.".into(),
            ..Character::default()
        };
        let told = compose(&character, &NAMES, None);
        assert_eq!(
            told.system,
            "Be kind.\n\nHow Mara speaks:\nMara speaks softly."
        );
    }
}

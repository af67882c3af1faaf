//! What a character is.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::card::CardVersion;
use crate::error::CharacterError;
use crate::{LARGEST_CARD, LONGEST_NAME, LONGEST_TEXT, MOST_ITEMS, card, examples, parameters};

/// Who says it, in an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TurnRole {
    /// The person.
    User,
    /// The character.
    Assistant,
}

/// One turn of an example. Text of people, so without Debug.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who says it.
    pub role: TurnRole,
    /// What they say; may hold macros.
    pub text: String,
}

/// How tokens are chosen. What is absent is as AICO has it for everybody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0: always the likeliest.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "neat")]
    pub temperature: Option<f32>,
    /// 1: off.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "neat")]
    pub top_p: Option<f32>,
    /// 0: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// 0: off.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "neat")]
    pub min_p: Option<f32>,
    /// 1: off.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "neat")]
    pub repeat_penalty: Option<f32>,
    /// 0: another each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Texts that end an answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Tokens of context, at most; never more than the model was loaded with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u32>,
    /// Tokens of an answer, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_predict: Option<u32>,
}

/// As a person would write it: 0.7, not 0.699999988.
fn neat<S: serde::Serializer>(value: &Option<f32>, to: S) -> Result<S::Ok, S::Error> {
    let plain = value.map(|value| value.to_string().parse::<f64>().unwrap_or(f64::from(value)));
    plain.serialize(to)
}

impl Sampling {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Somebody to talk with. Texts of people, so without Debug.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Character {
    /// What it is called.
    pub name: String,
    /// What it is called in what a model is told, where that is another name.
    pub nickname: String,
    /// For the person who chooses; no model is told.
    pub about: String,
    /// What a model is told first.
    pub system_prompt: String,
    /// Who the character is.
    pub description: String,
    /// Its manner.
    pub personality: String,
    /// Where and how one meets it.
    pub scenario: String,
    /// What it opens a conversation with: the first, and others to choose from.
    pub greetings: Vec<String>,
    /// How it speaks, as turns of a conversation that never was.
    pub examples: Vec<Turn>,
    /// The same as a card has it, in one text. Read as turns where there are none; told to a model
    /// as it is where it can't be read so.
    pub examples_text: String,
    /// What a model is told last, behind everything else of the character.
    pub reminder: String,
    /// Who made it.
    pub creator: String,
    /// Which version of it this is.
    pub version: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Models that it is made for, the best first. Empty: whichever answers.
    pub models: Vec<String>,
    /// Under what terms it may be passed on; may be empty.
    pub license: String,
    /// What came with its file and is not used here, for when it is exported.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub kept: Map<String, Value>,
}

impl Character {
    /// What it calls itself.
    #[must_use]
    pub fn called(&self) -> &str {
        match self.nickname.trim() {
            "" => self.name.trim(),
            nickname => nickname,
        }
    }

    /// What of its file is kept for export and not used, in words.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        crate::card::unused(self)
    }

    /// The texts that a model may be told, with their names for people.
    fn texts(&self) -> [(&'static str, &str); 12] {
        [
            ("nickname", &self.nickname),
            ("note for the person", &self.about),
            ("system prompt", &self.system_prompt),
            ("description", &self.description),
            ("personality", &self.personality),
            ("scenario", &self.scenario),
            ("examples", &self.examples_text),
            ("reminder", &self.reminder),
            ("creator", &self.creator),
            ("version", &self.version),
            ("license", &self.license),
            ("name", &self.name),
        ]
    }

    /// Cleans what can be cleaned and checks the rest, whoever made it.
    ///
    /// # Errors
    /// With what is wrong, in words.
    pub fn checked(mut self) -> Result<Self, CharacterError> {
        self.name = one_line(&self.name);
        self.nickname = one_line(&self.nickname);
        self.creator = one_line(&self.creator);
        self.version = one_line(&self.version);
        for text in [
            &mut self.about,
            &mut self.system_prompt,
            &mut self.description,
            &mut self.personality,
            &mut self.scenario,
            &mut self.examples_text,
            &mut self.reminder,
            &mut self.license,
        ] {
            clean(text);
        }
        for list in [&mut self.tags, &mut self.models] {
            for item in list.iter_mut() {
                *item = one_line(item);
            }
            list.retain(|item| !item.is_empty());
        }
        self.greetings.iter_mut().for_each(clean);
        self.greetings.retain(|text| !text.trim().is_empty());
        for turn in &mut self.examples {
            clean(&mut turn.text);
            turn.text = turn.text.trim().to_owned();
        }
        self.examples.retain(|turn| !turn.text.is_empty());
        let read = examples::parse(&self.examples_text, &self.name);
        if self.examples.is_empty() {
            self.examples = read;
        } else if read != self.examples {
            // Turns that were worded anew are the truth; the text that they came from is not.
            let text = examples::write(&self.examples);
            let same = examples::parse(&text, &self.name) == self.examples;
            self.examples_text = if same { text } else { String::new() };
        }
        if self.name.is_empty() {
            return Err(CharacterError::new("A character needs a name."));
        }
        let letters = self.name.chars().count().max(self.nickname.chars().count());
        if letters > LONGEST_NAME {
            return Err(CharacterError::new(format!(
                "The name of a character has at most {LONGEST_NAME} letters; this one has {letters}."
            )));
        }
        let examples = self.examples.iter().map(|turn| ("examples", &*turn.text));
        let greetings = self.greetings.iter().map(|text| ("greeting", &**text));
        for (name, text) in self.texts().into_iter().chain(examples).chain(greetings) {
            if text.len() > LONGEST_TEXT {
                return Err(CharacterError::new(format!(
                    "Its {name} is too long: {} KiB, at most {} KiB.",
                    text.len().div_ceil(1024),
                    LONGEST_TEXT / 1024
                )));
            }
        }
        for (name, count) in [
            ("example turns", self.examples.len()),
            ("greetings", self.greetings.len()),
            ("tags", self.tags.len()),
            ("models", self.models.len()),
        ] {
            if count > MOST_ITEMS {
                return Err(CharacterError::new(format!(
                    "It has {count} {name}; at most {MOST_ITEMS} are taken."
                )));
            }
        }
        for item in self.tags.iter().chain(&self.models) {
            if item.len() > 4096 {
                return Err(CharacterError::new(
                    "One of its tags or models is longer than 4 KiB.",
                ));
            }
        }
        parameters::check(&self.sampling)?;
        // What is taken can be exported, and the export taken again.
        let fits = |version| card::write(&self, version).to_string().len() <= LARGEST_CARD;
        if ![CardVersion::V2, CardVersion::V3].into_iter().all(fits) {
            return Err(CharacterError::new(format!(
                "All of it together is too large: as a card it has more than {} KiB.",
                LARGEST_CARD / 1024
            ))
            .advice("Make its texts shorter, or fewer."));
        }
        Ok(self)
    }
}

/// Without NUL, which ends a text for many programs, and with one kind of line end.
fn clean(text: &mut String) {
    if text.contains(['\0', '\r']) {
        *text = text
            .replace('\0', "")
            .replace("\r\n", "\n")
            .replace('\r', "\n");
    }
}

/// One line without control characters and invisible direction marks.
pub(crate) fn one_line(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_line_and_have_to_be_there() {
        let named = |name: &str| {
            Character {
                name: name.into(),
                ..Character::default()
            }
            .checked()
        };
        assert_eq!(named(" A\u{202e}b\n c ").unwrap().name, "Ab c");
        assert_eq!(
            named(" \u{7} ").err().unwrap().what,
            "A character needs a name."
        );
        assert!(named(&"x".repeat(101)).is_err());
    }

    #[test]
    fn what_is_too_long_is_refused_by_name() {
        let long = Character {
            name: "A".into(),
            scenario: "x".repeat(LONGEST_TEXT + 1),
            ..Character::default()
        };
        let error = long.checked().err().unwrap();
        assert_eq!(
            error.what,
            "Its scenario is too long: 129 KiB, at most 128 KiB."
        );
    }

    #[test]
    fn what_no_card_can_hold_is_refused() {
        let with = |greetings| Character {
            name: "A".into(),
            greetings: vec!["x".repeat(LONGEST_TEXT); greetings],
            ..Character::default()
        };
        assert!(with(15).checked().is_ok());
        let error = with(16).checked().err().unwrap();
        assert!(error.what.contains("more than 2048 KiB"), "{error}");
    }

    #[test]
    fn turns_worded_anew_replace_the_text_they_came_from() {
        let text = "<START>\n{{user}}: Hi\n{{char}}: Hello.";
        let mut character = Character {
            name: "A".into(),
            examples: examples::parse(text, "A"),
            examples_text: text.into(),
            ..Character::default()
        };
        assert_eq!(character.clone().checked().unwrap().examples_text, text);
        character.examples[1].text = "Hello there.".into();
        let text = character.checked().unwrap().examples_text;
        assert_eq!(text, "<START>\n{{user}}: Hi\n{{char}}: Hello there.");
    }
}

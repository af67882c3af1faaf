//! Character cards as JSON: versions 1 to 3 are read, 2 and 3 written.
//!
//! Read of a card is what AICO uses; everything else of it is kept under [`Character::kept`]:
//! `data` holds fields of the card's data, `card` those beside it, `spec` what it was. AICO's own
//! fields that no card has a place for stand in `extensions.aico`.

use serde_json::{Map, Value, json};

use crate::character::{Character, Sampling, Turn};
use crate::error::{CharacterError, quoted};
use crate::{MOST_STOPS, examples, parameters};

/// Which specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardVersion {
    /// `chara_card_v2`.
    V2,
    /// `chara_card_v3`.
    V3,
}

/// Fields of the data that only version 3 has.
const V3_ONLY: [&str; 7] = [
    "assets",
    "creation_date",
    "creator_notes_multilingual",
    "group_only_greetings",
    "modification_date",
    "nickname",
    "source",
];
/// The fields of version 1, which writers of version 2 often repeat beside the data.
const V1: [&str; 6] = [
    "name",
    "description",
    "personality",
    "scenario",
    "first_mes",
    "mes_example",
];
/// AICO's name among the extensions.
const OURS: &str = "aico";

/// Reads a card.
pub(crate) fn read(card: Value) -> Result<Character, CharacterError> {
    let Value::Object(mut card) = card else {
        return Err(CharacterError::new("This JSON is no character card."));
    };
    let spec = match card.remove("spec") {
        None => None,
        Some(Value::String(spec)) => Some(spec),
        Some(_) => return Err(CharacterError::new("The card's \"spec\" is no text.")),
    };
    let mut data = match spec.as_deref() {
        Some("chara_card_v2" | "chara_card_v3") => match card.remove("data") {
            Some(Value::Object(data)) => data,
            _ => return Err(CharacterError::new("The card has no \"data\".")),
        },
        Some(other) => {
            return Err(CharacterError::new(format!(
                "The card is of the kind {}, which AICO does not know.",
                quoted(other)
            ))
            .advice("Export it as a card of version 2 or 3 from the program it is from."));
        }
        // Version 1 has no envelope and says nothing of itself.
        None if card.get("name").is_some_and(Value::is_string) => std::mem::take(&mut card),
        None => {
            return Err(CharacterError::new("This JSON is no character card.")
                .advice("A card has \"spec\": \"chara_card_v2\" or \"chara_card_v3\"."));
        }
    };
    card.remove("spec_version");
    card.retain(|field, _| !V1.contains(&field.as_str()));

    let mut text = |field: &str| match data.get(field) {
        Some(Value::String(_)) => match data.remove(field) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        },
        // Nothing said.
        Some(Value::Null) => {
            data.remove(field);
            String::new()
        }
        // Of another type than the specification has it: kept, not used.
        _ => String::new(),
    };
    let mut character = Character {
        name: text("name"),
        nickname: text("nickname"),
        about: text("creator_notes"),
        system_prompt: text("system_prompt"),
        description: text("description"),
        personality: text("personality"),
        scenario: text("scenario"),
        examples_text: text("mes_example"),
        reminder: text("post_history_instructions"),
        creator: text("creator"),
        version: text("character_version"),
        ..Character::default()
    };
    character.greetings.push(text("first_mes"));
    character
        .greetings
        .extend(texts(&mut data, "alternate_greetings"));
    character.tags = texts(&mut data, "tags");

    if let Some(Value::Object(mut extensions)) = data.remove("extensions") {
        if let Some(Value::Object(mut ours)) = extensions.remove(OURS) {
            take_ours(&mut character, &mut ours);
            if let Some(Value::Object(v3)) = ours.remove("v3") {
                take_v3(&mut character, &mut data, v3);
            }
        }
        if !extensions.is_empty() {
            data.insert("extensions".to_owned(), extensions.into());
        }
    }
    if let Some(spec) = spec {
        character.kept.insert("spec".to_owned(), spec.into());
    }
    for (name, fields) in [("data", data), ("card", card)] {
        if !fields.is_empty() {
            character.kept.insert(name.to_owned(), fields.into());
        }
    }
    character.checked()
}

/// What only version 3 has, out of a card of version 2 that AICO wrote.
fn take_v3(character: &mut Character, data: &mut Map<String, Value>, v3: Map<String, Value>) {
    // One of another type that the card has itself stands before it.
    let other = data.contains_key("nickname") || !character.nickname.is_empty();
    for (field, value) in v3 {
        match value {
            Value::String(name) if field == "nickname" && !other => {
                character.nickname = name;
            }
            Value::String(_) if field == "nickname" => {}
            value if V3_ONLY.contains(&field.as_str()) => {
                data.entry(field).or_insert(value);
            }
            _ => {}
        }
    }
}

/// A list of texts; one that holds anything else is kept and not used.
fn texts(data: &mut Map<String, Value>, field: &str) -> Vec<String> {
    let whole = match data.get(field) {
        Some(Value::Array(items)) => items.iter().all(Value::is_string),
        Some(Value::Null) => true,
        _ => false,
    };
    match whole.then(|| data.remove(field)).flatten() {
        Some(Value::Array(items)) => items
            .into_iter()
            .filter_map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// What AICO itself wrote into a card: as far as it makes sense.
fn take_ours(character: &mut Character, ours: &mut Map<String, Value>) {
    fn take<T: serde::de::DeserializeOwned + Default>(
        ours: &mut Map<String, Value>,
        key: &str,
    ) -> T {
        let value = ours.remove(key);
        value
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default()
    }
    character.sampling = take::<Sampling>(ours, "sampling");
    // Earlier cards may have more than any model was ever held to.
    let stops = &mut character.sampling.stop;
    stops.retain(|stop| parameters::may_stop(stop));
    stops.truncate(MOST_STOPS);
    character.models = take(ours, "models");
    character.license = take(ours, "license");
    // Turns that a card's text can't hold; unless somebody has changed that text since.
    let turns: Vec<Turn> = take(ours, "examples");
    if examples::write(&turns) == character.examples_text {
        character.examples = turns;
    }
    let modelfile: Map<String, Value> = take(ours, "modelfile");
    if !modelfile.is_empty() {
        character
            .kept
            .insert("modelfile".to_owned(), modelfile.into());
    }
}

/// Writes a card.
pub(crate) fn write(character: &Character, version: CardVersion) -> Value {
    let part = |name: &str| match character.kept.get(name) {
        Some(Value::Object(fields)) => fields.clone(),
        _ => Map::new(),
    };
    let mut data = part("data");
    let mut extensions = match data.remove("extensions") {
        Some(Value::Object(extensions)) => extensions,
        _ => Map::new(),
    };
    let mut ours = Map::new();
    if !character.sampling.is_empty() {
        let sampling = serde_json::to_value(&character.sampling);
        ours.insert("sampling".into(), sampling.unwrap_or_default());
    }
    if !character.models.is_empty() {
        ours.insert("models".into(), json!(character.models));
    }
    if !character.license.is_empty() {
        ours.insert("license".into(), json!(character.license));
    }
    if let Some(modelfile) = character.kept.get("modelfile") {
        ours.insert("modelfile".into(), modelfile.clone());
    }
    let example = match character.examples_text.as_str() {
        "" => examples::write(&character.examples),
        text => text.to_owned(),
    };
    if examples::parse(&example, &character.name) != character.examples {
        ours.insert("examples".into(), json!(character.examples));
    }
    match version {
        CardVersion::V3 => {
            data.entry("group_only_greetings")
                .or_insert_with(|| json!([]));
            if !character.nickname.is_empty() {
                data.insert("nickname".into(), json!(character.nickname));
            }
        }
        CardVersion::V2 => {
            let mut v3: Map<String, Value> = V3_ONLY
                .iter()
                .filter_map(|field| Some(((*field).to_owned(), data.remove(*field)?)))
                .collect();
            if !character.nickname.is_empty() {
                v3.insert("nickname".into(), json!(character.nickname));
            }
            if !v3.is_empty() {
                ours.insert("v3".into(), v3.into());
            }
        }
    }
    if !ours.is_empty() {
        extensions.insert(OURS.into(), ours.into());
    }
    let mut greetings = character.greetings.iter();
    let fields = json!({
        "name": character.name,
        "description": character.description,
        "personality": character.personality,
        "scenario": character.scenario,
        "first_mes": greetings.next().map_or("", String::as_str),
        "alternate_greetings": greetings.collect::<Vec<_>>(),
        "mes_example": example,
        "creator_notes": character.about,
        "system_prompt": character.system_prompt,
        "post_history_instructions": character.reminder,
        "tags": character.tags,
        "creator": character.creator,
        "character_version": character.version,
        "extensions": extensions,
    });
    if let Value::Object(fields) = fields {
        for (field, value) in fields {
            // A field of the wrong type that was kept stays as it came, unless there is another.
            let empty = value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
            if !(empty && data.contains_key(&field)) {
                data.insert(field, value);
            }
        }
    }
    let mut card = part("card");
    let (spec, number) = match version {
        CardVersion::V2 => ("chara_card_v2", "2.0"),
        CardVersion::V3 => ("chara_card_v3", "3.0"),
    };
    card.insert("spec".into(), spec.into());
    card.insert("spec_version".into(), number.into());
    card.insert("data".into(), data.into());
    card.into()
}

/// What of a character's file is kept and not used, in words.
#[must_use]
pub(crate) fn unused(character: &Character) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(Value::Object(data)) = character.kept.get("data") {
        let length = |value: &Value| match value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        let mut others = Vec::new();
        for (field, value) in data {
            match (field.as_str(), length(value)) {
                ("character_book", _) => {
                    let entries = value.get("entries").map_or(0, length);
                    notes.push(format!(
                        "Its lorebook ({entries} entries) is kept for export; AICO does not use it."
                    ));
                }
                ("assets", count @ 1..) => notes.push(format!(
                    "Its list of assets ({count}) is kept as it is; nothing that it names is fetched."
                )),
                ("extensions", 1..) => {
                    let names = value.as_object().map(names).unwrap_or_default();
                    notes.push(format!("Extensions of other programs are kept for export: {names}."));
                }
                ("group_only_greetings", count @ 1..) => notes.push(format!(
                    "Its greetings for groups ({count}) are kept for export."
                )),
                ("creator_notes_multilingual", 1..) => {
                    notes.push("Its notes in other languages are kept for export.".to_owned());
                }
                ("creation_date" | "modification_date" | "source" | "assets" | "extensions"
                | "group_only_greetings" | "creator_notes_multilingual", _) => {}
                (other, _) => others.push(quoted(other)),
            }
        }
        if !others.is_empty() {
            others.truncate(20);
            notes.push(format!(
                "Further fields are kept for export: {}.",
                others.join(", ")
            ));
        }
    }
    notes
}

fn names(fields: &Map<String, Value>) -> String {
    let names: Vec<_> = fields.keys().take(20).map(|name| quoted(name)).collect();
    names.join(", ")
}

#[cfg(test)]
#[path = "card_tests.rs"]
mod tests;

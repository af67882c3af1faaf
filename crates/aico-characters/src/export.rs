//! From a character to a file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::card::{self, CardVersion};
use crate::character::Character;
use crate::{LARGEST_CARD, LARGEST_FILE, Names, compose, modelfile, png, portrait};

/// As what a character is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A Modelfile.
    Modelfile,
    /// A card of version 2, as JSON.
    CardV2,
    /// A card of version 3, as JSON.
    CardV3,
    /// A picture with cards of both versions in it.
    Png,
}

/// A file to write.
pub struct Exported {
    /// Its content.
    pub bytes: Vec<u8>,
    /// What its name ends with.
    pub extension: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// What the format has no place for, in words.
    pub notes: Vec<String>,
}

/// Writes a character. `image`: its portrait, as [`crate::check_portrait`] gave it back; `original`
/// stands in a Modelfile for a prompt of its own.
#[must_use]
pub fn export(
    character: &Character,
    image: Option<&[u8]>,
    format: Format,
    original: &str,
) -> Exported {
    let json = |version| {
        let card = card::write(character, version);
        let pretty = serde_json::to_vec_pretty(&card).unwrap_or_default();
        // White space must not make more of it than is taken again.
        match pretty.len() > LARGEST_CARD {
            true => card.to_string().into_bytes(),
            false => pretty,
        }
    };
    let mut notes = Vec::new();
    let (bytes, extension, media_type) = match format {
        Format::CardV2 => (json(CardVersion::V2), "json", "application/json"),
        Format::CardV3 => (json(CardVersion::V3), "json", "application/json"),
        Format::Png => {
            let texts = [CardVersion::V2, CardVersion::V3]
                .map(|version| STANDARD.encode(card::write(character, version).to_string()));
            let drawn = match image {
                Some(_) => Vec::new(),
                None => portrait::drawn(&character.name),
            };
            let image = image.unwrap_or(&drawn);
            let texts = [("chara", texts[0].as_str()), ("ccv3", texts[1].as_str())];
            let mut whole = png::with_texts(image, &texts);
            if whole.len() > LARGEST_FILE {
                whole = png::with_texts(image, &texts[1..]);
                let told = match whole.len() > LARGEST_FILE {
                    false => {
                        "The picture holds a card of version 3 alone: with one of version 2 it \
                         would be too large to be imported again."
                    }
                    true => {
                        "The picture is too large to be imported again. Choose a smaller portrait, \
                         or export a JSON file."
                    }
                };
                notes.push(told.to_owned());
            }
            (whole, "png", "image/png")
        }
        Format::Modelfile => {
            // A Modelfile knows no macros and no person: they stay out of it.
            let names = Names {
                char: character.called(),
                user: "the person",
                original,
                seed: 0,
            };
            let without = Character {
                examples: Vec::new(),
                ..character.clone()
            };
            let told = compose::compose(&without, &names, None);
            let mut filled = character.clone();
            for turn in &mut filled.examples {
                turn.text = crate::expand(&turn.text, &names);
            }
            let (text, missing) = modelfile::write(&filled, &told.system);
            notes = missing;
            if image.is_some() {
                notes.push("A Modelfile holds no portrait.".to_owned());
            }
            (text.into_bytes(), "Modelfile", "text/plain")
        }
    };
    if format != Format::Modelfile && image.is_some() && format != Format::Png {
        notes.push("The portrait is not in a JSON file; a PNG holds it.".to_owned());
    }
    Exported {
        bytes,
        extension,
        media_type,
        notes,
    }
}

//! From the bytes of a file to a character.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use serde_json::Value;

use crate::character::{Character, one_line};
use crate::error::CharacterError;
use crate::{LARGEST_CARD, LARGEST_FILE, card, modelfile, png};

/// Where a card stands in a PNG, the newer specification first: it wins.
const KEYWORDS: [&str; 2] = ["ccv3", "chara"];
/// Writers pad or don't.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A character from a file.
pub struct Imported {
    /// It.
    pub character: Character,
    /// A PNG that holds nothing but its image.
    pub portrait: Option<Vec<u8>>,
    /// What of the file has no effect, in words.
    pub notes: Vec<String>,
}

/// Reads a character card (PNG or JSON) or a Modelfile. `file_name` gives a name to what has none.
///
/// # Errors
/// With what is wrong, in words.
pub fn import(bytes: &[u8], file_name: &str) -> Result<Imported, CharacterError> {
    if bytes.len() > LARGEST_FILE {
        return Err(CharacterError::new(format!(
            "The file is too large: at most {} MiB are taken.",
            LARGEST_FILE / (1024 * 1024)
        )));
    }
    if let Some(other) = known_otherwise(bytes) {
        return Err(other);
    }
    if bytes.starts_with(&png::SIGNATURE) {
        return from_png(bytes);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| neither())?
        .trim_start_matches('\u{feff}');
    if text.trim_start().starts_with(['{', '[']) {
        let character = from_json(text.as_bytes())?;
        return Ok(imported(character, None, Vec::new()));
    }
    if modelfile::is_one(text) {
        let read = modelfile::read(text, &name_of(file_name))?;
        return Ok(imported(read.character, None, read.notes));
    }
    Err(neither())
}

fn neither() -> CharacterError {
    CharacterError::new("This is neither a character card nor a Modelfile.")
        .advice("A card is a PNG or a JSON file; a Modelfile has a line that begins with FROM.")
}

/// Files that people take for a card.
fn known_otherwise(bytes: &[u8]) -> Option<CharacterError> {
    let begins = |with: &[u8]| bytes.starts_with(with);
    let webp = begins(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    if begins(b"PK\x03\x04") {
        Some(
            CharacterError::new(
                "This is an archive, as the form CHARX of a card is; AICO reads none.",
            )
            .advice("Export the character as PNG or JSON from the program it is from."),
        )
    } else if begins(b"\xff\xd8\xff") || begins(b"GIF8") || webp {
        Some(CharacterError::new("This is a picture, but no PNG, so there is no card in it.").advice(
            "Some sites send another picture than the one with the card: look for \"download card\" \
             or for JSON.",
        ))
    } else if begins(b"GGUF") {
        Some(
            CharacterError::new("This is a model, no character.")
                .advice("`aico model add FILE` takes it."),
        )
    } else {
        None
    }
}

fn from_png(bytes: &[u8]) -> Result<Imported, CharacterError> {
    let png = png::read(bytes, &KEYWORDS)?;
    let of = |keyword: &str| png.texts.iter().find(|(known, _)| *known == keyword);
    let Some((_, text)) = KEYWORDS.iter().find_map(|keyword| of(keyword)) else {
        return Err(CharacterError::new("There is no character in this picture.").advice(
            "Cards lose it when a site or a program makes the picture smaller: get the original.",
        ));
    };
    let character = from_json(&decoded(text)?)?;
    Ok(imported(character, Some(png.image), Vec::new()))
}

/// Out of base64; some writers leave it out.
fn decoded(text: &[u8]) -> Result<Vec<u8>, CharacterError> {
    if text.trim_ascii_start().first() == Some(&b'{') {
        return Ok(text.to_vec());
    }
    let packed: Vec<u8> = text
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    BASE64
        .decode(packed)
        .map_err(|_| CharacterError::new("The card in this picture is damaged: it is no base64."))
}

fn from_json(bytes: &[u8]) -> Result<Character, CharacterError> {
    if bytes.len() > LARGEST_CARD {
        return Err(png::too_large());
    }
    // Bounded in depth by the reader (128).
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        CharacterError::new(format!(
            "The card is damaged: it is no JSON at line {}, column {}.",
            error.line(),
            error.column()
        ))
    })?;
    card::read(value)
}

fn imported(character: Character, portrait: Option<Vec<u8>>, mut notes: Vec<String>) -> Imported {
    notes.extend(card::unused(&character));
    Imported {
        character,
        portrait,
        notes,
    }
}

/// The name of a file without what stands before and behind it.
fn name_of(file: &str) -> String {
    let last = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = last.split_once('.').map_or(last, |(stem, _)| stem);
    let name: String = one_line(stem).chars().take(crate::LONGEST_NAME).collect();
    match name.as_str() {
        "" | "Modelfile" | "modelfile" | "-" => "Character".to_owned(),
        _ => name,
    }
}

/// Checks a picture that shall be a portrait.
///
/// # Errors
/// When it is no PNG, damaged or too large.
pub fn portrait(bytes: &[u8]) -> Result<Vec<u8>, CharacterError> {
    if bytes.len() > LARGEST_FILE {
        return Err(CharacterError::new("The picture is too large."));
    }
    png::read(bytes, &[]).map(|png| png.image)
}

//! Characters as files: character cards (V1 to V3, as JSON or in a PNG) and Modelfiles, read and
//! written, and what a model is told of a character.
//!
//! Files come from strangers. They are bounded in size and depth, nothing in them is run, and no
//! path or address in them is followed. What a card holds and AICO does not use is kept, so that
//! an exported card has it again.
//!
//! No file is opened here and nothing is stored: bytes go in, values come out.
#![forbid(unsafe_code)]

mod adapter;
mod card;
mod character;
mod compose;
mod error;
mod examples;
mod export;
pub mod fuzzing;
mod import;
mod macros;
mod modelfile;
mod parameters;
mod png;
mod portrait;
mod recipe;
mod wanted;

pub use adapter::Listed;
pub use card::CardVersion;
pub use character::{Character, Sampling, Turn, TurnRole};
pub use compose::{Composed, compose};
pub use error::CharacterError;
pub use examples::{parse as parse_examples, write as write_examples};
pub use export::{Exported, Format, export};
pub use import::{Imported, import, portrait as check_portrait};
pub use macros::{Names, expand};
pub use recipe::{Recipe, RecipeRole};
pub use wanted::is_wanted;

/// Largest file that is read, in bytes.
pub const LARGEST_FILE: usize = 8 * 1024 * 1024;
/// Largest text of a card, in bytes of JSON.
pub const LARGEST_CARD: usize = 2 * 1024 * 1024;
/// Longest text of one field, in bytes.
pub const LONGEST_TEXT: usize = 128 * 1024;
/// Longest name, in letters.
pub const LONGEST_NAME: usize = 100;
/// Most example turns, greetings, tags and models of a character.
pub const MOST_ITEMS: usize = 256;
/// Most texts that stop an answer of a character.
pub const MOST_STOPS: usize = 16;
/// The longest of them, in bytes.
pub const LONGEST_STOP: usize = 256;
/// Widest and highest portrait, in pixels.
pub const LARGEST_SIDE: u32 = 4096;

//! What has to hold for any bytes that are brought in as a character. Ordinary code: the fuzz
//! target calls it, and so do the tests with what the fuzzer has found.

use crate::{Format, Names, compose, export, import, png};

/// Reads `data` as a file. What is taken can be told to a model and written in each format, and
/// the cards read again as the same character.
///
/// # Panics
/// When that does not hold.
#[expect(clippy::panic, reason = "a check that fails, fails loudly")]
pub fn check(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        // Whatever it says: it ends.
        let _read = crate::Recipe::parse(text);
    }
    let Ok(first) = import(data, "file") else {
        return;
    };
    let character = &first.character;
    let names = Names {
        char: character.called(),
        user: "Jo",
        original: "Be kind.",
        seed: 3,
    };
    let told = compose(
        character,
        &names,
        character.greetings.first().map(String::as_str),
    );
    assert!(!told.system.is_empty());
    assert!(told.turns.len().is_multiple_of(2));
    for format in [Format::CardV2, Format::CardV3, Format::Png] {
        // To draw one each time takes longer than everything else.
        let portrait = first.portrait.clone().unwrap_or_else(dot);
        let written = export(character, Some(&portrait), format, "Be kind.");
        let again =
            import(&written.bytes, "file").unwrap_or_else(|error| panic!("{format:?}: {error}"));
        let mut back = again.character;
        // Which version it came as changes with the format.
        let mut before = character.clone();
        for one in [&mut back, &mut before] {
            one.kept.remove("spec");
            if let Some(data) = one
                .kept
                .get_mut("data")
                .and_then(|data| data.as_object_mut())
            {
                data.remove("group_only_greetings");
                if data.is_empty() {
                    one.kept.remove("data");
                }
            }
        }
        assert!(back == before, "{format:?}: it came back as another");
        if format == Format::Png && first.portrait.is_some() {
            assert!(
                again.portrait == first.portrait,
                "the portrait came back as another"
            );
        }
    }
    let text = export(character, None, Format::Modelfile, "Be kind.").bytes;
    assert!(std::str::from_utf8(&text).is_ok());
}

/// A grey dot.
fn dot() -> Vec<u8> {
    let mut image = png::SIGNATURE.to_vec();
    png::append(
        &mut image,
        b"IHDR",
        &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0],
    );
    // One row of two bytes, packed without packing.
    let rows = [0x78, 1, 1, 2, 0, 0xfd, 0xff, 0, 0, 0, 2, 0, 1];
    png::append(&mut image, b"IDAT", &rows);
    png::append(&mut image, b"IEND", &[]);
    image
}

/// Chunks that [`any`] puts together.
const CHUNKS: [&[u8; 4]; 12] = [
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tEXt", b"zTXt", b"iTXt", b"tRNS", b"gAMA", b"sRGB",
    b"eXIf", b"CgBI",
];

/// What a fuzzer makes of bytes, so that it need not find out checksums. The first byte says as
/// what the rest is tried: a file as it is, the text of a card in a picture, or chunks of a PNG,
/// each of one byte for its kind, two for its length, and its content.
///
/// # Panics
/// When [`check`] does.
pub fn any(data: &[u8]) {
    let Some((shape, rest)) = data.split_first() else {
        return;
    };
    match shape % 3 {
        0 => check(rest),
        1 => {
            let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, rest);
            check(&png::with_texts(&dot(), &[("ccv3", &text)]));
        }
        _ => {
            let mut file = png::SIGNATURE.to_vec();
            let mut rest = rest;
            while let Some(([kind, high, low], after)) = rest.split_first_chunk::<3>() {
                let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
                let (content, after) = after.split_at(length);
                let kind = CHUNKS[usize::from(*kind) % CHUNKS.len()];
                png::append(&mut file, kind, content);
                rest = after;
            }
            check(&file);
        }
    }
}

//! Heads of model files, from any bytes.

#[expect(
    dead_code,
    unused_imports,
    reason = "the reader as it stands, of which this uses a part"
)]
#[path = "../../crates/aico-models/src/gguf/mod.rs"]
mod heads;

use heads::Description;

/// Longest text that is told of a file, in characters.
const SHOWN: usize = 128;

/// Reads the bytes as a whole file, and as the beginning of one that became shorter since it was
/// measured. What is told of a file is bounded and can be shown.
///
/// # Panics
/// When something else is told.
pub fn any(data: &[u8]) {
    let size = data.len() as u64;
    for size in [size, size.saturating_mul(3), u64::MAX] {
        let Ok(about) = Description::read(data, size) else {
            continue;
        };
        assert_eq!(about.size, size);
        assert!(!about.architecture.is_empty());
        for text in [&about.architecture, &about.name, &about.license] {
            assert!(text.chars().count() <= SHOWN, "a long text");
            assert!(!text.contains(char::is_control), "a text of signs");
        }
        assert!(about.quantization.len() <= SHOWN);
        let _either = about.speaks();
    }
}

//! Words as GLiNER's models learned them: letters, digits and `_`, joined by single `-` and `_`;
//! everything else that is no space, one by one. Letters and spaces are those of Python, in which
//! the models were trained: a mark that combines with a letter is no part of its word.

use unicode_normalization::char::is_combining_mark;

/// Where a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// Its letters.
    pub text: &'a str,
    /// Its first character, counted in characters.
    pub start: usize,
    /// The character after its last.
    pub end: usize,
}

/// Circles and squares around letters: they count as letters for Unicode and not for Python.
const AROUND: [std::ops::RangeInclusive<char>; 4] = [
    '\u{24b6}'..='\u{24e9}',
    '\u{1f130}'..='\u{1f149}',
    '\u{1f150}'..='\u{1f169}',
    '\u{1f170}'..='\u{1f189}',
];

fn is_word(letter: char) -> bool {
    letter == '_'
        || (letter.is_alphanumeric()
            && !is_combining_mark(letter)
            && !AROUND.iter().any(|range| range.contains(&letter)))
}

fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// The words of a text, in their order.
#[must_use]
pub fn words(text: &str) -> Vec<Word<'_>> {
    let letters: Vec<(usize, char)> = text.char_indices().collect();
    let byte = |at: usize| letters.get(at).map_or(text.len(), |(byte, _)| *byte);
    let letter = |at: usize| letters.get(at).map(|(_, letter)| *letter);
    let run = |mut at: usize| {
        while letter(at).is_some_and(is_word) {
            at += 1;
        }
        at
    };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = letter(at) {
        let start = at;
        if is_word(first) {
            at = run(at);
            while letter(at) == Some('-') && letter(at + 1).is_some_and(is_word) {
                at = run(at + 1);
            }
        } else {
            at += 1;
            if is_space(first) {
                continue;
            }
        }
        found.push(Word {
            text: &text[byte(start)..byte(at)],
            start,
            end: at,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_reference() {
        let split = |text| words(text).iter().map(|word| word.text).collect::<Vec<_>>();
        assert_eq!(
            split("Ada Lovelace, 1815."),
            ["Ada", "Lovelace", ",", "1815", "."]
        );
        assert_eq!(
            split("a-b_c--d -e- __x__"),
            ["a-b_c", "-", "-", "d", "-", "e", "-", "__x__"]
        );
        assert_eq!(split("e\u{301}!"), ["e", "\u{301}", "!"]);
        assert_eq!(split("東京は大きい。"), ["東京は大きい", "。"]);
        assert_eq!(split("½² Ⓐ\u{1f}x"), ["½²", "Ⓐ", "x"]);
        assert!(split(" \t\n\u{3000}").is_empty());
        let word = words("ä ü😀x")[2];
        assert_eq!((word.start, word.end), (3, 4));
    }
}

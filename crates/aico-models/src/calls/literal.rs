//! Calls whose arguments are no JSON: Python's literals (LFM2), and Gemma's own.

use serde_json::{Map, Value};

use super::{Call, parse};

/// Deepest nesting of a value.
const DEPTH: usize = 64;
/// What stands around a text of Gemma's.
const QUOTE: &str = "<|\"|>";

/// `[name(key='text', other=1), …]`.
pub(super) fn calls(body: &str) -> Option<Vec<Call>> {
    let mut reader = Reader {
        rest: body,
        quotes: &["'", "\""],
        sign: '=',
    };
    let listed = reader.take("[");
    let mut calls = Vec::new();
    loop {
        let name = reader.word('(')?;
        let arguments = reader.members(")", DEPTH)?;
        calls.push(parse::call(name, arguments)?);
        if !reader.take(",") {
            break;
        }
    }
    ((!listed || reader.take("]")) && reader.is_done()).then_some(calls)
}

/// `call:name{key:<|"|>text<|"|>, other:1}`.
pub(super) fn gemma(body: &str) -> Option<Call> {
    let mut reader = Reader {
        rest: body.strip_prefix("call:")?,
        quotes: &[QUOTE, "\""],
        sign: ':',
    };
    let name = reader.word('{')?;
    let arguments = reader.members("}", DEPTH)?;
    reader
        .is_done()
        .then(|| parse::call(name, arguments))
        .flatten()
}

struct Reader<'a> {
    rest: &'a str,
    /// What may stand around a text.
    quotes: &'static [&'static str],
    /// What stands between a key and its value.
    sign: char,
}

impl<'a> Reader<'a> {
    /// White space, and then this: whether it was there.
    fn take(&mut self, what: &str) -> bool {
        self.rest = self.rest.trim_start();
        let found = self.rest.strip_prefix(what);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn is_done(&self) -> bool {
        self.rest.trim().is_empty()
    }

    /// Up to a sign, which is left out.
    fn word(&mut self, sign: char) -> Option<&'a str> {
        let (word, rest) = self.rest.split_once(sign)?;
        self.rest = rest;
        let word = word.trim();
        let plain = |letter: char| letter.is_alphanumeric() || "_-.:/".contains(letter);
        (!word.is_empty() && word.chars().all(plain)).then_some(word)
    }

    /// Keys and values, up to `close`.
    fn members(&mut self, close: &str, depth: usize) -> Option<Map<String, Value>> {
        let mut members = Map::new();
        if self.take(close) {
            return Some(members);
        }
        loop {
            let key = match self.text()? {
                Some(key) => {
                    // In Python's dictionaries it is a colon.
                    let sign = self.take(":");
                    sign.then_some(key)?
                }
                None => self.word(self.sign)?.to_owned(),
            };
            members.insert(key, self.value(depth)?);
            if self.take(close) {
                return Some(members);
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        let below = depth.checked_sub(1)?;
        if let Some(text) = self.text()? {
            return Some(text.into());
        }
        if self.take("{") {
            return self.members("}", below).map(Value::Object);
        }
        if self.take("[") {
            let mut items = Vec::new();
            while !self.take("]") {
                items.push(self.value(below)?);
                if !self.take(",") {
                    return self.take("]").then(|| items.into());
                }
            }
            return Some(items.into());
        }
        let end = self.rest.find([',', ')', '}', ']']);
        let (word, rest) = self.rest.split_at(end?);
        self.rest = rest;
        match word.trim() {
            "True" | "true" => Some(true.into()),
            "False" | "false" => Some(false.into()),
            "None" | "null" => Some(Value::Null),
            number => serde_json::from_str(number).ok().filter(Value::is_number),
        }
    }

    /// A text in quotes; `Some(None)`: there is none here.
    fn text(&mut self) -> Option<Option<String>> {
        let Some(quote) = self.quotes.iter().find(|quote| self.take(quote)) else {
            return Some(None);
        };
        // Gemma's marks stand in no text; Python's quotes do, behind a backslash.
        if *quote == QUOTE {
            let (text, rest) = self.rest.split_once(QUOTE)?;
            self.rest = rest;
            return Some(Some(text.to_owned()));
        }
        let mut text = String::new();
        let mut letters = self.rest.char_indices();
        while let Some((at, letter)) = letters.next() {
            let after = self.rest[at..].strip_prefix(quote);
            // Models were taught to write texts without a backslash before a quote: one that nothing
            // of a call can follow belongs to the text.
            let ends = |after: &&str| after.trim_start().starts_with([',', ')', ']', '}', ':']);
            if let Some(after) = after.filter(ends) {
                self.rest = after;
                return Some(Some(text));
            }
            if letter != '\\' {
                text.push(letter);
                continue;
            }
            match letters.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                kept @ ('\\' | '\'' | '"') => text.push(kept),
                // As Python leaves what it does not know.
                other => text.extend(['\\', other]),
            }
        }
        None
    }
}

//! From a model's tokens to what is shown: whole characters, thinking apart from the answer,
//! an end at a stop string, and calls of tools out of the text. Each step holds back what the next
//! token may change.

use aico_characters::{LONGEST_STOP, MOST_STOPS};

use crate::calls::{Call, CallReader, Calls, Part};

/// What begins a model's thinking.
pub const THINK_OPEN: &str = "<think>";
/// What ends it.
pub const THINK_CLOSE: &str = "</think>";

/// Most stop strings that may be asked for: those of a character, and as many of a program.
const STOPS_LIMIT: usize = 2 * MOST_STOPS;

/// The stop strings of an answer: the template's `own`, without which a model speaks for the person
/// as well, and those that were asked for, within the limits of a character's.
#[must_use]
pub fn stops(own: &[&str], asked: Vec<String>) -> Vec<String> {
    let asked = asked
        .into_iter()
        .filter(|stop| (1..=LONGEST_STOP).contains(&stop.len()))
        .take(STOPS_LIMIT);
    let own = own.iter().map(|&stop| stop.to_owned());
    own.chain(asked).collect()
}

/// Assembles bytes into whole characters. What can't become one turns into U+FFFD.
#[derive(Default)]
struct Characters {
    tail: Vec<u8>,
}

impl Characters {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.tail.extend_from_slice(bytes);
        let mut out = String::new();
        let mut rest = self.tail.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (whole, after) = rest.split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(whole));
                    match error.error_len() {
                        Some(length) => {
                            out.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[length..];
                        }
                        None => {
                            rest = after;
                            break;
                        }
                    }
                }
            }
        }
        self.tail = rest.to_vec();
        out
    }

    fn finish(&mut self) -> String {
        let cut = !std::mem::take(&mut self.tail).is_empty();
        if cut {
            char::REPLACEMENT_CHARACTER.to_string()
        } else {
            String::new()
        }
    }
}

/// Ends the answer at the first of some strings, which is not shown.
struct Stops {
    stops: Vec<String>,
    held: String,
}

impl Stops {
    fn new(mut stops: Vec<String>) -> Self {
        // An empty one would end every answer before it begins.
        stops.retain(|stop| !stop.is_empty());
        Self {
            stops,
            held: String::new(),
        }
    }

    /// What may be shown, and whether a stop string was met.
    fn push(&mut self, text: &str) -> (String, bool) {
        if self.stops.is_empty() {
            return (text.to_owned(), false);
        }
        self.held.push_str(text);
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min()
        {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that is a proper beginning of `mark`.
pub(crate) fn overlap(text: &str, mark: &str) -> usize {
    (1..mark.len().min(text.len() + 1))
        .rev()
        .find(|&length| mark.is_char_boundary(length) && text.ends_with(&mark[..length]))
        .unwrap_or(0)
}

/// A piece of an answer.
#[derive(PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Piece {
    /// Part of the answer.
    Text(String),
    /// Part of what the model thought before it.
    Thinking(String),
    /// A tool is to be called.
    Call(Call),
}

enum Phase {
    /// Nothing but white space so far: thinking may begin.
    Start,
    Thinking,
    /// Thinking is over; white space before the answer is left out.
    Between,
    Answer,
}

/// Turns the bytes of tokens into pieces.
pub struct AnswerText {
    characters: Characters,
    stops: Stops,
    phase: Phase,
    held: String,
    calls: Option<CallReader>,
}

/// Whether a model thinks aloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// Not: `<think>` would be text like any other.
    None,
    /// It may begin its answer with `<think>`.
    MayBegin,
    /// The prompt ended with `<think>`: it begins inside.
    Begun,
}

impl AnswerText {
    /// For one answer.
    #[must_use]
    pub fn new(thinking: Thinking, stops: Vec<String>) -> Self {
        Self {
            characters: Characters::default(),
            stops: Stops::new(stops),
            phase: match thinking {
                Thinking::None => Phase::Answer,
                Thinking::MayBegin => Phase::Start,
                Thinking::Begun => Phase::Thinking,
            },
            held: String::new(),
            calls: None,
        }
    }

    /// Reads calls of tools out of the answer.
    #[must_use]
    pub fn with_calls(mut self, calls: Option<Calls>) -> Self {
        self.calls = calls.map(CallReader::new);
        self
    }

    /// Whether calls of tools are read.
    #[must_use]
    pub fn reads_calls(&self) -> bool {
        self.calls.is_some()
    }

    /// Whether what comes next is thinking, or may begin it.
    #[must_use]
    pub fn thinks(&self) -> Thinking {
        match self.phase {
            Phase::Start => Thinking::MayBegin,
            Phase::Thinking => Thinking::Begun,
            Phase::Between | Phase::Answer => Thinking::None,
        }
    }

    /// Takes the bytes of one token. True when a stop string was met: the answer is over.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> bool {
        let text = self.characters.push(bytes);
        let stopped = self.route(&text, out);
        if stopped {
            self.end(out);
        }
        stopped
    }

    /// Gives what was still held back, when the model is done.
    pub fn finish(&mut self, out: &mut Vec<Piece>) {
        let cut = self.characters.finish();
        if self.route(&cut, out) {
            return self.end(out);
        }
        let held = std::mem::take(&mut self.held);
        match self.phase {
            Phase::Thinking => emit(out, Piece::Thinking, held.trim_end().to_owned()),
            Phase::Start | Phase::Between | Phase::Answer => {
                let (text, stopped) = self.stops.push(&held);
                self.say(text, out);
                if !stopped {
                    let text = self.stops.finish();
                    self.say(text, out);
                }
            }
        }
        self.end(out);
    }

    /// Text of the answer.
    fn say(&mut self, text: String, out: &mut Vec<Piece>) {
        match &mut self.calls {
            None => emit(out, Piece::Text, text),
            Some(calls) => {
                let mut parts = Vec::new();
                calls.push(&text, &mut parts);
                out.extend(parts.into_iter().map(piece));
            }
        }
    }

    /// What the reader of calls still holds.
    fn end(&mut self, out: &mut Vec<Piece>) {
        if let Some(calls) = &mut self.calls {
            let mut parts = Vec::new();
            calls.finish(&mut parts);
            out.extend(parts.into_iter().map(piece));
        }
    }

    fn route(&mut self, text: &str, out: &mut Vec<Piece>) -> bool {
        if text.is_empty() {
            return false;
        }
        self.held.push_str(text);
        loop {
            match self.phase {
                Phase::Start => {
                    let begun = self.held.trim_start();
                    if begun.len() < THINK_OPEN.len() && THINK_OPEN.starts_with(begun) {
                        return false;
                    }
                    match begun.strip_prefix(THINK_OPEN) {
                        Some(rest) => {
                            self.held = rest.to_owned();
                            self.phase = Phase::Thinking;
                        }
                        None => self.phase = Phase::Answer,
                    }
                }
                Phase::Thinking => {
                    if let Some(at) = self.held.find(THINK_CLOSE) {
                        let rest = self.held.split_off(at + THINK_CLOSE.len());
                        self.held.truncate(at);
                        let thought = std::mem::replace(&mut self.held, rest);
                        emit(out, Piece::Thinking, thought.trim_end().to_owned());
                        self.phase = Phase::Between;
                    } else {
                        let sure = self.held.len() - overlap(&self.held, THINK_CLOSE);
                        let sure = self.held[..sure].trim_end().len();
                        let rest = self.held.split_off(sure);
                        emit(
                            out,
                            Piece::Thinking,
                            std::mem::replace(&mut self.held, rest),
                        );
                        return false;
                    }
                }
                Phase::Between => {
                    let rest = self.held.trim_start().to_owned();
                    self.held = rest;
                    if self.held.is_empty() {
                        return false;
                    }
                    self.phase = Phase::Answer;
                }
                Phase::Answer => {
                    let (text, stopped) = self.stops.push(&std::mem::take(&mut self.held));
                    self.say(text, out);
                    return stopped;
                }
            }
        }
    }
}

fn piece(part: Part) -> Piece {
    match part {
        Part::Text(text) => Piece::Text(text),
        Part::Thinking(text) => Piece::Thinking(text),
        Part::Call(call) => Piece::Call(call),
    }
}

fn emit(out: &mut Vec<Piece>, kind: fn(String) -> Piece, text: String) {
    if !text.is_empty() {
        out.push(kind(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer and the thinking after feeding `bytes` in parts of `size`.
    fn run(thinking: Thinking, stops: &[&str], bytes: &[u8], size: usize) -> (String, String) {
        let stops = stops.iter().map(ToString::to_string).collect();
        let mut answer = AnswerText::new(thinking, stops);
        let mut out = Vec::new();
        let mut stopped = false;
        for part in bytes.chunks(size) {
            if answer.push(part, &mut out) {
                stopped = true;
                break;
            }
        }
        if !stopped {
            answer.finish(&mut out);
        }
        let (mut text, mut thought) = (String::new(), String::new());
        for piece in out {
            match piece {
                Piece::Text(part) => text.push_str(&part),
                Piece::Thinking(part) => thought.push_str(&part),
                Piece::Call(_) => panic!("no tools were offered"),
            }
        }
        (text, thought)
    }

    #[test]
    fn characters_split_over_tokens_arrive_whole() {
        for size in 1..8 {
            let (text, _) = run(Thinking::None, &[], "naïve 😀 ✓".as_bytes(), size);
            assert_eq!(text, "naïve 😀 ✓");
        }
        let mut answer = AnswerText::new(Thinking::None, vec![]);
        let mut out = Vec::new();
        answer.push(&"😀".as_bytes()[..3], &mut out);
        assert!(out.is_empty(), "three bytes of four are not a character");
    }

    #[test]
    fn bytes_that_are_no_characters_are_replaced_not_lost() {
        let (text, _) = run(Thinking::None, &[], b"a\xffb\xf0\x9f", 1);
        assert_eq!(text, "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn stop_string_over_token_borders_ends_the_answer() {
        for size in 1..12 {
            let (text, _) = run(
                Thinking::None,
                &["\nUser:"],
                b"Hello\nUsers\nUser: hi",
                size,
            );
            assert_eq!(text, "Hello\nUsers", "in parts of {size}");
        }
    }

    #[test]
    fn beginning_of_a_stop_string_at_the_end_is_shown() {
        let (text, _) = run(Thinking::None, &["\n\n###"], b"one\n\n##", 1);
        assert_eq!(text, "one\n\n##");
    }

    #[test]
    fn however_many_stops_are_asked_for_the_templates_own_are_among_them() {
        let asked = |count: usize| (0..count).map(|number| format!("stop {number}")).collect();
        let all = stops(&["<|im_end|>"], asked(STOPS_LIMIT + 5));
        assert_eq!(
            (all.len(), all[0].as_str()),
            (STOPS_LIMIT + 1, "<|im_end|>")
        );
        // A character's and a program's are all taken.
        let both = stops(&["<|im_end|>"], asked(2 * MOST_STOPS));
        assert_eq!(both.last().map(String::as_str), Some("stop 31"));
        let odd = vec![
            String::new(),
            "x".repeat(LONGEST_STOP + 1),
            "END".to_owned(),
        ];
        assert_eq!(stops(&[], odd), ["END"]);
    }

    #[test]
    fn earliest_of_several_stop_strings_wins() {
        let (text, _) = run(Thinking::None, &["END", "B"], b"AB END", 7);
        assert_eq!(text, "A");
    }

    #[test]
    fn thinking_is_told_apart_over_token_borders() {
        for size in 1..20 {
            let (text, thought) = run(
                Thinking::MayBegin,
                &[],
                b"\n<think>\nwell </b>\n</think>\n\nYes.",
                size,
            );
            assert_eq!(
                (text.as_str(), thought.trim()),
                ("Yes.", "well </b>"),
                "parts of {size}"
            );
        }
    }

    #[test]
    fn thinking_begun_by_the_prompt_and_never_ended() {
        let (text, thought) = run(Thinking::Begun, &[], b"hm, let me see </thi", 3);
        assert_eq!(
            (text.as_str(), thought.as_str()),
            ("", "hm, let me see </thi")
        );
    }

    #[test]
    fn think_mark_is_text_where_the_model_does_not_think() {
        let (text, thought) = run(Thinking::None, &[], b"<think>a</think>", 2);
        assert_eq!((text.as_str(), thought.as_str()), ("<think>a</think>", ""));
        let (text, _) = run(Thinking::MayBegin, &[], b"<thing> <think>", 2);
        assert_eq!(text, "<thing> <think>");
    }

    #[test]
    fn stop_strings_do_not_look_into_the_thinking() {
        let (text, thought) = run(Thinking::MayBegin, &["a"], b"<think>aaa</think>bac", 1);
        assert_eq!((text.as_str(), thought.as_str()), ("b", "aaa"));
    }

    #[test]
    fn a_call_after_thinking_is_a_call() {
        let tools = std::sync::Arc::new(vec![crate::calls::Offered {
            name: "clock".to_owned(),
            parameters: serde_json::json!({}),
        }]);
        let calls = Calls {
            style: crate::calls::Style::Hermes,
            tools,
        };
        let answer =
            b"<think>\n<tool_call>?\n</think>\n\n<tool_call>\n{\"name\": \"clock\"}\n</tool_call>";
        for size in 1..answer.len() {
            let mut text =
                AnswerText::new(Thinking::MayBegin, vec![]).with_calls(Some(calls.clone()));
            let mut out = Vec::new();
            for part in answer.chunks(size) {
                text.push(part, &mut out);
            }
            text.finish(&mut out);
            let mut thought = String::new();
            let mut called = Vec::new();
            for piece in out {
                match piece {
                    Piece::Thinking(part) => thought.push_str(&part),
                    Piece::Call(call) => called.push(call.name),
                    Piece::Text(text) => panic!("{text}"),
                }
            }
            assert_eq!(
                (thought.trim(), called.as_slice()),
                ("<tool_call>?", &["clock".to_owned()][..])
            );
        }
    }
}

//! Calls of tools in what a model writes.
//!
//! Each family of models was trained on a way of its own to write them; the chat template in the
//! file tells which. What is a call comes out as one, what only looks like one as the text that it
//! is: a call that can't be read, or of a tool that was not offered. The beginning of a mark is held
//! back until it is known what it becomes.

mod channels;
mod literal;
mod parse;

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use channels::{Channels, Kind};

/// Texts of control tokens that belong to calls: they stand for no text, but where calls are read.
pub const MARKS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "<TOOLCALL>",
    "</TOOLCALL>",
    "[TOOL_CALLS]",
    "[CALL_ID]",
    "[ARGS]",
    "<|python_tag|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|channel>",
    "<channel|>",
    "<|\"|>",
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|end|>",
];

/// An id for a call that has none: as the common servers make them, another one each time, and short
/// enough for Mistral's templates.
pub(crate) fn id() -> String {
    let id = Uuid::new_v4().simple().to_string();
    id[..9].to_owned()
}

/// How a family of models writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `<tool_call>…</tool_call>`: Hermes and Qwen with JSON inside, Qwen-Coder and GLM with XML.
    Hermes,
    /// `<|tool_call|>[…]<|/tool_call|>`: Phi-4-mini; Granite leaves the second mark out.
    Phi,
    /// `[TOOL_CALLS][…]`, or `[TOOL_CALLS]name[ARGS]{…}`: Mistral.
    Mistral,
    /// `<｜tool▁calls▁begin｜>…`: DeepSeek.
    DeepSeek,
    /// `<|START_ACTION|>[…]<|END_ACTION|>`: Command R.
    Command,
    /// `<TOOLCALL>[…]</TOOLCALL>`: Nemotron.
    Nemotron,
    /// `<function=name>{…}</function>`: Functionary 3.1.
    Function,
    /// `>>>name` and a line with `{…}`: Functionary 3.2.
    Recipient,
    /// `<|channel|>commentary to=functions.name<|message|>{…}`: gpt-oss. What it thinks comes in a
    /// channel of its own, tools or not.
    Harmony,
    /// `<|tool_call>call:name{key:<|"|>text<|"|>}<tool_call|>`: Gemma 4. What it thinks stands between
    /// `<|channel>thought` and `<channel|>`, tools or not.
    Gemma,
    /// `<|tool_call_start|>[name(key='text')]<|tool_call_end|>`: LFM2.
    Pythonic,
    /// The whole answer is JSON, or what follows `<|python_tag|>`: Llama 3.
    Llama,
}

impl Style {
    /// As a template's text shows. One that shows none is taken for Llama's: plain JSON.
    #[must_use]
    pub fn of_template(source: &str) -> Self {
        let shown = [
            ("<|tool_call|>", Self::Phi),
            ("<|tool_call>", Self::Gemma),
            ("<|tool_call_start|>", Self::Pythonic),
            // Earlier and smaller ones show only how they are told of tools.
            ("<|tool_list_start|>", Self::Pythonic),
            ("List of tools: [", Self::Pythonic),
            ("<｜tool▁calls▁begin｜>", Self::DeepSeek),
            ("<|START_ACTION|>", Self::Command),
            ("[TOOL_CALLS]", Self::Mistral),
            ("<TOOLCALL>", Self::Nemotron),
            ("<tool_call>", Self::Hermes),
            ("<function=", Self::Function),
            ("<|channel|>", Self::Harmony),
            (">>>", Self::Recipient),
        ];
        let found = shown.iter().find(|(mark, _)| source.contains(mark));
        found.map_or(Self::Llama, |(_, style)| *style)
    }

    /// The style of a template whose answers come in channels, thinking in one of its own.
    #[must_use]
    pub fn of_channels(source: &str) -> Option<Self> {
        let has = |marks: [&str; 2]| marks.iter().all(|mark| source.contains(mark));
        match () {
            () if has(["<|channel|>", "<|message|>"]) => Some(Self::Harmony),
            () if has(["<|channel>", "<channel|>"]) => Some(Self::Gemma),
            () => None,
        }
    }

    /// Whether its answers come in messages with heads.
    fn channels(self) -> Option<Channels> {
        match self {
            Self::Harmony => Some(Channels::new(Kind::Harmony)),
            Self::Recipient => Some(Channels::new(Kind::Recipient)),
            Self::Gemma => Some(Channels::new(Kind::Gemma)),
            _ => None,
        }
    }

    fn opens(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &["<tool_call>"],
            Self::Phi => &["<|tool_call|>"],
            Self::Mistral => &["[TOOL_CALLS]"],
            Self::DeepSeek => &["<｜tool▁calls▁begin｜>"],
            Self::Command => &["<|START_ACTION|>"],
            Self::Nemotron => &["<TOOLCALL>"],
            Self::Pythonic => &["<|tool_call_start|>"],
            Self::Function => &["<function=", "<|python_tag|>"],
            Self::Llama => &["<|python_tag|>"],
            // Their messages have heads: `channels` reads them.
            Self::Recipient | Self::Harmony | Self::Gemma => &[],
        }
    }

    /// Of the mark that began it; nothing: to the answer's end.
    fn close(self, open: &str) -> Option<&'static str> {
        match (self, open) {
            (Self::Hermes, _) => Some("</tool_call>"),
            (Self::Phi, _) => Some("<|/tool_call|>"),
            (Self::DeepSeek, _) => Some("<｜tool▁calls▁end｜>"),
            (Self::Command, _) => Some("<|END_ACTION|>"),
            (Self::Nemotron, _) => Some("</TOOLCALL>"),
            (Self::Pythonic, _) => Some("<|tool_call_end|>"),
            (Self::Function, "<function=") => Some("</function>"),
            _ => None,
        }
    }
}

/// A tool that may be called.
#[derive(Debug, Clone)]
pub struct Offered {
    /// What it is called by.
    pub name: String,
    /// A JSON schema of its arguments.
    pub parameters: Value,
}

/// How calls are read out of one answer.
#[derive(Debug, Clone)]
pub struct Calls {
    /// The family's way.
    pub style: Style,
    /// What was offered.
    pub tools: Arc<Vec<Offered>>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Of the tool.
    pub name: String,
    /// A JSON object.
    pub arguments: String,
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text of the answer.
    Text(String),
    /// What the model thinks.
    Thinking(String),
    /// A call.
    Call(Call),
}

enum State {
    /// Nothing but white space so far.
    Start,
    Text,
    /// It began with `{`: a call, or JSON.
    Bare,
    /// After this mark.
    Call(&'static str),
}

/// Reads the text of one answer as it comes.
pub struct CallReader {
    calls: Calls,
    /// Where answers come in messages with heads.
    channels: Option<Channels>,
    state: State,
    held: String,
    /// White space before the mark: text only if no call follows.
    gap: String,
    /// A call came: white space after it is no text.
    called: bool,
}

impl CallReader {
    /// For one answer.
    #[must_use]
    pub fn new(calls: Calls) -> Self {
        Self {
            channels: calls.style.channels(),
            calls,
            state: State::Start,
            held: String::new(),
            gap: String::new(),
            called: false,
        }
    }

    /// Takes a piece of the answer.
    pub fn push(&mut self, text: &str, out: &mut Vec<Part>) {
        if let Some(channels) = &mut self.channels {
            return channels.push(text, &self.calls.tools, out);
        }
        self.held.push_str(text);
        loop {
            let goes_on = match self.state {
                State::Start => self.start(),
                State::Text => self.text(out),
                State::Bare => self.bare(),
                State::Call(open) => self.call(open, out),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// The answer is over.
    pub fn finish(&mut self, out: &mut Vec<Part>) {
        if let Some(channels) = &mut self.channels {
            return channels.finish(&self.calls.tools, out);
        }
        let held = std::mem::take(&mut self.held);
        let (open, read) = match self.state {
            State::Start | State::Text => return self.say(held, out),
            State::Bare => ("", parse::json(held.trim())),
            State::Call(open) => (open, self.read(open, &held)),
        };
        match read.and_then(|calls| self.known(calls)) {
            Some(calls) => out.extend(calls.into_iter().map(Part::Call)),
            None => self.say_as_it_is(open, &held, out),
        }
    }

    fn start(&mut self) -> bool {
        let begun = self.held.trim_start();
        if begun.is_empty() {
            return false;
        }
        let bare = self.calls.style == Style::Llama && begun.starts_with(['{', '[']);
        self.state = if bare { State::Bare } else { State::Text };
        true
    }

    /// Plain text, until a mark.
    fn text(&mut self, out: &mut Vec<Part>) -> bool {
        let opens = self.calls.style.opens();
        let found = opens
            .iter()
            .filter_map(|open| self.held.find(open).map(|at| (at, *open)))
            .min();
        if let Some((at, open)) = found {
            let rest = self.held.split_off(at + open.len());
            let mut before = std::mem::replace(&mut self.held, rest);
            before.truncate(at);
            self.gap = before.split_off(before.trim_end().len());
            self.say(before, out);
            self.state = State::Call(open);
            return true;
        }
        let begun = opens
            .iter()
            .map(|open| crate::text::overlap(&self.held, open))
            .max()
            .unwrap_or(0);
        // White space before a call is no text either.
        let sure = self.held[..self.held.len() - begun].trim_end().len();
        let rest = self.held.split_off(sure);
        let sure = std::mem::replace(&mut self.held, rest);
        self.say(sure, out);
        false
    }

    /// JSON from the start: text once it is clear that it is no call.
    fn bare(&mut self) -> bool {
        if parse::may_be_call(self.held.trim_start()) {
            return false;
        }
        self.state = State::Text;
        true
    }

    fn call(&mut self, open: &'static str, out: &mut Vec<Part>) -> bool {
        let Some(close) = self.calls.style.close(open) else {
            return false;
        };
        let mut from = 0;
        while let Some(found) = self.held[from..].find(close) {
            let (at, after) = (from + found, from + found + close.len());
            let body = &self.held[..at];
            let read = self.read(open, body);
            if read.is_none() && parse::goes_on(body) {
                // The mark stands inside of a text.
                from = after;
                continue;
            }
            let calls = read.and_then(|calls| self.known(calls));
            let rest = self.held.split_off(after);
            let whole = std::mem::replace(&mut self.held, rest);
            match calls {
                Some(calls) => {
                    out.extend(calls.into_iter().map(Part::Call));
                    self.called = true;
                }
                None => self.say_as_it_is(open, &whole, out),
            }
            self.state = State::Text;
            return true;
        }
        false
    }

    fn read(&self, open: &str, body: &str) -> Option<Vec<Call>> {
        match (self.calls.style, open) {
            (Style::Hermes, _) => parse::hermes(body.trim(), &self.calls.tools),
            (Style::Phi | Style::Command | Style::Nemotron, _) => parse::json(body.trim()),
            (Style::Mistral, _) => parse::mistral(body),
            (Style::Pythonic, _) => literal::calls(body.trim()),
            (Style::DeepSeek, _) => parse::deep_seek(body),
            (Style::Function, "<function=") => parse::function(body).map(|call| vec![call]),
            (Style::Function | Style::Llama, _) => parse::python(body.trim(), &self.calls.tools),
            // `channels` has read them.
            (Style::Recipient | Style::Harmony | Style::Gemma, _) => None,
        }
    }

    /// The calls, when all of them are of tools that were offered.
    fn known(&self, calls: Vec<Call>) -> Option<Vec<Call>> {
        let offered = |call: &Call| self.calls.tools.iter().any(|tool| tool.name == call.name);
        (!calls.is_empty() && calls.iter().all(offered)).then_some(calls)
    }

    /// What is no call after all.
    fn say_as_it_is(&mut self, open: &str, rest: &str, out: &mut Vec<Part>) {
        let gap = std::mem::take(&mut self.gap);
        self.say(format!("{gap}{open}{rest}"), out);
    }

    fn say(&mut self, text: String, out: &mut Vec<Part>) {
        let text = match self.called {
            true => text.trim_start().to_owned(),
            false => text,
        };
        if !text.is_empty() {
            self.called = false;
            out.push(Part::Text(text));
        }
    }
}

#[cfg(test)]
mod tests;

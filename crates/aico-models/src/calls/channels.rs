//! Answers in several messages, each with a head that says whom it is for.
//!
//! gpt-oss writes `<|channel|>analysis<|message|>…<|end|>` for what it thinks, `final` for its
//! answer, and `commentary to=functions.NAME` before the arguments of a call. Functionary 3.2 begins
//! each message with `>>>all` or `>>>NAME` and a new line; the first `>>>` is the prompt's. Gemma 4
//! marks only what is no answer: `<|channel>thought` and a new line before what it thinks,
//! `<|tool_call>` before a call.

use serde_json::{Map, Value};

use super::{Call, Offered, Part, parse};

const CHANNEL: &str = "<|channel|>";
const START: &str = "<|start|>";
const MESSAGE: &str = "<|message|>";
/// What ends a message of gpt-oss's, or begins the next.
const ENDS: &[&str] = &["<|end|>", "<|call|>", "<|return|>", START, CHANNEL];
/// What begins a message of Functionary's.
const NEXT: &str = ">>>";
/// What begins and ends Gemma's thoughts, and its calls.
const THOUGHT: [&str; 2] = ["<|channel>", "<channel|>"];
const CALL: [&str; 2] = ["<|tool_call>", "<tool_call|>"];
/// Bytes of a head, at most.
const HEAD_LIMIT: usize = 512;

/// Whose way of writing messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// gpt-oss's, called Harmony.
    Harmony,
    /// Functionary's, 3.2.
    Recipient,
    /// Gemma's, 4.
    Gemma,
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum To {
    Person,
    /// Nobody: it thinks.
    Itself,
    /// The tool of this name; with what stood before the arguments, should they be none.
    Tool(String, String),
}

enum State {
    /// Before the first message.
    Begin,
    /// In a head; what opened it.
    Head(&'static str),
    Body(To),
    /// After a message.
    Between,
}

/// Reads the messages of one answer as they come.
pub(super) struct Channels {
    kind: Kind,
    state: State,
    held: String,
    /// White space before a thought: text only if more text follows.
    gap: String,
    /// Something of the answer was told.
    said: bool,
}

impl Channels {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            state: State::Begin,
            held: String::new(),
            gap: String::new(),
            said: false,
        }
    }

    pub(super) fn push(&mut self, text: &str, tools: &[Offered], out: &mut Vec<Part>) {
        self.held.push_str(text);
        loop {
            let before = out.len();
            let goes_on = match self.kind {
                Kind::Harmony => self.harmony(tools, out),
                Kind::Recipient => self.recipient(tools, out),
                Kind::Gemma => self.gemma(tools, out),
            };
            let told = &out[before..];
            self.said |= told.iter().any(|part| matches!(part, Part::Text(_)));
            if !goes_on {
                return;
            }
        }
    }

    /// The answer is over.
    pub(super) fn finish(&mut self, tools: &[Offered], out: &mut Vec<Part>) {
        let rest = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Between) {
            State::Body(to) => said(to, &rest, tools, true, out),
            // Its end may be the answer's.
            State::Head(open) if open == CALL[0] => self.gemma_call(&rest, "", tools, out),
            State::Head(open) if open == THOUGHT[0] => {}
            State::Between if self.kind == Kind::Gemma => {
                let rest = rest.trim_start();
                if !rest.is_empty() {
                    say(out, Part::Text, format!("{}{rest}", self.gap));
                }
            }
            // What never became a message is the text that it is.
            State::Head(open) => say(out, Part::Text, format!("{open}{rest}")),
            State::Begin => say(out, Part::Text, rest),
            State::Between => say(out, Part::Text, rest.trim_start().to_owned()),
        }
    }

    fn harmony(&mut self, tools: &[Offered], out: &mut Vec<Part>) -> bool {
        match &self.state {
            State::Begin | State::Between => {
                let begun = self.held.trim_start();
                if let Some(open) = [START, CHANNEL]
                    .iter()
                    .find(|open| begun.starts_with(**open))
                {
                    self.held = begun[open.len()..].to_owned();
                    self.state = State::Head(open);
                    return true;
                }
                let marks = [START, CHANNEL];
                if marks.iter().any(|mark| mark.starts_with(begun)) {
                    return false;
                }
                // Without a head, as when it is bound to a form.
                self.state = State::Body(To::Person);
                true
            }
            State::Head(open) => match self.held.find(MESSAGE) {
                Some(at) => {
                    let rest = self.held.split_off(at + MESSAGE.len());
                    let head = std::mem::replace(&mut self.held, rest);
                    self.state = State::Body(harmony_head(open, &head[..at]));
                    true
                }
                None if self.held.len() > HEAD_LIMIT => {
                    let text = format!("{open}{}", std::mem::take(&mut self.held));
                    say(out, Part::Text, text);
                    self.state = State::Body(To::Person);
                    false
                }
                None => false,
            },
            State::Body(_) => {
                let found = ENDS
                    .iter()
                    .filter_map(|end| self.held.find(end).map(|at| (at, *end)))
                    .min();
                let Some((at, end)) = found else {
                    self.sure(ENDS, out);
                    return false;
                };
                let rest = self.held.split_off(at + end.len());
                let mut body = std::mem::replace(&mut self.held, rest);
                body.truncate(at);
                let after = match end {
                    START => State::Head(START),
                    CHANNEL => State::Head(CHANNEL),
                    _ => State::Between,
                };
                if let State::Body(to) = std::mem::replace(&mut self.state, after) {
                    said(to, &body, tools, true, out);
                }
                true
            }
        }
    }

    fn recipient(&mut self, tools: &[Offered], out: &mut Vec<Part>) -> bool {
        match &self.state {
            State::Begin => match head_of(&self.held, tools) {
                Head::Of(to, length) => {
                    self.held.drain(..length);
                    self.state = State::Body(to);
                    true
                }
                Head::Open => false,
                Head::None => {
                    self.state = State::Body(To::Person);
                    true
                }
            },
            State::Body(_) => {
                let mut from = 0;
                while let Some(found) = self.held[from..].find(NEXT) {
                    let at = from + found;
                    match head_of(&self.held[at + NEXT.len()..], tools) {
                        Head::Of(to, length) => {
                            let rest = self.held.split_off(at + NEXT.len() + length);
                            let mut body = std::mem::replace(&mut self.held, rest);
                            body.truncate(at);
                            let next = State::Body(to);
                            if let State::Body(to) = std::mem::replace(&mut self.state, next) {
                                said(to, body.trim_end(), tools, true, out);
                            }
                            return true;
                        }
                        // It may become one.
                        Head::Open => return false,
                        // As in an example of Python's prompt.
                        Head::None => from = at + NEXT.len(),
                    }
                }
                self.sure(&[NEXT], out);
                false
            }
            State::Head(_) | State::Between => false,
        }
    }

    fn gemma(&mut self, tools: &[Offered], out: &mut Vec<Part>) -> bool {
        let opens = [THOUGHT[0], CALL[0]];
        match &self.state {
            State::Begin | State::Between => {
                let begun = self.held.trim_start();
                if opens.iter().any(|open| open.starts_with(begun)) {
                    return false;
                }
                // What follows goes on behind what was told before.
                if self.said && self.gap.is_empty() {
                    self.gap = self.held[..self.held.len() - begun.len()].to_owned();
                }
                self.held = begun.to_owned();
                if !opens.iter().any(|open| self.held.starts_with(open)) {
                    self.held.insert_str(0, &std::mem::take(&mut self.gap));
                }
                self.state = State::Body(To::Person);
                true
            }
            State::Body(To::Itself) => {
                let Some(at) = self.held.find(THOUGHT[1]) else {
                    self.sure(&THOUGHT[1..], out);
                    return false;
                };
                let body = self.take(at, THOUGHT[1]);
                said(To::Itself, &body, tools, true, out);
                self.state = State::Between;
                true
            }
            State::Body(_) => {
                let found = opens
                    .iter()
                    .filter_map(|open| self.held.find(open).map(|at| (at, *open)))
                    .min();
                let Some((at, open)) = found else {
                    self.sure(&opens, out);
                    return false;
                };
                let body = self.take(at, open);
                let text = body.trim_end();
                if self.said || !text.is_empty() {
                    self.gap.push_str(&body[text.len()..]);
                }
                say(out, Part::Text, text.to_owned());
                self.state = State::Head(open);
                true
            }
            State::Head(open) if *open == CALL[0] => {
                let Some(at) = self.held.find(CALL[1]) else {
                    return false;
                };
                let body = self.take(at, CALL[1]);
                self.gemma_call(&body, CALL[1], tools, out);
                self.state = State::Between;
                true
            }
            State::Head(_) => {
                // The channel's name, and mostly a new line.
                let name = |letter: char| letter.is_alphanumeric() || letter == '_';
                let rest = self.held.trim_start_matches(name);
                if rest.is_empty() && self.held.len() < HEAD_LIMIT {
                    return false;
                }
                self.held = rest.trim_start().to_owned();
                self.state = State::Body(To::Itself);
                true
            }
        }
    }

    /// What is held before a mark, which goes with it.
    fn take(&mut self, at: usize, mark: &str) -> String {
        let rest = self.held.split_off(at + mark.len());
        let mut body = std::mem::replace(&mut self.held, rest);
        body.truncate(at);
        body
    }

    /// A call of Gemma's, or the text that it is.
    fn gemma_call(&mut self, body: &str, close: &str, tools: &[Offered], out: &mut Vec<Part>) {
        let gap = std::mem::take(&mut self.gap);
        let call = super::literal::gemma(body.trim());
        match call.filter(|call| tools.iter().any(|tool| tool.name == call.name)) {
            Some(call) => out.push(Part::Call(call)),
            None => say(out, Part::Text, format!("{gap}{}{body}{close}", CALL[0])),
        }
    }

    /// Hands on what no mark can change any more, of a message that is told as it comes.
    fn sure(&mut self, marks: &[&str], out: &mut Vec<Part>) {
        let State::Body(to) = &self.state else { return };
        if matches!(to, To::Tool(..)) {
            return;
        }
        let begun = marks
            .iter()
            .map(|mark| crate::text::overlap(&self.held, mark))
            .max()
            .unwrap_or(0);
        // White space before a mark is no text either.
        let sure = self.held[..self.held.len() - begun].trim_end().len();
        let rest = self.held.split_off(sure);
        let sure = std::mem::replace(&mut self.held, rest);
        said(to.clone(), &sure, &[], false, out);
    }
}

enum Head {
    Of(To, usize),
    /// More has to come.
    Open,
    None,
}

/// `all` or the name of a tool, and a new line.
fn head_of(text: &str, tools: &[Offered]) -> Head {
    let names = || std::iter::once("all").chain(tools.iter().map(|tool| tool.name.as_str()));
    match text.split_once('\n') {
        Some((name, _)) if name.trim_end() == "all" => Head::Of(To::Person, name.len() + 1),
        Some((name, _)) if names().any(|known| known == name.trim_end()) => {
            let head = format!("{NEXT}{name}\n");
            Head::Of(To::Tool(name.trim_end().to_owned(), head), name.len() + 1)
        }
        Some(_) => Head::None,
        None if names().any(|known| known.starts_with(text.trim_end())) => Head::Open,
        None => Head::None,
    }
}

/// `analysis`, `final`, `commentary to=functions.NAME <|constrain|>json`; the recipient may come
/// before the channel too.
fn harmony_head(open: &str, head: &str) -> To {
    if let Some((_, to)) = head.split_once("to=") {
        let to = to.split(|c: char| c.is_whitespace() || c == '<').next();
        let to = to.unwrap_or_default();
        let name = to.strip_prefix("functions.").unwrap_or(to);
        return To::Tool(name.to_owned(), format!("{open}{head}{MESSAGE}"));
    }
    match head.contains("analysis") {
        true => To::Itself,
        false => To::Person,
    }
}

fn said(to: To, body: &str, tools: &[Offered], whole: bool, out: &mut Vec<Part>) {
    let body = match whole {
        true => body.trim_end(),
        false => body,
    };
    match to {
        To::Person => say(out, Part::Text, body.to_owned()),
        To::Itself => say(out, Part::Thinking, body.to_owned()),
        To::Tool(name, head) => match call(&name, body, tools) {
            Some(call) => out.push(Part::Call(call)),
            None => say(out, Part::Text, format!("{head}{body}")),
        },
    }
}

/// A call of a tool that was offered: JSON, or code for one that runs Python.
fn call(name: &str, body: &str, tools: &[Offered]) -> Option<Call> {
    let tool = tools.iter().find(|tool| tool.name == name)?;
    let arguments = match serde_json::from_str::<Map<String, Value>>(body.trim()) {
        Ok(arguments) => arguments,
        Err(_) if body.trim().is_empty() => Map::new(),
        Err(_) if parse::RUNS_PYTHON.contains(&name) => {
            Map::from_iter([("code".to_owned(), body.into())])
        }
        Err(_) => return None,
    };
    Some(Call {
        name: tool.name.clone(),
        arguments: Value::Object(arguments).to_string(),
    })
}

fn say(out: &mut Vec<Part>, kind: fn(String) -> Part, text: String) {
    if !text.is_empty() {
        out.push(kind(text));
    }
}

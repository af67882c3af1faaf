//! From a conversation to the tokens that fit.
//!
//! The rule: when a prompt is longer than the context leaves room for, the oldest exchanges (a
//! user's turn and what followed it) are left out, whole; never the system's turn, never the
//! last exchange. In a large context they go in steps of four, so that the beginning of the
//! prompt stays the same for several turns and the engine's cache of it holds.

use std::sync::Arc;

use aico_contracts::v1;

use crate::calls::{Calls, Offered};
use crate::engine::{Token, Vocabulary};
use crate::structured::{FormatError, Formats, Structure};
use crate::template::{Called, CalledFunction, ChatTemplate, Role, TemplateError, Turn, Wishes};
use crate::text::Thinking;

/// Context from which exchanges are left out in steps.
const STEP_CONTEXT: usize = 4096;
/// How many at a time.
const STEP: usize = 4;
/// Least room for an answer.
const ANSWER_MIN: usize = 16;
/// Tokens of an answer when the request does not say.
const ANSWER_DEFAULT: usize = 1024;

/// Texts that have nothing in common, from the first letter on. Some vocabularies have a token for
/// what a turn begins with and a line break or a space together.
const OTHERS: [&str; 4] = ["a", "1", "\n", " "];

/// Breaks control tokens' texts inside what people wrote. A noncharacter: it is no text.
const BREAK: char = '\u{fdd0}';

/// A prompt, ready for the engine.
pub struct Prompt {
    /// What is to be computed.
    pub tokens: Vec<Token>,
    /// How many of the first tokens are the same whatever follows the character's own turns.
    pub own: usize,
    /// Turns left out.
    pub dropped_turns: u32,
    /// Most tokens of the answer.
    pub answer_limit: usize,
    /// Whether the answer may hold thinking.
    pub thinking: Thinking,
    /// Strings that end the answer, beside the request's.
    pub stops: &'static [&'static str],
    /// How calls of tools are read out of the answer.
    pub calls: Option<Calls>,
}

/// What an answer shall be beside an answer to the turns.
#[derive(Default)]
pub struct Asked {
    /// What may be called.
    pub tools: Vec<v1::Tool>,
    /// Whether the model shall think; `None`: as it does by itself.
    pub think: Option<bool>,
    /// How long: `low`, `medium`, `high`; empty: as it does by itself.
    pub effort: String,
    /// How many of the first turns are a character's own, with nobody's words in them.
    pub own_turns: usize,
}

/// Tokens that a model may think before an answer that is bound to a form, of so many in all: some
/// are left for the answer, and as many as an effort is worth are enough.
#[must_use]
pub fn thought_limit(effort: &str, answer: usize) -> usize {
    let share = match effort {
        "low" => 512,
        "high" => 8192,
        _ => 2048,
    };
    share.min(answer / 2)
}

/// Most tools of one question.
pub const TOOLS_LIMIT: usize = 128;
/// Most bytes of a tool's schema.
const TOOL_SCHEMA_LIMIT: usize = 64 << 10;

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// No turn of the user's to answer.
    #[error("there is nothing to answer")]
    Empty,
    /// Even alone, the last exchange does not fit.
    #[error("the message has {}{tokens} tokens, {room} fit", if *.at_least { "at least " } else { "" })]
    TooLong {
        /// Its tokens, with the system's turn.
        tokens: usize,
        /// Whether they are more than that.
        at_least: bool,
        /// What fits.
        room: usize,
    },
    /// The model has nothing for this.
    #[error("its chat template has no place for {0}")]
    NotCapable(&'static str),
    /// A tool that can't be offered.
    #[error("{0}")]
    Tool(&'static str),
    /// The model file's template failed.
    #[error("the model's chat template failed")]
    Template(#[from] TemplateError),
}

impl PromptError {
    /// As a failure told to the asker.
    #[must_use]
    pub fn to_fault(&self) -> v1::Fault {
        match self {
            Self::Empty => v1::Fault::invalid("There is nothing to answer"),
            Self::TooLong { .. } => v1::Fault::too_long("The message is too long for this model")
                .with_detail(format!("{self}."))
                .with_what_to_do("Shorten it, or choose a model with a larger context."),
            Self::NotCapable(what) => v1::Fault::new(
                "model-not-capable",
                format!("This model has nothing for {what}"),
            )
            .with_detail(format!("{self}."))
            .with_what_to_do("Choose another model for this."),
            Self::Tool(_) => v1::Fault::invalid("A tool can't be offered to the model")
                .with_detail(format!("{self}.")),
            Self::Template(error) => {
                v1::Fault::new("model-template", "The model's chat template does not work")
                    .with_detail(format!("{error}."))
                    .with_what_to_do("Choose another model, or another file of this one.")
            }
        }
    }
}

/// A model as text sees it: vocabulary and template.
pub struct Language {
    vocabulary: Arc<dyn Vocabulary>,
    template: ChatTemplate,
    formats: Formats,
}

impl Language {
    /// Reads the model's template.
    ///
    /// # Errors
    /// When the template can't be read or fails on the plainest conversation.
    pub fn new(vocabulary: Arc<dyn Vocabulary>) -> Result<Self, TemplateError> {
        let info = vocabulary.info();
        let template =
            ChatTemplate::new(info.template.as_deref(), &info.begin_text, &info.end_text)?;
        template.render(&[Turn::new(Role::User, "Hello.")])?;
        Ok(Self {
            vocabulary,
            template,
            formats: Formats::default(),
        })
    }

    /// What binds an answer to `format`; see [`Formats::bind`].
    ///
    /// # Errors
    /// As there.
    pub fn structure(&self, format: &str) -> Result<Structure, FormatError> {
        self.formats.bind(&*self.vocabulary, format)
    }

    /// The vocabulary.
    #[must_use]
    pub fn vocabulary(&self) -> &Arc<dyn Vocabulary> {
        &self.vocabulary
    }

    /// Tokens of a prompt of all these turns.
    ///
    /// # Errors
    /// When the template fails.
    pub fn count(&self, turns: &[Turn]) -> Result<usize, PromptError> {
        Ok(self
            .tokens(&self.guarded(turns), &Wishes::default())?
            .0
            .len())
    }

    /// The prompt for an answer to `turns` in a context of `context` tokens.
    ///
    /// # Errors
    /// When there is nothing to answer, the last exchange does not fit, or the template fails.
    pub fn prompt(
        &self,
        turns: &[Turn],
        max_tokens: u32,
        context: usize,
    ) -> Result<Prompt, PromptError> {
        self.prompt_for(turns, &Asked::default(), max_tokens, context)
    }

    /// As [`Language::prompt`], with tools and whether to think.
    ///
    /// # Errors
    /// As there; and when the model has nothing for what is asked.
    pub fn prompt_for(
        &self,
        turns: &[Turn],
        asked: &Asked,
        max_tokens: u32,
        context: usize,
    ) -> Result<Prompt, PromptError> {
        let (wishes, calls) = self.wishes(asked)?;
        let Some(last) = turns.iter().rposition(|turn| turn.role == Role::User) else {
            return Err(PromptError::Empty);
        };
        let wanted = if max_tokens == 0 {
            ANSWER_DEFAULT
        } else {
            max_tokens as usize
        };
        let reserve = wanted.min(context / 4).max(ANSWER_MIN);
        let room = context.saturating_sub(reserve);
        let least = turns[last].text.len() / self.vocabulary.info().longest_piece.max(1);
        if least > room {
            return Err(PromptError::TooLong {
                tokens: least,
                at_least: true,
                room,
            });
        }

        let turns = self.guarded(turns);
        let exchanges = exchanges(&turns);
        let most = exchanges.len().saturating_sub(1);
        let fits = |dropped: usize| -> Result<Fit, PromptError> {
            let kept = without(&turns, &exchanges, dropped);
            let (tokens, thinking) = self.tokens(&kept, &wishes)?;
            let gone = turns.len() - kept.len();
            Ok(Fit {
                tokens,
                thinking,
                gone,
            })
        };
        // Whole histories beyond any context need not be rendered to know that they are.
        let mut low = self.certainly_dropped(&turns, &exchanges, room);
        let mut best = fits(low)?;
        if best.tokens.len() > room {
            let mut high = most;
            best = fits(high)?;
            if best.tokens.len() > room {
                let tokens = best.tokens.len();
                return Err(PromptError::TooLong {
                    tokens,
                    at_least: false,
                    room,
                });
            }
            // Dropping `low` is too little, dropping `high` suffices.
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                let tried = fits(middle)?;
                if tried.tokens.len() > room {
                    low = middle;
                } else {
                    high = middle;
                    best = tried;
                }
            }
            let stepped = high.next_multiple_of(STEP).min(most);
            if context >= STEP_CONTEXT && stepped != high {
                best = fits(stepped)?;
            }
        }
        let answer_limit = wanted.min(context - best.tokens.len());
        Ok(Prompt {
            own: self.own(&turns, asked.own_turns, &best, &wishes),
            tokens: best.tokens,
            dropped_turns: u32::try_from(best.gone).unwrap_or(u32::MAX),
            answer_limit,
            thinking: best.thinking,
            stops: self.template.stops(),
            calls,
        })
    }

    /// How many of a prompt's first tokens are the same whatever is said after the first so many
    /// turns: where a text goes on differently, the token before may be another one too.
    fn own(&self, turns: &[Turn], own_turns: usize, prompt: &Fit, wishes: &Wishes) -> usize {
        // Examples are left out first: what is left would tell that of somebody's conversation some
        // had to go. Tools are a program's, and stand in front.
        let whole = prompt.gone == 0 && wishes.tools.is_empty();
        if own_turns == 0 || own_turns >= turns.len() || !whole {
            return 0;
        }
        let mut own = prompt.tokens.as_slice();
        for other in OTHERS {
            let mut said = turns[..own_turns].to_vec();
            said.push(Turn::new(Role::User, other));
            let Ok((tokens, _)) = self.tokens(&said, wishes) else {
                return 0;
            };
            let same = own.iter().zip(&tokens).take_while(|(a, b)| a == b);
            own = &own[..same.count()];
        }
        own.len()
    }

    /// What is asked, as the template takes it, and how the answer is read.
    fn wishes(&self, asked: &Asked) -> Result<(Wishes, Option<Calls>), PromptError> {
        if asked.think == Some(true) && !self.template.thinks() {
            return Err(PromptError::NotCapable("thinking"));
        }
        let mut wishes = Wishes {
            tools: Vec::new(),
            think: asked.think,
            effort: asked.effort.clone(),
        };
        if asked.tools.is_empty() {
            let tools = Arc::default();
            let calls = self.template.channels().map(|style| Calls { style, tools });
            return Ok((wishes, calls));
        }
        let style = self
            .template
            .calls()
            .ok_or(PromptError::NotCapable("tools"))?;
        if asked.tools.len() > TOOLS_LIMIT {
            return Err(PromptError::Tool("there are more than 128 tools"));
        }
        let mut offered = Vec::with_capacity(asked.tools.len());
        for tool in &asked.tools {
            if tool.name.is_empty() || tool.parameters.len() > TOOL_SCHEMA_LIMIT {
                let what = "a tool has no name, or a schema of more than 64 KiB";
                return Err(PromptError::Tool(what));
            }
            let parameters = |text: &str| match text.trim() {
                "" => Ok(serde_json::json!({ "type": "object", "properties": {} })),
                text => serde_json::from_str::<serde_json::Value>(text)
                    .map_err(|_| PromptError::Tool("the schema of a tool is not JSON")),
            };
            wishes.tools.push(serde_json::json!({
                "type": "function",
                "function": {
                    "name": self.guard(&tool.name),
                    "description": self.guard(&tool.description),
                    "parameters": self.guard_json(parameters(&tool.parameters)?),
                },
            }));
            offered.push(Offered {
                name: tool.name.clone(),
                parameters: parameters(&tool.parameters)?,
            });
        }
        let tools = Arc::new(offered);
        Ok((wishes, Some(Calls { style, tools })))
    }

    /// Exchanges that go in any case: what is kept has more tokens than bytes over the longest
    /// piece.
    fn certainly_dropped(
        &self,
        turns: &[Turn],
        exchanges: &[(usize, usize)],
        room: usize,
    ) -> usize {
        let longest = self.vocabulary.info().longest_piece.max(1);
        let mut bytes = 0;
        for (index, &(from, to)) in exchanges.iter().enumerate().rev() {
            bytes += turns[from..to]
                .iter()
                .map(|turn| turn.text.len())
                .sum::<usize>();
            if bytes / longest > room {
                return index;
            }
        }
        0
    }

    fn tokens(
        &self,
        turns: &[Turn],
        wishes: &Wishes,
    ) -> Result<(Vec<Token>, Thinking), PromptError> {
        let rendered = self.template.render_with(turns, wishes)?;
        let mut tokens = Vec::new();
        for part in rendered.text.split(BREAK) {
            tokens.extend(self.vocabulary.tokenize(part));
        }
        if let Some(begin) = self.vocabulary.begin()
            && tokens.first() != Some(&begin)
        {
            tokens.insert(0, begin);
        }
        Ok((tokens, rendered.thinking))
    }

    /// The turns with every text of a control token broken in two, so that nobody can end
    /// their turn in the middle of it and speak as somebody else.
    fn guarded(&self, turns: &[Turn]) -> Vec<Turn> {
        let mistral = self.template.calls() == Some(crate::calls::Style::Mistral);
        let id = |id: &str| match mistral {
            true => nine(id),
            false => self.guard(id),
        };
        let call = |call: &Called| {
            let CalledFunction::Function { name, arguments } = &call.function;
            Called {
                id: id(&call.id),
                function: CalledFunction::Function {
                    name: self.guard(name),
                    arguments: self.guard_json(arguments.clone()),
                },
            }
        };
        turns
            .iter()
            .map(|turn| Turn {
                role: turn.role,
                text: self.guard(&turn.text),
                tool_calls: turn.tool_calls.iter().map(call).collect(),
                tool_call_id: match turn.tool_call_id.as_str() {
                    "" => String::new(),
                    given => id(given),
                },
                name: self.guard(&turn.name),
            })
            .collect()
    }

    /// The same for every text in a value; in JSON's own spelling a mark with a quote is another text.
    fn guard_json(&self, value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(text) => self.guard(&text).into(),
            Value::Array(items) => items
                .into_iter()
                .map(|item| self.guard_json(item))
                .collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(key, value)| (self.guard(&key), self.guard_json(value)))
                .collect(),
            plain => plain,
        }
    }

    fn guard(&self, text: &str) -> String {
        let mut text = text.replace(BREAK, "");
        for mark in self.vocabulary.marks() {
            let mut first = mark.chars();
            let Some(head) = first.next() else { continue };
            if text.contains(mark.as_str()) {
                text = text.replace(mark.as_str(), &format!("{head}{BREAK}{}", first.as_str()));
            }
        }
        text
    }
}

/// The id of a call as Mistral's templates demand it: nine letters and digits.
fn nine(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let mut name = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(id));
    name.truncate(9);
    name
}

struct Fit {
    tokens: Vec<Token>,
    thinking: Thinking,
    gone: usize,
}

/// Ranges of turns: each begins with a user's turn and runs to the next one. Turns before the
/// first user's (an opening by the companion) belong to it.
fn exchanges(turns: &[Turn]) -> Vec<(usize, usize)> {
    let starts: Vec<usize> = (0..turns.len())
        .filter(|&i| turns[i].role == Role::User && (i == 0 || turns[i - 1].role != Role::User))
        .collect();
    let mut ranges = Vec::with_capacity(starts.len());
    for (index, &start) in starts.iter().enumerate() {
        let from = if index == 0 { 0 } else { start };
        ranges.push((from, starts.get(index + 1).copied().unwrap_or(turns.len())));
    }
    ranges
}

/// The turns without the first `dropped` exchanges; the system's stay.
fn without(turns: &[Turn], exchanges: &[(usize, usize)], dropped: usize) -> Vec<Turn> {
    let kept_from = exchanges.get(dropped).map_or(0, |&(from, _)| from);
    turns
        .iter()
        .enumerate()
        .filter(|(index, turn)| *index >= kept_from || turn.role == Role::System)
        .map(|(_, turn)| turn.clone())
        .collect()
}

/// The turns of a request.
#[must_use]
pub fn turns(request: &[v1::Turn]) -> Vec<Turn> {
    request
        .iter()
        .map(|turn| {
            let role = match turn.role() {
                v1::turn::Role::System => Role::System,
                v1::turn::Role::Assistant => Role::Assistant,
                v1::turn::Role::Tool => Role::Tool,
                v1::turn::Role::User | v1::turn::Role::Unspecified => Role::User,
            };
            let call = |call: &v1::ToolCall| {
                let arguments = serde_json::from_str(&call.arguments);
                Called {
                    id: call.id.clone(),
                    function: CalledFunction::Function {
                        name: call.name.clone(),
                        arguments: arguments.unwrap_or_else(|_| call.arguments.clone().into()),
                    },
                }
            };
            Turn {
                role,
                text: turn.text.clone(),
                tool_calls: turn.tool_calls.iter().map(call).collect(),
                tool_call_id: turn.tool_call.clone(),
                name: turn.tool_name.clone(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;

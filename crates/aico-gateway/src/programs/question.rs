//! What a program asks, whatever shape it came in.

use aico_contracts::v1::{self, turn::Role};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::refusal::Refusal;

/// A question to a model or to the companion.
pub(crate) struct Question {
    /// All that was said, the oldest first.
    pub(crate) turns: Vec<v1::Turn>,
    pub(crate) sampling: Sampling,
    pub(crate) extras: Extras,
}

/// What only a model can be asked for, not the companion.
#[derive(Default)]
pub(crate) struct Extras {
    /// Empty for text, `json`, or a JSON schema.
    pub(crate) format: String,
    pub(crate) tools: Vec<v1::Tool>,
    /// `None`: as the model does by itself.
    pub(crate) think: Option<bool>,
    /// How long: `low`, `medium`, `high`; empty: as the model does by itself.
    pub(crate) effort: &'static str,
}

/// How long a model thinks, by the words of both shapes.
pub(crate) fn effort(word: &str) -> Option<&'static str> {
    Some(match word {
        "minimal" | "low" => "low",
        "medium" => "medium",
        "high" | "xhigh" => "high",
        _ => return None,
    })
}

/// How the words of an answer are chosen; what is absent is as the imitated server has it.
#[derive(Default)]
pub(crate) struct Sampling {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repeat_penalty: Option<f32>,
    pub(crate) seed: Option<u32>,
    pub(crate) stop: Vec<String>,
    /// 0: as many as there is room for.
    pub(crate) max_tokens: u32,
}

/// Strings that may end an answer.
const MOST_STOPS: usize = 16;
/// Bytes of one.
const LONGEST_STOP: usize = 256;
/// Bytes of a tool's name.
const LONGEST_NAME: usize = 64;

impl Sampling {
    /// Of a model: these, and the imitated server's own where nothing is said.
    pub(crate) fn of_model(&self, default: &v1::Sampling) -> v1::Sampling {
        v1::Sampling {
            temperature: self.temperature.unwrap_or(default.temperature),
            top_p: self.top_p.unwrap_or(default.top_p),
            top_k: self.top_k.unwrap_or(default.top_k),
            min_p: self.min_p.unwrap_or(default.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(default.repeat_penalty),
            seed: self.seed.unwrap_or(default.seed),
            stop: self.stop.clone(),
        }
    }

    /// Of the companion: what differs from its character's.
    pub(crate) fn of_companion(&self) -> v1::TalkSampling {
        v1::TalkSampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
            stop: self.stop.clone(),
            max_tokens: self.max_tokens,
            context: 0,
        }
    }
}

/// Whether a turn is words alone.
fn plain(turn: &v1::Turn) -> bool {
    turn.tool_calls.is_empty() && turn.role() != Role::Tool
}

impl Question {
    /// Whether a model has to see for it.
    pub(crate) fn has_images(&self) -> bool {
        self.turns.iter().any(|turn| !turn.images.is_empty())
    }

    /// Refuses what the companion can't be asked for.
    pub(crate) fn for_companion(&self) -> Result<(), Refusal> {
        if self.has_images() {
            let message = "`aico` is the companion: it takes no images. Ask a model that does; \
                           `/api/show` tells which have `vision`.";
            return Err(Refusal::unsupported("messages", message));
        }
        let spoken = self.turns.iter().all(plain);
        if !self.extras.tools.is_empty() || !spoken {
            let message = "`aico` is the companion: it calls no tools of other programs. Ask a \
                           model for that; the list of models names them.";
            return Err(Refusal::unsupported("tools", message));
        }
        if !self.extras.format.is_empty() {
            let message = "`aico` is the companion: it answers in words. Ask a model for JSON; \
                           the list of models names them.";
            return Err(Refusal::unsupported("format", message));
        }
        if self.extras.think == Some(true) || !self.extras.effort.is_empty() {
            let message = "`aico` is the companion: whether it thinks before it answers is its \
                           character's. Ask a model for that; the list of models names them.";
            return Err(Refusal::unsupported("think", message));
        }
        Ok(())
    }

    /// For a chat template: roles that follow themselves are one turn.
    pub(crate) fn merged(&self) -> Vec<v1::Turn> {
        let mut merged: Vec<v1::Turn> = Vec::with_capacity(self.turns.len());
        for turn in &self.turns {
            match merged.last_mut() {
                Some(last) if last.role == turn.role && plain(last) && plain(turn) => {
                    // An image may come without a word.
                    if !last.text.is_empty() && !turn.text.is_empty() {
                        last.text.push_str("\n\n");
                    }
                    last.text.push_str(&turn.text);
                    last.images.extend_from_slice(&turn.images);
                }
                _ => merged.push(turn.clone()),
            }
        }
        merged
    }

    /// Names what may keep its prompt in the model's cache: what a conversation begins with.
    pub(crate) fn cache_key(&self) -> Vec<u8> {
        let mut hasher = Sha256::new();
        for turn in &self.turns {
            hasher.update(turn.role.to_be_bytes());
            hasher.update((turn.text.len() as u64).to_be_bytes());
            hasher.update(&turn.text);
            for image in &turn.images {
                hasher.update((image.len() as u64).to_be_bytes());
                hasher.update(image);
            }
            if turn.role() == Role::User {
                break;
            }
        }
        hasher.finalize()[..16].to_vec()
    }
}

/// Tools as both shapes have them: `{"type": "function", "function": {…}}`.
pub(crate) fn tools(all: Vec<Value>) -> Result<Vec<v1::Tool>, Refusal> {
    all.into_iter().map(tool).collect()
}

fn tool(tool: Value) -> Result<v1::Tool, Refusal> {
    let refuse = |message: &str| Refusal::invalid("tools", message);
    if tool["type"] != "function" {
        return Err(refuse("A tool's type is `function`."));
    }
    let function = &tool["function"];
    let name = function["name"].as_str().unwrap_or_default();
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(refuse("A tool's function has a `name` of 1 to 64 letters."));
    }
    let parameters = match &function["parameters"] {
        Value::Null => String::new(),
        Value::Object(schema) => Value::Object(schema.clone()).to_string(),
        _ => return Err(refuse("A tool's `parameters` are a JSON schema.")),
    };
    Ok(v1::Tool {
        name: name.to_owned(),
        description: function["description"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        parameters,
    })
}

/// Calls of an earlier turn; their arguments are JSON, in a text or as they are.
pub(crate) fn calls(all: Vec<Value>) -> Result<Vec<v1::ToolCall>, Refusal> {
    let refuse = |message: &str| Refusal::invalid("messages", message);
    let call = |call: Value| {
        let function = &call["function"];
        let name = function["name"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| refuse("A call in `tool_calls` names its function."))?;
        let arguments = match &function["arguments"] {
            Value::Null => "{}".to_owned(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        Ok(v1::ToolCall {
            id: call["id"].as_str().unwrap_or_default().to_owned(),
            name: name.to_owned(),
            arguments,
        })
    };
    all.into_iter().map(call).collect()
}

/// Names the tool of each answer that names the call alone, or nothing: then it is that of the first
/// call without an answer. Ids may come again with each turn, so each call is answered once.
pub(crate) fn name_tools(turns: &mut [v1::Turn]) {
    struct Called {
        id: String,
        name: String,
        answered: bool,
    }
    let mut called: Vec<Called> = Vec::new();
    for turn in turns {
        if turn.role() == Role::User {
            // What nobody answered until then nobody answers any more.
            called.iter_mut().for_each(|call| call.answered = true);
        }
        called.extend(turn.tool_calls.iter().map(|call| Called {
            id: call.id.clone(),
            name: call.name.clone(),
            answered: false,
        }));
        if turn.role() != Role::Tool {
            continue;
        }
        let named = !turn.tool_call.is_empty();
        let is_meant = |call: &Called| match named {
            true => call.id == turn.tool_call,
            false => turn.tool_name.is_empty() || call.name == turn.tool_name,
        };
        let open = called
            .iter()
            .position(|call| !call.answered && is_meant(call));
        let found = open.or_else(|| called.iter().rposition(|call| named && is_meant(call)));
        if let Some(call) = found.and_then(|at| called.get_mut(at)) {
            call.answered = true;
            if turn.tool_name.is_empty() {
                turn.tool_name.clone_from(&call.name);
            }
        }
    }
}

/// A number within bounds, as the engine takes it.
pub(crate) fn within(
    name: &'static str,
    value: Option<f64>,
    from: f64,
    to: f64,
) -> Result<Option<f32>, Refusal> {
    match value {
        Some(value) if !(from..=to).contains(&value) => Err(Refusal::invalid(
            name,
            format!("`{name}` is {from} to {to}."),
        )),
        value => Ok(value.map(|value| value as f32)),
    }
}

/// The share of the likeliest tokens: 0 would switch it off, and means the likeliest alone.
pub(crate) fn top_p(value: Option<f64>) -> Result<Option<f32>, Refusal> {
    Ok(within("top_p", value, 0.0, 1.0)?.map(|share| share.max(1e-6)))
}

/// The seed: the same one gives the same choice. The engine has 32 bits, and 0 is chance.
pub(crate) fn seed(value: Option<i64>) -> Option<u32> {
    value.map(|seed| {
        let bits = seed.cast_unsigned();
        match (bits ^ (bits >> 32)) as u32 {
            0 => u32::MAX,
            seed => seed,
        }
    })
}

/// Strings that end the answer.
pub(crate) fn stops(all: Vec<String>) -> Result<Vec<String>, Refusal> {
    if all.len() > MOST_STOPS {
        let message = format!("At most {MOST_STOPS} stop strings are taken.");
        return Err(Refusal::invalid("stop", message));
    }
    if all.iter().any(|stop| stop.len() > LONGEST_STOP) {
        let message = format!("A stop string has at most {LONGEST_STOP} bytes.");
        return Err(Refusal::invalid("stop", message));
    }
    // An empty one would end every answer before it begins.
    Ok(all.into_iter().filter(|stop| !stop.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_folded_and_never_chance() {
        assert_eq!(seed(None), None);
        assert_eq!(seed(Some(7)), Some(7));
        assert_eq!(seed(Some(0)), Some(u32::MAX));
        assert_eq!(seed(Some(-1)), Some(u32::MAX));
        assert_ne!(seed(Some(1 << 32)), Some(0));
    }

    #[test]
    fn each_answer_of_a_tool_is_that_of_its_own_call() {
        let turn = |role: Role| v1::Turn {
            role: role.into(),
            ..Default::default()
        };
        let calls = |calls: &[(&str, &str)]| v1::Turn {
            tool_calls: calls
                .iter()
                .map(|(id, name)| v1::ToolCall {
                    id: (*id).into(),
                    name: (*name).into(),
                    ..Default::default()
                })
                .collect(),
            ..turn(Role::Assistant)
        };
        let answer = |id: &str| v1::Turn {
            tool_call: id.into(),
            ..turn(Role::Tool)
        };
        let mut turns = [
            answer("call_1"),
            calls(&[("call_1", "clock"), ("call_2", "stairs")]),
            answer("call_2"),
            answer("call_1"),
            calls(&[("call_1", "weather"), ("call_2", "clock")]),
            answer("call_1"),
            // The same one again, and one whose call is not there.
            answer("call_1"),
            answer("call_9"),
            turn(Role::User),
            calls(&[("call_2", "door"), ("", "lamp"), ("", "heater")]),
            answer("call_2"),
            answer(""),
            answer(""),
            answer(""),
        ];
        name_tools(&mut turns);
        let answers = turns.iter().filter(|turn| turn.role() == Role::Tool);
        let names: Vec<_> = answers.map(|turn| turn.tool_name.as_str()).collect();
        let expected = [
            "", "stairs", "clock", "weather", "weather", "", "door", "lamp", "heater", "",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        assert!(within("temperature", Some(2.1), 0.0, 2.0).is_err());
        assert!(within("temperature", Some(f64::NAN), 0.0, 2.0).is_err());
        assert_eq!(top_p(Some(0.0)).ok(), Some(Some(1e-6)));
        assert!(stops(vec!["x".into(); 17]).is_err());
        assert!(stops(vec![String::new()]).unwrap().is_empty());
    }
}

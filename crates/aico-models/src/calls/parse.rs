//! What stands between the marks of a call.

use serde_json::{Map, Value};

use super::{Call, Offered};

/// Tools that take code as it is.
pub(super) const RUNS_PYTHON: &[&str] = &["python", "ipython", "code_interpreter"];

/// Whether JSON broke off in its middle: more may follow.
pub(super) fn goes_on(body: &str) -> bool {
    let body = body.trim_start();
    body.starts_with(['{', '['])
        && serde_json::from_str::<Value>(body).is_err_and(|error| error.is_eof())
}

/// Whether a beginning of JSON can still become a call: by the first key of its object.
pub(super) fn may_be_call(begun: &str) -> bool {
    const KEYS: &[&str] = &["name", "type", "function", "parameters", "arguments", "id"];
    let inside = begun.trim_start_matches(|c: char| c == '[' || c.is_whitespace());
    let Some(inside) = inside.strip_prefix('{') else {
        return inside.is_empty();
    };
    let Some(key) = inside.trim_start().strip_prefix('"') else {
        return inside.trim_start().is_empty();
    };
    match key.split_once('"') {
        Some((key, _)) => KEYS.contains(&key),
        None => KEYS.iter().any(|known| known.starts_with(key)),
    }
}

/// One call, a list of them, or several after each other.
pub(super) fn json(body: &str) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    let mut rest = body;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';' || c == ',');
        if rest.is_empty() {
            return Some(calls);
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next()?.ok()? {
            Value::Array(items) => {
                for item in items {
                    calls.push(of_value(item)?);
                }
            }
            value => calls.push(of_value(value)?),
        }
        rest = &rest[values.byte_offset()..];
    }
}

fn of_value(value: Value) -> Option<Call> {
    let Value::Object(mut members) = value else {
        return None;
    };
    if let Some(Value::Object(inner)) = members.get("function") {
        members = inner.clone();
    }
    let mut take = |names: &[&str]| names.iter().find_map(|name| members.remove(*name));
    let Some(Value::String(name)) = take(&["name", "tool_name", "function"]) else {
        return None;
    };
    let arguments = match take(&["arguments", "parameters"]) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
        Some(_) => return None,
    };
    call(&name, arguments)
}

pub(super) fn call(name: &str, arguments: Map<String, Value>) -> Option<Call> {
    let name = name.trim();
    (!name.is_empty()).then(|| Call {
        name: name.to_owned(),
        arguments: Value::Object(arguments).to_string(),
    })
}

fn object(text: &str) -> Option<Map<String, Value>> {
    match text.trim() {
        "" => Some(Map::new()),
        text => serde_json::from_str(text).ok(),
    }
}

pub(super) fn hermes(body: &str, tools: &[Offered]) -> Option<Vec<Call>> {
    if body.starts_with(['{', '[']) {
        return json(body);
    }
    match body.strip_prefix("<function=") {
        Some(rest) => coder(rest, tools),
        None => glm(body, tools),
    }
    .map(|call| vec![call])
}

/// `name>` and `<parameter=key>value</parameter>` for each argument.
fn coder(rest: &str, tools: &[Offered]) -> Option<Call> {
    let (name, mut rest) = rest.split_once('>')?;
    let mut arguments = Map::new();
    while let Some((_, parameter)) = rest.split_once("<parameter=") {
        let (key, after) = parameter.split_once('>')?;
        let (text, after) = after.split_once("</parameter>")?;
        let text = text.strip_prefix('\n').unwrap_or(text);
        let text = text.strip_suffix('\n').unwrap_or(text);
        arguments.insert(
            key.trim().to_owned(),
            typed(name.trim(), key.trim(), text, tools),
        );
        rest = after;
    }
    call(name, arguments)
}

/// The name, then `<arg_key>key</arg_key>` and `<arg_value>value</arg_value>` for each argument.
fn glm(body: &str, tools: &[Offered]) -> Option<Call> {
    let (name, mut rest) = match body.split_once("<arg_key>") {
        Some((name, _)) => (name.trim(), &body[name.len()..]),
        None => (body.trim(), ""),
    };
    let mut arguments = Map::new();
    while let Some((_, after)) = rest.split_once("<arg_key>") {
        let (key, after) = after.split_once("</arg_key>")?;
        let (_, after) = after.split_once("<arg_value>")?;
        let (text, after) = after.split_once("</arg_value>")?;
        arguments.insert(key.trim().to_owned(), typed(name, key.trim(), text, tools));
        rest = after;
    }
    call(name, arguments)
}

/// A value that was written without its type: as the tool's schema has it.
fn typed(tool: &str, key: &str, text: &str, tools: &[Offered]) -> Value {
    let tool = tools.iter().find(|offered| offered.name == tool);
    let wanted = tool.map(|tool| &tool.parameters["properties"][key]["type"]);
    if wanted.is_some_and(|wanted| wanted == "string") {
        return text.into();
    }
    serde_json::from_str(text.trim()).unwrap_or_else(|_| text.into())
}

/// A list, or `name[ARGS]{…}`, each after the mark.
pub(super) fn mistral(body: &str) -> Option<Vec<Call>> {
    if body.trim_start().starts_with(['[', '{']) && !body.contains("[ARGS]") {
        return json(body.trim());
    }
    let mut calls = Vec::new();
    for one in body.split("[TOOL_CALLS]") {
        let (name, arguments) = one.split_once("[ARGS]").or_else(|| {
            let at = one.find('{')?;
            Some(one.split_at(at))
        })?;
        let name = name.split("[CALL_ID]").next().unwrap_or_default();
        calls.push(call(name, object(arguments)?)?);
    }
    Some(calls)
}

/// Each between its own two marks: `function`, the separator, the name and a code block; later
/// ones the name, the separator and JSON.
pub(super) fn deep_seek(body: &str) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    for one in body.split("<｜tool▁call▁begin｜>").skip(1) {
        let one = one.split("<｜tool▁call▁end｜>").next()?;
        let (left, right) = one.split_once("<｜tool▁sep｜>")?;
        let (name, arguments) = match left.trim() {
            "function" => right.split_once('\n')?,
            name => (name, right),
        };
        let arguments = arguments.trim();
        let arguments = arguments.strip_prefix("```json").unwrap_or(arguments);
        let arguments = arguments.strip_suffix("```").unwrap_or(arguments);
        calls.push(call(name, object(arguments)?)?);
    }
    Some(calls)
}

/// `name>{…}`.
pub(super) fn function(body: &str) -> Option<Call> {
    let (name, arguments) = body.split_once('>')?;
    call(name, object(arguments)?)
}

/// JSON, `name.call(key="value")`, or code for a tool that runs Python.
pub(super) fn python(body: &str, tools: &[Offered]) -> Option<Vec<Call>> {
    if body.starts_with(['{', '[']) {
        return json(body);
    }
    if let Some((name, arguments)) = body.split_once(".call(")
        && let Some(arguments) = arguments.strip_suffix(')')
        && tools.iter().any(|tool| tool.name == name.trim())
    {
        return Some(vec![call(name, keywords(arguments)?)?]);
    }
    let tool = tools
        .iter()
        .find(|tool| RUNS_PYTHON.contains(&tool.name.as_str()))?;
    let arguments = Map::from_iter([("code".to_owned(), body.into())]);
    Some(vec![call(&tool.name, arguments)?])
}

/// `key="value", other=1`.
fn keywords(mut rest: &str) -> Option<Map<String, Value>> {
    let mut arguments = Map::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            return Some(arguments);
        }
        let (key, after) = rest.split_once('=')?;
        let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
        let value = values.next()?.ok()?;
        arguments.insert(key.trim().to_owned(), value);
        rest = &after[values.byte_offset()..];
    }
}

//! Jinja as Python has it: what the templates of model files take for granted, and what `minijinja`
//! does otherwise or leaves out.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};

use super::OUTPUT_LIMIT;

/// Bytes of a tag without arguments, at most.
const TAG_LIMIT: usize = 48;
/// Deepest nesting of a value that is written.
const DEPTH: usize = 128;

/// Makes an environment one in which such templates can be filled in.
pub(super) fn prepare(environment: &mut Environment<'_>) {
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |value: &Value| as_text(value));
    environment.add_filter("indent", indent);
    // Python can't go through `None`; templates ask so whether there are tools.
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
    environment.set_formatter(|out, state, value| match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Seq | ValueKind::Map => {
            out.write_str(&as_text(value)?).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    });
}

/// The source without the marks around what a model is trained on: a tag of the Hugging Face
/// libraries alone, which prints what is inside. A comment trims the same white space.
pub(super) fn without_generation(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let tag = &rest[at + 2..];
        // Not further than such a tag is long: there may be very many.
        let near = &tag.as_bytes()[..tag.len().min(TAG_LIMIT)];
        let end = near.windows(2).position(|two| two == b"%}");
        let inside = end.map_or("", |end| &tag[..end]);
        let word = inside.trim_matches(|letter: char| letter.is_whitespace() || letter == '-');
        if !matches!(word, "generation" | "endgeneration") {
            out.push_str(&rest[..at + 2]);
            rest = tag;
            continue;
        }
        let trims = |trims: bool| if trims { "-" } else { "" };
        out.push_str(&rest[..at]);
        out.push_str("{#");
        out.push_str(trims(inside.starts_with('-')));
        out.push(' ');
        out.push_str(trims(inside.ends_with('-')));
        out.push_str("#}");
        rest = &tag[inside.len() + 2..];
    }
    match out.is_empty() {
        true => Cow::Borrowed(source),
        false => Cow::Owned(out + rest),
    }
}

fn raise_exception(_message: &str) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        "raised by the template",
    ))
}

/// The date in a template's own format, in UTC: the confined process knows no time zone.
fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "unknown date format"))
}

/// Each line but the first moved to the right, and empty ones left empty; the last line's end stays.
fn indent(
    text: &str,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<String, Error> {
    let width = width.or(options.get("width")?).unwrap_or(4).min(64);
    let first = first.or(options.get("first")?).unwrap_or(false);
    let blank = blank.or(options.get("blank")?).unwrap_or(false);
    let mut out = String::new();
    for (number, line) in text.split('\n').enumerate() {
        let moved = match number {
            0 => first,
            _ => blank || !line.is_empty(),
        };
        if number > 0 {
            out.push('\n');
        }
        if moved {
            out.push_str(&" ".repeat(width));
        }
        out.push_str(line);
    }
    Ok(out)
}

/// What Python's `str` makes of a value.
fn as_text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Seq | ValueKind::Map => {
            let mut out = String::new();
            represent(value, DEPTH, &mut out)?;
            Ok(out)
        }
        _ => Ok(value.to_string()),
    }
}

/// What Python's `repr` makes of a value. A value may be in itself many times over: its length is
/// bounded as that of all that is filled in.
fn represent(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth == 0 || out.len() > OUTPUT_LIMIT {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "the value is too large",
        ));
    }
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Seq | ValueKind::Map => {
            let is_map = value.kind() == ValueKind::Map;
            out.push(if is_map { '{' } else { '[' });
            for (number, item) in value.try_iter()?.enumerate() {
                if number > 0 {
                    out.push_str(", ");
                }
                represent(&item, depth - 1, out)?;
                if is_map {
                    out.push_str(": ");
                    represent(&value.get_item(&item)?, depth - 1, out)?;
                }
            }
            out.push(if is_map { '}' } else { ']' });
        }
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// A text in quotes, which are single ones unless it has such and no double ones.
fn quote(text: &str, out: &mut String) {
    let quote = match text.contains('\'') && !text.contains('"') {
        true => '"',
        false => '\'',
    };
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            letter if letter == quote => out.extend(['\\', quote]),
            letter if letter.is_ascii_control() => {
                out.push_str(&format!("\\x{:02x}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push(quote);
}

/// JSON without HTML's escapes, as Hugging Face's `tojson` writes it.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    let failed = |_| Error::new(ErrorKind::BadSerialization, "not JSON");
    let text = match indent {
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let style = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            written(value, style)
        }
        None => written(value, Spaced),
    };
    let mut text = text.map_err(failed)?;
    if ascii == Some(true) && !text.is_ascii() {
        let mut units = [0; 2];
        text = text.chars().fold(String::new(), |mut out, letter| {
            if letter.is_ascii() {
                out.push(letter);
            } else {
                for unit in letter.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            out
        });
    }
    Ok(Value::from_safe_string(text))
}

/// `{"a": 1, "b": 2}`: Python's spacing, which models were trained on.
pub(super) fn spaced_json(value: &serde_json::Value) -> String {
    written(value, Spaced).unwrap_or_default()
}

fn written(
    value: &impl serde::Serialize,
    style: impl serde_json::ser::Formatter,
) -> serde_json::Result<String> {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut out, style);
    value.serialize(&mut writer)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

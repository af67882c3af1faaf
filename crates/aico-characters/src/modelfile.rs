//! Modelfiles, as Ollama has them.
//!
//! Two comments of AICO's own carry what a Modelfile has no word for: `# aico-name: …` and
//! `# aico-fallback: …`, a model to take when the one of `FROM` is not there.

use serde_json::{Map, Value, json};

use crate::character::{Character, Turn, TurnRole};
use crate::error::{CharacterError, quoted};
use crate::parameters::{self, Taken, nearest};

/// Lines and instructions that are read.
pub(crate) const MOST_LINES: usize = 50_000;

pub(crate) const INSTRUCTIONS: [&str; 10] = [
    "from",
    "system",
    "parameter",
    "template",
    "message",
    "adapter",
    "license",
    "renderer",
    "parser",
    "requires",
];

/// Families of chat templates, by a text that stands in the Go template of each.
const FAMILIES: [(&str, &str); 9] = [
    ("<|im_start|>", "ChatML (Qwen, SmolLM, Hermes)"),
    ("<|start_header_id|>", "Llama 3"),
    ("<start_of_turn>", "Gemma"),
    ("[INST]", "Mistral and Llama 2"),
    ("<|start_of_role|>", "Granite"),
    ("<|START_OF_TURN_TOKEN|>", "Command R"),
    ("<｜User｜>", "DeepSeek"),
    ("<|user|>", "Phi, Zephyr and GLM"),
    ("<|start|>", "Harmony (gpt-oss)"),
];

/// Where the texts of a Modelfile are kept, and those of them that belong together: the adapters
/// and the model that they are for.
pub(crate) const KEPT: &str = "modelfile";
pub(crate) const ADAPTER: &str = "adapter";
pub(crate) const FROM: &str = "from";

/// What a Modelfile says, and what of it is said to the person.
pub(crate) struct Read {
    pub(crate) character: Character,
    pub(crate) notes: Vec<String>,
}

/// Whether a text looks like a Modelfile.
pub(crate) fn is_one(text: &str) -> bool {
    text.lines().map(str::trim_start).any(|line| {
        line.split_whitespace()
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("from"))
    })
}

/// Reads a Modelfile. `name`: what the character is called unless the file says it.
pub(crate) fn read(text: &str, name: &str) -> Result<Read, CharacterError> {
    let mut character = Character::default();
    let mut seen = Seen::default();
    let mut lines = Lines::new(text);
    while let Some((number, line)) = lines.next() {
        if number > MOST_LINES {
            return Err(CharacterError::new(format!(
                "The Modelfile has more than {MOST_LINES} lines."
            )));
        }
        let line = line.trim_start();
        if line.trim().is_empty() {
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(name) = comment.trim().strip_prefix("aico-name:") {
                character.name = name.trim().to_owned();
            } else if let Some(model) = comment.trim().strip_prefix("aico-fallback:") {
                seen.fallbacks.push(model.trim().to_owned());
            }
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let instruction = word.to_ascii_lowercase();
        if !INSTRUCTIONS.contains(&instruction.as_str()) {
            return Err(unknown(word).advice(
                match nearest(&instruction, INSTRUCTIONS.into_iter()) {
                    Some(near) => {
                        format!("Line {number}: did you mean {}?", near.to_ascii_uppercase())
                    }
                    None => format!(
                        "See line {number}; a text of several lines stands in \"\"\" quotes."
                    ),
                },
            ));
        }
        let at = |error: CharacterError| CharacterError {
            what: format!("Line {number}: {}", error.what),
            ..error
        };
        let value = lines.value(&instruction, rest).map_err(at)?;
        take(&mut character, &mut seen, &instruction, value).map_err(at)?;
    }
    let Some(from) = seen.from.take() else {
        return Err(CharacterError::new("The Modelfile has no FROM.")
            .advice("FROM names the model that it is made for, such as FROM qwen3:8b."));
    };
    if character.name.is_empty() {
        character.name = name.to_owned();
    }
    for said in &seen.told {
        if !character.system_prompt.is_empty() {
            character.system_prompt.push_str("\n\n");
        }
        character.system_prompt.push_str(said);
    }
    if seen.kept.contains_key(ADAPTER) {
        seen.keep(FROM, json!(from));
    }
    character.models = vec![from];
    character.models.append(&mut seen.fallbacks);
    if !seen.kept.is_empty() {
        character.kept.insert(KEPT.into(), seen.kept.into());
    }
    Ok(Read {
        character: character.checked()?,
        notes: seen.notes,
    })
}

pub(crate) fn unknown(word: &str) -> CharacterError {
    CharacterError::new(format!("A Modelfile has no instruction {}.", quoted(word)))
}

#[derive(Default)]
struct Seen {
    from: Option<String>,
    fallbacks: Vec<String>,
    notes: Vec<String>,
    /// What the system says in messages; a SYSTEM below them takes nothing of it away.
    told: Vec<String>,
    kept: Map<String, Value>,
}

impl Seen {
    /// Keeps what has no effect here.
    fn keep(&mut self, key: &str, value: Value) {
        match self.kept.get_mut(key) {
            Some(Value::Array(items)) => items.push(value),
            _ => {
                self.kept.insert(key.to_owned(), json!([value]));
            }
        }
    }
}

fn take(
    character: &mut Character,
    seen: &mut Seen,
    instruction: &str,
    value: String,
) -> Result<(), CharacterError> {
    let upper = instruction.to_ascii_uppercase();
    if value.trim().is_empty() && instruction != "system" {
        return Err(CharacterError::new(format!("{upper} says nothing.")));
    }
    match instruction {
        "from" if seen.from.is_some() => Err(CharacterError::new("There is a second FROM.")
            .advice("AICO takes one model file; a projector for pictures has no use here.")),
        "from" => {
            seen.from = Some(value.trim().to_owned());
            Ok(())
        }
        "system" => {
            character.system_prompt = value.trim().to_owned();
            Ok(())
        }
        "license" => {
            if !character.license.is_empty() {
                character.license.push_str("\n\n");
            }
            character.license.push_str(value.trim());
            Ok(())
        }
        "parameter" => {
            let (name, given) = value
                .split_once(char::is_whitespace)
                .unwrap_or((&value, ""));
            if parameters::set(&mut character.sampling, name, given)? == Taken::Unused {
                let name = name.to_ascii_lowercase();
                seen.notes.push(format!(
                    "PARAMETER {name} has no effect here and is kept for export."
                ));
                seen.keep("parameters", json!([name, given]));
            }
            Ok(())
        }
        "message" => {
            let (role, said) = value
                .split_once(char::is_whitespace)
                .unwrap_or((&value, ""));
            let said = said.trim().to_owned();
            let role = match role.to_ascii_lowercase().as_str() {
                "user" => TurnRole::User,
                "assistant" => TurnRole::Assistant,
                "system" => {
                    seen.told.push(said);
                    return Ok(());
                }
                other => {
                    return Err(CharacterError::new(format!(
                        "MESSAGE has no role {}.",
                        quoted(other)
                    ))
                    .advice("The roles are user, assistant and system."));
                }
            };
            character.examples.push(Turn { role, text: said });
            Ok(())
        }
        "template" => {
            let family = FAMILIES.iter().find(|(mark, _)| value.contains(mark));
            let of = match family {
                Some((_, family)) => format!("that of {family}"),
                None => "of no family that AICO knows".to_owned(),
            };
            seen.notes.push(format!(
                "Its TEMPLATE is {of}. Each model answers with the template of its own file; the \
                 text is kept for export."
            ));
            seen.keep("template", json!(value));
            Ok(())
        }
        // Which model has it on is known to those who have the list of models.
        "adapter" => {
            seen.keep(ADAPTER, json!(value.trim()));
            Ok(())
        }
        other => {
            seen.notes.push(format!(
                "{upper} has no effect here and is kept for export."
            ));
            seen.keep(other, json!(value.trim()));
            Ok(())
        }
    }
}

/// The lines of a file, which a value may take several of.
pub(crate) struct Lines<'a> {
    lines: std::str::Lines<'a>,
    number: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            lines: text.lines(),
            number: 0,
        }
    }

    pub(crate) fn next(&mut self) -> Option<(usize, &'a str)> {
        self.number += 1;
        Some((self.number, self.lines.next()?))
    }

    /// The value that begins with `rest`: to the end of the line, or to the end of the quotes that
    /// it begins with. Of PARAMETER and MESSAGE it is the value behind the first word; that word
    /// and a space stand before it in what is given back. What is in quotes stays as it is.
    pub(crate) fn value(
        &mut self,
        instruction: &str,
        rest: &str,
    ) -> Result<String, CharacterError> {
        let rest = rest.trim_start();
        let (mut value, rest) = match instruction {
            "parameter" | "message" => match rest.split_once(char::is_whitespace) {
                Some((word, rest)) => (format!("{word} "), rest.trim_start()),
                None => (rest.to_owned(), ""),
            },
            _ => (String::new(), rest),
        };
        let quoted = ["\"\"\"", "\""]
            .into_iter()
            .find_map(|quote| Some((quote, rest.strip_prefix(quote)?)));
        let Some((quote, mut line)) = quoted else {
            value.push_str(rest.trim_end());
            return Ok(value);
        };
        // A single quote ends with its line unless it stays open; three end where three stand.
        loop {
            let ended = match quote {
                "\"" => line.trim_end().strip_suffix('"'),
                _ => before_three(line),
            };
            if let Some(before) = ended {
                value.push_str(before);
                return Ok(value);
            }
            value.push_str(line);
            value.push('\n');
            let Some((_, next)) = self.next() else {
                return Err(CharacterError::new("its quotes are not closed."));
            };
            line = next;
        }
    }
}

/// What stands before three quotes. Of more than three in a row the last ones are meant: the text
/// ends with one itself.
fn before_three(line: &str) -> Option<&str> {
    let at = line.find("\"\"\"")?;
    let more = line[at + 3..].bytes().take_while(|byte| *byte == b'"');
    Some(&line[..at + more.count()])
}

/// A Modelfile, and what there is no place for in one.
pub(crate) fn write(character: &Character, system: &str) -> (String, Vec<String>) {
    let mut out = format!("# aico-name: {}\n", character.name);
    // The first model may be one that has the adapter on already.
    let from = character.base_of_adapter();
    match from.or(character.models.first().map(String::as_str)) {
        Some(model) => out.push_str(&format!("FROM {model}\n")),
        // A Modelfile has to name one.
        None => out.push_str("FROM qwen3:8b\n"),
    }
    let skip = usize::from(from.is_none());
    for model in character.models.iter().skip(skip) {
        if from != Some(model.as_str()) {
            out.push_str(&format!("# aico-fallback: {model}\n"));
        }
    }
    if !system.is_empty() {
        out.push_str(&format!("SYSTEM {}\n", in_quotes(system)));
    }
    let sampling = &character.sampling;
    let mut parameter = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!("PARAMETER {name} {value}\n"));
        }
    };
    parameter("temperature", sampling.temperature.map(|n| n.to_string()));
    parameter("top_p", sampling.top_p.map(|n| n.to_string()));
    parameter("top_k", sampling.top_k.map(|n| n.to_string()));
    parameter("min_p", sampling.min_p.map(|n| n.to_string()));
    parameter(
        "repeat_penalty",
        sampling.repeat_penalty.map(|n| n.to_string()),
    );
    parameter("seed", sampling.seed.map(|n| n.to_string()));
    parameter("num_ctx", sampling.num_ctx.map(|n| n.to_string()));
    parameter("num_predict", sampling.num_predict.map(|n| n.to_string()));
    for stop in &sampling.stop {
        parameter("stop", Some(in_quotes(stop)));
    }
    if let Some(Value::Object(kept)) = character.kept.get(KEPT) {
        write_kept(&mut out, kept);
    }
    for turn in &character.examples {
        let role = match turn.role {
            TurnRole::User => "user",
            TurnRole::Assistant => "assistant",
        };
        out.push_str(&format!("MESSAGE {role} {}\n", in_quotes(&turn.text)));
    }
    if !character.license.is_empty() {
        out.push_str(&format!("LICENSE {}\n", in_quotes(&character.license)));
    }
    (out, missing(character))
}

fn write_kept(out: &mut String, kept: &Map<String, Value>) {
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect()
    };
    for (key, value) in kept {
        if key == "parameters" {
            for pair in value.as_array().into_iter().flatten() {
                if let [name, given] = texts(pair).as_slice() {
                    out.push_str(&format!("PARAMETER {} {}\n", word(name), in_quotes(given)));
                }
            }
        } else if key != FROM && INSTRUCTIONS.contains(&key.as_str()) {
            for text in texts(value) {
                out.push_str(&format!(
                    "{} {}\n",
                    key.to_ascii_uppercase(),
                    in_quotes(&text)
                ));
            }
        }
    }
}

/// One word, whatever it was.
fn word(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

/// As a value that reads the same.
fn in_quotes(text: &str) -> String {
    // Three quotes in a row would end it; nothing else stands for them.
    let text = text.replace("\"\"\"", "'''");
    let plain = !text.is_empty()
        && !text.contains('\n')
        && !text.contains('"')
        && text.trim() == text
        && !text.contains(char::is_whitespace);
    if plain {
        return text;
    }
    if !text.contains('\n') && !text.contains('"') {
        return format!("\"{text}\"");
    }
    format!("\"\"\"{text}\"\"\"")
}

/// What a Modelfile has no place for.
fn missing(character: &Character) -> Vec<String> {
    let mut gone: Vec<&str> = Vec::new();
    if !character.greetings.is_empty() {
        gone.push("its greetings");
    }
    if !character.about.is_empty() {
        gone.push("the note about it");
    }
    if !character.tags.is_empty() || !character.creator.is_empty() || !character.version.is_empty()
    {
        gone.push("its creator, version and tags");
    }
    if character.kept.contains_key("data") {
        gone.push("what came with its card");
    }
    let mut notes = Vec::new();
    if !gone.is_empty() {
        notes.push(format!(
            "A Modelfile has no place for {}. A card (card-v3, png) has.",
            gone.join(", ")
        ));
    }
    if character.models.is_empty() {
        notes.push(
            "It is made for no model in particular; FROM names qwen3:8b. Change it to yours."
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
# A comment.
FROM ./models/qwen3-8b.gguf
# aico-name: Mara
# aico-fallback: qwen3:4b
system """
You are "Mara".

Be brief."""
PARAMETER temperature 0.7
parameter stop "<|im_end|>"
PARAMETER stop User:
PARAMETER num_gpu 20
PARAMETER num_ctx 8192
TEMPLATE """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>{{ end }}"""
ADAPTER "./my styles/style.gguf"
MESSAGE user Hello there
MESSAGE assistant """Good evening.
Tea?"""
LICENSE "CC-BY-4.0"
LICENSE And more.
REQUIRES 0.12.0
"#;

    #[test]
    fn every_instruction_is_read() {
        let read = read(WHOLE, "x").unwrap();
        let mara = read.character;
        assert_eq!(mara.name, "Mara");
        assert_eq!(mara.models, ["./models/qwen3-8b.gguf", "qwen3:4b"]);
        assert_eq!(mara.system_prompt, "You are \"Mara\".\n\nBe brief.");
        assert_eq!(mara.sampling.temperature, Some(0.7));
        assert_eq!(mara.sampling.stop, ["<|im_end|>", "User:"]);
        assert_eq!(mara.sampling.num_ctx, Some(8192));
        let said: Vec<_> = mara.examples.iter().map(|t| t.text.as_str()).collect();
        assert_eq!(said, ["Hello there", "Good evening.\nTea?"]);
        assert_eq!(mara.license, "CC-BY-4.0\n\nAnd more.");
        assert_eq!(read.notes.len(), 3, "{:?}", read.notes);
    }

    #[test]
    fn what_the_system_says_is_added_to_its_prompt_wherever_it_stands() {
        let said = "MESSAGE system Be kind.\n";
        for text in [
            format!("FROM a\n{said}SYSTEM Be brief.\nMESSAGE system Rhyme.\n"),
            format!("FROM a\nSYSTEM Be long.\n{said}MESSAGE system Rhyme.\nSYSTEM Be brief.\n"),
        ] {
            let read = read(&text, "n").unwrap().character;
            assert_eq!(
                read.system_prompt, "Be brief.\n\nBe kind.\n\nRhyme.",
                "{text}"
            );
        }
        let alone = read(&format!("FROM a\n{said}"), "n").unwrap().character;
        assert_eq!(alone.system_prompt, "Be kind.");
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let first = read(WHOLE, "x").unwrap().character;
        let (text, missing) = write(&first, &first.system_prompt);
        assert!(missing.is_empty(), "{missing:?}");
        let again = read(&text, "y").unwrap().character;
        assert!(again == first, "{text}");
    }

    #[test]
    fn a_template_of_no_known_family_is_kept_and_told() {
        for text in ["{{ .Prompt }}", "<|mine|>{{ .System }}\n{{ .Prompt }} "] {
            let modelfile = format!("FROM a\nTEMPLATE \"\"\"{text}\"\"\"\n");
            let read = read(&modelfile, "n").unwrap();
            let notes = read.notes.join(" ");
            for words in [
                "of no family",
                "template of its own file",
                "kept for export",
            ] {
                assert!(notes.contains(words), "{words}: {notes}");
            }
            let (written, _) = write(&read.character, "");
            let recipe = crate::Recipe::parse(&written).unwrap();
            assert_eq!(recipe.others["template"], *text, "{written}");
        }
    }

    #[test]
    fn an_adapter_is_kept_with_the_model_that_it_is_for() {
        let text = "FROM ./qwen3-8b.gguf\nADAPTER ./style.gguf\n# aico-fallback: qwen3:4b\n";
        let mut read = read(text, "n").unwrap().character;
        assert_eq!(read.models, ["./qwen3-8b.gguf", "qwen3:4b"]);
        assert_eq!(read.adapters(), ["./style.gguf"]);
        // What has it on already is none to put it on again.
        read.models.insert(0, "Qwen3 8B + style".into());
        let (written, _) = write(&read, "");
        let recipe = crate::Recipe::parse(&written).unwrap();
        assert_eq!(recipe.from, ["./qwen3-8b.gguf"], "{written}");
        assert_eq!(recipe.adapters, ["./style.gguf"]);
        let again = super::read(&written, "n").unwrap().character;
        assert_eq!(
            again.models,
            ["./qwen3-8b.gguf", "Qwen3 8B + style", "qwen3:4b"]
        );
    }

    #[test]
    fn what_can_not_be_done_is_refused_by_name() {
        let why = |text: &str| {
            let error = read(text, "x").err().unwrap();
            format!("{} {}", error.what, error.advice)
        };
        for (text, words) in [
            ("SYSTEM x", "has no FROM"),
            ("FROM a\nFORM b", "did you mean FROM?"),
            ("FROM a\nWRITE b", "no instruction \"WRITE\""),
            (
                "FROM a\nPARAMETER temprature 1",
                "Line 2: There is no PARAMETER \"temprature\". Did you mean temperature?",
            ),
            ("FROM a\nPARAMETER top_p 7", "above 0, up to 1"),
            ("FROM a\nMESSAGE nobody x", "no role \"nobody\""),
            ("FROM a\nFROM b", "second FROM"),
            ("FROM a\nSYSTEM \"\"\"open", "quotes are not closed"),
            ("FROM", "FROM says nothing"),
        ] {
            assert!(why(text).contains(words), "{text}: {}", why(text));
        }
    }

    #[test]
    fn values_with_quotes_and_lines_survive() {
        for text in [
            "a",
            "a b",
            "say \"yes\"",
            "\"yes\"",
            "a\nb",
            "# no comment",
            "a\n\"b\"",
            "\"",
            "\"\"",
        ] {
            let modelfile = format!("FROM x\nMESSAGE user {}\n", in_quotes(text));
            let read = read(&modelfile, "n").unwrap().character;
            assert_eq!(read.examples[0].text, text, "{modelfile}");
        }
    }

    #[test]
    fn a_quote_inside_of_a_value_is_a_letter_like_any_other() {
        let text = "FROM x\nSYSTEM The \"Oracle\" speaks in riddles.\nPARAMETER top_k 5\n\
            MESSAGE user The \"what\" of it?\nMESSAGE assistant   \"Yes.\"\nLICENSE a \"b\" c\n";
        let read = read(text, "n").unwrap().character;
        assert_eq!(read.system_prompt, "The \"Oracle\" speaks in riddles.");
        assert_eq!(read.sampling.top_k, Some(5));
        let said: Vec<_> = read.examples.iter().map(|turn| &*turn.text).collect();
        assert_eq!(said, ["The \"what\" of it?", "Yes."]);
        assert_eq!(read.license, "a \"b\" c");
    }

    #[test]
    fn texts_that_stop_an_answer_are_taken_to_the_letter() {
        let stops = [
            "\n", "\nUser:", "User: ", " ", "\"", "a\"\n", "\n\n\n", "END",
        ];
        let character = Character {
            name: "Mara".into(),
            models: vec!["x".into()],
            sampling: crate::Sampling {
                stop: stops.map(str::to_owned).to_vec(),
                ..crate::Sampling::default()
            },
            ..Character::default()
        };
        let (text, _) = write(&character, "");
        let again = read(&text, "n").unwrap().character;
        assert_eq!(again.sampling.stop, stops, "{text}");
        let recipe = crate::Recipe::parse(&text).unwrap();
        assert_eq!(recipe.parameters["stop"], json!(stops));
        // Around the quotes, and without any, white space says nothing.
        let read = read(
            "FROM x\nPARAMETER  stop   a b  \nPARAMETER stop  \"c \"  \n",
            "n",
        );
        assert_eq!(read.unwrap().character.sampling.stop, ["a b", "c "]);
    }
}

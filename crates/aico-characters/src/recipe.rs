//! A Modelfile as what it is in Ollama: how a model is made. Nothing of it is understood beyond
//! that, and nothing is left out.

use serde_json::{Map, Value, json};

use crate::character::TurnRole;
use crate::error::{CharacterError, quoted};
use crate::modelfile::{INSTRUCTIONS, Lines, MOST_LINES, unknown};
use crate::parameters::{self, nearest};
use crate::{LARGEST_CARD, MOST_ITEMS};

/// What a Modelfile says, in its own terms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// Models and files of `FROM`: one model, or files that belong together.
    pub from: Vec<String>,
    /// Files of `ADAPTER`.
    pub adapters: Vec<String>,
    /// `SYSTEM`; may be empty.
    pub system: String,
    /// `MESSAGE`, in their order.
    pub messages: Vec<(RecipeRole, String)>,
    /// `PARAMETER`, as numbers, truths and texts; `stop` is a list.
    pub parameters: Map<String, Value>,
    /// Each `LICENSE`.
    pub license: Vec<String>,
    /// `template`, `renderer`, `parser`, `requires`.
    pub others: Map<String, Value>,
}

/// Who speaks in a `MESSAGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipeRole {
    /// What is told before everything.
    System,
    /// One of the two.
    Turn(TurnRole),
}

impl Recipe {
    /// Reads a Modelfile.
    ///
    /// # Errors
    /// With the line that is wrong.
    pub fn parse(text: &str) -> Result<Self, CharacterError> {
        if text.len() > LARGEST_CARD {
            return Err(CharacterError::new("The Modelfile is too long."));
        }
        let mut recipe = Self::default();
        let mut lines = Lines::new(text);
        while let Some((number, line)) = lines.next() {
            if number > MOST_LINES {
                return Err(CharacterError::new(format!(
                    "The Modelfile has more than {MOST_LINES} lines."
                )));
            }
            let line = line.trim_start();
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let instruction = word.to_ascii_lowercase();
            let at = |error: CharacterError| CharacterError {
                what: format!("Line {number}: {}", error.what),
                ..error
            };
            if !INSTRUCTIONS.contains(&instruction.as_str()) {
                let near = nearest(&instruction, INSTRUCTIONS.into_iter());
                return Err(at(unknown(word).advice(match near {
                    Some(near) => format!("Did you mean {}?", near.to_ascii_uppercase()),
                    None => "A text of several lines stands in \"\"\" quotes.".to_owned(),
                })));
            }
            let value = lines.value(&instruction, rest).map_err(at)?;
            recipe.take(&instruction, &value).map_err(at)?;
        }
        if recipe.from.is_empty() {
            return Err(CharacterError::new("The Modelfile has no FROM.").advice(
                "FROM names the model or the GGUF file that it is made of, such as FROM qwen3:8b \
                 or FROM ./model.gguf.",
            ));
        }
        Ok(recipe)
    }

    fn take(&mut self, instruction: &str, value: &str) -> Result<(), CharacterError> {
        let trimmed = value.trim();
        if trimmed.is_empty() && instruction != "system" {
            let upper = instruction.to_ascii_uppercase();
            return Err(CharacterError::new(format!("{upper} says nothing.")));
        }
        match instruction {
            "from" => push(&mut self.from, trimmed.to_owned()),
            "adapter" => push(&mut self.adapters, trimmed.to_owned()),
            "license" => push(&mut self.license, trimmed.to_owned()),
            // The last one counts, as in Ollama.
            "system" => {
                value.clone_into(&mut self.system);
                Ok(())
            }
            "message" => self.message(value),
            "parameter" => self.parameter(value),
            other => {
                // A template is a text as it stands; the rest are words.
                let text = if other == "template" { value } else { trimmed };
                self.others.insert(other.to_owned(), json!(text));
                Ok(())
            }
        }
    }

    fn message(&mut self, value: &str) -> Result<(), CharacterError> {
        let (role, said) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let role = match role.to_ascii_lowercase().as_str() {
            "user" => RecipeRole::Turn(TurnRole::User),
            "assistant" => RecipeRole::Turn(TurnRole::Assistant),
            "system" => RecipeRole::System,
            other => {
                return Err(
                    CharacterError::new(format!("MESSAGE has no role {}.", quoted(other)))
                        .advice("The roles are user, assistant and system."),
                );
            }
        };
        push(&mut self.messages, (role, said.trim().to_owned()))
    }

    fn parameter(&mut self, value: &str) -> Result<(), CharacterError> {
        let (name, given) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let (name, given) = parameters::typed(name, given)?;
        if name != "stop" {
            self.parameters.insert(name, given);
            return Ok(());
        }
        let stops = self
            .parameters
            .entry(name)
            .or_insert_with(|| Value::Array(Vec::new()));
        match stops.as_array_mut() {
            Some(stops) => push(stops, given),
            None => Ok(()),
        }
    }
}

fn push<T>(into: &mut Vec<T>, one: T) -> Result<(), CharacterError> {
    if into.len() >= MOST_ITEMS {
        return Err(CharacterError::new(format!(
            "There are more than {MOST_ITEMS} of these."
        )));
    }
    into.push(one);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_modelfile_is_there() {
        let text = "# made by hand\nFROM ./tiny.gguf\nADAPTER ./style.gguf\n\
            SYSTEM \"\"\"You are Aria.\nYou speak {{ plainly }}.\"\"\"\n\
            PARAMETER temperature 0.7\nPARAMETER num_ctx 8192\nPARAMETER use_mmap false\n\
            PARAMETER stop <|im_end|>\nparameter stop \"END \"\nPARAMETER num_gpu -1\n\
            TEMPLATE \"\"\"{{ .Prompt }}\n\"\"\"\nMESSAGE system Be kind.\nMESSAGE user Hi\n\
            MESSAGE assistant \"\"\"Hello,\nyou.\"\"\"\nLICENSE MIT\nLICENSE \"\"\"And\nmore\"\"\"\n\
            RENDERER qwen3\nPARSER qwen3\nREQUIRES 0.14.0\n";
        let recipe = Recipe::parse(text).unwrap();
        assert_eq!(recipe.from, ["./tiny.gguf"]);
        assert_eq!(recipe.adapters, ["./style.gguf"]);
        assert_eq!(recipe.system, "You are Aria.\nYou speak {{ plainly }}.");
        let parameters = Value::Object(recipe.parameters);
        assert_eq!(parameters["temperature"].to_string(), "0.7");
        assert_eq!(parameters["num_ctx"], 8192);
        assert_eq!(parameters["num_gpu"], -1);
        assert_eq!(parameters["use_mmap"], false);
        assert_eq!(parameters["stop"], json!(["<|im_end|>", "END "]));
        assert_eq!(recipe.others["template"], "{{ .Prompt }}\n");
        assert_eq!(recipe.others["requires"], "0.14.0");
        assert_eq!(recipe.messages.len(), 3);
        assert_eq!(recipe.messages[0], (RecipeRole::System, "Be kind.".into()));
        assert_eq!(recipe.messages[2].1, "Hello,\nyou.");
        assert_eq!(recipe.license, ["MIT", "And\nmore"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, told) in [
            ("SYSTEM x\n", "no FROM"),
            ("FROM a\nFORM b\n", "Line 2"),
            ("FROM a\nPARAMETER temprature 1\n", "temprature"),
            ("FROM a\nPARAMETER num_ctx much\n", "num_ctx"),
            ("FROM a\nPARAMETER use_mmap maybe\n", "use_mmap"),
            ("FROM a\nMESSAGE wizard hi\n", "wizard"),
            ("FROM a\nSYSTEM \"\"\"open\n", "quotes"),
            ("FROM\n", "FROM says nothing"),
        ] {
            let error = Recipe::parse(text).unwrap_err();
            assert!(error.what.contains(told), "{text}: {}", error.what);
        }
        assert!(Recipe::parse(&format!("FROM a\n{}", "MESSAGE user x\n".repeat(300))).is_err());
    }
}

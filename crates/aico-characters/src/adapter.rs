//! Adapters (LoRA) that a Modelfile names, and which model of the list has one on.
//!
//! A path of a Modelfile is compared, never opened.

use serde_json::Value;

use crate::character::Character;
use crate::error::quoted;
use crate::modelfile::{ADAPTER, FROM, KEPT};
use crate::wanted::is_wanted;
use crate::{LONGEST_NAME, MOST_ITEMS};

/// A model of the list.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// As it is shown.
    pub name: &'a str,
    /// Its file.
    pub file: &'a str,
    /// The file of the adapter that it has on.
    pub adapter: Option<&'a str>,
}

impl Character {
    /// The files of `ADAPTER`, as its Modelfile names them.
    #[must_use]
    pub fn adapters(&self) -> Vec<&str> {
        self.of_modelfile(ADAPTER)
    }

    /// The model that they are for.
    pub(crate) fn base_of_adapter(&self) -> Option<&str> {
        match self.adapters().is_empty() {
            true => None,
            false => self.of_modelfile(FROM).first().copied(),
        }
    }

    fn of_modelfile(&self, key: &str) -> Vec<&str> {
        let kept = self.kept.get(KEPT).and_then(|kept| kept.get(key));
        let all = kept.and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).collect()
    }

    /// Names the model of the list that has its adapter on before all others. Tells in words whether
    /// there is one, and how to get it; `None`: it wants no adapter.
    pub fn adapt(&mut self, here: &[Listed<'_>]) -> Option<String> {
        let adapters = self.adapters();
        let adapter = *adapters.first()?;
        let from = self.base_of_adapter().unwrap_or_default();
        let has_it = |model: &&Listed<'_>| {
            model.adapter.is_some_and(|file| is_file(adapter, file)) && is_on(from, model, here)
        };
        // Several at once are one more thing than a model of the list has on.
        let found = here.iter().find(has_it).filter(|_| adapters.len() == 1);
        let told = quoted(adapter);
        let Some(found) = found else {
            let add = match adapters.len() {
                1 => {
                    "add the two as one model (`aico model add FROM --adapter FILE`) and import this \
                     again, or "
                }
                _ => "",
            };
            return Some(format!(
                "Its ADAPTER {told} is kept for export; it answers without it. To have it, {add}\
                 make a model in Ollama (`aico model create ollama/NAME MODELFILE`), or merge it into \
                 the model (llama-export-lora of llama.cpp) and add that."
            ));
        };
        let name: String = found.name.chars().take(LONGEST_NAME * 2).collect();
        self.models.retain(|model| *model != name);
        if self.models.len() < MOST_ITEMS {
            self.models.insert(0, name.clone());
        }
        Some(format!(
            "Its ADAPTER {told} is on the model {}, which answers.",
            quoted(&name)
        ))
    }
}

/// Whether the file of a model is that of `FROM`, by its own name or by that of the model without an
/// adapter.
fn is_on(from: &str, model: &Listed<'_>, here: &[Listed<'_>]) -> bool {
    let plain = |other: &Listed<'_>| other.adapter.is_none() && other.file == model.file;
    is_wanted(from, "", model.file)
        || here
            .iter()
            .any(|other| plain(other) && is_wanted(from, other.name, other.file))
}

/// Whether a Modelfile means this file: by its path, or by its name alone.
fn is_file(wanted: &str, file: &str) -> bool {
    let last = |path: &str| path.rsplit(['/', '\\']).next().map(str::to_lowercase);
    wanted == file || last(wanted) == last(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Listed<'_> = Listed {
        name: "Qwen3 8B + style",
        file: "/m/Qwen3-8B-Q4_K_M.gguf",
        adapter: Some("/a/style.gguf"),
    };

    fn character(from: &str, adapter: &str) -> Character {
        let text = format!("FROM {from}\nADAPTER {adapter}\n");
        crate::import(text.as_bytes(), "Mara.modelfile")
            .unwrap()
            .character
    }

    #[test]
    fn the_model_that_has_the_adapter_on_is_named_first() {
        for from in ["qwen3:8b", "./qwen3-8b-q4_k_m.gguf", STYLE.file] {
            for adapter in ["./style.gguf", "/elsewhere/Style.gguf", "/a/style.gguf"] {
                let mut mara = character(from, adapter);
                let told = mara.adapt(&[STYLE]).unwrap();
                assert!(told.contains("which answers"), "{told}");
                assert_eq!(mara.models, [STYLE.name, from]);
                mara.adapt(&[STYLE]).unwrap();
                assert_eq!(mara.models, [STYLE.name, from], "once");
            }
        }
        // By the name that the same file has without it.
        let plain = Listed {
            name: "Owl",
            file: "/m/x.gguf",
            adapter: None,
        };
        let on = Listed {
            file: "/m/x.gguf",
            ..STYLE
        };
        let mut mara = character("owl", "./style.gguf");
        mara.adapt(&[on, plain]).unwrap();
        assert_eq!(mara.models, [STYLE.name, "owl"]);
    }

    #[test]
    fn where_there_is_none_it_is_told_how_to_get_it() {
        let other = Listed {
            adapter: Some("/a/other.gguf"),
            ..STYLE
        };
        let base = Listed {
            adapter: None,
            ..STYLE
        };
        let of_another = Listed {
            file: "/m/gemma.gguf",
            ..STYLE
        };
        for here in [&[][..], &[other], &[base], &[of_another]] {
            let mut mara = character("qwen3:8b", "./style.gguf");
            let told = mara.adapt(here).unwrap();
            for words in ["\"./style.gguf\"", "--adapter FILE", "ollama/NAME", "merge"] {
                assert!(told.contains(words), "{words}: {told}");
            }
            assert_eq!(mara.models, ["qwen3:8b"]);
        }
        let mut without = crate::import(b"FROM qwen3:8b\n", "x").unwrap().character;
        assert_eq!(without.adapt(&[STYLE]), None);
    }
}

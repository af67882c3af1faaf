//! Models that characters are made for and that AICO knows of: what they are, how large, where
//! they come from and under what terms. Nothing is fetched; it is what a person is told.

use aico_characters::{Listed, is_wanted};
use aico_contracts::v1::{self, wanted_model::State};

struct Known {
    name: &'static str,
    /// Its name in AICO's catalogue of models.
    pull: &'static str,
    /// A build that suits most machines.
    file: &'static str,
    gigabytes: &'static str,
    memory: &'static str,
    from: &'static str,
    license: &'static str,
}

const KNOWN: [Known; 3] = [
    Known {
        name: "Qwen3-8B",
        pull: "qwen3-8b",
        file: "Qwen3-8B-Q4_K_M.gguf",
        gigabytes: "5.0",
        memory: "about 7",
        from: "https://huggingface.co/Qwen/Qwen3-8B-GGUF",
        license: "Apache-2.0",
    },
    Known {
        name: "Qwen3-4B",
        pull: "qwen3-4b",
        file: "Qwen3-4B-Q4_K_M.gguf",
        gigabytes: "2.5",
        memory: "about 4",
        from: "https://huggingface.co/Qwen/Qwen3-4B-GGUF",
        license: "Apache-2.0",
    },
    Known {
        name: "Qwen3-1.7B",
        pull: "qwen3-1.7b",
        file: "Qwen3-1.7B-Q8_0.gguf",
        gigabytes: "1.8",
        memory: "about 3",
        from: "https://huggingface.co/Qwen/Qwen3-1.7B-GGUF",
        license: "Apache-2.0",
    },
];

/// How one gets a model that is not here.
fn how_to_get(name: &str) -> String {
    match KNOWN
        .iter()
        .find(|known| is_wanted(name, known.name, known.file))
    {
        Some(known) => format!(
            "{} ({} GB, needs {} GB of memory, license {}, from {}) can be downloaded: aico model \
             pull {}",
            known.name, known.gigabytes, known.memory, known.license, known.from, known.pull
        ),
        None => "Get it as a GGUF file, then: aico model add FILE.gguf".to_owned(),
    }
}

/// How the models of a character are on this machine.
pub(crate) fn on_this_machine(wanted: &[String], here: &[v1::Model]) -> Vec<v1::WantedModel> {
    let of = |name: &String| {
        let is_it = |model: &&v1::Model| {
            // With an adapter on, its file is another model's as well.
            uuid::Uuid::from_slice(&model.id).is_ok_and(|id| id.to_string() == *name)
                || match model.adapter {
                    None => is_wanted(name, &model.name, &model.file),
                    Some(_) => model.name.eq_ignore_ascii_case(name.trim()),
                }
        };
        let mut found: Vec<_> = here.iter().filter(is_it).collect();
        found.sort_by_key(|model| (!model.present, !model.active));
        match found.first() {
            Some(model) => v1::WantedModel {
                name: name.clone(),
                state: match model.present {
                    true => State::Here,
                    false => State::FileGone,
                }
                .into(),
                here_as: model.name.clone(),
                what_to_do: match model.present {
                    true => String::new(),
                    false => "Its file is gone: put it back, or add it anew with `aico model add`."
                        .to_owned(),
                },
            },
            None => v1::WantedModel {
                name: name.clone(),
                state: State::Missing.into(),
                here_as: String::new(),
                what_to_do: how_to_get(name),
            },
        }
    };
    wanted.iter().map(of).collect()
}

/// The models of the list of AICO's own engine, as a character's adapter is looked for among them.
pub(crate) fn listed(here: &[v1::Model]) -> Vec<Listed<'_>> {
    let own = here.iter().filter(|model| model.engine.is_empty());
    own.map(|model| Listed {
        name: &model.name,
        file: &model.file,
        adapter: model.adapter.as_deref(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_size_source_and_license() {
        let here = [v1::Model {
            name: "Qwen3 4B".into(),
            file: "/m/qwen3-4b-q4_k_m.gguf".into(),
            present: true,
            ..v1::Model::default()
        }];
        let wanted = ["qwen3:8b", "Qwen3-4B", "mine"].map(String::from);
        let told = on_this_machine(&wanted, &here);
        assert_eq!(
            told.iter().map(v1::WantedModel::state).collect::<Vec<_>>(),
            [State::Missing, State::Here, State::Missing]
        );
        for words in [
            "5.0 GB",
            "Apache-2.0",
            "https://huggingface.co/",
            "aico model pull qwen3-8b",
        ] {
            assert!(told[0].what_to_do.contains(words), "{words}");
        }
        assert!(told[2].what_to_do.contains("GGUF"));
    }

    #[test]
    fn what_is_told_is_what_the_catalogue_says() {
        let catalogue = include_str!("../../../models/catalogue.json");
        let catalogue: serde_json::Value = serde_json::from_str(catalogue).unwrap();
        let models = catalogue["models"].as_array().unwrap();
        for known in KNOWN {
            let entry = models.iter().find(|entry| entry["name"] == known.pull);
            let entry = entry.unwrap();
            let bytes = entry["size"].as_f64().unwrap();
            assert_eq!(format!("{:.1}", bytes / 1e9), known.gigabytes);
            assert_eq!(entry["license"], known.license);
            let source = entry["sources"][0].as_str().unwrap();
            assert!(source.starts_with(known.from) && source.ends_with(known.file));
        }
    }
}

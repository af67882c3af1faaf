//! Characters of a person: seen, brought in, changed, written out, chosen.

use std::sync::Arc;

use aico_characters::{Character, CharacterError, Format, Sampling, Turn, TurnRole};
use aico_contracts::topics::{self, event};
use aico_contracts::v1::{self, Fault, Role, export_character};

use super::{Asked, Inner, Reply};
use crate::fault::{caller, from_store};
use crate::outbox::put;
use crate::{base_models, character, characters, conversations};

/// Longest name of a file that is looked at.
const LONGEST_FILE_NAME: usize = 1024;

impl Inner {
    pub(super) async fn characters(
        self: Arc<Self>,
        asked: Asked<v1::ListCharacters>,
    ) -> Reply<v1::CharacterList> {
        let list = asked
            .store
            .read(|db| {
                let chosen = characters::chosen(db)?;
                let all = characters::list(db)?;
                Ok(v1::CharacterList {
                    items: all.iter().map(|one| one.to_message(&chosen)).collect(),
                })
            })
            .await;
        list.map_err(from_store)
    }

    pub(super) async fn character(
        self: Arc<Self>,
        asked: Asked<v1::GetCharacter>,
    ) -> Reply<v1::CharacterDetail> {
        let v1::GetCharacter { id, portrait } = asked.message;
        let found = asked
            .store
            .read(move |db| {
                let kept = characters::get(db, &id)?;
                let picture = match portrait {
                    true => characters::portrait(db, &id)?,
                    false => None,
                };
                Ok((kept.to_message(&characters::chosen(db)?), kept, picture))
            })
            .await;
        let (about, kept, portrait) = found.map_err(from_store)?;
        Ok(v1::CharacterDetail {
            character: Some(about),
            text: Some(text_of(&kept.character)),
            models: self.models_of(&kept.character).await,
            kept: kept.character.unused(),
            portrait: portrait.unwrap_or_default(),
        })
    }

    /// How the models of a character are here. Unknown while nobody answers: then nothing is said.
    async fn models_of(&self, character: &Character) -> Vec<v1::WantedModel> {
        if character.models.is_empty() {
            return Vec::new();
        }
        match self.models_here().await {
            Some(here) => base_models::on_this_machine(&character.models, &here),
            None => Vec::new(),
        }
    }

    /// The list of models; `None` while nobody answers.
    async fn models_here(&self) -> Option<Vec<v1::Model>> {
        let meta = aico_bus::Meta::new().deadline_in(std::time::Duration::from_secs(5));
        let asked: Result<v1::ModelList, _> = self
            .bus
            .request(topics::MODELS_LIST, &v1::ListModels {}, meta)
            .await;
        asked.ok().map(|here| here.items)
    }

    pub(super) async fn save_character(
        self: Arc<Self>,
        asked: Asked<v1::SaveCharacter>,
    ) -> Reply<v1::Character> {
        let v1::SaveCharacter {
            id,
            text,
            copy_of,
            portrait,
        } = asked.message;
        let text = text.ok_or_else(|| Fault::invalid("The character is missing"))?;
        let written = character_of(text).checked().map_err(told)?;
        let portrait = match portrait {
            Some(bytes) if !bytes.is_empty() => {
                let checked =
                    tokio::task::spawn_blocking(move || aico_characters::check_portrait(&bytes));
                Some(Some(checked.await.map_err(failed)?.map_err(told)?))
            }
            Some(_) => Some(None),
            None => None,
        };
        let saved = asked
            .store
            .write(move |tx| {
                let mut written = written;
                let source = if id.is_empty() { &copy_of } else { &id };
                let mut kept_portrait = None;
                if !source.is_empty() {
                    written.kept = characters::get(tx, source)?.character.kept.clone();
                    kept_portrait = characters::portrait(tx, source)?;
                    // What came with its file may make it too large.
                    written = written.checked().map_err(|error| caller(told(error)))?;
                }
                let kept = if id.is_empty() {
                    let portrait = portrait.unwrap_or(kept_portrait);
                    characters::add(tx, written, portrait.as_deref())?
                } else {
                    let portrait = portrait.as_ref().map(|picture| picture.as_deref());
                    characters::change(tx, &id, written, portrait)?
                };
                Ok(kept.to_message(&characters::chosen(tx)?))
            })
            .await;
        saved.map_err(from_store)
    }

    pub(super) async fn import_character(
        self: Arc<Self>,
        asked: Asked<v1::ImportCharacter>,
    ) -> Reply<v1::ImportedCharacter> {
        let v1::ImportCharacter {
            file,
            file_name,
            name,
        } = asked.message;
        if file_name.len() > LONGEST_FILE_NAME {
            return Err(Fault::too_long("The file's name is too long"));
        }
        // A picture is unpacked and summed: not on a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || aico_characters::import(&file, &file_name));
        let imported = read.await.map_err(failed)?.map_err(told)?;
        let mut written = imported.character;
        if !name.trim().is_empty() {
            written.name = name;
            written = written.checked().map_err(told)?;
        }
        let mut notes = imported.notes;
        if !written.adapters().is_empty() {
            let here = self.models_here().await.unwrap_or_default();
            notes.extend(written.adapt(&base_models::listed(&here)));
        }
        let (wanted, portrait) = (written.name.clone(), imported.portrait);
        let models = self.models_of(&written).await;
        let stored = asked
            .store
            .write(move |tx| {
                let kept = characters::add(tx, written, portrait.as_deref())?;
                Ok(kept.to_message(&characters::chosen(tx)?))
            })
            .await
            .map_err(from_store)?;
        if stored.name != wanted {
            notes.push("There was one of this name already, so this one has a number.".to_owned());
        }
        Ok(v1::ImportedCharacter {
            character: Some(stored),
            notes,
            models,
        })
    }

    pub(super) async fn export_character(
        self: Arc<Self>,
        asked: Asked<v1::ExportCharacter>,
    ) -> Reply<v1::ExportedCharacter> {
        let format = match asked.message.format() {
            export_character::Format::Modelfile => Format::Modelfile,
            export_character::Format::CardV2 => Format::CardV2,
            export_character::Format::CardV3 => Format::CardV3,
            export_character::Format::Png => Format::Png,
            export_character::Format::Unspecified => {
                return Err(Fault::invalid("There is no such format"));
            }
        };
        let id = asked.message.id;
        let found = asked
            .store
            .read(move |db| Ok((characters::get(db, &id)?, characters::portrait(db, &id)?)))
            .await;
        let (kept, portrait) = found.map_err(from_store)?;
        let written = tokio::task::spawn_blocking(move || {
            let original = character::original();
            let out =
                aico_characters::export(&kept.character, portrait.as_deref(), format, original);
            (file_name(&kept.character.name, out.extension), out)
        });
        let (file_name, out) = written.await.map_err(failed)?;
        Ok(v1::ExportedCharacter {
            file: out.bytes,
            file_name,
            media_type: out.media_type.to_owned(),
            notes: out.notes,
        })
    }

    pub(super) async fn remove_character(
        self: Arc<Self>,
        asked: Asked<v1::RemoveCharacter>,
    ) -> Reply<v1::RemovedCharacter> {
        let id = asked.message.id;
        let removed = asked
            .store
            .write(move |tx| {
                let changed = characters::remove(tx, &id)?;
                for conversation in &changed {
                    let id = super::conversation_id(conversation).map_err(crate::fault::caller)?;
                    let conversation = Some(conversations::get(tx, id)?);
                    let changed = v1::ConversationChanged { conversation };
                    put(tx, event::CONVERSATION_UPDATED, &changed)?;
                }
                Ok(changed.len())
            })
            .await
            .map_err(from_store)?;
        self.publish_outbox(&asked.store, asked.person).await;
        Ok(v1::RemovedCharacter {
            conversations: u32::try_from(removed).unwrap_or(u32::MAX),
        })
    }

    pub(super) async fn use_character(
        self: Arc<Self>,
        asked: Asked<v1::UseCharacter>,
    ) -> Reply<v1::Empty> {
        let id = asked.message.id;
        let chosen = asked
            .store
            .write(move |tx| characters::choose(tx, &id))
            .await;
        chosen.map(|()| v1::Empty {}).map_err(from_store)
    }
}

/// What is wrong with a file or a character.
fn told(error: CharacterError) -> Fault {
    let fault = Fault::new("not-a-character", error.what.trim_end_matches('.'));
    match error.advice.is_empty() {
        true => fault,
        false => fault.with_what_to_do(error.advice),
    }
}

fn failed(_panicked: tokio::task::JoinError) -> Fault {
    Fault::internal("The character could not be read")
}

/// A name that every system takes.
fn file_name(name: &str, extension: &str) -> String {
    let mut words = String::new();
    for letter in name.chars().take(60) {
        if letter.is_alphanumeric() {
            words.push(letter);
        } else if !words.is_empty() && !words.ends_with('-') {
            words.push('-');
        }
    }
    let words = match words.trim_end_matches('-') {
        "" => "character",
        words => words,
    };
    format!("{words}.{extension}")
}

fn text_of(from: &Character) -> v1::CharacterText {
    let sampling = &from.sampling;
    v1::CharacterText {
        name: from.name.clone(),
        nickname: from.nickname.clone(),
        about: from.about.clone(),
        system_prompt: from.system_prompt.clone(),
        description: from.description.clone(),
        personality: from.personality.clone(),
        scenario: from.scenario.clone(),
        greetings: from.greetings.clone(),
        examples: from.examples.iter().map(said).collect(),
        examples_text: match from.examples_text.as_str() {
            "" => aico_characters::write_examples(&from.examples),
            text => text.to_owned(),
        },
        reminder: from.reminder.clone(),
        creator: from.creator.clone(),
        version: from.version.clone(),
        tags: from.tags.clone(),
        sampling: Some(v1::TalkSampling {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            seed: sampling.seed,
            stop: sampling.stop.clone(),
            max_tokens: sampling.num_predict.unwrap_or(0),
            context: sampling.num_ctx.unwrap_or(0),
        }),
        models: from.models.clone(),
        license: from.license.clone(),
    }
}

fn said(turn: &Turn) -> v1::Said {
    v1::Said {
        role: match turn.role {
            TurnRole::User => Role::User,
            TurnRole::Assistant => Role::Assistant,
        }
        .into(),
        text: turn.text.clone(),
    }
}

fn character_of(from: v1::CharacterText) -> Character {
    let sampling = from.sampling.unwrap_or_default();
    let some = |number: u32| (number > 0).then_some(number);
    Character {
        name: from.name,
        nickname: from.nickname,
        about: from.about,
        system_prompt: from.system_prompt,
        description: from.description,
        personality: from.personality,
        scenario: from.scenario,
        greetings: from.greetings,
        examples: from
            .examples
            .into_iter()
            .map(|turn| Turn {
                role: match turn.role() {
                    Role::Assistant => TurnRole::Assistant,
                    Role::User | Role::Unspecified => TurnRole::User,
                },
                text: turn.text,
            })
            .collect(),
        examples_text: from.examples_text,
        reminder: from.reminder,
        creator: from.creator,
        version: from.version,
        tags: from.tags,
        sampling: Sampling {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            seed: sampling.seed,
            stop: sampling.stop,
            num_ctx: some(sampling.context),
            num_predict: some(sampling.max_tokens),
        },
        models: from.models,
        license: from.license,
        kept: serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_and_saved_again_is_the_same() {
        for one in character::built_in() {
            let back = character_of(text_of(&one.character)).checked().unwrap();
            assert!(back.examples == one.character.examples, "{}", one.id);
            assert!(back.sampling == one.character.sampling, "{}", one.id);
            assert_eq!(back.system_prompt, one.character.system_prompt);
        }
    }

    #[test]
    fn names_of_files_lead_nowhere_else() {
        assert_eq!(file_name("../../Mara Löwe", "png"), "Mara-Löwe.png");
        assert_eq!(file_name("…", "json"), "character.json");
    }
}

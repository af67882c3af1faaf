//! Characters, from the messages of the bus to the JSON of the API and back.

use aico_contracts::v1;

use crate::api::character::{
    Character, CharacterDetail, CharacterSampling, CharacterText, ExampleRole, ExampleTurn,
    ImportedCharacter, WantedModel, WantedState,
};
use crate::convert::{Told, Untold, text, time};

pub(crate) fn character(from: v1::Character) -> Told<Character> {
    let updated_at = match from.updated_unix_ms {
        0 => None,
        ms => Some(time(ms)?),
    };
    Ok(Character {
        id: from.id,
        name: from.name,
        description: from.description,
        built_in: from.built_in,
        chosen: from.chosen,
        models: from.models,
        portrait: from.portrait,
        tags: from.tags,
        creator: from.creator,
        updated_at,
    })
}

pub(crate) fn detail(from: v1::CharacterDetail) -> Told<CharacterDetail> {
    Ok(CharacterDetail {
        character: character(from.character.ok_or(Untold::Missing("character"))?)?,
        text: text_from(from.text.ok_or(Untold::Missing("a character's text"))?),
        models: models(from.models)?,
        kept: from.kept,
    })
}

pub(crate) fn imported(from: v1::ImportedCharacter) -> Told<ImportedCharacter> {
    Ok(ImportedCharacter {
        character: character(from.character.ok_or(Untold::Missing("character"))?)?,
        notes: from.notes,
        models: models(from.models)?,
    })
}

fn models(from: Vec<v1::WantedModel>) -> Told<Vec<WantedModel>> {
    let one = |model: v1::WantedModel| {
        use v1::wanted_model::State;
        let state = match model.state() {
            State::Here => WantedState::Here,
            State::Missing => WantedState::Missing,
            State::FileGone => WantedState::FileGone,
            State::Unspecified => return Err(Untold::Unknown("a wanted model's state")),
        };
        Ok(WantedModel {
            name: model.name,
            state,
            here_as: text(model.here_as),
            what_to_do: text(model.what_to_do),
        })
    };
    from.into_iter().map(one).collect()
}

fn text_from(from: v1::CharacterText) -> CharacterText {
    let sampling = from.sampling.unwrap_or_default();
    let some = |number: u32| (number > 0).then_some(number);
    CharacterText {
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
            .map(|turn| ExampleTurn {
                role: match turn.role() {
                    v1::Role::Assistant => ExampleRole::Assistant,
                    v1::Role::User | v1::Role::Unspecified => ExampleRole::User,
                },
                text: turn.text,
            })
            .collect(),
        examples_text: from.examples_text,
        reminder: from.reminder,
        creator: from.creator,
        version: from.version,
        tags: from.tags,
        sampling: CharacterSampling {
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
    }
}

pub(crate) fn text_to(from: CharacterText) -> v1::CharacterText {
    let sampling = from.sampling;
    v1::CharacterText {
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
            .map(|turn| v1::Said {
                role: match turn.role {
                    ExampleRole::User => v1::Role::User,
                    ExampleRole::Assistant => v1::Role::Assistant,
                }
                .into(),
                text: turn.text,
            })
            .collect(),
        examples_text: from.examples_text,
        reminder: from.reminder,
        creator: from.creator,
        version: from.version,
        tags: from.tags,
        sampling: Some(v1::TalkSampling {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            min_p: sampling.min_p,
            repeat_penalty: sampling.repeat_penalty,
            seed: sampling.seed,
            stop: sampling.stop,
            max_tokens: sampling.num_predict.unwrap_or(0),
            context: sampling.num_ctx.unwrap_or(0),
        }),
        models: from.models,
        license: from.license,
    }
}

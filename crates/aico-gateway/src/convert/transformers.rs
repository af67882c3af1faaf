//! Vectors, entities, labels and packages, from the bus's messages.

use aico_contracts::v1;

use super::text;
use crate::api::model::ModelStatus;
use crate::api::transformers::{
    ClassifiedText, ClassifiedTexts, EmbeddedText, EmbeddedTexts, EntitiesOfText, Entity,
    FoundEntities, LabelScore, ModelPackage,
};

pub(crate) fn embedded(from: v1::Embedded) -> EmbeddedTexts {
    let item = |item: v1::EmbeddedText| EmbeddedText {
        vector: item.vector,
        tokens: item.tokens,
        truncated: item.truncated,
    };
    EmbeddedTexts {
        model: from.model,
        items: from.items.into_iter().map(item).collect(),
    }
}

pub(crate) fn entities(from: v1::FoundEntities, texts: &[String]) -> FoundEntities {
    let items = from.items.into_iter().zip(texts).map(|(item, text)| {
        // Of each character the byte at which it begins, and the end.
        let mut bytes: Vec<usize> = text.char_indices().map(|(byte, _)| byte).collect();
        bytes.push(text.len());
        let piece = |start: u32, end: u32| {
            let byte = |at: u32| usize::try_from(at).ok().and_then(|at| bytes.get(at));
            let range = (byte(start).copied(), byte(end).copied());
            match range {
                (Some(start), Some(end)) => text.get(start..end).unwrap_or_default(),
                _ => "",
            }
        };
        let entity = |entity: v1::Entity| Entity {
            start: entity.start,
            end: entity.end,
            text: piece(entity.start, entity.end).to_owned(),
            label: entity.label,
            score: entity.score,
        };
        EntitiesOfText {
            entities: item.entities.into_iter().map(entity).collect(),
            tokens: item.tokens,
            truncated: item.truncated,
        }
    });
    FoundEntities {
        model: from.model,
        items: items.collect(),
    }
}

pub(crate) fn classified(from: v1::Classified) -> ClassifiedTexts {
    let item = |item: v1::ClassifiedText| ClassifiedText {
        labels: item
            .labels
            .into_iter()
            .map(|label| LabelScore {
                label: label.label,
                score: label.score,
            })
            .collect(),
        tokens: item.tokens,
        truncated: item.truncated,
    };
    ClassifiedTexts {
        model: from.model,
        items: from.items.into_iter().map(item).collect(),
    }
}

pub(crate) fn package(from: v1::ModelPackage) -> ModelPackage {
    use v1::model_state::Status;
    let status = match from.status() {
        Status::Stopped | Status::Unspecified => ModelStatus::Stopped,
        Status::Starting => ModelStatus::Starting,
        Status::Ready => ModelStatus::Ready,
        Status::Failed => ModelStatus::Failed,
    };
    let (why, what_to_do) = match from.fault {
        Some(fault) => {
            let sentences = [fault.title, fault.detail];
            let whole = sentences.into_iter().filter(|one| !one.is_empty());
            (
                text(whole.collect::<Vec<_>>().join(". ")),
                text(fault.what_to_do),
            )
        }
        None => (None, None),
    };
    ModelPackage {
        name: from.name,
        title: from.title,
        task: from.task,
        architecture: from.architecture,
        license: from.license,
        size_bytes: from.size_bytes,
        memory_bytes: from.memory_bytes,
        max_tokens: from.max_tokens,
        dimensions: (from.dimensions > 0).then_some(from.dimensions),
        labels: from.labels,
        chosen: from.chosen,
        status,
        why,
        what_to_do,
        folder: from.folder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_has_its_words_and_a_wrong_place_has_none() {
        let found = |start, end| {
            let entity = v1::Entity {
                start,
                end,
                ..v1::Entity::default()
            };
            let item = v1::EntitiesOfText {
                entities: vec![entity],
                ..Default::default()
            };
            let from = v1::FoundEntities {
                items: vec![item],
                ..Default::default()
            };
            let all = entities(from, &["ä😀 Ada".to_owned()]);
            all.items[0].entities[0].text.clone()
        };
        assert_eq!(found(3, 6), "Ada");
        assert_eq!(found(0, 2), "ä😀");
        assert_eq!(found(6, 3), "");
        assert_eq!(found(0, u32::MAX), "");
    }
}

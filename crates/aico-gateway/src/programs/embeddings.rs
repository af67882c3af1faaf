//! Embeddings for other programs, whatever shape they are asked for in.

use aico_bus::Meta;
use aico_contracts::ids::PersonId;
use aico_contracts::v1::{self, Priority};
use aico_contracts::{Payload, topics};
use serde_json::Value;

use super::Dialect;
use super::models::{self, Askable, PURPOSE, plain};
use super::refusal::Refusal;
use crate::app::App;
use crate::problem::Problem;
use crate::routes::transformers::PATIENCE;

/// Bytes of a body with texts.
pub(crate) use crate::routes::transformers::TEXTS;

/// Texts in one request, as OpenAI has it.
const MOST: usize = 2048;

/// What a program wants vectors of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) model: String,
    pub(crate) texts: Vec<String>,
    /// 0: all numbers.
    pub(crate) dimensions: u32,
}

/// `input`: a text, or a list of them.
pub(crate) fn texts(input: Option<Value>) -> Result<Vec<String>, Refusal> {
    let wrong = |message| Err(Refusal::invalid("input", message));
    match input {
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(all)) if all.len() > MOST => wrong("`input` has at most 2048 texts."),
        Some(Value::Array(all)) => {
            let mut texts = Vec::with_capacity(all.len());
            for one in all {
                match one {
                    Value::String(text) => texts.push(text),
                    // Each model has tokens of its own: another one's numbers mean nothing to it.
                    Value::Number(_) | Value::Array(_) => {
                        return Err(Refusal::unsupported(
                            "input",
                            "`input` is taken as text, not as tokens.",
                        ));
                    }
                    _ => return wrong("`input` is a text or a list of texts."),
                }
            }
            Ok(texts)
        }
        _ => wrong("`input` is a text or a list of texts."),
    }
}

/// `dimensions`: how many numbers a vector shall have.
pub(crate) fn dimensions(wanted: Option<i64>) -> Result<u32, Refusal> {
    match wanted {
        None => Ok(0),
        Some(number) => match u32::try_from(number) {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Refusal::invalid("dimensions", "`dimensions` is 1 or more.")),
        },
    }
}

async fn ask<Q: Payload, R: Payload>(
    app: &App,
    person: PersonId,
    topic: &str,
    question: &Q,
) -> Result<R, Problem> {
    let meta = Meta::for_person(person)
        .purpose(PURPOSE)
        .priority(Priority::Normal)
        .deadline_in(PATIENCE);
    Ok(app.bus.request(topic, question, meta).await?)
}

/// The packages that make embeddings.
pub(crate) async fn packages(
    app: &App,
    person: PersonId,
) -> Result<Vec<v1::ModelPackage>, Problem> {
    let found: v1::PackageList = ask(app, person, topics::MODELS_PACKAGES, &v1::Empty {}).await?;
    let mut items = found.items;
    items.retain(|package| package.task == "embedding");
    Ok(items)
}

/// The package that is called so.
pub(crate) async fn package(
    app: &App,
    person: PersonId,
    name: &str,
) -> Result<Option<v1::ModelPackage>, Problem> {
    let name = plain(name);
    let mut found = packages(app, person).await?.into_iter();
    Ok(found.find(|package| package.name == name))
}

/// Vectors of the texts: by a package, by a model file that embeds, or by a model of a program
/// beside us.
pub(crate) async fn embed(
    app: &App,
    person: PersonId,
    dialect: Dialect,
    wanted: Wanted,
) -> Result<v1::Embedded, Refusal> {
    let model = match package(app, person, &wanted.model).await? {
        Some(package) => package.name,
        None => match models::whom(app, person, dialect, &wanted.model).await? {
            // Its own id names it, whatever is in its name.
            Askable::Model(known) if known.embeds() => known.id(),
            _ => return Err(Refusal::does_not(dialect, &wanted.model, "embeddings")),
        },
    };
    let question = v1::Embed {
        model,
        texts: wanted.texts,
        dimensions: wanted.dimensions,
    };
    Ok(ask(app, person, topics::MODELS_EMBED, &question).await?)
}

/// Tokens that were read of all texts.
pub(crate) fn tokens(all: &v1::Embedded) -> u64 {
    all.items.iter().map(|item| u64::from(item.tokens)).sum()
}

/// The texts of which the end was left out, by their place.
pub(crate) fn truncated(all: &v1::Embedded) -> Vec<usize> {
    let items = all.items.iter().enumerate();
    let cut = items.filter(|(_, item)| item.truncated);
    cut.map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_taken_and_tokens_are_not() {
        let taken = |input: Value| texts(Some(input)).map_err(drop);
        assert_eq!(taken(json!("a")), Ok(vec!["a".to_owned()]));
        assert_eq!(
            taken(json!(["a", ""])),
            Ok(vec!["a".to_owned(), String::new()])
        );
        assert_eq!(taken(json!([])), Ok(Vec::new()));
        for wrong in [
            json!([1, 2]),
            json!([[1]]),
            json!(1),
            json!([null]),
            json!({}),
            json!(null),
        ] {
            assert_eq!(taken(wrong), Err(()));
        }
        assert_eq!(taken(json!(vec!["a"; MOST + 1])), Err(()));
        assert!(texts(None).is_err());
        assert_eq!(dimensions(None).ok(), Some(0));
        assert_eq!(dimensions(Some(8)).ok(), Some(8));
        assert!(dimensions(Some(0)).is_err() && dimensions(Some(-1)).is_err());
    }
}

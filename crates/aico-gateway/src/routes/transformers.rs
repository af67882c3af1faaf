//! Texts to vectors, entities and labels, and the packages that do it.

use std::sync::Arc;
use std::time::Duration;

use aico_access::Action;
use aico_contracts::{topics, v1};
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::transformers::{
    AddPackage, ClassifiedTexts, ClassifyTask, ClassifyTexts, EmbedTexts, EmbeddedTexts,
    FindEntities, FoundEntities, ModelPackage, PackageList,
};
use crate::app::App;
use crate::caller::Caller;
use crate::convert::transformers as convert;
use crate::input::{Ids, Input, too_long};
use crate::problem::Problem;

/// Bytes of a body with texts; those of the texts themselves are counted behind the bus.
pub(crate) const TEXTS: usize = 8 << 20;
/// Loading a model from a slow disk, and many long texts, take minutes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// Copying a package takes its time.
const ADDING: Duration = Duration::from_secs(140);
const PATH: usize = 4096;
const NAME: usize = 64;

fn model(name: Option<String>) -> Result<String, Problem> {
    let name = name.unwrap_or_default();
    match name.len() {
        0..=NAME => Ok(name),
        _ => Err(too_long(NAME)),
    }
}

/// Turns texts into vectors: those of texts that mean something alike are near each other.
#[utoipa::path(post, path = "/api/v1/models/embed", tag = "models",
    operation_id = "embed_texts", request_body = EmbedTexts,
    responses((status = 200, description = "A vector for each text.", body = EmbeddedTexts)))]
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<EmbeddedTexts>, Problem> {
    let me = caller.may_own(Action::EmbedTexts)?;
    let form: EmbedTexts = input.json_up_to(TEXTS).await?;
    let question = v1::Embed {
        model: model(form.model)?,
        texts: form.texts,
        dimensions: form.dimensions.unwrap_or_default(),
    };
    let found = app.ask_texts(me, topics::MODELS_EMBED, &question).await?;
    Ok(Json(convert::embedded(found)))
}

/// Finds what texts name: persons, places, dates, or whatever the labels say.
#[utoipa::path(post, path = "/api/v1/models/entities", tag = "models",
    operation_id = "find_entities", request_body = FindEntities,
    responses((status = 200, description = "What each text names.", body = FoundEntities)))]
pub(crate) async fn entities(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<FoundEntities>, Problem> {
    let me = caller.may_own(Action::FindEntities)?;
    let form: FindEntities = input.json_up_to(TEXTS).await?;
    let question = v1::FindEntities {
        model: model(form.model)?,
        texts: form.texts,
        labels: form.labels,
        threshold: form.threshold.unwrap_or_default(),
    };
    let found = app
        .ask_texts(me, topics::MODELS_ENTITIES, &question)
        .await?;
    Ok(Json(convert::entities(found, &question.texts)))
}

/// Tells how texts judge or what they feel.
#[utoipa::path(post, path = "/api/v1/models/classify", tag = "models",
    operation_id = "classify_texts", request_body = ClassifyTexts,
    responses((status = 200, description = "Labels for each text.", body = ClassifiedTexts)))]
pub(crate) async fn classify(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Json<ClassifiedTexts>, Problem> {
    let me = caller.may_own(Action::ClassifyTexts)?;
    let form: ClassifyTexts = input.json_up_to(TEXTS).await?;
    let task = match form.task {
        ClassifyTask::Sentiment => "sentiment",
        ClassifyTask::Emotion => "emotion",
    };
    let question = v1::Classify {
        model: model(form.model)?,
        task: task.to_owned(),
        texts: form.texts,
    };
    let found = app
        .ask_texts(me, topics::MODELS_CLASSIFY, &question)
        .await?;
    Ok(Json(convert::classified(found)))
}

/// All models for texts, and how they are.
#[utoipa::path(get, path = "/api/v1/models/packages", tag = "models",
    operation_id = "list_packages",
    responses((status = 200, description = "All of them.", body = PackageList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<PackageList>, Problem> {
    caller.may(Action::ListPackages)?;
    let time = app.limits.module_time;
    let found: v1::PackageList = app
        .ask_models(topics::MODELS_PACKAGES, &v1::Empty {}, time)
        .await?;
    let items = found.items.into_iter().map(convert::package).collect();
    Ok(Json(PackageList { items }))
}

/// Brings in a package of this machine. It is copied.
#[utoipa::path(post, path = "/api/v1/models/packages", tag = "models",
    operation_id = "add_package", request_body = AddPackage,
    responses((status = 201, description = "It can be asked now.", body = ModelPackage)))]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<ModelPackage>), Problem> {
    caller.may(Action::AddPackage)?;
    let form: AddPackage = input.json().await?;
    if form.path.len() > PATH {
        return Err(too_long(PATH));
    }
    let question = v1::AddPackage { path: form.path };
    let made = app
        .ask_models(topics::MODELS_ADD_PACKAGE, &question, ADDING)
        .await?;
    app.home.note_done(Action::AddPackage).await?;
    Ok((StatusCode::CREATED, Json(convert::package(made))))
}

/// Removes a package and its files.
#[utoipa::path(delete, path = "/api/v1/models/packages/{name}", tag = "models",
    operation_id = "remove_package",
    params(("name" = String, Path, description = "The package's name.")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    caller.may(Action::RemovePackage)?;
    let question = v1::RemovePackage {
        name: ids.get("name")?,
    };
    let time = app.limits.module_time;
    let _: v1::Empty = app
        .ask_models(topics::MODELS_REMOVE_PACKAGE, &question, time)
        .await?;
    app.home.note_done(Action::RemovePackage).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Characters of the person who asks, and those that AICO brings along.

use std::str::FromStr;
use std::sync::Arc;

use aico_access::Action;
use aico_characters::LARGEST_FILE;
use aico_contracts::topics::verb;
use aico_contracts::v1::{self, export_character::Format};
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;

use crate::api::Items;
use crate::api::character::{
    ChangeCharacter, Character, CharacterDetail, CharacterFormat, ChooseCharacter, ExportQuery,
    ExportedCharacter, ImportCharacter, ImportedCharacter, NewCharacter, Portrait,
    RemovedCharacter,
};
use crate::app::App;
use crate::caller::Caller;
use crate::convert_character as convert;
use crate::input::{Asked, Ids, Input, too_long};
use crate::problem::{Code, Problem};

/// The largest file in base64, and what stands around it.
const BODY: usize = LARGEST_FILE / 3 * 4 + 64 * 1024;
/// A text with a picture.
const TEXT_AND_PICTURE: usize = BODY + 1024 * 1024;

/// A character's id: a word or a UUID.
struct CharacterId(String);

impl FromStr for CharacterId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let ours = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=36).contains(&text.len()) && text.bytes().all(ours);
        fits.then(|| Self(text.to_owned())).ok_or(())
    }
}

fn id_of(ids: &Ids) -> Result<String, Problem> {
    ids.get::<CharacterId>("id").map(|id| id.0)
}

fn id_in(text: &str) -> Result<String, Problem> {
    text.parse::<CharacterId>()
        .map(|id| id.0)
        .map_err(|()| Code::NotFound.into())
}

fn bytes_of(text: &str, what: &str) -> Result<Vec<u8>, Problem> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Problem::from(Code::Invalid).with_detail(format!("`{what}` is no base64.")))?;
    if bytes.len() > LARGEST_FILE {
        return Err(too_long(LARGEST_FILE));
    }
    Ok(bytes)
}

/// Characters to talk to.
#[utoipa::path(get, path = "/api/v1/characters", tag = "characters",
    operation_id = "list_characters",
    responses((status = 200, description = "All characters.", body = Items<Character>)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Items<Character>>, Problem> {
    let me = caller.may_own(Action::ListCharacters)?;
    let found: v1::CharacterList = app
        .ask_companion(me, verb::CHARACTERS, &v1::ListCharacters {})
        .await?;
    let items = found.items.into_iter().map(convert::character);
    Ok(Json(Items {
        items: items.collect::<Result<_, _>>()?,
    }))
}

/// Makes a character.
#[utoipa::path(post, path = "/api/v1/characters", tag = "characters",
    operation_id = "create_character", request_body = NewCharacter,
    responses((status = 201, description = "Made.", body = Character)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<Character>), Problem> {
    let me = caller.may_own(Action::SaveCharacter)?;
    let form: NewCharacter = input.json_up_to(TEXT_AND_PICTURE).await?;
    let portrait = form.portrait.as_deref().filter(|text| !text.is_empty());
    let question = v1::SaveCharacter {
        id: String::new(),
        text: Some(convert::text_to(form.text)),
        copy_of: form
            .copy_of
            .as_deref()
            .map(id_in)
            .transpose()?
            .unwrap_or_default(),
        portrait: portrait
            .map(|text| bytes_of(text, "portrait"))
            .transpose()?,
    };
    let made = app
        .ask_companion(me, verb::SAVE_CHARACTER, &question)
        .await?;
    Ok((StatusCode::CREATED, Json(convert::character(made)?)))
}

/// Brings in a character card or a Modelfile.
#[utoipa::path(post, path = "/api/v1/characters/import", tag = "characters",
    operation_id = "import_character", request_body = ImportCharacter,
    responses((status = 201, description = "It is there now.", body = ImportedCharacter)))]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<ImportedCharacter>), Problem> {
    let me = caller.may_own(Action::ImportCharacter)?;
    let form: ImportCharacter = input.json_up_to(BODY).await?;
    let question = v1::ImportCharacter {
        file: bytes_of(&form.file, "file")?,
        file_name: form.file_name,
        name: form.name,
    };
    let made = app
        .ask_companion(me, verb::IMPORT_CHARACTER, &question)
        .await?;
    Ok((StatusCode::CREATED, Json(convert::imported(made)?)))
}

/// Chooses the character that one's new conversations get.
#[utoipa::path(put, path = "/api/v1/characters/chosen", tag = "characters",
    operation_id = "use_character", request_body = ChooseCharacter,
    responses((status = 204, description = "Chosen.")))]
pub(crate) async fn choose(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::UseCharacter)?;
    let form: ChooseCharacter = input.json().await?;
    let question = v1::UseCharacter {
        id: id_in(&form.id)?,
    };
    let _: v1::Empty = app
        .ask_companion(me, verb::USE_CHARACTER, &question)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All about a character.
#[utoipa::path(get, path = "/api/v1/characters/{id}", tag = "characters",
    operation_id = "read_character",
    params(("id" = String, Path, description = "The character.")),
    responses((status = 200, description = "As it is.", body = CharacterDetail)))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<CharacterDetail>, Problem> {
    let me = caller.may_own(Action::ReadCharacter)?;
    let question = v1::GetCharacter {
        id: id_of(&ids)?,
        portrait: false,
    };
    let found = app.ask_companion(me, verb::CHARACTER, &question).await?;
    Ok(Json(convert::detail(found)?))
}

/// Changes a character of one's own.
#[utoipa::path(put, path = "/api/v1/characters/{id}", tag = "characters",
    operation_id = "change_character", request_body = ChangeCharacter,
    params(("id" = String, Path, description = "The character.")),
    responses((status = 200, description = "As it is now.", body = Character)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<Json<Character>, Problem> {
    let me = caller.may_own(Action::SaveCharacter)?;
    let id = id_of(&ids)?;
    let form: ChangeCharacter = input.json_up_to(TEXT_AND_PICTURE).await?;
    let portrait = form.portrait.as_deref();
    let question = v1::SaveCharacter {
        id,
        text: Some(convert::text_to(form.text)),
        copy_of: String::new(),
        portrait: portrait
            .map(|text| bytes_of(text, "portrait"))
            .transpose()?,
    };
    let changed = app
        .ask_companion(me, verb::SAVE_CHARACTER, &question)
        .await?;
    Ok(Json(convert::character(changed)?))
}

/// Removes a character of one's own.
#[utoipa::path(delete, path = "/api/v1/characters/{id}", tag = "characters",
    operation_id = "remove_character",
    params(("id" = String, Path, description = "The character.")),
    responses((status = 200, description = "Gone.", body = RemovedCharacter)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<RemovedCharacter>, Problem> {
    let me = caller.may_own(Action::RemoveCharacter)?;
    let question = v1::RemoveCharacter { id: id_of(&ids)? };
    let removed: v1::RemovedCharacter = app
        .ask_companion(me, verb::REMOVE_CHARACTER, &question)
        .await?;
    Ok(Json(RemovedCharacter {
        conversations: removed.conversations,
    }))
}

/// A character's picture.
#[utoipa::path(get, path = "/api/v1/characters/{id}/portrait", tag = "characters",
    operation_id = "read_portrait",
    params(("id" = String, Path, description = "The character.")),
    responses((status = 200, description = "Told as not found when it has none.",
        body = Portrait)))]
pub(crate) async fn portrait(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<Portrait>, Problem> {
    let me = caller.may_own(Action::ReadCharacter)?;
    let question = v1::GetCharacter {
        id: id_of(&ids)?,
        portrait: true,
    };
    let found: v1::CharacterDetail = app.ask_companion(me, verb::CHARACTER, &question).await?;
    if found.portrait.is_empty() {
        return Err(Code::NotFound.into());
    }
    Ok(Json(Portrait {
        png: STANDARD.encode(found.portrait),
    }))
}

/// Writes a character as a file.
#[utoipa::path(get, path = "/api/v1/characters/{id}/export", tag = "characters",
    operation_id = "export_character",
    params(("id" = String, Path, description = "The character."), ExportQuery),
    responses((status = 200, description = "The file, in base64.", body = ExportedCharacter)))]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    asked: Asked,
) -> Result<Json<ExportedCharacter>, Problem> {
    let me = caller.may_own(Action::ExportCharacter)?;
    let id = id_of(&ids)?;
    let query: ExportQuery = asked.get()?;
    let format = match query.format {
        CharacterFormat::Modelfile => Format::Modelfile,
        CharacterFormat::CardV2 => Format::CardV2,
        CharacterFormat::CardV3 => Format::CardV3,
        CharacterFormat::Png => Format::Png,
    };
    let question = v1::ExportCharacter {
        id,
        format: format.into(),
    };
    let made: v1::ExportedCharacter = app
        .ask_companion(me, verb::EXPORT_CHARACTER, &question)
        .await?;
    Ok(Json(ExportedCharacter {
        file: STANDARD.encode(made.file),
        file_name: made.file_name,
        media_type: made.media_type,
        notes: made.notes,
    }))
}

//! Oneself, and the persons of the household.

use std::sync::Arc;

use aico_access::Action;
use aico_contracts::ids::PersonId;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::home::{given_password, guarded, new_password};
use crate::api::Items;
use crate::api::access::{AddPerson, ChangePassword, Erase, Person};
use crate::api::backup::Erased;
use crate::app::App;
use crate::caller::Caller;
use crate::input::{Ids, Input};
use crate::problem::{Code, Problem};

/// Who am I.
#[utoipa::path(get, path = "/api/v1/me", tag = "persons",
    responses((status = 200, description = "The person who asks.", body = Person)))]
pub(crate) async fn me(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Person>, Problem> {
    let me = caller.may_own(Action::ReadSelf)?;
    let seal = app.home.seal_of(me).await.ok().map(Into::into);
    let keys_wait = app.home.pending_key_changes().await?.contains(&me);
    Ok(Json(Person {
        seal,
        keys_wait,
        ..Person::from(app.home.person(me).await?)
    }))
}

/// Changes one's own password. One's other sessions end.
#[utoipa::path(put, path = "/api/v1/me/password", tag = "persons",
    request_body = ChangePassword,
    responses((status = 204, description = "The new password counts.")))]
pub(crate) async fn change_password(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::ChangePassword)?;
    let form: ChangePassword = input.json().await?;
    let new = new_password(&form.new)?;
    guarded(&app, &caller, async {
        let current = given_password(&form.current, Code::WrongPassword)?;
        let source = caller.source();
        Ok(app
            .home
            .change_password(me, &current, &new, source, caller.session())
            .await?)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Everybody.
#[utoipa::path(get, path = "/api/v1/persons", tag = "persons", operation_id = "list_persons",
    responses((status = 200, description = "The household.", body = Items<Person>)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Items<Person>>, Problem> {
    caller.may(Action::ListPersons)?;
    let pending = app.home.pending_key_changes().await?;
    let mut items = Vec::new();
    for person in app.home.persons().await? {
        // A keyring that can't be read is no reason to show nobody.
        let seal = app.home.seal_of(person.id).await.ok().map(Into::into);
        items.push(Person {
            seal,
            keys_wait: pending.contains(&person.id),
            ..Person::from(person)
        });
    }
    Ok(Json(Items { items }))
}

/// Adds a person with a password of their own.
#[utoipa::path(post, path = "/api/v1/persons", tag = "persons", operation_id = "add_person",
    request_body = AddPerson,
    responses((status = 201, description = "Added.", body = Person)))]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<Person>), Problem> {
    caller.may(Action::AddPerson)?;
    let form: AddPerson = input.json().await?;
    let password = new_password(&form.password)?;
    let person = app.home.add_person(&form.name, &password).await?;
    Ok((StatusCode::CREATED, Json(person.into())))
}

/// Erases a person and everything that is theirs, out of the backups within reach as well. It
/// can't be undone.
#[utoipa::path(post, path = "/api/v1/persons/{id}/erase", tag = "persons",
    operation_id = "erase_person", request_body = Erase,
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses((status = 200, description = "Erased, and which backups still hold them.",
        body = Erased)))]
pub(crate) async fn erase(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<Json<Erased>, Problem> {
    caller.may(Action::ErasePerson)?;
    let person: PersonId = ids.get("id")?;
    let form: Erase = input.json().await?;
    let erased = guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        Ok(app
            .home
            .erase_person(person, &password, caller.source())
            .await?)
    })
    .await?;
    app.hubs.forget(person);
    Ok(Json(erased.into()))
}

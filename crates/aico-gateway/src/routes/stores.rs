//! Whether the stored data is sound.

use std::sync::Arc;

use aico_access::Action;
use aico_contracts::ids::PersonId;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::steps;
use crate::api::store::{Accepted, CheckStores, CheckedStore};
use crate::app::App;
use crate::caller::Caller;
use crate::input::{Ids, Input};
use crate::problem::Problem;

/// Things that wait for a slow reader; one that leaves more than these lying counts as gone.
const WAITING: usize = 4096;

/// Checks the stored data: one JSON object on each line, `{"type":"checked","store":…}` for each
/// thing as it is known, and on the last line `{"type":"done","sound":…,"damaged":…,"locked":…,
/// "unchecked":…}` or `{"type":"problem","problem":…}`. Reads only, beside everybody. It ends when
/// the reader goes.
#[utoipa::path(post, path = "/api/v1/stores/check", tag = "system",
    operation_id = "check_stores", request_body = CheckStores,
    responses((status = 200, description = "What is sound and what is damaged.",
        body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Problem> {
    caller.may(Action::CheckStores)?;
    let form: CheckStores = input.json().await?;
    let home = app.home.clone();
    steps::answer(&app, &caller, |lines| async move {
        let (told, mut checked) = tokio::sync::mpsc::channel(WAITING);
        let telling = async {
            while let Some(store) = checked.recv().await {
                let store: CheckedStore = store;
                if !lines
                    .send(json!({ "type": "checked", "store": store }))
                    .await
                {
                    break;
                }
            }
            // Who goes on telling hears that nobody listens.
            checked.close();
        };
        let checking = home.check_stores(form.full, move |one| told.try_send(one.into()).is_ok());
        let (tally, ()) = tokio::join!(checking, telling);
        let tally = tally?;
        Ok(json!({
            "type": "done", "sound": tally.sound, "damaged": tally.damaged,
            "locked": tally.locked, "unchecked": tally.unchecked,
        }))
    })
    .await
}

/// Takes the older copy of a person's data, that was put in the place of the present one, as the
/// present one: what was said after it is given up. Until then it is read and not written.
#[utoipa::path(post, path = "/api/v1/persons/{id}/accept-older-copy", tag = "system",
    operation_id = "accept_older_copy",
    params(("id" = uuid::Uuid, Path, description = "The person.")),
    responses((status = 200, description = "Whether there was something to decide.",
        body = Accepted)))]
pub(crate) async fn accept_older_copy(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<Accepted>, Problem> {
    caller.may(Action::AcceptOlderCopy)?;
    let person: PersonId = ids.get("id")?;
    let accepted = app.home.accept_older_copy(person).await?;
    Ok(Json(Accepted { accepted }))
}

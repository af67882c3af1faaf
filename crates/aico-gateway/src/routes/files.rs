//! Keys of one's own encrypted files and of one's own database, for the program on the other side
//! of the local socket.

use std::sync::Arc;

use aico_access::Action;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::home::{given_password, guarded};
use crate::api::access::{FileKey, StoreKey};
use crate::api::backup::OwnProof;
use crate::app::App;
use crate::caller::Caller;
use crate::input::{Asked, Ids, Input};
use crate::problem::{Code, Problem};

/// Which of the keys of a person that were changed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Epoch {
    /// From the file's header; the present one by default.
    epoch: Option<u32>,
}

/// The key of one of one's own encrypted files. It opens that file and no other. Over the local
/// socket only; anywhere else there is no such thing.
#[utoipa::path(get, path = "/api/v1/me/files/{id}/key", tag = "persons",
    operation_id = "file_key",
    params(("id" = uuid::Uuid, Path, description = "The file's id, from its header."), Epoch),
    responses((status = 200, description = "The key.", body = FileKey)))]
pub(crate) async fn key(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    asked: Asked,
) -> Result<Response, Problem> {
    let me = caller.may_own(Action::ReadFileKey)?;
    // No key travels where something other than the kernel is between the two.
    if !caller.is_local() {
        return Err(Code::NotFound.into());
    }
    let id: Uuid = ids.get("id")?;
    let Epoch { epoch } = asked.get()?;
    let found = app.home.file_key(me, id.into_bytes(), epoch).await?;
    secret(&FileKey::new(me, &found))
}

/// The raw key of one's own database, for other programs that read SQLCipher 4: whoever has it reads
/// everything in it, and only a change of keys revokes it. That it was given out is noted among what
/// an export tells about oneself. Over the local socket only; anywhere else there is no such thing.
#[utoipa::path(post, path = "/api/v1/me/store/key", tag = "persons",
    operation_id = "export_store_key", request_body = OwnProof,
    responses((status = 200, description = "The key.", body = StoreKey)))]
pub(crate) async fn store_key(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<Response, Problem> {
    let me = caller.may_own(Action::ExportStoreKey)?;
    if !caller.is_local() {
        return Err(Code::NotFound.into());
    }
    let form: OwnProof = input.json().await?;
    guarded(&app, &caller, async {
        let password = given_password(&form.password, Code::WrongPassword)?;
        let found = app
            .home
            .export_store_key(me, &password, caller.source())
            .await?;
        secret(&StoreKey::new(&found))
    })
    .await
}

/// An answer that is wiped when it is sent.
fn secret(body: &impl Serialize) -> Result<Response, Problem> {
    // Longer than the answer, so that growing leaves no copies behind.
    let mut answer = Zeroizing::new(Vec::with_capacity(8192));
    serde_json::to_writer(&mut *answer, body).map_err(|_| Code::Internal)?;
    let mut response = Response::new(Body::from(Bytes::from_owner(answer)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

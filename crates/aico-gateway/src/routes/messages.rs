//! Saying something. The message is durable when it is accepted; its answer streams on `/ws`.

use std::sync::Arc;

use aico_access::Action;
use aico_contracts::ids::{ConversationId, MessageId};
use aico_contracts::topics::verb;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::conversation::{Accepted, Edit, NewMessage};
use crate::app::App;
use crate::caller::Caller;
use crate::convert;
use crate::input::{Ids, Input, too_long};
use crate::problem::Problem;

/// Says something in a conversation.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/messages", tag = "messages",
    operation_id = "send_message", request_body = NewMessage,
    params(("id" = uuid::Uuid, Path, description = "The conversation.")),
    responses((status = 202, description = "Durable; the answer streams on `/ws`.",
        body = Accepted)))]
pub(crate) async fn send(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let me = caller.may_own(Action::SendMessage)?;
    let conversation: ConversationId = ids.get("id")?;
    let form: NewMessage = input.json().await?;
    if form.text.len() > app.limits.text {
        return Err(too_long(app.limits.text));
    }
    let question = v1::SendMessage {
        conversation: conversation.to_vec(),
        text: form.text,
        id: form.id.map(|id| id.to_vec()).unwrap_or_default(),
        parent: form.parent.map(|id| id.to_vec()).unwrap_or_default(),
    };
    accepted(app.ask_companion(me, verb::SEND, &question).await?)
}

/// Asks for another answer beside this one.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/messages/{message}/regenerate",
    tag = "messages", operation_id = "regenerate_answer",
    params(
        ("id" = uuid::Uuid, Path, description = "The conversation."),
        ("message" = uuid::Uuid, Path, description = "The answer."),
    ),
    responses((status = 202, description = "The other answer streams on `/ws`.",
        body = Accepted)))]
pub(crate) async fn regenerate(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let me = caller.may_own(Action::Regenerate)?;
    let conversation: ConversationId = ids.get("id")?;
    let answer: MessageId = ids.get("message")?;
    let question = v1::RegenerateAnswer {
        conversation: conversation.to_vec(),
        answer: answer.to_vec(),
    };
    accepted(app.ask_companion(me, verb::REGENERATE, &question).await?)
}

/// Says it in other words, beside the old ones, and asks for an answer to that.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/messages/{message}/edit",
    tag = "messages", operation_id = "edit_message", request_body = Edit,
    params(
        ("id" = uuid::Uuid, Path, description = "The conversation."),
        ("message" = uuid::Uuid, Path, description = "The message of the person."),
    ),
    responses((status = 202, description = "Durable; the answer streams on `/ws`.",
        body = Accepted)))]
pub(crate) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let me = caller.may_own(Action::EditMessage)?;
    let conversation: ConversationId = ids.get("id")?;
    let message: MessageId = ids.get("message")?;
    let form: Edit = input.json().await?;
    if form.text.len() > app.limits.text {
        return Err(too_long(app.limits.text));
    }
    let question = v1::EditMessage {
        conversation: conversation.to_vec(),
        message: message.to_vec(),
        text: form.text,
        id: form.id.map(|id| id.to_vec()).unwrap_or_default(),
    };
    accepted(app.ask_companion(me, verb::EDIT, &question).await?)
}

/// Stops an answer; what came before is kept.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/messages/{message}/cancel",
    tag = "messages", operation_id = "cancel_answer",
    params(
        ("id" = uuid::Uuid, Path, description = "The conversation."),
        ("message" = uuid::Uuid, Path, description = "The answer."),
    ),
    responses((status = 204, description = "It stops, or had ended.")))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::CancelAnswer)?;
    let conversation: ConversationId = ids.get("id")?;
    let answer: MessageId = ids.get("message")?;
    let question = v1::CancelAnswer {
        conversation: conversation.to_vec(),
        answer: answer.to_vec(),
    };
    let _: v1::Empty = app.ask_companion(me, verb::CANCEL, &question).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn accepted(from: v1::Accepted) -> Result<(StatusCode, Json<Accepted>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(convert::accepted(from)?)))
}

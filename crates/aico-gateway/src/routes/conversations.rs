//! Conversations of the person who asks. Every request goes to that person's topic: another
//! person's id reaches nothing, and is told like an unknown one.

use std::sync::Arc;

use aico_access::Action;
use aico_contracts::ids::ConversationId;
use aico_contracts::topics::verb;
use aico_contracts::v1;
use axum::Json;
use axum::extract::State;
use http::StatusCode;

use crate::api::Items;
use crate::api::conversation::{
    ChangeConversation, Conversation, ConversationDetail, ConversationPage, ConversationQuery,
    NewConversation, SearchHit, SearchQuery,
};
use crate::app::App;
use crate::caller::Caller;
use crate::convert;
use crate::input::{Asked, Ids, Input, too_long};
use crate::problem::{Code, Problem};

const LIMIT: u32 = 50;
const LIMIT_MOST: u32 = 200;
const HITS: u32 = 20;
const HITS_MOST: u32 = 100;
/// Bytes of a title; the companion has its own, smaller, idea in characters.
const TITLE: usize = 4096;
const QUERY: usize = 1000;

/// One's own conversations, the newest activity first.
#[utoipa::path(get, path = "/api/v1/conversations", tag = "conversations",
    operation_id = "list_conversations", params(ConversationQuery),
    responses((status = 200, description = "A page of them.", body = ConversationPage)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    asked: Asked,
) -> Result<Json<ConversationPage>, Problem> {
    let me = caller.may_own(Action::ListConversations)?;
    let query: ConversationQuery = asked.get()?;
    let question = v1::ListConversations {
        limit: within(query.limit, LIMIT, LIMIT_MOST)?,
        before: query.before.unwrap_or_default(),
    };
    let found = app.ask_companion(me, verb::LIST, &question).await?;
    Ok(Json(convert::conversation_page(found)?))
}

/// Begins a conversation.
#[utoipa::path(post, path = "/api/v1/conversations", tag = "conversations",
    operation_id = "create_conversation", request_body = NewConversation,
    responses((status = 201, description = "Begun.", body = Conversation)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    input: Input,
) -> Result<(StatusCode, Json<Conversation>), Problem> {
    let me = caller.may_own(Action::CreateConversation)?;
    let form: NewConversation = input.json().await?;
    let question = v1::CreateConversation {
        title: title(form.title)?.unwrap_or_default(),
        character: form.character.unwrap_or_default(),
    };
    let made = app.ask_companion(me, verb::CREATE, &question).await?;
    Ok((StatusCode::CREATED, Json(convert::conversation(made)?)))
}

/// A conversation with the branch that is shown.
#[utoipa::path(get, path = "/api/v1/conversations/{id}", tag = "conversations",
    operation_id = "read_conversation",
    params(("id" = uuid::Uuid, Path, description = "The conversation.")),
    responses((status = 200, description = "From the first message to the active leaf.",
        body = ConversationDetail)))]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<Json<ConversationDetail>, Problem> {
    let me = caller.may_own(Action::ReadConversation)?;
    let id: ConversationId = ids.get("id")?;
    let found = app
        .ask_companion(me, verb::GET, &v1::GetConversation { id: id.to_vec() })
        .await?;
    Ok(Json(convert::conversation_detail(found)?))
}

/// Changes the title, or which branch is shown.
#[utoipa::path(patch, path = "/api/v1/conversations/{id}", tag = "conversations",
    operation_id = "change_conversation", request_body = ChangeConversation,
    params(("id" = uuid::Uuid, Path, description = "The conversation.")),
    responses((status = 200, description = "As it is now.", body = Conversation)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
    input: Input,
) -> Result<Json<Conversation>, Problem> {
    let me = caller.may_own(Action::ChangeConversation)?;
    let id: ConversationId = ids.get("id")?;
    let form: ChangeConversation = input.json().await?;
    let question = v1::UpdateConversation {
        id: id.to_vec(),
        title: title(form.title)?,
        active_leaf: form.active_leaf.map(|leaf| leaf.to_vec()),
        character: form.character,
    };
    let changed = app.ask_companion(me, verb::UPDATE, &question).await?;
    Ok(Json(convert::conversation(changed)?))
}

/// Deletes a conversation and its messages.
#[utoipa::path(delete, path = "/api/v1/conversations/{id}", tag = "conversations",
    operation_id = "delete_conversation",
    params(("id" = uuid::Uuid, Path, description = "The conversation.")),
    responses((status = 204, description = "Gone.")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    ids: Ids,
) -> Result<StatusCode, Problem> {
    let me = caller.may_own(Action::DeleteConversation)?;
    let id: ConversationId = ids.get("id")?;
    let question = v1::DeleteConversation { id: id.to_vec() };
    let _: v1::Empty = app.ask_companion(me, verb::DELETE, &question).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks for words in one's own titles and messages.
#[utoipa::path(get, path = "/api/v1/search", tag = "conversations", params(SearchQuery),
    responses((status = 200, description = "What was found, best first.",
        body = Items<SearchHit>)))]
pub(crate) async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    asked: Asked,
) -> Result<Json<Items<SearchHit>>, Problem> {
    let me = caller.may_own(Action::Search)?;
    let query: SearchQuery = asked.get()?;
    if query.q.len() > QUERY {
        return Err(too_long(QUERY));
    }
    let question = v1::Search {
        query: query.q,
        limit: within(query.limit, HITS, HITS_MOST)?,
    };
    let found = app.ask_companion(me, verb::SEARCH, &question).await?;
    Ok(Json(Items {
        items: convert::search(found)?,
    }))
}

fn within(asked: Option<u32>, default: u32, most: u32) -> Result<u32, Problem> {
    match asked.unwrap_or(default) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Problem::from(Code::Invalid).with_detail(format!("`limit` is 1 to {most}."))),
    }
}

fn title(given: Option<String>) -> Result<Option<String>, Problem> {
    match given {
        Some(title) if title.len() > TITLE => Err(too_long(TITLE)),
        other => Ok(other),
    }
}

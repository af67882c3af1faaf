//! Every route, each file one subject.

pub(crate) mod backups;
pub(crate) mod bus;
pub(crate) mod characters;
pub(crate) mod conversations;
pub(crate) mod count;
pub(crate) mod engines;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod home;
pub(crate) mod installations;
pub(crate) mod messages;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod modules;
pub(crate) mod persons;
pub(crate) mod pulls;
pub(crate) mod rotation;
pub(crate) mod seal;
pub(crate) mod secrets;
pub(crate) mod sessions;
pub(crate) mod shelves;
mod steps;
pub(crate) mod stores;
pub(crate) mod system;
pub(crate) mod tokens;
pub(crate) mod transformers;
pub(crate) mod vault;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::layers;
use crate::programs::{ollama, openai};
use crate::ws;

/// All routes with their documentation.
pub(crate) fn all() -> OpenApiRouter<Arc<App>> {
    lasting()
        .layer(axum::middleware::from_fn(layers::to_the_end))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::contract))
        .routes(routes!(home::state))
        .routes(routes!(home::passphrase))
        .routes(routes!(vault::read))
        .routes(routes!(persons::me))
        .routes(routes!(files::key))
        .routes(routes!(backups::export))
        .routes(routes!(files::store_key))
        .routes(routes!(backups::create))
        .routes(routes!(stores::check))
        .routes(routes!(characters::list, characters::create))
        .routes(routes!(characters::import))
        .routes(routes!(characters::choose))
        .routes(routes!(
            characters::read,
            characters::change,
            characters::remove
        ))
        .routes(routes!(characters::portrait))
        .routes(routes!(characters::export))
        .routes(routes!(conversations::list, conversations::create))
        .routes(routes!(
            conversations::read,
            conversations::change,
            conversations::delete
        ))
        .routes(routes!(conversations::search))
        .routes(routes!(messages::send))
        .routes(routes!(messages::regenerate))
        .routes(routes!(messages::edit))
        .routes(routes!(messages::cancel))
        .routes(routes!(models::list, models::add))
        .routes(routes!(models::activate))
        .routes(routes!(models::remove))
        .routes(routes!(models::pin, models::unpin))
        .routes(routes!(models::activity))
        .routes(routes!(count::count))
        .routes(routes!(pulls::catalogue))
        .routes(routes!(pulls::list, pulls::pull))
        .routes(routes!(pulls::cancel))
        .routes(routes!(transformers::embed))
        .routes(routes!(transformers::entities))
        .routes(routes!(transformers::classify))
        .routes(routes!(transformers::list, transformers::add))
        .routes(routes!(transformers::remove))
        .routes(routes!(engines::list))
        .routes(routes!(engines::check))
        .routes(routes!(engines::egress))
        .routes(routes!(
            installations::read,
            installations::begin,
            installations::cancel
        ))
        .routes(routes!(shelves::offer))
        .routes(routes!(shelves::list, shelves::make))
        .routes(routes!(shelves::cancel))
        .routes(routes!(shelves::show, shelves::delete))
        .routes(routes!(openai::list))
        .routes(routes!(openai::one))
        .route(
            "/v1/models/{model}/{*rest}",
            axum::routing::get(openai::one),
        )
        .routes(routes!(openai::chat))
        .routes(routes!(openai::embeddings))
        .routes(routes!(ollama::version))
        .routes(routes!(ollama::tags))
        .routes(routes!(ollama::ps))
        .routes(routes!(ollama::show))
        .routes(routes!(ollama::chat))
        .routes(routes!(ollama::generate))
        .routes(routes!(ollama::embed))
        .routes(routes!(ollama::embeddings))
        .routes(routes!(bus::read))
        .routes(routes!(bus::tail))
        .routes(routes!(metrics::read))
        .routes(routes!(system::status))
        .routes(routes!(system::config))
        .routes(routes!(system::logs))
        .routes(routes!(ws::upgrade::events))
}

/// What changes keys, persons and rights.
fn lasting() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(home::set_up))
        .routes(routes!(home::unlock))
        .routes(routes!(home::lock))
        .routes(routes!(vault::recover))
        .routes(routes!(vault::remember))
        .routes(routes!(vault::forget))
        .routes(routes!(vault::new_phrase))
        .routes(routes!(rotation::rotate, rotation::read))
        .routes(routes!(stores::accept_older_copy))
        .routes(routes!(sessions::end_current))
        .routes(routes!(sessions::end))
        .routes(routes!(persons::change_password))
        .routes(routes!(seal::seal, seal::unseal))
        .routes(routes!(seal::recover))
        .routes(routes!(persons::list, persons::add))
        .routes(routes!(persons::erase))
        .routes(routes!(modules::list, modules::add))
        .routes(routes!(modules::rotate))
        .routes(routes!(modules::revoke))
        .routes(routes!(modules::consent, modules::withdraw))
        .routes(routes!(engines::allow, engines::forbid))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(secrets::list, secrets::set))
        .routes(routes!(secrets::remove))
        .routes(routes!(
            sessions::sign_in,
            sessions::list,
            sessions::end_all
        ))
}

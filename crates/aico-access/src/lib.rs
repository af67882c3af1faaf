//! Who is there, what they may do, and the keys and stores that open for them.
//!
//! Three things live here because each needs the other two:
//!
//! - [`Home`] is everything that belongs to one data folder: the vault, the system's store, the
//!   store of each person. It is *new*, *locked* or *ready* ([`Stage`]), and every change
//!   between these goes through it.
//! - Persons, their sessions and tokens ([`Person`], [`Session`]).
//! - [`authorize`], the one place that decides. Every route of the gateway and every call on the
//!   bus names a principal, an action and a resource and asks it.
#![forbid(unsafe_code)]

mod audit;
pub mod backup;
mod check;
mod delay;
mod engines;
mod error;
mod export;
mod files;
mod folder;
mod grants;
mod health;
mod home;
mod keys;
#[cfg(test)]
mod migrations;
mod modules;
mod named;
mod older_copy;
mod open_stores;
mod person;
mod persons;
mod policy;
mod presence;
mod principal;
mod rescue;
mod rotation;
mod schema;
mod sealed;
mod secrets;
mod sessions;
mod set_up;
mod setup_code;
mod sign_in;
mod store_key;
mod stores;
mod swap;
#[cfg(test)]
mod tests;
mod token;
mod undo;
mod updating;
mod working;

pub use aico_store::MigrationProgress;
pub use check::{CheckState, Checked, CheckedPart, Tally};
pub use delay::{Delays, Try};
pub use engines::{EGRESS_MIGRATIONS, EGRESS_MOST, EGRESS_PAGE, Egress, EngineConsent, NewEgress};
pub use error::{ErrorKind, HomeError};
pub use export::{ExportPiece, Exported, PersonExport, TakeFile};
pub use files::OwnFileKey;
pub use folder::{ClaimError, DataFolder};
pub use grants::{Grant, GrantError, Grants, TopicGrant, module_identity};
pub use health::Health;
pub use home::{Home, HomeConfig, Stage};
pub use keys::{Forgot, Remembered, Start, VaultInfo, Waits, WrapState};
pub use modules::{Module, ModuleNameError, NewModule};
pub use named::{
    NAMED_TOKEN_PREFIX, NamedToken, NewToken, TOKEN_DAYS, TOKEN_DAYS_MOST, TOKENS_MOST,
};
pub use person::{NameError, Person, PersonName, Role};
pub use policy::{Action, BusPolicy, Denied, Resource, TAIL, authorize};
pub use presence::Presence;
pub use principal::Principal;
pub use rescue::Rescue;
pub use rotation::{
    Begun, Failed, JournalAnew, PartChecked, PartsError, Rotate, RotationState, SealedParts,
};
pub use sealed::Seal;
pub use secrets::{SECRET_LONGEST, SECRETS_MOST, SecretError, SecretInfo};
pub use sessions::{Session, SessionInfo, Source};
pub use set_up::{SetUp, SetupProof};
pub use setup_code::SetupCode;
pub use store_key::OwnStoreKey;
pub use stores::modules_of_system;

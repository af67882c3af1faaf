//! Set-up, sessions and persons.

use aico_access as access;
use aico_contracts::ids::{PersonId, SessionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::input::Secret;

/// Where the installation stands.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// Nothing is set up.
    New,
    /// Set up; no key is in memory.
    Locked,
    /// Open.
    Ready,
    /// Ending.
    Stopping,
}

impl From<access::Stage> for Stage {
    fn from(stage: access::Stage) -> Self {
        match stage {
            access::Stage::New => Self::New,
            access::Stage::Locked => Self::Locked,
            access::Stage::Ready => Self::Ready,
            access::Stage::Stopping => Self::Stopping,
        }
    }
}

/// What anybody may know.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"stage": "ready", "version": "0.1.0"}))]
pub(crate) struct State {
    pub(crate) stage: Stage,
    /// Of the daemon.
    pub(crate) version: &'static str,
    /// While it waits for the password although a keychain holds a key: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keychain: Option<super::vault::Keychain>,
    /// While stores are brought up to this program's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) updating: Option<Updating>,
}

/// How far an update of the stores is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Updating {
    /// Hundredths of the store that is being updated.
    #[schema(maximum = 100)]
    pub(crate) percent: u8,
    /// How long the rest takes, once that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds_left: Option<u64>,
}

impl From<access::MigrationProgress> for Updating {
    fn from(progress: access::MigrationProgress) -> Self {
        Self {
            percent: progress.percent,
            seconds_left: progress.left.map(|left| left.as_secs()),
        }
    }
}

/// A suggestion; nothing remembers it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"passphrase": "velvet harbour moss lantern orbit"}))]
pub(crate) struct Passphrase {
    /// Five random words.
    pub(crate) passphrase: String,
}

/// The first set-up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"code": "k2uV…", "name": "Ada", "password": "…"}))]
pub(crate) struct SetUp {
    /// From the printed address; not needed over the local socket.
    #[serde(default)]
    pub(crate) code: Option<Secret>,
    /// How the owner is called.
    pub(crate) name: String,
    /// The master password, at least 12 characters.
    pub(crate) password: Secret,
}

/// The set-up is done.
#[derive(Serialize, ToSchema)]
pub(crate) struct SetUpDone {
    /// Twelve words that open the vault when the password is forgotten. Shown this once.
    #[schema(min_items = 12, max_items = 12)]
    pub(crate) recovery_phrase: Vec<&'static str>,
    pub(crate) session: Session,
}

/// The master password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unlock {
    pub(crate) password: Secret,
}

/// Unlocked, and the owner is signed in.
#[derive(Serialize, ToSchema)]
pub(crate) struct Unlocked {
    pub(crate) session: Session,
}

/// A person signs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Ada", "password": "…"}))]
pub(crate) struct SignIn {
    pub(crate) name: String,
    pub(crate) password: Secret,
    /// Somebody sees the answer, who would write a recovery phrase down: a change of keys that
    /// waits for this sealed person is done, and makes a new one.
    #[serde(default)]
    pub(crate) takes_phrase: bool,
}

/// What a person may do beside using what is their own.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = PersonRole)]
pub(crate) enum Role {
    /// Set AICO up; manages persons and models.
    Owner,
    /// Uses AICO.
    Member,
}

/// A person of the household.
#[derive(Clone, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0193a1b2-0000-7000-8000-000000000001", "name": "Ada", "role": "owner",
    "created_at": "2026-01-31T12:00:00Z"
}))]
pub(crate) struct Person {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: PersonId,
    pub(crate) name: String,
    pub(crate) role: Role,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// Who can open their data; in lists only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seal: Option<Seal>,
    /// Sealed, and a change of keys still waits for them to sign in with `takes_phrase`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keys_wait: bool,
}

/// Who can open a person's data.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = PersonSeal)]
pub(crate) enum Seal {
    /// AICO, while it is unlocked.
    Open,
    /// They alone, and they are not signed in.
    Locked,
    /// They alone, and they are signed in.
    SignedIn,
}

impl From<access::Seal> for Seal {
    fn from(seal: access::Seal) -> Self {
        match seal {
            access::Seal::Open => Self::Open,
            access::Seal::Locked => Self::Locked,
            access::Seal::SignedIn => Self::SignedIn,
        }
    }
}

impl From<access::Person> for Person {
    fn from(person: access::Person) -> Self {
        Self {
            id: person.id,
            name: person.name.as_str().to_owned(),
            role: match person.role {
                access::Role::Owner => Role::Owner,
                access::Role::Member => Role::Member,
            },
            created_at: person.created_at,
            seal: None,
            keys_wait: false,
        }
    }
}

/// A session, once, with its token.
#[derive(Serialize, ToSchema)]
pub(crate) struct Session {
    /// For `Authorization: Bearer …`. Keep it in memory or `sessionStorage` only.
    pub(crate) token: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: Timestamp,
    pub(crate) person: Person,
    /// A change of keys that waited for this sealed person is done, and their own phrase is
    /// another: shown this once. The one before opens nothing here any more.
    #[schema(min_items = 12, max_items = 12)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovery_phrase: Option<Vec<&'static str>>,
    /// A change of keys still waits for this sealed person to sign in with `takes_phrase`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) keys_wait: bool,
}

impl From<access::Session> for Session {
    fn from(session: access::Session) -> Self {
        Self {
            token: session.token.as_str().to_owned(),
            expires_at: session.expires_at,
            person: Person {
                keys_wait: session.keys_wait,
                ..session.person.into()
            },
            recovery_phrase: session.phrase.map(|phrase| phrase.words()),
            keys_wait: session.keys_wait,
        }
    }
}

/// A session in a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionInfo {
    #[schema(value_type = uuid::Uuid)]
    pub(crate) id: SessionId,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: Timestamp,
    /// What signed in, as it described itself.
    pub(crate) client: String,
    /// The one that asks.
    pub(crate) current: bool,
    /// It holds a connection for events now.
    pub(crate) connected: bool,
    /// When it held one last; not told while it does, nor when it never did or nobody knows.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seen_at: Option<Timestamp>,
}

/// A new password for oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePassword {
    pub(crate) current: Secret,
    /// At least 12 characters.
    pub(crate) new: Secret,
}

/// A new person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Grace", "password": "…"}))]
pub(crate) struct AddPerson {
    pub(crate) name: String,
    /// Their own, at least 12 characters.
    pub(crate) password: Secret,
}

/// Proof for what can't be undone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erase {
    /// The owner's.
    pub(crate) password: Secret,
}

/// What opens one encrypted file.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileKey {
    /// Whose file it is.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) owner: PersonId,
    /// Epoch of the owner's key.
    pub(crate) epoch: u32,
    /// 32 bytes in hexadecimal.
    #[schema(value_type = String, format = Password)]
    #[serde(serialize_with = "text")]
    pub(crate) key: Zeroizing<String>,
}

impl FileKey {
    pub(crate) fn new(owner: PersonId, found: &access::OwnFileKey) -> Self {
        Self {
            owner,
            epoch: found.epoch,
            key: hexadecimal(found.key.expose()),
        }
    }
}

/// What opens one's own database in other programs.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoreKey {
    /// Where the database lies on this machine.
    pub(crate) path: String,
    /// 32 bytes in hexadecimal, raw: SQLCipher derives nothing from them.
    #[schema(value_type = String, format = Password)]
    #[serde(serialize_with = "text")]
    pub(crate) key: Zeroizing<String>,
}

impl StoreKey {
    pub(crate) fn new(found: &access::OwnStoreKey) -> Self {
        Self {
            path: found.path.display().to_string(),
            key: hexadecimal(found.key.expose()),
        }
    }
}

fn hexadecimal(bytes: &[u8; 32]) -> Zeroizing<String> {
    // Room at once, so that growing leaves no copies behind.
    let mut text = Zeroizing::new(String::with_capacity(64));
    for byte in bytes {
        let digit = |four: u8| char::from_digit(four.into(), 16).unwrap_or_default();
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

fn text<S: serde::Serializer>(text: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

//! Errors as the API tells them: `application/problem+json` (RFC 9457) with a stable code.
//!
//! [`Code`] is the list of everything that can go wrong, with its status and what a person can
//! do about it; the OpenAPI document holds it as an enumeration. Details never hold a name, a
//! password or chat text.

use std::borrow::Cow;
use std::time::Duration;

use aico_access::{Denied, ErrorKind, HomeError};
use aico_bus::RequestError;
use aico_contracts::v1::Fault;
use aico_vault::KeychainState;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal, $advice:expr;)*) => {
        /// Everything that can go wrong, by a stable name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $code)] $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            /// The HTTP status it is told with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let number: u16 = match self { $(Code::$name => $status,)* };
                StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// One line for people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }

            /// What the person can do about it, when that is always the same.
            #[must_use]
            pub fn advice(self) -> Option<&'static str> {
                let text: &'static str = match self { $(Code::$name => $advice,)* };
                (!text.is_empty()).then_some(text)
            }
        }
    };
}

codes! {
    /// Not JSON, nested too deeply, or not of the shape in the OpenAPI document.
    Malformed = "malformed", 400, "The request can't be read", "Compare it with /api/openapi.json.";
    /// No token.
    SignInNeeded = "sign-in-needed", 401, "Sign in first", "Sign in with your name and password.";
    /// The session has ended or never was.
    TokenInvalid = "token-invalid", 401, "Your session has ended", "Sign in again.";
    /// The password that the request had to prove itself with.
    WrongPassword = "wrong-password", 401, "The password is wrong", "Try again; mind Caps Lock and the keyboard's layout.";
    /// Not the recovery phrase of this vault.
    WrongPhrase = "wrong-phrase", 401, "The recovery phrase is wrong", "Check each word and their order. A phrase that was replaced by a new one opens nothing here any more.";
    /// Unknown name and wrong password alike.
    SignInFailed = "sign-in-failed", 401, "The name or the password is wrong", "Try again; mind Caps Lock and the keyboard's layout.";
    /// For the owner only.
    Forbidden = "forbidden", 403, "This is for the owner", "Ask the person who set AICO up.";
    /// The person did not agree that their words leave this machine for it.
    EngineNotAllowed = "engine-not-allowed", 403, "You have not allowed that what you write goes to this server", "Allow it under Settings, Servers, or with `aico engine allow NAME`; or choose another model.";
    /// A model of such a program that would run on a server of its makers.
    EngineElsewhere = "engine-elsewhere", 403, "This model runs on a server of its makers", "Choose a model that runs here.";
    /// Not the code that was printed.
    SetupCodeWrong = "setup-code-wrong", 403, "The set-up code is wrong", "Use the address that `aico serve` printed last.";
    /// The right one, too late.
    SetupCodeExpired = "setup-code-expired", 403, "The set-up code has expired", "Restart `aico serve`; it prints a new address.";
    /// The name in the request is not one of ours.
    HostNotAllowed = "host-not-allowed", 403, "This is not an address of AICO", "Use the address that `aico serve` printed.";
    /// The request comes from another web site.
    OriginNotAllowed = "origin-not-allowed", 403, "Requests from other web sites are refused", "Use AICO's own pages, or a program that is no web site.";
    /// There is no such thing, or it is somebody else's.
    NotFound = "not-found", 404, "There is no such thing", "";
    /// The address exists, but not for this.
    MethodNotAllowed = "method-not-allowed", 405, "This can't be done here", "Compare it with /api/openapi.json.";
    /// The body came too slowly.
    TooSlow = "too-slow", 408, "The request took too long to arrive", "Try again.";
    /// There is a vault already.
    AlreadySetUp = "already-set-up", 409, "AICO is set up already", "Unlock it with the master password.";
    /// There is no vault yet.
    NotSetUp = "not-set-up", 409, "AICO is not set up yet", "Open the address that `aico serve` prints, or run `aico setup`.";
    /// The keychain is there and locked.
    KeychainLocked = "keychain-locked", 409, "The keychain is locked", "Unlock the keychain; signing in to the desktop does it.";
    /// No keychain answers.
    KeychainAbsent = "keychain-absent", 409, "No keychain answers", "Start AICO where the keychain is, in the desktop's session.";
    /// The keychain no longer holds what AICO left in it.
    KeychainChanged = "keychain-changed", 409, "The keychain no longer holds AICO's key", "Let the keychain in use now hold a new key: `aico vault remember`.";
    /// The keychain holds another key.
    KeychainWrong = "keychain-wrong", 409, "The key in the keychain does not open this vault", "Find out who put it there, then run `aico vault remember`.";
    /// Somebody is called that.
    NameTaken = "name-taken", 409, "Somebody here has that name already", "Choose another name.";
    /// A module of this name, or with this key, is admitted.
    ModuleExists = "module-exists", 409, "A module of this name or with this key is admitted already", "Choose another name, or give it new keys: `aico module rotate NAME`.";
    /// The request contradicts what is.
    Conflict = "conflict", 409, "This does not fit what is there now", "";
    /// One answer at a time in a conversation.
    AnswerInProgress = "answer-in-progress", 409, "An answer is being written in this conversation", "Wait for it, or stop it.";
    /// Nothing can answer.
    NoModel = "no-model", 409, "No model is chosen", "Choose one in the settings or with `aico model use`.";
    /// A text or body over its limit.
    TooLong = "too-long", 413, "This is too long", "Send less at once.";
    /// Bodies are JSON and say so.
    JsonNeeded = "json-needed", 415, "The body must be JSON", "Send `Content-Type: application/json`, uncompressed.";
    /// The WebSocket is opened by an upgrade.
    UpgradeNeeded = "upgrade-needed", 426, "This address speaks WebSocket", "See docs/websocket.md.";
    /// A value that is not allowed.
    Invalid = "invalid", 422, "A value is not allowed", "";
    /// Too easy to guess.
    PasswordTooWeak = "password-too-weak", 422, "This password is too easy to guess", "Take a longer one: five random words are easy to remember and hard to guess.";
    /// Not twelve words that belong together.
    PhraseInvalid = "phrase-invalid", 422, "This is not a recovery phrase", "Type the twelve words as they were written down.";
    /// Not something that a module can be granted.
    GrantInvalid = "grant-invalid", 422, "This can't be granted to a module", "See docs/modules.md for what a module can be granted.";
    /// Not a name.
    NameInvalid = "name-invalid", 422, "This can't be used as a name", "Use 1 to 64 letters, digits, spaces or signs.";
    /// Not a file that can answer.
    NotAModel = "not-a-model", 422, "This file is not a model that AICO can run", "Choose a file in GGUF format.";
    /// Not a character card, not a Modelfile, or one that can't be taken.
    NotACharacter = "not-a-character", 422, "This is no character that AICO can take", "Choose a character card (PNG or JSON) or a Modelfile.";
    /// The file is not there.
    ModelMissing = "model-missing", 422, "The model's file is not there", "Check the path, and that AICO may read the file.";
    /// The file is not whole, or has changed.
    ModelDamaged = "model-damaged", 422, "The model's file is damaged", "Get the file again.";
    /// The engine does not take it.
    ModelRefused = "model-refused", 422, "The model can't be loaded", "Choose another model.";
    /// Its chat template can't be rendered.
    ModelTemplate = "model-template", 422, "The model's chat template does not work", "Choose another model.";
    /// More than the machine has.
    ModelTooLarge = "model-too-large", 422, "The model does not fit into memory", "Choose a smaller one.";
    /// Tools, thinking, images, embeddings.
    ModelNotCapable = "model-not-capable", 422, "The model can't do this", "Choose another model for this.";
    /// Not JSON, not a JSON schema, or one that can't be held to.
    FormatUnusable = "format-unusable", 422, "The answer can't be bound to this format", "See docs/programs.md for what is understood of JSON Schema.";
    /// A JSON schema that costs too much.
    FormatTooComplex = "format-too-complex", 422, "The JSON schema is too large or too complex", "Make it smaller: fewer alternatives, smaller bounds, plainer patterns.";
    /// The owner's own list of models.
    CatalogueUnusable = "catalogue-unusable", 422, "The catalogue of models can't be used", "Mend the file that models.catalogue names, or take the key out of the configuration.";
    /// The folder for backups.
    TargetUnusable = "target-unusable", 422, "The folder for backups can't be used", "Choose a folder that is there and that you may write to.";
    /// An archive is not whole, or is none.
    ArchiveDamaged = "archive-damaged", 422, "The backup is damaged", "Nothing of it was used. Take another one.";
    /// Their data opens when they sign in.
    PersonLocked = "person-locked", 423, "This person's data opens only when they sign in", "They have to sign in themselves.";
    /// Too many wrong passwords.
    SlowDown = "slow-down", 429, "Too many wrong passwords", "Wait, then try again. Nothing is lost.";
    /// More requests than one token may have at once, or in a time.
    TooManyRequests = "too-many-requests", 429, "This program asks too much at once", "Wait a moment, then try again.";
    /// A defect of AICO.
    Internal = "internal", 500, "Something went wrong inside AICO", "Try again. If it stays, run `aico doctor`.";
    /// Data is damaged, missing, or not what was left here.
    Damaged = "damaged", 500, "The stored data is damaged", "Nothing was changed. Run `aico doctor`, and restore a backup if it says so.";
    /// The data was written by a newer program.
    NewerData = "newer-data", 500, "The data was written by a newer AICO", "Start the newer program again.";
    /// Permissions, owner, symbolic link.
    FolderUnusable = "folder-unusable", 500, "The data folder can't be used", "Check that the folder belongs to you and can be written.";
    /// The model could not do it.
    ModelFailed = "model-failed", 502, "The model failed", "Look at the model's state, or choose another one.";
    /// Nobody listens where a program that runs models should.
    EngineAbsent = "engine-absent", 502, "The program that runs this model does not run", "Start it, or choose another model.";
    /// The network does not lead to it.
    EngineUnreachable = "engine-unreachable", 502, "The server that runs this model can't be reached", "Look at the network and at the address in the configuration.";
    /// Its certificate is not trusted.
    EngineCertificate = "engine-certificate", 502, "The server that runs this model can't prove who it is", "Let this machine trust its certificate, or correct the address.";
    /// The way to it is not encrypted.
    EngineUnencrypted = "engine-unencrypted", 502, "The way to the server that runs this model is not encrypted", "Use an https address: docs/engines.md.";
    /// It refuses the key, or there is none.
    EngineKey = "engine-key", 502, "The server that runs this model refuses the key", "Set its key anew: `aico config secret set NAME`.";
    /// What answers there is something else.
    EngineOtherProgram = "engine-other-program", 502, "Another program runs in the place of the one that runs this model", "Correct the address in the configuration, or end that program.";
    /// Older than what AICO can talk to.
    EngineTooOld = "engine-too-old", 502, "The program that runs this model is too old", "Bring it up to date.";
    /// It does not understand the question.
    EngineRefused = "engine-refused", 502, "The program that runs this model does not understand the question", "Bring it or AICO up to date.";
    /// It was to be started, and does not start.
    EngineNotStarted = "engine-not-started", 502, "The program that runs this model does not start", "Start it by hand to see what it says, or install it anew.";
    /// It failed at its work.
    EngineFailed = "engine-failed", 502, "The program that runs this model failed", "Ask again. If it stays so, look at its own log, or choose another model.";
    /// Its answer ended before its end.
    EngineCutOff = "engine-cut-off", 502, "The program that runs this model ended in the middle", "Ask again. If it stays so, look at its own log, or choose another model.";
    /// Its answer is not what it should be.
    EngineUnreadable = "engine-unreadable", 502, "What the program that runs this model answered can't be read", "Ask again. If it stays so, look at its own log, or choose another model.";
    /// It failed several times, and is left alone for a while.
    EngineResting = "engine-resting", 503, "The program that runs this model failed several times and is left alone for a while", "Wait, or choose another model.";
    /// It did not connect, begin or go on in time.
    EngineTimeout = "engine-timeout", 504, "The program that runs this model takes too long", "Ask again. If it stays so, look at its own log, or choose another model.";
    /// No way to where something is downloaded from.
    Offline = "offline", 502, "The server can't be reached", "Check this computer's connection. What was downloaded is kept.";
    /// Nothing more comes.
    DownloadFailed = "download-failed", 502, "The download failed", "Ask for it again later. What was downloaded is kept.";
    /// Other bytes than the catalogue's.
    DownloadWrong = "download-wrong", 502, "This is not the file of the catalogue", "Nothing of it was used. Take another source or another model.";
    /// To this machine, to the home network, or without encryption.
    AddressRefused = "address-refused", 502, "The download leads where it may not go", "If it is a server of your own, name it as models.mirror in the configuration.";
    /// No key is in memory.
    Locked = "locked", 503, "AICO is locked", "Unlock it with the master password: in the browser or with `aico unlock`.";
    /// The daemon is ending.
    Stopping = "stopping", 503, "AICO is stopping", "Start it again with `aico serve`.";
    /// A part of AICO is starting or not there.
    Unavailable = "unavailable", 503, "A part of AICO is not ready", "Try again in a moment.";
    /// The limit of work in progress is reached.
    Busy = "busy", 503, "AICO has too much to do right now", "Try again in a moment.";
    /// A part of AICO did not answer in time.
    TookTooLong = "took-too-long", 504, "This took too long", "Try again.";
    /// The disk takes long for what is written. Told by `/readyz`; requests wait.
    StorageSlow = "storage-slow", 503, "The disk is slow", "See what else uses the disk, and how it is.";
    /// Reading or writing failed, and not for want of room.
    StorageFailing = "storage-failing", 500, "The disk failed", "What was acknowledged is kept. Make a backup to another disk while this one can be read, and look at the system's log and the disk's own report (smartctl -a).";
    /// No space left.
    StorageFull = "storage-full", 507, "The disk is full", "Free some space on the disk; AICO goes on by itself.";
    /// Remounted, or given up on by the system after errors.
    StorageReadOnly = "storage-read-only", 507, "The disk can only be read", "What is there can be read. See why the system took the disk to be read-only (its log tells), then make it writable; AICO goes on by itself.";
}

impl Code {
    /// The code that a module's fault carries; `None` for one that the API does not know.
    fn of_fault(code: &str) -> Option<Self> {
        match code {
            "refused" => Some(Self::Forbidden),
            "store-damaged" => Some(Self::Damaged),
            // What one module said to another; the caller's request was well formed.
            "malformed" => Some(Self::Internal),
            "nobody-serves" | "server-died" | "model-changed" => Some(Self::Unavailable),
            "deadline-passed" => Some(Self::TookTooLong),
            _ => Self::ALL
                .iter()
                .copied()
                .find(|known| known.as_str() == code)
                // Of a newer module: its words say what it was.
                .or_else(|| code.starts_with("engine-").then_some(Self::EngineFailed)),
        }
    }
}

/// When what was busy is worth another try.
const SOON: Duration = Duration::from_secs(2);

/// A failure on its way to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    code: Code,
    title: Option<String>,
    detail: Option<String>,
    what_to_do: Option<String>,
    retry_after: Option<Duration>,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self {
            code,
            title: None,
            detail: None,
            what_to_do: None,
            retry_after: None,
        }
    }
}

impl Problem {
    /// With a sentence about this case. It must not hold personal data.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With a time after which a repeat makes sense.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// All its sentences in one line, for shapes that have one.
    #[must_use]
    pub(crate) fn sentences(&self) -> String {
        let document = self.document();
        let parts = [Some(document.title), document.detail, document.what_to_do];
        let mut line = String::new();
        for part in parts.into_iter().flatten() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&part);
            if !part.ends_with(['.', '!', '?']) {
                line.push('.');
            }
        }
        line
    }

    /// After which time a repeat makes sense.
    pub(crate) fn wait(&self) -> Option<u64> {
        self.retry_after.map(seconds)
    }

    /// What went wrong.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The document that is sent.
    #[must_use]
    pub fn document(&self) -> ProblemDocument {
        ProblemDocument {
            kind: format!("urn:aico:problem:{}", self.code.as_str()),
            title: self
                .title
                .clone()
                .unwrap_or_else(|| self.code.title().to_owned()),
            status: self.code.status().as_u16(),
            code: self.code,
            detail: self.detail.clone(),
            what_to_do: self
                .what_to_do
                .clone()
                .or_else(|| self.code.advice().map(str::to_owned)),
            retry_after_seconds: self.retry_after.map(seconds),
        }
    }
}

/// Rounded up: a client that waits exactly that long must not be too early.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// A problem as RFC 9457 has it, with AICO's own members.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "urn:aico:problem:not-found",
    "title": "There is no such thing",
    "status": 404,
    "code": "not-found"
}))]
pub struct ProblemDocument {
    /// `urn:aico:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line for people.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// What to decide by.
    pub code: Code,
    /// A sentence about this case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What the person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<String>,
    /// As in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.document()).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.code.status();
        // For addresses that tell errors in another shape.
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            // No `Basic`: browsers would open their own dialogue.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == Code::UpgradeNeeded {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        response
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::SignInNeeded => Code::SignInNeeded.into(),
            Denied::Forbidden => Code::Forbidden.into(),
            Denied::NotFound => Code::NotFound.into(),
        }
    }
}

impl Code {
    /// Of a sort of error of the home.
    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::AlreadySetUp => Code::AlreadySetUp,
            ErrorKind::NotSetUp => Code::NotSetUp,
            ErrorKind::Locked => Code::Locked,
            ErrorKind::Stopping => Code::Stopping,
            ErrorKind::WrongPassword => Code::WrongPassword,
            ErrorKind::WrongPhrase => Code::WrongPhrase,
            ErrorKind::PhraseInvalid => Code::PhraseInvalid,
            ErrorKind::Keychain(KeychainState::Locked) => Code::KeychainLocked,
            ErrorKind::Keychain(KeychainState::Absent) => Code::KeychainAbsent,
            ErrorKind::Keychain(KeychainState::Changed) => Code::KeychainChanged,
            ErrorKind::Keychain(KeychainState::Wrong) => Code::KeychainWrong,
            ErrorKind::SignInFailed => Code::SignInFailed,
            ErrorKind::SlowDown { .. } => Code::SlowDown,
            ErrorKind::WeakPassword => Code::PasswordTooWeak,
            ErrorKind::SetupCode { expired: false } => Code::SetupCodeWrong,
            ErrorKind::SetupCode { expired: true } => Code::SetupCodeExpired,
            ErrorKind::NameTaken => Code::NameTaken,
            ErrorKind::NameInvalid => Code::NameInvalid,
            ErrorKind::GrantInvalid => Code::GrantInvalid,
            ErrorKind::ModuleExists => Code::ModuleExists,
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::TokenConflict => Code::Conflict,
            ErrorKind::OwnerStays | ErrorKind::Rotation => Code::Conflict,
            ErrorKind::PersonLocked => Code::PersonLocked,
            ErrorKind::TokenInvalid => Code::TokenInvalid,
            ErrorKind::StorageFull => Code::StorageFull,
            ErrorKind::StorageReadOnly => Code::StorageReadOnly,
            ErrorKind::StorageFailing => Code::StorageFailing,
            ErrorKind::Busy => Code::Busy,
            ErrorKind::TargetUnusable => Code::TargetUnusable,
            ErrorKind::ArchiveDamaged => Code::ArchiveDamaged,
            ErrorKind::BackupConflict => Code::Conflict,
            ErrorKind::Damaged => Code::Damaged,
            ErrorKind::NewerData => Code::NewerData,
            ErrorKind::FolderUnusable => Code::FolderUnusable,
            ErrorKind::Invalid => Code::Invalid,
            ErrorKind::Other => Code::Internal,
        }
    }
}

impl From<HomeError> for Problem {
    fn from(error: HomeError) -> Self {
        let code = Code::of(error.kind());
        if code.status() == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(
                code = code.as_str(),
                error = %chain(&error),
                "a request failed because of the stored data or the system"
            );
        }
        let mut problem = Self::from(code);
        match code {
            // Their own sentence says more than the title: which rule a name or password broke.
            Code::PasswordTooWeak
            | Code::NameInvalid
            | Code::GrantInvalid
            | Code::PhraseInvalid
            | Code::Invalid
            | Code::KeychainLocked
            | Code::KeychainAbsent
            | Code::KeychainChanged
            | Code::KeychainWrong => {
                problem.detail = Some(error.to_string());
            }
            // The path and what the system says of it: those who name a folder know it already.
            Code::Damaged if matches!(error, HomeError::PersonDamaged { .. }) => {
                problem.title = Some(sentence(&error.to_string()));
                problem.detail = Some(chain(&error).into_owned());
            }
            Code::TargetUnusable | Code::ArchiveDamaged | Code::StorageFailing => {
                problem.detail = Some(chain(&error).into_owned());
            }
            Code::Conflict => problem.title = Some(sentence(&error.to_string())),
            // Why it takes so long, and how far it is.
            Code::Busy if matches!(error, HomeError::Updating(_)) => {
                problem.title = Some(sentence(&error.to_string()));
                problem.detail = error.detail();
            }
            // How much, for a change of keys.
            Code::StorageFull if matches!(error, HomeError::NoRoom { .. }) => {
                problem.detail = Some(sentence(&error.to_string()));
            }
            _ => {}
        }
        match error.kind() {
            ErrorKind::SlowDown { retry_after } => problem.retry_after = Some(retry_after),
            ErrorKind::Busy => problem.retry_after = Some(SOON),
            _ => {}
        }
        // The fixed advice of the code stands unless the error knows better (a command, say).
        problem.what_to_do = error.what_to_do();
        problem
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let Some(code) = Code::of_fault(&fault.code) else {
            tracing::warn!(code = %fault.code, "a module failed with a code that the API does not know");
            return Code::Internal.into();
        };
        let text = |text: String| (!text.is_empty()).then_some(text);
        Self {
            code,
            title: text(fault.title),
            detail: text(fault.detail),
            what_to_do: text(fault.what_to_do),
            retry_after: matches!(code, Code::Busy | Code::EngineResting).then_some(SOON),
        }
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Fault(fault) => fault.into(),
            RequestError::NobodyServes { .. }
            | RequestError::ServerGone
            | RequestError::LinkLost => Code::Unavailable.into(),
            RequestError::DeadlinePassed => Code::TookTooLong.into(),
            other => {
                tracing::error!(error = %chain(&other), "a module could not be asked");
                Code::Internal.into()
            }
        }
    }
}

/// The error and its causes in one line, for the log.
fn chain(error: &dyn std::error::Error) -> Cow<'static, str> {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    Cow::Owned(line)
}

pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().collect::<String>() + letters.as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_have_an_error_status() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code:?} twice");
            assert!(code.status().is_client_error() || code.status().is_server_error());
            let written = serde_json::to_value(code).unwrap();
            assert_eq!(written, code.as_str());
        }
    }

    #[test]
    fn faults_of_modules_keep_their_words_and_get_their_status() {
        for fault in [
            Fault::not_found("x"),
            Fault::invalid("x"),
            Fault::conflict("x"),
            Fault::refused("x"),
            Fault::too_long("x"),
            Fault::busy("x"),
            Fault::locked(),
            Fault::storage_full(),
            Fault::storage_read_only(),
            Fault::storage_failing(),
            Fault::model_failed("x"),
            Fault::internal("x"),
        ] {
            let title = fault.title.clone();
            let code = fault.code.clone();
            let problem = Problem::from(fault);
            assert_eq!(problem.document().title, title);
            assert!(
                problem.code() != Code::Internal || code == "internal",
                "{code}"
            );
        }
        assert_eq!(
            Problem::from(Fault::new("brand-new", "x")).code(),
            Code::Internal
        );
    }

    #[test]
    fn an_update_of_the_data_is_told_with_how_far_it_is() {
        let now = aico_access::MigrationProgress {
            percent: 40,
            left: Some(Duration::from_secs(35)),
        };
        let document = Problem::from(HomeError::Updating(now)).document();
        assert_eq!((document.status, document.code), (503, Code::Busy));
        assert_eq!(
            document.title,
            "Your data is being updated for this version of AICO"
        );
        let detail = document.detail.unwrap();
        assert!(
            detail.contains("40 %") && detail.contains("35 s"),
            "{detail}"
        );
        assert!(document.what_to_do.unwrap().contains("by itself"));
        assert_eq!(document.retry_after_seconds, Some(2));
    }

    #[test]
    fn waits_are_rounded_up() {
        let problem = Problem::from(Code::SlowDown).retry_after(Duration::from_millis(1001));
        assert_eq!(problem.document().retry_after_seconds, Some(2));
        assert_eq!(problem.into_response().headers()[header::RETRY_AFTER], "2");
    }
}

//! What can go wrong at home, told so that a person can act on it.

use std::path::PathBuf;
use std::time::Duration;

use aico_store::{MigrationProgress, OpenError, RegistryError, StoreError};
use aico_vault::archive::ArchiveError;
use aico_vault::{
    EncryptedFileError, FileError, KeychainError, KeychainState, OwnerPasswordError, PasswordError,
    PersonKeyError, PhraseError, Refusal, RotateError, UnlockError, VaultError, WeakPassword,
};

use crate::backup::{self, BackupError};
use crate::keys;
use crate::older_copy;
use crate::secrets;
use crate::{GrantError, ModuleNameError, NameError, Rescue, SecretError, Stage};

/// A failure of [`crate::Home`]. Texts never hold a name, a password or chat.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// There is a vault already.
    #[error("AICO is set up already")]
    AlreadySetUp,
    /// There is no vault yet.
    #[error("AICO is not set up yet")]
    NotSetUp,
    /// No key is in memory.
    #[error("AICO is locked")]
    Locked,
    /// The daemon is ending.
    #[error("AICO is stopping")]
    Stopping,
    /// Not the master password, or not this person's.
    #[error("the password is wrong")]
    WrongPassword,
    /// Not the recovery phrase of this vault.
    #[error("the recovery phrase is wrong")]
    WrongPhrase,
    /// Not a recovery phrase at all.
    #[error("this is not a recovery phrase: {0}")]
    BadPhrase(#[from] PhraseError),
    /// A keychain does not do what it is asked for.
    #[error("{name} can't be used: {source}")]
    Keychain {
        /// How people call it.
        name: String,
        /// In which state it is.
        #[source]
        source: KeychainError,
    },
    /// There is no such kind of keychain.
    #[error("there is no keychain called that")]
    NoSuchKeychain {
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// Unknown name and wrong password alike.
    #[error("the name or the password is wrong")]
    SignInFailed,
    /// Too many wrong passwords for this account.
    #[error("too many wrong passwords")]
    SlowDown {
        /// When the next try counts.
        retry_after: Duration,
    },
    /// Not a password that can be typed at all.
    #[error("this can't be used as a password: {0}")]
    BadPassword(#[source] PasswordError),
    /// Too easy to guess.
    #[error("this password is too easy to guess: {0}")]
    WeakPassword(#[source] WeakPassword),
    /// The one-time code is not the one that was printed.
    #[error("the set-up code is wrong")]
    SetupCodeWrong,
    /// The one-time code was right once.
    #[error("the set-up code has expired")]
    SetupCodeExpired,
    /// Somebody is called that.
    #[error("somebody here has that name already")]
    NameTaken,
    /// Not a name.
    #[error("this can't be used as a name: {0}")]
    BadName(#[from] NameError),
    /// Not a name for a module.
    #[error("this can't be a module's name: {0}")]
    BadModuleName(#[from] ModuleNameError),
    /// Not something that a module can be granted.
    #[error("this can't be granted: {0}")]
    BadGrant(#[from] GrantError),
    /// A module of that name, or with that key, is admitted already.
    #[error("a module of this name or with this key is admitted already")]
    ModuleExists,
    /// The person has a token of that name already.
    #[error("you have a token of that name already")]
    TokenExists,
    /// More named tokens than anybody needs.
    #[error("you have {most} named tokens already, which is the most", most = crate::TOKENS_MOST)]
    TooManyTokens,
    /// No such person or session.
    #[error("there is no such person")]
    NotFound,
    /// The owner can't be removed.
    #[error("the owner can't be removed")]
    OwnerStays,
    /// The owner's own password is the master password.
    #[error(
        "the owner can't be sealed: their own password is the master password, which opens everything else"
    )]
    OwnerIsOpen,
    /// Their key has no wrap that opens unattended.
    #[error("this person's data opens only when they sign in")]
    PersonLocked,
    /// No session belongs to this token any more.
    #[error("the session has ended")]
    TokenInvalid,
    /// The vault's files.
    #[error("the vault can't be opened")]
    Unlock(#[source] UnlockError),
    /// The vault's files, while unlocked.
    #[error("the vault can't be changed")]
    Vault(#[source] VaultError),
    /// A person's keyring.
    #[error("a person's keyring can't be opened")]
    Keyring(#[source] aico_vault::PersonKeyError),
    /// A database at opening.
    #[error("a store can't be opened")]
    Open(#[source] OpenError),
    /// The store of who asks is being brought up to this program's version.
    #[error("your data is being updated for this version of AICO")]
    Updating(MigrationProgress),
    /// A person's database or keyring is damaged; nobody else's is.
    #[error("a person's data is damaged")]
    PersonDamaged {
        /// What it was met with.
        #[source]
        source: Box<HomeError>,
        /// Where they can be put back from.
        rescue: Rescue,
    },
    /// A database in use.
    #[error("a store failed")]
    Store(#[source] StoreError),
    /// The data folder itself.
    #[error("{path} can't be used", path = .path.display())]
    Folder {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of the data folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// An archive.
    #[error("the backup can't be used")]
    Archive(#[source] ArchiveError),
    /// A backup, a restore or an export, for a reason that is not the data's.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Something is in the folder's place that must not be.
    #[error("{path} {why}", path = .path.display())]
    UnsafeFolder {
        /// What was looked at.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
        /// The command that mends it.
        mend: String,
    },
    /// Not something that can be kept as a secret of the configuration.
    #[error("{0}")]
    BadSecret(#[from] SecretError),
    /// The file of the configuration's secrets.
    #[error("the secrets of the configuration can't be used")]
    Secrets(#[from] EncryptedFileError),
    /// Keys are being changed.
    #[error("keys are being changed")]
    KeysChange,
    /// Another change of keys was cut off before: it goes on now, and what is asked for comes after.
    #[error("an earlier change of keys was cut off; it goes on now, and this one has not begun")]
    EarlierChange,
    /// A key can't be changed like this, or not now: the sentence says what can be done.
    #[error("{0}")]
    Rotation(&'static str),
    /// Changing keys needs room for copies.
    #[error("changing the keys needs {} free on the disk, and there are {}", mebibytes(*.needed), mebibytes(*.free))]
    NoRoom {
        /// Bytes that the largest copy takes, and some.
        needed: u64,
        /// Bytes that there are.
        free: u64,
    },
    /// The files beside the stores could not be put under another key.
    #[error("files could not be put under the new key")]
    Parts(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The random number generator or the signature code refused to work.
    #[error("the cryptographic library failed")]
    Crypto,
    /// A background task ended before it answered.
    #[error("an internal task ended early")]
    Task,
}

/// The kinds that callers tell apart; each has one status in the API and one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// 409
    AlreadySetUp,
    /// 409
    NotSetUp,
    /// 503
    Locked,
    /// 503
    Stopping,
    /// 401
    WrongPassword,
    /// 401
    WrongPhrase,
    /// 422
    PhraseInvalid,
    /// 409, one code for each state
    Keychain(KeychainState),
    /// 401
    SignInFailed,
    /// 429
    SlowDown {
        /// When the next try counts.
        retry_after: Duration,
    },
    /// 422
    WeakPassword,
    /// 403
    SetupCode {
        /// It was the right one, too late.
        expired: bool,
    },
    /// 409
    NameTaken,
    /// 422
    NameInvalid,
    /// 422
    GrantInvalid,
    /// 409
    ModuleExists,
    /// 404
    NotFound,
    /// 409
    TokenConflict,
    /// 409
    OwnerStays,
    /// 409
    Rotation,
    /// 423
    PersonLocked,
    /// 401
    TokenInvalid,
    /// 507
    StorageFull,
    /// 507: reading goes on.
    StorageReadOnly,
    /// 500: the disk failed at reading or writing.
    StorageFailing,
    /// 503: nothing was done; a repeat may do.
    Busy,
    /// 500: data is damaged, missing, or not what was left here.
    Damaged,
    /// 500: the data was written by a newer program.
    NewerData,
    /// 500: permissions, owner, symbolic link.
    FolderUnusable,
    /// 422: the folder for backups or exports.
    TargetUnusable,
    /// 422: an archive is damaged, or is none.
    ArchiveDamaged,
    /// 422
    Invalid,
    /// 409: a backup or restore contradicts what is.
    BackupConflict,
    /// 500
    Other,
}

impl HomeError {
    /// Which of the kinds this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self.told_kind() {
            ErrorKind::Damaged
            | ErrorKind::FolderUnusable
            | ErrorKind::TargetUnusable
            | ErrorKind::ArchiveDamaged
            | ErrorKind::Other
                if aico_vault::fs::disk_failed(self) =>
            {
                ErrorKind::StorageFailing
            }
            kind => kind,
        }
    }

    fn told_kind(&self) -> ErrorKind {
        match self {
            Self::AlreadySetUp => ErrorKind::AlreadySetUp,
            Self::NotSetUp => ErrorKind::NotSetUp,
            Self::Locked => ErrorKind::Locked,
            Self::Stopping => ErrorKind::Stopping,
            Self::WrongPassword => ErrorKind::WrongPassword,
            Self::WrongPhrase => ErrorKind::WrongPhrase,
            Self::BadPhrase(_) => ErrorKind::PhraseInvalid,
            Self::Keychain { source, .. } => ErrorKind::Keychain(source.state()),
            Self::SignInFailed => ErrorKind::SignInFailed,
            Self::SlowDown { retry_after } => ErrorKind::SlowDown {
                retry_after: *retry_after,
            },
            Self::BadPassword(_) | Self::WeakPassword(_) => ErrorKind::WeakPassword,
            Self::SetupCodeWrong => ErrorKind::SetupCode { expired: false },
            Self::SetupCodeExpired => ErrorKind::SetupCode { expired: true },
            Self::NameTaken => ErrorKind::NameTaken,
            Self::BadName(_) => ErrorKind::NameInvalid,
            Self::BadModuleName(_) | Self::BadGrant(_) => ErrorKind::GrantInvalid,
            Self::ModuleExists => ErrorKind::ModuleExists,
            Self::TokenExists | Self::TooManyTokens => ErrorKind::TokenConflict,
            Self::NotFound | Self::NoSuchKeychain { .. } => ErrorKind::NotFound,
            Self::OwnerStays | Self::OwnerIsOpen => ErrorKind::OwnerStays,
            Self::KeysChange | Self::EarlierChange | Self::Rotation(_) => ErrorKind::Rotation,
            Self::NoRoom { .. } => ErrorKind::StorageFull,
            Self::Parts(error) => disk_kind(&**error).unwrap_or(ErrorKind::Other),
            Self::PersonLocked => ErrorKind::PersonLocked,
            Self::TokenInvalid => ErrorKind::TokenInvalid,
            Self::UnsafeFolder { .. } => ErrorKind::FolderUnusable,
            Self::Unlock(error) => unlock_kind(error),
            Self::Vault(error) => vault_kind(error),
            Self::Keyring(PersonKeyError::Sealed { .. }) => ErrorKind::PersonLocked,
            Self::Keyring(error) => keyring_kind(error),
            Self::Open(error) => open_kind(error),
            Self::Updating(_) => ErrorKind::Busy,
            Self::Store(error) => store_kind(error),
            Self::PersonDamaged { .. } => ErrorKind::Damaged,
            Self::Folder { source, .. } => io_kind(source).unwrap_or(ErrorKind::FolderUnusable),
            Self::File(FileError::Io { .. }) => ErrorKind::FolderUnusable,
            Self::File(error) => file_kind(error),
            Self::Archive(error) => backup::archive_kind(error),
            Self::Backup(error) => backup::backup_kind(error),
            Self::BadSecret(_) => ErrorKind::Invalid,
            Self::Secrets(EncryptedFileError::File(error)) => file_kind(error),
            Self::Secrets(EncryptedFileError::Unsupported { .. }) => ErrorKind::NewerData,
            Self::Secrets(_) => ErrorKind::Damaged,
            Self::Crypto | Self::Task => ErrorKind::Other,
        }
    }

    /// A sentence about how far it is, where waiting is all there is to do.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let Self::Updating(now) = self else {
            return None;
        };
        let percent = now.percent;
        Some(match now.left {
            Some(left) => format!(
                "{percent} % is done, and it takes about {} s more.",
                left.as_secs().max(1)
            ),
            None => format!("{percent} % is done."),
        })
    }

    /// What the person can do about it.
    #[must_use]
    pub fn what_to_do(&self) -> Option<String> {
        if let Self::NoSuchKeychain { known } = self {
            return Some(format!("Choose one of: {}.", known.join(", ")));
        }
        if let Self::Backup(error) = self {
            return error.what_to_do();
        }
        if let Self::PersonDamaged { rescue, .. } = self {
            return Some(rescue.advice("NAME"));
        }
        if let Self::Store(StoreError::ReadOnly) = self {
            return Some(older_copy::DECIDE.to_owned());
        }
        if let Self::Updating(_) = self {
            return Some(UPDATING.to_owned());
        }
        if let Self::Secrets(error) = self
            && let Some(advice) = secrets::advice(error)
        {
            return Some(advice);
        }
        let text = match self.kind() {
            ErrorKind::TargetUnusable => {
                "Choose a folder that is there and that you may write to: --to FOLDER"
            }
            ErrorKind::ArchiveDamaged => {
                "Nothing of it was used. Take another one: aico backup list"
            }
            ErrorKind::BackupConflict => return None,
            ErrorKind::NotFound if matches!(self, Self::Archive(_)) => {
                "See which there are: aico backup list"
            }
            ErrorKind::NewerData if matches!(self, Self::Archive(_)) => {
                "Restore it with the AICO that made it, or a newer one."
            }
            ErrorKind::AlreadySetUp => "Unlock it with the master password.",
            ErrorKind::NotSetUp => {
                "Open the address that `aico serve` prints, or run `aico setup`."
            }
            ErrorKind::Locked => {
                "Unlock it with the master password: in the browser or with `aico unlock`."
            }
            ErrorKind::Stopping => "Start it again with `aico serve`.",
            ErrorKind::WrongPassword | ErrorKind::SignInFailed => {
                "Try again; mind Caps Lock and the keyboard's layout."
            }
            ErrorKind::WrongPhrase => {
                "Check each word and their order. A phrase that was replaced by a new one opens \
                 nothing here any more."
            }
            ErrorKind::PhraseInvalid => "Type the twelve words as they were written down.",
            ErrorKind::Keychain(state) => keys::advice(state),
            ErrorKind::SlowDown { .. } => "Wait, then try again. Nothing is lost.",
            ErrorKind::WeakPassword => {
                "Take a longer one: five random words are easy to remember and hard to guess."
            }
            ErrorKind::SetupCode { .. } => {
                "Use the address that `aico serve` printed last; restarting it prints a new one."
            }
            ErrorKind::NameTaken => "Choose another name.",
            ErrorKind::NameInvalid => "Use 1 to 64 letters, digits, spaces or signs.",
            ErrorKind::GrantInvalid => "See docs/modules.md for what a module can be granted.",
            ErrorKind::ModuleExists => {
                "Choose another name, or give it new keys: aico module rotate NAME."
            }
            ErrorKind::TokenConflict => {
                "Revoke the one that is no longer needed, or choose another name."
            }
            ErrorKind::PersonLocked => "They have to sign in themselves.",
            ErrorKind::TokenInvalid => "Sign in again.",
            ErrorKind::StorageFull => "Free some space on the disk; AICO goes on by itself.",
            ErrorKind::StorageReadOnly => match self.remount() {
                Some(mend) => return Some(format!("{READ_ONLY} {mend}")),
                None => READ_ONLY,
            },
            ErrorKind::StorageFailing => FAILING,
            ErrorKind::Busy => "Nothing was done. Try again in a moment.",
            ErrorKind::Damaged => {
                "Nothing was changed. Run `aico doctor`, and restore a backup if it says so."
            }
            ErrorKind::NewerData => {
                "Start the newer program again, or restore a backup from before."
            }
            ErrorKind::FolderUnusable => match self {
                Self::UnsafeFolder { mend, .. }
                | Self::Open(OpenError::NotPrivate { mend, .. }) => return Some(mend.clone()),
                _ => "Check that the folder belongs to you and can be written.",
            },
            ErrorKind::Rotation if matches!(self, Self::KeysChange | Self::EarlierChange) => {
                "Try again when that is finished: aico vault rotate --status."
            }
            ErrorKind::Rotation
            | ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::OwnerStays
            | ErrorKind::Other => return None,
        };
        Some(text.to_owned())
    }

    /// The command that makes the disk writable again, where nothing else is wrong with it.
    fn remount(&self) -> Option<&str> {
        match self {
            Self::File(FileError::ReadOnly { mend, .. })
            | Self::Open(OpenError::StorageReadOnly { mend, .. })
            | Self::Unlock(UnlockError::File(FileError::ReadOnly { mend, .. }))
            | Self::Vault(VaultError::File(FileError::ReadOnly { mend, .. }))
            | Self::Keyring(PersonKeyError::File(FileError::ReadOnly { mend, .. })) => Some(mend),
            _ => None,
        }
    }

    pub(crate) fn wrong_stage(stage: Stage) -> Self {
        match stage {
            Stage::New => Self::NotSetUp,
            Stage::Locked => Self::Locked,
            Stage::Ready => Self::AlreadySetUp,
            Stage::Stopping => Self::Stopping,
        }
    }
}

const UPDATING: &str =
    "It goes on by itself. What you asked for was not done: try again in a moment.";

const READ_ONLY: &str = "What is there can be read. See why the system took the disk to be \
    read-only (its log tells), then make it writable; AICO goes on by itself.";

const FAILING: &str = "What was acknowledged is kept. Make a backup to another disk while this one \
    can be read, and look at the system's log and the disk's own report (smartctl -a).";

/// Of the system's refusals those that are the disk's.
pub(crate) fn io_kind(error: &std::io::Error) -> Option<ErrorKind> {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            Some(ErrorKind::StorageFull)
        }
        std::io::ErrorKind::ReadOnlyFilesystem => Some(ErrorKind::StorageReadOnly),
        _ => None,
    }
}

/// Whether the disk is what another part's error comes from.
fn disk_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let here = error.downcast_ref::<std::io::Error>().and_then(io_kind);
    here.or_else(|| error.source().and_then(disk_kind))
}

/// Rounded up, as people read it.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl From<RotateError> for HomeError {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Vault(error) => error.into(),
            _ => Self::KeysChange,
        }
    }
}

fn unlock_kind(error: &UnlockError) -> ErrorKind {
    match error {
        UnlockError::WrongPassword => ErrorKind::WrongPassword,
        UnlockError::WrongPhrase => ErrorKind::WrongPhrase,
        UnlockError::Absent { .. } => ErrorKind::NotSetUp,
        UnlockError::Unsupported { .. } => ErrorKind::NewerData,
        UnlockError::File(error) => file_kind(error),
        UnlockError::OutOfMemory => ErrorKind::Other,
        UnlockError::Registry(error) => refusal_kind(error.refusal()),
        _ => ErrorKind::Damaged,
    }
}

fn vault_kind(error: &VaultError) -> ErrorKind {
    match error {
        VaultError::File(error) => file_kind(error),
        VaultError::Unsupported { .. } => ErrorKind::NewerData,
        VaultError::Registry(error) => refusal_kind(error.refusal()),
        VaultError::Damaged { .. } | VaultError::Forged => ErrorKind::Damaged,
        _ => ErrorKind::Other,
    }
}

fn refusal_kind(refusal: Refusal) -> ErrorKind {
    match refusal {
        Refusal::StorageFull => ErrorKind::StorageFull,
        Refusal::ReadOnly => ErrorKind::StorageReadOnly,
        Refusal::DiskFailed => ErrorKind::StorageFailing,
        _ => ErrorKind::Damaged,
    }
}

fn keyring_kind(error: &PersonKeyError) -> ErrorKind {
    match error {
        PersonKeyError::File(error) => file_kind(error),
        PersonKeyError::Unsupported { .. } => ErrorKind::NewerData,
        PersonKeyError::OutOfMemory => ErrorKind::Other,
        _ => ErrorKind::Damaged,
    }
}

/// What the system refused is no damage.
fn file_kind(error: &FileError) -> ErrorKind {
    match error {
        FileError::StorageFull { .. } => ErrorKind::StorageFull,
        FileError::ReadOnly { .. } => ErrorKind::StorageReadOnly,
        FileError::Insecure { .. } | FileError::NotWritable { .. } => ErrorKind::FolderUnusable,
        _ => ErrorKind::Damaged,
    }
}

fn open_kind(error: &OpenError) -> ErrorKind {
    match error {
        OpenError::SchemaNewer { .. } => ErrorKind::NewerData,
        OpenError::StorageFull { .. } | OpenError::Registry(RegistryError::StorageFull) => {
            ErrorKind::StorageFull
        }
        OpenError::StorageReadOnly { .. } | OpenError::Registry(RegistryError::StorageReadOnly) => {
            ErrorKind::StorageReadOnly
        }
        OpenError::Registry(RegistryError::StorageFailing) => ErrorKind::StorageFailing,
        OpenError::MigrationFailed { source, .. } | OpenError::Engine { source, .. } => {
            match store_kind(source) {
                kind @ (ErrorKind::StorageFull
                | ErrorKind::StorageReadOnly
                | ErrorKind::StorageFailing) => kind,
                _ => ErrorKind::Damaged,
            }
        }
        OpenError::Io { source, .. } => io_kind(source).unwrap_or(ErrorKind::Damaged),
        OpenError::NotWritable { .. } | OpenError::NotPrivate { .. } => ErrorKind::FolderUnusable,
        _ => ErrorKind::Damaged,
    }
}

fn store_kind(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::StorageFull
        | StoreError::Registry(RegistryError::StorageFull)
        | StoreError::Unacknowledged(RegistryError::StorageFull) => ErrorKind::StorageFull,
        StoreError::StorageReadOnly
        | StoreError::Registry(RegistryError::StorageReadOnly)
        | StoreError::Unacknowledged(RegistryError::StorageReadOnly) => ErrorKind::StorageReadOnly,
        StoreError::Busy => ErrorKind::Busy,
        StoreError::Closed => ErrorKind::Locked,
        StoreError::Damaged { .. } | StoreError::ReadOnly => ErrorKind::Damaged,
        error if error.is_disk_failure() => ErrorKind::StorageFailing,
        _ => ErrorKind::Other,
    }
}

impl From<StoreError> for HomeError {
    fn from(error: StoreError) -> Self {
        match error {
            // Our own errors come back out of a transaction as they went in.
            StoreError::Caller(inner) => match inner.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Store(StoreError::Caller(other)),
            },
            StoreError::Closed => Self::Locked,
            other => Self::Store(other),
        }
    }
}

impl From<UnlockError> for HomeError {
    fn from(error: UnlockError) -> Self {
        match error {
            UnlockError::WrongPassword => Self::WrongPassword,
            UnlockError::WrongPhrase => Self::WrongPhrase,
            other => Self::Unlock(other),
        }
    }
}

impl From<OwnerPasswordError> for HomeError {
    fn from(error: OwnerPasswordError) -> Self {
        match error {
            OwnerPasswordError::Vault(error) => error.into(),
            OwnerPasswordError::Keyring(error) => Self::Keyring(error),
        }
    }
}

impl From<OpenError> for HomeError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<ArchiveError> for HomeError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::WrongPassword => Self::WrongPassword,
            ArchiveError::WrongPhrase => Self::WrongPhrase,
            ArchiveError::Cancelled => BackupError::Stopped.into(),
            other => Self::Archive(other),
        }
    }
}

impl From<VaultError> for HomeError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

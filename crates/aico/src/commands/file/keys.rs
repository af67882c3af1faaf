//! Where the key of a file comes from: the running daemon, or the vault itself when none runs.

use aico_access::{DataFolder, Home, Source};
use aico_config::Config;
use aico_vault::{FileKey, Key, Owner, Password, Purpose};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::cli::PasswordFrom;
use crate::client::Daemon;
use crate::commands::Context;
use crate::daemon::{claim, home_config};
use crate::exit::{Exit, Failure, sentence};
use crate::prompt;

/// Gives the keys of one person's files.
pub(super) enum Keys {
    /// Over the local socket: the owner without a password, others signed in with theirs.
    Daemon(Daemon),
    /// No daemon runs: the master password opens the vault, under the lock that a daemon takes.
    Home { home: Home, _folder: DataFolder },
}

impl Keys {
    pub(super) async fn find(context: &Context, from: &PasswordFrom) -> Result<Self, Failure> {
        let person = context.person.as_deref();
        // Without a password first: whether a daemon runs decides whose is asked.
        match Daemon::find(&context.places).await {
            Ok(daemon) if person.is_none() => Ok(Self::Daemon(daemon)),
            Ok(_) => Ok(Self::Daemon(
                Daemon::find_as(&context.places, person, from).await?,
            )),
            Err(failure) if failure.exit == Exit::NotRunning && person.is_none() => {
                Self::offline(context, from).await
            }
            Err(failure) => Err(failure),
        }
    }

    async fn offline(context: &Context, from: &PasswordFrom) -> Result<Self, Failure> {
        let data = context.places.data();
        // Nothing is made here: neither a folder nor a vault.
        if !data.join("home").exists() {
            return Err(aico_access::HomeError::NotSetUp.into());
        }
        let folder = claim(&context.places)?;
        let home = Home::open(home_config(data, Config::default().session.hours))?;
        let text = prompt::raw_password(from, "Master password")?;
        let password = Password::new(&text)
            .map_err(|error| Failure::new(Exit::Refused, sentence(&error.to_string())))?;
        home.unlock(&password, Source::local()).await?;
        Ok(Self::Home {
            home,
            _folder: folder,
        })
    }

    /// The key of the file with this id; of the epoch in its header, when it has one.
    pub(super) async fn get(&self, id: Uuid, epoch: Option<u32>) -> Result<FileKey, Failure> {
        let (owner, epoch, key) = match self {
            Self::Daemon(daemon) => return of_daemon(daemon, id, epoch).await,
            Self::Home { home, .. } => {
                let Some(owner) = home.local_principal().person() else {
                    return Err(aico_access::HomeError::Locked.into());
                };
                let found = home.file_key(owner, id.into_bytes(), epoch).await?;
                (owner.uuid(), found.epoch, found.key)
            }
        };
        Ok(file_key(key, epoch, owner, id))
    }

    /// Gives back what was opened: the stores are closed cleanly, the sessions stay.
    pub(super) async fn close(self) -> Result<(), Failure> {
        match self {
            Self::Daemon(_) => Ok(()),
            Self::Home { home, .. } => Ok(home.stop().await?),
        }
    }
}

/// From the daemon, for whoever its caller is.
pub(super) async fn of_daemon(
    daemon: &Daemon,
    id: Uuid,
    epoch: Option<u32>,
) -> Result<FileKey, Failure> {
    let epoch = epoch.map_or(String::new(), |epoch| format!("?epoch={epoch}"));
    let path = format!("/api/v1/me/files/{id}/key{epoch}");
    let mut answer = daemon.get(&path).await?;
    let hex = match answer["key"].take() {
        serde_json::Value::String(hex) => Zeroizing::new(hex),
        _ => return Err(odd()),
    };
    let mut bytes = Zeroizing::new([0; Key::LEN]);
    hex::decode_to_slice(hex.as_bytes(), &mut *bytes).map_err(|_| odd())?;
    let owner = answer["owner"].as_str().and_then(|id| id.parse().ok());
    let epoch = answer["epoch"].as_u64().and_then(|n| n.try_into().ok());
    let (Some(owner), Some(epoch)) = (owner, epoch) else {
        return Err(odd());
    };
    Ok(file_key(Key::from_bytes(&bytes), epoch, owner, id))
}

fn file_key(key: Key, epoch: u32, owner: Uuid, id: Uuid) -> FileKey {
    let owner = Owner::Person(owner.into_bytes());
    FileKey::from_derived(key, epoch, Purpose::EncryptedFile, owner, id.into_bytes())
}

fn odd() -> Failure {
    Failure::new(Exit::Unexpected, "The daemon's answer can't be read.")
        .do_this("Stop the daemon and start it again with this program: aico serve")
}

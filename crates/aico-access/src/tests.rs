//! A home at work, where what happens at once matters: what is held here decides the order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aico_contracts::ids::PersonId;
use aico_store::{Migration, ModuleMigrations, Progress};
use aico_vault::keychain::Keychains;
use aico_vault::{KdfCost, KeyId, Password, Purpose, WrapKind};
use jiff::Timestamp;

use crate::backup::{BackupRequest, Keep, RestoreRequest, RestoreSecret, restore, restore_person};
use crate::home::{PERSON_DB, person_folder};
use crate::stores::steady_with_key;
use crate::{
    CheckState, Checked, CheckedPart, ErrorKind, Home, HomeConfig, HomeError, JournalAnew,
    PartChecked, PartsError, Person, PersonName, Rotate, SealedParts, SetupProof, Source, Stage,
};

pub(crate) const OWNER: &str = "velvet harbour moss lantern";
pub(crate) const MEMBER: &str = "copper meadow violin seventeen";
const ANOTHER: &str = "granite teapot umbrella forest";

pub(crate) fn password(text: &str) -> Password {
    Password::new(text).unwrap()
}

pub(crate) fn config(data: &Path) -> HomeConfig {
    HomeConfig {
        data: data.to_owned(),
        kdf: KdfCost::minimum(),
        keychains: Arc::new(Keychains::new(Vec::new())),
        backups: data.join("backups"),
        configuration: None,
        token_hours: 24,
        system_migrations: Vec::new(),
        person_migrations: Vec::new(),
        person_exports: Vec::new(),
    }
}

/// Set up, and open.
async fn home(data: &Path) -> Home {
    set_up(config(data)).await
}

async fn set_up(config: HomeConfig) -> Home {
    let home = Home::open(config).unwrap();
    let done = home
        .set_up(SetupProof::LocalSocket, "Ada", &password(OWNER), "test")
        .await;
    done.unwrap();
    home
}

async fn add(home: &Home, name: &str) -> Person {
    home.add_person(name, &password(MEMBER)).await.unwrap()
}

/// Waits for a condition.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(waited.is_ok(), "{what} did not happen in time");
}

/// Another root key, and everything under it.
async fn rotate(home: &Home, compromised: bool) {
    let what = Rotate {
        root: true,
        compromised,
        ..Rotate::default()
    };
    let begun = home.rotate(what, Some(&password(OWNER)), "test").await;
    assert!(begun.unwrap().phrase.is_some());
    until("the change of keys", async || !home.rotation().running).await;
    let state = home.rotation();
    assert!(state.failed.is_none(), "{:?}", state.failed);
    let open = home.opened().unwrap();
    assert_eq!(open.vault.earlier_epoch(), None, "no key from before");
}

fn database(home: &Home, person: PersonId) -> PathBuf {
    person_folder(home.root(), person).join(PERSON_DB)
}

fn keyring(home: &Home, person: PersonId) -> PathBuf {
    person_folder(home.root(), person).join("keyring")
}

/// Damages the second half of a file; answers what it held.
fn damage(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let mut bad = bytes.clone();
    for byte in bad.iter_mut().skip(bytes.len() / 2) {
        *byte ^= 0x55;
    }
    std::fs::write(path, bad).unwrap();
    bytes
}

/// Epoch of the person's key that their open database is under.
async fn epoch_of_database(home: &Home, person: PersonId) -> Option<u32> {
    let store = home.store_of(person).await.unwrap();
    KeyId::from_number(store.key()).map(|key| key.epoch)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_person_keeps_nobody_elses_keys_from_being_changed() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let (ben, cleo) = (add(&home, "Ben").await.id, add(&home, "Cleo").await.id);
    let owner = home.opened().unwrap().owner;
    home.set_serving(true);
    home.lock().await.unwrap();
    let bens = damage(&database(&home, ben));
    let cleos = damage(&keyring(&home, cleo));
    home.unlock(&password(OWNER), "test").await.unwrap();

    rotate(&home, true).await;
    let mut waiting = home.pending_key_changes().await.unwrap();
    waiting.sort();
    let mut damaged = vec![ben, cleo];
    damaged.sort();
    assert_eq!(waiting, damaged);
    assert_eq!(epoch_of_database(&home, owner).await, Some(2));

    // A database that is put back opens with the key of then, and takes the present one.
    std::fs::write(database(&home, ben), bens).unwrap();
    home.store_of(ben).await.unwrap();
    until("Ben's database is under his key", async || {
        epoch_of_database(&home, ben).await == Some(2)
            && home.pending_key_changes().await.unwrap() == [cleo]
    })
    .await;

    // A keyring that is put back is under the root key from before: the own password brings it in.
    std::fs::write(keyring(&home, cleo), cleos).unwrap();
    let error = home.store_of(cleo).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let own = password(MEMBER);
    let session = home.sign_in_taking_phrase("Cleo", &own, "test");
    let session = session.await.unwrap();
    assert!(!session.keys_wait && session.phrase.is_none());
    until("Cleo's database is under her key", async || {
        epoch_of_database(&home, cleo).await == Some(2)
    })
    .await;
    assert!(home.pending_key_changes().await.unwrap().is_empty());

    // Nothing of it keeps the next one.
    rotate(&home, true).await;
    for person in [owner, ben, cleo] {
        assert_eq!(epoch_of_database(&home, person).await, Some(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_keyring_of_the_owner_keeps_no_master_password_from_being_changed() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let owner = home.opened().unwrap().owner;
    let phrase = home.new_phrase(&password(OWNER), "test").await.unwrap();
    home.lock().await.unwrap();
    let whole = damage(&keyring(&home, owner));

    let (now, then) = (password(ANOTHER), password(MEMBER));
    home.recover(&phrase, &now, "test").await.unwrap();
    home.sign_in("Ada", &now, "test").await.unwrap();
    let changed = home.change_password(owner, &now, &then, "test", None);
    changed.await.unwrap();
    home.lock().await.unwrap();
    home.unlock(&then, "test").await.unwrap();
    home.sign_in("Ada", &then, "test").await.unwrap();

    // Put back, it has the password of then, which keeps no keys from being changed.
    std::fs::write(keyring(&home, owner), whole).unwrap();
    let what = Rotate {
        root: true,
        compromised: true,
        ..Rotate::default()
    };
    home.rotate(what, Some(&then), "test").await.unwrap();
    until("the change of keys", async || !home.rotation().running).await;
    let state = home.rotation();
    assert!(state.failed.is_none(), "{:?}", state.failed);
    assert_eq!(epoch_of_database(&home, owner).await, Some(2));
}

/// What a check says of the secrets.
async fn secrets_checked(home: &Home) -> Vec<Checked> {
    let (tell, told) = std::sync::mpsc::channel();
    let checked = home.check_stores(false, move |checked| {
        if checked.part == CheckedPart::Secrets {
            tell.send(checked).unwrap();
        }
        true
    });
    checked.await.unwrap();
    told.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_secrets_keep_no_keys_from_being_changed_and_a_check_tells_of_them() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let path = home.root().join("secrets");
    let aside = home.root().join("secrets.damaged");
    let states = |all: &[Checked]| all.iter().map(|one| one.state).collect::<Vec<_>>();
    assert!(secrets_checked(&home).await.is_empty());
    home.set_secret("openai", "one").await.unwrap();
    assert_eq!(states(&secrets_checked(&home).await), [CheckState::Sound]);

    damage(&path);
    let bad = std::fs::read(&path).unwrap();
    let found = secrets_checked(&home).await;
    assert_eq!(states(&found), [CheckState::Damaged]);
    let command = format!("mv '{0}' '{0}.aside'", path.display());
    assert!(found[0].what_to_do.as_ref().unwrap().contains(&command));
    // What can't be read is not written over, and what helps is told.
    let error = home.set_secret("other", "two").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.what_to_do().unwrap().contains(&command));
    assert_eq!(std::fs::read(&path).unwrap(), bad);

    rotate(&home, false).await;
    assert!(!path.exists());
    assert_eq!(std::fs::read(&aside).unwrap(), bad);
    home.set_secret("openai", "one").await.unwrap();
    let found = secrets_checked(&home).await;
    assert_eq!(states(&found), [CheckState::Sound, CheckState::Damaged]);
    assert_eq!(found[1].path, aside);
    let advice = found[1].what_to_do.as_ref().unwrap();
    assert!(advice.contains("aico config secret set"), "{advice}");
    std::fs::remove_file(&aside).unwrap();
    assert_eq!(states(&secrets_checked(&home).await), [CheckState::Sound]);

    // Nothing of it keeps the next one, and what is whole goes along.
    rotate(&home, false).await;
    assert_eq!(*home.secret("openai").await.unwrap(), "one");
    assert!(!aside.exists());
    home.stop().await.unwrap();
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_can_not_be_used_now_are_not_taken_for_damaged() {
    use std::os::unix::fs::PermissionsExt as _;

    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let path = home.root().join("secrets");
    home.set_secret("openai", "one").await.unwrap();
    let open_to = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    open_to(0o644);
    let root = || Rotate {
        root: true,
        ..Rotate::default()
    };
    let begun = home.rotate(root(), Some(&password(OWNER)), "test").await;
    begun.map(drop).unwrap();
    until("the change of keys", async || !home.rotation().running).await;
    let failed = home.rotation().failed.unwrap();
    assert_eq!(failed.kind, ErrorKind::FolderUnusable, "{failed:?}");
    assert!(path.exists() && !home.root().join("secrets.damaged").exists());

    open_to(0o600);
    assert!(goes_on(&home, root()).await);
    assert_eq!(*home.secret("openai").await.unwrap(), "one");
    home.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_the_damaged_secrets_says_so_and_removes_no_older_one() {
    let data = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    home.set_secret("openai", "one").await.unwrap();
    let request = || BackupRequest {
        folder: Some(to.path().to_owned()),
        keep: Keep {
            daily: Some(1),
            weekly: None,
        },
        ..BackupRequest::default()
    };
    let whole = home.create_backup(request(), |_| true).await.unwrap();
    assert!(whole.secrets_left_out.is_none() && !whole.nothing_removed);
    damage(&home.root().join("secrets"));
    let made = home.create_backup(request(), |_| true).await.unwrap();
    let why = made.secrets_left_out.unwrap();
    assert!(why.contains("secrets"), "{why}");
    assert!(made.nothing_removed && made.removed.is_empty());
    assert!(made.left_out.is_empty() && whole.path.exists());
    home.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyring_out_of_a_backup_stays_only_with_everything_else_of_it() {
    const NOTES: ModuleMigrations = ModuleMigrations {
        module: "notes",
        migrations: &[Migration {
            version: 1,
            name: "notes",
            sql: "CREATE TABLE notes_note (id INTEGER PRIMARY KEY) STRICT;",
        }],
    };
    let data = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let with = |person_migrations| HomeConfig {
        person_migrations,
        ..config(data.path())
    };
    let home = set_up(with(vec![NOTES])).await;
    let ben = add(&home, "Ben").await.id;
    let request = BackupRequest {
        folder: Some(to.path().to_owned()),
        ..BackupRequest::default()
    };
    let archive = home.create_backup(request, |_| true).await.unwrap().path;
    let keyring = keyring(&home, ben);
    let on_system = async |home: Home, sql: &'static str| {
        let open = home.opened().unwrap();
        let done = open.system.write(|tx| Ok(tx.execute_batch(sql)?));
        done.await.unwrap();
        drop(open);
        home.stop().await.unwrap();
    };
    let can_not_be_noted = "CREATE TRIGGER refuse BEFORE INSERT ON access_audit
                            WHEN NEW.action = 'backup.restore-person'
                            BEGIN SELECT RAISE(ABORT, 'refused'); END";
    on_system(home, can_not_be_noted).await;

    let restored = |modules| {
        let secret = RestoreSecret::Password(password(OWNER));
        restore_person(with(modules), archive.clone(), secret, "Ben", |_| true)
    };
    // A program that does not know the database of then refuses it, after the keyring is in place.
    let fails = async || {
        let refused = restored(Vec::new()).await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NewerData, "{refused}");
    };
    std::fs::write(&keyring, "no keyring").unwrap();
    fails().await;
    assert_eq!(std::fs::read(&keyring).unwrap(), b"no keyring");
    let aside = keyring.with_file_name("keyring.before-restore");
    assert!(!aside.exists());
    std::fs::remove_file(&keyring).unwrap();
    fails().await;
    let note = keyring.with_file_name("keyring.from-backup");
    assert!(!keyring.exists() && !note.exists());

    // The database is the one of then, so its keyring stays: without it nothing would open.
    restored(vec![NOTES]).await.map(drop).unwrap_err();
    let before = keyring.with_file_name("person.db.before-restore");
    assert!(keyring.exists() && before.exists());
    // It has yet to be told that the password of then counts: the next one does, as after a kill.
    let home = Home::open(with(vec![NOTES])).unwrap();
    home.unlock(&password(OWNER), "test").await.unwrap();
    on_system(home, "DROP TRIGGER refuse").await;
    // One that fails in between takes away nothing that was there before it.
    fails().await;
    assert!(keyring.exists() && note.exists());
    let done = restored(vec![NOTES]).await.unwrap();
    assert!(done.password_of_then && keyring.exists() && !note.exists());
    let done = restored(vec![NOTES]).await.unwrap();
    assert!(!done.password_of_then);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_changes_single_keys_without_a_password_and_never_the_root_key() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let open = home.opened().unwrap();
    let key = async || home.store_of(open.owner).await.unwrap().key();
    let (system, owners) = (open.system.key(), key().await);
    let what = Rotate {
        purposes: vec![
            Purpose::SystemDatabase,
            Purpose::PersonDatabase,
            Purpose::SigningKey,
        ],
        ..Rotate::default()
    };
    let begun = home.rotate(what, None, "test").await.unwrap();
    assert!(begun.phrase.is_none());
    until("the change of keys", async || !home.rotation().running).await;
    let state = home.rotation();
    assert!(state.failed.is_none(), "{:?}", state.failed);
    assert_ne!(open.system.key(), system);
    assert_ne!(key().await, owners);

    let epoch = open.vault.key_epoch();
    for compromised in [false, true] {
        let what = Rotate {
            root: true,
            compromised,
            ..Rotate::default()
        };
        let refused = home.rotate(what, None, "test").await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WrongPassword);
        assert!(!home.rotation().running);
    }
    assert_eq!(open.vault.key_epoch(), epoch);
    assert_eq!(open.vault.earlier_epoch(), None);
    drop(open);
    home.stop().await.unwrap();
}

async fn changed(home: &Home, purposes: &[Purpose], person: Option<PersonId>) {
    let what = Rotate {
        purposes: purposes.to_vec(),
        person,
        ..Rotate::default()
    };
    home.rotate(what, None, "test").await.unwrap();
    until("the change of keys", async || !home.rotation().running).await;
    let state = home.rotation();
    assert!(state.failed.is_none(), "{:?}", state.failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_secrets_and_of_kept_prompts_change_alone() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let other = add(&home, "Ben").await.id;
    let open = home.opened().unwrap();
    let path = home.root().join("secrets");
    // The file's id.
    let id = || std::fs::read(&path).unwrap()[63..79].to_vec();
    let prompts = |person: PersonId| {
        let folder = open.vault.prompt_cache_folder(*person.as_bytes());
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    // Without any there is nothing to do.
    changed(&home, &[Purpose::Configuration], None).await;
    home.set_secret("openai", "one").await.unwrap();
    let before = id();
    changed(&home, &[Purpose::Configuration], None).await;
    let after = id();
    assert_ne!(after, before);
    assert_eq!(*home.secret("openai").await.unwrap(), "one");
    home.set_secret("other", "two").await.unwrap();
    assert_eq!(id(), after, "until the next change");
    // A new root key leaves the id.
    rotate(&home, false).await;
    assert_eq!(id(), after);
    assert_eq!(*home.secret("other").await.unwrap(), "two");

    let (owners, others) = (prompts(open.owner), prompts(other));
    changed(&home, &[Purpose::PromptCache], Some(other)).await;
    assert!(owners.exists() && !others.exists());
    prompts(other);
    let both = [Purpose::PromptCacheName, Purpose::PromptCache];
    changed(&home, &both, None).await;
    assert!(!owners.exists() && !others.exists());
    drop(open);
    home.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_secrets_stay_where_their_key_alone_is_to_change_and_one_put_back_opens() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let (path, aside) = (
        home.root().join("secrets"),
        home.root().join("secrets.damaged"),
    );
    home.set_secret("openai", "one").await.unwrap();
    std::fs::write(&aside, b"from before").unwrap();
    let whole = damage(&path);
    let bad = std::fs::read(&path).unwrap();
    let alone = || Rotate {
        purposes: vec![Purpose::Configuration],
        ..Rotate::default()
    };
    let refused = home.rotate(alone(), None, "test").await;
    let error = refused.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let advice = error.what_to_do().unwrap();
    assert!(advice.contains("aico config secret set"), "{advice}");
    assert!(!home.rotation().running);

    // Damaged since it was begun, it keeps neither the rest nor the next one from being done.
    leave_steps(&home, serde_json::json!(["secrets", "bus-key"])).await;
    assert!(goes_on(&home, alone()).await);
    changed(&home, &[Purpose::BusKey], None).await;
    assert_eq!(std::fs::read(&path).unwrap(), bad);
    assert_eq!(std::fs::read(&aside).unwrap(), b"from before");

    std::fs::write(&path, whole).unwrap();
    assert_eq!(*home.secret("openai").await.unwrap(), "one");
    changed(&home, &[Purpose::Configuration], None).await;
    assert_eq!(*home.secret("openai").await.unwrap(), "one");
    home.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_kept_prompts_are_no_earlier_ones_after_a_restore() {
    let data = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let owner = home.opened().unwrap().owner;
    let name = |home: &Home| {
        let open = home.opened().unwrap();
        let keys = open.vault.open_person(*owner.as_bytes()).unwrap();
        open.vault.prompt_cache_name(&keys, b"a conversation")
    };
    let request = BackupRequest {
        folder: Some(to.path().to_owned()),
        ..BackupRequest::default()
    };
    let archive = home.create_backup(request, |_| true).await.unwrap().path;
    let mut before = vec![name(&home)];
    for _ in 0..2 {
        changed(&home, &[Purpose::PromptCache], None).await;
        before.push(name(&home));
    }
    home.stop().await.unwrap();
    drop(home);

    let request = RestoreRequest {
        archive,
        secret: RestoreSecret::Password(password(OWNER)),
        only_where_none_is: false,
        usual: None,
    };
    restore(config(data.path()), request, |_| true)
        .await
        .map(drop)
        .unwrap();
    let home = Home::open(config(data.path())).unwrap();
    home.unlock(&password(OWNER), "test").await.unwrap();
    let after = name(&home);
    assert!(!before.contains(&after));
    // It is the same until it is changed.
    assert_eq!(name(&home), after);
    changed(&home, &[Purpose::PromptCache], None).await;
    assert_ne!(name(&home), after);
    home.stop().await.unwrap();
}

/// What the log and the journal were asked for.
#[derive(Default)]
struct Asked(parking_lot::Mutex<Vec<String>>);

impl Asked {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

#[async_trait::async_trait]
impl SealedParts for Asked {
    async fn logs(&self) -> Result<(), PartsError> {
        self.note("logs");
        Ok(())
    }

    async fn logs_anew(&self) -> Result<(), PartsError> {
        self.note("logs anew");
        Ok(())
    }

    async fn journal(&self, what: JournalAnew) -> Result<(), PartsError> {
        self.note(format!("journal {what:?}"));
        Ok(())
    }

    async fn check_journal(
        &self,
        _: &mut (dyn FnMut(PartChecked) -> bool + Send),
    ) -> Result<(), PartsError> {
        Ok(())
    }

    async fn check_logs(
        &self,
        _: &mut (dyn FnMut(PartChecked) -> bool + Send),
    ) -> Result<(), PartsError> {
        Ok(())
    }

    fn bytes(&self) -> (u64, u64) {
        (0, 0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sealed_person_said_on_the_bus_changes_its_key_when_they_sign_in() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let ben = add(&home, "Ben").await.id;
    let parts = Arc::new(Asked::default());
    home.set_sealed_parts(Arc::clone(&parts) as Arc<dyn SealedParts>);
    let open = home.opened().unwrap();
    let waiting = async || {
        let count = open.system.read(|db| {
            let sql = "SELECT count(*) FROM rotation_pending";
            Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?)
        });
        count.await.unwrap()
    };
    // Everybody's can be had.
    changed(&home, &[Purpose::BusBody], None).await;
    assert_eq!(
        (parts.take(), waiting().await),
        (vec!["journal Bodies".to_owned()], 0)
    );
    changed(&home, &[Purpose::Log, Purpose::BusJournal], None).await;
    assert_eq!(parts.take(), ["logs anew", "journal Files"]);

    let own = password(MEMBER);
    home.seal_person(ben, &own, "test").await.unwrap();
    open.vault.lock_person(*ben.as_bytes());
    parts.take();
    changed(&home, &[Purpose::BusBody], None).await;
    assert_eq!(
        (parts.take(), waiting().await),
        (vec!["journal Bodies".to_owned()], 1)
    );
    // No key of theirs waits for them.
    assert!(home.pending_key_changes().await.unwrap().is_empty());
    home.sign_in("Ben", &own, "test").await.unwrap();
    until("it follows", async || waiting().await == 0).await;
    assert_eq!(parts.take(), ["journal Bodies"]);
    drop(open);
    home.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_purpose_changes_alone_or_says_what_it_changes_with() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let mut alone = Vec::new();
    for purpose in Purpose::ALL {
        let what = Rotate {
            purposes: vec![*purpose],
            ..Rotate::default()
        };
        match home.rotate(what, None, "test").await {
            Ok(_) => {
                alone.push(purpose.as_str());
                until("the change of keys", async || !home.rotation().running).await;
                assert!(home.rotation().failed.is_none(), "{purpose:?}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Rotation, "{purpose:?}");
                let said = error.to_string();
                assert!(said.contains("aico vault rotate"), "{purpose:?}: {said}");
                assert!(!home.rotation().running);
            }
        }
    }
    // As the documentation has them.
    let documented = include_str!("../../../docs/keys.md");
    let (_, table) = documented.split_once("| purpose | changed by |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    for purpose in Purpose::ALL {
        let name = purpose.as_str();
        let begin = format!("| `{name}` | ");
        let row = table.lines().find(|line| line.starts_with(&begin)).unwrap();
        let by_itself = row.contains(&format!("`--purpose {name}`"));
        assert_eq!(by_itself, alone.contains(&name), "{row}");
    }
    home.stop().await.unwrap();
}

/// Cuts off what changes keys: these steps are left.
async fn leave_steps(home: &Home, steps: serde_json::Value) {
    let plan = serde_json::json!({ "steps": steps }).to_string();
    let open = home.opened().unwrap();
    let left = open.system.write(move |tx| {
        let sql = "INSERT OR REPLACE INTO rotation_plan (one, plan) VALUES (1, ?1)";
        Ok(tx.execute(sql, [plan]).map(drop)?)
    });
    left.await.unwrap();
}

/// Asks for a change of keys while another was cut off. Answers whether going on is all there is
/// to do, once that is done.
async fn goes_on(home: &Home, what: Rotate) -> bool {
    let begun = match home.rotate(what, Some(&password(OWNER)), "test").await {
        Ok(begun) => {
            assert!(begun.phrase.is_none());
            true
        }
        Err(HomeError::EarlierChange) => false,
        Err(other) => panic!("{other}"),
    };
    until("the earlier change", async || !home.rotation().running).await;
    let state = home.rotation();
    assert!(state.failed.is_none(), "{:?}", state.failed);
    begun
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_keys_that_was_cut_off_is_not_taken_for_another_that_is_asked_for() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let open = home.opened().unwrap();
    let owner = open.owner;
    let cut_off = || {
        let none = Keychains::new(Vec::new());
        open.vault.begin_rotation(&password(OWNER), &none).unwrap();
    };
    let root = |compromised| Rotate {
        root: true,
        compromised,
        ..Rotate::default()
    };
    let of = |purposes: &[Purpose], person| Rotate {
        purposes: purposes.to_vec(),
        person,
        ..Rotate::default()
    };

    // A plain one: nothing of a person's has changed with it.
    cut_off();
    let before = epoch_of_database(&home, owner).await;
    assert!(!goes_on(&home, root(true)).await);
    assert_eq!(open.vault.earlier_epoch(), None);
    assert_eq!(epoch_of_database(&home, owner).await, before);
    rotate(&home, true).await;
    assert_ne!(epoch_of_database(&home, owner).await, before);
    cut_off();
    assert!(!goes_on(&home, of(&[Purpose::SigningKey], None)).await);
    cut_off();
    assert!(goes_on(&home, root(false)).await);

    // One of everything: that is what either asks for.
    for compromised in [true, false] {
        cut_off();
        let epoch = open.vault.key_epoch_of(*owner.as_bytes()).unwrap() + 1;
        let steps = serde_json::json!([
            "registry", "keyrings", {"system": false}, "sealed-keys",
            {"person-key": [owner, epoch]}, {"person-store": [owner, false]},
            "bus-key", "signing-key", "finish",
        ]);
        leave_steps(&home, steps).await;
        assert!(goes_on(&home, root(compromised)).await);
        assert_eq!(epoch_of_database(&home, owner).await, Some(epoch));
    }

    // Steps of single keys are not those of another root key, and are all done.
    for steps in [
        serde_json::json!([{"working": owner}, "logs", {"journal": true}]),
        serde_json::json!(["logs-anew", "journal-anew", "bodies", "secrets", {"prompts": owner}]),
    ] {
        leave_steps(&home, steps).await;
        assert!(!goes_on(&home, root(false)).await);
    }

    // Single keys: only what is among them.
    let left = serde_json::json!(["bus-key", "signing-key"]);
    for (what, among) in [
        (of(&[Purpose::SigningKey], None), true),
        (
            of(&[Purpose::SigningKey, Purpose::SystemDatabase], None),
            false,
        ),
        (of(&[], Some(owner)), false),
        (root(false), false),
    ] {
        leave_steps(&home, left.clone()).await;
        assert_eq!(goes_on(&home, what).await, among);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_being_added_when_a_change_of_keys_began_keeps_their_wrap() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    // As far as an addition is before there is a row.
    let vault = home.vault().unwrap();
    let late = *PersonId::new().as_bytes();
    vault.create_person(late, &password(MEMBER)).unwrap();
    rotate(&home, false).await;
    assert!(vault.open_person(late).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_key_gives_its_phrase_another_time() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let made_at = async || -> Option<Timestamp> {
        let wraps = home.vault_info().await.unwrap().wraps;
        let phrase = wraps
            .iter()
            .find(|wrap| wrap.kind == WrapKind::RecoveryPhrase);
        phrase.unwrap().made_at
    };
    let before = made_at().await;
    assert!(before.is_some());
    rotate(&home, false).await;
    assert!(made_at().await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_passwords_at_once_are_no_more_guesses_than_one_after_the_other() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    add(&home, "Ben").await;
    // No proof comes to its end.
    let busy = home.inner.kdf.clone().acquire_owned().await.unwrap();
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let home = home.clone();
        guesses.spawn(async move {
            let guess = home.sign_in("Ben", &password(ANOTHER), "test").await;
            guess.map(drop).unwrap_err().kind()
        });
    }
    let mut refused = 0;
    while refused < 15 {
        let next = tokio::time::timeout(Duration::from_secs(60), guesses.join_next()).await;
        let kind = next.unwrap().unwrap().unwrap();
        assert!(matches!(kind, ErrorKind::SlowDown { .. }), "{kind:?}");
        refused += 1;
    }
    drop(busy);
    while let Some(kind) = guesses.join_next().await {
        assert_eq!(kind.unwrap(), ErrorKind::SignInFailed);
    }
    // Whoever sits at the machine is never kept out.
    let right = password(MEMBER);
    let local = home.sign_in("Ben", &right, Source::local());
    local.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_while_it_is_being_locked_has_no_session_afterwards() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let ben = add(&home, "Ben").await;
    let busy = home.inner.kdf.clone().acquire_owned().await.unwrap();
    let signing = tokio::spawn({
        let home = home.clone();
        async move { home.sign_in("Ben", &password(MEMBER), "test").await }
    });
    until("the sign-in", async || {
        home.inner.delays.under_way(ben.name.key()) == 1
    })
    .await;
    // Something works with the stores: they stay open while it is locked.
    let hold = home.hold();
    let locking = tokio::spawn({
        let home = home.clone();
        async move { home.lock().await }
    });
    until("the lock", async || home.stage() == Stage::Locked).await;
    drop(busy);
    let session = signing.await.unwrap();
    assert!(matches!(session.map(drop), Err(HomeError::Locked)));
    drop(hold);
    locking.await.unwrap().unwrap();
    home.unlock(&password(OWNER), "test").await.unwrap();
    assert!(home.sessions(ben.id).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_proven_with_the_password_of_before_is_not_kept() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let ben = add(&home, "Ben").await;
    let open = home.opened().unwrap();
    // Proven, and the session not made yet.
    let proven = open.sessions.password_changes(ben.id);
    let (now, then) = (password(MEMBER), password(ANOTHER));
    let changed = home.change_password(ben.id, &now, &then, "test", None);
    changed.await.unwrap();
    let source = "test".into();
    let late = home.new_session(&open, ben.clone(), &source, proven);
    let late = late.await.map(drop);
    assert!(matches!(late, Err(HomeError::SignInFailed)));
    assert!(home.sessions(ben.id).await.unwrap().is_empty());
    home.sign_in("Ben", &then, "test").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_somebody_who_is_being_added_is_not_swept() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let open = home.opened().unwrap();
    let (stray, new) = (PersonId::new(), PersonId::new());
    for id in [stray, new] {
        let made = open.vault.create_person(*id.as_bytes(), &password(MEMBER));
        made.unwrap();
    }
    // As an addition does until there is a row.
    let gate = open.persons.gate(new).await;
    let sweeping = tokio::spawn({
        let home = home.clone();
        async move { home.sweep().await }
    });
    until("the sweep", async || {
        open.persons.is_waited_for(new) || sweeping.is_finished()
    })
    .await;
    let name = PersonName::new("Ben").unwrap();
    let row = open.system.write(move |tx| {
        let sql = "INSERT INTO access_person VALUES (?1, 'Ben', ?2, 'member', 1)";
        Ok(tx.execute(sql, rusqlite::params![new.as_bytes(), name.key()])?)
    });
    row.await.unwrap();
    drop(gate);
    assert_eq!(sweeping.await.unwrap().unwrap(), 1);
    assert!(keyring(&home, new).exists());
    assert!(!keyring(&home, stray).exists());
}

/// What a sign-in does beside a check or a backup, which look up the key and then open the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_persons_key_waits_for_who_has_looked_up_the_one_from_before() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let ben = add(&home, "Ben").await.id;
    let store = home.store_of(ben).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let looking = tokio::task::spawn_blocking({
        let (home, store) = (home.clone(), store.clone());
        move || {
            let (vault, path) = (home.vault().unwrap(), database(&home, ben));
            let held = steady_with_key(&vault, &store, ben, &path);
            let (steady, _, key) = held.unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            let changing = runtime.spawn(async move {
                let changed = home.rekey_person(ben, true, Progress::default()).await;
                tell.send(()).ok();
                changed
            });
            // It is done at once, or waits.
            let early = told.recv_timeout(Duration::from_millis(300)).is_ok();
            let found = steady.check(key.expose(), true, || true);
            (changing, early, found)
        }
    });
    let (changing, early, found) = looking.await.unwrap();
    changing.await.unwrap().unwrap();
    assert!(!early, "{found:?}");
    assert!(found.unwrap().findings.is_empty());
    assert!(!store.health().damaged);

    // And afterwards it is the next one that is looked up.
    let tally = home.check_stores(true, |_| true).await.unwrap();
    assert_eq!(tally.damaged + tally.unchecked, 0, "{tally:?}");
    let to = tempfile::tempdir().unwrap();
    let request = BackupRequest {
        folder: Some(to.path().to_owned()),
        ..BackupRequest::default()
    };
    let made = home.create_backup(request, |_| true).await.unwrap();
    assert!(made.left_out.is_empty());
    home.stop().await.unwrap();
}

/// Paths of the archives that the system's store knows.
async fn noted_archives(home: &Home) -> Vec<PathBuf> {
    let open = home.opened().unwrap();
    home.known_archives(&open).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_whose_making_ends_as_it_gets_its_name_is_within_reach_of_an_erasure() {
    let data = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let to = to.path().canonicalize().unwrap();
    let home = home(data.path()).await;
    let ben = add(&home, "Ben").await;
    let request = || BackupRequest {
        folder: Some(to.clone()),
        ..BackupRequest::default()
    };
    let found = || {
        let names = std::fs::read_dir(&to).unwrap();
        let mut paths = names.map(|entry| entry.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|end| end == "aicobackup"))
    };
    // Given up in the moment in which the archive is there and its maker does not know it yet.
    let mut making = Box::pin(home.create_backup(request(), |_| true));
    let archive = std::future::poll_fn(|context| {
        if let Some(path) = found() {
            return Poll::Ready(path);
        }
        // As often as can be: what it waits for wakes it late.
        context.waker().wake_by_ref();
        match making.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(made) => Poll::Ready(made.unwrap().path),
        }
    })
    .await;
    drop(making);
    assert_eq!(noted_archives(&home).await, std::slice::from_ref(&archive));
    let erased = home.erase_person(ben.id, &password(OWNER), "test").await;
    let dropped = erased.unwrap().dropped;
    assert!(dropped.iter().any(|one| one.path == archive));

    // One that was never there is forgotten with the next backup to its folder, where nobody was
    // erased since it was noted.
    std::fs::remove_file(&archive).unwrap();
    let open = home.opened().unwrap();
    let nobody = open.system.write(|tx| {
        tx.execute("DELETE FROM backup_archive_person", [])?;
        tx.execute("UPDATE access_tombstone SET erased_ms = 0", [])?;
        Ok(())
    });
    nobody.await.unwrap();
    drop(open);
    let made = home.create_backup(request(), |_| true).await.unwrap();
    assert_eq!(noted_archives(&home).await, [made.path]);
    home.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_an_archive_whose_maker_ended_early_is_noted_by_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let to = tempfile::tempdir().unwrap();
    let away = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    let ben = add(&home, "Ben").await;
    let request = || BackupRequest {
        folder: Some(to.path().to_owned()),
        ..BackupRequest::default()
    };
    let archive = home.create_backup(request(), |_| true).await.unwrap().path;
    // As it is when the process ends between the archive's name and the note of who is in it.
    let open = home.opened().unwrap();
    let nobody = open.system.write(|tx| {
        tx.execute("DELETE FROM backup_archive_person", [])?;
        Ok(())
    });
    nobody.await.unwrap();
    let elsewhere = away.path().join("archive");
    std::fs::rename(&archive, &elsewhere).unwrap();
    let erased = home.erase_person(ben.id, &password(OWNER), "test").await;
    let erased = erased.unwrap();
    assert!(erased.dropped.is_empty());
    let [left] = erased.out_of_reach.as_slice() else {
        panic!("{:?}", erased.out_of_reach);
    };
    assert_eq!(left.path, archive);
    assert!(left.why.contains("may be in it"), "{}", left.why);

    // What was told as out of reach is not forgotten by a backup to its folder meanwhile.
    let made = home.create_backup(request(), |_| true).await.unwrap().path;
    assert_eq!(noted_archives(&home).await, [archive.clone(), made]);

    // Its disk is there again: the next start finishes the erasure in it.
    std::fs::rename(&elsewhere, &archive).unwrap();
    let before = std::fs::metadata(&archive).unwrap().len();
    home.sweep().await.unwrap();
    assert!(std::fs::metadata(&archive).unwrap().len() < before);
    let inside = open.system.read(|db| {
        let mut query = db.prepare("SELECT DISTINCT person FROM backup_archive_person")?;
        let persons = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        Ok(persons.collect::<Result<Vec<_>, _>>()?)
    });
    assert_eq!(inside.await.unwrap(), [open.owner.as_bytes().to_vec()]);
    drop(open);
    home.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_stops_is_not_locked_instead() {
    let data = tempfile::tempdir().unwrap();
    let home = home(data.path()).await;
    home.inner.stage.send_replace(Stage::Stopping);
    home.set_stage(Stage::Locked);
    assert_eq!(home.stage(), Stage::Stopping);
    home.stop().await.unwrap();
}

//! Looking whether everything at home is sound: what a person asks for, and what is done by itself
//! now and then.
//!
//! Reads only, beside everybody: nobody waits for it. Keys are not changed meanwhile, since the
//! files that it reads would change places.

use std::path::PathBuf;

use aico_contracts::ids::PersonId;
use aico_store::{CheckedFile, Identity, OpenError, Store, StoreError};
use aico_vault::{PersonKeyError, Vault};

use crate::home::{Open, PERSON_DB, blocking, person_folder};
use crate::stores::{person_key, steady_with_key, system_key};
use crate::{ErrorKind, Home, HomeError, PartChecked, Person, Rescue, Stage, older_copy, secrets};

/// In the audit's table.
const CHECKED: &str = "store.check";

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckedPart {
    /// `vault.hdr`.
    Header,
    /// The registry of the stores.
    Registry,
    /// `system.db`.
    System,
    /// The secrets of the configuration.
    Secrets,
    /// A person's keyring.
    Keyring,
    /// A person's database.
    Database,
    /// A file of the bus's journal.
    Journal,
    /// A file of the log.
    Log,
}

impl CheckedPart {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Registry => "registry",
            Self::System => "system",
            Self::Secrets => "secrets",
            Self::Keyring => "keyring",
            Self::Database => "database",
            Self::Journal => "journal",
            Self::Log => "log",
        }
    }
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// As far as it was looked at.
    Sound,
    /// Something is wrong with it.
    Damaged,
    /// What only its person can authenticate is left out; the rest is sound.
    Locked,
    /// It could not be looked at now.
    Unchecked,
}

impl CheckState {
    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Damaged => "damaged",
            Self::Locked => "locked",
            Self::Unchecked => "unchecked",
        }
    }
}

/// What was found of one thing. Has a name in it, so no Debug.
#[derive(Clone)]
pub struct Checked {
    /// Which kind.
    pub part: CheckedPart,
    /// Whose.
    pub person: Option<PersonId>,
    /// What they are called.
    pub name: Option<String>,
    /// Its file.
    pub path: PathBuf,
    /// How it is.
    pub state: CheckState,
    /// Pages or records that were looked at, where that is counted.
    pub looked_at: u64,
    /// What is wrong, as sentences without their ends.
    pub problems: Vec<String>,
    /// What can be done.
    pub what_to_do: Option<String>,
    /// Where a damaged person can be put back from.
    pub rescue: Option<Rescue>,
}

/// How many of each there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sound ones.
    pub sound: usize,
    /// Damaged ones.
    pub damaged: usize,
    /// Those that open when their person signs in.
    pub locked: usize,
    /// Those that could not be looked at.
    pub unchecked: usize,
}

impl Tally {
    fn count(&mut self, state: CheckState) {
        *match state {
            CheckState::Sound => &mut self.sound,
            CheckState::Damaged => &mut self.damaged,
            CheckState::Locked => &mut self.locked,
            CheckState::Unchecked => &mut self.unchecked,
        } += 1;
    }
}

/// Hears what was found of each thing; stops the check with `false`.
type Told = Box<dyn FnMut(Checked) -> bool + Send>;

/// What is told and counted on the way.
struct Telling {
    told: Told,
    tally: Tally,
}

impl Telling {
    fn tell(&mut self, checked: Checked) -> Result<(), HomeError> {
        self.tally.count(checked.state);
        if checked.state == CheckState::Damaged {
            // Who it belongs to is in the path: a random id.
            tracing::error!(
                part = checked.part.as_str(),
                path = %checked.path.display(),
                problems = checked.problems.join("; "),
                "a check found damage"
            );
        }
        match (self.told)(checked) {
            true => Ok(()),
            false => Err(HomeError::Store(StoreError::Cancelled)),
        }
    }
}

impl Checked {
    fn new(part: CheckedPart, path: PathBuf) -> Self {
        Self {
            part,
            person: None,
            name: None,
            path,
            state: CheckState::Sound,
            looked_at: 0,
            problems: Vec::new(),
            what_to_do: None,
            rescue: None,
        }
    }

    fn of(mut self, person: &Person) -> Self {
        self.person = Some(person.id);
        self.name = Some(person.name.as_str().to_owned());
        self
    }

    /// With what an attempt met. A disk that can't be read now says nothing about damage.
    fn met(mut self, error: &HomeError) -> Self {
        self.state = match error.kind() {
            ErrorKind::Damaged | ErrorKind::NewerData | ErrorKind::FolderUnusable => {
                CheckState::Damaged
            }
            ErrorKind::PersonLocked => CheckState::Locked,
            _ => CheckState::Unchecked,
        };
        if self.state != CheckState::Locked {
            self.problems.push(told(error));
            self.what_to_do = error.what_to_do();
        }
        self
    }

    fn found(mut self, found: CheckedFile) -> Self {
        self.looked_at = found.pages;
        if !found.findings.is_empty() {
            self.state = CheckState::Damaged;
        }
        let findings = found.findings.iter().map(ToString::to_string);
        self.problems.extend(findings);
        self
    }
}

impl Home {
    /// Looks whether everything is sound, and tells of each thing as it is known. Quick: structure,
    /// identity and what the registry knows of each store. Full: every page and record is
    /// authenticated too; the configuration's secrets are, either way. What is met of a person's
    /// that does not open is told, and the others' are looked at all the same. `told` stops it with
    /// `false`.
    ///
    /// # Errors
    /// While locked; while keys are changed or another check runs; when nobody listens any more.
    /// Damage is no error: it is what is told.
    pub async fn check_stores(
        &self,
        full: bool,
        told: impl FnMut(Checked) -> bool + Send + 'static,
    ) -> Result<Tally, HomeError> {
        let open = self.opened()?;
        let Ok(_alone) = self.inner.checking.try_lock() else {
            return Err(match self.rotation().running {
                true => HomeError::KeysChange,
                false => HomeError::Rotation("the stored data is being checked already"),
            });
        };
        // The stores stay open until this is dropped, which happens soon after a lock.
        let _hold = self.hold();
        let mut telling = Telling {
            told: Box::new(told),
            tally: Tally::default(),
        };
        let done = self.check_all(&open, full, &mut telling).await;
        let tally = telling.tally;
        self.noted(&open, CHECKED).await;
        done?;
        tracing::info!(
            full,
            sound = tally.sound,
            damaged = tally.damaged,
            locked = tally.locked,
            unchecked = tally.unchecked,
            "the stores were checked"
        );
        Ok(tally)
    }

    async fn check_all(
        &self,
        open: &Open,
        full: bool,
        telling: &mut Telling,
    ) -> Result<(), HomeError> {
        let root = self.root().to_owned();
        let (vault, system) = (open.vault.clone(), open.system.clone());
        let home = self.clone();
        let checks = blocking(move || {
            let header = Checked::new(CheckedPart::Header, root.join("vault.hdr"));
            let header = match vault.check_header() {
                Ok(()) => header,
                Err(error) => header.met(&HomeError::Unlock(error)),
            };
            let registry = Checked::new(CheckedPart::Registry, root.join("registry"));
            let registry = match vault.registry().check() {
                Ok(()) => registry,
                Err(error) => registry.met(&HomeError::Vault(error.into())),
            };
            let database = Checked::new(CheckedPart::System, root.join(crate::home::SYSTEM_DB));
            let looked = system_key(&vault)
                .and_then(|(_, key)| Ok(system.check(key.expose(), full, home.while_ready())?));
            let mut checks = vec![header, registry, looked_at(database, looked)];
            checks.extend(secrets_of(&vault));
            Ok(checks)
        });
        for checked in checks.await? {
            telling.tell(checked)?;
        }
        for person in self.persons().await? {
            self.check_person(open, &person, full, telling).await?;
        }
        if let (true, Some(parts)) = (full, self.parts()) {
            let checked = parts
                .check_journal(&mut |part| {
                    telling
                        .tell(of_part(CheckedPart::Journal, part, SET_ASIDE))
                        .is_ok()
                })
                .await;
            if let Err(error) = checked {
                telling.tell(
                    Checked::new(CheckedPart::Journal, self.root().join("journal"))
                        .met(&HomeError::Parts(error)),
                )?;
            }
            let checked = parts
                .check_logs(&mut |part| {
                    telling
                        .tell(of_part(CheckedPart::Log, part, LOST_WORDS))
                        .is_ok()
                })
                .await;
            if let Err(error) = checked {
                let folder = self.root().with_file_name("logs");
                telling
                    .tell(Checked::new(CheckedPart::Log, folder).met(&HomeError::Parts(error)))?;
            }
        }
        match self.stage() {
            Stage::Ready => Ok(()),
            stage => Err(HomeError::wrong_stage(stage)),
        }
    }

    async fn check_person(
        &self,
        open: &Open,
        person: &Person,
        full: bool,
        telling: &mut Telling,
    ) -> Result<(), HomeError> {
        let folder = person_folder(self.root(), person.id);
        let keyring = Checked::new(CheckedPart::Keyring, folder.join("keyring")).of(person);
        let database = Checked::new(CheckedPart::Database, folder.join(PERSON_DB)).of(person);
        let (vault, id) = (open.vault.clone(), person.id);
        let keyring = blocking(move || {
            Ok(match vault.check_keyring(*id.as_bytes()) {
                Ok(true) => keyring,
                Ok(false) => Checked {
                    state: CheckState::Locked,
                    ..keyring
                },
                Err(error) => keyring.met(&HomeError::Keyring(error)),
            })
        });
        let keyring = self.with_rescue(open, keyring.await?, person).await;
        let keyless = keyring.state == CheckState::Damaged;
        telling.tell(keyring)?;
        if keyless {
            // What is wrong is told; of the database nothing can be.
            return telling.tell(Checked {
                state: CheckState::Unchecked,
                problems: vec!["it can't be opened without its keyring".to_owned()],
                ..database
            });
        }
        let opened = self.store_in_time(person.id).await;
        let (vault, home) = (open.vault.clone(), self.clone());
        let database = blocking(move || {
            let identity = Identity::person(*id.as_bytes());
            Ok(match opened {
                Ok(store) => {
                    let looked = steady_with_key(&vault, &store, id, &database.path);
                    let looked = looked.and_then(|(steady, _, key)| {
                        Ok(steady.check(key.expose(), full, home.while_ready())?)
                    });
                    looked_at(database, looked)
                }
                Err(error) => {
                    let key = key_of(&vault, id, &database.path).ok();
                    let key = key.as_ref().map(aico_vault::Key::expose);
                    let path = &database.path;
                    let lying = Store::check_at_rest(path, key, &identity, &vault, full);
                    lying_there(database, &error, lying)
                }
            })
        });
        let mut database = self.with_rescue(open, database.await?, person).await;
        if full && database.state == CheckState::Locked {
            self.note_due(open, id).await?;
            database.what_to_do = Some(WHEN_THEY_SIGN_IN.to_owned());
        }
        if database.state == CheckState::Damaged {
            open.persons.set_ill(person.id);
        }
        telling.tell(database)
    }

    async fn note_due(&self, open: &Open, person: PersonId) -> Result<(), HomeError> {
        let noted = open.system.write(move |tx| {
            let sql = "INSERT OR IGNORE INTO access_check_due (person) VALUES (?1)";
            Ok(tx.execute(sql, [person.as_bytes()]).map(drop)?)
        });
        Ok(noted.await?)
    }

    /// They are signed in: what a full check could not look at without them. Damage is told as any
    /// other is; what keeps it from being made leaves it due.
    pub(crate) async fn check_what_is_due(&self, person: PersonId) -> Result<(), HomeError> {
        let open = self.opened()?;
        let due = open.system.read(move |db| {
            let sql = "SELECT EXISTS (SELECT 1 FROM access_check_due WHERE person = ?1)";
            Ok(db.query_row(sql, [person.as_bytes()], |row| row.get::<_, bool>(0))?)
        });
        if !due.await? {
            return Ok(());
        }
        let _alone = self.inner.checking.lock().await;
        let about = self.known(&open, person).await?;
        let mut telling = Telling {
            told: Box::new(|_| true),
            tally: Tally::default(),
        };
        self.check_person(&open, &about, true, &mut telling).await?;
        if telling.tally.locked + telling.tally.unchecked > 0 {
            return Ok(());
        }
        open.system
            .write(move |tx| {
                let sql = "DELETE FROM access_check_due WHERE person = ?1";
                Ok(tx.execute(sql, [person.as_bytes()]).map(drop)?)
            })
            .await?;
        self.noted(&open, CHECKED).await;
        tracing::info!(
            damaged = telling.tally.damaged,
            "what waited of a check for a sealed person is checked"
        );
        Ok(())
    }

    /// What is damaged says where its person can be put back from.
    async fn with_rescue(&self, open: &Open, mut checked: Checked, person: &Person) -> Checked {
        if checked.state == CheckState::Damaged {
            let rescue = self.rescue(open, person.id).await;
            let name = match person.name.as_str() {
                name if name.contains(char::is_whitespace) => format!("'{name}'"),
                name => name.to_owned(),
            };
            let older = open.persons.get(person.id);
            let advice = rescue.advice(&name);
            checked.what_to_do = Some(match older.is_some_and(|it| it.health().read_only) {
                true => older_copy::advice(&name, &advice),
                false => advice,
            });
            checked.rescue = Some(rescue);
        }
        checked
    }

    fn while_ready(&self) -> impl Fn() -> bool + Send + 'static {
        let home = self.clone();
        move || home.stage() == Stage::Ready
    }
}

/// The secrets of the configuration, if there are any, and those that a change of keys set aside.
fn secrets_of(vault: &Vault) -> Vec<Checked> {
    let there = Checked::new(CheckedPart::Secrets, secrets::path(vault));
    let mut found = match secrets::check(vault) {
        Ok(true) => vec![there],
        Ok(false) => Vec::new(),
        Err(error) => vec![there.met(&error)],
    };
    if let Some(path) = secrets::set_aside_at(vault) {
        let what_to_do = format!(
            "Set each secret that the configuration names again: aico config secret set NAME. Then \
             remove this file: rm '{}'",
            path.display()
        );
        found.push(Checked {
            state: CheckState::Damaged,
            problems: vec![ASIDE.to_owned()],
            what_to_do: Some(what_to_do),
            ..Checked::new(CheckedPart::Secrets, path)
        });
    }
    found
}

fn key_of(
    vault: &Vault,
    person: PersonId,
    path: &std::path::Path,
) -> Result<aico_vault::Key, HomeError> {
    let keys = vault
        .open_person(*person.as_bytes())
        .map_err(|error| match error {
            PersonKeyError::Sealed { .. } => HomeError::PersonLocked,
            other => HomeError::Keyring(other),
        })?;
    Ok(person_key(vault, &keys, path)?.1)
}

fn looked_at(checked: Checked, looked: Result<CheckedFile, HomeError>) -> Checked {
    match looked {
        Ok(found) => checked.found(found),
        Err(error) => checked.met(&error),
    }
}

/// Of a database that did not open: why, and what can be told of the file all the same.
fn lying_there(
    checked: Checked,
    error: &HomeError,
    lying: Result<CheckedFile, OpenError>,
) -> Checked {
    let checked = checked.met(error);
    let locked = checked.state == CheckState::Locked;
    match lying {
        Ok(found) => checked.found(found),
        // It has said so by not opening.
        Err(_) if !locked => checked,
        Err(error) => checked.met(&HomeError::Open(error)),
    }
}

const ASIDE: &str = "the secrets were damaged when the keys were changed, and were set aside";
const SET_ASIDE: &str = "It is set aside at the next start. Modules that had not read it miss what \
    it held; the stores have it.";
const LOST_WORDS: &str = "What comes before the damage is still read, and nothing but the log had \
    what is lost. It goes by itself when it is old enough.";
/// Of somebody who is away.
const WHEN_THEY_SIGN_IN: &str =
    "Only they can open it: the rest is checked when they sign in next.";

fn of_part(kind: CheckedPart, part: PartChecked, what_to_do: &str) -> Checked {
    let mut checked = Checked::new(kind, part.path);
    checked.looked_at = part.records;
    if let Some(wrong) = part.wrong {
        checked.state = CheckState::Damaged;
        checked.problems.push(wrong);
        checked.what_to_do = Some(what_to_do.to_owned());
    }
    checked
}

/// The error and its causes in one sentence, each once, without its end.
fn told(error: &HomeError) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        let one = error.to_string();
        if !text.contains(&one) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&one);
        }
        next = error.source();
    }
    text
}

//! What a change of keys has to do, in which order, and what of it is left.

use std::path::PathBuf;

use aico_contracts::ids::PersonId;
use aico_vault::Purpose;
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};

use super::Rotate;
use crate::home::{Open, PERSON_DB, SYSTEM_DB, person_folder};
use crate::{ErrorKind, Home, HomeError};

/// Instead of the epoch of a key that is not known, because its keyring is damaged: whichever it is
/// by then, it is to be another.
const WHICHEVER: u32 = u32::MAX;

/// Room that is left free beside the largest copy, in bytes.
const MARGIN: u64 = 16 << 20;

/// One thing to do. The names are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Step {
    /// The header with the root key of this epoch.
    Header(u32),
    /// The header for certain, and the registry.
    Registry,
    /// The wrap of each person's key under the root key; `Finish` looks once more.
    Keyrings,
    /// `system.db`; `true`: its own next key.
    System(bool),
    /// What is sealed in `system.db`.
    SealedKeys,
    /// A new key that signs tokens: everybody signs in again.
    SigningKey,
    /// A new key by which modules know the daemon.
    BusKey,
    /// A key of this epoch for a person.
    PersonKey(PersonId, u32),
    /// A person's database; `true`: its own next key.
    PersonStore(PersonId, bool),
    /// A person's working memory begins anew, under a salt of its own.
    Working(PersonId),
    /// The log's files.
    Logs,
    /// The journal's files; `true`: for the persons' keys too.
    Journal(bool),
    /// The log's files under other ids.
    LogsAnew,
    /// The journal's files under other ids.
    JournalAnew,
    /// What persons' messages say in the journal.
    Bodies,
    /// The secrets of the configuration under another id.
    Secrets,
    /// A person's kept prompts begin anew, under other names.
    Prompts(PersonId),
    /// The root key from before is forgotten.
    Finish,
}

impl Step {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Header(_) => "header",
            Self::Registry => "registry",
            Self::Keyrings => "keyrings",
            Self::System(_) => "system",
            Self::SealedKeys => "sealed-keys",
            Self::SigningKey => "signing-key",
            Self::BusKey => "bus-key",
            Self::PersonKey(..) => "person-key",
            Self::PersonStore(..) => "person-store",
            Self::Working(_) => "working-memory",
            Self::Logs => "logs",
            Self::Journal(_) => "journal",
            Self::LogsAnew => "logs-anew",
            Self::JournalAnew => "journal-anew",
            Self::Bodies => "bodies",
            Self::Secrets => "secrets",
            Self::Prompts(_) => "prompts",
            Self::Finish => "finish",
        }
    }
}

/// What is left to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

impl Plan {
    /// Everything under the root key, and nothing below it.
    fn of_root(epoch: u32) -> Self {
        Self {
            steps: vec![
                Step::Header(epoch),
                Step::Registry,
                Step::Keyrings,
                Step::System(false),
                Step::SealedKeys,
                Step::Logs,
                Step::Journal(false),
                Step::Finish,
            ],
        }
    }

    /// Whether it is what is left of a new root key, and of new ones for everything below it. With
    /// one step to go these look the same, and it passes for the lesser.
    pub(super) fn is_of_root(&self, compromised: bool) -> bool {
        self.steps.contains(&Step::Finish)
            && (!compromised || self.steps.contains(&Step::SigningKey))
    }

    /// Whether all of this is still to be done in it.
    pub(super) fn has(&self, asked: &Self) -> bool {
        asked.steps.iter().all(|step| self.steps.contains(step))
    }
}

impl Home {
    /// The steps that are left. One that was listed and never begun is forgotten.
    pub(super) async fn unfinished(&self, open: &Open) -> Result<Option<Plan>, HomeError> {
        let plan = open
            .system
            .read(|db| {
                let sql = "SELECT plan FROM rotation_plan WHERE one = 1";
                Ok(db
                    .query_row(sql, [], |row| row.get::<_, String>(0))
                    .optional()?)
            })
            .await?;
        let plan: Option<Plan> = plan.and_then(|text| serde_json::from_str(&text).ok());
        let earlier = open.vault.earlier_epoch();
        match plan {
            Some(plan) => {
                let begins = plan.steps.first();
                let vain =
                    matches!(begins, Some(Step::Header(epoch)) if *epoch > open.vault.key_epoch());
                if vain {
                    self.forget_plan(open).await?;
                    return Ok(None);
                }
                Ok(Some(plan))
            }
            // The header says so itself.
            None if earlier.is_some() => Ok(Some(Plan::of_root(open.vault.key_epoch()))),
            None => Ok(None),
        }
    }

    pub(super) async fn planned(
        &self,
        open: &Open,
        what: &Rotate,
        proven: bool,
    ) -> Result<Plan, HomeError> {
        let mut steps = Vec::new();
        if what.root {
            if !proven {
                return Err(HomeError::WrongPassword);
            }
            let all = Plan::of_root(open.vault.key_epoch() + 1).steps;
            if !what.compromised {
                return Ok(Plan { steps: all });
            }
            steps.extend(all.into_iter().take(5));
            for person in self.persons().await? {
                steps.extend(match self.new_person_key(open, person.id) {
                    // Theirs is put off, and keeps nobody else's from being changed.
                    Err(error) if error.kind() == ErrorKind::Damaged => {
                        key_steps(person.id, WHICHEVER)
                    }
                    known => known?,
                });
            }
            steps.extend([
                Step::Logs,
                Step::Journal(true),
                Step::BusKey,
                Step::SigningKey,
                Step::Finish,
            ]);
            return Ok(Plan { steps });
        }
        for purpose in &what.purposes {
            let of_whom = match Alone::of(*purpose)? {
                Alone::Once(step) => vec![step],
                Alone::OfEach(step) => {
                    let persons = self.persons().await?.into_iter().map(|person| person.id);
                    let wanted = persons.filter(|id| what.person.is_none_or(|only| only == *id));
                    wanted.map(step).collect()
                }
            };
            for step in of_whom {
                // Asked for twice, or by two names of the same.
                if !steps.contains(&step) {
                    steps.push(step);
                }
            }
        }
        if let (Some(person), true) = (what.person, what.purposes.is_empty()) {
            self.known(open, person).await?;
            steps.extend(self.new_person_key(open, person)?);
            steps.push(Step::Journal(true));
        }
        Ok(Plan { steps })
    }

    fn new_person_key(&self, open: &Open, person: PersonId) -> Result<[Step; 2], HomeError> {
        let epoch = open.vault.key_epoch_of(*person.as_bytes());
        Ok(key_steps(person, epoch.map_err(HomeError::Keyring)? + 1))
    }

    /// One copy at a time lies beside what it replaces.
    pub(super) async fn check_room(&self, open: &Open, plan: &Plan) -> Result<(), HomeError> {
        let largest = plan
            .steps
            .iter()
            .map(|step| self.bytes_of(open, step))
            .max()
            .unwrap_or(0);
        let needed = largest + MARGIN;
        match aico_vault::fs::free_bytes(self.root()) {
            Some(free) if free < needed => Err(HomeError::NoRoom { needed, free }),
            _ => Ok(()),
        }
    }

    /// Bytes that a step rewrites.
    pub(super) fn bytes_of(&self, open: &Open, step: &Step) -> u64 {
        let of_file = |path: PathBuf| std::fs::metadata(path).map_or(0, |about| about.len());
        match step {
            Step::System(_) => of_file(open.vault.data().join(SYSTEM_DB)),
            Step::PersonStore(person, _) => {
                of_file(person_folder(self.root(), *person).join(PERSON_DB))
            }
            Step::Logs | Step::LogsAnew => self.parts().map_or(0, |parts| parts.bytes().0),
            Step::Journal(_) | Step::JournalAnew | Step::Bodies => {
                self.parts().map_or(0, |parts| parts.bytes().1)
            }
            _ => 0,
        }
    }

    pub(super) async fn save_plan(&self, open: &Open, plan: &Plan) -> Result<(), HomeError> {
        let text = serde_json::to_string(plan).map_err(|_| HomeError::Task)?;
        open.system
            .write(move |tx| {
                let sql = "INSERT OR REPLACE INTO rotation_plan (one, plan) VALUES (1, ?1)";
                Ok(tx.execute(sql, [text]).map(drop)?)
            })
            .await?;
        Ok(())
    }

    pub(super) async fn forget_plan(&self, open: &Open) -> Result<(), HomeError> {
        open.system
            .write(|tx| Ok(tx.execute("DELETE FROM rotation_plan", []).map(drop)?))
            .await?;
        Ok(())
    }
}

/// How the keys of a purpose are changed while those above them stay.
enum Alone {
    /// Those of the system, or of everybody together.
    Once(Step),
    /// Each person's.
    OfEach(fn(PersonId) -> Step),
}

impl Alone {
    fn of(purpose: Purpose) -> Result<Self, HomeError> {
        Ok(match purpose {
            Purpose::SystemDatabase => Self::Once(Step::System(true)),
            Purpose::SigningKey => Self::Once(Step::SigningKey),
            Purpose::BusKey => Self::Once(Step::BusKey),
            Purpose::Log => Self::Once(Step::LogsAnew),
            Purpose::BusJournal => Self::Once(Step::JournalAnew),
            Purpose::BusBody => Self::Once(Step::Bodies),
            Purpose::Configuration => Self::Once(Step::Secrets),
            Purpose::PersonDatabase => Self::OfEach(|id| Step::PersonStore(id, true)),
            Purpose::WorkingMemory => Self::OfEach(Step::Working),
            // The one's files have names that come from the other, which are their ids as well.
            Purpose::PromptCache | Purpose::PromptCacheName => Self::OfEach(Step::Prompts),
            other => return Err(HomeError::Rotation(with_what(other))),
        })
    }
}

/// What the keys of a purpose change with that don't change alone.
fn with_what(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Registry | Purpose::HeaderMac | Purpose::PersonKeyWrap => {
            "this key comes with the root key and changes with it: aico vault rotate"
        }
        Purpose::KeyringMac => {
            "this key comes with the person's own and changes with it: aico vault rotate --person \
             NAME, for everybody aico vault rotate --compromised"
        }
        Purpose::EarlierKey => {
            "this key is there while the key above it changes, and is new each time: aico vault \
             rotate, of a person's key aico vault rotate --person NAME, of everybody's aico vault \
             rotate --compromised"
        }
        Purpose::EncryptedFile => {
            "each file has a key of its own, and AICO does not know where the files lie: encrypt a \
             file anew for another one (aico file encrypt); the key above those of files to come \
             changes with aico vault rotate --person NAME"
        }
        Purpose::Archive => {
            "each archive has a key of its own: make another one (aico backup create); what seals \
             it changes with the root key: aico vault rotate"
        }
        Purpose::ContentId => {
            "nothing is under this key; it changes with the person's key: aico vault rotate \
             --person NAME, for everybody aico vault rotate --compromised"
        }
        _ => "this key changes with the key above it: aico vault rotate --compromised",
    }
}

fn key_steps(person: PersonId, epoch: u32) -> [Step; 2] {
    [
        Step::PersonKey(person, epoch),
        Step::PersonStore(person, false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_programs_left_is_read_and_written_as_they_did() {
        let id = PersonId::new();
        let one = serde_json::to_string(&id).unwrap();
        let text = format!(
            r#"{{"steps":[{{"header":2}},"registry","keyrings",{{"system":false}},"sealed-keys",{{"person-key":[{one},4294967295]}},{{"person-store":[{one},true]}},{{"working":{one}}},"logs",{{"journal":true}},"bus-key","signing-key","finish"]}}"#
        );
        let plan: Plan = serde_json::from_str(&text).unwrap();
        assert_eq!(plan.steps.len(), 13);
        assert_eq!(plan.steps[7], Step::Working(id));
        assert_eq!(serde_json::to_string(&plan).unwrap(), text);
    }
}

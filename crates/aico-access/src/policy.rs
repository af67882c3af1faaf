//! The one place that decides: [`authorize`].
//!
//! Deny by default. Each [`Action`] names the rule it needs; there is no other way to be let in.
//! Owner and member rules stand here as code for now; policies as data and consent become inputs
//! of the same function later, without touching a caller.

use aico_bus::{Direction, Identity, Policy, Refusal};
use aico_contracts::ids::PersonId;

use crate::{Grants, Principal};

/// What is acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The installation as a whole.
    System,
    /// Data of this person.
    Of(PersonId),
    /// A topic (or pattern) on the bus, and whose data it carries.
    Topic {
        /// As published, or the pattern that is subscribed to or served.
        topic: &'a str,
        /// From the envelope or the topic's second segment.
        person: Option<PersonId>,
    },
}

/// Why not, in the terms of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// 401: nobody is signed in.
    #[error("sign in first")]
    SignInNeeded,
    /// 403: known, and not allowed.
    #[error("this is for the owner")]
    Forbidden,
    /// 404: somebody else's, told like something that does not exist.
    #[error("there is no such thing")]
    NotFound,
}

/// The rule an action needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Open to all who reach the port: says nothing about anybody.
    Anyone,
    /// Carries its own proof (a password, the set-up code), checked where it is used.
    Proof,
    /// A signed-in person, on what is their own.
    Self_,
    /// A signed-in person, on the installation.
    SignedIn,
    /// The owner.
    Owner,
    /// Another program with a named token, on what is its person's.
    Program,
    /// The owner, or another program with a named token of theirs, on the installation: for
    /// figures, which are no person's.
    OwnerOrProgram,
    /// Modules on the bus: see [`topic_rule`].
    Bus,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $rule:ident,)*) => {
        /// Everything that can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            /// All of them, for tests that hold documents and rules together.
            pub const ALL: &'static [Action] = &[$(Action::$name,)*];

            /// The stable name, for audit and logs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Action::$name => $text,)* }
            }

            fn rule(self) -> Rule {
                match self { $(Action::$name => Rule::$rule,)* }
            }
        }
    };
}

actions! {
    /// `/livez` and `/readyz`.
    ReadHealth = "health.read" => Anyone,
    /// The OpenAPI document.
    ReadContract = "contract.read" => Anyone,
    /// New, locked or ready.
    ReadState = "state.read" => Anyone,
    /// The page itself and its files.
    ReadUi = "ui.read" => Anyone,
    /// A generated passphrase.
    SuggestPassphrase = "passphrase.suggest" => Anyone,
    /// First set-up, with the one-time code.
    SetUp = "home.set-up" => Proof,
    /// With the master password.
    Unlock = "home.unlock" => Proof,
    /// With the recovery phrase: a new master password.
    Recover = "home.recover" => Proof,
    /// With a name and a password.
    SignIn = "session.create" => Proof,
    /// Ends all sessions and forgets all keys.
    Lock = "home.lock" => Owner,
    /// What opens the vault.
    ReadVault = "vault.read" => Owner,
    /// Lets a keychain open the vault, or no longer, with the master password.
    RememberVault = "vault.remember" => Owner,
    /// A new recovery phrase, with the master password.
    ReissuePhrase = "vault.phrase" => Owner,
    /// New keys, with the master password.
    RotateVault = "vault.rotate" => Owner,
    /// With a sealed person's own phrase: a new password for them.
    RecoverPerson = "person.recover" => Proof,
    /// Who am I.
    ReadSelf = "self.read" => Self_,
    /// One's own password.
    ChangePassword = "self.change-password" => Self_,
    /// Who can open one's own data, with one's own password.
    SealSelf = "self.seal" => Self_,
    /// The key of one of one's own encrypted files.
    ReadFileKey = "file.key" => Self_,
    /// One's own sessions.
    ListSessions = "session.list" => Self_,
    /// One of one's own sessions, or all.
    EndSession = "session.end" => Self_,
    /// Who belongs to the household.
    ListPersons = "person.list" => Owner,
    /// A new person.
    AddPerson = "person.add" => Owner,
    /// A person and all their data, with the owner's password.
    ErasePerson = "person.erase" => Owner,
    /// Everything about oneself in open formats, with one's own password.
    ExportSelf = "self.export" => Self_,
    /// The key of one's own database for other programs, with one's own password.
    ExportStoreKey = "self.export-key" => Self_,
    /// A backup of everybody's data, encrypted.
    CreateBackup = "backup.create" => Owner,
    /// Characters to talk to.
    ListCharacters = "character.list" => Self_,
    /// One of them, with its texts and its picture.
    ReadCharacter = "character.read" => Self_,
    /// A character of one's own, new or changed.
    SaveCharacter = "character.save" => Self_,
    /// A character out of a file.
    ImportCharacter = "character.import" => Self_,
    /// A character as a file.
    ExportCharacter = "character.export" => Self_,
    /// Removes a character of one's own.
    RemoveCharacter = "character.remove" => Self_,
    /// Chooses the one for one's new conversations.
    UseCharacter = "character.use" => Self_,
    /// One's own conversations.
    ListConversations = "conversation.list" => Self_,
    /// A new conversation.
    CreateConversation = "conversation.create" => Self_,
    /// One conversation with its messages.
    ReadConversation = "conversation.read" => Self_,
    /// Title and branch.
    ChangeConversation = "conversation.change" => Self_,
    /// A conversation and its messages.
    DeleteConversation = "conversation.delete" => Self_,
    /// Says something.
    SendMessage = "message.send" => Self_,
    /// Another answer.
    Regenerate = "message.regenerate" => Self_,
    /// Another wording.
    EditMessage = "message.edit" => Self_,
    /// Stops an answer.
    CancelAnswer = "message.cancel" => Self_,
    /// Full-text search in one's own.
    Search = "conversation.search" => Self_,
    /// The WebSocket.
    OpenEvents = "events.open" => Self_,
    /// Which models there are and how they are.
    ListModels = "model.list" => SignedIn,
    /// Brings in a file.
    AddModel = "model.add" => Owner,
    /// Chooses the model that answers.
    UseModel = "model.use" => Owner,
    /// Forgets a model.
    RemoveModel = "model.remove" => Owner,
    /// Counts the tokens of what would be said to a model.
    CountTokens = "model.count" => Self_,
    /// Turns texts into vectors.
    EmbedTexts = "model.embed" => SignedIn,
    /// Finds what texts name.
    FindEntities = "model.entities" => SignedIn,
    /// Tells how texts judge or what they feel.
    ClassifyTexts = "model.classify" => SignedIn,
    /// Which models for texts there are.
    ListPackages = "model.packages" => SignedIn,
    /// Brings in a model for texts.
    AddPackage = "model.add-package" => Owner,
    /// Removes a model for texts.
    RemovePackage = "model.remove-package" => Owner,
    /// Looks whether the stored data is sound.
    CheckStores = "store.check" => Owner,
    /// Takes an older copy of a person's data, that was put back, as the present one.
    AcceptOlderCopy = "store.accept" => Owner,
    /// Keeps a model in memory, or no longer.
    PinModel = "model.pin" => Owner,
    /// What models do, and one's own questions to them.
    ReadActivity = "model.activity" => Self_,
    /// Which models can be downloaded, and what suits this machine.
    ReadCatalogue = "model.catalogue" => Owner,
    /// Downloads a model.
    PullModel = "model.pull" => Owner,
    /// Which downloads there are and how far they are.
    ListPulls = "model.pulls" => Owner,
    /// Ends a download and removes what there is of it.
    CancelPull = "model.cancel-pull" => Owner,
    /// How the daemon is.
    ReadStatus = "status.read" => Owner,
    /// Figures of the daemon and of what models do, for a program that keeps them.
    ReadMetrics = "metrics.read" => OwnerOrProgram,
    /// Which modules of other makers there are; a member sees those that ask for their data.
    ListModules = "module.list" => SignedIn,
    /// Admits one to the bus.
    AddModule = "module.add" => Owner,
    /// New keys for one.
    RotateModule = "module.rotate" => Owner,
    /// Cuts one off for good.
    RevokeModule = "module.revoke" => Owner,
    /// Lets one have one's own data, or no longer.
    ConsentToModule = "module.consent" => Self_,
    /// Traffic on the bus: counters, queues.
    ReadBus = "bus.read" => Owner,
    /// Reads along what is said on the bus, of the system and of oneself.
    TailBus = "bus.tail" => Owner,
    /// Which other programs run models, and which of them one allowed.
    ListEngines = "engine.list" => SignedIn,
    /// Asks one what it has.
    CheckEngine = "engine.check" => Owner,
    /// Asks what a model for one would be, which asks the registry that it would come from.
    OfferEngineModel = "engine.offer-model" => Owner,
    /// Lets one download a model, or makes one there.
    MakeEngineModel = "engine.make-model" => Owner,
    /// How far that is.
    ListEngineJobs = "engine.list-jobs" => Owner,
    /// Ends it.
    CancelEngineJob = "engine.cancel-job" => Owner,
    /// What one tells of a model.
    ShowEngineModel = "engine.show-model" => Owner,
    /// Removes a model from one's disk.
    DeleteEngineModel = "engine.delete-model" => Owner,
    /// What of one is installed, and what could be.
    ReadInstallation = "engine.installation" => Owner,
    /// Installs one for the user that AICO runs as.
    InstallEngine = "engine.install" => Owner,
    /// Ends that.
    CancelInstallation = "engine.cancel-installation" => Owner,
    /// Lets one's own words go to one, or no longer.
    ConsentToEngine = "engine.consent" => Self_,
    /// What of one's own words left this machine.
    ListEgress = "egress.list" => Self_,
    /// One's own named tokens.
    ListTokens = "token.list" => Self_,
    /// A new one.
    CreateToken = "token.create" => Self_,
    /// Ends one.
    RevokeToken = "token.revoke" => Self_,
    /// Another program looks which models there are.
    ProgramLook = "program.look" => Program,
    /// Another program asks a model, or talks with the companion.
    ProgramAsk = "program.ask" => Program,
    /// The names of the configuration's secrets.
    ListSecrets = "config.secret.list" => Owner,
    /// A secret of the configuration.
    SetSecret = "config.secret.set" => Owner,
    /// Removes one.
    RemoveSecret = "config.secret.remove" => Owner,
    /// The configuration in force.
    ReadConfig = "config.read" => Owner,
    /// The daemon's log.
    ReadLogs = "logs.read" => Owner,
    /// Sends on the bus.
    BusPublish = "bus.publish" => Bus,
    /// Receives from the bus.
    BusSubscribe = "bus.subscribe" => Bus,
    /// Asks on the bus.
    BusRequest = "bus.request" => Bus,
    /// Answers on the bus.
    BusServe = "bus.serve" => Bus,
}

/// May this principal do this to that? The only function that answers.
///
/// # Errors
/// [`Denied`] says how the refusal is told.
pub fn authorize(
    principal: &Principal,
    action: Action,
    resource: &Resource<'_>,
) -> Result<(), Denied> {
    // A named token opens what programs may and nothing else; there it counts as none.
    if let Principal::Program { .. } = principal
        && !matches!(
            action.rule(),
            Rule::Anyone | Rule::Program | Rule::OwnerOrProgram
        )
    {
        return Err(Denied::SignInNeeded);
    }
    match action.rule() {
        Rule::Anyone | Rule::Proof => match resource {
            Resource::System => Ok(()),
            Resource::Of(_) | Resource::Topic { .. } => Err(Denied::NotFound),
        },
        Rule::SignedIn => principal.person().map(|_| ()).ok_or(Denied::SignInNeeded),
        Rule::OwnerOrProgram if principal.is_of_the_owner() => Ok(()),
        Rule::Owner | Rule::OwnerOrProgram => match principal.person() {
            None => Err(Denied::SignInNeeded),
            Some(_) if principal.is_owner() => Ok(()),
            Some(_) => Err(Denied::Forbidden),
        },
        Rule::Self_ => {
            let me = principal.person().ok_or(Denied::SignInNeeded)?;
            match resource {
                Resource::Of(person) if *person == me => Ok(()),
                // Not even the owner: the same answer as for what does not exist.
                Resource::Of(_) | Resource::System | Resource::Topic { .. } => {
                    Err(Denied::NotFound)
                }
            }
        }
        Rule::Program => match (principal, resource) {
            (Principal::Program { person, .. }, Resource::Of(whose)) if person == whose => Ok(()),
            (Principal::Program { .. }, _) => Err(Denied::NotFound),
            // Who is signed in uses the API; these doors take named tokens only.
            _ => Err(Denied::SignInNeeded),
        },
        Rule::Bus => match (principal, resource) {
            (Principal::Module { name }, Resource::Topic { topic, person }) => {
                topic_rule(name, action, topic, *person)
            }
            (Principal::Guest { grant }, Resource::Topic { topic, person }) => {
                grant.allows(action, topic, *person)
            }
            _ => Err(Denied::Forbidden),
        },
    }
}

/// What each module of the daemon may do on which topics. A pattern ending in `.#` stands for
/// everything below; `*` for one segment.
const MODULE_TOPICS: &[(&str, Action, &str)] = &[
    ("companion", Action::BusServe, "conversation.*.request.*"),
    ("companion", Action::BusPublish, "conversation.*.event.*"),
    ("companion", Action::BusRequest, "models.*"),
    ("companion", Action::BusSubscribe, "models.state"),
    ("companion", Action::BusSubscribe, "system.#"),
    ("gateway", Action::BusRequest, "conversation.*.request.*"),
    ("gateway", Action::BusSubscribe, "conversation.*.event.*"),
    ("gateway", Action::BusRequest, "models.*"),
    ("gateway", Action::BusSubscribe, "models.state"),
    ("gateway", Action::BusSubscribe, "system.#"),
    ("models", Action::BusServe, "models.*"),
    ("models", Action::BusPublish, "models.state"),
    ("models", Action::BusRequest, "models.slot.*.*"),
    // For a question for vectors, as others do it for one in words.
    ("models", Action::BusRequest, "models.prepare"),
    // What was downloaded by a program beside us answers from then on, where a person wished it.
    ("models", Action::BusRequest, "models.use"),
    ("daemon", Action::BusPublish, "system.#"),
    // `aico bus tail`: the owner's eyes, which see the owner's data only (`BusPolicy::sees`).
    (TAIL, Action::BusSubscribe, "#"),
];

/// What the names of model processes begin with; the number of their slot follows.
pub const MODEL_PROCESS: &str = "model-process-";

/// The identity that reads along for the owner.
pub const TAIL: &str = "tail";

fn topic_rule(
    module: &str,
    action: Action,
    topic: &str,
    person: Option<PersonId>,
) -> Result<(), Denied> {
    // A personal topic carries its person: a message that names another is a forgery.
    if let (Some(person), Some(segment)) = (person, personal_segment(topic))
        && segment != "*"
        && segment != person.to_string()
    {
        return Err(Denied::Forbidden);
    }
    // A model file that took its process over gets the questions to its own model and no others.
    if let Some(slot) = module.strip_prefix(MODEL_PROCESS) {
        let own = format!("models.slot.{slot}.*");
        return match slot.parse::<u32>() {
            Ok(_) if action == Action::BusServe && covers(&own, topic) => Ok(()),
            _ => Err(Denied::Forbidden),
        };
    }
    let allowed = MODULE_TOPICS
        .iter()
        .any(|(name, what, pattern)| *name == module && *what == action && covers(pattern, topic));
    if allowed {
        Ok(())
    } else {
        Err(Denied::Forbidden)
    }
}

/// The second segment of a topic that belongs to a person.
pub(crate) fn personal_segment(topic: &str) -> Option<&str> {
    let mut segments = topic.split('.');
    (segments.next() == Some("conversation"))
        .then(|| segments.next())
        .flatten()
}

/// Everything that `topic` (itself possibly a pattern) stands for lies within `pattern`.
pub(crate) fn covers(pattern: &str, topic: &str) -> bool {
    let mut wanted = pattern.split('.');
    let mut given = topic.split('.');
    loop {
        match (wanted.next(), given.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("*"), Some(segment)) if segment != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// The bus asks here, so that its calls and the routes are decided by one function.
#[derive(Clone, Default)]
pub struct BusPolicy {
    grants: Grants,
}

impl BusPolicy {
    /// A policy that knows what modules of other makers were granted ([`crate::Home::grants`]).
    #[must_use]
    pub fn new(grants: Grants) -> Self {
        Self { grants }
    }
}

impl Policy for BusPolicy {
    fn allow(
        &self,
        who: &Identity,
        direction: Direction,
        topic: &str,
        person: Option<PersonId>,
    ) -> Result<(), Refusal> {
        let action = match direction {
            Direction::Publish => Action::BusPublish,
            Direction::Subscribe => Action::BusSubscribe,
            Direction::Request => Action::BusRequest,
            Direction::Serve => Action::BusServe,
        };
        let principal = match self.grants.of(who) {
            Some(grant) => Principal::Guest { grant },
            None => Principal::Module {
                name: who.as_str().to_owned(),
            },
        };
        authorize(&principal, action, &Resource::Topic { topic, person }).map_err(|denied| {
            let why = match &principal {
                Principal::Guest { .. } => "it was not granted; see aico module list".to_owned(),
                _ => denied.to_string(),
            };
            Refusal::new(why)
        })
    }

    fn sees(&self, who: &Identity, person: PersonId) -> bool {
        match self.grants.of(who) {
            Some(grant) => grant.persons.contains(&person),
            None if who.as_str() == TAIL => self.grants.owner() == Some(person),
            None => true,
        }
    }

    /// Parts of AICO itself have no SUB sockets.
    fn reaches(&self, who: &Identity, prefix: &str) -> bool {
        self.grants
            .of(who)
            .is_some_and(|grant| grant.reaches(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;
    use aico_contracts::ids::{SessionId, TokenId};

    fn signed_in(role: Role) -> Principal {
        Principal::Person {
            person: PersonId::new(),
            role,
            session: SessionId::new(),
        }
    }

    #[test]
    fn nobody_reaches_another_persons_data_and_hears_that_it_does_not_exist() {
        let other = Resource::Of(PersonId::new());
        let local = Principal::LocalOwner {
            person: PersonId::new(),
        };
        for action in Action::ALL.iter().filter(|a| a.rule() == Rule::Self_) {
            for who in [
                signed_in(Role::Owner),
                signed_in(Role::Member),
                local.clone(),
            ] {
                assert_eq!(
                    authorize(&who, *action, &other),
                    Err(Denied::NotFound),
                    "{action:?}"
                );
                let own = Resource::Of(who.person().unwrap());
                assert_eq!(authorize(&who, *action, &own), Ok(()), "{action:?}");
            }
            let nobody = authorize(&Principal::Anonymous, *action, &other);
            assert_eq!(nobody, Err(Denied::SignInNeeded), "{action:?}");
        }
    }

    #[test]
    fn the_owners_actions_are_the_owners() {
        for action in Action::ALL.iter().filter(|a| a.rule() == Rule::Owner) {
            let system = Resource::System;
            assert_eq!(authorize(&signed_in(Role::Owner), *action, &system), Ok(()));
            let member = authorize(&signed_in(Role::Member), *action, &system);
            assert_eq!(member, Err(Denied::Forbidden), "{action:?}");
            for nobody in [Principal::Anonymous, Principal::Local] {
                let answer = authorize(&nobody, *action, &system);
                assert_eq!(answer, Err(Denied::SignInNeeded), "{action:?}");
            }
        }
    }

    #[test]
    fn a_module_can_do_nothing_but_the_bus_and_a_person_nothing_on_it() {
        let module = Principal::Module {
            name: "companion".into(),
        };
        for action in Action::ALL
            .iter()
            .filter(|a| !matches!(a.rule(), Rule::Anyone | Rule::Proof))
        {
            let on_bus = action.rule() == Rule::Bus;
            assert!(on_bus || authorize(&module, *action, &Resource::System).is_err());
            let topic = Resource::Topic {
                topic: "models.state",
                person: None,
            };
            let as_person = authorize(&signed_in(Role::Owner), *action, &topic);
            assert!(!on_bus || as_person == Err(Denied::Forbidden));
        }
    }

    #[test]
    fn figures_are_for_the_owner_and_programs_of_theirs() {
        let program = |role| Principal::Program {
            person: PersonId::new(),
            role,
            token: TokenId::new(),
        };
        let local = Principal::LocalOwner {
            person: PersonId::new(),
        };
        let may = |who: &Principal| authorize(who, Action::ReadMetrics, &Resource::System);
        for who in [signed_in(Role::Owner), local, program(Role::Owner)] {
            assert_eq!(may(&who), Ok(()), "{who:?}");
        }
        for who in [signed_in(Role::Member), program(Role::Member)] {
            assert_eq!(may(&who), Err(Denied::Forbidden), "{who:?}");
        }
        for who in [Principal::Anonymous, Principal::Local] {
            assert_eq!(may(&who), Err(Denied::SignInNeeded), "{who:?}");
        }
        // What is the owner's alone stays closed to programs of theirs.
        let status = authorize(&program(Role::Owner), Action::ReadStatus, &Resource::System);
        assert_eq!(status, Err(Denied::SignInNeeded));
    }

    #[test]
    fn a_program_may_what_programs_may_for_its_person_and_nothing_else() {
        let person = PersonId::new();
        let program = Principal::Program {
            person,
            role: Role::Member,
            token: TokenId::new(),
        };
        for action in Action::ALL {
            for resource in [Resource::System, Resource::Of(person)] {
                let answer = authorize(&program, *action, &resource);
                match action.rule() {
                    Rule::Anyone => assert_eq!(answer.is_ok(), resource == Resource::System),
                    Rule::Program => {
                        assert_eq!(answer.is_ok(), resource == Resource::Of(person));
                        let other = Resource::Of(PersonId::new());
                        let other = authorize(&program, *action, &other);
                        assert_eq!(other, Err(Denied::NotFound), "{action:?}");
                    }
                    Rule::OwnerOrProgram => assert_eq!(answer, Err(Denied::Forbidden)),
                    _ => assert_eq!(answer, Err(Denied::SignInNeeded), "{action:?}"),
                }
            }
        }
        for who in [
            Principal::Anonymous,
            Principal::Local,
            Principal::LocalOwner { person },
            signed_in(Role::Owner),
        ] {
            let own = Resource::Of(who.person().unwrap_or(person));
            for action in Action::ALL.iter().filter(|a| a.rule() == Rule::Program) {
                let answer = authorize(&who, *action, &own);
                assert_eq!(answer, Err(Denied::SignInNeeded), "{action:?} {who:?}");
            }
        }
    }

    #[test]
    fn topics_are_matched_by_whole_segments_and_patterns_stay_inside() {
        assert!(covers(
            "conversation.*.event.*",
            "conversation.x.event.answer-done"
        ));
        assert!(covers("conversation.*.event.*", "conversation.*.event.*"));
        assert!(!covers("conversation.*.event.*", "conversation.#"));
        assert!(!covers("models.*", "models"));
        assert!(!covers("models.*", "models.state.x"));
        assert!(!covers("models.state", "models.stately"));
        assert!(covers("system.#", "system.person.removed"));
        assert!(!covers(
            "conversation.*.request.*",
            "conversation.x.event.answer-done"
        ));
    }

    #[test]
    fn a_model_process_serves_its_own_slot_and_nothing_else() {
        let may = |name: &str, action, topic| {
            let module = Principal::Module { name: name.into() };
            let topic = Resource::Topic {
                topic,
                person: None,
            };
            authorize(&module, action, &topic).is_ok()
        };
        let own = "models.slot.1.generate";
        assert!(may("model-process-1", Action::BusServe, own));
        assert!(may("models", Action::BusRequest, own));
        for action in [Action::BusPublish, Action::BusSubscribe, Action::BusRequest] {
            assert!(!may("model-process-1", action, own), "{action:?}");
        }
        for other in [
            "models.slot.0.generate",
            "models.slot.11.generate",
            "models.slot.*.generate",
            "models.slot.#",
            "models.generate",
            "models.state",
        ] {
            assert!(!may("model-process-1", Action::BusServe, other), "{other}");
        }
        for name in [
            "model-process-",
            "model-process-*",
            "model-process-#",
            "companion",
        ] {
            assert!(!may(name, Action::BusServe, own), "{name}");
        }
        assert!(!may("companion", Action::BusRequest, own));
    }

    #[test]
    fn a_person_named_beside_the_topic_must_be_the_topics() {
        let (a, b) = (PersonId::new(), PersonId::new());
        let topic = format!("conversation.{a}.event.answer-delta");
        let module = Principal::Module {
            name: "companion".into(),
        };
        let mine = Resource::Topic {
            topic: &topic,
            person: Some(a),
        };
        let forged = Resource::Topic {
            topic: &topic,
            person: Some(b),
        };
        assert_eq!(authorize(&module, Action::BusPublish, &mine), Ok(()));
        assert_eq!(
            authorize(&module, Action::BusPublish, &forged),
            Err(Denied::Forbidden)
        );
    }
}

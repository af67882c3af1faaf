//! What a module of another maker may do on the bus: a grant names topics, in one direction
//! each, and persons.
//!
//! The rows are in the system's store (`modules.rs`); here is the copy in memory that every
//! message is decided by, empty while AICO is locked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aico_bus::{Identity, Pattern};
use aico_contracts::ids::PersonId;
use parking_lot::RwLock;

use crate::policy::{covers, personal_segment};
use crate::{Action, Denied};

/// Begins the name under which every module of another maker is on the bus, so that none can be
/// taken for a part of AICO.
const PREFIX: &str = "module:";

/// The name on the bus of the module that its owner calls `name`.
#[must_use]
pub fn module_identity(name: &str) -> Identity {
    Identity::new(format!("{PREFIX}{name}"))
}

/// One direction and the topics in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicGrant {
    /// `BusPublish`, `BusSubscribe`, `BusRequest` or `BusServe`.
    pub action: Action,
    /// A pattern as on the bus: `*` one segment, `#` the rest.
    pub pattern: String,
}

/// Why a grant can't be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not a topic or a pattern.
    #[error(
        "\"{pattern}\" is no topic: segments of letters, digits, - and _ with dots between; * for one of them, # at the end for the rest"
    )]
    Pattern {
        /// What was asked for.
        pattern: String,
    },
    /// It would reach over everything.
    #[error("\"{pattern}\" begins with a wildcard: name the first segment")]
    TooWide {
        /// What was asked for.
        pattern: String,
    },
    /// One of AICO's own topics, which others may not use so.
    #[error("\"{pattern}\" belongs to AICO: {hint}")]
    Reserved {
        /// What was asked for.
        pattern: String,
        /// What can be had instead.
        hint: &'static str,
    },
    /// A module that may do nothing.
    #[error("a module needs at least one topic to publish, subscribe to, ask or serve")]
    Nothing,
    /// More than anybody needs.
    #[error("a module has at most {LARGEST} topics and {LARGEST} persons")]
    TooMany,
}

/// Most topics, and most persons, of one grant.
const LARGEST: usize = 64;

impl TopicGrant {
    /// Checks what is asked for: a pattern that can be given to a module of another maker.
    ///
    /// # Errors
    /// [`GrantError`] says why it can't.
    pub fn new(action: Action, pattern: &str) -> Result<Self, GrantError> {
        let named = || pattern.chars().take(120).collect::<String>();
        if pattern.parse::<Pattern>().is_err() {
            return Err(GrantError::Pattern { pattern: named() });
        }
        let first = pattern.split('.').next().unwrap_or_default();
        let hint = match (first, action) {
            ("*" | "#", _) => return Err(GrantError::TooWide { pattern: named() }),
            ("conversation" | "ui", Action::BusSubscribe) => None,
            ("conversation", Action::BusRequest) if covers("conversation.*.request.*", pattern) => {
                None
            }
            ("conversation", _) => {
                Some("subscribe to conversation.*.event.*, or ask on conversation.*.request.send")
            }
            ("models", Action::BusSubscribe) if pattern == "models.state" => None,
            ("models", Action::BusRequest) if MODEL_QUESTIONS.contains(&pattern) => None,
            ("models", _) => {
                Some("ask on models.generate, count, list, get-state, embed, entities or classify")
            }
            ("system", Action::BusSubscribe) if pattern == "system.stage" => None,
            ("system", _) => Some("subscribe to system.stage"),
            ("ui", _) => Some("subscribe to ui.#"),
            _ => None,
        };
        match hint {
            Some(hint) => Err(GrantError::Reserved {
                pattern: named(),
                hint,
            }),
            None => Ok(Self {
                action,
                pattern: pattern.to_owned(),
            }),
        }
    }
}

/// What everybody on the bus may ask the model service.
const MODEL_QUESTIONS: &[&str] = &[
    "models.generate",
    "models.count",
    "models.list",
    "models.get-state",
    "models.embed",
    "models.entities",
    "models.classify",
];

/// Everything that one module may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub(crate) topics: Vec<TopicGrant>,
    /// Those who agreed.
    pub(crate) persons: HashSet<PersonId>,
}

impl Grant {
    pub(crate) fn check_size(topics: usize, persons: usize) -> Result<(), GrantError> {
        match topics {
            0 => Err(GrantError::Nothing),
            _ if topics > LARGEST || persons > LARGEST => Err(GrantError::TooMany),
            _ => Ok(()),
        }
    }

    /// Whether there can be a topic that begins so and that it may subscribe to. Who has not
    /// agreed has no topics.
    pub(crate) fn reaches(&self, prefix: &str) -> bool {
        let named = prefix.split('.').count() > 2;
        let person = personal_segment(prefix).filter(|_| named);
        let agreed = person.is_none_or(|segment| {
            let person = segment.parse::<PersonId>();
            person.is_ok_and(|person| self.persons.contains(&person))
        });
        agreed
            && self.topics.iter().any(|grant| {
                let pattern = grant.pattern.parse::<Pattern>();
                grant.action == Action::BusSubscribe
                    && pattern.is_ok_and(|pattern| pattern.reaches(prefix))
            })
    }

    /// On this topic (or pattern), with data of this person?
    pub(crate) fn allows(
        &self,
        action: Action,
        topic: &str,
        person: Option<PersonId>,
    ) -> Result<(), Denied> {
        let covered = self
            .topics
            .iter()
            .any(|grant| grant.action == action && covers(&grant.pattern, topic));
        let agreed = person.is_none_or(|person| self.persons.contains(&person));
        // A pattern may stand for everybody: what is delivered on it is decided for each message.
        let named = match (action, personal_segment(topic)) {
            (_, None) => true,
            (Action::BusSubscribe | Action::BusServe, Some(_)) => true,
            (_, Some(_)) => person.is_some(),
        };
        if covered && agreed && named {
            Ok(())
        } else {
            Err(Denied::Forbidden)
        }
    }
}

/// The grants in force. Cheap to clone; every clone sees the same.
#[derive(Clone, Default)]
pub struct Grants(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    modules: HashMap<Identity, Arc<Grant>>,
    owner: Option<PersonId>,
}

impl Grants {
    pub(crate) fn replace(&self, owner: PersonId, modules: HashMap<Identity, Arc<Grant>>) {
        *self.0.write() = Inner {
            modules,
            owner: Some(owner),
        };
    }

    pub(crate) fn clear(&self) {
        *self.0.write() = Inner::default();
    }

    /// What this identity was granted; `None` for the parts of AICO itself.
    pub(crate) fn of(&self, who: &Identity) -> Option<Arc<Grant>> {
        if !who.as_str().starts_with(PREFIX) {
            return None;
        }
        // One that is not listed any more may do nothing.
        Some(self.0.read().modules.get(who).cloned().unwrap_or_default())
    }

    pub(crate) fn owner(&self) -> Option<PersonId> {
        self.0.read().owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_aico_is_not_given_away() {
        use Action::{BusPublish, BusRequest, BusServe, BusSubscribe};
        for (action, pattern) in [
            (BusPublish, "weather.#"),
            (BusServe, "weather.today"),
            (BusRequest, "calendar.*.next"),
            (BusSubscribe, "conversation.*.#"),
            (BusRequest, "conversation.*.request.send"),
            (BusRequest, "models.generate"),
            (BusSubscribe, "models.state"),
            (BusSubscribe, "system.stage"),
        ] {
            assert!(
                TopicGrant::new(action, pattern).is_ok(),
                "{action:?} {pattern}"
            );
        }
        for (action, pattern) in [
            (BusSubscribe, "#"),
            (BusPublish, "*.today"),
            (BusPublish, "conversation.*.event.answer-done"),
            (BusServe, "conversation.*.request.send"),
            (BusRequest, "conversation.#"),
            (BusRequest, "models.remove"),
            (BusServe, "models.generate"),
            (BusSubscribe, "models.#"),
            (BusPublish, "models.state"),
            (BusSubscribe, "system.#"),
            (BusPublish, "system.stage"),
            (BusPublish, "not a topic"),
            (BusPublish, ""),
        ] {
            assert!(
                TopicGrant::new(action, pattern).is_err(),
                "{action:?} {pattern}"
            );
        }
    }

    #[test]
    fn a_grant_reaches_its_topics_and_its_persons_and_nothing_else() {
        let (ann, ben) = (PersonId::new(), PersonId::new());
        let grant = Grant {
            topics: vec![
                TopicGrant::new(Action::BusSubscribe, "conversation.*.#").unwrap(),
                TopicGrant::new(Action::BusPublish, "weather.#").unwrap(),
                TopicGrant::new(Action::BusRequest, "conversation.*.request.send").unwrap(),
            ],
            persons: HashSet::from([ann]),
        };
        let of = |person: PersonId| format!("conversation.{person}.event.answer-done");
        let send = |person: PersonId| format!("conversation.{person}.request.send");
        let may = |action, topic: &str, person| grant.allows(action, topic, person).is_ok();
        assert!(may(Action::BusSubscribe, "conversation.*.event.*", None));
        assert!(may(Action::BusSubscribe, &of(ann), Some(ann)));
        assert!(!may(Action::BusSubscribe, &of(ben), Some(ben)));
        assert!(!may(Action::BusSubscribe, "weather.today", None));
        // A prefix that reaches beyond the grant is fine, what it brings is decided by topic; one
        // that can bring nothing is told apart.
        for prefix in [
            "",
            "conv",
            "conversation.",
            "conversation.x",
            &of(ann),
            &format!("conversation.{ann}."),
        ] {
            assert!(grant.reaches(prefix), "{prefix}");
        }
        for prefix in [
            "weather.",
            "conversationx",
            &of(ben),
            &format!("conversation.{ben}."),
            "conversation.x.",
        ] {
            assert!(!grant.reaches(prefix), "{prefix}");
        }
        assert!(may(Action::BusPublish, "weather.today", None));
        assert!(may(Action::BusPublish, "weather.today", Some(ann)));
        assert!(!may(Action::BusPublish, "weather.today", Some(ben)));
        assert!(!may(Action::BusPublish, "weatherman", None));
        assert!(may(Action::BusRequest, &send(ann), Some(ann)));
        assert!(!may(Action::BusRequest, &send(ann), None));
        assert!(!may(Action::BusRequest, &send(ben), Some(ben)));
    }

    #[test]
    fn who_is_not_listed_may_nothing_and_parts_of_aico_have_no_grant() {
        let grants = Grants::default();
        assert!(grants.of(&Identity::new("companion")).is_none());
        let stranger = grants.of(&module_identity("weather")).unwrap();
        assert!(
            stranger
                .allows(Action::BusPublish, "weather.x", None)
                .is_err()
        );
    }
}

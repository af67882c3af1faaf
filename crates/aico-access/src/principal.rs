//! On whose behalf something is asked.

use std::sync::Arc;

use aico_contracts::ids::{PersonId, SessionId, TokenId};

use crate::{Grant, Role};

/// Who asks. Made in one place for each way in: the gateway's extractor, the bus's join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody known.
    Anonymous,
    /// Whoever started the daemon, known by the operating system (the peer's uid on the local
    /// socket), while there is no owner to act for: nothing set up, or locked.
    Local,
    /// The same while unlocked: acts as the owner, and for the owner's data only.
    LocalOwner {
        /// The owner.
        person: PersonId,
    },
    /// A person who signed in.
    Person {
        /// Whose data it is.
        person: PersonId,
        /// What they may do beside.
        role: Role,
        /// The session that the token belongs to.
        session: SessionId,
    },
    /// Another program, with a named token: for that person, and for what programs may.
    Program {
        /// Whose data it is.
        person: PersonId,
        /// What that person is. It opens no more of the household to the program than figures.
        role: Role,
        /// The token.
        token: TokenId,
    },
    /// A part of AICO on the bus.
    Module {
        /// The joined identity's name, verified by the bus.
        name: String,
    },
    /// A module of another maker that was admitted to the bus.
    Guest {
        /// What it was granted.
        grant: Arc<Grant>,
    },
}

impl Principal {
    /// The person whose data this principal reaches.
    #[must_use]
    pub fn person(&self) -> Option<PersonId> {
        match self {
            Self::LocalOwner { person }
            | Self::Person { person, .. }
            | Self::Program { person, .. } => Some(*person),
            Self::Anonymous | Self::Local | Self::Module { .. } | Self::Guest { .. } => None,
        }
    }

    /// Manages the household.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        matches!(
            self,
            Self::LocalOwner { .. }
                | Self::Person {
                    role: Role::Owner,
                    ..
                }
        )
    }

    /// Is the owner, or a program with a named token of theirs.
    #[must_use]
    pub fn is_of_the_owner(&self) -> bool {
        self.is_owner()
            || matches!(
                self,
                Self::Program {
                    role: Role::Owner,
                    ..
                }
            )
    }

    /// Came over the local socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local | Self::LocalOwner { .. })
    }
}

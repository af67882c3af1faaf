//! Who asks, and may they: the only place that reads credentials, and the only one that asks
//! [`authorize`].
//!
//! Over TCP a bearer token is the one credential: never a cookie, never a query parameter. Over
//! the local socket the operating system has told that it is our own user, who acts as the
//! owner; a token there acts for the person it belongs to, with no more rights than anywhere.
//!
//! On the addresses that are there for other programs (`programs`) a named token is the one
//! credential, over the local socket too; on `/metrics` it is one beside the others, so that a
//! program that keeps figures needs no session; everywhere else it counts as none.
//!
//! A handler gets a [`Caller`] and calls one of its `may…` functions before anything else. What
//! was decided is noted in the request's [`Decision`]; a success without one is held back and
//! told as a defect (see `layers.rs`), so a handler that forgets to ask can't answer.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use aico_access::{
    Action, Denied, NAMED_TOKEN_PREFIX, Principal, Resource, Source, Stage, authorize,
};
use aico_contracts::ids::{PersonId, SessionId, TokenId};
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};

use crate::app::App;
use crate::peer::Peer;
use crate::problem::{Code, Problem};
use crate::programs;
use crate::routes::metrics::METRICS;

/// What was allowed in this request, set by the caller's `may…`.
#[derive(Clone, Default)]
pub struct Decision(Arc<OnceLock<Action>>);

impl Decision {
    /// The action that was allowed, when one was asked for.
    #[must_use]
    pub fn action(&self) -> Option<Action> {
        self.0.get().copied()
    }
}

/// Who asks.
pub(crate) struct Caller {
    principal: Principal,
    /// Why the credential that was offered does not count.
    refused: Option<Problem>,
    stage: Stage,
    decision: Decision,
    client: String,
    local: bool,
    from: Option<IpAddr>,
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        // Without these the request came in by no door of ours.
        let peer = parts
            .extensions
            .get::<Peer>()
            .cloned()
            .ok_or(Code::Internal)?;
        let decision = parts
            .extensions
            .get::<Decision>()
            .cloned()
            .ok_or(Code::Internal)?;
        let path = parts.uri.path();
        let program = programs::dialect(path).is_some();
        let is_named =
            |token: &str| program || (path == METRICS && token.starts_with(NAMED_TOKEN_PREFIX));
        let (principal, refused) = match token(&parts.headers) {
            Ok(None) if program => (Principal::Anonymous, None),
            Ok(Some(token)) if is_named(token) => {
                match app.home.authenticate_program(token).await {
                    Ok(principal) => (principal, None),
                    Err(error) => (Principal::Anonymous, Some(error.into())),
                }
            }
            Ok(None) if peer.is_local() => (app.home.local_principal(), None),
            Ok(None) => (Principal::Anonymous, None),
            Ok(Some(token)) => match app.home.authenticate(token).await {
                Ok(principal) => (principal, None),
                Err(error) => (Principal::Anonymous, Some(error.into())),
            },
            Err(problem) => (Principal::Anonymous, Some(problem)),
        };
        let client = parts
            .headers
            .get(header::USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("unknown")
            .to_owned();
        Ok(Self {
            principal,
            refused,
            stage: app.stage(),
            decision,
            client,
            local: peer.is_local(),
            from: peer.source(),
        })
    }
}

/// The bearer token, when one is offered.
fn token(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    match token {
        Some(token) if all.next().is_none() => Ok(Some(token)),
        _ => Err(Code::TokenInvalid.into()),
    }
}

impl Caller {
    /// May they do this to the installation?
    pub(crate) fn may(&self, action: Action) -> Result<(), Problem> {
        self.decide(action, &Resource::System)
    }

    /// May they do this to what is their own? Returns whose it is; it goes into every request
    /// to a module, so that nothing can be reached that belongs to another.
    pub(crate) fn may_own(&self, action: Action) -> Result<PersonId, Problem> {
        let me = self.principal.person();
        self.decide(action, &me.map_or(Resource::System, Resource::Of))?;
        me.ok_or_else(|| Code::SignInNeeded.into())
    }

    fn decide(&self, action: Action, resource: &Resource<'_>) -> Result<(), Problem> {
        match authorize(&self.principal, action, resource) {
            Ok(()) => {
                // Asked twice, the first stands; handlers ask once.
                let _ = self.decision.0.set(action);
                Ok(())
            }
            // Nobody can sign in now: that is what has to be told.
            Err(Denied::SignInNeeded) => Err(match self.stage {
                Stage::New => Code::NotSetUp.into(),
                Stage::Locked => Code::Locked.into(),
                Stage::Stopping => Code::Stopping.into(),
                Stage::Ready => self.refused.clone().unwrap_or(Code::SignInNeeded.into()),
            }),
            Err(denied) => Err(denied.into()),
        }
    }

    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The session that the token belongs to.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self.principal {
            Principal::Person { session, .. } => Some(session),
            _ => None,
        }
    }

    /// The named token that was shown.
    pub(crate) fn program(&self) -> Option<TokenId> {
        match self.principal {
            Principal::Program { token, .. } => Some(token),
            _ => None,
        }
    }

    /// Came over the local socket.
    pub(crate) fn is_local(&self) -> bool {
        self.local
    }

    /// What failed tries are counted for; nothing over the local socket.
    pub(crate) fn from(&self) -> Option<IpAddr> {
        self.from
    }

    /// How the household's part of the system is told where a password was typed.
    pub(crate) fn source(&self) -> Source {
        Source {
            client: self.client.clone(),
            local: self.local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        token(&headers)
            .map(|token| token.map(str::to_owned))
            .map_err(|problem| problem.code())
    }

    #[test]
    fn one_bearer_token_and_nothing_else_is_a_credential() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Bearer abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(read(&["bearer abc"]), Ok(Some("abc".to_owned())));
        for values in [
            &["Basic YTpi"][..],
            &["abc"],
            &[""],
            &["Bearer a", "Bearer b"],
            &["Bearer a", "Basic b"],
        ] {
            assert_eq!(read(values), Err(Code::TokenInvalid), "{values:?}");
        }
    }
}

//! Who asks, and how much at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_access::Action;
use aico_contracts::ids::{PersonId, TokenId};
use parking_lot::Mutex;

use crate::app::App;
use crate::caller::Caller;
use crate::problem::{Code, Problem};
use crate::watch::Watch;
use crate::ws::quota::{Held, Holder};
use crate::ws::rate::Frames;

/// Programs whose pace is remembered; more tokens than that are never in use at once.
const MOST: usize = 4096;

/// How often each program asks.
pub(crate) struct Paces {
    burst: u32,
    each_second: u32,
    paces: Mutex<HashMap<TokenId, Frames>>,
}

impl Paces {
    pub(crate) fn new(burst: u32, each_second: u32) -> Self {
        Self {
            burst,
            each_second,
            paces: Mutex::default(),
        }
    }

    fn take(&self, token: TokenId, now: Instant) -> bool {
        let mut paces = self.paces.lock();
        if paces.len() >= MOST {
            paces.clear();
        }
        paces
            .entry(token)
            .or_insert_with(|| Frames::new(self.burst, self.each_second, now))
            .take(now)
    }
}

/// Does this program ask no more often than it may?
pub(crate) fn in_pace(app: &App, token: TokenId) -> Result<(), Problem> {
    match app.paces.take(token, Instant::now()) {
        true => Ok(()),
        false => {
            let later = Problem::from(Code::TooManyRequests);
            Err(later.retry_after(Duration::from_secs(1)))
        }
    }
}

/// A program that was let in; counted as long as it lives.
pub(crate) struct Pass {
    pub(crate) person: PersonId,
    /// What the person called the token.
    pub(crate) name: String,
    /// Ends with the right to be here.
    pub(crate) watch: Watch,
    held: Held,
}

impl Pass {
    /// May this program do that, and now?
    pub(crate) fn new(app: &Arc<App>, caller: &Caller, action: Action) -> Result<Self, Problem> {
        let person = caller.may_own(action)?;
        // Only named tokens are allowed what programs may.
        let token = caller.program().ok_or(Code::Internal)?;
        let watch = Watch::new(app, caller.principal());
        in_pace(app, token)?;
        let held = app
            .asking
            .take(Holder::Token(token))
            .ok_or(Code::TooManyRequests)?;
        let name = app.home.named_token(token).map(|named| named.name);
        Ok(Self {
            person,
            name: name.ok_or(Code::TokenInvalid)?,
            watch,
            held,
        })
    }

    /// A sealed person's programs get nothing while they are not signed in.
    pub(super) async fn opened(&self, app: &App) -> Result<(), Problem> {
        app.home.store_of(self.person).await?;
        Ok(())
    }

    /// Does this, unless the right to be here ends before it is done.
    pub(super) async fn while_here<T, E: From<Problem>>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (watch, _held) = self.into_parts();
        tokio::select! {
            done = work => done,
            over = watch.over() => Err(over.problem().into()),
        }
    }

    /// What lives as long as the answer.
    pub(super) fn into_parts(self) -> (Watch, Held) {
        (self.watch, self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_a_pace_of_its_own() {
        let paces = Paces::new(2, 1);
        let (one, two) = (TokenId::new(), TokenId::new());
        let now = Instant::now();
        assert!(paces.take(one, now) && paces.take(one, now));
        assert!(!paces.take(one, now) && paces.take(two, now));
        assert!(paces.take(one, now + Duration::from_secs(1)));
    }
}

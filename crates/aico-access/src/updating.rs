//! Stores that are brought up to the present schema: how far that is, for whoever waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aico_contracts::ids::PersonId;
#[cfg(test)]
use aico_store::FaultHook;
use aico_store::{MigrationProgress, MigrationWatch, OpenOptions};
use parking_lot::Mutex;

use crate::home::{PERSON_DB, person_folder};
use crate::{Home, HomeError, Stage};

/// Time between two lines in the log.
const PAUSE: Duration = Duration::from_secs(5);

/// The stores that migrate now; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Updating(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By whose they are; the system's is nobody's.
    now: HashMap<Option<PersonId>, MigrationProgress>,
    logged: Option<Instant>,
    #[cfg(test)]
    hook: Option<FaultHook>,
}

impl Updating {
    /// For opening a person's store, or the system's.
    pub(crate) fn options(&self, whose: Option<PersonId>) -> OpenOptions {
        let this = self.clone();
        OpenOptions {
            watch: Some(MigrationWatch::new(move |progress| {
                this.hear(whose, progress);
            })),
            #[cfg(test)]
            fault: self.0.lock().hook.clone(),
            ..OpenOptions::default()
        }
    }

    /// How far this person's is, while it migrates.
    pub(crate) fn of(&self, person: PersonId) -> Option<MigrationProgress> {
        self.0.lock().now.get(&Some(person)).copied()
    }

    /// Their own, or else the one that is furthest from its end.
    fn told_to(&self, person: Option<PersonId>) -> Option<MigrationProgress> {
        let state = self.0.lock();
        let own = person.and_then(|person| state.now.get(&Some(person)));
        let slowest = || state.now.values().min_by_key(|now| now.percent);
        own.or_else(slowest).copied()
    }

    fn hear(&self, whose: Option<PersonId>, progress: Option<MigrationProgress>) {
        let mut state = self.0.lock();
        match progress {
            Some(now) => state.now.insert(whose, now),
            None => state.now.remove(&whose),
        };
        // Of what is done at once nobody needs to hear.
        let Some((percent, left)) = progress.and_then(|now| Some((now.percent, now.left?))) else {
            return;
        };
        let now = Instant::now();
        if state.logged.is_none_or(|logged| now - logged >= PAUSE) {
            state.logged = Some(now);
            tracing::info!(percent, seconds_left = left.as_secs(), "updating a store");
        }
    }
}

/// Bytes of a database from which on an update takes long enough to be waited for.
const BIG: u64 = 64 << 20;

impl Home {
    /// Opens what may take long, one store after the other, so that nobody's first request waits
    /// for it. Whoever unlocks waits a while for the owner's and is told how far it is; the rest is
    /// done beside. What is wrong with a store the first request tells.
    pub(crate) async fn open_what_is_big(&self) {
        self.open_bigger_than(BIG).await;
    }

    async fn open_bigger_than(&self, bytes: u64) {
        let Ok(open) = self.opened() else { return };
        let (epoch, owner) = (open.epoch, open.owner);
        // The task below must not keep the keys in memory once this is locked.
        drop(open);
        let mut big = match self.person_folders().await {
            Ok(everyone) => everyone,
            Err(error) => {
                tracing::warn!(%error, "stores are opened when they are asked for");
                return;
            }
        };
        big.retain(|person| {
            let path = person_folder(self.root(), *person).join(PERSON_DB);
            std::fs::metadata(path).is_ok_and(|about| about.len() > bytes)
        });
        let waits = big.contains(&owner);
        big.sort_by_key(|person| *person != owner);
        let home = self.clone();
        tokio::spawn(async move {
            for person in big {
                // Another unlocking does this itself.
                if home.stage() != Stage::Ready || home.epoch() != epoch {
                    return;
                }
                match home.store_unasked(person).await {
                    // Sealed: their own password opens it. A folder that is nobody's any more. Or
                    // it is being closed.
                    Ok(_)
                    | Err(
                        HomeError::PersonLocked
                        | HomeError::NotFound
                        | HomeError::Locked
                        | HomeError::Stopping,
                    ) => {}
                    Err(error) => tracing::warn!(%error, "a person's store does not open"),
                }
            }
        });
        if waits {
            let _ = self.store_of(owner).await;
        }
    }

    /// How far the migration of a store is, while one runs: of this person's own, or else of
    /// whichever takes longest. Whose that is, is not told.
    #[must_use]
    pub fn updating(&self, person: Option<PersonId>) -> Option<MigrationProgress> {
        self.inner.updating.told_to(person)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use aico_store::{FaultPoint, Migration, ModuleMigrations};

    use super::*;
    use crate::tests::{MEMBER, OWNER, config, password};
    use crate::{ErrorKind, HomeConfig, SetupProof};

    const OF_TODAY: ModuleMigrations = ModuleMigrations {
        module: "pages",
        migrations: &[Migration {
            version: 1,
            name: "pages",
            sql: "CREATE TABLE page (id INTEGER PRIMARY KEY) STRICT;",
        }],
    };

    fn home_with(data: &Path, person_migrations: Vec<ModuleMigrations>) -> Home {
        Home::open(HomeConfig {
            person_migrations,
            ..config(data)
        })
        .unwrap()
    }

    /// A home of yesterday's program with a member, closed. Answers who that is.
    async fn left_by_an_older_program(data: &Path) -> PersonId {
        let home = home_with(data, Vec::new());
        let owner = password(OWNER);
        let done = home.set_up(SetupProof::LocalSocket, "Ada", &owner, "test");
        done.await.unwrap();
        let ben = home.add_person("Ben", &password(MEMBER)).await.unwrap();
        home.stop().await.unwrap();
        ben.id
    }

    /// Calls it at each point of each migration from now on.
    fn at_each_point(home: &Home, hook: impl Fn(FaultPoint) + Send + Sync + 'static) {
        home.inner.updating.0.lock().hook = Some(FaultHook::new(move |point| {
            hook(point);
            true
        }));
    }

    fn progress(percent: u8) -> MigrationProgress {
        MigrationProgress {
            percent,
            left: Some(Duration::from_secs(20)),
        }
    }

    #[test]
    fn it_is_told_while_it_runs_and_no_longer() {
        let updating = Updating::default();
        updating.hear(None, Some(progress(40)));
        assert_eq!(updating.told_to(None), Some(progress(40)));
        assert!(updating.0.lock().logged.is_some());
        updating.hear(None, None);
        assert_eq!(updating.told_to(None), None);
        // What is over at once is not logged.
        let updating = Updating::default();
        let soon = MigrationProgress {
            left: None,
            ..progress(40)
        };
        updating.hear(None, Some(soon));
        assert!(updating.0.lock().logged.is_none());
    }

    #[test]
    fn everybody_is_told_of_their_own_first() {
        let updating = Updating::default();
        let (ben, cleo) = (PersonId::new(), PersonId::new());
        updating.hear(Some(ben), Some(progress(60)));
        updating.hear(Some(cleo), Some(progress(10)));
        assert_eq!(updating.told_to(Some(ben)), Some(progress(60)));
        assert_eq!(updating.told_to(Some(cleo)), Some(progress(10)));
        assert_eq!(updating.told_to(None), Some(progress(10)));
        // The end of one is not that of another.
        updating.hear(Some(cleo), None);
        assert_eq!(updating.of(cleo), None);
        assert_eq!(updating.told_to(Some(cleo)), Some(progress(60)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_asks_for_a_store_that_is_being_updated_is_told_how_far_it_is() {
        let data = tempfile::tempdir().unwrap();
        let ben = left_by_an_older_program(data.path()).await;
        let home = home_with(data.path(), vec![OF_TODAY]);
        home.unlock(&password(OWNER), "test").await.unwrap();
        let (reached, there) = mpsc::channel();
        let (go_on, gone_on) = mpsc::channel::<()>();
        let gone_on = Mutex::new(gone_on);
        at_each_point(&home, move |point| {
            if point == FaultPoint::StepRan {
                reached.send(()).unwrap();
                gone_on.lock().recv().unwrap();
            }
        });
        let opening = tokio::spawn({
            let home = home.clone();
            async move { home.store_in_time(ben).await.map(drop) }
        });
        tokio::task::spawn_blocking(move || there.recv().unwrap())
            .await
            .unwrap();

        let error = home.store_within(ben, Duration::ZERO).await.unwrap_err();
        // The copy is done, and the one step is not.
        assert!(
            matches!(error, HomeError::Updating(now) if now.percent == 50),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.detail().unwrap().starts_with("50 % is done"));
        assert_eq!(home.updating(Some(ben)).unwrap().percent, 50);

        go_on.send(()).unwrap();
        opening.await.unwrap().unwrap();
        home.store_within(ben, Duration::ZERO).await.unwrap();
        assert_eq!(home.updating(Some(ben)), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn big_stores_are_opened_one_after_the_other_before_anybody_asks() {
        let data = tempfile::tempdir().unwrap();
        left_by_an_older_program(data.path()).await;
        let home = home_with(data.path(), vec![OF_TODAY]);
        home.unlock(&password(OWNER), "test").await.unwrap();
        // A sealed person's waits for their password, and keeps nobody's.
        let own = password(MEMBER);
        let cleo = home.add_person("Cleo", &own).await.unwrap();
        home.seal_person(cleo.id, &own, "test").await.unwrap();
        home.lock().await.unwrap();
        home.unlock(&password(OWNER), "test").await.unwrap();
        let owner = home.opened().unwrap().owner;
        let (say, said) = mpsc::channel();
        let (first, opening) = (AtomicBool::new(true), home.clone());
        at_each_point(&home, move |point| {
            let what = match point {
                FaultPoint::SnapshotCopied => "begun",
                FaultPoint::StepsDone => "done",
                _ => return,
            };
            // Whoever unlocks has asked for the owner's, and nobody asks for anything after that.
            let asked = || opening.opened().unwrap().persons.is_waited_for(owner);
            let limit = Instant::now() + Duration::from_secs(60);
            while first.load(Ordering::Relaxed) && !asked() && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(1));
            }
            first.store(false, Ordering::Relaxed);
            let (before, idle) = (Instant::now(), opening.idle());
            say.send((what, before, idle, Instant::now())).unwrap();
        });

        home.open_bigger_than(0).await;
        let heard = tokio::task::spawn_blocking(move || {
            [(); 4].map(|()| said.recv_timeout(Duration::from_secs(60)).unwrap())
        });
        let heard = heard.await.unwrap();
        assert_eq!(heard.map(|one| one.0), ["begun", "done", "begun", "done"]);
        // What is opened by itself is no use: it keeps nothing from being locked.
        let ([first, .., last], precision) = (heard, Duration::from_millis(1));
        assert!(last.2 + precision >= first.2 + (last.1 - first.3));
        home.inner.updating.0.lock().hook = None;
    }
}

//! The power goes at every write of each operation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use aico_access::{DataFolder, HomeConfig, SetupProof, Source};
use aico_store::ModuleMigrations;
use aico_vault::Password;
use serde_json::Value;

use super::cuts::{self, Cut};
use super::look::{self, Seen, With, look};
use super::medium::{Medium, Tree};
use super::recording::{Record, Recorder};
use crate::backups::{backup, string};
use crate::support::{PASSWORD, World, text, until};

/// What is not recorded.
const SKIPPED: [&str; 3] = ["data/run", "data/models", "stderr"];
pub(super) const NEW: &str = "orbit candle walnut harp";
pub(super) const BEN: &str = "copper Ben meadow trumpet glass";

/// A world whose every change is recorded.
pub(super) struct Recorded {
    pub(super) world: World,
    pub(super) recorder: Recorder,
    base: Medium,
}

/// Puts Ben's data back from an archive; no daemon runs.
pub(super) fn put_ben_back(world: &World, archive: &Path) -> Output {
    let password = world.path("password");
    let restore = ["--person", "Ben", "restore", string(archive)];
    world.aico(&[&restore[..], &["--password-file", string(&password)]].concat())
}

/// What was recorded. The world's folder is there until this is dropped.
struct Ended {
    world: World,
    base: Medium,
    records: Vec<Record>,
}

impl Recorded {
    /// From nothing on.
    pub(super) fn new() -> Self {
        let world = World::new();
        for (name, content) in [
            ("new", NEW),
            ("ben", BEN),
            ("letter", "to whom it concerns"),
            ("other", "to somebody else, and more of it"),
        ] {
            world.write(name, content);
        }
        Self::of(world)
    }

    /// From what lies there, durable.
    pub(super) fn of(mut world: World) -> Self {
        let base = Medium::of(&world.path(""));
        let recorder = Recorder::begin(&mut world);
        Self {
            world,
            recorder,
            base,
        }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.world.path(name).to_str().unwrap().to_owned()
    }

    /// Set up and unlocked, with a key file that opens it; Mia, who has said something, and Ben.
    pub(super) fn ready() -> Self {
        let mut this = Self::new();
        let done = this.world.setup();
        assert!(done.status.success(), "{}", text(&done.stderr));
        this.world.serve();
        let (password, ben) = (this.path("password"), this.path("ben"));
        let remember = [
            "vault",
            "remember",
            "--key-file",
            "--password-file",
            &password,
        ];
        this.world.said(&remember);
        this.world
            .said(&["person", "add", "Ben", "--password-file", &ben]);
        this.world.chat(None, "a word of Mia's: medlar");
        this
    }

    /// Says something as Ben.
    pub(super) fn ben_says(&self, words: &str) {
        let ben = self.path("ben");
        let chat = ["--person", "Ben", "chat", "--once", words];
        self.world
            .said(&[&chat[..], &["--password-file", &ben]].concat());
    }

    /// Records up to now.
    fn here(&self) -> usize {
        self.recorder.position()
    }

    /// Stops the daemon, if one runs, and sees that everything was recorded that was changed.
    fn end(mut self) -> Ended {
        if self.world.runs() {
            self.world.stop();
        }
        let ended = Ended {
            records: self.recorder.records(),
            base: self.base,
            world: self.world,
        };
        ended.at(ended.records.len()).is_as_recorded(&SKIPPED);
        ended
    }
}

impl Ended {
    /// The disk after so many records.
    fn at(&self, position: usize) -> Medium {
        let mut medium = self.base.clone();
        for record in &self.records[..position] {
            medium.apply(record);
        }
        medium
    }

    /// What programs saw there.
    fn seen(&self, position: usize) -> Seen {
        look(&self.at(position).present(), With::Key).unwrap()
    }

    /// Cuts between two places, at which these are to be seen: the rows are those of the one or of
    /// the other, from the end on those of the other, and AICO goes on with them.
    fn is_old_or_new(
        &self,
        (from, old): (usize, &Seen),
        (acknowledged, new): (usize, &Seen),
        with: With<'_>,
    ) {
        let (mut as_before, mut as_after) = (0, 0);
        let mut real = Sample(0);
        self.cut(from, acknowledged, 50, |cut| {
            let seen = look(&cut.tree, with).unwrap();
            let is_new = seen.same_rows(new);
            assert!(
                is_new || seen.same_rows(old),
                "neither the one nor the other"
            );
            assert!(is_new || cut.after < acknowledged, "acknowledged");
            *(if is_new {
                &mut as_after
            } else {
                &mut as_before
            }) += 1;
            if real.wants(cut, from, acknowledged) {
                goes_on(&cut.tree, matches!(with, With::Key), |_| {});
            }
        });
        assert!(as_before > 0 && as_after > 0, "{as_before} {as_after}");
    }

    /// Looks at cuts between two positions; says how many there were.
    fn cut(&self, from: usize, to: usize, about: usize, mut each: impl FnMut(&Cut)) {
        let to = to.min(self.records.len());
        let count = cuts::between(&mut self.at(from), &self.records, from..=to, about, |cut| {
            // The test's name and this are what is needed to find it again.
            let place = format!("after record {} ({:?})", cut.after, cut.how);
            let last = cut.after.checked_sub(1).map(|last| &self.records[last]);
            let told = Told(format!(
                "{place}, which is {}",
                last.map_or_else(String::new, shown)
            ));
            each(&cut);
            std::mem::forget(told);
        });
        eprintln!("{count} disks of {} records", to - from);
        assert!(count > about / 4, "{count} disks are too few");
    }
}

/// A record, without its bytes.
fn shown(record: &Record) -> String {
    let mut text = format!("{record:?}");
    text.truncate(160);
    text
}

/// Says where it was when a check panics.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("the power went {}", self.0);
    }
}

/// Records after an operation in which its last changes are still unsynced.
const AFTERMATH: usize = 20;

/// The real program starts on what is there, and everything goes on without a hand.
fn goes_on(tree: &Tree, unattended: bool, look: impl FnOnce(&mut World)) {
    let mut world = World::new();
    let _ = fs::remove_file(world.path("password"));
    tree.write_to(&world.path(""));
    match unattended {
        true => world.serve_with(&[]),
        false => world.serve(),
    };
    assert_eq!(world.chat(None, "Hello")["status"], "complete");
    look(&mut world);
    assert!(world.said(&["logs"]).contains("unlocked"));
    world.stop();
}

/// A few disks for the real program: the first that is offered, and some of the rest.
struct Sample(usize);

impl Sample {
    fn wants(&mut self, cut: &Cut, from: usize, to: usize) -> bool {
        let share = (to - from).max(1) / 3 + 1;
        let wanted = (cut.after - from) / share >= self.0;
        self.0 += usize::from(wanted);
        wanted
    }
}

#[test]
fn the_power_goes_in_a_set_up() {
    let recorded = Recorded::new();
    let done = recorded.world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    let acknowledged = recorded.here();
    let ended = recorded.end();
    let phrase = fs::read(ended.world.path("phrase")).unwrap();
    let (mut new, mut whole) = (0, 0);
    ended.cut(0, acknowledged, 60, |cut| {
        match look(&cut.tree, With::Passwords(&[PASSWORD])) {
            Some(_) => whole += 1,
            None => {
                new += 1;
                sets_up(&cut.tree);
            }
        }
        if cut.after == acknowledged {
            assert_eq!(cut.tree.content("phrase"), Some(&phrase[..]), "shown once");
            assert!(whole > 0, "acknowledged");
        }
    });
    assert!(new > 0 && whole > 0, "{new} {whole}");
    // All that was done up to the end is there whatever is lost.
    let last = ended.at(acknowledged);
    let tree = last.after_cut(&Default::default());
    assert!(look(&tree, With::Passwords(&[PASSWORD])).is_some());
    goes_on(&tree, false, |_| {});
}

/// Nothing is in the way of a set-up.
fn sets_up(tree: &Tree) {
    let folder = look::scratch();
    tree.write_to(folder.path());
    look::run(async {
        let _claimed = DataFolder::claim(&folder.path().join("data")).unwrap();
        let home = look::home(folder.path());
        let password = Password::new(PASSWORD).unwrap();
        let done = home.set_up(SetupProof::LocalSocket, "Mia", &password, Source::local());
        done.await.unwrap();
        home.stop().await.unwrap();
    });
}

#[test]
fn the_power_goes_in_a_change_of_the_password() {
    let recorded = Recorded::ready();
    let from = recorded.here();
    let (old, new) = (recorded.path("password"), recorded.path("new"));
    let arguments = [
        "vault",
        "password",
        "--password-file",
        &old,
        "--new-password-file",
        &new,
    ];
    recorded.world.said(&arguments);
    let acknowledged = recorded.here();
    let ended = recorded.end();
    let before = ended.seen(from);
    let mut opened = [0, 0];
    ended.cut(from, acknowledged + AFTERMATH, 40, |cut| {
        let seen = look(&cut.tree, With::PasswordsAndKey(&[PASSWORD, NEW])).unwrap();
        assert!(seen.same_rows(&before));
        let by = seen.opened_by.unwrap();
        opened[by] += 1;
        assert!(by == 1 || cut.after < acknowledged, "acknowledged");
    });
    assert!(opened.iter().all(|count| *count > 0), "{opened:?}");
}

fn rotation(more: &[&str], about: usize) {
    let recorded = Recorded::ready();
    let from = recorded.here();
    let (password, phrase) = (recorded.path("password"), recorded.path("next-phrase"));
    let arguments = [
        "vault",
        "rotate",
        "--password-file",
        &password,
        "--recovery-file",
        &phrase,
    ];
    recorded.world.said(&[&arguments[..], more].concat());
    let acknowledged = recorded.here();
    let ended = recorded.end();
    let phrase = fs::read(ended.world.path("next-phrase")).unwrap();
    let before = ended.seen(from);
    let (mut epochs, mut real) = ([0, 0], Sample(0));
    let to = acknowledged + AFTERMATH;
    ended.cut(from, to, about, |cut| {
        let seen = look(&cut.tree, With::Key).unwrap();
        assert!(seen.same_rows(&before));
        epochs[seen.epoch as usize - 1] += 1;
        if cut.after >= acknowledged {
            assert_eq!(seen.epoch, 2, "acknowledged");
            assert_eq!(
                cut.tree.content("next-phrase"),
                Some(&phrase[..]),
                "shown once"
            );
        }
        if real.wants(cut, from, to) {
            goes_on(&cut.tree, true, |world| {
                until("the change of keys is done", || {
                    let said = world.said(&["vault", "rotate", "--status"]);
                    assert!(!said.contains("stopped"), "{said}");
                    (!said.contains("being changed")).then_some(())
                });
                let status: Value =
                    serde_json::from_str(&world.said(&["vault", "status", "--json"])).unwrap();
                assert_eq!(status["key_epoch"], seen.epoch, "{status}");
            });
        }
    });
    assert!(epochs.iter().all(|count| *count > 0), "{epochs:?}");
}

#[test]
fn the_power_goes_in_a_change_of_the_root_key() {
    rotation(&[], 60);
}

#[test]
fn the_power_goes_in_a_change_of_all_keys() {
    rotation(&["--compromised"], 60);
}

/// Rows of a person of the first version of the companion's tables.
const OLD_ROWS: &str = "
    INSERT INTO companion_conversation VALUES
        (x'00112233445566778899aabbccddeeff', 'Tea', 0, 'companion', 1, 2, NULL);
    INSERT INTO companion_message (id, conversation, role, status, created_ms) VALUES
        (x'ff112233445566778899aabbccddeeff', x'00112233445566778899aabbccddeeff', 1, 1, 1);
    INSERT INTO companion_part VALUES (x'ff112233445566778899aabbccddeeff', 0, 'text', 'quince');
    INSERT INTO companion_text (text, conversation, message) VALUES
        ('quince', x'00112233445566778899aabbccddeeff', x'ff112233445566778899aabbccddeeff');";

/// A world as a program of then left it: the companion's tables of the first version.
pub(super) fn of_then() -> World {
    const FIRST: ModuleMigrations = ModuleMigrations {
        module: aico_companion::MIGRATIONS.module,
        migrations: aico_companion::MIGRATIONS.migrations.split_at(1).0,
    };
    let world = World::new();
    look::run(async {
        let claimed = DataFolder::claim(&world.data()).unwrap();
        let home = look::home_with(&world.path(""), |config| HomeConfig {
            person_migrations: vec![FIRST],
            ..config
        });
        let password = Password::new(PASSWORD).unwrap();
        let done = home.set_up(SetupProof::LocalSocket, "Mia", &password, Source::local());
        let owner = done.await.unwrap().session.person.id;
        let store = home.store_of(owner).await.unwrap();
        store
            .write(|tx| Ok(tx.execute_batch(OLD_ROWS)?))
            .await
            .unwrap();
        let kept = home.remember(&password, Some("key-file"), Source::local());
        kept.await.unwrap();
        home.stop().await.unwrap();
        drop(claimed);
    });
    world
}

#[test]
fn the_power_goes_in_a_migration() {
    let mut recorded = Recorded::of(of_then());
    let from = recorded.here();
    recorded.world.serve_with(&[]);
    assert!(
        recorded
            .world
            .said(&["conversation", "list"])
            .contains("Tea")
    );
    let to = recorded.here();
    let ended = recorded.end();
    // The library's first look migrates too: what it sees is what there has to be.
    let after = ended.seen(to);
    let (mut old, mut new) = (0, 0);
    let mut real = Sample(0);
    ended.cut(from, to, 80, |cut| {
        let beside = cut.tree.files("person.db.before-migration").count();
        *(if beside > 0 { &mut new } else { &mut old }) += 1;
        assert!(look(&cut.tree, With::Key).unwrap().same_rows(&after));
        if real.wants(cut, from, to) {
            goes_on(&cut.tree, true, |world| {
                assert!(world.said(&["conversation", "list"]).contains("Tea"));
            });
        }
    });
    assert!(old > 0 && new > 0, "{old} {new}");
}

#[test]
fn the_power_goes_while_somebody_talks() {
    const KEPT: &str = "Mia/companion_part";
    let recorded = Recorded::ready();
    let from = recorded.here();
    let mut acknowledged = Vec::new();
    for words in ["My dog is called Rex", "Hello", "Tell me a story"] {
        recorded.world.chat(None, words);
        acknowledged.push(recorded.here());
    }
    let to = recorded.here() + AFTERMATH;
    let ended = recorded.end();
    let before = ended.seen(from);
    let told: Vec<(usize, Seen)> = acknowledged
        .into_iter()
        .map(|position| (position, ended.seen(position)))
        .collect();
    assert!(told[0].1.rows[KEPT].len() > before.rows[KEPT].len());
    let mut real = Sample(0);
    ended.cut(from, to, 80, |cut| {
        let seen = look(&cut.tree, With::Key).unwrap();
        let due = told.iter().filter(|(position, _)| *position <= cut.after);
        for (_, there) in due {
            assert!(seen.holds(there, KEPT), "acknowledged");
        }
        assert!(seen.holds(&before, KEPT));
        if real.wants(cut, from, to) {
            goes_on(&cut.tree, true, |_| {});
        }
    });
}

#[test]
fn the_power_goes_while_a_file_is_replaced() {
    let recorded = Recorded::ready();
    let (letter, other) = (recorded.path("letter"), recorded.path("other"));
    let sealed = recorded.path("letter.aico");
    recorded.world.said(&["file", "encrypt", &letter]);
    let old = fs::read(&sealed).unwrap();
    let from = recorded.here();
    recorded
        .world
        .said(&["file", "encrypt", &other, "--out", &sealed, "--force"]);
    let acknowledged = recorded.here();
    let said = recorded.world.said(&["file", "cat", &sealed]);
    assert_eq!(said, "to somebody else, and more of it\n");
    let new = fs::read(&sealed).unwrap();
    let ended = recorded.end();
    let (mut as_before, mut as_after) = (0, 0);
    ended.cut(from, acknowledged + AFTERMATH, 60, |cut| {
        // Both opened and were whole: nothing else is.
        let found = cut.tree.content("letter.aico").unwrap();
        assert!(
            found == old || found == new,
            "neither the one nor the other"
        );
        *(if found == old {
            &mut as_before
        } else {
            &mut as_after
        }) += 1;
        assert!(found == new || cut.after < acknowledged, "acknowledged");
    });
    assert!(as_before > 0 && as_after > 0, "{as_before} {as_after}");
}

#[test]
fn the_power_goes_while_a_backup_is_made() {
    let recorded = Recorded::ready();
    let first = backup(&recorded.world, &[]);
    let from = recorded.here();
    let old = fs::read(&first).unwrap();
    // The older one goes when the new one is there.
    let second = backup(&recorded.world, &["--keep-daily", "1"]);
    assert!(!first.exists(), "the older one was to go");
    let acknowledged = recorded.here();
    let new = fs::read(&second).unwrap();
    let ended = recorded.end();
    let before = ended.seen(from);
    let name = second.file_name().unwrap().to_str().unwrap().to_owned();
    let mut sets = [0, 0, 0];
    ended.cut(from, acknowledged + AFTERMATH, 60, |cut| {
        let archives: Vec<_> = cut.tree.files(".aicobackup").collect();
        // Both were made and verify: nothing else does.
        let whole = |(_, bytes): &(&Path, &[u8])| *bytes == old || *bytes == new;
        assert!(archives.iter().all(whole), "an archive that is not whole");
        let is_there = archives.iter().any(|(path, _)| path.ends_with(&name));
        assert!(!archives.is_empty(), "neither the old set nor the new one");
        assert!(is_there || cut.after < acknowledged, "acknowledged");
        // The old one, both, the new one.
        sets[archives.len() - 1 + usize::from(is_there && archives.len() == 1) * 2] += 1;
        assert!(look(&cut.tree, With::Key).unwrap().same_rows(&before));
    });
    assert!(sets.iter().all(|count| *count > 0), "{sets:?}");
    let verified = ["backup", "verify", string(&second), "--password-file"];
    let password = ended.world.path("password");
    let done = ended
        .world
        .aico(&[&verified[..], &[string(&password)]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
}

/// Everybody's but Ben's.
fn of_others(seen: &Seen) -> Vec<(&String, &BTreeSet<u64>)> {
    let all = seen.rows.iter();
    all.filter(|(table, _)| !table.starts_with("Ben/"))
        .collect()
}

#[test]
fn the_power_goes_while_one_person_is_put_back() {
    const KEPT: &str = "Ben/companion_part";
    let mut recorded = Recorded::ready();
    recorded.ben_says("a word of Ben's: quince");
    recorded.world.chat(None, "My dog is called Rex");
    let archive = backup(&recorded.world, &[]);
    recorded.ben_says("a later word of Ben's: damson");
    recorded.world.chat(None, "He is old");
    recorded.world.stop();
    let from = recorded.here();
    let done = put_ben_back(&recorded.world, &archive);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let acknowledged = recorded.here();
    let ended = recorded.end();
    let (old, new) = (ended.seen(from), ended.seen(acknowledged));
    assert!(old.holds(&new, KEPT) && !new.holds(&old, KEPT));
    assert!(!new.rows[KEPT].is_empty());
    assert_eq!(of_others(&old), of_others(&new), "everybody else's stays");
    ended.is_old_or_new((from, &old), (acknowledged, &new), With::Key);
}

#[test]
fn the_power_goes_in_a_restore() {
    let mut recorded = Recorded::ready();
    let archive = backup(&recorded.world, &[]);
    let packed = recorded.here();
    recorded.world.chat(None, "My dog is called Rex");
    recorded.world.stop();
    let from = recorded.here();
    let (archive, password): (PathBuf, _) = (archive, recorded.path("password"));
    let arguments = ["restore", string(&archive), "--password-file", &password];
    let done = recorded.world.aico(&arguments);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let acknowledged = recorded.here();
    let ended = recorded.end();
    let (old, new) = (ended.seen(from), ended.seen(packed));
    assert!(!old.same_rows(&new));
    ended.is_old_or_new(
        (from, &old),
        (acknowledged, &new),
        With::Passwords(&[PASSWORD]),
    );
}

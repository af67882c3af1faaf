//! What model files say of themselves: read in processes of their own, and remembered as long as the
//! files are the same.
//!
//! A file is hostile input until it has been read, so it is none of the daemon's to read. A process
//! that is as confined as one that runs a model does it and ends
//! ([`describe`](crate::process::describe)); what it says is taken as coming from a stranger. There
//! are two of them at most, and those who ask for the same file share one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use aico_contracts::ids::ModelId;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use super::child::{Program, Starter, filter};
use super::files::{AddError, found, modified_ns};
use super::registry::{Adapter, ModelRecord};
use crate::backend::Capability;
use crate::gguf::Description;
use crate::process::describe::{ANSWER_LIMIT, Answer, Launch, Refusal, parse};
use crate::{capable, clock};

/// Processes at once.
const AT_ONCE: usize = 2;
/// Most answers that are remembered.
const REMEMBERED: usize = 256;
/// How long nobody tries again what a file may have brought to nothing, but who adds it.
const GIVEN_UP: Duration = Duration::from_secs(10 * 60);
/// The same of what the machine brought to nothing.
const FAILED: Duration = Duration::from_secs(3);
/// How long the system may take to end a process that was killed.
const KILLED: Duration = Duration::from_secs(2);

/// Why nothing is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// No process.
    #[error("the process that reads it can't be started")]
    Start,
    /// It could not be confined, or is of another version.
    #[error("the process that reads it could not be set up")]
    NotSetUp,
    /// Somebody killed it, as the system does where memory is short, or it got no more memory.
    #[error("the process that reads it was killed, or there was no memory for it")]
    Killed,
    /// It ended without an answer.
    #[error("the process that read it ended before it was done")]
    Ended,
    /// It took too long.
    #[error("it was not read within {} seconds", .0.as_secs_f32())]
    TooSlow(Duration),
    /// It gave an answer that can't be.
    #[error("what the process that read it said makes no sense")]
    Strange,
}

/// Reads a file. Tests play it.
#[async_trait]
pub(super) trait Reader: Send + Sync {
    /// What comes of it.
    async fn read(&self, launch: &Launch) -> Result<Answer, Unread>;
}

/// Has a process read each.
pub(super) struct Processes {
    pub(super) starter: Starter,
    pub(super) program: Program,
    /// How long one may take.
    pub(super) limit: Duration,
}

#[async_trait]
impl Reader for Processes {
    async fn read(&self, launch: &Launch) -> Result<Answer, Unread> {
        let started = self.starter.spawn(self.program.clone(), Vec::new()).await;
        let mut child = started.map_err(|error| {
            tracing::warn!(%error, "The process that reads a model file can't be started.");
            Unread::Start
        })?;
        let answered = tokio::time::timeout(self.limit, answer(&mut child, launch)).await;
        // Whatever it is at now, it is of no use.
        let _unkillable = tokio::time::timeout(KILLED, child.kill()).await;
        let answered = answered.unwrap_or(Err(Unread::TooSlow(self.limit)));
        if let Err(why) = &answered {
            tracing::warn!(%why, "A model file could not be read.");
        }
        answered
    }
}

async fn answer(child: &mut Child, launch: &Launch) -> Result<Answer, Unread> {
    let (Some(mut input), Some(output), Some(errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Unread::Start);
    };
    let errors = tokio::spawn(filter(errors));
    let mut line = serde_json::to_vec(launch).map_err(|_| Unread::NotSetUp)?;
    line.push(b'\n');
    // A process that ends at once has not read it: its end will be heard.
    let _ended = input.write_all(&line).await;
    let mut said = Vec::new();
    let mut output = output.take(ANSWER_LIMIT as u64 + 1);
    let _broken = output.read_to_end(&mut said).await;
    if said.len() > ANSWER_LIMIT {
        return Err(Unread::Strange);
    }
    let status = child.wait().await;
    // Until then, for its end is the process's.
    drop(input);
    match parse(&said) {
        Some(Answer::NotSetUp) => Err(Unread::NotSetUp),
        Some(answer) if is_good(&status) => Ok(answer),
        _ if is_good(&status) => Err(Unread::Strange),
        _ if was_killed(&status) || errors.await.unwrap_or(false) => Err(Unread::Killed),
        _ => Err(Unread::Ended),
    }
}

fn is_good(status: &std::io::Result<ExitStatus>) -> bool {
    status.as_ref().is_ok_and(ExitStatus::success)
}

/// By somebody else, as where a service is stopped with all of its processes: no file does that.
fn was_killed(status: &std::io::Result<ExitStatus>) -> bool {
    #[cfg(unix)]
    let killed = |status: &ExitStatus| {
        let signal = std::os::unix::process::ExitStatusExt::signal(status);
        let others = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
        signal.is_some_and(|signal| others.contains(&signal))
    };
    #[cfg(not(unix))]
    let killed = |_status: &ExitStatus| false;
    status.as_ref().is_ok_and(killed)
}

/// A file as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileKey {
    /// Absolute, without symbolic links.
    path: PathBuf,
    size: u64,
    modified_ns: i64,
    /// 0 where there is none.
    inode: u64,
}

impl FileKey {
    async fn of(path: &Path) -> Result<Self, AddError> {
        let given = path.to_owned();
        let looked = tokio::task::spawn_blocking(move || found(&given).map(Self::new));
        looked.await.unwrap_or_else(|panicked| {
            Err(AddError::Missing {
                path: path.to_owned(),
                source: std::io::Error::other(panicked),
            })
        })
    }

    fn new((path, metadata): (PathBuf, std::fs::Metadata)) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self {
            path,
            size: metadata.len(),
            modified_ns: modified_ns(&metadata),
            inode,
        }
    }

    /// Whether it was this when the model was added.
    fn was(&self, model: &ModelRecord) -> bool {
        (&self.path, self.size, self.modified_ns) == (&model.path, model.size, model.modified_ns)
    }
}

/// A model's file alone: what it is. With an adapter: whether that fits.
type Key = (FileKey, Option<FileKey>);
type Outcome = Result<Answer, Unread>;
/// What came of it and when, as soon as that is known.
type Known = Arc<OnceCell<(Outcome, Instant)>>;

/// What is known of files. Clones are the same.
#[derive(Clone)]
pub(crate) struct Heads(Arc<Inner>);

struct Inner {
    reader: Box<dyn Reader>,
    turns: Semaphore,
    known: Mutex<HashMap<Key, Known>>,
}

impl Heads {
    pub(super) fn new(reader: impl Reader + 'static) -> Self {
        Self(Arc::new(Inner {
            reader: Box::new(reader),
            turns: Semaphore::new(AT_ONCE),
            known: Mutex::default(),
        }))
    }

    /// Where nothing can be read, for tests that are about something else.
    #[cfg(test)]
    pub(super) fn unread() -> Self {
        struct Nobody;

        #[async_trait]
        impl Reader for Nobody {
            async fn read(&self, _launch: &Launch) -> Result<Answer, Unread> {
                Err(Unread::Start)
            }
        }
        Self::new(Nobody)
    }

    /// Looks at a file and describes it as a new record, not active.
    ///
    /// # Errors
    /// When it is not there, no model, or can't be read as one.
    pub(crate) async fn look(&self, path: &Path) -> Result<ModelRecord, AddError> {
        let file = FileKey::of(path).await?;
        let about = self.describe(&file).await?;
        record(file, about)
    }

    /// The same of a file and the adapter that changes it: a model of its own. Reads all of the
    /// adapter.
    ///
    /// # Errors
    /// When one of them is not there, the file is no model, or the adapter not one for it.
    pub(super) async fn look_adapted(
        &self,
        path: &Path,
        adapter: &Path,
    ) -> Result<ModelRecord, AddError> {
        let model = FileKey::of(path).await?;
        let about = self.describe(&model).await?;
        let mut record = record(model.clone(), about)?;
        let file = FileKey::of(adapter).await?;
        let path = file.path.clone();
        match self.ask(&(model, Some(file.clone())), true).await {
            Ok(Answer::Fits) => {}
            Ok(Answer::Refused(Refusal::Unreadable(error))) => {
                return Err(missing(path, error));
            }
            Ok(Answer::Refused(source)) => return Err(AddError::NoAdapter { path, source }),
            other => return Err(unread(path, other)),
        }
        let hashed = tokio::task::spawn_blocking(move || {
            std::fs::File::open(&path).and_then(|mut file| crate::process::hash(&mut file))
        });
        let hashed = hashed
            .await
            .unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
        let path = file.path;
        let sha256 = match hashed {
            Ok(hash) => hash,
            Err(source) => return Err(AddError::Missing { path, source }),
        };
        if let Some(stem) = path.file_stem() {
            record.name = format!("{} + {}", record.name, stem.to_string_lossy());
        }
        record.adapter = Some(Adapter {
            size: file.size,
            modified_ns: file.modified_ns,
            sha256,
            path,
        });
        Ok(record)
    }

    /// What a model of the registry is good for, as far as its file tells. Nothing when that can't be
    /// read; of one that is gone, what is still known.
    pub(super) async fn capabilities(&self, model: &ModelRecord) -> Vec<Capability> {
        self.good_for(model).await.unwrap_or_default()
    }

    /// The same.
    ///
    /// # Errors
    /// When its file does not tell, and nothing is known of it.
    pub(super) async fn good_for(&self, model: &ModelRecord) -> Result<Vec<Capability>, AddError> {
        let outcome = match FileKey::of(&model.path).await {
            Ok(file) => self.ask(&(file, None), false).await,
            Err(gone) => self.was(model).filter(Result::is_ok).ok_or(gone)?,
        };
        let about = described(&model.path, model.size, outcome)?;
        Ok(capable::of_description(&about))
    }

    async fn describe(&self, file: &FileKey) -> Result<Description, AddError> {
        let outcome = self.ask(&(file.clone(), None), true).await;
        described(&file.path, file.size, outcome)
    }

    /// What is known of a file, which may have to be read for it. What came to nothing before is
    /// tried `again`, or after a while ([`tried_after`]).
    async fn ask(&self, key: &Key, again: bool) -> Outcome {
        let known = {
            let mut all = self.0.known.lock();
            let over = |known: &Known| {
                let came = known.get();
                came.is_some_and(|(outcome, at)| {
                    let after = tried_after(outcome);
                    after.is_some_and(|after| again || clock::now() >= *at + after)
                })
            };
            if all.get(key).is_some_and(over) {
                all.remove(key);
            }
            if all.len() >= REMEMBERED && !all.contains_key(key) {
                // What is being read stays, for those who share it.
                let read = all
                    .iter()
                    .filter_map(|(key, known)| Some((known.get()?.1, key)));
                let oldest = read.min_by_key(|(at, _)| *at).map(|(_, key)| key.clone());
                if let Some(oldest) = oldest {
                    all.remove(&oldest);
                }
            }
            Arc::clone(all.entry(key.clone()).or_default())
        };
        let read = || async {
            let (model, adapter) = key;
            let adapter = adapter.as_ref().map(|adapter| &*adapter.path);
            let launch = Launch::new(&model.path, adapter);
            let outcome = match self.0.turns.acquire().await {
                Ok(_turn) => self.0.reader.read(&launch).await,
                Err(_never_closed) => Err(Unread::Start),
            };
            (outcome, clock::now())
        };
        known.get_or_init(read).await.0.clone()
    }

    /// What came of the file of a model when it was as it was added.
    fn was(&self, model: &ModelRecord) -> Option<Outcome> {
        let all = self.0.known.lock();
        let mut of_file = all.iter().filter(|((_, adapter), _)| adapter.is_none());
        let (_, known) = of_file.find(|((file, _), _)| file.was(model))?;
        known.get().map(|(outcome, _)| outcome.clone())
    }
}

/// When it is tried again what came to nothing: soon where it was the machine's matter, for the file is
/// the same. What a file said stays as long as that.
fn tried_after(outcome: &Outcome) -> Option<Duration> {
    match outcome {
        Err(Unread::Start | Unread::NotSetUp | Unread::Killed)
        | Ok(Answer::NotSetUp | Answer::Refused(Refusal::Unreadable(_))) => Some(FAILED),
        Err(Unread::Ended | Unread::TooSlow(_) | Unread::Strange) => Some(GIVEN_UP),
        Ok(Answer::Model(_) | Answer::Fits | Answer::Refused(_)) => None,
    }
}

/// What a file of so many bytes is, by what came of reading it.
fn described(path: &Path, size: u64, outcome: Outcome) -> Result<Description, AddError> {
    let path = path.to_owned();
    match outcome {
        Ok(Answer::Model(about)) => Ok(about.of_size(size)),
        Ok(Answer::Refused(Refusal::Unreadable(error))) => Err(missing(path, error)),
        Ok(Answer::Refused(source)) => Err(AddError::NotAModel { path, source }),
        other => Err(unread(path, other)),
    }
}

/// Describes a file whose `bytes` are a part of the program as a new record, not active. They are no
/// stranger's, so it takes no process to read them.
///
/// # Errors
/// When it is not there, or no model.
pub(super) async fn of_program(path: &Path, bytes: &[u8]) -> Result<ModelRecord, AddError> {
    let file = FileKey::of(path).await?;
    let about = Description::read(bytes, bytes.len() as u64);
    let about = about.map_err(|error| AddError::NotAModel {
        path: file.path.clone(),
        source: error.into(),
    })?;
    record(file, about)
}

/// A file that the system does not give out, which has this number for why.
fn missing(path: PathBuf, error: Option<i32>) -> AddError {
    let unnamed = || std::io::Error::other("it can't be read");
    AddError::Missing {
        path,
        source: error.map_or_else(unnamed, std::io::Error::from_raw_os_error),
    }
}

/// A file of which nothing is known, or something that was not asked.
fn unread(path: PathBuf, outcome: Outcome) -> AddError {
    AddError::Unread {
        path,
        source: outcome.err().unwrap_or(Unread::Strange),
    }
}

fn record(file: FileKey, about: Description) -> Result<ModelRecord, AddError> {
    let path = file.path;
    if !about.speaks() && !about.pooling {
        return Err(AddError::Speechless {
            path,
            architecture: about.architecture,
        });
    }
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let name = if about.name.is_empty() {
        stem.unwrap_or_default()
    } else {
        about.name
    };
    Ok(ModelRecord {
        id: ModelId::new(),
        name,
        size: file.size,
        modified_ns: file.modified_ns,
        sha256: None,
        architecture: about.architecture,
        parameters: about.parameters,
        quantization: about.quantization,
        context_length: about.context_length,
        bytes_per_token: about.bytes_per_token,
        license: about.license,
        starter: false,
        active: false,
        pinned: false,
        adapter: None,
        path,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::watch;

    use super::*;

    /// Answers as it was told, once it may.
    struct Played {
        answer: Outcome,
        goes_on: watch::Receiver<bool>,
        count: Arc<Count>,
    }

    #[derive(Default)]
    struct Count {
        all: AtomicUsize,
        now: AtomicUsize,
        most: AtomicUsize,
    }

    #[async_trait]
    impl Reader for Played {
        async fn read(&self, _launch: &Launch) -> Outcome {
            self.count.all.fetch_add(1, Ordering::SeqCst);
            let now = self.count.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.count.most.fetch_max(now, Ordering::SeqCst);
            let mut goes_on = self.goes_on.clone();
            drop(goes_on.wait_for(|goes_on| *goes_on).await);
            self.count.now.fetch_sub(1, Ordering::SeqCst);
            self.answer.clone()
        }
    }

    struct World {
        folder: tempfile::TempDir,
        heads: Heads,
        count: Arc<Count>,
        go_on: watch::Sender<bool>,
    }

    impl World {
        fn new(answer: Outcome, goes_on: bool) -> Self {
            let (go_on, watched) = watch::channel(goes_on);
            let count = Arc::new(Count::default());
            let played = Played {
                answer,
                goes_on: watched,
                count: Arc::clone(&count),
            };
            Self {
                folder: tempfile::tempdir().unwrap(),
                heads: Heads::new(played),
                count,
                go_on,
            }
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }

        fn all(&self) -> usize {
            self.count.all.load(Ordering::SeqCst)
        }
    }

    fn llama() -> Answer {
        let said = br#"{"model":{"architecture":"llama","name":"","license":"","parameters":7,
            "quantization":"Q4_0","context_length":8,"chat_template":true,"tools":true,
            "thinking":false,"pooling":false,"bytes_per_token":1}}"#;
        parse(&[&said[..], b"\n"].concat()).unwrap()
    }

    #[tokio::test]
    async fn a_file_is_read_once_as_long_as_it_is_the_same() {
        let world = World::new(Ok(llama()), true);
        let path = world.file("a.gguf", "four");
        let record = world.heads.look(&path).await.unwrap();
        assert_eq!((record.name.as_str(), record.size), ("a", 4));
        assert_eq!((record.parameters, record.context_length), (7, 8));
        for _ in 0..3 {
            let good_for = world.heads.capabilities(&record).await;
            assert_eq!(good_for, [Capability::Chat, Capability::Tools]);
        }
        assert_eq!(world.all(), 1);

        // Another one under its name, or of its content.
        std::fs::write(&path, "longer").unwrap();
        let longer = world.heads.look(&path).await.unwrap();
        assert_eq!((longer.size, world.all()), (6, 2));
        let other = world.file("b.gguf", "longer");
        world.heads.look(&other).await.unwrap();
        assert_eq!(world.all(), 3);

        // Of one that is gone it is still known what it was.
        std::fs::remove_file(&path).unwrap();
        let good_for = world.heads.capabilities(&longer).await;
        assert_eq!((good_for.len(), world.all()), (2, 3));
        let gone = world.heads.look(&path).await;
        assert!(matches!(gone, Err(AddError::Missing { .. })), "{gone:?}");
        assert_eq!(world.all(), 3);
    }

    #[tokio::test]
    async fn who_asks_for_the_same_file_shares_a_process_and_there_are_two_at_most() {
        let world = World::new(Ok(llama()), false);
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..5 {
            let path = world.file(&format!("{number}.gguf"), "x");
            for _ in 0..3 {
                let (heads, path) = (world.heads.clone(), path.clone());
                asking.spawn(async move { heads.look(&path).await });
            }
        }
        while world.count.now.load(Ordering::SeqCst) < AT_ONCE {
            tokio::task::yield_now().await;
        }
        world.go_on.send(true).unwrap();
        while let Some(looked) = asking.join_next().await {
            looked.unwrap().unwrap();
        }
        let most = world.count.most.load(Ordering::SeqCst);
        assert_eq!((world.all(), most), (5, AT_ONCE));
    }

    #[tokio::test]
    async fn what_came_to_nothing_is_tried_again_by_who_adds_it_and_by_lists_after_a_while() {
        let world = World::new(Err(Unread::TooSlow(Duration::from_secs(20))), true);
        let path = world.file("a.gguf", "x");
        for count in 1..3 {
            let error = world.heads.look(&path).await.unwrap_err();
            let fault = error.to_fault();
            assert_eq!(fault.code, "not-a-model");
            assert!(fault.detail.contains("a.gguf"), "{fault}");
            assert!(fault.detail.contains("within 20 seconds"), "{fault}");
            assert!(!fault.what_to_do.is_empty());
            assert_eq!(world.all(), count);
        }
        let file = FileKey::of(&path).await.unwrap();
        let Answer::Model(about) = llama() else {
            panic!("it is one");
        };
        let model = record(file, about.of_size(1)).unwrap();
        for count in [2, 3] {
            for _ in 0..3 {
                assert!(world.heads.capabilities(&model).await.is_empty());
            }
            assert_eq!(world.all(), count);
            clock::advance(GIVEN_UP);
        }

        // What may not be read now may be later, and the file is the same.
        let refused = Answer::Refused(Refusal::Unreadable(Some(13)));
        let world = World::new(Ok(refused), true);
        let path = world.file("a.gguf", "x");
        for count in 1..3 {
            let error = world.heads.look(&path).await.unwrap_err();
            assert!(matches!(error, AddError::Missing { .. }), "{error:?}");
            assert_eq!(world.all(), count);
        }
    }

    #[tokio::test]
    async fn what_failed_for_the_machine_is_no_answer_and_is_tried_again_soon() {
        let Answer::Model(about) = llama() else {
            panic!("it is one");
        };
        for outcome in [
            Err(Unread::Start),
            Err(Unread::NotSetUp),
            Err(Unread::Killed),
            Ok(Answer::Refused(Refusal::Unreadable(Some(5)))),
        ] {
            let world = World::new(outcome, true);
            let path = world.file("a.gguf", "x");
            let file = FileKey::of(&path).await.unwrap();
            let model = record(file, about.clone().of_size(1)).unwrap();
            for count in [1, 2] {
                for _ in 0..3 {
                    assert!(world.heads.good_for(&model).await.is_err());
                }
                assert_eq!(world.all(), count);
                clock::advance(FAILED);
            }
        }
    }

    #[tokio::test]
    async fn where_too_much_is_known_the_oldest_is_forgotten() {
        let world = World::new(Ok(llama()), true);
        let files: Vec<_> = (0..=REMEMBERED)
            .map(|number| world.file(&format!("{number}.gguf"), "x"))
            .collect();
        for file in &files {
            world.heads.look(file).await.unwrap();
            clock::advance(Duration::from_millis(1));
        }
        assert_eq!(world.all(), files.len());
        for file in &files[1..] {
            world.heads.look(file).await.unwrap();
        }
        assert_eq!(world.all(), files.len());
        world.heads.look(&files[0]).await.unwrap();
        assert_eq!(world.all(), files.len() + 1);
    }

    #[tokio::test]
    async fn each_refusal_has_its_fault_and_an_answer_to_another_question_is_none() {
        let refused = |refusal| Ok(Answer::Refused(refusal));
        for (outcome, code) in [
            (
                refused(Refusal::Other("it is a poem".into())),
                "not-a-model",
            ),
            (refused(Refusal::Split(3)), "not-a-model"),
            (refused(Refusal::Cut("it is cut".into())), "model-damaged"),
            (refused(Refusal::Unreadable(None)), "model-missing"),
            (Ok(Answer::Fits), "not-a-model"),
            (Err(Unread::Ended), "not-a-model"),
            (Err(Unread::Strange), "not-a-model"),
            (Err(Unread::Start), "model-failed"),
            (Err(Unread::NotSetUp), "model-failed"),
            (Err(Unread::Killed), "model-failed"),
        ] {
            let told = format!("{outcome:?}");
            let world = World::new(outcome, true);
            let path = world.file("a.gguf", "x");
            let fault = world.heads.look(&path).await.unwrap_err().to_fault();
            assert_eq!(fault.code, code, "{told}");
            assert!(!fault.detail.is_empty() && !fault.what_to_do.is_empty());
            let suspected = fault.what_to_do.contains("harm");
            assert!(!suspected || code == "not-a-model", "{told}");
        }
        // What a model is says nothing of an adapter.
        let world = World::new(Ok(llama()), true);
        let path = world.file("a.gguf", "x");
        let adapted = world.heads.look_adapted(&path, &path).await;
        assert!(
            matches!(
                &adapted,
                Err(AddError::Unread {
                    source: Unread::Strange,
                    ..
                })
            ),
            "{adapted:?}"
        );
    }
}

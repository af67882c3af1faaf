//! The folder of log files: which there are, when a new one begins, which are deleted.
//!
//! Each file is a sealed append file of its own with a random id for a name, and holds one JSON
//! line a record. Its first record says when it began; that is what orders the files, since
//! their names say nothing. A file is never opened again for writing: each attaching begins a
//! new one, so a file that a crash left behind is only ever read.
//!
//! The vault's registry keeps how far each file had got, so that one that is cut or missing is
//! noticed: at closing, and about once a minute while it is written.
//!
//! What is here is the writer's thread's alone, but for the file that is being written
//! ([`Current`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use uuid::Uuid;

use aico_config::Level;
use aico_vault::Vault;
use aico_vault::append::{AppendError, SealedLogWriter, Synced, Syncing};

use crate::error::LogError;
use crate::record::Record;
use crate::sealed;

/// Files that are kept at most, however small: a daemon that restarts all the time makes many.
const MAX_FILES: usize = 512;

/// How often the registry is told how far the file has got.
const MARK_EVERY: Duration = Duration::from_secs(60);

/// How large and how old the files may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) file_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) age: jiff::SignedDuration,
}

impl From<&aico_config::Logging> for Limits {
    fn from(settings: &aico_config::Logging) -> Self {
        let mib = |mib: u32| u64::from(mib) * 1024 * 1024;
        Self {
            file_bytes: mib(settings.max_file_mib),
            total_bytes: mib(settings.max_total_mib),
            age: jiff::SignedDuration::from_hours(24 * i64::from(settings.retention_days)),
        }
    }
}

/// A file that is no longer written.
#[derive(Debug, Clone)]
struct Closed {
    path: PathBuf,
    id: Uuid,
    begun: Timestamp,
    ended: Timestamp,
    bytes: u64,
}

/// A file, its id, and how many records of it to read (`None`: all).
pub(crate) type FileToRead = (PathBuf, Uuid, Option<u64>);

/// The files before the one that is written.
pub(crate) struct Files {
    vault: Vault,
    folder: PathBuf,
    limits: Limits,
    closed: Vec<Closed>,
}

/// The file that is being written.
pub(crate) struct Current {
    file: SealedLogWriter,
    path: PathBuf,
    id: Uuid,
    begun: Timestamp,
    marked: Instant,
}

impl Current {
    /// Appends one record and hands it to the system, where it survives the end of this process.
    pub(crate) fn append(&mut self, record: &Record) -> Result<(), Refused> {
        if let Err(error) = self.file.append(&record.to_line()) {
            return Err(match error {
                AppendError::TooLong { .. } => Refused::Never(self.fail(error)),
                _ => Refused::NotTaken(self.fail(error)),
            });
        }
        let flushed = self.file.flush();
        flushed.map_err(|error| Refused::Later(self.fail(error)))
    }

    /// Whether it can't be used any more: another one has to begin.
    pub(crate) fn is_broken(&self) -> bool {
        self.file.is_broken()
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.file.len()
    }

    /// Whether it is time for another one.
    pub(crate) fn is_due(&self, limits: &Limits, now: Timestamp) -> bool {
        self.file.len() >= limits.file_bytes || day(now) > day(self.begun)
    }

    /// Whether it is twice as long as it ought to get.
    pub(crate) fn is_overlong(&self, limits: &Limits) -> bool {
        self.file.len() >= limits.file_bytes.saturating_mul(2)
    }

    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// Hands over what waits, and leaves the waiting for the disk to whoever calls.
    pub(crate) fn begin_sync(&mut self) -> Result<Syncing, LogError> {
        self.file.begin_sync().map_err(|error| self.fail(error))
    }

    /// Answers how far the file is on disk when it is time to tell the registry.
    pub(crate) fn end_sync(&mut self, synced: Synced) -> Result<Option<u64>, LogError> {
        let durable = self
            .file
            .end_sync(synced)
            .map_err(|error| self.fail(error))?;
        let due = self.marked.elapsed() >= MARK_EVERY;
        if due {
            self.marked = Instant::now();
        }
        Ok(due.then_some(durable))
    }

    /// As it is now, for readers.
    pub(crate) fn to_read(&self) -> FileToRead {
        (self.path.clone(), self.id, Some(self.file.last_sequence()))
    }

    fn fail(&self, source: AppendError) -> LogError {
        LogError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

/// Why a record is not with the system.
pub(crate) enum Refused {
    /// It was taken, and is handed over with the next.
    Later(LogError),
    /// It was not taken: there is no room, or another file is needed.
    NotTaken(LogError),
    /// No file takes it.
    Never(LogError),
}

impl Files {
    /// Makes the folder when it is missing, looks through it and begins a file.
    pub(crate) fn open(
        folder: &Path,
        vault: Vault,
        limits: Limits,
    ) -> Result<(Self, Current), LogError> {
        let fail = |source| LogError::Folder {
            path: folder.to_owned(),
            source,
        };
        make_folder(folder).map_err(fail)?;
        let closed = list(folder, &vault).map_err(fail)?;
        let mut files = Self {
            vault,
            folder: folder.to_owned(),
            limits,
            closed,
        };
        let mut current = files.begin(Timestamp::now(), 0)?;
        files.tell_of_missing(&mut current)?;
        Ok((files, current))
    }

    /// How far a file is on disk.
    pub(crate) fn note(&self, id: Uuid, sequence: u64) {
        let name = sealed::mark_name(id);
        if let Err(error) = self.vault.registry().note_sequence(&name, sequence) {
            tracing::warn!(%error, "The registry could not be told how far the log has got");
        }
    }

    /// Ends a file.
    pub(crate) fn close(&mut self, current: Current) {
        let Current {
            file,
            path,
            id,
            begun,
            ..
        } = current;
        let bytes = file.len();
        match file.close() {
            Err(error) => tracing::warn!(%error, "A log file could not be closed properly"),
            Ok(sequence) => {
                let name = sealed::mark_name(id);
                if let Err(error) = self.vault.registry().note_closed(&name, sequence) {
                    tracing::warn!(%error, "The registry could not be told of a closed log file");
                }
            }
        }
        self.closed.push(Closed {
            path,
            id,
            begun,
            ended: Timestamp::now(),
            bytes,
        });
    }

    /// Those before the present one, in order.
    pub(crate) fn closed(&self) -> impl Iterator<Item = FileToRead> {
        self.closed
            .iter()
            .map(|file| (file.path.clone(), file.id, None))
    }

    /// Another file, which is on disk with its first record. There are so many bytes in the one
    /// beside it that is not closed yet; 0 when there is none.
    pub(crate) fn begin(&mut self, now: Timestamp, beside: u64) -> Result<Current, LogError> {
        self.delete_old(now, beside);
        let id = Uuid::new_v4();
        let path = sealed::path_of(&self.folder, id);
        let fail = |source| LogError::Write {
            path: path.clone(),
            source,
        };
        let mut file = sealed::create(&self.vault, &path, id).map_err(fail)?;
        let first = Record {
            time: now,
            ..Record::own(Level::Info, "A log file begins", &[])
        };
        file.append(&first.to_line()).map_err(fail)?;
        file.sync().map_err(fail)?;
        Ok(Current {
            file,
            path,
            id,
            begun: now,
            marked: Instant::now(),
        })
    }

    /// Files that the registry knows and that are not there were deleted by somebody else.
    fn tell_of_missing(&self, current: &mut Current) -> Result<(), LogError> {
        let mut missing = Vec::new();
        for name in self.vault.registry().marks().into_keys() {
            let Some(id) = name
                .strip_prefix(sealed::MARK)
                .and_then(|id| id.parse().ok())
            else {
                continue;
            };
            if sealed::path_of(&self.folder, id).exists() {
                continue;
            }
            let fields = [("file", id.to_string().into())];
            let told = Record::own(Level::Warn, "A log file has gone missing", &fields);
            let told = current.file.append(&told.to_line());
            told.map_err(|error| current.fail(error))?;
            missing.push(id);
        }
        if !missing.is_empty() {
            // Forgotten once the file that tells of them is on disk.
            current.file.sync().map_err(|error| current.fail(error))?;
        }
        missing.into_iter().for_each(|id| self.forget(id));
        Ok(())
    }

    fn forget(&self, id: Uuid) {
        if let Err(error) = self.vault.registry().remove(&sealed::mark_name(id)) {
            tracing::warn!(%error, "The registry could not be told of a deleted log file");
        }
    }

    /// Deletes what is too old, and the oldest of what is too much. Room is left for the file
    /// that begins, and for the one beside it.
    fn delete_old(&mut self, now: Timestamp, beside: u64) {
        self.closed.sort_by_key(|file| file.begun);
        let room = self
            .limits
            .total_bytes
            .saturating_sub(self.limits.file_bytes);
        let mut total = beside;
        let files = MAX_FILES - 1 - usize::from(beside > 0);
        // From the newest: what comes after the limits is the oldest.
        let kept = self.closed.iter().rev().take(files).take_while(|file| {
            total += file.bytes;
            total <= room && now.duration_since(file.ended) <= self.limits.age
        });
        let kept = kept.count();
        let rest = self.closed.split_off(self.closed.len() - kept);
        for old in std::mem::replace(&mut self.closed, rest) {
            // The registry first: a file that it does not know is no riddle, the reverse is.
            self.forget(old.id);
            if let Err(error) = fs::remove_file(&old.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "An old log file could not be deleted");
            }
        }
    }
}

/// The files that are there, all of each.
pub(crate) fn all(folder: &Path, vault: &Vault) -> Result<Vec<FileToRead>, LogError> {
    match list(folder, vault) {
        Ok(files) => Ok(files
            .into_iter()
            .map(|file| (file.path, file.id, None))
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(LogError::Folder {
            path: folder.to_owned(),
            source,
        }),
    }
}

/// The UTC day.
fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// The files that are there, in the order in which they began.
fn list(folder: &Path, vault: &Vault) -> io::Result<Vec<Closed>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(id) = sealed::id_of(&path) else {
            continue;
        };
        let Ok(meta) = fs::metadata(&path) else {
            continue;
        };
        let ended = meta
            .modified()
            .ok()
            .and_then(|time| Timestamp::try_from(time).ok());
        let ended = ended.unwrap_or(Timestamp::UNIX_EPOCH);
        // One that can't be read keeps its place until its time comes: readers are told of it.
        let begun = first_time(vault, &path, id).unwrap_or(ended);
        found.push(Closed {
            path,
            id,
            begun,
            ended,
            bytes: meta.len(),
        });
    }
    found.sort_by_key(|file| file.begun);
    Ok(found)
}

fn first_time(vault: &Vault, path: &Path, id: Uuid) -> Option<Timestamp> {
    let mut first = None;
    let read = sealed::read(vault, path, id, &mut |line| {
        first = Record::from_line(line).map(|record| record.time);
        false
    });
    read.ok().and(first)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use aico_vault::{KdfCost, Password};
    use jiff::SignedDuration;
    use jiff::ToSpan as _;

    /// A data folder with an open vault.
    pub(crate) struct Data {
        folder: tempfile::TempDir,
        pub(crate) vault: Vault,
    }

    impl Data {
        pub(crate) fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let password = Password::new("velvet harbour moss lantern").unwrap();
            let data = folder.path().join("data");
            let (vault, _) = Vault::create_with(&data, &password, KdfCost::minimum()).unwrap();
            Self { folder, vault }
        }

        pub(crate) fn logs(&self) -> PathBuf {
            self.folder.path().join("data").join("logs")
        }

        /// Small enough that a few records fill a file.
        pub(crate) fn limits(&self) -> Limits {
            Limits {
                file_bytes: 2_000,
                total_bytes: 10_000,
                age: SignedDuration::from_hours(48),
            }
        }

        fn open(&self) -> Written {
            let opened = Files::open(&self.logs(), self.vault.clone(), self.limits());
            let (files, current) = opened.unwrap();
            Written { files, current }
        }

        fn names(&self) -> Vec<PathBuf> {
            fs::read_dir(self.logs())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect()
        }
    }

    /// Files that are written by one thread alone.
    struct Written {
        files: Files,
        current: Current,
    }

    impl Written {
        fn append(&mut self, record: &Record) {
            if self.current.is_due(&self.files.limits, record.time) {
                let next = self.files.begin(record.time, self.current.len()).unwrap();
                self.files.close(std::mem::replace(&mut self.current, next));
            }
            assert!(self.current.append(record).is_ok());
        }

        fn close(mut self) {
            self.files.close(self.current);
        }
    }

    /// Everything that a reader would get.
    pub(crate) fn records(vault: &Vault, files: &Files, current: &Current) -> Vec<Record> {
        let mut all = Vec::new();
        for (path, id, _) in files.closed().chain([current.to_read()]) {
            sealed::read(vault, &path, id, &mut |line| {
                all.extend(Record::from_line(line));
                true
            })
            .unwrap();
        }
        all
    }

    fn of(data: &Data, written: &Written) -> Vec<Record> {
        records(&data.vault, &written.files, &written.current)
    }

    fn numbered(number: u64) -> Record {
        Record::own(Level::Info, "numbered", &[("number", number.into())])
    }

    fn numbers(records: &[Record]) -> Vec<u64> {
        records
            .iter()
            .filter_map(|r| r.fields.get("number")?.as_u64())
            .collect()
    }

    #[test]
    fn full_file_is_followed_by_another_and_nothing_is_lost() {
        let data = Data::new();
        let mut files = data.open();
        for number in 0..40 {
            files.append(&numbered(number));
        }
        assert!(data.names().len() > 2, "{:?}", data.names());
        let all = of(&data, &files);
        assert_eq!(numbers(&all), (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn next_day_begins_a_file() {
        let data = Data::new();
        let mut files = data.open();
        files.append(&numbered(1));
        assert_eq!(data.names().len(), 1);
        let tomorrow = Timestamp::now() + 24.hours();
        files.append(&Record {
            time: tomorrow,
            ..numbered(2)
        });
        assert_eq!(data.names().len(), 2);
        assert_eq!(numbers(&of(&data, &files)), [1, 2]);
    }

    #[test]
    fn files_of_earlier_runs_are_read_in_their_order() {
        let data = Data::new();
        for number in 0..5 {
            let mut files = data.open();
            files.append(&numbered(number));
            files.close();
        }
        let files = data.open();
        assert_eq!(numbers(&of(&data, &files)), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn oldest_files_are_deleted_when_there_is_too_much() {
        let data = Data::new();
        let mut files = data.open();
        for number in 0..400 {
            files.append(&numbered(number));
        }
        let total: u64 = data
            .names()
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum();
        assert!(total <= data.limits().total_bytes + 1_000, "{total}");
        let kept = numbers(&of(&data, &files));
        assert!(kept.len() > 20, "{kept:?}");
        assert_eq!(kept, (400 - kept.len() as u64..400).collect::<Vec<_>>());
    }

    #[test]
    fn old_files_are_deleted_by_their_age() {
        let data = Data::new();
        let mut files = data.open();
        files.append(&numbered(1));
        files.close();
        let [path] = &data.names()[..] else {
            unreachable!("one file")
        };
        let age = |hours: u64| {
            let file = fs::File::options().write(true).open(path).unwrap();
            let time = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
            file.set_modified(time).unwrap();
        };
        age(47);
        assert_eq!(numbers(&of(&data, &data.open())), [1]);
        age(49);
        let files = data.open();
        assert!(numbers(&of(&data, &files)).is_empty());
        assert!(!path.exists());
        let messages: Vec<_> = of(&data, &files).into_iter().map(|r| r.message).collect();
        assert!(
            !messages.iter().any(|m| m.contains("missing")),
            "{messages:?}"
        );
    }

    #[test]
    fn file_that_somebody_deleted_is_told_of_once() {
        let data = Data::new();
        let mut files = data.open();
        files.append(&numbered(1));
        files.close();
        fs::remove_file(&data.names()[0]).unwrap();
        let missing = |files: &Written| {
            let all = of(&data, files);
            all.iter()
                .filter(|r| r.message == "A log file has gone missing")
                .count()
        };
        assert_eq!(missing(&data.open()), 1);
        // The file that tells of it stays; no further one does.
        assert_eq!(missing(&data.open()), 1);
    }

    #[test]
    fn other_files_in_the_folder_are_left_alone() {
        let data = Data::new();
        fs::create_dir_all(data.logs()).unwrap();
        let other = data.logs().join("notes.log");
        fs::write(&other, "mine").unwrap();
        let files = data.open();
        assert_eq!(of(&data, &files).len(), 1);
        assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
    }
}

//! Named places where a test stops the work or the process, to see what the next start makes of it.

use std::{fmt, sync::Arc};

/// Where the work can be interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultPoint {
    /// A new database is whole under its temporary name; the registry does not know it.
    CreateBuilt,
    /// The registry knows the new database; it still has its temporary name.
    CreateRegistered,
    /// A snapshot is copied, under its temporary name.
    SnapshotCopied,
    /// A snapshot has its name; the registry does not know it.
    SnapshotNamed,
    /// The registry knows the snapshot; no step has run.
    SnapshotRegistered,
    /// A statement of a step ran over a range of keys; others follow.
    RangeRan,
    /// A step's statements ran; it is not committed.
    StepRan,
    /// A step is committed; its sequence is not noted.
    StepCommitted,
    /// All steps ran; the snapshot is still there.
    StepsDone,
    /// The registry has forgotten the snapshot; its file is still there.
    SnapshotForgotten,
    /// The registry says that the snapshot is to be put back.
    RestoreNoted,
    /// The snapshot is in place; the database's record is the old one.
    RestoreSwapped,
    /// A write is committed; its sequence is not noted.
    WriteCommitted,
    /// A copy under another key is whole; the registry does not know it.
    RekeyBuilt,
    /// The registry knows that copy: it is the next file. It still has its temporary name.
    RekeyNoted,
    /// The copy is in place; the database's record is that of the file before.
    RekeySwapped,
    /// The database's record is the copy's; the note of the change is still there.
    RekeyRecorded,
}

/// Called at each point; answering `false` makes the work fail there.
#[derive(Clone)]
pub struct FaultHook(Arc<dyn Fn(FaultPoint) -> bool + Send + Sync>);

impl FaultHook {
    /// A hook from a closure.
    pub fn new(hook: impl Fn(FaultPoint) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }
}

impl fmt::Debug for FaultHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultHook")
    }
}

/// The hook that was given, if any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(pub(crate) Option<FaultHook>);

impl Faults {
    /// Whether the work goes on past this point.
    pub(crate) fn pass(&self, point: FaultPoint) -> bool {
        self.0.as_ref().is_none_or(|hook| (hook.0)(point))
    }
}

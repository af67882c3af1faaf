//! Reads what was logged, and what is being logged.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tokio_stream::{Stream, StreamExt};
use uuid::Uuid;

use aico_config::Level;
use aico_vault::Vault;

use crate::check::{self, CheckedLog};
use crate::error::LogError;
use crate::files::FileToRead;
use crate::query::Query;
use crate::record::Record;
use crate::sealed;
use crate::writer::Handle;

/// Records that are read ahead for a slow reader.
const AHEAD: usize = 256;

/// Reads the log through the program that writes it. It keeps no key: after a lock it reads
/// nothing more, and streams end.
#[derive(Clone)]
pub struct LogReader(Handle);

impl LogReader {
    pub(crate) fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Calls `each` with every record that `query` asks for, oldest first, until it breaks.
    /// Blocks while it reads.
    ///
    /// Of a file that can't be read to its end comes what can be read, and a record of level
    /// WARN in place of the rest.
    ///
    /// # Errors
    /// [`LogError::Locked`] when the vault is, or gets, locked.
    pub fn read(
        &self,
        query: &Query,
        each: impl FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        history(&self.0, self.0.snapshot()?.files, query, each)
    }

    /// Reads every file that is there, every record of it that is written by now, and tells of each
    /// file whether it is sound; and of those that are missing. `each` stops it with `false`.
    ///
    /// # Errors
    /// [`LogError::Locked`] when the vault is, or gets, locked.
    pub fn check(&self, each: &mut dyn FnMut(CheckedLog) -> bool) -> Result<(), LogError> {
        let files = self.0.snapshot()?.files;
        for file in &files {
            let checked = self.0.with_vault(|vault| check::one(vault, file))?;
            if !each(checked) {
                return Ok(());
            }
        }
        let folder = files.first().and_then(|(path, ..)| path.parent());
        match folder {
            Some(folder) => self
                .0
                .with_vault(|vault| check::missing(vault, folder, &files, each)),
            None => Ok(()),
        }
    }

    /// All of it in one piece. Name [`Query::last`] or [`Query::since`] to keep it small.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn collect(&self, query: &Query) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        self.read(query, |record| {
            records.push(record);
            ControlFlow::Continue(())
        })?;
        Ok(records)
    }

    /// The same as a stream. With `follow` it goes on with what is logged from now on, without a
    /// gap and without a record twice, until the vault locks; a follower who is too slow misses
    /// records and is told how many. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`LogError::Locked`] when the vault is locked.
    pub fn stream(
        &self,
        query: Query,
        follow: bool,
    ) -> Result<impl Stream<Item = Record> + Send + Unpin + 'static + use<>, LogError> {
        let snapshot = self.0.snapshot()?;
        let (sender, before) = mpsc::channel(AHEAD);
        let (handle, files, wanted) = (self.0.clone(), snapshot.files, query.clone());
        tokio::task::spawn_blocking(move || {
            let sent = |record| match sender.blocking_send(record) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            // A lock in between ends the stream: what was read until then has been given.
            drop(history(&handle, files, &wanted, sent));
        });
        let after = follow.then_some(snapshot.live);
        Ok(ReceiverStream::new(before).chain(live(after, query)))
    }
}

/// What is logged from now on; nothing without a receiver.
fn live(
    receiver: Option<broadcast::Receiver<Arc<Record>>>,
    query: Query,
) -> impl Stream<Item = Record> + Send + Unpin {
    Optional(receiver.map(BroadcastStream::new)).filter_map(move |next| match next {
        Ok(record) => query.matches(&record).then(|| Record::clone(&record)),
        Err(BroadcastStreamRecvError::Lagged(count)) => {
            let message = "Records were left out since the reader could not keep up";
            Some(Record::own(
                Level::Warn,
                message,
                &[("count", count.into())],
            ))
        }
    })
}

fn history(
    handle: &Handle,
    files: Vec<FileToRead>,
    query: &Query,
    mut each: impl FnMut(Record) -> ControlFlow<()>,
) -> Result<(), LogError> {
    let Some(last) = query.last else {
        return in_files(handle, files, query, &mut each);
    };
    let mut newest = VecDeque::new();
    in_files(handle, files, query, &mut |record| {
        if newest.len() == last {
            newest.pop_front();
        }
        if last > 0 {
            newest.push_back(record);
        }
        ControlFlow::Continue(())
    })?;
    // Whoever breaks has enough: the rest is of no interest.
    let _ = newest.into_iter().try_for_each(each);
    Ok(())
}

fn in_files(
    handle: &Handle,
    files: Vec<FileToRead>,
    query: &Query,
    each: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> Result<(), LogError> {
    for (path, id, limit) in files {
        let flow = handle.with_vault(|vault| in_file(vault, &path, id, limit, query, each))?;
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

fn in_file(
    vault: &Vault,
    path: &Path,
    id: Uuid,
    limit: Option<u64>,
    query: &Query,
    each: &mut dyn FnMut(Record) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut flow = ControlFlow::Continue(());
    let mut seen = 0;
    let read = sealed::read(vault, path, id, &mut |line| {
        seen += 1;
        if let Some(record) = Record::from_line(line)
            && query.matches(&record)
        {
            flow = each(record);
        }
        flow.is_continue() && limit.is_none_or(|limit| seen < limit)
    });
    if flow.is_break() {
        return flow;
    }
    match read {
        Ok(()) => flow,
        // Its time came while others were being read.
        Err(_) if !path.exists() => flow,
        Err(error) => {
            let fields = [
                ("file", id.to_string().into()),
                ("reason", error.to_string().into()),
            ];
            let message = "A log file could not be read to its end";
            let record = Record::own(Level::Warn, message, &fields);
            if query.matches(&record) {
                each(record)
            } else {
                flow
            }
        }
    }
}

/// A stream that may not be there.
struct Optional<S>(Option<S>);

impl<S: Stream + Unpin> Stream for Optional<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        match &mut self.0 {
            None => std::task::Poll::Ready(None),
            Some(stream) => std::pin::Pin::new(stream).poll_next(context),
        }
    }
}

//! The same for asynchronous code: each operation runs on tokio's threads for blocking work.

use std::future::Future as _;
use std::io::{self, BufRead as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::{EncryptedFile, EncryptedFileError, FileKey, OpenOptions};
use crate::fs::FileError;

/// Bytes that go to another thread and back at once.
const BUFFER: usize = 256 * 1024;

/// An [`EncryptedFile`] with tokio's traits, in the manner of [`tokio::fs::File`].
///
/// Written bytes are taken at once and handed on in the background: what went wrong is told by a
/// later call, at the latest by [`finish`](Self::finish). `shutdown` finishes the file as well.
/// After a write that failed bytes are missing that were taken: nothing more is written then, and
/// the file can't be finished. A call that is cut off leaves it open.
pub struct AsyncEncryptedFile {
    state: State,
    path: PathBuf,
    /// Plain text: read ahead, or waiting to be written.
    buffer: Zeroizing<Vec<u8>>,
    /// How much of what was read ahead has been handed out.
    taken: usize,
    /// What went wrong in the background, until a call tells it.
    failed: Option<io::Error>,
    /// A write in the background failed: bytes are missing that were taken.
    incomplete: bool,
    /// Something was written since the last flush.
    dirty: bool,
}

enum State {
    /// Nothing is under way. Boxed: it is moved between threads.
    Idle(Box<EncryptedFile>),
    Busy(JoinHandle<Done>),
    /// Finished by `shutdown`.
    Finished,
    /// It could not be finished, or a thread ended with it.
    Lost,
}

struct Done {
    file: Option<Box<EncryptedFile>>,
    buffer: Zeroizing<Vec<u8>>,
    outcome: io::Result<Outcome>,
}

enum Outcome {
    Read,
    Written,
    /// Some of what was to be written is missing.
    Missing(io::Error),
    Flushed,
    Sought(u64),
    /// What it came to went another way.
    Told,
}

impl AsyncEncryptedFile {
    /// Opens a file to read it.
    ///
    /// # Errors
    /// As [`EncryptedFile::open`].
    pub async fn open(key: FileKey, path: PathBuf) -> Result<Self, EncryptedFileError> {
        let mut options = OpenOptions::new();
        options.read(true);
        Self::open_with(options, key, path).await
    }

    /// Opens a file in any way.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub async fn open_with(
        options: OpenOptions,
        key: FileKey,
        path: PathBuf,
    ) -> Result<Self, EncryptedFileError> {
        let opening = tokio::task::spawn_blocking(move || options.open(&key, &path));
        Ok(Self::new(joined(opening.await)?))
    }

    /// Over a file that is open.
    #[must_use]
    pub fn new(file: EncryptedFile) -> Self {
        Self {
            path: file.path().to_path_buf(),
            state: State::Idle(Box::new(file)),
            buffer: Zeroizing::new(Vec::new()),
            taken: 0,
            failed: None,
            incomplete: false,
            dirty: false,
        }
    }

    /// As [`EncryptedFile::verify`].
    ///
    /// # Errors
    /// The first thing that is wrong with the file.
    pub async fn verify(&mut self) -> Result<(), EncryptedFileError> {
        self.with(EncryptedFile::verify).await
    }

    /// As [`EncryptedFile::sync`].
    ///
    /// # Errors
    /// As [`EncryptedFile::sync`], and what a write in the background met.
    pub async fn sync(&mut self) -> Result<u64, EncryptedFileError> {
        self.with(EncryptedFile::sync).await
    }

    /// As [`EncryptedFile::finish`].
    ///
    /// # Errors
    /// As [`EncryptedFile::finish`], and what a write in the background met.
    pub async fn finish(mut self) -> Result<u64, EncryptedFileError> {
        self.idle().await?;
        let State::Idle(file) = std::mem::replace(&mut self.state, State::Lost) else {
            return Err(self.gone());
        };
        joined(tokio::task::spawn_blocking(move || file.finish()).await)
    }

    /// Does something with the file on another thread.
    async fn with<T: Send + 'static>(
        &mut self,
        what: impl FnOnce(&mut EncryptedFile) -> Result<T, EncryptedFileError> + Send + 'static,
    ) -> Result<T, EncryptedFileError> {
        self.idle().await?;
        let (tell, told) = oneshot::channel();
        self.start(move |file, _| {
            // Nobody hears it when the call was cut off.
            let _ = tell.send(what(file));
            Ok(Outcome::Told)
        })
        .map_err(typed)?;
        std::future::poll_fn(|context| self.poll_done(context))
            .await
            .map_err(typed)?;
        told.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Waits for what is under way, and for nothing to be wrong with it.
    async fn idle(&mut self) -> Result<(), EncryptedFileError> {
        std::future::poll_fn(|context| self.poll_idle(context)).await;
        self.check().map_err(typed)
    }

    /// Waits for what is under way. A failure is kept for the next call that can tell it.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if matches!(self.state, State::Busy(_))
            && let Err(error) = ready!(self.poll_done(context))
        {
            self.failed.get_or_insert(error);
        }
        Poll::Ready(())
    }

    /// Whether what was taken so far is in good hands.
    fn check(&mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.incomplete {
            let path = self.path.clone();
            return Err(EncryptedFileError::Incomplete { path }.into());
        }
        match self.state {
            State::Lost => Err(self.gone().into()),
            _ => Ok(()),
        }
    }

    fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Outcome>>> {
        let State::Busy(work) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        let done = match ready!(Pin::new(work).poll(context)) {
            Ok(done) => done,
            Err(error) => {
                self.state = State::Lost;
                return Poll::Ready(Err(io::Error::other(error)));
            }
        };
        self.state = match (done.file, &done.outcome) {
            (Some(file), _) => State::Idle(file),
            (None, Ok(_)) => State::Finished,
            (None, Err(_)) => State::Lost,
        };
        self.buffer = done.buffer;
        // Nothing is read ahead after a seek; otherwise what was not handed out stays.
        self.taken = self.taken.min(self.buffer.len());
        Poll::Ready(match done.outcome {
            Ok(Outcome::Missing(error)) => {
                self.incomplete = true;
                Err(error)
            }
            Ok(Outcome::Flushed) => {
                self.dirty = false;
                Ok(Some(Outcome::Flushed))
            }
            other => other.map(Some),
        })
    }

    /// Starts work on another thread; the buffer goes with it.
    fn start(
        &mut self,
        work: impl FnOnce(&mut EncryptedFile, &mut Vec<u8>) -> io::Result<Outcome> + Send + 'static,
    ) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(mut file) => {
                let mut buffer = std::mem::take(&mut self.buffer);
                self.state = State::Busy(tokio::task::spawn_blocking(move || {
                    let outcome = work(&mut file, &mut buffer);
                    Done {
                        file: Some(file),
                        buffer,
                        outcome,
                    }
                }));
                Ok(())
            }
            other => {
                self.state = other;
                Err(self.gone().into())
            }
        }
    }

    fn gone(&self) -> EncryptedFileError {
        EncryptedFileError::Options {
            path: self.path.clone(),
            reason: "it was finished, or an operation on it was cut off",
        }
    }
}

impl AsyncRead for AsyncEncryptedFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        loop {
            let there = me.buffer.get(me.taken..).unwrap_or_default();
            if !there.is_empty() || into.remaining() == 0 {
                let count = there.len().min(into.remaining());
                into.put_slice(&there[..count]);
                me.taken += count;
                return Poll::Ready(Ok(()));
            }
            if matches!(me.state, State::Busy(_)) {
                let done = ready!(me.poll_done(context))?;
                // Nothing read is the end; a seek that was cut off reads nothing either.
                if matches!(done, Some(Outcome::Read)) && me.buffer.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            me.buffer.clear();
            me.taken = 0;
            me.start(|file, buffer| {
                // What is authenticated already when a later chunk fails is handed out first:
                // the failure comes again with the next read.
                while buffer.len() < BUFFER {
                    match file.fill_buf() {
                        Ok([]) => break,
                        Ok(there) => {
                            let count = there.len().min(BUFFER - buffer.len());
                            buffer.extend_from_slice(&there[..count]);
                            file.consume(count);
                        }
                        Err(error) if buffer.is_empty() => return Err(error),
                        Err(_) => break,
                    }
                }
                Ok(Outcome::Read)
            })?;
        }
    }
}

impl AsyncSeek for AsyncEncryptedFile {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let me = &mut *self;
        // What was read ahead and not handed out counts as not read.
        let ahead = me.buffer.len().saturating_sub(me.taken);
        let to = match to {
            SeekFrom::Current(by) => SeekFrom::Current(by.saturating_sub_unsigned(ahead as u64)),
            other => other,
        };
        me.start(move |file, buffer| {
            let to = file.seek(to)?;
            // Only now: a seek that fails leaves the reader where it is.
            buffer.clear();
            Ok(Outcome::Sought(to))
        })
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let me = &mut *self;
        match ready!(me.poll_done(context))? {
            Some(Outcome::Sought(to)) => Poll::Ready(Ok(to)),
            // Asked before a seek, to wait for what is under way: the position is not looked at.
            _ => Poll::Ready(Ok(0)),
        }
    }
}

impl AsyncWrite for AsyncEncryptedFile {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        ready!(me.poll_idle(context));
        me.check()?;
        let count = data.len().min(BUFFER);
        me.buffer.clear();
        me.buffer.extend_from_slice(&data[..count]);
        me.start(|file, buffer| {
            let written = file.write_all(buffer);
            buffer.clear();
            Ok(written.map_or_else(Outcome::Missing, |()| Outcome::Written))
        })?;
        me.dirty = true;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        loop {
            ready!(me.poll_idle(context));
            me.check()?;
            if !me.dirty || matches!(me.state, State::Finished) {
                return Poll::Ready(Ok(()));
            }
            me.start(|file, _| file.flush().map(|()| Outcome::Flushed))?;
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        let me = &mut *self;
        let file = match std::mem::replace(&mut me.state, State::Lost) {
            State::Idle(file) => file,
            other => {
                me.state = other;
                return Poll::Ready(Ok(()));
            }
        };
        me.state = State::Busy(tokio::task::spawn_blocking(move || Done {
            file: None,
            buffer: Zeroizing::new(Vec::new()),
            outcome: file.finish().map(|_| Outcome::Flushed).map_err(Into::into),
        }));
        self.poll_flush(context)
    }
}

/// What a thread for blocking work came back with.
fn joined<T>(
    done: Result<Result<T, EncryptedFileError>, tokio::task::JoinError>,
) -> Result<T, EncryptedFileError> {
    done.unwrap_or_else(|error| Err(typed(io::Error::other(error))))
}

/// The error that the blocking form gave.
fn typed(error: io::Error) -> EncryptedFileError {
    error.downcast().unwrap_or_else(|source| {
        FileError::Io {
            doing: "use",
            path: PathBuf::new(),
            source,
        }
        .into()
    })
}

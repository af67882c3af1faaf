//! What a command makes in several steps, and takes back when a signal ends it.
//!
//! Files of a person in clear, or the empty file for a phrase, must not be left behind by a Ctrl-C.
//! The command works on one thread, which may wait for a disk, a pipe or a password: a thread of its
//! own hears the signals, takes back what stands, and ends the process.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Once, mpsc};
use std::time::Duration;

use aico_vault::{EncryptedFile, EncryptedFileError};
use parking_lot::{Mutex, MutexGuard};

use crate::style;

/// How much later a signal is heard than the end of a pipe, at most.
const AT_THE_END: Duration = Duration::from_millis(100);

type Undo = Box<dyn FnOnce() + Send>;

/// What is taken back. Whoever works on something of it holds this meanwhile, and the end by a signal
/// never lets go of it: nothing is made or finished after it was taken back.
static STANDING: Mutex<Standing> = Mutex::new(Standing {
    last: 0,
    undo: Vec::new(),
    empty: Vec::new(),
});

struct Standing {
    last: u64,
    undo: Vec<(u64, Undo)>,
    /// Files for secrets: taken back while nothing is in them.
    empty: Vec<PathBuf>,
}

/// A password is being asked for; the terminal is to be as it was before when the process ends.
static ASKING: Mutex<()> = Mutex::new(());

/// How long an end by a signal waits for that.
const TERMINAL: Duration = Duration::from_millis(500);

/// How long sessions that were begun are waited for at an end by a signal.
const SIGN_OUT: Duration = Duration::from_secs(1);

fn standing() -> MutexGuard<'static, Standing> {
    STANDING.lock()
}

/// Something that is taken back when it is dropped or a signal ends the command, unless it is
/// finished.
pub(crate) struct Unfinished(u64);

impl Unfinished {
    /// From here on `undo` takes back what was made; it may not use this itself.
    pub(crate) fn new(undo: impl FnOnce() + Send + 'static) -> Self {
        listen();
        let mut standing = standing();
        standing.last += 1;
        let id = standing.last;
        standing.undo.push((id, Box::new(undo)));
        Self(id)
    }

    /// Does a step of the work that may not come after it was taken back.
    pub(crate) fn step<T>(&self, work: impl FnOnce() -> T) -> T {
        let _no_end_meanwhile = standing();
        work()
    }

    /// Does the last step; where it fails everything is taken back.
    pub(crate) fn finish<T, E>(self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut standing = standing();
        let done = work();
        if done.is_ok() {
            standing.undo.retain(|(id, _)| *id != self.0);
        }
        drop(standing);
        done
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut standing = standing();
        let found = standing.undo.iter().position(|(id, _)| *id == self.0);
        if let Some(found) = found {
            let (_, undo) = standing.undo.swap_remove(found);
            undo();
        }
    }
}

/// A new file for a secret: a signal removes it while nothing is in it.
pub(crate) fn remove_while_empty(path: PathBuf) {
    listen();
    standing().empty.push(path);
}

/// Keeps an end by a signal waiting until the terminal is as it was before, if it is so soon.
pub(crate) fn asking() -> MutexGuard<'static, ()> {
    ASKING.lock()
}

/// Waits a moment at the end of what came through a pipe: a Ctrl-C ends whoever writes to it as well,
/// and that end is not the end of the text.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells that no signal is on its way"
)]
pub(crate) fn hear_signals_first() {
    std::thread::sleep(AT_THE_END);
}

/// An encrypted file in the making that nothing is left of when a signal ends the command.
pub(crate) struct Sealing {
    file: Arc<Mutex<Option<EncryptedFile>>>,
    unfinished: Unfinished,
}

impl Sealing {
    pub(crate) fn new(file: EncryptedFile) -> Self {
        let file = Arc::new(Mutex::new(Some(file)));
        let standing = Arc::clone(&file);
        // What is beside its place is removed with it.
        let unfinished = Unfinished::new(move || drop(taken(&standing)));
        Self { file, unfinished }
    }

    /// Seals the end and puts the file in its place.
    pub(crate) fn finish(self) -> Result<(), EncryptedFileError> {
        let Self { file, unfinished } = self;
        unfinished.finish(|| taken(&file).map_or(Ok(()), |file| file.finish().map(drop)))
    }
}

fn taken(file: &Mutex<Option<EncryptedFile>>) -> Option<EncryptedFile> {
    file.lock().take()
}

impl std::io::Write for Sealing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.unfinished.step(|| {
            let mut file = self.file.lock();
            file.as_mut()
                .map_or(Ok(bytes.len()), |file| file.write(bytes))
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.unfinished.step(|| {
            let mut file = self.file.lock();
            file.as_mut().map_or(Ok(()), std::io::Write::flush)
        })
    }
}

/// Takes back what stands and ends the process, with the code that shells have for the signal.
pub(crate) fn end(signal: u8) -> ! {
    end_now(standing(), signal)
}

/// It never lets go of what stands: whoever waits for it would go on.
fn end_now(mut standing: MutexGuard<'_, Standing>, signal: u8) -> ! {
    let undo = std::mem::take(&mut standing.undo);
    let any = !undo.is_empty();
    for (_, undo) in undo {
        undo();
    }
    if any {
        style::note("Stopped: nothing of it was kept.");
    }
    for path in std::mem::take(&mut standing.empty) {
        if fs::symlink_metadata(&path).is_ok_and(|about| about.is_file() && about.len() == 0)
            && fs::remove_file(&path).is_ok()
        {
            style::note(&format!(
                "Stopped: {} is removed again, for nothing was written to it.",
                style::harmless(&path.display().to_string())
            ));
        }
    }
    aico_vault::end_process(128 + signal)
}

/// Hears signals from the first time on that something stands. Where they can't be heard they end
/// the process as they always did.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (listens, listening) = mpsc::channel();
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let started = thread.spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            else {
                return;
            };
            let Some(signal) = runtime.block_on(heard(listens)) else {
                return;
            };
            // Nothing is finished from here on.
            let standing = standing();
            // A Ctrl-C at a question for a password ends that question at once; another signal does
            // not.
            drop(ASKING.try_lock_for(TERMINAL));
            runtime.block_on(async {
                let _ = tokio::time::timeout(SIGN_OUT, crate::client::sign_out()).await;
            });
            end_now(standing, signal)
        });
        // Whether it listens or has given up: the work goes on.
        if started.is_ok() {
            let _ = listening.recv();
        }
    });
}

#[cfg(unix)]
async fn heard(listens: mpsc::Sender<()>) -> Option<u8> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).ok()?;
    let mut terminate = signal(SignalKind::terminate()).ok()?;
    drop(listens);
    tokio::select! {
        _ = interrupt.recv() => Some(2),
        _ = terminate.recv() => Some(15),
    }
}

#[cfg(not(unix))]
async fn heard(listens: mpsc::Sender<()>) -> Option<u8> {
    // It is heard from the first time on that it is waited for.
    drop(listens);
    tokio::signal::ctrl_c().await.ok().map(|()| 2)
}

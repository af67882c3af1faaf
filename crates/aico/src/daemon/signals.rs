//! Being asked to stop: politely once, at once the second time.

use crate::exit::Failure;

/// What arrived, as shells number it.
#[derive(Clone, Copy)]
pub(super) struct Signal(u8);

#[cfg(unix)]
pub(super) struct Signals {
    both: tokio::sync::Mutex<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl Signals {
    /// From here on signals no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error: std::io::Error| {
            Failure::new(crate::exit::Exit::Unexpected, "Signals can't be heard.").because(&error)
        };
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self {
            both: tokio::sync::Mutex::new((interrupt, terminate)),
        })
    }

    async fn next(&self) -> Signal {
        let mut both = self.both.lock().await;
        let (interrupt, terminate) = &mut *both;
        tokio::select! {
            _ = interrupt.recv() => Signal(2),
            _ = terminate.recv() => Signal(15),
        }
    }
}

#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Ctrl-C is heard from the first wait on.
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self)
    }

    async fn next(&self) -> Signal {
        let _ = tokio::signal::ctrl_c().await;
        Signal(2)
    }
}

impl Signals {
    pub(super) async fn first(&self) {
        self.next().await;
    }

    pub(super) async fn second(&self) -> Signal {
        self.next().await
    }
}

/// What was acknowledged is durable; the rest is given up.
pub(super) fn quit_at_once(signal: Signal) -> ! {
    crate::style::warning("stopped at once");
    aico_vault::end_process(128 + signal.0)
}

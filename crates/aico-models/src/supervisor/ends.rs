//! Why a model process ended by itself, and how often it did while a question was with it.

use std::collections::HashMap;
use std::process::ExitStatus;

use aico_contracts::ids::ModelId;
use aico_contracts::v1::Fault;
use parking_lot::Mutex;

/// Ends of a process while a question was with it, without an answer in between that came to its
/// end or was given up after its first words, after which its model is left alone.
pub(super) const MOST: u32 = 3;

const AGAIN: &str = "It is tried again after ten minutes, or when it is chosen: `aico model use`.";

/// Why a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// There was no memory: the system ended it, or it gave up.
    Memory,
    /// It did not answer any more, and we killed it.
    Hang,
    /// Somebody else killed it, and the system does not say that it was for memory.
    Killed,
    /// Whatever else.
    Crash,
}

impl Cause {
    /// Of one that never got so far as to answer, so many times.
    pub(super) fn at_loading(self, times: u32, status: &str) -> Fault {
        match self {
            Self::Memory => Fault::new(
                "model-too-large",
                "The memory does not suffice to load the model",
            )
            .with_detail(format!(
                "The process ended {times} times for it ({status})."
            ))
            .with_what_to_do(format!(
                "Close other programs, choose a smaller model, or set a smaller \
                         `models.context`. {AGAIN}"
            )),
            Self::Hang | Self::Killed | Self::Crash => {
                Fault::model_failed("The model crashes whenever it is loaded")
                    .with_detail(format!("The process ended {times} times ({status})."))
                    .with_what_to_do("Choose another model, or choose this one again to retry.")
            }
        }
    }

    /// Of one that was asked something each time.
    pub(super) fn at_answering(self, times: u32, status: &str) -> Fault {
        let (fault, what) = match self {
            Self::Memory => (
                Fault::new(
                    "model-too-large",
                    "The memory does not suffice for the model to answer",
                ),
                "Close other programs, choose a smaller model, or set a smaller `models.context`.",
            ),
            Self::Hang => (
                Fault::model_failed("The model hangs whenever it is asked"),
                "Choose another model; a smaller one if this machine is slow.",
            ),
            Self::Killed => (
                Fault::model_failed("The model's process is killed whenever it is asked"),
                "Find out what ends it: a program that guards the memory often does, and then a \
                 smaller model or a smaller `models.context` helps.",
            ),
            Self::Crash => (
                Fault::model_failed("The model crashes whenever it is asked"),
                "Choose another model, or another file of this one.",
            ),
        };
        fault
            .with_detail(format!(
                "The process ended {times} times while it answered, the last time so: {status}."
            ))
            .with_what_to_do(format!("{what} {AGAIN}"))
    }
}

/// What was seen of a run, by which its end is understood.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// It was killed because it did not answer any more.
    pub(super) hung: bool,
    /// It wrote that there was no memory for it.
    pub(super) no_memory: bool,
    /// Processes that the system had ended for memory before it began.
    ended_before: Option<u64>,
}

impl Signs {
    /// Of a run that begins. Blocks, shortly.
    pub(super) fn begin() -> Self {
        Self {
            ended_before: ended_for_memory(),
            ..Self::default()
        }
    }

    /// Why it ended. Blocks, shortly.
    pub(super) fn cause(&self, status: Option<ExitStatus>) -> Cause {
        self.cause_with(status, ended_for_memory())
    }

    fn cause_with(&self, status: Option<ExitStatus>, ended_now: Option<u64>) -> Cause {
        let more = self.ended_before.zip(ended_now);
        match is_killed(status) {
            _ if self.hung => Cause::Hang,
            true if more.is_some_and(|(before, now)| now > before) => Cause::Memory,
            true => Cause::Killed,
            false if self.no_memory => Cause::Memory,
            false => Cause::Crash,
        }
    }
}

/// Whether a signal ended it that no process can refuse.
fn is_killed(status: Option<ExitStatus>) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt as _;
        status.is_some_and(|status| status.signal() == Some(libc::SIGKILL))
    }
    #[cfg(not(unix))]
    {
        let _no_signals = status;
        false
    }
}

/// Processes that the system has ended for memory; `None` where it does not tell.
fn ended_for_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        super::group::ended_for_memory()
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}

/// How often the process of each model ended while a question was with it, since it last answered.
/// How long it ran counts for nothing: it may be idle, or hang, for longer than it answers. This
/// outlives the slot: another model may have its room in between.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<HashMap<ModelId, u32>>);

impl Ends {
    /// It did so once more; tells how often that makes.
    pub(super) fn one_more(&self, model: ModelId) -> u32 {
        let mut all = self.0.lock();
        let times = all.entry(model).or_default();
        *times = times.saturating_add(1);
        *times
    }

    /// It has answered, or a person wants it tried again.
    pub(super) fn forget(&self, model: ModelId) {
        self.0.lock().remove(&model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn memory_a_hang_a_kill_and_a_crash_are_told_apart() {
        use std::os::unix::process::ExitStatusExt as _;

        let by = |signal| Some(ExitStatus::from_raw(signal));
        let (killed, aborted) = (by(libc::SIGKILL), by(libc::SIGABRT));
        let seen = |hung, no_memory| Signs {
            hung,
            no_memory,
            ended_before: Some(3),
        };
        let cause = |signs: Signs, status, now| signs.cause_with(status, now);
        assert_eq!(cause(seen(false, false), killed, Some(4)), Cause::Memory);
        assert_eq!(cause(seen(false, false), killed, Some(3)), Cause::Killed);
        assert_eq!(cause(seen(false, false), killed, None), Cause::Killed);
        assert_eq!(cause(Signs::default(), killed, Some(4)), Cause::Killed);
        // We kill it ourselves; what the system ends meanwhile was another one.
        assert_eq!(cause(seen(true, false), killed, Some(4)), Cause::Hang);
        assert_eq!(cause(seen(false, true), aborted, Some(3)), Cause::Memory);
        assert_eq!(cause(seen(false, false), aborted, Some(4)), Cause::Crash);
        assert_eq!(cause(seen(false, false), None, Some(4)), Cause::Crash);

        // Each has words of its own, and says what to do.
        let all = [Cause::Memory, Cause::Hang, Cause::Killed, Cause::Crash];
        let faults = all.map(|cause| cause.at_answering(3, "signal: 9 (SIGKILL)"));
        let titles: std::collections::HashSet<_> = faults.iter().map(|it| &it.title).collect();
        let hints: std::collections::HashSet<_> = faults.iter().map(|it| &it.what_to_do).collect();
        assert_eq!((titles.len(), hints.len()), (4, 4));
        let codes = faults.each_ref().map(|fault| fault.code.as_str());
        let failed = "model-failed";
        assert_eq!(codes, ["model-too-large", failed, failed, failed]);
        for fault in &faults {
            assert!(fault.detail.contains("3 times"), "{}", fault.detail);
            assert!(fault.what_to_do.contains("aico model use"));
        }
        let code = |cause: Cause| cause.at_loading(3, "unknown").code;
        assert_eq!(code(Cause::Memory), "model-too-large");
        assert_eq!(code(Cause::Killed), failed);
    }

    #[test]
    fn ends_are_counted_for_each_model_until_it_answers() {
        let (ends, one, other) = (Ends::default(), ModelId::new(), ModelId::new());
        assert_eq!((ends.one_more(one), ends.one_more(one)), (1, 2));
        assert_eq!(ends.one_more(other), 1);
        ends.forget(one);
        assert_eq!((ends.one_more(one), ends.one_more(other)), (1, 2));
    }
}

//! Hardening of the whole process: no core file, no tracing by another process of the user.

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;

#[cfg(unix)]
pub use sys::current_uid;

/// A protection that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing}")]
pub struct HardenError {
    /// What was tried.
    pub doing: &'static str,
    /// Why it did not work.
    #[source]
    pub source: std::io::Error,
}

/// Protects this process; the first thing in `main`, and again in each child.
///
/// * Linux: `PR_SET_DUMPABLE 0` (no core, no attaching by the same user, `/proc/self/mem` closed)
///   and a core size limit of 0.
/// * macOS: no debugger may attach; core size limit 0.
/// * Other Unix: core size limit 0.
/// * Windows: no crash dialogue, no heap in error reports.
///
/// # Errors
/// The first protection that was refused. The rest has been tried nevertheless.
pub fn harden_process() -> Result<(), HardenError> {
    sys::harden()
}

/// Ends this process as it is, with this code. What libraries want to do at an orderly end is left
/// out: `SQLCipher` takes its memory away then, and a thread that still works on a database would
/// turn the code into a crash's.
pub fn end_process(code: u8) -> ! {
    sys::end(code)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn afterwards_no_core_can_be_written() {
        super::harden_process().unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        // SAFETY: reads a flag of this process.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 0);
    }
}

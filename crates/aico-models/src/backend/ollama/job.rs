//! A job object of Windows, around an Ollama that we started and what it starts itself: all of them
//! end with the object's only handle, be it closed or we killed.

use std::io::{Error, Result};
use std::os::windows::io::{FromRawHandle as _, OwnedHandle, RawHandle};
use std::ptr::null;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};

/// Dropping it ends what is in it.
pub(super) struct Job {
    _handle: OwnedHandle,
}

impl Job {
    /// Around this process, and those that it starts from now on. The handle must be open.
    pub(super) fn around(process: RawHandle) -> Result<Self> {
        // SAFETY: without a name, and with a handle that no child inherits.
        let job = unsafe { CreateJobObjectW(null(), null()) };
        if job.is_null() {
            return Err(Error::last_os_error());
        }
        // SAFETY: a handle that is open and nobody else's.
        let handle = unsafe { OwnedHandle::from_raw_handle(job) };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let size = u32::try_from(size_of_val(&limits)).map_err(Error::other)?;
        let kind = JobObjectExtendedLimitInformation;
        // SAFETY: both handles are open, and the structure is that of its kind and size.
        let done = unsafe {
            SetInformationJobObject(job, kind, (&raw const limits).cast(), size) != 0
                && AssignProcessToJobObject(job, process) != 0
        };
        if !done {
            return Err(Error::last_os_error());
        }
        Ok(Self { _handle: handle })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::windows::io::AsRawHandle as _;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_process_started_ends_with_its_job() {
        let mut shell = Command::new("cmd")
            .arg("/q")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let job = Job::around(shell.as_raw_handle()).unwrap();
        let mut orders = shell.stdin.take().unwrap();
        // A second shell, which waits for a line that never comes.
        let order = b"cmd /q /c \"echo bel^ow& set /p line=\"\r\n";
        orders.write_all(order).unwrap();
        let mut told = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("below") {
            line.clear();
            assert_ne!(told.read_line(&mut line).unwrap(), 0);
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        drop(job);
        // The second has the pipe too: the pipe ends when both have.
        let (both, ended) = mpsc::channel();
        std::thread::spawn(move || both.send(told.read_to_end(&mut Vec::new()).is_ok()));
        assert_eq!(ended.recv_timeout(Duration::from_secs(30)), Ok(true));
        drop(orders);
    }
}

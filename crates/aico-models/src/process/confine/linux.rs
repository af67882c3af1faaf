//! Landlock and seccomp.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::{ConfineError, Kind, Places, gpu};

pub(super) fn first() -> Result<(), ConfineError> {
    let checked = |what, result: libc::c_int| {
        if result == 0 {
            return Ok(());
        }
        Err(ConfineError::Process {
            what,
            source: io::Error::last_os_error(),
        })
    };
    // SAFETY: these options take numbers only.
    let dumpable = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    checked("protection from tracing", dumpable)?;
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: passes a valid structure that the call only reads.
    let core = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    checked("the limit of core dumps", core)?;
    // In addition to the end of the pipe: also ends a process that hangs.
    // SAFETY: this option takes a number only.
    let death = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    checked("its end with the parent's", death)
}

/// What tells of processor and memory; present or not.
const READABLE: &[&str] = &[
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
];

pub(super) fn files(places: Places<'_>) -> Result<bool, ConfineError> {
    // SAFETY: this option takes numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        let source = io::Error::last_os_error();
        return Err(ConfineError::Process {
            what: "the ban on new privileges",
            source,
        });
    }
    let failed = |error: &dyn std::fmt::Display| ConfineError::Files(error.to_string());
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|rules| rules.handle_access(AccessNet::BindTcp))
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .map_err(|error| failed(&error))?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = allow(rules, places.model, AccessFs::ReadFile.into())?;
    if let Some(adapter) = places.adapter {
        rules = allow(rules, adapter, AccessFs::ReadFile.into())?;
    }
    for place in READABLE {
        rules = allow(rules, Path::new(place), read)?;
    }
    if let Some(kind) = places.gpu {
        for place in gpu::readable(kind) {
            rules = allow(rules, Path::new(place), read)?;
        }
        let drive = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        for device in gpu::devices(kind) {
            rules = allow(rules, &device, drive)?;
        }
    }
    // Not to be executed, and nothing but files and folders.
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    let rules = allow(rules, places.scratch, write)?;
    let status = rules.restrict_self().map_err(|error| failed(&error))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// One rule; a place that is not there needs none.
fn allow(
    rules: RulesetCreated,
    place: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, ConfineError> {
    let Ok(opened) = PathFd::new(place) else {
        return Ok(rules);
    };
    let access = if place.is_dir() {
        access
    } else {
        access & AccessFs::from_file(ABI::V5)
    };
    rules
        .add_rule(PathBeneath::new(opened, access))
        .map_err(|error| ConfineError::Files(error.to_string()))
}

/// A program may end for any of these without a word.
const DEADLY: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
];

/// What computing, its threads and an open link need.
const ALLOWED: &[libc::c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
    // Files; which ones, Landlock decides.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fadvise64,
    libc::SYS_ftruncate,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    // The open link: no way to a new socket.
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_pipe2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // Threads and signals.
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_getpriority,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // What it is.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_times,
];

/// The same under older names that only this architecture has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[libc::c_long] = &[];

pub(super) fn calls(gpu: Option<Kind>) -> Result<bool, ConfineError> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(false);
    };
    let failed = |error: seccompiler::Error| ConfineError::Calls(error.to_string());
    // Of several filters the strictest answer counts.
    for program in programs(arch, gpu)? {
        seccompiler::apply_filter_all_threads(&program).map_err(failed)?;
    }
    Ok(true)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn programs(arch: TargetArch, gpu: Option<Kind>) -> Result<[BpfProgram; 3], ConfineError> {
    let any = |numbers: &[libc::c_long]| -> Rules {
        numbers.iter().map(|&number| (number, Vec::new())).collect()
    };
    let compiled = |rules, otherwise, matched| {
        SeccompFilter::new(rules, otherwise, matched, arch)
            .and_then(BpfProgram::try_from)
            .map_err(|error| ConfineError::Calls(error.to_string()))
    };
    let deadly = compiled(
        any(DEADLY),
        SeccompAction::Allow,
        SeccompAction::KillProcess,
    )?;
    // Its flags lie in memory, where a filter can't look; glibc then takes `clone`.
    let unknown = compiled(
        any(&[libc::SYS_clone3]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
    )?;

    let mut rules = any(ALLOWED);
    rules.extend(any(ALLOWED_OLD));
    // Left to the filter above: of two that answer with an error the last one's number counts.
    rules.insert(libc::SYS_clone3, Vec::new());
    let thread = libc::CLONE_THREAD.unsigned_abs().into();
    rules.insert(
        libc::SYS_clone,
        vec![rule(0, SeccompCmpOp::MaskedEq(thread), thread)?],
    );
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, own)?]);
    // Its own limits and priority: those of every process of the user could be set otherwise.
    rules.insert(
        libc::SYS_prlimit64,
        vec![
            rule(0, SeccompCmpOp::Eq, 0)?,
            rule(0, SeccompCmpOp::Eq, own)?,
        ],
    );
    rules.insert(
        libc::SYS_setpriority,
        vec![every([(0, libc::PRIO_PROCESS.into()), (1, 0)])?],
    );
    // None that has signals sent to somebody.
    let files: Result<Vec<_>, _> = FILE_COMMANDS
        .iter()
        .map(|command| rule(1, SeccompCmpOp::Eq, command.unsigned_abs().into()))
        .collect();
    rules.insert(libc::SYS_fcntl, files?);
    let name = libc::PR_SET_NAME.unsigned_abs().into();
    rules.insert(libc::SYS_prctl, vec![rule(0, SeccompCmpOp::Eq, name)?]);
    let controls = [libc::FIONBIO, libc::FIONREAD, libc::TCGETS];
    let controls = controls.iter().map(|&control| (SeccompCmpOp::Eq, control));
    let more = gpu.map_or(&[][..], gpu::controls).iter();
    let more = more.map(|&(mask, control)| (SeccompCmpOp::MaskedEq(mask), control));
    let controls: Result<Vec<_>, _> = controls
        .chain(more)
        .map(|(comparison, control)| rule(1, comparison, control))
        .collect();
    rules.insert(libc::SYS_ioctl, controls?);
    rules.extend(any(gpu.map_or(&[][..], |_| gpu::CALLS)));
    // The second and third filter are installed under the ones before.
    let allowed = compiled(
        rules,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
    )?;
    Ok([deadly, unknown, allowed])
}

/// What `fcntl` may be asked for.
const FILE_COMMANDS: &[libc::c_int] = &[
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
];

/// Arguments that all have these values.
fn every<const N: usize>(values: [(u8, u64); N]) -> Result<SeccompRule, ConfineError> {
    let conditions = values.into_iter().map(|(argument, value)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    });
    conditions
        .collect::<Result<Vec<_>, _>>()
        .and_then(SeccompRule::new)
        .map_err(|error| ConfineError::Calls(error.to_string()))
}

fn rule(argument: u8, comparison: SeccompCmpOp, value: u64) -> Result<SeccompRule, ConfineError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(|error| ConfineError::Calls(error.to_string()))
}

pub(super) fn memory(most: u64) -> Result<(), ConfineError> {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // What is written to and belongs to the process alone counts: neither its program, nor what
    // the allocators only reserve.
    // SAFETY: passes a valid structure that the call only reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) } != 0 {
        return Err(ConfineError::Process {
            what: "the limit of memory",
            source: io::Error::last_os_error(),
        });
    }
    Ok(())
}

pub(super) fn leave(code: u8) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(i32::from(code)) }
}

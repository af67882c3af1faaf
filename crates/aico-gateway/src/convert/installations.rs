//! Installations of other programs, from the bus's messages.

use aico_contracts::v1;

use super::text;
use crate::api::installation::{
    EngineInstallation, EngineInstalling, EngineRelease, InstallStatus,
};
use crate::problem::Problem;

pub(crate) fn installation(from: v1::EngineInstallation) -> EngineInstallation {
    EngineInstallation {
        engine: from.engine,
        installed: text(from.installed),
        program: text(from.program),
        starts: from.starts,
        release: from.release.map(release),
        problem: from.fault.map(|fault| Problem::from(fault).document()),
        run: from.run.map(run),
    }
}

fn release(from: v1::EngineRelease) -> EngineRelease {
    EngineRelease {
        version: from.version,
        date: from.date,
        source: from.source,
        size_bytes: from.size_bytes,
        sha256: from.sha256,
        license: from.license,
        license_url: from.license_url,
        notice: text(from.notice),
        kept_bytes: from.kept_bytes,
        folder: from.folder,
    }
}

fn run(from: v1::EngineInstalling) -> EngineInstalling {
    use v1::engine_installing::State;

    let status = match from.state() {
        State::Unspecified | State::Checking => InstallStatus::Checking,
        State::Running => InstallStatus::Running,
        State::Waiting => InstallStatus::Waiting,
        State::Verifying => InstallStatus::Verifying,
        State::Unpacking => InstallStatus::Unpacking,
        State::Done => InstallStatus::Done,
        State::Failed => InstallStatus::Failed,
    };
    let left = from.total_bytes.saturating_sub(from.done_bytes);
    let running = status == InstallStatus::Running;
    EngineInstalling {
        version: from.version,
        status,
        done_bytes: from.done_bytes,
        total_bytes: from.total_bytes,
        bytes_per_second: from.bytes_per_second,
        seconds_left: left.checked_div(from.bytes_per_second).filter(|_| running),
        problem: from.fault.map(|fault| Problem::from(fault).document()),
    }
}

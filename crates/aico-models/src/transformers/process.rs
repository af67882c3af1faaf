//! The process of a package: `aico modelservice` with a launch of this kind. It has no link to
//! the bus and no network: it confines itself before it opens a file of the package, answers what
//! comes in, and ends when nothing comes any more.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use aico_contracts::v1::{Classify, Embed, Fault, FindEntities};
use prost::Message;

use super::model::{Loaded, ModelError};
use super::package::{FILES, FileFacts, Package, PackageError, facts};
use super::wire::{Failure, Kind, Launch, QUESTION_LIMIT, Report, VERSION, head, read_head};
use crate::disk;
use crate::process::confine::{self, Confinement, Places};

/// Whether this first line is a launch of this kind.
#[must_use]
pub fn launch(line: &[u8]) -> Option<Launch> {
    serde_json::from_slice(line).ok()
}

/// Runs the process until its input ends.
///
/// # Errors
/// Why it can't; it was told to the daemon already.
pub fn run(launch: &Launch, input: &mut impl BufRead) -> Result<(), Failure> {
    // A library that gives a file up with a panic has refused it: a new process would do the same.
    let done = catch_unwind(AssertUnwindSafe(|| load(launch))).unwrap_or(Err(Failure::Crashed));
    let loaded = match done {
        Ok(loaded) => loaded,
        Err(failure) => {
            report(&Report::Failed(failure));
            return Err(failure);
        }
    };
    report(&Report::Ready);
    while let Some((kind, question)) = frame(input) {
        match answer(&loaded, kind, &question) {
            Ok((kind, bytes)) => say(kind, &bytes),
            Err(fault) => say(Kind::Fault, &fault.encode_to_vec()),
        }
    }
    Ok(())
}

fn load(launch: &Launch) -> Result<Loaded, Failure> {
    if launch.transformers != VERSION {
        return Err(Failure::Launch);
    }
    let about = Package::parse(launch.description.as_bytes()).map_err(|_| Failure::Launch)?;
    let threads = usize::try_from(launch.threads).unwrap_or(1).max(1);
    let confined = confine(launch).map_err(|_| Failure::Confinement)?;
    report(&Report::Hello(confined));
    for name in FILES {
        check(name, &launch.folder.join(name), about.files.get(name))?;
    }
    Loaded::load(&launch.folder, about, threads).map_err(|error| match error {
        ModelError::Graph(_) => Failure::Graph,
        ModelError::Tokens(_) => Failure::Tokeniser,
        _ => Failure::Unfit,
    })
}

/// Whether a file is still the one that was added.
fn check(name: &str, path: &Path, wanted: Option<&FileFacts>) -> Result<(), Failure> {
    let opened = File::open(path).map_err(|error| match disk::is_failure(&error) {
        true => Failure::Unreadable,
        false => Failure::Missing,
    });
    let found = facts(name, &mut opened?).map_err(|error| match error {
        PackageError::Read { source, .. } if disk::is_failure(&source) => Failure::Unreadable,
        _ => Failure::Damaged,
    })?;
    let same = wanted.is_some_and(|wanted| {
        wanted.size == found.size && wanted.sha256.eq_ignore_ascii_case(&found.sha256)
    });
    match same {
        true => Ok(()),
        false => Err(Failure::Damaged),
    }
}

fn confine(launch: &Launch) -> Result<Confinement, confine::ConfineError> {
    confine::memory(launch.memory)?;
    let files = confine::files(Places {
        model: &launch.folder,
        adapter: None,
        // Nothing: this place is not there.
        scratch: std::path::Path::new(""),
        gpu: None,
    })?;
    let calls = confine::calls(None)?;
    Ok(Confinement { files, calls })
}

fn answer(loaded: &Loaded, kind: Kind, question: &[u8]) -> Result<(Kind, Vec<u8>), Fault> {
    let strange = |_| Fault::internal("The question to the model can't be read");
    let failed = |error: ModelError| error.to_fault();
    let bytes = match kind {
        Kind::Embed => {
            let asked = Embed::decode(question).map_err(strange)?;
            loaded.embed(&asked).map_err(failed)?.encode_to_vec()
        }
        Kind::Entities => {
            let asked = FindEntities::decode(question).map_err(strange)?;
            loaded.entities(&asked).map_err(failed)?.encode_to_vec()
        }
        Kind::Classify => {
            let asked = Classify::decode(question).map_err(strange)?;
            loaded.classify(&asked).map_err(failed)?.encode_to_vec()
        }
        Kind::Fault | Kind::Report => {
            return Err(Fault::internal("The question to the model is none"));
        }
    };
    Ok((kind, bytes))
}

fn frame(input: &mut impl Read) -> Option<(Kind, Vec<u8>)> {
    let mut first = [0; 5];
    input.read_exact(&mut first).ok()?;
    let (kind, length) = read_head(first, QUESTION_LIMIT)?;
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes).ok()?;
    Some((kind, bytes))
}

fn report(report: &Report) {
    say(
        Kind::Report,
        &serde_json::to_vec(report).unwrap_or_default(),
    );
}

fn say(kind: Kind, bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    // A daemon that is gone does not read; the end of the input tells.
    let _gone = out
        .write_all(&head(kind, bytes.len()))
        .and_then(|()| out.write_all(bytes))
        .and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_changed_or_not_given_out_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        assert_eq!(check("model.onnx", &path, None), Err(Failure::Missing));
        std::fs::write(&path, "graph").unwrap();
        let mut wanted = facts("model.onnx", &mut &b"graph"[..]).unwrap();
        assert_eq!(check("model.onnx", &path, Some(&wanted)), Ok(()));
        wanted.size += 1;
        let other = check("model.onnx", &path, Some(&wanted));
        assert_eq!(other, Err(Failure::Damaged));
        // Nothing is at the beginning of a process's memory: the system answers with EIO.
        #[cfg(target_os = "linux")]
        assert_eq!(
            check("model.onnx", Path::new("/proc/self/mem"), Some(&wanted)),
            Err(Failure::Unreadable)
        );
    }
}

//! Libraries of the tests' own that are loaded into the real program, beneath its calls of the
//! system: built by the C compiler that the program needs anyway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library that is made of a source beside the tests.
pub(crate) fn built(source: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/daemon")
        .join(source);
    let library = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(source.file_name().unwrap())
        .with_extension("so");
    // Under a name of its own first: other tests build it at the same time.
    let making = tempfile::Builder::new()
        .tempfile_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let done = Command::new(std::env::var_os("CC").unwrap_or("cc".into()))
        .args([
            "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-pthread", "-o",
        ])
        .args([making.path(), &source])
        .arg("-ldl")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    fs::rename(making.path(), &library).unwrap();
    library
}

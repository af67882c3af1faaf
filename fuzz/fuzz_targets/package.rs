//! Graph and tokeniser of a package, which its process reads, from any bytes.

#![no_main]

use std::sync::LazyLock;

use aico_fuzz::package;

/// A place for the two files, on which a panic of the libraries ends nothing.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    std::panic::set_hook(Box::new(|_| {}));
    tempfile::tempdir().expect("a folder for a while")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _answered = package::files(FOLDER.path(), data);
});

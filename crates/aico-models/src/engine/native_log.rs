//! llama.cpp's log, reduced to what it says about our own doing.
//!
//! Its lines quote file contents and may one day quote a prompt, so not one of them passes:
//! each is compared with phrases that are known, and only which phrase it was is kept.

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use llama_cpp_sys_2::ggml_log_level;

/// Known phrases of a failed load, the most telling first, with our words for them.
const KNOWN: &[(&str, &str)] = &[
    (
        "unknown model architecture",
        "its architecture is not known to this version",
    ),
    (
        "unknown pre-tokenizer",
        "its tokenizer is not known to this version",
    ),
    ("not within the file bounds", "the file is cut short"),
    (
        "corrupted or incomplete",
        "the file is cut short or damaged",
    ),
    ("missing tensor", "a part of the model is missing"),
    (
        "wrong number of tensors",
        "the number of its parts is wrong",
    ),
    ("wrong shape", "a part of the model has the wrong shape"),
    ("key not found", "an entry of its description is missing"),
    ("unable to allocate", "memory does not suffice"),
    ("failed to allocate", "memory does not suffice"),
    ("failed to mmap", "the file can't be mapped into memory"),
    ("failed to open", "the file can't be opened"),
    (
        "failed to load model from",
        "the file can't be read as a model",
    ),
];

/// Index into [`KNOWN`] of the most telling phrase since the last [`clear`].
static SEEN: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Takes the library's log over, for the whole process.
pub(super) fn install() {
    // SAFETY: `line` matches the callback's type, lives as long as the program and keeps
    // nothing it is given; no user data is passed.
    unsafe { llama_cpp_sys_2::llama_log_set(Some(line), std::ptr::null_mut()) }
}

/// Forgets what was seen.
pub(super) fn clear() {
    SEEN.store(usize::MAX, Ordering::Relaxed);
}

/// Our words for the most telling line since [`clear`].
pub(super) fn reason() -> &'static str {
    KNOWN.get(SEEN.load(Ordering::Relaxed)).map_or(
        "it is not a model that this version can run",
        |(_, words)| words,
    )
}

/// The same words, when they are ours.
pub(super) fn known(reason: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .map(|(_, words)| *words)
        .find(|words| *words == reason)
}

unsafe extern "C" fn line(_level: ggml_log_level, text: *const c_char, _data: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: the library passes a string that ends with NUL and lives during the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    if let Some(index) = KNOWN.iter().position(|(phrase, _)| text.contains(phrase)) {
        SEEN.fetch_min(index, Ordering::Relaxed);
    }
}

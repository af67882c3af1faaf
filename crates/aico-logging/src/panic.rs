//! A panic is told with its place, and not with what it says: that may be anything.

use std::panic::PanicHookInfo;

/// Puts a hook in place that logs where a panic happened. Its text is logged only when it was
/// a literal in the source; a formatted one may carry what no log may hold.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        tracing::error!(
            at = place(info),
            thread = thread.name().unwrap_or("unnamed"),
            reason = reason(info),
            "A part of the program has failed; this is a defect"
        );
    }));
}

fn place(info: &PanicHookInfo<'_>) -> String {
    info.location().map_or_else(
        || "unknown".to_owned(),
        |place| format!("{}:{}:{}", place.file(), place.line(), place.column()),
    )
}

fn reason(info: &PanicHookInfo<'_>) -> &'static str {
    info.payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or(crate::redact::WITHHELD)
}

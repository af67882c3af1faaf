//! Whether a model fits into memory, before it is loaded.

use aico_contracts::v1::Fault;

use super::registry::ModelRecord;
use crate::engine::DEFAULT_CONTEXT;

/// What the process needs beside weights and context.
const OVERHEAD: u64 = 128 << 20;

/// Bytes that running this model takes, as far as the file tells.
#[must_use]
pub fn need(record: &ModelRecord, context: u32, sequences: u32) -> u64 {
    need_of(
        record.size,
        record.context_length,
        record.bytes_per_token,
        context,
        sequences,
    )
}

/// The same from the figures: bytes of the file, tokens it was trained for (0: unknown), bytes
/// that one token of context takes.
#[must_use]
pub fn need_of(
    size: u64,
    context_length: u32,
    bytes_per_token: u64,
    context: u32,
    sequences: u32,
) -> u64 {
    let context = if context == 0 {
        DEFAULT_CONTEXT
    } else {
        context
    };
    let trained = if context_length == 0 {
        context
    } else {
        context_length
    };
    let tokens = u64::from(context.min(trained)) * u64::from(sequences);
    let cache = tokens.saturating_mul(bytes_per_token);
    size.saturating_add(cache).saturating_add(OVERHEAD)
}

/// Bytes that can be had without swapping; `None` where the system does not tell.
#[must_use]
pub fn available() -> Option<u64> {
    told("MemAvailable:")
}

/// Bytes of memory that the machine has; `None` where the system does not tell.
#[must_use]
pub fn total() -> Option<u64> {
    told("MemTotal:")
}

fn told(what: &str) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(what))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib.saturating_mul(1024))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _not_told = what;
        None
    }
}

/// Refuses a model that needs more than there is, with the figures.
///
/// # Errors
/// The fault to tell.
pub fn check(need: u64, available: Option<u64>) -> Result<(), Fault> {
    match available {
        Some(available) if need > available => {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            Err(
                Fault::new("model-too-large", "The model does not fit into memory")
                    .with_detail(format!(
                        "It needs about {:.1} GiB, {:.1} GiB are free.",
                        gib(need),
                        gib(available)
                    ))
                    .with_what_to_do(
                        "Close other programs, choose a smaller model, or set a smaller context.",
                    ),
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_large_a_model_is_refused_with_the_figures() {
        let fault = check(5 << 30, Some(3 << 29)).unwrap_err();
        assert_eq!(fault.code, "model-too-large");
        assert_eq!(fault.detail, "It needs about 5.0 GiB, 1.5 GiB are free.");
        assert!(check(5 << 30, Some(5 << 30)).is_ok());
        assert!(
            check(u64::MAX, None).is_ok(),
            "where the system does not tell, it is tried"
        );
    }
}

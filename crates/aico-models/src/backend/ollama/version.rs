//! Versions of Ollama.

/// The oldest that will do.
pub const OLDEST: &str = "0.12.0";

/// Whether one of this version will do. Builds from source call themselves 0.0.0.
#[must_use]
pub fn is_new_enough(version: &str) -> bool {
    match numbers(version) {
        Some((0, 0, 0)) => true,
        Some((major, minor, _)) => major > 0 || minor >= 12,
        None => false,
    }
}

/// `0.12.3-rc1` as numbers.
fn numbers(version: &str) -> Option<(u64, u64, u64)> {
    let version = version.trim().trim_start_matches('v');
    let end = version
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(version.len());
    let mut parts = version[..end].split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn old_ones_are_told_from_new_ones() {
        for (version, enough) in [
            ("0.11.11", false),
            ("0.12.0", true),
            ("0.12.0-rc1", true),
            ("v0.32.15", true),
            ("1.0", true),
            ("0.0.0", true),
            ("0.9.6", false),
            ("nonsense", false),
            ("", false),
        ] {
            assert_eq!(super::is_new_enough(version), enough, "{version}");
        }
    }
}

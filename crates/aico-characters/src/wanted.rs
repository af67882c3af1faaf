//! Which of the models here a character means: cards and Modelfiles write `Qwen3-8B`, `qwen3:8b`
//! or the name of a file for the same one.

/// Whether the model that is listed under this name, with this file, is the one that `wanted` names.
/// The name of a build (`-Q4_K_M`) may be left out of it; nothing else may.
#[must_use]
pub fn is_wanted(wanted: &str, name: &str, file: &str) -> bool {
    let wanted = wanted.trim();
    let wanted = wanted.strip_suffix(":latest").unwrap_or(wanted);
    if wanted.is_empty() {
        return false;
    }
    if wanted.eq_ignore_ascii_case(name) || wanted == file {
        return true;
    }
    let words = words(stem(wanted));
    let begins = |other: &str| {
        let other = self::words(other);
        // Files of Llama models have their maker's name before them.
        let other = match other.split_first() {
            Some((first, rest))
                if first == "meta" && words.first().is_some_and(|w| w != "meta") =>
            {
                rest
            }
            _ => &other,
        };
        !words.is_empty() && other.starts_with(&words)
    };
    begins(name) || begins(stem(file))
}

/// A file's name without its folders and `.gguf`.
fn stem(path: &str) -> &str {
    let last = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let ending = last.len().saturating_sub(5);
    match last.get(ending..) {
        Some(end) if end.eq_ignore_ascii_case(".gguf") => &last[..ending],
        _ => last,
    }
}

/// Runs of letters and runs of digits, in lower case.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = None;
    for letter in text.chars() {
        let kind = (letter.is_alphabetic(), letter.is_numeric());
        if kind == (false, false) {
            last = None;
            continue;
        }
        if last != Some(kind) {
            words.push(String::new());
            last = Some(kind);
        }
        if let Some(word) = words.last_mut() {
            word.extend(letter.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_has_many_names() {
        let file = "/models/Qwen3-8B-Q4_K_M.gguf";
        for wanted in [
            "Qwen3-8B",
            "qwen3:8b",
            "Qwen3 8B",
            "qwen3:8b-q4_K_M",
            "./models/qwen3-8b-q4_k_m.gguf",
            "Qwen/Qwen3-8B.gguf",
            "qwen3:latest",
            file,
        ] {
            assert!(is_wanted(wanted, "Qwen3 8B", file), "{wanted}");
        }
        assert!(is_wanted(
            "llama3.1:8b",
            "Meta Llama 3.1 8B Instruct",
            "x.gguf"
        ));
    }

    #[test]
    fn another_model_is_another() {
        for (name, file) in [
            ("Qwen3 4B", "qwen3-4b.gguf"),
            ("DeepSeek R1 Qwen3 8B", "deepseek-r1-qwen3-8b.gguf"),
            ("Qwen3 80B", "x.gguf"),
            ("", ""),
        ] {
            assert!(!is_wanted("Qwen3-8B", name, file), "{name}");
        }
        assert!(!is_wanted("", "Qwen3 8B", "x.gguf") && !is_wanted("::", "Qwen3 8B", "x.gguf"));
    }
}

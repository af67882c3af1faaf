//! The parameters of a Modelfile: which there are, what they may be, and which one was meant.

use serde_json::{Value, json};

use crate::character::Sampling;
use crate::error::{CharacterError, quoted};
use crate::{LONGEST_STOP, MOST_STOPS};

/// Parameters that reach the engine, with the values they may have.
const USED: &[(&str, &str)] = &[
    ("temperature", "a number from 0 to 2"),
    ("top_p", "a number above 0, up to 1"),
    ("top_k", "a whole number from 0 to 10000"),
    ("min_p", "a number from 0 to 1"),
    ("repeat_penalty", "a number above 0, up to 2"),
    ("seed", "a whole number from 0 to 4294967295"),
    (
        "stop",
        "a text of 1 to 256 bytes, and there are 16 of them at most",
    ),
    ("num_ctx", "a whole number from 128 to 1048576"),
    ("num_predict", "a whole number from 1 to 1048576, or -1"),
];

/// Parameters that other programs know and that have no effect here.
const UNUSED: &[&str] = &[
    "draft_num_predict",
    "f16_kv",
    "frequency_penalty",
    "logits_all",
    "low_vram",
    "main_gpu",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_batch",
    "num_gpu",
    "num_gqa",
    "num_keep",
    "num_thread",
    "numa",
    "penalize_newline",
    "presence_penalty",
    "repeat_last_n",
    "rope_frequency_base",
    "rope_frequency_scale",
    "tfs_z",
    "typical_p",
    "use_mlock",
    "use_mmap",
    "vocab_only",
];

/// Whether a parameter was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It takes effect.
    Used,
    /// It is one that has no effect here.
    Unused,
}

/// Sets one parameter of a Modelfile.
pub(crate) fn set(into: &mut Sampling, name: &str, value: &str) -> Result<Taken, CharacterError> {
    let name = name.to_ascii_lowercase();
    let Some((name, wanted)) = USED.iter().find(|(known, _)| *known == name) else {
        return if UNUSED.contains(&name.as_str()) {
            Ok(Taken::Unused)
        } else {
            Err(unknown(&name))
        };
    };
    let wrong = || {
        CharacterError::new(format!("PARAMETER {name} can't be {}.", quoted(value)))
            .advice(format!("It is {wanted}."))
    };
    let number = || value.trim().parse::<f32>().map_err(|_| wrong());
    let whole = || value.trim().parse::<u32>().map_err(|_| wrong());
    match *name {
        "temperature" => into.temperature = Some(number()?),
        "top_p" => into.top_p = Some(number()?),
        "top_k" => into.top_k = Some(whole()?),
        "min_p" => into.min_p = Some(number()?),
        "repeat_penalty" => into.repeat_penalty = Some(number()?),
        // Ollama's word for "another each time".
        "seed" if value.trim() == "-1" => into.seed = None,
        "seed" => into.seed = Some(whole()?),
        "num_ctx" => into.num_ctx = Some(whole()?),
        // Without an end, or until the context is full: as AICO has it.
        "num_predict" if matches!(value.trim(), "-1" | "-2") => into.num_predict = None,
        "num_predict" => into.num_predict = Some(whole()?),
        _ => into.stop.push(value.to_owned()),
    }
    check(into).map(|()| Taken::Used).map_err(|_| wrong())
}

/// Parameters that are fractions in Ollama, and those that are truths. The others are whole numbers,
/// but for `stop`.
const FRACTIONS: &[&str] = &[
    "temperature",
    "top_p",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "typical_p",
    "tfs_z",
    "mirostat_tau",
    "mirostat_eta",
    "rope_frequency_base",
    "rope_frequency_scale",
];
const TRUTHS: &[&str] = &[
    "f16_kv",
    "logits_all",
    "low_vram",
    "numa",
    "penalize_newline",
    "use_mlock",
    "use_mmap",
    "vocab_only",
];

/// A parameter as Ollama's own value, in the kind that it has there.
pub(crate) fn typed(name: &str, value: &str) -> Result<(String, Value), CharacterError> {
    let name = name.to_ascii_lowercase();
    let known = USED.iter().any(|(known, _)| *known == name) || UNUSED.contains(&name.as_str());
    if !known {
        return Err(unknown(&name));
    }
    let wrong = |wanted: &str| {
        CharacterError::new(format!("PARAMETER {name} can't be {}.", quoted(value)))
            .advice(format!("It is {wanted}."))
    };
    // What is in quotes is the text to the letter.
    let (text, value) = (value, value.trim());
    let typed = if name == "stop" {
        (!text.is_empty())
            .then(|| json!(text))
            .ok_or_else(|| wrong("a text"))?
    } else if TRUTHS.contains(&name.as_str()) {
        let truth = value.parse::<bool>().map_err(|_| wrong("true or false"))?;
        json!(truth)
    } else if FRACTIONS.contains(&name.as_str()) {
        // As it was written: 0.7, and not the nearest of twice as many digits.
        let number = value
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite());
        json!(number.ok_or_else(|| wrong("a number"))?)
    } else {
        let number = value.parse::<i64>().map_err(|_| wrong("a whole number"))?;
        json!(number)
    };
    Ok((name, typed))
}

fn unknown(name: &str) -> CharacterError {
    let known = USED
        .iter()
        .map(|(name, _)| *name)
        .chain(UNUSED.iter().copied());
    let near = nearest(name, known);
    CharacterError::new(format!("There is no PARAMETER {}.", quoted(name))).advice(match near {
        Some(near) => format!("Did you mean {near}?"),
        None => {
            let names: Vec<_> = USED.iter().map(|(name, _)| *name).collect();
            format!("Those that take effect are {}.", names.join(", "))
        }
    })
}

/// The known word that an unknown one was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect();
    known
        .map(|name| (strsim::damerau_levenshtein(&word, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Whether a text may stop an answer.
pub(crate) fn may_stop(text: &str) -> bool {
    (1..=LONGEST_STOP).contains(&text.len())
}

/// Whether every value makes sense.
pub(crate) fn check(sampling: &Sampling) -> Result<(), CharacterError> {
    let within = |value: Option<f32>, fits: fn(f32) -> bool| {
        value.is_none_or(|value| value.is_finite() && fits(value))
    };
    let fits = [
        within(sampling.temperature, |t| (0.0..=2.0).contains(&t)),
        within(sampling.top_p, |p| p > 0.0 && p <= 1.0),
        sampling.top_k.is_none_or(|k| k <= 10_000),
        within(sampling.min_p, |p| (0.0..=1.0).contains(&p)),
        within(sampling.repeat_penalty, |p| p > 0.0 && p <= 2.0),
        true,
        sampling.stop.len() <= MOST_STOPS && sampling.stop.iter().all(|stop| may_stop(stop)),
        sampling
            .num_ctx
            .is_none_or(|n| (128..=1 << 20).contains(&n)),
        sampling
            .num_predict
            .is_none_or(|n| (1..=1 << 20).contains(&n)),
    ];
    match USED.iter().zip(fits).find(|(_, fits)| !fits) {
        None => Ok(()),
        Some(((name, wanted), _)) => Err(CharacterError::new(format!(
            "The value of {name} is not allowed."
        ))
        .advice(format!("It is {wanted}."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_names_are_guessed() {
        let mut sampling = Sampling::default();
        assert_eq!(set(&mut sampling, "Temperature", "0.7"), Ok(Taken::Used));
        assert_eq!(set(&mut sampling, "num_gpu", "99"), Ok(Taken::Unused));
        assert_eq!(set(&mut sampling, "num_predict", "-1"), Ok(Taken::Used));
        assert_eq!(sampling.temperature, Some(0.7));
        let wrong = set(&mut sampling, "top_p", "1.5").unwrap_err();
        assert_eq!(wrong.what, "PARAMETER top_p can't be \"1.5\".");
        assert_eq!(wrong.advice, "It is a number above 0, up to 1.");
        for nonsense in ["nan", "inf", "-1", "", "warm"] {
            let mut fresh = Sampling::default();
            assert!(
                set(&mut fresh, "temperature", nonsense).is_err(),
                "{nonsense}"
            );
        }
        let long = "x".repeat(LONGEST_STOP + 1);
        for refused in ["", &long] {
            let mut fresh = Sampling::default();
            assert!(set(&mut fresh, "stop", refused).is_err());
        }
        let mut many = Sampling::default();
        for _ in 0..MOST_STOPS {
            assert_eq!(set(&mut many, "stop", "END"), Ok(Taken::Used));
        }
        let more = set(&mut many, "stop", "END").unwrap_err();
        assert!(more.advice.contains("16 of them"), "{}", more.advice);
        let near = set(&mut sampling, "temprature", "1").unwrap_err();
        assert_eq!(near.what, "There is no PARAMETER \"temprature\".");
        assert_eq!(near.advice, "Did you mean temperature?");
        let far = set(&mut sampling, "warmth_of_heart", "1").unwrap_err();
        assert!(
            far.advice
                .starts_with("Those that take effect are temperature")
        );
    }
}

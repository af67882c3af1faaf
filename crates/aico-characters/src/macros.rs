//! The words in double braces that card makers put into their texts.

/// Longest text that replacing may make: a short text can name somebody many times.
const LONGEST: usize = 1024 * 1024;

/// Who is meant.
pub struct Names<'a> {
    /// The character.
    pub char: &'a str,
    /// The person.
    pub user: &'a str,
    /// What stands for `{{original}}`: the prompt that a card's own replaces.
    pub original: &'a str,
    /// What `{{random}}`, `{{pick}}` and `{{roll}}` are drawn by. Drawn anew for each answer they
    /// would make the prompt another one each time, and all that was read would be read again.
    pub seed: u64,
}

/// Replaces the macros of the card specifications, upper and lower case alike: `{{char}}`,
/// `{{user}}`, `<BOT>`, `<USER>`, `{{original}}`, `{{random:a,b}}`, `{{pick:a,b}}`, `{{roll:6}}`,
/// `{{reverse:a}}`; comments go. In one pass: what a name brings in is not looked at again.
/// Anything else in braces stays as it is.
#[must_use]
pub fn expand(text: &str, names: &Names<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut drawn = names.seed;
    while let Some(at) = rest.find(['{', '<']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, with) = found(rest, names, &mut drawn);
        match with {
            Some(with) => out.push_str(&with),
            None => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
        if out.len() > LONGEST {
            let mut end = LONGEST;
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
            return out;
        }
    }
    out.push_str(rest);
    out
}

/// How much of `rest`, which begins with a brace or an angle, is one macro, and what stands for it.
fn found(rest: &str, names: &Names<'_>, drawn: &mut u64) -> (usize, Option<String>) {
    for (tag, name) in [
        ("<user>", names.user),
        ("<bot>", names.char),
        ("<char>", names.char),
    ] {
        if rest
            .get(..tag.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(tag))
        {
            return (tag.len(), Some(name.to_owned()));
        }
    }
    // Up to the first of the two: looking further at each of many openings takes for ever.
    let inside = rest.strip_prefix("{{").and_then(|inner| {
        let pairs = inner.as_bytes().windows(2);
        let end = pairs
            .enumerate()
            .find(|(_, pair)| pair == b"}}" || pair == b"{{");
        let (at, pair) = end?;
        (pair == b"}}").then(|| &inner[..at])
    });
    match inside.and_then(|inside| replaced(inside, names, drawn).map(|with| (inside, with))) {
        Some((inside, with)) => (inside.len() + 4, Some(with)),
        // Only the one sign: a macro may begin right behind it.
        None => (1, None),
    }
}

fn replaced(inside: &str, names: &Names<'_>, drawn: &mut u64) -> Option<String> {
    let trimmed = inside.trim();
    let lower = trimmed.to_ascii_lowercase();
    match lower.as_str() {
        "char" => return Some(names.char.to_owned()),
        "user" => return Some(names.user.to_owned()),
        "original" => return Some(names.original.to_owned()),
        _ => {}
    }
    if trimmed.starts_with("//") {
        return Some(String::new());
    }
    let (kind, value) = trimmed.split_once(':')?;
    match kind.trim().to_ascii_lowercase().as_str() {
        "comment" | "hidden_key" => Some(String::new()),
        "reverse" => Some(value.chars().rev().collect()),
        "random" | "pick" => {
            let choices: Vec<_> = value.split(',').map(str::trim).collect();
            let index = draw(drawn) % choices.len() as u64;
            choices
                .get(usize::try_from(index).ok()?)
                .map(|c| (*c).to_owned())
        }
        "roll" => {
            let value = value.trim();
            let sides: u64 = value
                .strip_prefix(['d', 'D'])
                .unwrap_or(value)
                .parse()
                .ok()?;
            (sides > 0).then(|| (draw(drawn) % sides + 1).to_string())
        }
        _ => None,
    }
}

/// The next number of a simple series (splitmix64).
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> String {
        let names = Names {
            char: "Mara",
            user: "{{char}}",
            original: "Be kind.",
            seed: 7,
        };
        expand(text, &names)
    }

    #[test]
    fn names_are_put_in_once() {
        assert_eq!(
            expanded("{{Char}} and {{ USER }}, <bot> and <User>: {{original}}"),
            "Mara and {{char}}, Mara and {{char}}: Be kind."
        );
        assert_eq!(expanded("{{{char}}}"), "{Mara}");
        assert_eq!(expanded("{{a {{char}}"), "{{a Mara");
    }

    #[test]
    fn comments_go_and_what_is_unknown_stays() {
        assert_eq!(expanded("a{{// not said }}b{{comment: x}}c"), "abc");
        for text in [
            "{{",
            "}}",
            "{{unknown}}",
            "<b>",
            "{{roll:0}}",
            "{{roll:x}}",
            "ä{ö<ü",
        ] {
            assert_eq!(expanded(text), text);
        }
    }

    #[test]
    fn what_is_drawn_stays_the_same_for_one_conversation() {
        let text = "{{pick:a,b,c}} {{random: x , y}} {{roll:d6}} {{reverse:abc}}";
        let once = expanded(text);
        assert_eq!(once, expanded(text));
        let words: Vec<_> = once.split(' ').collect();
        assert!(["a", "b", "c"].contains(&words[0]) && ["x", "y"].contains(&words[1]));
        assert!((1..=6).contains(&words[2].parse::<u32>().unwrap()));
        assert_eq!(words[3], "cba");
    }

    #[test]
    fn a_text_can_not_swell_without_end() {
        let name = "x".repeat(100);
        let names = Names {
            char: &name,
            user: "",
            original: "",
            seed: 0,
        };
        assert_eq!(expand(&"{{char}}".repeat(100_000), &names).len(), LONGEST);
    }
}

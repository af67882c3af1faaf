//! Example dialogues as cards write them: `<START>`, then lines that begin with who speaks.

use crate::character::{Turn, TurnRole};

/// Reads a card's `mes_example`. Empty when it is no dialogue, or when some of it would be lost.
/// A line without a speaker goes on with the turn before it.
#[must_use]
pub fn parse(text: &str, name: &str) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        if line.trim().eq_ignore_ascii_case("<start>") {
            open = false;
            continue;
        }
        if let Some((role, said)) = speaker(line, name) {
            turns.push(Turn {
                role,
                text: said.trim_start().to_owned(),
            });
            open = true;
        } else if let Some(last) = turns.last_mut().filter(|_| open) {
            last.text.push('\n');
            last.text.push_str(line);
        } else if !line.trim().is_empty() {
            // Something that nobody says: as turns it would be lost.
            return Vec::new();
        }
    }
    for turn in &mut turns {
        turn.text.truncate(turn.text.trim_end().len());
    }
    turns.retain(|turn| !turn.text.trim().is_empty());
    turns
}

/// Who speaks in this line, and what they say.
fn speaker<'a>(line: &'a str, name: &str) -> Option<(TurnRole, &'a str)> {
    let line = line.trim_start();
    let known = [
        ("{{user}}", TurnRole::User),
        ("<USER>", TurnRole::User),
        ("{{char}}", TurnRole::Assistant),
        ("<BOT>", TurnRole::Assistant),
        (name, TurnRole::Assistant),
    ];
    known.into_iter().find_map(|(who, role)| {
        let head = line.get(..who.len())?;
        let said = line[who.len()..].strip_prefix(':')?;
        (!who.is_empty() && head.eq_ignore_ascii_case(who)).then_some((role, said))
    })
}

/// Writes turns so that they can be read again.
#[must_use]
pub fn write(turns: &[Turn]) -> String {
    if turns.is_empty() {
        return String::new();
    }
    let mut text = String::from("<START>");
    for turn in turns {
        text.push_str(match turn.role {
            TurnRole::User => "\n{{user}}: ",
            TurnRole::Assistant => "\n{{char}}: ",
        });
        text.push_str(&turn.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Vec<(TurnRole, String)> {
        parse(text, "Mara")
            .into_iter()
            .map(|t| (t.role, t.text))
            .collect()
    }

    #[test]
    fn dialogues_become_turns() {
        use TurnRole::{Assistant, User};
        let turns = flat(
            "<START>\n{{user}}: Hi\n{{char}}: Hello.\n*waves*\n\n<start>\n{{User}}: Tea?\nMara: Yes.\n",
        );
        let expected = [
            (User, "Hi"),
            (Assistant, "Hello.\n*waves*"),
            (User, "Tea?"),
            (Assistant, "Yes."),
        ];
        assert_eq!(turns, expected.map(|(role, text)| (role, text.to_owned())));
    }

    #[test]
    fn prose_is_no_dialogue() {
        assert!(flat("Mara speaks softly.").is_empty());
        assert!(flat("<START>\nIt is night.\n{{char}}: Hello.").is_empty());
        assert!(flat("").is_empty());
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let turns = parse("{{user}}: a\nb\n{{char}}: c", "Mara");
        assert!(parse(&write(&turns), "Mara") == turns);
    }
}

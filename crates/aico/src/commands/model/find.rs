//! Which model of the list a person means: by its name, its id, or the beginning of either.

use serde_json::Value;

use super::pull::{list_of, shown};
use super::shelf;
use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::style;

/// Fewest characters of an id's beginning that count: fewer are easily a name's.
const ID_BEGINNING: usize = 8;
/// Letters that two names begin with where one comes near the other.
const ALIKE: usize = 3;
/// Most models that are named to choose from.
const MOST_NAMED: usize = 8;

/// One of the list.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// As it is listed.
    pub(super) model: Value,
    /// It was named whole, and not by the beginning of its name or id.
    pub(super) whole: bool,
}

impl Found {
    pub(super) fn id(&self) -> &str {
        self.model["id"].as_str().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.model["name"].as_str().unwrap_or_default()
    }

    /// Its name, with the program's before it where another one has it.
    pub(super) fn full_name(&self) -> String {
        full_name(&self.model)
    }

    /// Says which one it is where it was not named whole.
    pub(super) fn tell(&self) {
        if !self.whole {
            style::note(&format!("That is {}.", self.full_name()));
        }
    }
}

/// A model of the list.
pub(super) async fn find(daemon: &Daemon, wanted: &str) -> Result<Found, Failure> {
    let all = daemon.get("/api/v1/models").await?;
    let found = among(list_of(&all["items"]), wanted)?;
    found.tell();
    Ok(found)
}

/// The one of these that is meant.
pub(super) fn among(all: &[Value], wanted: &str) -> Result<Found, Failure> {
    let called: Vec<_> = all.iter().filter(|one| is_called(one, wanted)).collect();
    match called[..] {
        [] => {}
        [one] => return Ok(found(one, true)),
        _ => return Err(several("Several models have this name.", &called)),
    }
    let begun: Vec<_> = all.iter().filter(|one| begins(one, wanted)).collect();
    match begun[..] {
        [] => Err(none(all, wanted)),
        [one] => Ok(found(one, false)),
        _ => Err(several(
            format!("Several models begin with \"{wanted}\"."),
            &begun,
        )),
    }
}

/// The one of these that is to go. A beginning does not do: what was a whole name once is only the
/// beginning of another's when that one is gone.
pub(super) fn named_whole(all: &[Value], wanted: &str) -> Result<Found, Failure> {
    // One for texts has nothing but its name, and another program's can be named with that
    // program: only ours are mistaken for it.
    let for_texts = |one: &Value| one["id"].is_null() && is_called(one, wanted);
    let only_ours = all.iter().any(for_texts);
    let may_be = |one: &&Value| !only_ours || one["engine"].is_null();
    let these: Vec<_> = all.iter().filter(may_be).cloned().collect();
    let found = among(&these, wanted)?;
    if found.whole {
        return Ok(found);
    }
    let name = found.full_name();
    Err(Failure::new(
        Exit::Refused,
        format!("That is only a beginning of {name}."),
    )
    .do_this(format!("Name it in full: aico model remove {name}")))
}

fn found(one: &Value, whole: bool) -> Found {
    Found {
        model: one.clone(),
        whole,
    }
}

fn full_name(one: &Value) -> String {
    match one["engine"].as_str() {
        Some(engine) => format!("{}/{}", style::harmless(engine), shown(&one["name"])),
        None => shown(&one["name"]),
    }
}

fn is_called(one: &Value, wanted: &str) -> bool {
    let name = one["name"].as_str();
    let beside = shelf::of(wanted)
        .is_some_and(|(engine, model)| one["engine"] == engine && shelf::is(name, model));
    beside || one["id"] == wanted || name.is_some_and(|name| name.eq_ignore_ascii_case(wanted))
}

fn begins(one: &Value, wanted: &str) -> bool {
    if wanted.is_empty() {
        return false;
    }
    let wanted = wanted.to_lowercase();
    let by_id = wanted.len() >= ID_BEGINNING
        && one["id"].as_str().is_some_and(|id| id.starts_with(&wanted));
    by_id
        || [shown(&one["name"]), full_name(one)]
            .iter()
            .any(|name| name.to_lowercase().starts_with(&wanted))
}

/// Of one that several are. Where names are the same, ids tell them apart.
fn several(what: impl Into<String>, these: &[&Value]) -> Failure {
    let names = these.iter().map(|one| full_name(one).to_lowercase());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    let same = names.windows(2).any(|two| two[0] == two[1]);
    let told = |one: &&Value| match same {
        true if one["id"].is_null() => format!("{} (for texts, without an id)", full_name(one)),
        true => format!("{} ({})", full_name(one), shown(&one["id"])),
        false => full_name(one),
    };
    let how = if same { "Use its id" } else { "Say which" };
    Failure::new(Exit::Refused, what).do_this(format!("{how}: {}", named(these, told)))
}

fn none(all: &[Value], wanted: &str) -> Failure {
    let near: Vec<_> = all.iter().filter(|one| is_near(one, wanted)).collect();
    let list = "See which there are: aico model list";
    Failure::new(Exit::NotFound, "There is no such model.").do_this(match near.is_empty() {
        true => list.to_owned(),
        false => format!(
            "These come near: {}. {list}",
            named(&near, |one| full_name(one))
        ),
    })
}

fn named(these: &[&Value], told: impl Fn(&&Value) -> String) -> String {
    let names: Vec<_> = these.iter().take(MOST_NAMED).map(told).collect();
    let more = match these.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    names.join(", ") + &more
}

/// Whether somebody who wrote this may have meant that one: one name holds the other, or they begin
/// alike. Case and marks do not count.
fn is_near(one: &Value, wanted: &str) -> bool {
    let plain = |text: &str| {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    let model = shelf::of(wanted).map_or(wanted, |(_, model)| model);
    let (name, model) = (plain(&shown(&one["name"])), plain(model));
    if name.is_empty() || model.is_empty() {
        return false;
    }
    let alike = name.chars().zip(model.chars()).take_while(|(a, b)| a == b);
    name.contains(&model) || model.contains(&name) || alike.count() >= ALIKE
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all() -> Vec<Value> {
        let own = |id: &str, name: &str| json!({"id": id, "name": name, "engine": null});
        let beside = |id: &str, name: &str| json!({"id": id, "name": name, "engine": "ollama"});
        vec![
            own("0197b1a2-0000-7000-8000-000000000001", "Qwen3-4B"),
            own("0197b1a2-0000-7000-8000-000000000002", "qwen3-4b-eve"),
            own("0297b1a2-0000-7000-8000-000000000003", "Owl"),
            own("0397b1a2-0000-7000-8000-000000000004", "Twin"),
            own("0397b1a2-0000-7000-8000-000000000005", "twin"),
            beside("0497b1a2-0000-7000-8000-000000000006", "aria:latest"),
        ]
    }

    #[test]
    fn a_model_is_meant_by_its_name_its_id_or_a_beginning_that_only_it_has() {
        let all = all();
        for (wanted, at, whole) in [
            // The whole name of one is also the beginning of another's.
            ("qwen3-4b", 0, true),
            ("QWEN3-4B-", 1, false),
            ("ow", 2, false),
            ("0297b1a2", 2, false),
            ("0297B1A2-0000", 2, false),
            ("0197b1a2-0000-7000-8000-000000000002", 1, true),
            ("ollama/aria", 5, true),
            ("ollama/ar", 5, false),
            ("aria", 5, false),
        ] {
            assert_eq!(
                among(&all, wanted).unwrap(),
                found(&all[at], whole),
                "{wanted}"
            );
        }
    }

    #[test]
    fn what_is_no_model_or_several_is_told_with_those_that_come_near() {
        let all = all();
        for (wanted, exit, told, silent) in [
            ("qw", Exit::Refused, "Qwen3-4B, qwen3-4b-eve", "Owl"),
            ("0197b1a2", Exit::Refused, "Qwen3-4B, qwen3-4b-eve", "Owl"),
            (
                "twin",
                Exit::Refused,
                "Twin (0397b1a2-0000-7000-8000-000000000004)",
                "Owl",
            ),
            ("qwen 3 8b", Exit::NotFound, "Qwen3-4B", "Owl"),
            ("4b", Exit::NotFound, "Qwen3-4B, qwen3-4b-eve.", "Owl"),
            ("ollama/aria:v2", Exit::NotFound, "ollama/aria", "Owl"),
            // Too short for an id, and the beginning of no name.
            ("0297b1a", Exit::NotFound, "aico model list", "near"),
            ("", Exit::NotFound, "aico model list", "near"),
        ] {
            let failure = among(&all, wanted).unwrap_err();
            assert_eq!(failure.exit, exit, "{wanted}");
            let advice = failure.what_to_do.unwrap();
            assert!(
                advice.contains(told) && !advice.contains(silent),
                "{wanted}: {advice}"
            );
        }
    }

    #[test]
    fn what_goes_is_named_whole() {
        let mut all = all();
        let gone = named_whole(&all, "qwen3-4b").unwrap();
        assert_eq!(gone.model, all.remove(0));
        for (wanted, told) in [
            // The same once more: the beginning of another one's name by now.
            ("qwen3-4b", "qwen3-4b-eve"),
            ("0297b1a2", "Owl"),
            ("ollama/ar", "ollama/aria:latest"),
        ] {
            let failure = named_whole(&all, wanted).unwrap_err();
            assert_eq!(failure.exit, Exit::Refused, "{wanted}");
            let advice = failure.what_to_do.unwrap();
            assert!(
                advice.ends_with(&format!("aico model remove {told}")),
                "{wanted}: {advice}"
            );
            assert!(named_whole(&all, told).unwrap().whole, "{told}");
        }
    }

    #[test]
    fn of_several_of_one_name_none_goes() {
        let id = "0297b1a2-0000-7000-8000-000000000003";
        let text = json!({"name": "owl", "task": "embedding"});
        let both = [all(), vec![text.clone()]].concat();
        let failure = named_whole(&both, "owl").unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        let advice = failure.what_to_do.unwrap();
        for told in [format!("Owl ({id})"), "owl (for texts".to_owned()] {
            assert!(advice.contains(&told), "{advice}");
        }
        assert_eq!(named_whole(&both, id).unwrap().model["name"], "Owl");
        // Another program's is named with that program.
        let beside = json!({"id": id, "name": "owl", "engine": "lab"});
        let both = [beside.clone(), text.clone()];
        assert_eq!(named_whole(&both, "owl").unwrap().model, text);
        assert_eq!(named_whole(&both, "lab/owl").unwrap().model, beside);
    }
}

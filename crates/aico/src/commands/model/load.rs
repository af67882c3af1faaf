//! How far a model is loaded, until it answers or can't.

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::Value;

use crate::client::Daemon;
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::style;

/// How often it is asked.
const LOOK: Duration = Duration::from_millis(250);

/// What there is to say of a load.
#[derive(Debug, PartialEq)]
enum Far {
    /// Others have to end first.
    Waits,
    /// So many hundredths are loaded, where that is known.
    Loads(Option<u64>),
    /// It answers.
    Ready,
    /// It can't: why, and what to do.
    Failed(Option<String>, Option<String>),
    /// Another one was chosen meanwhile.
    Passed,
}

/// Shows how far the chosen model is loaded. It goes on without us.
pub(super) async fn follow(daemon: &Daemon, id: &str, name: &str) -> Result<(), Failure> {
    let name = style::harmless(name);
    let mut progress = Progress::new("Loading");
    let mut told = None;
    let mut loading = false;
    loop {
        let all = daemon.get("/api/v1/models").await?;
        let mut far = of_list(&all, id);
        if far == Far::Waits {
            let activity = daemon.get("/api/v1/models/activity").await?;
            far = of_activity(&activity, id);
        }
        match &far {
            Far::Loads(percent) => {
                loading = true;
                match percent {
                    Some(percent) => progress.part(*percent, &name),
                    None => progress.say(&format!("Loading {name}")),
                }
            }
            // It was there, and was unloaded before we looked again.
            Far::Waits if loading => return Ok(()),
            Far::Waits => progress.say(&format!("{name} waits until there is room for it.")),
            Far::Ready => {
                drop(progress);
                style::line(&format!("{name} answers from now on."));
                return Ok(());
            }
            Far::Failed(why, what_to_do) => {
                return Err(Failure {
                    exit: Exit::ModelFailed,
                    what: format!("{name} can't be loaded."),
                    why: why.clone(),
                    what_to_do: what_to_do.clone(),
                });
            }
            Far::Passed => {
                drop(progress);
                style::note("Another model was chosen meanwhile.");
                return Ok(());
            }
        }
        // Where nobody looks at a bar, each new state is a line.
        let kind = std::mem::discriminant(&far);
        if told != Some(kind) && !std::io::stderr().is_terminal() {
            told = Some(kind);
            style::note(&match far {
                Far::Waits => format!("{name} waits until there is room for it."),
                _ => format!("Loading {name}"),
            });
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {
                drop(progress);
                style::note("It is loaded without you: aico model ps. Another choice ends it.");
                return Ok(());
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// What the list of models says; `Waits` where it says nothing of this one's state.
fn of_list(all: &Value, id: &str) -> Far {
    let items = all["items"].as_array();
    let mut items = items.into_iter().flatten();
    if !items.any(|one| one["id"] == id && one["active"] == true) {
        return Far::Passed;
    }
    match all["state"]["model"] == id {
        true => of_state(&all["state"]),
        false => Far::Waits,
    }
}

fn of_activity(all: &Value, id: &str) -> Far {
    let models = all["models"].as_array();
    let found = models.into_iter().flatten().find(|one| one["model"] == id);
    found.map_or(Far::Waits, of_state)
}

fn of_state(state: &Value) -> Far {
    let text = |key: &str| state[key].as_str().map(style::harmless);
    match state["status"].as_str() {
        Some("ready") => Far::Ready,
        Some("starting") => Far::Loads(state["loading_percent"].as_u64()),
        Some("failed") => Far::Failed(text("why"), text("what_to_do")),
        _ => Far::Waits,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_load_is_told_of_the_model_that_was_chosen_and_of_no_other() {
        let all = |active: bool, of: &str, status: &str| {
            json!({
                "items": [{"id": "a", "active": active}, {"id": "b", "active": !active}],
                "state": {"model": of, "status": status, "loading_percent": 40, "why": "No room."},
            })
        };
        assert_eq!(
            of_list(&all(true, "a", "starting"), "a"),
            Far::Loads(Some(40))
        );
        assert_eq!(of_list(&all(true, "a", "ready"), "a"), Far::Ready);
        assert_eq!(of_list(&all(true, "b", "ready"), "a"), Far::Waits);
        assert_eq!(of_list(&all(false, "b", "ready"), "a"), Far::Passed);
        assert_eq!(
            of_list(&all(true, "a", "failed"), "a"),
            Far::Failed(Some("No room.".into()), None)
        );
        let activity = json!({"models": [
            {"model": "b", "status": "ready"},
            {"model": "a", "status": "starting", "loading_percent": null},
        ]});
        assert_eq!(of_activity(&activity, "a"), Far::Loads(None));
        assert_eq!(of_activity(&activity, "c"), Far::Waits);
    }
}

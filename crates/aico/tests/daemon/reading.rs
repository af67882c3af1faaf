//! Reading what the program prints: logs, help for shells, output that nobody reads to its end.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{World, fails, send, text, until};

#[test]
fn the_log_is_read_by_level_module_and_time_and_followed() {
    let world = World::ready();
    world.chat(None, "Hello");
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let arguments = [&["logs", "--json"], arguments].concat();
        let said = world.said(&arguments);
        said.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    until("it is written", || {
        (!lines(&["--module", "aico_models"]).is_empty()).then_some(())
    });
    let of_models = lines(&["--module", "aico_models"]);
    let ours = |line: &Value| line["module"].as_str().unwrap().starts_with("aico_models");
    assert!(of_models.iter().all(ours), "{of_models:?}");
    assert!(lines(&[]).len() > of_models.len());
    let severe = |line: &Value| line["level"] == "warn" || line["level"] == "error";
    assert!(lines(&["--level", "warn"]).iter().all(severe));
    assert!(lines(&["--since", "2100-01-01T00:00:00Z"]).is_empty());
    fails(&world, &["logs", "--level", "loud"], 2, "possible values");
    fails(&world, &["logs", "--since", "yesterday"], 2, "30m");

    // What happens while somebody watches.
    let mut follow = world
        .command(&["logs", "--follow", "--json", "--level", "warn"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = BufReader::new(follow.stdout.take().unwrap()).lines();
    send(world.children()[0], "KILL");
    let line = seen.next().unwrap().unwrap();
    assert!(line.contains("The model process ended"), "{line}");
    world.said(&["lock"]);
    assert!(
        seen.next().is_none(),
        "it goes on after the right to see it has ended"
    );
    follow.wait().unwrap();
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let world = World::ready();
    for _ in 0..2 {
        world.said(&["chat", "--once", "Hello"]);
    }
    for arguments in [
        &["completions", "bash"][..],
        &["man"],
        &["config", "show"],
        &["conversation", "list"],
        &["logs"],
    ] {
        let mut child = world
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(
            ended.status.success(),
            "{arguments:?}: {}",
            text(&ended.stderr)
        );
        assert!(
            ended.stderr.is_empty(),
            "{arguments:?}: {}",
            text(&ended.stderr)
        );
    }
    assert!(world.said(&["man"]).contains(".TH aico 1"));
    assert!(
        world
            .said(&["completions", "zsh"])
            .starts_with("#compdef aico")
    );
}

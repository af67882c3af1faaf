//! Characters: brought in from files, talked with, written out again, and models that are not here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::gguf_writer::{self, Shape};
use crate::support::{World, fails, send, text, until};

/// A card of version 3 with things in it that AICO does not use.
fn card() -> Value {
    json!({
        "spec": "chara_card_v3", "spec_version": "3.0",
        "data": {
            "name": "Mara", "description": "{{char}} keeps a lighthouse.", "personality": "calm",
            "scenario": "", "first_mes": "Come in, {{user}}, it is storming!",
            "alternate_greetings": ["You are late, {{user}}."],
            "mes_example": "<START>\n{{user}}: Hello\n{{char}}: Ahoy.",
            "creator_notes": "For rainy days.", "system_prompt": "You are {{char}}.",
            "post_history_instructions": "", "tags": ["sea"], "creator": "A test",
            "character_version": "1", "group_only_greetings": [],
            "extensions": {"other": {"a": 1}, "aico": {"models": ["Nowhere-7B"], "sampling": {"seed": 7}}},
            "character_book": {"entries": [{"keys": ["sea"], "content": "Deep.", "extensions": {},
                "enabled": true, "insertion_order": 0, "use_regex": false}], "extensions": {}}
        }
    })
}

fn import(world: &World, name: &str, content: &str) -> std::process::Output {
    let file = world.write(name, content);
    world.aico(&["character", "import", file.to_str().unwrap()])
}

fn json_of(world: &World, arguments: &[&str]) -> Value {
    serde_json::from_str(&world.said(arguments)).unwrap()
}

fn messages(world: &World, conversation: &str) -> Vec<Value> {
    let found = json_of(world, &["conversation", "show", conversation, "--json"]);
    found["messages"].as_array().unwrap().clone()
}

fn said(message: &Value) -> &str {
    message["parts"][0]["text"].as_str().unwrap()
}

#[test]
fn a_card_is_brought_in_talked_with_and_comes_out_as_it_went_in() {
    let mut world = World::ready();
    let done = import(&world, "mara.json", &card().to_string());
    let told = text(&done.stderr);
    assert!(done.status.success(), "{told}");
    for words in [
        "lorebook (1 entries)",
        "\"other\"",
        "Nowhere-7B: not here",
        "aico model add",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // What lies on the disk and what is logged says nothing of it.
    assert!(!world.log().contains("lighthouse") && !world.log().contains("Mara"));

    let answer = crate::support::done(&world.said(&[
        "chat",
        "--json",
        "--character",
        "mara",
        "--once",
        "Hello",
    ]));
    assert_eq!(answer["status"], "complete");
    let conversation = answer["conversation"].as_str().unwrap();
    let all = messages(&world, conversation);
    assert_eq!(all.len(), 3);
    assert_eq!(said(&all[0]), "Come in, Mia, it is storming!");
    assert_eq!(all[0]["siblings"].as_array().unwrap().len(), 2);
    // The model that it is made for is not here: that is told with the answer.
    assert_eq!(all[2]["instead_of"], "Nowhere-7B");
    let plain = world.aico(&["chat", "--character", "Mara", "--once", "Hello"]);
    assert!(
        text(&plain.stderr).contains("Nowhere-7B"),
        "{}",
        text(&plain.stderr)
    );

    world.stop();
    world.serve();
    let out = world.path("out.json");
    let format = ["--format", "card-v3", "--out", out.to_str().unwrap()];
    world.said(&[&["character", "export", "Mara"], &format[..]].concat());
    let written: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(written, card());
    fails(
        &world,
        &[&["character", "export", "Mara"], &format[..]].concat(),
        15,
        "--force",
    );

    // Through a picture and back, as another one: the second of a name gets a number.
    let picture = world.path("mara.png");
    world.said(&[
        "character",
        "export",
        "Mara",
        "--out",
        picture.to_str().unwrap(),
    ]);
    let again = world.aico(&["character", "import", picture.to_str().unwrap()]);
    assert!(
        text(&again.stdout).contains("Mara (2)"),
        "{}",
        text(&again.stderr)
    );
    let shown = json_of(&world, &["character", "show", "Mara (2)", "--json"]);
    assert_eq!(shown["character"]["portrait"], true);
    assert_eq!(
        shown["text"]["greetings"][0],
        "Come in, {{user}}, it is storming!"
    );

    // Removed: what was said stays, and goes on with the one that comes along.
    let gone = world.aico(&["character", "remove", "Mara"]);
    assert!(
        text(&gone.stderr).contains("2 conversations go on with Aico"),
        "{}",
        text(&gone.stderr)
    );
    assert_eq!(messages(&world, conversation).len(), 3);
    assert_eq!(
        world.chat(Some(conversation), "Hello")["status"],
        "complete"
    );
    fails(
        &world,
        &["character", "show", "Mara"],
        13,
        "There is no such character",
    );
}

#[test]
fn the_chosen_one_is_for_new_conversations_and_each_conversation_can_have_another() {
    let world = World::ready();
    let first = world.chat(None, "Hello");
    let first = first["conversation"].as_str().unwrap();
    let file = world.write(
        "texts.json",
        r#"{"system_prompt": "Say yes.", "greetings": ["Hi!"]}"#,
    );
    let file = file.to_str().unwrap();
    world.said(&[
        "character",
        "create",
        "Mine",
        "--copy",
        "Eve",
        "--file",
        file,
    ]);
    world.said(&["character", "use", "Mine"]);
    let second = world.chat(None, "Hello");
    let second = second["conversation"].as_str().unwrap();
    let character = |id: &str| {
        let found = json_of(&world, &["conversation", "show", id, "--json"]);
        found["conversation"]["character"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(character(first), "aico");
    let mine = character(second);
    assert_eq!(mine.len(), 36);
    assert_eq!(said(&messages(&world, second)[0]), "Hi!");
    let shown = json_of(&world, &["character", "show", &mine, "--json"]);
    assert_eq!(shown["text"]["system_prompt"], "Say yes.");
    assert_eq!(
        shown["text"]["models"][0], "Qwen3-8B",
        "the copy keeps what was not changed"
    );

    world.said(&["character", "use", "Mine", "--conversation", first]);
    assert_eq!(character(first), mine);
    assert_eq!(world.chat(Some(first), "Hello")["status"], "complete");
    world.said(&["character", "use", "Aico", "--conversation", first]);
    assert_eq!(character(first), "aico");

    let changes = world.write(
        "changes.json",
        r#"{"sampling": {"temperature": 0.9, "stop": []}}"#,
    );
    world.said(&["character", "edit", "Mine", changes.to_str().unwrap()]);
    let shown = world.said(&["character", "show", "Mine"]);
    // Of the sampling too, what the file does not name stays.
    for words in ["temperature 0.9", "top_k 20", "Say yes."] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let wrong = world.write(
        "wrong.json",
        r#"{"sampling": {"temperature": 9, "stop": []}}"#,
    );
    let wrong = wrong.to_str().unwrap();
    fails(
        &world,
        &["character", "edit", "Mine", wrong],
        15,
        "from 0 to 2",
    );
    // Those that come along stay as they are.
    fails(&world, &["character", "edit", "Aico", wrong], 15, "");
    fails(&world, &["character", "remove", "Eve"], 15, "part of AICO");
    let shown = world.said(&["character", "show", "Eve"]);
    for words in [
        "Qwen3-8B: not here",
        "5.0 GB",
        "Apache-2.0",
        "huggingface.co",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[test]
fn a_modelfile_with_an_adapter_and_a_template_of_its_own_is_taken_and_what_they_do_is_told() {
    let world = World::ready();
    let folder = world.path("files");
    fs::create_dir(&folder).unwrap();
    let (model, style) = (folder.join("owl.gguf"), folder.join("style.gguf"));
    let shape = gguf_writer::Shape::tiny();
    gguf_writer::write(&model, &shape);
    gguf_writer::write_lora(&style, &shape, &gguf_writer::Lora::strong());
    let (model, style) = (model.to_str().unwrap(), style.to_str().unwrap());
    let content = "FROM ./owl.gguf\nADAPTER ./style.gguf\nTEMPLATE {{ .Prompt }}\n";
    let models = |name: &str| {
        let found = json_of(&world, &["character", "show", name, "--json"]);
        found["text"]["models"].clone()
    };

    let done = import(&world, "early.mf", content);
    let told = text(&done.stdout) + &text(&done.stderr);
    assert!(done.status.success(), "{told}");
    for words in ["of no family", "--adapter FILE", "ollama/NAME"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(models("early"), json!(["./owl.gguf"]));

    world.said(&["model", "add", model, "--name", "Owl"]);
    let added = [
        "model",
        "add",
        "owl",
        "--adapter",
        style,
        "--name",
        "Styled",
    ];
    world.said(&added);
    fails(&world, &["model", "add", model, "--adapter", model], 15, "");
    let done = import(&world, "late.mf", content);
    let told = text(&done.stdout) + &text(&done.stderr);
    assert!(told.contains("which answers"), "{told}");
    assert_eq!(models("late"), json!(["Styled", "./owl.gguf"]));
    let shown = world.said(&["character", "show", "late"]);
    assert!(!shown.contains("not here"), "{shown}");

    let out = world.path("out.Modelfile");
    let out = out.to_str().unwrap();
    let export = ["character", "export", "late", "--format", "modelfile"];
    world.said(&[&export[..], &["--out", out]].concat());
    let written = fs::read_to_string(out).unwrap();
    for line in [
        "FROM ./owl.gguf",
        "ADAPTER ./style.gguf",
        "TEMPLATE \"{{ .Prompt }}\"",
    ] {
        assert!(written.lines().any(|one| one == line), "{line}: {written}");
    }
}

#[test]
fn files_that_are_none_or_want_what_can_not_be_had_are_refused_by_name() {
    let world = World::ready();
    for (name, content, words) in [
        (
            "a.txt",
            "Dear diary",
            "neither a character card nor a Modelfile",
        ),
        (
            "b.json",
            "{\"spec\": \"chara_card_v9\", \"data\": {}}",
            "chara_card_v9",
        ),
        ("c.json", "{\"spec\": ", "no JSON at line"),
        (
            "d.mf",
            "FROM a\nPARAMETER temprature 1",
            "Did you mean temperature?",
        ),
        ("g.mf", "FROM a\nFORM b", "did you mean FROM?"),
    ] {
        let done = import(&world, name, content);
        let told = text(&done.stderr);
        assert_eq!(done.status.code(), Some(15), "{name}: {told}");
        assert!(told.contains(words), "{name}: {told}");
    }
    fails(
        &world,
        &["character", "import", "/nowhere/x.png"],
        13,
        "can't be read",
    );
    // Nothing of them is there.
    assert_eq!(world.said(&["character", "list"]).lines().count(), 2);

    // A picture cut short, byte by byte through the API as a page would send it.
    let api = world.api().sign_in("Mia", crate::support::PASSWORD);
    let picture = world.path("p.png");
    world.said(&[
        "character",
        "export",
        "Aico",
        "--out",
        picture.to_str().unwrap(),
    ]);
    let whole = fs::read(&picture).unwrap();
    for part in [whole.len() - 1, whole.len() / 2, 40, 8] {
        let body = json!({ "file": STANDARD.encode(&whole[..part]), "file_name": "p.png" });
        let (status, told) = api.post("/api/v1/characters/import", &body);
        assert_eq!(status, 422, "{part}: {told}");
        assert_eq!(told["code"], "not-a-character");
    }
    let too_large = json!({ "file": "A".repeat(13 * 1024 * 1024), "file_name": "x" });
    let (status, told) = api.post("/api/v1/characters/import", &too_large);
    assert_eq!(status, 413, "{told}");
}

#[test]
fn each_person_has_their_own() {
    let world = World::ready();
    let password = world.write("ben", "orbit candle walnut harp quill");
    let password = password.to_str().unwrap();
    world.said(&["person", "add", "Ben", "--password-file", password]);
    assert!(
        import(&world, "mara.json", &card().to_string())
            .status
            .success()
    );
    let his = world.said(&[
        "--person",
        "Ben",
        "character",
        "list",
        "--password-file",
        password,
    ]);
    assert_eq!(his.lines().count(), 2, "{his}");
    let id = json_of(&world, &["character", "list", "--json"]);
    let id = id[2]["id"].as_str().unwrap();
    let other = [
        "--person",
        "Ben",
        "character",
        "show",
        id,
        "--password-file",
        password,
    ];
    fails(&world, &other, 13, "no such character");
}

fn starter(world: &World) -> PathBuf {
    let mut files = fs::read_dir(world.data().join("models")).unwrap();
    files.next().unwrap().unwrap().path()
}

fn add(world: &World, path: &Path) {
    world.said(&["model", "add", path.to_str().unwrap()]);
}

#[test]
fn the_model_that_a_character_is_made_for_answers_and_the_next_one_when_it_is_gone() {
    let mut world = World::new();
    assert!(world.setup().status.success());
    // One at a time, so that each goes when another one is asked.
    let password = world.path("password");
    let password = password.to_str().unwrap();
    world.serve_with(&["--password-file", password, "--set", "models.loaded=1"]);
    // Two models beside the starter: a copy of it, and one with weights by chance.
    let (sage, owl) = (world.path("Sage-1B-Q8_0.gguf"), world.path("owl.gguf"));
    gguf_writer::write(&sage, &Shape::tiny());
    fs::copy(starter(&world), &owl).unwrap();
    add(&world, &sage);
    add(&world, &owl);
    let owl_name = owl.file_name().unwrap().to_str().unwrap();
    let modelfile = format!(
        "# aico-name: Sage\nFROM sage:1b\n# aico-fallback: {owl_name}\nSYSTEM Be wise.\n\
         PARAMETER num_predict 12\nPARAMETER seed 7\nMESSAGE user Hi\nMESSAGE assistant Hello."
    );
    let done = import(&world, "Modelfile", &modelfile);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let ask = |conversation: Option<&str>, words: &str| {
        let mut arguments = vec!["chat", "--json", "--once", words];
        match conversation {
            Some(id) => arguments.extend(["--conversation", id]),
            None => arguments.extend(["--character", "Sage"]),
        }
        crate::support::done(&world.said(&arguments))
    };
    let first = ask(None, "Hello");
    let conversation = first["conversation"].as_str().unwrap();
    let last = |conversation: &str| messages(&world, conversation).pop().unwrap();
    let told = last(conversation);
    assert_eq!(told["model"], "Random", "{told}");
    assert_eq!(told.get("instead_of"), None);
    assert!(first["stats"]["answer_tokens"].as_u64().unwrap() <= 12);
    // The examples went in as turns: more than the few words of the question.
    let prompt = first["stats"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > 60, "{prompt}");
    // The same conversation goes on from what the model has read.
    let second = ask(Some(conversation), "And now?");
    assert!(
        second["stats"]["cached_tokens"].as_u64().unwrap() >= prompt / 2,
        "{second}"
    );
    // With another character it is another beginning, and is read anew.
    world.said(&["character", "use", "Aico", "--conversation", conversation]);
    ask(Some(conversation), "Hello");
    assert!(last(conversation)["model"].as_str().unwrap() != "Random");
    world.said(&["character", "use", "Sage", "--conversation", conversation]);
    ask(Some(conversation), "Back again?");
    assert_eq!(last(conversation)["model"], "Random");

    // Whoever names no model gets the one for everybody.
    let plain = world.chat(None, "Hello");
    assert_ne!(
        last(plain["conversation"].as_str().unwrap())["model"],
        "Random"
    );
    let active = json_of(&world, &["model", "list", "--json"]);
    let starter = active["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["starter"] == true);
    assert_eq!(
        starter.unwrap()["active"],
        true,
        "the choice for everybody stays"
    );

    // Its file goes: the next one answers, and the person is told.
    fs::remove_file(&sage).unwrap();
    ask(Some(conversation), "Are you there?");
    let told = last(conversation);
    assert_eq!(told["instead_of"], "sage:1b");
    assert_ne!(told["model"], "Random");
    let shown = world.said(&["character", "show", "Sage"]);
    assert!(shown.contains("its file is gone"), "{shown}");
    // One that can't be loaded is passed over too: nothing but zeros, of the same size.
    world.chat(None, "Hello");
    let whole = fs::read(&owl).unwrap();
    fs::write(&owl, vec![0; whole.len()]).unwrap();
    ask(Some(conversation), "And now?");
    assert_eq!(last(conversation)["status"], "complete");
    assert_eq!(last(conversation)["instead_of"], "sage:1b");
}

/// As a process is ended that takes more memory than there is, always at the same question.
#[test]
fn where_a_models_process_ends_before_a_word_the_next_model_answers() {
    let world = World::ready();
    let (sage, owl) = (world.path("Sage-1B-Q8_0.gguf"), world.path("owl.gguf"));
    gguf_writer::write(&sage, &Shape::tiny());
    fs::copy(starter(&world), &owl).unwrap();
    add(&world, &sage);
    add(&world, &owl);
    let modelfile = "# aico-name: Sage\nFROM sage:1b\n# aico-fallback: owl.gguf\n\
                     PARAMETER num_predict 12\nPARAMETER seed 7";
    let done = import(&world, "Modelfile", modelfile);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let others = world.children();
    let made = world.said(&["chat", "--json", "--character", "Sage", "--once", "Hello"]);
    let made = crate::support::done(&made);
    let conversation = made["conversation"].as_str().unwrap();
    let last = || messages(&world, conversation).pop().unwrap();
    assert_eq!(last()["model"], "Random");
    let process = world.children();
    let process = process.iter().find(|pid| !others.contains(pid)).unwrap();

    // It stands still, so that it has said nothing when it ends.
    send(*process, "STOP");
    let talk = world
        .command(&["chat", "--json", "--once", "And now?"])
        .args(["--conversation", conversation])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it is asked", || {
        let stats = json_of(&world, &["bus", "stats", "--json"]);
        let services = stats["services"].as_array().unwrap();
        services
            .iter()
            .any(|one| one["pattern"] == "models.generate" && one["in_progress"] == 1)
            .then_some(())
    });
    send(*process, "KILL");
    let ended = talk.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let told = last();
    assert_eq!(
        (&told["status"], &told["instead_of"]),
        (&"complete".into(), &"sage:1b".into()),
        "{told}"
    );
    assert_ne!(told["model"], "Random");
}

#[test]
fn characters_are_in_exports_as_cards_and_nowhere_in_clear() {
    let mut world = World::ready();
    assert!(
        import(&world, "mara.json", &card().to_string())
            .status
            .success()
    );
    let folder = world.path("mine");
    let password = world.path("password");
    let password = ["--password-file", password.to_str().unwrap()];
    world.said(&[&["export", "--to", folder.to_str().unwrap()], &password[..]].concat());
    let cards: Vec<_> = fs::read_dir(folder.join("characters")).unwrap().collect();
    assert_eq!(cards.len(), 1);
    let exported: Value =
        serde_json::from_slice(&fs::read(cards[0].as_ref().unwrap().path()).unwrap()).unwrap();
    assert_eq!(exported, card());
    // Nothing of it is in clear on the disk.
    world.stop();
    let mut folders = vec![world.data()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => {
                    let bytes = fs::read(entry.path()).unwrap_or_default();
                    let clear = bytes.windows(10).any(|window| window == b"lighthouse");
                    assert!(!clear, "{}", entry.path().display());
                }
            }
        }
    }
    world.serve();
    until("it is there again", || {
        world
            .said(&["character", "list"])
            .contains("Mara")
            .then_some(())
    });
}

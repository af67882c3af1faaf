//! Password, phrase, recovery and kit, with a daemon and without one.

use serde_json::Value;

use crate::support::{PASSWORD, World, fails, text};

const NEW: &str = "copper meadow violin seventeen";

fn path(world: &World, name: &str) -> String {
    world.path(name).to_str().unwrap().to_owned()
}

fn phrase(world: &World, name: &str) -> String {
    let words = std::fs::read_to_string(world.path(name)).unwrap();
    assert_eq!(words.split_whitespace().count(), 12);
    words
}

/// Set up for Mia, no daemon.
fn set_up() -> World {
    let world = World::new();
    let done = world.setup();
    assert!(done.status.success(), "{}", text(&done.stderr));
    world.write("new", NEW);
    world
}

/// What the databases hold is not rewritten when what opens them changes.
fn databases(world: &World) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    crate::privacy::files(&world.home(), &mut all);
    all.retain(|path| path.ends_with("person.db"));
    assert_eq!(all.len(), 1);
    all.into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_change_of_the_password_needs_no_daemon_and_rewrites_no_data() {
    let mut world = set_up();
    let before = databases(&world);
    let change = [
        "vault",
        "password",
        "--password-file",
        &path(&world, "password"),
        "--new-password-file",
        &path(&world, "new"),
    ];
    let done = world.aico(&change);
    assert!(done.status.success(), "{}", text(&done.stderr));
    // What it does not do is said where it is done.
    assert!(text(&done.stderr).contains("still open with the old one"));
    assert!(databases(&world) == before, "data was rewritten");
    fails(&world, &change, 5, "password is wrong");
    let old = path(&world, "password");
    let serve = ["serve", "--bind", "127.0.0.1:0", "--password-file", &old];
    fails(&world, &serve, 5, "password is wrong");
    world.serve_with(&["--password-file", &path(&world, "new")]);
    // And back, through the daemon.
    world.said(&[
        "vault",
        "password",
        "--password-file",
        &path(&world, "new"),
        "--new-password-file",
        &path(&world, "password"),
    ]);
    world.stop();
    world.serve();
}

#[test]
fn a_new_phrase_kills_the_old_one_and_recovers_a_forgotten_password() {
    let mut world = set_up();
    world.serve();
    let said = world.chat(None, "Remember the walnut.");
    let conversation = said["conversation"].as_str().unwrap().to_owned();
    // Only with the master password.
    let reissue = |password: &str, file: &str| {
        [
            "vault",
            "phrase",
            "--password-file",
            password,
            "--recovery-file",
            file,
        ]
        .map(str::to_owned)
    };
    let run = |world: &World, arguments: &[String]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        world.aico(&arguments)
    };
    let refused = run(&world, &reissue(&path(&world, "new"), &path(&world, "p2")));
    assert_eq!(refused.status.code(), Some(5));
    assert!(!world.path("p2").exists(), "no phrase, no file");
    let done = run(
        &world,
        &reissue(&path(&world, "password"), &path(&world, "p2")),
    );
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("still open with it"));
    assert_ne!(phrase(&world, "phrase"), phrase(&world, "p2"));

    let recover = |world: &World, phrase: &str, new: &str| {
        let (phrase, new) = (path(world, phrase), path(world, new));
        world.aico(&[
            "vault",
            "recover",
            "--phrase-file",
            &phrase,
            "--new-password-file",
            &new,
        ])
    };
    // Through the daemon: the old phrase at once not, the new one also while locked.
    let dead = recover(&world, "phrase", "new");
    assert_eq!(dead.status.code(), Some(5), "{}", text(&dead.stderr));
    assert!(text(&dead.stderr).contains("phrase is wrong"));
    world.said(&["lock"]);
    let dead = recover(&world, "phrase", "new");
    assert_eq!(dead.status.code(), Some(5), "{}", text(&dead.stderr));
    let done = recover(&world, "p2", "new");
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(
        world
            .said(&["conversation", "show", &conversation])
            .contains("walnut")
    );
    world.stop();
    // Without one.
    let dead = recover(&world, "phrase", "password");
    assert_eq!(dead.status.code(), Some(5), "{}", text(&dead.stderr));
    let weak = world.write("weak", "123456789012");
    let weak = weak.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(recover(&world, "p2", &weak).status.code(), Some(15));
    world.write("nonsense", "twelve words they are not");
    let odd = recover(&world, "nonsense", "password");
    assert_eq!(odd.status.code(), Some(15), "{}", text(&odd.stderr));
    assert!(recover(&world, "p2", "password").status.success());
    world.serve();
    assert!(
        world
            .said(&["conversation", "show", &conversation])
            .contains("walnut")
    );
}

#[test]
fn recovery_ends_the_owners_sessions() {
    let mut world = set_up();
    world.serve();
    let api = world.api().sign_in("Mia", PASSWORD);
    assert_eq!(api.get("/api/v1/me").0, 200);
    world.said(&[
        "vault",
        "recover",
        "--phrase-file",
        &path(&world, "phrase"),
        "--new-password-file",
        &path(&world, "new"),
    ]);
    assert_eq!(api.get("/api/v1/me").0, 401);
    world.api().sign_in("Mia", NEW);
}

#[test]
fn the_kit_holds_a_secret_only_when_it_is_asked_for() {
    let mut world = set_up();
    let kit = path(&world, "kit.html");
    world.said(&["vault", "kit", &kit]);
    let page = std::fs::read_to_string(&kit).unwrap();
    let words = phrase(&world, "phrase");
    for word in words.split_whitespace() {
        assert!(!page.contains(&format!("<li>{word}</li>")), "{word}");
    }
    assert!(!page.contains(PASSWORD));
    // The folder of this test is not where it is looked for unasked.
    let named = format!("aico --data '{}' ", world.data().display());
    for command in ["vault recover", "serve", "vault phrase"] {
        assert!(page.contains(&format!("{named}{command}<")), "{page}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&kit).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // Nothing is written over.
    fails(&world, &["vault", "kit", &kit], 2, "can't be made");
    let (second, password) = (path(&world, "second.html"), path(&world, "password"));
    world.said(&[
        "vault",
        "kit",
        &second,
        "--new-phrase",
        "--password-file",
        &password,
    ]);
    let page = std::fs::read_to_string(&second).unwrap();
    let list = page.split_once("<ol class=\"words\">").unwrap().1;
    let list = list.split_once("</ol>").unwrap().0;
    let words = list.replace("<li>", "").replace("</li>", " ");
    world.write("printed", words.trim());
    let recover = |phrase: &str| {
        world.aico(&[
            "vault",
            "recover",
            "--phrase-file",
            &path(&world, phrase),
            "--new-password-file",
            &path(&world, "new"),
        ])
    };
    assert_eq!(recover("phrase").status.code(), Some(5));
    let done = recover("printed");
    assert!(done.status.success(), "{}", text(&done.stderr));
    // The date beside a new phrase is the new one's.
    world.write("password", NEW);
    world.serve();
    let third = path(&world, "third.html");
    world.said(&[
        "vault",
        "kit",
        &third,
        "--new-phrase",
        "--password-file",
        &password,
    ]);
    let all: Value = serde_json::from_str(&world.said(&["vault", "status", "--json"])).unwrap();
    let wraps = all["wraps"].as_array().unwrap();
    let phrase = wraps
        .iter()
        .find(|wrap| wrap["kind"] == "recovery-phrase")
        .unwrap();
    let made = phrase["made_at"].as_str().unwrap();
    let page = std::fs::read_to_string(&third).unwrap();
    assert!(
        page.contains(&format!("recovery phrase, since {made}")),
        "{made}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_key_file_is_made_only_when_asked_for_and_the_doctor_repeats_the_warning() {
    let mut world = set_up();
    let password = path(&world, "password");
    assert!(!text(&world.aico(&["doctor"]).stdout).contains("key file"));
    let done = world.aico(&[
        "vault",
        "remember",
        "--key-file",
        "--password-file",
        &password,
    ]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("can read everything"));
    let said = text(&world.aico(&["doctor"]).stdout);
    assert!(said.contains("key file in"), "{said}");
    let line = world.serve_with(&[]);
    assert!(line.contains("ready"), "{line}");
    let all: Value = serde_json::from_str(&world.said(&["vault", "status", "--json"])).unwrap();
    assert_eq!(all["wraps"][2]["kind"], "key-file", "{all}");
    world.stop();
    // A copy of the data folder alone opens nothing.
    let mut inside = Vec::new();
    crate::privacy::files(&world.data(), &mut inside);
    assert!(
        inside
            .iter()
            .all(|file| file.extension().is_none_or(|e| e != "key"))
    );
    world.said(&["vault", "forget", "--password-file", &password]);
    let line = world.serve_with(&[]);
    assert!(line.contains("locked"), "{line}");
}

/// A run of somebody who is not the service: systemd gives them no credential.
#[cfg(target_os = "linux")]
fn outside(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = world.command(arguments);
    let done = command.env_remove("CREDENTIALS_DIRECTORY").output();
    let done = done.unwrap();
    let said = text(&done.stdout) + &text(&done.stderr);
    (done.status.code(), said)
}

#[cfg(target_os = "linux")]
#[test]
fn of_a_credential_that_the_service_alone_has_only_the_service_says_whether_it_opens_the_vault() {
    let mut world = set_up();
    let password = path(&world, "password");
    let folder = world.path("credentials");
    std::fs::create_dir(&folder).unwrap();
    let credential = folder.join("aico-wrapping-key");
    std::fs::write(&credential, "07".repeat(32)).unwrap();
    world.set("CREDENTIALS_DIRECTORY", &folder);
    let remember = ["vault", "remember", "--in", "systemd-credential"];
    world.said(&[&remember[..], &["--password-file", &password]].concat());
    let line = world.serve_with(&[]);
    assert!(line.contains("ready"), "{line}");
    for command in [&["vault", "status"][..], &["doctor"]] {
        let (_, said) = outside(&world, command);
        assert!(said.contains("credential of systemd"), "{said}");
        assert!(!said.contains("not now") && !said.contains("only the service"));
    }
    let nothing_is_wrong = |world: &World| {
        for command in [&["vault", "status"][..], &["doctor"]] {
            let (_, said) = outside(world, command);
            assert!(said.contains("only the service"), "{said}");
            assert!(!said.contains("vault remember"), "{said}");
        }
        let (code, said) = outside(world, &["vault", "status"]);
        assert_eq!(code, Some(0), "{said}");
    };
    world.said(&["lock"]);
    nothing_is_wrong(&world);
    world.stop();
    nothing_is_wrong(&world);
    // What the service itself met is told.
    std::fs::remove_file(&credential).unwrap();
    let line = world.serve_with(&[]);
    assert!(line.contains("locked"), "{line}");
    let (code, said) = outside(&world, &["vault", "status"]);
    assert_eq!(code, Some(22), "{said}");
    assert!(said.contains("systemd gave no credential"), "{said}");
}

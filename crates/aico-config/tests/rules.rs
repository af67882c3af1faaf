//! Each rule of the configuration, and the words a person reads when one is broken.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use aico_config::{Config, ConfigError, Level, Loaded, ModelStart, Source, Sources};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("config.yaml")
    }

    fn with(text: &str) -> Self {
        let folder = Self::new();
        std::fs::write(folder.file(), text).unwrap();
        folder
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(Sources::new(self.path()))
    }

    /// The problems, with this folder's path taken out.
    fn problems(&self) -> String {
        let error = self.load().err().unwrap();
        error
            .to_string()
            .replace(&format!("{}", self.file().display()), "FILE")
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

fn with_env(list: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let folder = Folder::new();
    Config::load(Sources {
        env: pairs(list),
        ..Sources::new(folder.path())
    })
}

#[test]
fn nothing_set_gives_the_defaults() {
    let loaded = Folder::new().load().unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.config.gateway.bind.to_string(), "127.0.0.1:8771");
    assert_eq!(loaded.config.models.start, ModelStart::Eager);
    assert!(loaded.file().is_none());
    assert!(
        loaded
            .explain()
            .iter()
            .all(|e| e.source == Source::Default && e.value == e.default)
    );
}

#[test]
fn every_key_of_the_table_is_a_field_and_every_field_a_key() {
    let json = serde_json::to_value(Config::default()).unwrap();
    let mut fields: Vec<String> = Vec::new();
    for (section, keys) in json.as_object().unwrap() {
        fields.extend(
            keys.as_object()
                .unwrap()
                .keys()
                .map(|key| format!("{section}.{key}")),
        );
    }
    let mut keys: Vec<&str> = aico_config::schema::KEYS
        .iter()
        .map(|key| key.around().map_or(key.name, |(before, _)| before))
        .map(|name| name.trim_end_matches('.'))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    fields.sort_unstable();
    assert_eq!(fields, keys);
}

#[test]
fn later_layers_win_and_say_so() {
    let folder = Folder::with("gateway:\n  bind: 127.0.0.1:1001\nlogging:\n  level: warn\n");
    let env = [
        ("AICO__GATEWAY__BIND", "127.0.0.1:1002"),
        ("HOME", "/nowhere"),
    ];
    let mut sources = Sources {
        env: pairs(&env),
        ..Sources::new(folder.path())
    };
    let loaded = Config::load(sources.clone()).unwrap();
    assert_eq!(loaded.config.gateway.bind.port(), 1002);
    assert_eq!(loaded.config.logging.level, Level::Warn);
    let level = loaded.explain_key("logging.level").unwrap();
    assert_eq!(
        level.source,
        Source::File {
            path: folder.file(),
            line: 4
        }
    );

    sources.flags = pairs(&[
        ("gateway.bind", "127.0.0.1:1003"),
        ("gateway.bind", "127.0.0.1:1004"),
    ]);
    let loaded = Config::load(sources).unwrap();
    assert_eq!(loaded.config.gateway.bind.port(), 1004);
    let bind = loaded.explain_key("gateway.bind").unwrap();
    assert_eq!(bind.source.to_string(), "command line");
    assert_eq!(bind.default, "127.0.0.1:8771");
}

#[test]
fn file_in_the_data_folder_goes_before_the_persons() {
    let (data, person) = (Folder::new(), Folder::new());
    std::fs::create_dir(person.path().join("aico")).unwrap();
    let file = person.path().join("aico/config.yaml");
    std::fs::write(&file, "session:\n  hours: 2\n").unwrap();
    let sources = Sources {
        config_dir: Some(person.path().into()),
        ..Sources::new(data.path())
    };
    assert_eq!(
        Config::load(sources.clone()).unwrap().config.session.hours,
        2
    );
    std::fs::write(data.file(), "session:\n  hours: 3\n").unwrap();
    assert_eq!(
        Config::load(sources.clone()).unwrap().config.session.hours,
        3
    );
    let named = Sources {
        file: Some(file.clone()),
        ..sources
    };
    let loaded = Config::load(named).unwrap();
    assert_eq!(
        (loaded.config.session.hours, loaded.file()),
        (2, Some(file.as_path()))
    );
}

#[test]
fn named_file_that_is_missing_is_an_error() {
    let folder = Folder::new();
    let file = folder.path().join("missing.yaml");
    let sources = Sources {
        file: Some(file.clone()),
        ..Sources::new(folder.path())
    };
    let error = Config::load(sources).err().unwrap();
    let expected = format!("the configuration file {} can't be read", file.display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn unknown_key_names_the_nearest_and_its_line() {
    let folder = Folder::with("# mine\ngateway:\n  bnd: 127.0.0.1:1\n");
    let expected = "FILE:3: gateway.bnd: there is no such key; did you mean gateway.bind?";
    assert_eq!(folder.problems(), expected);
}

#[test]
fn key_in_the_wrong_section_is_found() {
    let folder = Folder::with("gateway:\n  retention_days: 3\n");
    let expected = "FILE:2: gateway.retention_days: there is no such key; \
                    did you mean logging.retention_days?";
    assert_eq!(folder.problems(), expected);
}

#[test]
fn unknown_key_with_nothing_near_it() {
    let folder = Folder::with("zzz: 1\n");
    let expected = "FILE:1: zzz: there is no such key; `aico config show` lists them all";
    assert_eq!(folder.problems(), expected);
}

#[test]
fn unknown_variable_is_an_error_too() {
    let error = with_env(&[("AICO__SESSION__HOUR", "3")]).err().unwrap();
    let expected = "environment variable AICO__SESSION__HOUR: session.hour: there is no such \
                    key; did you mean session.hours?";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn all_problems_come_at_once() {
    let folder = Folder::with(
        "session:\n  hours: 25\nmodels:\n  start: soon\n  parallel: [1]\nlogging:\n  level: 3\n\
         gateway:\n  bind: localhost\n  names: [ok.example, -bad]\n",
    );
    let expected = "\
FILE:2: session.hours: has to be a whole number from 1 to 24
FILE:4: models.start: has to be one of eager, lazy
FILE:5: models.parallel: has to be a whole number from 1 to 64
FILE:7: logging.level: has to be one of off, error, warn, info, debug, trace
FILE:9: gateway.bind: has to be an IP address with a port, such as 127.0.0.1:8771
FILE:10: gateway.names: has to be a list of host names";
    assert_eq!(folder.problems(), expected);
}

#[test]
fn numbers_are_bounded_at_both_ends() {
    for (value, fits) in [
        ("0", false),
        ("1", true),
        ("24", true),
        ("25", false),
        ("-1", false),
    ] {
        assert_eq!(
            with_env(&[("AICO__SESSION__HOURS", value)]).is_ok(),
            fits,
            "{value}"
        );
        let folder = Folder::with(&format!("session:\n  hours: {value}\n"));
        assert_eq!(folder.load().is_ok(), fits, "{value}");
    }
    for value in ["1.5", "many", "", "4294967297", "true"] {
        assert!(
            with_env(&[("AICO__SESSION__HOURS", value)]).is_err(),
            "{value}"
        );
    }
}

#[test]
fn secrets_are_refused_and_never_repeated() {
    let folder = Folder::with("vault:\n  password: hunter2-hunter2\n");
    let text = folder.problems();
    assert!(
        text.contains("AICO keeps no secrets in its configuration"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let error = with_env(&[("AICO__VAULT__PASSWORD", "hunter2-hunter2")])
        .err()
        .unwrap();
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn names_are_lists_in_files_and_commas_elsewhere() {
    let folder = Folder::with("gateway:\n  names:\n    - AICO.example\n    - box\n");
    assert_eq!(
        folder.load().unwrap().config.gateway.names,
        ["aico.example", "box"]
    );
    let loaded = with_env(&[("AICO__GATEWAY__NAMES", "aico.example, box")]).unwrap();
    assert_eq!(loaded.config.gateway.names, ["aico.example", "box"]);
    assert_eq!(
        loaded.explain_key("gateway.names").unwrap().value,
        "aico.example,box"
    );
}

#[test]
fn levels_of_modules_merge_over_the_layers() {
    let folder = Folder::with("logging:\n  modules:\n    aico_bus: debug\n    aico_store: warn\n");
    let env = pairs(&[("AICO__LOGGING__MODULES__AICO_STORE", "trace")]);
    let loaded = Config::load(Sources {
        env,
        ..Sources::new(folder.path())
    })
    .unwrap();
    let modules = &loaded.config.logging.modules;
    assert_eq!(
        (modules["aico_bus"], modules["aico_store"]),
        (Level::Debug, Level::Trace)
    );
    let entries = loaded.explain();
    let values: Vec<_> = entries
        .iter()
        .filter(|e| e.key.starts_with("logging.modules."))
        .map(|e| (e.key.as_str(), e.value.as_str()))
        .collect();
    let expected = [
        ("logging.modules.aico_bus", "debug"),
        ("logging.modules.aico_store", "trace"),
    ];
    assert_eq!(values, expected);
    let other = loaded.explain_key("logging.modules.aico_vault").unwrap();
    assert_eq!(other.source, Source::Default);
}

#[test]
fn level_off_is_no_truth_value() {
    let folder = Folder::with("logging:\n  level: off\n");
    assert_eq!(folder.load().unwrap().config.logging.level, Level::Off);
}

#[test]
fn all_files_hold_at_least_one_file() {
    let folder = Folder::with("logging:\n  max_total_mib: 8\n");
    let expected = "FILE:2: logging.max_total_mib: has to be at least logging.max_file_mib, \
                    which is 16";
    assert_eq!(folder.problems(), expected);
}

#[test]
fn sections_may_be_empty_but_not_values() {
    for text in ["", "# only a comment\n", "gateway:\nlogging:\n  modules:\n"] {
        assert!(Folder::with(text).load().is_ok(), "{text:?}");
    }
    let expected = "FILE:1: gateway: is a section: its keys go below it, indented";
    assert_eq!(Folder::with("gateway: 127.0.0.1:1\n").problems(), expected);
    let expected = "FILE:2: session.hours: has to be a whole number from 1 to 24";
    assert_eq!(Folder::with("session:\n  hours:\n").problems(), expected);
}

#[test]
fn file_that_is_no_yaml_says_where() {
    let text = Folder::with("gateway:\n  bind: [1\n").problems();
    assert!(
        text.starts_with("the configuration file FILE, line "),
        "{text}"
    );
    let text = Folder::with("- a\n- b\n").problems();
    assert!(text.contains("has to be a list of sections"), "{text}");
}

#[test]
fn key_set_twice_is_an_error() {
    let text = Folder::with("session:\n  hours: 1\n  hours: 2\n").problems();
    assert!(
        text.starts_with("the configuration file FILE, line 3"),
        "{text}"
    );
}

#[test]
fn syntax_errors_quote_nothing_from_the_file() {
    let text = Folder::with("gateway:\n  bind: hunter2-hunter2: x\n").problems();
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn huge_file_is_refused_before_it_is_read() {
    let folder = Folder::with(&"#".repeat(300 * 1024));
    assert!(matches!(folder.load(), Err(ConfigError::TooLarge { .. })));
}

#[test]
fn explain_of_an_unknown_key_names_the_nearest() {
    let loaded = Folder::new().load().unwrap();
    let error = loaded.explain_key("model.threads").err().unwrap();
    assert!(
        error.to_string().ends_with("did you mean models.threads?"),
        "{error}"
    );
}

#[test]
fn a_key_of_servers_is_explained_as_documents_name_it_and_set_by_a_name_only() {
    let loaded = Folder::new().load().unwrap();
    for name in ["models.servers.NAME.key", "models.servers.*.key"] {
        let entry = loaded.explain_key(name).unwrap();
        assert!(entry.expects.contains("secret:"), "{}", entry.expects);
    }
    let folder = Folder::with("models:\n  servers:\n    NAME:\n      url: https://x.example\n");
    let problems = folder.problems();
    assert!(problems.contains("in the place of NAME"), "{problems}");
}

#[cfg(unix)]
#[test]
fn file_that_others_may_change_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::with("session:\n  hours: 1\n");
    let mode = |mode| {
        std::fs::set_permissions(folder.file(), std::fs::Permissions::from_mode(mode)).unwrap();
        folder.load().unwrap().warnings.len()
    };
    assert_eq!((mode(0o644), mode(0o664), mode(0o646)), (0, 1, 1));
}

#[test]
fn documentation_shows_the_table_of_the_code() {
    use aico_config::docs::{BEGIN, END, markdown_table};
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (shown, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("AICO_UPDATE_DOCS").is_some() {
        let new = format!("{head}{BEGIN}\n\n{}\n{END}{tail}", markdown_table());
        std::fs::write(&path, new).unwrap();
        return;
    }
    if shown.trim() != markdown_table().trim() {
        panic!(
            "docs/configuration.md is out of date: AICO_UPDATE_DOCS=1 cargo test -p aico-config"
        );
    }
}

#[test]
fn several_servers_are_named_each_with_its_keys() {
    let folder = Folder::with(
        "models:\n  servers:\n    lab:\n      url: https://gpu.lab.example:8000\n      key: \
         secret:lab\n    attic:\n      url: http://192.168.1.7:8080/v1\n      unencrypted: \
         allowed\n    here:\n      url: http://127.0.0.1:1234\n",
    );
    let sources = Sources {
        env: pairs(&[("AICO__MODELS__SERVERS__LAB__URL", "https://other.example")]),
        ..Sources::new(folder.path())
    };
    let loaded = Config::load(sources).unwrap();
    let servers = &loaded.config.models.servers;
    assert_eq!(servers.len(), 3);
    assert_eq!(servers["lab"].url, "https://other.example");
    assert_eq!(servers["lab"].secret().unwrap().name(), "lab");
    assert!(servers["attic"].unencrypted() && !servers["attic"].is_here());
    assert!(servers["here"].is_here() && servers["here"].secret().is_none());
    let url = loaded.explain_key("models.servers.attic.url").unwrap();
    assert_eq!(url.value, "http://192.168.1.7:8080/v1");
    assert_eq!(
        url.source,
        Source::File {
            path: folder.file(),
            line: 7
        }
    );
    let keys: Vec<String> = loaded.explain().into_iter().map(|e| e.key).collect();
    assert!(keys.contains(&"models.servers.lab.key".to_owned()));
    assert!(keys.iter().all(|key| !key.contains('*')));
    // Nothing under it is no mistake.
    assert!(Folder::with("models:\n  servers:\n").load().is_ok());
}

#[test]
fn a_server_that_words_could_not_safely_go_to_is_refused() {
    let server = |lines: &str| {
        let indented = lines.replace('\n', "\n      ");
        Folder::with(&format!(
            "models:\n  servers:\n    lab:\n      {indented}\n"
        ))
        .problems()
    };
    for (lines, expected) in [
        (
            "key: secret:lab",
            "FILE:4: models.servers.lab.url: is missing: a server needs its address",
        ),
        (
            "url: http://192.168.1.7:8080",
            "FILE:4: models.servers.lab.url: has to begin with https://, for what you write goes \
             there; models.servers.NAME.unencrypted can allow http:// within the home network",
        ),
        (
            "url: https://you:pass@lab.example",
            "FILE:4: models.servers.lab.url: has to be an address such as http://nas.local:8080 \
             without a password, or nothing",
        ),
        (
            "ulr: https://lab.example",
            "FILE:4: models.servers.lab.ulr: there is no such key; did you mean \
             models.servers.NAME.url?",
        ),
    ] {
        assert_eq!(server(lines), expected);
    }
    let clear = server("url: https://lab.example\nkey: sk-zebra");
    assert!(
        clear.contains("secret:NAME") && !clear.contains("zebra"),
        "{clear}"
    );
    let taken = Folder::with("models:\n  servers:\n    ollama:\n      url: https://x.example\n");
    assert!(taken.problems().contains("this name is Ollama's"));
    let unfit = Folder::with("models:\n  servers:\n    Lab 1:\n      url: https://x.example\n");
    assert!(unfit.problems().contains("there is no such key"));
}

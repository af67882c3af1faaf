use std::collections::BTreeMap;

use jiff::Timestamp;

use super::*;

/// One line that is no comment: its name, its labels without `le`, `le`, and the value.
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    le: Option<f64>,
    value: f64,
}

fn is_name(text: &str) -> bool {
    let first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    text.starts_with(first) && text.chars().all(|it| first(it) || it.is_ascii_digit())
}

/// A number as the format has it.
fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        text => text.parse().unwrap(),
    }
}

fn sample(line: &str) -> Sample {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let (name, mut rest) = match head.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').unwrap()),
        None => (head, ""),
    };
    assert!(is_name(name), "{line}");
    let (mut labels, mut le) = (Vec::new(), None);
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").unwrap();
        assert!(is_name(label), "{line}");
        let (mut text, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => text.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    letter @ ('\\' | '"') => letter,
                    other => panic!("\\{other} is no escape: {line}"),
                }),
                (_, letter) => text.push(letter),
            }
        };
        match label {
            "le" => le = Some(number(&text)),
            label => labels.push((label.to_owned(), text)),
        }
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Sample {
        name: name.to_owned(),
        labels,
        le,
        value: number(value),
    }
}

/// Holds a text to the format, and returns what it tells: by name and labels, without buckets.
fn read(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut told = BTreeMap::new();
    let mut families = HashSet::new();
    let mut buckets: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty());
            assert!(families.insert(name.to_owned()), "{name} is there twice");
            let after = lines.next().unwrap();
            let after = after.strip_prefix("# TYPE ").unwrap();
            let (of, which) = after.split_once(' ').unwrap();
            assert_eq!(of, name);
            assert!(["gauge", "counter", "histogram"].contains(&which));
            assert_eq!(name.ends_with("_total"), which == "counter", "{name}");
            (family, kind) = (name.to_owned(), which.to_owned());
            continue;
        }
        assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
        let Sample {
            name,
            labels,
            le,
            value,
        } = sample(line);
        let series = format!("{family}{labels:?}");
        match name.strip_prefix(&family).unwrap() {
            "_bucket" => {
                let le = le.unwrap();
                let before = buckets.insert(series, (le, value));
                let (bound, count) = before.unwrap_or((f64::NEG_INFINITY, 0.0));
                assert!(bound < le && count <= value, "{line}");
                assert_eq!(kind, "histogram");
                continue;
            }
            "_count" => assert_eq!(buckets[&series], (f64::INFINITY, value), "{line}"),
            "_sum" => assert_eq!(kind, "histogram"),
            suffix => assert!(suffix.is_empty() && kind != "histogram", "{line}"),
        }
        assert_eq!(le, None);
        let once = told.insert(format!("{name}{labels:?}"), value);
        assert!(once.is_none(), "{line} is there twice");
    }
    told
}

fn process() -> ProcessStatus {
    ProcessStatus {
        pid: 1,
        started_at: Timestamp::from_millisecond(1_700_000_000_500).unwrap(),
        resident_bytes: 12_345,
        persons_open: 1,
        warnings: Vec::new(),
    }
}

fn totals() -> AskedTotals {
    AskedTotals {
        completed: 3,
        cancelled: 1,
        refused: 2,
        failed: 4,
        prompt_tokens: 100,
        cached_tokens: 40,
        answer_tokens: 55,
        ..AskedTotals::default()
    }
}

#[test]
fn the_text_keeps_to_the_format_and_tells_each_figure() {
    let own = ModelActivity {
        model: vec![1; 16],
        name: "A \"b\" \\ c\nd".to_owned(),
        status: Status::Ready.into(),
        process_id: 7,
        memory_bytes: 1 << 33,
        running: 1,
        waiting: 2,
        places: 4,
        totals: Some(totals()),
        first_tokens: vec![0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3],
        first_tokens_sum: 1234.5,
        processor_us: 2_500_000,
        loads: 2,
        ..ModelActivity::default()
    };
    // Of the same name, and never asked; its counts were not sent.
    let beside = ModelActivity {
        model: vec![2; 16],
        name: own.name.clone(),
        engine: "ollama".to_owned(),
        ..ModelActivity::default()
    };
    let activity = ModelsActivity {
        memory_bytes: 1 << 34,
        models: vec![own.clone(), beside, own.clone()],
        ..ModelsActivity::default()
    };
    let told = read(&text(&process(), &activity));
    let of = |name: &str, engine: &str, byte: u8, more: &[(&str, &str)]| {
        let id = uuid::Uuid::from_bytes([byte; 16]).to_string();
        let labels = [
            ("model", own.name.as_str()),
            ("engine", engine),
            ("id", &id),
        ];
        let labels: Vec<_> = labels.iter().chain(more).copied().collect();
        told.get(&format!("{name}{labels:?}")).copied()
    };
    for (name, value) in [
        ("aico_model_loaded", 1.0),
        ("aico_model_memory_bytes", 8_589_934_592.0),
        ("aico_model_places", 4.0),
        ("aico_model_questions_running", 1.0),
        ("aico_model_questions_waiting", 2.0),
        ("aico_model_prompt_tokens_total", 100.0),
        ("aico_model_cached_tokens_total", 40.0),
        ("aico_model_answer_tokens_total", 55.0),
        ("aico_model_loads_total", 2.0),
        ("aico_model_cpu_seconds_total", 2.5),
        ("aico_model_time_to_first_token_seconds_count", 6.0),
        ("aico_model_time_to_first_token_seconds_sum", 1234.5),
        ("aico_model_tokens_per_second_count", 0.0),
    ] {
        assert_eq!(of(name, "aico", 1, &[]), Some(value), "{name}");
    }
    for (outcome, count) in [
        ("completed", 3.0),
        ("cancelled", 1.0),
        ("refused", 2.0),
        ("failed", 4.0),
    ] {
        let name = "aico_model_questions_total";
        let told = of(name, "aico", 1, &[("outcome", outcome)]);
        assert_eq!(told, Some(count), "{outcome}");
    }
    for (name, value) in [
        ("aico_model_loaded", Some(0.0)),
        ("aico_model_prompt_tokens_total", Some(0.0)),
        // What is not known is not told as nothing.
        ("aico_model_memory_bytes", None),
        ("aico_model_cpu_seconds_total", None),
        ("aico_model_loads_total", None),
    ] {
        assert_eq!(of(name, "ollama", 2, &[]), value, "{name}");
    }
    let start = told["process_start_time_seconds[]"];
    assert!((start - 1_700_000_000.5).abs() < 1e-3, "{start}");
    assert!((told["aico_memory_bytes[]"] - 17_179_869_184.0).abs() < 1.0);
    assert!(!told.contains_key("aico_memory_available_bytes[]"));
}

/// docs/models.md has a row for each family.
#[test]
fn the_page_lists_every_metric() {
    let page = include_str!("../../../../docs/models.md");
    let models = vec![ModelActivity::default()];
    let activity = ModelsActivity {
        memory_bytes: 1,
        available_bytes: 1,
        models,
        ..ModelsActivity::default()
    };
    let text = text(&process(), &activity);
    let mut families = 0;
    for line in text.lines() {
        if let Some(about) = line.strip_prefix("# TYPE ") {
            let (name, _) = about.split_once(' ').unwrap();
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
            families += 1;
        }
    }
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `aico_") || line.starts_with("| `process_"));
    assert_eq!(rows.count(), families, "a row of the page is no metric");
}

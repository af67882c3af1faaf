//! Real chat templates against Python's Jinja, which their makers wrote them for. They are others'
//! work and not in this repository: by hand (docs/models.md, "Tools and thinking").

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use aico_models::template::{
    Called, CalledFunction, ChatTemplate, Role, TemplateError, Turn, Wishes,
};
use serde_json::{Value, json};

/// Fills in each template of a folder with each conversation, as the Hugging Face libraries do.
const REFERENCE: &str = r#"
import datetime, json, pathlib, sys
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

def refuse(why):
    raise TemplateError(why)

environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
environment.filters["tojson"] = lambda value, **options: json.dumps(
    value, **{"ensure_ascii": False, **options})
# Marked as safe, a text would have what is added to it escaped for HTML.
environment.filters["safe"] = str
environment.globals["raise_exception"] = refuse
environment.globals["strftime_now"] = lambda form: datetime.datetime.now(
    datetime.timezone.utc).strftime(form)
cases = json.load(sys.stdin)
told = {}
for path in pathlib.Path(sys.argv[1]).glob("*.jinja"):
    told[path.name] = {}
    for name, case in cases.items():
        try:
            template = environment.from_string(path.read_text())
            told[path.name][name] = template.render(
                messages=case["messages"], tools=case["tools"], documents=None,
                add_generation_prompt=True, bos_token="<BOS>", eos_token="<EOS>")
        except Exception:
            told[path.name][name] = None
json.dump(told, sys.stdout)
"#;

fn called() -> Turn {
    let mut turn = Turn::new(Role::Assistant, "");
    turn.tool_calls.push(Called {
        id: "abcdefghi".into(),
        function: CalledFunction::Function {
            name: "clock".into(),
            arguments: json!({ "zone": "Europe/Zürich", "n": 1 }),
        },
    });
    turn
}

/// Each conversation, and whether there are tools.
fn cases() -> BTreeMap<&'static str, (Vec<Turn>, bool)> {
    let system = || Turn::new(Role::System, "Be kind.");
    let mut told = Turn::new(Role::Tool, "12:00");
    told.tool_call_id = "abcdefghi".into();
    told.name = "clock".into();
    let asked = || Turn::new(Role::User, "What time is it?");
    let talk = vec![
        system(),
        Turn::new(Role::User, " Hi <there> "),
        Turn::new(Role::Assistant, "Hello."),
        Turn::new(Role::User, "How are you?"),
    ];
    BTreeMap::from([
        ("talk", (talk, false)),
        ("tools", (vec![system(), asked()], true)),
        ("called", (vec![asked(), called(), told], true)),
    ])
}

fn tools() -> Vec<Value> {
    vec![json!({ "type": "function", "function": {
        "name": "clock", "description": "Tells the time.",
        "parameters": { "type": "object", "required": ["zone"], "properties": {
            "zone": { "type": "string", "description": "Where." },
            "n": { "type": "integer", "description": "How often." },
        } },
    } })]
}

#[test]
#[ignore = "needs templates of models in AICO_TEST_TEMPLATES, and Python with jinja2"]
fn real_templates_are_filled_in_as_python_does() {
    let folder = PathBuf::from(std::env::var("AICO_TEST_TEMPLATES").unwrap());
    let python = std::env::var("AICO_TEST_PYTHON").unwrap();
    let asked: BTreeMap<_, _> = cases()
        .into_iter()
        .map(|(name, (turns, with_tools))| {
            let tools = with_tools.then(tools);
            (name, json!({ "messages": turns, "tools": tools }))
        })
        .collect();
    let mut reference = Command::new(python)
        .args(["-c", REFERENCE, folder.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(reference.stdin.take().unwrap(), &asked).unwrap();
    let output = reference.wait_with_output().unwrap();
    let wanted: BTreeMap<String, BTreeMap<String, Option<String>>> =
        serde_json::from_slice(&output.stdout).unwrap();
    assert!(!wanted.is_empty(), "there is no *.jinja in the folder");

    let mut same = 0;
    let mut wrong = Vec::new();
    for (file, wanted) in wanted {
        let source = std::fs::read_to_string(folder.join(&file)).unwrap();
        let template = ChatTemplate::new(Some(&source), "<BOS>", "<EOS>").unwrap();
        let style = template.calls();
        println!("{file}: calls {style:?}, thinks {}", template.thinks());
        for (name, (turns, with_tools)) in cases() {
            let wishes = Wishes {
                tools: if with_tools { tools() } else { Vec::new() },
                ..Wishes::default()
            };
            let ours = template.render_with(&turns, &wishes);
            let ours = ours.map(|rendered| rendered.text);
            match (&wanted[name], ours) {
                (Some(wanted), Ok(ours)) if *wanted == ours => same += 1,
                // What it has no place for is told in words; what it refuses, in other turns.
                (_, Ok(_)) if with_tools && style.is_none() => {}
                (None, Ok(_) | Err(TemplateError::Render { .. })) => {
                    println!("  {name}: Python refuses it");
                }
                // As Gemma 4 was trained. Its first template leaves that to who fills it in.
                (Some(_), Ok(ours)) if ours.contains("<|tool_response>") => {
                    println!("  {name}: what the tool gave back is in the turn that called it");
                }
                (Some(wanted), Ok(ours)) => {
                    wrong.push(format!("{file} {name}:\n{ours}\nPython:\n{wanted}"))
                }
                (Some(_), Err(error)) => wrong.push(format!("{file} {name}: {error}")),
                (None, Err(error)) => panic!("{file} {name}: {error}"),
            }
        }
    }
    println!("{same} are the same");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

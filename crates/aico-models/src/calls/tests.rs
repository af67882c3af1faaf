use serde_json::json;

use super::*;

fn tools() -> Arc<Vec<Offered>> {
    let of = |name: &str, properties: Value| Offered {
        name: name.to_owned(),
        parameters: json!({ "type": "object", "properties": properties }),
    };
    Arc::new(vec![
        of(
            "weather",
            json!({ "city": { "type": "string" }, "days": { "type": "integer" } }),
        ),
        of("clock", json!({})),
        of("python", json!({ "code": { "type": "string" } })),
    ])
}

/// Text and calls of an answer that comes in parts of `size` characters.
fn run(style: Style, answer: &str, size: usize) -> (String, Vec<(String, Value)>) {
    let mut reader = CallReader::new(Calls {
        style,
        tools: tools(),
    });
    let mut out = Vec::new();
    let letters: Vec<char> = answer.chars().collect();
    for part in letters.chunks(size) {
        reader.push(&part.iter().collect::<String>(), &mut out);
    }
    reader.finish(&mut out);
    let (mut text, mut calls, mut thought) = (String::new(), Vec::new(), String::new());
    for part in out {
        match part {
            Part::Text(part) => text.push_str(&part),
            Part::Thinking(part) => thought.push_str(&part),
            Part::Call(call) => {
                calls.push((call.name, serde_json::from_str(&call.arguments).unwrap()));
            }
        }
    }
    // Shown apart, so that nothing of it is taken for the answer.
    if !thought.is_empty() {
        text = format!("({thought}) {text}");
    }
    (text, calls)
}

fn expect(style: Style, answer: &str, text: &str, calls: &[(&str, Value)]) {
    for size in 1..=answer.chars().count() {
        let (said, called) = run(style, answer, size);
        assert_eq!(said, text, "{answer} in parts of {size}");
        let called: Vec<_> = called
            .iter()
            .map(|(name, arguments)| (name.as_str(), arguments.clone()))
            .collect();
        assert_eq!(called, calls, "{answer} in parts of {size}");
    }
}

fn lisbon() -> Value {
    json!({ "city": "Lisbon" })
}

#[test]
fn hermes_and_qwen() {
    let call = r#"<tool_call>
{"name": "weather", "arguments": {"city": "Lisbon"}}
</tool_call>"#;
    expect(Style::Hermes, call, "", &[("weather", lisbon())]);
    expect(
        Style::Hermes,
        &format!("I look.\n\n{call}\n<tool_call>{{\"name\": \"clock\"}}</tool_call>\n"),
        "I look.",
        &[("weather", lisbon()), ("clock", json!({}))],
    );
    // A mark inside of an argument; a call that the end cuts its mark from.
    expect(
        Style::Hermes,
        r#"<tool_call>{"name": "weather", "arguments": {"city": "a</tool_call>b"}}</tool_call>"#,
        "",
        &[("weather", json!({ "city": "a</tool_call>b" }))],
    );
    let cut = call.trim_end_matches("</tool_call>");
    expect(Style::Hermes, cut, "", &[("weather", lisbon())]);
}

#[test]
fn qwen_coder_and_glm_write_xml() {
    expect(
        Style::Hermes,
        "<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n3\n\
         </parameter>\n</function>\n</tool_call>",
        "",
        &[("weather", json!({ "city": "12", "days": 3 }))],
    );
    expect(
        Style::Hermes,
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Lisbon</arg_value>\n</tool_call>",
        "",
        &[("weather", lisbon())],
    );
}

#[test]
fn llama_writes_plain_json_or_after_its_mark() {
    let plain = r#"{"name": "weather", "parameters": {"city": "Lisbon"}}"#;
    expect(Style::Llama, plain, "", &[("weather", lisbon())]);
    expect(
        Style::Llama,
        &format!("<|python_tag|>{plain}; {{\"name\": \"clock\", \"parameters\": {{}}}}"),
        "",
        &[("weather", lisbon()), ("clock", json!({}))],
    );
    expect(
        Style::Llama,
        r#"<|python_tag|>weather.call(city="Lisbon", days=2)"#,
        "",
        &[("weather", json!({ "city": "Lisbon", "days": 2 }))],
    );
    expect(
        Style::Llama,
        "<|python_tag|>print(1)",
        "",
        &[("python", json!({ "code": "print(1)" }))],
    );
    // JSON that is an answer.
    for answer in [
        r#"{"city": "Lisbon"}"#,
        r#"{"name": "Mira", "age": 3}"#,
        "[1, 2]",
        "{",
    ] {
        expect(Style::Llama, answer, answer, &[]);
    }
}

#[test]
fn mistral_in_both_of_its_ways() {
    expect(
        Style::Mistral,
        r#"[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Lisbon"}, "id": "aBcDeFgH1"}]"#,
        "",
        &[("weather", lisbon())],
    );
    expect(
        Style::Mistral,
        r#"So:[TOOL_CALLS]weather[ARGS]{"city": "Lisbon"}[TOOL_CALLS]clock[CALL_ID]1[ARGS]{}"#,
        "So:",
        &[("weather", lisbon()), ("clock", json!({}))],
    );
}

#[test]
fn other_families() {
    expect(
        Style::DeepSeek,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n\
         {\"city\": \"Lisbon\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "",
        &[("weather", lisbon())],
    );
    expect(
        Style::DeepSeek,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Lisbon\"}\
         <｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "",
        &[("weather", lisbon())],
    );
    expect(
        Style::Command,
        r#"<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "weather",
           "parameters": {"city": "Lisbon"}}]<|END_ACTION|>"#,
        "",
        &[("weather", lisbon())],
    );
    expect(
        Style::Phi,
        r#"<|tool_call|>[{"name": "weather", "arguments": {"city": "Lisbon"}}]<|/tool_call|>"#,
        "",
        &[("weather", lisbon())],
    );
    expect(
        Style::Function,
        r#"<function=weather>{"city": "Lisbon"}</function>"#,
        "",
        &[("weather", lisbon())],
    );
}

#[test]
fn what_is_no_call_stays_text() {
    for (style, answer) in [
        (Style::Hermes, "a <tool_call>{broken}</tool_call> b"),
        (
            Style::Hermes,
            r#"<tool_call>{"name": "unknown", "arguments": {}}</tool_call>"#,
        ),
        (
            Style::Hermes,
            r#"<tool_call>{"name": "weather", "arguments": [1]}</tool_call>"#,
        ),
        (Style::Hermes, "5 < 6 and <tool_c"),
        (Style::Hermes, "white space stays  \n"),
        (Style::Mistral, "[TOOL_CALLS] soon"),
        (
            Style::DeepSeek,
            "<｜tool▁calls▁begin｜>x<｜tool▁calls▁end｜>",
        ),
        (Style::Llama, "<|python_tag|>{"),
    ] {
        expect(style, answer, answer, &[]);
    }
    // A broken one does not take the next one with it.
    expect(
        Style::Hermes,
        r#"<tool_call>{x}</tool_call><tool_call>{"name": "clock"}</tool_call>"#,
        "<tool_call>{x}</tool_call>",
        &[("clock", json!({}))],
    );
}

#[test]
fn text_is_not_held_back_longer_than_needed() {
    let mut reader = CallReader::new(Calls {
        style: Style::Hermes,
        tools: tools(),
    });
    let mut out = Vec::new();
    reader.push("Hello <to", &mut out);
    assert_eq!(out, [Part::Text("Hello".into())]);
    reader.push("day> ", &mut out);
    assert_eq!(out[1], Part::Text(" <today>".into()));
}

#[test]
fn the_template_tells_the_way() {
    for (source, style) in [
        ("…{{'<tool_call>'}}…", Style::Hermes),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", Style::Mistral),
        ("<|python_tag|>", Style::Llama),
        (
            "<function=example_function_name> <|python_tag|>",
            Style::Function,
        ),
        ("<tool_call> <function=", Style::Hermes),
        ("{{ tools | tojson }}", Style::Llama),
    ] {
        assert_eq!(Style::of_template(source), style, "{source}");
    }
}

#[test]
fn gpt_oss_thinks_calls_and_answers_in_channels() {
    let thinks = "<|channel|>analysis<|message|>Let me see.<|end|>";
    expect(
        Style::Harmony,
        &format!("{thinks}<|start|>assistant<|channel|>final<|message|>It rains.<|return|>"),
        "(Let me see.) It rains.",
        &[],
    );
    // The end of the turn stands for no text.
    expect(
        Style::Harmony,
        &format!(
            "{thinks}<|start|>assistant<|channel|>commentary to=functions.weather \
             <|constrain|>json<|message|>{{\"city\": \"Lisbon\"}}"
        ),
        "(Let me see.) ",
        &[("weather", lisbon())],
    );
    // The recipient before the channel; words to the person before the call.
    expect(
        Style::Harmony,
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.clock\
         <|channel|>commentary json<|message|>{}<|call|>",
        "I look.",
        &[("clock", json!({}))],
    );
    // Without heads, as when it is bound to a form.
    expect(Style::Harmony, r#"{"a": "<|"}"#, r#"{"a": "<|"}"#, &[]);
    // Thinking that is cut off.
    expect(
        Style::Harmony,
        "<|channel|>analysis<|message|>Hm, ",
        "(Hm,) ",
        &[],
    );
}

#[test]
fn nemotron() {
    let call = r#"<TOOLCALL>[{"name": "weather", "arguments": {"city": "Lisbon"}}, {"name": "clock", "arguments": {}}]</TOOLCALL>"#;
    assert_eq!(Style::of_template(call), Style::Nemotron);
    let both = [("weather", lisbon()), ("clock", json!({}))];
    expect(Style::Nemotron, call, "", &both);
    expect(
        Style::Nemotron,
        &format!("I look.\n{call}\n"),
        "I look.",
        &both,
    );
}

#[test]
fn gemma_thinks_and_calls_between_marks() {
    let quoted = "<|\"|>";
    let call =
        format!("<|tool_call>call:weather{{city:{quoted}Lisbon{quoted},days:2}}<tool_call|>");
    let wanted = json!({ "city": "Lisbon", "days": 2 });
    assert_eq!(Style::of_template(&call), Style::Gemma);
    assert_eq!(
        Style::of_channels("<|channel>thought\n<channel|>"),
        Some(Style::Gemma)
    );
    expect(Style::Gemma, &call, "", &[("weather", wanted.clone())]);
    expect(
        Style::Gemma,
        "Hello.\n\nHow < are you?",
        "Hello.\n\nHow < are you?",
        &[],
    );
    expect(
        Style::Gemma,
        &format!(
            "<|channel>thought\nI must look.\n<channel|>\n{call}<|tool_call>call:clock{{}}<tool_call|>"
        ),
        "(I must look.) ",
        &[("weather", wanted.clone()), ("clock", json!({}))],
    );
    expect(
        Style::Gemma,
        "<|channel>thought\n<channel|>Hello.",
        "Hello.",
        &[],
    );
    expect(
        Style::Gemma,
        "<|channel>thought<channel|>Hello.",
        "Hello.",
        &[],
    );
    // Around a thought the answer stays what it is; a call takes white space with it.
    expect(
        Style::Gemma,
        "Hello.\n\n<|channel>thought\nhm<channel|>World",
        "(hm) Hello.\n\nWorld",
        &[],
    );
    expect(
        Style::Gemma,
        "Hello.<|channel>thought hm<channel|>\nWorld\n<|tool_call>call:clock{}<tool_call|>\n",
        "(hm) Hello.\nWorld",
        &[("clock", json!({}))],
    );
    let other = "Hello.\n<|tool_call>call:other{}<tool_call|>\nWorld";
    expect(Style::Gemma, other, other, &[]);
    // One that ends where a thought begins.
    expect(Style::Gemma, "Hello.<|channel>thou", "Hello.", &[]);
    // Lists, objects, words for what is no text; the end of the answer in place of the mark's.
    let value = format!(
        "<|tool_call>call:weather{{city:{{a:[1,-2.5,true],{quoted}b{quoted}:null}},days:{quoted}a, }}b{quoted}}}"
    );
    let deep = json!({ "city": { "a": [1, -2.5, true], "b": null }, "days": "a, }b" });
    expect(Style::Gemma, &value, "", &[("weather", deep)]);
    for broken in [
        "<|tool_call>call:weather{city:}<tool_call|>",
        "<|tool_call>call:other{}<tool_call|>",
        "<|tool_call>weather<tool_call|>",
    ] {
        expect(Style::Gemma, broken, broken, &[]);
    }
}

#[test]
fn calls_as_python_writes_them() {
    let call = r#"<|tool_call_start|>[weather(city='Lis\'bon', days=2), clock()]<|tool_call_end|>"#;
    assert_eq!(Style::of_template(call), Style::Pythonic);
    let both = [
        ("weather", json!({ "city": "Lis'bon", "days": 2 })),
        ("clock", json!({})),
    ];
    expect(Style::Pythonic, call, "", &both);
    expect(
        Style::Pythonic,
        &format!("I look.\n{call}"),
        "I look.",
        &both,
    );
    let value = r#"<|tool_call_start|>[weather(city="a\n\\d", days=[True, None, {'x': 1.5}])]<|tool_call_end|>"#;
    let wanted = json!({ "city": "a\n\\d", "days": [true, null, { "x": 1.5 }] });
    expect(Style::Pythonic, value, "", &[("weather", wanted)]);
    let bare = "<|tool_call_start|>[weather(city='it's mine', days=1)]<|tool_call_end|>";
    let wanted = json!({ "city": "it's mine", "days": 1 });
    expect(Style::Pythonic, bare, "", &[("weather", wanted)]);
    for told in ["<|tool_list_start|>[", "\"List of tools: [\""] {
        assert_eq!(Style::of_template(told), Style::Pythonic);
    }
    for broken in [
        "<|tool_call_start|>[weather(city=)]<|tool_call_end|>",
        "<|tool_call_start|>[weather(city='a)]<|tool_call_end|>",
        "<|tool_call_start|>[weather(city=1]<|tool_call_end|>",
        "<|tool_call_start|>[other()]<|tool_call_end|>",
        "<|tool_call_start|>[__import__('os')]<|tool_call_end|>",
    ] {
        expect(Style::Pythonic, broken, broken, &[]);
    }
    let deep = format!(
        "<|tool_call_start|>[weather(city={})]<|tool_call_end|>",
        "[".repeat(99_999)
    );
    assert_eq!(run(Style::Pythonic, &deep, 1000).1, []);
}

#[test]
fn functionary_names_whom_each_message_is_for() {
    expect(Style::Recipient, "all\nIt rains.", "It rains.", &[]);
    let call = "weather\n{\"city\": \"Lisbon\"}";
    expect(Style::Recipient, call, "", &[("weather", lisbon())]);
    expect(
        Style::Recipient,
        &format!("all\nI look.\n>>>{call}>>>clock\n{{}}"),
        "I look.",
        &[("weather", lisbon()), ("clock", json!({}))],
    );
    expect(
        Style::Recipient,
        "python\nprint(1)\nprint(2)",
        "",
        &[("python", json!({ "code": "print(1)\nprint(2)" }))],
    );
    // Python's own prompt is no head.
    let example = "Type\n>>> print(1)\n>>> all_of_it()\n1";
    expect(Style::Recipient, &format!("all\n{example}"), example, &[]);
}

#[test]
fn what_is_no_call_in_a_channel_stays_text() {
    let head = "<|channel|>commentary to=functions.nothing <|constrain|>json<|message|>";
    expect(
        Style::Harmony,
        &format!("{head}{{}}"),
        &format!("{head}{{}}"),
        &[],
    );
    let broken = "<|channel|>commentary to=functions.weather<|message|>{\"city\": ";
    expect(Style::Harmony, broken, broken.trim_end(), &[]);
    expect(Style::Recipient, "nothing\n{}", "nothing\n{}", &[]);
    expect(
        Style::Recipient,
        "weather\n{\"city\":",
        ">>>weather\n{\"city\":",
        &[],
    );
}

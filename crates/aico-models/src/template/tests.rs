use super::*;

const CHATML_OF_A_FILE: &str = "{%- for message in messages %}\n    {{- '<|im_start|>' + \
    message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}\n\
    {%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n\
    {%- endif %}";

const LLAMA3: &str = "{{- bos_token }}\n{%- if not date_string is defined %}\n    \
    {%- if strftime_now is defined %}\n        {%- set date_string = strftime_now('%Y') %}\n    \
    {%- endif %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n    \
    {%- set system_message = messages[0]['content'].strip() %}\n    \
    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = '' %}\n\
    {%- endif %}\n{%- if tools is not none %}\n    {{- raise_exception('no tools here') }}\n\
    {%- endif %}\n{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n\
    {{- system_message }}\n{{- '<|eot_id|>' }}\n{%- for message in messages %}\n    \
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + \
    message['content'].strip() + '<|eot_id|>' }}\n{%- endfor %}\n\
    {%- if add_generation_prompt %}\n    \
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}";

const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
    {{ raise_exception('System role not supported') }}{% endif %}\
    {% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
    {% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}\
    {% set role = message['role'] %}{% endif %}\
    {{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";

fn turns() -> Vec<Turn> {
    vec![
        Turn::new(Role::System, "Be kind."),
        Turn::new(Role::User, " Hi <there> "),
        Turn::new(Role::Assistant, "Hello."),
        Turn::new(Role::User, "How are you?"),
    ]
}

fn filled(source: Option<&str>, turns: &[Turn]) -> String {
    let template = ChatTemplate::new(source, "<bos>", "<eos>").unwrap();
    template
        .render(turns)
        .unwrap_or_else(|error| panic!("{error}"))
        .text
}

#[test]
fn chatml_of_the_file_and_of_our_own() {
    let wanted = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi <there>\
        <|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nHow are you?\
        <|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(filled(Some(CHATML_OF_A_FILE), &turns()), wanted);
    let own = filled(None, &turns());
    assert_eq!(own, wanted.replace("Hi <there>", " Hi <there> "));
}

#[test]
fn llama_3_with_pythons_methods() {
    assert_eq!(
        filled(Some(LLAMA3), &turns()),
        "<bos><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nHi <there><|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nHow are you?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
}

#[test]
fn gemma_without_a_system_role_gets_its_words_in_the_first_user_turn() {
    assert_eq!(
        filled(Some(GEMMA), &turns()),
        "<bos><start_of_turn>user\nBe kind.\n\n Hi <there><end_of_turn>\n\
         <start_of_turn>model\nHello.<end_of_turn>\n<start_of_turn>user\nHow are you?\
         <end_of_turn>\n<start_of_turn>model\n"
    );
}

#[test]
fn two_user_turns_in_a_row_are_merged_for_a_template_that_wants_them_to_alternate() {
    let mut turns = turns();
    turns.remove(2);
    let text = filled(Some(GEMMA), &turns);
    assert!(
        text.contains("Hi <there> \n\nHow are you?<end_of_turn>"),
        "{text}"
    );
}

#[test]
fn broken_templates_are_errors_with_their_line() {
    let syntax = ChatTemplate::new(Some("a\n{% for %}"), "", "").err();
    assert_eq!(syntax, Some(TemplateError::Syntax { line: 2 }));
    let never = ChatTemplate::new(Some("\n\n{{ raise_exception('no') }}"), "", "").unwrap();
    assert_eq!(
        never.render(&turns()).err(),
        Some(TemplateError::Render { line: 3 })
    );
}

#[test]
fn endless_and_swelling_templates_end() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(t='aaaaaaaaaaaaaaaa') %}{% for i in range(9999) %}\
         {{ ns.t * 1000000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        // In itself 2^40 times, and 200 deep.
        "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}\
         {% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(200) %}{% set ns.x = [ns.x] %}\
         {% endfor %}{{ ns.x | string }}",
    ] {
        let template = ChatTemplate::new(Some(source), "", "").unwrap();
        assert!(template.render(&turns()).is_err(), "{source}");
    }
}

#[test]
fn to_json_writes_as_python_does() {
    let text = filled(
        Some("{{ messages[1].content | tojson }} {{ [1, 2] | tojson }}"),
        &turns(),
    );
    assert_eq!(text, r#"" Hi <there> " [1, 2]"#);
}

#[test]
fn values_are_written_as_python_does() {
    let text = filled(
        Some(
            "{{ [1, 'a', true, none, 1.5] }} {{ {'k': \"it's\"} | string }} {{ true }} {{ none }} \
             {{ 'ä😀' | tojson(ensure_ascii=true) }} {{ 'ä' | tojson }} {{ 'plain' | string }} \
             {{ {'a': [1]} | tojson(indent=2) }}{{ '{\n' | indent(2, first=true) }}\
             {{ 'a\n\nb\n' | indent }}",
        ),
        &turns(),
    );
    assert_eq!(
        text,
        "[1, 'a', True, None, 1.5] {'k': \"it's\"} True None \"\\u00e4\\ud83d\\ude00\" \"ä\" plain \
         {\n  \"a\": [\n    1\n  ]\n}  {\na\n\n    b\n"
    );
}

#[test]
fn without_tools_there_is_nothing_to_go_through() {
    let source = "{% if tools is iterable and tools | length > 0 %}tools{% else %}none{% endif %}\
        {% if 'abc' is iterable and [] is iterable and unknown is iterable %} yes{% endif %}";
    assert_eq!(filled(Some(source), &turns()), "none yes");
}

#[test]
fn marks_of_what_is_trained_on_are_left_out() {
    let source = "{% for message in messages %}\n    {%- generation -%}\n  {{ message.content }}\n    \
        {%- endgeneration %}\n|{% endfor %}";
    let plain = source.replace("{%- generation -%}", "{#- -#}");
    let plain = plain.replace("{%- endgeneration %}", "{#- #}");
    assert_eq!(
        filled(Some(source), &turns()),
        filled(Some(&plain), &turns())
    );
    assert!(filled(Some(source), &turns()).starts_with("Be kind."));
    // However many there are that are others.
    let many = "{%".repeat(500_000) + "%}";
    assert!(ChatTemplate::new(Some(&many), "", "").is_err());
    // One that breaks off is an error like any other.
    assert!(ChatTemplate::new(Some("a{% generation %}b{% endgeneration"), "", "").is_err());
}

#[test]
fn what_a_tool_gave_back_stands_in_the_turn_that_called_it() {
    let source = "{% for tool in tools %}{{ tool.function.name }}{% endfor %}\
        {% for message in messages %}<{{ message.role }}>\
        {% for response in message.tool_responses %}\
        {{ response.name }}={{ response.response }};{% endfor %}{% endfor %}";
    let template = ChatTemplate::new(Some(source), "", "").unwrap();
    let mut turns = with_calls();
    let called = turns[1].tool_calls[0].clone();
    turns[1].tool_calls.push(called);
    let mut second = turns[2].clone();
    second.text = "13:00".to_owned();
    second.name.clear();
    turns.push(second);
    let text = template.render_with(&turns, &wishes(None)).unwrap().text;
    assert_eq!(text, "clock<user><assistant>clock=12:00;clock=13:00;");
}

#[test]
fn thinking_follows_from_template_and_prompt() {
    let of = |source: &str| {
        ChatTemplate::new(Some(source), "", "")
            .unwrap()
            .render(&turns())
            .unwrap()
            .thinking
    };
    assert_eq!(of("x"), Thinking::None);
    assert_eq!(of("x{% if false %}<think>{% endif %}"), Thinking::MayBegin);
    assert_eq!(of("x<think>\n"), Thinking::Begun);
    assert_eq!(of("x<think>\n\n</think>\n\n"), Thinking::None);
}

const QWEN3: &str = r##"{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {{- "# Tools\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\nAnswer in <tool_call></tool_call>.<|im_end|>\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "tool" %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content }}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '\n<tool_call>\n{"name": "' + tool_call.name + '", "arguments": ' }}
                {{- tool_call.arguments if tool_call.arguments is string else tool_call.arguments | tojson }}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"##;

fn wishes(think: Option<bool>) -> Wishes {
    Wishes {
        tools: vec![serde_json::json!({
            "type": "function",
            "function": { "name": "clock", "description": "Tells the time.", "parameters": {} },
        })],
        think,
        ..Wishes::default()
    }
}

fn with_calls() -> Vec<Turn> {
    let mut called = Turn::new(Role::Assistant, "");
    called.tool_calls.push(Called {
        id: "c1".into(),
        function: CalledFunction::Function {
            name: "clock".into(),
            arguments: serde_json::json!({ "zone": "UTC", "a": 1 }),
        },
    });
    let mut told = Turn::new(Role::Tool, "12:00");
    told.tool_call_id = "c1".into();
    told.name = "clock".into();
    vec![Turn::new(Role::User, "What time is it?"), called, told]
}

#[test]
fn tools_stand_where_the_template_has_a_place_for_them() {
    let template = ChatTemplate::new(Some(QWEN3), "", "").unwrap();
    assert_eq!(template.calls(), Some(Style::Hermes));
    let text = template
        .render_with(&with_calls(), &wishes(None))
        .unwrap()
        .text;
    let tool = r#"{"type": "function", "function": {"name": "clock", "description": "Tells the time.", "parameters": {}}}"#;
    assert!(text.contains(tool), "in the order of the training: {text}");
    let call = "<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"zone\": \"UTC\", \"a\": 1}}\n</tool_call>";
    assert!(text.contains(call), "{text}");
    assert!(
        text.contains("<tool_response>\n12:00\n</tool_response>"),
        "{text}"
    );
    for source in [LLAMA3, GEMMA, CHATML] {
        let template = ChatTemplate::new(Some(source), "", "").unwrap();
        assert_eq!(template.calls(), None);
        let text = template.render(&with_calls()).unwrap().text;
        assert!(text.contains("12:00") && text.contains("clock("), "{text}");
    }
}

#[test]
fn arguments_are_written_for_a_template_that_takes_them_as_text() {
    let source = "{% for tool in tools %}{{ tool.function.name }} {% endfor %}\
        {% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
        {% for message in messages %}{{ message.content }}\
        {% for call in message.tool_calls %}\
        {{ '<function=' + call.function.name + '>' + call.function.arguments + '</function>' }}\
        {% endfor %}{% endfor %}";
    let template = ChatTemplate::new(Some(source), "", "").unwrap();
    assert_eq!(template.calls(), Some(Style::Function));
    let call = r#"<function=clock>{"zone": "UTC", "a": 1}</function>"#;
    let mut turns = with_calls();
    for _ in 0..2 {
        let text = template.render_with(&turns, &wishes(None)).unwrap().text;
        assert!(text.contains(call), "{text}");
        // With the system's words moved, too.
        turns.insert(0, Turn::new(Role::System, "Be kind."));
    }
}

#[test]
fn thinking_is_left_out_where_that_is_wished() {
    let template = ChatTemplate::new(Some(QWEN3), "", "").unwrap();
    let rendered = |source: &str, think| {
        ChatTemplate::new(Some(source), "", "")
            .unwrap()
            .render_with(
                &turns(),
                &Wishes {
                    think,
                    ..Wishes::default()
                },
            )
            .unwrap()
    };
    assert!(template.thinks());
    for think in [None, Some(true)] {
        assert_eq!(rendered(QWEN3, think).thinking, Thinking::MayBegin);
    }
    let none = rendered(QWEN3, Some(false));
    assert_eq!(none.thinking, Thinking::None);
    assert!(
        none.text.ends_with("<think>\n\n</think>\n\n"),
        "{}",
        none.text
    );
    // One that always begins to think, and one that only knows of it.
    for source in ["a<think>\n", "a{% if false %}<think>{% endif %}"] {
        let none = rendered(source, Some(false));
        assert_eq!(none.thinking, Thinking::None, "{source}");
        assert_eq!(none.text.matches("<think>").count(), 1);
    }
}

#[test]
fn answers_in_channels_are_read_and_the_effort_is_told() {
    let source = "<|start|>system<|message|>Reasoning: {{ reasoning_effort | default('medium') }}\
        {% if tools %}{{ tools | tojson }}{% endif %}<|end|>\
        {% for message in messages %}<|start|>{{ message.role }}<|message|>{{ message.content }}\
        <|end|>{% endfor %}<|start|>assistant{# <|channel|>final #}";
    let template = ChatTemplate::new(Some(source), "", "").unwrap();
    assert!(template.thinks());
    assert_eq!(template.calls(), Some(Style::Harmony));
    assert_eq!(template.channels(), Some(Style::Harmony));
    for (effort, told) in [("", "Reasoning: medium"), ("high", "Reasoning: high")] {
        let wishes = Wishes {
            effort: effort.to_owned(),
            ..Wishes::default()
        };
        let rendered = template.render_with(&turns(), &wishes).unwrap();
        assert!(rendered.text.contains(told), "{}", rendered.text);
        assert_eq!(rendered.thinking, Thinking::None);
    }
    let plain = ChatTemplate::new(Some(QWEN3), "", "").unwrap();
    assert_eq!(plain.channels(), None);
}

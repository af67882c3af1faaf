//! Cards made here go in and come out.

use serde_json::{Value, json};

use super::{CardVersion, read, unused, write};
use crate::{Format, Imported, Turn, TurnRole, export, import, png};

/// A card of version 3 with everything in it.
fn everything() -> Value {
    json!({
        "spec": "chara_card_v3", "spec_version": "3.0", "create_date": "yesterday",
        "data": {
            "name": "Mara", "nickname": "Mar", "description": "{{char}} keeps a lighthouse.",
            "personality": "calm", "scenario": "A storm.", "first_mes": "Come in, {{user}}!",
            "alternate_greetings": ["Ahoy.", "You are late."],
            "mes_example": "<START>\n{{user}}: Hi\n{{char}}: Ahoy.",
            "creator_notes": "Made for rainy days.", "system_prompt": "{{original}} You are {{char}}.",
            "post_history_instructions": "Stay brief.", "tags": ["sea", "calm"], "creator": "A test",
            "character_version": "1.2",
            "extensions": {
                "depth_prompt": {"depth": 4, "prompt": "x"},
                "aico": {"sampling": {"temperature": 0.7, "num_ctx": 8192}, "models": ["Qwen3-8B"]}
            },
            "character_book": {"entries": [{"keys": ["sea"], "content": "Deep.", "extensions": {},
                "enabled": true, "insertion_order": 0, "use_regex": false}], "extensions": {"a": 1}},
            "assets": [{"type": "icon", "uri": "https://example.org/x.png", "name": "main",
                "ext": "png"}, {"type": "icon", "uri": "file:///etc/passwd", "name": "b", "ext": ""}],
            "creator_notes_multilingual": {"de": "Für Regentage."},
            "source": ["https://example.org"], "group_only_greetings": ["All aboard."],
            "creation_date": 1_700_000_000, "modification_date": 1_700_000_001,
            "future_field": {"deep": [1, 2.5, null, true]}
        }
    })
}

/// Without our own extension, whose place and shape differ.
fn without_ours(mut card: Value) -> Value {
    if let Some(extensions) = card["data"]["extensions"].as_object_mut() {
        extensions.remove("aico");
    }
    card
}

#[test]
fn a_card_of_version_3_comes_out_as_it_went_in() {
    let mara = read(everything()).unwrap();
    assert_eq!(mara.called(), "Mar");
    assert_eq!(mara.greetings.len(), 3);
    assert_eq!(mara.sampling.temperature, Some(0.7));
    assert_eq!(mara.models, ["Qwen3-8B"]);
    assert!(
        mara.examples[1]
            == Turn {
                role: TurnRole::Assistant,
                text: "Ahoy.".into()
            }
    );
    let written = write(&mara, CardVersion::V3);
    assert_eq!(written, everything());
    // As it was written, and not 0.69999…
    let text = written.to_string();
    assert!(text.contains("\"temperature\":0.7,") || text.contains("\"temperature\":0.7}"));
}

#[test]
fn version_2_holds_all_of_version_3_where_its_specification_lets_it() {
    let mara = read(everything()).unwrap();
    let two = write(&mara, CardVersion::V2);
    assert_eq!(two["spec"], "chara_card_v2");
    assert_eq!(two["spec_version"], "2.0");
    for field in [
        "assets",
        "nickname",
        "source",
        "group_only_greetings",
        "creation_date",
    ] {
        assert!(two["data"].get(field).is_none(), "{field}");
    }
    assert_eq!(
        two["data"]["character_book"],
        everything()["data"]["character_book"]
    );
    let back = write(&read(two).unwrap(), CardVersion::V3);
    assert_eq!(without_ours(back), without_ours(everything()));
}

#[test]
fn version_1_is_read_and_what_is_beside_the_data_of_version_2_is_kept_unless_it_repeats_it() {
    let one = json!({"name": "Mara", "description": "d", "personality": "p", "scenario": "s",
        "first_mes": "Hi", "mes_example": "", "avatar": "none"});
    let mara = read(one).unwrap();
    assert_eq!((mara.name.as_str(), mara.greetings.len()), ("Mara", 1));
    assert_eq!(write(&mara, CardVersion::V2)["data"]["avatar"], "none");
    let two = json!({"spec": "chara_card_v2", "spec_version": "2.0", "name": "Mara", "chat": "c",
        "data": {"name": "Mara", "tags": null, "first_mes": null}});
    let written = write(&read(two).unwrap(), CardVersion::V2);
    assert_eq!(written["chat"], "c");
    assert!(written.get("name").is_none());
}

#[test]
fn what_is_not_used_is_said_and_nothing_of_it_is_followed() {
    let notes = unused(&read(everything()).unwrap()).join("\n");
    for words in [
        "lorebook (1 entries)",
        "assets (2)",
        "other programs are kept for export: \"depth_prompt\"",
        "other languages",
        "for groups (1)",
        "\"future_field\"",
    ] {
        assert!(notes.contains(words), "{words}: {notes}");
    }
    assert!(!notes.contains("example.org") && !notes.contains("passwd"));
}

#[test]
fn fields_of_the_wrong_type_are_kept_and_not_used() {
    let odd = json!({"spec": "chara_card_v2", "data": {"name": "Mara", "description": 5,
        "tags": ["a", 1], "nickname": false, "extensions": "none", "alternate_greetings": {}}});
    let mara = read(odd).unwrap();
    assert!(mara.description.is_empty() && mara.tags.is_empty());
    let data = &write(&mara, CardVersion::V3)["data"];
    assert_eq!(data["description"], 5);
    assert_eq!(data["tags"], json!(["a", 1]));
    assert_eq!(data["nickname"], false);
}

#[test]
fn cards_that_are_none_are_refused_by_name() {
    for (card, words) in [
        (json!([]), "no character card"),
        (json!({}), "no character card"),
        (
            json!({"spec": "chara_card_v9", "data": {}}),
            "\"chara_card_v9\"",
        ),
        (json!({"spec": 3, "data": {}}), "no text"),
        (json!({"spec": "chara_card_v2"}), "no \"data\""),
        (
            json!({"spec": "chara_card_v2", "data": {"name": " "}}),
            "needs a name",
        ),
    ] {
        let error = read(card.clone()).err().unwrap();
        assert!(error.what.contains(words), "{card}: {error}");
    }
}

#[test]
fn a_card_in_a_picture_keeps_character_and_portrait() {
    let mara = read(everything()).unwrap();
    let image = png::tests::picture(3, 4, &[]);
    let file = export(&mara, Some(&image), Format::Png, "");
    let Imported {
        character,
        portrait,
        notes,
    } = import(&file.bytes, "x.png").unwrap();
    assert!(character == mara);
    assert_eq!(portrait.as_deref(), Some(image.as_slice()));
    assert!(!notes.is_empty());
    // Each of the two is enough, and the newer one wins.
    let texts = png::read(&file.bytes, &["ccv3", "chara"]).unwrap().texts;
    assert_eq!(texts.len(), 2);
    for (keyword, text) in &texts {
        let text = std::str::from_utf8(text).unwrap();
        let one = png::with_texts(&image, &[(keyword, text)]);
        assert!(import(&one, "x.png").unwrap().character.name == "Mara");
    }
    // One without a portrait gets one.
    let drawn = export(&mara, None, Format::Png, "").bytes;
    assert!(import(&drawn, "x").unwrap().portrait.is_some());
}

#[test]
fn what_was_taken_is_written_as_files_that_are_taken() {
    let mut card = everything();
    // Each number on a line of its own would make more than 2 MiB of these.
    card["data"]["future_field"] = vec![0; 500_000].into();
    let mara = read(card).unwrap();
    for format in [Format::CardV2, Format::CardV3] {
        let file = export(&mara, None, format, "").bytes;
        assert!(import(&file, "x").unwrap().character.name == "Mara");
    }
    // Both cards would be more than a file may have with such a picture.
    let image = png::tests::picture(1, 1, &[(b"tEXt", vec![b'x'; 6 << 20])]);
    let file = export(&mara, Some(&image), Format::Png, "");
    assert!(import(&file.bytes, "x").unwrap().character == mara);
    let texts = png::read(&file.bytes, &["ccv3", "chara"]).unwrap().texts;
    assert_eq!((texts.len(), texts[0].0), (1, "ccv3"));
    assert!(file.notes[0].contains("version 3"), "{:?}", file.notes);
}

#[test]
fn hostile_files_end_in_an_error() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_inside =
        format!("{{\"spec\":\"chara_card_v2\",\"data\":{{\"name\":\"x\",\"y\":{deep}}}}}");
    let image = png::tests::picture(1, 1, &[]);
    let broken = png::with_texts(&image, &[("chara", "!!!!")]);
    let no_json = png::with_texts(&image, &[("ccv3", "AAAA")]);
    for (bytes, words) in [
        (deep.into_bytes(), "no JSON"),
        (deep_inside.into_bytes(), "no JSON"),
        (vec![b'x'; crate::LARGEST_FILE + 1], "too large"),
        (
            format!("{{\"name\": \"{}\"}}", "x".repeat(crate::LARGEST_CARD)).into_bytes(),
            "too large",
        ),
        (b"PK\x03\x04charx".to_vec(), "archive"),
        (b"\xff\xd8\xff\xe0".to_vec(), "no PNG"),
        (b"GGUF\x03\0\0\0".to_vec(), "This is a model"),
        (b"\xff\xfe\0".to_vec(), "neither"),
        (b"Dear diary".to_vec(), "neither"),
        (Vec::new(), "neither"),
        (image, "no character in this picture"),
        (broken, "no base64"),
        (no_json, "no JSON"),
        (b"{\"spec\": ".to_vec(), "line 1"),
    ] {
        let error = import(&bytes, "file").err().unwrap();
        assert!(error.what.contains(words), "{words}: {error}");
    }
}

#[test]
fn turns_that_a_text_can_not_hold_come_back_too() {
    let mut mara = read(everything()).unwrap();
    mara.examples[1].text = "I said:\n{{user}}: no\n<START>".into();
    let mara = mara.checked().unwrap();
    for version in [CardVersion::V2, CardVersion::V3] {
        let back = read(write(&mara, version)).unwrap();
        assert!(back.examples == mara.examples);
    }
}

#[test]
fn checks_of_the_fuzzer_hold_for_whole_files() {
    let mara = read(everything()).unwrap();
    let image = png::tests::picture(3, 4, &[]);
    for format in [
        Format::CardV2,
        Format::CardV3,
        Format::Png,
        Format::Modelfile,
    ] {
        crate::fuzzing::check(&export(&mara, Some(&image), format, "").bytes);
    }
}

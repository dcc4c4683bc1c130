use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value as Json;

use super::*;

// === Documents: `@` stands for a name to replace, `~` for white space ===

fn object(members: Vec<(&'static str, String)>) -> String {
    let members: Vec<_> = members
        .into_iter()
        .map(|(key, value)| format!("{key}~:~{value}"))
        .collect();
    format!("{{~{}~}}", members.join("~,~"))
}

fn model_key() -> impl Strategy<Value = &'static str> {
    select(vec![r#""model""#, r#""model""#, r#""mod\u0065l""#])
}

fn wrapper_key() -> impl Strategy<Value = &'static str> {
    select(vec![r#""response""#, r#""message""#, r#""m\u0065ssage""#])
}

fn other_key() -> impl Strategy<Value = &'static str> {
    select(vec![
        r#""id""#,
        r#""models""#,
        r#""\"model""#,
        r#""choices""#,
        r#""""#,
    ])
}

/// Anything, with models that are none of ours.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = select(vec![
        "1",
        "null",
        "-2.5e3",
        "true",
        r#""""#,
        r#""model""#,
        r#""\"model\":\"keep\"""#,
        r#""{\\\"model\\\": 1}\n""#,
        r#""é]}""#,
        "[]",
        "{}",
    ]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(3, 16, 4, |inner| {
            let key = prop_oneof![model_key(), wrapper_key(), other_key()];
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(|items| format!("[~{}~]", items.join("~,~"))),
                vec((key, inner), 0..4).prop_map(object),
            ]
        })
}

/// A member that names the model, or has something else in its place.
fn model() -> impl Strategy<Value = (&'static str, String)> {
    let other = any_value().prop_filter("a string is a name", |value| !value.starts_with('"'));
    let value = prop_oneof![3 => Just("@".to_owned()), 1 => other];
    (model_key(), value)
}

/// What an event wraps.
fn wrapped() -> impl Strategy<Value = String> {
    let key = prop_oneof![wrapper_key(), other_key()];
    vec(prop_oneof![model(), (key, any_value())], 0..4).prop_map(object)
}

fn document() -> impl Strategy<Value = String> {
    let other = any_value().prop_filter("an object wraps", |value| !value.starts_with('{'));
    let member = prop_oneof![
        3 => model(),
        1 => (wrapper_key(), prop_oneof![2 => wrapped(), 1 => other]),
        2 => (other_key(), any_value()),
    ];
    vec(member, 0..6).prop_map(object)
}

/// The names that engines are given here, as they write them.
fn written() -> impl Strategy<Value = &'static str> {
    select(vec![
        "m",
        "Qwen/Qwen3-32B",
        r#"a\"b"#,
        r"\u00e9\\",
        "",
        "model",
        "é~@",
    ])
}

/// Returns what goes in, and what must come out.
fn filled(template: &str, space: &str, written: &str, name: &str) -> (String, String) {
    let template = template.replace('~', space);
    let name = serde_json::to_string(name).unwrap();
    let input = template.replace('@', &format!("\"{written}\""));
    (input, template.replace('@', &name))
}

/// `text` cut at `cuts`.
fn chunks<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.extend([0, text.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|pair| &text.as_bytes()[pair[0]..pair[1]])
        .collect()
}

/// What a client must read, from what the engine meant.
fn called(mut document: Json, name: &str) -> Json {
    for place in ["/model", "/response/model", "/message/model"] {
        if let Some(Json::String(model)) = document.pointer_mut(place) {
            name.clone_into(model);
        }
    }
    document
}

proptest! {
    #[test]
    fn a_body_changes_at_its_places_only(
        document in document(),
        space in select(vec!["", " ", "\n\t"]),
        written in written(),
        name in ".{0,12}",
    ) {
        let (input, expected) = filled(&document, space, written, &name);
        let out = renamed(BodyFormat::Json, &name, &input);
        prop_assert_eq!(&out, &expected);
        let meant: Json = serde_json::from_str(&input).unwrap();
        let read: Json = serde_json::from_str(&out).unwrap();
        prop_assert_eq!(read, called(meant, &name));
    }

    #[test]
    fn a_stream_changes_at_its_places_only(
        events in vec((document(), select(vec![
            ("data: ", "\n\n"), ("data:", "\r\n\r\n"), ("event: model\ndata: ", "\nid: 1\n\n"),
            (": \"model\":\"keep\"\n\ndata: ", "\n\n"), ("data: [DONE]\n\ndata: ", "\n\n"),
        ])), 1..5),
        space in select(vec!["", "", " ", "\ndata: ", "\r\n: c\r\ndata:"]),
        written in written(),
        name in ".{0,12}",
        cuts in vec(any::<usize>(), 0..12),
        size in 1..50_usize,
    ) {
        let template: String = events
            .into_iter()
            .map(|(document, (before, after))| format!("{before}{document}{after}"))
            .collect();
        let (input, expected) = filled(&template, space, written, &name);
        for chunks in [
            vec![input.as_bytes()],
            input.as_bytes().chunks(1).collect(),
            input.as_bytes().chunks(size).collect(),
            chunks(&input, &cuts),
        ] {
            prop_assert_eq!(rename(BodyFormat::EventStream, &name, chunks), &*expected);
        }
    }

    #[test]
    fn a_stream_may_be_cut_anywhere(
        documents in vec(document(), 1..3),
        space in select(vec!["", "\ndata: "]),
        written in written(),
    ) {
        let template: String = documents.iter().map(|text| format!("data: {text}\n\n")).collect();
        let (input, expected) = filled(&template, space, written, NAME);
        prop_assert_eq!(renamed(BodyFormat::EventStream, NAME, &input), expected);
    }

    #[test]
    fn what_is_alike_changes_as_byte_by_byte(
        (text, cuts) in crate::llm::likeness::tests::streams(),
    ) {
        let bytes = rename(BodyFormat::EventStream, NAME, text.as_bytes().chunks(1));
        prop_assert_eq!(rename(BodyFormat::EventStream, NAME, chunks(&text, &cuts)), &*bytes);
        prop_assert_eq!(rename(BodyFormat::EventStream, NAME, [text.as_bytes()]), bytes);
    }

    #[test]
    fn garbage_passes(json in any::<bool>(), pieces in vec(vec(any::<u8>(), 0..60), 0..12)) {
        let format = if json { BodyFormat::Json } else { BodyFormat::EventStream };
        let mut rename = RenameModel::new(Endpoint::Responses, format, NAME);
        let mut out = Vec::new();
        for piece in &pieces {
            rename.push(Bytes::copy_from_slice(piece), &mut out);
        }
        rename.finish(&mut out);
        prop_assert_eq!(out.concat(), pieces.concat());
    }

    #[test]
    fn cuts_do_not_matter_to_what_is_broken(
        json in any::<bool>(),
        tokens in vec(select(vec![
            "{", "}", "[", "]", "\"", "\\", ":", ",", "null", "7", "\"model\"", "\"model\":\"x\"",
            "{\"model\":\"", "\"\\model\":\"x\"", "model\"", "\"message\":{", "data: ", "data: {",
            "\n", "\n\n", "\r\n", "\r\n\r\n", "event: e\n", ": c\n", "\u{FEFF}", "\u{C}", " ",
        ]), 0..50),
        size in 1..40_usize,
        cuts in vec(any::<usize>(), 0..6),
    ) {
        let format = if json { BodyFormat::Json } else { BodyFormat::EventStream };
        let text = tokens.concat();
        let whole = rename(format, NAME, [text.as_bytes()]);
        for chunks in [
            text.as_bytes().chunks(1).collect(),
            text.as_bytes().chunks(size).collect(),
            chunks(&text, &cuts),
        ] {
            prop_assert_eq!(rename(format, NAME, chunks), &*whole);
        }
    }
}

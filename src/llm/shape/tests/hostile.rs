//! Requests nobody should send, and settings nobody should make.

use proptest::prelude::*;

use super::*;

/// Sets something of every kind.
fn everything() -> Vec<Parameter> {
    vec![
        fill("n", "1"),
        replace("seed", "2"),
        fill("stream_options.include_usage", "true"),
        replace("stream_options.a.b", "{}"),
        replace("response_format.strict", "false"),
        fill("thinking.budget_tokens", "3"),
    ]
}

fn shape(parameters: &[Parameter]) -> Shape<'_> {
    Shape {
        model: Some("b"),
        parameters,
        reasoning: true,
    }
}

#[test]
fn what_is_no_object_stays_as_it_is() {
    let parameters = everything();
    for body in [
        "",
        " ",
        "null",
        "1",
        "\"{}\"",
        "[]",
        r#"[{"model":"a"}]"#,
        "{",
        "}",
        "{]",
        r#"{"model":"a"]"#,
        r#"{"model":"a",}"#,
        r#"{"model":}"#,
        r#"{"model" "a"}"#,
        r#"{model:"a"}"#,
        "x{}",
        "\u{FEFF}",
    ] {
        let shaped = shaped(ChatCompletions, body.as_bytes(), &shape(&parameters));
        assert_eq!(shaped, None, "{body}");
    }
}

#[test]
fn a_request_that_breaks_off_stays_as_it_is() {
    let parameters = everything();
    let body = br#"{"model":"a","stream_options":{"a":[{}],"include_usage":0},"thinking":{"type":"x"},"x":-1}"#;
    assert!(shaped(ChatCompletions, body, &shape(&parameters)).is_some());
    for end in 0..body.len() {
        let shaped = shaped(ChatCompletions, &body[..end], &shape(&parameters));
        assert_eq!(shaped, None, "cut at {end}");
    }
}

#[test]
fn what_stands_around_the_object_stays() {
    let expected = "\u{FEFF}\n {\"model\":\"b\",\"x\":1} \n,garbage {\"model\":\"a\"}\0";
    let body = "\u{FEFF}\n {\"model\":\"a\",\"x\":1} \n,garbage {\"model\":\"a\"}\0";
    assert_eq!(named(Completions, body, "b").as_deref(), Some(expected));
    let invalid = b"{\"\xFF\":\"\xC3\",\"model\":\"\xED\xA0\x80\",\"x\":\"\\ud800\"}";
    let expected = b"{\"\xFF\":\"\xC3\",\"model\":\"b\",\"x\":\"\\ud800\"}";
    let shaped = shaped(
        Completions,
        invalid,
        &Shape {
            reasoning: false,
            ..shape(&[])
        },
    );
    assert_eq!(shaped.as_deref(), Some(&expected[..]));
}

#[test]
fn an_object_is_empty_when_it_has_no_key_at_all() {
    // The scanner does not report keys that are too long to keep.
    let key = "k".repeat(1000);
    let body = format!(r#"{{"a":{{"{key}":1}},"{key}":2}}"#);
    let expected = format!(r#"{{"b":1,"a":{{"c":1,"{key}":1}},"{key}":2}}"#);
    assert_eq!(
        with(&body, &[fill("b", "1"), fill("a.c", "1")]),
        Some(expected)
    );
    let body = format!(r#"{{"{key}":2}}"#);
    let expected = format!(r#"{{"b":1,"{key}":2}}"#);
    assert_eq!(with(&body, &[fill("b", "1")]), Some(expected));
}

#[test]
fn nesting_without_end_is_stepped_over() {
    let deep = format!("{}1{}", "{\"a\":[".repeat(5000), "]}".repeat(5000));
    let body = format!(r#"{{"a":{deep},"model":"a","b":{deep}}}"#);
    let expected = format!(r#"{{"a":{deep},"model":"b","b":{deep}}}"#);
    assert_eq!(named(Completions, &body, "b"), Some(expected));
    let expected = format!(r#"{{"a":1,"model":"a","b":{deep}}}"#);
    assert_eq!(with(&body, &[replace("a", "1")]), Some(expected));
    let way = format!(r#"{{"a":{{"x":[1],{}"#, &deep[1..]);
    let set = with(&format!(r#"{{"a":{deep}}}"#), &[replace("a.x", "[1]")]);
    assert_eq!(set, Some(way + "}"));
}

#[test]
fn the_longest_path_is_followed_and_a_longer_one_is_not() {
    let path = |names: usize| vec!["p"; names].join(".");
    let nested = |names: usize, value: &str| {
        let open = "{\"p\":".repeat(names);
        format!("{open}{value}{}", "}".repeat(names))
    };
    let longest = Parameter::MAX_PATH;
    let set = |body: &str, names| with(body, &[replace(&path(names), "1")]);
    assert_eq!(set("{}", longest), Some(nested(longest, "1")));
    let body = nested(longest, "0");
    assert_eq!(set(&body, longest), Some(nested(longest, "1")));
    assert_eq!(set(&nested(longest, "1"), longest), None);
    assert_eq!(set("{}", longest + 1), None);
    assert_eq!(set(&nested(longest + 1, "0"), longest + 1), None);
}

#[test]
fn the_longest_name_is_found_and_a_longer_one_is_not_set() {
    for (length, is_set) in [
        (Parameter::MAX_NAME, true),
        (Parameter::MAX_NAME + 1, false),
    ] {
        let name = "x".repeat(length);
        let body = |value: u8| format!(r#"{{"{name}":{value}}}"#);
        let set = with(&body(0), &[replace(&name, "1")]);
        assert_eq!(set, is_set.then(|| body(1)), "{length} bytes");
        assert_eq!(with(&body(0), &[fill(&name, "1")]), None, "{length} bytes");
        let added = with("{}", &[fill(&name, "1")]);
        assert_eq!(added, is_set.then(|| body(1)), "{length} bytes");
        let below = with("{}", &[fill(&format!("a.{name}"), "1")]);
        assert_eq!(below.is_some(), is_set, "{length} bytes");
    }
}

#[test]
fn parameters_that_configuration_refuses_are_not_set() {
    let nowhere = Parameter {
        path: Vec::new(),
        ..replace("", "1")
    };
    let refused = [nowhere, replace("model", "1"), replace("model.x", "1")];
    for body in ["{}", r#"{"model":"a"}"#, r#"{"model":{}}"#] {
        assert_eq!(with(body, &refused), None);
        let shape = Shape {
            reasoning: false,
            ..shape(&refused)
        };
        let shaped = text(shaped(Completions, body.as_bytes(), &shape));
        assert_eq!(shaped.as_deref(), Some(r#"{"model":"b"}"#));
    }
    let twice = [fill("a", "1"), replace("a", "2")];
    assert!(with("{}", &twice).is_some());
    let no_json = [replace("a", "}"), replace("a.b", "1")];
    assert_eq!(with("{}", &no_json), None);
    let unnamed = with(r#"{"a":{}}"#, &[fill("", "1"), fill("a.", "2")]);
    assert_eq!(unnamed.as_deref(), Some(r#"{"":1,"a":{"":2}}"#));
}

#[test]
fn of_too_many_duplicates_the_first_and_the_last_are_changed() {
    // Parsers take one or the other.
    let members = |values: &[&str]| {
        let members: Vec<_> = values.iter().map(|v| format!(r#""a":{v}"#)).collect();
        format!("{{{}}}", members.join(","))
    };
    let mut values = vec!["0"; 64];
    let all = with(&members(&values), &[replace("a", "1")]);
    assert_eq!(all, Some(members(&["1"; 64])));
    values.extend(["0"; 1000]);
    let mut expected = values.clone();
    expected[..63].fill("1");
    expected[1063] = "1";
    let once = with(&members(&values), &[replace("a", "1")]).unwrap();
    assert_eq!(once, members(&expected));
    assert_eq!(with(&once, &[replace("a", "1")]), None);
    // The same for the objects that lead there, with all they have.
    values.fill(r#"{"c":0}"#);
    let mut expected = values.clone();
    expected[..63].fill(r#"{"b":1,"c":2}"#);
    expected[1063] = r#"{"b":1,"c":2}"#;
    let parameters = [fill("a.b", "1"), replace("a.c", "2")];
    let once = with(&members(&values), &parameters).unwrap();
    let (first, last) = (&once[..1000], &once[once.len() - 15..]);
    assert!(members(&expected).starts_with(first), "{first}");
    assert!(members(&expected).ends_with(last), "{last}");
    assert!(once.matches(r#""b":1"#).count() == 64, "{once}");
    assert_eq!(with(&once, &parameters), None);
}

#[test]
fn a_prompt_of_megabytes_passes_as_it_is() {
    let plain = "lorem \\\"ipsum\\\" {model} ".repeat(200_000);
    let body = |model: &str| {
        format!(r#"{{"messages":[{{"content":"{plain}"}}],"model":"{model}","prompt":"{plain}"}}"#)
    };
    assert!(named(Completions, &body("a"), "b") == Some(body("b")));
    let long = format!(r#"{{"model":"{plain}"}}"#);
    assert_eq!(
        named(Completions, &long, "b").as_deref(),
        Some(r#"{"model":"b"}"#)
    );
}

/// Bytes of which JSON is made.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[{}\\[\\]:,\" \\\\]",
        prop_oneof![
            "\"model\":",
            "\"n\":",
            "\"stream_options\":",
            "\"a\":",
            "\"type\":",
            "\"thinking\":"
        ],
        prop_oneof![
            "\"x\"",
            "1",
            "null",
            "\\{\\}",
            "\\{\"b\":1\\}",
            "\"enabled\""
        ],
    ];
    let pieces = proptest::collection::vec(piece, 0..24);
    prop_oneof![
        pieces.prop_map(|pieces| pieces.concat().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..100),
    ]
}

proptest! {
    #[test]
    fn garbage_is_survived(garbage in soup()) {
        let parameters = everything();
        let mut inside = br#"{"stream_options":"#.to_vec();
        inside.extend_from_slice(&garbage);
        inside.push(b'}');
        for body in [garbage, inside] {
            let shape = shape(&parameters);
            let Some(once) = shaped(ChatCompletions, &body, &shape) else {
                continue;
            };
            prop_assert_eq!(shaped(ChatCompletions, &once, &shape), None);
            let valid = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).is_ok();
            prop_assert!(valid(&once) || !valid(&body), "{}", String::from_utf8_lossy(&once));
        }
    }
}

mod hostile;
mod oracle;

use super::*;
use Endpoint::{ChatCompletions, Completions, Embeddings, Generate, GenerateStream, TgiRoot};

/// A parameter by its dotted path.
fn parameter(path: &str, value: &str, replaces: bool) -> Parameter {
    Parameter {
        path: path.split('.').map(str::to_owned).collect(),
        value: value.to_owned(),
        replaces,
    }
}

/// Sets unless the request does.
fn fill(path: &str, value: &str) -> Parameter {
    parameter(path, value, false)
}

/// Sets whatever the request says.
fn replace(path: &str, value: &str) -> Parameter {
    parameter(path, value, true)
}

fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

fn named(endpoint: Endpoint, body: &str, name: &str) -> Option<String> {
    let shape = Shape {
        model: Some(name),
        parameters: &[],
        reasoning: false,
    };
    text(shaped(endpoint, body.as_bytes(), &shape))
}

fn with(body: &str, parameters: &[Parameter]) -> Option<String> {
    let shape = Shape {
        model: None,
        parameters,
        reasoning: false,
    };
    text(shaped(Embeddings, body.as_bytes(), &shape))
}

fn reasoning(body: &str, parameters: &[Parameter]) -> Option<String> {
    let shape = Shape {
        model: None,
        parameters,
        reasoning: true,
    };
    text(shaped(ChatCompletions, body.as_bytes(), &shape))
}

#[test]
fn the_model_is_called_as_the_backend_calls_it() {
    for (body, expected) in [
        (r#"{"model":"a"}"#, r#"{"model":"up/b"}"#),
        (
            "{ \"n\" : 1.00,\r\n\t\"model\" :  \"\\u0061\" , \"x\":null }",
            "{ \"n\" : 1.00,\r\n\t\"model\" :  \"up/b\" , \"x\":null }",
        ),
        (r#"{"model":null}"#, r#"{"model":"up/b"}"#),
        (r#"{"model":-1.5e9,"n":1}"#, r#"{"model":"up/b","n":1}"#),
        (
            r#"{"model":["a",{"b":1}] ,"n":1}"#,
            r#"{"model":"up/b" ,"n":1}"#,
        ),
        (r#"{"model":{"a":{}} }"#, r#"{"model":"up/b" }"#),
        (
            r#"{"mod\u0065l":"a","x":{"model":"a"},"model":"b","model":7}"#,
            r#"{"mod\u0065l":"up/b","x":{"model":"a"},"model":"up/b","model":"up/b"}"#,
        ),
        // Another spelling of the same name is spelled as configured.
        (r#"{"model":"up\/b"}"#, r#"{"model":"up/b"}"#),
        (r#"{}"#, r#"{"model":"up/b"}"#),
        ("{ \n}", "{\"model\":\"up/b\" \n}"),
        (r#"{ "n":1}"#, r#"{"model":"up/b", "n":1}"#),
        (r#"{"Model":"a"}"#, r#"{"model":"up/b","Model":"a"}"#),
    ] {
        assert_eq!(
            named(ChatCompletions, body, "up/b").as_deref(),
            Some(expected)
        );
    }
    assert_eq!(
        named(Completions, r#"{"model" : "up/b","n":1}"#, "up/b"),
        None
    );
    assert_eq!(
        named(Completions, r#"{"model":"a"}"#, "a\"\\\n\u{1}é").as_deref(),
        Some(r#"{"model":"a\"\\\n\u0001é"}"#)
    );
}

#[test]
fn requests_that_have_no_model_are_given_none() {
    for endpoint in Endpoint::ALL {
        let added = named(endpoint, r#"{"inputs":"x"}"#, "b");
        let none = matches!(endpoint, Generate | GenerateStream | TgiRoot);
        let expected = (!none).then_some(r#"{"model":"b","inputs":"x"}"#);
        assert_eq!(added.as_deref(), expected, "{endpoint:?}");
        let changed = named(endpoint, r#"{"model":null}"#, "b");
        assert_eq!(changed.as_deref(), Some(r#"{"model":"b"}"#), "{endpoint:?}");
    }
}

#[test]
fn parameters_are_set_where_there_are_none() {
    for (body, expected) in [
        ("{}", r#"{"top_k":40,"temperature":0.70}"#),
        (r#"{ "n":1 }"#, r#"{"top_k":40,"temperature":0.70, "n":1 }"#),
        (r#"{"top_k":1}"#, r#"{"temperature":0.70,"top_k":1}"#),
        (
            r#"{"top\u005fk":null,"x":[ ]}"#,
            r#"{"temperature":0.70,"top\u005fk":null,"x":[ ]}"#,
        ),
        (r#"{"top_k":1,"temperature":null,"x":[]}"#, ""),
    ] {
        let set = with(body, &[fill("top_k", "40"), fill("temperature", "0.70")]);
        assert_eq!(set.as_deref().unwrap_or_default(), expected, "{body}");
    }
}

#[test]
fn parameters_that_are_not_the_clients_take_the_place_of_its_own() {
    let value = r#"{"a": [1,2]}"#;
    for (body, expected) in [
        ("{}", r#"{"x":{"a": [1,2]}}"#),
        (r#"{"x" : 1 }"#, r#"{"x" : {"a": [1,2]} }"#),
        (r#"{"x":{"a":[1,2]}}"#, r#"{"x":{"a": [1,2]}}"#),
        (
            r#"{"x":"}","y":{"x":1},"\u0078":[{}],"x":{}}"#,
            r#"{"x":{"a": [1,2]},"y":{"x":1},"\u0078":{"a": [1,2]},"x":{"a": [1,2]}}"#,
        ),
        (r#"{"x":{"a": [1,2]},"y":1}"#, ""),
    ] {
        let set = with(body, &[replace("x", value)]);
        assert_eq!(set.as_deref().unwrap_or_default(), expected, "{body}");
    }
}

#[test]
fn dots_lead_into_objects() {
    let usage = |replaces| {
        [
            parameter("stream_options.include_usage", "true", replaces),
            parameter("top_p", "1", replaces),
            parameter("stream_options.continuous_usage_stats", "false", replaces),
        ]
    };
    let both = r#"{"include_usage":true,"continuous_usage_stats":false}"#;
    let beside = |options: &str| format!(r#"{{"top_p":1,"stream_options":{options}}}"#);
    for (options, filled, replaced) in [
        ("{}", both, both),
        (
            "{ }",
            r#"{"include_usage":true,"continuous_usage_stats":false }"#,
            r#"{"include_usage":true,"continuous_usage_stats":false }"#,
        ),
        (
            r#"{"include_usage" : null}"#,
            r#"{"continuous_usage_stats":false,"include_usage" : null}"#,
            r#"{"continuous_usage_stats":false,"include_usage" : true}"#,
        ),
        (
            r#"{ "x.y":{},"continuous_usage_stats":1,"include_usage":true}"#,
            r#"{ "x.y":{},"continuous_usage_stats":1,"include_usage":true}"#,
            r#"{ "x.y":{},"continuous_usage_stats":false,"include_usage":true}"#,
        ),
        ("null", "null", both),
        (" -0", " -0", &format!(" {both}")),
        (r#"[{"include_usage":1}]"#, r#"[{"include_usage":1}]"#, both),
        (r#""}""#, r#""}""#, both),
    ] {
        let body = format!(r#"{{"stream_options":{options}}}"#);
        let set = with(&body, &usage(false));
        assert_eq!(set, Some(beside(filled)), "{options}");
        let set = with(&body, &usage(true));
        assert_eq!(set, Some(beside(replaced)), "{options}");
    }
    let set = with("{}", &usage(false));
    let expected = format!(r#"{{"stream_options":{both},"top_p":1}}"#);
    assert_eq!(set, Some(expected), "one new object for two parameters");
}

#[test]
fn a_dot_in_a_key_of_the_request_is_a_dot() {
    let body = r#"{"a.b":1,"a":{"b.c":2}}"#;
    let expected = r#"{"a.b":1,"a":{"b":{"c":3},"b.c":2}}"#;
    assert_eq!(with(body, &[fill("a.b.c", "3")]).as_deref(), Some(expected));
    let mut dotted = replace("a", "3");
    dotted.path = vec!["a.b".into()];
    let expected = r#"{"a.b":3,"a":{"b.c":2}}"#;
    assert_eq!(with(body, &[dotted]).as_deref(), Some(expected));
}

#[test]
fn what_gives_way_to_one_parameter_gives_way_to_all() {
    let mixed = [fill("a.b.c", "1"), replace("a.d", "2"), fill("a.e", "3")];
    for (body, expected) in [
        (r#"{"a":null}"#, r#"{"a":{"b":{"c":1},"d":2,"e":3}}"#),
        (
            r#"{"a":{"b":null,"e":null}}"#,
            r#"{"a":{"d":2,"b":null,"e":null}}"#,
        ),
        (
            r#"{"a":7,"a":{"d":0},"a":{}}"#,
            r#"{"a":{"b":{"c":1},"d":2,"e":3},"a":{"b":{"c":1},"e":3,"d":2},"a":{"b":{"c":1},"d":2,"e":3}}"#,
        ),
    ] {
        assert_eq!(with(body, &mixed).as_deref(), Some(expected), "{body}");
    }
}

#[test]
fn parameters_are_set_in_their_order_where_one_lies_in_another() {
    let whole_first = [
        replace("a", r#"{"x":1}"#),
        replace("b", "0"),
        fill("a.y", "2"),
    ];
    for (body, expected) in [
        ("{}", r#"{"a":{"y":2,"x":1},"b":0}"#),
        (r#"{"a":{"y":5},"b":0}"#, r#"{"a":{"y":2,"x":1},"b":0}"#),
        (r#"{"a":{"y":2,"x":1},"b":0}"#, ""),
    ] {
        let set = with(body, &whole_first);
        assert_eq!(set.as_deref().unwrap_or_default(), expected, "{body}");
    }
    let whole_last = [fill("a.y", "2"), replace("a", "3")];
    assert_eq!(with("{}", &whole_last).as_deref(), Some(r#"{"a":3}"#));
    assert_eq!(with(r#"{"a":3}"#, &whole_last), None);
    // What is in the way of a pass must not be there for it alone.
    let apart = [
        fill("a.b", "1"),
        fill("a.c", "2"),
        fill("a.c.d", "3"),
        replace("a.e", "4"),
    ];
    let once = with(r#"{"a":0}"#, &apart).unwrap();
    assert_eq!(once, r#"{"a":{"e":4,"b":1,"c":2}}"#);
    assert_eq!(with(&once, &apart), None);
}

#[test]
fn reasoning_is_asked_for_unless_the_request_decides() {
    let enabled = r#"{"type":"enabled"}"#;
    for (thinking, expected) in [
        (r#"{"type":"enabled"}"#, ""),
        (r#"{ "budget_tokens":1,"type" : "disabled" }"#, ""),
        (r#"{"ty\u0070e":"enable\u0064"}"#, ""),
        (r#"{"type":"disabled","type":"enabled"}"#, ""),
        (r#"{"type":"Enabled"}"#, enabled),
        (r#"{"type":"disabled","type":1}"#, enabled),
        (r#"{"type":null,"type":"disabled"}"#, enabled),
        (r#"{"type":{"type":"enabled"}}"#, enabled),
        (r#"{"type":["enabled"]}"#, enabled),
        (r#"{"budget_tokens":1}"#, enabled),
        ("{}", enabled),
        ("null", enabled),
        ("true", enabled),
        (r#""enabled""#, enabled),
        (r#"["type","enabled"]"#, enabled),
    ] {
        for format in ["text", "json_object"] {
            let body = |thinking: &str| {
                format!(r#"{{"thinking": {thinking} ,"response_format":{{"type":"{format}"}}}}"#)
            };
            let set = reasoning(&body(thinking), &[]);
            let expected = (!expected.is_empty()).then(|| body(expected));
            assert_eq!(set, expected, "{thinking}");
        }
    }
    let body = r#"{"thinking":0,"thinking":{"type":"disabled"},"x":{"thinking":0}}"#;
    let expected =
        r#"{"thinking":{"type":"enabled"},"thinking":{"type":"disabled"},"x":{"thinking":0}}"#;
    assert_eq!(reasoning(body, &[]).as_deref(), Some(expected));
}

#[test]
fn reasoning_is_added_unless_json_is_asked_for() {
    for (members, adds) in [
        ("", true),
        (r#""response_format":{"type":"text"}"#, true),
        (r#""response_format":{"type":["json_object"]}"#, true),
        (r#""response_format":{"x":{"type":"json_object"}}"#, true),
        (r#""response_format":"json_object""#, true),
        (r#""type":"json_object""#, true),
        (r#""response_format":{"type":"json_object"}"#, false),
        (
            r#""response_format":{"json_schema":{"type":"x"},"type":"json\u005fschema"}"#,
            false,
        ),
        (
            r#""response_format":{"type":"json_object"},"response_format":null"#,
            false,
        ),
    ] {
        let comma = if members.is_empty() { "" } else { "," };
        let expected = format!(r#"{{"thinking":{{"type":"enabled"}}{comma}{members}}}"#);
        let set = reasoning(&format!("{{{members}}}"), &[]);
        assert_eq!(set, adds.then_some(expected), "{members}");
    }
    for endpoint in Endpoint::ALL {
        let shape = Shape {
            model: None,
            parameters: &[],
            reasoning: true,
        };
        let adds = shaped(endpoint, b"{}", &shape).is_some();
        assert_eq!(adds, endpoint == ChatCompletions, "{endpoint:?}");
    }
}

#[test]
fn a_configured_thinking_wins_over_reasoning() {
    let disabled = r#"{"type":"disabled"}"#;
    for (body, own, expected) in [
        (
            "{}",
            fill("thinking", disabled),
            r#"{"thinking":{"type":"disabled"}}"#,
        ),
        (r#"{"thinking":null}"#, fill("thinking", disabled), ""),
        (
            r#"{"thinking":{"type":"enabled"}}"#,
            replace("thinking", disabled),
            r#"{"thinking":{"type":"disabled"}}"#,
        ),
        // A part of it is no other opinion.
        (
            "{}",
            fill("thinking.budget_tokens", "9"),
            r#"{"thinking":{"budget_tokens":9,"type":"enabled"}}"#,
        ),
        (
            r#"{"thinking":{"type":"disabled"}}"#,
            fill("thinking.budget_tokens", "9"),
            r#"{"thinking":{"budget_tokens":9,"type":"disabled"}}"#,
        ),
        // The request decides what format it wants.
        (
            "{}",
            fill("response_format.type", r#""json_object""#),
            r#"{"thinking":{"type":"enabled"},"response_format":{"type":"json_object"}}"#,
        ),
        (
            r#"{"response_format":{"type":"json_object"}}"#,
            replace("response_format.type", r#""text""#),
            r#"{"response_format":{"type":"text"}}"#,
        ),
        (
            r#"{"response_format":{"type":"json_object"}}"#,
            replace("response_format", r#"null"#),
            r#"{"response_format":null}"#,
        ),
    ] {
        let set = reasoning(body, &[own]);
        assert_eq!(set.as_deref().unwrap_or_default(), expected, "{body}");
    }
}

#[test]
fn everything_at_once_stands_in_one_order() {
    let shape = Shape {
        model: Some("b"),
        parameters: &[fill("n", "1"), replace("seed", "2")],
        reasoning: true,
    };
    let body = br#"{ "messages":[{"content":"h\u00e9 \"n\":1"}],"seed":1}"#;
    let expected = r#"{"model":"b","thinking":{"type":"enabled"},"n":1, "messages":[{"content":"h\u00e9 \"n\":1"}],"seed":2}"#;
    let once = shaped(ChatCompletions, body, &shape);
    assert_eq!(text(once.clone()).as_deref(), Some(expected));
    assert_eq!(shaped(ChatCompletions, &once.unwrap(), &shape), None);
    let nothing = Shape {
        model: None,
        parameters: &[],
        reasoning: false,
    };
    assert_eq!(shaped(ChatCompletions, body, &nothing), None);
}

//! What a decision script is given, and what it may return.

use serde_json::json;

use super::*;

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[test]
fn a_boolean_is_a_decision() {
    assert!(decide("return true").unwrap().allow);
    assert!(!decide("return false").unwrap().allow);
}

#[test]
fn a_table_says_more() {
    let text = "return {
        allow = false, message = 'come back on Monday', status = 429,
        metadata = { tier = 'gold', count = 3, vip = true }, user_id = 42,
    }";
    let decision = decide(text).unwrap();
    assert!(!decision.allow);
    assert_eq!(decision.message.as_deref(), Some("come back on Monday"));
    assert_eq!(decision.status, Some(429));
    assert_eq!(decision.user_id.as_deref(), Some("42"));
    let metadata: Vec<_> = decision
        .metadata
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(metadata, ["count=3", "tier=gold", "vip=true"]);
}

#[test]
fn the_words_of_older_scripts_are_understood() {
    let decision = decide("return { allow = false, reason = 'no', status_code = 451.0 }").unwrap();
    assert_eq!(
        (decision.message.as_deref(), decision.status),
        (Some("no"), Some(451))
    );
    assert!(decide("return { metadata = { a = 'b' } }").unwrap().allow);
}

/// Runs scripts that return what is no decision.
fn complains(cases: &[(&str, &str)]) {
    for (text, complaint) in cases {
        let error = failure(text);
        assert!(
            error.message.contains(complaint),
            "{text}: {}",
            error.message
        );
        assert_eq!(error.failure, Failure::Error, "{text}");
    }
}

#[test]
fn whatever_is_no_decision_is_an_error_and_never_a_yes() {
    complains(&[
        ("", "returns nothing"),
        ("return nil", "returns nothing"),
        ("return 1", "returns a number"),
        ("return 'yes'", "returns a text"),
        ("return print", "returns nothing"),
        ("return type", "returns a function"),
        ("return true, 'x'", "returns 2 values"),
        ("return { alow = false }", "unknown field alow"),
        ("return { false }", "unknown field [1]"),
        (
            "return { allow = 'no' }",
            "returns a text as allow; right is true or false",
        ),
        ("return { allow = 0 }", "returns a number as allow"),
        (
            "return setmetatable({}, { __index = { allow = false } })",
            "with a metatable",
        ),
    ]);
}

#[test]
fn a_field_of_the_wrong_kind_or_size_is_an_error() {
    complains(&[
        ("return { message = {} }", "returns a table as message"),
        (
            "return { message = ('x'):rep(1001) }",
            "more than 1000 bytes as message",
        ),
        ("return { message = '\\xff' }", "not UTF-8"),
        (
            "return { status = 200 }",
            "right is a number from 400 to 599",
        ),
        (
            "return { status = 403.5 }",
            "right is a number from 400 to 599",
        ),
        (
            "return { status_code = 'forbidden' }",
            "returns a text as status_code",
        ),
        ("return { metadata = 'x' }", "returns a text as metadata"),
        (
            "return { metadata = { a = {} } }",
            "returns a table as metadata.a",
        ),
        (
            "return { metadata = { 'a' } }",
            "metadata has a number as a key",
        ),
        (
            "return { metadata = { [('k'):rep(65)] = 1 } }",
            "more than 64 bytes",
        ),
        (
            "local m = {} for i = 1, 65 do m['k' .. i] = i end return { metadata = m }",
            "more than 64 entries",
        ),
    ]);
}

#[test]
fn a_script_sees_the_key_its_data_and_the_request() {
    let data = fields(json!({
        "status": "active", "quota": 9007199254740993_i64, "ratio": 0.5, "none": null,
        "allowed_models": ["a", "b"], "owner": { "team": "search" },
    }));
    let text = r#"
        assert(api_key == "sk-the-clients-own-key")
        assert(data == key and data.status == "active" and data.ratio == 0.5)
        assert(data.quota == 9007199254740993 and math.type(data.quota) == "integer")
        assert(data.none == nil and #data.allowed_models == 2 and data.owner.team == "search")
        assert(metadata.tier == "gold")
        assert(request.id == "req_1" and request.method == "POST")
        assert(request.path == "/v1/chat/completions")
        assert(request.ip == "192.0.2.7" and request.client_ip == request.ip)
        assert(request.headers["x-team"] == "search")
        return true
    "#;
    assert!(judge_with(&load(text), &data).unwrap().allow);
}

#[test]
fn headers_are_found_however_they_are_written() {
    assert_eq!(value("request.headers['X-Team']"), "search");
    assert_eq!(value("request.headers['X-Other']"), "nil");
    assert_eq!(value("request.headers[1]"), "nil");
    assert_eq!(value("request.headers['x-tag']"), "a, b");
}

#[test]
fn data_that_nests_too_deep_is_an_error() {
    let mut value = json!(1);
    for _ in 0..100 {
        value = json!([value]);
    }
    let error = judge_with(&load("return true"), &fields(json!({ "a": value }))).unwrap_err();
    assert_eq!(error.message, "nested deeper than 64 levels");
}

#[test]
fn an_error_names_the_line_and_not_the_key() {
    let error = failure("local x = 1\n\nerror('no use for ' .. api_key)");
    assert_eq!(error.line, Some(3));
    assert_eq!(error.message, "no use for ***");
    assert_eq!(error.to_string(), "script test (line 3): no use for ***");
    let error = failure("\nlocal n = data.limits.rate");
    assert_eq!(
        (error.line, &*error.message),
        (Some(2), "attempt to index a nil value (field 'limits')")
    );
    let error = failure("\nfoo()");
    assert_eq!(
        (error.line, &*error.message),
        (Some(2), "attempt to call a nil value (global 'foo')")
    );
}

#[test]
fn the_error_of_a_function_of_ours_names_the_line_that_calls_it() {
    for (text, message) in [
        (
            "\njson.decode('{')",
            "no JSON: EOF while parsing an object at line 1 column 1",
        ),
        ("\nstring.find('a', '[')", "malformed pattern (missing ']')"),
        (
            "\ntable.insert(nil, 1)",
            "bad argument #1 to 'insert' (a table is needed, got nil)",
        ),
        (
            "\ntable.concat({}, {})",
            "bad argument #2 to 'concat' (a text is needed, got table)",
        ),
        (
            "\ntable.move({}, 1, 1, 1, 1)",
            "bad argument #5 to 'move' (a table is needed, got number)",
        ),
        (
            "\ntable.unpack({}, 'x')",
            "bad argument #2 to 'unpack' (a whole number is needed, got string)",
        ),
        (
            "\nlocal x = ('a'):gmatch(nil)",
            "bad argument #2 to 'gmatch' (a text is needed, got nil)",
        ),
        (
            "\nhash.sha256({})",
            "bad argument #1: table given where a text is needed",
        ),
        (
            "\nstring.rep('a')",
            "bad argument #2: nil given where a whole number is needed",
        ),
    ] {
        let error = failure(text);
        assert_eq!((error.line, &*error.message), (Some(2), message), "{text}");
    }
}

#[test]
fn what_is_raised_need_not_be_a_text() {
    assert_eq!(
        failure("error({ code = 1 })").message,
        "a table was raised as an error"
    );
    assert_eq!(failure("error()").message, "nil");
    let named = "error(setmetatable({}, { __tostring = function() return 'mine' end }))";
    assert_eq!(failure(named).message, "mine");
    let error = failure("error(('long '):rep(1000) .. '\\n')");
    assert_eq!(error.message.chars().count(), 300);
}

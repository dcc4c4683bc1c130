//! What replies mean.

use super::*;

#[derive(Debug, PartialEq)]
enum Verdict {
    Active,
    Status(KeyStatus),
    Unknown,
    Denied(Option<&'static str>),
    /// The record makes no sense; the text begins like this.
    Invalid(&'static str),
    /// The webhook makes no sense.
    Away,
}
use Verdict::{Active, Away, Denied, Invalid, Status, Unknown};

fn judged(status: u16, body: &str) -> Result<Option<Key>, SourceError> {
    reply::judge(
        StatusCode::from_u16(status).unwrap(),
        body.as_bytes(),
        &KeyHash::of(KEY),
    )
}

#[track_caller]
fn means(status: u16, body: &str, expected: &Verdict) {
    let found = judged(status, body);
    let as_expected = match (&found, expected) {
        (Ok(Some(key)), Active) => key.spec.status == KeyStatus::Active,
        (Ok(Some(key)), Status(status)) => key.spec.status == *status,
        (Ok(None), Unknown) => true,
        (Err(SourceError::Denied(message)), Denied(expected)) => message.as_deref() == *expected,
        (Err(SourceError::Invalid(what)), Invalid(expected)) => what.starts_with(expected),
        (Err(SourceError::Unavailable(_)), Away) => true,
        _ => false,
    };
    assert!(as_expected, "{status} {body}: {found:?}, not {expected:?}");
}

#[test]
fn an_object_is_the_keys_record() {
    for (body, expected) in [
        ("{}", Active),
        (r#"{"status": "active", "user_id": "u1"}"#, Active),
        (r#"{"allow": true}"#, Active),
        (r#"{"allow": "true", "success": 1}"#, Active),
        (
            r#"{"status": "disabled", "allow": true}"#,
            Status(KeyStatus::Disabled),
        ),
        (r#"{"status": 3}"#, Status(KeyStatus::Expired)),
        (
            r#"{"code": 0, "message": "success", "user_id": "u1", "balance": 1000}"#,
            Active,
        ),
        (
            r#"{"code": 0, "message": "success", "balance": 0}"#,
            Status(KeyStatus::QuotaExceeded),
        ),
        (r#"{"error": null}"#, Active),
        (r#"{"code": null}"#, Invalid("code: is null")),
        (r#"{"allow": null}"#, Invalid("allow: is null")),
        (r#"{"success": null}"#, Invalid("success: is null")),
        (r#"{"status": null}"#, Invalid("status: is null")),
        (r#"{"status": "success"}"#, Invalid("status: ")),
        (r#"{"status": "banned"}"#, Invalid("status: ")),
        (r#"{"total_quota": "lots"}"#, Invalid("total_quota: ")),
        (
            r#"{"allow": "maybe"}"#,
            Invalid("allow: must be true or false"),
        ),
        (r#"{"allow": {}}"#, Invalid("allow: must be true or false")),
    ] {
        means(200, body, &expected);
        means(203, body, &expected);
    }
}

#[test]
fn an_object_may_say_no_in_many_ways() {
    for (body, message) in [
        (r#"{"allow": false}"#, None),
        (r#"{"allow": "false", "status": "active"}"#, None),
        (r#"{"allow": 0, "message": "not today"}"#, Some("not today")),
        (r#"{"allow": true, "success": false}"#, None),
        (
            r#"{"success": false, "error": "no such key"}"#,
            Some("no such key"),
        ),
        (r#"{"error": {"message": "no"}}"#, Some("no")),
        (r#"{"error": true, "user_id": "u1"}"#, None),
        (
            r#"{"code": 1001, "message": "unknown key"}"#,
            Some("unknown key"),
        ),
        (r#"{"code": "401"}"#, None),
        (r#"{"code": -1}"#, None),
        (r#"{"code": "INVALID"}"#, None),
        (
            r#"{"data": {"allow": false, "message": "blocked"}}"#,
            Some("blocked"),
        ),
        (r#"{"message": "ok", "data": {"allow": false}}"#, Some("ok")),
        (r#"{"allow": false, "message": " "}"#, None),
        (r#"{"allow": false, "message": 7}"#, None),
    ] {
        means(200, body, &Denied(message));
    }
}

#[test]
fn an_envelope_is_taken_off() {
    for (body, expected) in [
        (r#"{"code": 0, "data": {"status": "active"}}"#, Active),
        (
            r#"{"code": 200, "data": {"status": "disabled"}}"#,
            Status(KeyStatus::Disabled),
        ),
        (
            r#"{"status": "success", "data": {"status": 3}}"#,
            Status(KeyStatus::Expired),
        ),
        (r#"{"status": 200, "data": {}}"#, Active),
        (
            r#"{"status": "ok", "data": {"balance": -1}}"#,
            Status(KeyStatus::QuotaExceeded),
        ),
        (
            r#"{"status": "disabled", "data": {}}"#,
            Status(KeyStatus::Disabled),
        ),
        (
            r#"{"status": 1, "data": {"user_id": "u1"}}"#,
            Status(KeyStatus::Disabled),
        ),
        (
            r#"{"status": 0, "data": {"status": 1}}"#,
            Invalid("status: stands in `data` and around it"),
        ),
        (
            r#"{"quota": 5, "data": {"total_quota": 6}}"#,
            Invalid("total_quota: is written as"),
        ),
        (r#"{"status": "error", "data": {}}"#, Invalid("status: ")),
        (r#"{"code": 0, "data": null}"#, Unknown),
        (r#"{"allow": true, "data": null}"#, Active),
        (r#"{"data": []}"#, Invalid("data: must be an object")),
        (
            r#"{"code": 0, "data": [{"status": "disabled"}]}"#,
            Invalid("data: must be an object"),
        ),
        (
            r#"{"code": 0, "data": false}"#,
            Invalid("data: must be an object"),
        ),
        (
            r#"{"code": 0, "data": ""}"#,
            Invalid("data: must be an object"),
        ),
        (r#"{"data": {"status": null}}"#, Invalid("status: is null")),
        (r#"{"code": 0, "data": {"error": "x"}}"#, Denied(Some("x"))),
        (r#"{"code": 0, "data": {"success": false}}"#, Denied(None)),
    ] {
        means(200, body, &expected);
    }
    let key = judged(
        200,
        r#"{"code": 0, "note": "a", "data": {"note": "b", "plan": "gold"}}"#,
    );
    let data = serde_json::Value::Object(key.unwrap().unwrap().data);
    let expected = serde_json::json!({"_http_status": 200, "code": 0, "note": "b", "plan": "gold"});
    assert_eq!(data, expected);
}

#[test]
fn a_status_of_http_that_refuses_never_allows() {
    for (body, of_401, of_403) in [
        ("", Unknown, Denied(None)),
        ("<html>", Unknown, Denied(None)),
        ("[]", Unknown, Denied(None)),
        (
            r#"{"error": "invalid key"}"#,
            Unknown,
            Denied(Some("invalid key")),
        ),
        (r#"{"status": "active"}"#, Unknown, Denied(None)),
        (r#"{"allow": true}"#, Unknown, Denied(None)),
        (
            r#"{"status": 404, "message": "no"}"#,
            Unknown,
            Denied(Some("no")),
        ),
        (
            r#"{"allow": false, "message": "no"}"#,
            Denied(Some("no")),
            Denied(Some("no")),
        ),
        (
            r#"{"status": "expired"}"#,
            Status(KeyStatus::Expired),
            Status(KeyStatus::Expired),
        ),
        (
            r#"{"data": {"status": 2}}"#,
            Status(KeyStatus::QuotaExceeded),
            Status(KeyStatus::QuotaExceeded),
        ),
    ] {
        means(401, body, &of_401);
        means(404, body, &of_401);
        means(403, body, &of_403);
    }
}

#[test]
fn anything_else_says_nothing_about_the_key() {
    for status in [
        100, 301, 304, 307, 400, 402, 405, 407, 429, 500, 502, 503, 504, 599,
    ] {
        means(status, r#"{"status": "active"}"#, &Away);
    }
    for body in [
        "",
        "ok",
        "true",
        "null",
        "\"active\"",
        "[{}]",
        "{\"a\":",
        "<html>ok</html>",
    ] {
        means(200, body, &Away);
    }
    means(204, "", &Away);
    means(200, r#"{"status": "disabled", "status": "active"}"#, &Away);
}

#[test]
fn a_message_is_one_line_of_at_most_200_characters() {
    let long = "é".repeat(300);
    let found = judged(200, &format!(r#"{{"allow": false, "message": "{long}"}}"#));
    let Err(SourceError::Denied(Some(message))) = found else {
        panic!("{found:?}");
    };
    assert_eq!(message, "é".repeat(200));
    let body = r#"{"allow": false, "message": " a\r\nb\u0000c "}"#;
    means(200, body, &Denied(Some("a  b c")));
}

#[tokio::test]
async fn who_replied_is_named_in_what_is_logged() {
    let what = unavailable(replied(reply("500 Oh", "{}")).await);
    assert!(
        what.starts_with("127.0.0.1:") && what.ends_with(" answered 500 Internal Server Error")
    );
    let Err(SourceError::Invalid(what)) = replied(reply("200 OK", r#"{"status": 9}"#)).await else {
        panic!("9 is none");
    };
    assert!(
        what.starts_with("127.0.0.1:") && what.contains(": status: "),
        "{what}"
    );
}

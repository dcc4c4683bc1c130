//! Asks for usage on the client's behalf by changing a few bytes of its request.

use std::ops::Range;

use super::endpoint::Endpoint;
use super::peek::Request;

/// Returns `body` with `stream_options.include_usage` set, and not another byte changed.
///
/// `None` if nothing is to be changed: it is set, the endpoint reports usage anyway, the answer is
/// no stream (engines refuse the option then), or the body is not a JSON object.
#[must_use]
pub fn request_usage(endpoint: Endpoint, body: &[u8]) -> Option<Vec<u8>> {
    if !endpoint.takes_stream_options() {
        return None;
    }
    let request = Request::read(body);
    if !request.object || !request.stream {
        return None;
    }
    let (at, text) = edit(&request)?;
    let mut edited = Vec::with_capacity(body.len() + text.len());
    edited.extend_from_slice(body.get(..at.start)?);
    edited.extend_from_slice(text.as_bytes());
    edited.extend_from_slice(body.get(at.end..)?);
    Some(edited)
}

/// Returns which bytes give way to which.
fn edit(request: &Request) -> Option<(Range<usize>, &'static str)> {
    let options = &request.options;
    Some(match (&options.at, &options.value) {
        // `stream` is there, so a comma is needed.
        (None, _) => (
            request.members..request.members,
            "\"stream_options\":{\"include_usage\":true},",
        ),
        (Some(at), _) if !options.object => (at.clone(), "{\"include_usage\":true}"),
        (Some(at), None) if options.empty => (at.start + 1..at.start + 1, "\"include_usage\":true"),
        (Some(at), None) => (at.start + 1..at.start + 1, "\"include_usage\":true,"),
        (Some(_), Some(_)) if options.exact => return None,
        // Also what a lenient parser takes for true: a strict one would not, and send no usage.
        (Some(_), Some(value)) => (value.clone(), "true"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn edited(body: &str) -> Option<String> {
        request_usage(Endpoint::ChatCompletions, body.as_bytes())
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn usage_is_asked_for_whatever_the_client_said() {
        for (body, expected) in [
            (
                r#"{"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
            ),
            (
                r#"{ "stream" : true }"#,
                r#"{"stream_options":{"include_usage":true}, "stream" : true }"#,
            ),
            (
                r#"{"stream":true,"stream_options":{}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":1,"stream_options":{ "x":[1]} }"#,
                r#"{"stream":1,"stream_options":{"include_usage":true, "x":[1]} }"#,
            ),
            (
                r#"{"stream_options":null,"stream":"True"}"#,
                r#"{"stream_options":{"include_usage":true},"stream":"True"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":[{"a":1}]}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"str\u0065am":true,"stream_options":{"include_usage": false ,"n":12345678901234567890}}"#,
                r#"{"str\u0065am":true,"stream_options":{"include_usage": true ,"n":12345678901234567890}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":{"a":[]}}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":"yes"}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            // Parsers take the last of several.
            (
                r#"{"stream_options":{"include_usage":true},"stream":true,"stream_options":{"include_usage":0}}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":true,"\u0069nclude_usage":null}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true,"\u0069nclude_usage":true}}"#,
            ),
        ] {
            assert_eq!(edited(body).as_deref(), Some(expected), "{body}");
        }
    }

    #[test]
    fn nothing_is_changed_where_nothing_is_to_be_asked() {
        for body in [
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":false}"#,
            r#"{"stream":true,"stream":false}"#,
            r#"{"messages":[{"stream":true}]}"#,
            r#"[{"stream":true}]"#,
            r#"{"stream":true"#,
            r#"{"stream":true]"#,
            "",
        ] {
            assert_eq!(edited(body), None, "{body}");
        }
        for endpoint in Endpoint::ALL {
            let asks = request_usage(endpoint, br#"{"stream":true}"#).is_some();
            let needs = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
            assert_eq!(asks, needs, "{endpoint:?}");
        }
    }

    /// Any JSON value.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn only_stream_options_change(
            members in proptest::collection::btree_map(".{0,8}", value(), 0..5),
            options in proptest::option::of(prop_oneof![
                value(),
                value().prop_map(|value| json!({"include_usage": value, "other": 1})),
            ]),
            pretty in any::<bool>(),
        ) {
            let mut body: serde_json::Map<String, Value> = members.into_iter().collect();
            body.insert("stream".into(), true.into());
            body.remove("stream_options");
            let mut expected = body.clone();
            let mut wanted = json!({});
            if let Some(options) = options {
                if options.is_object() {
                    wanted = options.clone();
                }
                body.insert("stream_options".into(), options);
            }
            wanted["include_usage"] = true.into();
            expected.insert("stream_options".into(), wanted);
            let text = if pretty { serde_json::to_vec_pretty(&body) } else { serde_json::to_vec(&body) };
            let text = text.unwrap();
            let edited = request_usage(Endpoint::Completions, &text);
            prop_assert_eq!(edited.is_none(), body == expected);
            let edited = edited.unwrap_or_else(|| text.clone());
            prop_assert_eq!(serde_json::from_slice::<Value>(&edited).unwrap(), Value::Object(expected));
            // One stretch of bytes differs, and it is no longer than what was put in or taken out.
            let same = text.iter().zip(&edited).take_while(|(a, b)| a == b).count();
            let tail = text.iter().rev().zip(edited.iter().rev()).take_while(|(a, b)| a == b).count();
            let kept = (same + tail).min(text.len());
            let old = body.get("stream_options").map_or(0, |old| serde_json::to_string_pretty(old).unwrap().len() + 40);
            prop_assert!(text.len() - kept <= old, "{} bytes of the request are gone", text.len() - kept);
        }

        #[test]
        fn garbage_is_survived(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let unasked = request_usage(Endpoint::Embeddings, &body);
            prop_assert!(unasked.is_none());
            let mut object = br#"{"stream":true,"stream_options":"#.to_vec();
            object.extend_from_slice(&body);
            object.push(b'}');
            if let Some(edited) = request_usage(Endpoint::ChatCompletions, &object) {
                prop_assert!(edited.len() <= object.len() + 21, "{} bytes", edited.len());
            }
        }
    }
}

//! Asks for usage on the client's behalf by changing a few bytes of its request.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

use super::endpoint::Endpoint;
use super::peek::{Request, Wish};
use super::splice::{Edit, spliced};

/// Which usage a backend is asked for, whatever the client wishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asked {
    /// What the client asks for: its request is sent as it is.
    #[default]
    Nothing,
    /// The usage of the whole, in a chunk of its own (`include_usage`).
    Final,
    /// That, and the usage so far with every chunk (`continuous_usage_stats`).
    Continuous,
}

/// Returns `body` with the `stream_options` that ask for `asked`, and not another byte changed.
///
/// `None` if nothing is to be changed: they are set, the endpoint reports usage anyway, the answer
/// is no stream (engines refuse the options then), or the body is not a JSON object.
#[must_use]
pub fn request_usage(endpoint: Endpoint, body: &[u8], asked: Asked) -> Option<Vec<u8>> {
    if !endpoint.takes_stream_options() || asked == Asked::Nothing {
        return None;
    }
    let request = Request::read(body);
    if !request.object || !request.stream {
        return None;
    }
    spliced(body, edits(body, &request, asked))
}

/// Returns what is to be changed.
fn edits(body: &[u8], request: &Request, asked: Asked) -> Vec<Edit<'static>> {
    let options = &request.options;
    let wishes: &[(&str, &Wish)] = &[
        ("include_usage", &options.usage),
        ("continuous_usage_stats", &options.continuous),
    ];
    let wishes = match asked {
        Asked::Nothing => &wishes[..0],
        Asked::Final => &wishes[..1],
        Asked::Continuous => wishes,
    };
    let all = || members(wishes.iter().map(|(name, _)| *name));
    match &options.at {
        // `stream` is there, so a comma is needed.
        None => {
            let text = format!("\"stream_options\":{{{}}},", all());
            vec![edit(request.members..request.members, text)]
        }
        Some(at) if !options.object => vec![edit(at.clone(), format!("{{{}}}", all()))],
        Some(at) => {
            let missing = wishes.iter().filter(|(_, wish)| wish.at.is_none());
            let mut text = members(missing.map(|(name, _)| *name));
            let inside = at.start + 1;
            let rest = body.get(inside..at.end).unwrap_or_default();
            if !text.is_empty() && rest.trim_ascii_start() != b"}" {
                text.push(',');
            }
            let mut edits = vec![edit(inside..inside, text)];
            edits.retain(|edit| !edit.text.is_empty());
            // Also what a lenient parser takes for true: a strict one would not, and send no usage.
            let others = wishes.iter().filter(|(_, wish)| !wish.exact);
            edits.extend(others.filter_map(|(_, wish)| Some(edit(wish.at.clone()?, "true"))));
            edits
        }
    }
}

fn edit(at: Range<usize>, text: impl Into<Cow<'static, str>>) -> Edit<'static> {
    let text = text.into();
    Edit { at, text }
}

/// Writes members that are true.
fn members<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.fold(String::new(), |mut text, name| {
        let comma = if text.is_empty() { "" } else { "," };
        write!(text, "{comma}\"{name}\":true").expect("a string can always be written to");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn edited(body: &str) -> Option<String> {
        request_usage(Endpoint::ChatCompletions, body.as_bytes(), Asked::Final)
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn usage_is_asked_for_whatever_the_client_said() {
        // Longer than any key that is read.
        let long = "k".repeat(300);
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
                &*format!(r#"{{"stream":true,"stream_options":{{"{long}":1}}}}"#),
                &*format!(
                    r#"{{"stream":true,"stream_options":{{"include_usage":true,"{long}":1}}}}"#
                ),
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
    fn usage_in_every_chunk_is_asked_for_beside_it() {
        let both = r#"{"include_usage":true,"continuous_usage_stats":true}"#;
        for (options, expected) in [
            ("null", both),
            ("{}", both),
            (both, ""),
            (
                r#"{"include_usage":true}"#,
                r#"{"continuous_usage_stats":true,"include_usage":true}"#,
            ),
            (
                r#"{ "x":1, "continuous_usage_stats": false}"#,
                r#"{"include_usage":true, "x":1, "continuous_usage_stats": true}"#,
            ),
            (
                r#"{"continuous_usage_stats":0,"include_usage":"no"}"#,
                r#"{"continuous_usage_stats":true,"include_usage":true}"#,
            ),
            (
                r#"{"include_usage":[1,2] ,"continuous_usage_stats":{"a":1}}"#,
                r#"{"include_usage":true ,"continuous_usage_stats":true}"#,
            ),
        ] {
            let body = format!(r#"{{"stream":true,"stream_options":{options},"n":2}}"#);
            let expected = body.replace(options, expected);
            for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions] {
                let edited = request_usage(endpoint, body.as_bytes(), Asked::Continuous);
                let edited = edited.map(|bytes| String::from_utf8(bytes).unwrap());
                let unchanged = options == both;
                assert_eq!(edited, (!unchanged).then(|| expected.clone()), "{options}");
                let nothing = request_usage(endpoint, body.as_bytes(), Asked::Nothing);
                assert_eq!(nothing, None);
            }
        }
        let bare = request_usage(
            Endpoint::Completions,
            br#"{"stream":true}"#,
            Asked::Continuous,
        );
        let expected = format!(r#"{{"stream_options":{both},"stream":true}}"#);
        assert_eq!(bare, Some(expected.into_bytes()));
        let whole = request_usage(Endpoint::Completions, b"{}", Asked::Continuous);
        assert_eq!(whole, None, "no stream");
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
            let asks = request_usage(endpoint, br#"{"stream":true}"#, Asked::Final).is_some();
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
            let edited = request_usage(Endpoint::Completions, &text, Asked::Final);
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
            let unasked = request_usage(Endpoint::Embeddings, &body, Asked::Continuous);
            prop_assert!(unasked.is_none());
            let mut object = br#"{"stream":true,"stream_options":"#.to_vec();
            object.extend_from_slice(&body);
            object.push(b'}');
            for (asked, most) in [(Asked::Final, 21), (Asked::Continuous, 51)] {
                if let Some(edited) = request_usage(Endpoint::ChatCompletions, &object, asked) {
                    prop_assert!(edited.len() <= object.len() + most, "{} bytes", edited.len());
                }
            }
        }
    }
}

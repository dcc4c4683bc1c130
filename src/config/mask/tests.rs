use proptest::prelude::*;
use serde_json::json;

use super::*;

fn shown(value: Value) -> Value {
    masked(&Node::from(value))
}

#[test]
fn placeholders_without_a_default_stay() {
    for (text, expected) in [
        ("$KEY", "$KEY"),
        ("${KEY}", "${KEY}"),
        ("${_K2}", "${_K2}"),
        ("${KEY:-s3cret}", "***"),
        ("${KEY}x", "***"),
        ("sk-$KEY", "***"),
        ("$$KEY", "***"),
        ("$1KEY", "***"),
        ("${KEY", "***"),
        ("$", "***"),
        ("${}", "***"),
        ("", "***"),
        ("s3cret", "***"),
    ] {
        assert_eq!(
            shown(json!({ "api_key": text })),
            json!({ "api_key": expected }),
            "{text}"
        );
    }
}

#[test]
fn a_url_is_shown_without_what_nobody_may_see() {
    for (text, expected) in [
        ("http://vllm:8000/v1", "http://vllm:8000/v1"),
        ("http://u:s3cret@h/v1", "http://***@h/v1"),
        ("http://s3cret@h", "http://***@h/"),
        ("https://h/x?token=s3cret", "https://h/x?***"),
        ("https://h/x#s3cret", "https://h/x"),
        // What a URL's rules accept, too.
        ("http:u:s3cret@h", "http://***@h/"),
        ("  http://u:s3@cret@h", "http://***@h/"),
        ("$URL", "$URL"),
        ("http://${HOST}:8000", "http://${HOST}:8000"),
        ("http://u:${PASSWORD}@h", "http://***@h"),
        ("${SCHEME:-http}://u:s3cret@h/v1", "***@h/v1"),
        ("${URL:-http://u:s3cret@h}", "***@h}"),
        ("https://$HOST/x?token=s3cret", "https://$HOST/x?***"),
    ] {
        assert_eq!(
            shown(json!({ "url": text })),
            json!({ "url": expected }),
            "{text}"
        );
    }
    let elsewhere = json!({ "note": "see http://u:s3cret@h/ and ftp://s3cret@h" });
    assert_eq!(
        shown(elsewhere),
        json!({ "note": "see http://***@h/ and ftp://***@h" })
    );
}

#[test]
fn names_that_somebody_chose_are_no_reason_to_hide_anything() {
    let config = json!({
        "models": {
            "token": { "routes": [{ "backend": "secret", "model": "key" }] },
            "api_key": { "target_model": "x" },
        },
        "fallback": { "alias_fallback": { "token": ["api_key"] } },
        "rate_limit": { "per_model": { "key": { "max_concurrent": 1 } } },
    });
    assert_eq!(shown(config.clone()), config);
}

#[test]
fn parameters_may_be_secret_by_name() {
    let shown = shown(json!({ "parameters": {
        "max_tokens": { "default": 5 },
        "extra.api_key": { "default": "s3cret", "allow_override": false },
        "tool": { "default": { "token": ["s3cret"], "nested": { "password": 5 } } },
    }}));
    let expected = json!({ "parameters": {
        "max_tokens": { "default": 5 },
        "extra.api_key": { "default": "***", "allow_override": false },
        "tool": { "default": { "token": ["***"], "nested": { "password": "***" } } },
    }});
    assert_eq!(shown, expected);
}

/// A tree with `s3cret` under keys that hold secrets and nowhere else.
fn planted() -> impl Strategy<Value = Value> {
    let secret = prop_oneof![
        Just(json!("s3cret")),
        Just(json!(["s3cret", "x s3cret"])),
        Just(json!("${A:-s3cret}")),
        Just(json!("Bearer s3cret")),
    ];
    let key = proptest::sample::select(vec![
        "api_key",
        "key",
        "secret",
        "secrets",
        "token",
        "password",
        "dsn",
        "proxy_api_key",
        "Authorization",
    ]);
    let other = proptest::sample::select(vec![
        "name", "backends", "redis", "list", "webhook", "pipeline", "keys",
    ]);
    let url = Just(json!({ "url": "http://a:s3cret@h/x?s3cret" }));
    let headers = "[A-Za-z-]{1,8}".prop_map(|name| json!({ "headers": { name: "s3cret" } }));
    let leaf = prop_oneof![
        (key, secret).prop_map(|(key, secret)| json!({ key: secret })),
        url,
        headers
    ];
    leaf.prop_recursive(5, 30, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(other.clone(), inner, 0..4).prop_map(|entries| {
                Value::Object(
                    entries
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_planted_is_not_shown(tree in planted()) {
        let shown = shown(tree).to_string();
        prop_assert!(!shown.contains("s3cret"), "{}", shown);
    }

    #[test]
    fn no_url_shows_its_password(before in "[a-z:/@ ${}-]{0,12}", after in "[a-z:/@?#${}-]{0,12}") {
        let text = format!("http://{before}:s3cret@{after}");
        let url = Url::parse(&text);
        let shown = shown(json!({ "url": text }));
        if url.is_ok_and(|url| url.password().is_some_and(|password| password.contains("s3cret"))) {
            prop_assert!(!shown.to_string().contains("s3cret"), "{} {}", text, shown);
        }
    }
}

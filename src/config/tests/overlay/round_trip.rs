//! Whatever is kept is what was sent.

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{FILE, OVERLAY, Overlay, Place, Value, env, json, load};

#[rustfmt::skip]
const SPECIAL: &[&str] = &[
    "", " ", "~", "null", "true", "yes", "no", "on", "1", "1.0", "1e3", "0x1f", "0o7", ".inf", "-",
    "?", ":", "- a", "a: b", "# c", "a #b", "!tag", "&a", "*a", "|", ">", "@", "`", "%", "{", "}",
    "[", "]", ",", "'", "\"", "\n", "a\n", "\na", "a\n\nb\n", " a", "a ", "\t", "\r\n", "\u{85}",
    "\u{2028}", "\u{feff}", "\0", "\u{7f}", "---", "...", "2001-01-01", "$KEY", "${KEY}", "$$",
    "1_000", "+1", "-0", "<", "=", "\\", "\\n", "é", "😀",
];

/// Texts that YAML could take for something else.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(SPECIAL).prop_map(str::to_owned),
        "\\PC{0,8}",
        proptest::collection::vec(any::<char>(), 0..6).prop_map(String::from_iter),
    ]
    // As a key it merges, and is refused.
    .prop_filter("not a merge", |text| text != "<<")
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(text(), inner, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_set_is_what_is_read(
        models in proptest::collection::btree_map(text(), (json_value(), any::<bool>()), 0..4),
        order in proptest::collection::vec(text(), 0..4),
        backend in proptest::collection::btree_map(text(), json_value(), 0..3),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(OVERLAY);
        let mut overlay = Overlay::default();
        for (name, (value, gone)) in models {
            match gone {
                true => overlay.remove_model(&name, true),
                false => overlay.set_model(&name, json!({ "value": value })),
            }
        }
        overlay.set_order(order);
        overlay.set_backend(Value::Object(backend.into_iter().collect()));
        overlay.save(&path).unwrap();
        prop_assert_eq!(Overlay::read(&path).unwrap(), overlay);
    }

    /// As the program sees it: a parameter that was sent reaches the typed configuration.
    #[test]
    fn a_parameter_arrives_as_it_was_sent(value in json_value()) {
        let place = Place::new(FILE);
        let mut overlay = Overlay::default();
        let dollars = escaped(value.clone());
        overlay.set_model("x", json!({ "enabled": false, "parameters": { "p": { "default": dollars } } }));
        overlay.save(&place.overlay()).unwrap();
        let models = place.load().config.models.unwrap().0;
        prop_assert_eq!(&models[2].parameters["p"].default, &value);
    }

    #[test]
    fn no_text_makes_reading_it_panic(text in "(models|order|backends|: |\\n|  |- |\\[|\\]|\\{|\\}|null|a|5){0,20}") {
        let place = Place::new(FILE);
        place.write(&text);
        if let Err(error) = load(&place.file(), &env) {
            prop_assert!(error.to_string().contains(".yaml"), "{}", error);
        }
    }
}

/// Dollars that stand for themselves.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace('$', "$$").into(),
        Value::Array(list) => list.into_iter().map(escaped).collect(),
        Value::Object(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key, escaped(value)))
                .collect(),
        ),
        other => other,
    }
}

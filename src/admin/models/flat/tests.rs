use proptest::prelude::*;

use super::*;

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/ $*]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            members(inner).prop_map(Value::Object),
        ]
    })
}

fn members(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let names = proptest::sample::select(vec![
        "model_name",
        "name",
        "api_base",
        "base_url",
        "api_key",
        "api_type",
        "timeout",
        "model",
        "request_timeout",
        "target_model",
        "fallbacks",
        "extends",
        "protected",
        "parameters",
        "model_params",
        "litellm_params",
        "modules",
        "other",
    ]);
    proptest::collection::vec((names, value), 0..6).prop_map(|members| {
        let members = members.into_iter();
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    })
}

proptest! {
    #[test]
    fn any_body_is_read_or_refused(body in members(anything()), before in anything(), key in anything()) {
        let marked = is_flat(&body);
        match Flat::read(body) {
            Err(refusal) => prop_assert_eq!(refusal.status, 400),
            Ok(flat) => {
                prop_assert!(marked || !flat.has_backend());
                let (name, has_backend) = (flat.name.clone(), flat.has_backend());
                prop_assert!(!name.trim().is_empty());
                if let Ok(New { section, backend }) = flat.complete(&before, &json!({"api_key": key})) {
                    prop_assert_eq!(backend.is_some(), has_backend);
                    prop_assert_eq!(section.contains_key("routes"), has_backend);
                    prop_assert!(section.contains_key("extends") || has_backend);
                }
            }
        }
    }
}

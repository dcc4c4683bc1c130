use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn inherited(models: &[(String, Value)]) -> Result<Vec<(String, Value)>, String> {
    let environment = Environment::new(&|_| None, Path::new("/nonexistent"));
    let mut models: Vec<_> = (models.iter().cloned())
        .map(|(name, section)| (name, Node::from(section)))
        .collect();
    inherit(&mut models, &environment).map_err(|fault| fault.to_string())?;
    Ok(models
        .iter()
        .map(|(name, section)| (name.clone(), Value::from(section)))
        .collect())
}

fn name(at: usize) -> String {
    format!("m{at}")
}

/// What the model at `at` inherits, computed from the definition: its ancestors, one over the other.
fn by_definition(models: &[(String, Value)], parents: &[Option<usize>], at: usize) -> Value {
    let Some(parent) = parents[at] else {
        return models[at].1.clone();
    };
    let mut base = by_definition(models, parents, parent);
    if let Value::Object(base) = &mut base {
        base.retain(|key, _| !NEVER_INHERITED.contains(&key.as_str()));
    }
    laid_over(base, models[at].1.clone())
}

fn laid_over(base: Value, own: Value) -> Value {
    match (base, own) {
        (Value::Object(mut base), Value::Object(own)) => {
            for (key, own) in own {
                let merged = match base.remove(&key) {
                    Some(base) => laid_over(base, own),
                    None => own,
                };
                base.insert(key, merged);
            }
            Value::Object(base)
        }
        (_, own) => own,
    }
}

/// Whether following `parents` from `at` ever ends.
fn ends(parents: &[Option<usize>], at: usize) -> bool {
    let mut steps = std::iter::successors(Some(at), |at| parents[*at]);
    steps.nth(parents.len()).is_none()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..5).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[abc]", inner, 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn section() -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![
        "[abc]",
        Just("enabled".to_owned()),
        Just("protected".to_owned())
    ];
    proptest::collection::btree_map(key, value(), 0..4)
        .prop_map(|entries| entries.into_iter().collect())
}

/// Models, each of which extends any other, itself, or none.
fn forest() -> impl Strategy<Value = (Vec<(String, Value)>, Vec<Option<usize>>)> {
    (1_usize..12)
        .prop_flat_map(|count| {
            let parent = proptest::option::weighted(0.7, 0..count);
            proptest::collection::vec((section(), parent), count)
        })
        .prop_map(|models| {
            let parents = models.iter().map(|(_, parent)| *parent).collect();
            let named = models
                .into_iter()
                .enumerate()
                .map(|(at, (mut own, parent))| {
                    if let Some(parent) = parent {
                        own.insert("extends".to_owned(), name(parent).into());
                    }
                    (name(at), Value::Object(own))
                });
            (named.collect(), parents)
        })
}

proptest! {
    #[test]
    fn every_model_is_its_ancestors_one_over_the_other((models, parents) in forest()) {
        let all_end = (0..models.len()).all(|at| ends(&parents, at));
        match inherited(&models) {
            Ok(found) => {
                prop_assert!(all_end);
                for (at, (model, section)) in found.iter().enumerate() {
                    prop_assert_eq!(model, &models[at].0);
                    prop_assert_eq!(section, &by_definition(&models, &parents, at));
                }
            }
            Err(cycle) => {
                prop_assert!(!all_end);
                let names: Vec<_> = cycle.split(" extends ").collect();
                prop_assert_eq!(names.first(), names.last());
                for pair in names.windows(2) {
                    let [child, parent] = pair else { unreachable!() };
                    let at = models.iter().position(|(name, _)| name == child).unwrap();
                    let extended = parents[at].map(name);
                    prop_assert_eq!(extended.as_deref(), Some(*parent));
                }
            }
        }
    }
}

#[test]
fn a_chain_may_be_as_long_as_it_wants() {
    const LENGTH: usize = 3000;
    let model = |at: usize| {
        let mut own = json!({ "parameters": { format!("p{}", at % 7): at } });
        if at > 0 {
            own["extends"] = name(at - 1).into();
        }
        (name(at), own)
    };
    // Backwards, so that the leaf comes before all it depends on.
    let models: Vec<_> = (0..LENGTH).rev().map(model).collect();
    let found = inherited(&models).unwrap();
    assert_eq!(found[0].0, name(LENGTH - 1));
    for at in LENGTH - 7..LENGTH {
        assert_eq!(found[0].1["parameters"][format!("p{}", at % 7)], at);
    }
}

#[test]
fn a_long_cycle_is_still_one_short_line() {
    let model = |at: usize| (name(at), json!({ "extends": name((at + 1) % 17) }));
    let cycle = inherited(&(0..17).map(model).collect::<Vec<_>>()).unwrap_err();
    assert!(
        cycle.starts_with("m0 extends m1 ") && cycle.ends_with("m15 extends … extends m0"),
        "{cycle}"
    );
    let model = |at: usize| (name(at), json!({ "extends": name((at + 1) % 16) }));
    let cycle = inherited(&(0..16).map(model).collect::<Vec<_>>()).unwrap_err();
    assert!(cycle.ends_with("m14 extends m15 extends m0"), "{cycle}");
}

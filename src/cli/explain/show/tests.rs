use serde_json::json;

use super::*;

fn route(step: usize, backend: &str, more: &Value) -> Value {
    let mut route = json!({
        "step": step, "alias": "gpt-*", "priority": 0, "backend": backend, "model": "gpt-4o",
        "weight": 3, "share": 75.0, "state": "usable", "cooldown_left_ms": 0, "failures": 0,
        "in_flight": 0, "ewma_ms": null, "chosen": false, "why_not": null,
    });
    for (name, value) in more.as_object().unwrap() {
        route[name] = value.clone();
    }
    route
}

fn answer() -> Value {
    json!({
        "model": "gpt-4o", "meaning": "wildcard", "alias": "gpt-*", "near": [],
        "routes": [
            route(1, "east", &json!({"chosen": true})),
            route(1, "west", &json!({
                "weight": 1, "share": 0.0, "state": "cooling_down", "cooldown_left_ms": 11_001,
                "why_not": "cooling down for 12 s",
            })),
            route(2, "spare", &json!({
                "alias": "small", "priority": 7, "share": 33.3, "why_not": "fallback",
            })),
        ],
        "left_out": [{"alias": "huge", "backend": null, "model": null, "why": "model is disabled"}],
    })
}

#[test]
fn a_plan_is_a_sentence_and_a_table() {
    assert_eq!(
        text(&answer(), Source::Gateway),
        "\
`gpt-4o` is served by `gpt-*`, whose pattern fits it best.

#  alias  prio  backend  model   weight      state         cooldown  why
──────────────────────────────────────────────────────────────────────────────────────────
1  gpt-*  0     east     gpt-4o  3 (75 %)    usable        -         next
1  gpt-*  0     west     gpt-4o  1 (0 %)     cooling_down  12 s      cooling down for 12 s
2  small  7     spare    gpt-4o  3 (33.3 %)  usable        -         fallback

left out  backend  model  why
───────────────────────────────────────────
huge      -        -      model is disabled
"
    );
}

#[test]
fn a_file_says_nothing_of_what_runs() {
    let shown = text(&answer(), Source::File);
    assert!(!shown.contains("usable"), "{shown}");
    assert!(!shown.contains("12 s   "), "{shown}");
}

#[test]
fn how_a_name_was_found_is_said() {
    let said = |meaning: &str, near: &[&str]| {
        let answer = json!({"model": "m", "meaning": meaning, "alias": "a", "near": near});
        (text(&answer, Source::Gateway), is_served(&answer))
    };
    for (meaning, near, words, served) in [
        ("exact", &[][..], "`m` is a model.\n", true),
        (
            "default",
            &[],
            "Without a name it is `m`, the default, served by `a`.\n",
            true,
        ),
        ("open", &[], "every backend serves", true),
        ("disabled", &[], "`m` is switched off (`a`)", false),
        ("unknown", &[], "There is no model `m`.\n", false),
        (
            "unknown",
            &["m1", "m2"],
            "`m`; near it: `m1`, `m2`.\n",
            false,
        ),
    ] {
        let (text, is_served) = said(meaning, near);
        assert!(text.contains(words), "{meaning}: {text}");
        assert_eq!(is_served, served, "{meaning}");
    }
}

#[test]
fn a_model_that_nothing_can_serve_now_is_not_served() {
    let route = |chosen: bool| json!({"chosen": chosen});
    for (routes, served) in [
        (vec![], false),
        (vec![route(false), route(false)], false),
        (vec![route(false), route(true)], true),
    ] {
        let answer = json!({"meaning": "exact", "routes": routes});
        assert_eq!(is_served(&answer), served, "{answer}");
    }
}

#[test]
fn a_request_without_a_name_is_called_that() {
    for (meaning, words) in [
        ("open", "Without a name every backend"),
        ("unknown", "There is no default"),
    ] {
        let answer = json!({"model": "", "meaning": meaning, "alias": null, "near": []});
        assert!(
            text(&answer, Source::Gateway).starts_with(words),
            "{meaning}"
        );
    }
}

#[test]
fn what_the_key_may_is_said_and_decides() {
    for (key, words, served) in [
        (
            json!({"known": true, "may_use": true, "id": "team", "why": null}),
            "The key `team` may use it.\n",
            true,
        ),
        (
            json!({"known": true, "may_use": false, "id": "team", "why": "no"}),
            "The key `team` may not use it: no.\n",
            false,
        ),
        (
            json!({"known": false, "may_use": false, "id": null, "why": "no"}),
            "The key is not known: no.\n",
            false,
        ),
        (
            json!({"known": null, "may_use": true, "id": null, "why": "none is needed"}),
            "The key may use it: none is needed.\n",
            true,
        ),
    ] {
        let answer =
            json!({"model": "m", "meaning": "exact", "alias": "m", "near": [], "key": key});
        assert!(text(&answer, Source::Gateway).contains(words), "{answer}");
        assert_eq!(is_served(&answer), served, "{answer}");
    }
}

//! Models, routes and fallback as they are written and as they are read.

use serde_json::json;

use super::*;

fn models(text: &str) -> Vec<Model> {
    config(text).models.unwrap_or_default().0
}

/// The models of `more`, after backends `a`, `b` and a disabled `off`.
fn backed(more: &str) -> String {
    format!(
        "backends: [{{name: a, url: \"http://a\"}}, {{name: b, url: \"http://b\"}}, {{name: off, url: \"http://c\", enabled: false}}]\n{more}\n"
    )
}

#[test]
fn a_model_that_says_little() {
    let models = models(&backed("models: {llama: {routes: [{backend: a}]}}"));
    let [model] = &*models else { panic!("one") };
    let route = Route {
        backend: "a".to_owned(),
        model: None,
        priority: 0,
        weight: 1,
        enabled: true,
    };
    let expected = Model {
        name: "llama".to_owned(),
        extends: None,
        enabled: true,
        protected: false,
        routes: vec![route],
        load_balance: Strategy::Random,
        target_model: None,
        parameters: BTreeMap::new(),
        supports_reasoning: false,
        request_timeout: None,
        num_retries: None,
        fallbacks: Vec::new(),
        frontend: Vec::new(),
        rewrite_response_model: None,
        system_append: None,
        system_replacements: None,
    };
    assert_eq!(*model, expected);
}

#[test]
fn a_model_that_says_everything() {
    let loaded = loaded(&backed(
        "models:\n  z: {enabled: false}\n  \"gpt-*\":\n    protected: true\n    \
         routes: [{backend: a, model: \"openai/*\", priority: -1, weight: $WEIGHT}, {backend: b, enabled: $OFF}]\n    \
         load_balance: $STRATEGY\n    target_model: x\n    supports_reasoning: true\n    request_timeout: $WAIT\n    \
         num_retries: 2\n    fallbacks: z, y\n    frontend: [/openai/, /openai, /openai/eu]\n    \
         rewrite_response_model: false\n    system_append: {any: $UNSET}\n    \
         parameters: {a: {default: [1, \"$KEY\"]}, b.c: {default: null, allow_override: false}, d: null}",
    ));
    let models = loaded.config.models.unwrap().0;
    let names: Vec<_> = models.iter().map(|model| &*model.name).collect();
    assert_eq!(names, ["z", "gpt-*"], "in their order");
    let model = &models[1];
    assert_eq!(model.routes[0].model.as_deref(), Some("openai/*"));
    assert_eq!((model.routes[0].priority, model.routes[0].weight), (-1, 7));
    assert!(!model.routes[1].enabled && model.protected && model.supports_reasoning);
    assert_eq!(model.request_timeout, Some(Duration::from_secs(45)));
    assert_eq!(model.fallbacks, ["z", "y"]);
    assert_eq!(model.frontend, ["/openai", "/openai/eu"]);
    assert_eq!(
        (model.num_retries, model.rewrite_response_model),
        (Some(2), Some(false))
    );
    let parameter = |default, allow_override| Parameter {
        default,
        allow_override,
    };
    assert_eq!(
        model.parameters["a"],
        parameter(json!([1, "sk-from-env"]), true)
    );
    assert_eq!(model.parameters["b.c"], parameter(json!(null), false));
    assert_eq!(model.parameters.len(), 2);
    assert_eq!(loaded.later, ["models.gpt-*.system_append"]);
}

#[test]
fn without_models_every_backend_serves_everything() {
    for text in ["", "models:"] {
        let config = config(&backed(text));
        assert!(config.open && config.models.is_none());
    }
    let config = config(&backed("models: {}"));
    assert!(!config.open && config.models.is_some_and(|models| models.0.is_empty()));
}

#[test]
fn fallback_and_detection() {
    let read = config(&backed(
        "models: {a: {enabled: false}}\nfallback:\n  cooldown_seconds: 0\n  max_cooldown_seconds: 1m\n  max_retries: 0\n  \
         num_retries: 4\n  alias_fallback: {a: \"b, c\", d: [e], f: }\n\
         detection: {error_codes: [429, \"5xx\", \" 4XX \"], error_patterns: [Quota]}\nreload: {watch: false, interval: 5s}",
    ));
    let fallback = &read.fallback;
    assert_eq!(fallback.cooldown_seconds, Duration::ZERO);
    assert_eq!(fallback.max_cooldown_seconds, Duration::from_secs(60));
    assert_eq!(
        (fallback.max_retries, fallback.num_retries),
        (Some(0), Some(4))
    );
    assert_eq!(fallback.alias_fallback["a"], ["b", "c"]);
    assert_eq!(fallback.alias_fallback["d"], ["e"]);
    assert!(fallback.alias_fallback["f"].is_empty());
    let codes = [
        StatusPattern::One(429),
        StatusPattern::Class(5),
        StatusPattern::Class(4),
    ];
    assert_eq!(read.detection.error_codes.as_deref(), Some(&codes[..]));
    assert_eq!(read.detection.error_patterns, ["Quota"]);
    assert_eq!(
        (read.reload.watch, read.reload.interval.as_secs()),
        (false, 5)
    );
    let one = config(&backed("detection: {error_codes: 5xx}"));
    assert_eq!(one.detection.error_codes.as_deref(), Some(&codes[1..2]));
    let none = config(&backed("detection: {error_codes: []}"));
    assert_eq!(none.detection.error_codes.as_deref(), Some(&[][..]));
}

#[test]
fn statuses_match_their_pattern() {
    for (pattern, status, expected) in [
        (StatusPattern::One(429), 429, true),
        (StatusPattern::One(429), 428, false),
        (StatusPattern::Class(4), 400, true),
        (StatusPattern::Class(4), 499, true),
        (StatusPattern::Class(4), 500, false),
        (StatusPattern::Class(5), 599, true),
    ] {
        assert_eq!(pattern.matches(status), expected, "{pattern:?} {status}");
    }
}

/// Files that know no maximum may ask for any cooldown.
#[test]
fn a_long_cooldown_is_its_own_maximum() {
    let maximum = |text: &str| config(&with(text)).fallback.max_cooldown_seconds.as_secs();
    assert_eq!(maximum("fallback: {cooldown_seconds: 300}"), 600);
    assert_eq!(maximum("fallback: {cooldown_seconds: 601}"), 601);
    assert_eq!(
        maximum("fallback: {cooldown_seconds: 9, max_cooldown_seconds: 9}"),
        9
    );
}

#[test]
fn the_default_model_may_match_a_pattern() {
    let text = "models: {\"gpt-*\": {routes: [{backend: a}]}, \"gpt-4*\": {enabled: false}}\ndefault_model: gpt-4o";
    assert_eq!(
        config(&backed(text)).default_model.as_deref(),
        Some("gpt-4o")
    );
}

#[test]
fn the_admin_password_may_stand_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), " s3cret\n").unwrap();
    let path = file.path().display();
    let password = |more: &str| {
        let admin = config(&with(&format!("admin: {{listen: \":1\", {more}}}"))).admin;
        admin.password.map(|password| password.expose().to_owned())
    };
    let s3cret = Some("s3cret".to_owned());
    assert_eq!(
        password(&format!("token: t, password_file: {path}")),
        s3cret
    );
    assert_eq!(password("token: t, password: s3cret"), s3cret);
    assert_eq!(password("token: t, password: \"\""), None);
    assert_eq!(password("token: t, password: s3cret, enabled: false"), None);
}

// === warnings ===

#[track_caller]
fn warned(text: &str, expected: &[&str]) {
    let warnings = loaded(text).warnings;
    let expected: Vec<_> = expected.iter().map(|one| format!("c.yaml{one}")).collect();
    assert_eq!(warnings, expected, "\n{text}");
}

#[test]
fn the_published_example_names_a_model_it_does_not_have() {
    let gemini = "no model is called `google/gemini-3-pro-preview`: it is passed over; \
                  known: anthropic/claude-opus-4-5, anthropic/claude-sonnet-4-5";
    let opus = format!(":46: fallback.alias_fallback.\"anthropic/claude-opus-4-5\"[1]: {gemini}");
    let sonnet =
        format!(":48: fallback.alias_fallback.\"anthropic/claude-sonnet-4-5\"[0]: {gemini}");
    let example = include_str!("../../../tests/fixtures/llm-proxy-readme.yaml");
    warned(example, &[&opus, &sonnet]);
    let config = config(example);
    let models = config.models.unwrap().0;
    let routes: Vec<_> = models
        .iter()
        .map(|model| (&*model.name, model.routes.len()))
        .collect();
    assert_eq!(
        routes,
        [
            ("anthropic/claude-opus-4-5", 2),
            ("anthropic/claude-sonnet-4-5", 1)
        ]
    );
    assert_eq!(config.fallback.max_retries, Some(3));
    assert_eq!(config.detection.error_patterns.len(), 5);
}

#[test]
fn names_of_models_that_are_not_there() {
    warned(
        &backed(
            "models:\n  llama: &model {routes: [{backend: a}]}\n  \"gpt-*\": *model\n  big:\n    <<: *model\n    \
             fallbacks: [gpt-4, lama]\nfallback:\n  alias_fallback:\n    lama: [llama]\n    gpt-4: [llama]\n    llama: [gpt-4]",
        ),
        &[
            ":7: models.big.fallbacks[1]: no model is called `lama`: it is passed over; did you mean `llama`?",
            ":11: fallback.alias_fallback.gpt-4: no model is called `gpt-4`: it has no effect; did you mean `gpt-*`?",
            ":10: fallback.alias_fallback.lama: no model is called `lama`: it has no effect; did you mean `llama`?",
        ],
    );
}

#[test]
fn replacements_that_are_disabled() {
    warned(
        &backed(
            "models:\n  a: {routes: [{backend: a}], fallbacks: [off]}\n  \"off\": {enabled: false, fallbacks: [a]}\n\
             fallback: {alias_fallback: {a: [off]}}",
        ),
        &[
            ":3: models.a.fallbacks[0]: `off` is disabled: it is passed over",
            ":5: fallback.alias_fallback.a[0]: `off` is disabled: it is passed over",
        ],
    );
}

#[test]
fn models_that_nothing_serves() {
    let idle = "cannot be served: each of its routes is disabled, or the backend of it is";
    warned(
        &backed(
            "models:\n  a: {routes: [{backend: a, enabled: false}]}\n  b: {routes: [{backend: off}]}\n  \
             c: {routes: [{backend: off}, {backend: b}]}\n  d: {enabled: false, routes: [{backend: off}]}",
        ),
        &[
            &format!(":3: models.a: {idle}"),
            &format!(":4: models.b: {idle}"),
        ],
    );
}

#[test]
fn only_the_first_warnings_are_said_one_by_one() {
    let chains = |count: usize| {
        let names: Vec<_> = (0..count).map(|at| format!("m{at}: []")).collect();
        let chains = names.join(", ");
        let text = format!("models: {{}}\nfallback: {{alias_fallback: {{{chains}}}}}");
        loaded(&with(&text)).warnings
    };
    assert_eq!(chains(50).len(), 50);
    let warnings = chains(52);
    assert_eq!(
        (warnings.len(), &*warnings[50]),
        (51, "and 2 more of this kind")
    );
}

#[test]
fn fallback_without_models() {
    let lonely = [":2: fallback: has no effect without `models`"];
    warned(&with("fallback: {max_retries: 1}"), &lonely);
    warned(&with("fallback: {}"), &lonely);
    warned(&with("fallback:"), &[]);
    warned(&with("detection: {error_codes: [5xx]}"), &[]);
    warned(&with("models: {}\nfallback: {max_retries: 1}"), &[]);
}

// === inheritance ===

#[test]
fn what_is_inherited_and_what_is_not() {
    let text = "models:\n  base:\n    enabled: false\n    protected: true\n    routes: [{backend: a, model: x}, {backend: b}]\n    \
        parameters:\n      temperature: {default: 1.0, allow_override: false}\n      top_p: {default: 0.9}\n    \
        request_timeout: 5s\n    num_retries: 2\n    load_balance: weighted\n    supports_reasoning: true\n    target_model: t\n  \
        warm:\n    extends: base\n    parameters: {temperature: {default: 0.7}, top_p: null}\n  \
        other:\n    extends: warm\n    routes: [{backend: b}]\n    request_timeout: null\n    num_retries:\n    \
        load_balance: null\n    supports_reasoning:\n    target_model: ~\n    parameters: {top_k: {default: 5}}";
    let models = models(&backed(text));
    let [base, warm, other] = &*models else {
        panic!("three")
    };
    assert!(base.protected && !base.enabled);
    assert!(!warm.protected && warm.enabled, "never inherited");
    assert_eq!(warm.routes, base.routes);
    assert_eq!(warm.extends.as_deref(), Some("base"));
    let temperature = Parameter {
        default: json!(0.7),
        allow_override: false,
    };
    assert_eq!(
        warm.parameters,
        BTreeMap::from([("temperature".to_owned(), temperature)])
    );
    assert_eq!(
        (warm.request_timeout, warm.num_retries),
        (Some(Duration::from_secs(5)), Some(2))
    );
    assert_eq!(
        (warm.load_balance, warm.target_model.as_deref()),
        (Strategy::Weighted, Some("t"))
    );
    assert_eq!(other.routes.len(), 1, "lists are replaced");
    assert_eq!(other.parameters.len(), 2, "mappings are merged");
    assert_eq!(
        (other.request_timeout, other.num_retries),
        (None, None),
        "null is nothing"
    );
    assert_eq!(
        (other.load_balance, other.target_model.as_deref()),
        (Strategy::Random, None)
    );
    assert!(!other.supports_reasoning && warm.supports_reasoning);
}

#[test]
fn a_base_may_come_later_and_be_named_by_a_variable() {
    let text = "models:\n  leaf: {extends: \"${BASE:-base}\", enabled: true}\n  base: {enabled: false, routes: [{backend: a}]}";
    let models = models(&backed(text));
    assert_eq!((&*models[0].name, models[0].routes.len()), ("leaf", 1));
}

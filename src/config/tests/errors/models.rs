//! Models, routes and fallback that cannot be meant.

use super::*;

/// A model `m` with a route, and `more` keys, each on its line from line 5 on.
fn model(more: &str) -> String {
    let more: String = more.lines().map(|line| format!("    {line}\n")).collect();
    format!("models:\n  m:\n    routes: [{{backend: \"http://a\"}}]\n{more}")
}

#[track_caller]
fn refused_model(more: &str, expected: &str) {
    refused_with(&model(more), expected);
}

#[test]
fn names() {
    refused_with("models:\n  \"\": {}", ":3: models.\"\": is empty");
    refused_with("models:\n  \" \": {}", ":3: models.\" \": is empty");
    refused_with(
        "models:\n  \"a\\tb\": {}",
        ":3: models.\"a\\tb\": has at most 256 bytes and no control characters",
    );
    let longest = "m".repeat(256);
    loaded(&with(&format!("models: {{{longest}: {{enabled: false}}}}")));
    refused_with(
        &format!("models: {{{longest}m: {{enabled: false}}}}"),
        &format!(":2: models.{longest}m: has at most 256 bytes and no control characters"),
    );
    refused_with(
        "models:\n  gpt-4: {enabled: false}\n  x: {enabled: false}\n  GPT-4: {enabled: false}",
        ":5: models.GPT-4: differs from `gpt-4` only in case; first on line 3",
    );
    refused_with(
        "models:\n  a: {enabled: false}\n  a: {enabled: false}",
        ":4: models: the key `a` is there twice",
    );
    refused_with(
        "models: [a]",
        ":2: models: expected a mapping of names to models, found a list",
    );
    refused_with(
        "models: {a: 5}",
        ":2: models.a: expected a mapping, found a number",
    );
    refused_with(
        "models: {a: {target: x}}",
        ":2: models.a.target: unknown key; did you mean `target_model`?",
    );
}

#[test]
fn routes() {
    refused_with(
        "models:\n  a:\n    routes: []",
        ":4: models.a.routes: at least one is needed, or `enabled: false` beside it",
    );
    refused_with(
        "models:\n  a:",
        ":3: models.a.routes: at least one is needed, or `enabled: false` beside it",
    );
    refused_with(
        "models:\n  a:\n    routes:\n      - {backend: b, enabled: false}",
        ":5: models.a.routes[0].backend: no backend is called `b`; known: http://a",
    );
    refused(
        "backends:\n- {name: vllm-1, url: \"http://a\"}\nmodels:\n  a: {routes: [{backend: vlm-1}]}",
        ":4: models.a.routes[0].backend: no backend is called `vlm-1`; did you mean `vllm-1`?",
    );
    refused_with(
        "models: {a: {routes: [{model: x}]}}",
        ":2: models.a.routes[0]: missing key `backend`",
    );
    refused_with(
        "models: {a: {routes: [{backend: \" \"}]}}",
        ":2: models.a.routes[0].backend: is empty",
    );
    let route =
        |more: &str| format!("models:\n  a:\n    routes: [{{backend: \"http://a\", {more}}}]");
    let weight = ":4: models.a.routes[0].weight: must be from 1 to 1000; to take a route out: `enabled: false`";
    for wrong in [
        "weight: 0",
        "weight: -1",
        "weight: 1001",
        "weight: 99999999999",
    ] {
        refused_with(&route(wrong), weight);
    }
    for right in [1, 1000] {
        loaded(&with(&route(&format!("weight: {right}"))));
    }
    refused_with(
        &route("model: \"\""),
        ":4: models.a.routes[0].model: is empty",
    );
    refused_with(
        &route("priority: 3000000000"),
        ":4: models.a.routes[0].priority: 3000000000 is out of range",
    );
    refused_with(
        &route("prio: 1"),
        ":4: models.a.routes[0].prio: unknown key; did you mean `priority`?",
    );
}

#[test]
fn the_same_route_twice() {
    let twice = |first: &str, second: &str, more: &str| {
        format!(
            "models:\n  a:\n    routes:\n    - {{backend: \"http://a\"{first}}}\n    - {{backend: \"http://a\"{second}}}\n{more}"
        )
    };
    let expected = |name: &str| {
        format!(
            ":6: models.a.routes[1]: `{name}` on `http://a` is a route of it already; first on line 5"
        )
    };
    refused_with(&twice("", ", priority: 1", ""), &expected("a"));
    refused_with(
        &twice(", model: x", ", model: x, enabled: false", ""),
        &expected("x"),
    );
    // The same by another way.
    refused_with(&twice("", ", model: a", ""), &expected("a"));
    refused_with(
        &twice("", ", model: x", "    target_model: x"),
        &expected("x"),
    );
    loaded(&with(&twice(", model: x", ", model: y", "")));
}

#[test]
fn stars_that_stand_for_nothing() {
    let named = |name: &str, more: &str| {
        format!("models:\n  \"{name}\":\n    routes: [{{backend: \"http://a\"{more}}}]")
    };
    refused_with(
        &named("gpt", ", model: \"x-*\""),
        ":4: models.gpt.routes[0].model: `*` stands for nothing: there is none in the name `gpt`",
    );
    refused_with(
        &named("*-*", ", model: \"x-*\""),
        ":4: models.\"*-*\".routes[0].model: `*` could stand for several things: there is more than one in the name `*-*`",
    );
    refused_model(
        "target_model: \"x-*\"",
        ":5: models.m.target_model: `*` stands for nothing: there is none in the name `m`",
    );
    loaded(&with(&named("gpt-*", ", model: \"x-*\"")));
    loaded(&with(&named("*-*", ", model: x")));
}

#[test]
fn settings_of_a_model() {
    refused_model("extends: \"\"", ":5: models.m.extends: is empty");
    refused_model(
        "extends: [a]",
        ":5: models.m.extends: expected a string, found a list",
    );
    refused_model("target_model: \" \"", ":5: models.m.target_model: is empty");
    refused_model(
        "fallbacks: [a, \"\"]",
        ":5: models.m.fallbacks[1]: is empty",
    );
    refused_model(
        "fallbacks: \" , \"",
        ":5: models.m.fallbacks: is empty; an empty list is written `[]`",
    );
    refused_model(
        "num_retries: 0",
        ":5: models.m.num_retries: must be 1 or more",
    );
    refused_model(
        "request_timeout: 0",
        ":5: models.m.request_timeout: must be longer than 0",
    );
    refused_model(
        "enabled:",
        ":5: models.m.enabled: expected `true` or `false`, found nothing",
    );
    refused_model(
        "load_balance: sticky",
        ":5: models.m.load_balance: unknown value `sticky`; known: round_robin, weighted, least_connections, latency_based, random",
    );
}

#[test]
fn parameters() {
    let form = "expected a mapping such as `{default: 0.7, allow_override: false}`, found";
    refused_model(
        "parameters: {temperature: 0.7}",
        &format!(":5: models.m.parameters.temperature: {form} a number"),
    );
    refused_model(
        "parameters:\n  stop: [x]",
        &format!(":6: models.m.parameters.stop: {form} a list"),
    );
    refused_model(
        "parameters: {a: {allow_override: true}}",
        ":5: models.m.parameters.a: missing key `default`",
    );
    refused_model(
        "parameters: {a: {default: 1, override: true}}",
        ":5: models.m.parameters.a.override: unknown key; did you mean `allow_override`?",
    );
    for name in ["", ".", "a.", ".a", "a..b", "a. .b"] {
        refused_model(
            &format!("parameters: {{\"{name}\": {{default: 1}}}}"),
            &format!(":5: models.m.parameters.\"{name}\": a name between dots is empty"),
        );
    }
    let deepest = "a.b.c.d.e.f.g.h";
    loaded(&with(&model(&format!(
        "parameters: {{{deepest}: {{default: 1}}}}"
    ))));
    refused_model(
        &format!("parameters: {{{deepest}.i: {{default: 1}}}}"),
        ":5: models.m.parameters.\"a.b.c.d.e.f.g.h.i\": has more than 8 names between dots",
    );
    let own =
        "is the request's own: `model`, `stream`, `messages`, `prompt` and `input` cannot be set";
    for name in ["model", "stream", "messages", "prompt", "input"] {
        refused_model(
            &format!("parameters: {{{name}: {{default: 1}}}}"),
            &format!(":5: models.m.parameters.{name}: {own}"),
        );
    }
    refused_model(
        "parameters: {input.x: {default: 1}}",
        &format!(":5: models.m.parameters.\"input.x\": {own}"),
    );
    refused_model(
        "parameters:\n  a.b.c: {default: 1}\n  a: {default: {}}",
        ":6: models.m.parameters.\"a.b.c\": `a`, which holds it, is set as a whole; one of them",
    );
    for number in [".inf", "-.inf", ".nan", "{a: [.nan]}"] {
        refused_model(
            &format!("parameters: {{a: {{default: {number}}}}}"),
            ":5: models.m.parameters.a.default: JSON has no number for infinity, and none that is no number",
        );
    }
}

#[test]
fn prefixes() {
    let refused_prefix = |prefix: &str, what: &str| {
        refused_model(
            &format!("frontend: [/fine, \"{prefix}\"]"),
            &format!(":5: models.m.frontend[1]: {what}"),
        );
    };
    refused_prefix("openai", "a path must start with `/`");
    refused_prefix(
        "/a?b",
        "holds a character no path can have"
            .replace("no path", "that no path")
            .as_str(),
    );
    let alone = "`/` alone is every path; without `frontend` a model is served there";
    refused_prefix("/", alone);
    refused_prefix("//", alone);
    for prefix in ["/a//b", "/a/./b", "/..", "//a"] {
        refused_prefix(prefix, "holds an empty segment, `.` or `..`");
    }
    refused_prefix(
        "/openai/v1/",
        "`/v1` follows the prefix by itself: write what stands before it",
    );
    for (prefix, path) in [
        ("/v1/x", "/v1"),
        ("/models", "/models"),
        ("/health/x", "/health"),
        ("/readyz", "/readyz"),
        ("/livez", "/livez"),
        ("/metrics", "/metrics"),
        ("/admin", "/admin"),
        ("/api/openai", "/api"),
        ("/generate_stream", "/generate_stream"),
        ("/v2", "/v2/rerank"),
        ("/score", "/score"),
    ] {
        refused_prefix(prefix, &format!("`{path}` is a path of the gateway's own"));
    }
    refused_with(
        &format!(
            "{}metrics: {{path: /internal/metrics}}",
            model("frontend: /internal")
        ),
        ":5: models.m.frontend[0]: `/internal/metrics` is a path of the gateway's own",
    );
}

#[test]
fn inheritance() {
    refused_with(
        "models:\n  a: {extends: b}\n  b:\n    extends: a",
        ":3: models.a.extends: a extends b extends a",
    );
    refused_with(
        "models:\n  leaf: {extends: a}\n  b: {extends: a}\n  a: {extends: b}",
        ":5: models.a.extends: a extends b extends a",
    );
    refused_with(
        "models:\n  a: {extends: a}",
        ":3: models.a.extends: a extends a",
    );
    refused_with(
        "models:\n  base: {enabled: false}\n  leaf:\n    extends: bse",
        ":5: models.leaf.extends: no model is called `bse`; did you mean `base`?",
    );
    refused_with(
        "models:\n  a:\n    extends: $NONE",
        ":4: models.a.extends: the environment variable `NONE` is not set",
    );
}

/// The line is that of the text that has to be changed.
#[test]
fn what_is_wrong_may_be_inherited() {
    refused_with(
        "models:\n  leaf:\n    extends: base\n  base:\n    enabled: false\n    routes:\n    - {backend: b}",
        ":8: models.leaf.routes[0].backend: no backend is called `b`; known: http://a; inherited from `base`",
    );
    refused_with(
        "models:\n  leaf: {extends: base, routes: [{backend: b}]}\n  base:\n    routes: [{backend: \"http://a\"}]",
        ":3: models.leaf.routes[0].backend: no backend is called `b`; known: http://a",
    );
    refused_with(
        "models:\n  \"gpt-*\": &routes\n    routes: [{backend: \"http://a\", model: \"x-*\"}]\n  leaf: {extends: \"gpt-*\"}",
        ":4: models.leaf.routes[0].model: `*` stands for nothing: there is none in the name `leaf`; inherited from `gpt-*`",
    );
    refused_with(
        "models:\n  leaf:\n    extends: base\n    parameters:\n      a: {allow_override: false}\n  base:\n    enabled: false\n    parameters:\n      b: {default: 1}",
        ":6: models.leaf.parameters.a: missing key `default`",
    );
    // Lists are replaced: what the base has in its place is not the reason.
    refused_with(
        "models:\n  leaf:\n    extends: base\n    routes: [{model: x}]\n  base:\n    routes: [{backend: \"http://a\"}]",
        ":5: models.leaf.routes[0]: missing key `backend`",
    );
}

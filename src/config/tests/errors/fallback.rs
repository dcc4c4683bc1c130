//! Fallback, detection, reloading and the admin password as they cannot be meant.

use super::*;

#[test]
fn the_model_of_those_that_name_none() {
    refused_with(
        "default_model: a",
        ":2: default_model: needs `models` beside it",
    );
    refused_with(
        "models: {llama: {enabled: false}}\ndefault_model: lama",
        ":3: default_model: no model is called `lama`; did you mean `llama`?",
    );
    refused_with(
        "models: {a: {enabled: false}}\ndefault_model: a",
        ":3: default_model: the model `a` is disabled",
    );
    refused_with(
        "models: {\"gpt-*\": {enabled: false}}\ndefault_model: gpt-4",
        ":3: default_model: the model `gpt-*` is disabled",
    );
    refused_with(
        "models: {\"gpt-*\": {enabled: false}}\ndefault_model: gpt-*",
        ":3: default_model: must be one model, not a pattern",
    );
    refused_with(
        "models: {}\ndefault_model: a",
        ":3: default_model: no model is called `a`",
    );
    refused_with("default_model: \"\"", ":2: default_model: is empty");
}

#[test]
fn fallback() {
    refused_with(
        "fallback:\n  cooldown_seconds: 5m\n  max_cooldown_seconds: 299",
        ":4: fallback.max_cooldown_seconds: must not be shorter than `cooldown_seconds`",
    );
    refused_with(
        "fallback: {max_cooldown_seconds: 0}",
        ":2: fallback.max_cooldown_seconds: must be longer than 0",
    );
    refused_with(
        "fallback: {num_retries: 0}",
        ":2: fallback.num_retries: must be 1 or more",
    );
    refused_with(
        "fallback: {max_retries: -1}",
        ":2: fallback.max_retries: -1 is out of range",
    );
    refused_with(
        "fallback:\n  alias_fallback:\n    a:\n    - b\n    - a",
        ":6: fallback.alias_fallback.a[1]: a model cannot replace itself",
    );
    refused_with(
        "fallback: {alias_fallback: {a: [\" \"]}}",
        ":2: fallback.alias_fallback.a[0]: is empty",
    );
    refused_with(
        "fallback: {alias_fallback: {\"\": [a]}}",
        ":2: fallback.alias_fallback.\"\": is empty",
    );
}

#[test]
fn detection() {
    let wrong = "must be a status from 400 to 599, or a class of them: `4xx`, `5xx`";
    for code in [
        "200", "399", "600", "3xx", "x", "5x", "0429", "\"+429\"", "\"\"",
    ] {
        refused_with(
            &format!("detection: {{error_codes: [4xx, {code}]}}"),
            &format!(":2: detection.error_codes[1]: {wrong}"),
        );
    }
    refused_with(
        "detection: {error_codes: 429}",
        ":2: detection.error_codes: expected a list, found a number",
    );
    refused_with(
        "detection: {error_patterns: [quota, \"\"]}",
        ":2: detection.error_patterns[1]: is empty: every answer would be a failure",
    );
    let pattern = "p".repeat(256);
    loaded(&with(&format!(
        "detection: {{error_patterns: [{pattern}]}}"
    )));
    refused_with(
        &format!("detection: {{error_patterns: [{pattern}p]}}"),
        ":2: detection.error_patterns[0]: is longer than 256 bytes",
    );
    let many = |count: usize| {
        format!(
            "detection: {{error_patterns: [{}]}}",
            vec!["p"; count].join(", ")
        )
    };
    loaded(&with(&many(256)));
    refused_with(
        &many(257),
        ":2: detection.error_patterns: has at most 256 texts",
    );
}

#[test]
fn reading_the_file_again() {
    let wrong = ":2: reload.interval: must be from 100ms to 1h";
    for interval in ["99ms", "0", "3601s"] {
        refused_with(&format!("reload: {{interval: {interval}}}"), wrong);
    }
    for interval in ["100ms", "1h"] {
        loaded(&with(&format!("reload: {{interval: {interval}}}")));
    }
}

#[test]
fn the_admin_password() {
    refused_with(
        "admin: {listen: \":1\", password: s3cret}",
        ":2: admin.password: needs `token` beside it: without there is no admin API",
    );
    refused_with(
        "admin: {listen: \":1\", token: t, password: \" \"}",
        ":2: admin.password: is empty",
    );
    refused_with(
        "admin: {listen: \":1\", token: t, password: \"s3\\ncret\"}",
        ":2: admin.password: holds a blank or another character no header can carry",
    );
    refused_with(
        "admin: {listen: \":1\", token: t, password: $EMPTY}",
        ":2: admin.password: is empty",
    );
    refused_with(
        "admin: {listen: \":1\", token: t, password: a, password_file: b}",
        ":2: admin.password_file: `password` is there too; one of them",
    );
    refused_with(
        "admin: {listen: \":1\", token: t, password_file: /nonexistent}",
        ":2: admin.password_file: cannot read /nonexistent: No such file or directory (os error 2)",
    );
}

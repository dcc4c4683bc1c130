//! What is refused in the sections about who may use the gateway.

use super::*;

/// A pipeline of one provider, which stands on line 4.
fn provider(text: &str) -> String {
    format!("auth:\n  pipeline:\n    - {{{text}}}")
}

const AT: &str = ":4: auth.pipeline[0]";

#[test]
fn nobody_could_get_in() {
    let nobody = "nobody could get in: no `api_keys`, no `proxy_api_key` and no `pipeline`";
    refused_with("auth: {}", &format!(":2: auth: {nobody}"));
    refused_with(
        "listen: \":1\"\nauth:\n  enabled: true",
        &format!(":3: auth: {nobody}"),
    );
    refused_with(
        "auth:\n  pipeline:\n    - {type: builtin, enabled: false}",
        ":3: auth.pipeline: none is enabled, so nobody could get in",
    );
    refused_with(
        &provider("type: file"),
        &format!(
            "{AT}: has no keys: write `static: {{keys: [...]}}`, or `api_keys` at the top level"
        ),
    );
    refused_with(
        "api_keys: [{key: a}]\nauth:\n  pipeline:\n    - {type: builtin}",
        ":4: auth.pipeline: no provider uses `api_keys` and `proxy_api_key`; add `{type: file}`",
    );
}

#[test]
fn a_key_for_all_clients_that_is_none() {
    refused_with("proxy_api_key: $EMPTY", ":2: proxy_api_key: is empty");
    refused_with(
        "proxy_api_key: \"a b\"",
        ":2: proxy_api_key: holds a blank, a control character or a letter that is not ASCII",
    );
    refused_with(
        "proxy_api_key: a\napi_keys: [{key: a}]",
        ":2: proxy_api_key: this key is among `api_keys`, too",
    );
    refused_with(
        "proxy_api_key: 12345",
        ":2: proxy_api_key: expected a string, found a number; put it in quotes",
    );
}

#[test]
fn keys() {
    let key = |text: &str| format!("api_keys:\n  - {{key: good}}\n  - {{{text}}}");
    let at = |what: &str| format!(":4: api_keys[1]{what}");
    refused_with(&key("name: a"), &at(": missing key `key` (or `key_hash`)"));
    refused_with(&key("key: $EMPTY"), &at(".key: is empty"));
    refused_with(
        &key("key: \"s3cret \""),
        &at(".key: holds a blank, a control character or a letter that is not ASCII"),
    );
    refused_with(
        &key("key: good"),
        &at(".key: this key is there already; first on line 3"),
    );
    // printf %s good | sha256sum
    let hash = "770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c";
    refused_with(
        &key(&format!("key_hash: \"sha256:{hash}\"")),
        &at(".key_hash: this key is there already; first on line 3"),
    );
    refused_with(
        &key(&format!("key: s3cret, key_hash: \"{hash}\"")),
        &at(": `key` and `key_hash` are both there; one of them"),
    );
    refused_with(
        &key("key: a, status: off"),
        &at(".status: unknown value `off`; known: active, disabled, quota_exceeded, expired"),
    );
    refused_with(
        &key("key: a, total_quota: -5"),
        &at(".total_quota: cannot be negative"),
    );
    refused_with(
        &key("key: a, total_budget: 5"),
        &at(".total_budget: needs `prices`: without them nothing costs anything"),
    );
    refused_with(
        &key("key: a, allowed_ips: [10.0.0.0/8, 10.0.0]"),
        &at(
            ".allowed_ips[1]: `10.0.0` is no address or network; write `10.0.0.5`, `10.0.0.0/8` or `2001:db8::/32`",
        ),
    );
    refused_with(
        &key("key: a, expires_at: 31.12.2026"),
        &at(
            ".expires_at: not a time; write `2026-12-31`, `2026-12-31T12:00:00Z` or the seconds since 1970",
        ),
    );
    refused_with(
        &key("key: a, allowed_ip: [a]"),
        &at(".allowed_ip: unknown key; did you mean `allowed_ips`?"),
    );
    refused_with(
        "api_keys: [s3cret]",
        ":2: api_keys[0]: expected a mapping, found a string",
    );
}

#[test]
fn keys_of_a_provider() {
    let text = "auth:\n  pipeline:\n    - type: static\n      static:\n        keys:\n          - {key: a}\n          - key: a";
    refused_with(
        text,
        ":8: auth.pipeline[0].static.keys[1].key: this key is there already; first on line 7",
    );
    refused_with(
        "auth: {defaults: {total_budget: 1}}\nproxy_api_key: a",
        ":2: auth.defaults.total_budget: needs `prices`: without them nothing costs anything",
    );
}

#[test]
fn providers_in_general() {
    refused_with(&provider("name: a"), &format!("{AT}: missing key `type`"));
    refused_with(
        &provider("type: ldap"),
        &format!(
            "{AT}.type: unknown value `ldap`; known: static, file, builtin, redis, database, webhook, lua"
        ),
    );
    refused_with(
        "auth:\n  pipeline:\n    - {type: builtin}\n    - {type: builtin}",
        ":5: auth.pipeline[1].name: a provider is called `builtin` already (by default it is its type); first on line 4",
    );
    refused_with(
        &provider("type: builtin, name: \"a b\""),
        &format!(
            "{AT}.name: a name has 1 to 64 letters, digits, `.`, `_` or `-` and begins with a letter or digit"
        ),
    );
    refused_with(
        &provider("type: builtin, redis: {addr: h}"),
        &format!("{AT}: has a section `redis`, but is of `type: builtin`"),
    );
    refused_with(
        &provider("type: builtin, on_error: allow"),
        &format!("{AT}.on_error: unknown value `allow`; known: deny, skip"),
    );
    refused_with(&provider("type: lua"), &format!("{AT}: missing key `lua`"));
    refused_with(
        &provider("type: lua, lua_script: a, lua_script_file: b"),
        &format!("{AT}: one of `lua`, `lua_script` and `lua_script_file`, not several"),
    );
    refused_with(
        &provider("type: lua, lua: {script: a, path: b}"),
        &format!("{AT}.lua: `script` and `path` are both there; one of them"),
    );
    refused_with(
        &provider("type: lua, lua: {script: \" \"}"),
        &format!("{AT}.lua: `script` is empty"),
    );
}

#[test]
fn providers_elsewhere() {
    refused_with(
        &provider("type: redis"),
        &format!("{AT}.redis: needs `url` or `addr`, or the top-level section `redis`"),
    );
    refused_with(
        &provider("type: redis, redis: {addr: h, key_pattern: \"keys\"}"),
        &format!(
            "{AT}.redis.key_pattern: must hold `{{api_key}}` or `{{key_hash}}`: llmproxy:key:{{api_key}}"
        ),
    );
    refused_with(
        &provider("type: redis, redis: {password: s3cret}"),
        &format!("{AT}.redis: `username`, `password` and `db` need `addr` beside them"),
    );
    refused_with(
        &provider("type: database"),
        &format!("{AT}: missing key `database`"),
    );
    refused_with(
        &provider("type: database, database: {driver: mysql, dsn: \"u:s3cret@tcp(h)\"}"),
        &format!("{AT}.database.dsn: names no database: `/database` is missing"),
    );
    for column in ["\"a; drop\"", "\"\"", "1a", "a.b"] {
        refused_with(
            &provider(&format!(
                "type: database, database: {{driver: sqlite, dsn: a, key_column: {column}}}"
            )),
            &format!(
                "{AT}.database.key_column: a column has 1 to 63 letters, digits or `_`, no digit first"
            ),
        );
    }
    refused_with(
        &provider("type: database, database: {driver: sqlite, dsn: a, fields: [a, \"*\"]}"),
        &format!(
            "{AT}.database.fields[1]: a column has 1 to 63 letters, digits or `_`, no digit first"
        ),
    );
    let hook = |more: &str| {
        provider(&format!(
            "type: webhook, webhook: {{url: \"http://a\"{more}}}"
        ))
    };
    let at = |what: &str| format!("{AT}.webhook{what}");
    refused_with(
        &hook(", method: HEAD"),
        &at(".method: must be POST, PUT, PATCH or GET"),
    );
    refused_with(&hook(", tls: {}"), &at(".tls: only for an https url"));
    refused_with(&hook(", secrets: [a, \"\"]"), &at(".secrets[1]: is empty"));
    refused_with(
        &hook(", secret: a, secrets: [b]"),
        &at(": `secret` and `secrets` are both there; one of them"),
    );
    refused_with(
        &hook(", headers: {x-llmproxy-signature: a}"),
        &at(".headers.x-llmproxy-signature: this header is written by the gateway itself"),
    );
}

#[test]
fn headers_paths_and_refusals() {
    let auth = |text: &str| format!("proxy_api_key: a\nauth:\n  {text}");
    refused_with(
        &auth("header_names: []"),
        ":4: auth.header_names: at least one header is needed",
    );
    refused_with(
        &auth("header_names: [\"a b\"]"),
        ":4: auth.header_names[0]: not a header name",
    );
    refused_with(
        &auth("skip_paths: [/a, b]"),
        ":4: auth.skip_paths[1]: a path must start with `/`",
    );
    refused_with(
        &auth("skip_paths: [/]"),
        ":4: auth.skip_paths[0]: lets everybody in everywhere; write `enabled: false` for that",
    );
    refused_with(
        &auth("storage: redis"),
        ":4: auth.storage: only `file`; other places of keys are providers: `pipeline: [{type: redis}]`",
    );
    refused_with(
        &auth("mode: any"),
        ":4: auth.mode: unknown value `any`; known: first_match, all",
    );
    refused_with(
        &auth("status_codes: {not_found: {allow: true}}"),
        ":4: auth.status_codes.not_found.allow: only disabled, expired and quota_exceeded can be let through",
    );
    refused_with(
        &auth("status_codes: {active: {allow: false}}"),
        ":4: auth.status_codes.active: keys that are good are let in; a script of a provider can refuse them",
    );
    refused_with(
        &auth("status_codes: {disabled: {http_code: 200}}"),
        ":4: auth.status_codes.disabled.http_code: must be from 400 to 599",
    );
    refused_with(
        &auth("status_codes: {disbled: {}}"),
        ":4: auth.status_codes.disbled: unknown key; did you mean `disabled`?",
    );
    refused_with(
        &auth("cache: {max_entries: 0}"),
        ":4: auth.cache.max_entries: must be 1 or more",
    );
}

#[test]
fn the_admin_api() {
    refused_with(
        "admin:\n  token: s3cret",
        ":3: admin.token: needs `listen` beside it: clients' listeners do not serve the admin API",
    );
    refused_with(
        "admin: {listen: \":1\", token: $EMPTY}",
        ":2: admin.token: is empty",
    );
    refused_with(
        "admin: {listen: \":1\", token: \"s3cret \"}",
        ":2: admin.token: holds a blank or another character no header can carry",
    );
    refused_with(
        "admin: {listen: \":1\", token: a, token_file: b}",
        ":2: admin.token_file: `token` is there too; one of them",
    );
    refused_with(
        "admin: {listen: \":1\", token_file: /nonexistent}",
        ":2: admin.token_file: cannot read /nonexistent: No such file or directory (os error 2)",
    );
    refused_with(
        "admin: {db_path: a.db}\nkey_store: {database: {driver: sqlite, dsn: b.db}}",
        ":2: admin.db_path: `key_store` is there too; one of them",
    );
    refused_with(
        "key_store: {database: {driver: postgres, dsn: \"mysql://u:s3cret@h/d\"}}",
        ":2: key_store.database.dsn: is a URL for mysql, but the driver is postgres",
    );
    refused_with("key_store: {}", ":2: key_store: missing key `database`");
}

#[test]
fn a_credential_that_would_not_arrive() {
    refused(
        "backends:\n  - url: http://a\n    api_key: b\n    forward_client_credential: true",
        ":4: backends[0].forward_client_credential: its `api_key` is sent in place of the client's credential; one of them",
    );
}

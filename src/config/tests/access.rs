//! Who may use the gateway: what sections about it mean, in the old spellings and in ours.

use std::path::PathBuf;

use super::*;

fn names(auth: &Auth) -> Vec<&str> {
    auth.header_names
        .iter()
        .map(http::HeaderName::as_str)
        .collect()
}

fn kinds(config: &Config) -> Vec<&str> {
    let providers = config.auth.pipeline.iter();
    providers.map(|provider| &*provider.name).collect()
}

/// The keys of the provider that stands at `index`.
fn keys(config: &Config, index: usize) -> Vec<&str> {
    let ProviderKind::Static(keys) = &config.auth.pipeline[index].kind else {
        panic!("keys")
    };
    let keys = keys.iter();
    keys.filter_map(|key| key.key.as_ref().map(Secret::expose))
        .collect()
}

fn text_of(script: Option<&Script>) -> &str {
    match script.map(|script| &script.source) {
        Some(ScriptSource::Inline(text)) => text,
        other => panic!("no text: {other:?}"),
    }
}

#[test]
fn nobody_is_asked_for_a_key_unless_the_file_says_so() {
    let config = config(&with(""));
    assert_eq!(config.auth, Auth::default());
    assert!(!config.auth.enabled && config.auth.pipeline.is_empty());
    assert_eq!(
        names(&config.auth),
        ["authorization", "x-api-key", "api-key"]
    );
    assert_eq!((&config.key_store, &config.rate_limit), (&None, &None));
    assert_eq!(config.backends[0].forward_client_credential, None);
}

#[test]
fn the_first_scenario_of_llmproxy_means_what_it_says() {
    let config = config(include_str!(
        "../../../tests/fixtures/llmproxy-scenario.yaml"
    ));
    assert!(config.auth.enabled);
    assert_eq!(names(&config.auth), ["authorization", "x-api-key"]);
    assert_eq!(kinds(&config), ["static"]);
    let ProviderKind::Static(keys) = &config.auth.pipeline[0].kind else {
        panic!("keys")
    };
    let [key] = &**keys else { panic!("one key") };
    assert_eq!(
        key.key.as_ref().map(Secret::expose),
        Some("sk-llmproxy-dev-001")
    );
    assert_eq!(key.name.as_deref(), Some("Dev Team"));
    assert_eq!(key.total_quota, Some(1_000_000));
    assert_eq!(key.allowed_ips, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(
        (key.status, key.quota_reset_period),
        (KeyStatus::Active, None)
    );
    let limits = config.rate_limit.unwrap();
    assert!(limits.enabled && limits.global.is_none());
    let per_key = RateLimits {
        requests_per_minute: Some(60),
        max_concurrent: Some(3),
        ..RateLimits::default()
    };
    assert_eq!(limits.per_key, Some(per_key));
}

#[test]
fn one_key_for_all_clients() {
    let config = config(include_str!(
        "../../../tests/fixtures/llm-proxy-readme.yaml"
    ));
    assert!(config.auth.enabled);
    assert_eq!(keys(&config, 0), ["sk-your-unified-api-key"]);
    assert_eq!(config.proxy_api_key, None, "it stands in the pipeline");
}

#[test]
fn an_empty_key_for_all_clients_is_none() {
    for none in ["proxy_api_key: \"\"", "proxy_api_key:", "api_keys: []"] {
        assert!(!config(&with(none)).auth.enabled, "{none}");
    }
}

#[test]
fn keys_alone_switch_authentication_on_and_a_word_switches_it_off() {
    let both = config(&with("api_keys: [{key: a}]\nproxy_api_key: b"));
    assert!(both.auth.enabled && both.api_keys.is_empty());
    assert_eq!(keys(&both, 0), ["a", "b"]);
    let off = config(&with(
        "auth: {enabled: $OFF, pipeline: [{type: redis}]}\napi_keys: [{key: a}]",
    ));
    assert!(!off.auth.enabled);
}

#[test]
fn a_key_store_is_asked_after_the_keys_of_the_file() {
    let config = config(&with(
        "api_keys: [{key: a}]\nadmin: {listen: \":1\", token: t}\ndata_dir: /var/lib/llmproxy",
    ));
    assert_eq!(kinds(&config), ["static", "builtin"]);
    let store = config.key_store.unwrap();
    assert_eq!(store.database.driver, Driver::Sqlite);
    assert_eq!(store.database.dsn.expose(), "/var/lib/llmproxy/keys.db");
    assert_eq!(store.database.table, "llmproxy_keys");
    assert_eq!(store.timeout, Duration::from_secs(3));
}

#[test]
fn where_the_key_store_is() {
    let dsn = |more: &str| {
        let store = config(&with(more)).key_store;
        store.map(|store| store.database.dsn.expose().to_owned())
    };
    assert_eq!(
        dsn("auth: {pipeline: [{type: builtin}]}").as_deref(),
        Some("./data/keys.db")
    );
    assert_eq!(
        dsn("admin: {db_path: ./old/keys.db}").as_deref(),
        Some("./old/keys.db")
    );
    let own = "key_store: {database: {driver: postgres, dsn: \"postgres://u@h/d\"}, timeout: 1s}";
    assert_eq!(dsn(own).as_deref(), Some("postgres://u@h/d"));
    assert_eq!(dsn("admin: {enabled: false, token: t}"), None);
}

#[test]
fn a_token_may_come_from_a_file_and_be_switched_off() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "t0ken\n").unwrap();
    let path = file.path().display();
    let token = |more: &str| {
        let admin = config(&with(&format!("admin: {{{more}}}"))).admin;
        admin.token.map(|token| token.expose().to_owned())
    };
    let from_file = format!("listen: \":1\", token_file: \"{path}\"");
    assert_eq!(token(&from_file).as_deref(), Some("t0ken"));
    assert_eq!(token(&format!("enabled: false, {from_file}")), None);
    assert_eq!(token("token: \"\""), None, "as in older files");
}

const PIPELINE: &str = r#"
redis: {addr: "shared:6379", key_prefix: "p:"}
api_keys: [{key: top}]
auth:
  mode: all
  header_names: [X-API-Key, api-key, x-api-key]
  skip_paths: [/version]
  timeout: 2s
  cache: {ttl: 0, negative_ttl: 1m}
  defaults: {total_quota: 7, quota_reset_period: weekly, rate_limit: {burst: 3, requests_per_second: 1.5}}
  status_codes:
    active: {allow: true, http_code: 200}
    disabled: {allow: true}
    not_found: {http_code: 404, message: who?}
  pipeline:
    - {type: file}
    - {name: own, type: static, static: {keys: [{key: own}]}}
    - {type: builtin, on_error: skip, enabled: false}
    - {type: redis}
    - {name: cache-2, type: redis, redis: {addr: "own:1", password: "p@ss", db: 2, key_pattern: "k:{key_hash}", timeout: 1s}}
    - type: database
      database: {driver: mysql, dsn: "u:p@tcp(h)/d", key_column: token, fields: "token, status"}
      lua_script: return true
    - {type: webhook, webhook: {url: "https://h/x", secret: s, tls: {verify: false}}, lua_script_file: w.lua}
    - {type: lua, lua: {path: scripts/own.lua, timeout: 50ms, max_memory: 2, max_instructions: 5000}}
"#;

#[test]
fn a_pipeline_of_every_kind() {
    let loaded = parse(&with(PIPELINE), "c.yaml", Path::new("/etc/llmproxy"), &env);
    let config = loaded.unwrap().config;
    assert_eq!(
        kinds(&config),
        [
            "file", "own", "builtin", "redis", "cache-2", "database", "webhook", "lua"
        ]
    );
    let auth = &config.auth;
    assert_eq!((auth.enabled, auth.mode), (true, Mode::All));
    assert_eq!(names(auth), ["x-api-key", "api-key"]);
    assert_eq!(
        (auth.cache.ttl, auth.cache.max_entries),
        (Duration::ZERO, 100_000)
    );
    let limits = auth.defaults.rate_limit.as_ref().unwrap();
    assert_eq!(
        (limits.requests_per_second_milli, limits.burst_size),
        (Some(1500), Some(3))
    );
    let codes: Vec<_> = auth.status_codes.iter().collect();
    assert_eq!(codes.len(), 2, "`active` is no refusal: {codes:?}");
    assert!(auth.status_codes[&Refused::Disabled].allow);
    assert_eq!(auth.status_codes[&Refused::NotFound].http_code, Some(404));
    let builtin = &auth.pipeline[2];
    assert_eq!((builtin.enabled, builtin.on_error), (false, OnError::Skip));
    assert_eq!(
        (keys(&config, 0), keys(&config, 1)),
        (vec!["top"], vec!["own"])
    );
    let Some(ScriptSource::File(path)) = auth.pipeline[6].lua.as_ref().map(|lua| &lua.source)
    else {
        panic!("a file")
    };
    assert_eq!(*path, PathBuf::from("/etc/llmproxy/w.lua"));
    let bounds = auth.pipeline[7].lua.as_ref().unwrap();
    assert_eq!(
        (bounds.max_memory, bounds.max_instructions),
        (2 << 20, 5000)
    );
}

#[test]
fn providers_know_where_to_look() {
    let config = config(&with(PIPELINE));
    let redis = |index: usize| match &config.auth.pipeline[index].kind {
        ProviderKind::Redis(redis) => (redis.redis.url.expose(), &*redis.key_pattern),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        redis(3),
        ("redis://shared:6379/0", "llmproxy:key:{api_key}")
    );
    assert_eq!(redis(4), ("redis://:p%40ss@own:1/2", "k:{key_hash}"));
    let ProviderKind::Database(database) = &config.auth.pipeline[5].kind else {
        panic!("a database")
    };
    assert_eq!(
        (&*database.database.table, &*database.key_column),
        ("api_keys", "token")
    );
    assert_eq!(database.fields, ["token", "status"]);
    assert_eq!(text_of(config.auth.pipeline[5].lua.as_ref()), "return true");
    let ProviderKind::Webhook(hook) = &config.auth.pipeline[6].kind else {
        panic!("a webhook")
    };
    assert_eq!(
        (&*hook.method, hook.timeout.as_secs(), hook.secrets.len()),
        ("POST", 5, 1)
    );
}

#[test]
fn a_provider_that_is_switched_off_needs_nothing() {
    let config = config(&with(
        "auth: {pipeline: [{type: redis, enabled: false}, {name: b, type: file, enabled: false}, {type: builtin}]}",
    ));
    assert!(config.auth.enabled);
}

#[test]
fn hooks_are_found_beside_the_file() {
    let text = "hooks:\n  on_request: {path: a.lua, on_failure: deny}\n  on_error: {script: \"return nil\", enabled: false}\n  \
                on_complete: {script_file: /abs/c.lua, timeout: 10s}";
    let config = parse(&with(text), "c.yaml", Path::new("conf"), &env)
        .unwrap()
        .config;
    let file = |hook: &Option<Hook>| match hook.as_ref().map(|hook| &hook.script.source) {
        Some(ScriptSource::File(path)) => path.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(file(&config.hooks.on_request), PathBuf::from("conf/a.lua"));
    assert_eq!(file(&config.hooks.on_complete), PathBuf::from("/abs/c.lua"));
    assert_eq!(config.hooks.on_error, None);
    let request = config.hooks.on_request.unwrap();
    assert_eq!(request.on_failure, OnHookFailure::Deny);
    assert_eq!(request.script.timeout, Duration::from_millis(100));
    assert_eq!(request.script.max_memory, 10 << 20);
    let off = with("hooks: {enabled: false, on_request: {path: a.lua}}");
    assert_eq!(super::config(&off).hooks, Hooks::default());
}

#[test]
fn proxies_that_are_trusted() {
    let config = config(&with("trusted_proxies: [10.0.0.0/8, \"::1\"]"));
    let shown: Vec<_> = config
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown, ["10.0.0.0/8", "::1/128"]);
}

#[test]
fn limits_of_every_kind() {
    let text = "redis: redis://h\nrate_limit:\n  storage: redis\n  on_error: fail_closed\n  \
                global: {enabled: false, requests_per_second: 5}\n  per_user: {requests_per_second: 0.5, burst_size: 10}\n  \
                per_model: {\"llama-*\": {tokens_per_day: 1e6}}\nquota: {storage: redis, time_zone: Europe/Berlin, wait: 0, prompt_estimate: calibrated}";
    let config = config(&with(text));
    let limits = config.rate_limit.unwrap();
    assert_eq!(
        (limits.storage, limits.on_error),
        (Storage::Redis, OnOutage::FailClosed)
    );
    assert_eq!(limits.global, Some(RateLimits::default()), "switched off");
    let user = limits.per_user.unwrap();
    assert_eq!(
        (user.requests_per_second_milli, user.burst_size),
        (Some(500), Some(10))
    );
    assert_eq!(limits.per_model["llama-*"].tokens_per_day, Some(1_000_000));
    assert_eq!(limits.completion_estimate, 1024);
    assert_eq!(config.quota.time_zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(
        (config.quota.wait, config.quota.lease.as_secs()),
        (Duration::ZERO, 30)
    );
    assert_eq!(config.quota.prompt_estimate, PromptEstimate::Calibrated);
    assert_eq!(config.redis.unwrap().key_prefix, "llmproxy:");
}

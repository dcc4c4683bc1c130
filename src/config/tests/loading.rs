//! What loads, and as what.

use std::path::PathBuf;

use super::*;

#[test]
fn one_backend_is_enough() {
    let Loaded { config, later, .. } = loaded("backends: [{url: \"http://vllm:8000/v1\"}]");
    assert!(later.is_empty());
    let backend = &config.backends[0];
    assert_eq!(backend.name, "http://vllm:8000/v1");
    assert_eq!(backend.url.as_str(), "http://vllm:8000/v1");
    assert_eq!((backend.weight, backend.enabled), (1, true));
    assert_eq!(
        (&*backend.auth_header, &*backend.auth_scheme),
        ("Authorization", "Bearer")
    );
    assert_eq!(config.listen[0].address.to_string(), "0.0.0.0:8000");
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert_eq!(config.drain_timeout, Duration::from_secs(300));
    assert_eq!(config.routing.load_balance, Strategy::Weighted);
    assert_eq!(backend.health_check(&config), None);
    assert!(config.usage_hook.enabled && config.usage_hook.reporters.is_empty());
}

#[test]
fn the_first_scenario_of_llmproxy_loads_unchanged() {
    let Loaded { config, later, .. } = loaded(include_str!(
        "../../../tests/fixtures/llmproxy-scenario.yaml"
    ));
    assert_eq!(config.backends[0].url.as_str(), "http://vllm-coder:8000/");
    assert_eq!(config.backends[0].name, "http://vllm-coder:8000");
    assert_eq!(config.backends[0].weight, 10);
    assert!(later.is_empty(), "{later:?}");
}

#[test]
fn the_configuration_of_llmproxy_loads_unchanged() {
    let Loaded { config, later, .. } =
        loaded(include_str!("../../../tests/fixtures/llmproxy-readme.yaml"));
    assert_eq!(config.listen[0].address.to_string(), "0.0.0.0:8000");
    let weights: Vec<_> = config
        .backends
        .iter()
        .map(|backend| (&*backend.name, backend.weight))
        .collect();
    assert_eq!(weights, [("http://vllm:8000", 5), ("http://tgi:8081", 3)]);
    let Reporter::Webhook(billing) = &config.usage_hook.reporters[0] else {
        panic!("a webhook")
    };
    assert_eq!(billing.url.as_str(), "https://your-billing.com/llm-usage");
    assert_eq!(
        (billing.timeout, billing.retry, &*billing.method),
        (Duration::from_secs(3), 5, "POST")
    );
    let Reporter::Database(database) = &config.usage_hook.reporters[1] else {
        panic!("a database")
    };
    assert_eq!(database.database.driver, Driver::Mysql);
    assert_eq!(
        database.database.dsn.expose(),
        "user:pass@tcp(localhost:3306)/llmproxy"
    );
    assert_eq!(config.health_check, Some(HealthCheck::default()));
    assert_eq!(
        config.backends[0].health_check(&config),
        Some(HealthCheck::default())
    );
    assert!(later.is_empty(), "{later:?}");
}

#[test]
fn the_configuration_of_llm_proxy_loads_unchanged() {
    let Loaded { config, later, .. } = loaded(include_str!(
        "../../../tests/fixtures/llm-proxy-readme.yaml"
    ));
    assert_eq!(config.listen[0].address.to_string(), "0.0.0.0:8080");
    let enabled: Vec<_> = config
        .backends
        .iter()
        .map(|backend| (&*backend.name, backend.enabled))
        .collect();
    assert_eq!(enabled, [("provider-a", true), ("provider-b", false)]);
    assert_eq!(
        config.backends[0].api_key.as_ref().unwrap().expose(),
        "sk-real-api-key-a"
    );
    assert_eq!(config.logging.level, LevelFilter::Info);
    let expected = [
        "logging.general_file",
        "logging.separate_files",
        "logging.request_dir",
        "logging.error_dir",
        "logging.mask_sensitive",
        "logging.enable_metrics",
        "logging.max_file_size_mb",
    ];
    assert_eq!(later, expected);
}

#[test]
fn variables_stand_for_values_of_any_type() {
    let config = config(
        "backends: [{url: \"http://${HOST:-vllm}:80\", weight: $WEIGHT, enabled: \"${OFF}\", api_key: \"$KEY\", health_check: $OFF}, {url: \"http://b\"}]\n\
         routing: {load_balance: $STRATEGY, retry: {budget: {ratio: $RATIO}}}\n\
         timeouts: {idle: $WAIT}\nthreads: ${THREADS:-2}\nlimits: {max_body: \"${MAX:-1}KiB\"}",
    );
    let backend = &config.backends[0];
    assert_eq!(backend.url.host_str(), Some("vllm"));
    assert_eq!((backend.weight, backend.enabled), (7, false));
    assert_eq!(backend.api_key.as_ref().unwrap().expose(), "sk-from-env");
    assert_eq!(backend.health_check, BackendHealthCheck::Off);
    assert_eq!(config.routing.load_balance, Strategy::Random);
    assert_eq!(config.routing.retry.budget.ratio.to_string(), "0.5");
    assert_eq!(config.timeouts.idle, Duration::from_secs(45));
    assert_eq!((config.threads, config.limits.max_body), (2, 1024));
}

#[test]
fn what_has_no_effect_yet_is_not_expanded() {
    let loaded = loaded(&with(
        "logging: {general_file: $UNSET}\nmodels: {a: {enabled: false, system_append: \"${UNSET\"}}",
    ));
    assert_eq!(
        loaded.later,
        ["logging.general_file", "models.a.system_append"]
    );
}

#[test]
fn a_dotenv_file_beside_the_file_is_the_second_choice() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join(".env"),
        "KEY=sk-from-file\nNAME='of file'\n",
    )
    .unwrap();
    let file = directory.path().join("c.yaml");
    std::fs::write(
        &file,
        "backends: [{name: $NAME, url: \"http://a\", api_key: $KEY}]",
    )
    .unwrap();
    let config = load(&file, &env).unwrap().config;
    assert_eq!(config.backends[0].name, "of file");
    assert_eq!(
        config.backends[0].api_key.as_ref().unwrap().expose(),
        "sk-from-env"
    );
}

#[test]
fn a_backend_inherits_what_it_does_not_say() {
    let config = config(
        "timeouts: {connect: 1s, idle: 3s}\nhealth_check: {interval: 7s, path: /ping}\nbackends:\n\
         - {url: \"http://a\"}\n- {url: \"http://b\", timeouts: {idle: 9s}, health_check: {path: /live?full=1, rise: 1}}\n\
         - {url: \"http://c\", health_check: false}\n- {url: \"http://d\", health_check: {enabled: false}}\n",
    );
    let timeouts = config.backends[1].timeouts.or(&config.timeouts);
    let seconds = [
        timeouts.connect,
        timeouts.first_byte,
        timeouts.idle,
        timeouts.total,
    ]
    .map(|t| t.as_secs());
    assert_eq!(seconds, [1, 600, 9, 3600]);
    let check = |index: usize| config.backends[index].health_check(&config);
    assert_eq!(check(0), config.health_check);
    let own = check(1).unwrap();
    assert_eq!(
        (own.interval.as_secs(), &*own.path, own.rise, own.fall),
        (7, "/live?full=1", 1, 3)
    );
    assert_eq!((check(2), check(3)), (None, None));
}

#[test]
fn a_section_of_a_backend_switches_its_check_on() {
    let config = config(
        "backends: [{url: \"http://a\", health_check: true}, {url: \"http://b\", health_check: {fall: 1}}]",
    );
    assert_eq!(
        config.backends[0].health_check(&config),
        Some(HealthCheck::default())
    );
    assert_eq!(config.backends[1].health_check(&config).unwrap().fall, 1);
}

#[test]
fn a_check_that_is_off_in_general_is_off() {
    let config = config(&with("health_check: {enabled: false}"));
    assert_eq!(config.backends[0].health_check(&config), None);
}

#[test]
fn listen_takes_all_its_forms() {
    let addresses = |listen: &str| {
        let config = config(&with(&format!("listen: {listen}")));
        config
            .listen
            .iter()
            .map(|l| (l.address.to_string(), l.tls.is_some()))
            .collect::<Vec<_>>()
    };
    let plain = |address: &str| (address.to_owned(), false);
    assert_eq!(addresses("\":1\""), [plain("0.0.0.0:1")]);
    assert_eq!(
        addresses("[\":1\", \"[::1]:2\"]"),
        [plain("0.0.0.0:1"), plain("[::1]:2")]
    );
    let tls = "{address: \":3\", tls: {cert: c.pem, key: k.pem}}";
    assert_eq!(
        addresses(&format!("[\":1\", {tls}]")),
        [plain("0.0.0.0:1"), ("0.0.0.0:3".to_owned(), true)]
    );
    assert_eq!(addresses(tls), [("0.0.0.0:3".to_owned(), true)]);
    assert_eq!(
        addresses("[\":0\", \":0\"]"),
        [plain("0.0.0.0:0"), plain("0.0.0.0:0")]
    );
    assert_eq!(addresses(""), [plain("0.0.0.0:8000")]);
}

#[test]
fn credentials_in_a_url_become_the_credential() {
    let config = config(
        "backends: [{url: \"http://user:p%40ss@a/v1\"}, {url: \"http://user:s3cret@b\", api_key: sk-own}]",
    );
    let (a, b) = (&config.backends[0], &config.backends[1]);
    assert_eq!((&*a.name, a.url.as_str()), ("http://a/v1", "http://a/v1"));
    assert_eq!(
        (a.api_key.as_ref().unwrap().expose(), &*a.auth_scheme),
        ("dXNlcjpwQHNz", "Basic")
    );
    assert_eq!(
        (b.api_key.as_ref().unwrap().expose(), &*b.auth_scheme),
        ("sk-own", "Bearer")
    );
    assert_eq!(b.url.as_str(), "http://b/");
}

#[test]
fn a_key_can_come_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "sk-file\n").unwrap();
    let config = config(&format!(
        "backends: [{{url: \"http://a\", api_key_file: \"{}\", auth_header: x-api-key, auth_scheme: \"\"}}]",
        file.path().display()
    ));
    assert_eq!(
        config.backends[0].api_key.as_ref().unwrap().expose(),
        "sk-file"
    );
    assert_eq!(
        (
            &*config.backends[0].auth_header,
            &*config.backends[0].auth_scheme
        ),
        ("x-api-key", "")
    );
}

#[test]
fn one_webhook_can_be_written_the_old_way() {
    let hook = config(&with(
        "usage_hook: {enabled: true, url: \"http://u/x?k=v\", timeout: 1s, retry: 2}",
    ))
    .usage_hook;
    let [Reporter::Webhook(webhook)] = &*hook.reporters else {
        panic!("one webhook")
    };
    assert_eq!(
        (&*webhook.name, webhook.url.as_str()),
        ("webhook", "http://u/x?k=v")
    );
    assert_eq!(
        (webhook.timeout, webhook.retry, webhook.enabled),
        (Duration::from_secs(1), 2, true)
    );
}

#[test]
fn the_type_of_a_reporter_may_stand_anywhere() {
    let text = "{name: a, url: \"http://u\", timeout: 1s, type: webhook, retry: 9}";
    let reporter = config(&with(&format!("usage_hook: {{reporters: [{text}]}}")))
        .usage_hook
        .reporters
        .remove(0);
    assert_eq!(serde_yaml::from_str::<Reporter>(text).unwrap(), reporter);
    let Reporter::Webhook(webhook) = reporter else {
        panic!("a webhook")
    };
    assert_eq!(
        (webhook.timeout, webhook.retry),
        (Duration::from_secs(1), 9)
    );
}

#[test]
fn sections_may_be_empty() {
    let empty = "admin:\ntimeouts:\nrouting:\nlimits:\nmetrics:\nlogging:\nusage_hook:\nledger:\nprices:\npassthrough_paths:\nauth:\napi_keys:\nproxy_api_key:\n\
         trusted_proxies:\nkey_store:\nrate_limit:\nquota:\nredis:\nhooks:\nhealth_check:\nlisten:";
    assert_eq!(config(&with(empty)), config(&with("")));
}

#[test]
fn older_names_of_keys_work() {
    let config = config(&with(
        "routing: {load_balance_strategy: least_connections}\nhealth_check: {healthy_threshold: 5, unhealthy_threshold: 6}",
    ));
    assert_eq!(config.routing.load_balance, Strategy::LeastConnections);
    assert_eq!(
        config.health_check.map(|check| (check.rise, check.fall)),
        Some((5, 6))
    );
}

#[test]
fn anchors_and_merges_work() {
    let config = config(
        "backends:\n  - &first {name: a, url: \"http://a\", weight: 4, headers: {X-A: \"1\"}}\n  \
         - {<<: *first, name: b}\n  - {<<: [*first], name: c, weight: 2}\n",
    );
    let weights: Vec<_> = config
        .backends
        .iter()
        .map(|b| (&*b.name, b.weight, b.headers.len()))
        .collect();
    assert_eq!(weights, [("a", 4, 1), ("b", 4, 1), ("c", 2, 1)]);
}

#[test]
fn a_configuration_prints_no_secret() {
    let config = config(
        "backends: [{url: \"http://u:S3CRET@a\"}, {url: \"http://b\", api_key: S3CRET, headers: {X-Key: S3CRET}}]\n\
         usage_hook:\n  reporters:\n  - {name: a, type: webhook, url: \"http://u:S3CRET@h/x?k=S3CRET\", headers: {X: S3CRET}, secret: S3CRET}\n  \
         - {name: b, type: database, database: {driver: mysql, dsn: \"u:S3CRET@tcp(h)/d\"}}\n  \
         - {name: c, type: webhook, url: \"http://h\", secrets: [S3CRET, S3CRET2]}\nproxy_api_key: S3CRET\n\
         api_keys: [{key: S3CRET2}]\nadmin: {listen: \":1\", token: S3CRET}\n\
         redis: {addr: h, password: S3CRET}\nkey_store: {database: {driver: mysql, dsn: \"u:S3CRET@tcp(h)/d\"}}\n\
         auth:\n  pipeline:\n  - {type: static, name: a, static: {keys: [{key: S3CRET}]}}\n  - {type: file}\n  \
         - {type: redis, redis: {url: \"redis://:S3CRET@h\"}}\n  \
         - {type: database, database: {driver: mysql, dsn: \"u:S3CRET@tcp(h)/d\"}}\n  \
         - {type: webhook, webhook: {url: \"http://u:S3CRET@h\", headers: {X: S3CRET}, secret: S3CRET}}",
    );
    let printed = format!("{config:?} {config:#?} {}", config.backends[0].url);
    assert!(
        printed.contains("***") && !printed.contains("S3CRET"),
        "{printed}"
    );
    assert!(!printed.contains("dTpTM0NSRVQ="), "{printed}");
}

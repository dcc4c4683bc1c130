//! Reporters and the ledger: what they are when little is said.

use super::*;

fn reporter(text: &str) -> Reporter {
    let hook = config(&with(&format!(
        "usage_hook: {{reporters: [{{name: a, {text}}}]}}"
    )));
    hook.usage_hook.reporters.into_iter().next().unwrap()
}

#[test]
fn a_webhook_that_says_little() {
    let Reporter::Webhook(hook) = reporter("type: webhook, url: \"http://h\"") else {
        panic!("a webhook")
    };
    assert_eq!(hook, WebhookReporter::new("a", hook.url.clone()));
    assert_eq!(
        (hook.batch_size, hook.concurrency, hook.retry, hook.gzip),
        (1, 8, 5, false)
    );
    let waits = [
        hook.timeout,
        hook.batch_interval,
        hook.initial_wait,
        hook.max_wait,
        hook.max_age,
    ];
    assert_eq!(
        waits.map(|wait| wait.as_millis()),
        [3_000, 1_000, 500, 60_000, 72 * 3_600_000]
    );
    assert_eq!((hook.format, hook.tls), (Format::Json, None));
    assert!(hook.secrets.is_empty() && !hook.include_body && !hook.include_key);
}

#[test]
fn a_database_that_says_little() {
    let Reporter::Database(sink) =
        reporter("type: database, database: {driver: sqlite, dsn: u.db}")
    else {
        panic!("a database")
    };
    assert_eq!((sink.batch_size, sink.required), (500, false));
    let waits = [sink.batch_interval, sink.timeout, sink.max_age];
    assert_eq!(
        waits.map(|wait| wait.as_millis()),
        [200, 10_000, 72 * 3_600_000]
    );
    assert_eq!(sink.database.table, "usage_records");
}

#[test]
fn a_file_that_says_little() {
    let Reporter::File(file) = reporter("type: file, path: logs/usage.jsonl") else {
        panic!("a file")
    };
    assert_eq!(
        (file.max_size, file.max_files, file.rotate_every),
        (100 << 20, 10, None)
    );
    assert_eq!(file.batch_interval, Duration::from_millis(200));
    assert_eq!(file.max_age, Duration::from_secs(72 * 3600));
}

#[test]
fn every_type_has_what_is_common() {
    let common = "enabled: false, filter: {models: [\"m*\"], keys: [k], users: [u], \
                  outcomes: [completed, client_aborted, upstream_failed, interrupted]}, \
                  include_body: true, include_key: true, max_age: 1h";
    for own in [
        "type: webhook, url: \"http://h\"",
        "type: database, database: {driver: sqlite, dsn: u.db}",
        "type: file, path: u.jsonl",
    ] {
        let reporter = reporter(&format!("{own}, {common}"));
        assert!(!reporter.enabled());
        let common = reporter.common();
        let Filter {
            models,
            keys,
            users,
            outcomes,
        } = common.filter;
        let outcomes: [UsageOutcome; 4] = outcomes.try_into().unwrap();
        assert_eq!([models, keys, users], [["m*"], ["k"], ["u"]]);
        assert_eq!(
            outcomes.map(UsageOutcome::as_str),
            [
                "completed",
                "client_aborted",
                "upstream_failed",
                "interrupted"
            ]
        );
        assert!(common.include_body && common.include_key);
        assert_eq!(common.max_age, Duration::from_secs(3600));
    }
}

#[test]
fn one_secret_is_a_list_of_one() {
    let secrets = |text: &str| {
        let Reporter::Webhook(hook) =
            reporter(&format!("type: webhook, url: \"http://h\", {text}"))
        else {
            panic!("a webhook")
        };
        assert_eq!(hook.secret, None);
        let secrets = hook.secrets.iter();
        secrets
            .map(|secret| secret.expose().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(secrets("secret: $KEY"), ["sk-from-env"]);
    assert_eq!(secrets("secrets: [new, old]"), ["new", "old"]);
    assert!(secrets("gzip: true").is_empty());
}

#[test]
fn databases_are_reached_by_url_or_as_go_writes_it() {
    for (driver, dsn) in [
        ("sqlite", "./data/usage.db"),
        ("sqlite3", "sqlite://./data/usage.db"),
        ("postgres", "postgres://u:p%40ss@h:5432/d?sslmode=require"),
        ("postgresql", "host=h user=u password='p ss' dbname=d"),
        ("mysql", "mysql://u:p@h/d"),
        ("mysql", "u:p@ss@tcp(h:3306)/d?parseTime=true"),
    ] {
        let text = format!("type: database, database: {{driver: {driver}, dsn: \"{dsn}\"}}");
        let Reporter::Database(sink) = reporter(&text) else {
            panic!("a database")
        };
        assert_eq!(sink.database.dsn.expose(), dsn);
    }
}

#[test]
fn the_ledger_without_a_word() {
    let ledger = config(&with("")).ledger;
    assert_eq!(ledger, Ledger::default());
    assert_eq!(
        (ledger.fsync, ledger.on_failure),
        (Fsync::Interval, OnFailure::Refuse)
    );
    assert_eq!((ledger.segment_size, ledger.max_size), (16 << 20, 10 << 30));
    let times = [
        ledger.fsync_interval,
        ledger.retain,
        ledger.slow_after,
        ledger.amend_interval,
    ];
    assert_eq!(times.map(|time| time.as_secs()), [1, 86_400, 1, 1]);
}

#[test]
fn the_ledger_as_it_is_written() {
    let ledger = config(&with(
        "ledger: {fsync: always, on_failure: serve_unmetered, segment_size: 1GiB, max_size: 2GiB, retain: 0}",
    ))
    .ledger;
    assert_eq!(
        (ledger.fsync, ledger.on_failure),
        (Fsync::Always, OnFailure::ServeUnmetered)
    );
    assert_eq!((ledger.segment_size, ledger.max_size), (1 << 30, 2 << 30));
    assert!(ledger.retain.is_zero());
}

#[test]
fn a_backend_is_asked_for_continuous_usage_only_if_told_so() {
    let config =
        config("backends: [{url: \"http://a\"}, {url: \"http://b\", continuous_usage: true}]");
    let asked: Vec<_> = config.backends.iter().map(|b| b.continuous_usage).collect();
    assert_eq!(asked, [false, true]);
}

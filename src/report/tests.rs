use std::fs;
use std::sync::Mutex;

use prometheus::Registry;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row};

use super::testing::{FAILED, OK, Receiver, until};
use super::*;
use crate::ledger::LedgerMetrics;

const LONG: Duration = Duration::from_secs(20);

fn ledger(dir: &Path) -> Arc<Ledger> {
    let settings = config::Ledger {
        segment_size: 1 << 20,
        ..config::Ledger::default()
    };
    let metrics = LedgerMetrics::register(&Registry::new()).unwrap();
    Ledger::open(&settings, dir, metrics).unwrap()
}

fn hook(reporters: &str) -> config::UsageHook {
    serde_yaml::from_str(&format!("{{reporters: [{reporters}]}}")).unwrap()
}

/// Builds the reporters of a `reporters:` list in YAML flow style.
fn build(reporters: &str, dir: &Path, ledger: &Arc<Ledger>) -> Result<Arc<Reporters>, BuildError> {
    let metrics = ReportMetrics::register(&Registry::new()).unwrap();
    Reporters::build(&hook(reporters), dir, ledger, &metrics).map(Arc::new)
}

fn webhook(url: &str) -> String {
    format!("{{name: billing, type: webhook, url: \"{url}\", initial_wait: 1ms}}")
}

fn append(ledger: &Ledger, ids: &[&str]) {
    for id in ids {
        let event = UsageEvent {
            event_id: (*id).to_owned(),
            ..UsageEvent::default()
        };
        assert!(ledger.is_safe(ledger.record(&event)));
    }
}

async fn during(reporters: &Arc<Reporters>, drain: Duration, test: impl Future<Output = ()>) {
    let (stop, shutdown) = watch::channel(false);
    let test = async {
        test.await;
        stop.send(true).unwrap();
    };
    tokio::join!(Arc::clone(reporters).run(shutdown, drain), test);
}

#[tokio::test]
async fn every_reporter_gets_every_event() {
    let dir = tempfile::tempdir().unwrap();
    let (table, file) = (dir.path().join("usage.db"), dir.path().join("usage.jsonl"));
    let receiver = Receiver::new(&[FAILED, OK]).await;
    let list = format!(
        "{}, {{name: db, type: database, database: {{driver: sqlite, dsn: \"sqlite:{}\", table: t}}}}, \
        {{name: shipped, type: file, path: \"{}\"}}",
        webhook(&receiver.url()),
        table.display(),
        file.display()
    );
    let ledger = ledger(dir.path());
    let reporters = build(&list, dir.path(), &ledger).unwrap();
    assert!(!reporters.is_empty());
    append(&ledger, &["1", "2", "3"]);
    receiver.during(during(&reporters, LONG, async {})).await;

    let mut posted = receiver.ids();
    assert_eq!(posted.len(), 4, "three events, one of them twice");
    posted.sort();
    posted.dedup();
    assert_eq!(posted, ["1", "2", "3"]);
    let database = SqliteConnectOptions::new().filename(&table);
    let mut database = database.connect().await.unwrap();
    let rows = sqlx::query("SELECT event_id FROM t ORDER BY 1").fetch_all(&mut database);
    let rows: Vec<String> = rows.await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, ["1", "2", "3"]);
    let lines = fs::read_to_string(file).unwrap();
    let lines: Vec<UsageEvent> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids: Vec<_> = lines.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
}

#[tokio::test]
async fn what_nobody_took_stays_in_the_ledger_for_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let closed = Receiver::new(&[]).await.url();
    let reporters = build(&webhook(&closed), dir.path(), &ledger).unwrap();
    append(&ledger, &["1", "2", "3"]);
    during(&reporters, Duration::from_millis(20), async {}).await;
    drop(reporters);

    let receiver = Receiver::new(&[OK]).await;
    let reporters = build(&webhook(&receiver.url()), dir.path(), &ledger).unwrap();
    let delivered = until("delivery", || receiver.ids().len() == 3);
    receiver.during(during(&reporters, LONG, delivered)).await;
    let again = build(&webhook(&receiver.url()), dir.path(), &ledger).unwrap();
    receiver.during(during(&again, LONG, async {})).await;
    assert_eq!(receiver.ids(), ["1", "2", "3"], "once");
}

#[tokio::test]
async fn a_reporter_that_is_slow_delays_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let closed = Receiver::new(&[]).await.url();
    let receiver = Receiver::new(&[OK]).await;
    let list = format!(
        "{}, {{name: away, type: webhook, url: \"{closed}\"}}",
        webhook(&receiver.url())
    );
    let reporters = build(&list, dir.path(), &ledger).unwrap();
    let seen = Mutex::new(0);
    let test = async {
        append(&ledger, &["1"]);
        until("the first", || receiver.ids().len() == 1).await;
        append(&ledger, &["2"]);
        until("the second", || receiver.ids().len() == 2).await;
        *seen.lock().unwrap() = 2;
    };
    receiver
        .during(during(&reporters, Duration::ZERO, test))
        .await;
    assert_eq!(*seen.lock().unwrap(), 2);
}

#[test]
fn reporters_that_are_off_are_left_out_and_want_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let list = "{name: a, type: webhook, enabled: false, url: \"http://a\", include_key: true}, \
        {name: b, type: database, enabled: false, database: {driver: sqlite, dsn: b}}, \
        {name: c, type: file, enabled: false, path: c, include_body: true}";
    let off = build(list, dir.path(), &ledger).unwrap();
    assert!(off.is_empty());
    assert_eq!(off.wants(), Includes::default());

    let metrics = ReportMetrics::register(&Registry::new()).unwrap();
    let hook = config::UsageHook {
        enabled: false,
        ..hook(&webhook("http://a"))
    };
    let off = Reporters::build(&hook, dir.path(), &ledger, &metrics);
    assert!(off.unwrap().is_empty());
}

#[test]
fn what_one_reporter_includes_the_ledger_must_hold() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let wants = |list: &str| build(list, dir.path(), &ledger).unwrap().wants();
    let (plain, key, body) = (
        "{name: a, type: file, path: a}",
        "{name: b, type: file, path: b, include_key: true}",
        "{name: c, type: file, path: c, include_body: true}",
    );
    let includes = |key, body| Includes { key, body };
    assert_eq!(wants(plain), includes(false, false));
    assert_eq!(wants(&format!("{plain}, {key}")), includes(true, false));
    assert_eq!(wants(&format!("{body}, {plain}")), includes(false, true));
}

#[test]
fn a_reporter_that_cannot_work_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let metrics = ReportMetrics::register(&Registry::new()).unwrap();
    let twice = format!("{0}, {0}", webhook("http://a"));
    let error = build(&twice, dir.path(), &ledger).err().unwrap();
    let text = "usage_hook: two reporters are named \"billing\"";
    assert_eq!(error.to_string(), text);
    let error = Reporters::check(&hook(&twice), &metrics).unwrap_err();
    assert_eq!(error.to_string(), text);

    let nowhere = "{name: shipped, type: file, path: /}";
    let error = Reporters::check(&hook(nowhere), &metrics).unwrap_err();
    let start = "usage_hook: reporter \"shipped\": path:";
    assert!(error.to_string().starts_with(start), "{error}");
}

#[test]
fn building_touches_no_receiver_and_a_name_cannot_leave_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let data_dir = dir.path().join("data");
    let list = format!(
        "{{name: ../up, type: file, path: \"{0}/a.jsonl\"}}, \
        {{name: db, type: database, database: {{driver: sqlite, dsn: \"{0}/a.db\"}}}}",
        data_dir.display()
    );
    drop(build(&list, &data_dir, &ledger).unwrap());
    assert!(!data_dir.exists());
    assert!(ledger.path().join("cursors/%2E%2E%2Fup.json").exists());
}

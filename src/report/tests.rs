use std::fs;

use prometheus::Registry;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row};

use super::testing::{FAILED, OK, Receiver, until};
use super::*;

const LONG: Duration = Duration::from_secs(20);

/// Builds the reporters of a `reporters:` list in YAML flow style.
fn build(reporters: &str, data_dir: &Path) -> Result<Arc<Reporters>, BuildError> {
    let yaml = format!("{{enabled: true, reporters: [{reporters}]}}");
    let metrics = ReportMetrics::register(&Registry::new()).unwrap();
    let hook = serde_yaml::from_str(&yaml).unwrap();
    Reporters::build(&hook, data_dir, &metrics).map(Arc::new)
}

fn webhook(url: &str, retry: u32) -> String {
    format!("{{name: billing, type: webhook, url: \"{url}\", timeout: 5s, retry: {retry}}}")
}

async fn during(reporters: &Arc<Reporters>, drain: Duration, test: impl Future<Output = ()>) {
    let (stop, shutdown) = watch::channel(false);
    let test = async {
        test.await;
        stop.send(true).unwrap();
    };
    tokio::join!(Arc::clone(reporters).run(shutdown, drain), test);
}

fn event(id: &str) -> UsageEvent {
    UsageEvent {
        event_id: id.to_owned(),
        ..UsageEvent::default()
    }
}

#[tokio::test]
async fn every_reporter_gets_every_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let receiver = Receiver::new(&[FAILED, OK]).await;
    let list = format!(
        "{}, {{name: db, type: database, database: {{driver: sqlite, dsn: \"sqlite:{}\", table: t}}}}",
        webhook(&receiver.url(), 5),
        path.display()
    );
    let reporters = build(&list, dir.path()).unwrap();
    assert!(!reporters.is_empty());
    for id in ["1", "2", "3"] {
        reporters.submit(event(id));
    }
    assert_eq!(reporters.pending(), 6);
    let delivered = until("delivery", || reporters.pending() == 0);
    receiver
        .during(during(&reporters, Duration::ZERO, delivered))
        .await;

    let mut posted = receiver.ids();
    assert_eq!(posted.len(), 4, "three events, one of them twice");
    posted.sort();
    posted.dedup();
    assert_eq!(posted, ["1", "2", "3"]);
    let mut database = SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await
        .unwrap();
    let rows = sqlx::query("SELECT event_id FROM t ORDER BY 1")
        .fetch_all(&mut database)
        .await;
    let rows: Vec<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, ["1", "2", "3"]);
}

#[tokio::test]
async fn an_event_is_posted_retry_times_then_kept_and_delivered_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Receiver::new(&[FAILED]).await;
    let reporters = build(&webhook(&broken.url(), 3), dir.path()).unwrap();
    reporters.submit(event("1"));
    let given_up = until("the third post", || reporters.pending() == 0);
    broken
        .during(during(&reporters, Duration::ZERO, given_up))
        .await;
    assert_eq!(broken.ids(), ["1", "1", "1"]);
    let file = dir.path().join("usage-undelivered-billing.jsonl");
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        broken.requests()[0].body.clone() + "\n"
    );

    let healthy = Receiver::new(&[OK]).await;
    let reporters = build(&webhook(&healthy.url(), 3), dir.path()).unwrap();
    let delivered = async {
        until("delivery", || !healthy.ids().is_empty()).await;
        until("removal", || fs::read_dir(dir.path()).unwrap().count() == 0).await;
    };
    healthy
        .during(during(&reporters, Duration::ZERO, delivered))
        .await;
    assert_eq!(healthy.ids(), ["1"]);

    let again = build(&webhook(&healthy.url(), 3), dir.path()).unwrap();
    healthy.during(during(&again, LONG, async {})).await;
    assert_eq!(
        healthy.ids(),
        ["1"],
        "delivered a second time after another restart"
    );
}

#[tokio::test]
async fn shutdown_keeps_what_an_unreachable_receiver_did_not_take() {
    let dir = tempfile::tempdir().unwrap();
    let closed = Receiver::new(&[]).await.url();
    let reporters = build(&webhook(&closed, 1000), dir.path()).unwrap();
    for id in 0..100 {
        reporters.submit(event(&id.to_string()));
    }
    during(&reporters, Duration::from_millis(20), async {}).await;
    assert_eq!(reporters.pending(), 0);

    let receiver = Receiver::new(&[OK]).await;
    let reporters = build(&webhook(&receiver.url(), 1), dir.path()).unwrap();
    let delivered = until("delivery", || receiver.ids().len() == 100);
    receiver.during(during(&reporters, LONG, delivered)).await;
    let mut ids: Vec<usize> = receiver
        .ids()
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_event_without_an_id_gets_one_and_client_chosen_texts_are_clipped() {
    let dir = tempfile::tempdir().unwrap();
    let reporters = build(&webhook("http://127.0.0.1:9", 1), dir.path()).unwrap();
    // After the workers ended, events go to disk, where they can be read.
    let (_, shutdown) = watch::channel(true);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(Arc::clone(&reporters).run(shutdown, Duration::ZERO));
    reporters.submit(UsageEvent {
        model: "ä".repeat(1000),
        ..UsageEvent::default()
    });
    reporters.submit(UsageEvent {
        request_id: "x".repeat(257),
        ..UsageEvent::default()
    });

    let text = fs::read_to_string(dir.path().join("usage-undelivered-billing.jsonl")).unwrap();
    let events: Vec<UsageEvent> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0].model, "ä".repeat(128));
    assert_eq!(events[1].request_id, "x".repeat(256));
    assert_eq!(events[0].event_id.len(), 36);
    assert!(events[0].event_id < events[1].event_id);
}

#[test]
fn reporters_that_are_off_or_whose_driver_is_missing_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let list = "{name: a, type: webhook, enabled: false, url: \"http://a\"}, \
        {name: b, type: database, enabled: false, database: {driver: sqlite, dsn: b}}, \
        {name: c, type: database, database: {driver: mysql, dsn: \"user:pass@tcp(h:3306)/db\"}}";
    assert!(build(list, dir.path()).unwrap().is_empty());

    let metrics = ReportMetrics::register(&Registry::new()).unwrap();
    let yaml = format!(
        "{{enabled: false, reporters: [{}]}}",
        webhook("http://a", 1)
    );
    let off = Reporters::build(&serde_yaml::from_str(&yaml).unwrap(), dir.path(), &metrics);
    assert!(off.unwrap().is_empty());
}

#[test]
fn a_reporter_that_cannot_work_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |list: &str| build(list, dir.path()).err().unwrap().to_string();
    assert_eq!(
        refused("{name: db, type: database, database: {driver: sqlite, dsn: \":memory:\"}}"),
        "usage_hook: reporter \"db\": database.dsn: usage in memory would be lost, name a file"
    );
    let twice = format!("{0}, {0}", webhook("http://a", 1));
    assert_eq!(
        refused(&twice),
        "usage_hook: two reporters are named \"billing\""
    );
}

#[test]
fn building_touches_neither_disk_nor_network() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let list = format!(
        "{}, {{name: db, type: database, database: {{driver: sqlite, dsn: \"{}/a.db\"}}}}",
        webhook("http://127.0.0.1:9", 1),
        data_dir.display()
    );
    drop(build(&list, &data_dir).unwrap());
    assert!(!data_dir.exists());
}

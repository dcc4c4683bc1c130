//! SQLite, and what all databases have in common; `tests/it` speaks with real servers.

use std::fs;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection};

use super::super::testing::{event, events};
use super::migrations::MIGRATIONS;
use super::*;
use crate::ledger::{Outcome, now};

mod upgrade;

fn config(path: &Path, more: &str) -> DatabaseReporter {
    let yaml = format!(
        "{{name: db, database: {{driver: sqlite, dsn: \"{}\"}}{more}}}",
        path.display()
    );
    serde_yaml::from_str(&yaml).unwrap()
}

fn database(path: &Path) -> Database {
    Database::new(&config(path, "")).unwrap()
}

async fn connect(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    options.create_if_missing(true).connect().await.unwrap()
}

async fn rows(path: &Path, sql: &'static str) -> Vec<SqliteRow> {
    let mut connection = connect(path).await;
    sqlx::query(sql).fetch_all(&mut connection).await.unwrap()
}

async fn execute(connection: &mut SqliteConnection, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

async fn count(path: &Path) -> i64 {
    rows(path, "SELECT count(*) FROM usage_records").await[0].get(0)
}

#[tokio::test]
async fn a_new_file_is_not_for_everybody() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    database(&path).deliver(&events(0..1)).await.unwrap();
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}

fn full_event() -> UsageEvent {
    UsageEvent {
        request_id: "req".into(),
        user_id: "alice".into(),
        api_key: "sk-…1234".into(),
        model: "llama".into(),
        prompt_tokens: 1,
        completion_tokens: 2,
        total_tokens: 3,
        is_stream: true,
        endpoint: "/v1/completions".into(),
        timestamp: "2026-01-14T10:30:00.000Z".into(),
        backend_url: "http://vllm:8000".into(),
        event_id: "id".into(),
        key_id: "key".into(),
        cached_tokens: 4,
        reasoning_tokens: 5,
        backend: "vllm".into(),
        outcome: Outcome::UpstreamFailed,
        usage_source: "estimated".into(),
        status: 206,
        latency_ms: 6,
        ttft_ms: Some(7),
        attempts: 8,
        cost_nanos: Some(9),
        currency: Some("EUR".into()),
        price_effective: Some("2026-01-01T00:00:00Z".into()),
        raw_key: Some("sk-llmproxy-dev-1234".into()),
        request_body: Some("{\"prompt\":\"hi\"}".into()),
        quota: None,
    }
}

/// Returns the row as the JSON of an event, column by column.
fn as_json(row: &SqliteRow) -> serde_json::Value {
    let columns = migrations::columns().filter(|column| column.name != "created_at");
    let value = |column: &columns::Column| match column.kind {
        columns::Kind::Flag => row.get::<bool, _>(column.name).into(),
        columns::Kind::Count | columns::Kind::MaybeCount => {
            row.get::<Option<i64>, _>(column.name).into()
        }
        _ => row.get::<Option<String>, _>(column.name).into(),
    };
    let pairs = columns.map(|column| (column.name.to_owned(), value(column)));
    pairs.collect::<serde_json::Map<_, _>>().into()
}

#[tokio::test]
async fn a_row_holds_every_field_of_its_event_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/on/demand/usage.db");
    let before = now();
    let batch = [Arc::new(full_event())];
    let database = Database::new(&config(&path, ", include_key: true, include_body: true"));
    database.unwrap().deliver(&batch).await.unwrap();

    let rows = rows(&path, "SELECT * FROM usage_records").await;
    assert_eq!(rows.len(), 1);
    let mut expected = serde_json::to_value(full_event()).unwrap();
    let raw_key = expected.as_object_mut().unwrap().remove("raw_key").unwrap();
    expected["api_key"] = raw_key;
    assert_eq!(as_json(&rows[0]), expected);
    let created_at: String = rows[0].get("created_at");
    assert!((before..=now()).contains(&created_at), "{created_at}");
}

#[tokio::test]
async fn neither_key_nor_body_is_written_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    database(&path)
        .deliver(&[Arc::new(full_event())])
        .await
        .unwrap();
    let row = &rows(&path, "SELECT * FROM usage_records").await[0];
    assert_eq!(row.get::<String, _>("api_key"), "sk-…1234");
    assert_eq!(row.get::<Option<String>, _>("request_body"), None);
}

#[tokio::test]
async fn an_event_delivered_twice_is_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let first = database(&path);
    first.deliver(&events(0..1256)).await.unwrap();
    first.deliver(&events(1200..1300)).await.unwrap();
    first.deliver(&[event("x"), event("x")]).await.unwrap();
    database(&path).deliver(&events(0..10)).await.unwrap();
    assert_eq!(count(&path).await, 1301);
}

#[tokio::test]
async fn an_empty_batch_creates_the_table_in_wal_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    probe(&config(&path, "")).await.unwrap();
    assert_eq!(count(&path).await, 0);
    let mode = &rows(&path, "PRAGMA journal_mode").await[0];
    assert_eq!(mode.get::<String, _>(0), "wal");
}

#[tokio::test]
async fn texts_no_database_takes_are_changed_and_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let hostile = UsageEvent {
        model: format!("a\0{}", "ß".repeat(999)),
        ..full_event()
    };
    database(&path).deliver(&[Arc::new(hostile)]).await.unwrap();
    let model: String = rows(&path, "SELECT model FROM usage_records").await[0].get(0);
    assert_eq!(model, format!("a\u{fffd}{}", "ß".repeat(254)));
}

#[tokio::test]
async fn a_row_that_breaks_somebody_elses_constraint_is_rejected_with_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let sql = "CREATE TABLE usage_records (total_tokens BIGINT CHECK (total_tokens < 3))";
    execute(&mut connect(&path).await, sql).await;
    let database = database(&path);
    let batch = [event("1"), Arc::new(full_event())];
    let error = database.deliver(&batch).await.unwrap_err();
    assert!(error.to_string().contains("CHECK"), "{error}");
    assert!(matches!(error, DeliveryError::Rejected { .. }));
    assert_eq!(count(&path).await, 0, "half a batch was written");
    database.deliver(&[event("1")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[tokio::test]
async fn a_file_that_is_locked_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let database = database(&path);
    database.deliver(&[]).await.unwrap();
    let mut other = connect(&path).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let batch = [event("1")];
    let mut delivery = database.deliver(&batch);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut delivery).await;
    assert!(early.is_err(), "wrote past a lock: {early:?}");
    execute(&mut other, "COMMIT").await;
    delivery.await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[tokio::test]
async fn a_file_that_is_locked_for_too_long_is_tried_again_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let database = Database::new(&config(&path, ", timeout: 100ms")).unwrap();
    database.deliver(&[]).await.unwrap();
    let mut other = connect(&path).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let error = database.deliver(&[event("1")]).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { .. }), "{error}");
    execute(&mut other, "COMMIT").await;
    database.deliver(&[event("1")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let database = database(&path);
    database.deliver(&[event("1")]).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
    }
    database.deliver(&[event("2")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[tokio::test]
async fn a_table_that_was_dropped_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let database = database(&path);
    database.deliver(&[event("1")]).await.unwrap();
    execute(&mut connect(&path).await, "DROP TABLE usage_records").await;
    let error = database.deliver(&[event("2")]).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { .. }), "{error}");
    database.deliver(&[event("2")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_is_named_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/usage.db");
    fs::write(dir.path().join("data"), "in the way").unwrap();
    let database = database(&path);
    let error = database.deliver(&[event("1")]).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { after: None, .. }));
    let named = format!("sqlite {}: ", path.display());
    assert!(error.to_string().starts_with(&named), "{error}");
    fs::remove_file(dir.path().join("data")).unwrap();
    database.deliver(&[event("1")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_its_key() {
    let refusal = |yaml| {
        Database::new(&serde_yaml::from_str(yaml).unwrap())
            .err()
            .unwrap()
    };
    let table = refusal("{name: db, database: {driver: sqlite, dsn: a.db, table: \"a; DROP\"}}");
    assert!(
        table.starts_with("database.table: a table name has"),
        "{table}"
    );
    let dsn = refusal("{name: db, database: {driver: mysql, dsn: \"u:hunter2@tcp(h)/\"}}");
    assert_eq!(dsn, "database.dsn: names no database");
}

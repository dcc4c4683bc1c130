use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::super::testing::{event, events};
use super::super::{Outcome, now};
use super::*;

fn database(path: &Path, table: &str) -> Database {
    let yaml = format!(
        "{{name: db, database: {{driver: sqlite, dsn: \"{}\", table: {table}}}}}",
        path.display()
    );
    Database::new(&serde_yaml::from_str(&yaml).unwrap()).unwrap()
}

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap()
}

async fn rows(path: &Path, sql: &str) -> Vec<SqliteRow> {
    sqlx::query(sql)
        .fetch_all(&mut connect(path).await)
        .await
        .unwrap()
}

async fn execute(connection: &mut SqliteConnection, sql: &str) {
    sqlx::query(sql).execute(connection).await.unwrap();
}

async fn count(path: &Path) -> i64 {
    rows(path, "SELECT count(*) FROM usage_records").await[0].get(0)
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
    }
}

/// Returns the row as the JSON of an event, column by column.
fn as_json(row: &SqliteRow) -> serde_json::Value {
    let text = |name| serde_json::Value::from(row.get::<String, _>(name));
    let number = |name| serde_json::Value::from(row.get::<Option<i64>, _>(name));
    COLUMNS
        .iter()
        .filter(|(name, _)| *name != "created_at")
        .map(|&(name, kind)| {
            let value = match kind.split(' ').next().unwrap() {
                "TEXT" => text(name),
                "BOOLEAN" => row.get::<bool, _>(name).into(),
                _ => number(name),
            };
            (name.to_owned(), value)
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn a_row_holds_every_field_of_its_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/on/demand/usage.db");
    let before = now();
    database(&path, "usage_records")
        .deliver(&[Arc::new(full_event())])
        .await
        .unwrap();

    let rows = rows(&path, "SELECT * FROM usage_records").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(
        as_json(&rows[0]),
        serde_json::to_value(full_event()).unwrap()
    );
    assert_eq!(rows[0].columns().len(), COLUMNS.len());
    let created_at: String = rows[0].get("created_at");
    assert!((before..=now()).contains(&created_at), "{created_at}");
}

#[tokio::test]
async fn an_event_delivered_twice_is_one_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let first = database(&path, "usage_records");
    first.deliver(&events(0..256)).await.unwrap();
    first.deliver(&events(200..300)).await.unwrap();
    first.deliver(&[event("x"), event("x")]).await.unwrap();
    database(&path, "usage_records")
        .deliver(&events(0..10))
        .await
        .unwrap();
    assert_eq!(count(&path).await, 301);
}

#[tokio::test]
async fn an_empty_batch_creates_the_table_in_wal_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    database(&path, "usage_records").deliver(&[]).await.unwrap();
    assert_eq!(count(&path).await, 0);
    assert_eq!(
        rows(&path, "PRAGMA journal_mode").await[0].get::<String, _>(0),
        "wal"
    );
}

#[tokio::test]
async fn two_tables_in_one_file_have_their_own_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    for table in ["usage_records", "order"] {
        database(&path, table).deliver(&[event("1")]).await.unwrap();
        let list = rows(
            &path,
            &format!("SELECT name FROM pragma_index_list('{table}')"),
        )
        .await;
        let mut names: Vec<String> = list.iter().map(|row| row.get(0)).collect();
        names.sort();
        let expected =
            ["event_id", "key_id", "timestamp", "user_id"].map(|c| format!("{table}_{c}"));
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn a_table_of_an_earlier_version_gets_the_missing_columns_and_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let mut old = connect(&path).await;
    execute(
        &mut old,
        "CREATE TABLE usage_records (request_id TEXT, Model TEXT, extra INTEGER)",
    )
    .await;
    execute(
        &mut old,
        "INSERT INTO usage_records VALUES ('a', 'm', 1), ('b', 'm', 2)",
    )
    .await;
    database(&path, "usage_records")
        .deliver(&[Arc::new(full_event())])
        .await
        .unwrap();
    assert_eq!(count(&path).await, 3);
    let new = rows(&path, "SELECT * FROM usage_records WHERE event_id = 'id'").await;
    assert_eq!(new[0].get::<i64, _>("total_tokens"), 3);
}

#[tokio::test]
async fn a_row_that_breaks_somebody_elses_constraint_is_an_error_and_no_silent_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let sql = "CREATE TABLE usage_records (total_tokens BIGINT CHECK (total_tokens < 3))";
    execute(&mut connect(&path).await, sql).await;
    let database = database(&path, "usage_records");
    let error = database
        .deliver(&[event("1"), Arc::new(full_event())])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("CHECK"), "{error}");
    assert_eq!(count(&path).await, 0, "half a batch was written");
    database.deliver(&[event("1")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[tokio::test]
async fn a_file_that_is_locked_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let database = database(&path, "usage_records");
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
async fn a_file_that_was_replaced_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let database = database(&path, "usage_records");
    database.deliver(&[event("1")]).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
    }
    database.deliver(&[event("2")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[tokio::test]
async fn a_path_that_cannot_be_opened_is_named_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data/usage.db");
    fs::write(dir.path().join("data"), "in the way").unwrap();
    let database = database(&path, "usage_records");
    let error = database.deliver(&[event("1")]).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { after: None, .. }));
    assert!(
        error.to_string().starts_with(path.to_str().unwrap()),
        "{error}"
    );
    fs::remove_file(dir.path().join("data")).unwrap();
    database.deliver(&[event("1")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
}

#[test]
fn a_dsn_names_a_file_in_any_of_its_spellings() {
    for (dsn, path) in [
        ("./data/usage.db", "./data/usage.db"),
        ("usage.db", "usage.db"),
        ("/var/lib/usage.db", "/var/lib/usage.db"),
        ("sqlite:data/usage.db", "data/usage.db"),
        ("sqlite://data/usage.db", "data/usage.db"),
        ("sqlite:///var/usage.db", "/var/usage.db"),
        ("sqlite:/var/usage.db", "/var/usage.db"),
        ("sqlite://usage.db?mode=rwc", "usage.db"),
        ("file:usage.db", "usage.db"),
        ("file:///var/usage.db", "/var/usage.db"),
    ] {
        assert_eq!(path_of(dsn), Ok(PathBuf::from(path)), "{dsn}");
    }
    for dsn in [
        "",
        "sqlite:",
        "file:///var/",
        ":memory:",
        "sqlite::memory:",
        "a.db?mode=ro",
    ] {
        assert!(path_of(dsn).is_err(), "{dsn}");
    }
}

#[test]
fn a_table_name_that_could_be_sql_is_refused_by_name() {
    for name in ["usage_records", "_", "T1", &"x".repeat(63)] {
        assert!(is_table_name(name), "{name}");
    }
    for name in [
        "",
        "1st",
        "a-b",
        "a b",
        "a\"b",
        "tabelle_ä",
        "sqlite_x",
        &"x".repeat(64),
    ] {
        assert!(!is_table_name(name), "{name}");
    }
    let yaml = "{name: db, database: {driver: sqlite, dsn: a.db, table: \"a; DROP\"}}";
    let error = Database::new(&serde_yaml::from_str(yaml).unwrap())
        .err()
        .unwrap();
    assert!(
        error.starts_with("database.table: \"a; DROP\" is not a table name"),
        "{error}"
    );
}

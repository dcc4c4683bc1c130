//! From one version of the table to another.

use super::*;

/// The table as version 0.1 of the gateway made it.
const FIRST: &str = "CREATE TABLE usage_records (event_id TEXT, request_id TEXT NOT NULL DEFAULT '', \
     user_id TEXT NOT NULL DEFAULT '', api_key TEXT NOT NULL DEFAULT '', \
     key_id TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '', \
     prompt_tokens BIGINT NOT NULL DEFAULT 0, completion_tokens BIGINT NOT NULL DEFAULT 0, \
     total_tokens BIGINT NOT NULL DEFAULT 0, cached_tokens BIGINT NOT NULL DEFAULT 0, \
     reasoning_tokens BIGINT NOT NULL DEFAULT 0, is_stream BOOLEAN NOT NULL DEFAULT 0, \
     endpoint TEXT NOT NULL DEFAULT '', timestamp TEXT NOT NULL DEFAULT '', \
     backend_url TEXT NOT NULL DEFAULT '', backend TEXT NOT NULL DEFAULT '', \
     outcome TEXT NOT NULL DEFAULT '', usage_source TEXT NOT NULL DEFAULT '', \
     status INTEGER NOT NULL DEFAULT 0, latency_ms BIGINT NOT NULL DEFAULT 0, ttft_ms BIGINT, \
     attempts INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL DEFAULT ''); \
     CREATE UNIQUE INDEX usage_records_event_id ON usage_records (event_id); \
     CREATE INDEX usage_records_timestamp ON usage_records (timestamp); \
     CREATE INDEX usage_records_key_id ON usage_records (key_id); \
     CREATE INDEX usage_records_user_id ON usage_records (user_id); \
     INSERT INTO usage_records (event_id, model) VALUES ('1', 'old')";

async fn standings(schema: &Schema) -> Vec<Standing> {
    let steps = schema.steps().await.unwrap();
    steps.into_iter().map(|step| step.standing).collect()
}

/// Every index of the table as `column` or `column!`, in order.
async fn indexes(path: &Path) -> Vec<String> {
    let table = Table::new(config::Driver::Sqlite, "usage_records");
    let mut connection = connect(path).await;
    let sql = AssertSqlSafe(table.indexes());
    let mut indexes: Vec<String> = sqlx::query_scalar(sql)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    indexes.sort();
    indexes
}

#[tokio::test]
async fn the_table_of_the_first_version_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    execute(&mut connect(&path).await, FIRST).await;
    let schema = Schema::of(&config(&path, "")).unwrap();
    assert_eq!(
        standings(&schema).await,
        [Standing::Found, Standing::Pending]
    );

    let batch = [event("1"), Arc::new(full_event())];
    database(&path).deliver(&batch).await.unwrap();
    let rows = rows(
        &path,
        "SELECT event_id, model, cost_nanos FROM usage_records ORDER BY 1",
    )
    .await;
    let read = |row: &SqliteRow| (row.get(0), row.get(1), row.get(2));
    let rows: Vec<(String, String, Option<i64>)> = rows.iter().map(read).collect();
    let expected = [("1", "old", None), ("id", "llama", Some(9))];
    assert_eq!(
        rows,
        expected.map(|(id, model, cost)| (id.into(), model.into(), cost))
    );
    assert_eq!(
        indexes(&path).await,
        ["event_id!", "key_id", "timestamp", "user_id"]
    );
    let standings = standings(&schema).await;
    assert!(
        standings.iter().all(|one| matches!(one, Standing::Done(_))),
        "{standings:?}"
    );
}

#[tokio::test]
async fn a_new_table_has_the_same_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    database(&path).deliver(&[]).await.unwrap();
    assert_eq!(
        indexes(&path).await,
        ["event_id!", "key_id", "timestamp", "user_id"]
    );
}

#[tokio::test]
async fn a_table_of_somebody_else_gets_the_missing_columns_and_keeps_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let sql = "CREATE TABLE usage_records (request_id TEXT, Model TEXT, extra INTEGER); \
         INSERT INTO usage_records VALUES ('a', 'm', 1), ('b', 'm', 2)";
    execute(&mut connect(&path).await, sql).await;
    database(&path)
        .deliver(&[Arc::new(full_event())])
        .await
        .unwrap();
    assert_eq!(count(&path).await, 3);
    let new = rows(&path, "SELECT * FROM usage_records WHERE event_id = 'id'").await;
    assert_eq!(new[0].get::<i64, _>("total_tokens"), 3);
}

#[tokio::test]
async fn a_name_that_is_a_word_of_sql_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let mut config = config(&path, "");
    config.database.table = "order".to_owned();
    let database = Database::new(&config).unwrap();
    database.deliver(&[event("1")]).await.unwrap();
    assert_eq!(rows(&path, "SELECT * FROM \"order\"").await.len(), 1);
}

#[tokio::test]
async fn what_is_undone_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let schema = Schema::of(&config(&path, "")).unwrap();
    assert_eq!(
        standings(&schema).await,
        [Standing::Pending, Standing::Pending]
    );
    assert_eq!(schema.roll_back(1).await, Ok(Vec::new()));
    assert!(!path.exists(), "asking created a database");

    assert_eq!(schema.migrate().await, Ok(vec![1, 2]));
    assert_eq!(schema.migrate().await, Ok(Vec::new()));
    let database = database(&path);
    database.deliver(&[event("1")]).await.unwrap();
    assert_eq!(schema.roll_back(1).await, Ok(vec![2]));
    assert_eq!(count(&path).await, 1, "rows stay");
    assert_eq!(standings(&schema).await[1], Standing::Pending);

    let error = database.deliver(&[event("2")]).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { .. }), "{error}");
    database.deliver(&[event("2")]).await.unwrap();
    assert_eq!(count(&path).await, 2);

    assert_eq!(schema.roll_back(MIGRATIONS.len()).await, Ok(vec![2, 1]));
    let left = rows(&path, "SELECT name FROM sqlite_master").await;
    assert!(left.is_empty(), "{}", left.len());
}

#[tokio::test]
async fn the_table_of_a_newer_gateway_works_and_is_not_undone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let schema = Schema::of(&config(&path, "")).unwrap();
    schema.migrate().await.unwrap();
    let sql = "INSERT INTO usage_records_migrations VALUES (3, 'future', 1000); \
         ALTER TABLE usage_records ADD COLUMN future BIGINT NOT NULL DEFAULT 0";
    execute(&mut connect(&path).await, sql).await;
    database(&path).deliver(&[event("1")]).await.unwrap();
    assert_eq!(count(&path).await, 1);
    assert_eq!(standings(&schema).await[2], Standing::Done(1000));
    let refusal = schema.roll_back(1).await.unwrap_err();
    assert!(
        refusal.contains("version 3 is of a newer llmproxy"),
        "{refusal}"
    );
}

#[tokio::test]
async fn several_that_start_at_once_make_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let database = || async {
        let database = database(&path);
        database.deliver(&[event(&crate::ledger::new_id())]).await
    };
    let done = futures_util::future::join_all((0..8).map(|_| database())).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(count(&path).await, 8);
    assert_eq!(
        rows(&path, "SELECT * FROM usage_records_migrations")
            .await
            .len(),
        2
    );
}

#[tokio::test]
async fn a_table_that_cannot_be_upgraded_is_no_fault_of_the_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.db");
    let mut old = connect(&path).await;
    execute(
        &mut old,
        "CREATE TABLE usage_records (event_id TEXT); \
         INSERT INTO usage_records VALUES ('twice'), ('twice')",
    )
    .await;
    drop(old);
    let refused = database(&path).deliver(&[event("1")]).await.unwrap_err();
    assert!(
        matches!(&refused, DeliveryError::Retry { what, .. } if what.contains("UNIQUE")),
        "{refused:?}"
    );
}

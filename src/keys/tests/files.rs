//! What only SQLite's files can go through.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};

use super::*;

async fn connect(place: &Place) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(&place.dsn);
    options.create_if_missing(true).connect().await.unwrap()
}

async fn execute(place: &Place, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    let mut connection = connect(place).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

#[track_caller]
fn unavailable<T: std::fmt::Debug>(done: Result<T, KeyError>) -> String {
    match done {
        Err(KeyError::Unavailable(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_else_can_read_the_files_and_they_hold_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::in_dir(&dir.path().join("made/on/demand"));
    let store = place.store().await;
    let created = store.create(NewKey::default(), "me").await.unwrap();
    let which = Which::Hash(created.stored.hash);
    let rotated = store.rotate(&which, "me").await.unwrap();
    let keys = [created.key, rotated.key].map(Option::unwrap);
    let mut files = 0;
    for file in fs::read_dir(dir.path().join("made/on/demand")).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o027, 0, "{mode:o}");
        let bytes = fs::read(file.path()).unwrap();
        for key in &keys {
            let secret = &key.expose().as_bytes()[3..];
            let found = memchr::memmem::find(&bytes, secret);
            assert_eq!(found, None, "{file:?}");
        }
        files += 1;
    }
    assert_eq!(files, 3, "the database, its log, its index");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_no_key_and_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::in_dir(dir.path());
    let store = place.store().await;
    let created = store.create(new_key(everything()), "me").await.unwrap();
    let hash = created.stored.hash;
    for (break_it, column) in [
        ("status = 'on'", "status"),
        (
            "rate_limit = '{\"requests_per_minute\": \"many\"}'",
            "rate_limit",
        ),
        (
            "rate_limit = '{\"requests_per_fortnight\": 5}'",
            "rate_limit",
        ),
        ("allowed_ips = '[\"10.0.0.0/99\"]'", "allowed_ips"),
        ("allowed_ips = '10.0.0.0/8'", "allowed_ips"),
        ("allowed_models = '{}'", "allowed_models"),
        ("quota_reset_period = 'hourly'", "quota_reset_period"),
        ("total_quota = -1", "total_quota"),
        ("expires_at = 9000000000000000000", "expires_at"),
    ] {
        execute(&place, &format!("UPDATE llmproxy_keys SET {break_it}")).await;
        let what = unavailable(store.lookup(&hash).await);
        assert!(what.contains(&created.stored.id), "{what}");
        assert!(what.contains(&format!("`{column}`")), "{what}");
        let patch = patch(json!({"name": "x"}));
        unavailable(store.update(&Which::Hash(hash), &patch, "me").await);
        unavailable(store.list(&Filter::default(), 0, 1).await);
        let confirmed = SyncMode::Full { confirm: true };
        let report = store.sync(confirmed, Vec::new(), "me").await.unwrap();
        assert_eq!(report.deleted, 1);
        let again = json!({"key_hash": hash.to_text()});
        store.create(new_key(again), "me").await.unwrap();
        let mut all = everything();
        all.as_object_mut().unwrap().remove("name");
        store
            .update(&Which::Hash(hash), &super::patch(all), "me")
            .await
            .unwrap();
    }
    execute(&place, "UPDATE llmproxy_keys SET expires_at = 'soon'").await;
    unavailable(store.lookup(&hash).await);
    store.delete(&Which::Hash(hash), "me").await.unwrap();
}

#[tokio::test]
async fn a_table_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::in_dir(dir.path());
    execute(&place, "CREATE TABLE llmproxy_keys (id TEXT, balance INT)").await;
    let what = unavailable(KeyStore::open(&place.config()).await);
    assert!(what.contains("it has no column key_hash"), "{what}");
    execute(&place, "INSERT INTO llmproxy_keys VALUES ('a', 5)").await;
}

#[tokio::test]
async fn tables_that_were_dropped_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::in_dir(dir.path());
    let store = place.store().await;
    store.create(NewKey::default(), "me").await.unwrap();
    for table in ["llmproxy_keys", "llmproxy_keys_counter"] {
        execute(&place, &format!("DROP TABLE {table}")).await;
        unavailable(store.create(NewKey::default(), "me").await);
        store.create(NewKey::default(), "me").await.unwrap();
    }
    let seqs: Vec<_> = feed(&store).await.iter().map(|change| change.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::in_dir(dir.path());
    let store = place.store().await;
    store.create(NewKey::default(), "me").await.unwrap();
    let backup = dir.path().join("backup.db");
    execute(&place, &format!("VACUUM INTO '{}'", backup.display())).await;
    let created = store.create(NewKey::default(), "me").await.unwrap();
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", place.dsn)).unwrap();
    }
    fs::rename(backup, &place.dsn).unwrap();
    assert_eq!(store.lookup(&created.stored.hash).await.unwrap(), None);
    // Lower than what was asked from: whoever remembers more has to forget.
    let feed = store.changes_since(2, 10).await.unwrap();
    assert_eq!((feed.latest, feed.changes.len()), (1, 0));
}

#[tokio::test]
async fn a_file_that_is_locked_is_waited_for_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::in_dir(dir.path());
    let mut config = place.config();
    config.timeout = Duration::from_millis(200);
    let store = KeyStore::open(&config).await.unwrap();
    let mut other = connect(&place).await;
    let begin = sqlx::raw_sql("BEGIN IMMEDIATE");
    begin.execute(&mut other).await.unwrap();
    unavailable(store.create(NewKey::default(), "me").await);
    // Readers are not held up.
    assert_eq!(feed(&store).await, []);
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    store.create(NewKey::default(), "me").await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::in_dir(dir.path());
    place.table = "keys; DROP TABLE x".into();
    let error = KeyStore::new(&place.config()).unwrap_err();
    assert!(
        error.to_string().starts_with("key_store.database.table: "),
        "{error}"
    );
    place.driver = Driver::Mysql;
    place.dsn = "u:hunter2@tcp(h)/".into();
    let error = KeyStore::new(&place.config()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "key_store.database.dsn: names no database"
    );
}

#[tokio::test]
async fn a_directory_that_is_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::in_dir(dir.path());
    fs::create_dir(&place.dsn).unwrap();
    let what = unavailable(KeyStore::open(&place.config()).await);
    assert!(
        what.starts_with(&format!("sqlite {}: ", place.dsn)),
        "{what}"
    );
    fs::remove_dir(&place.dsn).unwrap();
    place.store().await;
}

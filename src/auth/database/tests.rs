mod servers;

use std::path::{Path, PathBuf};

use super::*;
use crate::auth::record::testing::{HASHED, KEY, caller};
use crate::config::{Database, KeyStatus, Secret};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn provider(driver: Driver, dsn: &str) -> DatabaseProvider {
    DatabaseProvider {
        database: Database {
            driver,
            dsn: Secret::new(dsn),
            table: "api_keys".to_owned(),
        },
        key_column: "api_key".to_owned(),
        hashed: false,
        fields: Vec::new(),
        max_open_conns: 2,
        timeout: PATIENCE,
    }
}

fn source(config: &DatabaseProvider) -> DatabaseSource {
    DatabaseSource::new("shop", config).unwrap()
}

type Found = Result<Option<Arc<Key>>, SourceError>;

async fn find(source: &DatabaseSource, presented: &str) -> Found {
    let hash = KeyHash::of(presented);
    source.find(presented, &hash, &caller()).await
}

/// An SQLite file of somebody else's.
struct Shop {
    dir: tempfile::TempDir,
}

impl Shop {
    /// Creates it with this SQL.
    fn with(sql: &str) -> Self {
        let shop = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        shop.run(sql);
        shop
    }

    fn run(&self, sql: &str) {
        let shop = rusqlite::Connection::open(self.file()).unwrap();
        shop.execute_batch(sql).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("shop.db")
    }

    fn provider(&self) -> DatabaseProvider {
        provider(Driver::Sqlite, path(&self.file()))
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The documented table.
const TABLE: &str = "CREATE TABLE api_keys (id INTEGER PRIMARY KEY, api_key TEXT UNIQUE, \
                     user_id TEXT, status TEXT DEFAULT 'active', balance DECIMAL(10, 2), \
                     expired_at DATETIME, created_at DATETIME DEFAULT CURRENT_TIMESTAMP);";

fn documented() -> Shop {
    Shop::with(&format!(
        "{TABLE} INSERT INTO api_keys (api_key, user_id, balance, expired_at) \
         VALUES ('{KEY}', 'ann', 1.5, '2026-12-31 12:00:00'), ('sk-broke', 'bob', 0, NULL)"
    ))
}

#[tokio::test]
async fn a_row_of_the_documented_table_is_a_key() {
    let shop = documented();
    let source = source(&shop.provider());
    let key = find(&source, KEY).await.unwrap().unwrap();
    assert_eq!((&*key.id, key.spec.user_id.as_deref()), ("1", Some("ann")));
    assert_eq!(
        key.spec.expires_at.unwrap().to_string(),
        "2026-12-31T12:00:00Z"
    );
    assert_eq!(key.data["balance"], 1.5);
    assert_eq!(key.data.get("api_key"), None);
    let broke = find(&source, "sk-broke").await.unwrap().unwrap();
    assert_eq!(broke.spec.status, KeyStatus::QuotaExceeded);
    assert_eq!(find(&source, "sk-unknown").await, Ok(None));
}

#[tokio::test]
async fn every_type_of_sqlite_is_read() {
    let shop = Shop::with(&format!(
        "CREATE TABLE api_keys (api_key, status BOOLEAN, starts_at, expires_at INTEGER, quota REAL, \
         allowed_ips TEXT, metadata JSON, picture BLOB, blank TEXT); \
         INSERT INTO api_keys VALUES ('{KEY}', 3, 1700000000, 1798718400000, 5e3, \
         '[\"::1\"]', '{{\"seats\": 3}}', x'ff00', NULL)"
    ));
    let key = find(&source(&shop.provider()), KEY).await.unwrap();
    let Some(key) = key else {
        panic!("it is there");
    };
    assert_eq!(key.spec.status, KeyStatus::Expired);
    assert_eq!(key.spec.total_quota, Some(5000));
    assert_eq!(key.spec.allowed_ips.len(), 1);
    assert_eq!(key.spec.metadata["seats"], "3");
    assert_eq!(key.data["picture"], "0xff00");
    assert!(key.data["blank"].is_null());
}

#[tokio::test]
async fn keys_may_be_stored_as_hashes() {
    let sql = format!(
        "CREATE TABLE api_keys (kh TEXT, name TEXT); INSERT INTO api_keys VALUES ('{HASHED}', 'Ann')"
    );
    let shop = Shop::with(&sql);
    let config = DatabaseProvider {
        key_column: "kh".to_owned(),
        hashed: true,
        ..shop.provider()
    };
    let source = source(&config);
    let key = find(&source, KEY).await.unwrap().unwrap();
    assert_eq!(key.spec.name.as_deref(), Some("Ann"));
    assert_eq!(
        find(&source, HASHED).await,
        Ok(None),
        "the hash is not the key"
    );
}

#[tokio::test]
async fn only_the_columns_that_are_asked_for_are_read() {
    let shop = documented();
    let config = DatabaseProvider {
        fields: vec!["status".to_owned(), "user_id".to_owned()],
        ..shop.provider()
    };
    let key = find(&source(&config), KEY).await.unwrap().unwrap();
    let names: Vec<_> = key.data.keys().map(String::as_str).collect();
    assert_eq!(names, ["status", "user_id"]);
}

#[tokio::test]
async fn what_looks_like_sql_is_a_key_like_any_other() {
    let shop = documented();
    let source = source(&shop.provider());
    for odd in [
        "' OR '1'='1",
        "'; DROP TABLE api_keys; --",
        "\" OR 1=1 --",
        "%",
        "sk-story%",
        "\\",
        "?",
        "$1",
        "\0",
        "sk-story-0123456789\0",
        "api_key",
        "é",
    ] {
        assert_eq!(find(&source, odd).await, Ok(None), "{odd:?}");
        let quoted = odd.replace('\'', "''").replace('\0', "");
        shop.run(&format!(
            "INSERT OR IGNORE INTO api_keys (api_key) VALUES ('{quoted}')"
        ));
        let found = find(&source, odd).await.unwrap();
        assert_eq!(found.is_some(), !odd.contains('\0'), "{odd:?}");
    }
    assert!(find(&source, KEY).await.unwrap().is_some());
}

#[tokio::test]
async fn the_database_may_take_more_for_the_same_than_we_do() {
    let shop = Shop::with(&format!(
        "CREATE TABLE api_keys (api_key TEXT COLLATE NOCASE, name TEXT); \
         INSERT INTO api_keys VALUES ('{}', 'Ann'), ('{KEY}', 'Bob')",
        KEY.to_uppercase()
    ));
    let source = source(&shop.provider());
    let name = async |presented: &str| {
        let key = find(&source, presented).await.unwrap();
        key.and_then(|key| key.spec.name.clone())
    };
    assert_eq!(name(KEY).await.as_deref(), Some("Bob"));
    assert_eq!(name(&KEY.to_uppercase()).await.as_deref(), Some("Ann"));
    assert_eq!(name("SK-story-0123456789").await, None);
}

#[tokio::test]
async fn a_key_that_is_there_twice_is_nobodys() {
    for rows in [2, MOST_ROWS, MOST_ROWS + 5] {
        let row = format!("('{KEY}', 'active')");
        let values = vec![row; rows].join(", ");
        let shop = Shop::with(&format!(
            "CREATE TABLE api_keys (api_key TEXT, status TEXT); INSERT INTO api_keys VALUES {values}"
        ));
        let found = find(&source(&shop.provider()), KEY).await;
        let what = "api_key: the table has more than one row with this key";
        assert_eq!(found, Err(SourceError::Invalid(what.to_owned())), "{rows}");
    }
}

#[tokio::test]
async fn more_rows_that_look_alike_than_are_read_are_nobodys() {
    let shop = Shop::with("CREATE TABLE api_keys (api_key TEXT COLLATE NOCASE)");
    let source = source(&shop.provider());
    let row = |key: &str| shop.run(&format!("INSERT INTO api_keys VALUES ('{key}')"));
    row(KEY);
    for _ in 2..MOST_ROWS {
        row(&KEY.to_uppercase());
    }
    assert!(find(&source, KEY).await.unwrap().is_some());
    row(&KEY.to_uppercase());
    let found = find(&source, KEY).await;
    assert!(matches!(found, Err(SourceError::Invalid(_))), "{found:?}");
}

#[tokio::test]
async fn values_without_sense_are_told_by_their_field() {
    let shop = documented();
    let source = source(&shop.provider());
    for (set, expected) in [
        ("status = 'banned'", "status: "),
        ("status = ''", "status: "),
        ("status = x'ff'", "status: "),
        (
            "status = 'active', balance = 'much'",
            "balance: must be a number",
        ),
        ("balance = 1, expired_at = 'soon'", "expires_at: "),
    ] {
        shop.run(&format!("UPDATE api_keys SET {set} WHERE user_id = 'ann'"));
        match find(&source, KEY).await {
            Err(SourceError::Invalid(what)) => assert!(what.starts_with(expected), "{what}"),
            other => panic!("{set}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_column_that_is_not_there_lets_nobody_in() {
    let shop = Shop::with("CREATE TABLE api_keys (secret TEXT); INSERT INTO api_keys VALUES ('x')");
    for fields in [
        Vec::new(),
        vec!["secret".to_owned()],
        vec!["status".to_owned()],
    ] {
        let config = DatabaseProvider {
            fields,
            ..shop.provider()
        };
        for presented in ["api_key", "x", "secret", "status"] {
            let found = find(&source(&config), presented).await;
            assert!(
                matches!(found, Err(SourceError::Unavailable(_))),
                "{found:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_not_made_and_is_found_later() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.db");
    let source = source(&provider(Driver::Sqlite, path(&file)));
    let found = find(&source, KEY).await;
    assert!(
        matches!(found, Err(SourceError::Unavailable(_))),
        "{found:?}"
    );
    assert!(!file.exists());
    let shop = documented();
    std::fs::rename(shop.file(), &file).unwrap();
    assert!(find(&source, KEY).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_that_is_replaced_is_read_anew() {
    let shop = documented();
    let source = source(&shop.provider());
    assert!(find(&source, KEY).await.unwrap().is_some());
    let other = Shop::with(TABLE);
    std::fs::rename(other.file(), shop.file()).unwrap();
    assert_eq!(find(&source, KEY).await, Ok(None));
}

#[test]
fn names_that_are_none_are_refused() {
    let config = provider(Driver::Sqlite, "/tmp/x.db");
    let refused = |change: &dyn Fn(&mut DatabaseProvider)| {
        let mut config = config.clone();
        change(&mut config);
        DatabaseSource::new("shop", &config)
            .err()
            .map(|error| format!("{error:#}"))
    };
    for name in [
        "",
        "a b",
        "a\"b",
        "a`b",
        "1a",
        "a;b",
        "a.b",
        "é",
        &"a".repeat(64),
    ] {
        let column = refused(&|config| config.key_column = name.to_owned());
        assert!(
            column
                .unwrap()
                .starts_with("database.key_column: a column has")
        );
        let field = refused(&|config| config.fields = vec![name.to_owned()]);
        assert!(field.unwrap().starts_with("database.fields: a column has"));
        let table = refused(&|config| config.database.table = name.to_owned());
        assert!(
            table
                .unwrap()
                .starts_with("database.table: a table name has")
        );
    }
    let dsn = refused(&|config| config.database.dsn = Secret::new("postgres://u:s3cret@h/d"));
    assert!(!dsn.unwrap().contains("s3cret"));
}

#[test]
fn placeholders_and_quotes_are_the_databases() {
    let of = |driver| select(driver, "api_keys", "api_key", &["a".to_owned()]);
    assert_eq!(
        of(Driver::Mysql),
        "SELECT k.`a`, k.`api_key` FROM `api_keys` AS k WHERE k.`api_key` = ? LIMIT 8"
    );
    assert_eq!(
        of(Driver::Postgres),
        "SELECT row_to_json(r)::text FROM (SELECT k.\"a\", k.\"api_key\" FROM \"api_keys\" AS k \
         WHERE k.\"api_key\" = $1 LIMIT 8) AS r"
    );
}

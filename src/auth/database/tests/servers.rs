//! The same on real servers.

use serde_json::json;

use super::*;
use crate::db::testing::{MariaDb, Postgres, Server};

fn at(server: &dyn Server, driver: Driver) -> DatabaseProvider {
    provider(driver, &server.dsn())
}

/// Keys are found, whatever characters they have, and nothing else is.
async fn keys_are_found_exactly(server: &dyn Server, driver: Driver) {
    server.query(&format!(
        "CREATE TABLE api_keys (api_key varchar(64) UNIQUE, name varchar(64)); \
         INSERT INTO api_keys VALUES ('{KEY}', 'Ann'), ('%', 'Bob')"
    ));
    let source = source(&at(server, driver));
    let name = async |presented: &str| {
        let key = find(&source, presented).await.unwrap();
        key.and_then(|key| key.spec.name.clone())
    };
    assert_eq!(name(KEY).await.as_deref(), Some("Ann"));
    assert_eq!(name("%").await.as_deref(), Some("Bob"));
    for other in [
        &KEY.to_uppercase(),
        "sk-story-0123456789 ",
        "sk-story-0123456789\0",
        "' OR '1'='1",
        "'; DROP TABLE api_keys; --",
        "\\",
        "",
        "0",
    ] {
        assert_eq!(name(other).await, None, "{other:?}");
    }
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(find(&source, KEY));
    }
    let answers = futures_util::future::join_all(waiting).await;
    assert!(
        answers.iter().all(|answer| matches!(answer, Ok(Some(_)))),
        "two connections for all"
    );
}

/// A restarted server is found again, and while it is away nobody is let in.
async fn a_server_comes_back(server: &mut dyn Server, driver: Driver) {
    let source = source(&at(server, driver));
    assert!(find(&source, KEY).await.unwrap().is_some());
    server.stop();
    let Err(SourceError::Unavailable(what)) = find(&source, KEY).await else {
        panic!("it is away");
    };
    assert!(
        what.contains(&server.place()) && !what.contains(KEY),
        "{what}"
    );
    server.start_again();
    assert!(find(&source, KEY).await.unwrap().is_some());
}

#[tokio::test]
async fn postgres_holds_keys() {
    let mut server = Postgres::start();
    keys_are_found_exactly(&server, Driver::Postgres).await;
    every_type_of_postgres_is_read(&server).await;
    a_server_comes_back(&mut server, Driver::Postgres).await;
}

#[tokio::test]
async fn mariadb_holds_keys() {
    let mut server = MariaDb::start();
    keys_are_found_exactly(&server, Driver::Mysql).await;
    every_type_of_mariadb_is_read(&server).await;
    a_server_comes_back(&mut server, Driver::Mysql).await;
}

async fn every_type_of_postgres_is_read(server: &dyn Server) {
    server.query(&format!(
        "CREATE TABLE typed (api_key char(40), status smallint, total_quota bigint, balance numeric(12,4), \
         starts_at timestamptz, expired_at timestamp, allowed_ips inet[], denied_ips text, \
         metadata jsonb, vip boolean, ratio real, born date, raw bytea, uid uuid, blank int); \
         INSERT INTO typed VALUES ('{KEY}', 1, 9000000000, 0.5000, '2026-01-01 02:00:00+02', \
         '2026-12-31 12:00:00.25', '{{10.0.0.0/8,::1}}', '192.0.2.7', '{{\"seats\": 3}}', true, 0.1, \
         '2000-02-29', '\\xff00', '6ba7b810-9dad-11d1-80b4-00c04fd430c8', NULL)"
    ));
    let mut config = at(server, Driver::Postgres);
    config.database.table = "typed".to_owned();
    let key = find(&source(&config), KEY).await.unwrap().unwrap();
    assert_eq!(
        (key.spec.status, key.spec.allowed_ips.len()),
        (KeyStatus::Disabled, 2)
    );
    says_the_same_everywhere(&key);
    let data = json!({
        "balance": 0.5, "vip": true, "ratio": 0.1, "born": "2000-02-29", "raw": "\\xff00",
        "uid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "blank": null,
    });
    shows(&key, &data);
    server.query("UPDATE typed SET expired_at = 'infinity', starts_at = '-infinity'");
    let found = find(&source(&config), KEY).await;
    assert!(matches!(found, Err(SourceError::Invalid(_))), "{found:?}");
    server.query("UPDATE typed SET starts_at = NULL");
    let key = find(&source(&config), KEY).await.unwrap().unwrap();
    assert_eq!((key.spec.starts_at, key.spec.expires_at), (None, None));
}

async fn every_type_of_mariadb_is_read(server: &dyn Server) {
    server.query(&format!(
        "SET time_zone = '+02:00'; SET sql_mode = ''; \
         CREATE TABLE typed (api_key char(40), status tinyint(1), total_quota bigint unsigned, \
         used int, balance decimal(12,4), starts_at timestamp NULL, expired_at datetime(2), \
         denied_ips text, metadata json, vip bit(1), ratio float, share double, born date, \
         raw varbinary(9), kind enum('a','b'), year year, zero datetime, blank int); \
         INSERT INTO typed VALUES ('{KEY}', 3, 9000000000, 12, 0.5000, '2026-01-01 02:00:00', \
         '2026-12-31 12:00:00.25', '192.0.2.7', '{{\"seats\": 3}}', 1, 0.1, 0.25, '2000-02-29', x'ff00', \
         'b', 2026, '0000-00-00 00:00:00', NULL)"
    ));
    let mut config = at(server, Driver::Mysql);
    config.database.table = "typed".to_owned();
    let key = find(&source(&config), KEY).await.unwrap().unwrap();
    assert_eq!(
        (key.spec.status, key.spec.used_quota),
        (KeyStatus::Expired, 12)
    );
    says_the_same_everywhere(&key);
    let data = json!({
        "balance": "0.5000", "vip": 1, "ratio": 0.1, "share": 0.25, "born": "2000-02-29",
        "raw": "0xff00", "kind": "b", "year": 2026, "zero": null, "blank": null,
    });
    shows(&key, &data);
}

#[track_caller]
fn says_the_same_everywhere(key: &Key) {
    let spec = &key.spec;
    assert_eq!(
        (spec.total_quota, spec.denied_ips.len()),
        (Some(9_000_000_000), 1)
    );
    assert_eq!(spec.starts_at.unwrap().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(
        spec.expires_at.unwrap().to_string(),
        "2026-12-31T12:00:00.25Z"
    );
    assert_eq!(spec.metadata["seats"], "3");
}

/// Scripts see these fields among others.
#[track_caller]
fn shows(key: &Key, expected: &Json) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(key.data.get(name), Some(value), "{name}");
    }
}

//! The store on SQLite, PostgreSQL and MariaDB: the same stories on each.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};

use super::*;
use crate::config::{self, Driver, KeyStatus, Secret};
use crate::db::testing::{MariaDb, Postgres, Server};

mod audits;
mod files;
mod lists;
mod races;
mod refusals;
mod singles;
mod syncs;

/// Where a story takes place: a table of its own.
#[derive(Clone)]
struct Place {
    driver: Driver,
    dsn: String,
    table: String,
}

type Story = fn(Place) -> BoxFuture<'static, ()>;

/// Tells each story on SQLite, and makes a list of them for the servers.
macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        pub(super) const STORIES: &[(&str, Story)] =
            &[$((stringify!($story), |place| Box::pin($story(place)))),*];

        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $story() {
                    let dir = tempfile::tempdir().unwrap();
                    super::$story(super::Place::in_dir(dir.path())).await;
                }
            )*
        }
    };
}
use stories;

#[test]
fn the_stories_are_true_on_postgresql() {
    on_server(&mut Postgres::start(), Driver::Postgres);
}

#[test]
fn the_stories_are_true_on_mariadb() {
    on_server(&mut MariaDb::start(), Driver::Mysql);
}

#[track_caller]
fn on_server(server: &mut dyn Server, driver: Driver) {
    let all = [
        singles::STORIES,
        lists::STORIES,
        audits::STORIES,
        syncs::STORIES,
        races::STORIES,
    ];
    let runtime = runtime();
    let dsn = server.dsn();
    let place = |table: String| Place {
        driver,
        dsn: dsn.clone(),
        table,
    };
    for (nth, (name, story)) in all.into_iter().flatten().enumerate() {
        eprint_name(name);
        runtime.block_on(story(place(format!("keys_{nth}"))));
    }
    // Any name will do, and the longest one.
    for table in ["select".to_owned(), "k".repeat(52)] {
        runtime.block_on(singles::a_key_is_found_by_its_hash_and_by_its_id(place(
            table,
        )));
    }
    a_server_that_comes_back_is_found_again(&runtime, server, &place("keys_back".into()));
}

/// Says which story it was when one fails.
#[expect(clippy::print_stderr, reason = "shown when the test fails")]
fn eprint_name(name: &str) {
    eprintln!("{name}");
}

fn a_server_that_comes_back_is_found_again(
    runtime: &tokio::runtime::Runtime,
    server: &mut dyn Server,
    place: &Place,
) {
    let store = runtime.block_on(place.store());
    let both = || {
        join_all([
            store.create(NewKey::default(), "me"),
            store.create(NewKey::default(), "me"),
        ])
    };
    let created = runtime.block_on(both());
    let hash = created[0].as_ref().unwrap().stored.hash;
    server.stop();
    let error = runtime.block_on(store.lookup(&hash)).unwrap_err();
    let KeyError::Unavailable(what) = error else {
        panic!("{error:?}");
    };
    assert!(what.contains(&server.place()), "{what}");
    assert!(!what.contains("p@ss"), "{what}");
    server.start_again();
    assert!(runtime.block_on(store.lookup(&hash)).unwrap().is_some());
    // The other connection of before is noticed, too.
    for created in runtime.block_on(both()) {
        created.unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

// === impl Place ===

impl Place {
    fn in_dir(dir: &Path) -> Self {
        Self {
            driver: Driver::Sqlite,
            dsn: dir.join("keys.db").display().to_string(),
            table: "llmproxy_keys".into(),
        }
    }

    fn config(&self) -> config::KeyStore {
        config::KeyStore {
            database: config::Database {
                driver: self.driver,
                dsn: Secret::new(&self.dsn),
                table: self.table.clone(),
            },
            timeout: Duration::from_secs(30),
        }
    }

    /// Another gateway.
    async fn store(&self) -> KeyStore {
        KeyStore::open(&self.config()).await.unwrap()
    }

    async fn stores(&self) -> Vec<KeyStore> {
        join_all((0..4).map(|_| self.store())).await
    }
}

// === what stories are made of ===

/// A key as the admin API would be given it.
#[track_caller]
fn new_key(object: Value) -> NewKey {
    NewKey::read(fields(object)).unwrap()
}

#[track_caller]
fn patch(object: Value) -> Patch {
    Patch::read(fields(object)).unwrap()
}

#[track_caller]
fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        other => panic!("{other} is no object"),
    }
}

fn id(id: &str) -> Which {
    Which::Id(id.to_owned())
}

/// Everything that can be said of a key.
fn everything() -> Value {
    json!({
        "name": "Zoë's „Schlüssel“ 🔑",
        "user_id": "alice",
        "status": "active",
        "total_quota": 1_000_000,
        "used_quota": 10,
        "total_budget": "12.5",
        "quota_reset_period": "monthly",
        "starts_at": "2026-01-01T00:00:00Z",
        "expires_at": "2027-01-01T00:00:00.123Z",
        "allowed_ips": ["10.0.0.0/8", "2001:db8::/32"],
        "denied_ips": ["10.1.0.0/16"],
        "allowed_models": ["llama-*", "qwen"],
        "rate_limit": {"requests_per_second": 0.5, "burst_size": 3, "tokens_per_day": 5},
        "metadata": {"team": "blue", "note": "a\nb"},
    })
}

/// The whole feed, as somebody sees it who asks for little at a time.
async fn feed(store: &KeyStore) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    loop {
        let last = all.last().map_or(0, |change| change.seq);
        let feed = store.changes_since(last, 3).await.unwrap();
        if feed.changes.is_empty() {
            assert_eq!(feed.latest, last);
            return all;
        }
        all.extend(feed.changes);
    }
}

async fn entries(store: &KeyStore, key_id: &str) -> Vec<AuditEntry> {
    let mut page = store.audit(Some(key_id), 0, 100).await.unwrap();
    assert_eq!(page.total, page.items.len() as u64);
    page.items.reverse();
    page.items
}

//! `storage`: databases and caches that the rest of the file names.

use serde_yaml::Mapping;

use crate::import::draft::Draft;
use crate::import::text;
use crate::import::tree::Node;

/// The databases and caches of the file.
pub(super) struct Stores {
    databases: Vec<Store>,
    caches: Vec<Store>,
}

/// One of them, as ours is written: `driver` and `dsn`, or `addr`, `password` and `db`.
struct Store {
    name: String,
    section: Mapping,
}

impl Stores {
    pub(super) fn read(root: &mut Node, draft: &mut Draft) -> Self {
        let mut stores = Self {
            databases: Vec::new(),
            caches: Vec::new(),
        };
        let Some(storage) = root.section("storage") else {
            return stores;
        };
        for node in storage.items("databases") {
            stores.databases.extend(store(node, draft, database));
        }
        for node in storage.items("caches") {
            stores.caches.extend(store(node, draft, cache));
        }
        stores
    }

    /// Returns `driver` and `dsn` of the database that is called so.
    pub(super) fn database(&self, name: &str) -> Option<Mapping> {
        named(&self.databases, name)
    }

    /// Returns the Redis server that is called so, or with an empty name the `default` one.
    pub(super) fn cache(&self, name: &str) -> Option<Mapping> {
        match name {
            "" => named(&self.caches, "default").or_else(|| self.only_cache()),
            name => named(&self.caches, name),
        }
    }

    fn only_cache(&self) -> Option<Mapping> {
        match &*self.caches {
            [one] => Some(one.section.clone()),
            _ => None,
        }
    }
}

fn named(stores: &[Store], name: &str) -> Option<Mapping> {
    let mut stores = stores.iter().filter(|store| store.name == name);
    stores.next().map(|store| store.section.clone())
}

fn store(
    node: &mut Node,
    draft: &mut Draft,
    read: fn(&mut Node, &mut Draft) -> Option<Mapping>,
) -> Option<Store> {
    let path = node.path().to_owned();
    let name = node.filled("name").unwrap_or_default();
    let on = node.flag("enabled") == Some(true);
    let section = read(node, draft);
    let pool = "not needed: connections are made as they are needed";
    for key in [
        "max_open_conns",
        "max_idle_conns",
        "conn_max_lifetime",
        "conn_max_idle_time",
    ] {
        node.explain(draft, &[(key, pool)]);
    }
    for key in ["pool_size", "min_idle_conns", "write_timeout"] {
        node.explain(draft, &[(key, pool)]);
    }
    let Some(section) = section else {
        draft.note(
            &path,
            "not a database or Redis server that can be used; not carried over",
        );
        return None;
    };
    if !on {
        draft.note(
            &path,
            "not `enabled` there; used here all the same where something names it",
        );
    }
    Some(Store { name, section })
}

/// Reads `driver` and `dsn`, or the parts that it is made of.
pub(super) fn database(node: &mut Node, draft: &mut Draft) -> Option<Mapping> {
    let driver = match node.filled("driver")?.to_ascii_lowercase().as_str() {
        "mysql" => "mysql",
        "postgres" | "postgresql" => "postgres",
        "sqlite" | "sqlite3" => "sqlite",
        _ => return None,
    };
    let whole = node.secret("dsn", draft);
    let dsn = match driver {
        "sqlite" => {
            let file = node.filled("path");
            whole
                .or(file)
                .unwrap_or_else(|| "./data/llmproxy.db".to_owned())
        }
        _ => {
            let parts = parts(node, driver, draft);
            whole.unwrap_or(parts)
        }
    };
    let driver_of = match driver {
        "mysql" => crate::config::Driver::Mysql,
        "postgres" => crate::config::Driver::Postgres,
        _ => crate::config::Driver::Sqlite,
    };
    let (whole, first) = match driver {
        "mysql" => ("user@tcp(host)/database", "1"),
        "postgres" => (
            "postgres://user@host/database",
            "postgres://user@host/database",
        ),
        _ => ("file.db", "1"),
    };
    let sampled = text::sampled(&dsn, draft.system, whole, first);
    if crate::config::dsn::parse(driver_of, &sampled).is_err() {
        return None;
    }
    let mut section = Mapping::new();
    section.insert("driver".into(), driver.into());
    section.insert("dsn".into(), dsn.into());
    Some(section)
}

fn parts(node: &mut Node, driver: &str, draft: &mut Draft) -> String {
    let host = node
        .filled("host")
        .unwrap_or_else(|| "localhost".to_owned());
    let port = node.filled("port");
    let user = node.filled("user").unwrap_or_default();
    let password = node.secret("password", draft).unwrap_or_default();
    let database = node.filled("database").unwrap_or_default();
    if driver == "mysql" {
        let port = port.unwrap_or_else(|| "3306".to_owned());
        return format!("{user}:{password}@tcp({host}:{port})/{database}");
    }
    let port = port.unwrap_or_else(|| "5432".to_owned());
    let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
    let mut dsn = format!("host={host} port={port} user={user}");
    if !quoted.is_empty() {
        dsn.push_str(&format!(" password='{quoted}'"));
    }
    format!("{dsn} dbname={database}")
}

/// Reads where a Redis server is.
pub(super) fn cache(node: &mut Node, draft: &mut Draft) -> Option<Mapping> {
    node.explain(
        draft,
        &[
            ("max_size", "had no effect there"),
            ("ttl", "had no effect there; see `auth.cache.ttl`"),
        ],
    );
    if node
        .filled("driver")
        .is_some_and(|driver| driver != "redis")
    {
        return None;
    }
    let addr = node.filled("addr")?;
    if !text::is_redis_address(&addr, draft.system) {
        return None;
    }
    let mut section = Mapping::new();
    section.insert("addr".into(), addr.into());
    if let Some(password) = node.secret("password", draft) {
        section.insert("password".into(), password.into());
    }
    if let Some(db) = node.count("db").filter(|db| (1..1_000_000).contains(db)) {
        section.insert("db".into(), db.into());
    }
    for (theirs, ours) in [
        ("dial_timeout", "connect_timeout"),
        ("read_timeout", "timeout"),
    ] {
        let time = node.go_duration(theirs, draft);
        if let Some(time) = time.filter(|time| !text::is_zero(time)) {
            section.insert(ours.into(), time.into());
        }
    }
    Some(section)
}

//! `llmproxy demo`: a working gateway in front of two simulated engines, with a guided tour.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use log::LevelFilter;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqliteRow};

use super::{Failure, print};
use crate::server::Companion;
use crate::{config, logging, server, sim};

/// How often the tour looks for newly recorded usage.
const LOOK: Duration = Duration::from_millis(200);
const MODELS: [&str; 2] = ["sim-large", "sim-small"];

/// Options of `llmproxy demo`.
#[derive(clap::Args)]
pub(super) struct Options {
    /// Where the demo listens; another port is taken when this one is in use.
    #[arg(long, default_value = "127.0.0.1:8000", value_parser = config::listen_address)]
    listen: SocketAddr,
    /// Where the demo keeps its state.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
}

pub(super) fn demo(options: &Options) -> Result<(), Failure> {
    // Says what Ctrl-C does; requests are shown as their usage arrives.
    logging::start(LevelFilter::Info, false);
    let data_dir = usable(&options.data_dir)?;
    let listen = free(options.listen)?;
    let mut companions = Vec::new();
    let mut engines = Vec::new();
    for seed in 1..=2 {
        let (address, engine) = engine(seed)?;
        engines.push(address);
        companions.push(engine);
    }
    let database = data_dir.join("demo-usage.db");
    let text = configuration(listen, &engines, &data_dir, &database);
    let loaded = config::parse(&text, "demo", Path::new("."), &|_| None)
        .map_err(|error| Failure::BadConfig(error.to_string()))?;
    // The tour needs the address, which is known once the gateway is bound; both sides of this
    // channel live in the same process.
    let (tell, told) = tokio::sync::oneshot::channel();
    companions.push(Box::pin(tour(told, database.clone())));
    let started = server::start(loaded, None, companions)?;
    let address = started
        .addresses()
        .first()
        .copied()
        .context("no listener")?;
    print(&welcome(address, options.listen, &engines, &database))?;
    if tell.send(reachable(address)).is_err() {
        log::debug!("the tour has ended before it began");
    }
    started.run();
    Ok(())
}

/// A simulated engine on a free port.
fn engine(seed: u64) -> Result<(SocketAddr, Companion)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot bind a simulated engine")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let models = MODELS.map(str::to_owned).to_vec();
    let options = sim::Options {
        models,
        seed,
        ..sim::Options::default()
    };
    let sim = Arc::new(sim::Sim::new(options)?);
    let serving = async move {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return log::error!(error:% = error; "a simulated engine cannot listen"),
        };
        let (_never, shutdown) = tokio::sync::watch::channel(false);
        sim::serve(sim, listener, shutdown).await;
    };
    Ok((address, Box::pin(serving)))
}

/// The wanted address, or the same host on any port when that one is taken.
fn free(wanted: SocketAddr) -> Result<SocketAddr> {
    match TcpListener::bind(wanted) {
        Ok(_) => Ok(wanted),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(SocketAddr::new(wanted.ip(), 0)),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {wanted}")),
    }
}

/// Where a client on this machine finds `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The directory in full, so that no beginning of its name is taken for a scheme.
fn usable(data_dir: &Path) -> Result<PathBuf, Failure> {
    let full = std::path::absolute(data_dir).context("--data-dir")?;
    match full.to_str() {
        // A data source name has no way to write these.
        Some(text) if text.contains('?') || text.contains(":memory:") => Err(Failure::BadConfig(
            "--data-dir: SQLite cannot keep a file in a directory whose path holds `?` or `:memory:`"
                .to_owned(),
        )),
        Some(_) => Ok(full),
        None => Err(Failure::BadConfig(
            "--data-dir: the path is not valid UTF-8".to_owned(),
        )),
    }
}

fn configuration(
    listen: SocketAddr,
    engines: &[SocketAddr],
    data_dir: &Path,
    database: &Path,
) -> String {
    let backends = engines.iter().enumerate().map(|(at, address)| {
        let weight = engines.len() - at;
        format!(
            "  - {{name: engine-{}, url: \"http://{address}\", weight: {weight}}}\n",
            at + 1
        )
    });
    // JSON strings are YAML strings, whatever a path contains; a dollar would begin a variable.
    let quoted = |text: &str| serde_json::Value::from(text.replace('$', "$$")).to_string();
    format!(
        "listen: \"{listen}\"\n\
         data_dir: {data_dir}\n\
         backends:\n{backends}\
         routing: {{load_balance: weighted}}\n\
         health_check: {{interval: 5s, path: /health}}\n\
         usage_hook:\n  enabled: true\n  reporters:\n\
         \x20   - name: demo\n      type: database\n      database: {{driver: sqlite, dsn: {database}}}\n",
        data_dir = quoted(&data_dir.to_string_lossy()),
        backends = backends.collect::<String>(),
        database = quoted(&format!("sqlite://{}", database.display())),
    )
}

fn welcome(
    address: SocketAddr,
    wanted: SocketAddr,
    engines: &[SocketAddr],
    database: &Path,
) -> String {
    let moved = match wanted.port() == 0 || address.port() == wanted.port() {
        true => String::new(),
        false => format!("  ({wanted} is in use, so this is another port)\n"),
    };
    let here = reachable(address);
    let engines: Vec<String> = engines
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    format!(
        "\nllmproxy {version} is serving on http://{address}\n{moved}\
         in front of two simulated engines: {engines}\n\n\
         Stream some tokens through it (from another terminal):\n\n\
         \x20 curl -N http://{here}/v1/chat/completions \\\n\
         \x20   -H 'Content-Type: application/json' \\\n\
         \x20   -d '{{\"model\": \"{model}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n\n\
         Also: /v1/models  /metrics  /readyz     Ctrl-C ends the demo.\n\
         Usage is recorded in {database}; each record is shown here as it arrives.\n\
         Now sending one request of our own ...\n\n",
        version = env!("CARGO_PKG_VERSION"),
        engines = engines.join(", "),
        model = MODELS[0],
        database = database.display(),
    )
}

/// Sends one request, then shows every record of usage as it reaches the database.
async fn tour(address: tokio::sync::oneshot::Receiver<SocketAddr>, database: PathBuf) {
    let Ok(address) = address.await else { return };
    // Records of an earlier demo are not shown again; without a database there are none.
    let mut last = newest_id(&database).await.unwrap_or(0);
    if let Err(error) = first_request(address).await {
        log::warn!(error:% = error; "the demo's own request failed");
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(new) = rows(&database, last).await else {
            continue;
        };
        last = newest(&new, last);
        for row in &new {
            if print(&line(row)).is_err() {
                return;
            }
        }
    }
}

async fn first_request(address: SocketAddr) -> reqwest::Result<()> {
    let body = format!(
        r#"{{"model":"{}","stream":true,"max_tokens":12,"messages":[{{"role":"user","content":"Say hello"}}]}}"#,
        MODELS[0]
    );
    let answer = reqwest::Client::new()
        .post(format!("http://{address}/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await?;
    answer.error_for_status()?.bytes().await?;
    Ok(())
}

async fn open(database: &Path) -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .read_only(true);
    SqlitePool::connect_with(options).await
}

async fn newest_id(database: &Path) -> Option<i64> {
    let pool = open(database).await.ok()?;
    let row = sqlx::query("SELECT COALESCE(MAX(rowid), 0) FROM usage_records")
        .fetch_one(&pool)
        .await;
    pool.close().await;
    row.ok()?.try_get(0).ok()
}

async fn rows(database: &Path, after: i64) -> sqlx::Result<Vec<SqliteRow>> {
    let pool = open(database).await?;
    let query = "SELECT rowid, request_id, model, backend, prompt_tokens, completion_tokens, \
                 usage_source, outcome, latency_ms FROM usage_records WHERE rowid > ? ORDER BY rowid";
    let rows = sqlx::query(query).bind(after).fetch_all(&pool).await;
    pool.close().await;
    rows
}

fn newest(rows: &[SqliteRow], before: i64) -> i64 {
    rows.last()
        .and_then(|row| row.try_get(0).ok())
        .unwrap_or(before)
}

fn line(row: &SqliteRow) -> String {
    let text = |column: &str| row.try_get::<String, _>(column).unwrap_or_default();
    let number = |column: &str| row.try_get::<i64, _>(column).unwrap_or_default();
    format!(
        "usage  request={} model={} backend={} prompt={} completion={} ({}, {}) in {} ms\n",
        text("request_id"),
        text("model"),
        text("backend"),
        number("prompt_tokens"),
        number("completion_tokens"),
        text("usage_source"),
        text("outcome"),
        number("latency_ms"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reporter;

    fn address(text: &str) -> SocketAddr {
        config::listen_address(text).unwrap()
    }

    #[test]
    fn a_directory_may_have_nearly_any_name() {
        for name in [
            "/a $b ${C} $$",
            "/a:b\"c'd\\e",
            "/{x}: [#]",
            "//two",
            "/ümlaut %41",
        ] {
            let (data_dir, database) = (Path::new(name), Path::new(name).join("u.db"));
            let engines = [address(":1")];
            let text = configuration(address(":0"), &engines, data_dir, &database);
            let loaded = config::parse(&text, "demo", Path::new("/nonexistent"), &|_| None);
            let config = loaded
                .unwrap_or_else(|error| panic!("{error}\n{text}"))
                .config;
            assert_eq!(config.data_dir, data_dir);
            let [Reporter::Database(reporter)] = &*config.usage_hook.reporters else {
                panic!("one database in\n{text}")
            };
            let dsn = reporter.database.dsn.expose();
            assert_eq!(dsn, format!("sqlite://{}", database.display()));
        }
    }

    #[test]
    fn a_directory_that_no_data_source_name_can_hold_is_refused() {
        for name in ["data?", "a/b?mode=ro", "/x/:memory:/y"] {
            assert!(usable(Path::new(name)).is_err(), "{name}");
        }
        for name in ["data", "file:data", "a$b"] {
            assert!(usable(Path::new(name)).is_ok_and(|path| path.is_absolute()));
        }
    }

    #[test]
    fn only_a_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = (taken.local_addr().unwrap(), taken);
        assert_eq!(free(taken.0).unwrap(), address("localhost:0"));
        assert_eq!(
            free(address("localhost:0")).unwrap(),
            address("localhost:0")
        );
        // Reserved for documentation, so no interface has it.
        let error = free(address("192.0.2.1:8000")).unwrap_err();
        assert_eq!(error.to_string(), "cannot listen on 192.0.2.1:8000");
    }

    #[test]
    fn the_welcome_names_an_address_that_can_be_called() {
        let welcome = |bound: &str, wanted: &str| {
            welcome(address(bound), address(wanted), &[], Path::new("u.db"))
        };
        let curl = |host: &str| format!("curl -N http://{host}/v1/chat/completions");
        assert!(welcome(":8000", ":8000").contains(&curl("127.0.0.1:8000")));
        assert!(welcome("[::]:8000", "[::]:8000").contains(&curl("[::1]:8000")));
        assert!(welcome("10.0.0.1:80", "10.0.0.1:80").contains(&curl("10.0.0.1:80")));
        assert!(!welcome("localhost:4711", "localhost:0").contains("in use"));
        assert!(welcome("localhost:4711", "localhost:80").contains("127.0.0.1:80 is in use"));
    }
}

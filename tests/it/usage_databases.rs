//! Bills in SQLite, PostgreSQL and MariaDB: how they get there, and what happens when the database is away.

mod commands;

use std::fs;
use std::path::Path;
use std::process::Output;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

use crate::client::post_with;
use crate::databases::{MariaDb, PASSWORD, Postgres, Server};
use crate::eventually;
use crate::gateway::{Gateway, backends};
use crate::process::llmproxy;
use crate::shapes::{CHAT_REQUEST, vllm};
use crate::upstream::Upstream;

fn call(gateway: &Gateway, id: &str) {
    let headers = [("X-Request-Id", id)];
    let answer = gateway.call(post_with("/v1/chat/completions", &headers, CHAT_REQUEST));
    assert_eq!(answer.status, 200);
}

/// A `usage_hook:` block with this reporter.
fn hook(driver: &str, dsn: &str, more: &str) -> String {
    format!(
        "usage_hook:\n  reporters:\n{}",
        reporter("bills", driver, dsn, "usage_records", more)
    )
}

fn reporter(name: &str, driver: &str, dsn: &str, table: &str, more: &str) -> String {
    let dsn = serde_json::to_string(dsn).unwrap();
    format!(
        "    - {{name: {name}, type: database, \
         database: {{driver: {driver}, dsn: {dsn}, table: {table}}}{more}}}\n"
    )
}

fn has_table(server: &dyn Server, table: &str) -> bool {
    let sql = "SELECT count(*) FROM information_schema.tables WHERE table_name";
    server.number(&format!("{sql} = '{table}'")) == 1
}

/// The request ids in the table, in order; none while there is no table.
fn ids(server: &dyn Server) -> Vec<String> {
    if !has_table(server, "usage_records") {
        return Vec::new();
    }
    let rows = server.query("SELECT request_id FROM usage_records ORDER BY request_id");
    rows.into_iter().flatten().collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// === events arrive ===

fn events_arrive(server: &dyn Server) {
    let upstream = Upstream::start(vllm);
    let both = [
        reporter("url", server.driver(), &server.dsn(), "by_url", ""),
        reporter("go", server.driver(), &server.go_dsn(), "by_go", ""),
    ];
    let yaml = format!("usage_hook:\n  reporters:\n{}", both.concat());
    let gateway = Gateway::before(&upstream, &yaml);
    for id in ["r1", "r2", "r3"] {
        call(&gateway, id);
    }
    for table in ["by_url", "by_go"] {
        let count = format!("SELECT count(*) FROM {table}");
        eventually("three rows arrive", || {
            has_table(server, table) && server.number(&count) == 3
        });
        let rows = server.query(&format!(
            "SELECT request_id, model, prompt_tokens, completion_tokens, outcome, status, \
             length(event_id), cost_nanos IS NULL AND request_body IS NULL AND NOT is_stream \
             FROM {table} ORDER BY request_id"
        ));
        for (row, id) in rows.iter().zip(["r1", "r2", "r3"]) {
            assert_eq!(row[..7], [id, "m", "12", "3", "completed", "200", "36"]);
            assert!(matches!(&*row[7], "t" | "1"), "{row:?}");
        }
    }
}

#[test]
fn events_arrive_in_postgres_by_url_and_in_gos_form() {
    events_arrive(&Postgres::start());
}

#[test]
fn events_arrive_in_mariadb_by_url_and_in_gos_form() {
    events_arrive(&MariaDb::start());
}

// === the database is away ===

/// Requests before, while and after the database is away: every one is in it once.
fn nothing_is_missing_or_doubled(server: &mut dyn Server) {
    let upstream = Upstream::start(vllm);
    let yaml = hook(
        server.driver(),
        &server.dsn(),
        ", batch_size: 7, timeout: 2s",
    );
    let gateway = Gateway::before(&upstream, &yaml);
    let mut expected = Vec::new();
    let mut calls = |phase: &str| {
        for nth in 10..30 {
            let id = format!("{phase}{nth}");
            call(&gateway, &id);
            expected.push(id);
        }
    };
    calls("a-before");
    eventually("the first arrive", || ids(server).len() == 20);
    server.stop();
    calls("b-away");
    server.start_again();
    calls("c-back");
    // Killed in the middle of what it is writing now.
    server.stop();
    server.start_again();
    eventually("all of them arrive", || ids(server).len() >= expected.len());
    gateway.stop();
    assert_eq!(ids(server), expected);
    let events = server.number("SELECT count(DISTINCT event_id) FROM usage_records");
    assert_eq!(events, expected.len() as u64);
}

#[test]
fn postgres_goes_away_and_comes_back_and_no_bill_is_missing() {
    nothing_is_missing_or_doubled(&mut Postgres::start());
}

#[test]
fn mariadb_goes_away_and_comes_back_and_no_bill_is_missing() {
    nothing_is_missing_or_doubled(&mut MariaDb::start());
}

#[test]
fn a_table_somebody_drops_is_made_again() {
    let server = Postgres::start();
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &hook("postgres", &server.dsn(), ""));
    call(&gateway, "first");
    eventually("the first arrives", || ids(&server) == ["first"]);
    server.query("DROP TABLE usage_records");
    call(&gateway, "second");
    eventually("the second arrives", || ids(&server) == ["second"]);
}

// === at the start ===

#[test]
fn a_database_that_is_away_at_the_start_keeps_nobody_from_being_served() {
    let mut server = Postgres::start();
    server.stop();
    let upstream = Upstream::start(vllm);
    let gateway = Gateway::before(&upstream, &hook("postgres", &server.dsn(), ""));
    call(&gateway, "early");
    eventually("the log says who waits for whom", || {
        gateway.log().lines().any(|line| {
            line.contains("WARN") && line.contains("bills") && line.contains(&server.place())
        })
    });
    assert!(!gateway.log().contains("p%40") && !gateway.log().contains(PASSWORD));
    server.start_again();
    eventually("it arrives later", || ids(&server) == ["early"]);
}

/// `llmproxy …` with a configuration of this hook.
fn run(args: &[&str], dir: &Path, hook: &str) -> Output {
    let file = dir.join("llmproxy.yaml");
    let head = "listen: \"127.0.0.1:0\"\nbackends:\n  - url: http://127.0.0.1:1\n";
    let data = format!("data_dir: {}\n", dir.join("data").display());
    fs::write(&file, format!("{head}{data}{hook}")).unwrap();
    let mut command = llmproxy();
    command
        .args(args)
        .arg("--config")
        .arg(&file)
        .current_dir(dir);
    command.output().unwrap()
}

#[test]
fn a_required_database_that_is_away_keeps_the_gateway_from_starting() {
    let mut server = MariaDb::start();
    server.stop();
    let dir = tempfile::tempdir().unwrap();
    let hook = hook("mysql", &server.go_dsn(), ", required: true");
    let output = run(&["run"], dir.path(), &hook);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{message}");
    assert!(
        message.contains("bills") && message.contains(&server.place()),
        "{message}"
    );
    assert!(!message.contains(PASSWORD), "{message}");
}

#[test]
fn a_wrong_dsn_or_table_is_named_without_the_password() {
    let dir = tempfile::tempdir().unwrap();
    for (driver, dsn, table, key, what) in [
        (
            "postgres",
            "postgres://u:hunter2@h/b?sslmode=on",
            "t",
            "dsn",
            "`sslmode`",
        ),
        (
            "postgres",
            "u:hunter2@tcp(h)/b",
            "t",
            "dsn",
            "postgres:// URL",
        ),
        ("mysql", "u:hunter2@tcp(h:33o6)/b", "t", "dsn", "port"),
        (
            "mysql",
            "postgres://u:hunter2@h/b",
            "t",
            "dsn",
            "the driver is mysql",
        ),
        (
            "mysql",
            "u:hunter2@/b?time_zone=x",
            "t",
            "dsn",
            "`time_zone`",
        ),
        ("sqlite", "hunter2/", "t", "dsn", "names no file"),
        (
            "mysql",
            "u:hunter2@/b",
            "\"a; DROP\"",
            "table",
            "letters, digits or `_`",
        ),
    ] {
        let reporters = reporter("bills", driver, dsn, table, "");
        let output = run(
            &["check"],
            dir.path(),
            &format!("usage_hook:\n  reporters:\n{reporters}"),
        );
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{dsn}: {message}");
        let path = format!("usage_hook.reporters[0].database.{key}");
        assert!(
            message.contains(&path) && message.contains(what),
            "{dsn}: {message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }
}

// === versions of the table ===

async fn sqlite(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file);
    options.create_if_missing(true).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sqlite_file_of_an_older_gateway_goes_on_being_used() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let file = dir.path().join("usage.db");
    let old = "CREATE TABLE usage_records (event_id TEXT, request_id TEXT NOT NULL DEFAULT '', \
               model TEXT NOT NULL DEFAULT '', prompt_tokens BIGINT NOT NULL DEFAULT 0); \
               CREATE UNIQUE INDEX usage_records_event_id ON usage_records (event_id); \
               INSERT INTO usage_records VALUES ('1', 'old', 'm', 5)";
    sqlx::raw_sql(old)
        .execute(&mut sqlite(&file).await)
        .await
        .unwrap();
    let yaml = hook("sqlite", &file.display().to_string(), ", required: true");
    let gateway = Gateway::start_in(dir.path(), &format!("{}{yaml}", backends(&upstream)));
    call(&gateway, "new");
    gateway.stop();
    let all = "SELECT request_id, prompt_tokens, cost_nanos FROM usage_records ORDER BY request_id";
    let rows: Vec<(String, i64, Option<i64>)> = sqlx::query_as(all)
        .fetch_all(&mut sqlite(&file).await)
        .await
        .unwrap();
    assert_eq!(
        rows,
        [("new".to_owned(), 12, None), ("old".to_owned(), 5, None)]
    );
}

//! `llmproxy db`, against all three databases.

use std::process::Output;

use super::{hook, run, text};
use crate::databases::{MariaDb, Postgres, Server};
use crate::process::{Process, llmproxy};

/// The cells of the one line about the reporter in what `db` printed.
fn cells(output: &Output) -> Vec<String> {
    let printed = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{printed}{}",
        text(&output.stderr)
    );
    let line = printed
        .lines()
        .find(|line| line.trim_start().starts_with("bills"));
    let line = line.unwrap_or_else(|| panic!("no line about the reporter in\n{printed}"));
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Through all commands of `llmproxy db`, from nothing to nothing.
fn there_and_back(driver: &str, dsn: &str, place: &str) {
    let dir = tempfile::tempdir().unwrap();
    let hook = hook(driver, dsn, "");
    let db = |args: &[&str]| run(&[&["db"], args].concat(), dir.path(), &hook);
    let line = |version, state| ["bills", driver, place, version, state].map(str::to_owned);
    assert_eq!(cells(&db(&["current"])), line("none", "2 pending"));
    assert_eq!(cells(&db(&["migrate"])), line("1, 2", "migrated"));
    assert_eq!(cells(&db(&["migrate"])), line("-", "up to date"));
    assert_eq!(cells(&db(&["current"])), line("2", "up to date"));

    for args in [&["rollback"][..], &["rollback", "--steps", "2"]] {
        let refused = db(args);
        assert_eq!(refused.status.code(), Some(64), "{args:?}");
        assert!(
            text(&refused.stderr).contains("--yes"),
            "{}",
            text(&refused.stderr)
        );
    }
    assert_eq!(cells(&db(&["rollback", "--yes"])), line("2", "undone"));
    assert_eq!(cells(&db(&["current"])), line("1", "1 pending"));
    let history = text(&db(&["history"]).stdout);
    let of = |version: &str| {
        history
            .lines()
            .find(|line| line.contains(version))
            .unwrap()
            .to_owned()
    };
    assert!(
        of("usage").contains('Z') && of("cost").contains("pending"),
        "{history}"
    );
    assert_eq!(cells(&db(&["rollback", "--yes"])), line("1", "undone"));
    assert_eq!(cells(&db(&["current"])), line("none", "2 pending"));
}

#[test]
fn operators_migrate_sqlite_and_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db").display().to_string();
    there_and_back("sqlite", &format!("sqlite:{file}"), &file);
}

#[test]
fn operators_migrate_postgres_and_go_back() {
    let server = Postgres::start();
    there_and_back("postgres", &server.go_dsn(), &server.place());
}

#[test]
fn operators_migrate_mariadb_and_go_back() {
    let server = MariaDb::start();
    there_and_back("mysql", &server.go_dsn(), &server.place());
}

#[test]
fn a_database_that_cannot_be_asked_is_named() {
    let mut server = Postgres::start();
    server.stop();
    let dir = tempfile::tempdir().unwrap();
    let hook = hook("postgres", &server.dsn(), "");
    for command in ["current", "history", "migrate"] {
        let output = run(&["db", command], dir.path(), &hook);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(70), "{command}: {message}");
        assert!(
            message.contains("bills") && message.contains(&server.place()),
            "{message}"
        );
    }
    let unknown = run(
        &["db", "current", "--reporter", "nobody"],
        dir.path(),
        &hook,
    );
    assert_eq!(unknown.status.code(), Some(64));
    assert!(
        text(&unknown.stderr).contains("there are: bills"),
        "{}",
        text(&unknown.stderr)
    );
}

/// Eight at once on an empty database: one makes the table, the others find it.
fn several_migrate_at_once(server: &dyn Server) {
    let dir = tempfile::tempdir().unwrap();
    let hook = hook(server.driver(), &server.dsn(), "");
    run(&["check"], dir.path(), &hook);
    let file = dir.path().join("llmproxy.yaml");
    let start = |_| {
        let mut command = llmproxy();
        command
            .args(["db", "migrate", "--config"])
            .arg(&file)
            .current_dir(dir.path());
        Process::spawn(&mut command)
    };
    let mut all: Vec<_> = (0..8).map(start).collect();
    for one in &mut all {
        assert_eq!(one.wait().code(), Some(0), "{}", one.log());
    }
    let made = all
        .iter()
        .filter(|one| one.log().contains("migrated"))
        .count();
    assert_eq!(made, 1);
    assert_eq!(
        server.number("SELECT count(*) FROM usage_records_migrations"),
        2
    );
}

#[test]
fn several_migrate_postgres_at_once() {
    several_migrate_at_once(&Postgres::start());
}

#[test]
fn several_migrate_mariadb_at_once() {
    several_migrate_at_once(&MariaDb::start());
}

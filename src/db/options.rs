//! How each of the databases is connected to.

use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::config::Secret;
use crate::config::dsn::{Encryption, Server};

/// A file of ours, created when missing.
pub(super) fn sqlite(path: &Path, timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What is reported as written is on the disk: its events are forgotten afterwards.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(timeout.min(LONGEST_BUSY))
        .disable_statement_logging()
}

/// Somebody else's file: neither created nor changed.
pub(super) fn sqlite_to_read(path: &Path, timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .read_only(true)
        .busy_timeout(timeout.min(LONGEST_BUSY))
        .disable_statement_logging()
}

pub(super) fn postgres(server: &Server) -> PgConnectOptions {
    let mode = match server.encryption {
        Encryption::Off => PgSslMode::Disable,
        Encryption::Preferred => PgSslMode::Prefer,
        Encryption::Required => PgSslMode::Require,
        Encryption::VerifyCa => PgSslMode::VerifyCa,
        Encryption::VerifyFull => PgSslMode::VerifyFull,
    };
    // As in every client, `PGPASSWORD` and the like stand in for what the DSN leaves out.
    let mut options = PgConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .application_name("llmproxy")
        .ssl_mode(mode)
        // Statements are not kept, or poolers that share sessions would mix them up.
        .statement_cache_capacity(0)
        .disable_statement_logging();
    if let Some(password) = &server.password {
        options = options.password(password.expose());
    }
    if let Some(socket) = &server.socket {
        options = options.socket(socket);
    }
    if let Some(path) = &server.search_path {
        options = options.options([("search_path", path)]);
    }
    if let Some(ca) = &server.ca {
        options = options.ssl_root_cert(ca);
    }
    if let (Some(cert), Some(key)) = (&server.cert, &server.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

pub(super) fn mysql(server: &Server) -> MySqlConnectOptions {
    let mode = match server.encryption {
        Encryption::Off => MySqlSslMode::Disabled,
        Encryption::Preferred => MySqlSslMode::Preferred,
        Encryption::Required => MySqlSslMode::Required,
        Encryption::VerifyCa => MySqlSslMode::VerifyCa,
        Encryption::VerifyFull => MySqlSslMode::VerifyIdentity,
    };
    let mut options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .password(server.password.as_ref().map_or("", Secret::expose))
        .database(&server.database)
        .ssl_mode(mode)
        .statement_cache_capacity(KEPT_STATEMENTS)
        .disable_statement_logging();
    if let Some(socket) = &server.socket {
        options = options.socket(socket);
    }
    if let Some(ca) = &server.ca {
        options = options.ssl_ca(ca);
    }
    if let (Some(cert), Some(key)) = (&server.cert, &server.key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

/// How long another process may hold SQLite's write lock before waiting for it counts as failed.
const LONGEST_BUSY: Duration = Duration::from_secs(5);

/// As many as the gateway has sentences for one table.
const KEPT_STATEMENTS: usize = 16;

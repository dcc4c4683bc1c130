//! PostgreSQL: `postgres://user:password@host:5432/database` or `host=… user=… password='…'`, both
//! as libpq and Go's lib/pq read them
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>).

use std::path::PathBuf;

use super::parameters::{self, bad_value, decoded};
use super::{Encryption, Server};
use crate::config::Secret;

pub(super) fn parse(url: Option<&str>, dsn: &str) -> Result<Server, String> {
    let mut server = Server::at_port(PORT);
    let words = match url {
        Some(url) => of_url(&mut server, url)?,
        None => words(dsn)?,
    };
    let mut after_password = false;
    for (name, value) in words {
        let known = parameter(&mut server, &name, &value)?;
        if !known && after_password && url.is_none() {
            return Err(
                "what follows `password` is not known; a password with a space must stand \
                        in single quotes"
                    .to_owned(),
            );
        }
        if !known {
            return Err(parameters::unknown(&name));
        }
        after_password = name == "password";
    }
    if server.database.is_empty() {
        server.database.clone_from(&server.user);
    }
    server.complete()
}

fn of_url(server: &mut Server, url: &str) -> Result<Vec<(String, String)>, String> {
    let parts = parameters::of_url(url)?;
    if let Some(user_info) = parts.user_info {
        let (user, password) = parameters::user_info(user_info)?;
        server.user = user;
        server.password = password.map(Secret::new);
    }
    // A path in the host's place, percent-encoded as in libpq.
    let address = decoded(parts.address)?;
    match address.starts_with('/') {
        true => server.socket = Some(PathBuf::from(address)),
        false => server.set_address(&address)?,
    }
    server.database = decoded(parts.database)?;
    Ok(parts.query)
}

/// Returns whether there is a parameter of this name.
fn parameter(server: &mut Server, name: &str, value: &str) -> Result<bool, String> {
    let path = || Some(PathBuf::from(value));
    match name {
        "host" if value.starts_with('/') => server.socket = path(),
        "host" => server.set_host(value)?,
        "port" => server.set_port(value)?,
        "user" => value.clone_into(&mut server.user),
        "password" => server.password = Some(Secret::new(value)),
        "dbname" => value.clone_into(&mut server.database),
        "sslmode" => {
            server.encryption = match value {
                "disable" => Encryption::Off,
                "allow" | "prefer" => Encryption::Preferred,
                "require" => Encryption::Required,
                "verify-ca" => Encryption::VerifyCa,
                "verify-full" => Encryption::VerifyFull,
                _ => {
                    let possible = "disable, allow, prefer, require, verify-ca, verify-full";
                    return Err(bad_value(name, possible));
                }
            }
        }
        "sslrootcert" => server.ca = path(),
        "sslcert" => server.cert = path(),
        "sslkey" => server.key = path(),
        "search_path" => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b',');
            if value.is_empty() || !value.bytes().all(plain) {
                return Err("`search_path` must be names of schemas with commas between".into());
            }
            server.search_path = Some(value.to_owned());
        }
        _ => return Ok(HARMLESS.contains(&name)),
    }
    Ok(true)
}

/// Reads `name=value name = 'quoted \'value\''`.
fn words(dsn: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = Vec::new();
    let mut rest = dsn.trim_start();
    while !rest.is_empty() {
        let Some((name, after)) = rest.split_once('=') else {
            return Err("is neither a postgres:// URL nor words like host=… dbname=…".to_owned());
        };
        let (value, after) = value(after.trim_start())?;
        words.push((name.trim_end().to_owned(), value));
        rest = after.trim_start();
    }
    if words.is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(words)
}

/// Returns the value `text` begins with and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped)) => value.push(escaped),
                None => return Err("ends with a `\\`".to_owned()),
            },
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if !quoted && c.is_ascii_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    match quoted {
        true => Err("a `'` is opened and never closed".to_owned()),
        false => Ok((value, "")),
    }
}

const PORT: u16 = 5432;

/// Parameters of libpq and Go's drivers that change nothing here: values are bound, texts are UTF-8,
/// times are text, there is one connection, and how long to wait is the reporter's `timeout`.
const HARMLESS: [&str; 23] = [
    "TimeZone",
    "application_name",
    "binary_parameters",
    "client_encoding",
    "connect_timeout",
    "datestyle",
    "default_query_exec_mode",
    "disable_prepared_binary_result",
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "pool_max_conn_idle_time",
    "pool_max_conn_lifetime",
    "pool_max_conns",
    "pool_min_conns",
    "prefer_simple_protocol",
    "sslsni",
    "statement_cache_capacity",
    "statement_cache_mode",
    "statement_timeout",
    "timezone",
];

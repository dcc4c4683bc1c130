//! MySQL and MariaDB: `mysql://user:password@host:3306/database`, or as go-sql-driver/mysql has it,
//! `user:password@tcp(host:3306)/database` (<https://github.com/go-sql-driver/mysql#dsn-data-source-name>).

use std::path::PathBuf;

use super::parameters::{self, bad_value, decoded};
use super::{Encryption, Server};
use crate::config::Secret;

pub(super) fn parse(url: Option<&str>, dsn: &str) -> Result<Server, String> {
    let (mut server, query) = match url {
        Some(url) => of_url(url)?,
        None => of_go(dsn)?,
    };
    for (name, value) in query {
        parameter(&mut server, &name, &value)?;
    }
    server.complete()
}

type Read = (Server, Vec<(String, String)>);

fn of_url(url: &str) -> Result<Read, String> {
    let parts = parameters::of_url(url)?;
    let mut server = Server::at_port(PORT);
    if let Some(user_info) = parts.user_info {
        let (user, password) = parameters::user_info(user_info)?;
        server.user = user;
        server.password = password.map(Secret::new);
    }
    server.set_address(parts.address)?;
    server.database = decoded(parts.database)?;
    Ok((server, parts.query))
}

/// As in Go's driver the last `/` and the last `@` before it count, so that a password may hold
/// both, and nothing of user and password is percent-encoded.
fn of_go(dsn: &str) -> Result<Read, String> {
    let Some((left, right)) = dsn.rsplit_once('/') else {
        return Err("names no database: `/database` is missing".to_owned());
    };
    let (database, query) = right.split_once('?').unwrap_or((right, ""));
    let mut server = Server::at_port(PORT);
    server.database = decoded(database)?;
    let place = match left.rsplit_once('@') {
        Some((user_info, place)) => {
            let (user, password) = match user_info.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user_info, None),
            };
            user.clone_into(&mut server.user);
            server.password = password.map(Secret::new);
            place
        }
        None => left,
    };
    let (protocol, address) = match place.split_once('(') {
        Some((protocol, address)) => match address.strip_suffix(')') {
            Some(address) => (protocol, address),
            None => return Err("after the host there must be `)`, `/` and the database".to_owned()),
        },
        None => (place, ""),
    };
    match protocol {
        "" | "tcp" | "tcp4" | "tcp6" => {
            // Go says 127.0.0.1 here, and MySQL's users may be bound to one of the two names.
            let missing = address.is_empty() || address.starts_with(':');
            server.set_address(address)?;
            if missing {
                "127.0.0.1".clone_into(&mut server.host);
            }
        }
        "unix" if address.is_empty() => server.socket = Some(PathBuf::from("/tmp/mysql.sock")),
        "unix" => server.socket = Some(PathBuf::from(address)),
        _ => return Err("before the `(` of the host there must be tcp or unix".to_owned()),
    }
    Ok((server, parameters::of_query(query)?))
}

/// `tls` is Go's; `ssl-*` are those of MySQL's own clients and URLs.
fn parameter(server: &mut Server, name: &str, value: &str) -> Result<(), String> {
    match name {
        "tls" => {
            server.encryption = match value {
                "true" | "1" => Encryption::VerifyFull,
                "false" | "0" => Encryption::Off,
                "skip-verify" => Encryption::Required,
                "preferred" => Encryption::Preferred,
                _ => return Err(bad_value(name, "true, skip-verify, preferred, false")),
            }
        }
        "ssl-mode" | "sslmode" => {
            server.encryption = match &*value.to_ascii_lowercase() {
                "disabled" => Encryption::Off,
                "preferred" => Encryption::Preferred,
                "required" => Encryption::Required,
                "verify_ca" => Encryption::VerifyCa,
                "verify_identity" => Encryption::VerifyFull,
                _ => {
                    let possible = "disabled, preferred, required, verify_ca, verify_identity";
                    return Err(bad_value(name, possible));
                }
            }
        }
        "ssl-ca" => server.ca = Some(PathBuf::from(value)),
        "ssl-cert" => server.cert = Some(PathBuf::from(value)),
        "ssl-key" => server.key = Some(PathBuf::from(value)),
        "socket" => server.socket = Some(PathBuf::from(value)),
        _ if HARMLESS.contains(&name) => {}
        _ => return Err(parameters::unknown(name)),
    }
    Ok(())
}

const PORT: u16 = 3306;

/// Parameters of Go's and other drivers that change nothing here: values are bound, texts are
/// utf8mb4, times are text, and how long to wait is the reporter's `timeout`.
const HARMLESS: [&str; 20] = [
    "allowAllFiles",
    "allowNativePasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "statement-cache-capacity",
    "timeTruncate",
    "timeout",
    "writeTimeout",
];

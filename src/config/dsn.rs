//! Data source names: where a database is and as whom to go there.
//!
//! Reads URLs and the forms Go's drivers take, so that a DSN can be brought along from there. Opens
//! nothing. Faults name the part that is wrong, never its value: any part may hold the password.

mod mysql;
mod parameters;
mod postgres;
mod sqlite;

use std::path::PathBuf;

use super::{Driver, Secret};

/// A database as it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server.
    Postgres(Server),
    /// A MySQL or MariaDB server.
    Mysql(Server),
}

/// A database on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name or address, IPv6 without brackets; without meaning when there is a `socket`.
    pub host: String,
    /// Its port; PostgreSQL's sockets are named after it, too.
    pub port: u16,
    /// Where to connect instead: PostgreSQL's directory of sockets, MySQL's socket.
    pub socket: Option<PathBuf>,
    /// As whom.
    pub user: String,
    /// How that is proven; none where the server trusts the connection.
    pub password: Option<Secret>,
    /// The name of the database.
    pub database: String,
    /// Whether the connection is encrypted.
    pub encryption: Encryption,
    /// A certificate to trust besides the system's; of several in the file the first.
    pub ca: Option<PathBuf>,
    /// The client's certificate.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
    /// PostgreSQL's schemas in which the table is looked for; it is created in the first.
    pub search_path: Option<String>,
}

/// How much TLS a server must offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// None.
    Off,
    /// TLS if the server has it, with any certificate.
    #[default]
    Preferred,
    /// TLS with any certificate.
    Required,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for this host.
    VerifyFull,
}

/// Reads a data source name.
///
/// # Errors
///
/// What is wrong with it, without any of its values.
pub fn parse(driver: Driver, dsn: &str) -> Result<Target, String> {
    if dsn.is_empty() {
        return Err("is empty".to_owned());
    }
    if dsn.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    match scheme(dsn) {
        Some((other, _)) if other != driver => Err(format!(
            "is a URL for {}, but the driver is {}",
            other.as_str(),
            driver.as_str()
        )),
        rest => {
            let url = rest.map(|(_, rest)| rest);
            match driver {
                Driver::Sqlite => sqlite::parse(dsn).map(Target::Sqlite),
                Driver::Postgres => postgres::parse(url, dsn).map(Target::Postgres),
                Driver::Mysql => mysql::parse(url, dsn).map(Target::Mysql),
            }
        }
    }
}

/// Checks the name of a table.
///
/// # Errors
///
/// What a name must look like, if this one does not.
pub fn table_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = name.len() <= LONGEST_TABLE
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(plain)
        && !name.to_ascii_lowercase().starts_with("sqlite_");
    if good {
        return Ok(());
    }
    Err(format!(
        "a table name has 1 to {LONGEST_TABLE} letters, digits or `_`, no digit first, and does not \
         begin with `sqlite_`"
    ))
}

/// Names may have 63 bytes in PostgreSQL and 64 in MySQL, and that of the table of migrations is
/// longer by eleven.
const LONGEST_TABLE: usize = 52;

/// Returns which driver a URL is for and what follows `://`.
///
/// Only known schemes count: in Go's form of MySQL `user://x@/db` is a user with a password.
fn scheme(dsn: &str) -> Option<(Driver, &str)> {
    let (scheme, rest) = dsn.split_once("://")?;
    let driver = match scheme {
        "postgres" | "postgresql" => Driver::Postgres,
        "mysql" | "mariadb" => Driver::Mysql,
        "sqlite" | "file" => Driver::Sqlite,
        _ => return None,
    };
    Some((driver, rest))
}

// === impl Target ===

impl Target {
    /// Returns it as logs and tables name it: the driver and the place, nothing secret.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{} {}", self.driver().as_str(), self.place())
    }

    /// Returns the kind of database.
    #[must_use]
    pub fn driver(&self) -> Driver {
        match self {
            Self::Sqlite(_) => Driver::Sqlite,
            Self::Postgres(_) => Driver::Postgres,
            Self::Mysql(_) => Driver::Mysql,
        }
    }

    /// Returns `host:port/database` or the path of the file.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(server) | Self::Mysql(server) => server.place(),
        }
    }
}

// === impl Server ===

impl Server {
    /// A server of which nothing but the port is known.
    fn at_port(port: u16) -> Self {
        Self {
            host: String::new(),
            port,
            socket: None,
            user: String::new(),
            password: None,
            database: String::new(),
            encryption: Encryption::default(),
            ca: None,
            cert: None,
            key: None,
            search_path: None,
        }
    }

    fn place(&self) -> String {
        let database = &self.database;
        match &self.socket {
            Some(socket) => format!("unix({})/{database}", socket.display()),
            None if self.host.contains(':') => format!("[{}]:{}/{database}", self.host, self.port),
            None => format!("{}:{}/{database}", self.host, self.port),
        }
    }

    fn set_host(&mut self, host: &str) -> Result<(), String> {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '%');
        if host.contains(',') {
            return Err("names more than one host, only one is possible".to_owned());
        }
        if !host.chars().all(plain) {
            return Err("the host holds a character no host has".to_owned());
        }
        host.clone_into(&mut self.host);
        Ok(())
    }

    fn set_port(&mut self, port: &str) -> Result<(), String> {
        self.port = match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err("the port is not a number from 1 to 65535".to_owned()),
        };
        Ok(())
    }

    /// Reads `host`, `host:port`, `[v6]`, `[v6]:port` or `:port`.
    fn set_address(&mut self, address: &str) -> Result<(), String> {
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let Some((host, port)) = rest.split_once(']') else {
                    return Err("the host begins with `[` and has no `]`".to_owned());
                };
                match port.strip_prefix(':') {
                    None if !port.is_empty() => {
                        return Err("after the `]` of the host there must be `:` and a port".into());
                    }
                    port => (host, port),
                }
            }
            None => match address.rsplit_once(':') {
                Some((host, _)) if host.contains(':') => {
                    return Err("an IPv6 address must stand in brackets: [::1]:port".to_owned());
                }
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        self.set_host(host)?;
        port.map_or(Ok(()), |port| self.set_port(port))
    }

    /// Checks what both drivers need and fills in what may be missing.
    fn complete(mut self) -> Result<Self, String> {
        if self.user.is_empty() {
            return Err("names no user".to_owned());
        }
        if self.database.is_empty() {
            return Err("names no database".to_owned());
        }
        if self.host.is_empty() {
            "localhost".clone_into(&mut self.host);
        }
        self.settle_certificates()?;
        let password = self.password.as_ref().map_or("", Secret::expose);
        let texts = [&*self.user, password, &*self.database];
        if texts.iter().any(|text| text.contains(char::is_control)) {
            return Err("the user, password or database holds a control character".to_owned());
        }
        Ok(self)
    }

    /// Who names an authority wants it asked: libpq with `require` and MySQL's own clients do so, too.
    fn settle_certificates(&mut self) -> Result<(), String> {
        if self.cert.is_some() != self.key.is_some() {
            return Err("the client's certificate and its key go together".to_owned());
        }
        let has_files = self.ca.is_some() || self.cert.is_some();
        match self.encryption {
            Encryption::Off if has_files => {
                Err("names certificates, but asks for no encryption".to_owned())
            }
            Encryption::Preferred | Encryption::Required if self.ca.is_some() => {
                self.encryption = Encryption::VerifyCa;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

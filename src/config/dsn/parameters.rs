//! The part of a DSN after `?`, and what all forms have in common.

use percent_encoding::percent_decode_str;

/// Reads `a=1&b=2`, percent-encoding undone.
pub(super) fn of_query(query: &str) -> Result<Vec<(String, String)>, String> {
    // More likely a `?` inside the password, and then nothing of it may be shown.
    if query.contains('@') {
        return Err("an `@` follows a `?`; in a password write %3F for `?`".to_owned());
    }
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => Ok((decoded(name)?, decoded(value)?)),
            None => Err(format!("{} has no value", named(pair))),
        })
        .collect()
}

pub(super) fn decoded(text: &str) -> Result<String, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_invalid) => Err("what is written with % is not UTF-8".to_owned()),
    }
}

/// Splits `user:password`, percent-encoding undone.
pub(super) fn user_info(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once(':') {
        Some((user, password)) => Ok((decoded(user)?, Some(decoded(password)?))),
        None => Ok((decoded(text)?, None)),
    }
}

/// The parts of a URL after its scheme; all but `query` still percent-encoded.
pub(super) struct Parts<'a> {
    pub(super) user_info: Option<&'a str>,
    pub(super) address: &'a str,
    pub(super) database: &'a str,
    pub(super) query: Vec<(String, String)>,
}

pub(super) fn of_url(url: &str) -> Result<Parts<'_>, String> {
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let (authority, database) = url.split_once('/').unwrap_or((url, ""));
    if database.contains(['@', '/']) {
        return Err("a database has no `@` or `/`; in a password write %2F for `/`".to_owned());
    }
    let (user_info, address) = match authority.rsplit_once('@') {
        Some((user_info, address)) => (Some(user_info), address),
        None => (None, authority),
    };
    Ok(Parts {
        user_info,
        address,
        database,
        query: of_query(query)?,
    })
}

pub(super) fn unknown(name: &str) -> String {
    format!("{} is not known", named(name))
}

pub(super) fn bad_value(name: &str, possible: &str) -> String {
    format!("{} must be one of {possible}", named(name))
}

/// What looks like no name may be a piece of something secret.
fn named(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    match name.len() <= 40 && name.bytes().all(plain) {
        true => format!("the parameter `{name}`"),
        false => "a parameter with an odd name".to_owned(),
    }
}

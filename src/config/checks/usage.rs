//! Reporters: names and files that collide, keys that need others, what the receiver must be.

use std::collections::BTreeMap;
use std::path::Path;

use super::headers;
use crate::config::fault::{Fault, Segment};
use crate::config::tree::Node;
use crate::config::{
    Database, Filter, Format, Reporter, Secret, WebUrl, WebhookReporter, WebhookTls, dsn,
};

/// Completes `reporters`, or says what in them cannot go together.
pub(super) fn settle(reporters: &mut [Reporter], written: &Node) -> Result<(), Fault> {
    for (index, reporter) in reporters.iter_mut().enumerate() {
        settle_one(reporter).map_err(|fault| fault.under(index))?;
        let is_written = |key: &str| written.has(&path_to(index, key));
        match reporter {
            Reporter::Webhook(hook) => batches(hook.batch_size, is_written),
            Reporter::Database(sink) => batches(sink.batch_size, is_written),
            Reporter::File(_) => Ok(()),
        }
        .map_err(|fault| fault.under(index))?;
    }
    names(reporters)?;
    files(reporters)
}

fn path_to(index: usize, key: &str) -> [Segment; 4] {
    [
        "usage_hook".into(),
        "reporters".into(),
        index.into(),
        key.into(),
    ]
}

fn settle_one(reporter: &mut Reporter) -> Result<(), Fault> {
    filter(&reporter.common().filter).map_err(|fault| fault.under("filter"))?;
    match reporter {
        Reporter::Webhook(hook) => {
            secrets(hook)?;
            webhook(hook)
        }
        Reporter::Database(sink) => {
            database(&sink.database).map_err(|fault| fault.under("database"))
        }
        Reporter::File(file) if !names_a_file(&file.path) => {
            Err(Fault::new("not the path of a file").under("path"))
        }
        Reporter::File(_) => Ok(()),
    }
}

fn names_a_file(path: &Path) -> bool {
    let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    path.file_name().is_some() && !ends_in_slash
}

fn filter(filter: &Filter) -> Result<(), Fault> {
    let lists = [
        ("models", &filter.models),
        ("keys", &filter.keys),
        ("users", &filter.users),
    ];
    for (key, list) in lists {
        if let Some(index) = list.iter().position(String::is_empty) {
            return Err(Fault::new("is empty").under(index).under(key));
        }
    }
    Ok(())
}

// === webhooks ===

fn webhook(hook: &WebhookReporter) -> Result<(), Fault> {
    if !matches!(&*hook.method, "POST" | "PUT" | "PATCH") {
        return Err(Fault::new("must be POST, PUT or PATCH").under("method"));
    }
    receiver(&hook.url, hook.tls.as_ref())?;
    if hook.max_wait < hook.initial_wait {
        return Err(Fault::new("must not be shorter than `initial_wait`").under("max_wait"));
    }
    own_headers(hook).map_err(|fault| fault.under("headers"))?;
    headers(&hook.headers)
}

/// Checks how a receiver is reached.
pub(super) fn receiver(url: &WebUrl, tls: Option<&WebhookTls>) -> Result<(), Fault> {
    if let Some(fault) = url.fault() {
        return Err(Fault::new(fault).under("url"));
    }
    let Some(settings) = tls else {
        return Ok(());
    };
    match url.scheme() {
        "https" => certificates(settings),
        _ => Err(Fault::new("only for an https url")),
    }
    .map_err(|fault| fault.under("tls"))
}

/// What describes one delivery is the gateway's to write, too.
fn own_headers(hook: &WebhookReporter) -> Result<(), Fault> {
    const OURS: [&str; 3] = [
        "content-encoding",
        "idempotency-key",
        "x-llmproxy-signature",
    ];
    for name in hook.headers.keys() {
        let lower = name.to_ascii_lowercase();
        let typed = lower == "content-type" && hook.format == Format::Cloudevents;
        if typed || OURS.contains(&&*lower) {
            let ours = Fault::new("this header is written by the gateway itself");
            return Err(ours.under(name.as_str()));
        }
    }
    Ok(())
}

fn certificates(tls: &WebhookTls) -> Result<(), Fault> {
    match (&tls.cert, &tls.key) {
        (Some(_), None) => Err(Fault::new("needs `key` beside it").under("cert")),
        (None, Some(_)) => Err(Fault::new("needs `cert` beside it").under("key")),
        _ if tls.ca.is_some() && !tls.verify => {
            Err(Fault::new("has no effect with `verify: false`").under("ca"))
        }
        _ => Ok(()),
    }
}

/// Puts the one secret where the others would be.
fn secrets(hook: &mut WebhookReporter) -> Result<(), Fault> {
    if let Some(secret) = hook.secret.take() {
        if !hook.secrets.is_empty() {
            return Err(Fault::new("`secrets` is there too; one of them").under("secret"));
        }
        if is_empty(&secret) {
            return Err(Fault::new("is empty").under("secret"));
        }
        hook.secrets.push(secret);
    }
    signing(&hook.secrets).map_err(|fault| fault.under("secrets"))
}

fn is_empty(secret: &Secret) -> bool {
    secret.expose().trim().is_empty()
}

/// Checks the secrets that sign what is sent.
pub(super) fn signing(secrets: &[Secret]) -> Result<(), Fault> {
    if secrets.len() > 2 {
        return Err(Fault::new(
            "at most two: the new one and the one it replaces",
        ));
    }
    if let Some(index) = secrets.iter().position(is_empty) {
        return Err(Fault::new("is empty").under(index));
    }
    match secrets {
        [new, old] if new == old => Err(Fault::new("the same as the first").under(1)),
        _ => Ok(()),
    }
}

// === databases and batches ===

pub(super) fn database(database: &Database) -> Result<(), Fault> {
    let Database { driver, dsn, table } = database;
    dsn::parse(*driver, dsn.expose()).map_err(|what| Fault::new(what).under("dsn"))?;
    dsn::table_name(table).map_err(|what| Fault::new(what).under("table"))
}

fn batches(size: usize, is_written: impl Fn(&str) -> bool) -> Result<(), Fault> {
    if size == 1 && is_written("batch_interval") {
        return Err(Fault::new("only with `batch_size` above 1").under("batch_interval"));
    }
    Ok(())
}

// === names and files, which no two may share ===

fn names(reporters: &[Reporter]) -> Result<(), Fault> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, reporter) in reporters.iter().enumerate() {
        let name = reporter.name();
        let named = |fault: Fault| fault.under("name").under(index);
        if !is_file_name(name) {
            return Err(named(Fault::new(
                "a name has 1 to 64 letters, digits, `.`, `_` or `-` and begins with a letter or digit",
            )));
        }
        if let Some(first) = seen.insert(name, index) {
            let twice = Fault::new(format!("a reporter is called `{name}` already"));
            return Err(named(twice).after(path_to(first, "name").into()));
        }
    }
    Ok(())
}

/// The name becomes part of a file name in `data_dir`.
pub(super) fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(plain)
}

fn files(reporters: &[Reporter]) -> Result<(), Fault> {
    let mut seen: BTreeMap<&Path, usize> = BTreeMap::new();
    for (index, reporter) in reporters.iter().enumerate() {
        let Reporter::File(file) = reporter else {
            continue;
        };
        if let Some(first) = seen.insert(&file.path, index) {
            let twice = Fault::new("another reporter writes this file");
            let path = path_to(first, "path").into();
            return Err(twice.under("path").under(index).after(path));
        }
    }
    Ok(())
}

//! What no single value can know: names that collide, keys that contradict each other. Also puts
//! every way of writing a backend's credential into `api_key`.

mod access;
mod models;
mod usage;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use http::{HeaderName, HeaderValue};

pub(super) use self::models::served_by;
use super::fault::{Fault, Segment};
use super::tree::Node;
use super::{Backend, Config, Fsync, Ledger, Prices, Secret};

/// Completes `config`, or says what in it cannot go together. `written` is what it was read from,
/// as a default that has no effect is right and the same value written down is a mistake; scripts
/// are looked for in `base_dir`.
pub(super) fn settle(config: &mut Config, written: &Node, base_dir: &Path) -> Result<(), Fault> {
    listeners(config)?;
    if config.backends.is_empty() {
        return Err(Fault::new("at least one backend is needed").under("backends"));
    }
    for (index, backend) in config.backends.iter_mut().enumerate() {
        settle_backend(backend).map_err(|fault| fault.under(index).under("backends"))?;
    }
    backend_names(&mut config.backends)?;
    if !config.backends.iter().any(|backend| backend.enabled) {
        return Err(Fault::new("none is enabled").under("backends"));
    }
    bounds(config)?;
    metrics_path(&config.metrics.path).map_err(|fault| fault.under("path").under("metrics"))?;
    ledger(&config.ledger, written).map_err(|fault| fault.under("ledger"))?;
    if let Some(prices) = &config.prices {
        models_of(prices).map_err(|fault| fault.under("models").under("prices"))?;
    }
    usage::settle(&mut config.usage_hook.reporters, written)
        .map_err(|fault| fault.under("reporters").under("usage_hook"))?;
    models::settle(config, written)?;
    access::settle(config, written, base_dir)
}

fn listeners(config: &Config) -> Result<(), Fault> {
    let mut seen = Vec::new();
    for (index, listener) in config.listen.iter().enumerate() {
        if listener.address.port() != 0 && seen.contains(&listener.address) {
            let twice = format!("{} is listened on twice", listener.address);
            return Err(Fault::new(twice).under(index).under("listen"));
        }
        seen.push(listener.address);
    }
    match config.admin.listen {
        Some(admin) if admin.port() != 0 && seen.contains(&admin) => {
            let taken = format!("{admin} is the clients' listener");
            Err(Fault::new(taken).under("listen").under("admin"))
        }
        _ => Ok(()),
    }
}

// === backends ===

fn settle_backend(backend: &mut Backend) -> Result<(), Fault> {
    if backend.tls.is_some() && backend.url.scheme() != "https" {
        return Err(Fault::new("only for an https url").under("tls"));
    }
    let own = backend.url.take_credentials();
    if let Some(file) = &backend.api_key_file {
        if backend.api_key.is_some() {
            return Err(Fault::new("`api_key` is there too; one of them").under("api_key_file"));
        }
        let key = fs::read_to_string(file).map_err(|error| {
            Fault::new(format!("cannot read {}: {error}", file.display())).under("api_key_file")
        })?;
        backend.api_key = Some(Secret::new(key.trim()));
        usable_key(backend).map_err(|fault| fault.under("api_key_file"))?;
    } else if backend.api_key.is_some() {
        usable_key(backend).map_err(|fault| fault.under("api_key"))?;
    } else if let Some(own) = own {
        backend.api_key = Some(Secret::new(base64(own.as_bytes())));
        backend.auth_scheme = "Basic".to_owned();
    }
    if HeaderValue::from_str(&backend.auth_scheme).is_err() {
        return Err(Fault::new("holds a character no header can carry").under("auth_scheme"));
    }
    if backend.api_key.is_some() && backend.forward_client_credential == Some(true) {
        let both = "its `api_key` is sent in place of the client's credential; one of them";
        return Err(Fault::new(both).under("forward_client_credential"));
    }
    headers(&backend.headers)
}

fn usable_key(backend: &Backend) -> Result<(), Fault> {
    let key = backend.api_key.as_ref().map_or("", Secret::expose);
    if key.trim().is_empty() {
        return Err(Fault::new("is empty"));
    }
    match HeaderValue::from_str(key) {
        Ok(_) => Ok(()),
        Err(_invalid) => Err(Fault::new("holds a character no header can carry")),
    }
}

/// Gives nameless backends their URL as name; no two may have the same.
fn backend_names(backends: &mut [Backend]) -> Result<(), Fault> {
    let mut seen: BTreeMap<String, Vec<Segment>> = BTreeMap::new();
    for (index, backend) in backends.iter_mut().enumerate() {
        let key = if backend.name.is_empty() {
            "url"
        } else {
            "name"
        };
        if backend.name.is_empty() {
            backend.name = backend.url.shown();
        }
        let under = |fault: Fault| fault.under(key).under(index).under("backends");
        if backend.name.chars().any(char::is_control) || backend.name.len() > LONGEST_NAME {
            return Err(under(Fault::new(format!(
                "a name has at most {LONGEST_NAME} bytes and no control characters"
            ))));
        }
        let path = vec!["backends".into(), index.into(), key.into()];
        if let Some(first) = seen.insert(backend.name.clone(), path) {
            let name = &backend.name;
            return Err(
                under(Fault::new(format!("a backend is called `{name}` already"))).after(first),
            );
        }
    }
    Ok(())
}

/// Names are labels of metrics and stand in every log line.
const LONGEST_NAME: usize = 128;

// === bounds that depend on each other ===

fn bounds(config: &Config) -> Result<(), Fault> {
    let retry = &config.routing.retry;
    if retry.max_wait < retry.initial_wait {
        let fault = Fault::new("must not be shorter than `initial_wait`").under("max_wait");
        return Err(fault.under("retry").under("routing"));
    }
    let breaker = &config.routing.breaker;
    if breaker.max_open < breaker.open {
        let fault = Fault::new("must not be shorter than `open`").under("max_open");
        return Err(fault.under("breaker").under("routing"));
    }
    if config.limits.body_memory < config.limits.max_body {
        let fault = Fault::new("must not be less than `max_body`, or no such body could be taken");
        return Err(fault.under("body_memory").under("limits"));
    }
    Ok(())
}

// === the ledger and the prices ===

fn ledger(ledger: &Ledger, written: &Node) -> Result<(), Fault> {
    let interval = written.has(&["ledger".into(), "fsync_interval".into()]);
    if interval && ledger.fsync != Fsync::Interval {
        return Err(Fault::new("only with `fsync: interval`").under("fsync_interval"));
    }
    if ledger.max_size < 2 * ledger.segment_size {
        return Err(Fault::new("must be at least twice `segment_size`").under("max_size"));
    }
    Ok(())
}

fn models_of(prices: &Prices) -> Result<(), Fault> {
    if prices.models.is_empty() {
        return Err(Fault::new("at least one price is needed"));
    }
    let mut seen = BTreeMap::new();
    for (index, price) in prices.models.iter().enumerate() {
        let under = |fault: Fault| fault.under("model").under(index);
        if price.model.is_empty() {
            return Err(under(Fault::new("is empty")));
        }
        if let Some(first) = seen.insert((&price.model, price.effective), index) {
            let (model, when) = (&price.model, price.effective);
            let when = when.map_or_else(String::new, |time| format!(" from {time}"));
            let twice = Fault::new(format!("`{model}` has a price{when} already"));
            let first = ["prices".into(), "models".into(), first.into()];
            return Err(under(twice).after(first.into()));
        }
    }
    Ok(())
}

// === the path of the metrics ===

/// Paths outside `/v1/` that the gateway answers itself or takes for a model call.
const TAKEN: [&str; 13] = [
    "/health",
    "/healthz",
    "/livez",
    "/ready",
    "/readyz",
    "/models",
    "/generate",
    "/generate_stream",
    "/tokenize",
    "/detokenize",
    "/rerank",
    "/v2/rerank",
    "/score",
];

fn metrics_path(path: &str) -> Result<(), Fault> {
    // Engines answer a path that ends in slashes as they do the one without.
    let plain = path.trim_end_matches('/');
    let taken = matches!(plain, "" | "/v1") || plain.starts_with("/v1/") || TAKEN.contains(&plain);
    match taken {
        true => Err(Fault::new(format!(
            "`{path}` is the path of a health check or of a model API"
        ))),
        false => Ok(()),
    }
}

// === headers ===

/// What describes one connection or one body is the gateway's to write.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn headers(headers: &BTreeMap<String, Secret>) -> Result<(), Fault> {
    for (name, value) in headers {
        let under = |what| Err(Fault::new(what).under(name.as_str()).under("headers"));
        match HeaderName::from_bytes(name.as_bytes()) {
            Err(_invalid) => return under("not a header name"),
            Ok(header) if OURS.contains(&header.as_str()) => {
                return under("this header is written by the gateway itself");
            }
            Ok(_) if HeaderValue::from_str(value.expose()).is_err() => {
                return under("holds a character no header can carry");
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Encodes as RFC 4648 section 4 says, for `Authorization: Basic`.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at)) & 63;
            text.push(if at <= group.len() {
                char::from(ALPHABET[six as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_has_the_values_of_rfc_4648() {
        let cases = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let expected = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        assert_eq!(cases.map(|text| base64(text.as_bytes())), expected);
    }
}

//! A tree as JSON that may be shown: secrets are masked.
//!
//! What is secret is told by the names of keys, and not by types: the tree is what was written, in
//! any of its forms. A test holds these names against the schema.

use serde_json::Value;
use url::Url;

use super::WebUrl;
use super::tree::Node;

const MASK: &str = "***";

/// How keys end whose values nobody may see.
const SECRET: [&str; 8] = [
    "key",
    "secret",
    "secrets",
    "token",
    "password",
    "passwd",
    "dsn",
    "authorization",
];

/// What a value is taken for.
#[derive(Clone, Copy, PartialEq)]
enum Sight {
    /// It is shown, apart from credentials in URLs.
    Shown,
    /// It is a URL: shown without credentials, query and fragment.
    Url,
    /// It is secret; sections in it are looked at key by key.
    Secret,
    /// It is secret, whatever is in it.
    Hidden,
}

/// Returns `node` without secrets. Placeholders for variables stay unless they have a default.
pub(super) fn masked(node: &Node) -> Value {
    walk(node, "", Sight::Shown)
}

fn walk(node: &Node, parent: &str, sight: Sight) -> Value {
    match node {
        Node::Map(entries) => {
            let entry = |(key, node): &(String, Node)| {
                let sight = match sight {
                    Sight::Hidden => Sight::Hidden,
                    _ => sight_of(key, parent),
                };
                (key.clone(), walk(node, key, sight))
            };
            Value::Object(entries.iter().map(entry).collect())
        }
        Node::List(nodes) => nodes.iter().map(|node| walk(node, parent, sight)).collect(),
        Node::Null => Value::Null,
        Node::Bool(value) => (*value).into(),
        Node::Text(text) => text_as(text, sight).into(),
        _ if matches!(sight, Sight::Secret | Sight::Hidden) => MASK.into(),
        Node::Unsigned(_) | Node::Signed(_) | Node::Float(_) => Value::from(node),
    }
}

/// What the value of `key` in the section `parent` is.
fn sight_of(key: &str, parent: &str) -> Sight {
    let last = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
    let secret = SECRET.iter().any(|end| last.ends_with(end));
    match (parent, key) {
        // The keys of these are names that somebody chose.
        ("models" | "alias_fallback" | "per_model", _) => Sight::Shown,
        ("headers", _) => Sight::Hidden,
        ("parameters", "prompt_cache_key") => Sight::Shown,
        ("parameters", _) if secret => Sight::Hidden,
        // Code may hold anything.
        (_, "script" | "lua_script") => Sight::Secret,
        ("redis", "url") => Sight::Secret,
        // Written as a URL; a section of that name is looked at key by key.
        (_, "redis") => Sight::Secret,
        (_, "url") => Sight::Url,
        _ if secret => Sight::Secret,
        _ => Sight::Shown,
    }
}

fn text_as(text: &str, sight: Sight) -> String {
    if is_placeholder(text) {
        return text.to_owned();
    }
    match sight {
        Sight::Secret | Sight::Hidden => MASK.to_owned(),
        Sight::Url => url(text),
        Sight::Shown if looks_like_a_key(text) => MASK.to_owned(),
        Sight::Shown => without_credentials(text),
    }
}

/// Whether `text` has the form of the keys that providers give away, wherever it stands.
fn looks_like_a_key(text: &str) -> bool {
    let visible = |byte: u8| byte.is_ascii_graphic();
    text.starts_with("sk-") && text.len() >= 16 && text.bytes().all(visible)
}

/// Whether `text` is `$VAR` or `${VAR}` and nothing else: then the secret is elsewhere.
fn is_placeholder(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('$') else {
        return false;
    };
    let braced = rest
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let name = braced.unwrap_or(rest);
    let mut bytes = name.bytes();
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && bytes.all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

fn url(text: &str) -> String {
    match WebUrl::try_from(text.to_owned()) {
        Ok(url) if !text.contains('$') => bare(&url, text),
        // With variables in it nobody knows where its parts begin.
        _ => {
            let end = text.find(['?', '#']).unwrap_or(text.len());
            let tail = if end < text.len() { "?***" } else { "" };
            format!("{}{tail}", hidden_before_at(&text[..end]))
        }
    }
}

fn bare(url: &Url, text: &str) -> String {
    let credentials = !url.username().is_empty() || url.password().is_some();
    if !credentials && url.query().is_none() && url.fragment().is_none() {
        return text.to_owned();
    }
    let mut url = url.clone();
    let name = if credentials { MASK } else { "" };
    if url.set_username(name).is_err() || url.set_password(None).is_err() {
        return MASK.to_owned();
    }
    if url.query().is_some() {
        url.set_query(Some(MASK));
    }
    url.set_fragment(None);
    url.into()
}

fn hidden_before_at(text: &str) -> String {
    let Some(at) = text.rfind('@') else {
        return text.to_owned();
    };
    let mut schemes = ["http://", "https://"].into_iter();
    let scheme = schemes.find(|scheme| text.starts_with(scheme));
    format!("{}{MASK}{}", scheme.unwrap_or_default(), &text[at..])
}

/// Replaces `user:password` of every URL in `text`.
fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace())
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(host) => {
                out.push_str(MASK);
                &after[host..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;

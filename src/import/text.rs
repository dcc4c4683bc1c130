//! Small texts: variables and dollars, durations, names made from URLs.

use redis::IntoConnectionInfo;

use super::System;
use crate::config;

/// Returns how many bytes of `text` are a variable's name.
fn name_length(text: &str) -> usize {
    let rest = text.trim_start_matches(|c: char| c == '_' || c.is_ascii_alphanumeric());
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => 0,
        false => text.len() - rest.len(),
    }
}

/// Returns the name in what stands between the braces of `${…}`, if our reader takes it.
fn braced_name(inside: &str) -> Option<&str> {
    let name = inside.split_once(":-").map_or(inside, |(name, _)| name);
    (!name.is_empty() && name_length(name) == name.len()).then_some(name)
}

/// Writes `text` so that our reader gives it back as `system` would have read it: placeholders stay,
/// every other dollar that the reader would take for one is doubled.
///
/// Only yaLLMproxy replaces `$NAME` inside of a text. Elsewhere a `$` is a dollar, except where a
/// whole value looks like a variable: those were meant for whatever fills in the file.
pub(super) fn escaped(text: &str, system: System) -> String {
    let everywhere = system == System::YaLlmProxy;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braces = after
            .strip_prefix('{')
            .and_then(|inside| inside.split_once('}'));
        let name = &after[..name_length(after)];
        let taken = if let Some((inside, _)) = braces.filter(|(in_, _)| braced_name(in_).is_some())
        {
            inside.len() + 2
        } else if !name.is_empty() && (everywhere || is_whole_variable(text, name)) {
            name.len()
        } else {
            if !name.is_empty() || after.starts_with(['{', '$']) {
                out.push('$');
            }
            0
        };
        out.push('$');
        out.push_str(&after[..taken]);
        rest = &after[taken..];
    }
    out.push_str(rest);
    out
}

fn is_whole_variable(text: &str, name: &str) -> bool {
    text.len() == name.len() + 1 && !name.contains(|c: char| c.is_ascii_lowercase())
}

/// Returns the variables that our reader would look for in `text`.
pub(super) fn variables(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        rest = after;
        if let Some(inside) = after.strip_prefix('{') {
            let inside = inside.split_once('}').map_or("", |(inside, _)| inside);
            found.extend(braced_name(inside).filter(|_| !inside.contains(":-")));
        } else if let Some(after) = after.strip_prefix('$') {
            rest = after;
        } else {
            let name = &after[..name_length(after)];
            found.extend((!name.is_empty()).then_some(name));
        }
    }
    found
}

/// Whether there is a variable in `text`, in whichever system.
pub(super) fn has_variable(text: &str) -> bool {
    let mut braced = text.split("${").skip(1);
    braced.any(|rest| {
        rest.split_once('}')
            .is_some_and(|(inside, _)| braced_name(inside).is_some())
    }) || (text.starts_with('$') && text.len() > 1 && name_length(&text[1..]) == text.len() - 1)
}

/// Returns the first variable in `text` that has a default.
pub(super) fn defaulted(text: &str) -> Option<&str> {
    let mut braced = text.split("${").skip(1);
    braced.find_map(|rest| {
        let (inside, _) = rest.split_once('}')?;
        inside.split_once(":-")?;
        braced_name(inside)
    })
}

/// Puts something in the place of the variables that `system` or our reader would see in `text`, to
/// tell whether the value can be good: `whole` where it is nothing but a variable, `first` where it
/// begins with one, and otherwise a number.
pub(super) fn sampled(text: &str, system: System, whole: &str, first: &str) -> String {
    let text = escaped(text, system);
    let mut out = String::new();
    let mut rest = &*text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braced = after.starts_with('{').then(|| after.find('}')).flatten();
        let length = match braced {
            Some(end) => end + 1,
            None if after.starts_with('$') => 1,
            None => name_length(after),
        };
        let (name, left) = after.split_at(length);
        out.push_str(match name {
            "" | "$" => "$",
            _ if name.len() + 1 == text.len() => whole,
            _ if at == 0 && rest.len() == text.len() => first,
            _ => "1",
        });
        rest = left;
    }
    out.push_str(rest);
    out
}

/// Whether one can listen at `address`.
pub(super) fn is_listen_address(address: &str, system: System) -> bool {
    config::listen_address(&sampled(address, system, "127.0.0.1:1", "127.0.0.1")).is_ok()
}

/// Returns `address` with this machine's own host in place of its host; `otherwise` is the port where
/// it has none.
pub(super) fn local_address(address: &str, otherwise: u16, system: System) -> String {
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    let local = format!("127.0.0.1:{port}");
    match is_listen_address(&local, system) {
        true => local,
        false => format!("127.0.0.1:{otherwise}"),
    }
}

/// Whether `addr` is a Redis server's host and port.
pub(super) fn is_redis_address(addr: &str, system: System) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '?' | '#');
    let addr = sampled(addr, system, "localhost", "localhost");
    let url = format!("redis://{addr}/0");
    !addr.contains(odd) && url.as_str().into_connection_info().is_ok()
}

/// Whether `url` is that of a Redis server.
pub(super) fn is_redis_url(url: &str, system: System) -> bool {
    let url = sampled(url, system, "redis://localhost", "redis://localhost");
    url.as_str().into_connection_info().is_ok()
}

/// Writes seconds as a duration; none when it is negative or beyond what ours can be.
pub(super) fn seconds(seconds: f64) -> Option<String> {
    /// About thirty years.
    const LONGEST: f64 = 1e9;
    if !(0.0..=LONGEST).contains(&seconds) {
        return None;
    }
    let milliseconds = (seconds * 1000.0).round();
    Some(match milliseconds % 1000.0 == 0.0 {
        true => format!("{:.0}s", milliseconds / 1000.0),
        false => format!("{milliseconds:.0}ms"),
    })
}

/// Whether a duration is 0.
pub(super) fn is_zero(duration: &str) -> bool {
    !duration.contains(|c: char| matches!(c, '1'..='9'))
}

/// Whether a duration is shorter than another; both are ones that our reader takes.
pub(super) fn is_shorter(one: &str, other: &str) -> bool {
    nanoseconds(one) < nanoseconds(other)
}

fn nanoseconds(duration: &str) -> f64 {
    let mut total = 0.0;
    let mut rest = duration;
    while !rest.is_empty() {
        let number = |c: char| c.is_ascii_digit() || c == '.';
        let unit = rest.trim_start_matches(number);
        let digits: f64 = rest[..rest.len() - unit.len()].parse().unwrap_or(0.0);
        let after = unit.trim_start_matches(|c: char| !number(c));
        let scale = match &unit[..unit.len() - after.len()] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "m" => 60e9,
            "h" => 3600e9,
            _ => 1e9,
        };
        total += digits * scale;
        rest = after;
    }
    total
}

/// Whether our reader takes `text` for a duration with units.
pub(super) fn is_go_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let mut rest = text;
    // Far below where a duration gets too long.
    if text.is_empty() || text.len() > 16 {
        return false;
    }
    while !rest.is_empty() {
        let number = |c: char| c.is_ascii_digit() || c == '.';
        let unit = rest.trim_start_matches(number);
        let digits = &rest[..rest.len() - unit.len()];
        let after = unit.trim_start_matches(|c: char| !number(c));
        let unit = &unit[..unit.len() - after.len()];
        let point = digits.matches('.').count() <= 1 && digits.len() <= 9;
        if !point || !digits.contains(|c: char| c.is_ascii_digit()) || !UNITS.contains(&unit) {
            return false;
        }
        rest = after;
    }
    true
}

/// Returns what people would call the server at `url`: `openai`, its host, or `localhost-8001`.
pub(super) fn name_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    if authority.contains('$') {
        return name_of_variable(authority);
    }
    let authority = authority.to_ascii_lowercase();
    match super::litellm::provider_at(&authority) {
        Some(provider) => provider.to_owned(),
        None => plain(&authority),
    }
}

/// `${ZAI_API_BASE}` is called `zai`.
fn name_of_variable(text: &str) -> String {
    let name = variables(text).first().map_or("", |name| name);
    let name = name.to_ascii_lowercase();
    let ends = [
        "_api_base",
        "_base_url",
        "_api_url",
        "_base",
        "_url",
        "_host",
        "_endpoint",
    ];
    let short = ends.iter().find_map(|end| name.strip_suffix(end));
    plain(short.unwrap_or(&name))
}

fn plain(text: &str) -> String {
    let keep = |c: char| match c.is_ascii_alphanumeric() || matches!(c, '.' | '-') {
        true => c,
        false => '-',
    };
    let name: String = text.chars().map(keep).take(64).collect();
    match name.trim_matches('-') {
        "" => "backend".to_owned(),
        name => name.to_owned(),
    }
}

/// Returns a name that reporters and providers may have.
pub(super) fn file_name(text: &str, otherwise: &str) -> String {
    let name = plain(&text.replace('_', "-"));
    let original = text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    match original {
        true => text.to_owned(),
        false if text.trim().is_empty() => otherwise.to_owned(),
        false => match name.trim_start_matches(['.', '-']) {
            "" => otherwise.to_owned(),
            name => name.to_owned(),
        },
    }
}

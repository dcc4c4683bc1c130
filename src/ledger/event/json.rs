//! Usage events as JSON text and back: what serde makes of them, byte for byte, for a fraction of the
//! work.
//!
//! The gateway writes every event and each reporter reads it. Nearly all of them hold nothing that
//! needs escaping, and those read were written here, with the keys in this order. Whatever differs
//! (another version's event, an escape, damage) is serde's.

use super::{Opening, Outcome, UsageEvent};

/// The parts of an event that are secret or the ledger's own, as one receiver gets them.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) api_key: &'a str,
    pub(crate) raw_key: Option<&'a str>,
    pub(crate) quota: Option<&'a str>,
    pub(crate) request_body: Option<&'a str>,
}

impl UsageEvent {
    /// Appends all of the event to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let all = Shown {
            api_key: &self.api_key,
            raw_key: self.raw_key.as_deref(),
            quota: self.quota.as_deref(),
            request_body: self.request_body.as_deref(),
        };
        self.write_shown(all, out);
    }

    /// Appends the event to `out`, with `shown` in place of its own secrets.
    pub(crate) fn write_shown(&self, shown: Shown<'_>, out: &mut Vec<u8>) {
        text(out, "{\"request_id\":", &self.request_id);
        text(out, ",\"user_id\":", &self.user_id);
        text(out, ",\"api_key\":", shown.api_key);
        text(out, ",\"model\":", &self.model);
        count(out, ",\"prompt_tokens\":", self.prompt_tokens);
        count(out, ",\"completion_tokens\":", self.completion_tokens);
        count(out, ",\"total_tokens\":", self.total_tokens);
        flag(out, ",\"is_stream\":", self.is_stream);
        text(out, ",\"endpoint\":", &self.endpoint);
        text(out, ",\"timestamp\":", &self.timestamp);
        text(out, ",\"backend_url\":", &self.backend_url);
        text(out, ",\"event_id\":", &self.event_id);
        text(out, ",\"key_id\":", &self.key_id);
        count(out, ",\"cached_tokens\":", self.cached_tokens);
        count(out, ",\"reasoning_tokens\":", self.reasoning_tokens);
        text(out, ",\"backend\":", &self.backend);
        text(out, ",\"outcome\":", self.outcome.as_str());
        text(out, ",\"usage_source\":", &self.usage_source);
        count(out, ",\"status\":", self.status.into());
        count(out, ",\"latency_ms\":", self.latency_ms);
        maybe_count(out, ",\"ttft_ms\":", self.ttft_ms);
        count(out, ",\"attempts\":", self.attempts.into());
        maybe_count(out, ",\"cost_nanos\":", self.cost_nanos);
        maybe_text(out, ",\"currency\":", self.currency.as_deref());
        maybe_text(
            out,
            ",\"price_effective\":",
            self.price_effective.as_deref(),
        );
        given(out, ",\"raw_key\":", shown.raw_key);
        given(out, ",\"quota\":", shown.quota);
        given(out, ",\"request_body\":", shown.request_body);
        out.push(b'}');
    }

    /// Reads an event; `None` if `json` holds none.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let usual = std::str::from_utf8(json).ok().and_then(as_written);
        usual.or_else(|| serde_json::from_slice(json).ok())
    }
}

impl Opening<'_> {
    /// Appends it to `out`.
    pub(in crate::ledger) fn write(&self, out: &mut Vec<u8>) {
        text(out, "{\"event_id\":", self.event_id);
        text(out, ",\"request_id\":", self.request_id);
        text(out, ",\"user_id\":", self.user_id);
        text(out, ",\"api_key\":", self.api_key);
        text(out, ",\"key_id\":", self.key_id);
        text(out, ",\"model\":", self.model);
        flag(out, ",\"is_stream\":", self.is_stream);
        text(out, ",\"endpoint\":", self.endpoint);
        text(out, ",\"timestamp\":", self.timestamp);
        text(out, ",\"usage_source\":", self.usage_source);
        given(out, ",\"raw_key\":", self.raw_key);
        given(out, ",\"quota\":", self.quota);
        out.push(b'}');
    }
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    quoted(out, value);
}

fn maybe_text(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    out.extend_from_slice(key.as_bytes());
    match value {
        Some(value) => quoted(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

/// Nothing at all where there is no value.
fn given(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        text(out, key, value);
    }
}

fn count(out: &mut Vec<u8>, key: &str, value: u64) {
    out.extend_from_slice(key.as_bytes());
    number(out, value);
}

fn maybe_count(out: &mut Vec<u8>, key: &str, value: Option<u64>) {
    out.extend_from_slice(key.as_bytes());
    match value {
        Some(value) => number(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn flag(out: &mut Vec<u8>, key: &str, value: bool) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn quoted(out: &mut Vec<u8>, value: &str) {
    let bytes = value.as_bytes();
    if plain(bytes) == bytes.len() {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else if let Err(error) = serde_json::to_writer(&mut *out, value) {
        // Writing text to memory cannot fail.
        log::error!(error:% = error; "a usage event cannot be written down");
    }
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// How many bytes stand before the first one that a JSON text has to escape, or that ends it: a
/// quotation mark, a backslash or a control character.
fn plain(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (nth, word) in words.iter().enumerate() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return nth * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest
        .iter()
        .take_while(|byte| !matches!(byte, 0..0x20 | b'"' | b'\\'));
    words.len() * 8 + plain.count()
}

/// Zero if none of these eight bytes is such a one; otherwise the lowest bit that is set is in the first.
/// <https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord>
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let control = below(word, 0x20);
    let quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    control | quote | backslash
}

/// Reads what [`UsageEvent::write`] writes of an event without anything to escape, and nothing else.
#[expect(clippy::cognitive_complexity, reason = "one field after the other")]
fn as_written(json: &str) -> Option<UsageEvent> {
    let mut rest = Rest(json);
    let event = UsageEvent {
        request_id: rest.text("{\"request_id\":")?,
        user_id: rest.text(",\"user_id\":")?,
        api_key: rest.text(",\"api_key\":")?,
        model: rest.text(",\"model\":")?,
        prompt_tokens: rest.count(",\"prompt_tokens\":")?,
        completion_tokens: rest.count(",\"completion_tokens\":")?,
        total_tokens: rest.count(",\"total_tokens\":")?,
        is_stream: rest.flag(",\"is_stream\":")?,
        endpoint: rest.text(",\"endpoint\":")?.into(),
        timestamp: rest.text(",\"timestamp\":")?,
        backend_url: rest.text(",\"backend_url\":")?,
        event_id: rest.text(",\"event_id\":")?,
        key_id: rest.text(",\"key_id\":")?,
        cached_tokens: rest.count(",\"cached_tokens\":")?,
        reasoning_tokens: rest.count(",\"reasoning_tokens\":")?,
        backend: rest.text(",\"backend\":")?,
        outcome: Outcome::of(rest.str(",\"outcome\":")?)?,
        usage_source: rest.text(",\"usage_source\":")?.into(),
        status: rest.count(",\"status\":")?.try_into().ok()?,
        latency_ms: rest.count(",\"latency_ms\":")?,
        ttft_ms: rest.maybe(",\"ttft_ms\":", Rest::count)?,
        attempts: rest.count(",\"attempts\":")?.try_into().ok()?,
        cost_nanos: rest.maybe(",\"cost_nanos\":", Rest::count)?,
        currency: rest.maybe(",\"currency\":", Rest::text)?,
        price_effective: rest.maybe(",\"price_effective\":", Rest::text)?,
        raw_key: rest.given(",\"raw_key\":")?,
        quota: rest.given(",\"quota\":")?,
        request_body: rest.given(",\"request_body\":")?,
    };
    (rest.0 == "}").then_some(event)
}

/// What is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Passes `wanted`, if that is what comes.
    fn pass(&mut self, wanted: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(wanted)?;
        Some(())
    }

    fn str(&mut self, key: &str) -> Option<&'a str> {
        self.pass(key)?;
        self.pass("\"")?;
        let (text, rest) = self.0.split_at(plain(self.0.as_bytes()));
        self.0 = rest.strip_prefix('"')?;
        Some(text)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.str(key).map(str::to_owned)
    }

    fn count(&mut self, key: &str) -> Option<u64> {
        self.pass(key)?;
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        // JSON has no leading zeros.
        let sound = number == "0" || !number.starts_with('0');
        number.parse().ok().filter(|_| sound)
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.pass(key)?;
        let is = self.pass("true").is_some();
        (is || self.pass("false").is_some()).then_some(is)
    }

    /// What stands under `key`, which may be `null`.
    fn maybe<T>(&mut self, key: &str, read: fn(&mut Self, &str) -> Option<T>) -> Option<Option<T>> {
        let mut after = Rest(self.0.strip_prefix(key)?);
        if after.pass("null").is_some() {
            *self = after;
            return Some(None);
        }
        read(self, key).map(Some)
    }

    /// What stands under `key`, if that comes.
    fn given(&mut self, key: &str) -> Option<Option<String>> {
        match self.0.starts_with(key) {
            true => self.text(key).map(Some),
            false => Some(None),
        }
    }
}

#[cfg(test)]
mod tests;

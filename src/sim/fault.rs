//! Faults a request can ask for: the grammar of `x-sim-fault` and `--fault`.
//!
//! A fault is `KIND[=VALUE]` followed by `;KEY=VALUE` details. `times=N` applies it only to the
//! first N attempts of a request id, `on=NAME` only on the engine of that name.

use std::str::FromStr;
use std::time::Duration;

use super::options::parse_duration;

/// Named by every message about a fault that cannot be read.
const KINDS: &str = "refuse, reset-before-head, hang, status=N, empty, error-first-event, \
     error-after=N, reset-after=N, close-after=N, stall-after=N, truncate[=N], slow=DURATION, \
     no-usage";

/// What goes wrong with a request, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    kind: Kind,
    times: Option<u32>,
    on: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// The connection is reset before the body is read.
    Refuse,
    /// The connection is reset after the body was read, before any byte of an answer.
    ResetBeforeHead,
    /// Nothing is ever answered.
    Hang,
    /// An error answer; `retry_after` in seconds.
    Status {
        status: u16,
        retry_after: Option<u32>,
    },
    /// A stream that ends properly without one event.
    Empty,
    /// An error event after `tokens` tokens; the stream then ends properly.
    ErrorAfter { tokens: u32, status: u16 },
    /// The connection is reset after that many tokens.
    ResetAfter(u32),
    /// The connection is closed after that many tokens, without the terminating chunk.
    CloseAfter(u32),
    /// Nothing more is sent after that many tokens, and nothing is closed.
    StallAfter(u32),
    /// The transfer ends properly but the answer is incomplete; `None` means half of it.
    Truncate(Option<u32>),
    /// Every token takes this much longer.
    Slow(Duration),
    /// The answer is whole, but nothing in it says what it used.
    NoUsage,
}

impl Fault {
    /// Returns a fault that always applies.
    pub(super) fn always(kind: Kind) -> Self {
        Self {
            kind,
            times: None,
            on: None,
        }
    }

    /// Returns what goes wrong with the `attempt`th try (from 1) of a request on `engine`.
    pub(super) fn for_attempt(&self, attempt: u32, engine: &str) -> Option<Kind> {
        let here = self.on.as_deref().is_none_or(|name| name == engine);
        let now = self.times.is_none_or(|times| attempt <= times);
        (here && now).then_some(self.kind)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(';').map(str::trim);
        let (name, value) = split(parts.next().unwrap_or_default());
        let mut details = Details::default();
        for part in parts.filter(|part| !part.is_empty()) {
            details.read(part)?;
        }
        Ok(Self {
            kind: kind(name, value, &details)?,
            times: details.times,
            on: details.on,
        })
    }
}

#[derive(Default)]
struct Details {
    times: Option<u32>,
    on: Option<String>,
    retry_after: Option<u32>,
    code: Option<u16>,
}

impl Details {
    fn read(&mut self, part: &str) -> Result<(), String> {
        let (key, value) = split(part);
        match key {
            "times" => self.times = Some(number(key, value)?),
            "on" => self.on = value.map(str::to_owned),
            "retry-after" => self.retry_after = Some(number(key, value)?),
            "code" => self.code = Some(error_status(key, value)?),
            _ => {
                let known = "times, on, retry-after, code";
                return Err(format!("unknown fault detail `{key}`; known: {known}"));
            }
        }
        Ok(())
    }
}

fn kind(name: &str, value: Option<&str>, details: &Details) -> Result<Kind, String> {
    let status = details.code.unwrap_or(500);
    let kind = match name {
        "refuse" => Kind::Refuse,
        "reset-before-head" => Kind::ResetBeforeHead,
        "hang" => Kind::Hang,
        "status" => Kind::Status {
            status: error_status(name, value)?,
            retry_after: details.retry_after,
        },
        "empty" => Kind::Empty,
        "error-first-event" => Kind::ErrorAfter { tokens: 0, status },
        "error-after" => Kind::ErrorAfter {
            tokens: number(name, value)?,
            status,
        },
        "reset-after" => Kind::ResetAfter(number(name, value)?),
        "close-after" => Kind::CloseAfter(number(name, value)?),
        "stall-after" => Kind::StallAfter(number(name, value)?),
        "truncate" => Kind::Truncate(value.map(|_| number(name, value)).transpose()?),
        "slow" => Kind::Slow(parse_duration(value.unwrap_or_default())?),
        "no-usage" => Kind::NoUsage,
        _ => return Err(format!("unknown fault `{name}`; known: {KINDS}")),
    };
    Ok(kind)
}

fn split(part: &str) -> (&str, Option<&str>) {
    match part.split_once('=') {
        Some((key, value)) => (key.trim(), Some(value.trim())),
        None => (part, None),
    }
}

fn number(key: &str, value: Option<&str>) -> Result<u32, String> {
    let value = value.unwrap_or_default();
    value
        .parse()
        .map_err(|error| format!("fault `{key}` needs a count, not `{value}`: {error}"))
}

fn error_status(key: &str, value: Option<&str>) -> Result<u16, String> {
    match value.unwrap_or_default().parse() {
        Ok(status @ 400..=599) => Ok(status),
        _ => Err(format!("fault `{key}` needs a status from 400 to 599")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Kind {
        text.parse::<Fault>()
            .unwrap()
            .for_attempt(1, "sim")
            .unwrap()
    }

    #[test]
    fn every_kind_reads() {
        assert_eq!(parsed("refuse"), Kind::Refuse);
        assert_eq!(parsed("reset-before-head"), Kind::ResetBeforeHead);
        assert_eq!(parsed("hang"), Kind::Hang);
        assert_eq!(
            parsed("status=503"),
            Kind::Status {
                status: 503,
                retry_after: None
            }
        );
        assert_eq!(
            parsed("status=429;retry-after=2"),
            Kind::Status {
                status: 429,
                retry_after: Some(2)
            }
        );
        assert_eq!(parsed("empty"), Kind::Empty);
        assert_eq!(
            parsed("error-first-event"),
            Kind::ErrorAfter {
                tokens: 0,
                status: 500
            }
        );
        assert_eq!(
            parsed("error-after=3; code=503"),
            Kind::ErrorAfter {
                tokens: 3,
                status: 503
            }
        );
        assert_eq!(parsed("reset-after=3"), Kind::ResetAfter(3));
        assert_eq!(parsed("close-after=3"), Kind::CloseAfter(3));
        assert_eq!(parsed("stall-after=0"), Kind::StallAfter(0));
        assert_eq!(parsed("truncate"), Kind::Truncate(None));
        assert_eq!(parsed("truncate=4"), Kind::Truncate(Some(4)));
        assert_eq!(parsed("slow=50ms"), Kind::Slow(Duration::from_millis(50)));
    }

    #[test]
    fn nonsense_is_named() {
        for (text, expected) in [
            ("explode", "unknown fault `explode`"),
            ("status=200", "from 400 to 599"),
            ("reset-after=x", "needs a count, not `x`"),
            ("slow=1y", "unknown unit `y`"),
            ("hang;when=later", "unknown fault detail `when`"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_engine_can_be_kept_from_counting() {
        assert_eq!(parsed("no-usage"), Kind::NoUsage);
    }

    #[test]
    fn a_fault_can_be_limited_to_attempts_and_engines() {
        let fault: Fault = "refuse;times=2;on=a".parse().unwrap();
        assert_eq!(fault.for_attempt(2, "a"), Some(Kind::Refuse));
        assert_eq!(fault.for_attempt(3, "a"), None);
        assert_eq!(fault.for_attempt(1, "b"), None);
    }
}

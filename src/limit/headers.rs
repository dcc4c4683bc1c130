//! The `x-ratelimit-*` headers, as OpenAI writes them
//! (<https://platform.openai.com/docs/guides/rate-limits>).

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::types::{Level, Standing};

/// Returns the headers that say how much is left; none for what is not limited.
///
/// Each of `requests` and `tokens` has the limit, what remains of it, and the time until it is whole
/// again (`120ms`, `1s`, `6m0s`).
pub fn rate_headers(
    standing: &Standing,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
    let requests = standing.requests.map(|level| lines(&REQUESTS, level));
    let tokens = standing.tokens.map(|level| lines(&TOKENS, level));
    requests.into_iter().chain(tokens).flatten()
}

fn lines(names: &[HeaderName; 3], level: Level) -> [(HeaderName, HeaderValue); 3] {
    let [limit, remaining, reset] = names.clone();
    [
        (limit, HeaderValue::from(level.limit)),
        (remaining, HeaderValue::from(level.remaining)),
        (reset, go_duration(level.reset).value()),
    ]
}

/// As Go prints durations, in whole milliseconds rounded up.
fn go_duration(duration: Duration) -> Text {
    let millis = u64::from(duration.subsec_nanos().div_ceil(1_000_000));
    let seconds = duration.as_secs().saturating_add(millis / 1_000);
    let millis = millis % 1_000;
    let mut text = Text::default();
    if seconds == 0 && millis > 0 {
        text.number(millis);
        text.push(b"ms");
        return text;
    }
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    if hours > 0 {
        text.number(hours);
        text.push(b"h");
    }
    if hours > 0 || minutes > 0 {
        text.number(minutes);
        text.push(b"m");
    }
    text.number(seconds % 60);
    text.fraction(millis);
    text.push(b"s");
    text
}

/// A duration as text, made without asking for memory: two of them are on every answer.
#[derive(Clone, Copy, Default)]
struct Text {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Text {
    fn number(&mut self, number: u64) {
        let mut digits = [b'0'; MOST_DIGITS];
        let (mut rest, mut first) = (number, MOST_DIGITS);
        loop {
            first -= 1;
            digits[first] += (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.push(&digits[first..]);
    }

    /// `millis` thousandths after the point, without zeros at the end.
    fn fraction(&mut self, millis: u64) {
        if millis == 0 {
            return;
        }
        let digits = [millis / 100, millis / 10 % 10, millis % 10].map(|digit| b'0' + digit as u8);
        let zeros = digits.iter().rev().take_while(|digit| **digit == b'0');
        let len = digits.len() - zeros.count();
        self.push(b".");
        self.push(&digits[..len]);
    }

    fn push(&mut self, more: &[u8]) {
        let end = self.len + more.len();
        self.bytes[self.len..end].copy_from_slice(more);
        self.len = end;
    }

    fn value(&self) -> HeaderValue {
        // Digits, letters and a point make a good value.
        HeaderValue::from_bytes(&self.bytes[..self.len])
            .unwrap_or_else(|_never| HeaderValue::from_static("0s"))
    }
}

/// Digits of the largest number.
const MOST_DIGITS: usize = 20;
/// The longest duration has 16 digits of hours, `h59m59.999s` and room to spare.
const LONGEST: usize = 32;

static REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];

static TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_limited_is_told_and_nothing_else() {
        let level = Level {
            limit: 60,
            remaining: 59,
            reset: Duration::from_millis(1_500),
        };
        let told = |requests, tokens| {
            let headers = rate_headers(&Standing { requests, tokens });
            headers
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect::<Vec<_>>()
        };
        assert!(told(None, None).is_empty());
        assert_eq!(
            told(Some(level), None),
            [
                "x-ratelimit-limit-requests: 60",
                "x-ratelimit-remaining-requests: 59",
                "x-ratelimit-reset-requests: 1.5s",
            ]
        );
        assert_eq!(told(Some(level), Some(level)).len(), 6);
        assert_eq!(told(None, Some(level))[2], "x-ratelimit-reset-tokens: 1.5s");
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (micros, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (17_000, "17ms"),
            (120_000, "120ms"),
            (1_000_000, "1s"),
            (8_640_000, "8.64s"),
            (60_000_000, "1m0s"),
            (90_951_000, "1m30.951s"),
            (360_000_000, "6m0s"),
            (3_600_000_000, "1h0m0s"),
            (86_400_500_000, "24h0m0.5s"),
        ] {
            assert_eq!(go_duration(Duration::from_micros(micros)).value(), expected);
        }
    }

    #[test]
    fn the_largest_numbers_fit() {
        let most = Level {
            limit: u64::MAX,
            remaining: 0,
            reset: Duration::MAX,
        };
        let told = lines(&REQUESTS, most).map(|(_, value)| value);
        assert_eq!(
            told,
            ["18446744073709551615", "0", "5124095576030431h0m15s"]
        );
        assert_eq!(go_duration(Duration::from_micros(999_001)).value(), "1s");
    }
}

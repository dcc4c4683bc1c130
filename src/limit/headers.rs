//! The `x-ratelimit-*` headers, as OpenAI writes them
//! (<https://platform.openai.com/docs/guides/rate-limits>).

use std::time::Duration;

use http::HeaderName;

use super::types::{Level, Standing};

/// Returns the headers that say how much is left; none for what is not limited.
///
/// Each of `requests` and `tokens` has the limit, what remains of it, and the time until it is whole
/// again (`120ms`, `1s`, `6m0s`).
pub fn rate_headers(standing: &Standing) -> impl Iterator<Item = (HeaderName, String)> + use<> {
    let requests = standing.requests.map(|level| lines(REQUESTS, level));
    let tokens = standing.tokens.map(|level| lines(TOKENS, level));
    requests.into_iter().chain(tokens).flatten()
}

fn lines([limit, remaining, reset]: [&'static str; 3], level: Level) -> [(HeaderName, String); 3] {
    [
        (HeaderName::from_static(limit), level.limit.to_string()),
        (
            HeaderName::from_static(remaining),
            level.remaining.to_string(),
        ),
        (HeaderName::from_static(reset), go_duration(level.reset)),
    ]
}

/// As Go prints durations, in whole milliseconds rounded up.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    if (1..1_000).contains(&millis) {
        return format!("{millis}ms");
    }
    let (seconds, fraction) = (millis / 1_000, millis % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = match fraction {
        0 => String::new(),
        some => format!(".{some:03}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        (_, _) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

const REQUESTS: [&str; 3] = [
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
];

const TOKENS: [&str; 3] = [
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
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
                .map(|(name, value)| format!("{name}: {value}"))
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
            assert_eq!(go_duration(Duration::from_micros(micros)), expected);
        }
    }
}

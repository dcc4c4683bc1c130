//! What a receiver's answer means for the events it was sent.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};

use crate::report::DeliveryError;

/// Judges an answer of `host`.
///
/// What only says that the receiver cannot take events now, or that its operator has to set
/// something right (credentials, path, method), is tried again; what says that these very events are
/// not acceptable is a rejection; `410 Gone` is how receivers unsubscribe.
pub(super) fn judge(
    host: &str,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(), DeliveryError> {
    if status.is_success() {
        return Ok(());
    }
    let what = format!("{host} answered {status}");
    Err(match status.as_u16() {
        410 => DeliveryError::Gone { what },
        401 | 403 | 404 | 405 | 407 | 408 | 425 | 429 => retry(what, headers),
        300..=399 => retry(format!("{what}, and redirects are not followed"), headers),
        400..=499 => DeliveryError::Rejected { what },
        _ => retry(what, headers),
    })
}

fn retry(what: String, headers: &HeaderMap) -> DeliveryError {
    let after = headers.get(RETRY_AFTER).and_then(retry_after);
    DeliveryError::Retry { what, after }
}

/// Returns the wait that a `Retry-After` header asks for in either of its forms, at most [`LONGEST_WAIT`].
///
/// <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // All digits and yet no number: too large for one.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        at.duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// A receiver that is confused about the time, or wants weeks, is asked again after this long.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16) -> Result<(), DeliveryError> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        judge("host", StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn every_status_has_its_meaning() {
        for status in 100..=999 {
            let judged = judged(status);
            let right = match status {
                200..=299 => judged.is_ok(),
                410 => matches!(judged, Err(DeliveryError::Gone { .. })),
                400 | 402 | 406 | 409 | 411..=424 | 426..=428 | 430..=499 => {
                    matches!(judged, Err(DeliveryError::Rejected { .. }))
                }
                _ => matches!(judged, Err(DeliveryError::Retry { after: Some(after), .. })
                    if after == Duration::from_secs(7)),
            };
            assert!(right, "{status}: {judged:?}");
        }
    }

    #[test]
    fn texts_name_host_and_status() {
        assert_eq!(
            judged(503).unwrap_err().to_string(),
            "host answered 503 Service Unavailable"
        );
        assert_eq!(
            judged(308).unwrap_err().to_string(),
            "host answered 308 Permanent Redirect, and redirects are not followed"
        );
    }

    #[test]
    fn retry_after_is_understood_in_seconds_and_as_a_date() {
        let parse = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse(" 120 "), Some(Duration::from_secs(120)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let wait = parse(&date).unwrap();
        assert!(
            (Duration::from_secs(50)..=Duration::from_secs(60)).contains(&wait),
            "{wait:?}"
        );
        assert_eq!(parse("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        for nonsense in ["soon", "-1", "1.5", "", "+3"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn no_wait_is_longer_than_an_hour() {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90_000));
        for long in ["3601", "99999999999999999999999", date.as_str()] {
            let value = HeaderValue::from_str(long).unwrap();
            assert_eq!(retry_after(&value), Some(LONGEST_WAIT), "{long}");
        }
    }
}

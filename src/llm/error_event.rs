//! Errors in the words of each dialect, as a body and as an event in a stream that has begun.

use bytes::Bytes;
use serde_json::{Value, json};

use super::endpoint::{Dialect, Endpoint};

/// Returns the event that tells a client of `endpoint` that its stream has failed.
#[must_use]
pub fn error_event(endpoint: Endpoint, status: u16, code: &str, message: &str) -> Bytes {
    let text = match endpoint {
        Endpoint::Responses => {
            // Both of OpenAI's forms: the reference has the flat one, SDKs look for `error`.
            let error = openai_error(status, code, message);
            let event = json!({
                "type": "error", "sequence_number": 0, "code": code, "message": message,
                "param": null, "error": error,
            });
            format!("event: error\ndata: {event}\n\n")
        }
        _ if endpoint.dialect() == Dialect::Anthropic => {
            let event = json(Dialect::Anthropic, status, code, message);
            format!("event: error\ndata: {event}\n\n")
        }
        _ => format!(
            "data: {}\n\n",
            json(endpoint.dialect(), status, code, message)
        ),
    };
    Bytes::from(text)
}

/// Returns the JSON body of an answer with `status`.
#[must_use]
pub fn error_body(dialect: Dialect, status: u16, code: &str, message: &str) -> Bytes {
    Bytes::from(json(dialect, status, code, message).to_string())
}

fn json(dialect: Dialect, status: u16, code: &str, message: &str) -> Value {
    match dialect {
        Dialect::OpenAi => json!({"error": openai_error(status, code, message)}),
        Dialect::Anthropic => {
            json!({"type": "error", "error": {"type": anthropic_type(status), "message": message}})
        }
        Dialect::Tgi => json!({"error": message, "error_type": code}),
    }
}

fn openai_error(status: u16, code: &str, message: &str) -> Value {
    json!({"message": message, "type": openai_type(status, code), "param": null, "code": code})
}

/// `https://platform.openai.com/docs/guides/error-codes`
fn openai_type(status: u16, code: &str) -> &'static str {
    match status {
        429 if code == "insufficient_quota" => "insufficient_quota",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// `https://docs.anthropic.com/en/api/errors`
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::{BodyFormat, FirstEvent, Tee, Verdict};

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn bodies_have_their_dialects_shape() {
        let body = |dialect| -> Value {
            serde_json::from_slice(&error_body(dialect, 503, "no_backend", "no \"one\"\n")).unwrap()
        };
        assert_eq!(
            body(Dialect::OpenAi),
            json!({"error": {"message": "no \"one\"\n", "type": "server_error", "param": null, "code": "no_backend"}})
        );
        assert_eq!(
            body(Dialect::Anthropic),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "no \"one\"\n"}})
        );
        assert_eq!(
            body(Dialect::Tgi),
            json!({"error": "no \"one\"\n", "error_type": "no_backend"})
        );
    }

    #[test]
    fn events_are_named_where_the_dialect_names_them() {
        for (endpoint, start) in [
            (Endpoint::ChatCompletions, "data: {\"error\":{"),
            (Endpoint::Completions, "data: {\"error\":{"),
            (Endpoint::Responses, "event: error\ndata: {"),
            (Endpoint::Messages, "event: error\ndata: {"),
            (Endpoint::GenerateStream, "data: {\"error\":\"broken\""),
        ] {
            let event = error_event(endpoint, 502, "upstream_failed", "broken");
            assert!(text(&event).starts_with(start), "{event:?}");
            assert!(text(&event).ends_with("}\n\n"), "{event:?}");
        }
    }

    #[test]
    fn every_event_is_an_error_to_our_own_readers() {
        for endpoint in Endpoint::ALL {
            let event = error_event(endpoint, 502, "upstream_failed", "one\ntwo");
            let verdict = FirstEvent::new(endpoint).push(&event);
            assert!(
                matches!(verdict, Verdict::Error { .. }),
                "{endpoint:?}: {verdict:?}"
            );
            let mut tee = Tee::new(endpoint, BodyFormat::EventStream);
            assert_eq!(tee.observe(&event).events, 1);
            assert!(tee.summary().error, "{endpoint:?}");
        }
    }
}

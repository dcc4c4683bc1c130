//! Turns an error that came inside a `200` into the status it should have been.

use super::document::{ErrorFacts, Facts, Finish, Kind};

/// Words in a message that say more than the code beside it, which engines hard-code: TGI's
/// overload arrives as 422.
const MESSAGES: [(&str, u16); 6] = [
    ("overloaded", 429),
    ("queue is full", 503),
    ("rate limit", 429),
    ("maximum context length", 400),
    ("context length", 400),
    ("prompt is too long", 400),
];

/// Names of error types and codes: vLLM's, TGI's, OpenAI's and Anthropic's.
const NAMES: [(&str, u16); 34] = [
    ("badrequesterror", 400),
    ("invalid_request_error", 400),
    ("context_length_exceeded", 400),
    ("invalid_prompt", 400),
    ("authenticationerror", 401),
    ("authentication_error", 401),
    ("invalid_api_key", 401),
    ("billing_error", 402),
    ("permissiondeniederror", 403),
    ("permission_error", 403),
    ("notfounderror", 404),
    ("not_found_error", 404),
    ("model_not_found", 404),
    ("timeout_error", 504),
    ("request_too_large", 413),
    ("unprocessableentityerror", 422),
    ("validation", 422),
    ("template_error", 422),
    ("tool_error", 422),
    ("generation", 424),
    ("ratelimiterror", 429),
    ("rate_limit_error", 429),
    ("rate_limit_exceeded", 429),
    ("insufficient_quota", 429),
    ("overloaded", 429),
    ("incomplete_generation", 500),
    ("internalservererror", 500),
    ("internal_server_error", 500),
    ("server_error", 500),
    ("api_error", 500),
    ("serviceunavailableerror", 503),
    ("service_unavailable", 503),
    ("server_is_overloaded", 503),
    ("overloaded_error", 529),
];

/// Returns the status of a document that is an error, `None` of one that is not.
///
/// `named` says that the event itself is called `error`.
pub(super) fn status(facts: &Facts, named: bool) -> Option<u16> {
    match &facts.error {
        Some(error) => Some(of(error)),
        // The engine gave the request up (vLLM and SGLang when they stop or are overrun).
        None if facts.finish == Finish::Aborted => Some(503),
        None => (named || facts.kind == Kind::Failed).then_some(500),
    }
}

fn of(error: &ErrorFacts) -> u16 {
    let by_name = NAMES
        .iter()
        .filter(|(name, _)| error.names.iter().any(|given| given == name))
        .map(|(_, status)| *status)
        // A code says more than a type: the more specific of OpenAI's two is not the plain 400.
        .max();
    let by_code = error.status.and_then(|code| u16::try_from(code).ok());
    let by_code = by_code.filter(|code| (400..=599).contains(code));
    let by_message = MESSAGES
        .iter()
        .find(|(words, _)| error.message.contains(words))
        .map(|(_, status)| *status);
    // Where code or name tell of a bad request, its message may quote the request.
    let clear = matches!(by_code, Some(400..=421 | 423 | 425..=499 | 501..))
        || matches!(by_name, Some(400..=404 | 413 | 529));
    match by_message.filter(|_| !clear) {
        Some(status) => status,
        None if by_name == Some(529) => 529,
        None => by_code.or(by_name).unwrap_or(500),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::document::Document;

    fn status_of(json: &str) -> Option<u16> {
        let mut document = Document::new();
        document.push(json.as_bytes());
        status(document.facts(), false)
    }

    #[test]
    fn errors_of_every_engine_become_the_status_they_mean() {
        for (json, expected) in [
            (
                r#"{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}"#,
                500,
            ),
            (
                r#"{"error":{"message":"no such model","type":"NotFoundError","param":"model","code":404}}"#,
                404,
            ),
            (
                r#"{"error":{"message":"This model's maximum context length is 4096 tokens","type":"BadRequestError","code":400}}"#,
                400,
            ),
            (
                r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
                429,
            ),
            (
                r#"{"error":{"message":"Model is overloaded","http_status_code":422}}"#,
                429,
            ),
            (
                r#"{"error":"Request failed during generation","error_type":"generation"}"#,
                424,
            ),
            (
                r#"{"error":{"message":"The request queue is full.","type":"ServiceUnavailable","code":503}}"#,
                503,
            ),
            (
                r#"{"object":"error","message":"no","type":"x","param":null,"code":503}"#,
                503,
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                529,
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#,
                429,
            ),
            (
                r#"{"type":"error","code":"rate_limit_exceeded","message":"slow","param":null}"#,
                429,
            ),
            (
                r#"{"error":{"message":"bad key","type":"invalid_request_error","code":"invalid_api_key"}}"#,
                401,
            ),
            (r#"{"error":{"message":"x","code":"429"}}"#, 429),
            (r#"{"error":{"message":"x","code":7}}"#, 500),
            (r#"{"error":true}"#, 500),
            (
                r#"{"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}"#,
                503,
            ),
        ] {
            assert_eq!(status_of(json), Some(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_error_has_no_status() {
        for json in [
            r#"{"error":null,"choices":[]}"#,
            r#"{"choices":[{"delta":{"content":"\"error\":{}"},"finish_reason":"stop"}]}"#,
            r#"{"type":"response.created","response":{"id":"r","error":null}}"#,
            "[DONE]",
            "",
        ] {
            assert_eq!(status_of(json), None, "{json}");
        }
    }

    #[test]
    fn what_says_that_nothing_is_wrong_is_no_error() {
        for value in ["null", "false", "\"\"", "0", "[]", "{}", "{ }"] {
            assert_eq!(
                status_of(&format!("{{\"error\":{value}}}")),
                None,
                "{value}"
            );
        }
        for value in ["true", "\"x\"", "{\"detail\":1}"] {
            assert_eq!(
                status_of(&format!("{{\"error\":{value}}}")),
                Some(500),
                "{value}"
            );
        }
    }

    #[test]
    fn a_message_that_quotes_the_request_does_not_make_an_overload_of_it() {
        let quoting = |rest: &str| {
            status_of(&format!(
                "{{\"error\":{{\"message\":\"bad user: overloaded\",{rest}}}}}"
            ))
        };
        assert_eq!(
            quoting("\"type\":\"invalid_request_error\",\"code\":400"),
            Some(400)
        );
        assert_eq!(quoting("\"type\":\"BadRequestError\""), Some(400));
        assert_eq!(quoting("\"http_status_code\":422"), Some(429), "TGI's own");
    }
}

//! Error answers in the words of the imitated engine.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::exchange::Reply;
use super::options::Engine;
use super::request::Api;

/// Why a request is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    /// The request field at fault, where engines name it.
    pub(super) param: Option<&'static str>,
    /// Seconds, for `Retry-After`.
    pub(super) retry_after: Option<u32>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            retry_after: None,
        }
    }

    pub(super) fn bad(param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param),
            ..Self::new(400, message)
        }
    }

    /// A field that must be there; FastAPI's message, shortened.
    pub(super) fn missing(field: &'static str) -> Self {
        let message =
            format!("[{{'type': 'missing', 'loc': ('body', '{field}'), 'msg': 'Field required'}}]");
        Self::bad(field, message)
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist.");
        Self {
            param: Some("model"),
            ..Self::new(404, message)
        }
    }

    /// The failure a fault asks for.
    pub(super) fn fault(status: u16, retry_after: Option<u32>) -> Self {
        let message = match status {
            429 => "Rate limit exceeded",
            503 => "The server is overloaded",
            _ => "EngineCore encountered an issue.",
        };
        Self {
            retry_after,
            ..Self::new(status, message)
        }
    }

    /// Returns the answer in the shape of `engine`; `api` decides where a path has its own.
    pub(super) fn reply(&self, engine: Engine, api: Option<Api>) -> Reply {
        let mut reply = Reply::json(self.status, self.body(engine, api).to_string());
        if let Some(seconds) = self.retry_after {
            reply.headers.push(("retry-after", seconds.to_string()));
        }
        if self.status == 401 {
            reply
                .headers
                .push(("www-authenticate", "Bearer".to_owned()));
        }
        reply
    }

    /// Returns the JSON body of an error answer.
    fn body(&self, engine: Engine, api: Option<Api>) -> Value {
        if api == Some(Api::Messages) || engine == Engine::Anthropic {
            return self.anthropic();
        }
        match engine {
            Engine::Tgi => json!({"error": self.message, "error_type": self.tgi_type()}),
            Engine::Sglang => json!({
                "object": "error", "message": self.message, "type": self.python_type(),
                "param": self.param, "code": self.status
            }),
            Engine::Vllm if self.status == 401 => json!({"error": "Unauthorized"}),
            Engine::Vllm | Engine::Openai | Engine::Anthropic => self.nested(engine),
        }
    }

    /// Writes the error as an event in a stream of `api`.
    pub(super) fn event(&self, engine: Engine, api: Api, sequence_number: u64, out: &mut BytesMut) {
        let (name, data) = match api {
            Api::Messages => (Some("error"), self.anthropic()),
            Api::Responses => (
                Some("error"),
                json!({
                    "type": "error", "sequence_number": sequence_number, "code": "server_error",
                    "message": self.message, "param": null
                }),
            ),
            Api::TgiGenerate | Api::TgiRoot => (
                None,
                json!({"error": self.message, "error_type": self.tgi_type()}),
            ),
            Api::Chat | Api::Completions if engine == Engine::Tgi => (
                None,
                json!({"error": {"message": self.message, "http_status_code": 422}}),
            ),
            Api::Chat | Api::Completions | Api::SglangGenerate => (None, self.nested(engine)),
        };
        if let Some(name) = name {
            out.extend_from_slice(format!("event: {name}\n").as_bytes());
        }
        out.extend_from_slice(format!("data: {data}\n\n").as_bytes());
    }

    fn nested(&self, engine: Engine) -> Value {
        let (kind, code) = match engine {
            Engine::Openai => (self.openai_type(), self.openai_code()),
            Engine::Vllm | Engine::Tgi | Engine::Sglang | Engine::Anthropic => {
                (self.python_type(), json!(self.status))
            }
        };
        json!({"error": {
            "message": self.message, "type": kind, "param": self.param, "code": code
        }})
    }

    fn anthropic(&self) -> Value {
        let kind = match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            400..500 => "invalid_request_error",
            _ => "api_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": self.message}})
    }

    fn python_type(&self) -> &'static str {
        match self.status {
            401 => "AuthenticationError",
            404 => "NotFoundError",
            429 => "RateLimitError",
            400..500 => "BadRequestError",
            503 => "ServiceUnavailableError",
            _ => "InternalServerError",
        }
    }

    fn openai_type(&self) -> &'static str {
        match self.status {
            429 => "rate_limit_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        }
    }

    fn openai_code(&self) -> Value {
        match self.status {
            401 => json!("invalid_api_key"),
            404 => json!("model_not_found"),
            429 => json!("rate_limit_exceeded"),
            _ => Value::Null,
        }
    }

    fn tgi_type(&self) -> &'static str {
        match self.status {
            429 => "overloaded",
            400..500 => "validation",
            _ => "generation",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(refusal: &Refusal, engine: Engine, api: Api) -> Value {
        serde_json::from_slice(&refusal.reply(engine, Some(api)).body).unwrap()
    }

    #[test]
    fn each_engine_has_its_words() {
        let refusal = Refusal::unknown_model("x");
        let vllm = body(&refusal, Engine::Vllm, Api::Chat);
        assert_eq!(vllm["error"]["type"], "NotFoundError");
        assert_eq!(vllm["error"]["code"], 404);
        assert_eq!(body(&refusal, Engine::Sglang, Api::Chat)["object"], "error");
        assert_eq!(
            body(&refusal, Engine::Openai, Api::Chat)["error"]["code"],
            "model_not_found"
        );
        let anthropic = body(&refusal, Engine::Vllm, Api::Messages);
        assert_eq!(anthropic["error"]["type"], "not_found_error");
        let overloaded = Refusal::fault(429, Some(2));
        assert_eq!(
            body(&overloaded, Engine::Tgi, Api::Chat)["error_type"],
            "overloaded"
        );
        let reply = overloaded.reply(Engine::Vllm, None);
        assert_eq!(reply.headers, [("retry-after", "2".to_owned())]);
    }

    #[test]
    fn events_are_named_where_the_protocol_names_them() {
        let event = |api| {
            let mut out = BytesMut::new();
            Refusal::fault(500, None).event(Engine::Vllm, api, 4, &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert!(event(Api::Chat).starts_with("data: {\"error\":{"));
        assert!(event(Api::Messages).starts_with("event: error\ndata: {"));
        assert!(event(Api::Responses).contains("\"sequence_number\":4"));
        assert!(event(Api::TgiGenerate).contains("\"error_type\":\"generation\""));
    }
}

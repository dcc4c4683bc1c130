//! What engines and clients say, literally (bytes as in the sources and documentation of vLLM, TGI, `OpenAI`, Anthropic).

use crate::upstream::Call;

/// A chat request that does not stream.
pub(crate) const CHAT_REQUEST: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"Say hello"}]}"#;

/// A chat request that streams and does not ask for usage.
pub(crate) const STREAM_REQUEST: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"Say hello"}],"stream":true}"#;

/// A chat request that streams and asks for usage, so that nothing on its way needs editing.
pub(crate) const USAGE_REQUEST: &str = r#"{"model":"m","messages":[{"role":"user","content":"Say hello"}],"stream":true,"stream_options":{"include_usage":true}}"#;

/// A message request in Anthropic's dialect that streams.
pub(crate) const MESSAGES_STREAM_REQUEST: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Say hello"}],"stream":true}"#;

/// vLLM's answer to [`CHAT_REQUEST`]: 12 prompt tokens, 3 completion tokens.
pub(crate) const CHAT: &str = r#"{"id":"chatcmpl-8f2c","object":"chat.completion","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[{"index":0,"message":{"role":"assistant","content":"Hi!","refusal":null,"tool_calls":[],"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null}],"service_tier":null,"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3,"prompt_tokens_details":null}}"#;

/// The events of vLLM's answer to [`STREAM_REQUEST`], without usage and `[DONE]`.
pub(crate) const CONTENT: [&str; 3] = [
    r#"{"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
    r#"{"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[{"index":0,"delta":{"content":"Hi!"},"logprobs":null,"finish_reason":null}]}"#,
    r#"{"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}"#,
];

/// The extra event that carries usage: 12 prompt tokens, 3 completion tokens.
pub(crate) const USAGE: &str = r#"{"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[],"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3}}"#;

/// vLLM's error event.
pub(crate) const VLLM_ERROR: &str = r#"{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}"#;

/// The text a client sees of these `data:` events.
pub(crate) fn sse<'a>(data: impl IntoIterator<Item = &'a str>) -> String {
    data.into_iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect()
}

/// What a client that did not ask for usage sees of [`chat_stream`].
pub(crate) fn content_and_done() -> String {
    sse(CONTENT.into_iter().chain(["[DONE]"]))
}

/// Answers a chat call as vLLM does when usage was asked for, whole or streamed as the request says.
pub(crate) fn vllm(call: &mut Call) {
    if String::from_utf8_lossy(&call.request.body).contains("\"stream\":true") {
        chat_stream(call);
    } else {
        call.json(200, CHAT);
    }
}

/// Content, usage, `[DONE]`, each event in a chunk of its own.
pub(crate) fn chat_stream(call: &mut Call) {
    let events = CONTENT.into_iter().chain([USAGE, "[DONE]"]);
    call.stream(events.map(|event| format!("data: {event}\n\n")));
}

/// A JSON document for a model endpoint that is exactly `size` bytes long (`size` of 0, or 27 and more).
pub(crate) fn document(size: usize) -> Vec<u8> {
    const FRAME: usize = r#"{"model":"m","input":""}"#.len();
    if size == 0 {
        return Vec::new();
    }
    let letters = ('a'..='z').cycle().take(size - FRAME).collect::<String>();
    format!(r#"{{"model":"m","input":"{letters}"}}"#).into_bytes()
}

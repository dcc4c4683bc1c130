use serde_json::json;

use super::*;

fn parse(api: Api, body: &Value) -> Result<Job, Refusal> {
    let options = Options {
        models: vec!["m".into()],
        ..Options::default()
    };
    Job::parse(api, body.to_string().as_bytes(), false, &options)
}

fn refused(api: Api, body: &Value) -> Refusal {
    parse(api, body).expect_err("the request is invalid")
}

fn chat(extra: &Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "a b c"}]});
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    body
}

#[test]
fn a_chat_counts_the_words_of_its_messages() {
    let job = parse(Api::Chat, &chat(&json!({"max_tokens": 7, "n": 2}))).unwrap();
    assert_eq!(job.prompt_tokens(), 3);
    assert_eq!(job.max_tokens, Some(7));
    assert_eq!(job.sequences(), 2);
    assert!(!job.stream);
}

#[test]
fn several_prompts_are_several_sequences() {
    let body = json!({"model": "m", "prompt": ["a b", [1, 2, 3]], "n": 2});
    let job = parse(Api::Completions, &body).unwrap();
    assert_eq!(job.prompt_tokens(), 5);
    assert_eq!(job.sequences(), 4);
    assert_eq!(job.max_tokens, Some(16));
    let ids = parse(
        Api::Completions,
        &json!({"model": "m", "prompt": [1, 2, 3]}),
    )
    .unwrap();
    assert_eq!((ids.prompts.len(), ids.prompt_tokens()), (1, 3));
}

#[test]
fn system_and_instructions_count() {
    let body = json!({"model": "m", "max_tokens": 1, "system": "s t",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]});
    assert_eq!(parse(Api::Messages, &body).unwrap().prompt_tokens(), 3);
    let body = json!({"model": "m", "instructions": "i", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a b"}]}]});
    assert_eq!(parse(Api::Responses, &body).unwrap().prompt_tokens(), 3);
}

#[test]
fn usage_is_reported_as_vllm_decides() {
    let wish = |options: Value| {
        let job = parse(
            Api::Chat,
            &chat(&json!({"stream": true, "stream_options": options})),
        );
        job.map(|job| (job.usage.last, job.usage.continuous))
            .unwrap()
    };
    assert_eq!(wish(json!({})), (false, false));
    assert_eq!(wish(json!({"include_usage": false})), (false, false));
    assert_eq!(wish(json!({"include_usage": "yes"})), (true, false));
    assert_eq!(
        wish(json!({"continuous_usage_stats": true})),
        (false, false)
    );
    let both = json!({"include_usage": true, "continuous_usage_stats": 1});
    assert_eq!(wish(both), (true, true));
    assert_eq!(
        wish(json!({"include_usage": false, "continuous_usage_stats": true})),
        (false, false)
    );
    assert_eq!(wish(json!(null)), (false, false));
}

#[test]
fn stream_is_read_as_laxly_as_pydantic_does() {
    for (value, expected) in [
        (json!(true), true),
        (json!(1), true),
        (json!("True"), true),
        (json!("no"), false),
    ] {
        let job = parse(Api::Chat, &chat(&json!({"stream": value}))).unwrap();
        assert_eq!(job.stream, expected, "{value}");
    }
}

#[test]
fn invalid_requests_are_refused_as_vllm_refuses_them() {
    assert_eq!(
        refused(Api::Chat, &json!({"model": "x", "messages": []})).status,
        404
    );
    let missing = refused(Api::Chat, &json!({"model": "m"}));
    assert_eq!(missing.status, 400);
    assert!(
        missing.message.contains("'messages'"),
        "{}",
        missing.message
    );
    let options = refused(
        Api::Chat,
        &chat(&json!({"stream_options": {"include_usage": true}})),
    );
    assert!(
        options
            .message
            .contains("Stream options can only be defined when `stream=True`")
    );
    let long = refused(Api::Chat, &chat(&json!({"max_tokens": 200_000})));
    assert!(
        long.message
            .contains("maximum context length is 131072 tokens"),
        "{}",
        long.message
    );
    assert_eq!(refused(Api::Chat, &chat(&json!({"n": 0}))).param, Some("n"));
    assert_eq!(
        refused(Api::Chat, &chat(&json!({"max_tokens": 0}))).param,
        Some("max_tokens")
    );
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
    assert_eq!(refused(Api::Messages, &body).param, Some("max_tokens"));
    assert_eq!(refused(Api::TgiGenerate, &json!({})).status, 422);
    assert_eq!(
        Job::parse(Api::Chat, b"{", false, &Options::default())
            .unwrap_err()
            .status,
        400
    );
    assert_eq!(
        Job::parse(Api::Chat, b"[]", false, &Options::default())
            .unwrap_err()
            .status,
        400
    );
}

#[test]
fn a_tool_is_called_when_the_last_message_asks_for_it() {
    let tools = json!([{"type": "function", "function": {"name": "other"}},
        {"type": "function", "function": {"name": "get_weather"}}]);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "USE_TOOL"}],
        "tools": tools});
    assert_eq!(
        parse(Api::Chat, &body).unwrap().tool.as_deref(),
        Some("get_weather")
    );
    let mut answered = body.clone();
    answered["messages"]
        .as_array_mut()
        .unwrap()
        .push(json!({"role": "tool", "content": "sunny"}));
    assert_eq!(parse(Api::Chat, &answered).unwrap().tool, None);
    assert_eq!(
        parse(Api::Chat, &chat(&json!({"tools": tools})))
            .unwrap()
            .tool,
        None
    );
    let flat = json!({"model": "m", "input": "USE_TOOL now", "tools": [{"name": "f"}]});
    assert_eq!(
        parse(Api::Responses, &flat).unwrap().tool.as_deref(),
        Some("f")
    );
}

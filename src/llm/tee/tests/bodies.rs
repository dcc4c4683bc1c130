//! Responses that are one JSON document.

use super::*;

const VLLM_CHAT: &str = r#"{"id":"chatcmpl-8f2c","object":"chat.completion","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[{"index":0,"message":{"role":"assistant","content":"Hi!","refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[],"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}],"service_tier":null,"system_fingerprint":null,"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3,"prompt_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"kv_transfer_params":null}"#;

#[test]
fn vllm_chat() {
    let read = body(ChatCompletions, VLLM_CHAT);
    assert_eq!(bill(&read), Some(([12, 3, 0, 0], Final)));
    assert_eq!(read.model.as_deref(), Some("Qwen/Qwen3-32B"));
    assert_eq!(read.response_id.as_deref(), Some("chatcmpl-8f2c"));
    assert_eq!(
        (read.content_bytes, read.events, read.ended, read.error),
        (3, 0, true, false)
    );
}

#[test]
fn a_body_that_breaks_off_is_not_billed_by_half_its_usage() {
    let cut = VLLM_CHAT.find(r#","total_tokens""#).unwrap();
    let read = body(ChatCompletions, &VLLM_CHAT[..cut]);
    assert_eq!(
        (read.usage, read.ended, read.content_bytes),
        (None, false, 3)
    );
    let read = body(ChatCompletions, &VLLM_CHAT[..VLLM_CHAT.len() - 1]);
    assert_eq!(
        (bill(&read), read.ended),
        (Some(([12, 3, 0, 0], Final)), false)
    );
}

#[test]
fn openai_chat_with_details() {
    let read = body(
        ChatCompletions,
        r#"{"id":"c","model":"gpt-5","choices":[{"index":0,"message":{"role":"assistant","content":"a\nb"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":192,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}"#,
    );
    assert_eq!(bill(&read), Some(([2006, 300, 1920, 192], Final)));
    assert_eq!(read.content_bytes, 3);
}

#[test]
fn n_choices_are_billed_as_the_engine_says() {
    let read = body(
        Completions,
        r#"{"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":" a","finish_reason":"length","stop_reason":null,"prompt_logprobs":null},{"index":1,"text":" b","finish_reason":"length"}],"usage":{"prompt_tokens":5,"total_tokens":37,"completion_tokens":32}}"#,
    );
    assert_eq!(bill(&read), Some(([5, 32, 0, 0], Final)));
    assert_eq!(read.content_bytes, 4);
}

#[test]
fn pooling() {
    for (endpoint, json, prompt) in [
        (
            Embeddings,
            r#"{"id":"embd-1","object":"list","created":1786000000,"model":"e5","data":[{"index":0,"object":"embedding","embedding":[0.1,0.2]}],"usage":{"prompt_tokens":7,"total_tokens":7,"completion_tokens":0,"prompt_tokens_details":null}}"#,
            7,
        ),
        (
            Embeddings,
            r#"{"object":"list","data":[{"embedding":"AAAA//8=","index":0}],"model":"e5","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            8,
        ),
        (
            Score,
            r#"{"id":"score-1","object":"list","created":1786000000,"model":"rr","data":[{"index":0,"object":"score","score":0.98}],"usage":{"prompt_tokens":40,"total_tokens":40,"completion_tokens":0,"prompt_tokens_details":null}}"#,
            40,
        ),
        (
            Rerank,
            r#"{"id":"score-1","model":"rr","usage":{"prompt_tokens":41,"total_tokens":41},"results":[{"index":1,"document":{"text":"x","multi_modal":null},"relevance_score":0.98}]}"#,
            41,
        ),
        (
            Score,
            r#"{"object":"scoring","scores":[[0.1]],"model":"m","usage":{"prompt_tokens":9,"total_tokens":9}}"#,
            9,
        ),
    ] {
        let read = body(endpoint, json);
        assert_eq!(bill(&read), Some(([prompt, 0, 0, 0], Final)), "{json}");
        assert_eq!((read.content_bytes, read.ended), (0, true));
    }
    assert_eq!(
        body(Score, r#"{"scores":[[0.1]],"usage":null}"#).usage,
        None
    );
}

#[test]
fn sglang_reranks_with_a_bare_array() {
    let read = body(
        Rerank,
        r#"[{"score":0.9,"document":"a","index":0,"meta_info":{"id":"x","prompt_tokens":11,"e2e_latency":0.1}},{"score":0.1,"document":"b","index":1,"meta_info":{"prompt_tokens":13}}]"#,
    );
    assert_eq!(bill(&read), Some(([24, 0, 0, 0], Final)));
    assert!(read.ended);
}

#[test]
fn sglang_counts_reasoning_beside_the_details() {
    let read = body(
        ChatCompletions,
        r#"{"id":"a","object":"chat.completion","model":"default","choices":[{"index":0,"message":{"role":"assistant","content":"4","reasoning_content":"2+2","tool_calls":null},"logprobs":null,"finish_reason":"stop","matched_stop":151645}],"usage":{"prompt_tokens":12,"total_tokens":35,"completion_tokens":23,"prompt_tokens_details":{"cached_tokens":8},"reasoning_tokens":20},"metadata":{"weight_version":"default"}}"#,
    );
    assert_eq!(bill(&read), Some(([12, 23, 8, 20], Final)));
    assert_eq!(read.content_bytes, 4);
}

#[test]
fn sglang_generate() {
    let read = body(
        Generate,
        r#"{"text":" Paris","meta_info":{"id":"g1","finish_reason":{"type":"length","length":16},"prompt_tokens":5,"completion_tokens":16,"cached_tokens":2,"e2e_latency":0.3}}"#,
    );
    assert_eq!(bill(&read), Some(([5, 16, 2, 0], Final)));
    assert_eq!(read.content_bytes, 6);
    let batch = body(
        Generate,
        r#"[{"text":"a","meta_info":{"prompt_tokens":5,"completion_tokens":1}},{"text":"b","meta_info":{"prompt_tokens":6,"completion_tokens":2}}]"#,
    );
    assert_eq!(bill(&batch), Some(([11, 3, 0, 0], Final)));
}

#[test]
fn tgi_generate_is_exact_by_its_headers() {
    let json = r#"{"generated_text":" test","details":{"finish_reason":"length","generated_tokens":1,"seed":null,"prefill":[],"tokens":[{"id":1,"text":" test","logprob":-0.34,"special":false}],"best_of_sequences":null}}"#;
    let without = body(Generate, json);
    assert_eq!(
        bill(&without),
        Some(([0, 1, 0, 0], Counted)),
        "the prompt is not in the body"
    );
    assert_eq!((without.content_bytes, without.ended), (5, true));
    for (endpoint, json) in [
        (Generate, json),
        (Generate, r#"{"generated_text":" test"}"#),
        (TgiRoot, r#"[{"generated_text":" test"}]"#),
    ] {
        let mut tee = Tee::new(endpoint, BodyFormat::Json);
        tee.tgi_headers(Some(4), Some(1));
        tee.observe(json.as_bytes());
        assert_eq!(bill(&tee.summary()), Some(([4, 1, 0, 0], Final)), "{json}");
    }
    assert_eq!(body(TgiRoot, r#"[{"generated_text":" test"}]"#).usage, None);
    let mut tee = Tee::new(Generate, BodyFormat::Json);
    tee.tgi_headers(Some(u64::MAX), Some(u64::MAX));
    assert_eq!(tee.summary().usage, None, "an absurd header is no count");
}

#[test]
fn openai_responses() {
    let read = body(
        Responses,
        r#"{"id":"resp_1","object":"response","status":"completed","error":null,"model":"gpt-5","output":[{"id":"rs_1","type":"reasoning","summary":[]},{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[{"type":"url_citation","url":"https://example.org"}]}]}],"usage":{"input_tokens":120,"input_tokens_details":{"cached_tokens":30},"output_tokens":85,"output_tokens_details":{"reasoning_tokens":15},"total_tokens":205}}"#,
    );
    assert_eq!(bill(&read), Some(([120, 85, 30, 15], Final)));
    assert_eq!(read.response_id.as_deref(), Some("resp_1"));
    assert_eq!((read.content_bytes, read.error), (5, false));
}

#[test]
fn anthropic_messages_count_the_cache_beside_the_input() {
    let read = body(
        Messages,
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude","content":[{"type":"thinking","thinking":"hm","signature":"EqQB"},{"type":"text","text":"Hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":100,"cache_read_input_tokens":900,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":0},"output_tokens":3,"service_tier":"standard"}}"#,
    );
    assert_eq!(bill(&read), Some(([1012, 3, 900, 0], Final)));
    assert_eq!((read.content_bytes, read.ended), (4, true));
    let vllm = body(
        Messages,
        r#"{"type":"message","usage":{"input_tokens":12,"output_tokens":3}}"#,
    );
    assert_eq!(bill(&vllm), Some(([12, 3, 0, 0], Final)));
}

#[test]
fn other_names_of_the_cached_part() {
    for detail in [r#""prompt_cache_hit_tokens":8"#, r#""cached_tokens":8"#] {
        let json = format!(r#"{{"usage":{{"prompt_tokens":12,"completion_tokens":3,{detail}}}}}"#);
        assert_eq!(
            bill(&body(ChatCompletions, &json)),
            Some(([12, 3, 8, 0], Final))
        );
    }
}

#[test]
fn numbers_that_are_no_counts_are_refused() {
    for bad in [
        "-3",
        "3.0",
        "3e2",
        "\"3\"",
        "1e999",
        "99999999999999999999",
        "[3]",
        "true",
    ] {
        let json = format!(r#"{{"usage":{{"prompt_tokens":12,"completion_tokens":{bad}}}}}"#);
        let read = body(ChatCompletions, &json);
        // A container or nothing at all leaves the other count standing.
        let expected = (bad == "[3]").then_some(([12, 0, 0, 0], Final));
        assert_eq!(bill(&read), expected, "{bad}");
    }
    let large = r#"{"usage":{"prompt_tokens":5000000000,"completion_tokens":6000000000}}"#;
    let expected = Some(([5_000_000_000, 6_000_000_000, 0, 0], Final));
    assert_eq!(bill(&body(ChatCompletions, large)), expected);
}

#[test]
fn errors_are_noticed() {
    for json in [
        r#"{"error":{"message":"x","type":"BadRequestError","param":null,"code":400}}"#,
        r#"{"object":"error","message":"x","type":"BadRequest","param":null,"code":400}"#,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"x"}}"#,
        r#"{"error":"Input validation error","error_type":"validation"}"#,
    ] {
        assert!(body(ChatCompletions, json).error, "{json}");
    }
}

#[test]
fn usage_in_the_text_is_not_usage() {
    let read = body(
        ChatCompletions,
        r#"{"choices":[{"message":{"content":"{\"usage\":{\"prompt_tokens\":99}}","usage":{"prompt_tokens":98}}}],"metadata":{"usage":{"prompt_tokens":97}}}"#,
    );
    assert_eq!(read.usage, None);
}

#[test]
fn a_long_model_name_is_cut_and_an_empty_id_is_none() {
    let long = "m".repeat(257);
    let read = body(ChatCompletions, &format!(r#"{{"id":"","model":"{long}"}}"#));
    assert_eq!(read.model.as_deref(), Some(&long[..256]));
    assert_eq!(read.response_id, None);
    let escaped = body(ChatCompletions, r#"{"id":"a\/b","model":"\u00e9"}"#);
    assert_eq!(escaped.response_id.as_deref(), Some("a/b"));
    assert_eq!(escaped.model.as_deref(), Some("é"));
}

#[test]
fn a_body_of_megabytes_is_read_without_keeping_it() {
    let numbers = "0.0123,".repeat(300_000);
    let json = format!(
        r#"{{"data":[{{"embedding":[{numbers}1]}}],"usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#
    );
    let read = read(Embeddings, BodyFormat::Json, json.as_bytes().chunks(1000));
    assert_eq!(bill(&read), Some(([7, 0, 0, 0], Final)));
}

//! Responses that are event streams.

use super::*;

/// Writes each document as an unnamed event.
fn data(documents: &[&str]) -> String {
    documents
        .iter()
        .map(|document| format!("data: {document}\n\n"))
        .collect()
}

/// Writes each document as an event named by its `type`.
fn named(documents: &[&str]) -> String {
    let event = |document: &&str| {
        let kind = document.split('"').nth(3).unwrap();
        format!("event: {kind}\ndata: {document}\n\n")
    };
    documents.iter().map(event).collect()
}

const VLLM_CHAT: &str = r#"data: {"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[{"index":0,"delta":{"content":"Hi!"},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}

data: {"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":"Qwen/Qwen3-32B","choices":[],"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3}}

data: [DONE]

"#;

#[test]
fn vllm_chat() {
    let read = stream(ChatCompletions, VLLM_CHAT);
    assert_eq!(bill(&read), Some(([12, 3, 0, 0], Final)));
    assert_eq!(read.model.as_deref(), Some("Qwen/Qwen3-32B"));
    assert_eq!(read.response_id.as_deref(), Some("chatcmpl-8f2c"));
    assert_eq!(
        (read.events, read.content_bytes, read.ended, read.error),
        (4, 3, true, false)
    );
}

#[test]
fn a_stream_has_ended_with_done_or_its_last_finish_reason_only() {
    let role_and_text = VLLM_CHAT.match_indices("\n\n").nth(1).unwrap().0 + 2;
    let finish = VLLM_CHAT.match_indices("\n\n").nth(2).unwrap().0 + 2;
    assert!(!stream(ChatCompletions, &VLLM_CHAT[..role_and_text]).ended);
    assert!(stream(ChatCompletions, &VLLM_CHAT[..finish]).ended);
    let another = r#"{"choices":[{"index":1,"delta":{"content":"more"},"finish_reason":null}]}"#;
    let open = format!("{}{}", &VLLM_CHAT[..finish], data(&[another]));
    assert!(
        !stream(ChatCompletions, &open).ended,
        "the second choice is still being written"
    );
}

#[test]
fn the_last_event_needs_no_blank_line() {
    let usage_end = VLLM_CHAT.find("\n\ndata: [DONE]").unwrap();
    let read = summary(
        ChatCompletions,
        BodyFormat::EventStream,
        &VLLM_CHAT.as_bytes()[..usage_end],
    );
    assert_eq!(
        (bill(&read), read.events),
        (Some(([12, 3, 0, 0], Final)), 4)
    );
    let read = summary(
        ChatCompletions,
        BodyFormat::EventStream,
        b"data: {}\n\ndata: [DONE]",
    );
    assert!(read.ended);
    assert_eq!(read.events, 1);
}

/// A chunk of vLLM with `continuous_usage_stats`.
fn continuous(index: u64, text: &str, finish: &str, completion: u64) -> String {
    let total = 12 + completion;
    data(&[&format!(
        r#"{{"choices":[{{"index":{index},"delta":{{"content":"{text}"}},"finish_reason":{finish}}}],"usage":{{"prompt_tokens":12,"total_tokens":{total},"completion_tokens":{completion}}}}}"#
    )])
}

#[test]
fn vllm_continuous_usage_is_per_choice_and_the_final_chunk_wins() {
    let mut text = continuous(0, "", "null", 0) + &continuous(1, "", "null", 0);
    text += &continuous(0, "a", "null", 2);
    text += &continuous(1, "b", "null", 3);
    text += &continuous(0, "c", "null", 4);
    let cut = stream(ChatCompletions, &text);
    assert_eq!(bill(&cut), Some(([12, 7, 0, 0], Continuous)));
    text += &continuous(1, "", "\"stop\"", 5);
    assert_eq!(
        bill(&stream(ChatCompletions, &text)),
        Some(([12, 9, 0, 0], Continuous))
    );
    text += &continuous(0, "", "\"length\"", 9);
    text += "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":27,\"completion_tokens\":15}}\n\n";
    assert_eq!(
        bill(&stream(ChatCompletions, &text)),
        Some(([12, 15, 0, 0], Final))
    );
}

#[test]
fn several_prompts_cut_short_are_each_read_once() {
    let chunk = |index: u64, completion: u64| {
        format!(
            r#"{{"choices":[{{"index":{index},"text":"x","finish_reason":null}}],"usage":{{"prompt_tokens":5,"total_tokens":9,"completion_tokens":{completion}}}}}"#
        )
    };
    // Two prompts of two choices each: index = choice + 2 * prompt.
    let text = data(&[&chunk(0, 1), &chunk(2, 2), &chunk(1, 3), &chunk(3, 4)]);
    let mut tee = Tee::new(Completions, BodyFormat::EventStream);
    tee.asked(&RequestHead {
        prompts: 2,
        choices: 2,
        ..RequestHead::default()
    });
    tee.observe(text.as_bytes());
    assert_eq!(bill(&tee.summary()), Some(([10, 10, 0, 0], Continuous)));
}

#[test]
fn vllm_completions_say_null_until_the_end() {
    let text = data(&[
        r#"{"id":"cmpl-1","object":"text_completion","created":1786000000,"model":"m","choices":[{"index":0,"text":" Paris","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"usage":null}"#,
        r#"{"id":"cmpl-1","object":"text_completion","created":1786000000,"model":"m","choices":[{"index":0,"text":" \"is","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"usage":null}"#,
        r#"{"id":"cmpl-1","object":"text_completion","created":1786000000,"model":"m","choices":[],"usage":{"prompt_tokens":5,"total_tokens":21,"completion_tokens":16}}"#,
        "[DONE]",
    ]);
    let read = stream(Completions, &text);
    assert_eq!(bill(&read), Some(([5, 16, 0, 0], Final)));
    assert_eq!((read.events, read.content_bytes), (3, 10));
}

#[test]
fn tgi_completions_report_each_prompt_and_are_summed() {
    let chunk = r#"{"object":"text_completion","id":"","created":1,"model":"m","system_fingerprint":"3.1.2","choices":[{"text":" a","index":0,"logprobs":null,"finish_reason":""}]}"#;
    let last = |index: u64, prompt: u64| {
        format!(
            r#"{{"object":"text_completion","id":"","created":1,"model":"m","choices":[{{"text":" b","index":{index},"logprobs":null,"finish_reason":"length"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":2,"total_tokens":{}}}}}"#,
            prompt + 2
        )
    };
    for second in [0, 1] {
        let text = data(&[chunk, &last(0, 5), chunk, &last(second, 7), "[DONE]"]);
        let read = stream(Completions, &text);
        assert_eq!(
            bill(&read),
            Some(([12, 4, 0, 0], Final)),
            "second index {second}"
        );
        assert_eq!((read.events, read.content_bytes), (4, 8));
    }
}

#[test]
fn usage_beside_the_last_choice_is_final() {
    let text = data(&[
        r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#,
    ]);
    assert_eq!(
        bill(&stream(ChatCompletions, &text)),
        Some(([9, 2, 0, 0], Final))
    );
    let groq = text
        .replace(r#""usage":{"#, r#""x_groq":{"id":"r","usage":{"#)
        .replace("11}}", "11}}}");
    assert_eq!(
        bill(&stream(ChatCompletions, &groq)),
        Some(([9, 2, 0, 0], Final))
    );
}

#[test]
fn tgi_chat() {
    let text = data(&[
        r#"{"object":"chat.completion.chunk","id":"","created":1741340006,"model":"meta-llama/Llama-3.1-8B-Instruct","system_fingerprint":"3.1.2-dev0-native","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
        r#"{"object":"chat.completion.chunk","id":"","created":1741340006,"model":"meta-llama/Llama-3.1-8B-Instruct","system_fingerprint":"3.1.2-dev0-native","choices":[],"usage":{"prompt_tokens":40,"completion_tokens":10,"total_tokens":50}}"#,
        "[DONE]",
    ]);
    let read = stream(ChatCompletions, &text);
    assert_eq!(
        (bill(&read), read.response_id),
        (Some(([40, 10, 0, 0], Final)), None)
    );
}

#[test]
fn sglang_chat() {
    let text = data(&[
        r#"{"id":"a1","object":"chat.completion.chunk","created":1786000000,"model":"default","choices":[{"index":0,"delta":{"role":null,"content":"Hi","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}"#,
        r#"{"id":"a1","object":"chat.completion.chunk","created":1786000000,"model":"default","choices":[],"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3,"prompt_tokens_details":null,"reasoning_tokens":2}}"#,
        "[DONE]",
    ]);
    assert_eq!(
        bill(&stream(ChatCompletions, &text)),
        Some(([12, 3, 0, 2], Final))
    );
}

#[test]
fn llama_cpp_adds_timings() {
    let text = data(&[
        r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hi"}}],"created":1,"id":"chatcmpl-x","model":"tiny","system_fingerprint":"b1","object":"chat.completion.chunk"}"#,
        r#"{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":1,"id":"chatcmpl-x","model":"tiny","object":"chat.completion.chunk"}"#,
        r#"{"choices":[],"created":1,"id":"chatcmpl-x","model":"tiny","object":"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":9,"total_tokens":11},"timings":{"cache_n":0,"prompt_n":9,"prompt_ms":1.5,"predicted_n":2}}"#,
        "[DONE]",
    ]);
    assert_eq!(
        bill(&stream(ChatCompletions, &text)),
        Some(([9, 2, 0, 0], Final))
    );
}

#[test]
fn llama_cpps_timings_tell_without_being_asked() {
    let text = data(&[
        r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hi"}}],"id":"chatcmpl-x","model":"tiny","object":"chat.completion.chunk"}"#,
        r#"{"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"id":"chatcmpl-x","model":"tiny","object":"chat.completion.chunk","timings":{"cache_n":13,"prompt_n":1,"prompt_ms":1.18,"predicted_n":14,"predicted_ms":7.67}}"#,
        "[DONE]",
    ]);
    assert_eq!(
        bill(&stream(ChatCompletions, &text)),
        Some(([14, 14, 13, 0], Final))
    );
}

#[test]
fn sglang_generate_is_cumulative() {
    let chunk = |text: &str, finish: &str, completion: u64| {
        format!(
            r#"{{"text":"{text}","meta_info":{{"id":"g","finish_reason":{finish},"prompt_tokens":5,"completion_tokens":{completion},"cached_tokens":1}}}}"#
        )
    };
    let cut = data(&[&chunk("a", "null", 1), &chunk("a b", "null", 2)]);
    let read = stream(Generate, &cut);
    assert_eq!(
        (bill(&read), read.content_bytes),
        (Some(([5, 2, 1, 0], Continuous)), 3)
    );
    let end = chunk("a b c", r#"{"type":"length","length":3}"#, 3);
    let read = stream(Generate, &(cut + &data(&[&end, "[DONE]"])));
    assert_eq!(
        (bill(&read), read.content_bytes),
        (Some(([5, 3, 1, 0], Final)), 5)
    );
    assert_eq!(read.events, 3);
}

#[test]
fn tgi_generate_stream_is_counted_or_told() {
    let first = "data:{\"index\":1,\"token\":{\"id\":264,\"text\":\" a\",\"logprob\":-1.2,\"special\":false},\"generated_text\":null,\"details\":null}\n\n";
    let last = |details: &str| {
        format!(
            "data:{{\"index\":2,\"token\":{{\"id\":1296,\"text\":\" test\",\"logprob\":-0.3,\"special\":false}},\"generated_text\":\" a test\",\"details\":{details}}}\n\n"
        )
    };
    let cut = stream(GenerateStream, first);
    assert_eq!(
        (bill(&cut), cut.ended),
        (Some(([0, 1, 0, 0], Counted)), false)
    );
    let silent = stream(GenerateStream, &format!("{first}{}", last("null")));
    assert_eq!(
        (bill(&silent), silent.ended),
        (Some(([0, 2, 0, 0], Counted)), true)
    );
    assert_eq!((silent.events, silent.content_bytes), (2, 7));
    let details = r#"{"finish_reason":"length","generated_tokens":2,"seed":null,"input_length":5}"#;
    let told = stream(TgiRoot, &format!("{first}{}", last(details)));
    assert_eq!(bill(&told), Some(([5, 2, 0, 0], Final)));
}

#[test]
fn openai_responses_end_with_usage() {
    let mut text = named(&[
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","model":"m","error":null,"output":[],"usage":null}}"#,
        r#"{"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"Hi"}"#,
        r#"{"type":"response.output_text.done","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"text":"Hi"}"#,
    ]);
    let cut = stream(Responses, &text);
    assert_eq!((cut.usage, cut.ended, cut.content_bytes), (None, false, 2));
    assert_eq!(cut.response_id.as_deref(), Some("resp_1"));
    let terminal = |kind: &str| {
        let document = format!(
            r#"{{"type":"response.{kind}","sequence_number":42,"response":{{"id":"resp_1","status":"{kind}","output":[{{"content":[{{"type":"output_text","text":"Hi"}}]}}],"usage":{{"input_tokens":120,"input_tokens_details":{{"cached_tokens":30,"input_tokens_per_turn":[],"cached_tokens_per_turn":[]}},"output_tokens":85,"output_tokens_details":{{"reasoning_tokens":15,"tool_output_tokens":10,"output_tokens_per_turn":[],"tool_output_tokens_per_turn":[]}},"total_tokens":205}}}}}}"#
        );
        named(&[&document])
    };
    for kind in ["completed", "incomplete", "failed"] {
        let read = stream(Responses, &format!("{text}{}", terminal(kind)));
        assert_eq!(bill(&read), Some(([120, 85, 30, 15], Final)), "{kind}");
        assert_eq!(
            (read.ended, read.error, read.content_bytes),
            (true, kind == "failed", 2)
        );
    }
    text +=
        "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\"}\n\n";
    assert!(stream(Responses, &text).error);
}

const MESSAGE_START: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":100,"cache_read_input_tokens":900,"output_tokens":1}}}"#;

#[test]
fn anthropic_messages_merge_both_reports() {
    let mut text = named(&[
        MESSAGE_START,
        r#"{"type":"ping"}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"let me see"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}}"#,
    ]);
    let cut = stream(Messages, &text);
    assert_eq!(
        bill(&cut),
        Some(([1012, 1, 900, 0], Estimated)),
        "what the engine said so far"
    );
    let filled = cut.bill(0, &Rates::default()).0;
    let expected = Usage {
        cached: 900,
        ..Usage::new(1012, 5)
    };
    assert_eq!(filled, expected, "17 bytes were written");
    assert_eq!(cut.reasoning_bytes, 10);
    assert_eq!((cut.ended, cut.content_bytes, cut.events), (false, 17, 6));
    text += &named(&[
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":40,"output_tokens_details":{"thinking_tokens":30}}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    let read = stream(Messages, &text);
    assert_eq!(bill(&read), Some(([1012, 40, 900, 30], Final)));
    assert!(read.ended);
    assert_eq!(read.response_id.as_deref(), Some("msg_1"));
}

#[test]
fn vllm_messages_end_with_done_too() {
    let mut text = named(&[
        r#"{"type":"message_start","message":{"id":"chatcmpl-1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":0}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":12,"output_tokens":3}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    text += "data: [DONE]\n\n";
    let read = stream(Messages, &text);
    assert_eq!(
        (bill(&read), read.events),
        (Some(([12, 3, 0, 0], Final)), 3)
    );
}

#[test]
fn errors_in_the_middle_are_noticed() {
    let text = r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
    for error in [
        r#"{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}}"#,
        r#"{"error":"Model is overloaded","error_type":"overloaded"}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"abort"}]}"#,
    ] {
        let read = stream(ChatCompletions, &data(&[text, text, error, "[DONE]"]));
        assert!(read.error, "{error}");
        assert_eq!((read.usage, read.events, read.content_bytes), (None, 3, 4));
    }
    let read = stream(
        Messages,
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
    );
    assert!(read.error);
}

#[test]
fn data_over_several_lines_is_one_event() {
    let text = "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":1,\ndata: \"completion_tokens\":2}}\n\n";
    let read = stream(ChatCompletions, text);
    assert_eq!((bill(&read), read.events), (Some(([1, 2, 0, 0], Final)), 1));
}

#[test]
fn events_that_are_no_json_are_counted_and_nothing_more() {
    let read = stream(
        ChatCompletions,
        "data: hello\n\ndata: {\"usage\":\n\nid: 7\n\ndata: {}\n\n",
    );
    assert_eq!((read.usage, read.events, read.error), (None, 3, false));
}

//! What engines write. `@` is where a client looks for the model.

use super::*;

const BODIES: [&str; 14] = [
    // OpenAI
    r#"{"id":"chatcmpl-1","object":"chat.completion","created":1786000000,"model":@,"choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"ask","arguments":"{\"model\": \"keep\"}"}}],"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":20,"completion_tokens":30,"total_tokens":50,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}},"service_tier":"default","system_fingerprint":"fp_1"}"#,
    "{\n  \"id\": \"chatcmpl-1\",\n  \"object\": \"chat.completion\",\n  \"model\": @,\n  \"choices\": [\n    {\n      \"index\": 0,\n      \"message\": {\n        \"content\": \"the \\\"model\\\": me\"\n      }\n    }\n  ]\n}\n",
    // vLLM
    r#"{"id":"chatcmpl-8f2c","object":"chat.completion","created":1786000000,"model":@,"choices":[{"index":0,"message":{"role":"assistant","content":"Hi!","refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[],"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}],"service_tier":null,"system_fingerprint":null,"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3,"prompt_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"kv_transfer_params":null}"#,
    r#"{"id":"cmpl-1","object":"text_completion","created":1786000000,"model":@,"choices":[{"index":0,"text":" \"model\": \"keep\"","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_logprobs":null}],"usage":{"prompt_tokens":5,"total_tokens":37,"completion_tokens":32}}"#,
    r#"{"id":"embd-1","object":"list","created":1786000000,"model":@,"data":[{"index":0,"object":"embedding","embedding":[0.1,-0.2e-5]}],"usage":{"prompt_tokens":7,"total_tokens":7,"completion_tokens":0,"prompt_tokens_details":null}}"#,
    r#"{"id":"score-1","model":@,"usage":{"prompt_tokens":41,"total_tokens":41},"results":[{"index":1,"document":{"text":"model","multi_modal":null},"relevance_score":0.98}]}"#,
    // OpenAI's embeddings in base64; its order is SGLang's too
    r#"{"object":"list","data":[{"object":"embedding","embedding":"AAAA//8=","index":0}],"model":@,"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
    // llama.cpp: choices first, no order of its own in the rest
    r#"{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"Hi\n"}}],"created":1786000000,"model":@,"system_fingerprint":"b1-a","object":"chat.completion","usage":{"completion_tokens":2,"prompt_tokens":9,"total_tokens":11},"id":"chatcmpl-x","timings":{"cache_n":0,"prompt_n":9,"prompt_ms":1.5}}"#,
    r#"{"index":0,"content":" a","tokens":[],"model":@,"stop":true,"generation_settings":{"model":"keep"},"prompt":"\"model\""}"#,
    // SGLang
    r#"{"id":"a","object":"chat.completion","created":1786000000,"model":@,"choices":[{"index":0,"message":{"role":"assistant","content":"4","reasoning_content":"2+2","tool_calls":null},"logprobs":null,"finish_reason":"stop","matched_stop":151645}],"usage":{"prompt_tokens":12,"total_tokens":35,"completion_tokens":23,"prompt_tokens_details":{"cached_tokens":8},"reasoning_tokens":20},"metadata":{"weight_version":"default","model":"keep"}}"#,
    // Responses
    r#"{"id":"resp_1","object":"response","created_at":1786000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":@,"output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[]}]},{"id":"ig_1","type":"image_generation_call","model":"keep"}],"tools":[{"type":"image_generation","model":"keep"}],"usage":{"input_tokens":120,"output_tokens":85,"total_tokens":205},"metadata":{"model":"keep"}}"#,
    // Anthropic
    r#"{"model":@,"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"Hi"},{"type":"tool_use","id":"toolu_1","name":"ask","input":{"model":"keep","message":{"model":"keep"}}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":3,"service_tier":"standard"}}"#,
    // Errors
    r#"{"error":{"message":"The model `keep` does not exist","type":"NotFoundError","param":"model","code":404}}"#,
    r#"{"object":"error","message":"model","type":"BadRequestError","param":"model","code":400}"#,
];

#[test]
fn bodies() {
    for body in BODIES {
        assert_renames(BodyFormat::Json, body);
    }
}

/// Events with their type as name.
fn named(documents: &[&str]) -> String {
    let name = |document: &str| -> String {
        let begin = document.find("\"type\":\"").unwrap() + 8;
        document[begin..]
            .chars()
            .take_while(|c| *c != '"')
            .collect()
    };
    documents
        .iter()
        .map(|document| format!("event: {}\ndata: {document}\n\n", name(document)))
        .collect()
}

fn data(documents: &[&str]) -> String {
    documents
        .iter()
        .map(|document| format!("data: {document}\n\n"))
        .collect()
}

fn streams() -> [String; 8] {
    [
        // OpenAI
        data(&[
            r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1786000000,"model":@,"service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"obfuscation":"a1B2"}"#,
            r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1786000000,"model":@,"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"model\":\"keep\""}}]},"finish_reason":null}],"usage":null}"#,
            r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1786000000,"model":@,"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}"#,
            "[DONE]",
        ]),
        // vLLM
        data(&[
            r#"{"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":@,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}"#,
            r#"{"id":"chatcmpl-8f2c","object":"chat.completion.chunk","created":1786000000,"model":@,"choices":[{"index":0,"delta":{"content":"model"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#,
            r#"{"error":{"message":"EngineCore encountered an issue.","type":"InternalServerError","param":"model","code":500}}"#,
            "[DONE]",
        ]),
        // Completions
        data(&[
            r#"{"id":"cmpl-1","object":"text_completion","created":1786000000,"model":@,"choices":[{"index":0,"text":" \"is","logprobs":null,"finish_reason":null,"stop_reason":null}]}"#,
            r#"{"id":"cmpl-1","object":"text_completion","created":1786000000,"model":@,"choices":[{"index":0,"text":"model","logprobs":null,"finish_reason":"length","stop_reason":null}]}"#,
            "[DONE]",
        ]),
        // llama.cpp
        data(&[
            r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],"created":1,"id":"chatcmpl-x","model":@,"system_fingerprint":"b1","object":"chat.completion.chunk"}"#,
            r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":" \"model\":"}}],"created":1,"id":"chatcmpl-x","model":@,"system_fingerprint":"b1","object":"chat.completion.chunk"}"#,
            r#"{"choices":[],"created":1,"id":"chatcmpl-x","model":@,"object":"chat.completion.chunk","usage":{"completion_tokens":2,"prompt_tokens":9,"total_tokens":11},"timings":{"cache_n":0,"prompt_n":9}}"#,
            "[DONE]",
        ]),
        // SGLang
        data(&[
            r#"{"id":"a1","object":"chat.completion.chunk","created":1786000000,"model":@,"choices":[{"index":0,"delta":{"role":null,"content":"Hi","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":null,"matched_stop":null}],"usage":null}"#,
            r#"{"id":"a1","object":"chat.completion.chunk","created":1786000000,"model":@,"choices":[{"index":0,"delta":{"role":null,"content":null,"reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":"stop","matched_stop":1}],"usage":null}"#,
            "[DONE]",
        ]),
        // Responses
        named(&[
            r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1786000000,"status":"in_progress","error":null,"model":@,"output":[],"tools":[{"type":"image_generation","model":"keep"}],"usage":null,"metadata":{"model":"keep"}}}"#,
            r#"{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"ig_1","type":"image_generation_call","model":"keep"}}"#,
            r#"{"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"\"model\":\"keep\""}"#,
            r#"{"type":"response.function_call_arguments.done","sequence_number":4,"item_id":"fc_1","output_index":1,"arguments":"{\"model\":\"keep\"}"}"#,
            r#"{"type":"response.completed","sequence_number":5,"response":{"id":"resp_1","object":"response","status":"completed","output":[{"content":[{"type":"output_text","text":"Hi"}],"model":"keep"}],"model":@,"usage":{"input_tokens":120,"output_tokens":85,"total_tokens":205}}}"#,
        ]),
        // Anthropic
        named(&[
            r#"{"type":"message_start","message":{"model":@,"id":"msg_1","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":1}}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"model","input":{"model":"keep"}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"model\": \"keep\"}"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":40}}"#,
            r#"{"type":"message_stop"}"#,
        ]),
        // vLLM's Messages
        named(&[
            r#"{"type":"message_start","message":{"id":"chatcmpl-1","type":"message","role":"assistant","content":[],"model":@,"stop_reason":null,"usage":{"input_tokens":12,"output_tokens":0}}}"#,
            r#"{"type":"message_stop"}"#,
        ]) + "data: [DONE]\n\n",
    ]
}

#[test]
fn event_streams() {
    for stream in streams() {
        assert_renames(BodyFormat::EventStream, &stream);
        assert_renames(BodyFormat::EventStream, &stream.replace('\n', "\r\n"));
    }
}

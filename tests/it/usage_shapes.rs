//! Every shape in which engines report usage, whole and streamed, wherever the stream is split.

use serde_json::json;

use crate::client::post_with;
use crate::shapes::{CHAT, CHAT_REQUEST, MESSAGES_STREAM_REQUEST, STREAM_REQUEST};
use crate::upstream::Upstream;
use crate::usage::{billed, call};
use crate::webhook::tokens;

/// Path, request, answer and what it must be billed: prompt, completion, total, cached, reasoning.
type Case = (&'static str, &'static str, &'static str, [u64; 5]);

const WHOLE_ANSWERS: [Case; 11] = [
    (
        "/v1/chat/completions",
        CHAT_REQUEST,
        CHAT,
        [12, 3, 15, 0, 0],
    ),
    (
        "/v1/chat/completions",
        CHAT_REQUEST,
        r#"{"id":"x","choices":[{"index":0,"message":{"content":"\"usage\":{\"prompt_tokens\":999}"}}],"usage":{"prompt_tokens":40,"completion_tokens":20,"total_tokens":60,"prompt_tokens_details":{"cached_tokens":32},"completion_tokens_details":{"reasoning_tokens":15}}}"#,
        [40, 20, 60, 32, 15],
    ),
    (
        "/v1/chat/completions",
        CHAT_REQUEST,
        r#"{"choices":[],"usage":{"prompt_tokens":12,"total_tokens":15,"completion_tokens":3,"prompt_tokens_details":null,"reasoning_tokens":2}}"#,
        [12, 3, 15, 0, 2],
    ),
    (
        "/v1/completions",
        CHAT_REQUEST,
        r#"{"id":"cmpl-1","choices":[{"index":0,"text":" Paris"}],"usage":{"prompt_tokens":5,"total_tokens":21,"completion_tokens":16}}"#,
        [5, 16, 21, 0, 0],
    ),
    (
        "/v1/embeddings",
        CHAT_REQUEST,
        r#"{"object":"list","data":[{"index":0,"object":"embedding","embedding":[0.1,0.2]}],"usage":{"prompt_tokens":7,"total_tokens":7,"completion_tokens":0,"prompt_tokens_details":null}}"#,
        [7, 0, 7, 0, 0],
    ),
    (
        "/v1/responses",
        CHAT_REQUEST,
        r#"{"id":"resp_1","status":"completed","usage":{"input_tokens":120,"input_tokens_details":{"cached_tokens":30},"output_tokens":85,"output_tokens_details":{"reasoning_tokens":15},"total_tokens":205}}"#,
        [120, 85, 205, 30, 15],
    ),
    (
        "/v1/messages",
        CHAT_REQUEST,
        r#"{"id":"msg_1","type":"message","content":[],"usage":{"input_tokens":12,"output_tokens":3}}"#,
        [12, 3, 15, 0, 0],
    ),
    (
        "/v1/rerank",
        CHAT_REQUEST,
        r#"{"id":"score-1","results":[{"index":1,"relevance_score":0.98}],"usage":{"prompt_tokens":40,"total_tokens":40}}"#,
        [40, 0, 40, 0, 0],
    ),
    (
        "/v1/score",
        CHAT_REQUEST,
        r#"{"object":"list","data":[{"index":0,"object":"score","score":0.98}],"usage":{"prompt_tokens":40,"total_tokens":40,"completion_tokens":0}}"#,
        [40, 0, 40, 0, 0],
    ),
    (
        "/generate",
        r#"{"text":"x"}"#,
        r#"{"text":"Hi","meta_info":{"id":"g","finish_reason":{"type":"length","length":16},"prompt_tokens":5,"completion_tokens":16,"cached_tokens":4,"e2e_latency":0.3}}"#,
        [5, 16, 21, 4, 0],
    ),
    (
        "/v1/rerank",
        CHAT_REQUEST,
        r#"[{"score":0.9,"document":"a","index":0,"meta_info":{"prompt_tokens":11}},{"score":0.1,"document":"b","index":1,"meta_info":{"prompt_tokens":9}}]"#,
        [20, 0, 20, 0, 0],
    ),
];

#[test]
fn whole_answers_are_billed_whatever_their_shape() {
    let upstream = Upstream::start(|call| {
        let nth = call
            .request
            .head
            .field("x-case")
            .unwrap()
            .parse::<usize>()
            .unwrap();
        call.json(200, WHOLE_ANSWERS[nth].2);
    });
    let (webhook, gateway) = billed(&upstream);
    for (nth, (path, request, answer, expected)) in WHOLE_ANSWERS.into_iter().enumerate() {
        let (id, case) = (format!("case-{nth}"), nth.to_string());
        let fields = [("X-Request-Id", id.as_str()), ("X-Case", &case)];
        assert_eq!(
            gateway.call(post_with(path, &fields, request)).text(),
            answer
        );
        let event = webhook.event(&id);
        assert_eq!(tokens(&event), expected, "{path} answering {answer}");
        assert_eq!(
            (&event["usage_source"], &event["is_stream"]),
            (&json!("final"), &json!(false))
        );
    }
}

const STREAMED_ANSWERS: [Case; 7] = [
    (
        "/v1/completions",
        STREAM_REQUEST,
        "data: {\"choices\":[{\"index\":0,\"text\":\" Paris\"}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"total_tokens\":21,\"completion_tokens\":16}}\n\ndata: [DONE]\n\n",
        [5, 16, 21, 0, 0],
    ),
    (
        "/v1/chat/completions",
        STREAM_REQUEST,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\r\n\r\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":15,\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":8},\"reasoning_tokens\":1}}\r\n\r\ndata: [DONE]\r\n\r\n",
        [12, 3, 15, 8, 1],
    ),
    (
        "/v1/responses",
        STREAM_REQUEST,
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"usage\":null}}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":42,\"response\":{\"id\":\"resp_1\",\"usage\":{\"input_tokens\":120,\"input_tokens_details\":{\"cached_tokens\":30},\"output_tokens\":85,\"output_tokens_details\":{\"reasoning_tokens\":15},\"total_tokens\":205}}}\n\n",
        [120, 85, 205, 30, 15],
    ),
    (
        "/v1/messages",
        MESSAGES_STREAM_REQUEST,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":12,\"output_tokens\":0}}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"input_tokens\":12,\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        [12, 3, 15, 0, 0],
    ),
    (
        "/generate_stream",
        r#"{"inputs":"x","parameters":{"details":true}}"#,
        "data:{\"index\":1,\"token\":{\"id\":264,\"text\":\" a\"},\"generated_text\":null,\"details\":null}\n\ndata:{\"index\":2,\"token\":{\"id\":1296,\"text\":\" b\"},\"generated_text\":\" a b\",\"details\":{\"finish_reason\":\"length\",\"generated_tokens\":2,\"seed\":null,\"input_length\":5}}\n\n",
        [5, 2, 7, 0, 0],
    ),
    (
        "/generate",
        r#"{"text":"x","stream":true}"#,
        "data: {\"text\":\"H\",\"meta_info\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"cached_tokens\":0}}\n\ndata: {\"text\":\"Hi\",\"meta_info\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"cached_tokens\":0}}\n\ndata: [DONE]\n\n",
        [5, 2, 7, 0, 0],
    ),
    (
        "/v1/completions",
        STREAM_REQUEST,
        "data: {\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"total_tokens\":6}}\n\ndata: [DONE]\n\n",
        [5, 1, 6, 0, 0],
    ),
];

#[test]
fn streams_are_billed_whatever_their_shape_and_wherever_they_are_split() {
    let upstream = Upstream::start(|call| {
        let case = call.request.head.field("x-case").unwrap().to_owned();
        let (nth, size) = case.split_once('/').unwrap();
        let answer = STREAMED_ANSWERS[nth.parse::<usize>().unwrap()].2;
        call.stream(answer.as_bytes().chunks(size.parse().unwrap()));
    });
    let (webhook, gateway) = billed(&upstream);
    for (nth, (path, request, answer, expected)) in STREAMED_ANSWERS.into_iter().enumerate() {
        for size in [1, 7, 64, 4096] {
            let (id, case) = (format!("case-{nth}-{size}"), format!("{nth}/{size}"));
            let fields = [("X-Request-Id", id.as_str()), ("X-Case", &case)];
            gateway.call(post_with(path, &fields, request));
            let event = webhook.event(&id);
            assert_eq!(
                tokens(&event),
                expected,
                "{path}, pieces of {size}: {answer}"
            );
            assert_eq!(event["is_stream"], true);
        }
    }
}

#[test]
fn tgis_headers_are_billed_when_its_answer_has_no_details() {
    let upstream = Upstream::start(|call| {
        let fields = [
            ("Content-Type", "application/json"),
            ("x-prompt-tokens", "5"),
            ("x-generated-tokens", "2"),
        ];
        call.answer(200, &fields, r#"{"generated_text":" a test"}"#);
    });
    let (webhook, gateway) = billed(&upstream);
    for (id, path) in [("tgi-1", "/generate"), ("tgi-2", "/")] {
        call(&gateway, id, path, r#"{"inputs":"x"}"#);
        assert_eq!(tokens(&webhook.event(id)), [5, 2, 7, 0, 0], "{path}");
    }
}

#[test]
fn an_answer_without_usage_is_estimated_and_says_so() {
    let upstream = Upstream::json(200, r#"{"choices":[{"message":{"content":"12345678"}}]}"#);
    let (webhook, gateway) = billed(&upstream);
    call(&gateway, "none", "/v1/chat/completions", CHAT_REQUEST);
    let event = webhook.event("none");
    assert_eq!(event["usage_source"], "estimated");
    assert!(tokens(&event)[0] >= 1 && tokens(&event)[1] >= 2, "{event}");
}

#[test]
fn continuous_usage_makes_a_cut_stream_exact() {
    const CUT: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}"#;
    let upstream = Upstream::start(|call| {
        call.sse();
        call.event(r#"{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":12,"total_tokens":13,"completion_tokens":1}}"#);
        call.event(r#"{"choices":[{"index":0,"delta":{"content":"b"}}],"usage":{"prompt_tokens":12,"total_tokens":14,"completion_tokens":2}}"#);
        call.close();
    });
    let (webhook, gateway) = billed(&upstream);
    call(&gateway, "cut", "/v1/chat/completions", CUT);
    let event = webhook.event("cut");
    assert_eq!(tokens(&event), [12, 2, 14, 0, 0]);
    assert_eq!(event["usage_source"], "continuous");
}

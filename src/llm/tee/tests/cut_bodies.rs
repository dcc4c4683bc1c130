//! Bodies that break off.

use super::cuts::{NOTHING, billed};
use super::*;

/// Replays a body cut at every byte: nothing but an estimate of the prompt before `known` arrived.
fn replay_body(endpoint: Endpoint, body: &str, known: &str, bill: [u64; 2]) {
    let end = body.find(known).unwrap() + known.len();
    for cut in 0..=body.len() {
        let mut tee = Tee::new(endpoint, BodyFormat::Json);
        tee.observe(&body.as_bytes()[..cut]);
        let expected = if cut < end { NOTHING } else { (bill, Final) };
        assert_eq!(billed(&tee.summary()), expected, "{}", &body[..cut]);
        assert!(!tee.is_done(), "how a body ends is the caller's to know");
    }
}

#[test]
fn bodies_are_estimated_until_their_usage_is_whole() {
    let usage = r#""usage":{"prompt_tokens":7,"total_tokens":7}"#;
    replay_body(
        Embeddings,
        &format!(r#"{{"object":"list","data":[{{"embedding":[0.1,0.2]}}],{usage}}}"#),
        usage,
        [7, 0],
    );
    replay_body(
        Rerank,
        &format!(r#"{{"id":"s",{usage},"results":[{{"index":0,"relevance_score":0.5}}]}}"#),
        usage,
        [7, 0],
    );
    // Half of the documents would be half of the bill.
    let sglang = r#"[{"score":0.9,"index":0,"meta_info":{"prompt_tokens":11}},{"score":0.1,"index":1,"meta_info":{"prompt_tokens":13}}]"#;
    replay_body(Rerank, sglang, sglang, [24, 0]);
}

#[test]
fn a_whole_answer_that_breaks_off_is_billed_what_arrived() {
    let body = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"12345678"},"finish_reason":"stop"},{"index":1,"message":{"content":"1234"}}],"usage":{"prompt_tokens":3,"completion_tokens":9,"total_tokens":12}}"#;
    for (until, bill) in [
        (r#""12345678""#, [10, 2]),
        (r#""1234""#, [10, 3]),
        (r#""completion_tokens":9"#, [10, 3]),
        (r#""total_tokens":12}"#, [3, 9]),
    ] {
        let mut tee = Tee::new(ChatCompletions, BodyFormat::Json);
        tee.observe(&body.as_bytes()[..body.find(until).unwrap() + until.len()]);
        assert_eq!(billed(&tee.summary()).0, bill, "{until}");
    }
}

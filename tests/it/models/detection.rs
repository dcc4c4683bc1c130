//! Which answers are failures, as the operator says.

use super::{
    A_THEN_B, QUICK, a_fails, ask, assert_nobody_rests, assert_rests, chat, fail, fleet, rests,
};
use crate::client::post;
use crate::gateway::{Gateway, backends};
use crate::shapes::{CHAT, content_and_done, sse};
use crate::upstream::{Call, Upstream};

const PATTERNS: &str = "detection: {error_patterns: [\"Insufficient_Quota\", billing]}\nfallback: {cooldown_seconds: 100}\n";

#[test]
fn only_listed_statuses_are_tried_elsewhere() {
    for (status, codes, elsewhere) in [
        (503, "[429]", false),
        (503, "[5xx]", true),
        (503, "[503]", true),
        (501, "[5xx]", true),
        (501, "[429]", false),
        (418, "[418]", true),
        (404, "[\"4XX\"]", true),
        (429, "[5xx]", false),
        (503, "[]", false),
    ] {
        let upstream = fleet([status, 200]);
        let gateway = Gateway::before(
            &upstream,
            &format!("{A_THEN_B}detection: {{error_codes: {codes}}}\n"),
        );
        let expected = if elsewhere { 200 } else { status };
        assert_eq!(ask(&gateway, "m").status, expected, "{status} with {codes}");
        if !elsewhere {
            assert_nobody_rests(&gateway);
        }
    }
}

#[test]
fn a_bad_request_that_all_refuse_comes_back_as_the_first_one_said() {
    let upstream = fleet([400, 422]);
    let gateway = Gateway::before(
        &upstream,
        &format!("{A_THEN_B}detection: {{error_codes: [4xx]}}\n"),
    );
    assert_eq!(ask(&gateway, "m").status, 400);
    assert_eq!(upstream.shares(), [1, 1], "and is not repeated");
    assert_nobody_rests(&gateway);
}

#[test]
fn a_text_in_an_error_moves_the_call_and_rests_the_route() {
    const QUOTA: &str = r#"{"error":{"message":"You exceeded it.","code":"insufficient_quota"}}"#;
    let faults: [fn(&mut Call); 6] = [
        |call| call.json(400, QUOTA),
        |call| call.json(402, &QUOTA.to_uppercase()),
        |call| call.json(404, QUOTA),
        |call| call.json(200, QUOTA),
        |call| call.stream([sse([QUOTA])]),
        |call| call.answer(401, &[("Content-Type", "text/html")], "<h1>Billing</h1>"),
    ];
    for (nth, fault) in faults.into_iter().enumerate() {
        let upstream = a_fails(fault);
        let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{PATTERNS}"));
        assert_eq!(ask(&gateway, "m").status, 200, "fault {nth}");
        let moved = gateway.metric("llmproxy_fallbacks_total{reason=\"pattern\"}");
        assert!((moved - 1.0).abs() < f64::EPSILON, "fault {nth}");
        assert_rests(&gateway, "a", "big", 100.0);
    }
}

#[test]
fn it_is_found_wherever_the_first_event_is_cut() {
    const EVENT: &str = "data: {\"error\":{\"message\":\"insufficient_quota\",\"code\":400}}\n\n";
    let upstream = a_fails(|call| {
        let (first, second) = EVENT.split_at((call.nth() / 2).clamp(1, EVENT.len() - 1));
        call.stream([first, second]);
    });
    let yaml = format!("{A_THEN_B}{}", PATTERNS.replace("100", "0"));
    let gateway = Gateway::before(&upstream, &yaml);
    let mut client = gateway.connect();
    for cut in 0..EVENT.len() {
        let answer = client.call(post("/v1/chat/completions", chat("m", ",\"stream\":true")));
        let expected = content_and_done().replace("Qwen/Qwen3-32B", "m");
        assert_eq!(answer.text(), expected, "cut at {cut}");
    }
    let moved = gateway.metric("llmproxy_fallbacks_total{reason=\"pattern\"}");
    assert!((moved - EVENT.len() as f64).abs() < f64::EPSILON, "{moved}");
}

#[test]
fn it_is_looked_for_in_the_whole_first_event_and_no_further() {
    let long = format!(
        "data: {{\"error\":{{\"message\":\"{} insufficient_quota\",\"code\":400}}}}\n\n",
        "x".repeat(5000)
    );
    let plain = "event: error\ndata: {\"code\":400}\ndata: insufficient_quota\n\n".to_owned();
    let later = sse([
        r#"{"error":{"message":"too long","code":400}}"#,
        "insufficient_quota",
    ]);
    for (stream, moves) in [(long, true), (plain, true), (later, false)] {
        for size in [1, 4500, stream.len()] {
            let pieces: Vec<Vec<u8>> = stream.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let upstream = a_fails(move |call| call.stream(&pieces));
            let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{PATTERNS}"));
            gateway.call(post("/v1/chat/completions", chat("m", ",\"stream\":true")));
            let moved = gateway.metric("llmproxy_fallbacks_total{reason=\"pattern\"}") > 0.5;
            assert_eq!(moved, moves, "in pieces of {size}: {stream:.60}");
        }
    }
}

#[test]
fn an_answer_that_speaks_of_it_is_a_good_one() {
    const ANSWER: &str = r#"{"id":"x","model":"m","choices":[{"message":{"content":"{\"error\": insufficient_quota billing"}}],"error":null}"#;
    const EVENTS: [&str; 3] = [
        r#"{"choices":[{"index":0,"delta":{"content":"insufficient_quota"}}]}"#,
        r#"{"error":{"message":"insufficient_quota"}}"#,
        "[DONE]",
    ];
    let upstream = Upstream::fleet(2, |call| match call.target() {
        "/v1/completions" => call.stream([sse(EVENTS)]),
        _ => call.json(200, ANSWER),
    });
    let gateway = Gateway::before(
        &upstream,
        &format!(
            "models: {{m: {{routes: [{{backend: a}}, {{backend: b, priority: 1}}]}}}}\n{PATTERNS}"
        ),
    );
    assert_eq!(ask(&gateway, "m").text(), ANSWER);
    // What goes wrong after the first event is the client's to see.
    let stream = gateway.call(post(
        "/v1/completions",
        r#"{"model":"m","prompt":"x","stream":true,"stream_options":{"include_usage":true}}"#,
    ));
    assert_eq!(stream.text(), sse(EVENTS));
    assert_eq!(upstream.shares(), [2, 0]);
    assert_nobody_rests(&gateway);
}

#[test]
fn a_caller_that_puts_it_into_a_bad_request_gets_no_route_closed() {
    let upstream = Upstream::fleet(2, |call| {
        let body = String::from_utf8_lossy(&call.request.body).into_owned();
        call.json(
            400,
            &format!("{{\"error\":{{\"message\":\"cannot read this\",\"input\":{body}}}}}"),
        );
    });
    let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{PATTERNS}"));
    for text in ["insufficient_quota", "INSUFFICIENT_QUOTA", "Billing"] {
        let body = chat("m", &format!(",\"user\":\"{text}\""));
        assert_eq!(gateway.call(post("/v1/chat/completions", body)).status, 400);
    }
    assert_eq!(
        upstream.shares(),
        [3, 3],
        "others may all the same know better"
    );
    assert_nobody_rests(&gateway);
}

#[test]
fn a_credential_of_ours_that_is_refused_is_tried_elsewhere() {
    for (status, rests) in [(401, true), (402, true), (403, false)] {
        let upstream = fleet([status, 200]);
        let with_keys = backends(&upstream).replace("}\n", ", api_key: sk-ours}\n");
        let lengths = "fallback: {cooldown_seconds: 100}\n";
        let gateway = Gateway::start(&format!("{with_keys}{A_THEN_B}{lengths}"));
        assert_eq!(ask(&gateway, "m").status, 200, "{status}");
        match rests {
            true => assert_rests(&gateway, "a", "big", 100.0),
            // It may be about what the request says.
            false => assert_nobody_rests(&gateway),
        }
    }
    let upstream = fleet([401, 200]);
    let gateway = Gateway::before(&upstream, A_THEN_B);
    assert_eq!(
        ask(&gateway, "m").status,
        401,
        "a credential of the client's is its own affair"
    );
    assert_nobody_rests(&gateway);
}

#[test]
fn an_error_in_a_whole_answer_counts_as_what_it_stands_for() {
    for (answer, reason) in [
        (r#"{"error":{"message":"x","code":503}}"#, "error_event"),
        (
            r#"{"error":{"message":"x","type":"rate_limit_error"}}"#,
            "status_429",
        ),
        (
            r#"{"object":"error","message":"x","code":502}"#,
            "error_event",
        ),
        (
            r#"{"id":"x","model":"big","error":"Model is overloaded"}"#,
            "status_429",
        ),
    ] {
        let upstream = a_fails(move |call| call.json(200, answer));
        let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{QUICK}"));
        assert_eq!(
            ask(&gateway, "m").text(),
            CHAT.replace("Qwen/Qwen3-32B", "m")
        );
        let moved = gateway.metric(&format!("llmproxy_fallbacks_total{{reason=\"{reason}\"}}"));
        assert!((moved - 1.0).abs() < f64::EPSILON, "{answer}");
        assert!(rests(&gateway) > 0.5, "{answer}");
    }
    const CALLERS: &str =
        r#"{"error":{"message":"bad","type":"invalid_request_error","code":400}}"#;
    let upstream = a_fails(|call| call.json(200, CALLERS));
    let gateway = Gateway::before(&upstream, A_THEN_B);
    assert_eq!(ask(&gateway, "m").text(), CALLERS);
    assert_nobody_rests(&gateway);
}

#[test]
fn an_answer_that_says_that_nothing_is_wrong_is_a_good_one() {
    for value in ["null", "false", "\"\"", "0", "[]"] {
        let answer = format!(r#"{{"error":{value},"choices":[]}}"#);
        let expected = answer.clone();
        let upstream = a_fails(move |call| call.json(200, &answer));
        let gateway = Gateway::before(&upstream, A_THEN_B);
        assert_eq!(ask(&gateway, "m").text(), expected);
        assert_eq!(upstream.shares(), [1, 0]);
    }
}

#[test]
fn an_answer_that_breaks_off_before_it_is_known_is_tried_elsewhere() {
    let faults: [fn(&mut Call); 3] = [
        |call| {
            call.raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"id\":\"x\",\"mod");
            call.close();
        },
        |call| {
            call.raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"id\"");
        },
        |call| fail(call, 503),
    ];
    for (nth, fault) in faults.into_iter().enumerate() {
        let upstream = a_fails(fault);
        let models = A_THEN_B.replace("m: {", "m: {request_timeout: 1s, ");
        let gateway = Gateway::before(&upstream, &models);
        assert_eq!(
            ask(&gateway, "m").text(),
            CHAT.replace("Qwen/Qwen3-32B", "m"),
            "fault {nth}"
        );
    }
}

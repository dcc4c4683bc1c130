//! How often a call is tried, and where.

use std::time::{Duration, Instant};

use super::{A_THEN_B, QUICK, a_fails, ask, asked, fleet};
use crate::client::post;
use crate::gateway::Gateway;
use crate::upstream::{Call, Upstream};

/// Asks once, with these lines in the configuration, and says who was asked.
fn attempts<const N: usize>(statuses: [u16; N], more: &str) -> String {
    let upstream = fleet(statuses);
    let routes = ('a'..='z').take(N).enumerate();
    let routes = routes.map(|(nth, backend)| format!("{{backend: {backend}, priority: {nth}}}"));
    let routes = routes.collect::<Vec<_>>().join(", ");
    let models =
        format!("models: {{m: {{routes: [{routes}]}}, other: {{num_retries: 2, extends: m}}}}\n");
    let quick = if more.contains("routing:") { "" } else { QUICK };
    let gateway = Gateway::before(&upstream, &format!("{models}{quick}{more}"));
    let name = if more.contains("# other") {
        "other"
    } else {
        "m"
    };
    let last = *statuses.last().unwrap();
    let expected = if last == 200 { 200 } else { 503 };
    assert_eq!(ask(&gateway, name).status, expected, "{statuses:?} {more}");
    let backends = asked(&upstream);
    backends.iter().map(|one| &one[..1]).collect()
}

#[test]
fn a_request_has_as_many_attempts_as_are_configured() {
    for (more, expected) in [
        ("fallback: {max_retries: 1}\n", "a"),
        ("fallback: {max_retries: 2}\n", "ab"),
        ("fallback: {max_retries: 0}\n", "abcdef"),
        // Every route has its turn.
        ("", "abcdef"),
        ("routing: {retry: {enabled: false}}\n", "abcdef"),
    ] {
        assert_eq!(attempts([503; 6], more), expected, "{more}");
    }
}

#[test]
fn when_all_were_tried_they_are_tried_again_while_retries_are_left() {
    assert_eq!(attempts([503; 2], ""), "abab");
    assert_eq!(attempts([503; 2], "fallback: {max_retries: 0}\n"), "abab");
    assert_eq!(attempts([503; 1], ""), "aaaa");
    let none = "fallback: {max_retries: 0}\nrouting: {retry: {enabled: false}}\n";
    assert_eq!(attempts([503; 2], none), "ab");
}

#[test]
fn a_route_is_tried_as_often_as_its_model_says_before_the_next_one() {
    let unlimited = "fallback: {max_retries: 0, num_retries: 3}\n";
    assert_eq!(attempts([503; 2], unlimited), "aaabbb");
    assert_eq!(attempts([503; 2], &format!("{unlimited}# other\n")), "aabb");
    let each_thrice = "fallback: {num_retries: 3}\n";
    assert_eq!(attempts([503; 3], each_thrice), "aaabbbccc");
    let four = "fallback: {num_retries: 3, max_retries: 4}\n";
    assert_eq!(attempts([503; 3], four), "aaab");
    assert_eq!(attempts([503, 200], "# other\n"), "aab");
    // Asking again at once what has said that it is too busy, or refuses, is no use.
    assert_eq!(attempts([429, 200], unlimited), "ab");
}

#[test]
fn replacements_are_asked_also_where_there_is_no_budget_for_repetitions() {
    let none = "routing: {retry: {initial_wait: 1ms, budget: {ratio: 0, min_per_second: 0}}}\n";
    assert_eq!(attempts([503, 503, 200], none), "abc");
    assert_eq!(attempts([503; 2], none), "ab");
    let each_twice = format!("fallback: {{num_retries: 2}}\n{none}");
    assert_eq!(attempts([503, 503, 200], &each_twice), "abc");
}

#[test]
fn a_500_visits_what_is_written_down_but_nothing_twice() {
    let upstream = fleet([500; 3]);
    let models = "models: {m: {routes: [{backend: a}, {backend: b, priority: 1}, {backend: c, priority: 2}]}}\n";
    let gateway = Gateway::before(&upstream, &format!("{models}{QUICK}"));
    assert_eq!(ask(&gateway, "m").status, 500);
    assert_eq!(asked(&upstream), ["a:m", "b:m", "c:m"]);
}

#[test]
fn a_call_that_the_backend_remembers_is_not_made_twice() {
    for fault in [
        |call: &mut Call| super::fail(call, 503),
        |call: &mut Call| super::fail(call, 429),
        Call::reset,
    ] {
        let upstream = a_fails(fault);
        let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{QUICK}"));
        let body = r#"{"model":"m","input":"x","store":true}"#;
        assert_ne!(gateway.call(post("/v1/responses", body)).status, 200);
        assert_eq!(upstream.shares(), [1, 0]);
    }
}

#[test]
fn it_is_made_elsewhere_where_nothing_was_sent() {
    let upstream = Upstream::start(|call| call.json(200, r#"{"id":"resp_1","model":"small"}"#));
    let addrs = [crate::upstream::refused(), upstream.addr()];
    let gateway = Gateway::start(&format!(
        "{}{A_THEN_B}",
        crate::gateway::backends_at(&addrs)
    ));
    let body = r#"{"model":"m","input":"x","store":true}"#;
    assert_eq!(
        gateway.call(post("/v1/responses", body)).json()["model"],
        "m"
    );
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_model_has_its_own_patience() {
    let upstream = a_fails(Call::hang);
    let models = A_THEN_B.replace("m: {", "m: {request_timeout: 1s, ");
    let gateway = Gateway::before(&upstream, &models);
    let started = Instant::now();
    assert_eq!(ask(&gateway, "m").status, 200);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert!((gateway.moves("first_byte_timeout") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_request_that_many_choke_on_visits_eight_and_no_more() {
    let upstream = fleet([500; 10]);
    let route = |(nth, backend)| format!("{{backend: {backend}, priority: {nth}}}");
    let routes: Vec<String> = ('a'..='j').enumerate().map(route).collect();
    let models = format!("models: {{m: {{routes: [{}]}}}}\n", routes.join(", "));
    let gateway = Gateway::before(&upstream, &format!("{models}{QUICK}"));
    assert_eq!(ask(&gateway, "m").status, 500);
    let visited: String = asked(&upstream).iter().map(|one| &one[..1]).collect();
    assert_eq!(visited, "abcdefgh");
    // That one of them chokes often counts once.
    let often = "fallback: {num_retries: 9}\n";
    assert_eq!(attempts([500, 200], often), "aaaaaaaaab");
}

//! Who is asked, in which order, until one answers.

use super::{A_THEN_B, QUICK, a_fails, ask, asked, chat, fail, fleet};
use crate::client::{post, post_with};
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error, backends};
use crate::shapes;
use crate::upstream::{Gate, Upstream, refused};

#[test]
fn routes_go_by_priority_then_replacements_then_chains_each_once() {
    let upstream = fleet([503; 6]);
    let models = r#"
models:
  m: {routes: [{backend: b, model: m-b, priority: 5}, {backend: a, model: m-a, priority: -1}], fallbacks: [first, nowhere]}
  first: {routes: [{backend: c}], fallbacks: [never]}
  never: {routes: [{backend: d}]}
  chained: {routes: [{backend: d, model: up}, {backend: a, model: m-a, priority: 1}]}
  off: {enabled: false, routes: [{backend: e, model: up}]}
  behind-off: {routes: [{backend: f}]}
  end: {routes: [{backend: e, enabled: false}, {backend: e, model: last}]}
fallback:
  max_retries: 0
  alias_fallback:
    m: [off, chained, gone]
    chained: [end, m]
    end: [chained]
    first: [never]
    off: [behind-off]
    gone: [behind-off]
"#;
    let gateway = Gateway::before(&upstream, &format!("{models}{QUICK}"));
    assert_eq!(ask(&gateway, "m").status, 503);
    assert_eq!(
        asked(&upstream),
        ["a:m-a", "b:m-b", "c:first", "d:up", "e:last"]
    );
    for skipped in ["nowhere", "off", "gone"] {
        assert!(
            gateway.log().contains(&format!("`{skipped}`")),
            "no word of {skipped}"
        );
    }
}

#[test]
fn the_other_way_round_a_cycle_is_followed_from_where_it_is_entered() {
    let upstream = fleet([503; 3]);
    let models = r#"
models:
  one: {routes: [{backend: a}]}
  two: {routes: [{backend: b}]}
  three: {routes: [{backend: c}]}
fallback: {max_retries: 3, alias_fallback: {one: [two], two: [three], three: [one]}}
"#;
    let gateway = Gateway::before(&upstream, &format!("{models}{QUICK}"));
    assert_eq!(ask(&gateway, "two").status, 503);
    assert_eq!(asked(&upstream), ["b:two", "c:three", "a:one"]);
}

#[test]
fn equals_share_by_weight_and_replace_each_other_before_the_next_priority() {
    let upstream = Upstream::fleet(3, |call| match call.nth() < 40 {
        true => shapes::vllm(call),
        false => fail(call, 503),
    });
    let models = "models: {m: {load_balance: weighted, routes: [{backend: a, weight: 3}, {backend: b}, {backend: c, priority: 1}]}}\n";
    let gateway = Gateway::before(
        &upstream,
        &format!("{models}{QUICK}fallback: {{max_retries: 3}}\n"),
    );
    for _ in 0..40 {
        ask(&gateway, "m");
    }
    assert_eq!(upstream.shares(), [30, 10, 0]);
    ask(&gateway, "m");
    let mut last = asked(&upstream).split_off(40);
    assert_eq!(last.pop().unwrap(), "c:m");
    last.sort_unstable();
    assert_eq!(last, ["a:m", "b:m"]);
}

#[test]
fn one_backend_may_replace_one_of_its_models_by_another() {
    let upstream = Upstream::start(|call| {
        match String::from_utf8_lossy(&call.request.body).contains("\"big\"") {
            true => fail(call, 503),
            false => shapes::vllm(call),
        }
    });
    let models = "models: {m: {routes: [{backend: a, model: big}, {backend: a, model: small, priority: 1}]}}\n";
    let gateway = Gateway::before(&upstream, models);
    assert_eq!(ask(&gateway, "m").status, 200);
    assert_eq!(ask(&gateway, "m").status, 200);
    assert_eq!(asked(&upstream), ["a:big", "a:small", "a:small"]);
}

#[test]
fn a_backend_that_is_off_is_passed_over() {
    let upstream = fleet([200, 200]);
    let backends = backends(&upstream).replace("name: a,", "name: a, enabled: false,");
    let models = r#"
models:
  m: {routes: [{backend: a}, {backend: b, model: up, priority: 1}]}
  nobody: {routes: [{backend: a}]}
  replaced: {routes: [{backend: a}], fallbacks: [m]}
"#;
    let gateway = Gateway::start(&format!("{backends}{models}"));
    assert_eq!(ask(&gateway, "m").status, 200);
    assert_eq!(ask(&gateway, "replaced").json()["model"], "replaced");
    assert_eq!(asked(&upstream), ["b:up", "b:up"]);
    let nobody = ask(&gateway, "nobody");
    assert_openai_error(&nobody, 503, "no_backend");
    assert_ne!(nobody.field("retry-after"), "");
}

#[test]
fn nothing_reaches_the_client_before_an_answer_is_good() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::fleet(2, move |call| match call.request.listener {
        0 => call.answer(503, &[("X-Failed", "1"), ("Set-Cookie", "failed=1")], "no"),
        _ => {
            opened.pass();
            shapes::vllm(call);
        }
    });
    let gateway = Gateway::before(&upstream, A_THEN_B);
    let mut client = gateway.connect();
    client.send(post("/v1/chat/completions", chat("m", "")));
    eventually("the second one is asked", || upstream.count() == 2);
    gate.open();
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert_eq!(
        (answer.field("x-failed"), answer.field("set-cookie")),
        ("", "")
    );
}

#[test]
fn when_all_fail_the_last_real_answer_arrives_with_its_headers() {
    let upstream = Upstream::fleet(3, |call| match call.request.listener {
        0 => fail(call, 502),
        1 => {
            let fields = [
                ("Content-Type", "application/json"),
                ("Retry-After", "17"),
                ("X-Which", "second"),
                ("Set-Cookie", "a=1"),
                ("Set-Cookie", "b=2"),
            ];
            call.answer(529, &fields, "{\"error\": \"of the second\"}\n");
        }
        _ => call.reset(),
    });
    let models = "models: {m: {routes: [{backend: a}, {backend: b, priority: 1}, {backend: c, priority: 2}]}}\nfallback: {max_retries: 3}\n";
    let gateway = Gateway::before(&upstream, &format!("{models}{QUICK}"));
    let answer = ask(&gateway, "m");
    assert_eq!(asked(&upstream), ["a:m", "b:m", "c:m"]);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (529, "{\"error\": \"of the second\"}\n")
    );
    assert_eq!(
        (answer.field("retry-after"), answer.field("x-which")),
        ("17", "second")
    );
    assert_eq!(
        answer.head.all("set-cookie").collect::<Vec<_>>(),
        ["a=1", "b=2"]
    );
}

#[test]
fn when_nobody_answered_at_all_the_gateway_says_so_itself() {
    let (one, other) = (refused(), refused());
    let gateway = Gateway::start(&format!(
        "{}{A_THEN_B}fallback: {{max_retries: 2}}\n",
        crate::gateway::backends_at(&[one, other])
    ));
    assert_openai_error(&ask(&gateway, "m"), 502, "upstream_unreachable");
}

#[test]
fn every_move_is_counted_by_its_reason() {
    let upstream = a_fails(|call| fail(call, 503));
    let gateway = Gateway::before(&upstream, A_THEN_B);
    assert_eq!(ask(&gateway, "m").status, 200);
    let moved = gateway.metric("llmproxy_fallbacks_total{reason=\"status_5xx\"}");
    let rested = gateway
        .metric("llmproxy_cooldowns_total{backend=\"a\",model=\"big\",reason=\"status_5xx\"}");
    assert_eq!((moved, rested), (1.0, 1.0));
    assert!(gateway.metric("llmproxy_retries_total") < f64::EPSILON);
}

#[test]
fn a_script_chooses_among_the_backends_of_the_model_only() {
    let upstream = fleet([200, 503, 200]);
    let hook = "hooks:\n  on_route:\n    script: |\n      local names = ''\n      for _, one in ipairs(backends) do names = names .. one.name end\n      log('among ' .. names)\n      if backends[request.headers['x-want']] then return request.headers['x-want'] end\n";
    let gateway = Gateway::before(&upstream, &format!("{A_THEN_B}{hook}{QUICK}"));
    for (wanted, expected) in [
        ("b", &["b:small", "a:big"][..]),
        ("c", &["a:big"]),
        ("a", &["a:big"]),
    ] {
        let before = upstream.count();
        let fields = [("X-Want", wanted)];
        let answer = gateway.call(post_with("/v1/chat/completions", &fields, chat("m", "")));
        assert_eq!(answer.status, 200);
        assert_eq!(
            asked(&upstream).split_off(before),
            expected,
            "wanted {wanted}"
        );
    }
    assert!(gateway.log().contains("among ab"), "{}", gateway.log());
}

//! Who gets the next request, seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::post;
use crate::eventually;
use crate::gateway::{Gateway, backends};
use crate::shapes::{CHAT, CHAT_REQUEST, CONTENT, STREAM_REQUEST};
use crate::upstream::{Gate, Upstream};
use crate::wire::End;

fn healthy(count: usize) -> Upstream {
    Upstream::fleet(count, |call| call.json(200, CHAT))
}

/// This many calls, one after the other, on one connection.
fn calls(gateway: &Gateway, count: usize) {
    let mut client = gateway.connect();
    for _ in 0..count {
        assert_eq!(
            client
                .call(post("/v1/chat/completions", CHAT_REQUEST))
                .status,
            200
        );
    }
}

#[test]
fn weights_are_kept_exactly_and_smoothly() {
    let upstream = healthy(3);
    let list = ["5", "3", "2"].iter().zip(upstream.addrs());
    let list: String = list
        .map(|(weight, addr)| format!("  - {{url: \"http://{addr}\", weight: {weight}}}\n"))
        .collect();
    let routing = "routing: {load_balance: weighted, slow_start: 0s}\n";
    let gateway = Gateway::start(&format!("backends:\n{list}{routing}"));
    calls(&gateway, 100);
    assert_eq!(upstream.shares(), [50, 30, 20]);
    let seen = upstream.requests();
    let longest_run = seen
        .chunk_by(|a, b| a.listener == b.listener)
        .map(<[_]>::len)
        .max();
    assert!(
        longest_run <= Some(2),
        "weights 5/3/2 need no run of {longest_run:?}"
    );
}

#[test]
fn round_robin_takes_turns() {
    let upstream = healthy(3);
    let gateway = Gateway::before(
        &upstream,
        "routing: {load_balance: round_robin, slow_start: 0s}\n",
    );
    calls(&gateway, 30);
    assert_eq!(upstream.shares(), [10, 10, 10]);
    let seen = upstream.requests();
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].listener != pair[1].listener)
    );
}

#[test]
fn the_seeds_name_for_the_strategy_works_too() {
    let upstream = healthy(2);
    let gateway = Gateway::before(
        &upstream,
        "routing: {load_balance_strategy: round_robin, slow_start: 0s}\n",
    );
    calls(&gateway, 10);
    assert_eq!(upstream.shares(), [5, 5]);
}

#[test]
fn random_is_fair_in_the_long_run() {
    let upstream = healthy(2);
    let gateway = Gateway::before(
        &upstream,
        "routing: {load_balance: random, slow_start: 0s}\n",
    );
    calls(&gateway, 400);
    let share = upstream.shares()[0];
    assert!(
        (140..=260).contains(&share),
        "six standard deviations off: {share} of 400"
    );
}

#[test]
fn least_connections_counts_a_stream_until_its_last_byte() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::fleet(2, move |call| {
        if call.nth() == 0 {
            call.sse();
            call.event(CONTENT[0]);
            opened.pass();
            call.end();
        } else {
            call.json(200, CHAT);
        }
    });
    let gateway = Gateway::before(
        &upstream,
        "routing: {load_balance: least_connections, slow_start: 0s}\n",
    );
    let mut stream = gateway.open(post("/v1/chat/completions", STREAM_REQUEST));
    assert!(stream.event().is_some());
    calls(&gateway, 6);
    let busy = upstream.request(0).listener;
    assert_eq!(
        upstream.shares()[busy],
        1,
        "the backend with a running stream got more work"
    );
    gate.open();
    assert_eq!(stream.rest().1, End::Complete);
    calls(&gateway, 6);
    assert!(
        upstream.shares()[busy] > 1,
        "the finished stream still counts"
    );
}

#[test]
fn latency_based_prefers_the_faster_backend() {
    let upstream = Upstream::fleet(2, |call| {
        if call.request.listener == 0 {
            call.closed_within(Duration::from_millis(60));
        }
        call.json(200, CHAT);
    });
    let gateway = Gateway::before(
        &upstream,
        "routing: {load_balance: latency_based, slow_start: 0s}\n",
    );
    calls(&gateway, 60);
    let shares = upstream.shares();
    assert!(shares[1] >= 42, "the fast backend got {} of 60", shares[1]);
}

#[test]
fn failing_fast_does_not_attract_traffic() {
    let upstream = Upstream::fleet(2, |call| match call.request.listener {
        0 => call.json(503, "{}"),
        _ => {
            call.closed_within(Duration::from_millis(5));
            call.json(200, CHAT);
        }
    });
    let routing =
        "routing: {load_balance: latency_based, slow_start: 0s, breaker: {failures: 1000}}\n";
    let gateway = Gateway::before(&upstream, routing);
    calls(&gateway, 60);
    let shares = upstream.shares();
    assert!(
        shares[0] <= 20,
        "the failing backend was tried {} times for 60 calls",
        shares[0]
    );
}

#[test]
fn a_dead_backend_leaves_the_rotation() {
    let upstream = Upstream::fleet(2, |call| match call.request.listener {
        0 => call.json(503, "{}"),
        _ => call.json(200, CHAT),
    });
    let gateway = Gateway::before(
        &upstream,
        "routing: {slow_start: 0s, breaker: {failures: 2, open: 60s}}\n",
    );
    calls(&gateway, 20);
    assert_eq!(upstream.shares(), [2, 20]);
    eventually("the breaker shows", || {
        gateway.metric("llmproxy_backend_open{backend=\"a\"}") > 0.5
    });
}

#[test]
fn a_backend_that_comes_back_gets_traffic_again() {
    let dead = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&dead);
    let upstream = Upstream::fleet(2, move |call| {
        match call.request.listener == 0 && switch.load(Ordering::Relaxed) {
            true => call.json(503, "{}"),
            false => call.json(200, CHAT),
        }
    });
    let routing =
        "routing: {slow_start: 0s, breaker: {failures: 1, open: 100ms, max_open: 200ms}}\n";
    let gateway = Gateway::before(&upstream, routing);
    calls(&gateway, 4);
    dead.store(false, Ordering::Relaxed);
    let before = upstream.shares()[0];
    eventually("the backend gets more than a probe", || {
        calls(&gateway, 2);
        upstream.shares()[0] > before + 3
    });
}

#[test]
fn a_disabled_backend_gets_nothing() {
    let upstream = healthy(2);
    let yaml = backends(&upstream).replacen("name: a,", "name: a, enabled: false,", 1);
    let gateway = Gateway::start(&yaml);
    calls(&gateway, 6);
    assert_eq!(upstream.shares(), [0, 6]);
}

#[test]
fn tickets_are_returned_however_a_request_ends() {
    let upstream = Upstream::fleet(2, |call| match call.nth() % 5 {
        0 => call.reset(),
        1 => call.json(503, "{}"),
        2 => call.hang(),
        3 => call.json(404, "{}"),
        _ => call.json(200, CHAT),
    });
    let more = "routing: {breaker: {failures: 1000}}\ntimeouts: {first_byte: 20ms}\n";
    let gateway = Gateway::before(&upstream, more);
    for _ in 0..40 {
        gateway.chat();
    }
    for _ in 0..10 {
        gateway
            .connect()
            .send(post("/v1/chat/completions", CHAT_REQUEST));
    }
    eventually("nothing is in flight", || {
        gateway.metric("llmproxy_requests_in_flight") < 0.5
    });
}

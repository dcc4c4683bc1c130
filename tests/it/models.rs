//! Models by name: who serves them, how they are called on both sides, and what replaces a route that fails.

mod attempts;
mod callers;
mod credentials;
mod detection;
mod groups;
mod list;
mod names;
mod order;
mod rename;
mod rests;
mod shaping;
mod streams;

use serde_json::Value;

use crate::client::{Answer, post};
use crate::gateway::Gateway;
use crate::shapes;
use crate::upstream::{Call, Request, Upstream};

/// Repetitions follow at once.
const QUICK: &str = "routing: {retry: {initial_wait: 1ms}}\n";

/// A model `m` that is served by `a` and, if that fails, by `b`.
const A_THEN_B: &str =
    "models: {m: {routes: [{backend: a, model: big}, {backend: b, model: small, priority: 1}]}}\n";

/// A chat request for this model that does not stream, with these further members.
fn chat(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Say hello"}}]{more}}}"#)
}

/// One chat completion of this model.
#[track_caller]
fn ask(gateway: &Gateway, model: &str) -> Answer {
    gateway.call(post("/v1/chat/completions", chat(model, "")))
}

/// Backends `a`, `b`, … that always answer with these statuses, 200 as vLLM does.
fn fleet<const N: usize>(statuses: [u16; N]) -> Upstream {
    Upstream::fleet(N, move |call| match statuses[call.request.listener] {
        200 => shapes::vllm(call),
        status => fail(call, status),
    })
}

/// Two backends; `a` does this, `b` answers as vLLM does.
fn a_fails(fault: impl Fn(&mut Call) + Send + Sync + 'static) -> Upstream {
    Upstream::fleet(2, move |call| match call.request.listener {
        0 => fault(call),
        _ => shapes::vllm(call),
    })
}

/// An error that says nothing.
fn fail(call: &mut Call, status: u16) {
    call.json(status, r#"{"error":{"message":"no"}}"#);
}

/// Who was asked for which model so far, in this order: `a:big`.
fn asked(upstream: &Upstream) -> Vec<String> {
    upstream.requests().iter().map(what).collect()
}

fn what(request: &Request) -> String {
    let backend = ('a'..='z').nth(request.listener).unwrap();
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    format!("{backend}:{}", body["model"].as_str().unwrap_or("-"))
}

/// The body of the request that came last.
#[track_caller]
fn sent(upstream: &Upstream) -> String {
    let last = upstream.requests().pop().unwrap();
    String::from_utf8(last.body).unwrap()
}

/// For how many seconds a backend is not asked for a model.
fn rest(gateway: &Gateway, backend: &str, model: &str) -> f64 {
    let labels = format!("{{backend=\"{backend}\",model=\"{model}\"}}");
    gateway.metric(&format!("llmproxy_route_cooldown_seconds{labels}"))
}

/// How many rests have begun, whoever's and for whatever reason.
fn rests(gateway: &Gateway) -> f64 {
    gateway.metric("llmproxy_cooldowns_total{")
}

/// Asserts that a rest of `longest` seconds has begun less than `longest` / 3 ago.
#[track_caller]
fn assert_rests(gateway: &Gateway, backend: &str, model: &str, longest: f64) {
    let left = rest(gateway, backend, model);
    assert!(
        left > longest / 1.5 && left <= longest,
        "{backend} rests from {model} for {left} s, not {longest} s"
    );
}

/// Asserts that nobody rests, nor ever did.
#[track_caller]
fn assert_nobody_rests(gateway: &Gateway) {
    let resting = gateway.metric("llmproxy_route_cooldown_seconds");
    assert!(
        rests(gateway) + resting < f64::EPSILON,
        "{}",
        gateway.get("/metrics").text()
    );
}

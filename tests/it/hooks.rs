//! The operator's scripts at each point of a request's life.

use std::fs;

use crate::client::post_with;
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error, backends};
use crate::shapes::{self, CHAT_REQUEST};
use crate::upstream::Upstream;
use crate::webhook::Webhook;

fn hook(point: &str, script: &str) -> String {
    let lines: String = script
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect();
    format!("hooks:\n  {point}:\n    script: |\n{lines}")
}

fn with(point: &str, script: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = Gateway::before(&upstream, &hook(point, script));
    (upstream, gateway)
}

#[test]
fn a_request_is_refused_or_changed_on_its_way() {
    let (upstream, gateway) = with(
        "on_request",
        "local body = json.decode(request.body)\n\
         if body.messages[1].content == 'secret' then\n\
         \x20 return {continue = false, error = 'not that', status = 451}\n\
         end\n\
         return {headers = {['X-Team'] = request.model, ['X-Debug'] = false}}",
    );
    let debug = [("X-Debug", "1")];
    let answer = gateway.call(post_with("/v1/chat/completions", &debug, CHAT_REQUEST));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = upstream.request(0).head;
    assert_eq!(sent.field("x-team"), Some("m"));
    assert_eq!(sent.field("x-debug"), None);
    let secret = CHAT_REQUEST.replace("Say hello", "secret");
    let refused = gateway.call(post_with("/v1/chat/completions", &[], secret));
    assert_openai_error(&refused, 451, "refused");
    assert!(refused.text().contains("not that"));
    assert_eq!(upstream.count(), 1);
}

#[test]
fn a_script_chooses_the_backend_and_the_rest_is_fallback() {
    let upstream = Upstream::fleet(3, shapes::vllm);
    let route = "if request.headers['x-tier'] == 'gold' then return 'c' end";
    let gateway = Gateway::start(&format!(
        "{}{}",
        backends(&upstream),
        hook("on_route", route)
    ));
    for _ in 0..6 {
        let gold = [("X-Tier", "gold")];
        assert_eq!(
            gateway
                .call(post_with("/v1/chat/completions", &gold, CHAT_REQUEST))
                .status,
            200
        );
    }
    assert_eq!(upstream.shares(), [0, 0, 6]);
    for _ in 0..6 {
        assert_eq!(gateway.chat().status, 200);
    }
    let others = upstream.shares();
    assert!(others[0] > 0 && others[1] > 0, "{others:?}");
}

#[test]
fn an_answers_head_and_the_gateways_own_errors_are_edited() {
    let (_upstream, gateway) = with(
        "on_response",
        "return {headers = {['X-Served-By'] = response.backend}}",
    );
    assert_eq!(gateway.chat().field("x-served-by"), "a");

    let upstream = Upstream::start(shapes::vllm);
    let keys = "api_keys: [{key: sk-somebody-0001}]\n";
    let error = "if error.code == 'missing_api_key' then return {status = 407, message = 'who are you?'} end";
    let gateway = Gateway::before(&upstream, &format!("{keys}{}", hook("on_error", error)));
    let refused = gateway.chat();
    assert_eq!(refused.status, 407);
    assert!(refused.text().contains("who are you?"));
}

#[test]
fn the_bill_goes_to_whom_the_script_says() {
    let upstream = Upstream::start(shapes::vllm);
    let webhook = Webhook::start();
    let usage =
        "return {user_id = request.headers['x-customer'], cost_nanos = usage.total_tokens * 1000}";
    let yaml = format!(
        "{}{}{}",
        backends(&upstream),
        webhook.yaml(),
        hook("on_usage", usage)
    );
    let gateway = Gateway::start(&yaml);
    let customer = [("X-Customer", "acme")];
    assert_eq!(
        gateway
            .call(post_with("/v1/chat/completions", &customer, CHAT_REQUEST))
            .status,
        200
    );
    let event = webhook.events(1).remove(0);
    assert_eq!(event["user_id"], "acme");
    assert_eq!(event["cost_nanos"], 15_000);
    assert_eq!(event["total_tokens"], 15);
}

#[test]
fn a_script_that_fails_is_as_if_it_were_not_there_unless_it_must_agree() {
    let (upstream, mut gateway) = with("on_request", "return request.nothing.at_all");
    gateway.tolerate_errors();
    assert_eq!(gateway.chat().status, 200);
    assert!(gateway.log().contains("on_request"), "{}", gateway.log());
    drop(upstream);

    let upstream = Upstream::start(shapes::vllm);
    let deny = "hooks:\n  on_request: {script: 'while true do end', on_failure: deny}\n";
    let mut gateway = Gateway::before(&upstream, deny);
    gateway.tolerate_errors();
    assert_openai_error(&gateway.chat(), 500, "script_failed");
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_script_in_a_file_is_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("answer.lua");
    fs::write(&script, "return {headers = {['X-Version'] = 'one'}}").unwrap();
    let upstream = Upstream::start(shapes::vllm);
    let yaml = format!(
        "{}hooks:\n  on_response: {{path: answer.lua}}\n",
        backends(&upstream)
    );
    let mut gateway = Gateway::start_in(dir.path(), &yaml);
    gateway.tolerate_errors();
    assert_eq!(gateway.chat().field("x-version"), "one");
    fs::write(&script, "return {headers = {['X-Version'] = 'number two'}}").unwrap();
    eventually("the new one", || {
        gateway.chat().field("x-version") == "number two"
    });
    fs::write(&script, "return {headers = ").unwrap();
    eventually("told of", || {
        gateway.chat();
        gateway.log().contains("answer.lua")
    });
    assert_eq!(gateway.chat().field("x-version"), "number two");
}

#[test]
fn the_end_of_a_request_is_told() {
    let (_upstream, gateway) = with(
        "on_complete",
        "log('done ' .. response.status .. ' ' .. usage.total_tokens .. ' ' .. request.model)",
    );
    gateway.chat();
    eventually("told", || gateway.log().contains("done 200 15 m"));
}

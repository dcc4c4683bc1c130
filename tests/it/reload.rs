//! A new configuration in the place of the old one, while requests run.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, get, head, post, post_with};
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error, backends, backends_at};
use crate::shapes::{CHAT_REQUEST, CONTENT, STREAM_REQUEST, USAGE, vllm};
use crate::upstream::{Gate, Upstream, refused};
use crate::webhook::Webhook;

/// One model, `m`, on one backend.
fn model_on(backend: &str) -> String {
    format!("models: {{m: {{routes: [{{backend: {backend}, model: x}}]}}}}\n")
}

/// Which of the listeners served the last request.
fn last(upstream: &Upstream) -> usize {
    upstream.requests().last().unwrap().listener
}

#[test]
fn a_file_that_changes_is_served_without_a_signal() {
    let upstream = Upstream::fleet(2, vllm);
    let watched = "reload: {interval: 100ms}\n";
    let before = format!("{}{}{watched}", backends(&upstream), model_on("a"));
    let gateway = Gateway::start(&before);
    assert_eq!(gateway.chat().status, 200);
    assert_eq!(last(&upstream), 0);
    gateway.rewrite(&before.replace("backend: a", "backend: b"));
    eventually("the other backend serves", || {
        assert_eq!(gateway.chat().status, 200);
        last(&upstream) == 1
    });
    // As Kubernetes changes a ConfigMap: the file is a link, and the link is replaced.
    let dir = gateway.file().parent().unwrap();
    fs::rename(gateway.file(), dir.join("one")).unwrap();
    let text = fs::read_to_string(dir.join("one")).unwrap();
    fs::write(dir.join("two"), text.replace("backend: b", "backend: a")).unwrap();
    std::os::unix::fs::symlink(dir.join("two"), gateway.file()).unwrap();
    eventually("the first one serves again", || {
        gateway.chat();
        last(&upstream) == 0
    });
}

#[test]
fn an_unwatched_file_is_read_again_at_sighup_only() {
    let upstream = Upstream::fleet(2, vllm);
    let unwatched = "reload: {watch: false, interval: 100ms}\n";
    let before = format!("{}{}{unwatched}", backends(&upstream), model_on("a"));
    let mut gateway = Gateway::start(&before);
    let after = before.replace("backend: a", "backend: b");
    gateway.rewrite(&after);
    thread::sleep(Duration::from_millis(500));
    gateway.chat();
    assert_eq!(last(&upstream), 0, "nobody looked");
    gateway.reconfigure(&after);
    gateway.chat();
    assert_eq!(last(&upstream), 1);
}

#[test]
fn a_bad_configuration_changes_nothing_and_says_why() {
    let upstream = Upstream::start(vllm);
    let good = format!("{}{}", backends(&upstream), model_on("a"));
    let mut gateway = Gateway::start(&good);
    gateway.tolerate_errors();
    for (nth, (bad, why)) in [
        (
            "models: {m: {routes: [{backend: z}]}}\n",
            "no backend is called `z`",
        ),
        ("models: [\n", "did not find expected"),
        ("hooks: {on_request: {script: 'this is no Lua'}}\n", "hooks"),
    ]
    .into_iter()
    .enumerate()
    {
        gateway.rewrite(&format!("{}{bad}", backends(&upstream)));
        gateway.process().signal("HUP");
        eventually("it was refused", || {
            gateway.reloads("failure") == (nth + 1) as f64
        });
        assert_eq!(
            gateway.metric("llmproxy_config_last_reload_successful"),
            0.0
        );
        let log = gateway.log();
        let line = log.lines().rfind(|line| line.contains("cannot be used"));
        assert!(
            line.is_some_and(|line| line.contains(why)),
            "{why}: {line:?}"
        );
        assert_eq!(gateway.chat().status, 200, "the old one is served on");
    }
    gateway.reconfigure(&good);
    assert_eq!(
        gateway.metric("llmproxy_config_last_reload_successful"),
        1.0
    );
}

#[test]
fn requests_in_flight_end_under_the_configuration_they_began_with() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.sse();
        call.event(CONTENT[0]);
        held.pass();
        call.event(CONTENT[1]);
        call.event(USAGE);
        call.event("[DONE]");
        call.end();
    });
    let webhook = Webhook::start();
    let of = |price: u32, routes: &str| {
        format!(
            "{}{}prices: {{currency: EUR, models: [{{model: m, prompt: {price}, completion: {price}}}]}}\n{routes}",
            backends(&upstream),
            webhook.yaml(),
        )
    };
    let mut gateway = Gateway::start(&of(1, &model_on("a")));
    let mut stream = gateway.open(post_with(
        "/v1/chat/completions",
        &[("x-request-id", "before")],
        STREAM_REQUEST,
    ));
    assert!(stream.event().unwrap().contains("\"model\":\"m\""));
    // The model, its route and its price are gone; the stream goes on.
    gateway.reconfigure(&of(1000, "models: {other: {routes: [{backend: a}]}}\n"));
    assert_openai_error(&gateway.chat(), 404, "model_not_found");
    gate.open_for_good();
    let (rest, _end) = stream.rest();
    assert!(rest.contains("\"model\":\"m\""), "{rest}");
    assert!(rest.contains("[DONE]"), "{rest}");
    let event = webhook.event("before");
    assert_eq!(event["cost_nanos"], Value::from(15 * 1000), "{event}");
}

#[test]
fn a_backend_that_is_taken_out_finishes_what_it_has() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::fleet(2, move |call| {
        if call.nth() == 0 {
            held.pass();
        }
        vllm(call);
    });
    let mut gateway = Gateway::start(&format!("{}{}", backends(&upstream), model_on("a")));
    let mut waiting = gateway.connect();
    waiting.send(post("/v1/chat/completions", CHAT_REQUEST));
    eventually("it is at the backend", || upstream.count() == 1);
    let b = backends_at(upstream.addrs()).replace("- {name: a", "- {enabled: false, name: a");
    gateway.reconfigure(&format!("{b}{}", model_on("b")));
    assert_eq!(gateway.chat().status, 200);
    gate.open_for_good();
    assert_eq!(waiting.answer().status, 200);
    assert_eq!(upstream.shares(), [1, 1]);
}

#[test]
fn cooldowns_circuits_and_counters_go_on_by_name() {
    let upstream = Upstream::start(vllm);
    let two =
        "models: {m: {routes: [{backend: a, model: x}, {backend: b, model: x, priority: 1}]}}\n";
    let more = "fallback: {cooldown_seconds: 500}\nrouting: {breaker: {failures: 1, open: 60s}}\n";
    let config = format!("{}{two}{more}", backends_at(&[refused(), upstream.addr()]));
    let mut gateway = Gateway::start(&config);
    assert_eq!(gateway.chat().status, 200);
    let rests = |gateway: &Gateway| {
        gateway.metric("llmproxy_route_cooldown_seconds{backend=\"a\",model=\"x\"}")
    };
    let before = rests(&gateway);
    assert!(before > 490.0, "{before}");
    // Another priority of the other one, another weight of this one: still the same route.
    gateway.reconfigure(&config.replace("{name: a,", "{name: a, weight: 7,"));
    assert!(rests(&gateway) > 480.0);
    assert_eq!(gateway.metric("llmproxy_backend_open{backend=\"a\"}"), 1.0);
    assert_eq!(gateway.chat().status, 200);
    assert_eq!(
        gateway.metric("llmproxy_fallbacks_total"),
        1.0,
        "it is left alone"
    );
    // Behind another URL is another server.
    let other = Upstream::start(vllm);
    let moved = backends_at(&[other.addr(), upstream.addr()]);
    gateway.reconfigure(&format!("{moved}{two}{more}"));
    assert_eq!(rests(&gateway), 0.0);
    assert_eq!(gateway.chat().status, 200);
    assert_eq!(other.count(), 1);
    // What is configured is known to the metrics by its name.
    assert!(gateway.metric("llmproxy_billed_tokens_total{model=\"m\"") > 0.0);
}

#[test]
fn keys_limits_and_scripts_follow() {
    let upstream = Upstream::start(vllm);
    let keyed = |key: &str, more: &str| {
        format!(
            "{}auth: {{enabled: true}}\napi_keys: [{{key: {key}, user_id: u}}]\n{more}",
            backends(&upstream)
        )
    };
    let ask = |gateway: &Gateway, key: &str| {
        let key = format!("Bearer {key}");
        gateway.call(post_with(
            "/v1/chat/completions",
            &[("Authorization", &key)],
            CHAT_REQUEST,
        ))
    };
    let mut gateway = Gateway::start(&keyed("sk-one-000000000001", ""));
    assert_eq!(ask(&gateway, "sk-one-000000000001").status, 200);
    gateway.reconfigure(&keyed("sk-two-000000000002", ""));
    assert_eq!(ask(&gateway, "sk-one-000000000001").status, 401);
    assert_eq!(ask(&gateway, "sk-two-000000000002").status, 200);
    let limited = "rate_limit: {per_key: {requests_per_minute: 1}}\n";
    gateway.reconfigure(&keyed("sk-two-000000000002", limited));
    assert_eq!(ask(&gateway, "sk-two-000000000002").status, 200);
    assert_eq!(ask(&gateway, "sk-two-000000000002").status, 429);
    let script = "hooks: {on_request: {script: \"return {continue = false, status = 418}\"}}\n";
    gateway.reconfigure(&keyed("sk-two-000000000002", script));
    assert_eq!(ask(&gateway, "sk-two-000000000002").status, 418);
}

#[test]
fn what_takes_a_restart_is_named_and_the_rest_is_served() {
    let upstream = Upstream::fleet(2, vllm);
    let before = format!("{}{}", backends(&upstream), model_on("a"));
    let mut gateway = Gateway::start(&before);
    let after = before.replace("backend: a", "backend: b");
    gateway.reconfigure(&format!(
        "{after}drain_timeout: 3s\nledger: {{fsync: never}}\n"
    ));
    gateway.chat();
    assert_eq!(last(&upstream), 1);
    let log = gateway.log();
    let line = log
        .lines()
        .find(|line| line.contains("after a restart only"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    for section in ["drain_timeout", "ledger"] {
        assert!(line.contains(section), "{line}");
    }
    assert!(!line.contains("listen"), "{line}");
}

#[test]
fn what_the_admin_api_changed_stays_where_it_is_when_data_dir_moves() {
    let upstream = Upstream::start(vllm);
    let admin = "admin: {listen: \"127.0.0.1:0\", token: a-token-of-many-characters}\n";
    let config = format!("{}{}{admin}", backends(&upstream), model_on("a"));
    let mut gateway = Gateway::start(&config);
    let dir = gateway.file().parent().unwrap().to_owned();
    let put = |gateway: &Gateway, name: &str| {
        let body = r#"{"routes":[{"backend":"a"}]}"#;
        let length = body.len().to_string();
        let fields = [
            ("X-Admin-Token", "a-token-of-many-characters"),
            ("Content-Length", length.as_str()),
        ];
        let mut request = head("PUT", &format!("/admin/models/{name}"), &fields);
        request.extend_from_slice(body.as_bytes());
        let answer = Client::connect(*gateway.addrs().last().unwrap()).call(request);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    put(&gateway, "one");
    fs::create_dir(dir.join("other")).unwrap();
    let moved = format!("data_dir: {}\n{config}", dir.join("other").display());
    gateway.reconfigure(&moved);
    put(&gateway, "two");
    for name in ["one", "two"] {
        let body = CHAT_REQUEST.replace("\"m\"", &format!("\"{name}\""));
        let answer = gateway.call(post("/v1/chat/completions", body));
        assert_eq!(answer.status, 200, "{name}");
    }
    assert!(!dir.join("other/overlay.yaml").exists());
    let kept = fs::read_to_string(dir.join("data/overlay.yaml")).unwrap();
    assert!(kept.contains("one") && kept.contains("two"), "{kept}");
    // Who edits what the admin API has replaced is told.
    put(&gateway, "m");
    gateway.reconfigure(&moved);
    assert!(gateway.log().contains("what it says of `m` has no effect"));
}

#[test]
fn health_checks_follow_the_configuration() {
    let upstream = Upstream::fleet(2, |call| match call.target() {
        "/health" => call.json(200, "{}"),
        _ => vllm(call),
    });
    let mut gateway = Gateway::start(&backends_at(&upstream.addrs()[..1]));
    let checks = |listener: usize| {
        let seen = upstream.requests();
        let of = |request: &&crate::upstream::Request| {
            request.listener == listener && request.head.word() == "/health"
        };
        seen.iter().filter(of).count()
    };
    assert_eq!(checks(0), 0);
    let checked = "health_check: {interval: 20ms}\n";
    gateway.reconfigure(&format!("{}{checked}", backends(&upstream)));
    eventually("both are checked", || checks(0) > 2 && checks(1) > 2);
    gateway.reconfigure(&format!("{}{checked}", backends_at(&upstream.addrs()[1..])));
    let before = checks(0);
    let more = checks(1) + 3;
    eventually("the other one is checked on", || checks(1) > more);
    assert!(
        checks(0) <= before + 1,
        "nobody asks what is not configured"
    );
}

/// Many clients on kept-alive connections, a new configuration as fast as they can be built.
#[test]
fn reloading_under_load_drops_nothing() {
    const CLIENTS: usize = 16;
    let upstream = Upstream::fleet(2, vllm);
    let config = |backend: &str| format!("{}{}", backends(&upstream), model_on(backend));
    let mut gateway = Gateway::start(&config("a"));
    let addr = gateway.addr();
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|nth| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            thread::spawn(move || {
                let mut client = Client::connect(addr);
                while !over.load(Ordering::Relaxed) {
                    let request = match nth % 4 {
                        0 => post("/v1/chat/completions", STREAM_REQUEST),
                        1 => get("/v1/models"),
                        _ => post("/v1/chat/completions", CHAT_REQUEST),
                    };
                    let answer = client.call(request);
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(4);
    let mut reloads = 0;
    while Instant::now() < until {
        gateway.reconfigure(&config(if reloads % 2 == 0 { "b" } else { "a" }));
        reloads += 1;
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let (served, shares) = (served.load(Ordering::Relaxed), upstream.shares());
    eprintln!("{served} requests and {reloads} reloads in 4 s: {shares:?}");
    assert!(reloads >= 10, "{reloads} reloads");
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    eventually("nothing is in flight", || {
        gateway.metric("llmproxy_requests_in_flight") < 0.5
    });
}

//! How it ends: running streams finish, new work goes elsewhere, and the process is gone when the last byte is.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::client::{Client, Stream, get, post};
use crate::eventually;
use crate::gateway::Gateway;
use crate::shapes::{CHAT_REQUEST, CONTENT, STREAM_REQUEST, sse, vllm};
use crate::upstream::{Gate, Upstream};
use crate::webhook::Webhook;
use crate::wire::End;

/// The README promises a second; the rest is for a machine that runs many tests at once.
const SOON: Duration = Duration::from_millis(1500);

/// A gateway with one stream running, whose second half waits at the gate.
fn streaming(more: &str) -> (Upstream, Gate, Gateway, Stream) {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.sse();
        call.event(CONTENT[0]);
        opened.pass();
        call.event(CONTENT[1]);
        call.event("[DONE]");
        call.end();
    });
    let gateway = Gateway::before(&upstream, more);
    let mut stream = gateway.open(post("/v1/chat/completions", STREAM_REQUEST));
    assert!(stream.event().is_some());
    (upstream, gate, gateway, stream)
}

/// What a load balancer's probe sees: the status of `/readyz`, or nothing.
fn probe(gateway: &Gateway) -> Option<u16> {
    let mut client = Client::try_connect(gateway.addr())?;
    client
        .send(get("/readyz"))
        .maybe_answer()
        .map(|answer| answer.status)
}

#[test]
fn an_idle_gateway_leaves_at_once() {
    let upstream = Upstream::start(vllm);
    for signal in ["TERM", "INT"] {
        let mut gateway = Gateway::before(&upstream, "");
        assert_eq!(gateway.chat().status, 200);
        let asked = Instant::now();
        gateway.process().signal(signal);
        assert_eq!(gateway.process().wait().code(), Some(0), "{signal}");
        assert!(
            asked.elapsed() < SOON,
            "{signal} took {:?}",
            asked.elapsed()
        );
    }
}

#[test]
fn an_idle_kept_alive_connection_delays_nothing() {
    let upstream = Upstream::start(vllm);
    let mut gateway = Gateway::before(&upstream, "");
    let mut client = gateway.connect();
    assert_eq!(
        client
            .call(post("/v1/chat/completions", CHAT_REQUEST))
            .status,
        200
    );
    let asked = Instant::now();
    gateway.process().signal("TERM");
    assert_eq!(gateway.process().wait().code(), Some(0));
    assert!(asked.elapsed() < SOON, "took {:?}", asked.elapsed());
}

#[test]
fn a_running_stream_finishes_and_then_the_process_is_gone() {
    for signal in ["TERM", "INT"] {
        let (_upstream, gate, mut gateway, mut stream) = streaming("");
        gateway.process().signal(signal);
        eventually("it is no longer ready", || probe(&gateway) != Some(200));
        eventually("new connections are refused", || {
            TcpStream::connect(gateway.addr()).is_err()
        });
        assert!(
            gateway.process().try_wait().is_none(),
            "it left while a stream was running"
        );
        gate.open();
        assert_eq!(stream.rest(), (sse([CONTENT[1], "[DONE]"]), End::Complete));
        let finished = Instant::now();
        assert_eq!(gateway.process().wait().code(), Some(0));
        let took = finished.elapsed();
        eprintln!("{signal}: gone {took:?} after the last byte");
        assert!(took < SOON, "{signal}: {took:?}");
    }
}

#[test]
fn readiness_is_503_while_it_drains() {
    let (_upstream, gate, mut gateway, mut stream) =
        streaming("admin: {listen: \"127.0.0.1:0\"}\n");
    let ready = |gateway: &Gateway| {
        let probes = gateway
            .addrs()
            .iter()
            .filter_map(|&addr| Client::try_connect(addr));
        let answers = probes.filter_map(|mut client| client.send(get("/readyz")).maybe_answer());
        answers
            .map(|answer| (answer.status, answer.text()))
            .collect::<Vec<_>>()
    };
    gateway.process().signal("TERM");
    eventually("whoever still answers says that it drains", || {
        let answers = ready(&gateway);
        let draining = |(status, body): &(u16, String)| *status == 503 && body.contains("draining");
        !answers.is_empty() && answers.iter().all(draining)
    });
    gate.open();
    assert_eq!(stream.rest().1, End::Complete);
}

#[test]
fn a_request_on_an_open_connection_is_told_to_go_elsewhere_or_served() {
    let (_upstream, gate, mut gateway, mut stream) = streaming("");
    let mut early = gateway.connect();
    assert_eq!(early.call(get("/readyz")).status, 200);
    gateway.process().signal("TERM");
    eventually("new connections are refused", || {
        TcpStream::connect(gateway.addr()).is_err()
    });
    if let Some(answer) = early.send(get("/readyz")).maybe_answer() {
        assert_eq!(
            (answer.status, answer.json()["status"].as_str()),
            (503, Some("draining"))
        );
        assert_eq!(answer.field("connection"), "close");
    }
    gate.open();
    assert_eq!(stream.rest().1, End::Complete);
}

#[test]
fn a_stream_longer_than_the_drain_timeout_is_cut_and_not_faked() {
    let (_upstream, gate, mut gateway, mut stream) = streaming("drain_timeout: 300ms\n");
    let asked = Instant::now();
    gateway.process().signal("TERM");
    let (rest, end) = stream.rest();
    assert_eq!(end, End::Cut);
    assert!(!rest.contains("[DONE]"), "{rest}");
    assert_eq!(gateway.process().wait().code(), Some(0));
    let took = asked.elapsed();
    assert!(
        took > Duration::from_millis(250) && took < Duration::from_millis(300) + SOON,
        "{took:?}"
    );
    gate.open();
}

#[test]
fn a_second_interrupt_means_now() {
    let (_upstream, gate, mut gateway, mut stream) = streaming("drain_timeout: 1h\n");
    gateway.process().signal("INT");
    eventually("it is draining", || {
        TcpStream::connect(gateway.addr()).is_err()
    });
    assert!(gateway.process().try_wait().is_none());
    let asked = Instant::now();
    gateway.process().signal("INT");
    let exit = gateway.process().wait();
    assert!(asked.elapsed() < SOON, "took {:?}", asked.elapsed());
    assert_eq!(exit.code(), Some(0), "asked to leave, it left");
    assert_eq!(stream.rest().1, End::Cut);
    gate.open();
}

#[test]
fn a_stream_that_finished_while_draining_is_billed() {
    let webhook = Webhook::start();
    let (_upstream, gate, mut gateway, mut stream) = streaming(&webhook.yaml());
    gateway.process().signal("TERM");
    eventually("it is draining", || {
        TcpStream::connect(gateway.addr()).is_err()
    });
    gate.open();
    assert_eq!(stream.rest().1, End::Complete);
    gateway.stop();
    assert_eq!(
        webhook.events(0).len(),
        1,
        "billed before the process ended"
    );
}

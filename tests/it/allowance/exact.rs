//! The promise: nobody gets more than was given, whoever is killed, and nobody gets less.
//!
//! Four gateways share a key's quota while a thousand requests run at once, and one of them is killed.
//! Every request costs the same, and the quota is not enough for all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use super::request;
use crate::client::{Answer, Client};
use crate::databases::Redis;
use crate::eventually;
use crate::gateway::{Gateway, assert_openai_error, backends};
use crate::process::llmproxy;
use crate::upstream::Upstream;

/// What each request costs: the engine below says so.
const COST: u64 = 50;
/// Requests the quota is enough for.
const PAID: u64 = 400;
const REQUESTS: usize = 1000;
const GATEWAYS: usize = 4;
const KEY: &str = "sk-shared-by-all-0001";

#[test]
fn four_gateways_with_redis_spend_the_quota_and_not_a_token_more() {
    let redis = Redis::start();
    let shared = format!(
        "redis: {{url: \"{}\", timeout: 10s}}\nquota: {{storage: redis, lease: 3s, wait: 30s}}\n",
        redis.url()
    );
    spend_it_all(&shared);
}

#[test]
fn four_gateways_with_one_sqlite_file_do_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("quota.db");
    let shared = format!(
        "quota: {{path: {}, lease: 3s, wait: 30s}}\n",
        file.display()
    );
    spend_it_all(&shared);
}

/// Answers 30 + 20 tokens, after a moment.
fn engine() -> Upstream {
    Upstream::start(|call| {
        thread::sleep(std::time::Duration::from_millis(fastrand::u64(5..60)));
        call.json(
            200,
            r#"{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}"#,
        );
    })
}

fn spend_it_all(shared: &str) {
    let engine = engine();
    let quota = PAID * COST;
    let yaml = format!(
        "{}api_keys:\n  - {{key: {KEY}, total_quota: {quota}}}\n{shared}",
        backends(&engine)
    );
    let dirs: Vec<_> = (0..GATEWAYS)
        .map(|_| tempfile::tempdir().unwrap())
        .collect();
    let mut gateways: Vec<Gateway> = dirs
        .iter()
        .map(|dir| Gateway::start_in(dir.path(), &yaml))
        .collect();
    let addrs: Vec<SocketAddr> = gateways.iter().map(Gateway::addr).collect();

    let served = AtomicUsize::new(0);
    let mut answers: BTreeMap<u16, u64> = BTreeMap::new();
    thread::scope(|scope| {
        let asked: Vec<_> = (0..REQUESTS)
            .map(|nth| {
                let (addr, served) = (addrs[nth % GATEWAYS], &served);
                scope.spawn(move || {
                    let mut client = Client::try_connect(addr)?;
                    client.send(request(KEY, 20));
                    let answer = client.maybe_answer()?;
                    served.fetch_add(1, Ordering::Relaxed);
                    Some(answer.status)
                })
            })
            .collect();
        eventually("a hundred are through", || {
            served.load(Ordering::Relaxed) > 100
        });
        gateways[0].process().signal("KILL");
        for one in asked {
            if let Some(status) = one.join().unwrap() {
                *answers.entry(status).or_default() += 1;
            }
        }
    });
    eprintln!("answers: {answers:?}");
    assert!(
        answers.keys().all(|status| [200, 429].contains(status)),
        "{answers:?}"
    );

    // What the dead one had reserved comes back with its lease, and what it had noted as spent but not
    // billed with its ledger; then all of it can be had, and no more.
    let last = use_up(addrs[1]);
    assert_openai_error(&last, 429, "insufficient_quota");
    gateways[0].crash();
    let total = || -> u64 { dirs.iter().map(|dir| billed(dir.path())).sum() };
    eventually("the quota is used up but for less than a request", || {
        use_up(gateways[0].addr());
        quota.saturating_sub(total()) < 2 * COST
    });
    gateways.into_iter().for_each(Gateway::stop);
    assert!(total() <= quota, "{} of {quota} tokens", total());
    dirs.iter().for_each(|dir| verify(dir.path()));
}

/// Asks until it is refused.
fn use_up(addr: SocketAddr) -> Answer {
    let mut client = Client::connect(addr);
    loop {
        let answer = client.call(request(KEY, 20));
        if answer.status != 200 {
            return answer;
        }
    }
}

/// The tokens in this gateway's ledger.
fn billed(dir: &Path) -> u64 {
    let mut query = llmproxy();
    query.args(["usage", "query", "--format", "json", "--data-dir"]);
    let output = query.arg(dir.join("data")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let tokens = |line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["total_tokens"].as_u64().unwrap()
    };
    lines.lines().map(tokens).sum()
}

/// The ledger is whole and the quota's store agrees with it.
fn verify(dir: &Path) {
    let mut verify = llmproxy();
    verify.args(["usage", "verify", "--format", "json", "--config"]);
    let output = verify.arg(dir.join("llmproxy.yaml")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

//! How a bill travels: to a webhook that fails, across a restart, into a database.

use std::fs;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::client::post_with;
use crate::gateway::{Gateway, backends};
use crate::shapes::{CHAT_REQUEST, vllm};
use crate::upstream::{Upstream, refused};
use crate::webhook::{Webhook, hook_yaml};
use crate::{PATIENCE, eventually};

fn call(gateway: &Gateway, id: &str) {
    let request = post_with(
        "/v1/chat/completions",
        &[("X-Request-Id", id)],
        CHAT_REQUEST,
    );
    assert_eq!(gateway.call(request).status, 200);
}

#[test]
fn a_webhook_that_fails_is_tried_again_with_the_same_event() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::answering(|call| match call.nth() {
        0 => call.json(500, "{}"),
        1 => call.answer(429, &[("Retry-After", "0")], "{}"),
        2 => call.reset(),
        _ => call.json(200, "{}"),
    });
    let gateway = Gateway::before(&upstream, &webhook.yaml());
    call(&gateway, "persistent");
    let events = webhook.events(4);
    assert_eq!(events.len(), 4);
    assert!(
        events.windows(2).all(|pair| pair[0] == pair[1]),
        "{events:?}"
    );
    eventually("the delivery is counted", || {
        gateway.metric("llmproxy_webhook_success_total") > 0.5
    });
    assert!(gateway.metric("llmproxy_webhook_failure_total") > 2.5);
}

#[test]
fn a_webhook_that_hangs_delays_no_client() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::answering(|call| match call.nth() {
        0 => call.hang(),
        _ => call.json(200, "{}"),
    });
    let yaml = webhook.yaml().replace("timeout: 3s", "timeout: 300ms");
    let gateway = Gateway::before(&upstream, &yaml);
    for id in ["one", "two", "three"] {
        call(&gateway, id);
    }
    for id in ["one", "two", "three"] {
        webhook.event(id);
    }
    eventually("all three are acknowledged", || {
        gateway.metric("llmproxy_webhook_success_total") > 2.5
    });
}

#[test]
fn what_could_not_be_delivered_survives_a_restart() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let dead = hook_yaml(refused());
    let first = Gateway::start_in(dir.path(), &format!("{}{dead}", backends(&upstream)));
    call(&first, "early");
    first.stop();
    let webhook = Webhook::start();
    let yaml = format!("{}{}", backends(&upstream), webhook.yaml());
    let _second = Gateway::start_in(dir.path(), &yaml);
    assert_eq!(webhook.event("early")["outcome"], "completed");
}

#[test]
fn what_an_earlier_version_had_set_aside_is_still_delivered() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let line =
        r#"{"request_id":"old","event_id":"019bbd2e-6f2b-7c4e-8b1a-6f0f2d9f1c55","status":200}"#;
    fs::write(
        data.join("usage-undelivered-billing.jsonl"),
        format!("{line}\n"),
    )
    .unwrap();
    let webhook = Webhook::start();
    let yaml = format!("{}{}", backends(&upstream), webhook.yaml());
    let _gateway = Gateway::start_in(dir.path(), &yaml);
    assert_eq!(webhook.event("old")["status"], 200);
}

#[test]
fn bills_on_their_way_are_delivered_before_the_process_ends() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::start();
    let gateway = Gateway::before(&upstream, &webhook.yaml());
    for nth in 0..50 {
        call(&gateway, &format!("r{nth}"));
    }
    gateway.stop();
    let mut ids = webhook
        .events(0)
        .iter()
        .map(|event| event["event_id"].to_string())
        .collect::<Vec<_>>();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50, "every request is billed exactly once");
}

#[test]
fn two_reporters_get_every_event_even_when_one_is_dead() {
    let upstream = Upstream::start(vllm);
    let webhook = Webhook::start();
    let second = format!(
        "    - {{name: dead, type: webhook, url: \"http://{}/x\", retry: 0}}\n",
        refused()
    );
    let mut gateway = Gateway::before(
        &upstream,
        &format!("{}{second}drain_timeout: 1s\n", webhook.yaml()),
    );
    gateway.tolerate_errors();
    call(&gateway, "both");
    webhook.event("both");
}

#[test]
fn a_disabled_reporter_gets_nothing() {
    let upstream = Upstream::start(vllm);
    let (on, off) = (Webhook::start(), Webhook::start());
    let second = format!(
        "    - {{name: off, type: webhook, enabled: false, url: \"http://{}/x\"}}\n",
        off.receiver().addr()
    );
    let gateway = Gateway::before(&upstream, &format!("{}{second}", on.yaml()));
    call(&gateway, "x");
    on.event("x");
    gateway.stop();
    assert_eq!(off.receiver().count(), 0);
}

/// `request_id, model, prompt_tokens, completion_tokens, outcome, event_id` of every row, once there are `count`.
async fn rows(
    file: &std::path::Path,
    count: usize,
) -> Vec<(String, String, i64, i64, String, String)> {
    const SELECT: &str = "SELECT request_id, model, prompt_tokens, completion_tokens, outcome, event_id \
         FROM usage_records ORDER BY request_id";
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let options = SqliteConnectOptions::new().filename(file);
        if let Ok(pool) = SqlitePool::connect_with(options).await {
            let rows = sqlx::query_as(SELECT)
                .fetch_all(&pool)
                .await
                .unwrap_or_default();
            pool.close().await;
            if rows.len() >= count {
                return rows;
            }
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{count} rows never came"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_holds_one_row_per_request() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let file = dir.path().join("usage.db");
    let gateway = Gateway::before(
        &upstream,
        &format!(
            "usage_hook:\n  enabled: true\n  reporters:\n    - {{name: db, type: database, enabled: true, \
             database: {{driver: sqlite, dsn: {}, table: usage_records}}}}\n",
            file.display()
        ),
    );
    for id in ["r1", "r2", "r3"] {
        call(&gateway, id);
    }
    let rows = rows(&file, 3).await;
    assert_eq!(
        rows.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(),
        ["r1", "r2", "r3"]
    );
    for (_, model, prompt, completion, outcome, event_id) in rows {
        assert_eq!(
            (model.as_str(), prompt, completion, outcome.as_str()),
            ("m", 12, 3, "completed")
        );
        assert_eq!(event_id.len(), 36);
    }
}

use super::*;
use crate::limit::types::{Admission, SharedStore, StoreError};

fn rules() -> Vec<(Subject, Arc<RateLimits>)> {
    user(RateLimits {
        requests_per_second_milli: Some(1_000),
        requests_per_minute: Some(100),
        requests_per_day: Some(100),
        tokens_per_minute: Some(100),
        tokens_per_day: Some(100),
        max_concurrent: Some(100),
        ..RateLimits::default()
    })
}

fn broken<T>(answer: Result<T, StoreError>, of: &str) -> String {
    match answer {
        Err(StoreError::Broken(text)) => text,
        Err(other) => panic!("{of}: {other:?}"),
        Ok(_) => panic!("{of} is taken for an answer"),
    }
}

impl Bench {
    async fn admit(&self, id: &str) -> Result<Admission, StoreError> {
        let reserve = reserve(id, 10);
        self.limits
            .admit_all(&ask(id, &rules(), 1), Some(&reserve))
            .await
    }
}

const HASHES: [&str; 5] = [
    "rl:m:u:ann",
    "rl:d:u:ann",
    "q:a:a@ever",
    "q:r:a@ever",
    "q:x:a@ever",
];

#[tokio::test]
async fn a_key_of_another_type_is_an_error_that_names_it_and_nothing_changes() {
    let bench = Bench::start().await;
    for (key, role) in [
        ("rl:b:u:ann", "requests per second of a user (rl:b:u:…)"),
        ("rl:m:u:ann", "the last minute of a user (rl:m:u:…)"),
        ("rl:d:u:ann", "the last day of a user (rl:d:u:…)"),
        ("rl:c:u:ann", "running requests of a user (rl:c:u:…)"),
        ("rl:r:2", "record (rl:r:…)"),
        ("q:a:a@ever", "account (q:a:…)"),
        ("q:r:a@ever", "reservations (q:r:…)"),
        ("q:l:a@ever", "leases (q:l:…)"),
        ("q:x:a@ever", "notes (q:x:…)"),
        ("q:y:a@ever", "times of notes (q:y:…)"),
    ] {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        bench.limits.set_now(NOW);
        bench.admit("1").await.unwrap();
        let key = format!("llmproxy:{key}");
        let () = bench.redis.run(&["DEL", &key]).await;
        let () = match HASHES.iter().any(|hash| key.ends_with(hash)) {
            true => bench.redis.run(&["SET", &key, "5"]).await,
            false => bench.redis.run(&["RPUSH", &key, "5"]).await,
        };
        let before = bench.everything().await;
        // Late enough that the first reservation has expired, which is to be noted.
        bench.at(LEASE);
        let text = broken(bench.admit("2").await, &key);
        let place = bench.redis.link().place().to_owned();
        let expected = format!(
            "redis {place}: {role}: found a value of another type; delete that key if it is not ours"
        );
        assert_eq!(text, expected);
        assert_eq!(bench.everything().await, before, "{key}");
    }
}

#[tokio::test]
async fn no_operation_takes_a_key_of_another_type_for_an_answer() {
    let bench = Bench::start().await;
    let limits = &bench.limits;
    let ten = tokens(10);
    let running = [(A.into(), "1".into())];
    for key in ["q:a:a@ever", "q:r:a@ever", "q:l:a@ever"] {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        bench.admit("1").await.unwrap();
        let key = format!("llmproxy:{key}");
        let () = bench.redis.run(&["SET", &key, "5"]).await;
        let before = bench.everything().await;
        // Leases are looked at only beside what they belong to.
        if !key.contains(":r:") {
            broken(limits.update(A, "1", ten, ten).await, &key);
            broken(limits.settle(A, "1", ten, false).await, &key);
        }
        broken(QuotaStore::renew(limits, &running).await, &key);
        broken(limits.read(A).await, &key);
        broken(limits.reset(A).await, &key);
        broken(limits.is_open(A, "1").await, &key);
        assert_eq!(bench.everything().await, before, "{key}");
    }
}

#[tokio::test]
async fn a_reservation_that_cannot_be_taken_back_stays_what_it_is() {
    let bench = Bench::start().await;
    bench.reserved("1", 100).await;
    bench.at(LEASE);
    assert_eq!(bench.state().await, State::default());
    let running = [(A.into(), "1".into())];
    for key in ["q:r:a@ever", "q:l:a@ever", "q:y:a@ever"] {
        let key = format!("llmproxy:{key}");
        let () = bench.redis.run(&["SET", &key, "5"]).await;
        let before = bench.everything().await;
        let ten = tokens(10);
        broken(bench.limits.update(A, "1", ten, ten).await, &key);
        broken(QuotaStore::renew(&bench.limits, &running).await, &key);
        assert_eq!(bench.everything().await, before, "{key}");
        let () = bench.redis.run(&["DEL", &key]).await;
    }
}

#[tokio::test]
async fn a_permit_is_free_and_tokens_are_corrected_whatever_is_wrong_with_the_other() {
    let bench = Bench::start().await;
    let request = ask("1", &rules(), 1);
    for key in ["rl:m:u:ann", "rl:d:u:ann", "rl:r:1"] {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        bench.admit("1").await.unwrap();
        let key = format!("llmproxy:{key}");
        let () = bench.redis.run(&["DEL", &key]).await;
        let () = bench.redis.run(&["RPUSH", &key, "5"]).await;
        let mut expected = bench.everything().await;
        expected.retain(|(key, _)| key != "llmproxy:rl:c:u:ann");
        broken(bench.limits.finish(&request, 5).await, &key);
        broken(bench.limits.finish(&request, 0).await, &key);
        broken(bench.limits.undo(&request).await, &key);
        assert_eq!(bench.everything().await, expected, "{key}");
    }
    let () = bench.redis.run(&["FLUSHALL"]).await;
    bench.admit("1").await.unwrap();
    let () = bench.redis.run(&["SET", "llmproxy:rl:c:u:ann", "5"]).await;
    let text = broken(bench.limits.finish(&request, 5).await, "permits");
    assert!(text.contains("running requests of a user"), "{text}");
    let () = bench.redis.run(&["DEL", "llmproxy:rl:c:u:ann"]).await;
    let next = bench.limits.admit(&ask("2", &rules(), 10)).await.unwrap();
    assert_eq!(next.unwrap().tokens.unwrap().remaining, 85);
}

#[tokio::test]
async fn a_value_that_is_no_number_is_an_error_and_never_an_allow() {
    let bench = Bench::start().await;
    for (key, field) in [
        ("q:a:a@ever", "used_t"),
        ("q:a:a@ever", "res_n"),
        ("q:a:a@ever", "since"),
        ("q:r:a@ever", "1"),
        ("rl:m:u:ann", "all"),
        ("rl:m:u:ann", &(NOW / 1_000).to_string()),
        ("rl:d:u:ann", "all"),
    ] {
        let key = format!("llmproxy:{key}");
        bench.limits.set_now(NOW);
        bench.admit("1").await.unwrap();
        for value in [
            "",
            "mine",
            "-1",
            "1.5",
            "nan",
            "inf",
            "1e300",
            "9007199254740992",
        ] {
            let () = bench.redis.run(&["HSET", &key, field, value]).await;
            // What others reserved is looked at when their leases are over.
            bench.at(if key.contains("q:r:") { LEASE } else { 0 });
            let text = broken(bench.admit("2").await, &format!("{key} {field} {value}"));
            assert!(text.contains("found not a"), "{text}");
        }
        let () = bench.redis.run(&["FLUSHALL"]).await;
    }
    for value in [
        "",
        "mine",
        "1",
        "1:",
        "-1:5",
        "1:2:3",
        "99999999999999999:1",
    ] {
        let () = bench
            .redis
            .run(&["SET", "llmproxy:rl:b:u:ann", value])
            .await;
        broken(bench.admit("2").await, value);
    }
}

#[tokio::test]
async fn an_entry_that_is_not_ours_is_an_error() {
    let bench = Bench::start().await;
    for value in [
        "1:2/one",
        "1:2:3/one",
        "1:2:3:4",
        "1:2:3:4:5/one",
        "1:2::4/one",
        "a:2:3:4/one",
    ] {
        for (key, takes_pairs) in [("q:r", false), ("q:x", true)] {
            let () = bench.redis.run(&["FLUSHALL"]).await;
            let key = format!("llmproxy:{key}:a@ever");
            let () = bench.redis.run(&["HSET", &key, "1", value]).await;
            let notes = ["HSET", "llmproxy:q:a:a@ever", "notes", "1"];
            let () = bench.redis.run(&notes).await;
            let settled = bench.limits.settle(A, "1", tokens(5), false).await;
            match takes_pairs && value == "1:2/one" {
                true => settled.unwrap(),
                false => drop(broken(settled, value)),
            }
        }
    }
}

#[tokio::test]
async fn slots_in_a_wrong_order_are_an_error() {
    let bench = Bench::start().await;
    for (first, last) in [(5, 4), (NOW / 1_000 - 61, NOW / 1_000)] {
        let all = format!("{last}:{first}:0:0");
        let words = ["HSET", "llmproxy:rl:m:u:ann", "all", &all];
        let () = bench.redis.run(&words).await;
        let text = broken(bench.admit("1").await, "slots");
        assert!(text.contains("slots out of order"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_told_them_again() {
    let bench = Bench::start().await;
    bench.admit("1").await.unwrap();
    let () = bench.redis.run(&["SCRIPT", "FLUSH"]).await;
    bench.admit("2").await.unwrap();
    let () = bench.redis.run(&["SCRIPT", "FLUSH"]).await;
    bench.limits.settle(A, "2", tokens(4), false).await.unwrap();
    assert_eq!(bench.limits.read(A).await.unwrap().used, tokens(4));
}

#[tokio::test]
async fn a_server_that_lost_everything_counts_from_nothing() {
    let mut bench = Bench::start().await;
    for id in ["1", "2"] {
        bench.admit(id).await.unwrap();
    }
    bench.redis.stop();
    bench.redis.start_again().await;
    let request = Arc::new(ask("1", &rules(), 1));
    bench.limits.finish(&request, 5).await.unwrap();
    assert!(
        !bench
            .limits
            .update(A, "1", tokens(5), tokens(5))
            .await
            .unwrap()
    );
    bench.limits.settle(A, "1", tokens(5), false).await.unwrap();
    QuotaStore::renew(&bench.limits, &[(A.into(), "2".into())])
        .await
        .unwrap();
    RateStore::renew(&bench.limits, &[request]).await.unwrap();
    assert_eq!(bench.limits.read(A).await.unwrap(), State::default());
    assert_eq!(bench.everything().await, []);
    let admitted = bench.admit("3").await.unwrap();
    assert!(
        matches!(admitted, Admission::Admitted { .. }),
        "{admitted:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_away_or_full_is_told_from_one_that_errs() {
    let mut bench = Bench::start().await;
    bench.admit("1").await.unwrap();
    let before = bench.everything().await;
    let () = bench.redis.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = bench.admit("2").await.unwrap_err();
    assert!(matches!(full, StoreError::Away(_)), "{full:?}");
    assert!(full.to_string().contains("OOM"), "{full}");
    let () = bench.redis.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(bench.everything().await, before);
    bench.redis.stop();
    let away = bench.admit("2").await.unwrap_err();
    assert!(matches!(away, StoreError::Away(_)), "{away:?}");
}

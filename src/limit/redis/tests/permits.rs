use super::*;

#[tokio::test]
async fn a_permit_is_held_until_the_end_or_until_nobody_renews_it() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        max_concurrent: Some(2),
        ..RateLimits::default()
    });
    let running = [
        Arc::new(ask("alive", &rules, 0)),
        Arc::new(ask("dead", &rules, 0)),
    ];
    for one in &running {
        admitted(bench.at(0), one).await;
    }
    RateStore::renew(bench.at(LEASE - 1), &running[..1])
        .await
        .unwrap();
    refused(&bench.limits, &ask("a", &rules, 0)).await;
    admitted(bench.at(LEASE), &ask("a", &rules, 0)).await;
    let held = ["ZRANGE", "llmproxy:rl:c:u:ann", "0", "-1"];
    let permits: Vec<String> = bench.redis.run(&held).await;
    assert_eq!(permits, ["alive", "a"]);
    refused(bench.at(2 * LEASE - 2), &ask("b", &rules, 0)).await;
    // A renewal on its way while the request ends does not bring it back.
    bench.limits.finish(&running[0], 0).await.unwrap();
    RateStore::renew(&bench.limits, &running).await.unwrap();
    let permits: Vec<String> = bench.redis.run(&held).await;
    assert_eq!(permits, ["a", "dead"]);
}

#[tokio::test]
async fn a_request_that_runs_longer_than_it_is_on_record_keeps_its_permit() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        max_concurrent: Some(1),
        ..RateLimits::default()
    });
    let running = [Arc::new(ask("1", &rules, 0))];
    admitted(bench.at(0), &running[0]).await;
    let () = bench.redis.run(&["DEL", "llmproxy:rl:r:1"]).await;
    let limits = bench.at(LEASE - 1);
    RateStore::renew(limits, &running).await.unwrap();
    refused(bench.at(LEASE), &ask("2", &rules, 0)).await;
    bench.limits.finish(&running[0], 0).await.unwrap();
    RateStore::renew(&bench.limits, &running).await.unwrap();
    admitted(&bench.limits, &ask("2", &rules, 0)).await;
}

#[tokio::test]
async fn a_thousand_permits_are_renewed_and_what_is_wrong_with_one_costs_no_other() {
    let bench = Bench::start().await;
    let limits = Arc::new(RateLimits {
        max_concurrent: Some(u64::MAX),
        ..RateLimits::default()
    });
    let asks: Vec<_> = (0..1_101)
        .map(|nth| {
            let name = match nth {
                6 => "zoe",
                7 => "broken",
                _ => "all",
            };
            let rules = [(Subject::User(name.into()), Arc::clone(&limits))];
            Arc::new(ask(&nth.to_string(), &rules, 0))
        })
        .collect();
    for ask in &asks {
        admitted(bench.at(0), ask).await;
    }
    let () = bench
        .redis
        .run(&["SET", "llmproxy:rl:c:u:broken", "mine"])
        .await;
    let error = RateStore::renew(bench.at(1_000), &asks)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("running requests"), "{error}");
    let from = (NOW + 1_000 + LEASE).to_string();
    for (name, renewed) in [("all", 1_099), ("zoe", 1)] {
        let key = format!("llmproxy:rl:c:u:{name}");
        let count = ["ZCOUNT", &key, &from, &from];
        assert_eq!(bench.redis.run::<u64>(&count).await, renewed);
    }
}

#[tokio::test]
async fn permits_of_the_dead_are_not_collected_under_a_limit_that_is_never_met() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        max_concurrent: Some(u64::MAX),
        ..RateLimits::default()
    });
    let key = "llmproxy:rl:c:u:ann";
    let fill = "for i = 1, 9999 do redis.call('ZADD', KEYS[1], '1', i) end";
    let () = bench.redis.run(&["EVAL", fill, "1", key]).await;
    for (id, held) in [("a", 10_000), ("b", 2), ("c", 3)] {
        admitted(&bench.limits, &ask(id, &rules, 0)).await;
        assert_eq!(bench.redis.run::<u64>(&["ZCARD", key]).await, held);
    }
}

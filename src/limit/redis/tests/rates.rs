use super::*;
use crate::limit::types::Limited;

/// What a refusal said: which limit, its value, and when to come back, in milliseconds.
#[derive(Debug, PartialEq)]
struct Said(Limited, u64, Option<u64>);

fn said(refusal: &RateRefusal) -> Said {
    let wait = refusal.retry_after.map(|wait| wait.as_millis());
    let wait = wait.map(|wait| u64::try_from(wait).unwrap());
    Said(refusal.limited, refusal.limit, wait)
}

/// Limits of which one is 2 (tokens: 20), and the request that is too much.
fn limits() -> Vec<(RateLimits, Said)> {
    let none = RateLimits::default;
    vec![
        (
            RateLimits {
                requests_per_second_milli: Some(4_000),
                burst_size: Some(2),
                ..none()
            },
            Said(Limited::RequestsPerSecond, 4_000, Some(250)),
        ),
        (
            RateLimits {
                requests_per_minute: Some(2),
                ..none()
            },
            Said(Limited::RequestsPerMinute, 2, Some(61_000)),
        ),
        (
            RateLimits {
                requests_per_day: Some(2),
                ..none()
            },
            Said(Limited::RequestsPerDay, 2, Some(97 * 900_000)),
        ),
        (
            RateLimits {
                tokens_per_minute: Some(20),
                ..none()
            },
            Said(Limited::TokensPerMinute, 20, Some(61_000)),
        ),
        (
            RateLimits {
                tokens_per_day: Some(20),
                ..none()
            },
            Said(Limited::TokensPerDay, 20, Some(97 * 900_000)),
        ),
        (
            RateLimits {
                max_concurrent: Some(2),
                ..none()
            },
            Said(Limited::Concurrent, 2, Some(1_000)),
        ),
    ]
}

#[tokio::test]
async fn each_limit_lets_pass_what_it_says_and_tells_when_to_come_back() {
    let bench = Bench::start().await;
    for (limits, expected) in limits() {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        let rules = user(limits);
        for id in ["1", "2"] {
            admitted(bench.at(0), &ask(id, &rules, 10)).await;
        }
        let too_much = ask("3", &rules, 10);
        let refusal = refused(&bench.limits, &too_much).await;
        assert_eq!(said(&refusal), expected);
        assert_eq!(refusal.subject, rules[0].0);
        let wait = expected.2.unwrap();
        refused(bench.at(wait - 1), &too_much).await;
        if expected.0 == Limited::Concurrent {
            bench
                .limits
                .finish(&ask("1", &rules, 10), 10)
                .await
                .unwrap();
        }
        admitted(bench.at(wait), &too_much).await;
    }
}

#[tokio::test]
async fn whoever_is_refused_under_one_rule_is_counted_under_none() {
    let bench = Bench::start().await;
    let all = RateLimits {
        requests_per_second_milli: Some(1_000_000),
        requests_per_minute: Some(1_000),
        requests_per_day: Some(1_000),
        tokens_per_minute: Some(1_000),
        tokens_per_day: Some(1_000),
        max_concurrent: Some(1_000),
        ..RateLimits::default()
    };
    for (tight, expected) in limits() {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        let rules = [
            (Subject::Global, Arc::new(all.clone())),
            (Subject::Key("k".into()), Arc::new(all.clone())),
            (Subject::User("u".into()), Arc::new(all.clone())),
            (Subject::Model("m".into()), Arc::new(tight)),
        ];
        for id in ["1", "2"] {
            admitted(&bench.limits, &ask(id, &rules, 10)).await;
        }
        let before = bench.everything().await;
        let refusal = refused(&bench.limits, &ask("3", &rules, 10)).await;
        assert_eq!(
            (refusal.limited, &refusal.subject),
            (expected.0, &rules[3].0)
        );
        assert_eq!(bench.everything().await, before);
    }
}

#[tokio::test]
async fn the_limit_that_lasts_longest_is_told() {
    let bench = Bench::start().await;
    let rules = |limits: [RateLimits; 2]| {
        let [global, key] = limits.map(Arc::new);
        vec![(Subject::Global, global), (Subject::Key("k".into()), key)]
    };
    let day = RateLimits {
        requests_per_minute: Some(1),
        requests_per_day: Some(1),
        ..RateLimits::default()
    };
    let second = RateLimits {
        requests_per_second_milli: Some(1_000),
        burst_size: Some(1),
        tokens_per_minute: Some(5),
        ..RateLimits::default()
    };
    let rules = rules([day, second]);
    admitted(&bench.limits, &ask("1", &rules, 1)).await;
    let refusal = refused(&bench.limits, &ask("2", &rules, 1)).await;
    assert_eq!(refusal.limited, Limited::RequestsPerDay);
    // What can never pass lasts longer than a day.
    let refusal = refused(&bench.limits, &ask("3", &rules, 6)).await;
    assert_eq!(said(&refusal), Said(Limited::TokensPerMinute, 5, None));
}

#[tokio::test]
async fn what_is_left_is_told_of_the_tightest_rule() {
    let bench = Bench::start().await;
    let global = RateLimits {
        requests_per_minute: Some(100),
        tokens_per_day: Some(1_000),
        ..RateLimits::default()
    };
    let own = RateLimits {
        requests_per_second_milli: Some(500),
        burst_size: Some(10),
        tokens_per_minute: Some(5_000),
        ..RateLimits::default()
    };
    let rules = [
        (Subject::Global, Arc::new(global)),
        (Subject::Key("k".into()), Arc::new(own)),
    ];
    let standing = admitted(bench.at(500), &ask("1", &rules, 100)).await;
    let requests = standing.requests.unwrap();
    assert_eq!((requests.limit, requests.remaining), (10, 9));
    assert_eq!(requests.reset, Duration::from_secs(2));
    let tokens = standing.tokens.unwrap();
    assert_eq!((tokens.limit, tokens.remaining), (1_000, 900));
    assert_eq!(tokens.reset, Duration::from_millis(97 * 900_000 - 500));
}

#[tokio::test]
async fn a_request_counts_once_however_often_it_is_told() {
    let bench = Bench::start().await;
    for (limits, expected) in limits() {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        let rules = user(limits);
        let (one, two, three) = (
            ask("1", &rules, 10),
            ask("2", &rules, 10),
            ask("3", &rules, 10),
        );
        for _ in 0..5 {
            admitted(&bench.limits, &one).await;
        }
        admitted(&bench.limits, &two).await;
        // Finished over and over, it makes room for one.
        for _ in 0..3 {
            bench.limits.finish(&two, 0).await.unwrap();
        }
        let counts_requests = match expected.0 {
            Limited::RequestsPerSecond | Limited::RequestsPerMinute | Limited::RequestsPerDay => {
                true
            }
            Limited::TokensPerMinute | Limited::TokensPerDay | Limited::Concurrent => false,
        };
        if !counts_requests {
            admitted(&bench.limits, &three).await;
        }
        refused(&bench.limits, &ask("4", &rules, 10)).await;
    }
}

#[tokio::test]
async fn a_request_that_was_not_admitted_after_all_leaves_nothing() {
    let bench = Bench::start().await;
    for (limits, _) in limits() {
        let () = bench.redis.run(&["FLUSHALL"]).await;
        let rules = user(limits);
        admitted(&bench.limits, &ask("1", &rules, 10)).await;
        for _ in 0..3 {
            let undone = ask("2", &rules, 10);
            admitted(&bench.limits, &undone).await;
            for _ in 0..2 {
                bench.limits.undo(&undone).await.unwrap();
            }
        }
        admitted(&bench.limits, &ask("3", &rules, 10)).await;
        refused(&bench.limits, &ask("4", &rules, 10)).await;
    }
}

#[tokio::test]
async fn tokens_are_corrected_where_they_were_counted_and_more_of_them_now() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        tokens_per_minute: Some(100),
        ..RateLimits::default()
    });
    let (less, more) = (ask("less", &rules, 60), ask("more", &rules, 20));
    admitted(bench.at(0), &less).await;
    admitted(bench.at(1_000), &more).await;
    bench.at(30_000).finish(&less, 10).await.unwrap();
    bench.limits.finish(&more, 50).await.unwrap();
    let left = |standing: Standing| standing.tokens.unwrap().remaining;
    let nothing = |id| ask(id, &rules, 0);
    // 10 of second 0, 20 of second 1, 30 of second 30.
    assert_eq!(left(admitted(bench.at(30_000), &nothing("a")).await), 40);
    assert_eq!(left(admitted(bench.at(61_000), &nothing("b")).await), 50);
    assert_eq!(left(admitted(bench.at(62_000), &nothing("c")).await), 70);
    assert_eq!(left(admitted(bench.at(91_000), &nothing("d")).await), 100);
    // Long after its slot is gone there is nothing to take back.
    bench.at(0);
    let late = ask("late", &rules, 90);
    let () = bench.redis.run(&["FLUSHALL"]).await;
    admitted(bench.at(0), &late).await;
    admitted(bench.at(70_000), &ask("e", &rules, 50)).await;
    bench.limits.finish(&late, 0).await.unwrap();
    assert_eq!(left(admitted(bench.at(70_000), &nothing("f")).await), 50);
}

#[tokio::test]
async fn slots_that_are_out_are_not_kept() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        requests_per_minute: Some(1_000),
        tokens_per_minute: Some(1_000),
        ..RateLimits::default()
    });
    for second in 0..130 {
        let ask = ask(&second.to_string(), &rules, 1);
        admitted(bench.at(second * 1_000), &ask).await;
    }
    let count = ["HLEN", "llmproxy:rl:m:u:ann"];
    assert_eq!(bench.redis.run::<u64>(&count).await, 1 + 61);
}

#[tokio::test]
async fn subjects_are_told_apart_whatever_they_are_called() {
    let bench = Bench::start().await;
    let limits = Arc::new(RateLimits {
        requests_per_minute: Some(1),
        ..RateLimits::default()
    });
    let long = "x".repeat(100_000);
    let longer = format!("{long}y");
    let names = [
        "", "g", "ann", "k:ann", "a\nb\0", "#", "ключ", &long, &longer, "{a}", "*",
    ];
    for (nth, name) in names.into_iter().enumerate() {
        let kinds: [fn(Arc<str>) -> Subject; 3] = [Subject::Key, Subject::User, Subject::Model];
        for (kind, subject) in kinds.into_iter().enumerate() {
            let rules = [(subject(name.into()), Arc::clone(&limits))];
            admitted(&bench.limits, &ask(&format!("{nth}{kind}"), &rules, 0)).await;
            refused(&bench.limits, &ask("again", &rules, 0)).await;
        }
    }
    let keys: Vec<String> = bench.redis.run(&["KEYS", "*"]).await;
    assert!(keys.iter().all(|key| key.len() <= 130), "{keys:?}");
}

#[tokio::test]
async fn numbers_beyond_what_is_counted_exactly_refuse_rather_than_pass() {
    let bench = Bench::start().await;
    let rules = user(RateLimits {
        requests_per_second_milli: Some(u64::MAX),
        burst_size: Some(u64::MAX),
        requests_per_minute: Some(u64::MAX),
        requests_per_day: Some((1 << 53) + 1),
        tokens_per_minute: Some(u64::MAX),
        max_concurrent: Some(u64::MAX),
        ..RateLimits::default()
    });
    admitted(&bench.limits, &ask("1", &rules, 1 << 52)).await;
    let standing = admitted(&bench.limits, &ask("2", &rules, (1 << 52) - 2)).await;
    // 2^53 - 2 are counted; of 2^53 - 1, one is left.
    assert_eq!(standing.tokens.unwrap().remaining, 1);
    refused(&bench.limits, &ask("3", &rules, 2)).await;
    refused(&bench.limits, &ask("4", &rules, u64::MAX)).await;
    bench
        .limits
        .finish(&ask("2", &rules, 0), u64::MAX)
        .await
        .unwrap();
    refused(&bench.limits, &ask("5", &rules, 1)).await;
    admitted(&bench.limits, &ask("6", &rules, 0)).await;
}

#[tokio::test]
async fn a_limit_of_nothing_is_never_enough() {
    let bench = Bench::start().await;
    for (mut limits, Said(limited, ..)) in limits() {
        let all = [
            &mut limits.requests_per_second_milli,
            &mut limits.requests_per_minute,
            &mut limits.requests_per_day,
            &mut limits.tokens_per_minute,
            &mut limits.tokens_per_day,
            &mut limits.max_concurrent,
        ];
        for limit in all.into_iter().flatten() {
            *limit = 0;
        }
        let refusal = refused(&bench.limits, &ask("1", &user(limits), 1)).await;
        assert_eq!(said(&refusal), Said(limited, 0, None));
    }
}

#[tokio::test]
async fn nothing_is_left_for_ever() {
    let bench = Bench::start().await;
    bench.limits.set_now(0);
    for (nth, (limits, Said(limited, ..))) in limits().into_iter().enumerate() {
        let rules = user(limits);
        admitted(&bench.limits, &ask(&nth.to_string(), &rules, 1)).await;
        bench.expire(limited).await;
        let undone = ask(&format!("undone {nth}"), &rules, 1);
        admitted(&bench.limits, &undone).await;
        bench.limits.undo(&undone).await.unwrap();
        bench.expire(limited).await;
    }
    let permits = "llmproxy:rl:c:u:ann";
    let () = bench.redis.run(&["PERSIST", permits]).await;
    let rules = user(limits().pop().unwrap().0);
    RateStore::renew(&bench.limits, &[Arc::new(ask("5", &rules, 1))])
        .await
        .unwrap();
    let left: u64 = bench.redis.run(&["PTTL", permits]).await;
    assert!(left <= 4 * LEASE, "{left}");
}

impl Bench {
    /// Sees to it that everything has an expiry, no later than a day and what its last slot takes.
    async fn expire(&self, limited: Limited) {
        let keys: Vec<String> = self.redis.run(&["KEYS", "*"]).await;
        assert!(keys.len() >= 2, "{keys:?}");
        for key in keys {
            let left: i64 = self.redis.run(&["PTTL", &key]).await;
            assert!(0 < left && left <= 98 * 900_000, "{limited:?} {key} {left}");
        }
    }
}

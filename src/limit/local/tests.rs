mod property;

use std::thread;

use super::*;
use crate::limit::types::{Level, Limited};

fn limits() -> RateLimits {
    RateLimits::default()
}

fn per_minute(requests: u64) -> RateLimits {
    RateLimits {
        requests_per_minute: Some(requests),
        ..limits()
    }
}

fn running(most: u64) -> RateLimits {
    RateLimits {
        max_concurrent: Some(most),
        ..limits()
    }
}

fn key(name: &str) -> Subject {
    Subject::Key(name.into())
}

fn ask(rules: impl IntoIterator<Item = (Subject, RateLimits)>, tokens: u64) -> RateAsk {
    let rules = rules.into_iter();
    RateAsk {
        id: "request".into(),
        rules: rules
            .map(|(subject, limits)| (subject, Arc::new(limits)))
            .collect(),
        tokens,
    }
}

/// Lets it run for ever.
fn passes(local: &Local, ask: &RateAsk, now: u64) -> bool {
    local.admit(ask, now).map(std::mem::forget).is_ok()
}

fn sweep(local: &Local, now: u64) {
    for part in 0..SHARDS {
        local.sweep(part, now);
    }
}

#[test]
fn a_refusal_costs_nothing_anywhere() {
    let local = Local::new(10);
    let both = |key_limit| {
        let rules = [
            (Subject::Global, per_minute(10)),
            (key("a"), per_minute(key_limit)),
        ];
        ask(rules, 0)
    };
    assert!(passes(&local, &both(1), 0));
    for _ in 0..100 {
        let refusal = local.admit(&both(1), 0).unwrap_err();
        assert_eq!(refusal.subject, key("a"));
    }
    // The global limit of 10 has seen one.
    let global = ask([(Subject::Global, per_minute(10))], 0);
    let passed = (0..100).filter(|_| passes(&local, &global, 0)).count();
    assert_eq!(passed, 9);
}

#[test]
fn the_limit_that_lasts_longest_is_the_one_to_tell_of() {
    let local = Local::new(10);
    let rules = RateLimits {
        requests_per_second_milli: Some(1_000),
        burst_size: Some(1),
        requests_per_minute: Some(1),
        requests_per_day: Some(100),
        max_concurrent: Some(1),
        ..limits()
    };
    let ask = ask([(key("a"), rules)], 0);
    assert!(passes(&local, &ask, 0));
    let refusal = local.admit(&ask, 500).unwrap_err();
    assert_eq!(refusal.limited, Limited::RequestsPerMinute);
    assert_eq!(refusal.limit, 1);
    assert_eq!(refusal.retry_after, Some(Duration::from_millis(60_500)));
    assert_eq!(
        refusal.standing.requests,
        Some(Level {
            limit: 1,
            remaining: 0,
            reset: Duration::from_millis(60_500)
        })
    );
}

#[test]
fn a_request_that_is_larger_than_the_limit_is_told_so() {
    let local = Local::new(10);
    let tight = RateLimits {
        requests_per_minute: Some(0),
        tokens_per_day: Some(100),
        ..limits()
    };
    let refused = |rules| local.admit(&ask([(key("a"), rules)], 101), 0).unwrap_err();
    assert_eq!(refused(tight).retry_after, None);
    let refusal = refused(RateLimits {
        tokens_per_day: Some(100),
        ..limits()
    });
    assert_eq!(refusal.limited, Limited::TokensPerDay);
    assert_eq!(refusal.retry_after, None);
    assert_eq!(refused(running(0)).retry_after, None);
}

#[test]
fn running_requests_are_counted_until_they_end() {
    let local = Local::new(10);
    let ask = ask([(key("a"), running(2))], 0);
    let (first, _) = local.admit(&ask, 0).unwrap();
    let (second, _) = local.admit(&ask, 0).unwrap();
    let refusal = local.admit(&ask, 86_400_000).unwrap_err();
    assert_eq!(refusal.limited, Limited::Concurrent);
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
    first.finish(0, 1);
    second.undo();
    assert!(passes(&local, &ask, 1) && passes(&local, &ask, 1) && !passes(&local, &ask, 1));
}

#[test]
fn a_request_that_is_undone_was_never_there() {
    let local = Local::new(10);
    let everything = RateLimits {
        requests_per_second_milli: Some(1_000),
        burst_size: Some(1),
        requests_per_minute: Some(1),
        requests_per_day: Some(1),
        tokens_per_minute: Some(10),
        tokens_per_day: Some(10),
        max_concurrent: Some(1),
    };
    let ask = ask(
        [
            (Subject::Global, everything.clone()),
            (key("a"), everything),
        ],
        10,
    );
    for now in [0, 0, 1, 5_000] {
        let (receipt, standing) = local.admit(&ask, now).unwrap();
        assert_eq!(standing.requests.map(|level| level.remaining), Some(0));
        receipt.undo();
    }
}

#[test]
fn tokens_are_corrected_by_what_was_taken() {
    let local = Local::new(10);
    let rules = RateLimits {
        tokens_per_minute: Some(100),
        ..limits()
    };
    let ask = |tokens| ask([(key("a"), rules.clone())], tokens);
    let left = |now| match local.admit(&ask(0), now) {
        Ok((receipt, standing)) => {
            receipt.undo();
            standing.tokens.map(|level| level.remaining)
        }
        Err(refusal) => panic!("{refusal:?}"),
    };
    let (less, _) = local.admit(&ask(60), 0).unwrap();
    let (more, _) = local.admit(&ask(10), 10_000).unwrap();
    assert_eq!(left(20_000), Some(30));
    less.finish(20, 20_000);
    assert_eq!(left(20_000), Some(70));
    // What is more than expected counts from when it is known.
    more.finish(40, 30_000);
    assert_eq!(left(30_000), Some(40));
    assert_eq!(left(61_000), Some(60));
    assert_eq!(left(71_000), Some(70));
    assert_eq!(left(91_000), Some(100));
}

#[test]
fn what_is_taken_beyond_the_limit_is_waited_for() {
    let local = Local::new(10);
    let rules = RateLimits {
        tokens_per_minute: Some(100),
        ..limits()
    };
    let ask = ask([(key("a"), rules)], 1);
    local.admit(&ask, 0).unwrap().0.finish(1_000, 500);
    let refusal = local.admit(&ask, 1_000).unwrap_err();
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(60)));
    assert!(passes(&local, &ask, 61_000));
}

#[test]
fn the_least_that_is_left_is_told() {
    let local = Local::new(10);
    let global = RateLimits {
        requests_per_minute: Some(50),
        tokens_per_day: Some(1_000),
        ..limits()
    };
    let own = RateLimits {
        requests_per_second_milli: Some(100_000),
        requests_per_day: Some(40),
        tokens_per_minute: Some(5_000),
        ..limits()
    };
    let ask = ask([(Subject::Global, global), (key("a"), own)], 10);
    let (receipt, standing) = local.admit(&ask, 0).unwrap();
    receipt.finish(10, 0);
    let level = |limit, remaining, seconds| Level {
        limit,
        remaining,
        reset: Duration::from_secs(seconds),
    };
    assert_eq!(standing.requests, Some(level(40, 39, 97 * 900)));
    assert_eq!(standing.tokens, Some(level(1_000, 990, 97 * 900)));
}

#[test]
fn beyond_the_bound_newcomers_share_what_there_is() {
    let local = Local::new(3);
    let of = |name: &str| ask([(key(name), per_minute(2))], 0);
    for name in ["a", "b", "c"] {
        assert!(passes(&local, &of(name), 0));
    }
    assert_eq!(local.subjects()[0], ("key", 3));
    // "d", "e" and "f" have two requests among them.
    let passed = ["d", "e", "f", "d", "e", "f"].map(|name| passes(&local, &of(name), 0));
    assert_eq!(passed.iter().filter(|passed| **passed).count(), 2);
    assert_eq!(local.subjects()[0], ("key", 3));
    // Others have theirs: those that were there, and other kinds.
    assert!(passes(&local, &of("a"), 0));
    let user = ask([(Subject::User("d".into()), per_minute(1))], 0);
    assert!(passes(&local, &user, 0));
}

#[test]
fn room_that_comes_free_is_no_second_helping() {
    let local = Local::new(1);
    let of = |name: &str| ask([(key(name), per_minute(2))], 0);
    let finish = |name: &str, now| {
        let admitted = local.admit(&of(name), now);
        admitted.map(|(receipt, _)| receipt.finish(0, now)).is_ok()
    };
    assert!(finish("a", 0));
    assert!(finish("d", 30_000) && finish("d", 30_000) && !finish("d", 30_000));
    sweep(&local, 61_000);
    assert_eq!(local.subjects()[0], ("key", 0));
    assert!(!finish("d", 61_000), "has room now, and still two requests");
    assert!(finish("d", 91_000));
}

#[test]
fn the_idle_are_swept_and_the_busy_stay() {
    let local = Local::new(10);
    let rules = RateLimits {
        requests_per_second_milli: Some(100),
        burst_size: Some(10),
        max_concurrent: Some(5),
        ..per_minute(10)
    };
    let of = |name: &str| ask([(key(name), rules.clone())], 0);
    let (runs, _) = local.admit(&of("runs"), 0).unwrap();
    local.admit(&of("done"), 0).unwrap().0.finish(0, 0);
    for _ in 0..10 {
        local.admit(&of("drained"), 0).unwrap().0.finish(0, 0);
    }
    let known = |now| {
        sweep(&local, now);
        local.subjects()[0].1
    };
    assert_eq!(known(60_999), 3, "a minute is not over");
    assert_eq!(known(61_000), 2, "its bucket is not full: 10 s per request");
    assert_eq!(known(100_000), 1, "one still runs");
    runs.finish(0, 100_000);
    assert_eq!(known(100_001), 0);
}

#[test]
fn names_and_kinds_are_not_confused() {
    let local = Local::new(10);
    let subjects = [
        Subject::Global,
        key("x"),
        key("y"),
        Subject::User("x".into()),
        Subject::Model("x".into()),
    ];
    for subject in subjects {
        let ask = ask([(subject, per_minute(1))], 0);
        assert!(passes(&local, &ask, 0));
        assert!(!passes(&local, &ask, 0));
    }
}

#[test]
fn rules_in_disorder_or_twice_do_not_lock_up() {
    let local = Local::new(0);
    // Without any room, all keys are one.
    let rules = [
        (Subject::Model("m".into()), per_minute(5)),
        (key("a"), per_minute(5)),
        (key("b"), per_minute(5)),
        (Subject::Global, per_minute(5)),
    ];
    assert!(passes(&local, &ask(rules, 0), 0));
}

#[test]
fn a_thread_with_an_older_clock_counts_at_the_latest_time() {
    let local = Local::new(10);
    let ask = ask([(key("a"), per_minute(2))], 0);
    assert!(passes(&local, &ask, 61_000));
    assert!(passes(&local, &ask, 500));
    assert!(!passes(&local, &ask, 62_000), "both count");
}

#[test]
fn threads_together_pass_no_more_than_one() {
    let local = Local::new(10);
    let own = |name: &str, limit| (key(name), per_minute(limit));
    let passed: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let local = &local;
                scope.spawn(move || {
                    let name = ["a", "b"][thread % 2];
                    let global = (Subject::Global, per_minute(1_000));
                    let ask = ask([global, own(name, 700)], 0);
                    (0..1_000).filter(|_| passes(local, &ask, 0)).count()
                })
            })
            .collect();
        threads.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(passed, 1_000);
    for name in ["a", "b"] {
        let rest = ask([own(name, 700)], 0);
        let more = (0..1_000).filter(|_| passes(&local, &rest, 0)).count();
        assert!(
            (300..=700).contains(&(700 - more)),
            "{name} had {more} left"
        );
    }
}

#[test]
fn names_are_spread_over_all_shards() {
    let table = Table::new(10);
    for prefix in ["", "key_0123456789abcdef-", "m"] {
        let shards: std::collections::HashSet<usize> = (0..1_000)
            .map(|number| table.shard(&format!("{prefix}{number}")))
            .collect();
        assert_eq!(shards.len(), SHARDS, "{prefix}");
    }
}

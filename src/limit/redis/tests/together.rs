use futures_util::future::join_all;

use super::*;
use crate::limit::types::{Admission, SharedStore, StoreError};

fn rules(most: u64) -> Vec<(Subject, Arc<RateLimits>)> {
    user(RateLimits {
        requests_per_minute: Some(most),
        max_concurrent: Some(most),
        ..RateLimits::default()
    })
}

#[tokio::test]
async fn a_request_is_counted_and_reserved_or_neither() {
    let bench = Bench::start().await;
    let limits = &bench.limits;
    let rules = rules(2);
    let one = limits
        .admit_all(&ask("1", &rules, 5), Some(&reserve("1", 600)))
        .await
        .unwrap();
    let Admission::Admitted { standing } = one else {
        panic!("{one:?}");
    };
    assert_eq!(standing.requests.unwrap().remaining, 1);
    let before = bench.everything().await;

    let left = State {
        reserved: tokens(600),
        running: 1,
        ..State::default()
    };
    let held = limits
        .admit_all(&ask("2", &rules, 5), Some(&reserve("2", 401)))
        .await
        .unwrap();
    assert_eq!(held, Admission::Unreserved(Reserved::Held { left }));
    let never = limits
        .admit_all(&ask("2", &rules, 5), Some(&reserve("2", 1001)))
        .await
        .unwrap();
    assert_eq!(never, Admission::Unreserved(Reserved::Exhausted { left }));
    assert_eq!(bench.everything().await, before);

    // The same request again, after waiting.
    let two = limits
        .admit_all(&ask("2", &rules, 5), Some(&reserve("2", 400)))
        .await
        .unwrap();
    assert!(matches!(two, Admission::Admitted { .. }), "{two:?}");
    let before = bench.everything().await;
    let limited = limits
        .admit_all(&ask("3", &rules, 5), Some(&reserve("3", 1)))
        .await
        .unwrap();
    assert!(matches!(limited, Admission::Limited(_)), "{limited:?}");
    let again = limits
        .admit_all(&ask("2", &rules, 5), Some(&reserve("2", 400)))
        .await
        .unwrap();
    assert!(matches!(again, Admission::Admitted { .. }), "{again:?}");
    assert_eq!(
        bench.everything().await,
        before,
        "asked twice is asked once"
    );
}

#[tokio::test]
async fn who_stands_under_no_rule_only_reserves_and_without_both_nothing_is_written() {
    let bench = Bench::start().await;
    let free = ask("1", &[], 5);
    let admitted = bench.limits.admit_all(&free, None).await.unwrap();
    assert!(
        matches!(admitted, Admission::Admitted { .. }),
        "{admitted:?}"
    );
    assert_eq!(bench.everything().await, []);
    bench.limits.finish(&free, 7).await.unwrap();
    bench
        .limits
        .admit_all(&free, Some(&reserve("1", 5)))
        .await
        .unwrap();
    assert_eq!(
        bench.limits.read("a@ever").await.unwrap().reserved,
        tokens(5)
    );
}

/// Asks for `amount` until it is granted or refused for ever, and gives the amount back in halves.
async fn one_request(limits: &RedisLimits, id: &str, amount: u64) -> Result<u64, StoreError> {
    let rules = rules(1 << 40);
    loop {
        let answer = limits
            .admit_all(&ask(id, &rules, 1), Some(&reserve(id, amount)))
            .await?;
        match answer {
            Admission::Admitted { .. } => break,
            Admission::Unreserved(Reserved::Exhausted { .. }) => return Ok(0),
            Admission::Unreserved(Reserved::Held { .. }) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
    let spent = tokens(amount / 2);
    limits.update("a@ever", id, spent, spent).await?;
    limits.settle("a@ever", id, spent, false).await?;
    limits.finish(&ask(id, &rules, 1), 1).await?;
    Ok(amount / 2)
}

#[tokio::test]
async fn four_gateways_together_never_give_away_more_than_there_is_and_refuse_none_while_there_is_room()
 {
    let redis = PrivateRedis::start().await;
    for amount in [1, 3, 7] {
        let () = redis.run(&["FLUSHALL"]).await;
        let gateways: Vec<_> = (0..4)
            .map(|nth| another(&redis, &nth.to_string()))
            .collect();
        // Nobody gives anything back: as many are granted as there is room for.
        let asked = gateways.iter().enumerate().flat_map(|(nth, limits)| {
            (0..250).map(move |request| async move {
                let reserve = reserve(&format!("{nth}-{request}"), amount);
                limits.reserve(&reserve).await.unwrap()
            })
        });
        let answers = join_all(asked).await;
        let granted = |answer: &&Reserved| matches!(answer, Reserved::Granted { .. });
        let granted = answers.iter().filter(granted).count() as u64;
        assert_eq!(granted, (1000 / amount).min(1000));
        let state = gateways[0].read("a@ever").await.unwrap();
        assert_eq!(state.reserved, tokens(granted * amount));
        assert_eq!(state.running, granted);
    }
}

#[tokio::test]
async fn four_gateways_that_wait_for_each_other_use_all_there_is_and_no_more() {
    let redis = PrivateRedis::start().await;
    let gateways: Vec<_> = (0..4)
        .map(|nth| another(&redis, &nth.to_string()))
        .collect();
    let asked = gateways.iter().enumerate().flat_map(|(nth, limits)| {
        (0..250).map(move |request| async move {
            let id = format!("{nth}-{request}");
            one_request(limits, &id, 20).await.unwrap()
        })
    });
    let spent: u64 = join_all(asked).await.iter().sum();
    // Ten of the last twenty are spent, then twenty more do not fit.
    assert_eq!(spent, 990);
    let state = gateways[0].read("a@ever").await.unwrap();
    assert_eq!(
        (state.used, state.reserved, state.running),
        (tokens(990), tokens(0), 0)
    );
    let mut settled = 0;
    for nth in ["0", "1", "2", "3"] {
        settled += gateways[0]
            .settled_by("a@ever", nth)
            .await
            .unwrap()
            .unwrap()
            .0
            .tokens;
    }
    assert_eq!(settled, 990);
}

#[tokio::test]
async fn a_thousand_requests_at_once_pass_a_limit_exactly_as_often_as_it_says() {
    let redis = PrivateRedis::start().await;
    let gateways: Vec<_> = (0..4)
        .map(|nth| another(&redis, &nth.to_string()))
        .collect();
    let rules = user(RateLimits {
        requests_per_day: Some(300),
        tokens_per_day: Some(3 * 333),
        max_concurrent: Some(310),
        ..RateLimits::default()
    });
    let rules = &rules;
    let asked = gateways.iter().enumerate().flat_map(|(nth, limits)| {
        (0..250).map(move |request| async move {
            let ask = ask(&format!("{nth}-{request}"), rules, 3);
            limits.admit(&ask).await.unwrap().is_ok()
        })
    });
    let passed = join_all(asked)
        .await
        .into_iter()
        .filter(|passed| *passed)
        .count();
    assert_eq!(passed, 300);
}

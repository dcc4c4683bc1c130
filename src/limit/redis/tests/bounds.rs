use super::*;

#[tokio::test]
async fn what_each_gateway_has_settled_is_known_up_to_a_thousand_of_them() {
    let bench = Bench::start().await;
    assert_eq!(bench.settled_by("one").await, None);
    bench.charged("1", 5).await;
    let fill = "for i = 2, 999 do \
                redis.call('HSET', KEYS[1], 'u:' .. i .. ':t', '1', 'u:' .. i .. ':n', '0') end";
    bench.on_account(fill).await;
    // Three more whose leases run out together: one of them is the thousandth.
    let three = [("2", "2nd"), ("3", "3rd"), ("4", "4th")];
    for (id, instance) in three {
        let limits = another(&bench.redis, instance);
        limits.set_now(NOW);
        limits.reserve(&reserve(id, 100)).await.unwrap();
        let spent = tokens(50);
        limits.update(A, id, tokens(100), spent).await.unwrap();
    }
    bench.at(LEASE);
    bench.state().await;
    let late = another(&bench.redis, "late");
    for _ in 0..2 {
        late.settle(A, "late", tokens(9), true).await.unwrap();
    }
    bench.charged("5", 5).await;
    let settled = |instance| bench.settled_by(instance);
    assert_eq!(settled("one").await, Some((tokens(10), NOW.cast_signed())));
    assert_eq!(settled("999").await, Some((tokens(1), NOW.cast_signed())));
    assert_eq!(settled("late").await, None, "nobody knows");
    let mut known = Vec::new();
    for (_, instance) in three {
        known.extend(settled(instance).await);
    }
    assert_eq!(known, [(tokens(50), NOW.cast_signed())]);
    let shared = ["HGET", "llmproxy:q:a:a@ever", "u:*:t"];
    assert_eq!(bench.redis.run::<u64>(&shared).await, 109);
    // Those who have an entry keep it.
    let settled_999 = another(&bench.redis, "999");
    settled_999.settle(A, "6", tokens(7), true).await.unwrap();
    assert_eq!(settled("999").await, Some((tokens(8), NOW.cast_signed())));
}

#[tokio::test]
async fn ten_thousand_bills_without_reservation_are_remembered_and_the_oldest_go() {
    let bench = Bench::start().await;
    bench.reserved("kept", 0).await;
    let fill = "for i = 1, 10050 do \
                redis.call('HSET', KEYS[2], i, '1:0:1:0/gone') \
                redis.call('ZADD', KEYS[3], ARGV[1], i) end \
                redis.call('HSET', KEYS[1], 'res_t', '10050')";
    bench.on_account(fill).await;
    // So many leases are ended by one question that no other waits long.
    for (used, running) in [(5_000, 5_051), (10_000, 51), (10_050, 1)] {
        assert_eq!(
            bench.at(1).read(A).await.unwrap(),
            state(used, 10_050 - used, running)
        );
    }
    for (kind, count) in [("x", "HLEN"), ("y", "ZCARD")] {
        let key = format!("llmproxy:q:{kind}:a@ever");
        assert_eq!(bench.redis.run::<u64>(&[count, &key]).await, 10_000);
    }
    // Eight days later others take them along, a batch each; `kept` is among the others, its lease is over.
    bench.at(8 * 86_400_000 + 1);
    for id in 0..21 {
        bench.charged(&format!("later {id}"), 0).await;
    }
    assert_eq!(
        bench
            .redis
            .run::<u64>(&["HLEN", "llmproxy:q:x:a@ever"])
            .await,
        22
    );
}

#[tokio::test]
async fn an_account_takes_a_hundred_thousand_reservations() {
    let bench = Bench::start().await;
    bench.reserved("first", 0).await;
    let fill = "for i = 2, 99999 do redis.call('HSET', KEYS[2], i, '0:0:0:0/one') end";
    bench.on_account(fill).await;
    let left = state(0, 0, 100_000);
    assert_eq!(bench.reserved("last", 0).await, Reserved::Granted { left });
    assert_eq!(bench.reserved("more", 0).await, Reserved::Held { left });
    assert_eq!(bench.reserved("last", 0).await, Reserved::Granted { left });
}

const DAY: i64 = 86_400;

impl Bench {
    /// Returns how long one of an account's keys is kept, in seconds; -1: for ever, -2: it is not there.
    async fn kept(&self, kind: &str, name: &str) -> i64 {
        let key = format!("llmproxy:q:{kind}:{name}");
        self.redis.run(&["TTL", &key]).await
    }

    async fn reserved_until(&self, name: &str, id: &str, ends: Option<i64>) {
        let mut ask = reserve(id, 10);
        ask.account = Arc::new(Account {
            name: name.into(),
            ends,
            ..(*ask.account).clone()
        });
        self.limits.reserve(&ask).await.unwrap();
    }
}

fn is_about(seconds: i64, expected: i64) -> bool {
    (expected - 60..=expected + 60).contains(&seconds)
}

#[tokio::test]
async fn an_account_is_kept_for_five_weeks_after_its_period_and_one_without_an_end_for_ever() {
    let bench = Bench::start().await;
    bench.limits.set_now(0);
    let now = jiff::Timestamp::now().as_second();
    for (name, ends, expected) in [
        ("a@ever", None, -1),
        ("b@2096-10-02", Some(now + DAY), 36 * DAY),
        // Also one whose time is over by now is not forgotten under a running request.
        ("c@2020-01-01", Some(now - 100 * DAY), DAY),
    ] {
        for id in ["1", "2"] {
            bench.reserved_until(name, id, ends).await;
            for kind in ["a", "r", "l"] {
                let kept = bench.kept(kind, name).await;
                assert!(is_about(kept, expected), "{kind} {name} {kept}");
            }
            let settled = bench.limits.settle(name, id, tokens(1), true);
            settled.await.unwrap();
            let kept = bench.kept("x", name).await;
            assert!(is_about(kept, 8 * DAY), "{name} {kept}");
            assert_eq!(bench.kept("r", name).await, -2);
        }
    }
}

#[tokio::test]
async fn an_account_whose_period_turns_out_longer_is_kept_longer() {
    let bench = Bench::start().await;
    bench.limits.set_now(0);
    let now = jiff::Timestamp::now().as_second();
    let name = "a@2096-10";
    bench.reserved_until(name, "1", Some(now + DAY)).await;
    bench.reserved_until(name, "2", Some(now + 5 * DAY)).await;
    for kind in ["a", "r", "l"] {
        let kept = bench.kept(kind, name).await;
        assert!(is_about(kept, 40 * DAY), "{kind} {kept}");
    }
    // Their leases are over, and a reservation follows at once.
    let later = u64::try_from(now).unwrap() * 1_000 + 2 * LEASE;
    bench.limits.set_now(later);
    bench.reserved_until(name, "3", Some(now + 5 * DAY)).await;
    for kind in ["a", "r", "l"] {
        let kept = bench.kept(kind, name).await;
        assert!(is_about(kept, 40 * DAY), "{kind} {kept}");
    }
}

#[tokio::test]
async fn an_account_that_was_never_reserved_on_is_known_by_its_name_only() {
    let bench = Bench::start().await;
    bench.limits.set_now(0);
    let now = jiff::Timestamp::now();
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let this_month = today.first_of_month().to_string()[..7].to_owned();
    for (name, expected) in [
        ("a@ever".to_owned(), -1..=-1),
        ("odd".to_owned(), -1..=-1),
        ("a@2026-13-99".to_owned(), -1..=-1),
        (format!("a@{today}"), 35 * DAY..=69 * DAY),
        (format!("a@{this_month}"), 35 * DAY..=69 * DAY),
    ] {
        let settled = bench.limits.settle(&name, "1", tokens(1), true);
        settled.await.unwrap();
        let kept = bench.kept("a", &name).await;
        assert!(expected.contains(&kept), "{name} {kept}");
    }
}

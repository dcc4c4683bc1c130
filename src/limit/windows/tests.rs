use proptest::prelude::*;

use super::*;
use crate::config::RateLimits;

const MINUTE: u64 = 60_000;

#[test]
fn what_has_passed_counts_until_all_of_its_slot_is_a_minute_ago() {
    let mut window = Window::<60, 1_000>::default();
    // At 0.9 s of a second that is a minute old at 61 s.
    window.add(5, 900);
    assert_eq!(window.wait(5, 10, 900), None);
    assert_eq!(window.wait(6, 10, 900), Some(Wait::Millis(60_100)));
    assert_eq!(window.wait(6, 10, 60_999), Some(Wait::Millis(1)));
    assert_eq!(window.wait(6, 10, 61_000), None);
}

#[test]
fn what_is_larger_than_the_limit_never_fits() {
    let mut window = Window::<60, 1_000>::default();
    assert_eq!(window.wait(11, 10, 0), Some(Wait::Forever));
    assert_eq!(window.wait(1, 0, 0), Some(Wait::Forever));
    assert_eq!(window.wait(0, 0, 0), None);
}

#[test]
fn what_is_taken_back_is_taken_from_where_it_was_counted() {
    let mut window = Window::<60, 1_000>::default();
    window.add(7, 0);
    window.add(3, 30_000);
    window.take_back(7, 0);
    assert_eq!(
        window.rest(10, 30_000),
        Rest {
            remaining: 7,
            reset: 61_000
        }
    );
    // It is out already: there is nothing to take back.
    window.add(5, 95_000);
    window.take_back(3, 30_000);
    assert_eq!(window.rest(10, 95_000).remaining, 5);
    // Never more than was counted.
    window.take_back(100, 95_000);
    assert!(window.is_idle(95_000));
}

#[test]
fn a_window_remembers_no_more_slots_than_it_has() {
    let mut window = Window::<96, 900_000>::default();
    for second in 0..10 * 86_400 {
        let now = second * 1_000;
        window.wait(1, 10, now);
        window.add(1, now);
    }
    assert_eq!(window.slots.len(), 97);
    assert_eq!(
        window.rest(100_000, 863_999_000).remaining,
        100_000 - 97 * 900
    );
}

#[test]
fn counts_at_the_end_of_numbers_do_no_harm() {
    let mut window = Window::<60, 1_000>::default();
    window.add(u64::MAX, 0);
    window.add(u64::MAX, 1_000);
    assert_eq!(
        window.wait(1, u64::MAX - 1, 1_000),
        Some(Wait::Millis(61_000))
    );
    assert_eq!(window.wait(u64::MAX, u64::MAX, 62_000), None);
    let ages_later = u64::MAX / 2;
    window.add(u64::MAX, ages_later);
    assert_eq!(window.rest(1, ages_later).remaining, 0);
}

#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Ask(u64),
    /// The n-th of those that passed took this many less.
    TakeBack(usize, u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => prop_oneof![0..2_000_u64, 0..MINUTE + 5_000].prop_map(Event::Pass),
        6 => (0..60_u64).prop_map(Event::Ask),
        1 => (any::<usize>(), 0..60_u64).prop_map(|(which, amount)| Event::TakeBack(which, amount)),
    ]
}

proptest! {
    /// Against a list of all that passed.
    #[test]
    fn in_no_minute_more_than_the_limit_passes(
        limit in 0..100_u64,
        events in prop::collection::vec(event(), 1..300),
    ) {
        let mut window = Window::<60, 1_000>::default();
        let mut passed: Vec<(u64, u64)> = Vec::new();
        let mut now = 0;
        for event in events {
            match event {
                Event::Pass(time) => now += time,
                Event::TakeBack(which, less) if !passed.is_empty() => {
                    let which = which % passed.len();
                    let (at, amount) = &mut passed[which];
                    let less = less.min(*amount);
                    *amount -= less;
                    window.take_back(less, *at);
                }
                Event::TakeBack(..) => {}
                Event::Ask(amount) => {
                    let since = |from: u64| -> u64 {
                        let recent = passed.iter().filter(|(at, _)| *at >= from);
                        recent.map(|(_, amount)| amount).sum()
                    };
                    // Whole slots: what passed in the 61st second before this one is out.
                    let counts_from = (now / 1_000).saturating_sub(60) * 1_000;
                    let fits = since(counts_from) + amount <= limit;
                    let wait = window.wait(amount, limit, now);
                    prop_assert_eq!(wait.is_none(), fits);
                    match wait {
                        None => {
                            window.add(amount, now);
                            passed.push((now, amount));
                            let minute = now.saturating_sub(MINUTE - 1);
                            let sum: u64 = passed.iter().filter(|(at, _)| *at >= minute).map(|(_, amount)| amount).sum();
                            prop_assert!(sum <= limit, "{} in the minute to {}", sum, now);
                        }
                        Some(Wait::Forever) => prop_assert!(amount > limit),
                        Some(Wait::Millis(wait)) => {
                            let mut later = window.clone();
                            prop_assert_eq!(later.wait(amount, limit, now + wait), None);
                            let mut sooner = window.clone();
                            prop_assert!(sooner.wait(amount, limit, now + wait - 1).is_some());
                        }
                    }
                }
            }
        }
    }

    /// In any time T no more than burst + rate × T requests pass, and what is refused would have been
    /// too much.
    #[test]
    fn a_bucket_passes_what_its_rate_says_to_the_last_request(
        rate in 1..50_000_u64,
        burst in prop::option::of(1..20_u64),
        times in prop::collection::vec(prop_oneof![Just(0), 0..50_u64, 0..5_000_u64], 1..300),
    ) {
        let limits = RateLimits {
            requests_per_second_milli: Some(rate),
            burst_size: burst,
            ..RateLimits::default()
        };
        let shape = BucketShape::of(&limits).unwrap();
        let mut bucket = Bucket::new(shape, 0);
        let mut passed: Vec<u64> = Vec::new();
        let mut now = 0;
        for time in times {
            now += time;
            bucket.refill(shape, now);
            if let Some(wait) = bucket.wait() {
                let Wait::Millis(wait) = wait else {
                    panic!("{wait:?}");
                };
                let mut later = bucket;
                later.refill(shape, now + wait);
                prop_assert_eq!(later.wait(), None);
                let mut sooner = bucket;
                sooner.refill(shape, now + wait - 1);
                prop_assert!(sooner.wait().is_some());
                continue;
            }
            bucket.take();
            passed.push(now);
            for (index, from) in passed.iter().enumerate() {
                let count = (passed.len() - index) as u64;
                prop_assert!(count * REQUEST <= shape.capacity + rate * (now - from));
            }
        }
    }
}

#[test]
fn a_bucket_never_drifts() {
    // A third of a request per second, asked every millisecond for hours.
    let limits = RateLimits {
        requests_per_second_milli: Some(333),
        burst_size: Some(1),
        ..RateLimits::default()
    };
    let shape = BucketShape::of(&limits).unwrap();
    let mut bucket = Bucket::new(shape, 0);
    let mut passed = 0;
    for now in 0..10_000_000 {
        bucket.refill(shape, now);
        if bucket.wait().is_none() {
            bucket.take();
            passed += 1;
        }
    }
    // The first at once, then one every 3,003.003 ms, asked at whole milliseconds: 3,004.
    assert_eq!(passed, 1 + (10_000_000 - 1) / 3_004);
}

#[test]
fn the_size_of_a_bucket_is_twice_its_rate_and_at_least_one() {
    let capacity = |rate, burst| {
        let limits = RateLimits {
            requests_per_second_milli: Some(rate),
            burst_size: burst,
            ..RateLimits::default()
        };
        BucketShape::of(&limits).unwrap().capacity
    };
    assert_eq!(capacity(10_000, None), 20 * REQUEST);
    assert_eq!(capacity(1_200, None), 2_400_000);
    assert_eq!(capacity(100, None), REQUEST);
    assert_eq!(capacity(100, Some(7)), 7 * REQUEST);
    assert_eq!(capacity(10_000, Some(0)), 20 * REQUEST, "0 is not written");
    assert_eq!(capacity(0, Some(7)), 0, "no rate, no requests");
    assert_eq!(BucketShape::of(&RateLimits::default()), None);
}

#[test]
fn a_bucket_follows_a_new_configuration() {
    let shape = |rate, burst| {
        BucketShape::of(&RateLimits {
            requests_per_second_milli: Some(rate),
            burst_size: Some(burst),
            ..RateLimits::default()
        })
        .unwrap()
    };
    let mut bucket = Bucket::new(shape(1_000, 10), 0);
    bucket.refill(shape(1_000, 2), 0);
    assert_eq!(bucket.rest().remaining, 2, "what is smaller runs over");
    bucket.refill(shape(1_000, 10), 0);
    assert_eq!(bucket.rest().remaining, 2, "what is larger fills up");
    bucket.refill(shape(1_000, 10), 3_000);
    let rest = Rest {
        remaining: 5,
        reset: 5_000,
    };
    assert_eq!(bucket.rest(), rest);
    // A clock that another thread read earlier changes nothing.
    bucket.refill(shape(1_000, 10), 1_000);
    assert_eq!(bucket.rest(), rest);
    assert!(!bucket.is_idle(7_999));
    assert!(bucket.is_idle(8_000));
}

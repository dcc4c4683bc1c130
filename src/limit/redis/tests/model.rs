//! Rates beside a model that remembers everything and forgets nothing.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// One limit of each kind, small enough to be met often.
#[derive(Clone, Debug)]
struct Limits {
    /// Thousandths per second, and size.
    bucket: (u64, u64),
    minute: u64,
    day: u64,
    minute_tokens: u64,
    day_tokens: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Ask(u64),
    /// One of the running requests ends, having taken so many tokens.
    Finish(prop::sample::Index, u64),
    Undo(prop::sample::Index),
}

/// Something that was counted.
#[derive(Clone, Copy, Debug)]
struct Event {
    at: u64,
    requests: u64,
    tokens: u64,
}

#[derive(Default)]
struct Model {
    events: Vec<Event>,
    /// Millionths of a request that are missing, and when they were.
    missing: u64,
    at: u64,
}

const MINUTE: (u64, u64) = (60, 1_000);
const DAY: (u64, u64) = (96, 900_000);

/// When an event no longer counts in a window of slots.
fn out((slots, length): (u64, u64), at: u64) -> u64 {
    (at / length + slots + 1) * length
}

impl Model {
    fn sum(&self, shape: (u64, u64), now: u64, of: fn(&Event) -> u64) -> u64 {
        let counts = self
            .events
            .iter()
            .filter(|event| out(shape, event.at) > now);
        counts.map(of).sum()
    }

    /// How long until `wanted` fit; `None`: never.
    fn wait(
        &self,
        shape: (u64, u64),
        now: u64,
        of: fn(&Event) -> u64,
        wanted: u64,
        limit: u64,
    ) -> Option<u64> {
        if wanted > limit {
            return None;
        }
        let mut times: Vec<u64> = self
            .events
            .iter()
            .map(|event| out(shape, event.at))
            .collect();
        times.push(now);
        times.retain(|time| *time >= now);
        times.sort_unstable();
        let fits = |time: &&u64| self.sum(shape, **time, of) + wanted <= limit;
        times.iter().find(fits).map(|time| time - now)
    }

    fn refill(&mut self, limits: &Limits, now: u64) {
        let refilled = (now - self.at) * limits.bucket.0;
        self.missing = self.missing.saturating_sub(refilled);
        self.at = now;
    }

    /// How long until the request passes: 0 if it does now, `None` if never.
    fn admit(&mut self, limits: &Limits, tokens: u64, now: u64) -> Option<u64> {
        self.refill(limits, now);
        let (rate, size) = (limits.bucket.0, limits.bucket.1 * 1_000_000);
        let surplus = (self.missing + 1_000_000).saturating_sub(size);
        let requests: fn(&Event) -> u64 = |event| event.requests;
        let taken: fn(&Event) -> u64 = |event| event.tokens;
        let waits = [
            Some(surplus.div_ceil(rate)),
            self.wait(MINUTE, now, requests, 1, limits.minute),
            self.wait(DAY, now, requests, 1, limits.day),
            self.wait(MINUTE, now, taken, tokens, limits.minute_tokens),
            self.wait(DAY, now, taken, tokens, limits.day_tokens),
        ];
        let longest = waits
            .into_iter()
            .try_fold(0, |longest, wait| wait.map(|wait| wait.max(longest)));
        if longest == Some(0) {
            self.missing += 1_000_000;
            self.events.push(Event {
                at: now,
                requests: 1,
                tokens,
            });
        }
        longest
    }

    /// What is left of requests and of tokens.
    fn left(&mut self, limits: &Limits, now: u64) -> [u64; 2] {
        self.refill(limits, now);
        let requests: fn(&Event) -> u64 = |event| event.requests;
        let taken: fn(&Event) -> u64 = |event| event.tokens;
        let left = |shape, of, limit: u64| limit.saturating_sub(self.sum(shape, now, of));
        let bucket = (limits.bucket.1 * 1_000_000 - self.missing) / 1_000_000;
        let minute = left(MINUTE, requests, limits.minute);
        let day = left(DAY, requests, limits.day);
        let minute_tokens = left(MINUTE, taken, limits.minute_tokens);
        let day_tokens = left(DAY, taken, limits.day_tokens);
        [bucket.min(minute).min(day), minute_tokens.min(day_tokens)]
    }

    /// Whether in no stretch of that length, wherever it begins, more requests passed than `limit`.
    fn keeps(&self, length: u64, limit: u64) -> bool {
        self.events.iter().all(|from| {
            let within = |event: &&Event| (from.at..from.at + length).contains(&event.at);
            let passed = self.events.iter().filter(within);
            passed.map(|event| event.requests).sum::<u64>() <= limit
        })
    }

    fn finish(&mut self, nth: usize, tokens: u64, now: u64) {
        let event = &mut self.events[nth];
        let more = tokens.saturating_sub(event.tokens);
        event.tokens = event.tokens.min(tokens);
        self.events.push(Event {
            at: now,
            requests: 0,
            tokens: more,
        });
    }

    fn undo(&mut self, nth: usize, limits: &Limits, now: u64) {
        self.refill(limits, now);
        self.missing = self.missing.saturating_sub(1_000_000);
        self.events[nth].requests = 0;
        self.events[nth].tokens = 0;
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    let bucket = (1u64..5_000, 1u64..6);
    (bucket, 1u64..12, 1u64..30, 1u64..60, 1u64..200).prop_map(
        |(bucket, minute, day, minute_tokens, day_tokens)| Limits {
            bucket,
            minute,
            day,
            minute_tokens,
            day_tokens,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![
        4 => 0u64..2_500,
        2 => 0u64..70_000,
        1 => 0u64..2_000_000,
        1 => 0u64..100_000_000,
    ];
    let step = prop_oneof![
        3 => wait.prop_map(Step::Wait),
        5 => (0u64..40).prop_map(Step::Ask),
        2 => (any::<prop::sample::Index>(), 0u64..60).prop_map(|(of, tokens)| Step::Finish(of, tokens)),
        1 => any::<prop::sample::Index>().prop_map(Step::Undo),
    ];
    prop::collection::vec(step, 1..80)
}

fn left(standing: Standing) -> [u64; 2] {
    [standing.requests, standing.tokens].map(|level| level.unwrap().remaining)
}

async fn agree(bench: &Bench, limits: &Limits, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let () = bench.redis.run(&["FLUSHALL"]).await;
    let rules = user(RateLimits {
        requests_per_second_milli: Some(limits.bucket.0),
        burst_size: Some(limits.bucket.1),
        requests_per_minute: Some(limits.minute),
        requests_per_day: Some(limits.day),
        tokens_per_minute: Some(limits.minute_tokens),
        tokens_per_day: Some(limits.day_tokens),
        max_concurrent: None,
    });
    let mut model = Model {
        at: NOW,
        ..Model::default()
    };
    let mut now = NOW;
    // Which event of the model, and the request.
    let mut running: Vec<(usize, RateAsk)> = Vec::new();
    for (nth, step) in steps.into_iter().enumerate() {
        match step {
            Step::Wait(millis) => now += millis,
            Step::Ask(tokens) => {
                bench.limits.set_now(now);
                let ask = ask(&nth.to_string(), &rules, tokens);
                let answer = bench.limits.admit(&ask).await.unwrap();
                let expected = model.admit(limits, tokens, now);
                let (wait, standing) = match answer {
                    Ok(standing) => {
                        running.push((model.events.len() - 1, ask));
                        (Some(Duration::ZERO), standing)
                    }
                    Err(refusal) => (refusal.retry_after, refusal.standing),
                };
                prop_assert_eq!(wait, expected.map(Duration::from_millis));
                prop_assert_eq!(left(standing), model.left(limits, now));
            }
            Step::Finish(index, tokens) if !running.is_empty() => {
                bench.limits.set_now(now);
                let (event, ask) = running.swap_remove(index.index(running.len()));
                bench.limits.finish(&ask, tokens).await.unwrap();
                model.finish(event, tokens, now);
            }
            Step::Undo(index) if !running.is_empty() => {
                bench.limits.set_now(now);
                let (event, ask) = running.swap_remove(index.index(running.len()));
                bench.limits.undo(&ask).await.unwrap();
                model.undo(event, limits, now);
            }
            Step::Finish(..) | Step::Undo(_) => {}
        }
    }
    prop_assert!(model.keeps(60_000, limits.minute));
    prop_assert!(model.keeps(86_400_000, limits.day));
    Ok(())
}

#[test]
fn the_windows_are_those_of_a_model_that_remembers_everything() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let bench = runtime.block_on(Bench::start());
    let config = Config {
        cases: 64,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&(limits(), steps()), |(limits, steps)| {
        runtime.block_on(agree(&bench, &limits, steps))
    });
    checked.unwrap();
}

//! Against a list of everything that was admitted.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Ask { key: usize, tokens: u64 },
    Finish { which: usize, tokens: u64 },
    Undo(usize),
    Sweep,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop_oneof![0..3_000_u64, 0..80_000_u64].prop_map(Event::Pass),
        8 => (0..3_usize, 0..40_u64).prop_map(|(key, tokens)| Event::Ask { key, tokens }),
        4 => (any::<usize>(), 0..40_u64)
            .prop_map(|(which, tokens)| Event::Finish { which, tokens }),
        1 => any::<usize>().prop_map(Event::Undo),
        1 => Just(Event::Sweep),
    ]
}

/// Requests and tokens per minute, and running requests.
struct Most(u64, u64, usize);

impl Most {
    fn rule(&self, subject: Subject) -> (Subject, RateLimits) {
        let limits = RateLimits {
            tokens_per_minute: Some(self.1),
            max_concurrent: Some(self.2 as u64),
            ..per_minute(self.0)
        };
        (subject, limits)
    }
}

const GLOBAL: Most = Most(12, 120, 6);
const OWN: Most = Most(5, 60, 3);
const KEYS: [&str; 3] = ["a", "b", "c"];

struct Admitted {
    key: usize,
    at: u64,
    /// What it took, at most what was expected.
    tokens: u64,
    running: Option<Receipt>,
}

struct World {
    local: Local,
    log: Vec<Admitted>,
    now: u64,
}

impl World {
    fn happens(&mut self, event: &Event) -> TestCaseResult {
        match *event {
            Event::Pass(time) => self.now += time,
            Event::Sweep => sweep(&self.local, self.now),
            Event::Ask { key, tokens } => return self.ask(key, tokens),
            Event::Finish { which, tokens } => {
                if let Some(index) = self.a_running_one(which) {
                    let one = &mut self.log[index];
                    one.tokens = tokens.min(one.tokens);
                    let receipt = one.running.take().unwrap();
                    receipt.finish(one.tokens, self.now);
                }
            }
            Event::Undo(which) => {
                if let Some(index) = self.a_running_one(which) {
                    self.log.remove(index).running.unwrap().undo();
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, index: usize, tokens: u64) -> TestCaseResult {
        let rules = [GLOBAL.rule(Subject::Global), OWN.rule(key(KEYS[index]))];
        let fits = |from| self.fits(index, tokens, from);
        let has_permit = self.running(None) < GLOBAL.2 && self.running(Some(index)) < OWN.2;
        // Whole seconds, of which the 61st before this one is out.
        let counts_from = |now: u64| (now / 1_000).saturating_sub(60) * 1_000;
        match self.local.admit(&ask(rules, tokens), self.now) {
            Ok((receipt, _)) => {
                let minute = self.now.saturating_sub(59_999);
                prop_assert!(fits(minute) && has_permit);
                self.log.push(Admitted {
                    key: index,
                    at: self.now,
                    tokens,
                    running: Some(receipt),
                });
            }
            Err(refusal) => {
                prop_assert!(!fits(counts_from(self.now)) || !has_permit);
                if refusal.limited != Limited::Concurrent {
                    let then = self.now + refusal.retry_after.unwrap().as_millis() as u64;
                    prop_assert!(fits(counts_from(then)), "{:?}", refusal);
                    prop_assert!(!fits(counts_from(then - 1)), "{:?}", refusal);
                }
            }
        }
        Ok(())
    }

    /// Whether a request would fit besides what was admitted since `from`.
    fn fits(&self, key: usize, tokens: u64, from: u64) -> bool {
        [(&GLOBAL, None), (&OWN, Some(key))]
            .iter()
            .all(|(most, key)| {
                let recent = || self.of(*key).filter(|one| one.at >= from);
                let taken: u64 = recent().map(|one| one.tokens).sum();
                (recent().count() as u64) < most.0 && taken + tokens <= most.1
            })
    }

    fn running(&self, key: Option<usize>) -> usize {
        self.of(key).filter(|one| one.running.is_some()).count()
    }

    fn of(&self, key: Option<usize>) -> impl Iterator<Item = &Admitted> {
        let of_key = move |one: &&Admitted| key.is_none_or(|key| one.key == key);
        self.log.iter().filter(of_key)
    }

    fn a_running_one(&self, which: usize) -> Option<usize> {
        let runs = |index: &usize| self.log[*index].running.is_some();
        let running: Vec<usize> = (0..self.log.len()).filter(runs).collect();
        let which = which.checked_rem(running.len())?;
        running.get(which).copied()
    }
}

proptest! {
    #[test]
    fn no_limit_is_passed_and_nothing_is_refused_without_need(
        events in prop::collection::vec(event(), 1..200),
    ) {
        let mut world = World { local: Local::new(10), log: Vec::new(), now: 0 };
        for event in events {
            world.happens(&event)?;
        }
    }
}

//! Accounts beside a model that keeps everything in maps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Reserve(u8, u64),
    Update(u8, u64, u64),
    Settle(u8, u64, bool),
    Renew(u8),
    Read,
    Reset,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    held: u64,
    spent: u64,
    lease: u64,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    charged: u64,
    /// Of that, what is among what is used.
    counted: u64,
    /// `None`: billed.
    held: Option<u64>,
    forgotten: bool,
}

#[derive(Default)]
struct Model {
    open: BTreeMap<u8, Open>,
    notes: BTreeMap<u8, Note>,
    /// Settled without a note.
    settled: u64,
    /// Of that, what is among what is used.
    counted: u64,
    now: u64,
}

impl Model {
    fn state(&self) -> State {
        let noted: u64 = self.notes.values().map(|note| note.counted).sum();
        let held = self.open.values().map(|open| open.held).sum();
        state(self.counted + noted, held, self.open.len() as u64)
    }

    fn settled(&self) -> u64 {
        let noted: u64 = self.notes.values().map(|note| note.charged).sum();
        self.settled + noted
    }

    fn expire(&mut self) {
        let now = self.now;
        let dead: Vec<u8> = self.open.keys().copied().collect();
        for id in dead {
            if let Some(open) = self.open.get(&id).copied().filter(|open| open.lease <= now) {
                self.open.remove(&id);
                self.notes.insert(
                    id,
                    Note {
                        charged: open.spent,
                        counted: open.spent,
                        held: Some(open.held),
                        forgotten: false,
                    },
                );
            }
        }
    }

    fn hold(&mut self, id: u8, held: u64, spent: u64) {
        let lease = self.now + LEASE;
        self.open.insert(id, Open { held, spent, lease });
    }

    fn reserve(&mut self, id: u8, amount: u64) -> Reserved {
        self.expire();
        let left = self.state();
        let note = self.notes.get(&id).copied();
        let known = self.open.contains_key(&id);
        if known || note.is_some_and(|note| note.held.is_none()) {
            return Reserved::Granted { left };
        }
        if left.used.tokens + amount > LIMIT {
            return Reserved::Exhausted { left };
        }
        if left.used.tokens + left.reserved.tokens + amount > LIMIT {
            return Reserved::Held { left };
        }
        let note = self.notes.remove(&id);
        self.hold(id, amount, note.map_or(0, |note| note.charged));
        Reserved::Granted { left: self.state() }
    }

    fn update(&mut self, id: u8, held: u64, spent: u64) -> bool {
        let known = self.open.contains_key(&id);
        let revived = self.notes.get(&id).is_some_and(|note| note.held.is_some());
        if known || revived {
            self.notes.remove(&id);
            self.hold(id, held, spent);
        }
        known
    }

    fn renew(&mut self, id: u8) {
        if let Some(open) = self.open.get(&id).copied() {
            self.hold(id, open.held, open.spent);
        } else if let Some(note) = self.notes.get(&id).copied()
            && let Some(held) = note.held
        {
            self.notes.remove(&id);
            self.hold(id, held, note.charged);
        }
    }

    fn settle(&mut self, id: u8, spent: u64, unreserved: bool) {
        let was_open = self.open.remove(&id).is_some();
        if !was_open && let Some(note) = self.notes.get_mut(&id) {
            let less = note.charged.saturating_sub(spent);
            note.counted += spent.saturating_sub(note.charged);
            note.counted -= if note.forgotten { 0 } else { less };
            note.charged = spent;
            note.held = None;
        } else if unreserved {
            let note = Note {
                charged: spent,
                counted: spent,
                held: None,
                forgotten: false,
            };
            self.notes.insert(id, note);
        } else if was_open {
            self.settled += spent;
            self.counted += spent;
        }
    }

    fn reset(&mut self) {
        self.expire();
        self.counted = 0;
        for note in self.notes.values_mut() {
            note.counted = 0;
            note.forgotten = true;
        }
    }
}

/// Of the account `a`.
const LIMIT: u64 = 1000;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || 0u8..5;
    let amount = || prop_oneof![0u64..700, Just(0), Just(LIMIT), Just(LIMIT + 1)];
    let step = prop_oneof![
        3 => (1u64..LEASE + LEASE / 2).prop_map(Step::Wait),
        4 => (id(), amount()).prop_map(|(id, amount)| Step::Reserve(id, amount)),
        3 => (id(), amount(), amount()).prop_map(|(id, held, spent)| Step::Update(id, held, spent)),
        3 => (id(), amount(), any::<bool>()).prop_map(|(id, spent, unreserved)| Step::Settle(id, spent, unreserved)),
        2 => id().prop_map(Step::Renew),
        1 => Just(Step::Read),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 1..60)
}

async fn take(bench: &Bench, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    let name = |id: u8| format!("request {id}");
    match step {
        Step::Wait(millis) => {
            model.now += millis;
            bench.at(model.now);
        }
        Step::Reserve(id, amount) => {
            let answer = bench.reserved(&name(id), amount).await;
            prop_assert_eq!(answer, model.reserve(id, amount));
        }
        Step::Update(id, held, spent) => {
            let was_there = bench.updated(&name(id), held, spent).await;
            prop_assert_eq!(was_there, model.update(id, held, spent));
        }
        Step::Settle(id, spent, unreserved) => {
            let (request, bill) = (name(id), tokens(spent));
            let settled = bench.limits.settle(A, &request, bill, unreserved);
            settled.await.unwrap();
            model.settle(id, spent, unreserved);
        }
        Step::Renew(id) => {
            let running = [(A.into(), name(id).into())];
            QuotaStore::renew(&bench.limits, &running).await.unwrap();
            model.renew(id);
        }
        Step::Read => {
            model.expire();
            prop_assert_eq!(bench.state().await, model.state());
        }
        Step::Reset => {
            bench.limits.reset(A).await.unwrap();
            model.reset();
            // A note of the very moment of a reset counts as one before it.
            model.now += 1;
            bench.at(model.now);
        }
    }
    Ok(())
}

async fn agree(bench: &Bench, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let () = bench.redis.run(&["FLUSHALL"]).await;
    bench.at(0);
    let mut model = Model::default();
    for step in steps {
        take(bench, &mut model, step).await?;
    }
    model.expire();
    prop_assert_eq!(bench.state().await, model.state());
    let settled = bench.settled_by("one").await;
    prop_assert_eq!(
        settled.map_or(0, |(settled, _)| settled.tokens),
        model.settled()
    );
    Ok(())
}

#[test]
fn accounts_are_those_of_a_model_that_keeps_everything() {
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
    let checked =
        TestRunner::new(config).run(&steps(), |steps| runtime.block_on(agree(&bench, steps)));
    checked.unwrap();
}

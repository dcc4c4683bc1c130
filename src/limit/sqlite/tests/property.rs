//! Whatever happens in whatever order, the sums are right.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Something that happens, at one of two gateways, to one of few requests.
#[derive(Clone, Debug)]
enum Happening {
    Reserve(u8, u64),
    Update(u8, u64, u64),
    Settle(u8, u64, bool),
    Renew(u8),
    Reset,
    /// Seconds.
    Pass(i64),
}

fn happening(seconds: std::ops::Range<i64>) -> impl Strategy<Value = Happening> {
    use Happening::{Pass, Renew, Reserve, Reset, Settle, Update};
    let id = || 0..8_u8;
    let amount = || 0..40_u64;
    prop_oneof![
        6 => (id(), amount()).prop_map(|(id, amount)| Reserve(id, amount)),
        4 => (id(), amount(), amount()).prop_map(|(id, held, spent)| Update(id, held, spent)),
        5 => (id(), amount(), any::<bool>()).prop_map(|(id, spent, un)| Settle(id, spent, un)),
        2 => id().prop_map(Renew),
        1 => Just(Reset),
        4 => seconds.prop_map(Pass),
    ]
}

/// What one request is to the account.
#[derive(Clone, Copy, Debug)]
enum Request {
    Open { held: u64, spent: u64, until: i64 },
    Noted { charged: u64, forgotten: bool },
}

/// The same, done as simply as can be.
#[derive(Debug, Default)]
struct Model {
    now: i64,
    requests: BTreeMap<u8, Request>,
    used: u64,
    settled: u64,
}

const LIMIT: u64 = 100;

impl Model {
    fn reserved(&self) -> u64 {
        let held = |request: &Request| match request {
            Request::Open { held, .. } => *held,
            Request::Noted { .. } => 0,
        };
        self.requests.values().map(held).sum()
    }

    fn running(&self) -> u64 {
        let open = |request: &&Request| matches!(request, Request::Open { .. });
        self.requests.values().filter(open).count() as u64
    }

    fn lease(&self) -> i64 {
        self.now + LEASE.as_secs() as i64
    }

    /// What became of a reservation: 0 granted, 1 held, 2 exhausted.
    fn reserve(&mut self, id: u8, held: u64) -> usize {
        if self.requests.contains_key(&id) {
            return 0;
        }
        if self.used + held > LIMIT {
            return 2;
        }
        if self.used + self.reserved() + held > LIMIT {
            return 1;
        }
        let until = self.lease();
        let spent = 0;
        self.requests
            .insert(id, Request::Open { held, spent, until });
        0
    }

    fn charge(&mut self, spent: u64) {
        self.used += spent;
        self.settled += spent;
    }

    fn settle(&mut self, id: u8, spent: u64, unreserved: bool) {
        match self.requests.remove(&id) {
            Some(Request::Noted { charged, forgotten }) => {
                self.settled = self.settled + spent - charged;
                self.used = match forgotten {
                    true => self.used + spent.saturating_sub(charged),
                    false => self.used + spent - charged,
                };
                self.note(id, spent, forgotten);
            }
            Some(Request::Open { .. }) => {
                self.charge(spent);
                if unreserved {
                    self.note(id, spent, false);
                }
            }
            None if unreserved => {
                self.charge(spent);
                self.note(id, spent, false);
            }
            None => {}
        }
    }

    fn note(&mut self, id: u8, charged: u64, forgotten: bool) {
        self.requests
            .insert(id, Request::Noted { charged, forgotten });
    }

    fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        for (id, request) in self.requests.clone() {
            if let Request::Open { spent, until, .. } = request
                && until <= self.now
            {
                self.charge(spent);
                self.note(id, spent, false);
            }
        }
    }

    /// Returns what became of a reservation, if it is one.
    fn happens(&mut self, what: &Happening) -> Option<usize> {
        let lease = self.lease();
        match what {
            Happening::Reserve(id, amount) => return Some(self.reserve(*id, *amount)),
            Happening::Settle(id, spent, un) => self.settle(*id, *spent, *un),
            Happening::Pass(seconds) => self.pass(*seconds),
            Happening::Update(id, to_hold, to_spend) => {
                if let Some(Request::Open { held, spent, until }) = self.requests.get_mut(id) {
                    (*held, *spent, *until) = (*to_hold, *to_spend, lease);
                }
            }
            Happening::Renew(id) => {
                if let Some(Request::Open { until, .. }) = self.requests.get_mut(id) {
                    *until = lease;
                }
            }
            Happening::Reset => {
                self.used = 0;
                for request in self.requests.values_mut() {
                    if let Request::Noted { forgotten, .. } = request {
                        *forgotten = true;
                    }
                }
            }
        }
        None
    }
}

async fn happens(quotas: &[Arc<SqliteQuota>], shop: &Shop, what: &Happening) -> Option<usize> {
    let account = account("key@ever", Some(LIMIT), None);
    let quota = |id: &u8| &quotas[usize::from(*id) % quotas.len()];
    match what {
        Happening::Reserve(id, amount) => {
            let ask = ask(&account, &id.to_string(), tokens(*amount));
            return Some(match quota(id).reserve(&ask).await.unwrap() {
                Reserved::Granted { .. } => 0,
                Reserved::Held { .. } => 1,
                Reserved::Exhausted { .. } => 2,
            });
        }
        Happening::Update(id, held, spent) => {
            let name = id.to_string();
            let update = quota(id).update("key@ever", &name, tokens(*held), tokens(*spent));
            update.await.unwrap();
        }
        Happening::Settle(id, spent, unreserved) => {
            let name = id.to_string();
            let settle = quota(id).settle("key@ever", &name, tokens(*spent), *unreserved);
            settle.await.unwrap();
        }
        Happening::Renew(id) => {
            let running = [("key@ever".into(), id.to_string().into())];
            quota(id).renew(&running).await.unwrap();
        }
        Happening::Pass(seconds) => shop.pass(*seconds),
        Happening::Reset => quotas[0].reset("key@ever").await.unwrap(),
    }
    None
}

/// Whether the account's row says what the rows of its requests come to.
async fn adds_up(quota: &SqliteQuota) -> bool {
    let adds_up = quota.ask(|books| {
        let mut statement = books.connection.prepare(
            "SELECT reserved_tokens = (SELECT coalesce(sum(held_tokens), 0) FROM reservations) \
             AND running = (SELECT count(*) FROM reservations) \
             AND notes = (SELECT count(*) FROM notes) FROM accounts",
        )?;
        let mut rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.next().transpose()?.unwrap_or(true))
    });
    adds_up.await.unwrap()
}

fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_gateways_count_as_one_would(
        story in proptest::collection::vec(happening(0..50), 1..80),
    ) {
        let shop = Shop::new();
        let quotas = ["a", "b"].map(|name| shop.gateway(name));
        let mut model = Model::default();
        run(async {
            for what in &story {
                prop_assert_eq!(happens(&quotas, &shop, what).await, model.happens(what));
                let state = quotas[0].read("key@ever").await.unwrap();
                let expected = (model.used, model.reserved(), model.running());
                prop_assert_eq!(short(state), expected, "after {:?}", what);
                prop_assert!(adds_up(&quotas[1]).await, "after {:?}", what);
            }
            let mut settled = 0;
            for name in ["a", "b"] {
                let by = quotas[0].settled_by("key@ever", name).await.unwrap();
                settled += by.map_or(0, |(amount, _)| amount.tokens);
            }
            prop_assert_eq!(settled, model.settled);
            Ok(())
        })?;
    }

    #[test]
    fn the_sums_hold_whatever_the_clock_does(
        story in proptest::collection::vec(happening(-100_000..100_000), 1..80),
    ) {
        let shop = Shop::new();
        let quotas = ["a", "b"].map(|name| shop.gateway(name));
        run(async {
            for what in &story {
                happens(&quotas, &shop, what).await;
                prop_assert!(adds_up(&quotas[1]).await, "after {:?}", what);
            }
            // All leases are over at last; the clock may have been put back once more.
            for _ in 0..3 {
                shop.pass(31);
                quotas[0].read("key@ever").await.unwrap();
            }
            let state = quotas[0].read("key@ever").await.unwrap();
            prop_assert_eq!((state.reserved, state.running), (tokens(0), 0));
            Ok(())
        })?;
    }
}

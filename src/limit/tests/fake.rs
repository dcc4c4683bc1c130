//! A store in memory that can be silent, away, or broken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;

use super::super::local::{Local, Receipt};
use super::*;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Well,
    /// Says at once that it is away.
    Away,
    /// Says that these data make no sense.
    Broken,
    /// Does nothing and never answers.
    Silent,
    /// Does it, but the answer is lost.
    Lossy,
}

/// Rates and quotas as the contract has them, without a lease of their own.
pub(super) struct Fake {
    books: Mutex<Books>,
    rates: Local,
    receipts: Mutex<HashMap<Arc<str>, Receipt>>,
    mood: Mutex<Mood>,
    asked: AtomicU64,
}

#[derive(Default)]
struct Books {
    used: BTreeMap<String, Amount>,
    /// By account and id: held, spent so far.
    held: BTreeMap<(String, String), (Amount, Amount)>,
    settled: BTreeSet<(String, String)>,
    renewed: Vec<String>,
    calls: Vec<String>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            books: Mutex::default(),
            rates: Local::new(100),
            receipts: Mutex::default(),
            mood: Mutex::default(),
            asked: AtomicU64::new(0),
        }
    }
}

impl Fake {
    pub(super) fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How often it was asked anything.
    pub(super) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What it was asked that is told, in order.
    pub(super) fn calls(&self) -> Vec<String> {
        self.books().calls.clone()
    }

    pub(super) fn used(&self) -> u64 {
        let books = self.books();
        books.used.get(ACCOUNT).map_or(0, |used| used.tokens)
    }

    pub(super) fn reserved(&self) -> u64 {
        let books = self.books();
        books.held.values().map(|(held, _)| held.tokens).sum()
    }

    pub(super) fn renewed(&self) -> Vec<String> {
        std::mem::take(&mut self.books().renewed)
    }

    /// Requests it counts as running.
    pub(super) fn running(&self) -> usize {
        self.receipts.lock().unwrap().len()
    }

    /// Somebody else reserves, or gives it back.
    pub(super) fn elsewhere(&self, amount: u64) {
        let place = (ACCOUNT.to_owned(), "elsewhere".to_owned());
        self.books().held.insert(place, (tokens(amount), tokens(0)));
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// Does `work` as far as the mood allows.
    async fn answer<T>(&self, call: String, work: impl FnOnce() -> T) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => {
                self.books().calls.push(call);
                Ok(work())
            }
            Mood::Lossy => {
                self.books().calls.push(call);
                work();
                pending().await
            }
            Mood::Silent => pending().await,
            Mood::Away => Err(StoreError::Away("connection refused".to_owned())),
            Mood::Broken => Err(StoreError::Broken("wrong type".to_owned())),
        }
    }

    fn try_reserve(&self, ask: &Reserve) -> Reserved {
        let mut books = self.books();
        let name = ask.account.name.to_string();
        let used = books.used.get(&name).copied().unwrap_or_default();
        let others = books
            .held
            .iter()
            .filter(|((account, _), _)| *account == name);
        let reserved: u64 = others.map(|(_, (held, _))| held.tokens).sum();
        let left = State {
            used,
            reserved: tokens(reserved),
            running: 0,
        };
        let limit = ask.account.tokens.unwrap_or(u64::MAX);
        if used.tokens + ask.amount.tokens > limit {
            return Reserved::Exhausted { left };
        }
        if used.tokens + reserved + ask.amount.tokens > limit {
            return Reserved::Held { left };
        }
        let place = (name, ask.id.to_string());
        books.held.insert(place, (ask.amount, Amount::default()));
        Reserved::Granted { left }
    }

    fn try_admit(&self, ask: &RateAsk) -> Result<Standing, RateRefusal> {
        let (receipt, standing) = self.rates.admit(ask, 0)?;
        let before = self
            .receipts
            .lock()
            .unwrap()
            .insert(Arc::clone(&ask.id), receipt);
        assert!(before.is_none(), "{} is counted twice", ask.id);
        Ok(standing)
    }
}

#[async_trait]
impl QuotaStore for Fake {
    async fn reserve(&self, ask: &Reserve) -> Result<Reserved, StoreError> {
        let call = format!("reserve {}", ask.id);
        self.answer(call, || self.try_reserve(ask)).await
    }

    async fn update(
        &self,
        account: &str,
        id: &str,
        held: Amount,
        spent: Amount,
    ) -> Result<bool, StoreError> {
        let call = format!("update {id} {} {}", held.tokens, spent.tokens);
        self.answer(call, || {
            let mut books = self.books();
            let place = books.held.get_mut(&(account.to_owned(), id.to_owned()));
            place.map(|place| *place = (held, spent)).is_some()
        })
        .await
    }

    async fn settle(
        &self,
        account: &str,
        id: &str,
        spent: Amount,
        unreserved: bool,
    ) -> Result<(), StoreError> {
        let kind = if unreserved { "charge" } else { "settle" };
        let call = format!("{kind} {id} {}", spent.tokens);
        self.answer(call, || {
            let mut books = self.books();
            let place = (account.to_owned(), id.to_owned());
            let there = books.held.remove(&place).is_some();
            if books.settled.insert(place) && (there || unreserved) {
                books.used.entry(account.to_owned()).or_default().tokens += spent.tokens;
            }
        })
        .await
    }

    async fn renew(&self, running: &[(Arc<str>, Arc<str>)]) -> Result<(), StoreError> {
        self.answer("renew".to_owned(), || {
            let ids = running
                .iter()
                .map(|(account, id)| format!("{account}/{id}"));
            self.books().renewed.extend(ids);
        })
        .await
    }

    async fn read(&self, _: &str) -> Result<State, StoreError> {
        unreachable!("the limiter does not ask this")
    }

    async fn reset(&self, _: &str) -> Result<(), StoreError> {
        unreachable!("the limiter does not ask this")
    }

    async fn is_open(&self, _: &str, _: &str) -> Result<bool, StoreError> {
        unreachable!("the limiter does not ask this")
    }

    async fn settled_by(&self, _: &str, _: &str) -> Result<Option<(Amount, i64)>, StoreError> {
        unreachable!("the limiter does not ask this")
    }
}

#[async_trait]
impl RateStore for Fake {
    async fn admit(&self, ask: &RateAsk) -> Result<Result<Standing, RateRefusal>, StoreError> {
        let call = format!("admit {}", ask.id);
        self.answer(call, || self.try_admit(ask)).await
    }

    async fn finish(&self, ask: &RateAsk, tokens: u64) -> Result<(), StoreError> {
        self.answer(format!("finish {} {tokens}", ask.id), || {
            if let Some(receipt) = self.receipts.lock().unwrap().remove(&ask.id) {
                receipt.finish(tokens, 0);
            }
        })
        .await
    }

    async fn undo(&self, ask: &RateAsk) -> Result<(), StoreError> {
        self.answer(format!("undo {}", ask.id), || {
            if let Some(receipt) = self.receipts.lock().unwrap().remove(&ask.id) {
                receipt.undo();
            }
        })
        .await
    }

    async fn renew(&self, running: &[Arc<RateAsk>]) -> Result<(), StoreError> {
        self.answer("renew rates".to_owned(), || {
            let ids = running.iter().map(|ask| ask.id.to_string());
            self.books().renewed.extend(ids);
        })
        .await
    }
}

#[async_trait]
impl SharedStore for Fake {
    async fn admit_all(
        &self,
        ask: &RateAsk,
        reserve: Option<&Reserve>,
    ) -> Result<Admission, StoreError> {
        self.answer(format!("admit all {}", ask.id), || {
            let standing = match self.try_admit(ask) {
                Ok(standing) => standing,
                Err(refusal) => return Admission::Limited(refusal),
            };
            match reserve.map(|reserve| self.try_reserve(reserve)) {
                None | Some(Reserved::Granted { .. }) => Admission::Admitted { standing },
                Some(short) => {
                    let receipt = self.receipts.lock().unwrap().remove(&ask.id);
                    receipt.unwrap().undo();
                    Admission::Unreserved(short)
                }
            }
        })
        .await
    }
}

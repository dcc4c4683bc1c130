//! What a key has used: of its quota, and in this gateway's ledger.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Api, Reply, Request};
use crate::auth::completed;
use crate::keys::{StoredKey, Which};
use crate::ledger::{self, Ledger, Tail, UsageEvent};
use crate::limit::{Account, State};

/// How far back the ledger is added up when nobody says.
const LOOKBACK: Duration = Duration::from_secs(24 * 3600);

impl Api {
    pub(super) async fn usage(&self, id: &str, request: &Request<'_>) -> Result<Reply, Reply> {
        let parameters = request.parameters(&["since"])?;
        let since = match parameters.text("since") {
            None => Timestamp::now() - LOOKBACK,
            Some(text) => text
                .parse()
                .map_err(|_error| Reply::bad("since", "must be a time as in RFC 3339"))?,
        };
        let stored = self.stored(id).await?;
        let quota = self.quota_of(&stored).await?;
        let ledger = self.billed(&stored.id, since).await?;
        Ok(Reply::ok(json!({
            "id": stored.id,
            "user_id": stored.spec.user_id,
            "quota": quota,
            "ledger": ledger,
        })))
    }

    /// Forgets what was used in this period.
    pub(super) async fn reset_quota(
        &self,
        id: &str,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        let stored = self.stored(id).await?;
        let Some((account, store)) = self.account(&stored).zip(self.quotas.as_ref()) else {
            return Err(Reply::error(409, "no_quota", "this key has no quota"));
        };
        // Noted first: what cannot be noted is not done.
        let which = Which::Id(stored.id.clone());
        self.keys()?.note_reset(&which, &request.actor()).await?;
        store.reset(&account.name).await.map_err(unavailable)?;
        log::info!(key = &*stored.id; "the quota begins anew by the admin's word");
        Ok(Reply::ok(self.quota_of(&stored).await?))
    }

    fn account(&self, stored: &StoredKey) -> Option<Account> {
        let spec = completed(&stored.spec, &self.defaults);
        Account::of(&stored.id, &spec, &self.quota, Timestamp::now())
    }

    async fn quota_of(&self, stored: &StoredKey) -> Result<Value, Reply> {
        let Some((account, store)) = self.account(stored).zip(self.quotas.as_ref()) else {
            return Ok(Value::Null);
        };
        let state = store.read(&account.name).await.map_err(unavailable)?;
        Ok(standing(&account, &state))
    }

    async fn billed(&self, key: &str, since: Timestamp) -> Result<Value, Reply> {
        let (dir, key) = (self.ledger.clone(), key.to_owned());
        let since = ledger::timestamp(since);
        let turn = self.reading.acquire().await;
        let adding = tokio::task::spawn_blocking(move || add_up(&dir, &key, &since)).await;
        drop(turn);
        match adding {
            Ok(Ok(sums)) => Ok(sums),
            Ok(Err(error)) => {
                log::warn!(error:% = error; "the ledger cannot be read");
                Err(Reply::error(
                    503,
                    "unavailable",
                    "the ledger cannot be read now",
                ))
            }
            Err(_cancelled) => Err(Reply::error(503, "unavailable", "the gateway is stopping")),
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> Reply {
    log::warn!(error:% = error; "the quota store cannot be asked");
    Reply::error(503, "unavailable", "the quota store cannot be asked now")
}

fn standing(account: &Account, state: &State) -> Value {
    let part = |limit: Option<u64>, used: u64, reserved: u64| match limit {
        None => Value::Null,
        Some(limit) => json!({
            "limit": limit,
            "used": used,
            "reserved": reserved,
            "remaining": limit.saturating_sub(used.saturating_add(reserved)),
        }),
    };
    let ends = account.ends.and_then(|at| Timestamp::from_second(at).ok());
    json!({
        "account": &*account.name,
        "resets_at": ends.map(|at| at.to_string()),
        "running": state.running,
        "tokens": part(account.tokens, state.used.tokens, state.reserved.tokens),
        "cost_nanos": part(account.nanos, state.used.nanos, state.reserved.nanos),
    })
}

/// Adds up what this gateway's ledger still holds of a key.
fn add_up(dir: &Path, key: &str, since: &str) -> io::Result<Value> {
    let mut sums = Sums::default();
    let mut tail = Tail::new(dir, Ledger::start_of(dir)?);
    while let Some(stored) = tail.next()? {
        let event = &stored.event;
        if event.key_id == key && event.timestamp.as_str() >= since {
            sums.add(event);
        }
    }
    Ok(json!({
        "since": since,
        "requests": sums.requests,
        "prompt_tokens": sums.prompt,
        "completion_tokens": sums.completion,
        "total_tokens": sums.total,
        "cost_nanos": sums.cost,
    }))
}

#[derive(Default)]
struct Sums {
    requests: u64,
    prompt: u64,
    completion: u64,
    total: u64,
    cost: u64,
}

impl Sums {
    fn add(&mut self, event: &UsageEvent) {
        self.requests += 1;
        self.prompt = self.prompt.saturating_add(event.prompt_tokens);
        self.completion = self.completion.saturating_add(event.completion_tokens);
        self.total = self.total.saturating_add(event.total_tokens);
        self.cost = self.cost.saturating_add(event.cost_nanos.unwrap_or(0));
    }
}

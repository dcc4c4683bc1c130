//! Hears of keys that change: other replicas and `llmproxy keys` write to the same store.

#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::watch;

use super::Authenticator;
use crate::keys::{Change, KeyError, KeyStore};

impl Authenticator {
    /// Forgets keys when the key store says that they have changed, about every second, until `shutdown`
    /// turns true or its sender is gone. Keeps the cache tidy besides.
    ///
    /// While the store cannot be read, what is cached is believed for its time to live, as ever.
    pub async fn watch(&self, mut shutdown: watch::Receiver<bool>) {
        let mut follower = Follower::default();
        while !*shutdown.borrow_and_update() {
            if let Some(keys) = &self.keys {
                self.follow(keys, &mut follower).await;
            }
            let entries = self.cache.sweep();
            self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
            tokio::select! {
                changed = shutdown.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn follow(&self, keys: &KeyStore, follower: &mut Follower) {
        match self.read_on(keys, follower).await {
            Ok(()) if follower.fails => {
                follower.fails = false;
                log::info!("changes of keys can be read again");
            }
            Err(error) if !follower.fails => {
                follower.fails = true;
                log::warn!(
                    error:% = error;
                    "changes of keys cannot be read; they may take effect as late as auth.cache.ttl says"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }

    async fn read_on(&self, keys: &KeyStore, follower: &mut Follower) -> Result<(), KeyError> {
        loop {
            let feed = keys.changes_since(follower.after, PAGE).await?;
            match follower.heard(feed.latest, &feed.changes) {
                Heard::Of(changes) => {
                    for hash in changes.iter().flat_map(|it| [it.old, it.new]).flatten() {
                        self.forget(&hash);
                    }
                }
                Heard::TooLittle => self.forget_all(),
            }
            if follower.after >= feed.latest {
                return Ok(());
            }
        }
    }
}

/// How far the log of changes has been read.
struct Follower {
    /// The last change that was heard of.
    after: i64,
    /// Whether the last reading failed.
    fails: bool,
}

/// What reading on has brought.
enum Heard<'a> {
    /// Every change since.
    Of(&'a [Change]),
    /// Anything may have changed.
    TooLittle,
}

impl Default for Follower {
    /// Nobody has so many changes: the first answer counts as an older copy of the store.
    fn default() -> Self {
        Self {
            after: i64::MAX,
            fails: false,
        }
    }
}

impl Follower {
    fn heard<'a>(&mut self, latest: i64, changes: &'a [Change]) -> Heard<'a> {
        let is_older_copy = latest < self.after;
        let is_too_much = latest.saturating_sub(self.after) > WORTH_READING;
        if is_older_copy || is_too_much {
            self.after = latest;
            return Heard::TooLittle;
        }
        // Without a change in the page the rest is gone: nothing more will come of it.
        self.after = changes.last().map_or(latest, |last| last.seq);
        Heard::Of(changes)
    }
}

/// How soon a change elsewhere is heard of.
const EVERY: Duration = Duration::from_secs(1);

/// Changes read at once.
const PAGE: u64 = 1000;

/// With more changes than this behind, forgetting everything is cheaper than reading them.
const WORTH_READING: i64 = 20_000;

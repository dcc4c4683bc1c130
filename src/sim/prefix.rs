//! The prefix cache: which beginnings of prompts were computed before, in blocks of tokens.

use std::collections::{HashMap, VecDeque};

use super::text::mix;

/// Tokens of a block; vLLM's default `block_size`.
pub(super) const BLOCK_TOKENS: usize = 16;

/// Block hashes, each covering everything before it, forgotten least recently used first.
#[derive(Debug)]
pub(super) struct PrefixCache {
    capacity: usize,
    clock: u64,
    /// When each block was used last.
    used: HashMap<u64, u64>,
    /// Uses in order; one that is older than the block's entry in `used` is stale.
    order: VecDeque<(u64, u64)>,
}

impl PrefixCache {
    /// Returns a cache of `capacity` tokens; 0 remembers nothing.
    pub(super) fn new(capacity: u64) -> Self {
        let capacity = usize::try_from(capacity).unwrap_or(usize::MAX) / BLOCK_TOKENS;
        Self {
            capacity,
            clock: 0,
            used: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Returns how many leading tokens are cached. The last token is always computed.
    pub(super) fn cached(&mut self, tokens: &[u64]) -> u32 {
        let reusable = tokens.len().saturating_sub(1) / BLOCK_TOKENS;
        let mut hits = 0;
        for block in blocks(tokens).take(reusable) {
            if !self.used.contains_key(&block) {
                break;
            }
            self.touch(block);
            hits += BLOCK_TOKENS;
        }
        u32::try_from(hits).unwrap_or(u32::MAX)
    }

    /// Remembers a prompt whose prefill has finished.
    pub(super) fn insert(&mut self, tokens: &[u64]) {
        for block in blocks(tokens) {
            self.touch(block);
        }
        while self.used.len() > self.capacity {
            let Some((block, at)) = self.order.pop_front() else {
                break;
            };
            if self.used.get(&block) == Some(&at) {
                self.used.remove(&block);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.used.clear();
        self.order.clear();
    }

    fn touch(&mut self, block: u64) {
        self.clock += 1;
        self.used.insert(block, self.clock);
        self.order.push_back((block, self.clock));
        // Stale uses are dropped before they outnumber the live ones.
        if self.order.len() > 2 * self.used.len() + 1024 {
            let used = &self.used;
            self.order.retain(|(block, at)| used.get(block) == Some(at));
        }
    }
}

fn blocks(tokens: &[u64]) -> impl Iterator<Item = u64> + '_ {
    tokens.chunks_exact(BLOCK_TOKENS).scan(0, |state, block| {
        *state = block.iter().fold(*state, |state, token| mix(state, *token));
        Some(*state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(range: std::ops::Range<u64>) -> Vec<u64> {
        range.collect()
    }

    #[test]
    fn whole_blocks_of_a_known_prefix_are_cached() {
        let mut cache = PrefixCache::new(1024);
        assert_eq!(cache.cached(&prompt(0..40)), 0);
        cache.insert(&prompt(0..40));
        assert_eq!(cache.cached(&prompt(0..40)), 32);
        assert_eq!(cache.cached(&prompt(0..100)), 32);
        assert_eq!(
            cache.cached(&prompt(1..40)),
            0,
            "another beginning shares nothing"
        );
    }

    #[test]
    fn the_last_token_is_always_computed() {
        let mut cache = PrefixCache::new(1024);
        cache.insert(&prompt(0..32));
        assert_eq!(cache.cached(&prompt(0..32)), 16);
    }

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let mut cache = PrefixCache::new(32);
        cache.insert(&prompt(0..16));
        cache.insert(&prompt(100..116));
        assert_eq!(cache.cached(&prompt(0..17)), 16);
        cache.insert(&prompt(200..216));
        assert_eq!(cache.cached(&prompt(0..17)), 16, "used more recently");
        assert_eq!(cache.cached(&prompt(100..117)), 0);
    }

    #[test]
    fn bookkeeping_stays_bounded() {
        let mut cache = PrefixCache::new(32);
        for _ in 0..10_000 {
            cache.insert(&prompt(0..32));
        }
        assert!(
            cache.order.len() < 2000,
            "{} uses are kept",
            cache.order.len()
        );
    }

    #[test]
    fn no_capacity_remembers_nothing() {
        let mut cache = PrefixCache::new(0);
        cache.insert(&prompt(0..64));
        assert_eq!(cache.cached(&prompt(0..64)), 0);
    }
}

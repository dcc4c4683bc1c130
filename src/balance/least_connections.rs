//! The `least_connections` strategy: fewest requests per weight, by looking at all of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::pool::Candidates;

/// Weighted least connections with ties taken in turn.
///
/// `argmin (in_flight + 1) / weight`, HAProxy's leastconn
/// (<https://docs.haproxy.org/3.0/configuration.html#balance>). The counts are exact and local, so
/// looking at all backends is better than at two of them. Requests count until their last byte.
#[derive(Debug)]
pub(super) struct LeastConnections {
    turn: AtomicUsize,
}

impl LeastConnections {
    /// Returns the strategy; `start` decides who wins the first tie.
    pub(super) fn new(start: usize) -> Self {
        Self {
            turn: AtomicUsize::new(start),
        }
    }

    /// Returns the index of a least loaded candidate.
    pub(super) fn choose(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let mut best = Load::of(candidates, candidates.iter().next()?);
        let mut ties = 0;
        for index in candidates.iter() {
            let load = Load::of(candidates, index);
            match load.compare(&best) {
                std::cmp::Ordering::Less => (best, ties) = (load, 1),
                std::cmp::Ordering::Equal => ties += 1,
                std::cmp::Ordering::Greater => {}
            }
        }
        if ties < 2 {
            return Some(best.index);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % ties;
        let tied = |index: &usize| Load::of(candidates, *index).compare(&best).is_eq();
        // Another thread may have broken the tie meanwhile; the first of them is still good.
        candidates
            .iter()
            .filter(tied)
            .nth(turn)
            .or(Some(best.index))
    }
}

/// Requests a backend would have, over its weight; compared without dividing.
struct Load {
    index: usize,
    requests: u64,
    weight: u64,
}

impl Load {
    fn of(candidates: &Candidates<'_>, index: usize) -> Self {
        let requests = u64::from(candidates.backend(index).in_flight()) + 1;
        Self {
            index,
            requests,
            weight: candidates.weight(index),
        }
    }

    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        // 2^32 requests times a weight of 2^32 * 100 leaves 64 bits.
        let cross = |load: &Self, weight: u64| u128::from(load.requests) * u128::from(weight);
        cross(self, other.weight).cmp(&cross(other, self.weight))
    }
}

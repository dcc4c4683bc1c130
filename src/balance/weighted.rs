//! The `weighted` and `round_robin` strategies: a precomputed smooth sequence and a cursor.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::pool::Candidates;
use super::random;

/// Longest period of a table; above it weights are rounded to fit.
const MAX_SLOTS: u64 = 4_096;
/// Slots looked at before a pick stops following the sequence, which bounds its cost.
const MAX_STEPS: usize = 128;

/// Smooth weighted round robin without a lock.
///
/// The period of nginx's algorithm (weights 5, 1, 1 give a a b a c a a;
/// <https://github.com/nginx/nginx/blob/master/src/http/ngx_http_upstream_round_robin.c>) is
/// computed once; a pick takes the next slot. Slots of backends that cannot take the request are
/// used up, so that the others keep their proportions exactly.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<u32>,
    cursor: AtomicUsize,
    /// Percent of turns each backend has saved up while it ramps.
    credit: Vec<AtomicU32>,
}

impl Table {
    /// Returns the table for some weights; `start` is the slot of the first pick, taken modulo the
    /// period. A zero weight counts as 1.
    pub(super) fn new(weights: &[u32], start: usize) -> Self {
        let shares = shares(weights);
        Self {
            slots: smooth(&shares),
            cursor: AtomicUsize::new(start),
            credit: weights.iter().map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Returns the candidate whose turn it is.
    pub(super) fn choose(&self, candidates: &Candidates<'_>) -> Option<usize> {
        if candidates.len() < 2 {
            return candidates.iter().next();
        }
        (0..MAX_STEPS)
            .map(|_| self.next())
            .find(|index| candidates.contains(*index) && self.accepts(*index, candidates))
            .or_else(|| random::choose(candidates))
    }

    fn next(&self) -> usize {
        let slot = self.cursor.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        self.slots[slot] as usize
    }

    /// Returns whether a backend takes its turn: always, or while it ramps the due share of turns.
    fn accepts(&self, index: usize, candidates: &Candidates<'_>) -> bool {
        let ramp = candidates.ramp(index);
        if ramp >= 100 {
            return true;
        }
        // Relative to the furthest one: backends that all start together share as if none ramped.
        let furthest = candidates
            .iter()
            .map(|index| candidates.ramp(index))
            .max()
            .unwrap_or(ramp);
        let percent = (ramp * 100 / furthest.max(1)) as u32;
        if percent >= 100 {
            return true;
        }
        let saved = self.credit[index].fetch_add(percent, Ordering::Relaxed) % 100;
        saved + percent >= 100
    }
}

/// Returns slots per backend: weights over their greatest common divisor, scaled down if too many.
fn shares(weights: &[u32]) -> Vec<u64> {
    let weights = weights.iter().map(|weight| u64::from(*weight).max(1));
    let divisor = weights.clone().fold(0, greatest_common_divisor).max(1);
    let total = weights.clone().sum::<u64>() / divisor;
    let limit = MAX_SLOTS.max(weights.len() as u64);
    let scale = |weight: u64| match weight / divisor {
        share if total <= limit => share,
        share => ((share * limit + total / 2) / total).max(1),
    };
    weights.map(scale).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// Returns one period of nginx's smooth weighted round robin.
fn smooth(shares: &[u64]) -> Vec<u32> {
    let total: i64 = shares.iter().sum::<u64>() as i64;
    let mut current = vec![0i64; shares.len()];
    let mut slots = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best = 0;
        for (index, share) in shares.iter().enumerate() {
            current[index] += *share as i64;
            if current[index] > current[best] {
                best = index;
            }
        }
        current[best] -= total;
        slots.push(best as u32);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(weights: &[u32]) -> String {
        let letter = |slot: u32| char::from(b'a' + slot as u8);
        smooth(&shares(weights)).into_iter().map(letter).collect()
    }

    #[test]
    fn the_sequence_is_that_of_nginx() {
        assert_eq!(sequence(&[5, 1, 1]), "aabacaa");
        assert_eq!(sequence(&[5, 3]), "abaababa");
        assert_eq!(sequence(&[1, 1, 1]), "abc");
    }

    #[test]
    fn a_common_divisor_shortens_the_period() {
        assert_eq!(sequence(&[1000, 200, 200]), "aabacaa");
    }

    #[test]
    fn weights_that_do_not_fit_are_rounded_and_nobody_is_lost() {
        let table = smooth(&shares(&[1_000_000, 499_999, 1]));
        let count = |index| table.iter().filter(|slot| **slot == index).count();
        assert!((4_000..=4_200).contains(&table.len()), "{}", table.len());
        assert_eq!(count(2), 1);
        let ratio = count(0) as f64 / count(1) as f64;
        assert!((1.99..2.01).contains(&ratio), "{ratio}");
    }

    #[test]
    fn every_backend_has_a_slot_however_many_there_are() {
        let weights: Vec<u32> = (0..5_000).map(|n| n % 7 + 1).collect();
        let table = smooth(&shares(&weights));
        let mut seen = vec![false; weights.len()];
        table.iter().for_each(|slot| seen[*slot as usize] = true);
        assert!(seen.into_iter().all(|seen| seen));
    }

    #[test]
    fn weight_zero_counts_as_one() {
        assert_eq!(sequence(&[0, 1]), "ab");
    }
}

//! The `random` strategy.

use super::pool::Candidates;

/// Draws a backend with a probability proportional to its weight.
///
/// No state at all: the strategy for many gateways that must not fall into step.
pub(super) fn choose(candidates: &Candidates<'_>) -> Option<usize> {
    let total: u64 = candidates
        .iter()
        .map(|index| candidates.weight(index))
        .sum();
    if total == 0 {
        return candidates.iter().next();
    }
    let mut draw = fastrand::u64(..total);
    candidates.iter().find(|index| {
        let weight = candidates.weight(*index);
        let hit = draw < weight;
        draw = draw.saturating_sub(weight);
        hit
    })
}

//! A set of small numbers that costs no allocation for the pools people run.

use std::iter;

/// Bits of one word.
const WORD: usize = u64::BITS as usize;

/// A set of backend indices: the first 64 inline, a vector beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSet {
    low: u64,
    high: Vec<u64>,
}

impl IndexSet {
    /// Returns the empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an index; adding it twice changes nothing.
    pub fn add(&mut self, index: usize) {
        let Some(word) = (index / WORD).checked_sub(1) else {
            self.low |= 1 << index;
            return;
        };
        if self.high.len() <= word {
            self.high.resize(word + 1, 0);
        }
        self.high[word] |= 1 << (index % WORD);
    }

    /// Removes an index, if it is in.
    pub fn remove(&mut self, index: usize) {
        let mask = !(1 << (index % WORD));
        match (index / WORD).checked_sub(1) {
            None => self.low &= mask,
            Some(word) => {
                if let Some(bits) = self.high.get_mut(word) {
                    *bits &= mask;
                }
            }
        }
    }

    /// Returns whether an index is in.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        let bits = match (index / WORD).checked_sub(1) {
            None => self.low,
            Some(word) => self.high.get(word).copied().unwrap_or(0),
        };
        bits & (1 << (index % WORD)) != 0
    }

    /// Returns whether nothing is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.low == 0 && self.high.iter().all(|bits| *bits == 0)
    }

    /// Returns how many indices are in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words().map(|bits| bits.count_ones() as usize).sum()
    }

    /// Returns the indices, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words()
            .enumerate()
            .flat_map(|(word, bits)| ones(bits).map(move |bit| word * WORD + bit))
    }

    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        iter::once(self.low).chain(self.high.iter().copied())
    }
}

/// Returns the positions of the set bits, ascending.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let position = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(position)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_indices_on_both_sides_of_every_word_border() {
        let mut set = IndexSet::new();
        let indices = [0, 1, 63, 64, 65, 127, 128, 1_000];
        for index in indices {
            assert!(!set.contains(index));
            set.add(index);
            set.add(index);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), indices);
        assert_eq!(set.len(), indices.len());
        for index in [2, 62, 66, 126, 129, 999, 1_001, 100_000] {
            assert!(!set.contains(index), "{index}");
        }
    }

    #[test]
    fn removing_everything_leaves_it_empty() {
        let mut set = IndexSet::new();
        for index in [3, 64, 200] {
            set.add(index);
        }
        for index in [3, 64, 200, 5_000] {
            assert!(!set.is_empty() || index == 5_000);
            set.remove(index);
        }
        assert!(set.is_empty());
        assert_eq!(set.iter().next(), None);
    }
}

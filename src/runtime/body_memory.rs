//! The memory request bodies may take together, and each one's share of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntGauge;

/// The memory all request bodies together may take (`limits.body_memory`).
pub struct BodyMemory {
    used: AtomicU64,
    limit: AtomicU64,
    gauge: IntGauge,
}

impl BodyMemory {
    /// Creates an empty account of at most `limit` bytes, mirrored in `gauge`.
    #[must_use]
    pub fn new(limit: u64, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
            gauge,
        })
    }

    /// Changes how much it may be; what is held already stays.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// An empty share.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease {
            memory: Arc::clone(self),
            bytes: 0,
        }
    }
}

/// A share of [`BodyMemory`], given back on drop.
pub struct Lease {
    memory: Arc<BodyMemory>,
    bytes: u64,
}

impl Lease {
    /// Takes `bytes` more, or nothing when the limit is reached.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let memory = &self.memory;
        let before = memory.used.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > memory.limit.load(Ordering::Relaxed) {
            memory.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        memory.gauge.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        true
    }

    /// Gives back what it holds beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        let memory = &self.memory;
        memory.used.fetch_sub(surplus, Ordering::Relaxed);
        memory.gauge.sub(i64::try_from(surplus).unwrap_or(i64::MAX));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_stops_at_the_limit_and_gives_everything_back() {
        let memory = BodyMemory::new(10, IntGauge::new("g", "g").unwrap());
        let mut one = memory.lease();
        let mut two = memory.lease();
        assert!(one.grow(6));
        assert!(!two.grow(5), "11 of 10");
        memory.set_limit(9);
        assert!(!two.grow(4), "10 of 9");
        memory.set_limit(10);
        assert!(two.grow(4));
        assert_eq!(memory.gauge.get(), 10);
        one.shrink_to(7);
        one.shrink_to(1);
        assert_eq!(memory.gauge.get(), 5);
        drop(one);
        drop(two);
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        assert_eq!(memory.gauge.get(), 0);
    }
}

//! Which sequences run and which wait, and how fast a token comes while they do.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::options::Options;

#[derive(Debug)]
pub(super) struct Scheduler {
    seats: Semaphore,
    size: u32,
    queue: Option<u32>,
    running: AtomicU32,
    waiting: AtomicU32,
    /// Tokens of running sequences that occupy the key-value cache.
    kv_tokens: AtomicU64,
    itl: Duration,
    slowdown: f64,
}

impl Scheduler {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            seats: Semaphore::new(options.max_num_seqs as usize),
            size: options.max_num_seqs,
            queue: options.max_num_queued_reqs,
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            kv_tokens: AtomicU64::new(0),
            itl: options.itl,
            slowdown: options.batch_slowdown,
        }
    }

    /// Takes a place in the queue for `sequences` sequences; `None` when the queue is full.
    ///
    /// A request with more sequences than fit at once takes the whole engine.
    pub(super) fn enqueue(&self, sequences: u32) -> Option<Waiting<'_>> {
        let sequences = sequences.min(self.size);
        let must_wait = self.seats.available_permits() < sequences as usize;
        if must_wait && self.queue.is_some_and(|limit| self.waiting() >= limit) {
            return None;
        }
        self.waiting.fetch_add(1, Relaxed);
        Some(Waiting {
            scheduler: self,
            sequences,
        })
    }

    pub(super) fn running(&self) -> u32 {
        self.running.load(Relaxed)
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    pub(super) fn kv_tokens(&self) -> u64 {
        self.kv_tokens.load(Relaxed)
    }

    /// Returns how long one token of every running sequence takes now, given the pace of a lone one.
    pub(super) fn step(&self, alone: Option<Duration>) -> Duration {
        let others = f64::from(self.running().saturating_sub(1));
        alone
            .unwrap_or(self.itl)
            .mul_f64(1.0 + self.slowdown * others)
    }
}

/// A request in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    scheduler: &'a Scheduler,
    sequences: u32,
}

impl<'a> Waiting<'a> {
    /// Waits for the turn of this request. Returns `None` only if the engine is gone.
    pub(super) async fn turn(self) -> Option<Seat<'a>> {
        let scheduler = self.scheduler;
        let permit = scheduler.seats.acquire_many(self.sequences).await.ok()?;
        scheduler.running.fetch_add(self.sequences, Relaxed);
        Some(Seat {
            scheduler,
            sequences: self.sequences,
            kv_tokens: 0,
            _permit: permit,
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.scheduler.waiting.fetch_sub(1, Relaxed);
    }
}

/// Sequences that run; dropping it ends them.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    scheduler: &'a Scheduler,
    sequences: u32,
    kv_tokens: u64,
    _permit: SemaphorePermit<'a>,
}

impl Seat<'_> {
    /// Notes that the sequences grew by that many tokens.
    pub(super) fn grow(&mut self, tokens: u64) {
        self.kv_tokens += tokens;
        self.scheduler.kv_tokens.fetch_add(tokens, Relaxed);
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.scheduler.running.fetch_sub(self.sequences, Relaxed);
        self.scheduler.kv_tokens.fetch_sub(self.kv_tokens, Relaxed);
    }
}

/// The moments at which tokens are due. They follow from the first, so lateness does not add up.
#[derive(Debug)]
pub(super) struct Pace {
    due: Instant,
}

impl Pace {
    pub(super) fn starting(due: Instant) -> Self {
        Self { due }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn advance(&mut self, step: Duration) {
        self.due += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(seats: u32, queue: Option<u32>) -> Scheduler {
        Scheduler::new(&Options {
            max_num_seqs: seats,
            max_num_queued_reqs: queue,
            batch_slowdown: 0.5,
            ..Options::default()
        })
    }

    #[tokio::test]
    async fn sequences_beyond_the_seats_wait_and_slow_the_others() {
        let scheduler = scheduler(2, None);
        assert_eq!(scheduler.step(None), Duration::from_millis(10));
        let first = scheduler.enqueue(2).unwrap().turn().await.unwrap();
        assert_eq!(scheduler.step(None), Duration::from_millis(15));
        let second = scheduler.enqueue(1).unwrap();
        assert_eq!((scheduler.running(), scheduler.waiting()), (2, 1));
        drop(first);
        let second = second.turn().await.unwrap();
        assert_eq!((scheduler.running(), scheduler.waiting()), (1, 0));
        drop(second);
        assert_eq!(scheduler.running(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let scheduler = scheduler(1, Some(1));
        let seat = scheduler.enqueue(1).unwrap().turn().await.unwrap();
        let waiting = scheduler.enqueue(1).unwrap();
        assert!(scheduler.enqueue(1).is_none());
        drop(waiting);
        assert!(scheduler.enqueue(1).is_some());
        drop(seat);
    }

    #[tokio::test]
    async fn a_request_wider_than_the_engine_takes_all_of_it() {
        let scheduler = scheduler(2, None);
        let mut seat = scheduler.enqueue(9).unwrap().turn().await.unwrap();
        assert_eq!(scheduler.running(), 2);
        seat.grow(7);
        assert_eq!(scheduler.kv_tokens(), 7);
        drop(seat);
        assert_eq!(scheduler.kv_tokens(), 0);
    }
}

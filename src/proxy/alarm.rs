//! One timer for all the waits of an attempt, or of a client's connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

/// Longer than anybody waits; later moments cannot always be said.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Rings at a deadline that is moved with every piece of a body.
///
/// A later deadline leaves the timer as it is: when that fires too early it is set again, once in a
/// while instead of with every piece. An earlier one is set when it is waited for.
pub struct Alarm {
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    /// Rings `patience` after `now`.
    #[must_use]
    pub fn new(now: Instant, patience: Duration) -> Self {
        let deadline = now + patience.min(FOREVER);
        let timer = Box::pin(sleep_until(deadline.into()));
        Self { deadline, timer }
    }

    /// Rings `patience` after `now`, and not at any moment set before.
    pub fn set(&mut self, now: Instant, patience: Duration) {
        self.deadline = now + patience.min(FOREVER);
    }

    /// Ready once the deadline is over.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // Not before there is something to wait for: an earlier deadline than any other wakes the runtime's driver, which
        // is a system call, and mostly what is waited for is there already.
        if self.deadline < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(self.deadline.into());
        }
        while self.timer.deadline().into_std() < self.deadline {
            ready!(self.timer.as_mut().poll(context));
            self.timer.as_mut().reset(self.deadline.into());
        }
        self.timer.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(30);

    async fn rings(alarm: &mut Alarm) -> Duration {
        let began = Instant::now();
        let ring = tokio::time::timeout(LONG, poll_fn(|context| alarm.poll(context)));
        ring.await.unwrap();
        began.elapsed()
    }

    async fn is_silent(alarm: &mut Alarm) -> bool {
        poll_fn(|context| Poll::Ready(alarm.poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn it_rings_at_an_earlier_deadline_than_the_one_set_before() {
        let now = Instant::now();
        let mut alarm = Alarm::new(now, Duration::MAX);
        assert!(is_silent(&mut alarm).await);
        alarm.set(now, SHORT);
        assert!(rings(&mut alarm).await < LONG);
        assert!(now.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn it_does_not_ring_at_a_deadline_that_was_moved_on() {
        let now = Instant::now();
        let mut alarm = Alarm::new(now, SHORT);
        assert!(is_silent(&mut alarm).await);
        alarm.set(now, 4 * SHORT);
        rings(&mut alarm).await;
        assert!(now.elapsed() >= 4 * SHORT);
    }

    #[tokio::test]
    async fn it_can_be_set_again_after_it_rang() {
        let mut alarm = Alarm::new(Instant::now(), Duration::ZERO);
        rings(&mut alarm).await;
        let now = Instant::now();
        alarm.set(now, SHORT);
        assert!(is_silent(&mut alarm).await);
        rings(&mut alarm).await;
        assert!(now.elapsed() >= SHORT);
    }
}

//! How long a request waits for quota that others have reserved.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::admit::Limiter;

/// How long a request waits for others to give something back.
pub(super) struct Patience<'a> {
    waiting: &'a AtomicUsize,
    wait: Duration,
    /// From the first pause on.
    deadline: Option<Instant>,
    delay: Duration,
    place: Option<Place<'a>>,
}

impl<'a> Patience<'a> {
    pub(super) fn new(limiter: &'a Limiter, wait: Duration) -> Self {
        Self {
            waiting: &limiter.waiting,
            wait,
            deadline: None,
            delay: FIRST_PAUSE,
            place: None,
        }
    }

    /// Waits a little; false when that was all, or when too many others wait.
    pub(super) async fn pause(&mut self) -> bool {
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert(now + self.wait);
        if now >= deadline {
            return false;
        }
        if self.place.is_none() {
            self.place = Place::take(self.waiting);
            if self.place.is_none() {
                return false;
            }
        }
        // Those that were refused together must not come back together, and all of them together
        // must not be what keeps the store busy.
        let crowd = u32::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let pause = self.delay.max(PAUSE_PER_WAITER * crowd);
        let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.delay = LAST_PAUSE.min(self.delay * 2);
        sleep_until(deadline.min(now + pause)).await;
        true
    }
}

/// One of the requests that wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let more = |now| (now < WAITERS).then_some(now + 1);
        let taken = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Requests that wait for quota at the same time; each holds a connection and a body.
const WAITERS: usize = 1_024;

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// Keeps the questions of all that wait below about 1,300 per second.
const PAUSE_PER_WAITER: Duration = Duration::from_millis(1);

//! What the process knows of its own end: draining, and the requests still running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Shared between the listeners, the gateway and the signal handler.
#[derive(Default)]
pub struct Lifecycle {
    draining: AtomicBool,
    running: AtomicUsize,
    idle: Notify,
    cut: Notify,
    is_cut: AtomicBool,
}

impl Lifecycle {
    /// Whether the process is on its way out; readiness is 503 from then on.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Starts the drain.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Ends the requests that still run; each tells its client and its bill.
    pub fn cut_all(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.cut.notify_waiters();
    }

    /// Resolves when running requests must end.
    pub async fn cut(&self) {
        let notified = self.cut.notified();
        if !self.is_cut.load(Ordering::Acquire) {
            notified.await;
        }
    }

    /// Requests now running.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }

    /// Counts one request until the guard is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::AcqRel);
        Running(Arc::clone(self))
    }

    /// Resolves when nothing is running any more.
    pub async fn idle(&self) {
        loop {
            let notified = self.idle.notified();
            if self.running() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// One running request.
pub struct Running(Arc<Lifecycle>);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_waits_for_the_last_guard() {
        let lifecycle = Arc::new(Lifecycle::default());
        let (one, two) = (lifecycle.enter(), lifecycle.enter());
        drop(one);
        let mut idle = std::pin::pin!(lifecycle.idle());
        assert!(
            futures_util::future::poll_immediate(&mut idle)
                .await
                .is_none()
        );
        drop(two);
        assert!(
            futures_util::future::poll_immediate(&mut idle)
                .await
                .is_some()
        );
    }
}

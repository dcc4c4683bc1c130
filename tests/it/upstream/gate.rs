//! A barrier in a script that the test opens: how a story is put in order without sleeping.

use std::sync::{Arc, Condvar, Mutex};

use crate::PATIENCE;

/// Counts openings; each [`Gate::pass`] uses up one. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets one more through.
    pub(crate) fn open(&self) {
        self.add(1);
    }

    /// Lets everyone through from now on.
    pub(crate) fn open_for_good(&self) {
        self.add(1 << 40);
    }

    /// Waits until it may pass.
    #[track_caller]
    pub(crate) fn pass(&self) {
        let (count, opened) = &*self.0;
        let guard = count.lock().unwrap();
        let (mut guard, wait) = opened
            .wait_timeout_while(guard, PATIENCE, |count| *count == 0)
            .unwrap();
        assert!(
            !wait.timed_out(),
            "nobody opened the gate within {PATIENCE:?}"
        );
        *guard -= 1;
    }

    fn add(&self, more: usize) {
        let (count, opened) = &*self.0;
        *count.lock().unwrap() += more;
        opened.notify_all();
    }
}

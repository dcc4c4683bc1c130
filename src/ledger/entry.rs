//! One open request.

use std::sync::Arc;

use super::record::Kind;
use super::{Ledger, Outcome, Receipt, UsageEvent, with_payload};

/// A request that is open in the ledger.
///
/// Dropped before it was closed or voided (its task panicked) it closes itself as interrupted.
pub struct Entry {
    ledger: Arc<Ledger>,
    event_id: String,
    ended: bool,
}

impl Entry {
    pub(super) fn new(ledger: &Arc<Ledger>, event_id: &str) -> Self {
        Self {
            ledger: Arc::clone(ledger),
            event_id: event_id.to_owned(),
            ended: false,
        }
    }

    /// Notes what it would leave now. Written with the next record or within a tenth of a second.
    pub fn amend(&self, event: &UsageEvent) {
        with_payload(event, |payload| {
            self.ledger.lock_queue().amend(&self.event_id, payload);
        });
    }

    /// Closes it with the event to deliver.
    pub fn close(mut self, event: &UsageEvent) -> Receipt {
        with_payload(event, |payload| self.end(Kind::Close, payload))
    }

    /// Closes it without anything to bill.
    pub fn void(mut self) {
        let id = self.event_id.clone().into_bytes();
        let _nobody_waits = self.end(Kind::Void, &id);
    }

    fn end(&mut self, kind: Kind, payload: &[u8]) -> Receipt {
        self.ended = true;
        self.ledger.append(kind, &self.event_id, payload)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let queue = self.ledger.lock_queue();
        let latest = queue.latest(&self.event_id).map(UsageEvent::read);
        drop(queue);
        if let Some(Some(event)) = latest {
            let event = UsageEvent {
                outcome: Outcome::Interrupted,
                ..event
            };
            let _nobody_waits = with_payload(&event, |payload| self.end(Kind::Close, payload));
        }
    }
}

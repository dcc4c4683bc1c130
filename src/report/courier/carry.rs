//! Delivers one batch, come what may.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{error, warn};
use tokio::time::{Instant, sleep};

use super::window::Item;
use super::{Courier, TICK};
use crate::ledger::UsageEvent;
use crate::report::DeliveryError;

/// A part of a batch on its way.
struct Piece {
    items: Vec<Item>,
    /// Failed deliveries of just these events that may be no fault of theirs.
    failures: u32,
    /// Deliveries of others that had succeeded when the last of them was.
    others: Option<u64>,
    /// Those before which others had succeeded, and when the first of these was.
    vain: u32,
    vain_since: Option<Instant>,
    /// Times the receiver refused this event; more than one only for a single one.
    refusals: u32,
    /// The receiver takes others but chokes on something in here.
    suspect: bool,
}

enum Next {
    Done,
    Again(Piece),
    Split(Piece, Piece),
    Gone,
}

impl Piece {
    fn new(items: Vec<Item>, suspect: bool) -> Self {
        Self {
            items,
            failures: 0,
            others: None,
            vain: 0,
            vain_since: None,
            refusals: 0,
            suspect,
        }
    }

    fn events(&self) -> Vec<Arc<UsageEvent>> {
        let events = self.items.iter().map(|item| Arc::clone(&item.event));
        events.collect()
    }
}

impl Courier {
    /// Delivers `batch` in order, for as long as it takes. May be dropped at any time; what is not
    /// done in the window then was not delivered or may be delivered again. Ends early when the receiver
    /// is gone.
    pub(super) async fn carry(&self, batch: Vec<Item>) {
        // The next piece is the last one.
        let mut pieces = vec![Piece::new(batch, false)];
        while let Some(piece) = pieces.pop() {
            // Another lane may have been told to wait longer meanwhile.
            while let Some(rest) = self.rest() {
                sleep(rest).await;
            }
            let piece = self.drop_old(piece).await;
            if piece.items.is_empty() {
                continue;
            }
            match self.attempt(piece).await {
                Next::Done => {}
                Next::Again(piece) => pieces.push(piece),
                Next::Split(first, second) => pieces.extend([second, first]),
                Next::Gone => return,
            }
        }
    }

    async fn attempt(&self, piece: Piece) -> Next {
        match self.reporter.deliver(&piece.events()).await {
            Ok(()) => {
                self.successes.fetch_add(1, Ordering::Relaxed);
                self.metrics.delivered.inc_by(piece.items.len() as u64);
                self.window.done(&piece.items);
                Next::Done
            }
            Err(DeliveryError::Retry { what, after }) => self.failed(piece, &what, after).await,
            Err(DeliveryError::Rejected { what }) => self.refused(piece, &what).await,
            Err(DeliveryError::Gone { what }) => {
                self.stop(&what);
                Next::Gone
            }
        }
    }

    async fn failed(&self, mut piece: Piece, what: &str, after: Option<Duration>) -> Next {
        let wait = self.policy.backoff.wait(piece.failures);
        piece.failures += 1;
        if let Some(more) = self.retries.pass() {
            warn!(reporter = self.name.as_str(), attempt = piece.failures,
                events = piece.items.len(), more = more, error = what;
                "usage is not delivered yet");
        }
        // A receiver that asks for time has seen nothing of the events.
        if after.is_none() && self.chokes_on(&mut piece) {
            return self.refused(piece, what).await;
        }
        if let Some(wish) = after {
            self.rest_for(wish);
        }
        sleep(wait).await;
        self.metrics.retried.inc_by(piece.items.len() as u64);
        Next::Again(piece)
    }

    /// Returns whether it must be the events: the receiver fails on them again and again, and takes
    /// others in between. A program that answers 500 to what it does not expect would otherwise hold
    /// up the lane until the event is too old.
    fn chokes_on(&self, piece: &mut Piece) -> bool {
        let others = self.successes.load(Ordering::Relaxed);
        if piece
            .others
            .replace(others)
            .is_some_and(|then| then < others)
        {
            piece.vain += 1;
            let since = piece.vain_since.get_or_insert_with(Instant::now);
            piece.suspect |= piece.vain >= self.policy.tries && since.elapsed() >= SUSPICIOUS_AFTER;
        }
        piece.suspect
    }

    async fn refused(&self, mut piece: Piece, what: &str) -> Next {
        if piece.items.len() > 1 {
            let second = piece.items.split_off(piece.items.len() / 2);
            let suspect = piece.suspect;
            return Next::Split(
                Piece::new(piece.items, suspect),
                Piece::new(second, suspect),
            );
        }
        piece.refusals += 1;
        if piece.refusals < self.policy.tries {
            // Not the whole backoff: the lane's other events wait behind this one.
            sleep(self.policy.backoff.wait(0)).await;
            self.metrics.retried.inc();
            return Next::Again(piece);
        }
        if let Some(more) = self.refusals.pass() {
            error!(reporter = self.name.as_str(), more = more, error = what,
                file:% = self.aside.path().display();
                "usage is refused, put aside to try again");
        }
        while self.put_aside(piece.events()).await.is_err() {
            sleep(TICK).await;
        }
        self.metrics.put_aside.inc();
        self.window.done(&piece.items);
        Next::Done
    }

    /// Moves the events of `piece` that are too old to the dead letters and returns the others.
    async fn drop_old(&self, mut piece: Piece) -> Piece {
        let (old, items) = piece
            .items
            .into_iter()
            .partition(|item| self.is_too_old(&item.event));
        piece.items = items;
        let old: Vec<Item> = old;
        if !old.is_empty() {
            while !self.bury_items(&old).await {
                sleep(TICK).await;
            }
        }
        piece
    }

    /// Returns whether `items` are in the dead letters now.
    pub(super) async fn bury_items(&self, items: &[Item]) -> bool {
        let events = items.iter().map(|item| Arc::clone(&item.event)).collect();
        let buried = self.bury(events).await.is_ok();
        if buried {
            self.window.done(items);
        }
        buried
    }
}

/// Long enough for the restart of a receiver behind a load balancer, which fails some and takes others.
pub(super) const SUSPICIOUS_AFTER: Duration = Duration::from_secs(60);

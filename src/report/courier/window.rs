//! The events between the cursor and what was read last.
//!
//! Events are done in any order; what may be forgotten is only what is done without a gap before it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ledger::{Position, Stored, UsageEvent};

/// How far delivery got: everything before `position` is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) position: Position,
    pub(super) seq: u64,
}

/// An event that was read and is not done.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) ticket: u64,
    pub(super) event: Arc<UsageEvent>,
}

/// Shared by the deliveries of one courier, which all run in one task: the lock is never fought for.
#[derive(Debug, Default)]
pub(super) struct Window(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The front one is not done.
    entries: VecDeque<Entry>,
    /// The ticket of the front one.
    first: u64,
    /// Those not done.
    waiting: usize,
    /// Bytes of those not done, roughly.
    weight: usize,
    /// `None` until something was done.
    passed: Option<Passed>,
}

#[derive(Debug)]
struct Entry {
    passed: Passed,
    /// `None` when done.
    event: Option<Arc<UsageEvent>>,
}

impl Window {
    /// Takes in the next event of the ledger.
    pub(super) fn push(&self, stored: Stored) -> Item {
        self.with(|state| {
            let event = stored.event;
            state.waiting += 1;
            state.weight += weight(&event);
            state.entries.push_back(Entry {
                passed: Passed {
                    position: stored.next,
                    seq: stored.seq,
                },
                event: Some(Arc::clone(&event)),
            });
            Item {
                ticket: state.first + state.entries.len() as u64 - 1,
                event,
            }
        })
    }

    /// Notes that there is nothing to deliver between the newest event and `end`.
    pub(super) fn skip_to(&self, end: Passed) {
        self.with(|state| match state.entries.back() {
            None => state.passed = Some(end),
            Some(last) if last.passed.position >= end.position => {}
            Some(_) => state.entries.push_back(Entry {
                passed: end,
                event: None,
            }),
        });
    }

    /// Notes that `items` are delivered or safe elsewhere.
    pub(super) fn done(&self, items: &[Item]) {
        self.with(|state| {
            for item in items {
                let index = item.ticket.checked_sub(state.first);
                let entry = index.and_then(|index| state.entries.get_mut(index as usize));
                if let Some(event) = entry.and_then(|entry| entry.event.take()) {
                    state.waiting -= 1;
                    state.weight -= weight(&event);
                }
            }
            while let Some(entry) = state.entries.pop_front_if(|entry| entry.event.is_none()) {
                state.first += 1;
                state.passed = Some(entry.passed);
            }
        });
    }

    /// Returns whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.with(|state| {
            state.waiting < MOST_WAITING
                && state.weight < MOST_WEIGHT
                && state.entries.len() < LONGEST_SPAN
        })
    }

    /// Returns all events that are not done, the oldest first.
    pub(super) fn waiting(&self) -> Vec<Item> {
        self.with(|state| {
            let items = state.entries.iter().zip(state.first..);
            items
                .filter_map(|(entry, ticket)| {
                    let event = Arc::clone(entry.event.as_ref()?);
                    Some(Item { ticket, event })
                })
                .collect()
        })
    }

    /// Returns the oldest event that is not done and the number of its record.
    pub(super) fn oldest(&self) -> Option<(Arc<UsageEvent>, u64)> {
        self.with(|state| {
            let entry = state.entries.front()?;
            Some((Arc::clone(entry.event.as_ref()?), entry.passed.seq))
        })
    }

    /// Returns how far everything is done, if anything was since the start.
    pub(super) fn passed(&self) -> Option<Passed> {
        self.with(|state| state.passed)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What an event costs in memory: its fields, and the texts that can be long.
pub(super) fn weight(event: &UsageEvent) -> usize {
    size_of::<UsageEvent>() + TEXTS + event.request_body.as_ref().map_or(0, String::len)
}

/// All texts of an ordinary event together, the request's body not counted.
const TEXTS: usize = 512;

/// Undelivered events in memory per reporter: 16 s of a thousand requests per second, some 20 MB.
pub(super) const MOST_WAITING: usize = 16_384;

/// Bytes of undelivered events in memory per reporter; matters when they carry request bodies.
pub(super) const MOST_WEIGHT: usize = 64 << 20;

/// Events from the oldest undelivered one to the newest one read, delivered ones in between included:
/// what a crash may deliver again. Delivered ones are 40 bytes each.
pub(super) const LONGEST_SPAN: usize = 65_536;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::testing::event;
    use super::*;

    fn stored(seq: u64) -> Stored {
        Stored {
            seq,
            next: Position {
                segment: 1,
                offset: seq * 100,
            },
            event: event(&seq.to_string()),
        }
    }

    fn passed(window: &Window) -> u64 {
        window.passed().map_or(0, |passed| passed.seq)
    }

    #[test]
    fn only_what_is_done_without_a_gap_is_passed() {
        let window = Window::default();
        let items: Vec<_> = (1..=4).map(|seq| window.push(stored(seq))).collect();
        assert_eq!((passed(&window), window.oldest().unwrap().1), (0, 1));
        window.done(&items[1..3]);
        assert_eq!((passed(&window), window.waiting().len()), (0, 2));
        window.done(&items[..1]);
        assert_eq!((passed(&window), window.oldest().unwrap().1), (3, 4));
        assert_eq!(window.passed().unwrap().position.offset, 300);
        window.done(&items);
        assert_eq!((passed(&window), window.oldest()), (4, None));
    }

    #[test]
    fn what_nobody_has_to_deliver_is_passed_with_what_is_before_it() {
        let window = Window::default();
        let end = |seq| Passed {
            position: stored(seq).next,
            seq,
        };
        window.skip_to(end(3));
        assert_eq!(passed(&window), 3);
        let item = window.push(stored(4));
        window.skip_to(end(4));
        window.skip_to(end(9));
        assert_eq!(passed(&window), 3);
        window.done(&[item]);
        assert_eq!(passed(&window), 9);
    }

    #[test]
    fn events_bodies_and_gaps_are_bounded() {
        let window = Window::default();
        let items: Vec<_> = (1..)
            .map_while(|seq| window.has_room().then(|| window.push(stored(seq))))
            .collect();
        assert_eq!(items.len(), MOST_WAITING);
        window.done(&items[1..]);
        assert!(window.has_room(), "only one is waiting");
        for seq in MOST_WAITING + 1..=LONGEST_SPAN {
            let item = window.push(stored(seq as u64));
            window.done(&[item]);
        }
        assert!(
            !window.has_room(),
            "the first one still holds everything back"
        );
        window.done(&items[..1]);
        assert!(window.has_room());

        let with_body = UsageEvent {
            request_body: Some("x".repeat(4 << 20)),
            ..UsageEvent::default()
        };
        let with_body = Arc::new(with_body);
        let mut bodies = 0;
        while window.has_room() {
            bodies += 1;
            window.push(Stored {
                event: Arc::clone(&with_body),
                ..stored(100_000 + bodies)
            });
        }
        assert_eq!(bodies, 16);
    }

    proptest! {
        #[test]
        fn in_whatever_order_events_are_done_nothing_undone_is_passed(
            order in Just((0..60).collect::<Vec<usize>>()).prop_shuffle(),
            reads in 1..60usize,
        ) {
            let window = Window::default();
            let mut items = Vec::new();
            let mut done = [false; 60];
            for index in order {
                while items.len() <= index.max(reads) {
                    items.push(window.push(stored(items.len() as u64 + 1)));
                }
                window.done(&items[index..=index]);
                done[index] = true;
                let expected = done.iter().take_while(|done| **done).count() as u64;
                prop_assert_eq!(passed(&window), expected);
                let undone = (0..items.len()).filter(|index| !done[*index]);
                let waiting: Vec<_> = window.waiting().iter().map(|it| it.ticket as usize).collect();
                prop_assert_eq!(waiting, undone.collect::<Vec<_>>());
            }
        }
    }
}

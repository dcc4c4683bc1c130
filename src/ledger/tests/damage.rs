//! Torn and flipped bytes: no panic, no wrong event, and nothing lost that is not damaged itself.

use std::collections::BTreeMap;

use super::*;

/// A ledger of some closed, some open requests in one segment; returns its bytes and all its events
/// by id.
fn written(dir: &Path) -> (Vec<u8>, BTreeMap<String, UsageEvent>) {
    let mut settings = settings();
    settings.segment_size = 1 << 20;
    let ledger = open_with(dir, &settings);
    let mut all = BTreeMap::new();
    let mut entries = Vec::new();
    for number in 0..6 {
        let event = event("m", number);
        let (entry, _) = ledger.begin(&event).unwrap();
        if number % 3 == 0 {
            entries.push(entry);
        } else {
            let _safe = entry.close(&event);
        }
        all.insert(event.event_id.clone(), event);
    }
    kill(ledger, entries);
    let path = segment::path(&Ledger::dir(dir), 1);
    (fs::read(path).unwrap(), all)
}

/// The events after a process started on a ledger with these bytes.
fn after(bytes: &[u8]) -> Vec<UsageEvent> {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::dir(dir.path());
    segment::make_dir(&ledger).unwrap();
    fs::write(segment::path(&ledger, 1), bytes).unwrap();
    drop(open(dir.path()));
    verify(&ledger).unwrap();
    events(dir.path())
}

/// Whether `event` is one of `all`: completed with the counts it had, or interrupted with none.
fn is_true(event: &UsageEvent, all: &BTreeMap<String, UsageEvent>) -> bool {
    all.get(&event.event_id).is_some_and(|known| {
        let mut known = known.clone();
        known.outcome = event.outcome;
        if event.outcome == Outcome::Interrupted {
            known.completion_tokens = 0;
        }
        *event == known
    })
}

#[test]
fn a_ledger_cut_anywhere_gives_true_events_and_every_request_that_was_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, all) = written(dir.path());
    assert_eq!(after(&bytes).len(), all.len());
    let mut before = 0;
    for cut in (0..bytes.len()).step_by(37).chain([bytes.len()]) {
        let events = after(&bytes[..cut]);
        assert!(
            events.iter().all(|event| is_true(event, &all)),
            "cut at {cut}"
        );
        assert!(
            events.len() >= before,
            "cut at {cut}: more bytes, fewer requests"
        );
        before = events.len();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bytes_cost_at_most_the_records_they_are_in(
        places in proptest::collection::vec((any::<proptest::sample::Index>(), 1u8..), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut bytes, all) = written(dir.path());
        for (place, flip) in &places {
            let at = place.index(bytes.len());
            bytes[at] ^= flip;
        }
        let events = after(&bytes);
        prop_assert!(events.iter().all(|event| is_true(event, &all)));
        // A request has two records or, if open, one.
        prop_assert!(events.len() + places.len() >= all.len());
    }

    #[test]
    fn a_file_of_anything_is_no_event(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(after(&bytes), []);
    }
}

//! A ledger that cannot take more.

use super::record::Kind;
use super::*;

/// A ledger whose disk is full, as far as `max_size` is concerned, with one request in flight.
fn full(dir: &Path) -> (Arc<Ledger>, Arc<Cursor>, Entry, UsageEvent) {
    let mut settings = settings();
    settings.max_size = 40 << 10;
    let ledger = open_with(dir, &settings);
    let cursor = ledger.cursor("slow").unwrap();
    let running = event("running", 1);
    let (entry, _) = ledger.begin(&running).unwrap();
    for _ in 0..100 {
        if ledger.failing().is_some() {
            break;
        }
        bill(&ledger, &event("m", 1));
        ledger.make_room();
        ledger.tidy();
    }
    (ledger, cursor, entry, running)
}

#[test]
fn a_full_ledger_takes_no_new_request_but_the_end_of_every_running_one() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _cursor, entry, running) = full(dir.path());
    assert_eq!(ledger.failing(), Some(Failure::Full));
    assert_eq!(ledger.begin(&event("m", 1)).err(), Some(Failure::Full));
    assert_eq!(ledger.metrics.healthy.get(), 0);
    assert!(ledger.is_safe(entry.close(&running)));
    assert!(events(dir.path()).contains(&running));
}

#[test]
fn it_works_again_when_a_reporter_has_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, cursor, entry, _) = full(dir.path());
    let end = Position {
        segment: u64::MAX,
        offset: 0,
    };
    cursor.advance(end, 0);
    cursor.save().unwrap();
    ledger.make_room();
    ledger.tidy();
    assert_eq!(ledger.failing(), None);
    assert_eq!(ledger.metrics.healthy.get(), 1);
    bill(&ledger, &event("m", 1));
    drop(entry);
}

#[test]
fn what_a_failing_disk_does_not_take_is_written_when_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let running = event("running", 1);
    let (entry, _) = ledger.begin(&running).unwrap();
    // A file that is open for reading only takes no write, as on a disk that is gone.
    let path = segment::path(ledger.path(), ledger.start.segment);
    let writable = ledger
        .disk
        .lock()
        .unwrap()
        .swap_file(File::open(&path).unwrap());
    let receipt = entry.close(&running);
    assert!(!ledger.is_safe(receipt));
    assert_eq!(ledger.failing(), Some(Failure::Io));
    assert_eq!(events(dir.path()), []);
    ledger.disk.lock().unwrap().swap_file(writable);
    ledger.make_room();
    ledger.tidy();
    assert!(ledger.is_safe(receipt));
    assert_eq!(ledger.failing(), None);
    assert_eq!(events(dir.path()), [running]);
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the test is the write that hangs"
)]
async fn a_write_that_hangs_turns_requests_away_and_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.slow_after = Duration::from_millis(50);
    let ledger = open_with(dir.path(), &settings);
    let (entry, _) = ledger.begin(&event("m", 1)).unwrap();
    let stuck = ledger.disk.lock().unwrap();
    let hanging = ledger.state.writing.start();
    let receipt = entry.close(&event("m", 1));
    assert_eq!(ledger.until_safe(receipt).await, Err(Failure::Slow));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(ledger.begin(&event("m", 1)).err(), Some(Failure::Slow));
    drop(stuck);
    drop(hanging);
    ledger.write();
    assert!(ledger.is_safe(receipt));
    assert_eq!(ledger.failing(), None);
}

#[test]
fn memory_for_a_disk_that_takes_nothing_has_a_bound() {
    let mut queue = Queue::new(1);
    let payload = vec![b'x'; 1 << 20];
    let taken = (0..100).filter(|_| queue.end(Kind::Close, "", &payload).is_some());
    assert_eq!(
        taken.count(),
        queue::MAX_QUEUED / (payload.len() + record::HEADER)
    );
    assert!(queue.len() <= queue::MAX_QUEUED);
}

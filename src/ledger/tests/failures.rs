//! What must not go wrong when other things do.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::super::disk::Disk;
use super::*;

/// A process that dies after it has begun its segment and before it has closed what it found.
fn die_while_starting(dir: &Path) {
    let dir = Ledger::dir(dir);
    let recovered = recovery::recover(&dir).unwrap();
    let mut queue = Queue::new(recovered.last_seq + 1);
    for event in &recovered.open {
        queue.recover(&event.event_id, payload(event));
    }
    let carried = queue.carried(recovered.last_seq);
    drop(Disk::begin(&dir, recovered.next_segment, &settings(), &carried).unwrap());
}

#[test]
fn processes_that_die_while_starting_lose_no_open_request() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let entry = ledger.begin(&event("m", 1)).unwrap().0;
    kill(ledger, vec![entry]);
    (0..3).for_each(|_| die_while_starting(dir.path()));
    open(dir.path());
    assert_eq!(events(dir.path()).len(), 1);
}

#[test]
fn starts_without_traffic_keep_counting() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    (0..5).for_each(|_| bill(&ledger, &event("m", 1)));
    let before = *ledger.appended().borrow();
    drop(ledger);
    (0..4).for_each(|_| drop(open(dir.path())));
    assert_eq!(*open(dir.path()).appended().borrow(), before);
}

#[test]
fn a_number_is_not_given_again_when_the_newest_segment_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let cursor = ledger.cursor("billing").unwrap();
    (0..5).for_each(|_| bill(&ledger, &event("m", 1)));
    let before = *ledger.appended().borrow();
    cursor.advance(ledger.disk.lock().unwrap().position(), before);
    cursor.save().unwrap();
    let path = segment::path(ledger.path(), 1);
    drop(ledger);
    fs::remove_file(path).unwrap();
    let ledger = open(dir.path());
    assert_eq!(*ledger.appended().borrow(), before);
    assert_eq!(ledger.start.segment, 2);
}

#[test]
fn without_syncing_no_finished_segment_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    (0..200).for_each(|_| bill(&ledger, &event("m", 1)));
    assert!(segment::list(ledger.path()).unwrap().len() > 5);
    assert_eq!(ledger.disk.lock().unwrap().unsynced_files(), 0);
}

#[test]
fn many_open_requests_do_not_make_every_write_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let entries: Vec<_> = (0..100)
        .map(|_| ledger.begin(&event("long", 1)).unwrap().0)
        .collect();
    let segments = || segment::list(ledger.path()).unwrap().len();
    let before = segments();
    (0..20).for_each(|_| bill(&ledger, &event("m", 1)));
    assert!(
        segments() - before < 5,
        "{} for 40 records",
        segments() - before
    );
    drop(entries);
}

#[test]
fn what_could_not_be_synced_is_not_safe_until_it_was_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.fsync = Fsync::Always;
    let ledger = open_with(dir.path(), &settings);
    let event = event("m", 1);
    let (entry, _) = ledger.begin(&event).unwrap();
    let receipt = entry.close(&event);
    // Syncing a socket fails.
    let (socket, _peer) = UnixStream::pair().unwrap();
    let broken = File::from(OwnedFd::from(socket));
    let whole = ledger.disk.lock().unwrap().swap_file(broken);
    ledger.sync();
    assert_eq!(ledger.failing(), Some(Failure::Io));
    ledger.tidy();
    assert_eq!(
        ledger.failing(),
        Some(Failure::Io),
        "nothing was synced since"
    );
    ledger.disk.lock().unwrap().swap_file(whole);
    ledger.sync();
    ledger.tidy();
    assert!(ledger.is_safe(receipt));
    assert_eq!(ledger.failing(), None);
    assert_eq!(events(dir.path()), [event]);
}

#[tokio::test]
async fn a_full_ledger_does_not_release_those_who_wait_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.fsync = Fsync::Always;
    settings.slow_after = Duration::from_millis(300);
    let ledger = open_with(dir.path(), &settings);
    let receipt = ledger.record(&event("m", 1));
    let full = async { ledger.fails(Failure::Full, &"max_size") };
    let began = std::time::Instant::now();
    let (waited, ()) = tokio::join!(ledger.until_safe(receipt), full);
    assert!(waited.is_err() && began.elapsed() >= settings.slow_after);
}

#[tokio::test]
async fn a_failure_that_is_known_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let path = segment::path(ledger.path(), ledger.start.segment);
    let read_only = File::open(path).unwrap();
    let writable = ledger.disk.lock().unwrap().swap_file(read_only);
    let receipt = ledger.record(&event("m", 1));
    let began = std::time::Instant::now();
    assert_eq!(ledger.until_safe(receipt).await, Err(Failure::Io));
    assert!(began.elapsed() < ledger.settings.slow_after / 2);
    ledger.disk.lock().unwrap().swap_file(writable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_hangs_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.slow_after = Duration::from_millis(100);
    let ledger = open_with(dir.path(), &settings);
    let (_stop, stopping) = watch::channel(false);
    let hanging = Arc::clone(&ledger);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let writer = tokio::task::spawn_blocking(move || {
        let _disk = hanging.disk.lock().unwrap();
        let _watched = hanging.state.writing.start();
        released.recv().ok();
    });
    let told = async {
        while ledger.metrics.healthy.get() != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = Arc::clone(&ledger).run(stopping) => unreachable!("nobody stops it"),
        () = told => {}
    }
    assert_eq!(ledger.failing(), Some(Failure::Slow));
    drop(release);
    writer.await.unwrap();
}

#[test]
fn a_segment_that_is_removed_while_it_is_written_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let running = event("running", 1);
    let (entry, _) = ledger.begin(&running).unwrap();
    fs::remove_dir_all(ledger.path()).unwrap();
    ledger.tidy();
    assert!(ledger.metrics.failed_times(Failure::Io) > 0);
    ledger.tidy();
    assert_eq!(ledger.failing(), None);
    assert!(ledger.is_safe(entry.close(&running)));
    assert_eq!(events(dir.path()), [running]);
}

#[test]
fn a_reader_notices_what_was_cut_off_a_finished_segment() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    (0..100).for_each(|_| bill(&ledger, &event("m", 1)));
    let path = segment::path(ledger.path(), 1);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(fs::metadata(&path).unwrap().len() / 2)
        .unwrap();
    let mut tail = Tail::new(ledger.path(), ledger.start);
    while tail.next().unwrap().is_some() {}
    assert!(tail.damaged() > 0);
    assert!(!verify(ledger.path()).unwrap().is_sound());
}

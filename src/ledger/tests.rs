use std::time::Duration;

use prometheus::Registry;
use proptest::prelude::*;

use super::*;

mod damage;
mod failures;
mod full;

fn settings() -> config::Ledger {
    config::Ledger {
        segment_size: 16 << 10,
        fsync: Fsync::Never,
        ..config::Ledger::default()
    }
}

fn open(dir: &Path) -> Arc<Ledger> {
    open_with(dir, &settings())
}

fn open_with(dir: &Path, settings: &config::Ledger) -> Arc<Ledger> {
    let metrics = LedgerMetrics::register(&Registry::new()).unwrap();
    Ledger::open(settings, dir, metrics).unwrap()
}

fn event(model: &str, completion: u64) -> UsageEvent {
    UsageEvent {
        event_id: new_id(),
        model: model.to_owned(),
        completion_tokens: completion,
        timestamp: now(),
        ..UsageEvent::default()
    }
}

/// One request from its beginning to its end.
fn bill(ledger: &Arc<Ledger>, event: &UsageEvent) {
    let (entry, receipt) = ledger.begin(event).unwrap();
    assert!(ledger.is_safe(receipt));
    assert!(ledger.is_safe(entry.close(event)));
}

/// Every event in the ledger under `dir`, oldest first.
fn events(dir: &Path) -> Vec<UsageEvent> {
    let dir = Ledger::dir(dir);
    let mut tail = Tail::new(&dir, Ledger::start_of(&dir).unwrap());
    std::iter::from_fn(|| tail.next().unwrap())
        .map(|stored| (*stored.event).clone())
        .collect()
}

/// What a SIGKILL leaves: nothing is dropped, the lock is gone.
fn kill(ledger: Arc<Ledger>, entries: Vec<Entry>) {
    entries.into_iter().for_each(std::mem::forget);
    ledger._lock.unlock().unwrap();
    std::mem::forget(ledger);
}

#[test]
fn a_closed_request_is_there_before_the_call_returns() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let event = event("m", 3);
    bill(&ledger, &event);
    assert_eq!(events(dir.path()), [event]);
}

#[test]
fn what_a_killed_process_left_open_is_interrupted_with_the_last_that_was_known() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let (done, opened, amended) = (event("done", 1), event("opened", 0), event("amended", 0));
    bill(&ledger, &done);
    let first = ledger.begin(&opened).unwrap().0;
    let second = ledger.begin(&amended).unwrap().0;
    let so_far = UsageEvent {
        completion_tokens: 17,
        backend: "a".to_owned(),
        ..amended.clone()
    };
    second.amend(&so_far);
    ledger.write();
    kill(ledger, vec![first, second]);

    let ledger = open(dir.path());
    let mut after = events(dir.path());
    after.sort_by(|a, b| a.model.cmp(&b.model));
    let interrupted = |event: UsageEvent| UsageEvent {
        outcome: Outcome::Interrupted,
        ..event
    };
    assert_eq!(after, [interrupted(so_far), done, interrupted(opened)]);
    assert_eq!(ledger.metrics.recovered.get(), 2);
    drop(ledger);
    open(dir.path());
    assert_eq!(events(dir.path()).len(), 3, "and only once");
}

#[test]
fn a_voided_request_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let entry = ledger.begin(&event("m", 1)).unwrap().0;
    entry.void();
    kill(ledger, vec![]);
    open(dir.path());
    assert_eq!(events(dir.path()), []);
}

#[test]
fn an_entry_that_is_dropped_closes_itself_as_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    drop(ledger.begin(&event("m", 1)).unwrap());
    let events = events(dir.path());
    assert_eq!((events.len(), events[0].outcome), (1, Outcome::Interrupted));
}

#[test]
fn a_long_request_outlives_the_segments_it_was_opened_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.retain = Duration::ZERO;
    let ledger = open_with(dir.path(), &settings);
    let long = event("long", 0);
    let (entry, _) = ledger.begin(&long).unwrap();
    for _ in 0..200 {
        bill(&ledger, &event("short", 1));
    }
    ledger.make_room();
    ledger.tidy();
    let oldest = Ledger::start_of(&Ledger::dir(dir.path())).unwrap();
    assert!(oldest.segment > 2, "{oldest:?}");
    kill(ledger, vec![entry]);
    open(dir.path());
    let events = events(dir.path());
    let recovered: Vec<_> = events.iter().filter(|one| one.model == "long").collect();
    assert_eq!(recovered.len(), 1);
    assert_eq!(recovered[0].event_id, long.event_id);
}

#[test]
fn two_processes_cannot_share_a_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let metrics = LedgerMetrics::register(&Registry::new()).unwrap();
    let second = Ledger::open(&settings(), dir.path(), metrics);
    let error = second.err().unwrap().to_string();
    assert!(error.contains("used by another process"), "{error}");
}

#[test]
fn every_event_of_many_threads_is_there_once_and_each_was_safe_when_it_was_said() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks = (0..8).map(|_| {
            let ledger = Arc::clone(&ledger);
            async move {
                for _ in 0..250 {
                    let event = event("m", 1);
                    let (entry, receipt) = ledger.begin(&event).unwrap();
                    ledger.until_safe(receipt).await.unwrap();
                    let receipt = entry.close(&event);
                    ledger.until_safe(receipt).await.unwrap();
                }
            }
        });
        let mut set = tokio::task::JoinSet::new();
        tasks.for_each(|task| drop(set.spawn(task)));
        set.join_all().await;
    });
    let mut ids: Vec<_> = events(dir.path())
        .into_iter()
        .map(|it| it.event_id)
        .collect();
    assert_eq!(ids.len(), 2000);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2000);
    let verified = verify(&Ledger::dir(dir.path())).unwrap();
    assert!(verified.is_sound() && verified.open == 0, "{verified:?}");
}

#[tokio::test]
async fn with_fsync_always_nothing_is_safe_before_it_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.fsync = Fsync::Always;
    let ledger = open_with(dir.path(), &settings);
    let (entry, receipt) = ledger.begin(&event("m", 1)).unwrap();
    assert!(!ledger.is_safe(receipt));
    let (stop, stopping) = watch::channel(false);
    let running = Arc::clone(&ledger).run(stopping);
    let request = async {
        ledger.until_safe(receipt).await.unwrap();
        let receipt = entry.close(&event("m", 1));
        ledger.until_safe(receipt).await.unwrap();
        stop.send_replace(true);
    };
    tokio::join!(running, request);
}

#[test]
fn segments_are_kept_until_they_are_old_and_every_reporter_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings();
    let ledger = open_with(dir.path(), &settings);
    let cursor = ledger.cursor("slow").unwrap();
    (0..200).for_each(|_| bill(&ledger, &event("m", 1)));
    ledger.make_room();
    ledger.tidy();
    let count = || segment::list(&ledger.dir).unwrap().len();
    let all = count();
    assert!(all > 5);
    settings.retain = Duration::ZERO;
    kill(ledger, vec![]);

    let ledger = open_with(dir.path(), &settings);
    let again = ledger.cursor("slow").unwrap();
    ledger.make_room();
    ledger.tidy();
    let count = || segment::list(&ledger.dir).unwrap().len();
    assert!(count() >= all, "a reporter still needs them");
    let end = Position {
        segment: u64::MAX,
        offset: 0,
    };
    again.advance(end, 0);
    again.save().unwrap();
    ledger.make_room();
    ledger.tidy();
    assert_eq!(count(), 2);
    drop(cursor);
}

#[test]
fn a_tail_follows_across_segments_and_notices_those_that_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let mut tail = Tail::new(ledger.path(), ledger.start);
    let mut seen = 0;
    for round in 1..=300 {
        bill(&ledger, &event("m", round));
        let stored = tail.next().unwrap().expect("what was appended can be read");
        seen += 1;
        assert_eq!(stored.event.completion_tokens, seen);
        assert!(tail.next().unwrap().is_none());
    }
    let segments = segment::list(ledger.path()).unwrap();
    fs::remove_file(segment::path(ledger.path(), segments[0])).unwrap();
    fs::remove_file(segment::path(ledger.path(), segments[1])).unwrap();
    let mut late = Tail::new(ledger.path(), ledger.start);
    assert!(late.next().unwrap().is_some());
    assert_eq!(
        late.missing(),
        1,
        "the first it knows of is the one it was in"
    );
}

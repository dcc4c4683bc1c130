//! More events than the queue, the receiver or the disk takes.

use super::super::super::QUEUE;
use super::*;

#[tokio::test]
async fn at_the_bound_the_queue_refuses_and_counts_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Accept]);
    let policy = Policy {
        batch: 256,
        queue: QUEUE,
        ..policy()
    };
    let worker = worker(dir.path(), &reporter, policy);
    submit(&worker, events(0..QUEUE));
    assert_eq!(
        (worker.pending(), worker.metrics.dropped.get()),
        (65_536, 0)
    );
    submit(&worker, events(QUEUE..QUEUE + 3));
    assert_eq!(
        (worker.pending(), worker.metrics.dropped.get()),
        (65_536, 3)
    );
    assert_eq!(
        worker.drops.held.load(Ordering::Relaxed),
        2,
        "the log line is rate-limited"
    );

    let done = || reporter.accepted.lock().unwrap().len() == QUEUE && worker.pending() == 0;
    during(&worker, Duration::ZERO, until("delivery", done)).await;
    let times = reporter.times();
    assert!(
        ids(0..QUEUE).iter().all(|id| times.get(id) == Some(&1)),
        "a gap or a duplicate"
    );
    assert!(
        worker.metrics.undelivered.get() >= 1,
        "a crowded queue spills"
    );
}

#[tokio::test]
async fn a_queue_that_fills_while_deliveries_hang_spills_to_disk_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Hang]);
    let policy = Policy {
        sweep_every: NEVER,
        queue: 64,
        ..policy()
    };
    let worker = worker(dir.path(), &reporter, policy);
    during(&worker, Duration::ZERO, async {
        for burst in 0..100 {
            submit(&worker, events(burst * 10..burst * 10 + 10));
            until("room", || worker.pending() < 50).await;
        }
    })
    .await;
    assert_eq!((worker.metrics.dropped.get(), worker.pending()), (0, 0));
    let mut on_disk: Vec<usize> = ids_on_disk(&worker)
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    on_disk.sort_unstable();
    assert_eq!(on_disk, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_usable_disk_events_stay_in_memory_until_they_are_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let reporter = Scripted::new(&[Answer::Refuse]);
    let worker = worker(&in_the_way, &reporter, policy());
    submit(&worker, events(0..60));
    during(&worker, Duration::ZERO, async {
        until("refusals", || reporter.calls().len() > 5).await;
        assert_eq!(worker.pending(), 60);
        reporter.now(Answer::Accept);
        until("delivery", || worker.pending() == 0).await;
    })
    .await;
    assert_eq!(reporter.times().len(), 60);
    assert_eq!(worker.metrics.dropped.get(), 0);
}

#[tokio::test]
async fn what_neither_the_receiver_nor_the_disk_takes_is_counted_as_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let reporter = Scripted::new(&[Answer::Hang]);
    let worker = worker(&in_the_way, &reporter, policy());
    submit(&worker, events(0..60));
    during(
        &worker,
        Duration::ZERO,
        until("hanging", || !reporter.calls().is_empty()),
    )
    .await;
    assert_eq!((worker.metrics.dropped.get(), worker.pending()), (60, 0));
    worker.submit(event("late"));
    assert_eq!((worker.metrics.dropped.get(), worker.pending()), (61, 0));
}

#[tokio::test]
async fn an_event_submitted_after_the_end_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let worker = worker(dir.path(), &Scripted::new(&[Answer::Accept]), policy());
    during(&worker, Duration::ZERO, async {}).await;
    worker.submit(event("late"));
    assert_eq!(
        (ids_on_disk(&worker), worker.pending()),
        (vec!["late".to_owned()], 0)
    );
    assert_eq!(worker.metrics.undelivered.get(), 1);
}

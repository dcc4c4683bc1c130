//! Events that went to disk and how they come back.

use super::*;

#[tokio::test]
async fn an_event_out_of_attempts_is_on_disk_and_tried_again_by_the_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Fail, Answer::Fail, Answer::Fail, Answer::Accept]);
    let worker = worker(dir.path(), &reporter, policy());
    worker.submit(event("0"));
    during(&worker, Duration::ZERO, async {
        until("delivery", || reporter.accepted() == ids(0..1)).await;
        until("removal", || files_in(dir.path()) == 0).await;
    })
    .await;
    assert_eq!((reporter.calls().len(), worker.pending()), (4, 0));
    assert_eq!(
        (
            worker.metrics.undelivered.get(),
            worker.metrics.delivered.get()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_refused_event_goes_to_disk_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Refuse]);
    let worker = worker(
        dir.path(),
        &reporter,
        Policy {
            sweep_every: NEVER,
            ..policy()
        },
    );
    worker.submit(event("0"));
    during(
        &worker,
        Duration::ZERO,
        until("disk", || worker.pending() == 0),
    )
    .await;
    assert_eq!(
        (reporter.calls().len(), ids_on_disk(&worker)),
        (1, ids(0..1))
    );
}

#[tokio::test]
async fn what_the_deadline_cut_off_is_delivered_by_the_next_start_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Accept, Answer::Accept, Answer::Hang]);
    let policy = Policy {
        batch: 4,
        concurrency: 2,
        ..policy()
    };
    let first = worker(dir.path(), &reporter, policy.clone());
    submit(&first, events(0..50));
    during(
        &first,
        Duration::ZERO,
        until("hanging", || reporter.calls().len() == 4),
    )
    .await;
    assert_eq!((reporter.accepted().len(), first.pending()), (8, 0));
    assert_eq!(
        ids_on_disk(&first),
        ids(8..50),
        "what was in flight comes first"
    );

    reporter.now(Answer::Accept);
    let second = worker(dir.path(), &reporter, policy);
    during(
        &second,
        Duration::ZERO,
        until("removal", || files_in(dir.path()) == 0),
    )
    .await;
    assert_eq!(reporter.accepted(), ids(0..50));
    assert_eq!(second.pending(), 0);
}

#[tokio::test]
async fn a_backlog_that_was_cut_off_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Accept, Answer::Accept, Answer::Accept, Answer::Hang]);
    let first = worker(dir.path(), &reporter, policy());
    first.store.append(&events(0..50)).unwrap();
    during(
        &first,
        Duration::ZERO,
        until("hanging", || reporter.calls().len() == 4),
    )
    .await;
    assert_eq!(ids_on_disk(&first), ids(3..50));
    assert_eq!(files_in(dir.path()), 1);

    reporter.now(Answer::Accept);
    let second = worker(dir.path(), &reporter, policy());
    during(
        &second,
        Duration::ZERO,
        until("removal", || files_in(dir.path()) == 0),
    )
    .await;
    assert_eq!(reporter.accepted(), ids(0..50));
}

#[tokio::test]
async fn a_failing_backlog_waits_for_the_next_sweep_without_losing_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Accept, Answer::Refuse, Answer::Accept]);
    let worker = worker(
        dir.path(),
        &reporter,
        Policy {
            sweep_every: NEVER,
            ..policy()
        },
    );
    worker.store.append(&events(0..5)).unwrap();
    during(&worker, Duration::ZERO, async {
        until("refusal", || worker.metrics.undelivered.get() == 1).await;
        // The backlog rests, the queue does not.
        worker.submit(event("fresh"));
        until("delivery", || reporter.accepted().len() == 2).await;
    })
    .await;
    assert_eq!(reporter.accepted(), ["0", "fresh"]);
    assert_eq!(ids_on_disk(&worker), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn backlog_and_queue_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Accept]);
    let worker = worker(dir.path(), &reporter, policy());
    worker.store.append(&events(0..30)).unwrap();
    submit(&worker, events(100..130));
    during(
        &worker,
        Duration::ZERO,
        until("removal", || files_in(dir.path()) == 0),
    )
    .await;
    let early = &reporter.accepted()[..20];
    let fresh = early.iter().filter(|id| id.len() == 3).count();
    assert!(
        (8..=12).contains(&fresh),
        "{fresh} of the first 20 were fresh: {early:?}"
    );
}

#[tokio::test]
async fn the_claimed_file_outlives_the_last_event_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let reporter = Scripted::new(&[Answer::Hang]);
    let policy = Policy {
        concurrency: 3,
        ..policy()
    };
    let worker = worker(dir.path(), &reporter, policy);
    worker.store.append(&events(0..1)).unwrap();
    during(&worker, Duration::ZERO, async {
        until("hanging", || reporter.calls().len() == 1).await;
        assert_eq!(files_in(dir.path()), 1, "a crash would lose the event");
    })
    .await;
    assert_eq!(ids_on_disk(&worker), ids(0..1));
}

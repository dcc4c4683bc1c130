//! The ordinary way, failures that pass, and what bounds it.

use super::*;
use crate::report::courier::window::MOST_WAITING;

#[tokio::test(start_paused = true)]
async fn events_that_wait_together_are_delivered_together_and_in_order() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept]);
    let batches = Policy {
        batch: 10,
        linger: LONG,
        ..policy()
    };
    let courier = desk.courier(&receiver, batches);
    desk.append(0..25);
    desk.during(&courier, LONG, until_accepted(&receiver, 25))
        .await;
    assert_eq!(
        receiver.calls(),
        [10, 10, 5],
        "only the first waited for more"
    );
    assert_eq!(receiver.accepted(), ids(0..25));
    assert_eq!(courier.metrics.delivered.get(), 25);
    assert_eq!(desk.saved(), desk.stored().last().unwrap().seq);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_batch_leaves_when_its_first_event_has_lingered() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept]);
    let linger = Duration::from_secs(30);
    let batches = Policy {
        batch: 10,
        linger,
        ..policy()
    };
    let courier = desk.courier(&receiver, batches);
    desk.during(&courier, Duration::ZERO, async {
        sleep(Duration::from_secs(5)).await;
        let started = Instant::now();
        desk.append(0..2);
        sleep(Duration::from_secs(20)).await;
        desk.append(2..3);
        until_accepted(&receiver, 3).await;
        let waited = receiver.call_times()[0] - started;
        assert!(
            waited >= linger && waited < linger * 2,
            "left after {waited:?}"
        );
    })
    .await;
    assert_eq!(receiver.calls(), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_cursor_is_saved_delivers_again_and_loses_nothing() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept]);
    desk.append(0..3);
    let courier = desk.courier(&receiver, policy());
    desk.until_killed(&courier, until_accepted(&receiver, 3))
        .await;
    assert_eq!(desk.saved(), 0);

    let courier = desk.courier(&receiver, policy());
    let saved = async {
        until_accepted(&receiver, 6).await;
        sleep(Duration::from_secs(2)).await;
    };
    desk.until_killed(&courier, saved).await;
    assert_eq!(receiver.accepted(), ["0", "1", "2", "0", "1", "2"]);

    desk.append(3..4);
    let courier = desk.courier(&receiver, policy());
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(receiver.accepted()[6..], ["3"], "a saved cursor is kept");
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_is_tried_again_with_growing_waits_and_never_given_up() {
    fastrand::seed(7);
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Fail]);
    let patient = Policy {
        max_age: LONG,
        ..policy()
    };
    let courier = desk.courier(&receiver, patient.clone());
    desk.append(0..2);
    desk.during(&courier, Duration::ZERO, async {
        until("tries", || receiver.calls().len() == 60).await;
        receiver.will_now(Answer::Accept);
        until_accepted(&receiver, 2).await;
    })
    .await;
    let times = receiver.call_times();
    let waits: Vec<_> = times[..60]
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    // The clock of a paused runtime counts whole milliseconds.
    let rounding = Duration::from_millis(2);
    for (attempt, wait) in (0..).zip(&waits) {
        assert!(
            *wait <= patient.backoff.bound(attempt) + rounding,
            "{attempt}: {wait:?}"
        );
    }
    assert!(
        waits.iter().any(|wait| *wait > Duration::from_secs(50)),
        "{waits:?}"
    );
    assert!(
        waits[10..]
            .iter()
            .any(|wait| *wait < Duration::from_secs(10)),
        "{waits:?}"
    );
    assert_eq!(receiver.accepted(), ["0", "1"]);
    assert_eq!(
        (
            courier.metrics.retried.get(),
            courier.metrics.put_aside.get()
        ),
        (60, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_receivers_own_wait_is_kept() {
    let desk = Desk::new();
    let (short, long) = (Duration::from_secs(100), Duration::from_secs(2000));
    let script = [
        Answer::FailFor(short),
        Answer::FailFor(long),
        Answer::Accept,
    ];
    let receiver = Receiver::scripted(&script);
    let courier = desk.courier(&receiver, policy());
    desk.append(0..1);
    desk.during(&courier, Duration::ZERO, until_accepted(&receiver, 1))
        .await;
    let times = receiver.call_times();
    let (first, second) = (times[1] - times[0], times[2] - times[1]);
    assert!(first >= short && first < short * 2, "{first:?}");
    assert!(second >= long && second < long * 2, "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_for_time_is_left_alone_by_all_lanes_and_the_sweeper() {
    let desk = Desk::new();
    let wish = Duration::from_secs(300);
    let receiver = Receiver::scripted(&[Answer::FailFor(wish), Answer::Accept]);
    let lanes = Policy {
        lanes: 8,
        ..policy()
    };
    let courier = desk.courier(&receiver, lanes);
    desk.append_of("first", "key-0");
    desk.during(&courier, LONG, async {
        until("the answer", || receiver.calls().len() == 1).await;
        let aside = super::super::super::testing::events(50..52);
        courier.aside.append(&aside).unwrap();
        desk.append(0..20);
        sleep(wish - Duration::from_secs(10)).await;
        assert_eq!(receiver.calls().len(), 1, "asked before it is time");
        until_accepted(&receiver, 23).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_without_a_key_use_all_lanes() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::AcceptAfter(Duration::from_secs(1))]);
    let lanes = Policy {
        lanes: 4,
        ..policy()
    };
    let courier = desk.courier(&receiver, lanes);
    for id in 0..100 {
        desk.append_of(&id.to_string(), "");
    }
    desk.during(&courier, LONG, async {}).await;
    let memory = receiver.0.lock().unwrap();
    assert_eq!((memory.accepted.len(), memory.most_under_way), (100, 4));
}

#[tokio::test(start_paused = true)]
async fn concurrent_deliveries_keep_the_order_of_each_key() {
    fastrand::seed(3);
    let desk = Desk::new();
    let receiver = Receiver::new(|_| match fastrand::u64(0..4) {
        0 => Answer::Fail,
        ms => Answer::AcceptAfter(Duration::from_millis(ms * 10)),
    });
    let lanes = Policy {
        batch: 3,
        lanes: 4,
        ..policy()
    };
    let courier = desk.courier(&receiver, lanes);
    for id in 0..200 {
        desk.append_of(&id.to_string(), &(id % 17).to_string());
    }
    desk.during(&courier, Duration::ZERO, until_accepted(&receiver, 200))
        .await;
    let mut by_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for id in receiver.accepted() {
        let id: usize = id.parse().unwrap();
        by_key.entry(id % 17).or_default().push(id);
    }
    assert_eq!(by_key.values().map(Vec::len).sum::<usize>(), 200);
    for (key, ids) in by_key {
        assert!(ids.is_sorted(), "key {key}: {ids:?}");
    }
    let memory = receiver.0.lock().unwrap();
    assert!(!memory.overlapped, "a key was in two deliveries at a time");
    assert_eq!(memory.most_under_way, 4);
}

#[tokio::test(start_paused = true)]
async fn unwanted_events_are_passed_by() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept]);
    let only = serde_yaml::from_str("{keys: [key-1, key-2]}").unwrap();
    let filtered = Policy {
        filter: Filter::new(&only),
        ..policy()
    };
    let courier = desk.courier(&receiver, filtered);
    desk.append(0..10);
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(receiver.accepted(), ["1", "2", "6", "7"]);
    assert_eq!(courier.metrics.filtered.get(), 6);
    assert_eq!(desk.saved(), desk.stored().last().unwrap().seq);
}

#[tokio::test(start_paused = true)]
async fn draining_delivers_what_is_there_without_lingering() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::AcceptAfter(Duration::from_secs(1))]);
    let batches = Policy {
        batch: 100,
        linger: LONG,
        lanes: 3,
        ..policy()
    };
    let courier = desk.courier(&receiver, batches);
    desk.append(0..600);
    let started = Instant::now();
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(receiver.accepted().len(), 600);
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "waited for the deadline"
    );
    assert_eq!(desk.saved(), desk.stored().last().unwrap().seq);
}

#[tokio::test(start_paused = true)]
async fn what_the_deadline_cuts_off_is_delivered_by_the_next_start() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept, Answer::Accept, Answer::Hang]);
    desk.append(0..10);
    let started = Instant::now();
    let courier = desk.courier(&receiver, policy());
    desk.during(&courier, Duration::from_millis(300), async {})
        .await;
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(desk.saved(), desk.stored()[1].seq);

    receiver.will_now(Answer::Accept);
    let courier = desk.courier(&receiver, policy());
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(receiver.accepted(), ids(0..10), "each once");
}

#[tokio::test(start_paused = true)]
async fn a_vanished_owner_is_a_shutdown() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept]);
    let courier = desk.courier(&receiver, policy());
    desk.append(0..1);
    let (stop, shutdown) = watch::channel(false);
    drop(stop);
    let cursor = desk.ledger.cursor("billing").unwrap();
    let run = courier.run(&desk.ledger, cursor, shutdown, LONG);
    timeout(Duration::from_secs(20), run).await.unwrap();
    assert_eq!(receiver.accepted(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_fills_the_window_and_not_the_memory() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Hang]);
    let courier = desk.courier(&receiver, policy());
    let events = MOST_WAITING + 3000;
    desk.append(0..events);
    desk.during(&courier, Duration::ZERO, async {
        until("a full window", || !courier.window.has_room()).await;
        sleep(Duration::from_secs(60)).await;
        let waiting = courier.window.waiting().len();
        assert!(
            (MOST_WAITING..MOST_WAITING + 256).contains(&waiting),
            "{waiting}"
        );
        let lag = courier.metrics.lag.get();
        assert_eq!(
            lag, events as i64,
            "the gauge knows those that were not read, too"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn removed_segments_are_told_and_what_is_left_is_delivered() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept]);
    // The reporter has its place before the ledger moves on.
    drop(desk.ledger.cursor("billing").unwrap());
    desk.append(0..1000);
    let first = desk.stored()[0].next.segment;
    let mut segments: Vec<_> = fs::read_dir(desk.ledger.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "ledger"))
        .collect();
    segments.sort();
    assert!(segments.len() > 5, "{segments:?}");
    let doomed = segments.iter().position(|path| {
        let number = path.file_stem().unwrap().to_str().unwrap();
        number.parse::<u64>().unwrap() == first
    });
    for path in &segments[..=doomed.unwrap()] {
        fs::remove_file(path).unwrap();
    }
    let left: Vec<_> = desk
        .stored()
        .iter()
        .map(|it| it.event.event_id.clone())
        .collect();
    assert!(!left.is_empty() && left.len() < 1000);

    let courier = desk.courier(&receiver, policy());
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(receiver.accepted(), left);
    assert_eq!(courier.metrics.gaps.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_oldest_event_grows_while_it_is_stuck() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Fail]);
    let courier = desk.courier(&receiver, policy());
    let age = || courier.metrics.oldest_age.get();
    desk.append(0..4);
    desk.during(&courier, Duration::ZERO, async {
        sleep(Duration::from_millis(10_500)).await;
        assert!((9.0..=10.5).contains(&age()), "{}", age());
        sleep(Duration::from_secs(5)).await;
        assert!((14.0..=15.5).contains(&age()), "{}", age());
        assert_eq!(courier.metrics.lag.get(), 4);
        receiver.will_now(Answer::Accept);
        until_accepted(&receiver, 4).await;
        sleep(Duration::from_millis(1500)).await;
        assert_eq!((age(), courier.metrics.lag.get()), (0.0, 0));
    })
    .await;
}

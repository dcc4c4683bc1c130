//! Events that cannot be delivered: refused, put aside, too old, or to somebody who is gone.

use super::*;
use crate::report::courier::carry::SUSPICIOUS_AFTER;

const MINUTE: Duration = Duration::from_secs(60);

/// Refuses whatever contains the event "poison".
fn allergic() -> Receiver {
    Receiver::new(|ids| {
        if ids.iter().any(|id| id == "poison") {
            Answer::Refuse
        } else {
            Answer::Accept
        }
    })
}

/// Three events, the poisoned one, and three more.
fn poisoned(desk: &Desk) {
    desk.append(0..3);
    desk.append_of("poison", "key-0");
    desk.append(3..6);
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_event_is_found_put_aside_and_holds_up_nobody() {
    let desk = Desk::new();
    let receiver = allergic();
    let batches = Policy {
        batch: 7,
        ..policy()
    };
    let courier = desk.courier(&receiver, batches);
    poisoned(&desk);
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(receiver.accepted(), ids(0..6), "in order");
    let memory = receiver.0.lock().unwrap();
    let alone = memory.calls.iter().filter(|(_, ids)| *ids == ["poison"]);
    assert_eq!(alone.count(), 3, "tried as often as the policy says");
    assert!(memory.calls.len() <= 3 + 6, "{:?}", memory.calls);
    assert_eq!(ids_in(desk.aside()), ["poison"]);
    assert_eq!(desk.saved(), desk.stored().last().unwrap().seq);
    assert_eq!(
        (
            courier.metrics.put_aside.get(),
            courier.metrics.aside_now.get()
        ),
        (1, 1)
    );
    assert_eq!(courier.metrics.delivered.get(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_was_put_aside_is_tried_every_minute_until_it_is_taken() {
    let desk = Desk::new();
    let receiver = allergic();
    let courier = desk.courier(&receiver, policy());
    poisoned(&desk);
    desk.during(&courier, LONG, async {
        until("put aside", || courier.metrics.aside_now.get() == 1).await;
        let tries = receiver.calls().len();
        sleep(MINUTE * 5).await;
        let more = receiver.calls().len() - tries;
        assert!((4..=5).contains(&more), "{more} tries in five minutes");
        assert_eq!(
            courier.metrics.put_aside.get(),
            1,
            "it is still the same event"
        );
        receiver.will_now(Answer::Accept);
        until_accepted(&receiver, 7).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(courier.metrics.aside_now.get(), 0);
    })
    .await;
    assert_eq!(receiver.accepted().last().unwrap(), "poison");
    assert!(!desk.aside().exists());
}

#[tokio::test(start_paused = true)]
async fn what_was_put_aside_is_tried_at_the_next_start() {
    let desk = Desk::new();
    let receiver = allergic();
    poisoned(&desk);
    let courier = desk.courier(&receiver, policy());
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(ids_in(desk.aside()), ["poison"]);

    receiver.will_now(Answer::Accept);
    let courier = desk.courier(&receiver, policy());
    let started = Instant::now();
    desk.during(&courier, LONG, until_accepted(&receiver, 7))
        .await;
    assert!(started.elapsed() < MINUTE / 2);
    assert_eq!(receiver.accepted().last().unwrap(), "poison");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_cut_off_keeps_what_it_holds() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept, Answer::Hang]);
    let courier = desk.courier(&receiver, policy());
    courier
        .aside
        .append(&super::super::super::testing::events(0..5))
        .unwrap();
    let hanging = until("the second", || receiver.calls().len() == 2);
    desk.during(&courier, Duration::ZERO, hanging).await;
    assert_eq!(ids_in(desk.aside()), ids(1..5));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_recovered_at_the_start_is_recovered_later() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept]);
    let courier = desk.courier(&receiver, policy());
    let store = &courier.aside;
    store
        .append(&super::super::super::testing::events(0..2))
        .unwrap();
    // Of a process that died.
    drop(store.claim().unwrap());
    // In the way, as a full disk would be.
    fs::create_dir(desk.aside()).unwrap();
    desk.during(&courier, LONG, async {
        sleep(MINUTE * 3).await;
        assert_eq!(receiver.calls().len(), 0);
        fs::remove_dir(desk.aside()).unwrap();
        until_accepted(&receiver, 2).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(courier.metrics.aside_now.get(), 0);
    })
    .await;
    assert_eq!(fs::read_dir(desk.files()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_away_does_not_grind_through_what_was_put_aside() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Fail]);
    let courier = desk.courier(&receiver, policy());
    courier
        .aside
        .append(&super::super::super::testing::events(0..50))
        .unwrap();
    desk.during(&courier, Duration::ZERO, async {
        sleep(MINUTE * 10 + MINUTE / 2).await;
        assert_eq!(receiver.calls().len(), 33, "three per sweep");
        assert_eq!(courier.metrics.aside_now.get(), 50);
    })
    .await;
    let mut left = ids_in(desk.aside());
    left.sort_by_key(|id| id.parse::<usize>().unwrap());
    assert_eq!(left, ids(0..50));
}

#[tokio::test(start_paused = true)]
async fn an_event_the_receiver_chokes_on_does_not_hold_up_its_lane_for_long() {
    let desk = Desk::new();
    // A program that answers 500 where it should say 422.
    let receiver = Receiver::new(|ids| {
        if ids.iter().any(|id| id == "poison") {
            Answer::Fail
        } else {
            Answer::Accept
        }
    });
    let lanes = Policy {
        batch: 4,
        lanes: 4,
        ..policy()
    };
    let courier = desk.courier(&receiver, lanes);
    desk.append_of("poison", "key-0");
    let started = Instant::now();
    desk.during(&courier, Duration::ZERO, async {
        for id in 0..60 {
            desk.append(id * 5..id * 5 + 5);
            sleep(Duration::from_secs(5)).await;
        }
        until_accepted(&receiver, 300).await;
    })
    .await;
    let memory = receiver.0.lock().unwrap();
    let alone = memory.calls.iter().filter(|(_, ids)| *ids == ["poison"]);
    let put_aside_at = memory
        .calls
        .iter()
        .find(|(_, ids)| ids.iter().any(|id| id == "5"));
    let put_aside_at = put_aside_at.unwrap().0 - started;
    assert!(alone.count() > 3);
    assert!(
        put_aside_at >= SUSPICIOUS_AFTER && put_aside_at < MINUTE * 4,
        "{put_aside_at:?}"
    );
    assert_eq!(ids_in(desk.aside()), ["poison"]);
    assert!(!memory.overlapped);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_away_for_everybody_gets_no_event_put_aside() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Fail]);
    let lanes = Policy {
        lanes: 4,
        ..policy()
    };
    let courier = desk.courier(&receiver, lanes);
    desk.append(0..50);
    desk.during(&courier, LONG, async {
        sleep(MINUTE * 30).await;
        receiver.will_now(Answer::Accept);
    })
    .await;
    assert_eq!(
        (receiver.accepted().len(), courier.metrics.put_aside.get()),
        (50, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_grows_too_old_goes_to_the_dead_letters() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Fail]);
    let courier = desk.courier(&receiver, policy());
    desk.append(0..2);
    desk.during(&courier, LONG, async {
        sleep(MINUTE * 50).await;
        desk.append(2..3);
        until("death", || courier.metrics.dead_lettered.get() == 2).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(desk.saved(), desk.stored()[1].seq);
        receiver.will_now(Answer::Accept);
    })
    .await;
    assert_eq!(ids_in(desk.dead()), ["0", "1"]);
    assert_eq!(receiver.accepted(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_put_aside_event_that_grows_too_old_goes_to_the_dead_letters() {
    let desk = Desk::new();
    let receiver = allergic();
    let courier = desk.courier(&receiver, policy());
    poisoned(&desk);
    desk.during(&courier, LONG, async {
        until("death", || courier.metrics.dead_lettered.get() == 1).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(courier.metrics.aside_now.get(), 0);
    })
    .await;
    assert_eq!(ids_in(desk.dead()), ["poison"]);
    assert!(!desk.aside().exists());
}

#[tokio::test(start_paused = true)]
async fn an_event_without_a_readable_time_counts_as_new() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept]);
    let courier = desk.courier(&receiver, policy());
    for timestamp in ["", "yesterday", "9999-01-01T00:00:00Z"] {
        let event = UsageEvent {
            event_id: timestamp.to_owned(),
            timestamp: timestamp.to_owned(),
            ..UsageEvent::default()
        };
        assert!(desk.ledger.is_safe(desk.ledger.record(&event)));
    }
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(receiver.accepted().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_is_left_alone_and_its_events_wait_until_they_are_too_old() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Accept, Answer::Gone]);
    let courier = desk.courier(&receiver, policy());
    desk.append(0..3);
    desk.during(&courier, LONG, async {
        until("the end", || courier.metrics.stopped.get() == 1).await;
        let calls = receiver.calls().len();
        sleep(MINUTE * 30).await;
        desk.append(3..5);
        sleep(MINUTE * 20).await;
        assert_eq!(receiver.calls().len(), calls, "asked again");
        assert_eq!(desk.saved(), desk.stored()[0].seq);
        let age = courier.metrics.oldest_age.get();
        assert!((2999.0..3001.0).contains(&age), "{age}");

        until("death", || courier.metrics.dead_lettered.get() == 2).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(desk.saved(), desk.stored()[2].seq);
    })
    .await;
    assert_eq!(ids_in(desk.dead()), ["1", "2"]);

    receiver.will_now(Answer::Accept);
    let courier = desk.courier(&receiver, policy());
    desk.during(&courier, LONG, async {}).await;
    assert_eq!(
        receiver.accepted(),
        ["0", "3", "4"],
        "the next start delivers what is left"
    );
}

#[tokio::test(start_paused = true)]
async fn put_aside_events_of_a_receiver_that_is_gone_stay_until_they_are_too_old() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Gone]);
    let courier = desk.courier(&receiver, policy());
    let timestamp = format!("{:.3}", now());
    let event = |id: &str| {
        Arc::new(UsageEvent {
            event_id: id.to_owned(),
            timestamp: timestamp.clone(),
            ..UsageEvent::default()
        })
    };
    courier.aside.append(&[event("a"), event("b")]).unwrap();
    desk.during(&courier, LONG, async {
        sleep(MINUTE * 59).await;
        assert_eq!(
            (receiver.calls().len(), courier.metrics.aside_now.get()),
            (1, 2)
        );
        sleep(MINUTE * 120).await;
    })
    .await;
    assert_eq!(ids_in(desk.dead()), ["a", "b"]);
    assert_eq!(
        (receiver.calls().len(), courier.metrics.aside_now.get()),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_put_aside_stays_in_the_ledger() {
    let desk = Desk::new();
    let receiver = allergic();
    let courier = desk.courier(&receiver, policy());
    // In the way, as a full disk would be.
    fs::write(desk.files(), "").unwrap();
    poisoned(&desk);
    desk.during(&courier, LONG, async {
        until_accepted(&receiver, 3).await;
        sleep(MINUTE / 2).await;
        assert_eq!(receiver.accepted().len(), 3);
        assert_eq!(desk.saved(), desk.stored()[2].seq);
        fs::remove_file(desk.files()).unwrap();
        until_accepted(&receiver, 6).await;
    })
    .await;
    assert_eq!(ids_in(desk.aside()), ["poison"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_buried_stays_in_the_ledger() {
    let desk = Desk::new();
    let receiver = Receiver::scripted(&[Answer::Fail]);
    let courier = desk.courier(&receiver, policy());
    let in_the_way = desk.files();
    fs::write(&in_the_way, "").unwrap();
    desk.append(0..1);
    desk.during(&courier, LONG, async {
        sleep(MINUTE * 70).await;
        assert_eq!((courier.metrics.dead_lettered.get(), desk.saved()), (0, 0));
        fs::remove_file(&in_the_way).unwrap();
        until("death", || courier.metrics.dead_lettered.get() == 1).await;
    })
    .await;
    assert_eq!(ids_in(desk.dead()), ["0"]);
    assert_eq!(desk.saved(), desk.stored()[0].seq);
}

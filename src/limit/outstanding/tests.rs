use prometheus::Registry;

use super::*;

fn outstanding(bound: usize) -> Arc<Outstanding> {
    let metrics = LimitMetrics::register(&Registry::new()).unwrap();
    Arc::new(Outstanding::new(bound, metrics))
}

fn hold(id: &str) -> Arc<Hold> {
    let account = Account {
        name: "key_1@ever".into(),
        tokens: Some(1),
        nanos: None,
        ends: None,
    };
    let reserve = Reserve {
        account: Arc::new(account),
        id: id.into(),
        amount: Amount::default(),
    };
    Hold::new(&reserve, true)
}

#[test]
fn at_the_bound_the_oldest_is_left_to_the_next_start() {
    let outstanding = outstanding(3);
    let pending = Pending(Arc::clone(&outstanding));
    let ids = ["a", "b", "c", "d", "e"];
    for id in ids {
        let hold = hold(id);
        outstanding.hold(&hold);
        outstanding.settle(&hold, Amount::default());
    }
    assert_eq!(pending.left_behind(), 2);
    assert_eq!(outstanding.unsettled(), 3);
    assert_eq!(
        ids.map(|id| pending.is_done(id)),
        [true, true, false, false, false]
    );
    let kept = outstanding.take_settlements(10);
    let kept: Vec<&str> = kept.iter().map(|one| &*one.settlement.hold.id).collect();
    assert_eq!(kept, ["c", "d", "e"]);
}

#[test]
fn a_request_is_pending_from_its_admission_until_the_store_knows() {
    let outstanding = outstanding(3);
    let pending = Pending(Arc::clone(&outstanding));
    let hold = hold("a");
    assert!(pending.is_done("a"));
    outstanding.hold(&hold);
    assert!(!pending.is_done("a"), "it runs");
    outstanding.settle(&hold, Amount::default());
    let taken = outstanding.take_settlements(1).remove(0);
    assert!(!pending.is_done("a"), "the store is being told");
    drop(taken);
    outstanding.take_settlements(1).remove(0).done();
    assert!(pending.is_done("a"));
    assert_eq!(outstanding.unsettled(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_tried_ever_more_rarely() {
    let outstanding = outstanding(3);
    outstanding.settle(&hold("a"), Amount::default());
    let mut waits = Vec::new();
    for _ in 0..9 {
        outstanding.take_settlements(1).remove(0).postpone();
        assert!(outstanding.take_settlements(1).is_empty());
        let next = outstanding.next_attempt().unwrap();
        waits.push((next - Instant::now()).as_millis());
        tokio::time::sleep_until(next).await;
    }
    let expected = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
    assert_eq!(waits, expected);
}

#[test]
fn of_what_the_shared_store_cannot_be_told_the_latest_is_kept() {
    let outstanding = outstanding(2);
    let ask = |id: &str| {
        Arc::new(RateAsk {
            id: id.into(),
            rules: Vec::new(),
            tokens: 0,
        })
    };
    for id in ["a", "b", "c"] {
        outstanding.started(&ask(id));
        outstanding.ended(&ask(id), Some(1));
    }
    assert!(outstanding.running().is_empty());
    let endings = outstanding.take_endings(10);
    let kept: Vec<&str> = endings.iter().map(|ending| &*ending.ask.id).collect();
    assert_eq!(kept, ["b", "c"]);
}

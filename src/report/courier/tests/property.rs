//! Whatever the receiver does and whenever the process dies.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Story {
    events: usize,
    lanes: usize,
    batch: usize,
    /// What the receiver does, one answer per call; it accepts after the last.
    answers: Vec<Answer>,
    /// How long each process lives before it is killed.
    lives: Vec<Duration>,
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Accept),
        2 => (1..3000u64).prop_map(|ms| Answer::AcceptAfter(Duration::from_millis(ms))),
        2 => Just(Answer::Fail),
        1 => (1..5u64).prop_map(|s| Answer::FailFor(Duration::from_secs(s))),
        3 => Just(Answer::Refuse),
    ]
}

fn story() -> impl Strategy<Value = Story> {
    let life = (0..20_000u64).prop_map(Duration::from_millis);
    (
        1..40usize,
        1..5usize,
        1..8usize,
        prop::collection::vec(answer(), 0..60),
        prop::collection::vec(life, 0..4),
    )
        .prop_map(|(events, lanes, batch, answers, lives)| Story {
            events,
            lanes,
            batch,
            answers,
            lives,
        })
}

/// The ids in every file of put-aside events, claimed or not.
fn aside(desk: &Desk) -> HashSet<String> {
    let mut ids = HashSet::new();
    for entry in fs::read_dir(desk.files()).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("usage-undelivered") {
            ids.extend(ids_in(path));
        }
    }
    ids
}

async fn play(story: Story) {
    let desk = Desk::new();
    let mut answers = story.answers.into_iter();
    let receiver = Receiver::new(move |_| answers.next().unwrap_or(Answer::Accept));
    let policy = Policy {
        batch: story.batch,
        lanes: story.lanes,
        linger: Duration::from_millis(300),
        max_age: LONG,
        ..policy()
    };
    drop(desk.ledger.cursor("billing").unwrap());
    desk.append(0..story.events);
    for life in story.lives {
        let courier = desk.courier(&receiver, policy.clone());
        desk.until_killed(&courier, sleep(life)).await;
        let mut safe = aside(&desk);
        safe.extend(receiver.accepted());
        let saved = desk.saved();
        for stored in desk.stored() {
            let id = &stored.event.event_id;
            let is_behind = stored.seq <= saved;
            assert!(
                !is_behind || safe.contains(id),
                "the cursor has passed {id}"
            );
        }
    }
    let courier = desk.courier(&receiver, policy);
    let everything = || {
        let ids: HashSet<_> = receiver.accepted().into_iter().collect();
        ids.len() == story.events
    };
    desk.during(&courier, LONG, async {
        until("every event", everything).await;
        // What was delivered twice may have been refused the second time.
        receiver.will_now(Answer::Accept);
        sleep(Duration::from_secs(5)).await;
        until("a clean desk", || courier.metrics.aside_now.get() == 0).await;
    })
    .await;
    assert_eq!(desk.saved(), desk.stored().last().unwrap().seq);
    assert!(aside(&desk).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_event_arrives_and_the_cursor_passes_none_that_did_not(story in story()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(play(story));
    }
}

//! Sending events again.

use std::fs;

use serde_json::{Value, json};

use super::{Story, configured, ids, lines, text};
use crate::webhook::Webhook;

#[test]
fn replay_sends_the_same_events_again() {
    let story = Story::start(Webhook::start());
    let before = story.webhook.events(3);
    let replay = "replay --reporter billing --model large";
    let said = lines(&story.configured(&format!("{replay} --dry-run")));
    assert_eq!(
        said,
        [json!({"would_be_sent": 2, "rejected": 0, "skipped": 1})]
    );
    assert_eq!(story.webhook.events(3).len(), 3);
    let said = lines(&story.configured(replay));
    assert_eq!(said, [json!({"sent": 2, "rejected": 0, "skipped": 1})]);
    let after = story.webhook.events(5);
    for id in ["r0", "r1"] {
        let of = |events: &[Value]| -> Vec<Value> {
            let of = events.iter().filter(|event| event["request_id"] == id);
            of.map(|event| event["event_id"].clone()).collect()
        };
        let (first, both) = (of(&before), of(&after));
        assert_eq!(both, [first[0].clone(), first[0].clone()]);
    }
}

#[test]
fn replay_says_how_to_go_on() {
    let story = Story::start(Webhook::answering(|call| match call.nth() {
        0..3 => call.json(200, "{}"),
        _ => call.json(503, "{}"),
    }));
    let first = lines(&story.usage("query --limit 1"));
    let stopped = story.configured("replay --reporter billing --max-attempts 1");
    assert_eq!(
        text(&stopped, 1),
        "{\"rejected\":0,\"sent\":0,\"skipped\":0}\n"
    );
    let said = String::from_utf8_lossy(&stopped.stderr).into_owned();
    let since = format!("--since {}", first[0]["timestamp"].as_str().unwrap());
    assert!(said.contains(&since), "{said}");
}

#[test]
fn dead_letters_leave_their_file_when_they_are_delivered() {
    let story = Story::start(Webhook::answering(|call| {
        let refused =
            call.nth() >= 3 && String::from_utf8_lossy(&call.request.body).contains("\"r1\"");
        call.json(if refused { 422 } else { 200 }, "{}");
    }));
    fs::create_dir_all(story.dead_letters().parent().unwrap()).unwrap();
    let letters = text(&story.usage("query --model large"), 0);
    fs::write(story.dead_letters(), letters).unwrap();
    let listed = lines(&story.usage("query --dead-letters billing"));
    assert_eq!(ids(&listed), ["r0", "r1"]);

    let replay = "replay --reporter billing --dead-letters";
    let said = text(&story.configured(replay), 1);
    assert_eq!(said, "{\"rejected\":1,\"sent\":1,\"skipped\":0}\n");
    let left = lines(&story.usage("query --dead-letters billing"));
    assert_eq!(ids(&left), ["r1"], "what was refused stays");
    assert_eq!(story.webhook.events(5).len(), 5);

    let none = configured(story.dir.path(), &format!("{replay} --model small"));
    assert_eq!(
        text(&none, 0),
        "{\"rejected\":0,\"sent\":0,\"skipped\":1}\n"
    );
    assert_eq!(
        ids(&lines(&story.usage("query --dead-letters billing"))),
        ["r1"]
    );
}

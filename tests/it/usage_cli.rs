//! `llmproxy usage`: what operators see of the bill, and what they do about it.

mod replay;
mod verify;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::client::post_with;
use crate::eventually;
use crate::gateway::{Gateway, backends};
use crate::process::{Process, llmproxy};
use crate::shapes::vllm;
use crate::upstream::Upstream;
use crate::webhook::Webhook;

/// 12 prompt and 3 completion tokens of a request cost 60,000 nano-dollars with these.
const PRICES: &str =
    "prices: {currency: USD, models: [{model: large, prompt: 2.5, completion: 10}]}\n";

/// A gateway that has served three requests: `r0` and `r1` for `large` with one key, `r2` for `small`
/// with another. Fields are dropped in this order.
struct Story {
    gateway: Gateway,
    webhook: Webhook,
    _upstream: Upstream,
    dir: tempfile::TempDir,
}

impl Story {
    fn start(webhook: Webhook) -> Self {
        let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
        let yaml = format!("{}{}{PRICES}", backends(&upstream), webhook.yaml());
        let gateway = Gateway::start_in(dir.path(), &yaml);
        let story = Self {
            gateway,
            webhook,
            _upstream: upstream,
            dir,
        };
        story.call("r0", "large", "sk-first-0123456789");
        story.call("r1", "large", "sk-first-0123456789");
        story.call("r2", "small", "sk-second-0123456789");
        story.webhook.events(3);
        story
    }

    fn call(&self, id: &str, model: &str, key: &str) {
        let authorization = format!("Bearer {key}");
        let fields = [("X-Request-Id", id), ("Authorization", &authorization)];
        let body =
            format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}]}}"#);
        let request = post_with("/v1/chat/completions", &fields, body);
        assert_eq!(self.gateway.call(request).status, 200);
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// `llmproxy usage <words> --data-dir …`
    fn usage(&self, words: &str) -> Output {
        usage(&self.data_dir(), words)
    }

    /// `llmproxy usage <words> --config …`
    fn configured(&self, words: &str) -> Output {
        configured(self.dir.path(), words)
    }

    fn dead_letters(&self) -> PathBuf {
        self.data_dir().join("dead-letters/billing.jsonl")
    }
}

fn usage(data_dir: &Path, words: &str) -> Output {
    let mut command = llmproxy();
    command.arg("usage").args(words.split_whitespace());
    command.arg("--data-dir").arg(data_dir).output().unwrap()
}

fn configured(dir: &Path, words: &str) -> Output {
    let mut command = llmproxy();
    command.arg("usage").args(words.split_whitespace());
    let file = dir.join("llmproxy.yaml");
    command.arg("--config").arg(file).output().unwrap()
}

#[track_caller]
fn text(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn lines(output: &Output) -> Vec<Value> {
    let text = text(output, 0);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn ids(events: &[Value]) -> Vec<&str> {
    let ids = events.iter().map(|event| event["request_id"].as_str());
    ids.map(Option::unwrap).collect()
}

#[test]
fn tail_shows_the_last_events() {
    let story = Story::start(Webhook::start());
    assert_eq!(ids(&lines(&story.usage("tail"))), ["r0", "r1", "r2"]);
    assert_eq!(ids(&lines(&story.usage("tail -n 2"))), ["r1", "r2"]);
    let large = lines(&story.usage("tail -n 1 --model lar*"));
    assert_eq!(ids(&large), ["r1"]);
    let table = text(&story.usage("tail --format table"), 0);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        table.lines().all(|line| line.chars().count() <= 120),
        "{table}"
    );
}

#[test]
fn tail_follows_until_ctrl_c() {
    let story = Story::start(Webhook::start());
    let mut command = llmproxy();
    command.args([
        "usage",
        "tail",
        "-n",
        "1",
        "-f",
        "--format",
        "json",
        "--data-dir",
    ]);
    let mut tail = Process::spawn(command.arg(story.data_dir()));
    eventually("the last event is shown", || tail.log().contains("\"r2\""));
    story.call("r3", "large", "sk-first-0123456789");
    eventually("a new event is shown", || tail.log().contains("\"r3\""));
    assert!(!tail.log().contains("\"r1\""), "{}", tail.log());
    tail.signal("INT");
    assert_eq!(tail.wait().code(), Some(0), "{}", tail.log());
}

#[test]
fn tail_ends_quietly_when_nobody_reads_any_more() {
    let story = Story::start(Webhook::start());
    let mut command = llmproxy();
    command.args(["usage", "tail", "-n", "1", "-f", "--data-dir"]);
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tail = piped.arg(story.data_dir()).spawn().unwrap();
    let mut output = BufReader::new(tail.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    drop(output);
    story.call("r3", "large", "sk-first-0123456789");
    eventually("it ends", || tail.try_wait().unwrap().is_some());
    let ended = tail.wait_with_output().unwrap();
    assert_eq!(text(&ended, 0), "");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn query_selects_events() {
    let story = Story::start(Webhook::start());
    let all = lines(&story.usage("query"));
    assert_eq!(ids(&all), ["r0", "r1", "r2"]);
    let key = all[2]["key_id"].as_str().unwrap();
    for (words, expected) in [
        (format!("query --key {key}"), &["r2"][..]),
        ("query --model large --limit 1".into(), &["r0"]),
        (
            "query --outcome completed --since 1h".into(),
            &["r0", "r1", "r2"],
        ),
        ("query --until 1h".into(), &[]),
        ("query --outcome interrupted,client_aborted".into(), &[]),
    ] {
        assert_eq!(ids(&lines(&story.usage(&words))), expected, "{words}");
    }
    let csv = text(&story.usage("query --format csv"), 0);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let column = reader
        .headers()
        .unwrap()
        .iter()
        .position(|it| it == "request_id");
    let records = reader.records().map(Result::unwrap);
    let column: Vec<String> = records.map(|it| it[column.unwrap()].to_owned()).collect();
    assert_eq!(column, ["r0", "r1", "r2"]);
    let older = story.usage("query --since 2020-01-01");
    let said = String::from_utf8_lossy(&older.stderr).into_owned();
    assert!(
        said.contains(all[0]["timestamp"].as_str().unwrap()),
        "{said}"
    );
}

#[test]
fn query_adds_up_exactly() {
    let story = Story::start(Webhook::start());
    let groups = lines(&story.usage("query --group-by model"));
    let group = |model: &str, requests: u64, unpriced: u64, cost: Value| {
        json!({
            "model": model, "requests": requests, "prompt_tokens": 12 * requests,
            "cached_tokens": 0, "completion_tokens": 3 * requests, "reasoning_tokens": 0,
            "total_tokens": 15 * requests, "estimated": 0, "estimated_share": 0.0,
            "unpriced": unpriced, "cost": cost,
        })
    };
    let large = group("large", 2, 0, json!({"USD": "0.00012"}));
    assert_eq!(groups, [large, group("small", 1, 1, json!({}))]);
    let csv = text(
        &story.usage("query --group-by outcome,model --format csv"),
        0,
    );
    assert!(
        csv.contains("\ncompleted,large,2,24,0,6,0,30,0,0,0.00012\n"),
        "{csv}"
    );
    let table = text(&story.usage("query --group-by model --format table"), 0);
    for line in ["large", "small", "total"] {
        let row = table.lines().find(|row| row.starts_with(line)).unwrap();
        let count = match line {
            "large" => "30",
            "small" => "15",
            _ => "45",
        };
        assert!(row.split_whitespace().any(|cell| cell == count), "{table}");
    }
}

#[test]
fn bad_input_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "backends: [{url: \"http://127.0.0.1:1\"}]\n";
    fs::write(dir.path().join("llmproxy.yaml"), yaml).unwrap();
    for (output, said) in [
        (usage(dir.path(), "tail"), "no ledger in"),
        (
            usage(dir.path(), "query --since yesterday"),
            "`yesterday` is no time",
        ),
        (
            usage(dir.path(), "query --since 1h --until 2h"),
            "--until is not after --since",
        ),
        (
            usage(dir.path(), "query --outcome lost"),
            "no outcome `lost`",
        ),
        (usage(dir.path(), "query --group-by colour"), "colour"),
        (
            usage(dir.path(), "replay --reporter billing"),
            "--config FILE",
        ),
        (
            configured(dir.path(), "replay --reporter billing"),
            "no reporter is named \"billing\"",
        ),
        (
            llmproxy().args(["usage", "verify"]).output().unwrap(),
            "which gateway?",
        ),
    ] {
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{message}");
        assert!(message.contains(said), "{said} in {message}");
    }
}

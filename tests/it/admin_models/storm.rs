//! Many who change models at the same time, and an operator who reloads meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{Load, MODELS, call, chat, gateway, list, targets};
use crate::client::Client;
use crate::key_api::Api;
use crate::shapes::vllm;
use crate::upstream::Upstream;

/// Rounds of each client.
const ROUNDS: usize = 12;

/// What became of a client's models: what their backends call them, or that they are deleted.
type Last = BTreeMap<String, Option<String>>;

struct Editor {
    client: Client,
    last: Last,
}

impl Editor {
    /// Makes a change, after which this model has that target.
    #[track_caller]
    fn change(&mut self, request: Vec<u8>, name: &str, target: Option<String>) {
        let answer = self.client.call(request);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        self.last.insert(name.to_owned(), target);
    }

    fn put(&mut self, name: &str, target: &str) {
        let section = json!({"extends": "m", "target_model": target});
        let request = call("PUT", &format!("/admin/models/{name}"), &section);
        self.change(request, name, Some(target.to_owned()));
    }

    fn delete(&mut self, name: &str) {
        let request = call("DELETE", &format!("/admin/models/{name}"), &json!({}));
        self.change(request, name, None);
    }

    fn copy(&mut self, source: &str, target: &str) {
        let body = json!({"source": source, "target": target});
        let now = self.last[source].clone();
        self.change(call("POST", "/admin/models/copy", &body), target, now);
    }
}

/// Puts, copies and deletes models of its own.
fn edit(addr: SocketAddr, nth: usize) -> Last {
    let mut editor = Editor {
        client: Client::connect(addr),
        last: Last::new(),
    };
    let (model, twin) = (format!("model-{nth}"), format!("twin-{nth}"));
    for round in 0..ROUNDS {
        editor.put(&model, &format!("v{round}"));
        editor.copy(&model, &twin);
        match (round + nth) % 3 {
            0 => editor.put(&twin, &format!("t{round}")),
            1 => editor.delete(&model),
            _ => {}
        }
        if round + 1 < ROUNDS {
            editor.delete(&twin);
        }
    }
    editor.last
}

#[test]
fn nothing_that_was_answered_is_lost() {
    const EDITORS: usize = 4;
    let upstream = Upstream::start(vllm);
    let (mut gateway, api) = gateway(&upstream, MODELS);
    let load = Load::start(gateway.addr(), "heir");
    let addr = api.addr;
    let editors = (0..EDITORS).map(|nth| thread::spawn(move || edit(addr, nth)));
    let editors: Vec<_> = editors.collect();
    let before = gateway.reloads("success");
    while !editors.iter().all(thread::JoinHandle::is_finished) {
        gateway.process().signal("HUP");
        thread::sleep(Duration::from_millis(20));
    }
    let mut last = Last::new();
    for editor in editors {
        last.extend(editor.join().unwrap());
    }
    load.stop();
    let expected = last
        .into_iter()
        .filter_map(|(name, target)| Some((name, Some(target?))));
    let mut expected: Vec<_> = expected.collect();
    assert!(expected.len() > EDITORS, "{expected:?}");
    expected.extend(["m", "heir"].map(|name| (name.to_owned(), None)));
    expected.sort();
    let served = |api: &Api| {
        let mut served = targets(&list(api));
        served.sort();
        served
    };
    assert_eq!(served(&api), expected);
    let made = (ROUNDS * EDITORS) as f64;
    assert!(gateway.reloads("success") - before > made);
    for (name, _) in &expected {
        assert_eq!(chat(&gateway, name).status, 200, "{name}");
    }
    gateway.crash();
    assert_eq!(served(&Api::of(&gateway)), expected);
}

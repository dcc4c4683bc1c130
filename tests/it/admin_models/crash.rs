//! SIGKILL: what was answered is there, and nothing is half there.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{
    MODELS, ask, asked_last, call, chat, delete, done, gateway, list, overlay, put, routed, targets,
};
use crate::client::{Answer, Client};
use crate::gateway::{Gateway, assert_openai_error};
use crate::key_api::Api;
use crate::shapes::vllm;
use crate::upstream::Upstream;

fn mode(gateway: &Gateway) -> u32 {
    fs::metadata(overlay(gateway)).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_was_changed_is_back_after_a_crash_and_the_file_is_the_users() {
    let upstream = Upstream::fleet(2, vllm);
    let models =
        format!("# Ours; do not touch.\n{MODELS}  other: {{routes: [{{backend: a}}]}} # why\n");
    let (mut gateway, api) = gateway(&upstream, &models);
    let file = fs::read(gateway.file()).unwrap();
    put(&api, "m", &routed("b", "second"));
    delete(&api, "other");
    let base = format!("http://{}/v1", upstream.addrs()[1]);
    let flat = json!({"model_name": "flat", "api_base": base, "api_key": "sk-1", "model": "third"});
    done(&ask(&api, "POST", "/admin/models", &flat));
    let order = json!({"order": ["flat", "m"]});
    done(&ask(&api, "PUT", "/admin/models/order", &order));
    let before = list(&api);
    gateway.crash();
    let api = Api::of(&gateway);
    assert_eq!(list(&api), before);
    let names: Vec<_> = targets(&before).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["flat", "m", "heir"]);
    for (model, real) in [("m", "second"), ("heir", "second"), ("flat", "third")] {
        assert_eq!(chat(&gateway, model).status, 200);
        assert_eq!(asked_last(&upstream), (1, real.to_owned()));
    }
    let last = upstream.requests().pop().unwrap();
    assert_eq!(last.head.field("authorization"), Some("Bearer sk-1"));
    assert_openai_error(&chat(&gateway, "other"), 404, "model_not_found");
    assert_eq!(fs::read(gateway.file()).unwrap(), file);
    assert_eq!(mode(&gateway), 0o600);
}

/// What one client has done to its model: which version of it was put last, or that it was deleted.
struct Written {
    name: String,
    version: u32,
    answered: Option<u32>,
    /// What was asked for last, whose answer may not have come.
    tried: Option<u32>,
}

impl Written {
    /// Changes the model again and again until nobody answers any more.
    fn until_nobody_answers(mut self, addr: SocketAddr) -> Self {
        while let Some(answer) = self.change(addr) {
            assert_eq!(answer.status, 200, "{}", answer.text());
            self.answered = self.tried;
        }
        self
    }

    fn change(&mut self, addr: SocketAddr) -> Option<Answer> {
        self.version += 1;
        let path = format!("/admin/models/{}", self.name);
        let deletes = self.answered.is_some() && self.version.is_multiple_of(4);
        let request = match deletes {
            true => call("DELETE", &path, &json!({})),
            false => {
                let target = format!("v{}", self.version);
                call(
                    "PUT",
                    &path,
                    &json!({"extends": "m", "target_model": target}),
                )
            }
        };
        self.tried = (!deletes).then_some(self.version);
        Client::try_connect(addr)?.send(request).maybe_answer()
    }

    /// Compares it with what is there after the restart.
    fn check(&mut self, there: &[(String, Option<String>)]) {
        let found = there.iter().find(|(name, _)| *name == self.name);
        let found = found.map(|(_, target)| {
            let version = target.as_ref().unwrap().strip_prefix('v').unwrap();
            version.parse::<u32>().unwrap()
        });
        assert!(
            found == self.answered || found == self.tried,
            "{}: {found:?} is neither {:?}, which was answered, nor {:?}, which was tried",
            self.name,
            self.answered,
            self.tried
        );
        self.answered = found;
    }
}

#[test]
fn a_crash_at_any_moment_loses_nothing_that_was_answered() {
    const CRASHES: usize = 6;
    let upstream = Upstream::start(vllm);
    let (mut gateway, _api) = gateway(&upstream, MODELS);
    let new = |nth| Written {
        name: format!("w{nth}"),
        version: 0,
        answered: None,
        tried: None,
    };
    let mut writers: Vec<Written> = (0..4).map(new).collect();
    for _ in 0..CRASHES {
        let addr = gateway.addrs()[1];
        let running = writers.drain(..);
        let running: Vec<_> = running
            .map(|writer| thread::spawn(move || writer.until_nobody_answers(addr)))
            .collect();
        thread::sleep(Duration::from_millis(fastrand::u64(50..400)));
        gateway.crash();
        writers.extend(running.into_iter().map(|writer| writer.join().unwrap()));
        let there = targets(&list(&Api::of(&gateway)));
        for writer in &mut writers {
            writer.check(&there);
        }
        assert_eq!(mode(&gateway), 0o600);
    }
    let versions: Vec<u32> = writers.iter().map(|writer| writer.version).collect();
    eprintln!("{CRASHES} kills, changes of each: {versions:?}");
    assert!(versions.iter().all(|version| *version > 5), "{versions:?}");
    assert_eq!(chat(&gateway, "m").status, 200);
}

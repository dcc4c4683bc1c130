//! Models changed through the admin API while requests run: from when on a change is served, what is left of it after
//! a crash, and who may make it.

mod bad;
mod crash;
mod explain;
mod inherit;
mod open;
mod protected;
mod restore;
mod secrets;
mod serve;
mod storm;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use crate::client::{Answer, Client, head, post};
use crate::eventually;
use crate::gateway::{Gateway, backends};
use crate::key_api::{Api, BEARER};
use crate::upstream::Upstream;

const PASSWORD: &str = "open sesame, please";

const ADMIN: &str = "admin: {listen: \"127.0.0.1:0\", token: \"the-admin's-own-token\", password: \"open sesame, please\"}\n";

/// A model `m` that `a` serves, and one that extends it.
const MODELS: &str = "models:\n  m: {routes: [{backend: a, model: first}]}\n  heir: {extends: m}\n";

/// The configuration of a gateway with the admin API before every listener of `upstream`.
fn yaml(upstream: &Upstream, more: &str) -> String {
    format!("{}{ADMIN}{more}", backends(upstream))
}

fn gateway(upstream: &Upstream, more: &str) -> (Gateway, Api) {
    let gateway = Gateway::start(&yaml(upstream, more));
    let api = Api::of(&gateway);
    (gateway, api)
}

/// A model that one backend serves, which calls it so.
fn routed(backend: &str, model: &str) -> Value {
    json!({"routes": [{"backend": backend, "model": model}]})
}

/// What the API says to this; every answer is held against its document.
#[track_caller]
fn ask(api: &Api, method: &str, path: &str, body: &Value) -> Answer {
    api.ask(method, path, &BEARER, body.to_string().as_bytes())
}

/// The same with the admin password.
#[track_caller]
fn ask_as_owner(api: &Api, method: &str, path: &str, body: &Value) -> Answer {
    let fields = [BEARER[0], ("X-Admin-Password", PASSWORD)];
    api.ask(method, path, &fields, body.to_string().as_bytes())
}

/// What a change that must be good is answered.
#[track_caller]
fn done(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[track_caller]
fn put(api: &Api, name: &str, section: &Value) -> Value {
    done(&ask(api, "PUT", &format!("/admin/models/{name}"), section))
}

#[track_caller]
fn delete(api: &Api, name: &str) -> Value {
    let path = format!("/admin/models/{name}");
    done(&ask(api, "DELETE", &path, &json!({})))
}

#[track_caller]
fn list(api: &Api) -> Value {
    done(&api.get("/admin/models"))
}

/// The bytes of a call of the API, for those that make many.
fn call(method: &str, path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len().to_string();
    let fields = [BEARER[0], ("Content-Length", &length)];
    [head(method, path, &fields), body.into_bytes()].concat()
}

/// The names of the models and what their backends call them, as the API lists them.
fn targets(list: &Value) -> Vec<(String, Option<String>)> {
    let models = list["models"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    models
        .map(|model| {
            let target = text(&model["config"]["target_model"]);
            (text(&model["name"]).unwrap(), target)
        })
        .collect()
}

/// One chat completion of this model that does not stream.
#[track_caller]
fn chat(gateway: &Gateway, model: &str) -> Answer {
    gateway.call(chat_request(model))
}

fn chat_request(model: &str) -> Vec<u8> {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "Say hello"}]});
    post("/v1/chat/completions", body.to_string())
}

/// Which listener was asked last, and for which model.
#[track_caller]
fn asked_last(upstream: &Upstream) -> (usize, String) {
    let last = upstream.requests().pop().unwrap();
    let body: Value = serde_json::from_slice(&last.body).unwrap();
    (last.listener, body["model"].as_str().unwrap().to_owned())
}

/// Which listeners were asked for this model.
fn who_was_asked_for(upstream: &Upstream, model: &str) -> Vec<usize> {
    let wanted = format!("\"model\":\"{model}\"");
    let requests = upstream.requests().into_iter();
    let fitting = requests.filter(|it| String::from_utf8_lossy(&it.body).contains(&wanted));
    fitting.map(|request| request.listener).collect()
}

/// Where the API keeps what it changed.
fn overlay(gateway: &Gateway) -> PathBuf {
    gateway.file().with_file_name("data").join("overlay.yaml")
}

/// Clients that call a model without a pause and must always be served.
struct Load {
    over: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// How many clients there are.
    const CLIENTS: usize = 4;

    /// Begins it, and returns when it is there.
    #[track_caller]
    fn start(addr: SocketAddr, model: &'static str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicUsize::new(0));
        let client = |_nth| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            thread::spawn(move || {
                let mut client = Client::connect(addr);
                while !over.load(Ordering::Relaxed) {
                    let answer = client.call(chat_request(model));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert_eq!(answer.json()["model"], model);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..Self::CLIENTS).map(client).collect();
        let load = Self {
            over,
            served,
            clients,
        };
        load.goes_on();
        load
    }

    /// Waits until more requests have been served.
    #[track_caller]
    fn goes_on(&self) {
        let enough = self.served.load(Ordering::Relaxed) + 2 * Self::CLIENTS;
        let broken = || self.clients.iter().any(JoinHandle::is_finished);
        eventually("more requests are served", || {
            broken() || self.served.load(Ordering::Relaxed) >= enough
        });
        assert!(!broken(), "a client was not served, see above");
    }

    /// Ends it; fails the test if a request was not served.
    #[track_caller]
    fn stop(self) {
        self.goes_on();
        self.over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
    }
}

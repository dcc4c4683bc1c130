//! The admin API for keys: a key's whole life, who may change it, what the document promises, and the commands that
//! do the same from a shell.

mod classic;
mod cli;
mod document;
mod hostile;
mod life;
mod replicas;

use std::net::SocketAddr;

use serde_json::{Value, json};

use self::document::Document;
use crate::client::{Answer, Client, head, post_with};
use crate::gateway::{Gateway, backends};
use crate::upstream::Upstream;

pub(super) const TOKEN: &str = "the-admin's-own-token";

/// The admin listener and clients that must show a key. What is cached stays so, unless somebody says otherwise.
pub(super) const CONFIG: &str = "admin: {listen: \"127.0.0.1:0\", token: \"the-admin's-own-token\"}\n\
     auth: {enabled: true, cache: {ttl: 1h, negative_ttl: 1h}}\n";

/// A gateway with the admin API, keys in an SQLite file, and this configuration besides.
pub(super) fn gateway(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::start(&format!("{}{CONFIG}{more}", backends(upstream)))
}

/// The admin API of a gateway. Every answer is held against the document that the gateway serves.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) addr: SocketAddr,
    pub(super) document: Document,
}

impl Api {
    pub(super) fn of(gateway: &Gateway) -> Self {
        let addr = gateway.addrs()[1];
        let document = Document::read(addr);
        Self { addr, document }
    }

    /// Where it is, as the commands want it.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &BEARER, b"")
    }

    #[track_caller]
    pub(super) fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &BEARER, b"")
    }

    #[track_caller]
    pub(super) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &BEARER, body.to_string().as_bytes())
    }

    #[track_caller]
    pub(super) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.ask("PATCH", path, &BEARER, body.to_string().as_bytes())
    }

    /// A request with exactly these fields and this body.
    #[track_caller]
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let request = match method {
            "POST" => post_with(path, fields, body),
            _ => {
                let length = body.len().to_string();
                let mut all = vec![("Content-Length", &*length)];
                all.extend_from_slice(fields);
                let mut request = head(method, path, &all);
                request.extend_from_slice(body);
                request
            }
        };
        let answer = Client::connect(self.addr).call(request);
        self.document.check(method, path, &answer);
        answer
    }

    /// Creates a key and returns what is said of it.
    #[track_caller]
    pub(super) fn create(&self, body: &Value) -> Value {
        let answer = self.post("/api/v1/keys", body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    /// Creates a key that is generated, with these fields; returns its id and itself.
    #[track_caller]
    pub(super) fn generate(&self, body: &Value) -> (String, String) {
        let created = self.create(body);
        let text = |name: &str| created[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    /// The ids of a page of keys.
    #[track_caller]
    pub(super) fn ids(&self, query: &str) -> Vec<String> {
        let page = self.get(&format!("/api/v1/keys?{query}"));
        assert_eq!(page.status, 200, "{}", page.text());
        ids(&page.json()["keys"])
    }

    /// Switches a key off or on, and so on.
    #[track_caller]
    pub(super) fn act(&self, id: &str, action: &str) -> Value {
        let answer = self.post(&format!("/api/v1/keys/{id}/{action}"), &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

pub(super) const BEARER: [(&str, &str); 1] = [("Authorization", "Bearer the-admin's-own-token")];

pub(super) fn ids(keys: &Value) -> Vec<String> {
    let ids = keys.as_array().unwrap().iter();
    ids.map(|key| key["id"].as_str().unwrap().to_owned())
        .collect()
}

/// That the answer refuses, in the API's form, and says what is wrong with what.
#[track_caller]
pub(super) fn assert_refused(answer: &Answer, status: u16, code: &str, param: Option<&str>) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code, "{error}");
    assert_eq!(error["param"].as_str(), param, "{error}");
}

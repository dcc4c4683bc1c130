//! The API as requests and replies, on files in a directory of the test's. Every reply is held
//! against the document.

mod configuration;
mod explain;
mod flat;
mod models;
mod protected;
mod restore;
mod whole;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Api, Reply, Request, openapi};
use crate::config;
use crate::keys::KeyStore;
use crate::limit::{LimitMetrics, Limiter};
use crate::metrics::Metrics;
use crate::reload::{Reloader, Served};
use crate::runtime::{Parts, Runtime};

const TOKEN: &str = "the-token";
const PASSWORD: &str = "open sesame";

/// An API on a configuration.
struct Bench {
    dir: TempDir,
    api: Api,
    reloader: Arc<Reloader>,
}

/// A request to be made.
struct Asked<'a> {
    bench: &'a Bench,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// Two backends and an admin API with a password; what else there is to say.
fn configured(more: &str) -> String {
    format!(
        "admin: {{listen: \"127.0.0.1:0\", token: {TOKEN}, password: {PASSWORD}}}\n\
         backends:\n\
         - {{name: east, url: \"http://127.0.0.1:9\", api_key: sk-of-east}}\n\
         - {{name: west, url: \"http://127.0.0.1:9/v1\"}}\n{more}"
    )
}

impl Bench {
    /// On what [`configured`] makes of this.
    fn with(more: &str) -> Self {
        Self::on(&configured(more))
    }

    fn on(yaml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("llmproxy.yaml");
        fs::write(&file, Self::text(&dir, yaml)).unwrap();
        let loaded = config::load(&file, &|_| None).unwrap();
        Self::start(dir, loaded, Some(&file))
    }

    fn start(dir: TempDir, loaded: config::Loaded, file: Option<&Path>) -> Self {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let config = loaded.config.clone();
        // Where clients need no key there is no store, and the API manages none.
        let store = config.key_store.as_ref().filter(|_| config.auth.enabled);
        let store = store.map(|store| Arc::new(KeyStore::new(store).unwrap()));
        fs::create_dir_all(&config.data_dir).unwrap_or_default();
        let parts = Parts::new(store, metrics.registry()).unwrap();
        let runtime = Runtime::build(&config, &metrics, &parts, None).unwrap();
        let limits = LimitMetrics::register(metrics.registry()).unwrap();
        let served = Served {
            runtime: Arc::new(ArcSwap::from_pointee(runtime)),
            limiter: Limiter::build(&config, None, None, limits),
            metrics,
        };
        let reloader = Reloader::new(loaded, file, served, parts);
        let ledger = dir.path().join("ledger");
        let api = Api::new(&config, None, None, ledger, Arc::clone(&reloader)).unwrap();
        Self { dir, api, reloader }
    }

    fn text(dir: &TempDir, yaml: &str) -> String {
        let data = dir.path().join("data");
        format!("data_dir: {}\n{yaml}", data.display())
    }

    /// Writes the file anew.
    fn write(&self, yaml: &str) {
        let file = self.dir.path().join("llmproxy.yaml");
        fs::write(file, Self::text(&self.dir, yaml)).unwrap();
    }

    /// What the API keeps of what it changed; empty where that is nothing.
    fn overlay(&self) -> String {
        let file = self.dir.path().join("data").join(config::OVERLAY);
        fs::read_to_string(file).unwrap_or_default()
    }

    /// A request that shows the token.
    fn request(&self, method: &str, target: &str) -> Asked<'_> {
        let asked = Asked {
            bench: self,
            method: method.parse().unwrap(),
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        };
        asked.with("x-admin-token", TOKEN)
    }

    async fn get(&self, target: &str) -> Value {
        self.request("GET", target).done().await
    }

    async fn post(&self, target: &str, body: &Value) -> Value {
        self.request("POST", target).json(body).done().await
    }

    async fn put(&self, target: &str, body: &Value) -> Value {
        self.request("PUT", target).json(body).done().await
    }

    /// The names of the models in their order.
    async fn names(&self) -> Vec<String> {
        let list = self.get("/admin/models").await;
        let models = list["models"].as_array().unwrap().iter();
        models
            .map(|model| model["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The names of the backends.
    fn backends(&self) -> Vec<String> {
        let loaded = self.reloader.loaded();
        let backends = loaded.config.backends.iter();
        backends.map(|backend| backend.name.clone()).collect()
    }
}

impl Asked<'_> {
    fn with(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.insert(name, value);
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    fn password(self) -> Self {
        self.with("x-admin-password", PASSWORD)
    }

    fn json(self, body: &Value) -> Self {
        self.bytes(body.to_string().as_bytes())
    }

    fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_owned();
        self
    }

    /// The reply, which the document allows.
    async fn reply(self) -> Reply {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*self.target, None),
        };
        let request = Request {
            method: &self.method,
            path,
            query,
            headers: &self.headers,
            body: &self.body,
        };
        assert!(Api::has(path), "{path}");
        let early = self.bench.api.refuses(&request);
        let reply = self.bench.api.answer(&request).await;
        assert!(early.is_none_or(|early| early == reply));
        assert_documented(self.method.as_str(), path, &reply);
        reply
    }

    /// The body of a reply that must be good.
    async fn done(self) -> Value {
        let reply = self.reply().await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    }

    /// The body of a refusal, which must be this one.
    async fn refused(self, status: u16, code: &str) -> Value {
        let reply = self.reply().await;
        let told = (
            reply.status,
            reply.body["error"]["code"].as_str().unwrap_or(""),
        );
        assert_eq!(told, (status, code), "{}", reply.body);
        reply.body
    }
}

/// Fails the test unless the document has this reply.
fn assert_documented(method: &str, path: &str, reply: &Reply) {
    let document = openapi::reply().body;
    let paths = document["paths"].as_object().unwrap();
    let fitting = paths.iter().filter(|(template, _)| fits(template, path));
    // The longest fixed part is meant.
    let found = fitting.max_by_key(|(template, _)| (!template.contains('{'), template.len()));
    let schema = match found.and_then(|(_, found)| found.get(method.to_lowercase())) {
        None => {
            assert!(
                [401, 403, 404, 405].contains(&reply.status),
                "{}",
                reply.body
            );
            json!({"$ref": "#/components/schemas/Error"})
        }
        Some(operation) => {
            let response = &operation["responses"][reply.status.to_string()];
            let response = match response["$ref"].as_str() {
                Some(to) => document.pointer(to.strip_prefix('#').unwrap()).unwrap(),
                None => response,
            };
            assert!(
                response.is_object(),
                "{method} {path}: {} {}",
                reply.status,
                reply.body
            );
            response["content"]["application/json"]["schema"].clone()
        }
    };
    assert_valid(&schema, &reply.body);
}

fn assert_valid(schema: &Value, body: &Value) {
    let document = openapi::reply().body;
    let schema = json!({"allOf": [schema], "components": document["components"]});
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults = validator.iter_errors(body);
    let faults: Vec<_> = faults
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    assert_eq!(faults, [""; 0], "{body}");
}

/// Names of models hold slashes, ids of keys do not.
fn fits(template: &str, path: &str) -> bool {
    let Some((before, rest)) = template.split_once('{') else {
        return template == path;
    };
    let (name, after) = rest.split_once('}').unwrap();
    path.strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .is_some_and(|it| !it.is_empty() && (name == "name" || !it.contains('/')))
}

//! The OpenAPI document: every answer is held against it, and it is held against the paths there are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Api, BEARER, TOKEN, gateway};
use crate::client::{Answer, Client, get};
use crate::shapes;
use crate::upstream::Upstream;

/// What the gateway says of its API.
#[derive(Debug)]
pub(crate) struct Document(Value);

impl Document {
    /// Fetches it, for which nobody needs a token.
    pub(super) fn read(addr: SocketAddr) -> Self {
        let answer = Client::connect(addr).call(get("/api/v1/openapi.json"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let document = Self(answer.json());
        document.check("GET", "/api/v1/openapi.json", &answer);
        document
    }

    /// All operations, as `GET /path/{id}`.
    fn operations(&self) -> BTreeSet<String> {
        let paths = self.paths().into_iter();
        let operations = paths.flat_map(|(path, methods)| {
            let name = move |method| format!("{method} {path}");
            methods.into_iter().map(name)
        });
        operations.collect()
    }

    /// All paths and their methods.
    fn paths(&self) -> BTreeMap<&str, Vec<String>> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let methods = |path: &Value| {
            let names = path.as_object().unwrap().keys();
            let methods = names.filter(|name| *name != "parameters");
            methods.map(|name| name.to_uppercase()).collect()
        };
        paths.map(|(name, path)| (&**name, methods(path))).collect()
    }

    /// The operation that a request asks for.
    fn operation(&self, method: &str, target: &str) -> Option<(String, &Value)> {
        let path = target.split('?').next().unwrap();
        let all = self.0["paths"].as_object().unwrap().iter();
        let fitting = all.filter(|(template, _)| fits(template, path));
        // `/keys/sync` before `/keys/{id}`, and `/models/{name}/ancestry` before `/models/{name}`.
        let rank = |template: &str| (!template.contains('{'), template.len());
        let (template, operations) = fitting.max_by_key(|(template, _)| rank(template))?;
        let operation = operations.get(method.to_lowercase())?;
        Some((format!("{method} {template}"), operation))
    }

    /// Fails the test unless the document allows this answer.
    #[track_caller]
    pub(super) fn check(&self, method: &str, target: &str, answer: &Answer) {
        let text = answer.text();
        let schema = match self.operation(method, target) {
            // What nothing is said about: paths and methods that there are none of.
            None => {
                assert!([401, 403, 404, 405].contains(&answer.status), "{text}");
                None
            }
            Some((name, operation)) => {
                let responses = &operation["responses"];
                let response = &responses[answer.status.to_string()];
                assert!(response.is_object(), "{name}: {}: {text}", answer.status);
                let response = match response["$ref"].as_str() {
                    Some(to) => self.0.pointer(to.strip_prefix('#').unwrap()).unwrap(),
                    None => response,
                };
                Some(&response["content"]["application/json"]["schema"])
            }
        };
        match schema {
            Some(Value::Null) => assert_eq!(text, ""),
            Some(schema) => self.assert_valid(schema, answer),
            None if target.starts_with("/admin/keys/") => {
                self.assert_valid(&named("ClassicError"), answer);
            }
            None => self.assert_valid(&named("Error"), answer),
        }
    }

    #[track_caller]
    fn assert_valid(&self, schema: &Value, answer: &Answer) {
        assert_eq!(answer.field("content-type"), "application/json");
        let schema = json!({"allOf": [schema], "components": self.0["components"]});
        let options = jsonschema::options().should_validate_formats(true);
        let validator = options.build(&schema).unwrap();
        let answer = answer.json();
        let faults = validator.iter_errors(&answer);
        let faults: Vec<_> = faults
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert_eq!(faults, [""; 0], "{answer}");
    }
}

fn named(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// Ids of keys are one segment; names of models may hold slashes.
fn fits(template: &str, path: &str) -> bool {
    let Some((before, rest)) = template.split_once('{') else {
        return template == path;
    };
    let (name, after) = rest.split_once('}').unwrap();
    path.strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
        .is_some_and(|it| !it.is_empty() && (name == "name" || !it.contains('/')))
}

/// One request to every operation; the names of those that were reached.
fn walk(api: &Api, key_id: &str) -> BTreeSet<String> {
    let key = format!("/api/v1/keys/{key_id}");
    let one = json!({"id": key_id});
    let list = json!({"keys": [], "mode": "incremental"});
    let requests = [
        ("GET", "/api/v1/openapi.json".to_owned(), json!({})),
        (
            "GET",
            "/api/v1/keys?limit=5&status=active".to_owned(),
            json!({}),
        ),
        ("POST", "/api/v1/keys".to_owned(), json!({})),
        ("POST", "/api/v1/keys/sync".to_owned(), list.clone()),
        ("GET", key.clone(), json!({})),
        ("PATCH", key.clone(), json!({"name": "walked"})),
        ("POST", format!("{key}/disable"), json!({})),
        ("POST", format!("{key}/enable"), json!({})),
        ("POST", format!("{key}/rotate"), json!({})),
        ("GET", format!("{key}/usage"), json!({})),
        ("POST", format!("{key}/quota/reset"), json!({})),
        ("GET", "/api/v1/audit?limit=100".to_owned(), json!({})),
        ("POST", "/admin/keys/create".to_owned(), json!({})),
        ("POST", "/admin/keys/get".to_owned(), one.clone()),
        (
            "POST",
            "/admin/keys/update".to_owned(),
            json!({"id": key_id, "name": null}),
        ),
        ("POST", "/admin/keys/list".to_owned(), json!({})),
        ("POST", "/admin/keys/sync".to_owned(), list),
        ("POST", "/admin/keys/delete".to_owned(), one),
        ("DELETE", key, json!({})),
    ];
    let requests = requests.into_iter().chain(walk_models());
    let mut reached = BTreeSet::new();
    for (method, path, body) in requests {
        if method == "DELETE" {
            api.create(&json!({"id": key_id}));
        }
        let body = body.to_string();
        let answer = api.ask(method, &path, &BEARER, body.as_bytes());
        let good = [200, 201, 204].contains(&answer.status);
        assert!(good, "{method} {path}: {}", answer.text());
        reached.insert(api.document.operation(method, &path).unwrap().0);
    }
    reached
}

/// The same for models, the configuration and routes.
fn walk_models() -> Vec<(&'static str, String, Value)> {
    let section = json!({"enabled": false, "routes": []});
    let named = json!({"name": "walked", "enabled": false});
    let copy = json!({"source": "walked", "target": "a/copy"});
    [
        ("PUT", "/admin/models/a/b", section.clone()),
        ("POST", "/admin/models", named),
        ("GET", "/admin/models", json!({})),
        ("GET", "/admin/models/tree", json!({})),
        ("POST", "/admin/models/copy", copy),
        ("PUT", "/admin/models/order", json!({"order": ["walked"]})),
        ("GET", "/admin/models/a%2Fb", json!({})),
        ("GET", "/admin/models/a/b/ancestry", json!({})),
        ("GET", "/admin/models/a/b/dependents", json!({})),
        ("DELETE", "/admin/models/a/b", json!({})),
        ("PUT", "/admin/models/in-file", section),
        ("POST", "/admin/models/in-file/restore", json!({})),
        ("GET", "/admin/config", json!({})),
        ("POST", "/admin/config/reload", json!({})),
        ("GET", "/admin/routes?model=walked", json!({})),
    ]
    .map(|(method, path, body)| (method, path.to_owned(), body))
    .to_vec()
}

#[test]
fn every_operation_of_the_document_is_there_and_answers_as_it_says() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "models: {in-file: {routes: [{backend: a}]}}\n");
    let api = Api::of(&gateway);
    api.create(&json!({"id": "walker", "total_quota": 100}));
    assert_eq!(walk(&api, "walker"), api.document.operations());
    let security = &api.document.0["components"]["securitySchemes"];
    assert_eq!(security["bearer"]["scheme"], "bearer");
    assert_eq!(security["header"]["name"], "X-Admin-Token");
    assert_eq!(api.document.0["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(!api.document.0.to_string().contains(TOKEN));
}

#[test]
fn the_document_itself_makes_sense() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    let text = api.document.0.to_string();
    let mut names = BTreeSet::new();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(api.document.0.pointer(pointer).is_some(), "{pointer}");
        names.insert(pointer.to_owned());
    }
    for kind in ["parameters", "responses", "schemas"] {
        let parts = api.document.0["components"][kind].as_object().unwrap();
        for name in parts.keys() {
            let pointer = format!("/components/{kind}/{name}");
            assert!(names.contains(&pointer), "{pointer} is used nowhere");
        }
    }
    let fields = &api.document.0["components"]["schemas"]["CreateKey"]["properties"];
    for field in ["id", "key", "name", "total_quota", "rate_limit", "metadata"] {
        assert!(fields[field].is_object(), "{field}");
    }
    assert!(
        !text.contains(r"\\$"),
        "no variables as in configuration files"
    );
}

#[test]
fn every_other_method_is_refused_and_told_which_there_are() {
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    for (template, methods) in api.document.paths() {
        let path = template
            .replace("{id}", "some")
            .replace("{name}", "some/name");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            if methods.iter().any(|known| known == method) {
                continue;
            }
            let answer = api.ask(method, &path, &BEARER, b"");
            assert_eq!(answer.status, 405, "{method} {path}");
            let allowed = answer.field("allow").split(", ").map(str::to_owned);
            let allowed: BTreeSet<_> = allowed.collect();
            assert_eq!(allowed, methods.iter().cloned().collect(), "{path}");
        }
    }
}

/// The paths stand in one `match`, which is read here: an operation that the document does not have is found so.
#[test]
fn every_path_of_the_gateway_is_in_the_document() {
    let source = include_str!("../../../src/admin/route.rs");
    let rest = |segments: &str| {
        let names = segments.split(", ").map(|name| match name {
            "id" => "{id}".to_owned(),
            "SYNC" => "sync".to_owned(),
            name => name.trim_matches('"').to_owned(),
        });
        format!("/api/v1/{}", names.collect::<Vec<_>>().join("/"))
    };
    let lines = source.lines().map(str::trim);
    let mut paths: BTreeSet<String> = lines
        .filter_map(|line| match line.strip_prefix("[\"") {
            Some(_) => Some(rest(line.strip_prefix('[')?.split_once(']')?.0)),
            None => {
                let name = line.strip_prefix('"')?.split_once("\" => Classic::")?.0;
                Some(format!("/admin/keys/{name}"))
            }
        })
        .collect();
    paths.insert("/api/v1/openapi.json".to_owned());
    // These are matched whole, by a word, and by what follows a name.
    for line in source.lines().map(str::trim) {
        let arm = line
            .strip_prefix('"')
            .and_then(|rest| rest.split_once("\" => "));
        let arm = arm.filter(|(_, then)| !then.starts_with("Classic::"));
        let word = arm.map(|(word, _)| word).filter(|word| !word.is_empty());
        paths.extend(word.map(|word| match word.starts_with('/') {
            true => word.to_owned(),
            false => format!("/admin/models/{word}"),
        }));
        let after = line.strip_prefix("Some((name, \"");
        let after = after.and_then(|rest| rest.split_once('"'));
        paths.extend(after.map(|(word, _)| format!("/admin/models/{{name}}/{word}")));
    }
    paths.insert("/admin/models/{name}".to_owned());
    assert!(paths.len() > 10, "{paths:?}");
    let upstream = Upstream::start(shapes::vllm);
    let gateway = gateway(&upstream, "");
    let api = Api::of(&gateway);
    let known = api.document.paths().into_keys().map(str::to_owned);
    assert_eq!(paths, known.collect());
}

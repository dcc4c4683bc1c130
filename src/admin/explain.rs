//! What serves a model at this moment, and whether a key may use it.

use std::net::{IpAddr, Ipv4Addr};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{Api, Reply, Request};
use crate::auth::Caller;
use crate::config::{Model, Refused};
use crate::route::{Explained, ExplainedRoute, Group};
use crate::runtime::Runtime;

/// Where a client's key is shown that is asked about.
const KEY: &str = "x-explain-key";

/// Returns what a call of `model` below `frontend` means and what would serve it; an empty name is
/// a call that names no model. `None`: nothing is served below that prefix.
#[must_use]
pub fn explained(runtime: &Runtime, frontend: &str, model: &str) -> Option<Explained> {
    let group = group(runtime, frontend)?;
    Some(runtime.catalog.explain(group, model))
}

fn group(runtime: &Runtime, frontend: &str) -> Option<Group> {
    let prefix = frontend.trim_end_matches('/');
    if prefix.is_empty() {
        return Some(Group::ROOT);
    }
    let (group, rest) = runtime.catalog.group(prefix);
    (group != Group::ROOT && rest == "/").then_some(group)
}

impl Api {
    pub(super) async fn explain(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        let parameters = request.parameters(&["model", "frontend"])?;
        let frontend = parameters.text("frontend");
        if frontend.is_some_and(|prefix| !prefix.is_empty() && !prefix.starts_with('/')) {
            return Err(Reply::bad("frontend", "must be a path such as `/openai`"));
        }
        let runtime = self.reloader.runtime();
        let Some(model) = parameters.text("model") else {
            if frontend.is_some() {
                return Err(Reply::bad(
                    "frontend",
                    "is for a `model`, which is not named",
                ));
            }
            return Ok(Reply::ok(self.overview(&runtime)));
        };
        let found = explained(&runtime, frontend.unwrap_or_default(), model);
        let found = found.ok_or_else(|| {
            let message = "no model has this prefix in its `frontend`";
            Reply::bad("frontend", message)
        })?;
        let mut body = json!(found);
        if let Some(key) = request.headers.get(KEY) {
            body["key"] = may_use(&runtime, key, &found.model).await;
        }
        Ok(Reply::ok(body))
    }

    /// All models, shortly.
    fn overview(&self, runtime: &Runtime) -> Value {
        let loaded = self.reloader.loaded();
        let models = loaded.config.models.as_ref().map_or(&[][..], |it| &it.0);
        let shortly = |model: &Model| {
            let frontend = model.frontend.first();
            let found = explained(runtime, frontend.map_or("", |it| it), &model.name);
            let found = found.filter(|found| found.alias.as_ref() == Some(&model.name));
            let routes = found.as_ref().map_or(&[][..], |found| &found.routes);
            let usable = routes.iter().filter(|route| route.state == "usable");
            let next = routes.iter().find(|route| route.chosen);
            json!({
                "name": model.name,
                "enabled": model.enabled,
                "frontend": model.frontend,
                "routes": routes.len(),
                "usable": usable.count(),
                "next": next.map(|route| &*route.backend),
                "state": match found {
                    Some(_) => state(model, routes),
                    // Its name as a call of it leads elsewhere: so does all that it fits.
                    None => "shadowed",
                },
            })
        };
        json!({
            "open": loaded.config.open,
            "default_model": loaded.config.default_model,
            "models": models.iter().map(shortly).collect::<Vec<_>>(),
        })
    }
}

/// One word for a model: `ok`, `degraded` when not all of its routes are usable, `down` when none
/// is, or `disabled`.
fn state(model: &Model, routes: &[ExplainedRoute]) -> &'static str {
    let usable = |route: &ExplainedRoute| route.state == "usable";
    match (model.enabled, routes) {
        (false, _) => "disabled",
        (true, routes) if !routes.iter().any(usable) => "down",
        (true, routes) if !routes.iter().all(usable) => "degraded",
        (true, _) => "ok",
    }
}

/// What the gateway would say to this key. Asks as a client's request would, so providers and
/// scripts see it; where the client would be, nobody knows.
async fn may_use(runtime: &Runtime, key: &HeaderValue, model: &str) -> Value {
    let said = |known: Option<bool>, may_use: bool, code: Option<&str>, why: Option<&str>| json!({"known": known, "may_use": may_use, "id": null, "code": code, "why": why});
    if !runtime.auth.enabled() {
        let why = "clients need no key here";
        return said(None, true, None, Some(why));
    }
    let headers = as_a_client_shows_it(runtime, key);
    let caller = Caller {
        id: "explain",
        method: "POST",
        // Of model calls alone there is never one that needs no key.
        path: "/v1/chat/completions",
        peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        headers: &headers,
    };
    match runtime.auth.authenticate(&caller).await {
        Ok(Some(principal)) => {
            let may_use = principal.may_use(model);
            let denied = runtime.auth.refusal(Refused::ModelDenied);
            let mut answer = match may_use {
                true => said(Some(true), true, None, None),
                false => said(Some(true), false, Some(denied.code), Some(&denied.message)),
            };
            answer["id"] = json!(principal.key.id);
            answer
        }
        Ok(None) => said(None, true, None, Some("this path needs no key")),
        Err(refusal) => {
            let known = match refusal.reason {
                Refused::Missing | Refused::NotFound => Some(false),
                Refused::Unavailable => None,
                _ => Some(true),
            };
            let elsewhere = "that depends on the client's address, which is not known here";
            let why = match refusal.reason {
                Refused::IpDenied => elsewhere,
                _ => &refusal.message,
            };
            said(known, false, Some(refusal.code), Some(why))
        }
    }
}

/// The key in the header where it is looked for first.
fn as_a_client_shows_it(runtime: &Runtime, key: &HeaderValue) -> HeaderMap {
    let names = runtime.auth.credential_headers();
    let name = names.first().cloned().unwrap_or(AUTHORIZATION);
    let bearer = [b"Bearer ", key.as_bytes()].concat();
    let value = match name == AUTHORIZATION {
        true => HeaderValue::from_bytes(&bearer).unwrap_or_else(|_never| key.clone()),
        false => key.clone(),
    };
    HeaderMap::from_iter([(name, value)])
}

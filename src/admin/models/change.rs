//! Deleting, copying and putting models in order; and what every change of one has to heed.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value, json};

use super::super::configuration::{done, order};
use super::register::takes_from;
use super::{Family, all, found, shown};
use crate::admin::{Api, Reply, Request};
use crate::config::{Loaded, Model, Overlay};
use crate::reload::Applied;

/// The password as it is shown with a change: in the header, or else in the body.
pub(super) struct Shown {
    password: Option<String>,
    pub(super) actor: String,
}

impl Shown {
    /// Takes it out of the request and its body.
    pub(super) fn take(
        request: &Request<'_>,
        body: &mut Map<String, Value>,
    ) -> Result<Self, Reply> {
        let in_body = match body.remove("admin_password") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => return Err(Reply::bad("admin_password", "must be a text")),
        };
        let not_blank = |text: &String| !text.trim().is_empty();
        let in_header = request.password().filter(not_blank);
        Ok(Self {
            password: in_header.or(in_body).filter(not_blank),
            actor: request.actor(),
        })
    }
}

impl Api {
    /// Makes sure that the password was shown if one of the models `concerned` is protected.
    pub(super) fn guard<'m>(
        &self,
        concerned: impl IntoIterator<Item = &'m Model>,
        shown: &Shown,
    ) -> Result<(), Reply> {
        match concerned.into_iter().any(|model| model.protected) {
            true => self.demand(shown),
            false => Ok(()),
        }
    }

    pub(super) fn demand(&self, shown: &Shown) -> Result<(), Reply> {
        self.guard.check(shown.password.as_deref(), &shown.actor)
    }

    pub(super) async fn delete_model(
        &self,
        name: &str,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        let cascade = cascade(request.parameters(&["cascade"])?.text("cascade"))?;
        let mut body = request.object()?;
        let shown = Shown::take(request, &mut body)?;
        nothing_else(&body, "admin_password")?;
        let (mut deleted, mut unused) = (Vec::new(), Vec::new());
        let change = |loaded: &Loaded, overlay: &mut Overlay| {
            found(loaded, name)?;
            let family = Family::of(all(loaded));
            let dependents = family.descendants(name);
            if !dependents.is_empty() && !cascade {
                return Err(has_dependents(name, &dependents));
            }
            let all_of_them = std::iter::once(name).chain(dependents);
            deleted = all_of_them.map(str::to_owned).collect();
            self.guard(those(loaded, &deleted), &shown)?;
            let backends = backends_of(loaded, &deleted);
            for name in &deleted {
                overlay.remove_model(name, loaded.is_in_file(name));
            }
            unused = remove_unused(loaded, overlay, &deleted, backends);
            Ok(())
        };
        let applied = self.reloader.edit(change).await?;
        let (names, backends) = (deleted.join(", "), unused.join(", "));
        log::info!(actor:? = &*shown.actor, models:? = &*names, backends:? = &*backends; "models are deleted by the admin's word");
        let message = format!("Deleted {} model(s)", deleted.len());
        let body = json!({"message": message, "deleted": deleted});
        Ok(done(body, &applied))
    }

    pub(super) async fn copy_model(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        let parameters = request.parameters(&["source", "target"])?;
        let mut body = request.object()?;
        let shown = Shown::take(request, &mut body)?;
        let mut text = |name: &str| match (parameters.text(name), body.remove(name)) {
            (Some(_), Some(_)) => Err(Reply::bad(name, "is in the query and in the body")),
            (Some(text), None) => Ok(text.to_owned()),
            (None, Some(Value::String(text))) => Ok(text),
            (None, Some(_)) => Err(Reply::bad(name, "must be the name of a model")),
            (None, None) => Err(Reply::bad(name, "is needed: the name of a model")),
        };
        let (source, target) = (text("source")?, text("target")?);
        nothing_else(&body, "source, target, admin_password")?;
        if target.trim().is_empty() {
            return Err(Reply::bad("target", "is empty"));
        }
        let change = |loaded: &Loaded, overlay: &mut Overlay| {
            let model = found(loaded, &source)?;
            if found(loaded, &target).is_ok() {
                let message = format!("there is a model `{target}` already");
                return Err(Reply::error(409, "exists", message));
            }
            let patterns = all(loaded).iter().filter(|it| takes_from(it, &target));
            self.guard(std::iter::once(model).chain(patterns), &shown)?;
            let own = loaded.own_model(&source).unwrap_or_else(|| json!({}));
            overlay.set_model(&target, own);
            Ok(())
        };
        let applied = self.reloader.edit(change).await?;
        log::info!(actor:? = &*shown.actor, source:? = &*source, model:? = &*target; "a model is copied by the admin's word");
        Ok(self.copied(&source, &target, &applied))
    }

    fn copied(&self, source: &str, target: &str, applied: &Applied) -> Reply {
        let loaded = self.reloader.loaded();
        // Somebody else may have deleted it meanwhile.
        let model = found(&loaded, target).map(|model| shown(&loaded, model));
        let message = format!("Copied `{source}` to `{target}`");
        let body = json!({"message": message, "model": model.unwrap_or(Value::Null)});
        done(body, applied)
    }

    pub(super) async fn order_models(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        let mut body = request.needed_object()?;
        let Some(Value::Array(names)) = body.remove("order") else {
            return Err(Reply::bad("order", "must be a list of names of models"));
        };
        nothing_else(&body, "order")?;
        let mut wanted = Vec::new();
        for (nth, name) in names.into_iter().enumerate() {
            let Value::String(name) = name else {
                return Err(Reply::bad(&format!("order[{nth}]"), "must be a name"));
            };
            wanted.push(name);
        }
        let change = |loaded: &Loaded, overlay: &mut Overlay| {
            let known: HashSet<&str> = all(loaded).iter().map(|model| &*model.name).collect();
            let mut seen = HashSet::new();
            for (nth, name) in wanted.iter().enumerate() {
                let wrong = match (known.contains(&**name), seen.insert(&**name)) {
                    (false, _) => "is the name of no model",
                    (true, false) => "is there twice",
                    (true, true) => continue,
                };
                return Err(Reply::bad(&format!("order[{nth}]"), wrong));
            }
            overlay.set_order(wanted.clone());
            Ok(())
        };
        let applied = self.reloader.edit(change).await?;
        let actor = request.actor();
        log::info!(actor:? = &*actor; "models are put in order by the admin's word");
        let loaded = self.reloader.loaded();
        let body = json!({"models_order": order(&loaded)});
        Ok(done(body, &applied))
    }
}

/// Refuses a body with members besides those `known`, which were taken out of it.
pub(super) fn nothing_else(body: &Map<String, Value>, known: &str) -> Result<(), Reply> {
    let names: Vec<&str> = body.keys().map(|name| &**name).collect();
    match names.first() {
        None => Ok(()),
        Some(first) => {
            let names = names.join(", ");
            let message = format!("no members of this: {names}; those are: {known}");
            Err(Reply::bad(first, message))
        }
    }
}

/// A switch as people and programs write it.
fn cascade(written: Option<&str>) -> Result<bool, Reply> {
    let Some(written) = written else {
        return Ok(false);
    };
    match &*written.to_ascii_lowercase() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Reply::bad("cascade", "must be true or false")),
    }
}

fn has_dependents(name: &str, dependents: &[&str]) -> Reply {
    let message = format!("other models extend `{name}`");
    let mut reply = Reply::error(409, "has_dependents", message);
    reply.body["dependents"] = json!(dependents);
    reply.body["hint"] = json!("`?cascade=true` deletes them with it");
    reply
}

pub(super) fn those<'a>(
    loaded: &'a Loaded,
    names: &'a [String],
) -> impl Iterator<Item = &'a Model> {
    all(loaded).iter().filter(|it| names.contains(&it.name))
}

/// The backends that these models lead to, and those of their names.
pub(super) fn backends_of(loaded: &Loaded, names: &[String]) -> BTreeSet<String> {
    let routes = those(loaded, names).flat_map(|model| &model.routes);
    let named = routes.map(|route| route.backend.clone());
    named.chain(names.iter().cloned()).collect()
}

/// Removes those `backends` that were registered here, and that no model leads to besides those that
/// are `gone`; returns which.
pub(super) fn remove_unused(
    loaded: &Loaded,
    overlay: &mut Overlay,
    gone: &[String],
    backends: BTreeSet<String>,
) -> Vec<String> {
    let others = all(loaded).iter().filter(|it| !gone.contains(&it.name));
    // What has no routes of its own has those of a model that it extends, which counts itself.
    let own = others.filter(|model| {
        let own = loaded.own_model(&model.name).unwrap_or_default();
        own.get("routes").is_some()
    });
    let used: HashSet<&str> = own
        .flat_map(|model| &model.routes)
        .map(|route| &*route.backend)
        .collect();
    let unused = backends.into_iter().filter(|name| !used.contains(&**name));
    unused
        .filter(|name| overlay.remove_backend(&written(name)))
        .collect()
}

/// A name as it is written where variables are expanded.
pub(super) fn written(name: &str) -> String {
    name.replace('$', "$$")
}

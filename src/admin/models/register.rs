//! Registering models, and replacing them.

use serde_json::{Map, Value, json};

use super::change::{Shown, backends_of, remove_unused, written};
use super::flat::{self, Flat};
use super::{Family, all, found};
use crate::admin::configuration::done;
use crate::admin::{Api, Reply, Request};
use crate::config::{Loaded, Model, Overlay};
use crate::glob::Glob;
use crate::reload::Applied;

/// A model as it is to be.
pub(super) struct New {
    pub(super) section: Map<String, Value>,
    /// The backend that is registered with it.
    pub(super) backend: Option<Map<String, Value>>,
}

impl Api {
    pub(super) async fn register(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        let mut body = request.needed_object()?;
        let shown = Shown::take(request, &mut body)?;
        if flat::is_flat(&body) {
            let flat = Flat::read(body)?;
            let name = flat.name.clone();
            let new = |loaded: &Loaded, overlay: &Overlay| from_flat(flat, loaded, overlay);
            return self.set(&name, &shown, new).await;
        }
        let Some(Value::String(name)) = body.remove("name") else {
            return Err(Reply::bad("name", "must be the name of the model"));
        };
        self.set(&name, &shown, |_, _| Ok(native(body))).await
    }

    pub(super) async fn put_model(
        &self,
        name: &str,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        let mut body = request.needed_object()?;
        let shown = Shown::take(request, &mut body)?;
        if body.remove("name").is_some_and(|said| said != name) {
            let message = "is not the one in the path; a model is renamed by a copy";
            return Err(Reply::bad("name", message));
        }
        self.set(name, &shown, |_, _| Ok(native(body))).await
    }

    async fn set(
        &self,
        name: &str,
        shown: &Shown,
        new: impl FnOnce(&Loaded, &Overlay) -> Result<New, Reply> + Send,
    ) -> Result<Reply, Reply> {
        if name.trim().is_empty() {
            return Err(Reply::bad("name", "is empty"));
        }
        let (mut replaced, mut unused) = (false, Vec::new());
        let change = |loaded: &Loaded, overlay: &mut Overlay| {
            replaced = found(loaded, name).is_ok();
            let new = new(loaded, overlay)?;
            masked(&new)?;
            self.may_set(name, &new, loaded, shown)?;
            unused = lay(name, new, loaded, overlay);
            Ok(())
        };
        let applied = self.reloader.edit(change).await?;
        let gone = unused.join(", ");
        log::info!(actor:? = &*shown.actor, model:? = name, replaced, gone:? = &*gone; "a model is registered by the admin's word");
        Ok(self.is_set(name, replaced, &applied))
    }

    /// Says that the model is served, and whether it took the place of another.
    pub(super) fn is_set(&self, name: &str, replaced: bool, applied: &Applied) -> Reply {
        let loaded = self.reloader.loaded();
        // Somebody else may have deleted it meanwhile.
        let model = found(&loaded, name).ok();
        let body = json!({
            "model": name,
            "replaced": replaced,
            "fallbacks": model.map_or(&[][..], |model| &model.fallbacks),
            "protected": model.is_some_and(|model| model.protected),
        });
        done(body, applied)
    }

    /// A protected model is changed by what happens to itself, to one it extends, and to the backend
    /// it leads to.
    pub(super) fn may_set(
        &self,
        name: &str,
        new: &New,
        loaded: &Loaded,
        shown: &Shown,
    ) -> Result<(), Reply> {
        let protects = |section: &Map<String, Value>| {
            let off = [None, Some(&Value::Null), Some(&Value::Bool(false))];
            // Anything else may turn out to mean yes.
            !off.contains(&section.get("protected"))
        };
        if protects(&new.section) {
            return self.demand(shown);
        }
        let descendants = Family::of(all(loaded)).descendants(name);
        let concerned = all(loaded).iter().filter(|model| {
            let mut routes = model.routes.iter();
            model.name == name
                || takes_from(model, name)
                || descendants.contains(&&*model.name)
                || (new.backend.is_some() && routes.any(|route| route.backend == name))
        });
        self.guard(concerned, shown)
    }
}

/// Whether a model called `name` takes names away from `model`, which is a pattern.
pub(super) fn takes_from(model: &Model, name: &str) -> bool {
    Glob::is_one(&model.name) && Glob::new(&model.name).matches(name)
}

pub(super) fn native(section: Map<String, Value>) -> New {
    New {
        section,
        backend: None,
    }
}

/// Completes what an older system's request leaves out from what is there, as it did.
fn from_flat(flat: Flat, loaded: &Loaded, overlay: &Overlay) -> Result<New, Reply> {
    let name = flat.name.clone();
    let registered = overlay.backend(&written(&name));
    let mut backends = loaded.config.backends.iter();
    if flat.has_backend() && registered.is_none() && backends.any(|it| it.name == name) {
        let message = format!(
            "the configuration file has a backend `{name}`; register the model with `routes` to it"
        );
        return Err(Reply::error(409, "exists", message));
    }
    let before = loaded.own_model(&name).unwrap_or_default();
    flat.complete(&before, &registered.unwrap_or_default())
}

/// Puts it into the overlay; returns the backends that nothing leads to any more, which are removed.
fn lay(name: &str, new: New, loaded: &Loaded, overlay: &mut Overlay) -> Vec<String> {
    let unused = make_room(name, &new, loaded, overlay);
    if let Some(backend) = new.backend {
        overlay.set_backend(Value::Object(backend));
    }
    overlay.set_model(name, Value::Object(new.section));
    unused
}

/// Removes the backends that nothing leads to any more once `new` stands in the model's place; returns
/// which.
pub(super) fn make_room(
    name: &str,
    new: &New,
    loaded: &Loaded,
    overlay: &mut Overlay,
) -> Vec<String> {
    let gone = [name.to_owned()];
    let mut backends = backends_of(loaded, &gone);
    for route in new
        .section
        .get("routes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        match route["backend"].as_str() {
            // With a variable in its name it may be any.
            Some(backend) if backend.contains('$') => backends.clear(),
            Some(backend) => drop(backends.remove(backend)),
            None => {}
        }
    }
    if new.backend.is_some() {
        backends.remove(name);
    }
    remove_unused(loaded, overlay, &gone, backends)
}

/// Refuses what was read here and is sent back with its secrets masked: they would be lost.
fn masked(new: &New) -> Result<(), Reply> {
    let parts = new.section.iter().chain(new.backend.iter().flatten());
    for (name, value) in parts {
        if holds_mask(value) {
            let message = "holds `***`, which stands for a secret that is not shown: write the secret, or a variable that holds it";
            return Err(Reply::bad(name, message));
        }
    }
    Ok(())
}

fn holds_mask(value: &Value) -> bool {
    match value {
        Value::String(text) => text == "***" || text.contains("://***@"),
        Value::Array(entries) => entries.iter().any(holds_mask),
        Value::Object(members) => members.values().any(holds_mask),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

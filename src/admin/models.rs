//! Models as resources: looked at here, changed in the parts.

mod change;
mod family;
mod flat;
mod register;
mod restore;

use serde_json::{Value, json};

use self::family::Family;
use super::route::Models as Operation;
use super::{Api, Reply, Request};
use crate::config::{Loaded, Model};

impl Api {
    pub(super) async fn models(
        &self,
        what: Operation,
        name: &str,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        match what {
            Operation::List => Ok(list(&self.reloader.loaded())),
            Operation::Get => get(&self.reloader.loaded(), name),
            Operation::Tree => Ok(tree(&self.reloader.loaded())),
            Operation::Ancestry => ancestry(&self.reloader.loaded(), name),
            Operation::Dependents => dependents(&self.reloader.loaded(), name),
            Operation::Register => self.register(request).await,
            Operation::Put => self.put_model(name, request).await,
            Operation::Delete => self.delete_model(name, request).await,
            Operation::Restore => self.restore_model(name, request).await,
            Operation::Copy => self.copy_model(request).await,
            Operation::Order => self.order_models(request).await,
        }
    }
}

fn all(loaded: &Loaded) -> &[Model] {
    let models = loaded.config.models.as_ref();
    models.map_or(&[], |models| &models.0)
}

fn found<'a>(loaded: &'a Loaded, name: &str) -> Result<&'a Model, Reply> {
    let mut models = all(loaded).iter();
    let found = models.find(|model| model.name == name);
    found.ok_or_else(|| Reply::no_such_model(name))
}

/// A model as everybody may see it who has the token: with what it inherits, without secrets.
fn shown(loaded: &Loaded, model: &Model) -> Value {
    let source = match loaded.is_from_api(&model.name) {
        true => "api",
        false => "file",
    };
    json!({
        "name": model.name,
        "model_name": model.name,
        "enabled": model.enabled,
        "protected": model.protected,
        "source": source,
        "extends": model.extends,
        "frontend": model.frontend,
        "config": loaded.model(&model.name).unwrap_or_else(|| json!({})),
    })
}

fn list(loaded: &Loaded) -> Reply {
    let models: Vec<(bool, Value)> = all(loaded)
        .iter()
        .map(|model| (model.protected, shown(loaded, model)))
        .collect();
    let those = |protected: bool| {
        let those = models.iter().filter(|(it, _)| *it == protected);
        those.map(|(_, model)| model).collect::<Vec<_>>()
    };
    let every: Vec<&Value> = models.iter().map(|(_, model)| model).collect();
    Reply::ok(json!({
        "protected": those(true), "unprotected": those(false), "models": every,
    }))
}

fn get(loaded: &Loaded, name: &str) -> Result<Reply, Reply> {
    let model = found(loaded, name)?;
    let mut shown = shown(loaded, model);
    shown["own"] = loaded.shown_own_model(name).unwrap_or_else(|| json!({}));
    Ok(Reply::ok(shown))
}

fn tree(loaded: &Loaded) -> Reply {
    let family = Family::of(all(loaded));
    let node = |model: &Model| {
        let own = loaded.shown_own_model(&model.name);
        let node = json!({
            "config": own.unwrap_or_else(|| json!({})),
            "parent": model.extends,
            "children": family.children(&model.name),
            "protected": model.protected,
            "editable": !model.protected,
        });
        (model.name.clone(), node)
    };
    let nodes: serde_json::Map<String, Value> = all(loaded).iter().map(node).collect();
    Reply::ok(json!({"roots": family.roots(), "nodes": nodes}))
}

fn ancestry(loaded: &Loaded, name: &str) -> Result<Reply, Reply> {
    found(loaded, name)?;
    let family = Family::of(all(loaded));
    let chain = family.chain(name);
    Ok(Reply::ok(json!({
        "model": name, "chain": chain, "inheritance_depth": chain.len(),
    })))
}

fn dependents(loaded: &Loaded, name: &str) -> Result<Reply, Reply> {
    found(loaded, name)?;
    let family = Family::of(all(loaded));
    let descendants = family.descendants(name);
    Ok(Reply::ok(json!({
        "model": name,
        "direct_children": family.children(name),
        "all_descendants": descendants,
        "descendant_count": descendants.len(),
    })))
}

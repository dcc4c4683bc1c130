//! Models that extend others: their sections are put together before anything is read from them.

use std::collections::HashMap;

use super::env::Environment;
use super::fault::{Fault, suggested_name};
use super::tree::Node;

/// What a model says of itself alone.
pub(super) const NEVER_INHERITED: [&str; 3] = ["enabled", "protected", "extends"];

/// The model that each extends.
pub(super) type Parents = HashMap<String, String>;

/// Lays every model of `models` over those it extends, from the root to the leaf.
pub(super) fn inherit(
    models: &mut [(String, Node)],
    environment: &Environment<'_>,
) -> Result<Parents, Fault> {
    let parents = parents(models, environment)?;
    for at in in_order(models, &parents)? {
        if let Some(parent) = parents[at] {
            let inherited = inheritable(&models[parent].1);
            let own = std::mem::replace(&mut models[at].1, Node::Null);
            models[at].1 = over(inherited, own);
        }
    }
    let named = parents.iter().enumerate();
    let named = named.filter_map(|(at, parent)| Some((at, (*parent)?)));
    Ok(named
        .map(|(at, parent)| (models[at].0.clone(), models[parent].0.clone()))
        .collect())
}

/// Finds the place of each model's parent.
fn parents(
    models: &[(String, Node)],
    environment: &Environment<'_>,
) -> Result<Vec<Option<usize>>, Fault> {
    let places: HashMap<&str, usize> = (models.iter().enumerate())
        .map(|(at, (name, _))| (name.as_str(), at))
        .collect();
    let parent = |(name, section): &(String, Node)| {
        let Some(Node::Text(written)) = section.get("extends") else {
            // Nothing, or of a wrong type, which is found when types are.
            return Ok(None);
        };
        let found = environment.expand(written).map_err(Fault::new);
        let found = found.and_then(|parent| match places.get(&*parent) {
            Some(at) => Ok(Some(*at)),
            None if parent.trim().is_empty() => Err(Fault::new("is empty")),
            None => {
                let others = models.iter().map(|(other, _)| other.as_str());
                let others: Vec<_> = others.filter(|other| other != name).collect();
                let near = suggested_name(&parent, &others);
                Err(Fault::new(format!("no model is called `{parent}`{near}")))
            }
        });
        found.map_err(|fault| fault.under("extends").under(name.as_str()).under("models"))
    };
    models.iter().map(parent).collect()
}

/// Returns the places of all models, each after that of its parent.
fn in_order(models: &[(String, Node)], parents: &[Option<usize>]) -> Result<Vec<usize>, Fault> {
    let mut order = Vec::with_capacity(models.len());
    let mut known = vec![false; models.len()];
    for at in 0..models.len() {
        let mut chain = Vec::new();
        let mut next = Some(at);
        while let Some(at) = next.filter(|at| !known[*at]) {
            known[at] = true;
            chain.push(at);
            next = parents[at];
        }
        if let Some(back) = next.and_then(|next| chain.iter().position(|at| *at == next)) {
            return Err(cycle(models, &chain[back..]));
        }
        order.extend(chain.into_iter().rev());
    }
    Ok(order)
}

fn cycle(models: &[(String, Node)], places: &[usize]) -> Fault {
    /// Longer ones are not shown whole: the error is one line.
    const SHOWN: usize = 16;
    let first = &models[places[0]].0;
    let mut names: Vec<&str> = places.iter().map(|at| models[*at].0.as_str()).collect();
    if names.len() > SHOWN {
        names.truncate(SHOWN);
        names.push("…");
    }
    names.push(first);
    let fault = Fault::new(names.join(" extends "));
    fault.under("extends").under(first.as_str()).under("models")
}

fn inheritable(section: &Node) -> Node {
    let Node::Map(entries) = section else {
        return section.clone();
    };
    let inherited = entries
        .iter()
        .filter(|(key, _)| !NEVER_INHERITED.contains(&key.as_str()));
    Node::Map(inherited.cloned().collect())
}

/// Lays `own` over `base`: mappings are merged, everything else is replaced.
fn over(base: Node, own: Node) -> Node {
    let (mut entries, own) = match (base, own) {
        (Node::Map(entries), Node::Map(own)) => (entries, own),
        (_, own) => return own,
    };
    for (key, node) in own {
        match entries.iter_mut().find(|(known, _)| *known == key) {
            Some((_, base)) => *base = over(std::mem::replace(base, Node::Null), node),
            None => entries.push((key, node)),
        }
    }
    Node::Map(entries)
}

#[cfg(test)]
mod tests;

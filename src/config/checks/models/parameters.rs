//! Parameters that a model sets in requests.

use crate::config::Model;
use crate::config::fault::{Fault, Segment};
use crate::config::tree::Node;

/// What makes a request what it is: its client decides.
const OF_THE_REQUEST: [&str; 5] = ["model", "stream", "messages", "prompt", "input"];

/// Objects in objects that a name may lead through, its own included.
const DEEPEST: usize = 8;

/// Checks the names, and that the values of `written` can be sent.
pub(super) fn check(model: &Model, written: &Node) -> Result<(), Fault> {
    for name in model.parameters.keys() {
        let under = |fault: Fault| fault.under(name.as_str()).under("parameters");
        self::name(name).map_err(|what| under(Fault::new(what)))?;
        let mut outer = name.as_str();
        while let Some((object, _)) = outer.rsplit_once('.') {
            if model.parameters.contains_key(object) {
                let both = format!("`{object}`, which holds it, is set as a whole; one of them");
                return Err(under(Fault::new(both)));
            }
            outer = object;
        }
        let path: [Segment; 5] = [
            "models".into(),
            (*model.name).into(),
            "parameters".into(),
            name.as_str().into(),
            "default".into(),
        ];
        if written.at(&path).is_some_and(|default| !is_json(default)) {
            let fault = Fault::new("JSON has no number for infinity, and none that is no number");
            return Err(under(fault.under("default")));
        }
    }
    Ok(())
}

fn name(name: &str) -> Result<(), &'static str> {
    let mut segments = name.split('.');
    let first = segments.clone().next().unwrap_or_default();
    if segments.clone().any(|segment| segment.trim().is_empty()) {
        return Err("a name between dots is empty");
    }
    if segments.nth(DEEPEST).is_some() {
        return Err("has more than 8 names between dots");
    }
    match OF_THE_REQUEST.contains(&first) {
        true => Err(
            "is the request's own: `model`, `stream`, `messages`, `prompt` and `input` cannot be set",
        ),
        false => Ok(()),
    }
}

fn is_json(node: &Node) -> bool {
    match node {
        Node::Float(number) => number.is_finite(),
        Node::List(nodes) => nodes.iter().all(is_json),
        Node::Map(entries) => entries.iter().all(|(_, node)| is_json(node)),
        Node::Null | Node::Bool(_) | Node::Unsigned(_) | Node::Signed(_) | Node::Text(_) => true,
    }
}

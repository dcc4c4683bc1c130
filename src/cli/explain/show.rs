//! A plan, for people.

use serde_json::Value;

use super::Source;
use crate::cli::usage::table::table;

/// Whether there is such a model, something can serve it now, and the key, if one was shown, may use it.
pub(super) fn is_served(answer: &Value) -> bool {
    let served =
        !matches!(&answer["meaning"], Value::String(it) if it == "unknown" || it == "disabled");
    let allowed = answer["key"]["may_use"].as_bool().unwrap_or(true);
    let routes = answer["routes"].as_array();
    let next = |route: &Value| route["chosen"].as_bool().unwrap_or(false);
    let now = routes.is_none_or(|routes| routes.iter().any(next));
    served && allowed && now
}

/// A sentence on how the name was found, one on the key, and the routes in their order.
pub(super) fn text(answer: &Value, from: Source) -> String {
    let mut text = format!("{}\n", found(answer));
    if answer["key"].is_object() {
        text.push_str(&format!("{}\n", key(&answer["key"])));
    }
    let routes = list(&answer["routes"]);
    if !routes.is_empty() {
        let rows: Vec<Vec<String>> = routes.iter().map(|route| row(route, from)).collect();
        text.push('\n');
        text.push_str(&table(&HEADER.map(str::to_owned), &rows, 0..1));
    }
    let left_out = list(&answer["left_out"]);
    if !left_out.is_empty() {
        let row = |one: &Value| {
            ["alias", "backend", "model", "why"]
                .map(|it| plain(&one[it]))
                .to_vec()
        };
        let rows: Vec<Vec<String>> = left_out.iter().map(row).collect();
        let header = ["left out", "backend", "model", "why"].map(str::to_owned);
        text.push('\n');
        text.push_str(&table(&header, &rows, 0..0));
    }
    text
}

const HEADER: [&str; 9] = [
    "#", "alias", "prio", "backend", "model", "weight", "state", "cooldown", "why",
];

fn found(answer: &Value) -> String {
    let nameless = answer["model"] == "";
    let (model, alias) = (quoted(&answer["model"]), quoted(&answer["alias"]));
    match answer["meaning"].as_str().unwrap_or_default() {
        "exact" => format!("{model} is a model."),
        "wildcard" => format!("{model} is served by {alias}, whose pattern fits it best."),
        "default" => format!("Without a name it is {model}, the default, served by {alias}."),
        "open" if nameless => {
            "Without a name every backend serves whatever it is asked for.".to_owned()
        }
        "open" => format!(
            "{model} is no configured model: every backend serves whatever it is asked for."
        ),
        "disabled" => format!(
            "{model} is switched off ({alias}): clients are told that there is no such model."
        ),
        _ if nameless => "There is no default for requests that name no model.".to_owned(),
        _ => {
            let near: Vec<String> = list(&answer["near"]).iter().map(quoted).collect();
            match near.is_empty() {
                true => format!("There is no model {model}."),
                false => format!("There is no model {model}; near it: {}.", near.join(", ")),
            }
        }
    }
}

fn key(key: &Value) -> String {
    let name = match key["id"].as_str() {
        Some(id) => format!("The key `{id}`"),
        None => "The key".to_owned(),
    };
    let why = match key["why"].as_str() {
        Some(why) => format!(": {why}."),
        None => ".".to_owned(),
    };
    match (key["may_use"].as_bool(), key["known"].as_bool()) {
        (Some(true), _) => format!("{name} may use it{why}"),
        (_, Some(false)) => format!("{name} is not known{why}"),
        _ => format!("{name} may not use it{why}"),
    }
}

fn row(route: &Value, from: Source) -> Vec<String> {
    let now = |text: String| match from {
        Source::Gateway => text,
        Source::File => "-".to_owned(),
    };
    let cooldown = match route["cooldown_left_ms"].as_u64().unwrap_or(0) {
        0 => "-".to_owned(),
        left => format!("{} s", left.div_ceil(1_000)),
    };
    let why = match route["chosen"].as_bool() {
        Some(true) => "next".to_owned(),
        _ => plain(&route["why_not"]),
    };
    vec![
        plain(&route["step"]),
        plain(&route["alias"]),
        plain(&route["priority"]),
        plain(&route["backend"]),
        plain(&route["model"]),
        format!("{} ({} %)", plain(&route["weight"]), plain(&route["share"])),
        now(plain(&route["state"])),
        now(cooldown),
        why,
    ]
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], |list| list)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        // Shares are decimals, and most are whole numbers.
        other => other.to_string().trim_end_matches(".0").to_owned(),
    }
}

fn quoted(value: &Value) -> String {
    format!("`{}`", plain(value))
}

#[cfg(test)]
mod tests;

//! What a simple program that understands the whole request makes of it.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;

/// Names that collide, with each other and with what is special.
const NAMES: [&str; 9] = [
    "a",
    "b",
    "c",
    "a.b",
    "",
    "model",
    "thinking",
    "type",
    "response_format",
];

fn parameters() -> impl Strategy<Value = Vec<Parameter>> {
    let path = vec(select(&NAMES[..]).prop_map(str::to_owned), 1..4);
    let parameter = (path, value(), any::<bool>());
    vec(parameter, 0..7).prop_map(|parameters| {
        let mut unique: Vec<Parameter> = Vec::new();
        for (path, value, replaces) in parameters {
            if unique.iter().all(|other| other.path != path) {
                let value = value.to_string();
                unique.push(Parameter {
                    path,
                    value,
                    replaces,
                });
            }
        }
        unique
    })
}

fn value() -> impl Strategy<Value = Value> {
    const WORDS: [&str; 5] = [
        "enabled",
        "disabled",
        "json_object",
        "json_schema",
        "é\"\\\n",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        select(&WORDS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..3).prop_map(Value::from),
            3 => object(inner),
        ]
    })
}

fn object(member: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let name = select(&NAMES[..]).prop_map(str::to_owned);
    btree_map(name, member, 0..5).prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// Whether what is at `way` and no object gives way to one.
fn gives_way(way: &[String], parameters: &[Parameter]) -> bool {
    let leads_on = |path: &[String]| path.len() > way.len() && path.starts_with(way);
    let mut parameters = parameters.iter().filter(|of| of.can_be_set());
    parameters.any(|parameter| parameter.replaces && leads_on(&parameter.path))
}

fn set(object: &mut Map<String, Value>, parameter: &Parameter, depth: usize, all: &[Parameter]) {
    let name = &parameter.path[depth];
    if depth + 1 == parameter.path.len() {
        if parameter.replaces || !object.contains_key(name) {
            let value = serde_json::from_str(&parameter.value).unwrap();
            object.insert(name.clone(), value);
        }
        return;
    }
    let next = object.entry(name.clone()).or_insert_with(|| json!({}));
    if !next.is_object() && gives_way(&parameter.path[..=depth], all) {
        *next = json!({});
    }
    if let Value::Object(next) = next {
        set(next, parameter, depth + 1, all);
    }
}

/// What [`shaped`] is to make of `body`, in a chat.
fn expected(body: &Value, shape: &Shape<'_>) -> Value {
    let Value::Object(mut object) = body.clone() else {
        return body.clone();
    };
    if let Some(name) = shape.model {
        object.insert("model".into(), name.into());
    }
    if shape.reasoning && shape.parameters.iter().all(|of| of.path != ["thinking"]) {
        let decided = match object.get("thinking") {
            None => matches!(
                body["response_format"]["type"].as_str(),
                Some("json_object" | "json_schema")
            ),
            Some(thinking) => matches!(thinking["type"].as_str(), Some("enabled" | "disabled")),
        };
        if !decided {
            object.insert("thinking".into(), json!({"type": "enabled"}));
        }
    }
    for parameter in shape.parameters.iter().filter(|of| of.path[0] != "model") {
        set(&mut object, parameter, 0, shape.parameters);
    }
    Value::Object(object)
}

proptest! {
    #[test]
    fn the_request_says_what_it_should(
        body in object(value()),
        parameters in parameters(),
        name in proptest::option::of(".{0,9}"),
        reasoning in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let shape = Shape { model: name.as_deref(), parameters: &parameters, reasoning };
        let text = match pretty {
            true => serde_json::to_vec_pretty(&body).unwrap(),
            false => serde_json::to_vec(&body).unwrap(),
        };
        let expected = expected(&body, &shape);
        let shaped_once = shaped(ChatCompletions, &text, &shape);
        prop_assert!(shaped_once.is_some() || expected == body, "{}", expected);
        prop_assert!(shaped_once.as_ref() != Some(&text), "nothing was changed");
        let once = shaped_once.unwrap_or(text);
        let parsed: Value = serde_json::from_slice(&once).unwrap();
        prop_assert_eq!(&parsed, &expected, "{}", String::from_utf8_lossy(&once));
        // Whether to reason is decided by the request as it came, not as parameters leave it.
        let decisive = |of: &Parameter| matches!(&*of.path[0], "thinking" | "response_format");
        if !reasoning || !parameters.iter().any(decisive) {
            prop_assert_eq!(shaped(ChatCompletions, &once, &shape), None);
        }
    }
}

/// A value as it is written.
#[derive(Debug, Clone)]
enum Written {
    /// No object.
    Other(String),
    /// An object: what was added to it, its members, and the white space before its end.
    Object(Vec<Member>, Vec<Member>, &'static str),
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    /// As it is written, with quotes and what stands around it.
    key: String,
    value: Written,
    /// White space.
    end: &'static str,
}

impl Written {
    fn text(&self) -> String {
        let (added, members, end) = match self {
            Self::Other(text) => return text.clone(),
            Self::Object(added, members, end) => (added, members, end),
        };
        let text = |member: &Member| format!("{}{}{}", member.key, member.value.text(), member.end);
        let texts: Vec<_> = added.iter().chain(members).map(text).collect();
        format!("{{{}{end}}}", texts.join(","))
    }

    /// Sets a parameter in every duplicate.
    fn set(&mut self, parameter: &Parameter, depth: usize, all: &[Parameter]) {
        if matches!(self, Self::Other(_)) && gives_way(&parameter.path[..depth], all) {
            *self = Self::Object(Vec::new(), Vec::new(), "");
        }
        let Self::Object(added, members, _) = self else {
            return;
        };
        let name = &parameter.path[depth];
        let last = depth + 1 == parameter.path.len();
        let mut present = false;
        for member in added.iter_mut().chain(members) {
            if member.name != *name {
                continue;
            }
            present = true;
            match last {
                true if parameter.replaces => member.value = Self::Other(parameter.value.clone()),
                true => {}
                false => member.value.set(parameter, depth + 1, all),
            }
        }
        if !present {
            let mut value = match last {
                true => Self::Other(parameter.value.clone()),
                false => Self::Object(Vec::new(), Vec::new(), ""),
            };
            if !last {
                value.set(parameter, depth + 1, all);
            }
            added.push(Member {
                name: name.clone(),
                key: format!("{}:", quoted(name)),
                value,
                end: "",
            });
        }
    }
}

/// Any object, with duplicates, escapes and white space.
fn written() -> impl Strategy<Value = Written> {
    const OTHERS: [&str; 6] = [
        "null",
        "-0.50e+2",
        "12345678901234567890123",
        "\"}\\\"\"",
        "[ {\"a\" :1},{}]",
        "\"\\u00e9\"",
    ];
    let leaf = select(&OTHERS[..]).prop_map(|text| Written::Other(text.to_owned()));
    let inner = leaf.prop_recursive(3, 24, 4, members);
    members(inner)
}

fn members(value: impl Strategy<Value = Written>) -> impl Strategy<Value = Written> {
    let space = || select(&["", "", " ", "\r\n\t"][..]);
    let name = select(&["a", "b", "c", "a.b"][..]);
    let key = (name, any::<bool>(), space(), space(), space(), space());
    let member = (key, value).prop_map(|((name, escaped, before, after, colon, end), value)| {
        let written = match escaped {
            true => format!("\\u{:04X}{}", name.as_bytes()[0], &name[1..]),
            false => name.to_owned(),
        };
        Member {
            name: name.to_owned(),
            key: format!("{before}\"{written}\"{after}:{colon}"),
            value,
            end,
        }
    });
    (vec(member, 0..5), space())
        .prop_map(|(members, end)| Written::Object(Vec::new(), members, end))
}

proptest! {
    #[test]
    fn not_another_byte_is_changed(body in written(), parameters in parameters()) {
        let mut apart: Vec<Parameter> = Vec::new();
        for parameter in parameters.into_iter().filter(Parameter::can_be_set) {
            let collides = |other: &Parameter| {
                other.path.starts_with(&parameter.path) || parameter.path.starts_with(&other.path)
            };
            if !apart.iter().any(collides) {
                apart.push(parameter);
            }
        }
        let mut expected = body.clone();
        for parameter in &apart {
            expected.set(parameter, 0, &apart);
        }
        let (before, expected) = (body.text(), expected.text());
        let once = with(&before, &apart);
        prop_assert_eq!(once.is_none(), before == expected);
        prop_assert_eq!(once.unwrap_or(before), &*expected);
        prop_assert_eq!(with(&expected, &apart), None);
    }
}

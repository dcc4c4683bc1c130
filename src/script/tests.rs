//! Scripts as operators write them, and as nobody should.

mod decisions;
mod documents;
mod hooks;
mod language;
mod library;
mod limits;
mod patterns;
mod programs;
mod sandbox;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::{Map, Value};

use super::*;
use crate::config::{Script, ScriptSource};

/// A script with room for everything but endless loops.
fn script(text: &str) -> Script {
    Script {
        source: ScriptSource::Inline(text.to_owned()),
        timeout: Duration::from_secs(60),
        max_memory: 10 << 20,
        max_instructions: 1_000_000,
    }
}

fn load(text: &str) -> Program {
    Program::load("test", &script(text)).unwrap()
}

fn view<'a>(headers: &[(&'a str, &'a str)]) -> RequestView<'a> {
    RequestView {
        id: "req_1",
        method: "POST",
        path: "/v1/chat/completions",
        ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        headers: headers.to_vec(),
    }
}

const KEY: &str = "sk-the-clients-own-key";

fn judge(program: &Program) -> Result<Decision, ScriptError> {
    judge_with(program, &Map::new())
}

fn judge_with(program: &Program, data: &Map<String, Value>) -> Result<Decision, ScriptError> {
    program.decide(&DecisionInput {
        api_key: KEY,
        data,
        request: view(&[("x-team", "search"), ("x-tag", "a"), ("x-tag", "b")]),
        metadata: &BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
    })
}

fn decide(text: &str) -> Result<Decision, ScriptError> {
    judge(&load(text))
}

/// What a script says that fails.
fn failure(text: &str) -> ScriptError {
    decide(text).expect_err(text)
}

/// The text of an expression's value.
fn value(expression: &str) -> String {
    let text = format!("return {{ message = tostring({expression}) }}");
    decide(&text)
        .expect(expression)
        .message
        .expect("it is there")
}

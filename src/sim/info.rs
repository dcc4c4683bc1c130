//! Everything that is no model call: listings, health, metrics, tokenizers and the books.

use serde_json::{Value, json};

use super::Sim;
use super::exchange::Reply;
use super::options::Engine;
use super::refusal::Refusal;
use super::request::{Api, Job, object};
use super::route::Info;
use super::text::{Prompt, token_id, word_of};

/// When the simulated models were "created"; a constant, so that lists compare equal.
const CREATED: u64 = 1_700_000_000;

/// Answers an informational request.
pub(super) fn answer(sim: &Sim, info: &Info, account_id: Option<&str>) -> Reply {
    match info {
        Info::Models => Reply::value(&json!({"object": "list", "data": models(sim)})),
        Info::Model(id) => match models(sim).into_iter().find(|model| model["id"] == **id) {
            Some(model) => Reply::value(&model),
            None => Refusal::unknown_model(id).reply(sim.options.engine, None),
        },
        Info::Health if sim.healthy() => Reply::text(""),
        Info::Health => Reply {
            status: 503,
            ..Reply::text("")
        },
        Info::Version => Reply::value(&json!({"version": "0.11.0"})),
        Info::Metrics => Reply {
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            ..Reply::text(sim.expose())
        },
        Info::Load => Reply::value(&json!({"server_load": sim.scheduler.running()})),
        Info::Tgi => Reply::value(&json!({
            "model_id": sim.options.default_model(), "version": "3.3.0",
            "max_concurrent_requests": sim.options.max_num_seqs,
            "max_total_tokens": sim.options.max_model_len,
            "max_input_tokens": sim.options.max_model_len.saturating_sub(1)
        })),
        Info::Account => match sim.account.to_json(account_id) {
            Ok(page) => Reply::json(200, page),
            Err(error) => Refusal::new(500, error.to_string()).reply(sim.options.engine, None),
        },
        Info::State => Reply::value(&sim.state()),
        Info::Reset => {
            sim.reset();
            Reply::value(&json!({"reset": true}))
        }
        Info::SetHealth(up) => {
            sim.set_healthy(*up);
            Reply::value(&json!({"healthy": up}))
        }
    }
}

/// Answers `/tokenize` in vLLM's shape, or TGI's if `inputs` are given.
pub(super) fn tokenize(sim: &Sim, body: &[u8]) -> Result<Reply, Refusal> {
    let value = object(body)?;
    if let Some(text) = value["inputs"].as_str() {
        return Ok(Reply::value(&tgi_tokens(text)));
    }
    let tokens: Vec<u64> = match value["prompt"].as_str() {
        Some(text) => text.split_whitespace().map(token_id).collect(),
        None if value["messages"].is_array() => chat_ids(sim, body)?,
        None => return Err(Refusal::missing("prompt")),
    };
    Ok(Reply::value(&json!({
        "count": tokens.len(), "max_model_len": sim.options.max_model_len, "tokens": tokens,
        "token_strs": null
    })))
}

/// Answers `/detokenize`.
pub(super) fn detokenize(body: &[u8]) -> Result<Reply, Refusal> {
    let value = object(body)?;
    let tokens = value["tokens"]
        .as_array()
        .ok_or_else(|| Refusal::missing("tokens"))?;
    let text: String = tokens
        .iter()
        .map(|token| token.as_u64().map(word_of))
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal::bad("tokens", "tokens must be ids"))?;
    Ok(Reply::value(&json!({"prompt": text.trim_start()})))
}

/// Answers Anthropic's `/v1/messages/count_tokens`, which needs no `max_tokens`.
pub(super) fn count_tokens(sim: &Sim, body: &[u8]) -> Result<Reply, Refusal> {
    let mut value = object(body)?;
    value["max_tokens"] = json!(1);
    let job = Job::parse(
        Api::Messages,
        value.to_string().as_bytes(),
        false,
        &sim.options,
    )?;
    Ok(Reply::value(&json!({"input_tokens": job.prompt_tokens()})))
}

/// Returns one id per token of a chat. Hashes stand for the words, which are not kept.
fn chat_ids(sim: &Sim, body: &[u8]) -> Result<Vec<u64>, Refusal> {
    let job = Job::parse(Api::Chat, body, false, &sim.options)?;
    Ok(job
        .prompts
        .iter()
        .flat_map(Prompt::tokens)
        .map(|hash| hash % 100_000)
        .collect())
}

fn tgi_tokens(text: &str) -> Value {
    let start = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let token = |word| {
        let start = start(word);
        json!({"id": token_id(word), "text": word, "start": start, "stop": start + word.len()})
    };
    text.split_whitespace().map(token).collect()
}

fn models(sim: &Sim) -> Vec<Value> {
    let options = &sim.options;
    let names = match options.models.as_slice() {
        [] => vec![options.default_model()],
        models => models.iter().map(String::as_str).collect(),
    };
    names
        .into_iter()
        .map(|name| match options.engine {
            Engine::Anthropic => json!({
                "type": "model", "id": name, "display_name": name,
                "created_at": "2023-11-14T22:13:20Z"
            }),
            Engine::Openai => json!({
                "id": name, "object": "model", "created": CREATED, "owned_by": "system"
            }),
            Engine::Vllm | Engine::Tgi | Engine::Sglang => json!({
                "id": name, "object": "model", "created": CREATED, "owned_by": "vllm",
                "root": name, "parent": null, "max_model_len": options.max_model_len,
                "permission": []
            }),
        })
        .collect()
}

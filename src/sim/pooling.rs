//! Embeddings, rerank and score: answers computed from words, so that equal texts are equal and
//! texts that share words are near.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::Sim;
use super::account::now_ms;
use super::exchange::Reply;
use super::options::Engine;
use super::record::Record;
use super::refusal::Refusal;
use super::request::{lax_bool, object, served_model, text_or_ids};
use super::shape::Quoted;
use super::text::{Prompt, mix};

/// Answers `/v1/embeddings`.
pub(super) fn embeddings(
    sim: &Sim,
    record: &Record<'_>,
    id: &str,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let body = object(body)?;
    let model = served_model(&body, &sim.options)?;
    let inputs = text_or_ids(&body["input"], "input")?;
    let size = dimensions(&body, sim.options.embedding_size)?;
    let base64 = match body["encoding_format"].as_str() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refusal::bad("encoding_format", "known: float, base64")),
    };
    let tokens = count(sim, record, &model, &inputs);
    let data: Vec<String> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = embedding(input, size);
            let vector = if base64 {
                base64_of(&vector)
            } else {
                list_of(&vector)
            };
            format!(r#"{{"index":{index},"object":"embedding","embedding":{vector}}}"#)
        })
        .collect();
    let usage = usage(sim.options.engine, tokens);
    let (data, model, created) = (data.join(","), Quoted(&model), now_ms() / 1000);
    Ok(Reply::json(
        200,
        format!(
            r#"{{"id":"embd-{id}","object":"list","created":{created},"model":{model},"data":[{data}],"usage":{usage}}}"#
        ),
    ))
}

/// Answers `/rerank`: documents, the most relevant first.
pub(super) fn rerank(
    sim: &Sim,
    record: &Record<'_>,
    id: &str,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let body = object(body)?;
    let model = served_model(&body, &sim.options)?;
    let query = body["query"]
        .as_str()
        .ok_or_else(|| Refusal::missing("query"))?;
    let documents = body["documents"]
        .as_array()
        .ok_or_else(|| Refusal::missing("documents"))?;
    let texts: Vec<&str> = documents
        .iter()
        .map(|document| {
            document
                .as_str()
                .or_else(|| document["text"].as_str())
                .unwrap_or_default()
        })
        .collect();
    let pairs = pairs(&[query], &texts);
    let tokens = count(sim, record, &model, &pairs);
    let mut ranked: Vec<(usize, f64)> = texts
        .iter()
        .map(|text| relevance(query, text))
        .enumerate()
        .collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let top = body["top_n"]
        .as_u64()
        .filter(|top| *top > 0)
        .map_or(texts.len(), |top| top as usize);
    ranked.truncate(top);
    if sim.options.engine == Engine::Sglang {
        let with_documents =
            body["return_documents"].is_null() || lax_bool(&body["return_documents"]);
        let answer = ranked.iter().map(|(index, score)| {
            json!({"score": score, "index": index,
                "document": if with_documents { json!(texts[*index]) } else { Value::Null },
                "meta_info": {"prompt_tokens": pairs[*index].len()}})
        });
        return Ok(Reply::value(&answer.collect()));
    }
    let results: Vec<Value> = ranked
        .iter()
        .map(|(index, score)| {
            json!({"index": index, "relevance_score": score,
                "document": {"text": texts[*index], "multi_modal": null}})
        })
        .collect();
    Ok(Reply::value(
        &json!({"id": format!("score-{id}"), "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}, "results": results}),
    ))
}

/// Answers `/score`: one text against each other, or pair by pair.
pub(super) fn score(
    sim: &Sim,
    record: &Record<'_>,
    id: &str,
    body: &[u8],
) -> Result<Reply, Refusal> {
    let body = object(body)?;
    let model = served_model(&body, &sim.options)?;
    let (left, right) = (texts(&body, "text_1")?, texts(&body, "text_2")?);
    if left.len() != 1 && left.len() != right.len() {
        return Err(Refusal::bad(
            "text_1",
            "text_1 must be one text or as many as text_2",
        ));
    }
    let tokens = count(sim, record, &model, &pairs(&left, &right));
    let data: Vec<Value> = left
        .iter()
        .cycle()
        .zip(&right)
        .enumerate()
        .map(|(index, (a, b))| json!({"index": index, "object": "score", "score": relevance(a, b)}))
        .collect();
    Ok(Reply::value(
        &json!({"id": format!("score-{id}"), "object": "list",
        "created": now_ms() / 1000, "model": model, "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0,
            "prompt_tokens_details": null}}),
    ))
}

fn dimensions(body: &Value, default: u32) -> Result<u32, Refusal> {
    match &body["dimensions"] {
        Value::Null => Ok(default),
        value => match value.as_u64() {
            Some(size @ 1..=65_536) => Ok(size as u32),
            _ => Err(Refusal::bad(
                "dimensions",
                "dimensions must be from 1 to 65536",
            )),
        },
    }
}

fn texts<'a>(body: &'a Value, field: &'static str) -> Result<Vec<&'a str>, Refusal> {
    match &body[field] {
        Value::Null => Err(Refusal::missing(field)),
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) => items
            .iter()
            .map(|item| {
                item.as_str()
                    .ok_or_else(|| Refusal::bad(field, "texts must be strings"))
            })
            .collect(),
        _ => Err(Refusal::bad(field, "texts must be strings")),
    }
}

/// Returns the prompts a cross-encoder reads: each pair as one text.
fn pairs(left: &[&str], right: &[&str]) -> Vec<Prompt> {
    let pair = |(a, b): (&&str, &&str)| {
        let mut prompt = Prompt::of_text(a);
        prompt.push_text(b);
        prompt
    };
    left.iter().cycle().zip(right).map(pair).collect()
}

/// Accounts for prompts that are only read, and returns their tokens.
fn count(sim: &Sim, record: &Record<'_>, model: &str, prompts: &[Prompt]) -> u64 {
    let tokens = prompts.iter().map(|prompt| u64::from(prompt.len())).sum();
    record.asked(model, tokens, false);
    record.prefilled(tokens, 0);
    sim.metrics
        .first_token
        .observe(record.began().elapsed().as_secs_f64());
    tokens
}

fn usage(engine: Engine, tokens: u64) -> String {
    match engine {
        Engine::Openai => format!(r#"{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}"#),
        Engine::Vllm | Engine::Tgi | Engine::Sglang | Engine::Anthropic => format!(
            r#"{{"prompt_tokens":{tokens},"total_tokens":{tokens},"completion_tokens":0,"prompt_tokens_details":null}}"#
        ),
    }
}

/// Returns the share of the words of `query` that `text` has.
fn relevance(query: &str, text: &str) -> f64 {
    let words: HashSet<&str> = text.split_whitespace().collect();
    let asked: Vec<&str> = query.split_whitespace().collect();
    let found = asked.iter().filter(|word| words.contains(*word)).count();
    found as f64 / asked.len().max(1) as f64
}

/// Returns a vector of length 1: the sum of one pseudo-random vector per token.
fn embedding(prompt: &Prompt, size: u32) -> Vec<f32> {
    let mut vector: Vec<f64> = vec![0.0; size as usize];
    for token in prompt.tokens() {
        for (index, value) in (0..).zip(&mut vector) {
            // The top 53 bits as a number from -1 to 1.
            *value += (mix(*token, index) >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        }
    }
    let norm = vector
        .iter()
        .map(|value| value * value)
        .sum::<f64>()
        .sqrt()
        .max(f64::MIN_POSITIVE);
    vector.iter().map(|value| (value / norm) as f32).collect()
}

fn list_of(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// Returns little-endian floats in base64 (RFC 4648), quoted.
fn base64_of(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let mut text = String::with_capacity(bytes.len() / 3 * 4 + 6);
    text.push('"');
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            let filled = place <= group.len();
            text.push(if filled {
                char::from(ALPHABET[sextet as usize])
            } else {
                '='
            });
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_rfc_4648_says() {
        assert_eq!(base64_of(&[]), "\"\"");
        assert_eq!(base64_of(&[1.0]), "\"AACAPw==\"");
        assert_eq!(base64_of(&[1.0, -2.0]), "\"AACAPwAAAMA=\"");
        assert_eq!(
            base64_of(&[0.0, 0.0, 0.0]),
            format!("\"{}\"", "A".repeat(16))
        );
    }

    #[test]
    fn embeddings_are_unit_vectors_near_what_shares_words() {
        let of = |text| embedding(&Prompt::of_text(text), 64);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cats = of("cats sleep all day");
        assert!((dot(&cats, &cats) - 1.0).abs() < 1e-5);
        assert!(dot(&cats, &of("cats sleep all night")) > dot(&cats, &of("stocks fell again now")));
        assert!(of("").iter().all(|value| *value == 0.0));
    }

    #[test]
    fn relevance_is_the_share_of_words_found() {
        assert_eq!(relevance("a b", "b c"), 0.5);
        assert_eq!(relevance("", "b c"), 0.0);
    }
}

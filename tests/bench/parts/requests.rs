//! Reading a request's body, and the few bytes that are changed in it.

use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use llmproxy::llm::{Asked, Endpoint, Shape, peek, request_usage, shaped};

use super::bodies::{self, ALIAS, MODEL};
use super::{Call, Part};

const SMALL: usize = 1 << 10;
const MIDDLE: usize = 32 << 10;
const LARGE: usize = 300 << 10;

pub(super) const PARTS: &[Part] = &[
    part("peek/1_KiB", SMALL, read::<SMALL>),
    part("peek/32_KiB", MIDDLE, read::<MIDDLE>),
    part("peek/300_KiB", LARGE, read::<LARGE>),
    part("model_name/1_KiB", SMALL, name_model::<SMALL>),
    part("model_name/300_KiB", LARGE, name_model::<LARGE>),
    part("stream_options/1_KiB", SMALL, ask_for_usage::<SMALL>),
    part("stream_options/300_KiB", LARGE, ask_for_usage::<LARGE>),
];

const fn part(name: &'static str, size: usize, make: fn() -> Result<Call>) -> Part {
    Part {
        name,
        bytes: size as u64,
        make,
    }
}

const ENDPOINT: Endpoint = Endpoint::ChatCompletions;

fn read<const SIZE: usize>() -> Result<Call> {
    let body = bodies::request(SIZE);
    ensure!(body.len() == SIZE, "{} bytes", body.len());
    let head = peek(ENDPOINT, &body);
    ensure!(
        head.model.as_deref() == Some(ALIAS) && head.sound,
        "{head:?}"
    );
    Ok(Box::new(move || {
        black_box(peek(ENDPOINT, black_box(&body)));
        Ok(())
    }))
}

fn name_model<const SIZE: usize>() -> Result<Call> {
    let body = bodies::request(SIZE);
    let shape = Shape {
        model: Some(MODEL),
        parameters: &[],
        reasoning: false,
    };
    Ok(Box::new(move || {
        let changed = shaped(ENDPOINT, black_box(&body), &shape);
        black_box(changed.context("it has another name")?);
        Ok(())
    }))
}

fn ask_for_usage<const SIZE: usize>() -> Result<Call> {
    let body = bodies::request(SIZE);
    Ok(Box::new(move || {
        let changed = request_usage(ENDPOINT, black_box(&body), Asked::Final);
        black_box(changed.context("it is not asked for")?);
        Ok(())
    }))
}

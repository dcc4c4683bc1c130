//! What is done with every event of a stream, and with an answer in one piece.

use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use llmproxy::llm::{Asked, BodyFormat, Endpoint, HideUsage, RenameModel, Tee, peek};

use super::bodies::{self, ALIAS};
use super::{Call, Part};

pub(super) const PARTS: &[Part] = &[
    part("tee/event", EVENT, || observe(1)),
    part("tee/64_events", 64 * EVENT, || observe(64)),
    part("tee/answer", 1 << 10, observe_answer),
    part("rename_model/event", EVENT, rename_event),
    part("rename_model/answer", 1 << 10, rename_answer),
    part("hide_usage/event", EVENT, || hide(Asked::Final)),
    part("hide_usage/event_with_usage", 320, || {
        hide(Asked::Continuous)
    }),
];

/// About as long as an event is.
const EVENT: u64 = 240;

const fn part(name: &'static str, bytes: u64, make: fn() -> Result<Call>) -> Part {
    Part { name, bytes, make }
}

const ENDPOINT: Endpoint = Endpoint::ChatCompletions;

/// Events that repeat after a while, so that no call is like the one before.
fn events(of: fn(usize) -> String) -> impl Iterator<Item = Bytes> + 'static {
    let events: Vec<Bytes> = (0..64).map(|number| Bytes::from(of(number))).collect();
    let mut next = 0;
    std::iter::from_fn(move || {
        next = (next + 1) % events.len();
        Some(events[next].clone())
    })
}

/// Watches a stream that arrives as `at_once` events in one piece.
fn observe(at_once: u32) -> Result<Call> {
    let mut pieces = events(bodies::event);
    let mut tee = Tee::new(ENDPOINT, BodyFormat::EventStream);
    let piece = |events: &mut dyn Iterator<Item = Bytes>| -> Bytes {
        match at_once {
            1 => events.next().unwrap_or_default(),
            _ => events.take(at_once as usize).flatten().collect(),
        }
    };
    let whole = piece(&mut pieces);
    ensure!(tee.observe(&whole).events == at_once, "that many events");
    Ok(Box::new(move || {
        let one = match at_once {
            1 => pieces.next().context("it has no end")?,
            _ => whole.clone(),
        };
        let progress = tee.observe(black_box(&one));
        ensure!(progress.events == at_once, "{progress:?}");
        Ok(())
    }))
}

/// Watches a whole answer, and says what it was.
fn observe_answer() -> Result<Call> {
    let answer = bodies::answer();
    Ok(Box::new(move || {
        let mut tee = Tee::new(ENDPOINT, BodyFormat::Json);
        tee.observe(black_box(&answer));
        ensure!(tee.is_whole(), "it is whole");
        ensure!(tee.summary().usage.is_some(), "it says what it took");
        Ok(())
    }))
}

fn rename_event() -> Result<Call> {
    let mut events = events(bodies::event);
    let mut rename = RenameModel::new(ENDPOINT, BodyFormat::EventStream, ALIAS);
    let mut out = Vec::new();
    Ok(Box::new(move || {
        out.clear();
        rename.push(events.next().context("it has no end")?, &mut out);
        ensure!(out.len() == 3, "before, the name, after: {}", out.len());
        black_box(&out);
        Ok(())
    }))
}

fn rename_answer() -> Result<Call> {
    let answer = bodies::answer();
    let mut out = Vec::new();
    Ok(Box::new(move || {
        out.clear();
        let mut rename = RenameModel::new(ENDPOINT, BodyFormat::Json, ALIAS);
        rename.push(answer.clone(), &mut out);
        rename.finish(&mut out);
        ensure!(out.len() == 3, "before, the name, after: {}", out.len());
        black_box(&out);
        Ok(())
    }))
}

/// Takes out of a stream what the gateway asked for and the client did not.
fn hide(asked: Asked) -> Result<Call> {
    let of = match asked {
        Asked::Nothing | Asked::Final => bodies::event,
        Asked::Continuous => bodies::event_with_usage,
    };
    let mut events = events(of);
    let head = peek(ENDPOINT, &bodies::request(1 << 10));
    let mut hide = HideUsage::of(asked, &head).context("the client did not ask")?;
    let mut out = Vec::new();
    Ok(Box::new(move || {
        out.clear();
        hide.push(events.next().context("it has no end")?, &mut out);
        let pieces = if asked == Asked::Continuous { 2 } else { 1 };
        ensure!(out.len() == pieces, "{} pieces", out.len());
        black_box(&out);
        Ok(())
    }))
}

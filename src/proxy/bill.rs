//! What a request owes: its entry in the ledger, from before a backend is asked until before the
//! client sees the end.

use std::borrow::Cow;
use std::time::Instant;

use bytes::Bytes;
use log::{debug, warn};

use super::ctx::{Asked, Ctx, Served};
use super::rejection::Rejection;
use super::{Gateway, hooks};
use crate::keys::{self, KeyHash};
use crate::ledger::{self, Entry, Outcome, Receipt, UsageEvent};
use crate::limit::{Amount, Permit};
use crate::llm::{Rates, Summary, Tee, Usage, UsageSource};
use crate::metrics::PathLabel;
use crate::price::Cost;

/// Longest part of a request's body that goes into an event, for reporters with `include_body`.
const MAX_BODY: usize = 64 << 10;

/// Longest model name in an event; real ones are a quarter of this.
const MAX_NAME: usize = 256;

/// What one request owes.
pub(super) enum Bill {
    /// Nothing is owed so far.
    Unopened,
    /// The ledger knows of it.
    Open {
        entry: Entry,
        draft: Box<UsageEvent>,
        /// When the ledger last heard of it, if it did after the beginning.
        amended: Option<Instant>,
    },
    /// The ledger could not take it and the operator wants it served all the same.
    Unmetered { draft: Box<UsageEvent> },
    /// It is closed; `None` when there was nothing to bill.
    Settled(Option<Metered>),
}

/// The usage of one request, how it became known, and what it costs.
pub(super) struct Metered {
    pub(super) usage: Usage,
    pub(super) source: UsageSource,
    pub(super) cost: Option<Cost>,
    /// Who is billed, if a script says so.
    pub(super) user: Option<String>,
    /// The moment the price was looked up for.
    at: jiff::Timestamp,
}

impl Metered {
    /// What it takes from a quota.
    pub(super) fn amount(&self) -> Amount {
        Amount {
            tokens: self.usage.total,
            nanos: self.cost.as_ref().map_or(0, |cost| cost.nanos),
        }
    }
}

/// Opens the request in the ledger.
///
/// # Errors
/// When the ledger cannot take it and requests that may go unbilled are not wanted.
pub(super) async fn open(
    gateway: &Gateway,
    ctx: &mut Ctx,
    body: &Bytes,
) -> Result<(), Box<Rejection>> {
    if let PathLabel::Endpoint(endpoint) = ctx.asked.path
        && !endpoint.metered()
    {
        return Ok(());
    }
    let draft = Box::new(draft(gateway, ctx, body));
    let opened = match gateway.ledger.begin(&draft) {
        Ok((entry, receipt)) if gateway.ledger.is_safe(receipt) => Ok(entry),
        Ok((entry, receipt)) => match gateway.ledger.until_safe(receipt).await {
            Ok(()) => Ok(entry),
            Err(failure) => {
                entry.void();
                Err(failure)
            }
        },
        Err(failure) => Err(failure),
    };
    ctx.bill = match opened {
        Ok(entry) => Bill::Open {
            entry,
            draft,
            amended: None,
        },
        Err(_) if !gateway.ledger.refuses() => {
            gateway.ledger.serves_unmetered();
            Bill::Unmetered { draft }
        }
        Err(failure) => {
            // The ledger has said so aloud, once.
            debug!(request = &*ctx.id, reason = failure.as_str(); "refused: usage cannot be recorded");
            return Err(Box::new(Rejection::unrecordable()));
        }
    };
    Ok(())
}

/// Notes what a running stream owes by now, if that was not done lately.
pub(super) fn amend(gateway: &Gateway, ctx: &mut Ctx, tee: &Tee) {
    let Bill::Open { amended, .. } = &ctx.bill else {
        return;
    };
    if amended.is_some_and(|at| at.elapsed() < gateway.ledger.amend_interval()) {
        return;
    }
    let seen = tee.summary();
    let metered = meter(gateway, ctx, Some(&seen));
    let mut bill = std::mem::replace(&mut ctx.bill, Bill::Unopened);
    if let Bill::Open {
        entry,
        draft,
        amended,
    } = &mut bill
    {
        *amended = Some(Instant::now());
        if let Some(metered) = &metered {
            // First, so that a quota never knows less than the bill.
            if let Some(permit) = &ctx.access.permit {
                permit.progress(metered.amount());
            }
            fill(draft, ctx, metered);
            // All open requests are kept in memory, their bodies not.
            let body = draft.request_body.take();
            entry.amend(draft);
            draft.request_body = body;
        }
    }
    ctx.bill = bill;
}

/// Closes the request's entry before the client may see the end of its answer. A second call does
/// nothing.
pub(super) async fn settle(gateway: &Gateway, ctx: &mut Ctx) {
    if let Bill::Settled(_) = ctx.bill {
        return;
    }
    let metered = metered(gateway, ctx);
    if let Some(permit) = &mut ctx.access.permit {
        // What was held in vain is free again before the client can ask for more.
        let amount = metered.as_ref().map(Metered::amount);
        permit.seal(amount.unwrap_or_default()).await;
    }
    if let Some(receipt) = close(gateway, ctx, metered)
        && !gateway.ledger.is_safe(receipt)
        && let Err(failure) = gateway.ledger.until_safe(receipt).await
    {
        // The ledger keeps it in memory and writes it when it can; new requests are refused.
        warn!(request = &*ctx.id, reason = failure.as_str(); "usage is not written yet");
    }
}

/// As [`settle`], where waiting is not possible.
pub(super) fn settle_now(gateway: &Gateway, ctx: &mut Ctx) -> Option<Receipt> {
    if let Bill::Settled(_) = ctx.bill {
        return None;
    }
    let metered = metered(gateway, ctx);
    close(gateway, ctx, metered)
}

fn metered(gateway: &Gateway, ctx: &Ctx) -> Option<Metered> {
    let seen = ctx.served.summary.as_ref();
    let mut metered = meter(gateway, ctx, seen)?;
    hooks::usage(&ctx.runtime, ctx, &mut metered);
    Some(metered)
}

fn close(gateway: &Gateway, ctx: &mut Ctx, metered: Option<Metered>) -> Option<Receipt> {
    let bill = std::mem::replace(&mut ctx.bill, Bill::Settled(None));
    let mut receipt = None;
    if let Some(metered) = &metered {
        let filled = |mut draft: Box<UsageEvent>| {
            fill(&mut draft, ctx, metered);
            draft
        };
        receipt = Some(match bill {
            Bill::Open { entry, draft, .. } => entry.close(&filled(draft)),
            Bill::Unmetered { draft } => gateway.ledger.record(&filled(draft)),
            Bill::Unopened | Bill::Settled(_) => {
                let draft = draft(gateway, ctx, &Bytes::new());
                gateway.ledger.record(&filled(Box::new(draft)))
            }
        });
    } else if let Bill::Open { entry, .. } = bill {
        entry.void();
    }
    if let Some(permit) = &mut ctx.access.permit {
        permit.settle(metered.as_ref().map(Metered::amount).unwrap_or_default());
    }
    ctx.bill = Bill::Settled(metered);
    receipt
}

/// What is known of a request before anybody worked on it.
fn draft(gateway: &Gateway, ctx: &Ctx, body: &Bytes) -> UsageEvent {
    let (asked, access) = (&ctx.asked, &ctx.access);
    let principal = access.principal.as_deref();
    let key = match principal {
        Some(principal) => Some(principal.presented.expose()),
        None => asked.key.as_deref(),
    };
    let wanted = gateway.includes;
    let start = &body[..body.len().min(MAX_BODY)];
    let (api_key, key_id, user_id) = match principal {
        Some(one) => (one.masked.clone(), one.key.id.clone(), one.user_id.clone()),
        None => (
            key.map(ledger::mask).unwrap_or_default(),
            key.map(|key| keys::id_of(&KeyHash::of(key)))
                .unwrap_or_default(),
            String::new(),
        ),
    };
    UsageEvent {
        request_id: ctx.id.clone(),
        api_key,
        raw_key: key.filter(|_| wanted.key).map(str::to_owned),
        request_body: wanted
            .body
            .then(|| String::from_utf8_lossy(start).into_owned()),
        key_id,
        user_id,
        quota: access.permit.as_ref().and_then(Permit::account),
        model: clipped(asked.model.as_deref().unwrap_or_default()),
        is_stream: asked.stream,
        endpoint: Cow::Borrowed(asked.path.as_str()),
        timestamp: ledger::now(),
        event_id: match access.event_id.is_empty() {
            true => ledger::new_id(),
            false => access.event_id.clone(),
        },
        usage_source: Cow::Borrowed(UsageSource::Estimated.as_str()),
        ..UsageEvent::default()
    }
}

/// Completes `draft` with what was served.
fn fill(draft: &mut UsageEvent, ctx: &Ctx, metered: &Metered) {
    let (served, usage) = (&ctx.served, &metered.usage);
    if draft.model.is_empty() {
        let reported = served.summary.as_ref().and_then(|seen| seen.model.clone());
        draft.model = reported.unwrap_or_default();
    }
    if let Some(upstream) = &served.upstream {
        upstream.url().clone_into(&mut draft.backend_url);
        str::clone_into(upstream.name(), &mut draft.backend);
    }
    draft.prompt_tokens = usage.prompt;
    draft.completion_tokens = usage.completion;
    draft.total_tokens = usage.total;
    draft.cached_tokens = usage.cached;
    draft.reasoning_tokens = usage.reasoning;
    draft.usage_source = Cow::Borrowed(metered.source.as_str());
    draft.outcome = served.outcome;
    draft.status = ctx.status();
    draft.latency_ms = super::finish::millis(ctx.started.elapsed());
    draft.ttft_ms = served.first_byte.map(super::finish::millis);
    draft.attempts = served.attempts;
    ledger::write_timestamp(&mut draft.timestamp, metered.at);
    if let Some(user) = &metered.user {
        draft.user_id.clone_from(user);
    }
    if let Some(cost) = &metered.cost {
        draft.cost_nanos = Some(cost.nanos);
        draft.currency = Some(str::to_owned(&cost.currency));
        draft.price_effective = cost.effective.as_deref().map(str::to_owned);
    }
}

fn meter(gateway: &Gateway, ctx: &Ctx, seen: Option<&Summary>) -> Option<Metered> {
    let (asked, served) = (&ctx.asked, &ctx.served);
    let model = asked.model.as_deref();
    let model = model.or_else(|| seen?.model.as_deref()).unwrap_or_default();
    let (usage, source) = match asked.path {
        PathLabel::Endpoint(endpoint) if endpoint.metered() => {
            used(asked, served, seen, gateway.calibration.rates(model))?
        }
        PathLabel::Endpoint(_) => return None,
        // Opaque traffic is billed when the backend says what it used (audio transcriptions do).
        _ => (seen?.usage?, seen?.source),
    };
    let prices = ctx.runtime.prices.as_ref();
    let at = jiff::Timestamp::now();
    let cost = prices.and_then(|prices| prices.cost(model, &usage, at));
    Some(Metered {
        usage,
        source,
        cost,
        user: None,
        at,
    })
}

/// What a model call used; `None` when it has nothing to bill: no backend answered it, or the
/// backend refused it.
fn used(
    asked: &Asked,
    served: &Served,
    seen: Option<&Summary>,
    rates: Rates,
) -> Option<(Usage, UsageSource)> {
    let left_waiting = served.status == 0 && served.sent;
    let answered = (200..300).contains(&served.status) && served.status != 204;
    let billable = answered || left_waiting;
    // An error inside a 200 is no answer, unless some of one came before it.
    let failed = served.failed || seen.is_some_and(|seen| seen.error && seen.content_bytes == 0);
    // Nor is one that says nothing at all.
    let silent = served.outcome == Outcome::Completed
        && seen.is_some_and(|seen| {
            seen.usage.is_none() && seen.events == 0 && seen.content_bytes == 0 && !seen.ended
        });
    if !billable || failed || silent || served.upstream.is_none() {
        return None;
    }
    let (usage, source) = match seen {
        Some(seen) => seen.bill(asked.prompt_bytes, &rates),
        None => (
            rates.estimate(asked.prompt_bytes, 0),
            UsageSource::Estimated,
        ),
    };
    let guessed = matches!(source, UsageSource::Estimated | UsageSource::Counted);
    // An estimate is never more than the request could be.
    match asked.most.filter(|_| guessed) {
        Some(most) => Some((
            Usage {
                cached: usage.cached,
                reasoning: usage.reasoning,
                ..Usage::new(
                    usage.prompt.min(most.prompt),
                    usage.completion.min(most.completion),
                )
            },
            source,
        )),
        None => Some((usage, source)),
    }
}

/// What a client chose, at most [`MAX_NAME`] bytes of it, whole characters only.
fn clipped(text: &str) -> String {
    let mut end = text.len().min(MAX_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_names_are_clipped_between_characters() {
        assert_eq!(super::clipped("m"), "m");
        let long = "é".repeat(300);
        assert_eq!(super::clipped(&format!("x{long}")).len(), 255);
        assert_eq!(super::clipped(&long).len(), 256);
    }
}

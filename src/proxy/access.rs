//! Who may, and how much: what stands between a request and the backends.

use std::net::{IpAddr, Ipv4Addr};

use http::Method;
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use pingora::http::RequestHeader;

use super::Gateway;
use super::client::Client;
use super::ctx::Ctx;
use super::headers::Head;
use super::rejection::Rejection;
use crate::auth::{self, Caller, Principal};
use crate::config::PromptEstimate;
use crate::ledger;
use crate::limit::{self, Amount, Applicant};
use crate::llm::{self, Endpoint, Estimate, RequestHead, Usage};
use crate::runtime::Runtime;

/// An address that nobody has.
pub(super) const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Finds out who asks.
///
/// # Errors
/// When nobody known does, or somebody who may not.
pub(super) async fn authenticate(
    runtime: &Runtime,
    client: &Client<'_>,
    ctx: &mut Ctx,
) -> Result<(), Box<Rejection>> {
    let request = client.request();
    let address = client.address();
    ctx.access.client =
        address.map(|peer| auth::client_ip(peer, &request.headers, &runtime.trusted_proxies));
    if !runtime.auth.enabled() {
        return Ok(());
    }
    let caller = Caller {
        id: &ctx.id,
        method: request.method.as_str(),
        path: request.uri.path(),
        // Keys that are bound to addresses are refused to an unknown one.
        peer: ctx.access.client.unwrap_or(UNKNOWN),
        headers: &request.headers,
    };
    let authenticated = runtime.auth.authenticate(&caller).await;
    ctx.access.principal = authenticated.map_err(Rejection::refused)?;
    // What is shown of the key comes from its owner now.
    ctx.asked.key = None;
    Ok(())
}

/// Whether the key may use `model`.
///
/// # Errors
/// When it may not.
pub(super) fn may_use(runtime: &Runtime, ctx: &Ctx, model: &str) -> Result<(), Box<Rejection>> {
    match &ctx.access.principal {
        Some(principal) if !principal.may_use(model) => Err(Rejection::model_denied(runtime)),
        _ => Ok(()),
    }
}

/// Admits a model call: do limits and quota leave room for the dearest of `heads`?
///
/// # Errors
/// When one of them says no, or cannot be asked.
pub(super) async fn admit_call(
    gateway: &Gateway,
    runtime: &Runtime,
    ctx: &mut Ctx,
    endpoint: Endpoint,
    heads: &[(RequestHead, usize)],
) -> Result<(), Box<Rejection>> {
    if let Some(principal) = &ctx.access.principal
        && endpoint.metered()
        && !heads.iter().all(|(head, _)| head.sound)
        && (principal.key.spec.total_quota.is_some() || principal.key.spec.total_budget.is_some())
    {
        return Err(Rejection::unbounded());
    }
    let model = ctx.asked.model.clone().unwrap_or_default();
    let each = heads
        .iter()
        .map(|(head, body)| wanted(gateway, runtime, endpoint, head, *body, &model));
    let wanted = each
        .reduce(Wanted::or_dearer)
        .unwrap_or_else(|| Wanted::of_nothing(&model));
    ctx.asked.most = wanted.most;
    admit(gateway, ctx, &wanted).await
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    model: &'a str,
    /// Tokens for limits per time.
    likely: u64,
    /// For the quota: what it may take, and what would do.
    reserve: Amount,
    least: Amount,
    /// Tokens its prompt and its answer can be at most, as far as it says so.
    most: Option<Estimate>,
}

impl<'a> Wanted<'a> {
    fn of_nothing(model: &'a str) -> Self {
        Self {
            model,
            likely: 0,
            reserve: Amount::default(),
            least: Amount::default(),
            most: None,
        }
    }

    /// The larger of each.
    fn or_dearer(self, other: Self) -> Self {
        let larger = |one: Amount, other: Amount| Amount {
            tokens: one.tokens.max(other.tokens),
            nanos: one.nanos.max(other.nanos),
        };
        let most = self.most.zip(other.most).map(|(one, other)| Estimate {
            prompt: one.prompt.max(other.prompt),
            completion: one.completion.max(other.completion),
        });
        Self {
            model: self.model,
            likely: self.likely.max(other.likely),
            reserve: larger(self.reserve, other.reserve),
            least: larger(self.least, other.least),
            most,
        }
    }
}

fn wanted<'a>(
    gateway: &Gateway,
    runtime: &Runtime,
    endpoint: Endpoint,
    head: &RequestHead,
    body: usize,
    model: &'a str,
) -> Wanted<'a> {
    if !endpoint.metered() {
        return Wanted::of_nothing(model);
    }
    let rates = gateway.calibration.rates(model);
    let unlimited = runtime.unlimited;
    let likely = llm::likely(endpoint, head, &rates, unlimited.rate);
    let reserve = match runtime.prompt_estimate {
        PromptEstimate::Calibrated => llm::likely(endpoint, head, &rates, unlimited.quota),
        PromptEstimate::Bound => llm::bound(endpoint, head, body, &rates, unlimited.quota),
    };
    // Who does not say how long the answer may be can do with what is left.
    let least = match head.max_completion {
        None if reserve.completion > 0 => Estimate {
            completion: 1,
            ..reserve
        },
        _ => reserve,
    };
    let amount = |estimate: Estimate| Amount {
        tokens: estimate.total(),
        nanos: price(runtime, model, estimate),
    };
    Wanted {
        model,
        likely: likely.total(),
        reserve: amount(reserve),
        least: amount(least),
        most: head
            .max_completion
            .filter(|_| head.sound)
            .map(|_| llm::bound(endpoint, head, body, &rates, unlimited.quota)),
    }
}

/// Admits traffic that is not understood: it counts as a request, and what may cost something is
/// only let through while there is anything left.
///
/// # Errors
/// As [`admit_call`].
pub(super) async fn admit_opaque(
    gateway: &Gateway,
    runtime: &Runtime,
    ctx: &mut Ctx,
    request: &RequestHeader,
) -> Result<(), Box<Rejection>> {
    // A query speaks for a connection that has no body (`/v1/realtime?model=…`), never for a body.
    let upgrade = request.headers.contains_key(UPGRADE) && !has_body(request);
    let model = query(request, "model").ok().flatten();
    let model = model.filter(|_| upgrade).unwrap_or_default();
    if let Some(principal) = &ctx.access.principal
        && works(request)
        && !principal.may_use(&model)
    {
        return Err(Rejection::model_denied(runtime));
    }
    let least = u64::from(works(request));
    let answer = Estimate {
        prompt: 0,
        completion: runtime.unlimited.quota,
    };
    // What it costs nobody can tell: as an answer without a limit, or what is left.
    let reserve = Amount {
        tokens: answer.total().saturating_mul(least),
        nanos: price(runtime, &model, answer).max(1).saturating_mul(least),
    };
    let least = Amount {
        tokens: least,
        nanos: least,
    };
    let wanted = Wanted {
        model: &model,
        likely: 0,
        reserve,
        least,
        most: None,
    };
    admit(gateway, ctx, &wanted).await
}

/// Whether it may make a model work; which one it asks is in a body that nobody here reads.
fn works(request: &RequestHeader) -> bool {
    !matches!(
        request.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE
    ) || request.headers.contains_key(UPGRADE)
        || has_body(request)
}

fn has_body(request: &RequestHeader) -> bool {
    let length = request.headers.get(CONTENT_LENGTH);
    request.headers.contains_key(TRANSFER_ENCODING)
        || length.is_some_and(|length| length.as_bytes() != b"0")
}

/// A parameter is there more than once.
pub(super) struct Several;

/// The value of a parameter of the query.
pub(super) fn query(request: &RequestHeader, name: &str) -> Result<Option<String>, Several> {
    let query = request.uri.query().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let mut named = pairs.filter(|(key, _)| key == name);
    let value = named.next().map(|(_, value)| value.into_owned());
    match named.next() {
        None => Ok(value),
        Some(_) => Err(Several),
    }
}

fn price(runtime: &Runtime, model: &str, estimate: Estimate) -> u64 {
    let usage = Usage::new(estimate.prompt, estimate.completion);
    let prices = runtime.prices.as_ref();
    let cost = prices.and_then(|prices| prices.cost(model, &usage, jiff::Timestamp::now()));
    cost.map_or(0, |cost| cost.nanos)
}

async fn admit(
    gateway: &Gateway,
    ctx: &mut Ctx,
    wanted: &Wanted<'_>,
) -> Result<(), Box<Rejection>> {
    ctx.access.event_id = ledger::new_id();
    let principal = ctx.access.principal.as_deref();
    let applicant = Applicant {
        id: &ctx.access.event_id,
        key: principal.map(|principal| &*principal.key),
        user_id: principal.map_or("", |principal| &principal.user_id),
        model: wanted.model,
        likely: wanted.likely,
        reserve: wanted.reserve,
        least: wanted.least,
        allow_exceeded: principal.is_some_and(|principal| principal.allow_exceeded),
        now: jiff::Timestamp::now(),
    };
    let permit = gateway.limiter.admit(&applicant).await;
    ctx.access.permit = Some(permit.map_err(|refusal| Rejection::limited(*refusal))?);
    Ok(())
}

/// Puts what is left of the limits on an answer, in place of what the backend says of its own.
pub(super) fn tell_standing(head: &mut impl Head, ctx: &Ctx) -> pingora::Result<()> {
    let Some(permit) = &ctx.access.permit else {
        return Ok(());
    };
    for (name, value) in limit::headers::rate_headers(permit.standing()) {
        head.set(name, value)?;
    }
    Ok(())
}

/// How a client is told to identify itself (RFC 6750).
pub(super) const CHALLENGE: (HeaderName, HeaderValue) = (
    http::header::WWW_AUTHENTICATE,
    HeaderValue::from_static("Bearer"),
);

/// Whether an entry of the model list is for `principal` to see.
pub(super) fn sees(principal: Option<&Principal>, model: &str) -> bool {
    principal.is_none_or(|principal| principal.may_use(model))
}

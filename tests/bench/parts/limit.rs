//! Whether the request may run, by four kinds of limits that are counted in memory.

use anyhow::{Context, Result, bail, ensure};
use futures_util::FutureExt;
use llmproxy::limit::{Amount, Applicant, LimitMetrics, Limiter};

use super::{Call, Part, auth, configured};

pub(super) const PARTS: &[Part] = &[Part {
    name: "limit/admit_and_settle",
    bytes: 0,
    make: admit_and_settle,
}];

/// Limits that hold, and are far away.
const LIMITS: &str = "
backends: [{name: a, url: 'http://127.0.0.1:1'}]
rate_limit:
  global: {requests_per_second: 1000000000, max_concurrent: 500}
  per_key: {requests_per_minute: 1000000000, requests_per_day: 1000000000000, tokens_per_minute: 1000000000000}
  per_user: {tokens_per_day: 1000000000000000, max_concurrent: 10}
  per_model:
    'team/*': {max_concurrent: 64, requests_per_minute: 1000000000}
";

fn admit_and_settle() -> Result<Call> {
    let metrics = LimitMetrics::register(&prometheus::Registry::new())?;
    let limiter = Limiter::build(&configured(LIMITS)?, None, None, metrics);
    let principal = auth::principal()?;
    let now = jiff::Timestamp::from_second(1_790_000_000)?;
    let amount = |tokens| Amount { tokens, nanos: 0 };
    Ok(Box::new(move || {
        let applicant = Applicant {
            id: "01933b2e-6c1f-7d2a-9d31-0f6b7c1d2e3f",
            key: Some(&principal.key),
            user_id: &principal.user_id,
            model: "team/coder",
            likely: 700,
            reserve: amount(900),
            least: amount(900),
            allow_exceeded: false,
            now,
        };
        let permit = limiter.admit(&applicant).now_or_never();
        let mut permit = match permit.context("nobody needs to be asked")? {
            Ok(permit) => permit,
            Err(refusal) => bail!("{}", refusal.message),
        };
        ensure!(permit.standing().requests.is_some(), "it is counted");
        let sealed = permit.seal(amount(650)).now_or_never();
        sealed.context("nobody needs to be told")?;
        permit.settle(amount(650));
        Ok(())
    }))
}

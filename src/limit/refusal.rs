//! Why a request is not admitted, in words.

use std::time::Duration;

use jiff::Timestamp;

use super::types::{Account, Amount, Limited, RateRefusal, Standing, State, Subject};
use crate::config::{ApiKey, RateLimits, ResetPeriod};

/// What the client is told. Names of keys, users and accounts are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    /// HTTP status: 429, or 503 when nobody can say.
    pub status: u16,
    /// As OpenAI's where it has one.
    pub code: &'static str,
    /// Which limit, its value, when to come back.
    pub message: String,
    /// When to come back; `None`: not with this request.
    pub retry_after: Option<Duration>,
    /// For the headers.
    pub standing: Standing,
}

/// Which sort of limit it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A rate, or the number of running requests.
    Rate(Limited),
    /// There is not that much left.
    QuotaExhausted { left: State },
    /// What is left is reserved by running requests; some of it may come back.
    QuotaHeld,
    /// The store cannot be asked.
    Unavailable,
}

/// A quota that does not suffice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short<'a> {
    pub(super) account: &'a Account,
    /// What the quota is, as it was given.
    pub(super) spec: &'a ApiKey,
    /// What the request may take.
    pub(super) asked: Amount,
    pub(super) left: State,
    pub(super) now: Timestamp,
}

impl Refusal {
    /// `limits` are those of the refusing rule, if it is known.
    pub(super) fn of_rate(
        refusal: &RateRefusal,
        limits: Option<&RateLimits>,
        tokens: u64,
    ) -> Box<Self> {
        let code = match refusal.limited {
            Limited::Concurrent => "concurrency_limit_exceeded",
            Limited::RequestsPerSecond
            | Limited::RequestsPerMinute
            | Limited::RequestsPerDay
            | Limited::TokensPerMinute
            | Limited::TokensPerDay => "rate_limit_exceeded",
        };
        Box::new(Self {
            kind: Kind::Rate(refusal.limited),
            status: 429,
            code,
            message: rate_message(refusal, limits, tokens),
            retry_after: refusal.retry_after,
            standing: refusal.standing,
        })
    }

    pub(super) fn exhausted(short: &Short<'_>, standing: Standing) -> Box<Self> {
        Box::new(Self {
            kind: Kind::QuotaExhausted { left: short.left },
            status: 429,
            code: "insufficient_quota",
            message: short.message(),
            retry_after: short.retry_after(),
            standing,
        })
    }

    pub(super) fn held(standing: Standing) -> Box<Self> {
        Box::new(Self {
            kind: Kind::QuotaHeld,
            status: 429,
            code: "rate_limit_exceeded",
            message: "what is left of this key's quota is reserved by its running requests; try \
                      again in 1 s"
                .to_owned(),
            retry_after: Some(SOON),
            standing,
        })
    }

    pub(super) fn unavailable(what: &str) -> Box<Self> {
        Box::new(Self {
            kind: Kind::Unavailable,
            status: 503,
            code: "limits_unavailable",
            message: format!("{what} cannot be checked at the moment; try again later"),
            retry_after: Some(SOON),
            standing: Standing::default(),
        })
    }
}

fn rate_message(refusal: &RateRefusal, limits: Option<&RateLimits>, tokens: u64) -> String {
    let whose = whose(&refusal.subject);
    let allowance = allowance(refusal, limits);
    let are_tokens = matches!(
        refusal.limited,
        Limited::TokensPerMinute | Limited::TokensPerDay
    );
    match refusal.retry_after {
        None if are_tokens => format!(
            "this request may take {}, but only {allowance} for {whose}",
            tokens_text(tokens)
        ),
        None => format!("{allowance} for {whose}"),
        Some(_) if refusal.limited == Limited::Concurrent => {
            format!("{allowance} for {whose}; try again when one has ended")
        }
        Some(wait) if are_tokens => format!(
            "{allowance} for {whose}, and this request may take {tokens}; try again in {}",
            wait_text(wait)
        ),
        Some(wait) => format!("{allowance} for {whose}; try again in {}", wait_text(wait)),
    }
}

fn whose(subject: &Subject) -> &'static str {
    match subject {
        Subject::Global => "all clients together",
        Subject::Key(_) => "this key",
        Subject::User(_) => "this user",
        Subject::Model(_) => "this model",
    }
}

fn allowance(refusal: &RateRefusal, limits: Option<&RateLimits>) -> String {
    let limit = refusal.limit;
    let requests = |limit| plural(limit, "request");
    match refusal.limited {
        Limited::RequestsPerSecond => {
            let milli = limits
                .and_then(|limits| limits.requests_per_second_milli)
                .unwrap_or(limit);
            let (are, number) = (verb(milli / 1_000), decimal(milli, 1_000));
            let noun = if milli == 1_000 {
                "request"
            } else {
                "requests"
            };
            format!("{number} {noun} per second {are} allowed")
        }
        Limited::RequestsPerMinute => {
            format!("{} per minute {} allowed", requests(limit), verb(limit))
        }
        Limited::RequestsPerDay => {
            format!("{} per day {} allowed", requests(limit), verb(limit))
        }
        Limited::TokensPerMinute => {
            format!("{} per minute {} allowed", tokens_text(limit), verb(limit))
        }
        Limited::TokensPerDay => {
            format!("{} per day {} allowed", tokens_text(limit), verb(limit))
        }
        Limited::Concurrent => {
            format!("{} at a time {} allowed", requests(limit), verb(limit))
        }
    }
}

// === impl Short ===

/// What a quota is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Tokens,
    Money,
}

impl Unit {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Money => "money",
        }
    }
}

impl Short<'_> {
    /// In which unit it is short.
    pub(super) fn unit(&self) -> Unit {
        let used = self.left.used.tokens;
        match self.account.tokens {
            Some(limit) if used.saturating_add(self.asked.tokens) > limit => Unit::Tokens,
            Some(_) | None if self.account.nanos.is_some() => Unit::Money,
            Some(_) | None => Unit::Tokens,
        }
    }

    fn message(&self) -> String {
        let (account, used) = (self.account, self.left.used);
        let (given, remaining, asked) = match self.unit() {
            Unit::Tokens => (
                tokens_text(self.given(self.spec.total_quota, account.tokens)),
                account
                    .tokens
                    .map(|limit| limit.saturating_sub(used.tokens)),
                tokens_text(self.asked.tokens),
            ),
            Unit::Money => (
                money(self.given(self.spec.total_budget, account.nanos)),
                account.nanos.map(|limit| limit.saturating_sub(used.nanos)),
                money(self.asked.nanos),
            ),
        };
        let anew = match account
            .ends
            .and_then(|ends| Timestamp::from_second(ends).ok())
        {
            Some(ends) => format!("; it begins anew at {ends}"),
            None => String::new(),
        };
        let remaining = remaining.unwrap_or_default();
        if remaining > 0 {
            let (what, remaining) = match self.unit() {
                Unit::Tokens => ("quota", remaining.to_string()),
                Unit::Money => ("budget", money(remaining)),
            };
            let are = if remaining == "1" { "is" } else { "are" };
            return format!(
                "this request may take {asked}, {remaining} of this key's {what} {are} left{anew}"
            );
        }
        let (what, per) = match self.unit() {
            Unit::Tokens => ("quota", self.per()),
            Unit::Money => ("budget", self.per()),
        };
        format!("this key's {what} of {given}{per} is used up{anew}")
    }

    fn given(&self, spec: Option<u64>, account: Option<u64>) -> u64 {
        spec.or(account).unwrap_or_default()
    }

    fn per(&self) -> &'static str {
        match self.spec.quota_reset_period {
            Some(ResetPeriod::Daily) => " per day",
            Some(ResetPeriod::Weekly) => " per week",
            Some(ResetPeriod::Monthly) => " per month",
            Some(ResetPeriod::Never) | None => "",
        }
    }

    /// When the next period begins, if that helps.
    fn retry_after(&self) -> Option<Duration> {
        let (account, asked) = (self.account, self.asked);
        let never = account.tokens.is_some_and(|limit| asked.tokens > limit)
            || account.nanos.is_some_and(|limit| asked.nanos > limit);
        let seconds = account.ends?.saturating_sub(self.now.as_second());
        (!never).then(|| Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1)))
    }
}

fn tokens_text(tokens: u64) -> String {
    plural(tokens, "token")
}

fn plural(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

fn verb(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// Billionths as a decimal number.
fn money(nanos: u64) -> String {
    decimal(nanos, 1_000_000_000)
}

fn decimal(amount: u64, unit: u64) -> String {
    let (whole, fraction) = (amount / unit, amount % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// Rounded up, in the unit a person would use.
fn wait_text(wait: Duration) -> String {
    let seconds = wait.as_nanos().div_ceil(1_000_000_000).max(1);
    match seconds {
        ..=120 => format!("{seconds} s"),
        121..=7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}

/// Nobody knows when running requests end.
const SOON: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

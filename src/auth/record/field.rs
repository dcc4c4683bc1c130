//! Which fields mean something, and how they may be spelled.

/// A field by its usual name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Status,
    /// A name of something.
    Label,
    /// A number of tokens or requests, or an amount of money.
    Number,
    /// What is left: nothing or less is as good as a quota that is used up.
    Balance,
    Period,
    Start,
    End,
    List,
    /// Limits under one name.
    Limits,
    Metadata,
}

/// Returns the field with this name, in any of its spellings.
pub(super) fn known(name: &str) -> Option<Field> {
    // Longer than the longest there is, however it is spelled.
    if name.len() > 64 {
        return None;
    }
    let letters = name.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
    let plain: Vec<u8> = letters.map(|byte| byte.to_ascii_lowercase()).collect();
    let found = SPELLINGS
        .iter()
        .find(|(spelling, _)| spelling.as_bytes() == plain);
    found.map(|(_, field)| *field)
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind }
}

impl Kind {
    /// The limits that may stand beside everything else.
    pub(super) const LIMITS: [&'static str; 7] = [
        "requests_per_second",
        "burst_size",
        "requests_per_minute",
        "requests_per_day",
        "tokens_per_minute",
        "tokens_per_day",
        "max_concurrent",
    ];
}

pub(super) const ID: &str = "id";
pub(super) const BALANCE: &str = "balance";
pub(super) const RATE_LIMIT: &str = "rate_limit";

const END: Field = field("expires_at", Kind::End);
const START: Field = field("starts_at", Kind::Start);
const QUOTA: Field = field("total_quota", Kind::Number);
const USED: Field = field("used_quota", Kind::Number);
const BURST: Field = field("burst_size", Kind::Number);

/// Names in small letters without `_`. Those of tables and hashes that older systems left behind are
/// among them.
pub(super) const SPELLINGS: [(&str, Field); 29] = [
    ("id", field(ID, Kind::Id)),
    ("name", field("name", Kind::Label)),
    ("userid", field("user_id", Kind::Label)),
    ("status", field("status", Kind::Status)),
    ("totalquota", QUOTA),
    ("quota", QUOTA),
    ("usedquota", USED),
    ("used", USED),
    ("totalbudget", field("total_budget", Kind::Number)),
    ("balance", field(BALANCE, Kind::Balance)),
    (
        "quotaresetperiod",
        field("quota_reset_period", Kind::Period),
    ),
    ("startsat", START),
    ("startat", START),
    ("expiresat", END),
    ("expireat", END),
    ("expiredat", END),
    ("allowedips", field("allowed_ips", Kind::List)),
    ("deniedips", field("denied_ips", Kind::List)),
    ("allowedmodels", field("allowed_models", Kind::List)),
    ("ratelimit", field(RATE_LIMIT, Kind::Limits)),
    (
        "requestspersecond",
        field("requests_per_second", Kind::Number),
    ),
    ("burstsize", BURST),
    ("burst", BURST),
    (
        "requestsperminute",
        field("requests_per_minute", Kind::Number),
    ),
    ("requestsperday", field("requests_per_day", Kind::Number)),
    ("tokensperminute", field("tokens_per_minute", Kind::Number)),
    ("tokensperday", field("tokens_per_day", Kind::Number)),
    ("maxconcurrent", field("max_concurrent", Kind::Number)),
    ("metadata", field("metadata", Kind::Metadata)),
];

//! Where quotas are kept and how they are counted.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

/// Where quotas are kept and how they are counted. What a key gets stands at the key.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Default `sqlite`; `redis` uses the top-level `redis`.
    pub storage: QuotaStorage,
    /// The SQLite file; default `quota.db` in `data_dir`. Gateways on one machine may share it.
    pub path: Option<PathBuf>,
    /// In which zone days, weeks and months begin; an IANA name, default UTC.
    pub time_zone: TimeZone,
    /// How long the reservations of a gateway that died are held. Default 30 s.
    pub lease: Duration,
    /// How long a request waits while what is left is reserved by others. Default 5 s; 0: not at all.
    pub wait: Duration,
    /// What happens while the store cannot be asked. Default fail_closed; `local` is not possible here.
    pub on_error: OnQuotaOutage,
    /// Completion tokens reserved for a request that does not limit its answer. Default 4096.
    pub completion_estimate: u64,
    /// How the prompt is reserved.
    pub prompt_estimate: PromptEstimate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaStorage {
    #[default]
    Sqlite,
    Redis,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnQuotaOutage {
    FailOpen,
    #[default]
    FailClosed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptEstimate {
    /// As many tokens as its text can possibly be: never overspent.
    #[default]
    Bound,
    /// As many as such text was in earlier requests: tighter, may overspend by the error.
    Calibrated,
}

//! Who may how much: rates and quotas.
//!
//! [`Limiter::admit`] asks about everything that applies to a request at once and answers with a
//! [`Permit`], which gives back what the request did not use, however it ends. Rates are counted in
//! this process or in Redis, quotas in SQLite or in Redis. Nothing here knows HTTP requests.

mod account;
mod admit;
mod asking;
mod background;
mod gate;
pub mod headers;
mod instance;
mod local;
mod metrics;
mod outstanding;
mod patience;
mod period;
mod permit;
pub mod reconcile;
mod redis;
mod refusal;
mod rules;
mod sqlite;
mod types;
mod windows;

#[cfg(test)]
mod tests;

pub use self::account::Counted;
pub use self::admit::{Applicant, Limiter};
pub use self::instance::{instance_id, known_instance_id};
pub use self::metrics::LimitMetrics;
pub use self::outstanding::Pending;
pub use self::period::Period;
pub use self::permit::Permit;
pub use self::redis::RedisLimits;
pub use self::refusal::{Kind, Refusal};
pub use self::sqlite::SqliteQuota;
pub use self::types::{
    Account, Admission, Amount, Level, Limited, QuotaStore, RateAsk, RateRefusal, RateStore,
    Reserve, Reserved, SharedStore, Standing, State, StoreError, Subject,
};
